//! Unsigned integers of 512 bits: n·Σx² and (Σx)² of decimals, before their difference is divided.

use arrow::datatypes::i256;

/// Least significant word first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wide([u64; 8]);

impl Wide {
    /// `low + high · 2^128`, neither of which is negative.
    pub fn of_halves(low: i256, high: i256) -> Wide {
        let (low, high) = (words(low), words(high));
        let mut sum = [0; 8];
        sum[..4].copy_from_slice(&low);
        let mut carry = false;
        for at in 0..4 {
            let (step, over) = sum[at + 2].overflowing_add(high[at]);
            let (step, over_again) = step.overflowing_add(u64::from(carry));
            (sum[at + 2], carry) = (step, over || over_again);
        }
        sum[6] = u64::from(carry);
        Wide(sum)
    }

    pub fn square_of(value: i256) -> Wide {
        let words = words(value.wrapping_abs());
        let mut square = Wide([0; 8]);
        for (at, &word) in words.iter().enumerate() {
            let mut row = [0; 8];
            row[at..at + 4].copy_from_slice(&words);
            square = square.plus(Wide(row).times(word).expect("the square of 256 bits has 512"));
        }
        square
    }

    fn plus(mut self, other: Wide) -> Wide {
        let mut carry = 0u128;
        for (word, add) in self.0.iter_mut().zip(other.0) {
            carry += u128::from(*word) + u128::from(add);
            *word = carry as u64;
            carry >>= 64;
        }
        self
    }

    /// `None` on overflow.
    pub fn times(mut self, factor: u64) -> Option<Wide> {
        let mut carry = 0u128;
        for word in &mut self.0 {
            carry += u128::from(*word) * u128::from(factor);
            *word = carry as u64;
            carry >>= 64;
        }
        (carry == 0).then_some(self)
    }

    /// Zero if `other` is greater.
    pub fn minus(mut self, other: Wide) -> Wide {
        let mut borrow = false;
        for (word, take) in self.0.iter_mut().zip(other.0) {
            let (step, under) = word.overflowing_sub(take);
            let (step, under_again) = step.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (step, under || under_again);
        }
        if borrow { Wide([0; 8]) } else { self }
    }

    /// Rounded down; `divisor` is between 1 and 2^127.
    pub fn divided(self, divisor: u128) -> Wide {
        if let Ok(small) = u64::try_from(divisor) {
            return self.divided_by_word(small).0;
        }
        let (mut quotient, mut rest) = ([0u64; 8], 0u128);
        for at in (0..512).rev() {
            rest = (rest << 1) | u128::from((self.0[at / 64] >> (at % 64)) & 1);
            if rest >= divisor {
                rest -= divisor;
                quotient[at / 64] |= 1 << (at % 64);
            }
        }
        Wide(quotient)
    }

    /// The quotient, rounded down, and the rest.
    fn divided_by_word(mut self, divisor: u64) -> (Wide, u64) {
        let mut rest = 0u64;
        for word in self.0.iter_mut().rev() {
            let value = u128::from(rest) << 64 | u128::from(*word);
            (*word, rest) = ((value / u128::from(divisor)) as u64, (value % u128::from(divisor)) as u64);
        }
        (self, rest)
    }

    /// How many decimal digits it has, and the first four of them, or all.
    pub fn leading_digits(self) -> (u32, u32) {
        const STEP: u32 = 19;
        let (mut left, mut last, mut count) = (self, 0, 0);
        while left.0[1..].iter().any(|&word| word != 0) || left.0[0] >= 10u64.pow(STEP) {
            (left, last) = left.divided_by_word(10u64.pow(STEP));
            count += STEP;
        }
        let top = left.0[0];
        let own = top.checked_ilog10().map_or(0, |log| log + 1);
        let first = match own {
            5.. => top / 10u64.pow(own - 4),
            _ if count > 0 => top * 10u64.pow(4 - own) + last / 10u64.pow(STEP - (4 - own)),
            _ => top,
        };
        (count + own, first as u32)
    }

    /// `None` from 2^255 on.
    pub fn to_i256(self) -> Option<i256> {
        if self.0[4..].iter().any(|&word| word != 0) || self.0[3] >> 63 != 0 {
            return None;
        }
        let half = |low: u64, high: u64| u128::from(high) << 64 | u128::from(low);
        Some(i256::from_parts(half(self.0[0], self.0[1]), half(self.0[2], self.0[3]) as i128))
    }
}

fn words(value: i256) -> [u64; 4] {
    let (low, high) = value.to_parts();
    [low as u64, (low >> 64) as u64, high as u64, (high as u128 >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(value: i128) -> Wide {
        Wide::of_halves(i256::from_i128(value), i256::ZERO)
    }

    #[test]
    fn arithmetic_is_that_of_integers() {
        for a in [0i128, 1, 9, 10_000, 123_456_789_012, 1 << 90, i128::MAX] {
            assert_eq!(
                Wide::square_of(i256::from_i128(-a)).to_i256(),
                i256::from_i128(a).checked_mul(i256::from_i128(a))
            );
            for b in [1u128, 7, 1 << 63, 1 << 64, (1 << 126) - 1] {
                assert_eq!(wide(a).divided(b).to_i256(), Some(i256::from_i128((a as u128 / b) as i128)), "{a} / {b}");
            }
            let text = a.to_string();
            let first: u32 = text[..text.len().min(4)].parse().expect("digits");
            assert_eq!(wide(a).leading_digits(), (if a == 0 { 0 } else { text.len() as u32 }, first));
            assert_eq!(wide(a).minus(wide(a)).to_i256(), Some(i256::ZERO));
        }
        let high = Wide::of_halves(i256::from_i128(5), i256::from_i128(3));
        assert_eq!(high.to_i256(), Some(i256::from_parts(5, 3)));
        assert_eq!(wide(3).minus(wide(4)), wide(0));
        assert_eq!(Wide::square_of(i256::MAX).times(u64::MAX), None);
        assert_eq!(
            Wide::square_of(i256::from_i128(1) << 200).divided(1 << 126).divided(1 << 100).to_i256(),
            Some(i256::ONE << 174)
        );
    }
}
