//! Numbers as Postgres' input functions read them: blanks around are fine, anything else is 22P02, too large is 22003.

use crate::error::{Error, Result, SqlState};

/// What all input functions say of text that they cannot read.
pub(super) fn invalid_syntax(type_name: &str, text: &str) -> Error {
    Error::new(
        SqlState::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {type_name}: \"{}\"", shown(text)),
    )
}

/// A value as an error message quotes it: whole if short, else its beginning.
pub(super) fn shown(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 200;
    if text.len() <= SHOWN_BYTES_MAX {
        return text;
    }
    let end = (0..=SHOWN_BYTES_MAX).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    &text[..end]
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b')
}

/// An integer of the type between `min` and `max`.
pub(super) fn parse_integer(text: &str, type_name: &str, min: i64, max: i64) -> Result<i64> {
    let digits = trimmed(text);
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid_syntax(type_name, text));
    }
    match digits.parse::<i64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(Error::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("value \"{}\" is out of range for type {type_name}", shown(text)),
        )),
    }
}

/// An OID: a negative number is taken modulo 2^32, as Postgres does.
pub(super) fn parse_oid(text: &str) -> Result<u32> {
    Ok(parse_integer(text, "oid", i32::MIN as i64, u32::MAX as i64)? as u32)
}

fn float_out_of_range(text: &str, type_name: &str) -> Error {
    Error::new(
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
        format!("\"{}\" is out of range for type {type_name}", shown(text)),
    )
}

/// True if the text names a number that is not zero, so that a parsed 0 is an underflow.
fn has_nonzero_digit(text: &str) -> bool {
    text.split(['e', 'E']).next().is_some_and(|m| m.bytes().any(|b| (b'1'..=b'9').contains(&b)))
}

pub(super) fn parse_float8(text: &str) -> Result<f64> {
    let number = trimmed(text);
    let value: f64 = number.parse().map_err(|_| invalid_syntax("double precision", text))?;
    let is_word = number.bytes().any(|b| b == b'n' || b == b'N');
    if (value.is_infinite() && !is_word) || (value == 0.0 && has_nonzero_digit(number)) {
        return Err(float_out_of_range(text, "double precision"));
    }
    Ok(value)
}

pub(super) fn parse_float4(text: &str) -> Result<f32> {
    let number = trimmed(text);
    let value: f32 = number.parse().map_err(|_| invalid_syntax("real", text))?;
    let is_word = number.bytes().any(|b| b == b'n' || b == b'N');
    if (value.is_infinite() && !is_word) || (value == 0.0 && has_nonzero_digit(number)) {
        return Err(float_out_of_range(text, "real"));
    }
    Ok(value)
}

/// Reads a decimal and rounds it (half away from zero) to `scale` fractional digits: the unscaled value.
/// `declared` is false for a `numeric` without precision, whose carrier (`precision`, `scale`) is our own limit.
pub fn parse_decimal(text: &str, precision: u8, scale: i8, declared: bool) -> Result<i128> {
    let invalid = || invalid_syntax("numeric", text);
    let number = trimmed(text);
    let (is_negative, unsigned) = match number.as_bytes().first() {
        Some(b'-') => (true, &number[1..]),
        Some(b'+') => (false, &number[1..]),
        _ => (false, number),
    };
    if ["nan", "inf", "infinity"].iter().any(|word| unsigned.eq_ignore_ascii_case(word)) {
        return Err(Error::unsupported(format!("numeric \"{number}\""), "use double precision for NaN and infinity"));
    }
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => {
            let exponent = &unsigned[at + 1..];
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(invalid());
            }
            // Beyond any value that fits; only the sign matters then.
            let clamped = exponent.parse::<i64>().unwrap_or(if exponent.starts_with('-') { -100_000 } else { 100_000 });
            (&unsigned[..at], clamped.clamp(-100_000, 100_000))
        }
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    from_digits(
        whole.bytes().chain(fraction.bytes()).map(|b| b - b'0'),
        whole.len() as i64 + exponent,
        is_negative,
        (precision, scale),
        declared,
    )
}

