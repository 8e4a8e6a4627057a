//! Sources: starting and stopping their readers, taking their rows into epochs, watermarks, catching up.
//!
//! A source is read while a view reads it, by one reader that makes the columns that its views need together. A view
//! that comes later catches up by a reader of its own over what has been read so far ([`Catchup`]), then shares.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::quota::Feed;
use super::{Changes, EPOCH_ROW_COUNT_MAX, Sequencer, Wake};
use crate::error::{Error, Result, SqlState};
use crate::runtime::SourceSpec;
use crate::runtime::source::{
    self, ArrivalLog, RateLimit, SourceBatch, SourceEvent, SourceHandle, SourceTask, SourceWatermark,
};
use crate::runtime::status::{SourceError, SourceStatus};
use crate::runtime::worker::RelationDelta;
use crate::state::StoreBatch;
use crate::state::checkpoint::record::SourceRecord;
use crate::types::{BadRecord, Delta, Epoch, Position, RelationId};

/// Rows that a reader may be ahead of the epochs.
const READ_AHEAD_ROW_COUNT_MAX: usize = 2 * EPOCH_ROW_COUNT_MAX;

pub struct Source {
    spec: SourceSpec,
    reader: Option<Reader>,
    position: Position,
    watermark: Option<SourceWatermark>,
    /// What position and watermark were at the checkpoint that this start goes on from.
    checkpoint: Option<(Position, Option<SourceWatermark>)>,
    /// Nothing is taken from it until it is told to go on.
    is_paused: bool,
    rows_per_s: Option<NonZeroU64>,
    rate_limit: Option<RateLimit>,
    arrivals: Arc<ArrivalLog>,
    state: &'static str,
    error: Option<Error>,
    row_count: u64,
    bad_record_count: u64,
}

struct Reader {
    handle: SourceHandle,
    projection: Arc<[usize]>,
}

impl Source {
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Of a source that has come to its end, the end of time: every window of it is over.
    pub fn watermark_us(&self) -> Option<i64> {
        let watermark = self.watermark.as_ref()?;
        if self.state == "finished" { Some(i64::MAX) } else { watermark.current_us() }
    }

    pub fn is_running(&self) -> bool {
        self.reader.is_some()
    }

    pub fn stop(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.handle.stop();
        }
    }

    fn new(spec: SourceSpec, arrivals: ArrivalLog) -> Source {
        let position = spec.definition.start.clone();
        Source {
            rows_per_s: spec.rows_per_s,
            rate_limit: spec.rows_per_s.map(RateLimit::new),
            reader: None,
            position,
            watermark: None,
            checkpoint: None,
            is_paused: spec.is_paused,
            spec,
            arrivals: Arc::new(arrivals),
            state: "idle",
            error: None,
            row_count: 0,
            bad_record_count: 0,
        }
    }

    /// Goes on from where it was at the last checkpoint.
    fn restored(self, saved: &SourceRecord) -> Result<Source> {
        let damaged = |e| Error::new(SqlState::DATA_CORRUPTED, format!("unreadable watermark of a source: {e}"));
        let watermark = saved.watermark.clone().map(serde_json::from_value).transpose().map_err(damaged)?;
        Ok(Source {
            position: saved.position.clone(),
            checkpoint: Some((saved.position.clone(), Option::clone(&watermark))),
            watermark,
            row_count: saved.row_count,
            bad_record_count: saved.bad_record_count,
            ..self
        })
    }

    /// What a checkpoint holds of it; `None` if it has not been read.
    pub fn record(&self, next_error: u64) -> Result<Option<SourceRecord>> {
        if self.position == self.spec.definition.start && !self.is_running() {
            return Ok(None);
        }
        let unwritable = |e| Error::internal(format!("a watermark could not be written: {e}"));
        Ok(Some(SourceRecord {
            position: self.position.clone(),
            row_count: self.row_count,
            bad_record_count: self.bad_record_count,
            watermark: self.watermark.as_ref().map(serde_json::to_value).transpose().map_err(unwritable)?,
            next_error,
        }))
    }

    fn open(
        &self,
        projection: &[usize],
        from: &Position,
        until: Option<&Position>,
        watermark: Option<SourceWatermark>,
        wake: &Wake,
    ) -> Result<SourceHandle> {
        let spec = &self.spec;
        let task = SourceTask::new(spec.id, &spec.schema, &spec.definition, projection, from.clone(), until.cloned())?
            .with_arrivals(self.arrivals.clone())
            .with_watermark(watermark);
        let wake = wake.clone();
        source::spawn(task, Arc::new(move || wake.call()), READ_AHEAD_ROW_COUNT_MAX)
    }

    /// Starts the shared reader at the source's position, or starts it anew if it does not make all `columns`.
    fn read(&mut self, columns: &[usize], wake: &Wake) -> Result<()> {
        let mut wanted: BTreeSet<usize> = columns.iter().copied().collect();
        wanted.extend(self.spec.definition.watermark.as_ref().map(|watermark| watermark.column));
        if let Some(reader) = &self.reader {
            if wanted.iter().all(|column| reader.projection.contains(column)) {
                return Ok(());
            }
            wanted.extend(reader.projection.iter());
        }
        let projection: Arc<[usize]> = wanted.into_iter().collect();
        let handle = self.open(&projection, &self.position, None, self.watermark.clone(), wake)?;
        // What the old reader had read ahead is read again by the new one.
        self.stop();
        if self.watermark.is_none() {
            self.watermark = self.spec.definition.watermark.as_ref().map(|_| SourceWatermark::new(None));
        }
        self.reader = Some(Reader { handle, projection });
        self.state = "running";
        Ok(())
    }

    fn reset(&mut self) {
        self.stop();
        self.position = self.spec.definition.start.clone();
        (self.watermark, self.state, self.error) = (None, "idle", None);
        (self.row_count, self.bad_record_count) = (0, 0);
    }

    fn status(&self) -> SourceStatus {
        let watermark = self.watermark.as_ref();
        SourceStatus {
            id: self.spec.id,
            state: if self.is_paused { "paused" } else { self.state },
            error: self.error.as_ref().map(|error| error.to_string()),
            row_count: self.row_count,
            bad_record_count: self.bad_record_count,
            position: self.position.clone(),
            watermark_us: watermark.and_then(|watermark| watermark.current_us()),
            watermark_partition: watermark.and_then(|watermark| watermark.held_back_by()).map(str::to_string),
        }
    }

    fn take_in(&mut self, batch: &SourceBatch) {
        self.position.0.insert(batch.partition.clone(), batch.next_offset);
        self.row_count += batch.rows.num_rows() as u64;
        self.bad_record_count += batch.bad_records.len() as u64;
        if let Some(watermark) = &mut self.watermark {
            watermark.observe(&batch.partition, batch.rows.num_rows(), batch.told_max_us());
        }
    }
}

