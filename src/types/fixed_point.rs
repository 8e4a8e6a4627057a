//! Fixed-point numbers of 128 bits before and 256 bits behind the point, enough for `exp` and `ln` of a `numeric` to all of
//! its digits: a result has 38 digits, an argument's rounding is 77 digits away.

use std::cmp::Ordering;
use std::sync::LazyLock;

const LIMBS: usize = 6;
/// Those behind the point.
const FRACTION: usize = 4;

/// `limbs · 2^−256`, little-endian; not negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed([u64; LIMBS]);

/// A number and its sign.
#[derive(Clone, Copy, Debug)]
pub struct Signed {
    pub is_negative: bool,
    pub size: Fixed,
}

impl Fixed {
    pub const ZERO: Fixed = Fixed([0; LIMBS]);

    pub fn integer(value: u128) -> Fixed {
        let mut limbs = [0; LIMBS];
        (limbs[FRACTION], limbs[FRACTION + 1]) = (value as u64, (value >> 64) as u64);
        Fixed(limbs)
    }

    /// `digits · 10^−scale`.
    pub fn decimal(digits: u128, scale: u32) -> Fixed {
        let mut number = Fixed::integer(digits);
        for step in [scale.min(19), scale.saturating_sub(19)] {
            number = number.over(10u64.pow(step));
        }
        number
    }

    /// The digits with `scale` of them behind the point, rounded half up; `None` beyond 128 bits.
    pub fn digits(self, scale: u32) -> Option<u128> {
        let scaled = self.times_small(10u64.checked_pow(scale)?)?;
        let whole = u128::from(scaled.0[FRACTION]) | (u128::from(scaled.0[FRACTION + 1]) << 64);
        whole.checked_add(u128::from(scaled.0[FRACTION - 1] >> 63))
    }

    pub fn is_zero(self) -> bool {
        self == Fixed::ZERO
    }

    pub fn plus(self, other: Fixed) -> Option<Fixed> {
        let (mut sum, mut carry) = ([0; LIMBS], false);
        for (at, limb) in sum.iter_mut().enumerate() {
            let (step, over) = self.0[at].overflowing_add(other.0[at]);
            let (step, again) = step.overflowing_add(u64::from(carry));
            (*limb, carry) = (step, over || again);
        }
        (!carry).then_some(Fixed(sum))
    }

    /// `other` must not be greater.
    pub fn minus(self, other: Fixed) -> Fixed {
        let (mut difference, mut borrow) = ([0; LIMBS], false);
        for (at, limb) in difference.iter_mut().enumerate() {
            let (step, under) = self.0[at].overflowing_sub(other.0[at]);
            let (step, again) = step.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (step, under || again);
        }
        debug_assert!(!borrow, "a difference of fixed-point numbers is not negative");
        Fixed(difference)
    }

    fn times_small(self, factor: u64) -> Option<Fixed> {
        let (mut product, mut carry) = ([0; LIMBS], 0u128);
        for (at, limb) in product.iter_mut().enumerate() {
            carry += u128::from(self.0[at]) * u128::from(factor);
            *limb = carry as u64;
            carry >>= 64;
        }
        (carry == 0).then_some(Fixed(product))
    }

    fn over(self, divisor: u64) -> Fixed {
        let (mut quotient, mut rest) = ([0; LIMBS], 0u128);
        for at in (0..LIMBS).rev() {
            rest = (rest << 64) | u128::from(self.0[at]);
            quotient[at] = (rest / u128::from(divisor)) as u64;
            rest %= u128::from(divisor);
        }
        Fixed(quotient)
    }

    /// `None` beyond 128 bits before the point.
    pub fn times(self, other: Fixed) -> Option<Fixed> {
        let mut product = [0u64; 2 * LIMBS];
        for (i, &a) in self.0.iter().enumerate() {
            let mut carry = 0u128;
            for (j, &b) in other.0.iter().enumerate() {
                carry += u128::from(a) * u128::from(b) + u128::from(product[i + j]);
                product[i + j] = carry as u64;
                carry >>= 64;
            }
            product[i + LIMBS] = carry as u64;
        }
        let (low, high) = product.split_at(FRACTION + LIMBS);
        let mut limbs = [0; LIMBS];
        limbs.copy_from_slice(&low[FRACTION..]);
        high.iter().all(|limb| *limb == 0).then_some(Fixed(limbs))
    }

