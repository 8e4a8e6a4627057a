//! Sums and averages of integers, in 128 bits, and of decimals, in 256: more than any number of rows adds up to.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Int64Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, i256};

use super::{Measure, Results, Summary, Total, is_declared, numeric_overflow, result_type, take};
use crate::error::{Error, Result, SqlState};
use crate::types::quotient::{Number, divided, fitting};

/// Decimals at `scale`; those that do not fit fail.
pub(super) fn decimals(
    values: impl Iterator<Item = Option<Option<i128>>>,
    precision: u8,
    scale: i8,
) -> Result<Results> {
    let mut failed = vec![];
    let values: Decimal128Array = values
        .enumerate()
        .map(|(place, value)| {
            let value = value?;
            if value.is_none() {
                failed.push((place, numeric_overflow()));
            }
            value
        })
        .collect();
    Ok(Results { values: Arc::new(values.with_precision_and_scale(precision, scale)?), failed })
}

#[derive(Clone, Debug)]
pub struct Integers {
    average: bool,
    result: DataType,
}

impl Integers {
    pub fn new(measure: Measure, argument: &DataType) -> Option<Integers> {
        let result = result_type(measure, argument)?;
        argument.is_integer().then_some(Integers { average: measure == Measure::Average, result })
    }

    /// As the type that a plan promises: bigint or numeric.
    pub fn shown_as(self, result: &DataType) -> Integers {
        Integers { result: result.clone(), ..self }
    }
}

impl Summary for Integers {
    type Columns = ScalarBuffer<i64>;
    type Value = i64;
    type State = Total<i128>;

    fn start(&self) -> Total<i128> {
        Total::default()
    }

    fn columns(&self, arguments: &[ArrayRef]) -> Result<ScalarBuffer<i64>> {
        Ok(cast(&arguments[0], &DataType::Int64)?.as_primitive::<Int64Type>().values().clone())
    }

    #[inline]
    fn value(columns: &ScalarBuffer<i64>, row: usize) -> i64 {
        columns[row]
    }

    #[inline]
    fn add(state: &mut Total<i128>, value: i64, weight: i64) {
        state.count += weight;
        state.sum += i128::from(value) * i128::from(weight);
    }

    fn merge(state: &mut Total<i128>, other: &Total<i128>) {
        state.count += other.count;
        state.sum += other.sum;
    }

    fn is_empty(state: &Total<i128>) -> bool {
        state.count == 0 && state.sum == 0
    }

    fn results<'a>(&self, states: impl Iterator<Item = &'a Total<i128>>) -> Result<Results> {
        let present = |state: &'a Total<i128>| (state.count != 0).then_some(state);
        let DataType::Decimal128(precision, scale) = self.result else {
            let mut failed = vec![];
            let bigint = |(place, state): (usize, &'a Total<i128>)| {
                let value = i64::try_from(present(state)?.sum);
                if value.is_err() {
                    failed.push((place, Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range")));
                }
                value.ok()
            };
            let values: Int64Array = states.enumerate().map(bigint).collect();
            return Ok(Results { values: Arc::new(values), failed });
        };
        let value = |state: &Total<i128>| match self.average {
            true => {
                let sum = Number::new(i256::from_i128(state.sum), 0, true);
                divided(sum, Number::integer(state.count), scale)
            }
            false => fitting(i256::from_i128(state.sum)),
        };
        decimals(states.map(|state| present(state).map(value)), precision, scale)
    }

    fn write(state: &Total<i128>, out: &mut Vec<u8>) {
        out.extend(state.count.to_le_bytes());
        out.extend(state.sum.to_le_bytes());
    }

    fn read(&self, mut bytes: &[u8]) -> Option<Total<i128>> {
        Some(Total { count: i64::from_le_bytes(take(&mut bytes)?), sum: i128::from_le_bytes(take(&mut bytes)?) })
    }

    fn pack(value: i64) -> [u8; 16] {
        i128::from(value).to_le_bytes()
    }

    fn unpack(packed: [u8; 16]) -> i64 {
        i128::from_le_bytes(packed) as i64
    }
}

/// Totals at the argument's scale.
#[derive(Clone, Debug)]
pub struct Decimals {
    from: i8,
    average: bool,
    precision: u8,
    scale: i8,
}

impl Decimals {
    pub fn new(measure: Measure, argument: &DataType) -> Option<Decimals> {
        let (DataType::Decimal128(_, from), DataType::Decimal128(precision, scale)) =
            (argument, result_type(measure, argument)?)
        else {
            return None;
        };
        Some(Decimals { from: *from, average: measure == Measure::Average, precision, scale })
    }
}

impl Summary for Decimals {
    type Columns = ScalarBuffer<i128>;
    type Value = i128;
    type State = Total<i256>;

    fn start(&self) -> Total<i256> {
        Total::default()
    }

    fn columns(&self, arguments: &[ArrayRef]) -> Result<ScalarBuffer<i128>> {
        Ok(arguments[0].as_primitive::<Decimal128Type>().values().clone())
    }

    #[inline]
    fn value(columns: &ScalarBuffer<i128>, row: usize) -> i128 {
        columns[row]
    }

    #[inline]
    fn add(state: &mut Total<i256>, value: i128, weight: i64) {
        state.count += weight;
        let mut amount = i256::from_i128(value);
        // 2^127 · 2^63 rows fit 256 bits.
        if weight != 1 {
            amount = amount.wrapping_mul(i256::from_i128(weight.into()));
        }
        state.sum = state.sum.wrapping_add(amount);
    }

    fn merge(state: &mut Total<i256>, other: &Total<i256>) {
        state.count += other.count;
        state.sum = state.sum.wrapping_add(other.sum);
    }

    fn is_empty(state: &Total<i256>) -> bool {
        state.count == 0 && state.sum == i256::ZERO
    }

    fn results<'a>(&self, states: impl Iterator<Item = &'a Total<i256>>) -> Result<Results> {
        let value = |state: &Total<i256>| match self.average {
            true => {
                let sum = Number::new(state.sum, self.from, is_declared(self.from));
                divided(sum, Number::integer(state.count), self.scale)
            }
            false => fitting(state.sum),
        };
        decimals(states.map(|state| (state.count != 0).then(|| value(state))), self.precision, self.scale)
    }

    fn write(state: &Total<i256>, out: &mut Vec<u8>) {
        out.extend(state.count.to_le_bytes());
        out.extend(state.sum.to_le_bytes());
    }

    fn read(&self, mut bytes: &[u8]) -> Option<Total<i256>> {
        Some(Total { count: i64::from_le_bytes(take(&mut bytes)?), sum: i256::from_le_bytes(take(&mut bytes)?) })
    }

    fn pack(value: i128) -> [u8; 16] {
        value.to_le_bytes()
    }

    fn unpack(packed: [u8; 16]) -> i128 {
        i128::from_le_bytes(packed)
    }
}
