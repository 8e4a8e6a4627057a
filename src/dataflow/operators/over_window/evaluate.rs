//! Results of all calls for the rows of a region.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, RecordBatch, new_empty_array, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::DataType;

use super::{OverWindowOperator, Rows};
use crate::dataflow::ordered_rows::Place;
use crate::error::Result;
use crate::plan::{Reach, WindowCall};

/// Results of some rows; those that failed are named, ascending, and NULL in `values`.
pub(super) struct Evaluated {
    pub values: ArrayRef,
    pub failures: Vec<(usize, Box<str>)>,
}

impl<A: Array + 'static> From<A> for Evaluated {
    fn from(values: A) -> Evaluated {
        Evaluated { values: std::sync::Arc::new(values), failures: vec![] }
    }
}

impl Evaluated {
    pub fn failed(data_type: &DataType, row_count: usize, reason: &str) -> Evaluated {
        let failures = (0..row_count).map(|row| (row, reason.into())).collect();
        Evaluated { values: new_null_array(data_type, row_count), failures }
    }
}

/// Rows that fail, with why.
pub(super) type Failures = Vec<(usize, Box<str>)>;

impl OverWindowOperator {
    /// One column for each call, and which rows fail, with why; ascending, each row once.
    pub(super) fn evaluate(&self, rows: &Rows, region: &Range<Place>) -> Result<(Vec<ArrayRef>, Failures)> {
        if rows.range(region.start, region.end).all(|entry| entry.row_count() == 0) {
            let empty = |call: &WindowCall| Ok(new_empty_array(call.expr.field()?.data_type()));
            return Ok((self.calls.iter().map(empty).collect::<Result<_>>()?, vec![]));
        }
        // One batch that holds what any call needs.
        let mut spans = vec![];
        for call in &self.calls {
            spans.push(self.seen_by(rows, region, &call.reach)?);
        }
        let start = spans.iter().map(|span| span.start).fold(region.start, Ord::min);
        let end = spans.iter().map(|span| span.end).fold(region.end, Ord::max);
        let batch = self.rows_between(rows, start, end)?;
        let base = rows.position(start);
        let within = |span: &Range<Place>| {
            (rows.position(span.start) - base) as usize..(rows.position(span.end) - base) as usize
        };
        let region_rows = within(region);

        let (mut columns, mut failures) = (vec![], vec![]);
        for (call, span) in self.calls.iter().zip(&spans) {
            let rows_seen = within(span);
            let slice = batch.slice(rows_seen.start, rows_seen.len());
            let wanted = region_rows.start - rows_seen.start..region_rows.end - rows_seen.start;
            let evaluated = match call.reach {
                Reach::Running(running) => self.evaluate_running(rows, call, running, &wanted, span, &slice)?,
                _ => match evaluate_slice(call, &slice, &wanted) {
                    Ok(values) => Evaluated { values, failures: vec![] },
                    Err(error) => self.apart(rows, call, &batch, base, &region_rows, &error.to_string())?,
                },
            };
            columns.push(evaluated.values);
            failures.extend(evaluated.failures);
        }
        failures.sort_by_key(|(row, _)| *row);
        failures.dedup_by_key(|(row, _)| *row);
        Ok((columns, failures))
    }

    /// Some row fails: halves the rows until the failing ones stand alone, each with what it sees. `wanted` counts from
    /// the row that `batch` starts with, which is the partition's row number `base`.
    fn apart(
        &self,
        rows: &Rows,
        call: &WindowCall,
        batch: &RecordBatch,
        base: u64,
        wanted: &Range<usize>,
        reason: &str,
    ) -> Result<Evaluated> {
        if call.reach == Reach::Partition || wanted.len() <= 1 {
            return Ok(Evaluated::failed(call.expr.field()?.data_type(), wanted.len(), reason));
        }
        let middle = wanted.start + wanted.len() / 2;
        let (mut columns, mut failures): (Vec<ArrayRef>, _) = (vec![], vec![]);
        for half in [wanted.start..middle, middle..wanted.end] {
            let first = rows.at(base + half.start as u64).0;
            let last = rows.at(base + half.end as u64 - 1).0;
            let span = self.seen_by(rows, &(first..rows.after(last)), &call.reach)?;
            let from = (rows.position(span.start) - base) as usize;
            let to = (rows.position(span.end) - base) as usize;
            let slice = batch.slice(from, to - from);
            let evaluated = match evaluate_slice(call, &slice, &(half.start - from..half.end - from)) {
                Ok(values) => Evaluated { values, failures: vec![] },
                Err(error) => self.apart(rows, call, batch, base, &half, &error.to_string())?,
            };
            let offset = half.start - wanted.start;
            failures.extend(evaluated.failures.into_iter().map(|(row, reason)| (row + offset, reason)));
            columns.push(evaluated.values);
        }
        let values = concat(&columns.iter().map(|column| column.as_ref()).collect::<Vec<_>>())?;
        Ok(Evaluated { values, failures })
    }

    /// The rows of these places as columns, each as often as it is there.
    pub(super) fn rows_between(&self, rows: &Rows, start: Place, end: Place) -> Result<RecordBatch> {
        let entries = rows.range(start, end);
        self.order.batch(entries.flat_map(|entry| (0..entry.row_count()).map(|_| entry.row())))
    }

    pub(super) fn no_rows(&self) -> RecordBatch {
        RecordBatch::new_empty(self.order.schema().clone())
    }
}

/// The call over the rows of `slice`, of which only those of `wanted` count.
fn evaluate_slice(call: &WindowCall, slice: &RecordBatch, wanted: &Range<usize>) -> Result<ArrayRef> {
    if wanted.is_empty() {
        return Ok(new_empty_array(call.expr.field()?.data_type()));
    }
    let values = call.expr.evaluate(slice)?;
    Ok(values.slice(wanted.start, wanted.len()))
}
