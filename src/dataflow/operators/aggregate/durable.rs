//! Groups on disk: the first part has one row for each group (its key, the weight of its rows, the state of each
//! aggregate), of which the last counts. An aggregate that keeps its rows has a part of its own, the rows that it
//! counted: so a change of a large group costs no more than one of a small one.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};

use super::{Accumulator, AggregateOperator};
use crate::dataflow::durable::ChangeLog;
use crate::dataflow::key_index::KeyIndex;
use crate::dataflow::{Durable, EpochContext, Partial};
use crate::error::Result;
use crate::plan::AggregateCall;
use crate::state::checkpoint::{Part, PartChange, PartKind, Spread, can_hash};
use crate::types::Delta;

/// Groups that have changed since they were last saved, where that is recorded.
pub struct TouchedGroups {
    /// Of a saved group: its key first.
    pub schema: SchemaRef,
    pub key_width: usize,
    /// Some of them more than once; not all are there any more.
    dirty: Option<Vec<u32>>,
    /// Keys of groups that went.
    gone: Vec<Vec<ArrayRef>>,
}

impl TouchedGroups {
    /// A group is saved as its key and other columns, of these names and types.
    pub fn new(key: impl IntoIterator<Item = FieldRef>, others: Vec<(String, DataType)>) -> TouchedGroups {
        let mut fields: Vec<FieldRef> = key.into_iter().collect();
        let key_width = fields.len();
        fields.extend(others.into_iter().map(|(name, data_type)| Arc::new(Field::new(name, data_type, true))));
        TouchedGroups { schema: Arc::new(Schema::new(fields)), key_width, dirty: None, gone: vec![] }
    }

    pub fn record(&mut self) {
        self.dirty = Some(vec![]);
    }

    pub fn touch(&mut self, groups: &[u32]) {
        if let Some(dirty) = &mut self.dirty {
            dirty.extend(groups);
        }
    }

    /// Groups go that nothing is left of.
    pub fn gone(&mut self, index: &KeyIndex, groups: &[u32]) -> Result<()> {
        if self.dirty.is_some() && !groups.is_empty() {
            self.gone.push(index.columns(groups)?);
        }
        Ok(())
    }

    /// The groups, each once.
    pub fn take_dirty(&mut self) -> Vec<u32> {
        let mut dirty = self.dirty.as_mut().map(std::mem::take).unwrap_or_default();
        dirty.sort_unstable();
        dirty.dedup();
        dirty
    }

    /// Those that went, as rows that take them away.
    pub fn take_gone(&mut self) -> Result<Vec<Delta>> {
        let deltas = std::mem::take(&mut self.gone).into_iter().filter(|_| self.key_width > 0).map(|mut columns| {
            let row_count = columns[0].len();
            let rest = &self.schema.fields()[self.key_width..];
            columns.extend(rest.iter().map(|field| new_null_array(field.data_type(), row_count)));
            Ok(Delta::new(RecordBatch::try_new(self.schema.clone(), columns)?, vec![-1; row_count]))
        });
        deltas.collect()
    }
}

/// What has changed since the state was last saved, where that is recorded.
pub struct GroupLog {
    pub groups: TouchedGroups,
    /// For each call whose state is its rows.
    calls: Vec<CallLog>,
}

struct CallLog {
    call: usize,
    /// Of the input: the keys, then what the aggregate looks at.
    columns: Vec<usize>,
    schema: SchemaRef,
    log: ChangeLog,
}

impl GroupLog {
    pub fn new(
        input: &SchemaRef,
        keys: &[usize],
        calls: &[AggregateCall],
        accumulators: &[Box<dyn Accumulator>],
    ) -> GroupLog {
        let mut states = vec![("$weight".to_string(), DataType::Int64)];
        let mut kept = vec![];
        for (number, (call, accumulator)) in calls.iter().zip(accumulators).enumerate() {
            match accumulator.saved_type() {
                Some(data_type) => states.push((format!("${number}"), data_type)),
                None => {
                    let looked_at = call.arguments.iter().chain(call.order.iter().map(|order| &order.column));
                    let columns: Vec<usize> = keys.iter().chain(looked_at).copied().collect();
                    let fields: Vec<FieldRef> = columns.iter().map(|&column| input.fields()[column].clone()).collect();
                    let schema = Arc::new(Schema::new(fields));
                    kept.push(CallLog { call: number, columns, schema, log: ChangeLog::default() });
                }
            }
        }
        let groups = TouchedGroups::new(keys.iter().map(|&key| input.fields()[key].clone()), states);
        GroupLog { groups, calls: kept }
    }

    /// Groups go that nothing is left of.
    pub fn gone(&mut self, index: &KeyIndex, groups: &[u32]) -> Result<()> {
        self.groups.gone(index, groups)
    }

