//! Numbers as Postgres prints them: integers, shortest floats (extra_float_digits = 1), decimals.
//!
//! Also the base of the wire's binary `numeric`: [`DecimalDigits`], the digits of an unscaled decimal without allocation.

use std::fmt::Write;

use arrow::datatypes::i256;
use bytes::{BufMut, BytesMut};

pub fn put_integer(out: &mut BytesMut, value: i64) {
    if value < 0 {
        out.put_u8(b'-');
    }
    put_unsigned(out, value.unsigned_abs());
}

pub fn put_unsigned(out: &mut BytesMut, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.put_slice(&digits[start..]);
}

/// Text in a fixed buffer, for what the standard library formats.
struct Scratch {
    bytes: [u8; 40],
    length: usize,
}

impl Write for Scratch {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

pub fn put_float8(out: &mut BytesMut, value: f64) {
    // DBL_DIG: from here on Postgres writes an exponent.
    put_float(out, value.is_nan(), value.is_infinite(), value.is_sign_negative(), format_args!("{value:e}"), 15);
}

pub fn put_float4(out: &mut BytesMut, value: f32) {
    // FLT_DIG.
    put_float(out, value.is_nan(), value.is_infinite(), value.is_sign_negative(), format_args!("{value:e}"), 6);
}

/// `scientific` is Rust's shortest `{:e}`: `-1.25e-7`. Below 1e-4 and from 10^`exponent_limit` on, an exponent is shown.
fn put_float(
    out: &mut BytesMut,
    is_nan: bool,
    is_infinite: bool,
    is_negative: bool,
    scientific: std::fmt::Arguments<'_>,
    exponent_limit: i32,
) {
    if is_nan {
        return out.put_slice(b"NaN");
    }
    if is_infinite {
        return out.put_slice(if is_negative { b"-Infinity" } else { b"Infinity" });
    }
    let mut scratch = Scratch { bytes: [0; 40], length: 0 };
    scratch.write_fmt(scientific).expect("the shortest form of a float has at most 17 digits");
    let text = &scratch.bytes[usize::from(is_negative)..scratch.length];
    let e = text.iter().position(|&b| b == b'e').expect("scientific notation has an exponent");
    let exponent_text = std::str::from_utf8(&text[e + 1..]).expect("ASCII");
    let exponent: i32 = exponent_text.parse().expect("the exponent is a number");
    // The digits without their point.
    let mut digits = [0u8; 24];
    let mut count = 0;
    for &byte in text[..e].iter().filter(|&&b| b != b'.') {
        digits[count] = byte;
        count += 1;
    }
    let digits = &digits[..count];
    if is_negative {
        out.put_u8(b'-');
    }
    if (-4..exponent_limit).contains(&exponent) {
        if exponent < 0 {
            out.put_slice(b"0.");
            out.put_bytes(b'0', (-exponent - 1) as usize);
            out.put_slice(digits);
        } else {
            let whole = exponent as usize + 1;
            if whole >= count {
                out.put_slice(digits);
                out.put_bytes(b'0', whole - count);
            } else {
                out.put_slice(&digits[..whole]);
                out.put_u8(b'.');
                out.put_slice(&digits[whole..]);
            }
        }
        return;
    }
    out.put_u8(digits[0]);
    if count > 1 {
        out.put_u8(b'.');
        out.put_slice(&digits[1..]);
    }
    out.put_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.abs() < 10 {
        out.put_u8(b'0');
    }
    put_unsigned(out, exponent.unsigned_abs() as u64);
}

/// The decimal digits of an unscaled value, most significant first, without leading zeros (zero has none).
pub struct DecimalDigits {
    pub is_negative: bool,
    bytes: [u8; 80],
    start: usize,
}

impl DecimalDigits {
    pub fn of_i128(value: i128) -> DecimalDigits {
        let mut digits = DecimalDigits { is_negative: value < 0, bytes: [0; 80], start: 80 };
        let mut rest = value.unsigned_abs();
        // 19 digits at a time keep the divisions of 128 bits few.
        while rest > u64::MAX as u128 {
            digits.prepend((rest % 10_000_000_000_000_000_000) as u64, 19);
            rest /= 10_000_000_000_000_000_000;
        }
        digits.prepend(rest as u64, 0);
        digits
    }

