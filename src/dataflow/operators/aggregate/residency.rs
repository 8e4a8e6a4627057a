//! Groups that are on disk alone.

use arrow::array::ArrayRef;

use super::AggregateOperator;
use crate::dataflow::key_index::KeyIndex;
use crate::dataflow::residency::{Fetched, Residency};
use crate::dataflow::{EpochContext, Partial};
use crate::error::Result;
use crate::types::Delta;

impl Partial for AggregateOperator {
    fn residency(&self) -> &Residency {
        &self.residency
    }

    fn residency_mut(&mut self) -> &mut Residency {
        &mut self.residency
    }

    fn index(&self) -> &KeyIndex {
        &self.index
    }

    fn resident_bytes(&self) -> u64 {
        let bytes = u128::from(self.state_bytes());
        (bytes * self.index.len() as u128 / self.index.capacity().max(1) as u128) as u64
    }

    /// Without rows and without state.
    fn is_dead(&self, group: u32) -> bool {
        self.weights[group as usize] == 0
            && !self.is_pinned(group)
            && self.accumulators.iter().all(|accumulator| accumulator.is_empty(group))
    }

    fn is_pinned(&self, group: u32) -> bool {
        self.pinned.contains(&group)
    }

    fn give_back(&mut self, groups: &[u32]) {
        self.index.remove(groups);
    }

    fn let_go(&mut self, groups: &[u32]) -> Result<()> {
        self.clear(groups)?;
        if let Some(closing) = &mut self.closing {
            closing.forget_others(|group| self.residency.is_there(group));
        }
        Ok(())
    }

    fn begin_absent(&mut self, context: &mut EpochContext) -> Result<()> {
        self.residency.begin_absent();
        self.pin(context.worker_index)?;
        let pinned = self.pinned.clone();
        pinned.iter().for_each(|&group| _ = self.residency.touch(group));
        self.fetch(&pinned)
    }
}

impl AggregateOperator {
    /// Groups that have just got a number, as they were saved.
    pub(super) fn fetch(&mut self, missing: &[u32]) -> Result<()> {
        let width = self.keys.len();
        let key = |_: usize, rows: &Delta| -> Vec<ArrayRef> { rows.batch().columns()[..width].to_vec() };
        for Fetched { part, keys: groups, rows } in self.residency.fetch(missing, &self.index, key)? {
            match part.checked_sub(1) {
                None => self.take_saved(&groups, &rows)?,
                Some(call) => self.take_saved_rows(call, &groups, &rows)?,
            }
        }
        Ok(())
    }
}
