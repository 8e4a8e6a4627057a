//! Checkpoints as the sequencer sees them: when one is due, what goes into it, and how a start goes on from the last.
//!
//! A view that was saved is *awaited* until it has been made again and has caught up. While one is, nothing new is saved
//! (the last checkpoint is still what a crash goes back to) and nothing is let go that it may ask for: changes of tables
//! and views since the checkpoint, and the positions that sources had then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{EPOCH_ROW_COUNT_MAX, Event, Sequencer};
use crate::error::Result;
use crate::runtime::checkpoint::{
    Checkpointer, Finished, Job, Saved, SavedState, ViewJob, contents_part, contents_place, read_source_errors,
};
use crate::runtime::status::SourceError;
use crate::runtime::worker::Command;
use crate::state::checkpoint::record::SourceRecord;
use crate::state::checkpoint::{PartChange, StateChanges};
use crate::state::{Memory, Store};
use crate::types::{Epoch, RelationId};

/// Input rows of a checkpoint that has become due, beyond which sources wait for it: what it holds is kept in memory.
const UNSAVED_ROW_COUNT_MAX: usize = 512 * EPOCH_ROW_COUNT_MAX;

pub struct Checkpoints {
    /// `None`: nothing is saved.
    writer: Option<Checkpointer>,
    interval: Duration,
    started: Instant,
    is_under_way: bool,
    /// Something has changed since the last one.
    is_due: bool,
    unsaved_row_count: usize,
    is_measure_due: bool,
    /// Views that were stepped since the last one.
    touched: BTreeSet<RelationId>,
    /// Views that start over, and have not been saved since.
    fresh: BTreeSet<RelationId>,
    forgotten: Vec<RelationId>,
    source_errors: Vec<(u64, SourceError)>,
    next_errors: BTreeMap<RelationId, u64>,
    saved: Arc<Saved>,
    /// Views that were saved and have not caught up again.
    awaited: BTreeSet<RelationId>,
    state: Arc<SavedState>,
    /// So many input rows make a checkpoint due before its time, and four times as many hold back who brings more.
    unsaved_row_count_max: usize,
    /// The views whose changes are in the checkpoint under way.
    under_way: Arc<[RelationId]>,
}

/// Where memory is limited, what is not saved yet cannot be let go.
fn row_count_max(memory: &Memory) -> usize {
    const ROW_BYTES: u64 = 4096;
    const ROW_COUNT_MIN: u64 = 1024;
    let few = memory.limit_bytes().map(|limit| (limit / ROW_BYTES).max(ROW_COUNT_MIN) as usize);
    few.unwrap_or(UNSAVED_ROW_COUNT_MAX).min(UNSAVED_ROW_COUNT_MAX)
}

impl Checkpoints {
    /// Without an interval nothing is saved.
    pub fn start(
        store: Arc<dyn Store>,
        saved: Arc<Saved>,
        state: Arc<SavedState>,
        interval: Option<Duration>,
        finished: impl Fn(Finished) + Send + 'static,
    ) -> Result<Checkpoints> {
        let writer = interval.map(|_| Checkpointer::start(store, &saved, state.clone(), finished)).transpose()?;
        let complete = saved.views.iter().filter(|(_, record)| record.is_complete);
        Ok(Checkpoints {
            writer,
            interval: interval.unwrap_or_default(),
            started: Instant::now(),
            is_under_way: false,
            is_due: false,
            unsaved_row_count: 0,
            is_measure_due: false,
            touched: BTreeSet::new(),
            fresh: BTreeSet::new(),
            forgotten: vec![],
            source_errors: vec![],
            next_errors: saved.engine.sources.iter().map(|(id, s)| (RelationId(*id), s.next_error)).collect(),
            awaited: complete.map(|(id, _)| *id).collect(),
            saved,
            unsaved_row_count_max: row_count_max(state.memory()),
            state,
            under_way: Arc::default(),
        })
    }

    pub fn state(&self) -> &SavedState {
        &self.state
    }

    /// What operators look keys up in; `None` for what is not saved.
    pub fn state_of(&self, id: RelationId) -> Option<Arc<SavedState>> {
        self.saves(id).then(|| self.state.clone())
    }

    pub fn is_on(&self) -> bool {
        self.writer.is_some()
    }

