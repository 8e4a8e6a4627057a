//! Histories: which relations keep their changes, for how long, and for whom.
//!
//! A relation has a [`History`] while its retention says so or somebody subscribes to it. What an epoch changes is noted
//! as it is applied and goes into the histories just before the epoch's world is published, so whoever sees a world
//! finds all changes up to it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Sequencer;
use crate::error::{Error, Result, SqlState};
use crate::runtime::Followed;
use crate::state::history::Hold;
use crate::state::{History, Timeline, World};
use crate::types::{Delta, Epoch, Moment, RelationId};

/// How often histories of relations that do not change are trimmed.
const TRIM_EVERY: Duration = Duration::from_millis(500);
/// How far back instants are known of relations that keep nothing: long enough for what was "now" a moment ago.
const TIMELINE_US_MIN: i64 = 60_000_000;

pub struct Histories {
    kept: BTreeMap<RelationId, Kept>,
    timeline: Arc<Timeline>,
    /// What the epoch under way changes.
    noted: HashMap<RelationId, Vec<Delta>>,
    trimmed_at: Instant,
    held_bytes_max: usize,
}

struct Kept {
    history: Arc<History>,
    /// Zero: only for those who subscribe.
    retention_us: i64,
}

impl Histories {
    /// `held_bytes_max`: what one subscriber may be behind by.
    pub fn new(held_bytes_max: usize) -> Histories {
        let timeline = Arc::default();
        Histories { kept: BTreeMap::new(), timeline, noted: HashMap::new(), trimmed_at: Instant::now(), held_bytes_max }
    }

    pub fn timeline(&self) -> &Arc<Timeline> {
        &self.timeline
    }

    pub fn memory_bytes(&self) -> u64 {
        self.kept.values().map(|kept| kept.history.size().bytes as u64).sum()
    }

    pub fn len(&self) -> usize {
        self.kept.len()
    }

    pub fn published(&self) -> HashMap<RelationId, Arc<History>> {
        self.kept.iter().map(|(id, kept)| (*id, kept.history.clone())).collect()
    }

    pub fn note(&mut self, relation: RelationId, change: &Delta) {
        if self.kept.contains_key(&relation) {
            self.noted.entry(relation).or_default().push(change.clone());
        }
    }

    /// The epoch is over; its world comes next.
    pub fn commit(&mut self, at: Moment) {
        self.trim(at.at_us);
        self.timeline.push(at);
        for (relation, deltas) in std::mem::take(&mut self.noted) {
            let Some(kept) = self.kept.get(&relation) else { continue };
            if let Err(error) = kept.history.append(at, &deltas) {
                // With a gap it would tell what never was.
                tracing::error!("the history of relation {} is lost: {error}", relation.0);
                self.kept.remove(&relation);
            }
        }
    }

    /// Lets go what is longer ago than anybody may ask for. True if a history is gone.
    fn trim(&mut self, now_us: i64) -> bool {
        self.trimmed_at = Instant::now();
        let (timeline, held_bytes_max) = (&self.timeline, self.held_bytes_max);
        let before = self.kept.len();
        self.kept.retain(|_, kept| {
            if let Some(since) = timeline.at(now_us.saturating_sub(kept.retention_us)) {
                kept.history.trim(since, held_bytes_max);
            }
            kept.retention_us > 0 || kept.history.has_holds()
        });
        let longest_us = self.kept.values().map(|kept| kept.retention_us).max().unwrap_or(0).max(TIMELINE_US_MIN);
        self.timeline.trim(now_us.saturating_sub(longest_us));
        self.kept.len() < before
    }

    pub fn forget(&mut self, relation: RelationId) {
        self.kept.remove(&relation);
        self.noted.remove(&relation);
    }
}

impl Sequencer {
    /// From now on the relation keeps what it was for so long.
    pub(super) fn set_retention(&mut self, relation: RelationId, retention_us: i64) -> Result<()> {
        if retention_us > 0 {
            self.keep(relation)?;
        }
        if let Some(kept) = self.histories.kept.get_mut(&relation) {
            kept.retention_us = retention_us;
            self.histories.trim(self.clock.now_us());
        }
        self.publish_all();
        Ok(())
    }

    /// A subscriber's start: the world as it is, and a hold on what comes after `from` (absent: after this world).
    pub(super) fn follow(&mut self, relation: RelationId, from: Option<Epoch>) -> Result<Followed> {
        let history = self.keep(relation)?;
        let world = self.world.borrow().clone();
        let from = from.unwrap_or(world.epoch);
        let in_reach = from <= world.epoch && history.since().epoch <= from;
        let hold: Option<Hold> = in_reach.then(|| history.hold(from)).flatten();
        if !world.histories.contains_key(&relation) {
            self.publish_all();
        }
        Ok(Followed { world: self.world.borrow().clone(), hold, worlds: self.world.subscribe() })
    }

    /// 55000 if there is nothing to keep: it was dropped, or has failed.
    fn keep(&mut self, relation: RelationId) -> Result<Arc<History>> {
        if let Some(kept) = self.histories.kept.get(&relation) {
            return Ok(kept.history.clone());
        }
        let world: Arc<World> = self.world.borrow().clone();
        let Some(snapshot) = world.snapshots.get(&relation) else {
            let message = "the relation cannot be read: it was dropped, or has failed";
            return Err(Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message));
        };
        let history = Arc::new(History::new(snapshot.schema().clone(), world.moment()));
        self.histories.kept.insert(relation, Kept { history: history.clone(), retention_us: 0 });
        Ok(history)
    }

    /// The last epoch at or before the instant, once no other can come at or before it.
    pub(super) fn settle(&mut self, instant_us: i64) -> Epoch {
        self.clock.pass(instant_us);
        self.world.borrow().epoch
    }

    /// Memory is given back where nothing happens, too.
    pub(super) fn trim_histories(&mut self) {
        if self.histories.trimmed_at.elapsed() >= TRIM_EVERY && self.histories.trim(self.clock.now_us()) {
            self.publish_all();
        }
    }

    /// What is maintained for a subscriber alone and reads one of these.
    pub(super) fn temporary_readers(&self, ids: &[RelationId]) -> Vec<RelationId> {
        let reads = |view: &super::views::View| view.relations().any(|relation| ids.contains(&relation));
        let temporary = self.views.range(RelationId::FIRST_TEMPORARY..);
        temporary.filter(|(_, view)| reads(view)).map(|(id, _)| *id).collect()
    }
}