    /// `None` beyond 128 bits before the point; the divisor is not zero.
    pub fn divided(self, divisor: Fixed) -> Option<Fixed> {
        let mut quotient = [0u64; LIMBS + FRACTION];
        let mut rest = Fixed::ZERO;
        // Bit by bit; the rest is less than the divisor, so twice the rest may have one bit more.
        for bit in (0..64 * (LIMBS + FRACTION)).rev() {
            let next = bit.checked_sub(64 * FRACTION).is_some_and(|at| self.0[at / 64] >> (at % 64) & 1 == 1);
            let has_carry = rest.0[LIMBS - 1] >> 63 == 1;
            rest = rest.shifted_left(1);
            rest.0[0] |= u64::from(next);
            if has_carry || rest.compare(divisor) != Ordering::Less {
                rest = rest.wrapping_minus(divisor);
                quotient[bit / 64] |= 1 << (bit % 64);
            }
        }
        let (low, high) = quotient.split_at(LIMBS);
        let mut limbs = [0; LIMBS];
        limbs.copy_from_slice(low);
        high.iter().all(|limb| *limb == 0).then_some(Fixed(limbs))
    }

    fn wrapping_minus(self, other: Fixed) -> Fixed {
        let (mut difference, mut borrow) = ([0; LIMBS], 0u64);
        for (at, limb) in difference.iter_mut().enumerate() {
            let (step, under) = self.0[at].overflowing_sub(other.0[at]);
            let (step, again) = step.overflowing_sub(borrow);
            (*limb, borrow) = (step, u64::from(under || again));
        }
        Fixed(difference)
    }

    pub fn compare(self, other: Fixed) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }

    /// Bits beyond the limbs are lost.
    fn shifted_left(self, bits: u32) -> Fixed {
        let (whole, rest) = ((bits / 64) as usize, bits % 64);
        let limb = |at: usize| at.checked_sub(whole).map_or(0, |at| self.0[at]);
        let low = |at: usize| if rest == 0 || at == 0 { 0 } else { limb(at - 1) >> (64 - rest) };
        Fixed(std::array::from_fn(|at| limb(at) << rest | low(at)))
    }

    fn shifted_right(self, bits: u32) -> Fixed {
        let (whole, rest) = ((bits / 64) as usize, bits % 64);
        let limb = |at: usize| self.0.get(at + whole).copied().unwrap_or(0);
        let high = |at: usize| if rest == 0 { 0 } else { limb(at + 1) << (64 - rest) };
        Fixed(std::array::from_fn(|at| limb(at) >> rest | high(at)))
    }

    /// How many bits it has before the point; negative: how many zeros behind it.
    fn bit_count(self) -> i32 {
        let top = self.0.iter().rposition(|limb| *limb != 0);
        top.map_or(0, |at| 64 * (at as i32 + 1 - FRACTION as i32) - self.0[at].leading_zeros() as i32)
    }

    fn to_f64(self) -> f64 {
        let scaled =
            self.0.iter().enumerate().map(|(at, limb)| *limb as f64 * 2f64.powi(64 * (at as i32 - FRACTION as i32)));
        scaled.sum()
    }

    /// The place of its first decimal digit: 0 for units, −1 for tenths. `None` for zero, or nearly.
    pub fn to_decimal_weight(self) -> Option<i32> {
        let size = self.to_f64();
        (size > 0.0).then(|| size.log10().floor() as i32)
    }

    /// Of a number that is not negative and below 2^60.
    fn of_f64(value: f64) -> Fixed {
        let (whole, fraction) = (value.trunc(), value.fract());
        let mut number = Fixed::integer(whole as u128);
        number.0[FRACTION - 1] = (fraction * 2f64.powi(64)) as u64;
        number
    }

    /// `None` for zero.
    pub fn ln(self) -> Option<Signed> {
        if self.is_zero() {
            return None;
        }
        // Exactly, for it is divided by.
        if self == Fixed::integer(1) {
            return Some(Signed { is_negative: false, size: Fixed::ZERO });
        }
        // m · 2^k with 1/2 ≤ m < 1, and then 3/4 ≤ m < 3/2.
        let mut k = self.bit_count();
        let scaled = |k: i32| match u32::try_from(k) {
            Ok(bits) => self.shifted_right(bits),
            Err(_) => self.shifted_left(k.unsigned_abs()),
        };
        let mut m = scaled(k);
        if m.0[FRACTION - 1] < 3 << 62 {
            k -= 1;
            m = scaled(k);
        }
        // ln(m · 2^k) = ln(2m) + (k − 1) · ln 2, so that what is iterated for is positive: 2m > 1.
        let m = m.shifted_left(1);
        let mut root = Fixed::of_f64(m.to_f64().ln());
        for _ in 0..4 {
            // Newton for e^z = m: z + m · e^−z − 1.
            let power = Signed { is_negative: true, size: root }.exp()?;
            let next = root.plus(m.times(power)?)?;
            root = next.minus(Fixed::integer(1));
        }
        let own = Signed { is_negative: false, size: root };
        let shift = LN_2.times_small((k - 1).unsigned_abs().into())?;
        own.plus(Signed { is_negative: k < 1, size: shift })
    }
}

