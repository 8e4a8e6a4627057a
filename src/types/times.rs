//! Times as numbers, and numbers that stand for times.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};

use crate::error::Result;

const US_PER_MS: i64 = 1_000;

/// Microseconds since 1970 of a column of timestamps of any unit or of dates; a number counts milliseconds, and what it has
/// behind the point is cut off. It keeps the order of the column's values.
pub fn times_us(column: &ArrayRef) -> Result<Int64Array> {
    let milliseconds = |column: &ArrayRef| {
        let numbers = column.as_primitive::<Int64Type>();
        numbers.unary(|ms: i64| ms.saturating_mul(US_PER_MS))
    };
    let instants = match column.data_type() {
        DataType::Int64 => return Ok(milliseconds(column)),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt32 => {
            return Ok(milliseconds(&cast(column, &DataType::Int64)?));
        }
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            let numbers = cast(column, &DataType::Float64)?;
            // A cast to an integer saturates.
            return Ok(numbers
                .as_primitive::<Float64Type>()
                .unary(|ms: f64| (ms.floor() as i64).saturating_mul(US_PER_MS)));
        }
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?
        }
        DataType::Date32 | DataType::Date64 => cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?,
        _ => column.clone(),
    };
    Ok(cast(&instants, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// The other way, into a column of `data_type`: the latest value that is not after the time.
pub fn times_of(times_us: Int64Array, data_type: &DataType) -> Result<ArrayRef> {
    let milliseconds = || Int64Array::from_iter(times_us.iter().map(|us| us.map(|us| us.div_euclid(US_PER_MS))));
    match data_type {
        DataType::Int64 => Ok(Arc::new(milliseconds())),
        other if other.is_numeric() => Ok(cast(&milliseconds(), other)?),
        DataType::Date32 => {
            const DAY_US: i64 = 86_400_000_000;
            let days: Int64Array = times_us.unary(|us: i64| us.div_euclid(DAY_US));
            Ok(cast(&cast(&days, &DataType::Int32)?, &DataType::Date32)?)
        }
        _ => Ok(cast(&times_us, data_type)?),
    }
}
