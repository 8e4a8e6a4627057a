//! EMIT ON WINDOW CLOSE: the rows of A whose time is over, and nothing of the others.
//!
//! Changes are held until the watermark has passed their time; then those of each time are added up, and what is left of
//! them comes out. Changes of times that are over already come out at once: they correct what was shown.

use std::collections::BTreeMap;

use arrow::array::{Array, UInt32Array};
use arrow::datatypes::SchemaRef;

use super::only;
use crate::dataflow::event_time::times_us;
use crate::dataflow::{EpochContext, Operator, StateSize};
use crate::error::Result;
use crate::plan::TimeColumn;
use crate::types::Delta;

pub struct HoldOperator {
    time: TimeColumn,
    schema: SchemaRef,
    /// By time, in microseconds.
    held: BTreeMap<i64, Held>,
}

#[derive(Default)]
struct Held {
    deltas: Vec<Delta>,
    row_count: usize,
    /// Rows that were left when the changes were last added up.
    consolidated_row_count: usize,
}

/// Changes are added up when they are so many times as many as were left the last time.
const GROWTH_MAX: usize = 2;
const ROW_COUNT_MIN: usize = 1024;

impl HoldOperator {
    /// `time`: a column of the input, without whose time rows come out at once.
    pub fn new(time: TimeColumn, schema: SchemaRef) -> HoldOperator {
        // A window is shown when it is over, not when its last correction is.
        HoldOperator { time: TimeColumn { lateness_us: 0, ..time }, schema, held: BTreeMap::new() }
    }

    fn hold(&mut self, delta: &Delta, over: i64) -> Result<Option<Delta>> {
        let times = times_us(delta.column(self.time.column))?;
        let (mut at_once, mut later): (Vec<u32>, BTreeMap<i64, Vec<u32>>) = (vec![], BTreeMap::new());
        for row in 0..times.len() {
            if times.is_null(row) || times.value(row) < over {
                at_once.push(row as u32);
            } else {
                later.entry(times.value(row)).or_default().push(row as u32);
            }
        }
        for (time, rows) in later {
            let held = self.held.entry(time).or_default();
            held.row_count += rows.len();
            held.deltas.push(delta.take(&UInt32Array::from(rows))?);
            if held.row_count > ROW_COUNT_MIN.max(GROWTH_MAX * held.consolidated_row_count) {
                held.consolidate(&self.schema)?;
            }
        }
        Ok(if at_once.is_empty() { None } else { Some(delta.take(&UInt32Array::from(at_once))?) })
    }
}

impl Held {
    fn consolidate(&mut self, schema: &SchemaRef) -> Result<Delta> {
        let delta = Delta::concat(schema, &self.deltas)?.consolidate()?;
        (self.row_count, self.consolidated_row_count) = (delta.row_count(), delta.row_count());
        self.deltas = vec![delta.clone()];
        Ok(delta)
    }
}

impl Operator for HoldOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let of = |watermarks: &crate::plan::Watermarks| {
            self.time.closed_below(&|relation| watermarks.get(&relation).copied()).unwrap_or(i64::MIN)
        };
        let (before, over) = (of(&context.watermarks_before), of(&context.watermarks));
        let mut output = vec![];
        for delta in only(inputs) {
            output.extend(self.hold(&delta, before)?);
        }
        while let Some(entry) = self.held.first_entry()
            && *entry.key() < over
        {
            output.push(entry.remove().consolidate(&self.schema)?);
        }
        Ok(output)
    }

    fn follows_time(&self) -> bool {
        true
    }

    fn state_size(&self) -> StateSize {
        let deltas = self.held.values().flat_map(|held| &held.deltas);
        let bytes = deltas.map(|delta| delta.batch().get_array_memory_size() + delta.row_count() * 8).sum::<usize>();
        StateSize { row_count: self.held.values().map(|held| held.row_count as u64).sum(), bytes: bytes as u64 }
    }
}
