//! Times as numbers: what operators compare with watermarks, and what rows tell of them.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};

use super::expression::values_or_null;
use crate::catalog::WatermarkDefinition;
use crate::error::{Error, Result};

const US_PER_MS: i64 = 1_000;

/// Microseconds since 1970 of a column of timestamps of any unit or of dates; a bigint counts milliseconds.
pub fn times_us(column: &ArrayRef) -> Result<Int64Array> {
    let instants = match column.data_type() {
        DataType::Int64 => {
            return Ok(column.as_primitive::<Int64Type>().unary(|ms: i64| ms.saturating_mul(US_PER_MS)));
        }
        DataType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?
        }
        DataType::Date32 | DataType::Date64 => cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?,
        _ => column.clone(),
    };
    Ok(cast(&instants, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// The other way, into a column of `data_type`; what is below a millisecond is cut off a bigint.
pub fn times_of(times_us: Int64Array, data_type: &DataType) -> Result<ArrayRef> {
    match data_type {
        DataType::Int64 => Ok(Arc::new(times_us.unary::<_, Int64Type>(|us| us.div_euclid(US_PER_MS)))),
        _ => Ok(cast(&times_us, data_type)?),
    }
}

/// What the rows with these times tell of the watermark, in microseconds: nothing (NULL) where the time or the expression
/// is NULL, or where it fails. Also which rows those are that it fails for, and why.
pub fn told_us(definition: &WatermarkDefinition, times: &ArrayRef) -> Result<(Int64Array, Vec<(usize, Error)>)> {
    match (definition.delay_us, &definition.planned) {
        (Some(0), _) => Ok((times_us(times)?, vec![])),
        (Some(delay_us), _) => Ok((times_us(times)?.unary(|us: i64| us.saturating_sub(delay_us)), vec![])),
        (None, Some(expr)) => {
            let schema = Schema::new(vec![Field::new("time", times.data_type().clone(), true)]);
            let (told, failed) = values_or_null(expr, &RecordBatch::try_new(Arc::new(schema), vec![times.clone()])?)?;
            Ok((times_us(&told)?, failed))
        }
        (None, None) => Err(Error::internal("a watermark expression was not planned")),
    }
}
