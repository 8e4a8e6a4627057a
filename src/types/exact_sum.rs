//! Sums of floats that are exact: what comes out is the true sum, rounded once, whatever the order in which values came
//! and went. A sum from which everything was taken back is exactly zero.
//!
//! A finite double is an integer times a power of two. An [`ExactSum`] adds those integers up in bins of 32 exponents
//! each (a sparse form of Kulisch's accumulator, *Computer Arithmetic and Validity*, 2008; Neal, *Fast exact
//! summation using small and large superaccumulators*, arXiv:1505.05571). Values of like size fall into few bins, two of
//! which lie inline. Infinities and NaN are counted apart, since ∞ − ∞ would never give the finite rest back.

use std::collections::BTreeMap;

use super::exact_number::ExactNumber;

/// Bin `k` counts units of 2^(32·k − BIAS); the least unit is that of a product of two least doubles, 2^−2148.
const BIAS: i32 = 2176;
/// Bits of a double's fraction.
const FRACTION_BITS: u32 = 52;
/// Exponent of the least double.
const LEAST_EXPONENT: i32 = -1074;
/// Before the first value.
const NOWHERE: i16 = i16::MAX;

/// A commutative group: adding and taking back are the same with another sign. Exact for fewer than 2^42 values.
#[derive(Clone, Debug)]
pub struct ExactSum {
    near: [i128; 2],
    /// `None` while it is empty.
    rest: Option<Box<Rest>>,
    /// Number of `near[0]`.
    first: i16,
}

/// What few sums have.
#[derive(Clone, Debug, Default)]
struct Rest {
    /// Bins that are not near, none of them zero.
    far: BTreeMap<i16, i128>,
    special: Special,
}

/// How often values came that are not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Special {
    infinities: i64,
    negative_infinities: i64,
    nans: i64,
}

impl Default for ExactSum {
    fn default() -> ExactSum {
        ExactSum { near: [0; 2], rest: None, first: NOWHERE }
    }
}

/// Signed mantissa and exponent above [`LEAST_EXPONENT`] of a finite value.
#[inline]
fn parts(value: f64) -> (i64, i32) {
    let bits = value.to_bits();
    let exponent = ((bits >> FRACTION_BITS) & 0x7ff) as i32;
    let fraction = (bits & ((1 << FRACTION_BITS) - 1)) as i64;
    let (mantissa, place) = if exponent == 0 { (fraction, 0) } else { (fraction | (1 << FRACTION_BITS), exponent - 1) };
    (if value.is_sign_negative() { -mantissa } else { mantissa }, place)
}

impl ExactSum {
    /// Adds `value` `weight` times.
    #[inline]
    pub fn add(&mut self, value: f64, weight: i64) {
        if !value.is_finite() {
            return self.add_special(value, weight);
        }
        let (mantissa, place) = parts(value);
        self.add_units(mantissa, place + LEAST_EXPONENT + BIAS, weight);
    }

    /// Adds the exact product `weight` times; it neither overflows nor underflows.
    #[inline]
    pub fn add_product(&mut self, a: f64, b: f64, weight: i64) {
        if !a.is_finite() || !b.is_finite() {
            return self.add_special(a * b, weight);
        }
        let ((a, a_place), (b, b_place)) = (parts(a), parts(b));
        let product = i128::from(a) * i128::from(b);
        let place = a_place + b_place + 2 * LEAST_EXPONENT + BIAS;
        // In two halves, so that bins have the same room as for sums.
        const HALF: u32 = 53;
        self.add_units((product & ((1 << HALF) - 1)) as i64, place, weight);
        self.add_units((product >> HALF) as i64, place + HALF as i32, weight);
    }

    #[inline]
    fn add_units(&mut self, mantissa: i64, place: i32, weight: i64) {
        if mantissa == 0 {
            return;
        }
        let mut amount = i128::from(mantissa) << (place & 31);
        if weight != 1 {
            amount = amount.wrapping_mul(i128::from(weight));
        }
        let bin = (place >> 5) as i16;
        match self.near.get_mut(bin.wrapping_sub(self.first) as u16 as usize) {
            Some(slot) => *slot = slot.wrapping_add(amount),
            None => self.add_far(bin, amount, place & 31 >= 16),
        }
    }