/// A view's own pass over what its source had delivered before the view came.
pub struct Catchup {
    pub source: RelationId,
    columns: Arc<[usize]>,
    handle: Option<SourceHandle>,
    rate_limit: Option<RateLimit>,
}

impl Catchup {
    /// Rows that are there by now and that its rate lets through, `room` at most.
    pub fn take(&mut self, room: usize, now: Duration) -> Result<Taken> {
        let allowed = self.rate_limit.as_mut().map_or(room, |limit| limit.allowed(now).min(room));
        let mut taken = Taken { changes: vec![], is_done: self.handle.is_none(), more: More::WhenTold };
        let mut left = allowed;
        while let Some(event) = self.handle.as_mut().and_then(|handle| handle.try_next(left)) {
            match event {
                SourceEvent::Batch(batch) => {
                    left -= batch.rows.num_rows();
                    // Its bad records were counted when they were read first.
                    taken
                        .changes
                        .push(RelationDelta { columns: self.columns.clone(), delta: Delta::insert(batch.rows) });
                }
                SourceEvent::Finished => {
                    taken.is_done = true;
                    return Ok(taken);
                }
                SourceEvent::Trouble(error) => tracing::warn!("catching up waits: {error}"),
                SourceEvent::Recovered | SourceEvent::Idle { .. } | SourceEvent::Partitions(_) => {}
            }
        }
        if let Some(handle) = &self.handle {
            taken.more = settle(handle, self.rate_limit.as_mut(), allowed - left, room);
        }
        Ok(taken)
    }

    pub fn set_rate_limit(&mut self, rows_per_s: Option<NonZeroU64>) {
        self.rate_limit = rows_per_s.map(RateLimit::new);
    }
}

/// What an epoch took of a pass over a source.
pub struct Taken {
    pub changes: Vec<RelationDelta>,
    /// There is nothing behind it.
    pub is_done: bool,
    pub more: More,
}

/// When to look again; what is sooner is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum More {
    /// Rows are there that this epoch had no room for.
    Now,
    /// Rows are there that would come too fast.
    In(Duration),
    /// When the reader has something.
    WhenTold,
}

