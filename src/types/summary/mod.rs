//! What an aggregate keeps of the values it has seen, so that queries and maintained views give the same digits: sums
//! and averages, variance and its kin. Each is exact until its result is made, so the order of the values does not
//! matter, and what is taken back leaves nothing behind.
//!
//! | values | sum | avg | variance, deviation |
//! |---|---|---|---|
//! | int2, int4 | int8 | numeric | numeric |
//! | int8 | numeric(38,0) | numeric | numeric |
//! | numeric(p,s) | numeric(38,s) | numeric | numeric |
//! | float4 | float4 | float8 | float8 |
//! | float8 | float8 | float8 | float8 |
//! | interval | interval | interval | – |

mod floats;
mod intervals;
mod numbers;
mod spread;

#[cfg(test)]
mod tests;

use std::fmt::Debug;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

pub use floats::{FloatStatistic, Floats};
pub use intervals::Intervals;
pub use numbers::{Decimals, Integers};
pub use spread::Spread;

use super::NUMERIC_DEFAULT;
use super::moments::Statistic;
use crate::error::{Error, Result, SqlState};

/// An aggregate over values of one type.
///
/// # Contract
/// States are a commutative group: the order of additions does not matter, and adding with the opposite weight takes back.
pub trait Summary: Clone + Debug + Send + Sync + 'static {
    type Columns;
    type Value: Copy;
    type State: Clone + Debug + Send + Sync;

    fn start(&self) -> Self::State;

    /// The arguments, ready for [`Summary::value`].
    fn columns(&self, arguments: &[ArrayRef]) -> Result<Self::Columns>;

    /// Of a row none of whose arguments is NULL.
    fn value(columns: &Self::Columns, row: usize) -> Self::Value;

    fn add(state: &mut Self::State, value: Self::Value, weight: i64);

    fn merge(state: &mut Self::State, other: &Self::State);

    /// True if it is as at the start.
    fn is_empty(state: &Self::State) -> bool;

    fn results<'a>(&self, states: impl Iterator<Item = &'a Self::State>) -> Result<Results>;

    /// What the state has allocated.
    fn heap_bytes(_state: &Self::State) -> usize {
        0
    }

    fn write(state: &Self::State, out: &mut Vec<u8>);

    /// `None` if the bytes are not those of a state.
    fn read(&self, bytes: &[u8]) -> Option<Self::State>;

    /// Equal for equal values, for DISTINCT.
    fn pack(value: Self::Value) -> [u8; 16];

    fn unpack(packed: [u8; 16]) -> Self::Value;
}

/// Results of some groups. Those that the result type cannot hold are named in `failed` and NULL in `values`.
pub struct Results {
    pub values: ArrayRef,
    pub failed: Vec<(usize, Error)>,
}

impl From<ArrayRef> for Results {
    fn from(values: ArrayRef) -> Results {
        Results { values, failed: vec![] }
    }
}

/// How many values, and their sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Total<T> {
    pub count: i64,
    pub sum: T,
}

/// What is made of the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    Sum,
    Average,
    /// Variance or deviation.
    Spread(Statistic),
}

/// The type of a measure of values of this type; `None` if there is none.
pub fn result_type(measure: Measure, argument: &DataType) -> Option<DataType> {
    let (precision, scale) = NUMERIC_DEFAULT;
    Some(match (measure, argument) {
        (Measure::Sum, DataType::Int16 | DataType::Int32) => DataType::Int64,
        (Measure::Sum, DataType::Int64) => DataType::Decimal128(precision, 0),
        (Measure::Sum, DataType::Decimal128(_, scale)) => DataType::Decimal128(precision, *scale),
        (_, DataType::Int16 | DataType::Int32 | DataType::Int64) => DataType::Decimal128(precision, scale),
        (_, DataType::Decimal128(_, own)) => DataType::Decimal128(precision, scale.max(*own)),
        (Measure::Sum, DataType::Float32) => DataType::Float32,
        (_, DataType::Float32 | DataType::Float64) => DataType::Float64,
        (Measure::Sum | Measure::Average, DataType::Interval(_)) => argument.clone(),
        _ => return None,
    })
}

fn numeric_overflow() -> Error {
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
}

/// The first bytes, taken off.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

/// A decimal's scale where it was declared; what carries a `numeric` without one is no scale of its own.
fn is_declared(scale: i8) -> bool {
    scale != NUMERIC_DEFAULT.1
}
