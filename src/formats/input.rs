//! The text input syntax of one value of each type, as Postgres has it where the two could differ.
//!
//! Numbers never pass through a float unless the column is one. Choices of ours: `bytea` takes `\x…` as hexadecimal and
//! everything else as base64; a time with an offset is converted to UTC (also for `timestamp` without time zone, which
//! Postgres would read by dropping the offset); `infinity` is no timestamp here.

use arrow::array::types::{IntervalMonthDayNano, Time64NanosecondType};
use arrow::compute::kernels::cast_utils::{Parser, parse_interval_month_day_nano, string_to_datetime};
use chrono::{DateTime, Datelike, NaiveDate, Utc};

/// Why a text is no value of the type.
#[derive(Debug, PartialEq)]
pub enum Misfit {
    Syntax,
    OutOfRange,
    Because(String),
}

pub type Input<T> = Result<T, Misfit>;

pub fn boolean(text: &str) -> Input<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err(Misfit::Syntax),
    }
}

/// Whole numbers, also written as `1e3` or `5.0` if `is_json_number`, where these are the same number.
pub fn integer(text: &str, is_json_number: bool) -> Input<i64> {
    let bytes = text.as_bytes();
    // The common case: up to 18 plain digits cannot overflow.
    let (is_negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    if !digits.is_empty() && digits.len() <= 18 && digits.iter().all(u8::is_ascii_digit) {
        let value = digits.iter().fold(0i64, |value, digit| value * 10 + i64::from(digit - b'0'));
        return Ok(if is_negative { -value } else { value });
    }
    let text = text.trim();
    match text.parse::<i64>() {
        Ok(value) => Ok(value),
        Err(_) if is_json_number => {
            let value = decimal_exact(text, 0)?.ok_or(Misfit::Syntax)?;
            i64::try_from(value).map_err(|_| Misfit::OutOfRange)
        }
        Err(e) => match e.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => Err(Misfit::OutOfRange),
            _ => Err(Misfit::Syntax),
        },
    }
}

pub fn float(text: &str) -> Input<f64> {
    let text = text.trim();
    let value: f64 = match text.parse() {
        // Rust takes "inf" in any case, as Postgres does.
        Ok(value) => value,
        Err(_) => return Err(Misfit::Syntax),
    };
    let is_written_infinite = || text.trim_start_matches(['+', '-']).starts_with(['i', 'I']);
    if value.is_infinite() && !is_written_infinite() { Err(Misfit::OutOfRange) } else { Ok(value) }
}

/// A decimal number times 10^scale, rounded half away from zero as Postgres rounds to a declared scale.
/// `OutOfRange` if it has more than `precision` digits then.
pub fn decimal(text: &str, precision: u8, scale: i8) -> Input<i128> {
    let value = scaled(text.trim(), scale)?.0;
    if value.unsigned_abs() < 10u128.pow(u32::from(precision.min(38))) { Ok(value) } else { Err(Misfit::OutOfRange) }
}

/// As [`decimal`], `None` if something had to be rounded away.
fn decimal_exact(text: &str, scale: i8) -> Input<Option<i128>> {
    let (value, is_exact) = scaled(text, scale)?;
    Ok(is_exact.then_some(value))
}

/// The value times 10^scale, and whether that is exact.
fn scaled(text: &str, scale: i8) -> Input<(i128, bool)> {
    let bytes = text.as_bytes();
    let (is_negative, mut at) = match bytes.first() {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    };
    // The exponent first: it says which digits count.
    let mantissa_end = bytes.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(bytes.len());
    let exponent: i64 = match text.get(mantissa_end + 1..) {
        None => 0,
        Some(digits) => {
            let plain = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_digit()) {
                return Err(Misfit::Syntax);
            }
            // An exponent beyond i64 is beyond every range anyway.
            digits.parse().unwrap_or(if digits.starts_with('-') { -1_000_000_000_000 } else { 1_000_000_000_000 })
        }
    };
    let mantissa = &bytes[at.min(mantissa_end)..mantissa_end];
    at = mantissa.iter().position(|&b| b == b'.').unwrap_or(mantissa.len());
    let (whole, fraction) = (&mantissa[..at], mantissa.get(at + 1..).unwrap_or(&[]));
    if whole.len() + fraction.len() == 0 || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return Err(Misfit::Syntax);
    }
    // This many of the digits stand before the point once all is multiplied by 10^scale.
    let kept = whole.len() as i64 + exponent.clamp(-1_000_000_000_000, 1_000_000_000_000) + i64::from(scale);
    let (mut value, mut is_exact) = (0i128, true);
    for (index, digit) in whole.iter().chain(fraction).map(|b| i128::from(b - b'0')).enumerate() {
        match (index as i64).cmp(&kept) {
            std::cmp::Ordering::Less => {
                value = value.checked_mul(10).and_then(|v| v.checked_add(digit)).ok_or(Misfit::OutOfRange)?;
            }
            std::cmp::Ordering::Equal => {
                value += i128::from(digit >= 5);
                is_exact &= digit == 0;
            }
            std::cmp::Ordering::Greater => is_exact &= digit == 0,
        }
    }
    let missing = kept - (whole.len() + fraction.len()) as i64;
    if missing > 0 && value != 0 {
        let factor = u32::try_from(missing).ok().and_then(|zeros| 10i128.checked_pow(zeros));
        value = factor.and_then(|factor| value.checked_mul(factor)).ok_or(Misfit::OutOfRange)?;
    }
    Ok((if is_negative { -value } else { value }, is_exact))
}