    /// A bin that is not near. The first of all chooses which bins are: itself and the next, or the one before, since what
    /// comes next is likely of like size.
    #[cold]
    fn add_far(&mut self, bin: i16, amount: i128, is_high: bool) {
        if self.first == NOWHERE {
            self.first = if is_high { bin } else { bin - 1 };
            self.near[(bin - self.first) as usize] = amount;
            return;
        }
        let rest = self.rest.get_or_insert_default();
        let slot = rest.far.entry(bin).or_insert(0);
        *slot = slot.wrapping_add(amount);
        if *slot == 0 {
            rest.far.remove(&bin);
            self.drop_empty_rest();
        }
    }

    fn drop_empty_rest(&mut self) {
        if self.rest.as_ref().is_some_and(|rest| rest.far.is_empty() && rest.special == Special::default()) {
            self.rest = None;
        }
    }

    #[cold]
    fn add_special(&mut self, value: f64, weight: i64) {
        let special = &mut self.rest.get_or_insert_default().special;
        match value {
            f64::INFINITY => special.infinities += weight,
            f64::NEG_INFINITY => special.negative_infinities += weight,
            _ => special.nans += weight,
        }
        self.drop_empty_rest();
    }

    /// Adds all that the other has seen.
    pub fn merge(&mut self, other: &ExactSum) {
        for (bin, amount) in other.bins() {
            match self.near.get_mut(bin.wrapping_sub(self.first) as u16 as usize) {
                Some(slot) => *slot = slot.wrapping_add(amount),
                None => self.add_far(bin, amount, false),
            }
        }
        if let Some(special) = other.rest.as_ref().map(|rest| rest.special) {
            self.add_special(f64::INFINITY, special.infinities);
            self.add_special(f64::NEG_INFINITY, special.negative_infinities);
            self.add_special(f64::NAN, special.nans);
        }
    }

    /// Bins that are not zero, ascending.
    fn bins(&self) -> Vec<(i16, i128)> {
        let near = (0i16..).zip(self.near).filter(|(_, amount)| *amount != 0);
        let mut bins: Vec<(i16, i128)> = near.map(|(place, amount)| (self.first + place, amount)).collect();
        if let Some(rest) = &self.rest {
            bins.extend(rest.far.iter().map(|(bin, amount)| (*bin, *amount)));
            bins.sort_unstable_by_key(|(bin, _)| *bin);
        }
        bins
    }

    /// True if all values were taken back (or they are zeros).
    pub fn is_empty(&self) -> bool {
        self.near == [0; 2] && self.rest.is_none()
    }

    /// The sum, rounded to the nearest double.
    pub fn value(&self) -> f64 {
        self.special_value().unwrap_or_else(|| self.exact().to_f64())
    }

    /// What infinities and NaN make of the sum; `None` if there are none.
    pub fn special_value(&self) -> Option<f64> {
        let special = self.rest.as_ref()?.special;
        Some(match (special.nans, special.infinities, special.negative_infinities) {
            (0, 0, 0) => return None,
            (0, _, 0) => f64::INFINITY,
            (0, 0, _) => f64::NEG_INFINITY,
            _ => f64::NAN,
        })
    }

    /// The sum of the finite values.
    pub fn exact(&self) -> ExactNumber {
        ExactNumber::of_bins(&self.bins(), BIAS)
    }

