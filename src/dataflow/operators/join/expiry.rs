//! When the rows of a join side go by their own time.
//!
//! A row that is over meets nothing any more, so it may stay a while: rows are swept out together, once many of them are
//! likely to be over, so that a row costs no more than a sweep or two. Rows without a time meet nothing from the start.

use arrow::array::{Array, RecordBatch};
use arrow::compute::{max, min};

use crate::dataflow::EpochContext;
use crate::dataflow::event_time::times_us;
use crate::error::Result;
use crate::plan::TimeColumn;
use crate::types::Delta;

pub struct Expiry {
    time: TimeColumn,
    /// Of the rows that are there, and may be of some that are not any more.
    oldest_us: i64,
    newest_us: i64,
    /// Rows that the last sweep left.
    pub kept_row_count: usize,
    /// Rows of older times are gone.
    below: Option<i64>,
}

/// Rows are swept when there are so many times as many as the last sweep left, and so many more.
const GROWTH_MAX: usize = 2;
const ROW_COUNT_MIN: usize = 256;

impl Expiry {
    pub fn new(time: TimeColumn) -> Expiry {
        Expiry { time, oldest_us: i64::MAX, newest_us: i64::MIN, kept_row_count: 0, below: None }
    }

    pub fn column(&self) -> usize {
        self.time.column
    }

    pub fn below(&self) -> Option<i64> {
        self.below
    }

    /// Takes note of the times of new rows.
    pub fn see(&mut self, delta: &Delta) -> Result<()> {
        let times = times_us(delta.column(self.time.column))?;
        self.oldest_us = self.oldest_us.min(min(&times).unwrap_or(i64::MAX));
        self.newest_us = self.newest_us.max(max(&times).unwrap_or(i64::MIN));
        Ok(())
    }

    /// What is older than this is to be swept out now; `None`: not yet.
    pub fn due(&self, row_count: usize, context: &EpochContext) -> Option<i64> {
        let bound = self.time.closed_at(&context.watermarks)?;
        let has_grown = row_count > ROW_COUNT_MIN + GROWTH_MAX * self.kept_row_count;
        // Half of the span of time is over: so is half of the rows, if they come evenly.
        let (oldest_us, newest_us) = (i128::from(self.oldest_us), i128::from(self.newest_us));
        let has_passed = row_count > 0 && oldest_us < bound.into() && 2 * i128::from(bound) > oldest_us + newest_us;
        (has_grown || has_passed).then_some(bound)
    }

    /// For each row, whether it is over; takes note of the times of the others.
    pub fn sweep(&mut self, chunks: &[RecordBatch], bound: i64) -> Result<Vec<bool>> {
        let mut over = vec![];
        self.below = self.below.max(Some(bound));
        (self.oldest_us, self.newest_us) = (i64::MAX, i64::MIN);
        for chunk in chunks {
            let times = times_us(chunk.column(self.time.column))?;
            over.extend((0..times.len()).map(|row| {
                let is_over = times.is_null(row) || times.value(row) < bound;
                if !is_over {
                    self.oldest_us = self.oldest_us.min(times.value(row));
                    self.newest_us = self.newest_us.max(times.value(row));
                }
                is_over
            }));
        }
        Ok(over)
    }
}
