//! Binary numbers of any length: integers times powers of 2^32. What [`super::exact_sum`] sums up to, with the little
//! arithmetic that statistics need (n·Σx² − (Σx)² cancels all but the last digits, so it must not be rounded before).

/// `± Σ digits[i] · 2^(exponent + 32·i)`. No digits: zero.
#[derive(Clone, Debug, PartialEq)]
pub struct ExactNumber {
    is_negative: bool,
    /// Without zeros at the high end.
    digits: Vec<u32>,
    /// A multiple of 32.
    exponent: i32,
}

impl ExactNumber {
    /// `Σ amount · 2^(32·bin − bias)` over ascending bins.
    pub fn of_bins(bins: &[(i16, i128)], bias: i32) -> ExactNumber {
        let (Some((first, _)), Some((last, _))) = (bins.first(), bins.last()) else { return ExactNumber::zero() };
        let mut bins_left = bins.iter().peekable();
        let mut digits = vec![];
        let mut carry = 0i128;
        for bin in *first..=*last {
            if let Some((_, amount)) = bins_left.next_if(|(next, _)| *next == bin) {
                carry += amount;
            }
            digits.push(carry as u32);
            carry >>= 32;
        }
        while carry != 0 && carry != -1 {
            digits.push(carry as u32);
            carry >>= 32;
        }
        let is_negative = carry == -1;
        if is_negative {
            // Two's complement back to a magnitude.
            let mut one = true;
            for digit in &mut digits {
                let (negated, overflow) = (!*digit).overflowing_add(u32::from(one));
                (*digit, one) = (negated, overflow);
            }
            if one {
                digits.push(1);
            }
        }
        ExactNumber { is_negative, digits, exponent: 32 * i32::from(*first) - bias }.trimmed()
    }

    pub fn zero() -> ExactNumber {
        ExactNumber { is_negative: false, digits: vec![], exponent: 0 }
    }

    pub fn of_integer(value: i64) -> ExactNumber {
        let magnitude = value.unsigned_abs();
        let digits = vec![magnitude as u32, (magnitude >> 32) as u32];
        ExactNumber { is_negative: value < 0, digits, exponent: 0 }.trimmed()
    }

    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    fn trimmed(mut self) -> ExactNumber {
        while self.digits.last() == Some(&0) {
            self.digits.pop();
        }
        let low_zeros = self.digits.iter().take_while(|digit| **digit == 0).count();
        self.digits.drain(..low_zeros);
        self.exponent += 32 * low_zeros as i32;
        if self.digits.is_empty() { ExactNumber::zero() } else { self }
    }

    pub fn times(&self, other: &ExactNumber) -> ExactNumber {
        let mut digits = vec![0u32; self.digits.len() + other.digits.len()];
        for (i, &a) in self.digits.iter().enumerate() {
            let mut carry = 0u64;
            for (j, &b) in other.digits.iter().enumerate() {
                let total = u64::from(a) * u64::from(b) + u64::from(digits[i + j]) + carry;
                digits[i + j] = total as u32;
                carry = total >> 32;
            }
            digits[i + other.digits.len()] = carry as u32;
        }
        let is_negative = self.is_negative != other.is_negative;
        ExactNumber { is_negative, digits, exponent: self.exponent + other.exponent }.trimmed()
    }

    pub fn minus(&self, other: &ExactNumber) -> ExactNumber {
        if self.is_zero() {
            return ExactNumber { is_negative: !other.is_negative, ..other.clone() }.trimmed();
        }
        if other.is_zero() {
            return self.clone();
        }
        let exponent = self.exponent.min(other.exponent);
        let aligned = |number: &ExactNumber| {
            let mut digits = vec![0u32; ((number.exponent - exponent) / 32) as usize];
            digits.extend(&number.digits);
            digits
        };
        let (mut a, mut b) = (aligned(self), aligned(other));
        let length = a.len().max(b.len()) + 1;
        a.resize(length, 0);
        b.resize(length, 0);
        if self.is_negative != other.is_negative {
            let mut carry = 0u64;
            for (a, b) in a.iter_mut().zip(&b) {
                let total = u64::from(*a) + u64::from(*b) + carry;
                *a = total as u32;
                carry = total >> 32;
            }
            return ExactNumber { is_negative: self.is_negative, digits: a, exponent }.trimmed();
        }
        let is_less = a.iter().rev().lt(b.iter().rev());
        let (greater, lesser) = if is_less { (&mut b, &a) } else { (&mut a, &b) };
        let mut borrow = false;
        for (g, l) in greater.iter_mut().zip(lesser) {
            let (step, under) = g.overflowing_sub(*l);
            let (step, under_again) = step.overflowing_sub(u32::from(borrow));
            (*g, borrow) = (step, under || under_again);
        }
        let digits = std::mem::take(greater);
        ExactNumber { is_negative: self.is_negative != is_less, digits, exponent }.trimmed()
    }

    /// The nearest double; of two equally near the even one.
    pub fn to_f64(&self) -> f64 {
        let Some(&top) = self.digits.last() else { return 0.0 };
        let bit_count = 32 * self.digits.len() as i32 - top.leading_zeros() as i32;
        if self.exponent + bit_count < -1074 {
            return if self.is_negative { -0.0 } else { 0.0 };
        }
        // A number below 2^-1022 has fewer bits than 53.
        let precision = (self.exponent + bit_count + 1074).min(53);
        let dropped = (bit_count - precision).max(0);
        let bit = |at: i32| (self.digits[(at / 32) as usize] >> (at % 32)) & 1 == 1;
        let mut mantissa = 0u64;
        for at in (dropped..bit_count).rev() {
            mantissa = (mantissa << 1) | u64::from(bit(at));
        }
        if dropped > 0 && bit(dropped - 1) {
            let is_more_than_half = (0..dropped - 1).any(bit);
            mantissa += u64::from(is_more_than_half || mantissa & 1 == 1);
        }
        // Two steps, since neither factor need be a double by itself; each is exact.
        let exponent = self.exponent + dropped;
        let half = exponent / 2;
        let magnitude = mantissa as f64 * power_of_two(half) * power_of_two(exponent - half);
        if self.is_negative { -magnitude } else { magnitude }
    }
}

fn power_of_two(exponent: i32) -> f64 {
    match exponent {
        ..=-1075 => 0.0,
        -1074..=-1023 => f64::from_bits(1 << (exponent + 1074)),
        -1022..=1023 => f64::from_bits(((exponent + 1023) as u64) << 52),
        1024.. => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::ExactNumber;

    #[test]
    fn arithmetic_is_that_of_integers() {
        let values = [0, 1, -1, 7, -12, 1 << 31, 1 << 32, -(1 << 40), 123_456_789_012, i64::MAX >> 12];
        for a in values {
            for b in values {
                let (x, y) = (ExactNumber::of_integer(a), ExactNumber::of_integer(b));
                assert_eq!(x.minus(&y).to_f64(), (a - b) as f64, "{a} - {b}");
                assert_eq!(x.times(&y).to_f64(), (i128::from(a) * i128::from(b)) as f64, "{a} * {b}");
                assert_eq!(x.minus(&x), ExactNumber::zero());
            }
        }
    }
}