    pub fn memory_bytes(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| size_of::<Rest>() + rest.far.len() * 48);
        size_of::<ExactSum>() + rest
    }

    /// For partial aggregates that are merged elsewhere; [`ExactSum::read`] takes it back.
    pub fn write(&self, out: &mut Vec<u8>) {
        let special = self.rest.as_ref().map(|rest| rest.special).unwrap_or_default();
        for count in [special.infinities, special.negative_infinities, special.nans] {
            out.extend(count.to_le_bytes());
        }
        let bins = self.bins();
        out.extend((bins.len() as u32).to_le_bytes());
        for (bin, amount) in bins {
            out.extend(bin.to_le_bytes());
            out.extend(amount.to_le_bytes());
        }
    }

    /// Reads one sum off the front; `None` if the bytes are not one.
    pub fn read(bytes: &mut &[u8]) -> Option<ExactSum> {
        fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
            let (head, rest) = bytes.split_first_chunk::<N>()?;
            *bytes = rest;
            Some(*head)
        }
        let mut sum = ExactSum::default();
        for value in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            let count = i64::from_le_bytes(take(bytes)?);
            if count != 0 {
                sum.add_special(value, count);
            }
        }
        for _ in 0..u32::from_le_bytes(take(bytes)?) {
            let bin = i16::from_le_bytes(take(bytes)?);
            let amount = i128::from_le_bytes(take(bytes)?);
            match sum.near.get_mut(bin.wrapping_sub(sum.first) as u16 as usize) {
                Some(slot) => *slot = amount,
                None => sum.add_far(bin, amount, false),
            }
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};

    use super::ExactSum;

    fn sum(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        values.iter().for_each(|&value| sum.add(value, 1));
        sum
    }

    #[test]
    fn what_is_taken_back_leaves_nothing_behind() {
        let values = [1e300, 1e100, 1.0, -0.1, 5e-324, 1e-300, f64::MAX, f64::INFINITY, f64::NAN, -1e16];
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..200 {
            let mut changes: Vec<(f64, i64)> = values.iter().flat_map(|&v| [(v, 3), (v, -1), (v, -2)]).collect();
            changes.push((0.5, 1));
            changes.shuffle(&mut random);
            let mut sum = ExactSum::default();
            changes.iter().for_each(|&(value, weight)| sum.add(value, weight));
            assert_eq!(sum.value(), 0.5);
            sum.add(0.5, -1);
            assert!(sum.is_empty());
            assert_eq!(sum.value().to_bits(), 0);
        }
    }

    #[test]
    fn a_sum_is_rounded_once() {
        assert_eq!(sum(&[1e300, 1e100, 1.0, -1e300, -1e100]).value(), 1.0);
        assert_eq!(sum(&[0.1; 10]).value(), 1.0);
        assert_eq!(sum(&[1e16, 1.0, 1.0]).value(), 10_000_000_000_000_002.0);
        assert_eq!(sum(&[9_007_199_254_740_992.0, 1.0]).value(), 9_007_199_254_740_992.0);
        assert_eq!(sum(&[9_007_199_254_740_992.0, 1.0, 5e-324]).value(), 9_007_199_254_740_994.0);
        assert_eq!(sum(&[f64::MAX, f64::MAX]).value(), f64::INFINITY);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]).value(), f64::MAX);
        assert_eq!(sum(&[5e-324, 5e-324]).value(), 1e-323);
        assert_eq!(sum(&[2.2250738585072014e-308, -5e-324]).value(), 2.225073858507201e-308);
        assert_eq!(sum(&[-1.0, 0.25]).value(), -0.75);
        assert_eq!(sum(&[f64::INFINITY, 1.0]).value(), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).value().is_nan());
    }

    #[test]
    fn one_value_comes_out_as_it_went_in() {
        let mut random = StdRng::seed_from_u64(2);
        for _ in 0..20_000 {
            let value = f64::from_bits(random.random());
            if value.is_finite() {
                assert_eq!(sum(&[value]).value(), value);
                assert_eq!(sum(&[value, 1.0, -1.0]).value(), value);
            }
        }
    }

    #[test]
    fn order_and_partition_do_not_matter() {
        let mut random = StdRng::seed_from_u64(3);
        for _ in 0..200 {
            let mut values: Vec<f64> =
                (0..40).map(|_| (random.random::<f64>() - 0.5) * 10f64.powi(random.random_range(-40..40))).collect();
            let expected = sum(&values).value();
            values.shuffle(&mut random);
            let mut merged = sum(&values[..13]);
            merged.merge(&sum(&values[13..]));
            assert_eq!(merged.value(), expected);
            let mut bytes = vec![];
            merged.write(&mut bytes);
            let read = ExactSum::read(&mut bytes.as_slice()).map(|sum| sum.value());
            assert_eq!(read, Some(expected));
        }
    }

    #[test]
    fn products_are_exact() {
        let mut sum = ExactSum::default();
        sum.add_product(1e200, 1e200, 1);
        sum.add_product(1e200, -1e200, 1);
        sum.add_product(3e-200, 5e-200, 1);
        sum.add_product(3e-200, 5e-200, -1);
        sum.add_product(-0.1, 0.1, 2);
        assert_eq!(sum.value(), -2.0 * 0.1 * 0.1);
        let epsilon = 1.0 + f64::EPSILON;
        let mut sum = ExactSum::default();
        sum.add_product(epsilon, epsilon, 1);
        sum.add(-1.0 - 2.0 * f64::EPSILON, 1);
        assert_eq!(sum.value(), f64::EPSILON * f64::EPSILON);
    }
}
