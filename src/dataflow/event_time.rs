//! Times as numbers: what operators compare with watermarks.

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};

use crate::error::Result;

/// Microseconds since 1970 of a column of timestamps of any unit.
pub fn times_us(column: &ArrayRef) -> Result<Int64Array> {
    let instants = match column.data_type() {
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?
        }
        _ => column.clone(),
    };
    Ok(cast(&instants, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}
