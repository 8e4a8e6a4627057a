//! sum and avg: a running total and the count of its values, exact under retraction.
//!
//! Integers add up in 128 bits and decimals in 256, so a total never overflows on the way; only a result that its type
//! cannot hold fails. Floats add up in an [`ExactSum`], rounded once when shown.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Array, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, Float64Type, Int64Type, UInt64Type, i256};

use super::{Accumulator, Evaluated};
use crate::error::{Error, Result, SqlState};
use crate::types::ExactSum;

/// `result` is the type that the planner promised.
pub fn sum(argument: &DataType, result: &DataType) -> Result<Box<dyn Accumulator>> {
    match (argument, result) {
        (_, DataType::Int64) if argument.is_integer() => Ok(Running::boxed(Integers::<Int64Type>::sum())),
        (_, DataType::UInt64) if argument.is_integer() => Ok(Running::boxed(Integers::<UInt64Type>::sum())),
        (DataType::Float32 | DataType::Float64, DataType::Float64 | DataType::Float32) => {
            Ok(Running::boxed(Floats { result: result.clone(), average: false }))
        }
        (DataType::Decimal128(_, from), DataType::Decimal128(precision, scale)) => {
            Ok(Running::boxed(Decimals { from: *from, precision: *precision, scale: *scale, average: false }))
        }
        _ => Err(unsupported("sum", argument)),
    }
}

pub fn average(argument: &DataType, result: &DataType) -> Result<Box<dyn Accumulator>> {
    match (argument, result) {
        (_, DataType::Float64) if argument.is_numeric() && !matches!(argument, DataType::Decimal128(_, _)) => {
            Ok(Running::boxed(Floats { result: result.clone(), average: true }))
        }
        (DataType::Decimal128(_, from), DataType::Decimal128(precision, scale)) => {
            Ok(Running::boxed(Decimals { from: *from, precision: *precision, scale: *scale, average: true }))
        }
        _ => Err(unsupported("avg", argument)),
    }
}

fn unsupported(function: &str, argument: &DataType) -> Error {
    let name = crate::types::PgType::of_arrow(argument).name();
    Error::unsupported(
        format!("{function}({name}) in a maintained view"),
        "cast the argument to bigint, numeric or double precision",
    )
}

/// A commutative group of totals, and how a total becomes a result.
trait Arithmetic: Send + 'static {
    type Value: Copy;
    type Total: Clone + Default + Send;

    fn values(&self, column: &ArrayRef) -> Result<Vec<Self::Value>>;
    fn add(total: &mut Self::Total, value: Self::Value, weight: i64);
    fn is_zero(total: &Self::Total) -> bool;
    /// `None`: NULL, for a group without values.
    fn results(&self, totals: Vec<Option<(&Self::Total, i64)>>) -> Result<Evaluated>;
}

struct Running<A: Arithmetic> {
    arithmetic: A,
    totals: Vec<A::Total>,
    /// Non-NULL values of each group.
    counts: Vec<i64>,
}

impl<A: Arithmetic> Running<A> {
    fn boxed(arithmetic: A) -> Box<dyn Accumulator> {
        Box::new(Running { arithmetic, totals: vec![], counts: vec![] })
    }
}

impl<A: Arithmetic> Accumulator for Running<A> {
    fn resize(&mut self, group_count: usize) {
        self.totals.resize(group_count, A::Total::default());
        self.counts.resize(group_count, 0);
    }

