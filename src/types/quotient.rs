//! Quotients of decimals as Postgres rounds them: to at least 16 significant digits, and to no fewer digits behind the
//! point than its operands show (`select_div_scale` in numeric.c), as far as the carrier has room for them.

use arrow::datatypes::i256;

/// Postgres' NUMERIC_MIN_SIG_DIGITS.
const SIGNIFICANT_DIGITS_MIN: i32 = 16;
/// Postgres keeps digits in groups of four.
const GROUP_DIGITS: i32 = 4;
/// The bound on a value carried in 128 bits.
const DIGITS_MAX: u32 = 38;

/// `digits · 10^−scale`.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    pub digits: i256,
    pub scale: i8,
    /// How many digits behind the point Postgres would show.
    pub shown: i8,
}

impl Number {
    pub fn integer(value: i64) -> Number {
        Number { digits: i256::from_i128(value.into()), scale: 0, shown: 0 }
    }

    /// `is_declared`: the scale is the number's own, not just that of what carries it.
    pub fn new(digits: i256, scale: i8, is_declared: bool) -> Number {
        Number { digits, scale, shown: if is_declared { scale } else { trimmed_scale(digits, scale) } }
    }

    pub(super) fn leading(&self) -> Leading {
        if self.digits == i256::ZERO {
            return Leading { weight: 0, group: 0 };
        }
        let (count, top): (u32, _) = match self.digits.to_i128() {
            Some(small) => {
                let size = small.unsigned_abs();
                let count = size.ilog10() + 1;
                (count, (size / 10u128.pow(count.saturating_sub(4))) as u32)
            }
            None => {
                let size = self.digits.wrapping_abs();
                let count = size.ilog10() + 1;
                let unit = i256::from_i128(10).wrapping_pow(count - 4);
                (count, size.wrapping_div(unit).as_i128() as u32)
            }
        };
        Leading::new(count, top, i32::from(self.scale))
    }
}

/// The place and the value of a number's first group of four digits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Leading {
    weight: i32,
    group: u32,
}

impl Leading {
    /// Of `count` digits, of which the first four (or all) are `top`, `scale` are behind the point.
    pub(super) fn new(count: u32, top: u32, scale: i32) -> Leading {
        let exponent = count as i32 - 1 - scale;
        let wanted = exponent.rem_euclid(GROUP_DIGITS) as u32 + 1;
        let given = count.min(4);
        let group = if wanted >= given { top * 10u32.pow(wanted - given) } else { top / 10u32.pow(given - wanted) };
        Leading { weight: exponent.div_euclid(GROUP_DIGITS), group }
    }

    /// Digits behind the point of a quotient whose operands show `shown` of them.
    pub(super) fn quotient_scale(self, divisor: Leading, shown: i32) -> i32 {
        let weight = self.weight - divisor.weight - i32::from(self.group <= divisor.group);
        (SIGNIFICANT_DIGITS_MIN - weight * GROUP_DIGITS).max(shown).max(0)
    }
}

fn trimmed_scale(digits: i256, scale: i8) -> i8 {
    let Some(mut digits) = digits.to_i128() else { return scale };
    let mut left = if digits == 0 { 0 } else { scale.max(0) };
    while left >= 8 && digits % 100_000_000 == 0 {
        (digits, left) = (digits / 100_000_000, left - 8);
    }
    while left > 0 && digits % 10 == 0 {
        (digits, left) = (digits / 10, left - 1);
    }
    left
}

/// `dividend / divisor`, which is not zero, with `scale` digits behind the point, as many of them rounded as Postgres
/// rounds; `None` if it has more than 38 digits.
pub fn divided(dividend: Number, divisor: Number, scale: i8) -> Option<i128> {
    let shown = i32::from(dividend.shown.max(divisor.shown));
    let rounded = dividend.leading().quotient_scale(divisor.leading(), shown).min(i32::from(scale));
    let shift = rounded - i32::from(dividend.scale) + i32::from(divisor.scale);
    let quotient = quotient(dividend.digits, divisor.digits, shift)?;
    fitting(quotient.checked_mul(ten_to((i32::from(scale) - rounded) as u32)?)?)
}

/// The digits, if they are at most 38.
pub fn fitting(digits: i256) -> Option<i128> {
    digits.to_i128().filter(|digits| digits.unsigned_abs() < 10u128.pow(DIGITS_MAX))
}

pub(super) fn ten_to(power: u32) -> Option<i256> {
    i256::from_i128(10).checked_pow(power)
}

/// `a · 10^shift / b`, rounded half away from zero.
fn quotient(a: i256, b: i256, shift: i32) -> Option<i256> {
    if let (Some(a), Some(b), Ok(power @ ..=38)) = (a.to_i128(), b.to_i128(), u32::try_from(shift))
        && let Some(a) = a.checked_mul(10i128.pow(power))
    {
        let (whole, rest) = (a.checked_div(b)?, (a % b).unsigned_abs());
        let up = rest >= b.unsigned_abs() - rest;
        let away = if (a < 0) == (b < 0) { 1 } else { -1 };
        return Some(i256::from_i128(whole + if up { away } else { 0 }));
    }
    let (mut divisor, mut shift) = (b.checked_abs()?, shift);
    while shift < 0 {
        // A divisor beyond 256 bits leaves nothing.
        let step = shift.unsigned_abs().min(DIGITS_MAX);
        let Some(greater) = divisor.checked_mul(ten_to(step)?) else { return Some(i256::ZERO) };
        (divisor, shift) = (greater, shift + step as i32);
    }
    let size = a.checked_abs()?;
    let (mut whole, mut rest) = (size.checked_div(divisor)?, size.checked_rem(divisor)?);
    while shift > 0 {
        // Nine digits at a time: the rest is less than the divisor.
        let step = ten_to(shift.min(9) as u32)?;
        let next = rest.checked_mul(step)?;
        whole = whole.checked_mul(step)?.checked_add(next.checked_div(divisor)?)?;
        rest = next.checked_rem(divisor)?;
        shift -= shift.min(9);
    }
    if rest >= divisor.checked_sub(rest)? {
        whole = whole.checked_add(i256::ONE)?;
    }
    if a.is_negative() == b.is_negative() { Some(whole) } else { whole.checked_neg() }
}

