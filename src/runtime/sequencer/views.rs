//! Views: starting them, letting them catch up ([`backfill`]), taking in what the workers made of them.

mod backfill;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;

use self::backfill::Backfill;
use super::Sequencer;
use crate::dataflow::StateSize;
use crate::dataflow::fragment::{Fragment, FragmentGraph};
use crate::dataflow::meter::Meter;
use crate::error::{Error, Result, SqlState};
use crate::plan::{TimeColumn, Watermarks, explain};
use crate::runtime::ViewSpec;
use crate::runtime::checkpoint::{Restored, fingerprint};
use crate::runtime::status::{OperatorMeasurement, ViewMeasurement, ViewStatus};
use crate::runtime::worker::{Command, ViewOutput};
use crate::state::checkpoint::StateChanges;
use crate::state::checkpoint::record::ViewRecord;
use crate::state::{Arrangement, Layout, Snapshot};
use crate::types::{Delta, Epoch, RelationId};

pub struct View {
    id: RelationId,
    graph: Arc<FragmentGraph>,
    /// Depth and text of each operator, in the plan's preorder.
    outline: Vec<(usize, String)>,
    /// `None` for a sink.
    arrangement: Option<Arrangement>,
    /// What its contents changed by since the last checkpoint.
    pub unsaved: Vec<Delta>,
    /// All of its state as it was restored, if it has to be saved anew.
    pub spread_anew: StateChanges,
    /// Of the plan: whether a later start can go on from its state.
    fingerprint: String,
    /// It was made from a checkpoint.
    is_restored: bool,
    /// What it has yet to be fed.
    backfills: Vec<Backfill>,
    /// What it had yet to be fed before the epoch under way, of relations whose arrangements it looks into.
    unfed: HashMap<RelationId, Vec<Delta>>,
    /// Columns by which its operators let state go or rows out.
    times: Vec<TimeColumn>,
    /// What those columns were closed below when it was last stepped.
    closed_below: Vec<Option<i64>>,
    /// The wall-clock time at which it wants to be stepped.
    due_us: Option<i64>,
    /// By the relation whose watermark the rows missed.
    late_row_counts: BTreeMap<RelationId, u64>,
    /// It has not taken its first step.
    pub is_new: bool,
    /// It has caught up, and so have the views that it reads.
    pub is_ready: bool,
    failure: Option<Error>,
    pub reply: Option<oneshot::Sender<Result<()>>>,
    pub step_count: u64,
    input_row_count: u64,
    output_row_count: u64,
    state_size: StateSize,
    /// State that does not give way where memory is short.
    fixed_bytes: u64,
    epoch: Epoch,
}

impl View {
    pub fn relations(&self) -> impl Iterator<Item = RelationId> {
        self.graph.relation_inputs().map(|(relation, ..)| relation)
    }

    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    pub fn due_us(&self) -> Option<i64> {
        self.due_us.filter(|_| !self.has_failed())
    }

    pub fn has_backfills(&self) -> bool {
        !self.backfills.is_empty()
    }

    /// True if a time is over for it that was not when it was last stepped, or the clock says so.
    pub fn is_due(&self, watermarks: &Watermarks, now_us: i64) -> bool {
        if self.due_us.is_some_and(|due_us| due_us <= now_us) {
            return true;
        }
        let mut times = self.times.iter().zip(&self.closed_below);
        !self.has_backfills() && times.any(|(time, then)| time.closed_at(watermarks) > *then)
    }

    pub fn has_work(&self) -> bool {
        !self.has_failed()
            && (self.is_new || self.backfills.iter().any(|backfill| matches!(backfill, Backfill::Rows { .. })))
    }

    pub fn snapshot(&self) -> Option<Snapshot> {
        self.arrangement.as_ref().map(|arrangement| arrangement.snapshot())
    }

    pub fn operator_count(&self) -> usize {
        self.outline.len()
    }

    /// Of its own rows; `None` for a sink.
    pub fn layout(&self) -> Option<&Layout> {
        self.arrangement.as_ref().map(|arrangement| arrangement.layout().as_ref())
    }

