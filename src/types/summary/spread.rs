//! Variance and deviation of integers and decimals: n·Σx² − (Σx)² is exact, then rounded as Postgres rounds it.

use arrow::array::{ArrayRef, AsArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, i256};

use super::numbers::decimals;
use super::{Measure, Results, Summary, is_declared, result_type, take};
use crate::error::Result;
use crate::types::moments::Statistic;
use crate::types::quotient::{Leading, Number, fitting, root_of, ten_to};
use crate::types::wide::Wide;

#[derive(Clone, Debug)]
pub struct Spread {
    statistic: Statistic,
    /// The values' scale.
    from: i8,
    precision: u8,
    scale: i8,
}

impl Spread {
    /// `None` if it is no statistic of one argument, or not of numbers like these.
    pub fn new(statistic: Statistic, argument: &DataType) -> Option<Spread> {
        if statistic.argument_count() != 1 {
            return None;
        }
        let DataType::Decimal128(precision, scale) = result_type(Measure::Spread(statistic), argument)? else {
            return None;
        };
        let from = if let DataType::Decimal128(_, scale) = argument { *scale } else { 0 };
        Some(Spread { statistic, from, precision, scale })
    }

    /// `None`: NULL. `Some(None)`: it does not fit.
    fn value(&self, state: &Powers) -> Option<Option<i128>> {
        use Statistic::{StddevPop, StddevSamp, VarSamp};
        let is_sample = matches!(self.statistic, VarSamp | StddevSamp);
        if state.count < if is_sample { 2 } else { 1 } {
            return None;
        }
        let is_root = matches!(self.statistic, StddevPop | StddevSamp);
        Some(self.measured(state, is_sample, is_root))
    }

    fn measured(&self, state: &Powers, is_sample: bool, is_root: bool) -> Option<i128> {
        let count = state.count.unsigned_abs();
        let squares = Wide::of_halves(state.squares_low, state.squares_high).times(count)?;
        let above = squares.minus(Wide::square_of(state.sum));
        let below = u128::from(count) * u128::from(if is_sample { count - 1 } else { count });
        let (digit_count, top) = above.leading_digits();
        if digit_count == 0 {
            return Some(0);
        }
        let above_scale = 2 * i32::from(self.from);
        let shown = 2 * i32::from(Number::new(state.sum, self.from, is_declared(self.from)).shown);
        let below_digits = Number { digits: i256::from_i128(below as i128), scale: 0, shown: 0 };
        let leading = Leading::new(digit_count, top, above_scale);
        // A root needs digits that the variance need not show.
        let kept = leading.quotient_scale(below_digits.leading(), shown);
        let rounded = if is_root { kept } else { kept.min(self.scale.into()) };
        // Twice the quotient, rounded down, says which way to round it.
        let twice = above.times(2)?;
        let twice = match rounded - above_scale {
            shift @ 0.. => times_ten_to(twice, shift)?.divided(below),
            shift => (0..-shift).fold(twice.divided(below), |left, _| left.divided(10)),
        };
        let variance = (twice.to_i256()? + i256::ONE).checked_div(i256::from_i128(2))?;
        if is_root {
            // The root shows as many digits as the variance.
            let shown = rounded.min(self.scale.into());
            let root = root_of(variance, rounded, shown as i8)?;
            return fitting(i256::from_i128(root).checked_mul(ten_to((i32::from(self.scale) - shown) as u32)?)?);
        }
        fitting(variance.checked_mul(ten_to((i32::from(self.scale) - rounded) as u32)?)?)
    }
}

fn times_ten_to(value: Wide, power: i32) -> Option<Wide> {
    (0..power).try_fold(value, |value, _| value.times(10))
}

/// How many values, their sum and the sum of their squares, that of the squares' halves of 128 bits apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Powers {
    count: i64,
    sum: i256,
    squares_low: i256,
    squares_high: i256,
}

impl Summary for Spread {
    type Columns = ScalarBuffer<i128>;
    type Value = i128;
    type State = Powers;

    fn start(&self) -> Powers {
        Powers::default()
    }

    fn columns(&self, arguments: &[ArrayRef]) -> Result<ScalarBuffer<i128>> {
        let decimals = match arguments[0].data_type() {
            DataType::Decimal128(..) => arguments[0].clone(),
            _ => cast(&arguments[0], &DataType::Decimal128(38, 0))?,
        };
        Ok(decimals.as_primitive::<Decimal128Type>().values().clone())
    }

    #[inline]
    fn value(columns: &ScalarBuffer<i128>, row: usize) -> i128 {
        columns[row]
    }

    fn add(state: &mut Powers, value: i128, weight: i64) {
        let wide_weight = i256::from_i128(weight.into());
        let value = i256::from_i128(value);
        let (low, high) = value.wrapping_mul(value).to_parts();
        let weighted = |amount: i256| if weight == 1 { amount } else { amount.wrapping_mul(wide_weight) };
        state.count += weight;
        state.sum = state.sum.wrapping_add(weighted(value));
        state.squares_low = state.squares_low.wrapping_add(weighted(i256::from_parts(low, 0)));
        state.squares_high = state.squares_high.wrapping_add(weighted(i256::from_i128(high)));
    }

    fn merge(state: &mut Powers, other: &Powers) {
        state.count += other.count;
        state.sum = state.sum.wrapping_add(other.sum);
        state.squares_low = state.squares_low.wrapping_add(other.squares_low);
        state.squares_high = state.squares_high.wrapping_add(other.squares_high);
    }

    fn is_empty(state: &Powers) -> bool {
        state.count == 0 && [state.sum, state.squares_low, state.squares_high].iter().all(|&total| total == i256::ZERO)
    }

    fn results<'a>(&self, states: impl Iterator<Item = &'a Powers>) -> Result<Results> {
        decimals(states.map(|state| self.value(state)), self.precision, self.scale)
    }

    fn write(state: &Powers, out: &mut Vec<u8>) {
        out.extend(state.count.to_le_bytes());
        [state.sum, state.squares_low, state.squares_high].iter().for_each(|total| out.extend(total.to_le_bytes()));
    }

    fn read(&self, mut bytes: &[u8]) -> Option<Powers> {
        let count = i64::from_le_bytes(take(&mut bytes)?);
        let mut total = || take(&mut bytes).map(i256::from_le_bytes);
        Some(Powers { count, sum: total()?, squares_low: total()?, squares_high: total()? })
    }

    fn pack(value: i128) -> [u8; 16] {
        value.to_le_bytes()
    }

    fn unpack(packed: [u8; 16]) -> i128 {
        i128::from_le_bytes(packed)
    }
}