/// After `row_count` rows were taken, of `room` that could have been.
fn settle(handle: &SourceHandle, limit: Option<&mut RateLimit>, row_count: usize, room: usize) -> More {
    let wait = limit.map(|limit| {
        limit.take(row_count);
        limit.wait()
    });
    match wait {
        _ if !handle.has_rest() => More::WhenTold,
        Some(wait) if row_count < room => More::In(wait),
        _ => More::Now,
    }
}

impl Drop for Catchup {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.stop();
        }
    }
}

impl Sequencer {
    pub(super) fn create_source(&mut self, spec: SourceSpec) -> Result<()> {
        // Options are tried here, so that a definition that cannot be read is refused when it is made.
        let start = &spec.definition.start;
        SourceTask::new(spec.id, &spec.schema, &spec.definition, &[], start.clone(), None)?;
        let arrivals = match spec.definition.tells_arrival() {
            true => ArrivalLog::load(spec.id, self.store.as_ref())?,
            false => ArrivalLog::default(),
        };
        let (id, mut source) = (spec.id, Source::new(spec, arrivals));
        if let Some(saved) = self.checkpoints.source(id) {
            source = source.restored(saved)?;
        }
        self.statuses.lock().set_source(source.status());
        self.sources.insert(id, source);
        self.restore_source_errors(id);
        Ok(())
    }

    /// Makes sure that `columns` of the source are being read. If some of it has been read already, returns the way to
    /// that part. A view that is `restored` has what came before the checkpoint.
    pub(super) fn attach_source(
        &mut self,
        id: RelationId,
        columns: &[usize],
        is_restored: bool,
    ) -> Result<Option<Catchup>> {
        let wake = self.wake.clone();
        let Some(source) = self.sources.get_mut(&id) else {
            return Err(Error::new(SqlState::UNDEFINED_TABLE, format!("relation {} is not there", id.0)));
        };
        let start = (source.spec.definition.start.clone(), None);
        let (from, watermark) = if is_restored { source.checkpoint.clone().unwrap_or(start) } else { start };
        let catchup = if source.position != from {
            // Registered before the shared reader moves on: nothing runs between here and the view's first epoch.
            let handle = source.open(columns, &from, Some(&source.position), watermark, &wake)?;
            let rate_limit = source.rows_per_s.map(RateLimit::new);
            Some(Catchup { source: id, columns: columns.into(), handle: Some(handle), rate_limit })
        } else {
            None
        };
        source.read(columns, &wake)?;
        let status = source.status();
        self.statuses.lock().set_source(status);
        self.publish_all();
        Ok(catchup)
    }

    /// Stops taking its rows, or goes on. Its reader waits behind its full queue.
    pub(super) fn pause_source(&mut self, id: RelationId, is_paused: bool) -> Result<()> {
        let Some(source) = self.sources.get_mut(&id) else {
            return Err(Error::new(SqlState::UNDEFINED_TABLE, format!("relation {} is not there", id.0)));
        };
        source.is_paused = is_paused;
        self.statuses.lock().set_source(source.status());
        // What has waited is looked at.
        self.wake.is_set.store(true, Ordering::Release);
        Ok(())
    }

    /// So many rows a second from now on, for each pass over the source.
    pub(super) fn limit_source(&mut self, id: RelationId, rows_per_s: Option<NonZeroU64>) -> Result<()> {
        let Some(source) = self.sources.get_mut(&id) else {
            return Err(Error::new(SqlState::UNDEFINED_TABLE, format!("relation {} is not there", id.0)));
        };
        source.rows_per_s = rows_per_s;
        source.rate_limit = rows_per_s.map(RateLimit::new);
        for view in self.views.values_mut() {
            view.catchups()
                .filter(|catchup| catchup.source == id)
                .for_each(|catchup| catchup.set_rate_limit(rows_per_s));
        }
        self.wake.is_set.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) fn drop_source(&mut self, id: RelationId) {
        if let Some(mut source) = self.sources.remove(&id) {
            source.stop();
            if source.spec.definition.tells_arrival() {
                let mut batch = StoreBatch::default();
                let deleted = ArrivalLog::delete(id, self.store.as_ref(), &mut batch);
                if let Err(error) = deleted.and_then(|()| self.store.commit(batch)) {
                    tracing::warn!("arrivals of a dropped source stay on disk: {error}");
                }
            }
        }
    }

    /// A source that no view reads any more starts over with the next one.
    pub(super) fn stop_unread_sources(&mut self) {
        if self.checkpoints.is_recovering() {
            // Views that have yet to be made may read it.
            return;
        }
        let read: BTreeSet<RelationId> = self.views.values().flat_map(|view| view.relations()).collect();
        for (id, source) in &mut self.sources {
            let is_begun = source.is_running() || source.position != source.spec.definition.start;
            if is_begun && !read.contains(id) {
                source.reset();
                self.statuses.lock().set_source(source.status());
            }
        }
    }