    /// For a checkpoint, without its collections.
    pub fn record(&self, worker_count: usize) -> ViewRecord {
        ViewRecord {
            fingerprint: self.fingerprint.clone(),
            worker_count,
            is_complete: self.is_ready,
            epoch: self.epoch.0,
            input_row_count: self.input_row_count,
            output_row_count: self.output_row_count,
            late_row_counts: self.late_row_counts.iter().map(|(id, count)| (id.0, *count)).collect(),
            collections: vec![],
        }
    }

    pub fn set_indexes(&mut self, columns: Vec<Vec<usize>>) {
        if let Some(arrangement) = &mut self.arrangement {
            arrangement.set_indexes(columns);
        }
    }

    pub fn stop(&mut self) {
        self.backfills.clear();
    }

    fn fail(&mut self, error: Error) {
        self.backfills.clear();
        self.is_ready = false;
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Err(error.clone()));
        }
        self.failure = Some(error);
    }

    /// What its operators cannot let go, as it was last measured.
    pub fn fixed_bytes(&self) -> u64 {
        self.fixed_bytes
    }

    /// Of its own rows.
    pub fn memory_bytes(&self) -> u64 {
        self.arrangement.as_ref().map_or(0, |arrangement| arrangement.memory_bytes() as u64)
    }

    fn status(&self) -> ViewStatus {
        ViewStatus {
            id: self.id,
            state: match (&self.failure, self.is_ready) {
                (Some(_), _) => "failed",
                (None, true) => "running",
                (None, false) => "backfilling",
            },
            error: self.failure.as_ref().map(|error| error.to_string()),
            input_row_count: self.input_row_count,
            output_row_count: self.output_row_count,
            state_row_count: self.state_size.row_count,
            state_bytes: self.state_size.bytes,
            stored_row_count: self.arrangement.as_ref().map_or(0, |a| a.row_count() as u64),
            stored_bytes: self.arrangement.as_ref().map_or(0, |a| a.stored_bytes() as u64),
            row_error_count: 0,
            late_row_counts: self.late_row_counts.clone(),
            epoch: self.epoch,
        }
    }
}

impl Sequencer {
    /// Answers `reply` when the view is ready, or at once if it cannot be made.
    pub(super) fn create_view(
        &mut self,
        spec: ViewSpec,
        restored: Option<Box<Restored>>,
        reply: oneshot::Sender<Result<()>>,
    ) {
        let (id, errors) = (spec.id, restored.as_ref().map(|restored| restored.errors.clone()));
        let installed = self.install_view(spec, restored);
        // One that goes on from its state is settled when it has caught up.
        let goes_on = installed.is_ok() && self.views.get(&id).is_some_and(|view| view.is_restored);
        if !goes_on && self.checkpoints.settle(id) {
            self.recovered();
        }
        match installed {
            Ok(id) => {
                let view = self.views.get_mut(&id).expect("the view was just installed");
                view.reply = Some(reply);
                let mut statuses = self.statuses.lock();
                statuses.set_view(view.status());
                if view.is_restored {
                    statuses.restore_view_errors(id, errors.unwrap_or_default());
                    statuses.set_view(view.status());
                }
            }
            Err(error) => {
                self.checkpoints.note_forgotten(id);
                let _ = reply.send(Err(error));
            }
        }
    }

