//! The sequencer: one thread that decides the order of everything.
//!
//! Its loop: wait for events; form an epoch of what is there (writes, source rows, pieces of backfills); make table
//! writes durable; have the workers step the views that are touched; publish the new [`World`]; answer the writers.
//! Commands (create, drop) are carried out between epochs, so they need no locks.

mod checkpoints;
mod clock;
mod history;
mod memory;
mod quota;
mod sources;
mod steps;
mod tables;
mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::NonZeroU64;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use self::checkpoints::Checkpoints;
use self::clock::Clock;
use self::history::Histories;
use self::quota::Quotas;
use self::sources::Source;
use self::tables::{Table, TableFiles};
use self::views::View;
use super::checkpoint::{Finished, Restored, Saved, SavedState};
use super::status::{Statuses, ViewMeasurement};
use super::worker::{self, Command, Piece, RelationDelta, WorkerLink, Workers};
use super::{Followed, IndexSpec, SourceSpec, TableSpec, TableWrite, ViewSpec};
use crate::error::{Error, Result};
use crate::plan::Watermarks;
use crate::state::{Snapshot, Store, StoreBatch, World};
use crate::types::{BadRecord, Epoch, Moment, RelationId};

pub enum Event {
    CreateTable {
        spec: TableSpec,
        reply: oneshot::Sender<Result<()>>,
    },
    RenameTable {
        spec: TableSpec,
        reply: oneshot::Sender<Result<()>>,
    },
    SetIndexes {
        relation: RelationId,
        indexes: Vec<IndexSpec>,
        reply: oneshot::Sender<Result<()>>,
    },
    CreateSource {
        spec: SourceSpec,
        reply: oneshot::Sender<Result<()>>,
    },
    PauseSource {
        id: RelationId,
        is_paused: bool,
        reply: oneshot::Sender<Result<()>>,
    },
    LimitSource {
        id: RelationId,
        rows_per_s: Option<NonZeroU64>,
        reply: oneshot::Sender<Result<()>>,
    },
    CreateView {
        spec: ViewSpec,
        /// Where it goes on from, instead of starting over.
        restored: Option<Box<Restored>>,
        reply: oneshot::Sender<Result<()>>,
    },
    /// A view that was saved will not be made again.
    GiveUp {
        view: RelationId,
    },
    /// Its rows are not what was saved.
    FailView {
        view: RelationId,
        error: Error,
    },
    CheckpointFinished {
        finished: Finished,
    },
    Drop {
        ids: Vec<RelationId>,
        reply: oneshot::Sender<Result<()>>,
    },
    Write {
        writes: Vec<TableWrite>,
        reply: oneshot::Sender<Result<Epoch>>,
    },
    SetRetention {
        relation: RelationId,
        retention_us: i64,
        reply: oneshot::Sender<Result<()>>,
    },
    Follow {
        relation: RelationId,
        from: Option<Epoch>,
        reply: oneshot::Sender<Result<Followed>>,
    },
    Settle {
        instant_us: i64,
        reply: oneshot::Sender<Result<Epoch>>,
    },
    Measure {
        reply: Sender<Vec<ViewMeasurement>>,
    },
    /// A source has something.
    Wake,
    Stop {
        reply: oneshot::Sender<Result<()>>,
    },
}

/// Rows that one epoch takes at most from a source, and for the backfill of one view: [`quota`] makes it fewer where they
/// take long.
const EPOCH_ROW_COUNT_MAX: usize = 64 * 1024;
/// Write requests that one epoch takes.
const EPOCH_WRITE_COUNT_MAX: usize = 4096;
/// Rows that those may have together, unless a single one has more.
const EPOCH_WRITE_ROW_COUNT_MAX: usize = 256 * 1024;
/// How often idle sources are looked at, for their watermarks and troubles.
const TICK: Duration = Duration::from_millis(500);
/// What is due by the clock within this time comes together.
const DUE_GRAIN: Duration = Duration::from_millis(1);
/// Operator state is measured every so many epochs of a view.
const MEASURE_EVERY: u64 = 64;

