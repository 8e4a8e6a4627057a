//! Running dataflows: one sequencer thread decides what is in each epoch, N timely workers step the views through it,
//! one source thread for each source reads ahead into a bounded queue.
//!
//! ```text
//! sessions ──write──▶┐                      ┌─▶ worker 0 ─┐
//! sources ──chunks──▶│ sequencer: epoch e ──┤             ├─▶ outputs ─▶ sequencer: commit e, publish World
//! DDL ──commands────▶┘                      └─▶ worker N ─┘
//! ```
//!
//! An epoch starts when there is something to do and the workers are free; what arrives meanwhile waits for the next.
//! Table writes are on disk before the epoch's results are published, and published before the writer hears of it.
//! Only this room names timely.

mod checkpoint;
mod dataflow;
mod parcel;
mod sequencer;
mod source;
mod status;
mod worker;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

pub use source::check as check_source;
pub use status::{OperatorMeasurement, SourceError, SourceStatus, ViewError, ViewMeasurement, ViewStatus};

use crate::catalog::{SourceDefinition, WatermarkDefinition};
use crate::error::{Error, Result, SqlState};
use crate::plan::{StreamPlan, Watermarks};
use crate::state::history::Hold;
use crate::state::{Layout, Memory, Store, World};
use crate::types::{Delta, Epoch, RelationId};

use checkpoint::{Restored, Saved, SavedState};
use sequencer::Event;
use status::Statuses;

/// A handle on the running engine; clones share it.
#[derive(Clone)]
pub struct Runtime {
    events: Sender<Event>,
    world: Arc<watch::Sender<Arc<World>>>,
    statuses: Arc<Mutex<Statuses>>,
    store: Arc<dyn Store>,
    worker_count: usize,
    /// The checkpoint that this start goes on from.
    saved: Arc<Saved>,
    saved_state: Arc<SavedState>,
    sequencer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// A subscriber's start.
pub struct Followed {
    /// The newest one.
    pub world: Arc<World>,
    /// What comes after the epoch that was asked for. `None`: that is longer ago than is kept, or has not come yet.
    pub hold: Option<Hold>,
    /// All worlds after that one, or the latest of them.
    pub worlds: watch::Receiver<Arc<World>>,
}

#[derive(Clone)]
pub struct TableSpec {
    pub id: RelationId,
    pub name: String,
    pub schema: SchemaRef,
    /// Column indices; empty: none.
    pub primary_key: Vec<usize>,
    /// Of an append-only table. Such a table keeps of each row how it arrived, in two columns behind its own
    /// ([`crate::plan::Arrival`]).
    pub watermark: Option<WatermarkDefinition>,
    pub indexes: Vec<IndexSpec>,
}

/// A secondary index of a table or view. Only a table's may be unique.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexSpec {
    pub name: String,
    pub columns: Vec<usize>,
    pub unique: bool,
}

pub struct SourceSpec {
    /// Its rows are not taken before it is told to go on.
    pub is_paused: bool,
    /// So many rows go into epochs a second; `None`: as many as can be.
    pub rows_per_s: Option<NonZeroU64>,
    pub id: RelationId,
    pub name: String,
    pub schema: SchemaRef,
    pub definition: SourceDefinition,
}

pub struct ViewSpec {
    pub id: RelationId,
    pub name: String,
    pub plan: StreamPlan,
    /// A sink to nowhere: maintained, counted, not kept.
    pub discard: bool,
    pub indexes: Vec<IndexSpec>,
}

impl ViewSpec {
    /// How its rows are arranged; `None` for a sink.
    fn layout(&self, state: &SavedState) -> Option<Layout> {
        let properties = &self.plan.properties;
        let layout = match &properties.key {
            None if properties.append_only => Layout::log(self.plan.delta_schema()),
            key => Layout::indexed(self.plan.delta_schema(), key.clone().unwrap_or_default()),
        };
        (!self.discard).then(|| layout.spilling_to(state.scratch()))
    }
}

/// A change to one table, as a session computed it from a snapshot.
pub struct TableWrite {
    pub table: RelationId,
    /// Columns are the table's, in order. Retractions name rows that must be there.
    pub delta: Delta,
}

