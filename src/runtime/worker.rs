//! A timely worker: it builds views' dataflows, drops them, and steps them through epochs, as the sequencer says.
//!
//! All workers get the same commands in the same order, as timely asks of them. An epoch names the views it touches in
//! dependency order; each is fed and stepped until every worker is through with it, so that what a view puts out is
//! there for the views above it in the same epoch. Views that an epoch does not name are not looked at.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use timely::worker::Worker;

use super::checkpoint::SavedState;
use super::dataflow::{StepMoment, ViewDataflow};
use crate::dataflow::fragment::{Fragment, FragmentGraph};
use crate::dataflow::meter::Meter;
use crate::dataflow::{Arranged, StateSize};
use crate::error::{Error, Result};
use crate::plan::Watermarks;
use crate::state::checkpoint::StateChanges;
use crate::state::{Layout, Run};
use crate::types::{Delta, Epoch, RelationId, RowError};

pub enum Command {
    /// Builds a view whose first step is `epoch`. `layout` absent: its output is counted and let go.
    Create {
        view: RelationId,
        name: String,
        graph: Arc<FragmentGraph>,
        /// This worker's share of the fragments, where they go on from a checkpoint.
        restored: Option<Vec<Fragment>>,
        /// For checkpoints to come, changes of state are recorded; what they have saved is looked up there.
        saved: Option<Arc<SavedState>>,
        layout: Option<Arc<Layout>>,
        epoch: Epoch,
    },
    Drop {
        view: RelationId,
    },
    Step(Step),
    /// Hands over what has changed of the state of these views' operators since the last time.
    TakeChanges {
        views: Arc<[RelationId]>,
        reply: Sender<Vec<ViewChanges>>,
    },
    /// The changes of these views that were taken last are in a finished checkpoint.
    Saved {
        views: Arc<[RelationId]>,
    },
    /// Tells what the operators of each view have done.
    Measure {
        reply: Sender<Measured>,
    },
    Stop,
}

/// What has changed of one view's operator state on one worker.
pub type ViewChanges = (RelationId, Result<StateChanges>);

/// What the operators of each view have done on one worker, by their number in the view's plan.
pub type Measured = Vec<(RelationId, Vec<(usize, Meter)>)>;

/// One worker's share of one epoch.
pub struct Step {
    pub epoch: Epoch,
    /// In dependency order.
    pub views: Vec<RelationId>,
    /// Deltas of tables and sources, for every view that reads them.
    pub changes: HashMap<RelationId, Vec<RelationDelta>>,
    /// Deltas for one view alone: what it catches up on.
    pub backfills: HashMap<RelationId, Vec<Piece>>,
    /// By view: relations that it looks into, as they were before the epoch, without what it has yet to catch up on.
    pub arranged: Arc<HashMap<RelationId, Arc<Arranged>>>,
    /// How far event time has come.
    pub watermarks: Arc<Watermarks>,
    /// Wall-clock time, microseconds since 1970; never goes back.
    pub now_us: i64,
    /// Views that still catch up: for them no time is over yet.
    pub catching_up: Arc<HashSet<RelationId>>,
    /// Also report how much state each view holds.
    pub measure: bool,
}

/// A delta that has some of its relation's columns.
#[derive(Clone)]
pub struct RelationDelta {
    /// Which columns of the relation these are; ascending.
    pub columns: Arc<[usize]>,
    pub delta: Delta,
}

impl RelationDelta {
    /// Cut to the wanted columns; all of them must be here.
    pub fn project(&self, wanted: &[usize]) -> Result<Delta> {
        if *self.columns == *wanted {
            return Ok(self.delta.clone());
        }
        let places: Option<Vec<usize>> = wanted.iter().map(|column| self.columns.binary_search(column).ok()).collect();
        let places = places.expect("a reader makes all columns that its views need");
        Ok(self.delta.project(&places)?)
    }
}

/// A piece of what a view catches up on.
#[derive(Clone)]
pub struct Piece {
    pub relation: RelationId,
    pub change: RelationDelta,
    /// It has changed since the view's checkpoint; otherwise it was there when the view was made.
    pub is_new: bool,
}

/// What became of one view in a step, on one worker.
pub struct ViewOutput {
    pub view: RelationId,
    /// What changed, ready to be arranged; `None` if nothing did, or if it is not kept.
    pub run: Option<Run>,
    pub input_row_count: u64,
    pub output_row_count: u64,
    pub errors: Vec<RowError>,
    /// By the relation whose watermark they missed.
    pub late_row_counts: BTreeMap<RelationId, u64>,
    /// If it was asked for, with the bytes of it that do not give way where memory is short.
    pub state_size: Option<(StateSize, u64)>,
    /// How long the worker was at it.
    pub elapsed: Duration,
    /// The wall-clock time at which it wants to be stepped again.
    pub due_us: Option<i64>,
    /// The view broke: it will not be stepped any more.
    pub failure: Option<Error>,
}