struct Sequencer {
    epoch: Epoch,
    store: Arc<dyn Store>,
    files: TableFiles,
    links: Vec<WorkerLink>,
    tables: BTreeMap<RelationId, Table>,
    sources: BTreeMap<RelationId, Source>,
    /// Ids ascend with creation, so this is dependency order.
    views: BTreeMap<RelationId, View>,
    world: Arc<watch::Sender<Arc<World>>>,
    statuses: Arc<Mutex<Statuses>>,
    events: Receiver<Event>,
    wake: Wake,
    pending_writes: std::collections::VecDeque<WriteRequest>,
    checkpoints: Checkpoints,
    /// Of sources and tables that have one.
    watermarks: Arc<Watermarks>,
    /// Wall-clock time of the epoch under way, microseconds since 1970; never goes back.
    now_us: i64,
    clock: Clock,
    histories: Histories,
    quotas: Quotas,
    /// When rows of a source that is limited to so many a second can be taken again.
    rows_due: Option<Instant>,
    /// What rates are told the time by.
    started: Instant,
}

struct WriteRequest {
    writes: Vec<TableWrite>,
    reply: oneshot::Sender<Result<Epoch>>,
}

/// Wakes the sequencer from a source's thread; many calls between two looks make one event.
#[derive(Clone)]
struct Wake {
    events: Sender<Event>,
    is_set: Arc<AtomicBool>,
}

impl Wake {
    fn call(&self) {
        if !self.is_set.swap(true, Ordering::AcqRel) {
            // The sequencer is gone only when the server ends.
            let _ = self.events.send(Event::Wake);
        }
    }
}

/// Deltas of one epoch by relation, for all views that read it.
type Changes = HashMap<RelationId, Vec<RelationDelta>>;

/// What a sequencer is started with.
pub struct Start {
    pub worker_count: usize,
    pub store: Arc<dyn Store>,
    pub tables: Vec<TableSpec>,
    pub saved: Arc<Saved>,
    pub saved_state: Arc<SavedState>,
    pub checkpoint_interval: Option<Duration>,
    pub world: Arc<watch::Sender<Arc<World>>>,
    pub statuses: Arc<Mutex<Statuses>>,
    pub held_bytes_max: usize,
}

/// The thread ends after [`Event::Stop`].
pub fn start(start: Start) -> Result<(Sender<Event>, JoinHandle<()>)> {
    let Start { worker_count, store, tables, saved, saved_state, checkpoint_interval, world, statuses, held_bytes_max } =
        start;
    let (events, receiver) = std::sync::mpsc::channel();
    let wake = Wake { events: events.clone(), is_set: Arc::new(AtomicBool::new(false)) };
    let finished = checkpoints::tell(events.clone());
    let checkpoints = Checkpoints::start(store.clone(), saved, saved_state, checkpoint_interval, finished)?;
    let mut files = TableFiles::new(store.clone(), checkpoints.is_on().then_some(checkpoints.epoch()));
    let (tables, last_epoch) = files.load(tables, checkpoints.state())?;
    let (workers, links) = worker::start(worker_count)?;
    let (mut clock, epoch) = Clock::open(store.clone(), last_epoch.max(checkpoints.epoch()))?;
    clock.pass(checkpoints.now_us());
    let mut sequencer = Sequencer {
        epoch,
        store,
        files,
        links,
        tables,
        sources: BTreeMap::new(),
        views: BTreeMap::new(),
        world,
        statuses,
        events: receiver,
        wake,
        pending_writes: Default::default(),
        watermarks: Arc::default(),
        now_us: checkpoints.now_us(),
        checkpoints,
        clock,
        histories: Histories::new(held_bytes_max),
        quotas: Quotas::default(),
        rows_due: None,
        started: Instant::now(),
    };
    sequencer.statuses.lock().checkpoint = Some(sequencer.checkpoints.epoch()).filter(|epoch| epoch.0 > 0);
    sequencer.begin_time();
    sequencer.publish_all();
    let thread = std::thread::Builder::new().name("sequencer".to_string());
    let thread = thread
        .spawn(move || {
            let run = AssertUnwindSafe(|| sequencer.run(workers));
            if let Err(panic) = std::panic::catch_unwind(run) {
                die("sequencer", worker::last_words(panic.as_ref()));
            }
        })
        .map_err(|e| Error::internal(format!("could not start the sequencer: {e}")))?;
    Ok((events, thread))
}

