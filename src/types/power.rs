//! exp, ln, log and power of decimals: exact, and rounded where Postgres rounds them (`numeric.c`): to 16 digits that count by
//! its estimate of where the result begins, and to no fewer digits behind the point than the arguments show, as far as there
//! is room.

use std::f64::consts::LOG10_E;

use arrow::datatypes::i256;

use super::fixed_point::{Fixed, Signed};
use super::quotient::{Number, fitting};

const SIGNIFICANT_DIGITS_MIN: i32 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Overflow,
    DivisionByZero,
    LogarithmOfZero,
    LogarithmOfNegative,
    ZeroToNegative,
    NegativeToFraction,
}

/// Digits at a scale.
type Decimal = Result<i128, Failure>;

/// e to a power, with `scale` digits behind the point.
pub fn exp(power: Number, scale: i8) -> Decimal {
    let value = signed(power)?;
    let weight = value.to_f64() * LOG10_E;
    let rounded = SIGNIFICANT_DIGITS_MIN - weight as i32;
    let result = value.exp().ok_or(Failure::Overflow)?;
    decimal(false, result, rounded.max(power.shown.into()), scale)
}

pub fn ln(number: Number, scale: i8) -> Decimal {
    let result = logarithm(number)?;
    let rounded = SIGNIFICANT_DIGITS_MIN - logarithm_weight(number)?;
    decimal(result.is_negative, result.size, rounded.max(number.shown.into()), scale)
}

pub fn log(base: Number, number: Number, scale: i8) -> Decimal {
    let (below, above) = (logarithm(base)?, logarithm(number)?);
    if below.size.is_zero() {
        return Err(Failure::DivisionByZero);
    }
    let rounded = SIGNIFICANT_DIGITS_MIN - logarithm_weight(number)? + logarithm_weight(base)?;
    let rounded = rounded.max(base.shown.into()).max(number.shown.into());
    let result = above.size.divided(below.size).ok_or(Failure::Overflow)?;
    decimal(above.is_negative != below.is_negative, result, rounded, scale)
}

pub fn power(base: Number, exponent: Number, scale: i8) -> Decimal {
    let (b, e) = (signed(base)?, signed(exponent)?);
    if b.size.is_zero() && e.is_negative && !e.size.is_zero() {
        return Err(Failure::ZeroToNegative);
    }
    let shown = i32::from(base.shown.max(exponent.shown));
    if let Some(whole) = whole(exponent) {
        let result = whole_power(b, whole).ok_or(Failure::Overflow)?;
        let is_negative = b.is_negative && whole % 2 != 0;
        return decimal(is_negative, result, SIGNIFICANT_DIGITS_MIN.max(base.shown.into()), scale);
    }
    if b.size.is_zero() {
        return Ok(0);
    }
    if b.is_negative {
        return Err(Failure::NegativeToFraction);
    }
    let Some(product) = b.size.ln().and_then(|ln| ln.times(e)) else {
        // Of so great an exponent there is nothing or too much.
        let grows = (b.size.compare(Fixed::integer(1)) == std::cmp::Ordering::Greater) != e.is_negative;
        return if grows { Err(Failure::Overflow) } else { Ok(0) };
    };
    let rounded = SIGNIFICANT_DIGITS_MIN - (product.to_f64() * LOG10_E) as i32;
    decimal(false, product.exp().ok_or(Failure::Overflow)?, rounded.max(shown), scale)
}

/// The exponent, if it is an integer of 32 bits.
fn whole(number: Number) -> Option<i32> {
    let unit = i256::from_i128(10).checked_pow(u32::try_from(number.scale).ok()?)?;
    let (whole, rest) = (number.digits.checked_div(unit)?, number.digits.checked_rem(unit)?);
    if rest != i256::ZERO { None } else { i32::try_from(whole.to_i128()?).ok() }
}

/// The size of the power.
fn whole_power(base: Signed, exponent: i32) -> Option<Fixed> {
    let (mut result, mut square) = (Fixed::integer(1), base.size);
    if exponent < 0 {
        // Of something small the reciprocal is great, and of something great nothing is left.
        square = Fixed::integer(1).divided(base.size)?;
    }
    let mut left = exponent.unsigned_abs();
    while left > 0 {
        if left & 1 == 1 {
            result = result.times(square)?;
        }
        left >>= 1;
        if left > 0 {
            square = square.times(square)?;
        }
    }
    Some(result)
}

fn signed(number: Number) -> Result<Signed, Failure> {
    let digits = number.digits.to_i128().ok_or(Failure::Overflow)?;
    let scale = u32::try_from(number.scale).map_err(|_| Failure::Overflow)?;
    Ok(Signed { is_negative: digits < 0, size: Fixed::decimal(digits.unsigned_abs(), scale) })
}

fn logarithm(number: Number) -> Result<Signed, Failure> {
    let value = signed(number)?;
    match value.size.ln() {
        None => Err(Failure::LogarithmOfZero),
        Some(_) if value.is_negative => Err(Failure::LogarithmOfNegative),
        Some(logarithm) => Ok(logarithm),
    }
}