    fn install_view(&mut self, spec: ViewSpec, restored: Option<Box<Restored>>) -> Result<RelationId> {
        let graph = Arc::new(FragmentGraph::build(&spec.plan, self.links.len()));
        let fingerprint = fingerprint(&spec.plan)?;
        // It goes on from a checkpoint where all views that it reads do.
        let reads_restored = |(relation, ..): (RelationId, &[usize], bool)| {
            self.views.get(&relation).is_none_or(|view| view.is_restored)
        };
        let restored = restored.filter(|_| graph.relation_inputs().all(reads_restored)).map(|restored| *restored);
        // Workers must not fail on what can be known here.
        graph.fragments.iter().try_for_each(|fragment| Fragment::build(fragment).map(|_| ()))?;
        let is_restored = restored.is_some();
        let backfills = self.backfills(&graph, is_restored)?;
        let times = spec.plan.times_followed();
        let (mut fragments, mut arrangement, record, spread_anew) = match restored {
            Some(Restored { record, fragments, arrangement, spread_anew, errors: _ }) => {
                (fragments, arrangement, Some(record), spread_anew)
            }
            None => (vec![], spec.layout(self.checkpoints.state()).map(Arrangement::new), None, None),
        };
        if is_restored {
            tracing::info!("view {} goes on from the checkpoint of epoch {}", spec.name, self.checkpoints.epoch());
            // The first worker takes the last one.
            fragments.reverse();
        }
        if !is_restored || spread_anew.is_some() {
            self.checkpoints.note_fresh(spec.id);
        }
        if let Some(arrangement) = &mut arrangement {
            arrangement.set_indexes(spec.indexes.iter().map(|index| index.columns.clone()).collect());
        }
        let layout = arrangement.as_ref().map(|arrangement| arrangement.layout().clone());
        let (id, name, epoch) = (spec.id, spec.name.clone(), self.epoch);
        let due_us = fragments.iter().flatten().filter_map(|fragment| fragment.due_us()).min();
        let saved = self.checkpoints.state_of(id);
        self.command_all(|| Command::Create {
            view: id,
            name: name.clone(),
            graph: graph.clone(),
            restored: fragments.pop(),
            saved: saved.clone(),
            layout: layout.clone(),
            epoch,
        });
        let counted = record.as_deref();
        let view = View {
            id,
            unsaved: vec![],
            spread_anew: spread_anew.unwrap_or_default(),
            fingerprint,
            is_restored,
            graph,
            closed_below: vec![None; times.len()],
            times,
            due_us,
            late_row_counts: counted.map_or_else(BTreeMap::new, |record| {
                record.late_row_counts.iter().map(|(id, count)| (RelationId(*id), *count)).collect()
            }),
            outline: explain::outline(&spec.plan),
            arrangement,
            backfills,
            unfed: HashMap::new(),
            is_new: !is_restored,
            is_ready: false,
            failure: None,
            reply: None,
            step_count: 0,
            input_row_count: counted.map_or(0, |record| record.input_row_count),
            output_row_count: counted.map_or(0, |record| record.output_row_count),
            state_size: StateSize::default(),
            fixed_bytes: 0,
            epoch: counted.map_or(epoch, |record| Epoch(record.epoch)),
        };
        self.views.insert(id, view);
        self.quotas.begin_again();
        Ok(id)
    }

    /// Every operator of every view, added up over the workers.
    pub(super) fn measure(&self) -> Vec<ViewMeasurement> {
        let (reply, answers) = std::sync::mpsc::channel();
        self.command_all(|| Command::Measure { reply: reply.clone() });
        drop(reply);
        let mut meters: HashMap<RelationId, HashMap<usize, Meter>> = HashMap::new();
        for (view, operators) in answers.iter().flatten() {
            let view = meters.entry(view).or_default();
            operators.into_iter().for_each(|(number, meter)| *view.entry(number).or_default() += meter);
        }
        let measurement = |(id, view): (&RelationId, &View)| ViewMeasurement {
            view: *id,
            operators: view
                .outline
                .iter()
                .enumerate()
                .map(|(number, (depth, text))| OperatorMeasurement {
                    depth: *depth,
                    text: text.clone(),
                    meter: meters.get(id).and_then(|view| view.get(&number)).copied(),
                })
                .collect(),
        };
        self.views.iter().map(measurement).collect()
    }

    pub(super) fn drop_view(&mut self, id: RelationId) {
        if self.views.remove(&id).is_some() {
            self.command_all(|| Command::Drop { view: id });
        }
    }