    fn update(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[i64]>) -> Result<()> {
        let values = self.arithmetic.values(&arguments[0])?;
        match weights {
            None => {
                for (&group, value) in groups.iter().zip(values) {
                    A::add(&mut self.totals[group as usize], value, 1);
                    self.counts[group as usize] += 1;
                }
            }
            Some(weights) => {
                for ((&group, value), &weight) in groups.iter().zip(values).zip(weights) {
                    A::add(&mut self.totals[group as usize], value, weight);
                    self.counts[group as usize] += weight;
                }
            }
        }
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<Evaluated> {
        let total = |&group: &u32| {
            let count = self.counts[group as usize];
            (count != 0).then_some((&self.totals[group as usize], count))
        };
        self.arithmetic.results(groups.iter().map(total).collect())
    }

    fn is_empty(&self, group: u32) -> bool {
        self.counts[group as usize] == 0 && A::is_zero(&self.totals[group as usize])
    }

    fn clear(&mut self, group: u32) {
        self.totals[group as usize] = A::Total::default();
        self.counts[group as usize] = 0;
    }

    fn memory_bytes(&self) -> usize {
        self.totals.len() * (size_of::<A::Total>() + size_of::<i64>())
    }
}

/// Integer totals shown as `T`.
struct Integers<T>(std::marker::PhantomData<T>);

impl<T> Integers<T> {
    fn sum() -> Integers<T> {
        Integers(std::marker::PhantomData)
    }
}

impl<T: ArrowPrimitiveType + Send> Arithmetic for Integers<T>
where
    T::Native: TryFrom<i128>,
{
    type Value = i64;
    type Total = i128;

    fn values(&self, column: &ArrayRef) -> Result<Vec<i64>> {
        Ok(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().values().to_vec())
    }

    fn add(total: &mut i128, value: i64, weight: i64) {
        *total += value as i128 * weight as i128;
    }

    fn is_zero(total: &i128) -> bool {
        *total == 0
    }

    fn results(&self, totals: Vec<Option<(&i128, i64)>>) -> Result<Evaluated> {
        let mut failed = vec![];
        let values: PrimitiveArray<T> = totals
            .into_iter()
            .enumerate()
            .map(|(place, total)| match T::Native::try_from(*total?.0) {
                Ok(value) => Some(value),
                Err(_) => {
                    failed.push((place, Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range")));
                    None
                }
            })
            .collect();
        Ok(Evaluated { values: Arc::new(values), failed })
    }
}

/// Float totals; `average` divides by the count.
struct Floats {
    result: DataType,
    average: bool,
}

impl Arithmetic for Floats {
    type Value = f64;
    type Total = ExactSum;

    fn values(&self, column: &ArrayRef) -> Result<Vec<f64>> {
        Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().values().to_vec())
    }

    fn add(total: &mut ExactSum, value: f64, weight: i64) {
        total.add(value, weight);
    }

    fn is_zero(total: &ExactSum) -> bool {
        total.is_empty()
    }

    fn results(&self, totals: Vec<Option<(&ExactSum, i64)>>) -> Result<Evaluated> {
        let value =
            |(total, count): (&ExactSum, i64)| if self.average { total.value() / count as f64 } else { total.value() };
        let values: PrimitiveArray<Float64Type> = totals.into_iter().map(|total| total.map(value)).collect();
        Ok(Evaluated::from(cast(&values, &self.result)?))
    }
}

/// Decimal totals at the argument's scale, shown at the result's.
struct Decimals {
    from: i8,
    precision: u8,
    scale: i8,
    average: bool,
}

impl Decimals {
    /// `None` if the result does not fit. An average is cut, not rounded, at the result's scale, as DataFusion cuts it.
    fn result(&self, total: i256, count: i64) -> Option<i128> {
        let shift = u32::try_from(self.scale as i32 - self.from as i32).ok()?;
        let scaled = total.checked_mul(i256::from_i128(10).checked_pow(shift)?)?;
        let value = if self.average { scaled.checked_div(i256::from_i128(count as i128))? } else { scaled };
        let value = value.to_i128()?;
        Decimal128Type::validate_decimal_precision(value, self.precision, self.scale).ok()?;
        Some(value)
    }
}

impl Arithmetic for Decimals {
    type Value = i128;
    type Total = i256;

    fn values(&self, column: &ArrayRef) -> Result<Vec<i128>> {
        Ok(column.as_primitive::<Decimal128Type>().values().to_vec())
    }

    fn add(total: &mut i256, value: i128, weight: i64) {
        // 2^127 · 2^63 rows fit 256 bits.
        let product = i256::from_i128(value).wrapping_mul(i256::from_i128(weight as i128));
        *total = total.wrapping_add(product);
    }

    fn is_zero(total: &i256) -> bool {
        *total == i256::ZERO
    }

    fn results(&self, totals: Vec<Option<(&i256, i64)>>) -> Result<Evaluated> {
        let mut failed = vec![];
        let values: Decimal128Array = totals
            .into_iter()
            .enumerate()
            .map(|(place, total)| {
                let (total, count) = total?;
                let value = self.result(*total, count);
                if value.is_none() {
                    failed.push((place, Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow")));
                }
                value
            })
            .collect();
        let values = values.with_precision_and_scale(self.precision, self.scale)?;
        Ok(Evaluated { values: Arc::new(values), failed })
    }
}