    /// The rows of a delta that a call counts; `None`: all.
    pub fn counted(&mut self, call: usize, delta: &Delta, mask: Option<&BooleanArray>) -> Result<()> {
        let Some(log) = self.calls.iter_mut().find(|log| log.call == call && log.log.is_on()) else { return Ok(()) };
        let delta = delta.project(&log.columns)?;
        match mask {
            None => log.log.push(&delta),
            Some(mask) => log.log.push(&delta.filter(mask)?),
        }
        Ok(())
    }
}

impl Durable for AggregateOperator {
    fn parts(&self) -> Vec<Part> {
        let time_column = self.closing.as_ref().map(|closing| closing.key());
        let kind = PartKind::Latest { key_width: self.keys.len() };
        let key = || (0..self.keys.len()).collect();
        let by_key = || Spread::By(key());
        let groups = Part { schema: self.log.groups.schema.clone(), kind, time_column, spread: by_key(), key: key() };
        let rows = |call: &CallLog| {
            let (schema, kind) = (call.schema.clone(), PartKind::Sum);
            Part { schema, kind, time_column, spread: by_key(), key: key() }
        };
        std::iter::once(groups).chain(self.log.calls.iter().map(rows)).collect()
    }

    fn record(&mut self) {
        self.log.groups.record();
        self.log.calls.iter_mut().for_each(|call| call.log.start());
    }

    fn take_changes(&mut self) -> Result<Vec<PartChange>> {
        let below = self.closing.as_ref().and_then(|closing| closing.below());
        let mut dirty = self.log.groups.take_dirty();
        dirty.retain(|&group| self.residency.is_there(group));
        self.residency.handed_over();
        // A key may have gone and come again.
        let mut deltas = self.log.groups.take_gone()?;
        if self.residency.is_partial() {
            // Those that have died are still there.
            let (dead, alive): (Vec<u32>, Vec<u32>) = dirty.into_iter().partition(|&group| self.is_dead(group));
            self.log.groups.gone(&self.index, &dead)?;
            deltas.extend(self.log.groups.take_gone()?);
            dirty = alive;
        }
        if !dirty.is_empty() {
            let mut columns = self.index.columns(&dirty)?;
            let weights = dirty.iter().map(|&group| Some(self.weights[group as usize]));
            columns.push(Arc::new(weights.collect::<Int64Array>()));
            for accumulator in self.accumulators.iter().filter(|accumulator| accumulator.saved_type().is_some()) {
                columns.push(accumulator.save(&dirty)?);
            }
            deltas.push(Delta::insert(RecordBatch::try_new(self.log.groups.schema.clone(), columns)?));
        }
        let groups = PartChange { deltas, below };
        let rows = self.log.calls.iter_mut().map(|call| PartChange { deltas: call.log.take(), below });
        Ok(std::iter::once(groups).chain(rows).collect())
    }

    fn restore(&mut self, parts: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<()> {
        self.residency.begin_restored();
        self.pin(context.worker_index)?;
        self.pinned.iter().for_each(|&group| _ = self.residency.touch(group));
        let width = self.keys.len();
        let mut parts = parts.into_iter();
        for delta in parts.next().into_iter().flatten() {
            let groups = self.index.intern(&delta.batch().columns()[..width], delta.row_count())?;
            self.make_room();
            self.take_saved(&groups, &delta)?;
            groups.iter().for_each(|&group| _ = self.residency.touch(group));
            if let Some(closing) = &mut self.closing {
                closing.opened.extend(groups);
            }
        }
        for (call, part) in parts.enumerate() {
            for delta in part {
                let groups = self.index.intern(&delta.batch().columns()[..width], delta.row_count())?;
                self.make_room();
                self.take_saved_rows(call, &groups, &delta)?;
            }
        }
        Ok(())
    }

    fn partial(&mut self) -> Option<&mut dyn Partial> {
        let key = &self.log.groups.schema.fields()[..self.keys.len()];
        let can_be = !key.is_empty() && key.iter().all(|field| can_hash(field.data_type()));
        can_be.then_some(self)
    }
}

impl AggregateOperator {
    /// Rows of the first part, each of another group that has nothing yet.
    pub(super) fn take_saved(&mut self, groups: &[u32], saved: &Delta) -> Result<()> {
        let (width, columns) = (self.keys.len(), saved.batch().columns());
        for (&group, weight) in groups.iter().zip(columns[width].as_primitive::<Int64Type>().values()) {
            self.weights[group as usize] = *weight;
        }
        let accumulators = self.accumulators.iter_mut().filter(|accumulator| accumulator.saved_type().is_some());
        for (accumulator, saved) in accumulators.zip(&columns[width + 1..]) {
            accumulator.merge(groups, saved)?;
        }
        Ok(())
    }

    /// Rows of the part of an aggregate that keeps them: the first such, the second, ….
    pub(super) fn take_saved_rows(&mut self, call: usize, groups: &[u32], saved: &Delta) -> Result<()> {
        let call = self.log.calls[call].call;
        let weights = saved.weights().map(|weights| weights.as_ref());
        self.accumulators[call].update(groups, &saved.batch().columns()[self.keys.len()..], weights)
    }
}