impl Runtime {
    /// Starts workers and sequencer. Table contents are read from `store`; XX001 if they cannot be. `views` are those that
    /// will be made again, or given up; what was saved of others goes. Without an interval no checkpoints are written. A
    /// subscriber may be behind by `held_bytes_max`. Operators let go of what is saved as `memory` says.
    pub fn start(
        worker_count: usize,
        store: Arc<dyn Store>,
        tables: Vec<TableSpec>,
        views: &[RelationId],
        checkpoint_interval: Option<Duration>,
        held_bytes_max: usize,
        memory: Arc<Memory>,
    ) -> Result<Runtime> {
        let saved = match checkpoint_interval {
            Some(_) => Saved::load(store.as_ref(), views)?,
            None => {
                Saved::discard(store.as_ref())?;
                Saved::default()
            }
        };
        let saved = Arc::new(saved);
        let saved_state = Arc::new(SavedState::new(store.clone(), memory));
        let world = Arc::new(watch::Sender::new(Arc::new(World::default())));
        let statuses = Arc::new(Mutex::new(Statuses::default()));
        let start = sequencer::Start {
            worker_count,
            store: store.clone(),
            tables,
            saved: saved.clone(),
            saved_state: saved_state.clone(),
            checkpoint_interval,
            world: world.clone(),
            statuses: statuses.clone(),
            held_bytes_max,
        };
        let (events, sequencer) = sequencer::start(start)?;
        let sequencer = Arc::new(Mutex::new(Some(sequencer)));
        Ok(Runtime { events, world, statuses, store, worker_count, saved, saved_state, sequencer })
    }

    /// The last committed epoch.
    pub fn world(&self) -> Arc<World> {
        self.world.borrow().clone()
    }

    pub async fn create_table(&self, spec: TableSpec) -> Result<()> {
        self.ask(|reply| Event::CreateTable { spec, reply }).await
    }

    /// A table under another name or with other column names; its rows are untouched.
    pub async fn rename_table(&self, spec: TableSpec) -> Result<()> {
        self.ask(|reply| Event::RenameTable { spec, reply }).await
    }

    /// From now on these are the relation's indexes. 23505 if a new unique one finds equal keys; then nothing changes.
    pub async fn set_indexes(&self, relation: RelationId, indexes: Vec<IndexSpec>) -> Result<()> {
        self.ask(|reply| Event::SetIndexes { relation, indexes, reply }).await
    }

    /// Registers a source; reading starts with the first view on it. 22023 for options that cannot be used.
    pub async fn create_source(&self, spec: SourceSpec) -> Result<()> {
        self.ask(|reply| Event::CreateSource { spec, reply }).await
    }

    /// Takes no more rows of a source, or goes on where it was.
    pub async fn pause_source(&self, id: RelationId, is_paused: bool) -> Result<()> {
        self.ask(|reply| Event::PauseSource { id, is_paused, reply }).await
    }

    /// Takes so many rows of a source a second from now on.
    pub async fn limit_source(&self, id: RelationId, rows_per_s: Option<NonZeroU64>) -> Result<()> {
        self.ask(|reply| Event::LimitSource { id, rows_per_s, reply }).await
    }

    /// Returns when the view has caught up with its inputs and can be read. Dropping the future abandons the view. One that
    /// was saved goes on from there; XX001 if that cannot be read.
    pub async fn create_view(&self, spec: ViewSpec) -> Result<()> {
        let restored = match self.saved.views.contains_key(&spec.id) {
            false => None,
            true => match self.restore(&spec).await {
                Ok(restored) => restored.map(Box::new),
                Err(error) => {
                    self.give_up_view(spec.id);
                    return Err(error);
                }
            },
        };
        let (view, snapshot) = (spec.id, restored.as_ref().and_then(|restored| restored.snapshot()));
        self.ask(|reply| Event::CreateView { spec, restored, reply }).await?;
        if let Some(snapshot) = snapshot {
            let events = self.events.clone();
            // Rows that nobody looks at are damaged like others: what is saved next is made of them.
            tokio::task::spawn_blocking(move || {
                if let Err(error) = snapshot.check() {
                    let _ = events.send(Event::FailView { view, error });
                }
            });
        }
        Ok(())
    }

    async fn restore(&self, spec: &ViewSpec) -> Result<Option<Restored>> {
        let (runtime, id, plan, layout) = (self.clone(), spec.id, spec.plan.clone(), spec.layout(&self.saved_state));
        let reading = tokio::task::spawn_blocking(move || {
            let (saved, store, state) = (&runtime.saved, runtime.store.as_ref(), &runtime.saved_state);
            checkpoint::prepare(saved, store, state, id, &plan, layout.as_ref(), runtime.worker_count)
        });
        reading.await.map_err(|e| Error::internal(format!("reading a view's state failed: {e}")))?
    }

