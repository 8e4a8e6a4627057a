//! EMIT ON WINDOW CLOSE: the rows of A whose time is over, and nothing of the others.
//!
//! Changes are held until the watermark has passed their time; then those of each time are added up, and what is left of
//! them comes out. Changes of times that are over already come out at once: they correct what was shown.

use std::collections::BTreeMap;

use arrow::array::{Array, UInt32Array};
use arrow::datatypes::SchemaRef;

use super::only;
use crate::dataflow::event_time::times_us;
use crate::dataflow::pending::Pending;
use crate::dataflow::{Durable, EpochContext, Operator, StateSize};
use crate::error::Result;
use crate::plan::TimeColumn;
use crate::types::Delta;

pub struct HoldOperator {
    time: TimeColumn,
    /// By time, in microseconds.
    held: Pending,
}

impl HoldOperator {
    /// `time`: a column of the input, without whose time rows come out at once.
    pub fn new(time: TimeColumn, schema: SchemaRef) -> HoldOperator {
        // A window is shown when it is over, not when its last correction is.
        HoldOperator { time: TimeColumn { lateness_us: 0, ..time }, held: Pending::new(schema) }
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
            self.held.add(time, delta.take(&UInt32Array::from(rows))?)?;
        }
        Ok(if at_once.is_empty() { None } else { Some(delta.take(&UInt32Array::from(at_once))?) })
    }
}

impl Operator for HoldOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let [before, over] = [&context.watermarks_before, &context.watermarks]
            .map(|watermarks| self.time.closed_at(watermarks).unwrap_or(i64::MIN));
        let mut output = vec![];
        for delta in only(inputs) {
            output.extend(self.hold(&delta, before)?);
        }
        output.extend(self.held.take_below(over)?);
        Ok(output)
    }

    fn follows_time(&self) -> bool {
        true
    }

    fn state_size(&self) -> StateSize {
        self.held.state_size()
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        Some(&mut self.held)
    }
}
