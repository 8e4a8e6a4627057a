//! History: what changed in one relation, epoch by epoch, so that it can be read as it was and followed as it becomes.
//!
//! ```text
//! rows(e) = rows(now) − Σ changes after e            since ≤ e ≤ now
//!
//! [ segment: epochs 7..19 ][ 20..31 ][ 32 ]  ◀── append, at each commit
//!   ▲ let go when it is older than `since` and no subscriber holds it
//! ```
//! It is an undo log: the relation itself is kept as if there were no history, and a relation without one pays nothing.
//! What it costs is the changes of the time that it reaches back, each once. The sequencer appends and trims; readers and
//! subscribers share it, each with a world whose epoch says how much of the log is theirs.

mod changes;
mod timeline;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use parking_lot::RwLock;

pub use changes::Changes;
pub use timeline::Timeline;

use super::Snapshot;
use crate::error::Result;
use crate::types::{Delta, Epoch, Moment};

/// Segments are merged up to so many rows; what is let go is let go by segments.
const SEGMENT_ROW_COUNT_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub struct History {
    schema: SchemaRef,
    log: RwLock<Log>,
}

#[derive(Debug)]
struct Log {
    segments: VecDeque<Changes>,
    /// The oldest epoch that anybody may ask for.
    since: Moment,
    /// All changes after this epoch are here. Behind `since` while a subscriber holds what it has not taken.
    floor: Epoch,
    holds: BTreeMap<u64, Epoch>,
    next_hold: u64,
}

/// What a history holds at this moment.
#[derive(Clone, Copy, Debug)]
pub struct HistorySize {
    pub since: Moment,
    pub row_count: usize,
    pub bytes: usize,
    pub subscriber_count: usize,
}

impl History {
    /// Of a relation whose state at `since` is known, and no older one.
    pub fn new(schema: SchemaRef, since: Moment) -> History {
        let log = Log { segments: VecDeque::new(), since, floor: since.epoch, holds: BTreeMap::new(), next_hold: 0 };
        History { schema, log: RwLock::new(log) }
    }

    /// The change of an epoch, which must be newer than all before.
    pub fn append(&self, at: Moment, deltas: &[Delta]) -> Result<()> {
        let delta = Delta::concat(&self.schema, deltas)?;
        if delta.is_empty() {
            return Ok(());
        }
        let mut log = self.log.write();
        assert!(log.segments.back().is_none_or(|last| last.last_epoch() < at.epoch), "epochs are appended in order");
        log.segments.push_back(Changes::of_epoch(at, delta));
        log.merge(&self.schema)
    }

    /// From now on nobody may ask for what is older than `since`. What only subscribers still hold may be of so many bytes
    /// for each; one that is further behind loses its hold.
    pub fn trim(&self, since: Moment, held_bytes_max: usize) {
        let mut log = self.log.write();
        if since.epoch > log.since.epoch {
            log.since = since;
        }
        log.revoke(held_bytes_max);
        log.let_go();
    }

    /// The oldest epoch that anybody may ask for.
    pub fn since(&self) -> Moment {
        self.log.read().since
    }

    pub fn has_holds(&self) -> bool {
        !self.log.read().holds.is_empty()
    }

    pub fn size(&self) -> HistorySize {
        let log = self.log.read();
        HistorySize {
            since: log.since,
            row_count: log.segments.iter().map(|segment| segment.delta.row_count()).sum(),
            bytes: log.segments.iter().map(Changes::memory_bytes).sum(),
            subscriber_count: log.holds.len(),
        }
    }

    /// The relation as it was at `epoch`, from what it is at `upper`. `None` if that is longer ago than it reaches.
    pub fn as_of(&self, now: &Arc<Snapshot>, upper: Epoch, epoch: Epoch) -> Result<Option<Arc<Snapshot>>> {
        let log = self.log.read();
        if epoch < log.since.epoch {
            return Ok(None);
        }
        let later: Vec<Delta> = log.between(epoch, upper).map(|changes| changes.delta).collect();
        drop(log);
        match later.is_empty() {
            true => Ok(Some(now.clone())),
            false => now.before(&later).map(|then| Some(Arc::new(then))),
        }
    }

    /// Keeps all changes after `epoch` until the hold goes on or is dropped. `None` if some are gone.
    pub fn hold(self: &Arc<Self>, epoch: Epoch) -> Option<Hold> {
        let mut log = self.log.write();
        if epoch < log.floor {
            return None;
        }
        let id = log.next_hold;
        log.next_hold += 1;
        log.holds.insert(id, epoch);
        drop(log);
        Some(Hold { history: self.clone(), id })
    }
}

impl Log {
    /// Changes after `after` up to `through`, oldest first.
    fn between(&self, after: Epoch, through: Epoch) -> impl Iterator<Item = Changes> {
        let first = self.segments.partition_point(|segment| segment.last_epoch() <= after);
        self.segments.range(first..).map_while(move |segment| segment.between(after, through))
    }

    /// Neighbours of like size become one, so that a row is copied O(log n) times.
    fn merge(&mut self, schema: &SchemaRef) -> Result<()> {
        while let [.., before, last] = self.segments.make_contiguous() {
            let (rows, more) = (before.delta.row_count(), last.delta.row_count());
            if rows > 2 * more || rows + more > SEGMENT_ROW_COUNT_MAX {
                break;
            }
            let merged = before.followed_by(last, schema)?;
            self.segments.truncate(self.segments.len() - 2);
            self.segments.push_back(merged);
        }
        Ok(())
    }

    fn revoke(&mut self, held_bytes_max: usize) {
        let (segments, since) = (&self.segments, self.since.epoch);
        self.holds.retain(|_, epoch| {
            let held = segments.iter().filter(|s| s.last_epoch() > *epoch && s.last_epoch() <= since);
            held.map(Changes::memory_bytes).sum::<usize>() <= held_bytes_max
        });
    }

    fn let_go(&mut self) {
        let needed = self.holds.values().copied().min().map_or(self.since.epoch, |held| held.min(self.since.epoch));
        while let Some(first) = self.segments.front().filter(|segment| segment.last_epoch() <= needed) {
            self.floor = first.last_epoch();
            self.segments.pop_front();
        }
    }
}

/// A subscriber's place in a history: what comes after it is kept for it, within bounds.
#[derive(Debug)]
pub struct Hold {
    history: Arc<History>,
    id: u64,
}

impl Hold {
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Changes after the hold's place up to `through`, as they are kept. `None`: it has been revoked.
    pub fn changes(&self, through: Epoch) -> Option<Vec<Changes>> {
        let log = self.history.log.read();
        let place = *log.holds.get(&self.id)?;
        Some(log.between(place, through).collect())
    }

    /// What is not newer than `epoch` is not needed any more.
    pub fn advance(&self, epoch: Epoch) {
        if let Some(place) = self.history.log.write().holds.get_mut(&self.id) {
            *place = epoch.max(*place);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.history.log.write().holds.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
