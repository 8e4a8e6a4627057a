//! Which keys of an operator's state are in memory. Those that have not been touched for longest go when memory is short, and
//! come back, all that a step misses together, before the step's rows are taken in.
//!
//! A key is whatever the operator numbers by a [`KeyIndex`]: a group, a key of a join, a partition of rows. A key that is in the
//! index is there with all of its state; of one that is not, the truth is what was saved last.

#[cfg(test)]
pub(crate) mod by_hand;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};

use super::EpochContext;
use super::key_index::KeyIndex;
use crate::error::Result;
use crate::state::MemoryAccount;
use crate::state::checkpoint::{KeyLookup, key_hashes};
use crate::types::Delta;

/// What was touched when, and where the rest is.
#[derive(Default)]
pub struct Residency {
    /// By key: the last step that touched it; 0: it is not there.
    touched_at: Vec<u64>,
    step: u64,
    /// The changes up to this step have been handed over to a checkpoint.
    saved_at: u64,
    /// `None`: no key ever goes.
    disk: Option<Disk>,
}

struct Disk {
    /// By part.
    saved: Vec<Arc<dyn KeyLookup>>,
    account: MemoryAccount,
    /// All keys are in memory: one that is not there is new.
    is_complete: bool,
    /// The changes up to this step are in a finished checkpoint.
    durable_at: u64,
    /// Keys that nothing is left of; they stay until that is on disk, lest they are looked up as they were. A key may
    /// stand here twice, and may have come back to life.
    dead: Vec<u32>,
    /// All that could go then did, and it was not enough: there is no use in looking again before the next checkpoint.
    exhausted_at: Option<u64>,
}

/// Saved rows of one part, with their keys' numbers.
pub struct Fetched {
    pub part: usize,
    pub keys: Vec<u32>,
    pub rows: Delta,
}

/// Keys of which it is looked up when they were touched last, to see which ones are old.
const SAMPLE_COUNT: usize = 4096;

impl Residency {
    pub fn begin_step(&mut self) {
        self.step += 1;
    }

    /// A first step that takes over what was saved: nothing of it has to be saved again.
    pub fn begin_restored(&mut self) {
        self.begin_step();
        self.saved_at = self.step;
        if let Some(disk) = &mut self.disk {
            disk.durable_at = self.step;
        }
    }

    /// The same, where nothing is read: all keys are on disk alone.
    pub fn begin_absent(&mut self) {
        self.begin_restored();
        if let Some(disk) = &mut self.disk {
            disk.is_complete = false;
        }
    }

    /// Makes room for numbers below this.
    pub fn make_room(&mut self, capacity: usize) {
        self.touched_at.resize(capacity, 0);
    }

    /// This step needs a key; returns when it was touched before that.
    pub fn touch(&mut self, key: u32) -> TouchedAt {
        let touched_at = std::mem::replace(&mut self.touched_at[key as usize], self.step);
        TouchedAt { is_new: touched_at == 0, is_first: touched_at != self.step, is_saved: touched_at <= self.saved_at }
    }

    pub fn is_there(&self, key: u32) -> bool {
        self.touched_at[key as usize] != 0
    }

    /// The numbers are free again.
    pub fn forget(&mut self, keys: &[u32]) {
        keys.iter().for_each(|&key| self.touched_at[key as usize] = 0);
    }

    /// All changes so far are on their way to a checkpoint.
    pub fn handed_over(&mut self) {
        self.saved_at = self.step;
    }

    pub fn attach(&mut self, saved: Vec<Arc<dyn KeyLookup>>, account: MemoryAccount) {
        let (dead, durable_at, exhausted_at) = (vec![], 0, None);
        self.disk = Some(Disk { saved, account, is_complete: true, durable_at, dead, exhausted_at });
    }

    /// Keys may go.
    pub fn is_partial(&self) -> bool {
        self.disk.is_some()
    }

    /// A key that is not there may be on disk.
    pub fn may_miss(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| !disk.is_complete)
    }

    /// Memory is counted.
    pub fn gives_way(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| !disk.account.is_unlimited())
    }

    /// What was saved of keys that have just got a number. `key`: the key columns of a part's rows.
    pub fn fetch(
        &self,
        missing: &[u32],
        index: &KeyIndex,
        key: impl Fn(usize, &Delta) -> Vec<ArrayRef>,
    ) -> Result<Vec<Fetched>> {
        let Some(disk) = self.disk.as_ref().filter(|_| !missing.is_empty()) else { return Ok(vec![]) };
        let mut hashes = key_hashes(&index.columns(missing)?, missing.len())?;
        hashes.sort_unstable();
        hashes.dedup();
        let missing: HashSet<u32> = missing.iter().copied().collect();
        let mut fetched = vec![];
        for (part, saved) in disk.saved.iter().enumerate() {
            let Some(rows) = saved.fetch(&hashes)? else { continue };
            // Others may have the same hash.
            let found = index.find(&key(part, &rows), rows.row_count())?;
            let wanted = found.iter().enumerate().filter_map(|(row, key)| Some((row as u32, (*key)?)));
            let (places, keys): (Vec<u32>, Vec<u32>) = wanted.filter(|(_, key)| missing.contains(key)).unzip();
            let rows = match places.len() == rows.row_count() {
                true => rows,
                false => rows.take(&UInt32Array::from(places))?,
            };
            fetched.push(Fetched { part, keys, rows });
        }
        Ok(fetched)
    }

    /// Nothing is left of these keys; when that is on disk they can be given back.
    pub fn died(&mut self, keys: &[u32]) {
        if let Some(disk) = &mut self.disk {
            disk.dead.extend(keys);
        }
    }

    /// How many keys have to go so that the operator keeps to what it may hold.
    fn surplus(&mut self, bytes: u64, key_count: usize) -> Option<usize> {
        let disk = self.disk.as_mut()?;
        disk.account.set(bytes);
        if disk.exhausted_at == Some(disk.durable_at) {
            return None;
        }
        let allowance = disk.account.allowance()?;
        if !disk.saved.iter().all(|saved| saved.is_ordered()) {
            return None;
        }
        let kept = u128::from(allowance) * key_count as u128 / u128::from(bytes.max(1));
        Some((key_count - (kept as usize).min(key_count)).max(1))
    }

    /// Takes note of what is left, and whether that is too much.
    fn gave_way(&mut self, bytes: u64) {
        let Some(disk) = &mut self.disk else { return };
        let allowance = disk.account.allowance();
        disk.account.set(bytes);
        let is_too_much = allowance.is_some_and(|allowance| bytes > allowance + allowance / 8);
        disk.exhausted_at = is_too_much.then_some(disk.durable_at);
    }

    /// About so many keys, those that were touched longest ago, as far as they are on disk as they are.
    fn oldest(&self, goal: usize, key_count: usize, is_pinned: impl Fn(u32) -> bool) -> Vec<u32> {
        let durable_at = self.disk.as_ref().map_or(0, |disk| disk.durable_at);
        let capacity = self.touched_at.len();
        let sampled = (0..capacity).step_by(capacity.div_ceil(SAMPLE_COUNT).max(1));
        let mut sample: Vec<u64> = sampled.map(|key| self.touched_at[key]).filter(|step| *step != 0).collect();
        sample.sort_unstable();
        let place = sample.len() * goal / key_count.max(1);
        let oldest = sample.get(place).map_or(durable_at, |step| (*step).min(durable_at));
        let can_go = |key: &u32| (1..=oldest).contains(&self.touched_at[*key as usize]) && !is_pinned(*key);
        (0..capacity as u32).filter(can_go).take(goal).collect()
    }
}

