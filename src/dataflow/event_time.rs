//! What rows tell of a watermark, and their times as numbers to compare with it.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{Field, Schema};

use super::Failed;
use super::expression::values_or_null;
use crate::catalog::WatermarkDefinition;
use crate::error::{Error, Result};
pub use crate::types::times::{times_of, times_us};

/// What the rows with these times tell of the watermark, in microseconds: nothing (NULL) where the time or the expression
/// is NULL, or where it fails. Also which rows those are that it fails for, and why.
pub fn told_us(definition: &WatermarkDefinition, times: &ArrayRef) -> Result<(Int64Array, Failed)> {
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
