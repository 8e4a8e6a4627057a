//! Slices on disk: a row for each group (its key, its slice, the end of its first window, the weight of its rows, the state
//! of each aggregate), of which the last counts; and up to which end windows have been shown, where they are shown when they
//! are over.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::min;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::{Place, SlicedAggregateOperator};
use crate::dataflow::operators::aggregate::Accumulator;
use crate::dataflow::operators::aggregate::durable::TouchedGroups;
use crate::dataflow::{Durable, EpochContext};
use crate::error::Result;
use crate::state::checkpoint::{Part, PartChange, PartKind, Spread};
use crate::types::Delta;

/// What has changed since the state was last saved, where that is recorded.
pub struct SliceLog {
    /// By the key columns, the start of the slice and the end of the first window.
    pub groups: TouchedGroups,
    /// What was shown when it was last saved.
    saved_shown: Option<i64>,
}

impl SliceLog {
    pub fn new(input: &SchemaRef, keys: &[usize], accumulators: &[Box<dyn Accumulator>]) -> SliceLog {
        let bounds = ["$start", "$first_end"].map(|name| Arc::new(Field::new(name, DataType::Int64, true)));
        let key = keys.iter().map(|&key| input.fields()[key].clone()).chain(bounds);
        let states = accumulators.iter().enumerate().map(|(number, accumulator)| {
            let data_type = accumulator.saved_type().expect("what merges has a state of its own");
            (format!("${number}"), data_type)
        });
        let others = std::iter::once(("$weight".to_string(), DataType::Int64)).chain(states).collect();
        SliceLog { groups: TouchedGroups::new(key, others), saved_shown: None }
    }
}

fn shown_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("$shown", DataType::Int64, true)]))
}

impl Durable for SlicedAggregateOperator {
    fn parts(&self) -> Vec<Part> {
        let kind = PartKind::Latest { key_width: self.log.groups.key_width };
        let spread = Spread::By((0..self.keys.len()).collect());
        let groups = Part { schema: self.log.groups.schema.clone(), kind, time_column: None, spread, key: vec![] };
        let kind = PartKind::Latest { key_width: 0 };
        let shown = Part { schema: shown_schema(), kind, time_column: None, spread: Spread::Everywhere, key: vec![] };
        vec![groups, shown]
    }

    fn record(&mut self) {
        self.log.groups.record();
    }

    fn take_changes(&mut self) -> Result<Vec<PartChange>> {
        let mut dirty = self.log.groups.take_dirty();
        dirty.retain(|&group| self.places[group as usize].is_used);
        // A key may have gone and come again.
        let mut deltas = self.log.groups.take_gone()?;
        if !dirty.is_empty() {
            let mut columns = self.groups.columns(&dirty)?;
            let weights = dirty.iter().map(|&group| Some(self.weights[group as usize]));
            columns.push(Arc::new(weights.collect::<Int64Array>()));
            for accumulator in &self.accumulators {
                columns.push(accumulator.save(&dirty)?);
            }
            deltas.push(Delta::insert(RecordBatch::try_new(self.log.groups.schema.clone(), columns)?));
        }
        let mut shown = PartChange::default();
        if self.shown != self.log.saved_shown {
            self.log.saved_shown = self.shown;
            let column: ArrayRef = Arc::new(Int64Array::from(vec![self.shown]));
            shown.deltas.push(Delta::insert(RecordBatch::try_new(shown_schema(), vec![column])?));
        }
        Ok(vec![PartChange { deltas, below: None }, shown])
    }

    fn restore(&mut self, parts: Vec<Vec<Delta>>, _: &mut EpochContext) -> Result<()> {
        let mut parts = parts.into_iter();
        let width = self.keys.len();
        for delta in parts.next().into_iter().flatten() {
            let columns = delta.batch().columns();
            let keys = self.numbers.intern(&columns[..width], delta.row_count())?;
            let groups = self.groups.intern(&columns[..width + 2], delta.row_count())?;
            self.make_room();
            let [starts, first_ends, weights] =
                [0, 1, 2].map(|offset| columns[width + offset].as_primitive::<Int64Type>());
            for (row, &group) in groups.iter().enumerate() {
                let (start, first_end) = (starts.value(row), first_ends.value(row));
                self.place(group, Place { key: keys[row], start, first_end, is_used: true });
                self.weights[group as usize] = weights.value(row);
            }
            for (accumulator, saved) in self.accumulators.iter_mut().zip(&columns[width + 3..]) {
                accumulator.merge(&groups, saved)?;
            }
        }
        // All workers have shown the same.
        let shown = parts.next().into_iter().flatten().map(|delta| min(delta.column(0).as_primitive::<Int64Type>()));
        self.shown = shown.min().flatten();
        self.log.saved_shown = self.shown;
        Ok(())
    }
}
