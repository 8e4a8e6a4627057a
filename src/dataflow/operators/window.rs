//! ΔW(A) = W(ΔA): assigning rows to windows of event time is linear and keeps nothing.
//!
//! A row of time t belongs to the windows [s, e) with s ≤ t < e, where s = offset + n · slide and e = s + size, or, where
//! windows cumulate, e = s + k · step up to the size; a tumbling window is a hopping one whose slide is its size. Rows whose
//! time is NULL belong to none. Buckets of a band join are the
//! same over any axis.

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use super::only;
use crate::dataflow::event_time::{times_of, times_us};
use crate::dataflow::{Durable, EpochContext, Operator};
use crate::error::Result;
use crate::plan::Window;
use crate::types::Delta;

pub struct WindowOperator {
    time_column: usize,
    window: Window,
    keyless: Keyless,
    /// The input's columns, then `window_start` and `window_end`.
    schema: SchemaRef,
}

/// What becomes of a row that belongs to no window because its time is NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyless {
    Drop,
    /// It comes out once, without a window.
    Keep,
}

impl WindowOperator {
    /// The time column is a timestamp, a bigint of milliseconds, or (where those without are kept) a whole number on whose axis the windows are buckets.
    pub fn new(time_column: usize, window: Window, keyless: Keyless, schema: SchemaRef) -> WindowOperator {
        assert!(window.slide_us() > 0 && window.size_us() > 0, "windows have a positive size and slide");
        WindowOperator { time_column, window, keyless, schema }
    }

    fn assign(&self, delta: &Delta) -> Result<Delta> {
        // An axis has no unit; times have.
        let times = match self.keyless {
            Keyless::Drop => times_us(delta.column(self.time_column))?,
            Keyless::Keep => {
                cast(delta.column(self.time_column), &DataType::Int64)?.as_primitive::<Int64Type>().clone()
            }
        };
        let is_tumbling = matches!(self.window, Window::Tumble { .. });
        let (delta, starts, ends) = if is_tumbling && times.null_count() == 0 {
            let size_us = self.window.size_us();
            let starts: Int64Array = times.values().iter().map(|&time| Some(self.window.last_start(time))).collect();
            let ends = starts.unary(|start| start.saturating_add(size_us));
            (delta.clone(), starts, ends)
        } else {
            let (mut rows, mut starts, mut ends) = (vec![], vec![], vec![]);
            for row in 0..times.len() {
                if times.is_null(row) {
                    if self.keyless == Keyless::Keep {
                        rows.push(row as u32);
                        starts.push(None);
                        ends.push(None);
                    }
                    continue;
                }
                for (start, end) in self.window.bounds(times.value(row)) {
                    rows.push(row as u32);
                    starts.push(Some(start));
                    ends.push(Some(end));
                }
            }
            (delta.take(&UInt32Array::from(rows))?, Int64Array::from(starts), Int64Array::from(ends))
        };
        let window_type = self.schema.field(self.schema.fields().len() - 1).data_type();
        let mut columns = delta.batch().columns().to_vec();
        for bounds in [starts, ends] {
            columns.push(match self.keyless {
                Keyless::Drop => times_of(bounds, window_type)?,
                Keyless::Keep => cast(&bounds, window_type)?,
            });
        }
        Ok(delta.with_batch(RecordBatch::try_new(self.schema.clone(), columns)?))
    }
}

impl Operator for WindowOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, _: &mut EpochContext) -> Result<Vec<Delta>> {
        only(inputs).iter().map(|delta| self.assign(delta)).collect()
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        None
    }
}
