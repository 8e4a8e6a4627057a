//! Groups that are on disk alone. Those that have not been touched for longest go when memory is short, and come back, all
//! that a step misses together, before the step's rows are taken in.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::UInt32Array;

use super::AggregateOperator;
use crate::dataflow::{EpochContext, Operator, Partial};
use crate::error::Result;
use crate::state::MemoryAccount;
use crate::state::checkpoint::{KeyLookup, key_hashes};
use crate::types::Delta;

pub struct Residency {
    /// By part.
    saved: Vec<Arc<dyn KeyLookup>>,
    account: MemoryAccount,
    /// All groups are in memory: one that is not there is new.
    is_complete: bool,
    /// The changes up to this step are in a finished checkpoint.
    durable_at: u64,
    /// Groups that nothing is left of; they stay until that is on disk, lest they are looked up as they were. A group may
    /// stand here twice, and may have come back to life.
    dead: Vec<u32>,
    /// All that could go then did, and it was not enough: there is no use in looking again before the next checkpoint.
    exhausted_at: Option<u64>,
}

/// Groups of which it is looked up when they were touched last, to see which ones are old.
const SAMPLE_COUNT: usize = 4096;

impl Residency {
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub fn is_accounted(&self) -> bool {
        !self.account.is_unlimited()
    }

    pub fn died(&mut self, groups: &[u32]) {
        self.dead.extend(groups);
    }
}

impl Partial for AggregateOperator {
    fn attach(&mut self, saved: Vec<Arc<dyn KeyLookup>>, account: MemoryAccount) {
        let is_complete = true;
        let (dead, durable_at, exhausted_at) = (vec![], 0, None);
        self.residency = Some(Residency { saved, account, is_complete, durable_at, dead, exhausted_at });
    }

    fn begin_absent(&mut self, context: &mut EpochContext) -> Result<()> {
        self.step = 1;
        self.log.begin_at(self.step);
        if let Some(residency) = &mut self.residency {
            (residency.is_complete, residency.durable_at) = (false, self.step);
        }
        self.pin(context.worker_index)?;
        let pinned = self.pinned.clone();
        pinned.iter().for_each(|&group| self.touched_at[group as usize] = self.step);
        self.fetch(&pinned)
    }

    fn saved(&mut self) -> Result<()> {
        let (dead, durable_at) = (self.dead_groups(), self.log.saved_at());
        let (gone, kept): (Vec<u32>, Vec<u32>) =
            dead.into_iter().partition(|&group| self.touched_at[group as usize] <= durable_at);
        let Some(residency) = &mut self.residency else { return Ok(()) };
        (residency.durable_at, residency.dead) = (durable_at, kept);
        self.give_back(&gone);
        self.keep_to_allowance()
    }
}

impl AggregateOperator {
    /// Groups that have just got a number, as they were saved.
    pub(super) fn fetch(&mut self, missing: &[u32]) -> Result<()> {
        let Some(residency) = self.residency.as_ref().filter(|_| !missing.is_empty()) else { return Ok(()) };
        let mut hashes = key_hashes(&self.index.columns(missing)?, missing.len())?;
        hashes.sort_unstable();
        hashes.dedup();
        let saved = residency.saved.iter().map(|saved| saved.fetch(&hashes)).collect::<Result<Vec<_>>>()?;
        let missing: HashSet<u32> = missing.iter().copied().collect();
        for (part, saved) in saved.into_iter().enumerate() {
            let Some(saved) = saved else { continue };
            let (groups, saved) = self.of_groups(&saved, &missing)?;
            match part.checked_sub(1) {
                None => self.take_saved(&groups, &saved)?,
                Some(call) => self.take_saved_rows(call, &groups, &saved)?,
            }
        }
        Ok(())
    }

    /// The saved rows of these groups; others may have the same hash.
    fn of_groups(&self, saved: &Delta, wanted: &HashSet<u32>) -> Result<(Vec<u32>, Delta)> {
        let found = self.index.find(&saved.batch().columns()[..self.keys.len()], saved.row_count())?;
        let rows = found.iter().enumerate().filter_map(|(row, group)| Some((row as u32, (*group)?)));
        let (rows, groups): (Vec<u32>, Vec<u32>) = rows.filter(|(_, group)| wanted.contains(group)).unzip();
        match rows.len() == saved.row_count() {
            true => Ok((groups, saved.clone())),
            false => Ok((groups, saved.take(&UInt32Array::from(rows))?)),
        }
    }