/// What [`Residency::touch`] found.
pub struct TouchedAt {
    /// It was not there.
    pub is_new: bool,
    /// This step touches it for the first time.
    pub is_first: bool,
    /// All that became of it so far has been handed over to a checkpoint.
    pub is_saved: bool,
}

/// State of which a part may be on disk alone.
///
/// # Contract
/// - A key goes only when all of its changes are in a finished checkpoint ([`Partial::saved`]).
pub trait Partial {
    fn residency(&self) -> &Residency;

    fn residency_mut(&mut self) -> &mut Residency;

    fn index(&self) -> &KeyIndex;

    /// What the keys in memory take. Room that keys have left is used again.
    fn resident_bytes(&self) -> u64;

    /// Nothing is left of a key that is there.
    fn is_dead(&self, key: u32) -> bool;

    /// It has to stay.
    fn is_pinned(&self, _key: u32) -> bool {
        false
    }

    /// Frees the numbers of keys that nothing is left of.
    fn give_back(&mut self, keys: &[u32]);

    /// Forgets keys, but not what is saved of them; their numbers are free.
    fn let_go(&mut self, keys: &[u32]) -> Result<()>;

    /// Instead of [`super::Durable::restore`]: what was attached holds all of the state. Nothing is read but what is needed at
    /// once.
    fn begin_absent(&mut self, context: &mut EpochContext) -> Result<()>;

    /// From now on `saved[i]` is what the last finished checkpoint has of part `i`. Comes at most once, before the first step.
    fn attach(&mut self, saved: Vec<Arc<dyn KeyLookup>>, account: MemoryAccount) {
        self.residency_mut().attach(saved, account);
    }

    /// The changes that were taken last are in a finished checkpoint.
    fn saved(&mut self) -> Result<()> {
        let dead = self.dead();
        let residency = self.residency_mut();
        let durable_at = residency.saved_at;
        let is_over = |key: &u32| residency.touched_at[*key as usize] <= durable_at;
        let (gone, kept): (Vec<u32>, Vec<u32>) = dead.into_iter().partition(is_over);
        let Some(disk) = &mut residency.disk else { return Ok(()) };
        (disk.durable_at, disk.dead) = (durable_at, kept);
        self.give_back(&gone);
        self.residency_mut().forget(&gone);
        self.keep_to_allowance()
    }

    /// Lets go of keys if memory is short.
    fn keep_to_allowance(&mut self) -> Result<()> {
        if !self.residency().gives_way() {
            return Ok(());
        }
        let (bytes, key_count) = (self.resident_bytes(), self.index().len());
        let Some(goal) = self.residency_mut().surplus(bytes, key_count) else { return Ok(()) };
        let going = self.residency().oldest(goal, key_count, |key| self.is_pinned(key));
        self.evict(&going)?;
        let bytes = self.resident_bytes();
        self.residency_mut().gave_way(bytes);
        Ok(())
    }

    fn evict(&mut self, going: &[u32]) -> Result<()> {
        if going.is_empty() {
            return Ok(());
        }
        let residency = self.residency_mut();
        residency.forget(going);
        if let Some(disk) = &mut residency.disk {
            disk.is_complete = false;
        }
        self.let_go(going)
    }

    /// Keys that only wait for it to be on disk that nothing is left of them.
    fn dead(&self) -> Vec<u32> {
        let residency = self.residency();
        let mut dead = residency.disk.as_ref().map_or_else(Vec::new, |disk| disk.dead.clone());
        dead.sort_unstable();
        dead.dedup();
        dead.retain(|&key| residency.is_there(key) && self.is_dead(key));
        dead
    }

    /// Those that could go now.
    #[cfg(test)]
    fn evictable(&self) -> Vec<u32> {
        let residency = self.residency();
        residency.oldest(usize::MAX >> 13, residency.touched_at.len(), |key| self.is_pinned(key))
    }
}