    pub fn of_i256(value: i256) -> DecimalDigits {
        if let Some(small) = value.to_i128() {
            return DecimalDigits::of_i128(small);
        }
        let text = value.to_string();
        let shown = text.trim_start_matches('-').as_bytes();
        let mut digits = DecimalDigits { is_negative: text.starts_with('-'), bytes: [0; 80], start: 80 - shown.len() };
        digits.bytes[80 - shown.len()..].copy_from_slice(shown);
        digits
    }

    /// Writes at least `width` digits of `value` before those that are there.
    fn prepend(&mut self, mut value: u64, width: usize) {
        let end = self.start;
        while value > 0 || end - self.start < width {
            self.start -= 1;
            self.bytes[self.start] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }

    /// ASCII digits.
    pub fn digits(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// How many of `scale` fractional digits remain if trailing zeros are left out.
    pub fn trimmed_scale(&self, scale: i8) -> i8 {
        let zeros = self.digits().iter().rev().take_while(|&&d| d == b'0').count();
        if self.digits().is_empty() { 0 } else { scale.max(0) - scale.max(0).min(zeros.min(127) as i8) }
    }

    /// Prints value × 10^−scale with `scale` fractional digits, or without trailing zeros if `trim`.
    pub fn put(&self, out: &mut BytesMut, scale: i8, trim: bool) {
        let digits = self.digits();
        if self.is_negative {
            out.put_u8(b'-');
        }
        if scale <= 0 {
            out.put_slice(if digits.is_empty() { b"0" } else { digits });
            if !digits.is_empty() {
                out.put_bytes(b'0', scale.unsigned_abs() as usize);
            }
            return;
        }
        let shown_scale = if trim { self.trimmed_scale(scale) } else { scale } as usize;
        let scale = scale as usize;
        let whole = digits.len().saturating_sub(scale);
        out.put_slice(if whole == 0 { b"0" } else { &digits[..whole] });
        if shown_scale == 0 {
            return;
        }
        out.put_u8(b'.');
        let leading_zeros = scale.saturating_sub(digits.len()).min(shown_scale);
        out.put_bytes(b'0', leading_zeros);
        out.put_slice(&digits[whole..whole + shown_scale - leading_zeros]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(put: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        put(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn integers() {
        for value in [0, 7, -7, 10, i64::MAX, i64::MIN] {
            assert_eq!(shown(|o| put_integer(o, value)), value.to_string());
        }
    }

    #[test]
    fn floats_as_postgres_prints_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (1e20, "1e+20"),
            (1e15, "1e+15"),
            (123456789012345.0, "123456789012345"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (1e-300, "1e-300"),
            (-1234.5, "-1234.5"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::MAX, "1.7976931348623157e+308"),
        ] {
            assert_eq!(shown(|o| put_float8(o, value)), text);
        }
        assert_eq!(shown(|o| put_float4(o, 1e6)), "1e+06");
        assert_eq!(shown(|o| put_float4(o, 100000.0)), "100000");
        assert_eq!(shown(|o| put_float4(o, 0.1)), "0.1");
    }

    #[test]
    fn decimals() {
        for (unscaled, scale, trim, text) in [
            (15_000_000_000i128, 10, true, "1.5"),
            (20_000_000_000, 10, true, "2"),
            (0, 10, true, "0"),
            (0, 2, false, "0.00"),
            (5, 2, false, "0.05"),
            (-5, 2, false, "-0.05"),
            (12345, 2, false, "123.45"),
            (12, -3, false, "12000"),
            (1, 10, true, "0.0000000001"),
            (100, 10, true, "0.00000001"),
            (i128::MAX, 0, false, "170141183460469231731687303715884105727"),
            (i128::MIN, 0, false, "-170141183460469231731687303715884105728"),
        ] {
            assert_eq!(shown(|o| DecimalDigits::of_i128(unscaled).put(o, scale, trim)), text);
        }
        assert_eq!(
            shown(|o| DecimalDigits::of_i256(i256::MIN).put(o, 76, false)),
            "-5.7896044618658097711785492504343953926634992332820282019728792003956564819968"
        );
    }
}
