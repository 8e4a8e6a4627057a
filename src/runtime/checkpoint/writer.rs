//! The thread that writes checkpoints: what changed goes into one new segment, short runs are added up on the way (long ones
//! [beside](Merging)), and one batch of the store makes it count. A checkpoint that cannot be written is tried again until it can: what it
//! holds is nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::merging::{Merged, Merging};
use super::{Job, Saved, SavedState, ViewJob};
use crate::error::{Error, Result, SqlState};
use crate::runtime::status::SourceError;
use crate::state::checkpoint::record::{self, EngineRecord, ViewRecord};
use crate::state::checkpoint::{Collection, Place, Version};
use crate::state::store::{Block, SegmentWriter};
use crate::state::{Store, StoreBatch};
use crate::types::{Epoch, RelationId};

/// The sequencer's end.
pub struct Checkpointer {
    jobs: Sender<Job>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A checkpoint is durable.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    pub epoch: Epoch,
}

/// Tries of a checkpoint are so far apart, at first and at most.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// Bytes in segments that nothing refers to, beside as many as are referred to, that are not worth a copy.
const WASTE_BYTES_MIN: u64 = 64 << 20;
/// Bytes that a checkpoint adds up or copies beyond what it writes anew.
const MERGE_BYTES_MAX: u64 = 64 << 20;
/// Runs of more bytes than this are added up beside the checkpoints.
const LONG_MERGE_BYTES: u64 = if cfg!(test) { 1 << 10 } else { 8 << 20 };
/// When a part that keys are looked up in has more runs, the next checkpoint waits for the merge under way.
const RUN_COUNT_MAX: usize = 32;

impl Checkpointer {
    /// `finished` is called from the thread, after each checkpoint.
    pub fn start(
        store: Arc<dyn Store>,
        saved: &Saved,
        state: Arc<SavedState>,
        finished: impl Fn(Finished) + Send + 'static,
    ) -> Result<Checkpointer> {
        let (jobs, receiver) = channel();
        let views = saved.views.iter().map(|(id, view)| (*id, ViewRecord::clone(view))).collect();
        let segments = store.segments()?.into_iter().collect();
        let (engine, next_segment) = (saved.engine.clone(), saved.engine.next_segment);
        let (retired, merging, merged) = (vec![], None, None);
        let mut writer = Writer { store, state, engine, views, segments, next_segment, retired, merging, merged };
        writer.remove_unused();
        let stopping = Arc::new(AtomicBool::new(false));
        let is_stopping = stopping.clone();
        let thread = std::thread::Builder::new().name("checkpointer".to_string());
        let thread = thread.spawn(move || writer.run(&receiver, &is_stopping, &finished));
        let thread = thread.map_err(|e| Error::internal(format!("could not start the checkpointer: {e}")))?;
        Ok(Checkpointer { jobs, stopping, thread: Some(thread) })
    }

    pub fn write(&self, job: Job) {
        // The thread ends only when it is told to.
        let _ = self.jobs.send(job);
    }

    /// Waits for the checkpoint under way, but not for the disk to recover.
    pub fn stop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.jobs = channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer {
    store: Arc<dyn Store>,
    /// Where operators look up what was committed.
    state: Arc<SavedState>,
    /// As they were last committed.
    engine: EngineRecord,
    views: BTreeMap<RelationId, ViewRecord>,
    /// Those that are there, and their bytes.
    segments: BTreeMap<u64, u64>,
    /// The number of the segment to be begun next.
    next_segment: u64,
    /// What may still be read of versions that there are newer ones of, with the segments that they lie in.
    retired: Vec<(Weak<Version>, BTreeSet<u64>)>,
    merging: Option<Merging>,
    /// To be taken in by the next checkpoint.
    merged: Option<Merged>,
}

impl Writer {
    fn run(&mut self, jobs: &Receiver<Job>, is_stopping: &AtomicBool, finished: &dyn Fn(Finished)) {
        while let Ok(job) = jobs.recv() {
            self.take_merged();
            let number = self.begin_segment();
            let mut pause = RETRY_FIRST;
            while let Err(error) = self.write(&job, number) {
                tracing::error!("could not write a checkpoint, trying again: {error}");
                if is_stopping.load(Ordering::Acquire) {
                    return self.stop_merging();
                }
                std::thread::sleep(pause);
                pause = (2 * pause).min(RETRY_LAST);
            }
            self.remove_unused();
            self.start_merging();
            finished(Finished { epoch: job.epoch });
        }
        self.stop_merging();
    }

    fn begin_segment(&mut self) -> u64 {
        self.next_segment += 1;
        self.next_segment - 1
    }

    /// Takes the merge under way, if it has come to its end or has to.
    fn take_merged(&mut self) {
        let mut collections = self.views.values().flat_map(|view| &view.collections);
        let has_to = collections.any(|own| own.is_ordered() && own.runs().len() > RUN_COUNT_MAX);
        let Some(merging) = self.merging.take_if(|merging| has_to || merging.is_finished()) else { return };
        let segment = merging.segment;
        match merging.join() {
            Ok(merged) => self.merged = Some(merged),
            Err(error) => {
                tracing::error!("could not add up saved runs: {error}");
                // There is something of it, perhaps.
                self.segments.insert(segment, 0);
            }
        }
    }

