//! Keys whose rows are on disk alone.

use arrow::array::ArrayRef;

use super::{JoinOperator, Side};
use crate::dataflow::key_index::KeyIndex;
use crate::dataflow::residency::{Fetched, Residency};
use crate::dataflow::{EpochContext, Partial};
use crate::error::Result;
use crate::types::Delta;

impl Partial for JoinOperator {
    fn residency(&self) -> &Residency {
        &self.residency
    }

    fn residency_mut(&mut self) -> &mut Residency {
        &mut self.residency
    }

    fn index(&self) -> &KeyIndex {
        &self.keys
    }

    fn resident_bytes(&self) -> u64 {
        let share = |bytes: usize, live: usize, all: usize| (bytes as u128 * live as u128 / all.max(1) as u128) as u64;
        let keys = share(self.key_bytes(), self.keys.len(), self.keys.capacity());
        keys + self.sides.iter().map(Side::live_bytes).sum::<u64>()
    }

    fn is_dead(&self, key: u32) -> bool {
        self.sides.iter().all(|side| side.is_empty(key))
    }

    fn give_back(&mut self, keys: &[u32]) {
        self.keys.remove(keys);
    }

    fn let_go(&mut self, keys: &[u32]) -> Result<()> {
        self.sides.iter_mut().for_each(|side| side.forget_keys(keys));
        self.keys.remove(keys);
        if let Some(closing) = &mut self.closing {
            closing.forget_others(|key| self.residency.is_there(key));
        }
        Ok(())
    }

    fn begin_absent(&mut self, _: &mut EpochContext) -> Result<()> {
        self.residency.begin_absent();
        Ok(())
    }
}

impl JoinOperator {
    /// Takes in what was saved of keys that have just got a number. What their rows came to is out already.
    pub(super) fn fetch(&mut self, missing: &[u32], context: &EpochContext) -> Result<()> {
        let key = |own: usize, rows: &Delta| self.saved_key(own, rows);
        let fetched = self.residency.fetch(missing, &self.keys, key)?;
        // What failed then has been told.
        let mut silent = EpochContext::new(context.epoch, false, context.worker_index);
        for Fetched { part: own, keys, rows } in fetched {
            self.adopt(own, &rows, &keys, &mut silent)?;
        }
        Ok(())
    }

    /// The key columns of saved rows of a side.
    pub(super) fn saved_key(&self, own: usize, rows: &Delta) -> Vec<ArrayRef> {
        let side = &self.sides[own];
        match side.keeps().rows {
            true => side.key_columns.iter().map(|&column| rows.column(column).clone()).collect(),
            false => rows.batch().columns().to_vec(),
        }
    }
}
