//! Sources: starting and stopping their readers, taking their rows into epochs, watermarks, catching up.
//!
//! A source is read while a view reads it, by one reader that makes the columns that its views need together. A view
//! that comes later catches up by a reader of its own over what has been read so far ([`Catchup`]), then shares.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Changes, EPOCH_ROW_COUNT_MAX, Sequencer, Wake};
use crate::error::{Error, Result, SqlState};
use crate::runtime::SourceSpec;
use crate::runtime::source::{self, ArrivalLog, SourceBatch, SourceEvent, SourceHandle, SourceTask, SourceWatermark};
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
            watermark.observe(&batch.partition, batch.rows.num_rows(), batch.told_max_us);
        }
    }
}

/// A view's own pass over what its source had delivered before the view came.
pub struct Catchup {
    pub source: RelationId,
    columns: Arc<[usize]>,
    handle: Option<SourceHandle>,
}

impl Catchup {
    /// About `row_count` rows that are there by now, and whether these are the last.
    pub fn take(&mut self, row_count: usize) -> Result<(Vec<RelationDelta>, bool)> {
        let Some(handle) = &mut self.handle else { return Ok((vec![], true)) };
        let (mut taken, mut taken_row_count) = (vec![], 0);
        while taken_row_count < row_count {
            match handle.try_next() {
                None => return Ok((taken, false)),
                Some(SourceEvent::Batch(batch)) => {
                    taken_row_count += batch.rows.num_rows();
                    // Its bad records were counted when they were read first.
                    taken.push(RelationDelta { columns: self.columns.clone(), delta: Delta::insert(batch.rows) });
                }
                Some(SourceEvent::Finished) => return Ok((taken, true)),
                Some(SourceEvent::Trouble(error)) => tracing::warn!("catching up waits: {error}"),
                Some(SourceEvent::Recovered | SourceEvent::Idle { .. } | SourceEvent::Partitions(_)) => {}
            }
        }
        Ok((taken, false))
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
            Some(Catchup { source: id, columns: columns.into(), handle: Some(handle) })
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
        self.wake.is_set.store(true, std::sync::atomic::Ordering::Release);
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

    /// Takes the rows that sources have ready, up to an epoch's bound each. Returns the sources of which anything
    /// changed, with the records that could not be used.
    pub(super) fn take_source_rows(&mut self, changes: &mut Changes) -> Vec<(RelationId, Vec<BadRecord>)> {
        self.wake.is_set.store(false, std::sync::atomic::Ordering::Release);
        if self.checkpoints.holds_sources_back() {
            // The end of the checkpoint under way wakes the sequencer.
            return vec![];
        }
        let mut changed = vec![];
        let mut more = false;
        for (id, source) in self.sources.iter_mut().filter(|(_, source)| !source.is_paused) {
            let Some(projection) = source.reader.as_ref().map(|reader| reader.projection.clone()) else { continue };
            let (mut row_count, mut bad_records, mut is_changed) = (0, vec![], false);
            while row_count < EPOCH_ROW_COUNT_MAX {
                let event = source.reader.as_mut().and_then(|reader| reader.handle.try_next());
                let Some(event) = event else { break };
                is_changed = true;
                match event {
                    SourceEvent::Batch(mut batch) => {
                        row_count += batch.rows.num_rows();
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
            more |= row_count >= EPOCH_ROW_COUNT_MAX;
            if is_changed {
                changed.push((*id, bad_records));
            }
        }
        self.save_arrivals();
        if more {
            self.wake.is_set.store(true, std::sync::atomic::Ordering::Release);
        }
        changed
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