    /// The longest list of runs first.
    fn start_merging(&mut self) {
        if self.merging.is_some() {
            return;
        }
        let collections = self.views.iter().flat_map(|(id, view)| view.collections.iter().map(|own| (*id, own)));
        let due = collections.filter_map(|(id, own)| Some((id, own, own.due(0)?)));
        let long = due.filter(|(_, own, range)| own.bytes_of(range.clone()) > LONG_MERGE_BYTES);
        let Some((id, own, range)) = long.max_by_key(|(_, own, _)| own.runs().len()) else { return };
        match Merging::start(id, own, range, self.next_segment, self.store.clone()) {
            Ok(merging) => {
                self.merging = Some(merging);
                self.begin_segment();
            }
            Err(error) => tracing::error!("could not add up saved runs: {error}"),
        }
    }

    fn stop_merging(&mut self) {
        if let Some(merging) = self.merging.take() {
            merging.stop();
        }
    }

    /// All of it, or nothing that counts.
    fn write(&mut self, job: &Job, number: u64) -> Result<()> {
        let mut segment = LazySegment { store: self.store.as_ref(), number, bytes: 0, writer: None };
        let mut batch = StoreBatch::default();
        let mut views = vec![];
        let mut merge_bytes = 0;
        for view in &job.views {
            let record = self.changed(view, &mut merge_bytes, &mut segment)?;
            if let Some(errors) = &view.errors {
                batch.put(record::view_errors_key(view.id), record::write(errors)?);
            }
            views.push((view.id, record));
        }
        self.take_in_elsewhere(job, &mut views);
        self.move_out(job, &mut views, &mut merge_bytes, &mut segment)?;
        for (id, record) in &views {
            batch.put(record::view_key(*id), record::write(record)?);
        }
        for id in &job.forgotten {
            self.forget(*id, &mut batch)?;
        }
        for (number, error) in &job.source_errors {
            batch.put(record::source_error_key(error.source, *number), record::write(error)?);
            if let Some(old) = number.checked_sub(crate::runtime::status::ERROR_COUNT_MAX as u64) {
                batch.delete(record::source_error_key(error.source, old));
            }
        }
        let bytes = segment.bytes;
        segment.finish()?;
        let engine = EngineRecord {
            epoch: job.epoch.0,
            now_us: job.now_us,
            sources: job.sources.iter().map(|(id, source)| (id.0, source.clone())).collect(),
            next_segment: self.next_segment,
        };
        batch.put(record::ENGINE_KEY, record::write(&engine)?);
        self.store.commit(batch)?;
        self.engine = engine;
        for (id, record) in &views {
            let before = self.state.publish(*id, record).into_iter();
            self.retired.extend(before.map(|version| (Arc::downgrade(&version), version.segments())));
        }
        self.views.extend(views);
        if bytes > 0 {
            self.segments.insert(number, bytes);
        }
        if let Some(merged) = self.merged.take() {
            self.segments.insert(merged.segment, merged.bytes);
        }
        for id in &job.forgotten {
            self.views.remove(id);
            self.state.forget(*id);
        }
        Ok(())
    }

    /// What was added up beside goes into its collection.
    fn take_in(&self, id: RelationId, collection: &mut Collection) {
        let own = self.merged.as_ref().filter(|merged| (merged.view, merged.place) == (id, collection.place));
        if let Some(merged) = own {
            collection.replace(&merged.old, merged.new.clone());
        }
    }

    /// The same, of a view that has not changed otherwise.
    fn take_in_elsewhere(&self, job: &Job, views: &mut Vec<(RelationId, ViewRecord)>) {
        let Some(id) = self.merged.as_ref().map(|merged| merged.view) else { return };
        if job.forgotten.contains(&id) || job.views.iter().any(|view| view.id == id) {
            return;
        }
        if let Some(mut record) = self.views.get(&id).cloned() {
            record.collections.iter_mut().for_each(|collection| self.take_in(id, collection));
            views.push((id, record));
        }
    }

    /// The runs of a collection from here on are in no merge.
    fn free_from(&self, id: RelationId, collection: &Collection) -> usize {
        let own = self.merging.as_ref().filter(|merging| (merging.view, merging.place) == (id, collection.place));
        own.map_or(0, |merging| collection.end_of(&merging.old))
    }

    /// The view's record with what has changed. Short runs are added up on the way.
    fn changed(&self, view: &ViewJob, merge_bytes: &mut u64, segment: &mut dyn SegmentWriter) -> Result<ViewRecord> {
        let before = self.views.get(&view.id).filter(|_| !view.is_fresh);
        let mut collections = before.map(|record| record.collections.clone()).unwrap_or_default();
        collections.iter_mut().for_each(|collection| self.take_in(view.id, collection));
        for (place, part, change) in &view.changes {
            let collection = match collections.iter_mut().find(|collection| collection.place == *place) {
                Some(collection) => collection,
                None => {
                    collections.push(Collection::new(*place, part));
                    collections.last_mut().expect("it was just added")
                }
            };
            collection.order_as(part);
            collection.close_below(change.below);
            // Those of earlier checkpoints: what is written now cannot be read yet.
            if *merge_bytes < MERGE_BYTES_MAX
                && let Some(range) = collection.due(self.free_from(view.id, collection))
                && collection.bytes_of(range.clone()) <= LONG_MERGE_BYTES
            {
                *merge_bytes += unless_damaged(collection.merge(range, self.store.as_ref(), segment))?;
            }
            collection.append(&change.deltas, segment)?;
        }
        Ok(ViewRecord { collections, ..view.record.clone() })
    }

