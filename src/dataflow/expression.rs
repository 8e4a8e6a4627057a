//! Evaluating expressions over a delta when some rows may fail.
//!
//! The whole batch is tried first. If that fails, it is halved until the failing rows stand alone: k failing rows of n
//! cost O(k log n) evaluations, and none is lost from sight.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::concat;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::physical_expr::PhysicalExpr;

use super::{EpochContext, Failed};
use crate::error::{Error, Result};
use crate::types::{Delta, RowError};

/// Values of `exprs` for the rows of `delta` that did not fail, with those rows.
pub fn evaluate(
    exprs: &[Arc<dyn PhysicalExpr>],
    delta: &Delta,
    context: &mut EpochContext,
) -> Result<(Delta, Vec<ArrayRef>)> {
    match values(exprs, delta.batch()) {
        Ok(columns) => Ok((delta.clone(), columns)),
        Err(_) => {
            let mut good = vec![];
            split(exprs, delta, 0, delta.row_count(), &mut good, context);
            let delta = delta.take(&UInt32Array::from(good))?;
            let columns = values(exprs, delta.batch())?;
            Ok((delta, columns))
        }
    }
}

/// A Boolean for each row of `delta`; NULL where the predicate failed, which is reported.
pub fn evaluate_mask(
    predicate: &Arc<dyn PhysicalExpr>,
    delta: &Delta,
    context: &mut EpochContext,
) -> Result<BooleanArray> {
    let exprs = std::slice::from_ref(predicate);
    if let Ok(columns) = values(exprs, delta.batch()) {
        return Ok(columns[0].as_boolean().clone());
    }
    let mut good = vec![];
    split(exprs, delta, 0, delta.row_count(), &mut good, context);
    let rows = UInt32Array::from(good);
    let columns = values(exprs, delta.take(&rows)?.batch())?;
    let mut mask = vec![None; delta.row_count()];
    for (&row, value) in rows.values().iter().zip(columns[0].as_boolean()) {
        mask[row as usize] = value;
    }
    Ok(mask.into())
}

/// The expression for each row, NULL where it fails; with the rows for which it does, ascending, and why.
pub fn values_or_null(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<(ArrayRef, Failed)> {
    let row_count = batch.num_rows();
    let error = match values(std::slice::from_ref(expr), batch) {
        Ok(mut columns) => return Ok((columns.remove(0), vec![])),
        Err(error) => error,
    };
    if row_count <= 1 {
        return Ok((new_null_array(&expr.data_type(&batch.schema())?, row_count), vec![(0, error)]));
    }
    let half = row_count / 2;
    let (first, mut failed) = values_or_null(expr, &batch.slice(0, half))?;
    let (second, later) = values_or_null(expr, &batch.slice(half, row_count - half))?;
    failed.extend(later.into_iter().map(|(row, error)| (row + half, error)));
    Ok((concat(&[first.as_ref(), second.as_ref()])?, failed))
}

fn values(exprs: &[Arc<dyn PhysicalExpr>], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let row_count = batch.num_rows();
    exprs.iter().map(|expr| Ok(expr.evaluate(batch)?.into_array(row_count)?)).collect()
}

/// Appends the rows of `[start, start + length)` that evaluate to `good`; reports the others.
fn split(
    exprs: &[Arc<dyn PhysicalExpr>],
    delta: &Delta,
    start: usize,
    length: usize,
    good: &mut Vec<u32>,
    context: &mut EpochContext,
) {
    if length == 0 {
        return;
    }
    match values(exprs, &delta.batch().slice(start, length)) {
        Ok(_) => good.extend(start as u32..(start + length) as u32),
        Err(error) if length == 1 => context.errors.push(row_error(&error, delta, start)),
        Err(_) => {
            let half = length / 2;
            split(exprs, delta, start, half, good, context);
            split(exprs, delta, start + half, length - half, good, context);
        }
    }
}

/// How the error relation shows the failing row.
pub fn row_error(error: &Error, delta: &Delta, row: usize) -> RowError {
    RowError { reason: error.to_string(), row: row_text(delta.batch(), row), weight: delta.weight(row) }
}

/// `(1,apple,NULL)`, cut to a bounded length.
pub fn row_text(batch: &RecordBatch, row: usize) -> String {
    const TEXT_BYTES_MAX: usize = 1024;
    let options = FormatOptions::default().with_null("NULL");
    let mut text = String::from("(");
    for (index, column) in batch.columns().iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        match ArrayFormatter::try_new(column.as_ref(), &options) {
            Ok(formatter) if row < column.len() => text.push_str(&formatter.value(row).to_string()),
            _ => text.push('?'),
        }
        if text.len() > TEXT_BYTES_MAX {
            let cut = (0..=TEXT_BYTES_MAX).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
            text.truncate(cut);
            text.push('…');
            break;
        }
    }
    text.push(')');
    text
}
