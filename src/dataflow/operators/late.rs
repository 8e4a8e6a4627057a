//! ΔL(A): the rows of ΔA that are not late. Nothing is kept.
//!
//! A row is late if its time is older than what was closed when it arrived: the function of [`TimeColumn::closed_below`]
//! over the watermark that its relation had just before the row (a column of the row), whatever the relations that a union
//! puts beside it have come to. So it depends neither on how rows were batched nor on the worker.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{max, min, not};
use arrow::datatypes::{Int64Type, SchemaRef};

use super::only;
use crate::dataflow::event_time::times_us;
use crate::dataflow::{Durable, EpochContext, Operator};
use crate::error::Result;
use crate::plan::{Late, LateRows, TimeColumn};
use crate::types::Delta;

pub struct LateOperator {
    late: Late,
    /// How many of the input's columns come out.
    width: usize,
    schema: SchemaRef,
}

impl LateOperator {
    pub fn new(late: Late, width: usize, schema: SchemaRef) -> LateOperator {
        LateOperator { late, width, schema }
    }

    /// True for each row that is late; `None` if none is.
    fn late_rows(&self, delta: &Delta, context: &EpochContext) -> Result<Option<BooleanArray>> {
        let before = &context.watermarks_before;
        let times = times_us(delta.column(self.late.time.column))?;
        let time = &self.late.time;
        let Some(arrival) = self.late.arrival else {
            return Ok(time.closed_at(before).and_then(|bound| older(&times, |_| Some(bound))));
        };
        // What was closed for a row that arrived at this watermark.
        let bound = |arrived: Option<i64>| time.closed_for(arrived, before);
        let arrivals = delta.column(arrival.column).as_primitive::<Int64Type>();
        let highest = bound(max(arrivals));
        let lowest = if arrivals.null_count() == 0 { bound(min(arrivals)) } else { bound(None) };
        if highest == lowest {
            return Ok(highest.and_then(|bound| older(&times, |_| Some(bound))));
        }
        // Few rows are older than the newest of them would allow.
        let arrived = |row: usize| arrivals.is_valid(row).then(|| arrivals.value(row));
        Ok(older(&times, |row| {
            let is_near = highest.is_some_and(|highest| times.value(row) < highest);
            if is_near { bound(arrived(row)) } else { None }
        }))
    }

    /// The late rows with the arrival behind: what they missed is the watermark that made them late.
    fn shown(&self, delta: &Delta, context: &EpochContext) -> Result<Delta> {
        let mut columns: Vec<ArrayRef> = delta.batch().columns()[..self.width].to_vec();
        match self.late.arrival {
            Some(arrival) => {
                let before = self.late.time.watermark.least_of_relations(&context.watermarks_before);
                let own = delta.column(arrival.column).as_primitive::<Int64Type>();
                let watermarks: Int64Array = own.iter().map(|own| own.max(before)).collect();
                columns.extend([Arc::new(watermarks) as ArrayRef, delta.column(arrival.column + 1).clone()]);
            }
            None => {
                let time = TimeColumn { lateness_us: 0, ..self.late.time.clone() };
                let bound = time.closed_at(&context.watermarks_before);
                let unknown = Int64Array::new_null(delta.row_count());
                let bounds = Int64Array::from_iter((0..delta.row_count()).map(|_| bound));
                columns.extend([Arc::new(bounds) as ArrayRef, Arc::new(unknown)]);
            }
        }
        Ok(delta.with_batch(RecordBatch::try_new(self.schema.clone(), columns)?))
    }
}

/// Rows older than their bound; a row without a time or a bound is not.
fn older(times: &Int64Array, bound: impl Fn(usize) -> Option<i64>) -> Option<BooleanArray> {
    let is_late = |row: usize| times.is_valid(row) && bound(row).is_some_and(|bound| times.value(row) < bound);
    let late: Vec<bool> = (0..times.len()).map(is_late).collect();
    late.contains(&true).then(|| BooleanArray::from(late))
}

impl Operator for LateOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let mut output = vec![];
        let columns: Vec<usize> = (0..self.width).collect();
        for delta in only(inputs) {
            let late = self.late_rows(&delta, context)?;
            match (self.late.rows, late) {
                (LateRows::Drop, None) => output.push(delta.project(&columns)?),
                (LateRows::Drop, Some(late)) => {
                    let watermark = &self.late.time.watermark;
                    let relation = self.late.arrival.map(|arrival| arrival.relation);
                    if let Some(relation) = relation.or_else(|| watermark.relations().first().copied()) {
                        *context.late_row_counts.entry(relation).or_default() += late.true_count() as u64;
                    }
                    output.push(delta.project(&columns)?.filter(&not(&late)?)?);
                }
                (LateRows::Only, None) => {}
                (LateRows::Only, Some(late)) => output.push(self.shown(&delta.filter(&late)?, context)?),
            }
        }
        Ok(output)
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        None
    }
}