    /// True if the view is saved. What lives only as long as a subscription is not.
    pub fn saves(&self, id: RelationId) -> bool {
        self.is_on() && !id.is_temporary()
    }

    /// Some views have yet to be made from the last checkpoint.
    pub fn is_recovering(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// The epoch of the checkpoint that this start goes on from.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.saved.engine.epoch)
    }

    pub fn now_us(&self) -> i64 {
        self.saved.engine.now_us
    }

    /// How far a source had been read.
    pub fn source(&self, id: RelationId) -> Option<&SourceRecord> {
        self.saved.engine.sources.get(&id.0)
    }

    pub fn note_epoch(&mut self, touched: &[RelationId], row_count: usize) {
        self.is_due = true;
        self.unsaved_row_count += row_count;
        self.touched.extend(touched.iter().filter(|id| !id.is_temporary()));
    }

    pub fn note_fresh(&mut self, id: RelationId) {
        if id.is_temporary() {
            return;
        }
        self.fresh.insert(id);
        self.touched.insert(id);
        self.is_due = true;
    }

    /// The relation is gone, or what is saved of it is of no use.
    pub fn note_forgotten(&mut self, id: RelationId) {
        if id.is_temporary() {
            return;
        }
        self.forgotten.push(id);
        self.touched.remove(&id);
        self.fresh.remove(&id);
        self.is_due = true;
    }

    pub fn note_source_errors(&mut self, source: RelationId, errors: &[SourceError]) {
        if !self.is_on() {
            return;
        }
        let next = self.next_errors.entry(source).or_default();
        for error in errors {
            self.source_errors.push((*next, error.clone()));
            *next += 1;
        }
    }

    /// True once after each checkpoint: what is held is measured then, too.
    pub fn is_measure_due(&mut self) -> bool {
        std::mem::take(&mut self.is_measure_due)
    }

    /// Sources read no further until what they have given is saved.
    pub fn holds_sources_back(&self) -> bool {
        self.is_on() && self.unsaved_row_count > self.unsaved_row_count_max.saturating_mul(4).min(UNSAVED_ROW_COUNT_MAX)
    }

    /// Views that catch up wait, too, where memory is limited. Those that go on from a checkpoint are what it waits for.
    pub fn holds_catching_up_back(&self) -> bool {
        self.holds_sources_back() && self.state.memory().limit_bytes().is_some() && !self.is_recovering()
    }

    /// The view has caught up, starts over, or will not be made again.
    pub fn settle(&mut self, id: RelationId) -> bool {
        self.awaited.remove(&id)
    }
}

impl Sequencer {
    /// After a view was settled: once all are, what was kept for them goes.
    pub(super) fn recovered(&mut self) {
        if self.checkpoints.is_recovering() {
            return;
        }
        self.tables.values_mut().for_each(|table| table.since_checkpoint.clear());
        self.stop_unread_sources();
    }

    pub(super) fn give_up(&mut self, id: RelationId) {
        if self.checkpoints.settle(id) {
            self.checkpoints.note_forgotten(id);
            self.recovered();
        }
    }

    /// Views that have failed are waited for no longer.
    fn settle_failed(&mut self) {
        let has_failed = |id: &&RelationId| self.views.get(id).is_some_and(|view| view.has_failed());
        let failed: Vec<RelationId> = self.checkpoints.awaited.iter().filter(has_failed).copied().collect();
        failed.into_iter().for_each(|id| self.give_up(id));
    }