    /// Takes the rows that sources have ready, as many of each as its quota and its rate let through. Returns the sources
    /// of which anything changed, with the records that could not be used.
    pub(super) fn take_source_rows(&mut self, changes: &mut Changes) -> Vec<(RelationId, Vec<BadRecord>)> {
        self.wake.is_set.store(false, Ordering::Release);
        self.rows_due = None;
        if self.checkpoints.holds_sources_back() {
            // The end of the checkpoint under way wakes the sequencer.
            return vec![];
        }
        let (mut changed, mut more) = (vec![], More::WhenTold);
        let now = self.started.elapsed();
        for (id, source) in self.sources.iter_mut().filter(|(_, source)| !source.is_paused) {
            let Some(projection) = source.reader.as_ref().map(|reader| reader.projection.clone()) else { continue };
            let room = self.quotas.row_count_max(Feed::Relation(*id));
            let allowed = source.rate_limit.as_mut().map_or(room, |limit| limit.allowed(now).min(room));
            let (mut left, mut bad_records, mut is_changed) = (allowed, vec![], false);
            while let Some(event) = source.reader.as_mut().and_then(|reader| reader.handle.try_next(left)) {
                is_changed = true;
                match event {
                    SourceEvent::Batch(mut batch) => {
                        left -= batch.rows.num_rows();
                        source.take_in(&batch);
                        bad_records.append(&mut batch.bad_records);
                        if batch.rows.num_rows() > 0 {
                            let delta = Delta::insert(batch.rows);
                            let change = RelationDelta { columns: projection.clone(), delta };
                            changes.entry(*id).or_default().push(change);
                        }
                    }
                    SourceEvent::Finished => source.state = "finished",
                    SourceEvent::Trouble(error) => (source.state, source.error) = ("retrying", Some(error)),
                    SourceEvent::Recovered => (source.state, source.error) = ("running", None),
                    SourceEvent::Idle { partition } => {
                        if let Some(watermark) = &mut source.watermark {
                            watermark.set_idle(&partition);
                        }
                    }
                    SourceEvent::Partitions(partitions) => {
                        if let Some(watermark) = &mut source.watermark {
                            partitions.iter().for_each(|partition| watermark.add_partition(partition));
                        }
                    }
                }
            }
            if let Some(reader) = &source.reader {
                more = more.min(settle(&reader.handle, source.rate_limit.as_mut(), allowed - left, room));
            }
            if is_changed {
                changed.push((*id, bad_records));
            }
        }
        self.look_again(more, now);
        self.save_arrivals();
        changed
    }

    /// Sees to it that what was left at `now` is not forgotten.
    pub(super) fn look_again(&mut self, more: More, now: Duration) {
        match more {
            More::Now => self.wake.is_set.store(true, Ordering::Release),
            More::In(wait) => {
                let due = self.started + now + wait;
                self.rows_due = Some(self.rows_due.map_or(due, |earlier| earlier.min(due)));
            }
            More::WhenTold => {}
        }
    }

    /// Before anybody sees the rows: after a restart they have come when they did.
    fn save_arrivals(&self) {
        let mut batch = StoreBatch::default();
        let telling = self.sources.iter().filter(|(_, source)| source.spec.definition.tells_arrival());
        let saved = telling.map(|(id, source)| (source, source.arrivals.save(*id, &mut batch)));
        let saved: Vec<(&Source, usize)> = saved.collect();
        if batch.is_empty() {
            return;
        }
        match self.store.commit(batch) {
            Ok(()) => saved.into_iter().for_each(|(source, count)| source.arrivals.saved(count)),
            // It is tried again with the next epoch.
            Err(error) => tracing::error!("could not keep when rows arrived: {error}"),
        }
    }

    /// Tells what became of the sources in an epoch, once the epoch is visible: a source that says that it has finished
    /// has all its rows in the views.
    pub(super) fn tell_sources(&mut self, epoch: Epoch, changed: Vec<(RelationId, Vec<BadRecord>)>) {
        let mut statuses = self.statuses.lock();
        for (id, bad_records) in changed {
            let Some(source) = self.sources.get(&id) else { continue };
            statuses.set_source(source.status());
            if !bad_records.is_empty() {
                let at = SystemTime::now();
                let errors = bad_records.into_iter().map(|record| SourceError { source: id, epoch, at, record });
                let errors: Vec<SourceError> = errors.collect();
                self.checkpoints.note_source_errors(id, &errors);
                statuses.add_source_errors(id, errors);
            }
        }
    }
}