fn clock_us() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

/// A thread of the engine is gone: operators hold half an epoch, so the only way on is from the durable state.
fn die(thread: &str, words: &str) -> ! {
    tracing::error!("the {thread} panicked: {words}; ending the process, it recovers on the next start");
    crate::exit::at_once(70)
}

impl Sequencer {
    fn run(mut self, workers: Workers) {
        loop {
            let idle = !self.has_work();
            match self.take_events(idle) {
                Ok(()) => {}
                Err(reply) => {
                    self.stop(workers);
                    let _ = reply.send(Ok(()));
                    return;
                }
            }
            self.run_epoch();
            self.checkpoint();
            self.trim_histories();
        }
    }

    fn has_work(&self) -> bool {
        !self.pending_writes.is_empty()
            || self.wake.is_set.load(Ordering::Acquire)
            || self
                .views
                .values()
                .any(|view| view.is_new || (view.has_work() && !self.checkpoints.holds_catching_up_back()))
    }

    /// How long to wait for events: until something is due by the clock, if that comes before the next look at all.
    fn patience(&self) -> Duration {
        let rows = self.rows_due.map(|due| due.saturating_duration_since(Instant::now()));
        let views = self.views.values().filter_map(|view| view.due_us()).min();
        let views = views.map(|due_us| Duration::from_micros(due_us.saturating_sub(clock_us()).max(0) as u64));
        let due = rows.into_iter().chain(views).min();
        due.map_or(TICK, |due| due.max(DUE_GRAIN).min(TICK))
    }