    /// Lets go of groups if memory is short.
    pub(super) fn keep_to_allowance(&mut self) -> Result<()> {
        if !self.gives_way() {
            return Ok(());
        }
        let bytes = self.resident_bytes();
        let Some(residency) = &mut self.residency else { return Ok(()) };
        residency.account.set(bytes);
        if residency.exhausted_at == Some(residency.durable_at) {
            return Ok(());
        }
        let Some(allowance) = residency.account.allowance() else { return Ok(()) };
        if !residency.saved.iter().all(|saved| saved.is_ordered()) {
            return Ok(());
        }
        let group_count = self.index.len();
        let kept = u128::from(allowance) * group_count as u128 / u128::from(bytes.max(1));
        self.evict((group_count - (kept as usize).min(group_count)).max(1))?;
        let bytes = self.resident_bytes();
        if let Some(residency) = &mut self.residency {
            residency.account.set(bytes);
            residency.exhausted_at = (bytes > allowance + allowance / 8).then_some(residency.durable_at);
        }
        Ok(())
    }

    /// Groups that only wait for it to be on disk that nothing is left of them.
    pub(super) fn dead_groups(&self) -> Vec<u32> {
        let Some(residency) = &self.residency else { return vec![] };
        let mut dead = residency.dead.clone();
        dead.sort_unstable();
        dead.dedup();
        dead.retain(|&group| self.touched_at[group as usize] != 0 && self.is_dead(group));
        dead
    }

    /// What its groups take. Room that groups have left is used again.
    fn resident_bytes(&self) -> u64 {
        let bytes = u128::from(self.state_bytes());
        (bytes * self.index.len() as u128 / self.index.capacity().max(1) as u128) as u64
    }

    /// Lets go of about so many groups, those that were touched longest ago, as far as they are on disk as they are.
    fn evict(&mut self, goal: usize) -> Result<()> {
        let Some(residency) = &self.residency else { return Ok(()) };
        let durable_at = residency.durable_at;
        let capacity = self.touched_at.len();
        let sampled = (0..capacity).step_by(capacity.div_ceil(SAMPLE_COUNT).max(1));
        let mut sample: Vec<u64> = sampled.map(|group| self.touched_at[group]).filter(|step| *step != 0).collect();
        sample.sort_unstable();
        let place = sample.len() * goal / self.index.len().max(1);
        let oldest = sample.get(place).map_or(durable_at, |step| (*step).min(durable_at));
        let can_go = |group: &u32| {
            let touched_at = self.touched_at[*group as usize];
            touched_at != 0 && touched_at <= oldest && !self.pinned.contains(group)
        };
        let going: Vec<u32> = (0..capacity as u32).filter(can_go).take(goal).collect();
        self.let_go(&going)
    }

    /// Forgets groups, but not what is saved of them.
    pub(super) fn let_go(&mut self, groups: &[u32]) -> Result<()> {
        if groups.is_empty() {
            return Ok(());
        }
        if let Some(residency) = &mut self.residency {
            residency.is_complete = false;
        }
        groups.iter().for_each(|&group| self.weights[group as usize] = 0);
        self.accumulators.iter_mut().try_for_each(|accumulator| accumulator.clear_all(groups))?;
        self.give_back(groups);
        if let Some(closing) = &mut self.closing {
            closing.forget_others(|group| self.touched_at[group as usize] != 0);
        }
        Ok(())
    }

    /// Those that could go now.
    #[cfg(test)]
    pub(super) fn evictable(&self) -> Vec<u32> {
        let durable_at = self.residency.as_ref().map_or(0, |residency| residency.durable_at);
        let can_go =
            |group: &u32| (1..=durable_at).contains(&self.touched_at[*group as usize]) && !self.pinned.contains(group);
        (0..self.touched_at.len() as u32).filter(can_go).collect()
    }
}