/// The sequencer's ends of a worker's channels.
pub struct WorkerLink {
    pub commands: Sender<Command>,
    /// `Err`: the worker panicked, with its last words.
    pub results: Receiver<Result<Vec<ViewOutput>, String>>,
}

/// Keeps the worker threads; dropping it waits for their end, which [`Command::Stop`] brings about.
pub struct Workers {
    _guards: timely::communication::WorkerGuards<()>,
}

pub fn start(worker_count: usize) -> Result<(Workers, Vec<WorkerLink>)> {
    let (mut links, mut ends) = (vec![], vec![]);
    for _ in 0..worker_count {
        let (commands, command_end) = std::sync::mpsc::channel();
        let (result_end, results) = std::sync::mpsc::channel();
        links.push(WorkerLink { commands, results });
        ends.push(Some((command_end, result_end)));
    }
    let ends = Arc::new(Mutex::new(ends));
    let config = if worker_count == 1 { timely::Config::thread() } else { timely::Config::process(worker_count) };
    let guards = timely::execute(config, move |worker| {
        let ends = ends.lock()[worker.index()].take();
        let (commands, results) = ends.expect("each worker takes its own channels once");
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| run(worker, &commands, &results)));
        if let Err(panic) = outcome {
            // The sequencer ends the process; if it is gone, the process is ending anyway.
            let _ = results.send(Err(last_words(panic.as_ref()).to_string()));
        }
    });
    let guards = guards.map_err(|e| Error::internal(format!("could not start workers: {e}")))?;
    Ok((Workers { _guards: guards }, links))
}

/// The message of a panic.
pub fn last_words(panic: &(dyn std::any::Any + Send)) -> &str {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    words.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

fn run(worker: &mut Worker, commands: &Receiver<Command>, results: &Sender<Result<Vec<ViewOutput>, String>>) {
    let mut views: HashMap<RelationId, ViewDataflow> = HashMap::new();
    while let Ok(command) = commands.recv() {
        match command {
            Command::Create { view, name, graph, restored, saved, layout, epoch } => {
                let is_restored = restored.is_some();
                let fragments = restored.unwrap_or_else(|| {
                    let built = graph.fragments.iter().map(Fragment::build).collect::<Result<_>>();
                    built.expect("the sequencer has built these fragments before")
                });
                let mut dataflow = ViewDataflow::build(worker, &name, &graph, fragments, layout, epoch);
                if let Some(saved) = saved {
                    if !is_restored {
                        dataflow.attach(&mut *saved.open_new(view, worker.index()));
                    }
                    dataflow.record();
                }
                views.insert(view, dataflow);
            }
            Command::TakeChanges { views: wanted, reply } => {
                let index = worker.index();
                let changes = wanted.iter().filter_map(|id| Some((*id, views.get_mut(id)?.take_changes(index))));
                // The sequencer waits for it.
                let _ = reply.send(changes.collect());
            }
            Command::Saved { views: saved } => {
                for id in saved.iter() {
                    if let Some(view) = views.get_mut(id) {
                        view.saved();
                    }
                }
            }
            Command::Drop { view } => {
                if let Some(dataflow) = views.remove(&view) {
                    dataflow.close(worker);
                }
            }
            Command::Step(step) => {
                let result = run_step(worker, &mut views, step);
                if results.send(Ok(result)).is_err() {
                    break;
                }
            }
            Command::Measure { reply } => {
                // Nobody waits any more: nobody to tell.
                let _ = reply.send(views.iter().map(|(id, view)| (*id, view.meters())).collect());
            }
            Command::Stop => break,
        }
    }
    // Closing the inputs is enough: timely itself steps all workers until their dataflows are done.
    drop(views);
}

fn run_step(worker: &mut Worker, views: &mut HashMap<RelationId, ViewDataflow>, mut step: Step) -> Vec<ViewOutput> {
    let epoch = step.epoch;
    let mut outputs = vec![];
    for id in &step.views {
        let Some(view) = views.get_mut(id) else { continue };
        let backfill = step.backfills.remove(id).unwrap_or_default();
        let is_catching_up = step.catching_up.contains(id);
        let watermarks = match is_catching_up {
            true => Arc::default(),
            false => step.watermarks.clone(),
        };
        let start = Instant::now();
        let moment = StepMoment {
            epoch,
            watermarks,
            now_us: step.now_us,
            is_catching_up,
            arranged: step.arranged.get(id).cloned().unwrap_or_default(),
        };
        let fed = view.feed(moment, &step.changes, &backfill);
        // Other workers' parcels unpark this thread; the bound only guards against a lost wake-up.
        while !view.is_through(epoch) {
            worker.step_or_park(Some(Duration::from_millis(5)));
        }
        let (output, deltas) = view.take_output(*id, fed, step.measure);
        outputs.push(ViewOutput { elapsed: start.elapsed(), ..output });
        if !deltas.is_empty() {
            step.changes.insert(*id, deltas);
        }
    }
    outputs
}