/// Days since 1970.
pub fn date(text: &str) -> Input<i32> {
    let text = text.trim();
    if let Some(day) = text.as_bytes().get(..10).filter(|_| text.len() == 10).and_then(day_of) {
        return Ok(day);
    }
    let date = match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        Ok(date) => date,
        // Like Postgres, a timestamp is taken for its day.
        Err(_) => DateTime::from_timestamp_micros(timestamp(text)?).ok_or(Misfit::OutOfRange)?.date_naive(),
    };
    Ok(date.num_days_from_ce() - DAYS_BEFORE_1970)
}

/// Days from 0000-12-31 (day 0 of the common era) to 1970-01-01.
const DAYS_BEFORE_1970: i32 = 719_163;

/// Microseconds since midnight.
pub fn time(text: &str) -> Input<i64> {
    let text = text.trim();
    let is_plausible = text.is_ascii() && text.contains(':');
    // Arrow's parser cuts at byte positions: only ASCII may reach it.
    let nanos = if is_plausible { Time64NanosecondType::parse(text) } else { None };
    nanos.map(|nanos| nanos / 1000).ok_or(Misfit::Syntax)
}

/// Microseconds since 1970, in UTC.
pub fn timestamp(text: &str) -> Input<i64> {
    if let Some(us) = timestamp_usual(text.as_bytes()) {
        return Ok(us);
    }
    let text = text.trim();
    // Arrow's parser cuts at byte positions, which is safe for ASCII alone.
    if !text.is_ascii() {
        return Err(Misfit::Syntax);
    }
    match string_to_datetime(&Utc, text) {
        Ok(time) => Ok(time.timestamp_micros()),
        Err(_) => Err(Misfit::Syntax),
    }
}

/// Microseconds since 1970 from epoch milliseconds, which may have a fraction.
pub fn timestamp_of_millis(number: &str) -> Input<i64> {
    let us = i64::try_from(scaled(number, 3)?.0).map_err(|_| Misfit::OutOfRange)?;
    // What chrono cannot print, nobody could read.
    DateTime::from_timestamp_micros(us).map(|_| us).ok_or(Misfit::OutOfRange)
}