impl Signed {
    pub fn plus(self, other: Signed) -> Option<Signed> {
        if self.is_negative == other.is_negative {
            return Some(Signed { size: self.size.plus(other.size)?, ..self });
        }
        Some(match self.size.compare(other.size) {
            Ordering::Less => Signed { size: other.size.minus(self.size), ..other },
            _ => Signed { size: self.size.minus(other.size), ..self },
        })
    }

    pub fn times(self, other: Signed) -> Option<Signed> {
        Some(Signed { is_negative: self.is_negative != other.is_negative, size: self.size.times(other.size)? })
    }

    pub fn to_f64(self) -> f64 {
        if self.is_negative { -self.size.to_f64() } else { self.size.to_f64() }
    }

    /// `None` beyond 128 bits before the point.
    pub fn exp(self) -> Option<Fixed> {
        let estimate = self.to_f64();
        if estimate > 90.0 {
            return None;
        }
        if estimate < -180.0 {
            return Some(Fixed::ZERO);
        }
        // e^x = 2^k · e^r with 0 ≤ r ≤ ln 2 and a little; e^r by its series at r/2^8, squared eight times.
        let k = (estimate / std::f64::consts::LN_2 - 1e-9).floor() as i32;
        let shift = Signed { is_negative: k > 0, size: LN_2.times_small(k.unsigned_abs().into())? };
        let rest = self.plus(shift)?;
        debug_assert!(!rest.is_negative || rest.size.is_zero());
        let small = rest.size.shifted_right(8);
        let (mut sum, mut term) = (Fixed::integer(1), Fixed::integer(1));
        for n in 1.. {
            term = term.times(small)?.over(n);
            if term.is_zero() {
                break;
            }
            sum = sum.plus(term)?;
        }
        for _ in 0..8 {
            sum = sum.times(sum)?;
        }
        match u32::try_from(k) {
            Ok(_) if sum.bit_count() + k > 128 => None,
            Ok(bits) => Some(sum.shifted_left(bits)),
            Err(_) => Some(sum.shifted_right(k.unsigned_abs())),
        }
    }
}

/// 2 · artanh(1/3).
static LN_2: LazyLock<Fixed> = LazyLock::new(|| {
    let mut power = Fixed::integer(2).over(3);
    let mut sum = power;
    for n in (3..).step_by(2) {
        power = power.over(9);
        if power.is_zero() {
            break;
        }
        sum = sum.plus(power.over(n)).expect("the sum is less than one");
    }
    sum
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_tables() {
        let shown = |number: Fixed, scale: u32| number.digits(scale).expect("it fits");
        let e = Signed { is_negative: false, size: Fixed::integer(1) }.exp().expect("it fits");
        assert_eq!(shown(e, 19), 2_7182818284590452354);
        assert_eq!(shown(*LN_2, 19), 6931471805599453094);
        let ten = Fixed::integer(10).ln().expect("it is positive");
        assert_eq!((ten.is_negative, shown(ten.size, 19)), (false, 2_3025850929940456840));
        let tenth = Fixed::decimal(1, 1).ln().expect("it is positive");
        assert_eq!((tenth.is_negative, shown(tenth.size, 19)), (true, 2_3025850929940456840));
        assert!(Fixed::integer(1).ln().expect("it is positive").size.digits(19) == Some(0));
        assert_eq!(shown(Fixed::integer(1).divided(Fixed::integer(3)).expect("it fits"), 18), 333333333333333333);
    }

    #[test]
    fn exp_and_ln_undo_each_other() {
        for (digits, scale) in
            [(1, 0), (2, 0), (123_456_789, 5), (75, 2), (150, 2), (1, 16), (9_999_999_999, 0), (3, 1)]
        {
            let number = Fixed::decimal(digits, scale);
            let back = number.ln().and_then(Signed::exp).expect("it fits");
            let (more, less) = if back.compare(number) == Ordering::Less { (number, back) } else { (back, number) };
            assert!(more.minus(less).bit_count() < -190, "{digits} · 10^-{scale}");
        }
    }
}