/// Where Postgres expects the first digit of a logarithm (`estimate_ln_dweight`).
fn logarithm_weight(number: Number) -> Result<i32, Failure> {
    let value = signed(number)?;
    let near_one = [Fixed::decimal(9, 1), Fixed::decimal(11, 1)];
    let is_near = value.size.compare(near_one[0]) != std::cmp::Ordering::Less
        && value.size.compare(near_one[1]) != std::cmp::Ordering::Greater;
    if is_near {
        // ln(1 + x) ≈ x
        let one = Signed { is_negative: true, size: Fixed::integer(1) };
        let x = value.plus(one).ok_or(Failure::Overflow)?.size.to_decimal_weight();
        return Ok(x.unwrap_or(0));
    }
    let (digits, weight) = first_groups(number);
    let ln = (digits as f64).ln() + f64::from(weight) * std::f64::consts::LN_10;
    Ok(ln.abs().log10() as i32)
}

/// The number's first two groups of four digits (one, if there are no others), and the weight of the last of them.
fn first_groups(number: Number) -> (u32, i32) {
    let digits = number.digits.to_i128().unwrap_or(0).unsigned_abs().to_string();
    // Filled up to whole groups on both sides of the point.
    let scale = number.scale.max(0) as usize;
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (before, behind) = digits.split_at(digits.len() - scale);
    let before = format!("{before:0>width$}", width = before.len().div_ceil(4) * 4);
    let behind = format!("{behind:0<width$}", width = behind.len().div_ceil(4) * 4);
    let all = format!("{before}{behind}");
    let groups: Vec<u32> = (0..all.len() / 4).map(|at| all[4 * at..4 * at + 4].parse().unwrap_or(0)).collect();
    let Some(first) = groups.iter().position(|group| *group != 0) else { return (0, 0) };
    let weight = 4 * (before.len() as i32 / 4 - 1 - first as i32);
    match groups[first + 1..].iter().any(|group| *group != 0) {
        true => (groups[first] * 10_000 + groups[first + 1], weight - 4),
        false => (groups[first], weight),
    }
}

/// Rounded at `rounded` digits behind the point, and carried with `scale` of them.
fn decimal(is_negative: bool, size: Fixed, rounded: i32, scale: i8) -> Decimal {
    let rounded = rounded.clamp(0, scale.into());
    let digits = size.digits(rounded as u32).ok_or(Failure::Overflow)?;
    let unit = 10i128.pow((i32::from(scale) - rounded) as u32);
    let digits = i128::try_from(digits).ok().and_then(|digits| digits.checked_mul(unit)).ok_or(Failure::Overflow)?;
    let digits = fitting(i256::from_i128(digits)).ok_or(Failure::Overflow)?;
    Ok(if is_negative { -digits } else { digits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        let (before, behind) = text.split_once('.').unwrap_or((text, ""));
        let digits: i128 = format!("{before}{behind}").parse().expect("digits");
        let scale = behind.len() as i8;
        Number { digits: i256::from_i128(digits), scale, shown: scale }
    }

    fn text(result: Decimal) -> String {
        let digits = result.expect("it fits");
        let sign = if digits < 0 { "-" } else { "" };
        let digits = format!("{:0>17}", digits.unsigned_abs());
        let (before, behind) = digits.split_at(digits.len() - 16);
        let shown = format!("{sign}{before}.{behind}");
        shown.trim_end_matches('0').trim_end_matches('.').to_string()
    }

    /// What PostgreSQL 15 answers, as far as 16 digits behind the point hold it.
    #[test]
    fn results_are_rounded_where_postgres_rounds_them() {
        for (power, result) in [
            ("1.0", "2.7182818284590452"),
            ("5.5", "244.69193226422039"),
            ("20.123", "548665761.07487618"),
            ("40.0", "235385266837019985.4"),
            ("45.1234567", "39524669691415343401.6743788"),
            ("0.00001", "1.0000100000500002"),
            ("-3.2", "0.0407622039783662"),
        ] {
            assert_eq!(text(exp(number(power), 16)), result, "exp({power})");
        }
        for (of, result) in [
            ("2.0", "0.6931471805599453"),
            ("22026.4657948", "9.9999999999996951"),
            ("0.5", "-0.6931471805599453"),
            ("100000000000000000000", "46.051701859880914"),
            ("0.0000001", "-16.11809565095832"),
            ("123456789.987654321", "18.631401774168018"),
            ("1.0", "0"),
        ] {
            assert_eq!(text(ln(number(of), 16)), result, "ln({of})");
        }
        for (base, of, result) in [
            ("10", "2.0", "0.3010299956639812"),
            ("2.0", "64.0", "6"),
            ("1.5", "7.3", "4.9027013876223544"),
            ("0.5", "3.0", "-1.5849625007211562"),
        ] {
            assert_eq!(text(log(number(base), number(of), 16)), result, "log({base}, {of})");
        }
        for (base, to, result) in [
            ("2", "0.5", "1.414213562373095"),
            ("1.5", "-3", "0.2962962962962963"),
            ("1.01", "500", "144.7727724325733152"),
            ("-2.0", "-3", "-0.125"),
            ("12345.6789", "2", "152415787.50190521"),
            ("2.0", "-70", "0"),
            ("2.5", "0", "1"),
        ] {
            assert_eq!(text(power(number(base), number(to), 16)), result, "{base} ^ {to}");
        }
        assert_eq!(power(number("0.0"), number("-1"), 16), Err(Failure::ZeroToNegative));
        assert_eq!(power(number("-2.0"), number("0.5"), 16), Err(Failure::NegativeToFraction));
        assert_eq!(exp(number("90.5"), 16), Err(Failure::Overflow));
        assert_eq!(exp(number("60.0"), 16), Err(Failure::Overflow));
        assert_eq!(log(number("1.0"), number("5"), 16), Err(Failure::DivisionByZero));
    }
}