/// `2013-01-01T10:00:00[.123456][Z]` (or a space for the T), by far the most usual; `None` for all others.
fn timestamp_usual(bytes: &[u8]) -> Option<i64> {
    let (head, tail) = bytes.split_at_checked(19)?;
    if !matches!(head[10], b'T' | b' ') || head[13] != b':' || head[16] != b':' {
        return None;
    }
    let two = |at: usize| Some(i64::from(digit(head[at])? * 10 + digit(head[at + 1])?));
    let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let tail = tail.strip_suffix(b"Z").unwrap_or(tail);
    let fraction_us = match tail {
        [] => 0,
        [b'.', digits @ ..] if (1..=6).contains(&digits.len()) => {
            let mut value = 0;
            for &byte in digits {
                value = value * 10 + i64::from(digit(byte)?);
            }
            value * 10i64.pow(6 - digits.len() as u32)
        }
        _ => return None,
    };
    let day = i64::from(day_of(&head[..10])?);
    Some((((day * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + fraction_us)
}

fn digit(byte: u8) -> Option<i32> {
    let value = byte.wrapping_sub(b'0');
    (value < 10).then_some(i32::from(value))
}

/// Days since 1970 of `YYYY-MM-DD` (Hinnant, *chrono-Compatible Low-Level Date Algorithms*).
fn day_of(text: &[u8]) -> Option<i32> {
    let d = |at: usize| digit(text[at]);
    if text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = d(0)? * 1000 + d(1)? * 100 + d(2)? * 10 + d(3)?;
    let (month, day) = (d(5)? * 10 + d(6)?, d(8)? * 10 + d(9)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i32::from(is_leap),
        _ => return None,
    };
    if day < 1 || day > month_days || year == 0 {
        return None;
    }
    let y = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

pub fn interval(text: &str) -> Input<IntervalMonthDayNano> {
    if !text.is_ascii() {
        return Err(Misfit::Syntax);
    }
    parse_interval_month_day_nano(text.trim()).map_err(|_| Misfit::Syntax)
}

/// Canonical: lower case with hyphens.
pub fn uuid(text: &str) -> Input<String> {
    uuid::Uuid::try_parse(text.trim()).map(|uuid| uuid.to_string()).map_err(|_| Misfit::Syntax)
}

pub fn bytea(text: &str) -> Input<Vec<u8>> {
    match text.strip_prefix("\\x") {
        Some(digits) => hexadecimal(digits.as_bytes()),
        None => base64(text.trim().as_bytes()),
    }
}

fn hexadecimal(digits: &[u8]) -> Input<Vec<u8>> {
    let value = |byte: u8| char::from(byte).to_digit(16).ok_or(Misfit::Syntax);
    if !digits.len().is_multiple_of(2) {
        return Err(Misfit::Syntax);
    }
    digits.chunks_exact(2).map(|pair| Ok((value(pair[0])? * 16 + value(pair[1])?) as u8)).collect()
}

/// RFC 4648, both alphabets, padding as it may be.
fn base64(text: &[u8]) -> Input<Vec<u8>> {
    let end = text.iter().rposition(|&b| b != b'=').map_or(0, |last| last + 1);
    if text.len() - end > 2 || end % 4 == 1 {
        return Err(Misfit::Syntax);
    }
    let (mut bytes, mut bits, mut bit_count) = (Vec::with_capacity(end * 3 / 4), 0u32, 0);
    for &byte in &text[..end] {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return Err(Misfit::Syntax),
        };
        bits = bits << 6 | u32::from(six);
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            bytes.push((bits >> bit_count) as u8);
        }
    }
    Ok(bytes)
}

/// The elements of a Postgres array literal `{1,"a b",NULL,{…}}`; nested arrays come as their text.
pub fn array_literal(text: &str) -> Input<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or(Misfit::Syntax)?;
    let (mut elements, mut element, mut was_quoted) = (vec![], String::new(), false);
    let (mut depth, mut in_quotes) = (0u32, false);
    let mut finish = |element: &mut String, was_quoted: &mut bool| {
        let plain = element.trim();
        if !*was_quoted && plain.is_empty() {
            return Err(Misfit::Syntax);
        }
        let is_null = !*was_quoted && plain.eq_ignore_ascii_case("null");
        elements.push((!is_null).then(|| if *was_quoted { element.clone() } else { plain.to_string() }));
        element.clear();
        *was_quoted = false;
        Ok(())
    };
    if inner.trim().is_empty() {
        return Ok(vec![]);
    }
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => {
                // Inside a nested array the escape is that array's to read.
                if depth > 0 {
                    element.push(char);
                }
                element.push(chars.next().ok_or(Misfit::Syntax)?);
            }
            '"' => {
                in_quotes = !in_quotes;
                if depth > 0 {
                    element.push(char);
                } else {
                    if in_quotes && !was_quoted {
                        element.clear();
                    }
                    was_quoted = true;
                }
            }
            '{' if !in_quotes => {
                depth += 1;
                element.push(char);
            }
            '}' if !in_quotes => {
                depth = depth.checked_sub(1).ok_or(Misfit::Syntax)?;
                element.push(char);
            }
            ',' if !in_quotes && depth == 0 => finish(&mut element, &mut was_quoted)?,
            // White space after a closing quote is no part of the element.
            ' ' if was_quoted && !in_quotes && depth == 0 => {}
            _ => element.push(char),
        }
    }
    if in_quotes || depth > 0 {
        return Err(Misfit::Syntax);
    }
    finish(&mut element, &mut was_quoted)?;
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact() {
        assert_eq!(integer("-9223372036854775808", true), Ok(i64::MIN));
        assert_eq!(integer("9223372036854775808", true), Err(Misfit::OutOfRange));
        assert_eq!(integer("1e3", true), Ok(1000));
        assert_eq!(integer("1.50", true), Err(Misfit::Syntax));
        assert_eq!(integer("1e999", true), Err(Misfit::OutOfRange));
        assert_eq!(integer("1e99999999999999999999", true), Err(Misfit::OutOfRange));
        assert_eq!(integer(" 42 ", false), Ok(42));
        assert_eq!(integer("4 2", false), Err(Misfit::Syntax));
        assert_eq!(integer("", false), Err(Misfit::Syntax));
        assert_eq!(decimal("0.1", 38, 10), Ok(1_000_000_000));
        assert_eq!(decimal("-2.345", 10, 2), Ok(-235));
        assert_eq!(decimal("12345678901234567890.123", 38, 3), Ok(12_345_678_901_234_567_890_123));
        assert_eq!(decimal("1e-400", 10, 2), Ok(0));
        assert_eq!(decimal("0e99999999999999999999999", 10, 2), Ok(0));
        assert_eq!(decimal("100", 4, 2), Err(Misfit::OutOfRange));
        assert_eq!(decimal("99.995", 4, 2), Err(Misfit::OutOfRange));
        for wrong in ["", "-", ".", "e5", "1e", "1e+", "1.2.3", "0x10", "NaN", "é", "--1"] {
            assert_eq!(decimal(wrong, 10, 2), Err(Misfit::Syntax), "{wrong:?}");
        }
        assert_eq!(float("1e999"), Err(Misfit::OutOfRange));
        assert_eq!(float("-Infinity"), Ok(f64::NEG_INFINITY));
        assert_eq!(float("abc"), Err(Misfit::Syntax));
    }

    #[test]
    fn times_in_their_usual_spellings() {
        let noon = 1_357_041_600_000_000;
        for text in [
            "2013-01-01T12:00:00Z",
            "2013-01-01 12:00:00",
            " 2013-01-01 12:00:00",
            "2013-01-01T12:00:00.000000Z",
            "2013-01-01T14:00:00+02:00",
            "2013-01-01T12:00:00.000000000Z",
        ] {
            assert_eq!(timestamp(text), Ok(noon), "{text:?}");
        }
        assert_eq!(timestamp("2013-01-01 12:00:00.25"), Ok(noon + 250_000));
        assert_eq!(timestamp("2013-01-01"), Ok(noon - 43_200_000_000));
        assert_eq!(timestamp("1969-12-31T23:59:59.5Z"), Ok(-500_000));
        assert_eq!(timestamp_of_millis("1357041600000"), Ok(noon));
        assert_eq!(timestamp_of_millis("1357041600000.5"), Ok(noon + 500));
        assert_eq!(timestamp_of_millis("1e300"), Err(Misfit::OutOfRange));
        for wrong in
            ["", "2013-02-29 00:00:00", "2013-13-01", "yesterday", "2013-01-01T25:00:00Z", "2013-01-0é 00:00:00"]
        {
            assert_eq!(timestamp(wrong), Err(Misfit::Syntax), "{wrong:?}");
        }
        assert_eq!(date("2000-02-29"), Ok(11_016));
        assert_eq!(date("1970-01-01"), Ok(0));
        assert_eq!(date("1969-12-31"), Ok(-1));
        assert_eq!(date("2013-01-01T12:00:00Z"), Ok(15_706));
        assert_eq!(date("2013-02-30"), Err(Misfit::Syntax));
        assert_eq!(time("12:34:56.5"), Ok(45_296_500_000));
        assert_eq!(time("x"), Err(Misfit::Syntax));
    }

    #[test]
    fn bytes_and_arrays() {
        assert_eq!(bytea("\\x00fF"), Ok(vec![0, 255]));
        assert_eq!(bytea("aGVsbG8="), Ok(b"hello".to_vec()));
        assert_eq!(bytea(""), Ok(vec![]));
        assert_eq!(bytea("a"), Err(Misfit::Syntax));
        assert_eq!(bytea("\\x0"), Err(Misfit::Syntax));
        let texts =
            |t: &str| array_literal(t).map(|e| e.into_iter().map(|e| e.unwrap_or("∅".into())).collect::<Vec<_>>());
        assert_eq!(texts("{1, 2,NULL}"), Ok(vec!["1".into(), "2".into(), "∅".into()]));
        assert_eq!(texts(r#"{"a,\"b" ,"","NULL"}"#), Ok(vec!["a,\"b".into(), "".into(), "NULL".into()]));
        assert_eq!(texts(r#"{{1,2},{"x"}}"#), Ok(vec!["{1,2}".into(), "{\"x\"}".into()]));
        assert_eq!(texts("{}"), Ok(vec![]));
        assert_eq!(texts("{1,}"), Err(Misfit::Syntax));
        assert_eq!(texts("{{1}"), Err(Misfit::Syntax));
    }
}
