//! Changes to come, by the time at which they do.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::SortOptions;
use arrow::compute::sort_to_indices;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};

use super::{Durable, EpochContext, StateSize};
use crate::error::Result;
use crate::state::checkpoint::{Part, PartChange, PartKind, Spread};
use crate::types::Delta;

pub struct Pending {
    schema: SchemaRef,
    by_time: BTreeMap<i64, Changes>,
    /// What was added since it was last saved, where that is recorded.
    added: Option<Vec<(i64, Delta)>>,
    /// Times below are taken.
    taken_below: Option<i64>,
}

#[derive(Default)]
struct Changes {
    deltas: Vec<Delta>,
    row_count: usize,
    /// Rows that were left when they were last added up.
    consolidated_row_count: usize,
}

/// Changes of one time are added up when they are so many times as many as were left the last time.
const GROWTH_MAX: usize = 2;
const ROW_COUNT_MIN: usize = 1024;

impl Changes {
    fn consolidate(&mut self, schema: &SchemaRef) -> Result<Delta> {
        let delta = Delta::concat(schema, &self.deltas)?.consolidate()?;
        (self.row_count, self.consolidated_row_count) = (delta.row_count(), delta.row_count());
        self.deltas = vec![delta.clone()];
        Ok(delta)
    }
}

impl Pending {
    pub fn new(schema: SchemaRef) -> Pending {
        Pending { schema, by_time: BTreeMap::new(), added: None, taken_below: None }
    }

    pub fn add(&mut self, time: i64, delta: Delta) -> Result<()> {
        if let Some(added) = &mut self.added {
            added.push((time, delta.clone()));
        }
        let changes = self.by_time.entry(time).or_default();
        changes.row_count += delta.row_count();
        changes.deltas.push(delta);
        if changes.row_count > ROW_COUNT_MIN.max(GROWTH_MAX * changes.consolidated_row_count) {
            changes.consolidate(&self.schema)?;
        }
        Ok(())
    }

    /// The changes of all times below `bound`, earliest first; those of one time added up.
    pub fn take_below(&mut self, bound: i64) -> Result<Vec<Delta>> {
        let mut taken = vec![];
        self.taken_below = self.taken_below.max(Some(bound));
        while let Some(entry) = self.by_time.first_entry()
            && *entry.key() < bound
        {
            taken.push(entry.remove().consolidate(&self.schema)?);
        }
        Ok(taken)
    }

    pub fn first_time(&self) -> Option<i64> {
        self.by_time.first_key_value().map(|(time, _)| *time)
    }

    pub fn state_size(&self) -> StateSize {
        let deltas = self.by_time.values().flat_map(|changes| &changes.deltas);
        let bytes = deltas.map(|delta| delta.batch().get_array_memory_size() + delta.row_count() * 8).sum::<usize>();
        let row_count = self.by_time.values().map(|changes| changes.row_count as u64).sum();
        StateSize { row_count, bytes: bytes as u64 }
    }
}

/// The time, then the row. What is taken needs no retraction.
impl Durable for Pending {
    fn parts(&self) -> Vec<Part> {
        let time = Arc::new(Field::new("$time", DataType::Timestamp(TimeUnit::Microsecond, None), false));
        let fields: Vec<_> = std::iter::once(time).chain(self.schema.fields().iter().cloned()).collect();
        vec![Part {
            schema: Arc::new(Schema::new(fields)),
            kind: PartKind::Sum,
            time_column: Some(0),
            spread: Spread::Anywhere,
            key: vec![],
        }]
    }

    fn record(&mut self) {
        self.added = Some(vec![]);
    }

    fn take_changes(&mut self) -> Result<Vec<PartChange>> {
        let added = self.added.as_mut().map(std::mem::take).unwrap_or_default();
        let times = added.iter().flat_map(|(time, delta)| std::iter::repeat_n(*time, delta.row_count()));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(times));
        let deltas: Vec<Delta> = added.into_iter().map(|(_, delta)| delta).collect();
        if deltas.is_empty() {
            return Ok(vec![PartChange { deltas, below: self.taken_below }]);
        }
        let delta = Delta::concat(&self.schema, &deltas)?;
        let columns = std::iter::once(times).chain(delta.batch().columns().iter().cloned()).collect();
        let timed = delta.with_batch(RecordBatch::try_new(self.parts().remove(0).schema, columns)?);
        Ok(vec![PartChange { deltas: vec![timed], below: self.taken_below }])
    }

    fn restore(&mut self, parts: Vec<Vec<Delta>>, _: &mut EpochContext) -> Result<()> {
        let columns: Vec<usize> = (1..=self.schema.fields().len()).collect();
        for delta in parts.into_iter().flatten() {
            let order = sort_to_indices(delta.column(0), Some(SortOptions::default()), None)?;
            let delta = delta.take(&order)?;
            let times = delta.column(0).as_primitive::<TimestampMicrosecondType>().clone();
            let rows = delta.project(&columns)?;
            let mut start = 0;
            for group in times.values().chunk_by(|a, b| a == b) {
                let indices = UInt32Array::from_iter_values(start as u32..(start + group.len()) as u32);
                self.add(group[0], rows.take(&indices)?)?;
                start += group.len();
            }
        }
        Ok(())
    }
}