    /// A view that was there at the last start will not be made again: what was saved of it goes.
    pub fn give_up_view(&self, view: RelationId) {
        // The sequencer is gone only when the server ends.
        let _ = self.events.send(Event::GiveUp { view });
    }

    /// Drops relations together, dependents first; the tables' rows go too.
    pub async fn drop_relations(&self, ids: Vec<RelationId>) -> Result<()> {
        self.ask(|reply| Event::Drop { ids, reply }).await
    }

    /// One atomic change of one or more tables: durable and visible to `world()` when it returns. 23505 on a duplicate
    /// key, 40001 if a retracted row is no longer there (the caller recomputes and tries again), 53100 or 58030 if it
    /// could not be made durable.
    pub async fn write(&self, writes: Vec<TableWrite>) -> Result<Epoch> {
        self.ask(|reply| Event::Write { writes, reply }).await
    }

    /// From now on the relation keeps what it was for so long; zero: it does not. 55000 if it cannot be read.
    pub async fn set_retention(&self, relation: RelationId, retention_us: i64) -> Result<()> {
        self.ask(|reply| Event::SetRetention { relation, retention_us, reply }).await
    }

    /// Follows a relation from the changes after `from` on, by default from now on. 55000 if it cannot be read.
    pub async fn follow(&self, relation: RelationId, from: Option<Epoch>) -> Result<Followed> {
        self.ask(|reply| Event::Follow { relation, from, reply }).await
    }

    /// The last epoch at or before the instant, which must not be in the future; no other will come at or before it.
    pub async fn settle(&self, instant_us: i64) -> Result<Epoch> {
        self.ask(|reply| Event::Settle { instant_us, reply }).await
    }

    /// Drops what was maintained for a subscriber alone, without waiting for it.
    pub fn abandon(&self, relation: RelationId) {
        let (reply, _) = oneshot::channel();
        // The sequencer is gone only when the server ends.
        let _ = self.events.send(Event::Drop { ids: vec![relation], reply });
    }

    /// Ends sources, workers and sequencer; returns when they are gone.
    pub async fn shutdown(&self) {
        let _ = self.ask(|reply| Event::Stop { reply }).await;
        let sequencer = self.sequencer.lock().take();
        if let Some(sequencer) = sequencer {
            // Where it panics, the process ends.
            let _ = tokio::task::spawn_blocking(move || sequencer.join()).await;
        }
    }

    /// The newest epoch that a start goes on from: what views were then is on disk. `None` before the first checkpoint.
    pub fn checkpoint_epoch(&self) -> Option<Epoch> {
        self.statuses.lock().checkpoint
    }

    /// What is in use for what, and how much may be.
    pub fn memory(&self) -> &Memory {
        self.saved_state.memory()
    }

    pub fn source_statuses(&self) -> Vec<SourceStatus> {
        self.statuses.lock().sources()
    }

    /// How far event time has come, of each source and table with a watermark.
    pub fn watermarks(&self) -> Arc<Watermarks> {
        self.statuses.lock().watermarks.clone()
    }

    pub fn view_statuses(&self) -> Vec<ViewStatus> {
        self.statuses.lock().views()
    }

    /// Records that could not be decoded, oldest first; the last [`status::ERROR_COUNT_MAX`] of each source.
    pub fn source_errors(&self) -> Vec<SourceError> {
        self.statuses.lock().source_errors()
    }

    /// Rows for which an expression of a view fails at this moment, up to [`status::ERROR_COUNT_MAX`] for each view.
    pub fn view_errors(&self) -> Vec<ViewError> {
        self.statuses.lock().view_errors()
    }

    /// What the operators of all views have done. Waits for the epoch under way, blocking the thread.
    pub fn measure(&self) -> Result<Vec<ViewMeasurement>> {
        let (reply, answer) = std::sync::mpsc::channel();
        let gone = || Error::new(SqlState::ADMIN_SHUTDOWN, "the server is shutting down");
        self.events.send(Event::Measure { reply }).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())
    }

    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<Result<T>>) -> Event) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::new(SqlState::ADMIN_SHUTDOWN, "the server is shutting down");
        self.events.send(event(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

#[cfg(test)]
mod tests;
