//! Changes to come, by the time at which they do.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;

use super::StateSize;
use crate::error::Result;
use crate::types::Delta;

pub struct Pending {
    schema: SchemaRef,
    by_time: BTreeMap<i64, Changes>,
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
        Pending { schema, by_time: BTreeMap::new() }
    }

    pub fn add(&mut self, time: i64, delta: Delta) -> Result<()> {
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
