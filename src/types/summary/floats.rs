//! Sums, averages and statistics of floats: exact sums, rounded once.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::{Measure, Results, Summary, Total, result_type, take};
use crate::error::Result;
use crate::types::ExactSum;
use crate::types::moments::{Moments, Statistic};

fn floats(column: &ArrayRef) -> Result<ScalarBuffer<f64>> {
    Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().values().clone())
}

/// Zero has one sign and NaN one form.
fn packed(value: f64) -> [u8; 8] {
    if value.is_nan() { f64::NAN.to_le_bytes() } else { (value + 0.0).to_le_bytes() }
}

#[derive(Clone, Debug)]
pub struct Floats {
    average: bool,
    result: DataType,
}

impl Floats {
    pub fn new(measure: Measure, argument: &DataType) -> Option<Floats> {
        let result = result_type(measure, argument)?;
        argument.is_floating().then_some(Floats { average: measure == Measure::Average, result })
    }
}

impl Summary for Floats {
    type Columns = ScalarBuffer<f64>;
    type Value = f64;
    type State = Total<ExactSum>;

    fn start(&self) -> Total<ExactSum> {
        Total::default()
    }

    fn columns(&self, arguments: &[ArrayRef]) -> Result<ScalarBuffer<f64>> {
        floats(&arguments[0])
    }

    #[inline]
    fn value(columns: &ScalarBuffer<f64>, row: usize) -> f64 {
        columns[row]
    }

    #[inline]
    fn add(state: &mut Total<ExactSum>, value: f64, weight: i64) {
        state.count += weight;
        state.sum.add(value, weight);
    }

    fn merge(state: &mut Total<ExactSum>, other: &Total<ExactSum>) {
        state.count += other.count;
        state.sum.merge(&other.sum);
    }

    fn is_empty(state: &Total<ExactSum>) -> bool {
        state.count == 0 && state.sum.is_empty()
    }

    fn results<'a>(&self, states: impl Iterator<Item = &'a Total<ExactSum>>) -> Result<Results> {
        let value = |state: &'a Total<ExactSum>| {
            let sum = (state.count != 0).then(|| state.sum.value())?;
            Some(if self.average { sum / state.count as f64 } else { sum })
        };
        let values: ArrayRef = Arc::new(states.map(value).collect::<Float64Array>());
        Ok(Results::from(cast(&values, &self.result)?))
    }

    fn heap_bytes(state: &Total<ExactSum>) -> usize {
        state.sum.memory_bytes().saturating_sub(size_of::<ExactSum>())
    }

    fn write(state: &Total<ExactSum>, out: &mut Vec<u8>) {
        out.extend(state.count.to_le_bytes());
        state.sum.write(out);
    }

    fn read(&self, mut bytes: &[u8]) -> Option<Total<ExactSum>> {
        Some(Total { count: i64::from_le_bytes(take(&mut bytes)?), sum: ExactSum::read(&mut bytes)? })
    }

    fn pack(value: f64) -> [u8; 16] {
        let mut pair = [0; 16];
        pair[..8].copy_from_slice(&packed(value));
        pair
    }

    fn unpack(packed: [u8; 16]) -> f64 {
        f64::from_bits(u128::from_le_bytes(packed) as u64)
    }
}

/// Of one argument X, or of two: Y, then X.
#[derive(Clone, Debug)]
pub struct FloatStatistic(pub Statistic);

impl Summary for FloatStatistic {
    /// Y and X.
    type Columns = (ScalarBuffer<f64>, ScalarBuffer<f64>);
    type Value = (f64, f64);
    type State = Moments;

    fn start(&self) -> Moments {
        Moments::new(self.0)
    }

    fn columns(&self, arguments: &[ArrayRef]) -> Result<Self::Columns> {
        Ok((floats(&arguments[0])?, floats(&arguments[arguments.len() - 1])?))
    }

    fn value(columns: &Self::Columns, row: usize) -> (f64, f64) {
        (columns.0[row], columns.1[row])
    }

    fn add(state: &mut Moments, (y, x): (f64, f64), weight: i64) {
        state.add(x, y, weight);
    }

    fn merge(state: &mut Moments, other: &Moments) {
        state.merge(other);
    }

    fn is_empty(state: &Moments) -> bool {
        state.is_empty()
    }

    fn results<'a>(&self, states: impl Iterator<Item = &'a Moments>) -> Result<Results> {
        let values: Float64Array = states.map(Moments::value).collect();
        Ok(Results::from(Arc::new(values) as ArrayRef))
    }

    fn heap_bytes(state: &Moments) -> usize {
        state.memory_bytes().saturating_sub(size_of::<Moments>())
    }

    fn write(state: &Moments, out: &mut Vec<u8>) {
        state.write(out);
    }

    fn read(&self, bytes: &[u8]) -> Option<Moments> {
        Moments::read(self.0, bytes)
    }

    fn pack((y, x): (f64, f64)) -> [u8; 16] {
        let mut pair = [0; 16];
        pair[..8].copy_from_slice(&packed(y));
        pair[8..].copy_from_slice(&packed(x));
        pair
    }

    fn unpack(packed: [u8; 16]) -> (f64, f64) {
        let pair = u128::from_le_bytes(packed);
        (f64::from_bits(pair as u64), f64::from_bits((pair >> 64) as u64))
    }
}