    /// Copies what is left in segments that hardly anything is left of, so that they can go.
    fn move_out(
        &self,
        job: &Job,
        views: &mut Vec<(RelationId, ViewRecord)>,
        bytes: &mut u64,
        segment: &mut dyn SegmentWriter,
    ) -> Result<()> {
        let live = self.live_bytes();
        let (all, used): (u64, u64) = (self.segments.values().sum(), live.values().sum());
        if all <= 2 * used + WASTE_BYTES_MIN {
            return Ok(());
        }
        let is_sparse = |(number, bytes): &(&u64, &u64)| live.get(number).is_some_and(|live| 2 * live < **bytes);
        let sparse: BTreeSet<u64> = self.segments.iter().filter(is_sparse).map(|(number, _)| *number).collect();
        let is_untouched =
            |id: &RelationId| !job.forgotten.contains(id) && !job.views.iter().any(|view| view.id == *id);
        let untouched = self.views.iter().filter(|(id, record)| {
            is_untouched(id) && record.collections.iter().any(|collection| collection.lies_in(&sparse))
        });
        views.extend(untouched.map(|(id, record)| (*id, record.clone())));
        // What a merge under way is the sum of has to be found again.
        let merging: Option<(RelationId, Place)> = self.merging.as_ref().map(|merging| (merging.view, merging.place));
        let collections = views.iter_mut().flat_map(|(id, record)| record.collections.iter_mut().map(|own| (*id, own)));
        for (id, collection) in collections {
            if *bytes < MERGE_BYTES_MAX && collection.lies_in(&sparse) && merging != Some((id, collection.place)) {
                *bytes += unless_damaged(collection.move_out(&sparse, self.store.as_ref(), segment))?;
            }
        }
        Ok(())
    }

    /// Bytes of each segment that runs refer to.
    fn live_bytes(&self) -> BTreeMap<u64, u64> {
        let mut live = BTreeMap::new();
        let collections = self.views.values().flat_map(|view| &view.collections);
        collections.for_each(|collection| collection.count_bytes(&mut live));
        live
    }

    fn forget(&self, id: RelationId, batch: &mut StoreBatch) -> Result<()> {
        batch.delete(record::view_key(id));
        batch.delete(record::view_errors_key(id));
        self.store.scan(&record::source_errors_prefix(id), &mut |key, _| {
            batch.delete(key);
            Ok(())
        })
    }

    /// Segments that no run refers to any more go. What cannot be removed now is tried again with the next checkpoint.
    fn remove_unused(&mut self) {
        let (live, store) = (self.live_bytes(), self.store.as_ref());
        self.retired.retain(|(version, _)| version.strong_count() > 0);
        let retired = &self.retired;
        self.segments.retain(|number, _| {
            live.contains_key(number)
                || retired.iter().any(|(_, segments)| segments.contains(number))
                || store
                    .remove_segment(*number)
                    .inspect_err(|e| tracing::warn!("could not remove a segment: {e}"))
                    .is_err()
        });
    }
}

/// What cannot be read any more stays where it is: it must not keep others from being saved. Its view fails when it looks.
fn unless_damaged(bytes: Result<u64>) -> Result<u64> {
    match bytes {
        Err(error) if error.code == SqlState::DATA_CORRUPTED => {
            tracing::error!("saved runs stay as they are: {error}");
            Ok(0)
        }
        other => other,
    }
}

/// A segment that is there once it has a block.
struct LazySegment<'a> {
    store: &'a dyn Store,
    number: u64,
    /// Of all its blocks.
    bytes: u64,
    writer: Option<Box<dyn SegmentWriter + 'a>>,
}

impl LazySegment<'_> {
    fn finish(self) -> Result<()> {
        self.writer.map_or(Ok(()), |writer| writer.finish())
    }
}

impl SegmentWriter for LazySegment<'_> {
    fn append(&mut self, block: &[u8]) -> Result<Block> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(self.store.create_segment(self.number)?),
        };
        let address = writer.append(block)?;
        self.bytes += address.length;
        Ok(address)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        LazySegment::finish(*self)
    }
}

/// The kept records of a source that could not be decoded, oldest first.
pub fn read_source_errors(store: &dyn Store, id: RelationId) -> Result<Vec<SourceError>> {
    let mut errors = vec![];
    store.scan(&record::source_errors_prefix(id), &mut |_, bytes| {
        errors.push(record::read("a source's errors", bytes)?);
        Ok(())
    })?;
    Ok(errors)
}