/// The root of a number that is not negative, with `scale` digits behind the point, as many of them rounded as Postgres
/// rounds (`numeric_sqrt`).
pub fn square_root(square: Number, scale: i8) -> Option<i128> {
    let weight = (square.leading().weight + 1) * GROUP_DIGITS / 2 - 1;
    let rounded = (SIGNIFICANT_DIGITS_MIN - weight).max(square.shown.into()).clamp(0, scale.into());
    let root = root_of(square.digits, square.scale.into(), rounded as i8)?;
    fitting(i256::from_i128(root).checked_mul(ten_to((i32::from(scale) - rounded) as u32)?)?)
}

/// The root of `digits · 10^−from`, not negative, with `scale` digits behind the point, rounded half away from zero.
pub(super) fn root_of(digits: i256, from: i32, scale: i8) -> Option<i128> {
    // √(d · 10^(2·scale − from)) and one digit more to round by.
    let shift = 2 * (i32::from(scale) + 1) - from;
    let square = match u32::try_from(shift) {
        Ok(power) => digits.checked_mul(ten_to(power)?)?,
        Err(_) => digits.checked_div(ten_to(shift.unsigned_abs())?)?,
    };
    let root = integer_root(square)?;
    fitting((root + i256::from_i128(5)).checked_div(i256::from_i128(10))?)
}

/// The greatest integer whose square is at most `square`.
fn integer_root(square: i256) -> Option<i256> {
    if square == i256::ZERO {
        return Some(square);
    }
    let bits = 256 - square.leading_zeros();
    let mut root = i256::ONE << bits.div_ceil(2).min(254) as u8;
    // Newton from above.
    loop {
        let next = root.checked_add(square.checked_div(root)?)?.checked_div(i256::from_i128(2))?;
        if next >= root {
            return Some(root);
        }
        root = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(digits: i128, scale: i8) -> Number {
        Number { digits: i256::from_i128(digits), scale, shown: scale }
    }

    /// What PostgreSQL 15 answers, at 16 digits behind the point.
    #[test]
    fn quotients_are_rounded_where_postgres_rounds_them() {
        for (a, b, quotient) in [
            ((10, 0), (3, 0), 3_3333333333333333),
            ((1, 0), (3, 0), 3333333333333333),
            ((2, 0), (-3, 0), -6666666666666667),
            ((100_000, 0), (3, 0), 33333_3333333333330000),
            ((1_000_000_000, 0), (3, 0), 333333333_3333333300000000),
            ((12345, 2), (7, 0), 17_6357142857142857),
            ((1, 0), (10_000, 4), 1_0000000000000000),
            ((0, 0), (3, 0), 0),
        ] {
            let divided = divided(number(a.0, a.1), number(b.0, b.1), 16);
            assert_eq!(divided, Some(quotient), "{a:?} / {b:?}");
        }
    }

    #[test]
    fn long_operands_take_the_long_way_to_the_same_quotient() {
        let (a, b) = (10i128.pow(37), 3i128);
        assert_eq!(divided(number(a, 37), number(b, 0), 16), Some(3333333333333333));
        assert_eq!(divided(number(a, 0), number(1, 38), 0), None);
        assert_eq!(divided(number(1, 38), number(a, 0), 16), Some(0));
        for (a, b, shift) in [(7i128, 3i128, 40), (-7, 3, 40), (22, 7, 10), (5, 10, 0), (-5, 10, 0), (4, 10, 0)] {
            let exact = quotient(i256::from_i128(a), i256::from_i128(b), shift);
            let wide = i256::from_i128(b) * i256::from_i128(10).wrapping_pow(38);
            let scaled = i256::from_i128(a) * i256::from_i128(10).wrapping_pow(38);
            assert_eq!(quotient(scaled, wide, shift), exact, "{a} {b} {shift}");
        }
    }

    #[test]
    fn roots_are_rounded() {
        for (square, from, root) in
            [(2i128, 0, 14142135623730950i128), (4, 0, 2_0000000000000000), (0, 0, 0), (25, 2, 5000000000000000)]
        {
            assert_eq!(root_of(i256::from_i128(square), from, 16), Some(root), "{square}");
        }
        assert_eq!(root_of(i256::from_i128(10i128.pow(37)), 36, 0), Some(3));
        // As PostgreSQL 15 rounds them.
        assert_eq!(square_root(number(2, 0), 16), Some(1_4142135623730950));
        assert_eq!(square_root(number(150, 2), 16), Some(1_2247448713915890));
        assert_eq!(square_root(number(1_000_000, 2), 16), Some(100_0000000000000000));
    }
}