    /// Takes what events there are; waits for the first if there is nothing else to do. `Err`: stop.
    fn take_events(&mut self, wait: bool) -> Result<(), oneshot::Sender<Result<()>>> {
        if wait {
            match self.events.recv_timeout(self.patience()) {
                Ok(event) => self.take_event(event)?,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return Ok(()),
                // The sequencer holds a sender itself, through `wake`.
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => unreachable!("a sender is held here"),
            }
        }
        while self.pending_writes.len() < EPOCH_WRITE_COUNT_MAX {
            match self.events.try_recv() {
                Ok(event) => self.take_event(event)?,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        Ok(())
    }

    fn take_event(&mut self, event: Event) -> Result<(), oneshot::Sender<Result<()>>> {
        match event {
            Event::Write { writes, reply } => self.pending_writes.push_back(WriteRequest { writes, reply }),
            // The flag is cleared when the sources are looked at.
            Event::Wake => {}
            Event::CreateTable { spec, reply } => {
                self.create_table(spec);
                let _ = reply.send(Ok(()));
            }
            Event::RenameTable { spec, reply } => {
                self.rename_table(spec);
                let _ = reply.send(Ok(()));
            }
            Event::SetIndexes { relation, indexes, reply } => {
                let _ = reply.send(self.set_indexes(relation, indexes));
            }
            Event::CreateSource { spec, reply } => {
                let _ = reply.send(self.create_source(spec));
            }
            Event::PauseSource { id, is_paused, reply } => {
                let _ = reply.send(self.pause_source(id, is_paused));
            }
            Event::LimitSource { id, rows_per_s, reply } => {
                let _ = reply.send(self.limit_source(id, rows_per_s));
            }
            Event::CreateView { spec, restored, reply } => self.create_view(spec, restored, reply),
            Event::GiveUp { view } => self.give_up(view),
            Event::FailView { view, error } => self.fail_view(view, error),
            Event::CheckpointFinished { finished } => self.checkpoint_finished(finished),
            Event::Drop { ids, reply } => {
                let _ = reply.send(self.drop_relations(ids));
            }
            Event::SetRetention { relation, retention_us, reply } => {
                let _ = reply.send(self.set_retention(relation, retention_us));
            }
            Event::Follow { relation, from, reply } => {
                let _ = reply.send(self.follow(relation, from));
            }
            Event::Settle { instant_us, reply } => {
                let _ = reply.send(Ok(self.settle(instant_us)));
            }
            Event::Measure { reply } => {
                let _ = reply.send(self.measure());
            }
            Event::Stop { reply } => return Err(reply),
        }
        Ok(())
    }

    /// One epoch, if anything is there for it.
    fn run_epoch(&mut self) {
        let epoch = self.epoch;
        let (mut changes, mut accepted) = (Changes::new(), vec![]);
        self.take_writes(&mut changes, &mut accepted);
        let changed_sources = self.take_source_rows(&mut changes);
        let backfills = self.take_backfills();
        let backfilled = backfills.values().flatten().map(|piece| piece.change.delta.row_count()).sum::<usize>();
        self.advance_time();
        let touched = self.touched_views(&changes, &backfills);
        if !touched.is_empty() {
            self.step_workers(epoch, &touched, &changes, backfills);
        }
        let became_ready = self.ready_views();
        if changes.is_empty() && touched.is_empty() && changed_sources.is_empty() && became_ready.is_empty() {
            return;
        }
        self.statuses.lock().watermarks = self.watermarks.clone();
        let row_count = changes.values().flatten().map(|change| change.delta.row_count()).sum::<usize>();
        self.checkpoints.note_epoch(&touched, row_count + backfilled);
        self.publish(epoch, &changes, &touched, &changed_sources, &became_ready);
        self.tell_sources(epoch, changed_sources);
        for request in accepted {
            let _ = request.reply.send(Ok(epoch));
        }
        for view in became_ready {
            if let Some(reply) = self.views.get_mut(&view).and_then(|view| view.reply.take()) {
                let _ = reply.send(Ok(()));
            }
        }
        self.epoch = epoch.next();
    }

    /// Collects the watermarks of sources and tables, and looks at the clock.
    fn advance_time(&mut self) {
        self.now_us = self.now_us.max(self.clock.now_us());
        let sources = self.sources.iter().filter_map(|(id, source)| Some((*id, source.watermark_us()?)));
        let tables = self.tables.iter().filter_map(|(id, table)| Some((*id, table.watermark_us()?)));
        let now: Watermarks = sources.chain(tables).collect();
        if now != *self.watermarks {
            self.watermarks = Arc::new(now);
        }
    }

    /// Views that have not been fed all that was there before them, and those above them.
    fn catching_up(&self) -> HashSet<RelationId> {
        let mut behind = HashSet::new();
        for (id, view) in &self.views {
            if view.has_backfills() || view.relations().any(|relation| behind.contains(&relation)) {
                behind.insert(*id);
            }
        }
        behind
    }

    /// Views that this epoch concerns, in dependency order: those that read what changed, those that catch up, those
    /// that take their first step, those for which a time is over, and all above them.
    fn touched_views(&self, changes: &Changes, backfills: &HashMap<RelationId, Vec<Piece>>) -> Vec<RelationId> {
        let mut touched = BTreeSet::new();
        for (id, view) in &self.views {
            let concerned = view.is_new
                || backfills.contains_key(id)
                || view.is_due(&self.watermarks, self.now_us)
                || view.relations().any(|relation| changes.contains_key(&relation) || touched.contains(&relation));
            if concerned && !view.has_failed() {
                touched.insert(*id);
            }
        }
        touched.into_iter().collect()
    }

    /// Makes the epoch visible: from here on queries see it.
    fn publish(
        &mut self,
        epoch: Epoch,
        changes: &Changes,
        touched: &[RelationId],
        changed_sources: &[(RelationId, Vec<BadRecord>)],
        became_ready: &[RelationId],
    ) {
        let at = Moment { epoch, at_us: self.now_us };
        let mut world = World::clone(&self.world.borrow());
        (world.epoch, world.at_us) = (at.epoch, at.at_us);
        for (id, deltas) in changes {
            if let Some(table) = self.tables.get(id) {
                deltas.iter().for_each(|change| self.histories.note(*id, &change.delta));
                world.snapshots.insert(*id, Arc::new(table.snapshot()));
            }
        }
        for id in touched.iter().chain(became_ready) {
            let Some(view) = self.views.get(id) else { continue };
            match view.snapshot() {
                Some(snapshot) if view.is_ready => {
                    world.snapshots.insert(*id, Arc::new(snapshot));
                }
                _ => {
                    world.snapshots.remove(id);
                }
            }
        }
        for (id, _) in changed_sources {
            if let Some(source) = self.sources.get(id) {
                world.positions.insert(*id, Arc::new(source.position().clone()));
            }
        }
        self.clock.committed(at);
        self.histories.commit(at);
        if self.histories.len() != world.histories.len() {
            world.histories = self.histories.published();
        }
        self.world.send_replace(Arc::new(world));
    }

    /// After a change that is not an epoch's: what is there is what the catalog says is there.
    fn publish_all(&mut self) {
        let old = self.world.borrow().clone();
        let keep = |id: &RelationId, fresh: Snapshot| old.snapshots.get(id).cloned().unwrap_or(Arc::new(fresh));
        let tables = self.tables.iter().map(|(id, table)| (*id, keep(id, table.snapshot())));
        let views = self.views.iter().filter(|(_, view)| view.is_ready && !view.has_failed());
        let views = views.filter_map(|(id, view)| Some((*id, keep(id, view.snapshot()?))));
        let running = self.sources.iter().filter(|(_, source)| source.is_running());
        let world = World {
            epoch: old.epoch,
            at_us: old.at_us,
            histories: self.histories.published(),
            timeline: old.timeline.clone(),
            snapshots: tables.chain(views).collect(),
            positions: running.map(|(id, source)| (*id, Arc::new(source.position().clone()))).collect(),
        };
        self.world.send_replace(Arc::new(world));
    }

    /// The world before the first epoch to come: nothing older can be asked for.
    fn begin_time(&mut self) {
        let at = Moment { epoch: Epoch(self.epoch.0 - 1), at_us: self.clock.now_us() };
        self.clock.committed(at);
        self.histories.timeline().push(at);
        let timeline = self.histories.timeline().clone();
        let world = World { epoch: at.epoch, at_us: at.at_us, timeline, ..World::default() };
        self.world.send_replace(Arc::new(world));
    }

    /// One for each worker, in their order.
    fn command_all(&self, mut command: impl FnMut() -> Command) {
        for link in &self.links {
            if link.commands.send(command()).is_err() {
                die("worker", "its channel is closed");
            }
        }
    }

    /// All but the sources' and views' own share of a drop is here: their state goes, then the durable rows.
    fn drop_relations(&mut self, ids: Vec<RelationId>) -> Result<()> {
        let mut batch = StoreBatch::default();
        let temporary = self.temporary_readers(&ids);
        for id in temporary.into_iter().chain(ids) {
            self.histories.forget(id);
            self.give_up(id);
            self.drop_view(id);
            self.drop_source(id);
            self.checkpoints.note_forgotten(id);
            self.quotas.forget(id);
            if self.tables.remove(&id).is_some() {
                self.files.delete(id, &mut batch)?;
            }
            self.statuses.lock().forget(id);
        }
        self.stop_unread_sources();
        self.publish_all();
        if batch.is_empty() { Ok(()) } else { self.store.commit(batch) }
    }

    fn stop(&mut self, workers: Workers) {
        self.sources.values_mut().for_each(|source| source.stop());
        self.views.values_mut().for_each(|view| view.stop());
        self.command_all(|| Command::Stop);
        drop(workers);
        self.stop_checkpoints();
        self.clock.stop(self.epoch);
    }
}
