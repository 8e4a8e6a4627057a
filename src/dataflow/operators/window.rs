//! ΔW(A) = W(ΔA): assigning rows to windows of event time is linear and keeps nothing.
//!
//! A row of time t belongs to the windows [s, s + size) with s = offset + n · slide and s ≤ t < s + size; a tumbling
//! window is a hopping one whose slide is its size. Rows whose time is NULL belong to none.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use super::only;
use crate::dataflow::{EpochContext, Operator};
use crate::error::Result;
use crate::plan::Window;
use crate::types::Delta;

pub struct WindowOperator {
    time_column: usize,
    slide_us: i64,
    size_us: i64,
    offset_us: i64,
    /// The input's columns, then `window_start` and `window_end`.
    schema: SchemaRef,
}

impl WindowOperator {
    /// The time column is a timestamp in microseconds.
    pub fn new(time_column: usize, window: Window, schema: SchemaRef) -> WindowOperator {
        let (slide_us, size_us, offset_us) = match window {
            Window::Tumble { size_us, offset_us } => (size_us, size_us, offset_us),
            Window::Hop { slide_us, size_us, offset_us } => (slide_us, size_us, offset_us),
        };
        assert!(slide_us > 0 && size_us > 0, "windows have a positive size and slide");
        WindowOperator { time_column, slide_us, size_us, offset_us, schema }
    }

    fn assign(&self, delta: &Delta) -> Result<Delta> {
        let times = cast(delta.column(self.time_column), &DataType::Int64)?;
        let times = times.as_primitive::<Int64Type>();
        let per_row = self.size_us.div_euclid(self.slide_us) as usize + 1;
        let copies = if self.size_us == self.slide_us { 1 } else { per_row };
        let (mut rows, mut starts) =
            (Vec::with_capacity(times.len() * copies), Vec::with_capacity(times.len() * copies));
        for row in 0..times.len() {
            if times.is_null(row) {
                continue;
            }
            let time = times.value(row);
            // The last window that begins at or before the row's time; none if that is before the calendar.
            let Some(mut start) =
                time.checked_sub(self.offset_us).and_then(|t| time.checked_sub(t.rem_euclid(self.slide_us)))
            else {
                continue;
            };
            while time.checked_sub(start).is_some_and(|age| age < self.size_us) {
                rows.push(row as u32);
                starts.push(start);
                match start.checked_sub(self.slide_us) {
                    Some(earlier) => start = earlier,
                    None => break,
                }
            }
        }
        let whole = rows.len() == delta.row_count() && copies == 1;
        let delta = if whole { delta.clone() } else { delta.take(&UInt32Array::from(rows))? };
        let ends: Int64Array = starts.iter().map(|start| start.saturating_add(self.size_us)).collect::<Vec<_>>().into();
        let window_type = self.schema.field(self.schema.fields().len() - 1).data_type();
        let bounds: [ArrayRef; 2] = [Arc::new(Int64Array::from(starts)), Arc::new(ends)];
        let mut columns = delta.batch().columns().to_vec();
        for bound in bounds {
            columns.push(cast(&bound, window_type)?);
        }
        Ok(delta.with_batch(RecordBatch::try_new(self.schema.clone(), columns)?))
    }
}

impl Operator for WindowOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, _: &mut EpochContext) -> Result<Vec<Delta>> {
        only(inputs).iter().map(|delta| self.assign(delta)).collect()
    }
}