/// The unscaled value of 0.d₁d₂d₃… × 10^`point`, rounded to `scale`; 22003 if it has more than `precision` digits.
pub fn from_digits(
    digits: impl Iterator<Item = u8>,
    point: i64,
    is_negative: bool,
    (precision, scale): (u8, i8),
    declared: bool,
) -> Result<i128> {
    let overflow = || decimal_overflow(precision, scale, declared);
    let kept = point + scale as i64;
    let mut value: u128 = 0;
    let mut position = 0;
    for digit in digits {
        if position < kept {
            value = value.checked_mul(10).and_then(|v| v.checked_add(digit as u128)).ok_or_else(overflow)?;
        } else {
            if position == kept && digit >= 5 {
                value += 1;
            }
            break;
        }
        position += 1;
    }
    if value != 0 {
        for _ in position..kept {
            value = value.checked_mul(10).ok_or_else(overflow)?;
        }
    }
    if value >= 10u128.pow(precision.min(38) as u32) {
        return Err(overflow());
    }
    let value = value as i128;
    Ok(if is_negative { -value } else { value })
}

fn decimal_overflow(precision: u8, scale: i8, declared: bool) -> Error {
    let whole = precision as i32 - scale as i32;
    if declared {
        return Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").with_detail(format!(
            "A field with precision {precision}, scale {scale} must round to an absolute value less than {}{}.",
            if whole == 0 { "1".to_string() } else { "10^".to_string() },
            if whole == 0 { String::new() } else { whole.to_string() },
        ));
    }
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
        .with_detail(format!("A numeric without precision has at most {whole} digits before the point here."))
        .with_hint("declare a precision and scale, for instance numeric(38,0)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        assert_eq!(parse_integer(" 42 ", "integer", -100, 100).ok(), Some(42));
        let bad = parse_integer("abc", "integer", 0, 9).expect_err("no number");
        assert_eq!((bad.code.0, bad.message.as_str()), ("22P02", "invalid input syntax for type integer: \"abc\""));
        let large = parse_integer("99999999999999999999", "bigint", i64::MIN, i64::MAX).expect_err("too large");
        assert_eq!(large.code.0, "22003");
        assert_eq!(large.message, "value \"99999999999999999999\" is out of range for type bigint");
        assert_eq!(parse_oid("-1").ok(), Some(u32::MAX));
    }

    #[test]
    fn floats() {
        assert_eq!(parse_float8(" -1.5e3 ").ok(), Some(-1500.0));
        assert_eq!(parse_float8("-Infinity").ok(), Some(f64::NEG_INFINITY));
        assert!(parse_float8("nan").is_ok_and(f64::is_nan));
        assert_eq!(parse_float8("1e400").map_err(|e| e.code.0), Err("22003"));
        assert_eq!(parse_float8("1e-400").map_err(|e| e.code.0), Err("22003"));
        assert_eq!(parse_float8("1.2.3").map_err(|e| e.code.0), Err("22P02"));
        assert_eq!(parse_float8("").map_err(|e| e.code.0), Err("22P02"));
        assert_eq!(parse_float8("0e-400").ok(), Some(0.0));
    }

    #[test]
    fn decimals() {
        for (text, unscaled) in [
            ("1.5", 150),
            ("1.005", 101),
            ("-1.005", -101),
            ("1.004", 100),
            (".5", 50),
            ("5.", 500),
            ("1e2", 10000),
            ("12e-1", 120),
            ("0.0049", 0),
            ("0.005", 1),
            ("0e99999999999", 0),
            ("1e-99999999999", 0),
            ("999.99", 99999),
        ] {
            assert_eq!(parse_decimal(text, 5, 2, true).ok(), Some(unscaled), "{text}");
        }
        for text in ["999.995", "1000", "1e99999999999"] {
            assert_eq!(parse_decimal(text, 5, 2, true).map_err(|e| e.message), Err("numeric field overflow".into()));
        }
        for text in ["", ".", "1e", "1 2", "--1", "0x1"] {
            assert_eq!(parse_decimal(text, 5, 2, true).map_err(|e| e.code.0), Err("22P02"), "{text}");
        }
        assert_eq!(parse_decimal(&"9".repeat(38), 38, 0, true).ok(), Some(10i128.pow(38) - 1));
    }
}