    /// Takes in what the workers made of an epoch.
    pub(super) fn take_outputs(&mut self, epoch: Epoch, touched: &[RelationId], outputs: Vec<ViewOutput>) {
        let mut sizes: HashMap<RelationId, (StateSize, u64)> = HashMap::new();
        let catching_up = self.catching_up();
        // Every touched view says anew when it is due.
        for id in touched {
            if let Some(view) = self.views.get_mut(id) {
                view.due_us = None;
            }
        }
        let mut statuses = self.statuses.lock();
        for output in outputs {
            let Some(view) = self.views.get_mut(&output.view) else { continue };
            view.input_row_count += output.input_row_count;
            view.output_row_count += output.output_row_count;
            view.due_us = view.due_us.into_iter().chain(output.due_us).min();
            for (relation, count) in output.late_row_counts {
                *view.late_row_counts.entry(relation).or_default() += count;
            }
            if let Some((size, fixed_bytes)) = output.state_size {
                let all = sizes.entry(output.view).or_default();
                all.0 += size;
                all.1 += fixed_bytes;
            }
            let appended = match (&mut view.arrangement, output.run) {
                (Some(arrangement), Some(run)) => run.deltas().collect::<Result<Vec<Delta>>>().and_then(|deltas| {
                    deltas.iter().for_each(|delta| self.histories.note(output.view, delta));
                    if self.checkpoints.saves(output.view) {
                        view.unsaved.extend(deltas);
                    }
                    arrangement.append_run(run)
                }),
                _ => Ok(()),
            };
            if !output.errors.is_empty() {
                statuses.add_view_errors(output.view, output.errors);
            }
            if let Some(error) = output.failure.or(appended.err()) {
                tracing::error!("view {} has failed: {error}", output.view.0);
                view.fail(error);
            }
        }
        for id in touched {
            let Some(view) = self.views.get_mut(id) else { continue };
            view.is_new = false;
            view.step_count += 1;
            view.epoch = epoch;
            if !catching_up.contains(id) {
                let now = view.times.iter().map(|time| time.closed_at(&self.watermarks));
                view.closed_below = now.collect();
            }
            if let Some(size) = sizes.get(id) {
                (view.state_size, view.fixed_bytes) = *size;
            }
        }
        let failed: Vec<RelationId> =
            touched.iter().copied().filter(|id| self.views.get(id).is_some_and(|view| view.has_failed())).collect();
        failed.into_iter().for_each(|id| self.checkpoints.note_forgotten(id));
        // A failed view takes those above it along: their inputs would be missing deltas.
        let failed: Vec<RelationId> =
            self.views.values().filter(|view| view.has_failed()).map(|view| view.id).collect();
        for view in self.views.values_mut().filter(|view| !view.has_failed()) {
            let below = view.relations().find(|relation| failed.contains(relation));
            if let Some(below) = below {
                let message = format!("relation {} that it reads has failed", below.0);
                view.fail(Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message));
            }
        }
        for id in touched {
            if let Some(view) = self.views.get(id) {
                statuses.set_view(view.status());
            }
        }
    }

    /// The view is stopped.
    pub(super) fn fail_view(&mut self, id: RelationId, error: Error) {
        tracing::error!("view {} has failed: {error}", id.0);
        self.checkpoints.note_forgotten(id);
        if let Some(view) = self.views.get_mut(&id) {
            view.fail(error);
            self.statuses.lock().set_view(view.status());
        }
    }

    /// Views that have caught up just now.
    pub(super) fn ready_views(&mut self) -> Vec<RelationId> {
        let mut became_ready = vec![];
        let ids: Vec<RelationId> = self.views.keys().copied().collect();
        for id in ids {
            let view = &self.views[&id];
            if view.is_ready || view.is_new || view.has_failed() || !view.backfills.is_empty() {
                continue;
            }
            let below = view.relations().all(|relation| self.views.get(&relation).is_none_or(|view| view.is_ready));
            if below && let Some(view) = self.views.get_mut(&id) {
                view.is_ready = true;
                self.quotas.forget_backfill(id);
                self.statuses.lock().set_view(view.status());
                // It counts from now on.
                self.checkpoints.note_epoch(&[id], 0);
                if self.checkpoints.settle(id) {
                    self.recovered();
                }
                became_ready.push(id);
            }
        }
        became_ready
    }
}