    /// Starts a checkpoint of the last epoch, if it is time.
    pub(super) fn checkpoint(&mut self) {
        self.settle_failed();
        let checkpoints = &self.checkpoints;
        let is_time = checkpoints.started.elapsed() >= checkpoints.interval
            || checkpoints.unsaved_row_count > checkpoints.unsaved_row_count_max;
        let can = checkpoints.is_on() && !checkpoints.is_under_way && !checkpoints.is_recovering();
        if !(checkpoints.is_due && is_time && can) {
            return;
        }
        self.checkpoints.started = Instant::now();
        let touched: Vec<RelationId> = std::mem::take(&mut self.checkpoints.touched).into_iter().collect();
        self.checkpoints.under_way = touched.as_slice().into();
        let mut changes = self.operator_changes(&touched);
        let mut views = vec![];
        for id in touched {
            match changes.remove(&id).unwrap_or_else(|| Ok(vec![])).and_then(|changes| self.view_job(id, changes)) {
                Ok(job) => views.extend(job),
                Err(error) => self.fail_view(id, error),
            }
        }
        let sources = self.sources.iter().filter_map(|(id, source)| {
            let next_error = self.checkpoints.next_errors.get(id).copied().unwrap_or_default();
            match source.record(next_error) {
                Ok(record) => Some((*id, record?)),
                // It would have to be read again from its start, which nothing that is saved expects.
                Err(error) => super::die("sequencer", &error.to_string()),
            }
        });
        let job = Job {
            // The one under way has not begun.
            epoch: Epoch(self.epoch.0 - 1),
            now_us: self.now_us,
            sources: sources.collect(),
            source_errors: std::mem::take(&mut self.checkpoints.source_errors),
            views,
            forgotten: std::mem::take(&mut self.checkpoints.forgotten),
        };
        let checkpoints = &mut self.checkpoints;
        (checkpoints.is_due, checkpoints.is_under_way, checkpoints.unsaved_row_count) = (false, true, 0);
        if let Some(writer) = &checkpoints.writer {
            writer.write(job);
        }
    }

    /// What has changed of the operators of these views, from all workers.
    fn operator_changes(&self, views: &[RelationId]) -> BTreeMap<RelationId, Result<StateChanges>> {
        let mut changes: BTreeMap<RelationId, Result<Vec<_>>> = BTreeMap::new();
        if views.is_empty() {
            return changes;
        }
        let (reply, answers) = std::sync::mpsc::channel();
        let views: Arc<[RelationId]> = views.into();
        self.command_all(|| Command::TakeChanges { views: views.clone(), reply: reply.clone() });
        drop(reply);
        for (view, own) in answers.iter().flatten() {
            match (changes.entry(view).or_insert_with(|| Ok(vec![])), own) {
                (Ok(all), Ok(own)) => all.extend(own),
                (all, Err(error)) => *all = Err(error),
                (Err(_), _) => {}
            }
        }
        changes
    }

    fn view_job(&mut self, id: RelationId, mut changes: StateChanges) -> Result<Option<ViewJob>> {
        let is_fresh = self.checkpoints.fresh.remove(&id);
        let Some(view) = self.views.get_mut(&id) else { return Ok(None) };
        if view.has_failed() {
            return Ok(None);
        }
        changes.splice(0..0, std::mem::take(&mut view.spread_anew));
        if let Some(layout) = view.layout() {
            let part = contents_part(layout);
            let change = PartChange { deltas: std::mem::take(&mut view.unsaved), below: None };
            changes.push((contents_place(view.operator_count()), part, change));
        }
        let errors = self.statuses.lock().take_changed_view_errors(id);
        Ok(Some(ViewJob { id, is_fresh, record: view.record(self.links.len()), changes, errors }))
    }

    pub(super) fn checkpoint_finished(&mut self, finished: Finished) {
        (self.checkpoints.is_under_way, self.checkpoints.is_measure_due) = (false, true);
        let views = self.checkpoints.under_way.clone();
        if !views.is_empty() {
            self.command_all(|| Command::Saved { views: views.clone() });
        }
        self.statuses.lock().checkpoint = Some(finished.epoch);
        self.wake.is_set.store(true, std::sync::atomic::Ordering::Release);
        self.files.merge_up_to(finished.epoch);
        self.account_memory();
    }

    /// Ends the writer; the checkpoint under way is waited for.
    pub(super) fn stop_checkpoints(&mut self) {
        if let Some(writer) = &mut self.checkpoints.writer {
            writer.stop();
        }
    }

    /// Records that could not be decoded before this start.
    pub(super) fn restore_source_errors(&self, id: RelationId) {
        match read_source_errors(self.store.as_ref(), id) {
            Ok(errors) => self.statuses.lock().restore_source_errors(id, errors),
            Err(error) => tracing::error!("the errors of source {} could not be read: {error}", id.0),
        }
    }
}

/// Tells the sequencer that a checkpoint is durable.
pub fn tell(events: std::sync::mpsc::Sender<Event>) -> impl Fn(Finished) + Send + 'static {
    move |finished| {
        // The sequencer is gone only when the server ends.
        let _ = events.send(Event::CheckpointFinished { finished });
    }
}
