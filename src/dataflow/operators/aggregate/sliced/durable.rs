//! Slices on disk: a row for each group (its key, its slice, the end of its first window, the weight of its rows, the state
//! of each aggregate), of which the last counts; and up to which end windows have been shown, where they are shown when they
//! are over.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, new_null_array};
use arrow::compute::min;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};

use super::{Place, SlicedAggregateOperator};
use crate::dataflow::key_index::KeyIndex;
use crate::dataflow::operators::aggregate::Accumulator;
use crate::dataflow::{Durable, EpochContext};
use crate::error::Result;
use crate::state::checkpoint::{Part, PartChange, PartKind, Spread};
use crate::types::Delta;

/// What has changed since the state was last saved, where that is recorded.
pub struct SliceLog {
    schema: SchemaRef,
    /// Of the key columns, the start of the slice and the end of the first window.
    key_width: usize,
    /// Groups that were touched, some of them more than once; not all are there any more.
    dirty: Option<Vec<u32>>,
    /// Keys of groups that went.
    gone: Vec<Vec<ArrayRef>>,
    /// What was shown when it was last saved.
    saved_shown: Option<i64>,
}

impl SliceLog {
    pub fn new(input: &SchemaRef, keys: &[usize], accumulators: &[Box<dyn Accumulator>]) -> SliceLog {
        let nullable = |name: &str, data_type: &DataType| Arc::new(Field::new(name, data_type.clone(), true));
        let mut fields: Vec<FieldRef> = keys.iter().map(|&key| input.fields()[key].clone()).collect();
        fields.extend(["$start", "$first_end", "$weight"].map(|name| nullable(name, &DataType::Int64)));
        for (number, accumulator) in accumulators.iter().enumerate() {
            let data_type = accumulator.saved_type().expect("what merges has a state of its own");
            fields.push(nullable(&format!("${number}"), &data_type));
        }
        let schema = Arc::new(Schema::new(fields));
        SliceLog { schema, key_width: keys.len() + 2, dirty: None, gone: vec![], saved_shown: None }
    }

    pub fn touch(&mut self, groups: &[u32]) {
        if let Some(dirty) = &mut self.dirty {
            dirty.extend(groups);
        }
    }

    pub fn gone(&mut self, index: &KeyIndex, groups: &[u32]) -> Result<()> {
        if self.dirty.is_some() && !groups.is_empty() {
            self.gone.push(index.columns(groups)?);
        }
        Ok(())
    }

    /// Groups that went, as rows that take them away.
    fn taken_away(&mut self) -> Result<Vec<Delta>> {
        let deltas = std::mem::take(&mut self.gone).into_iter().map(|mut columns| {
            let row_count = columns[0].len();
            let rest = &self.schema.fields()[self.key_width..];
            columns.extend(rest.iter().map(|field| new_null_array(field.data_type(), row_count)));
            Ok(Delta::new(RecordBatch::try_new(self.schema.clone(), columns)?, vec![-1; row_count]))
        });
        deltas.collect()
    }
}

fn shown_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("$shown", DataType::Int64, true)]))
}

impl Durable for SlicedAggregateOperator {
    fn parts(&self) -> Vec<Part> {
        let kind = PartKind::Latest { key_width: self.log.key_width };
        let spread = Spread::By((0..self.keys.len()).collect());
        let groups = Part { schema: self.log.schema.clone(), kind, time_column: None, spread };
        let kind = PartKind::Latest { key_width: 0 };
        let shown = Part { schema: shown_schema(), kind, time_column: None, spread: Spread::Everywhere };
        vec![groups, shown]
    }

    fn record(&mut self) {
        self.log.dirty = Some(vec![]);
    }

    fn take_changes(&mut self) -> Result<Vec<PartChange>> {
        let mut dirty = self.log.dirty.as_mut().map(std::mem::take).unwrap_or_default();
        dirty.sort_unstable();
        dirty.dedup();
        dirty.retain(|&group| self.places[group as usize].is_used);
        // A key may have gone and come again.
        let mut deltas = self.log.taken_away()?;
        if !dirty.is_empty() {
            let mut columns = self.groups.columns(&dirty)?;
            let weights = dirty.iter().map(|&group| Some(self.weights[group as usize]));
            columns.push(Arc::new(weights.collect::<Int64Array>()));
            for accumulator in &self.accumulators {
                columns.push(accumulator.save(&dirty)?);
            }
            deltas.push(Delta::insert(RecordBatch::try_new(self.log.schema.clone(), columns)?));
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
                accumulator.load(&groups, saved)?;
            }
        }
        // All workers have shown the same.
        let shown = parts.next().into_iter().flatten().map(|delta| min(delta.column(0).as_primitive::<Int64Type>()));
        self.shown = shown.min().flatten();
        self.log.saved_shown = self.shown;
        Ok(())
    }
}
