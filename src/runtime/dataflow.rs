//! One view's fragments as timely operators on one worker.
//!
//! A fragment gathers its inputs until the frontier says that an epoch is complete, then takes one synchronous step.
//! Between fragments go [`Parcel`]s; the last fragment leaves its output where the worker picks it up.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::core::Input;
use timely::dataflow::operators::core::Probe;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{InputHandle, ProbeHandle, Scope, Stream};
use timely::worker::Worker;

use super::parcel::Parcel;
use super::worker::{Piece, RelationDelta, ViewOutput};
use crate::dataflow::fragment::{Fragment, FragmentGraph, FragmentInput, FragmentSpec, OpenParts};
use crate::dataflow::meter::Meter;
use crate::dataflow::partition::Partitioning;
use crate::dataflow::{Arranged, EpochContext, StateSize};
use crate::error::{Error, Result};
use crate::plan::Watermarks;
use crate::state::checkpoint::{Place, StateChanges};
use crate::state::{Layout, Run};
use crate::types::{Delta, Epoch, RelationId, RowError};

type Parcels = Vec<Parcel>;
type Builder = CapacityContainerBuilder<Parcels>;

pub struct ViewDataflow {
    inputs: Vec<RelationInput>,
    probe: ProbeHandle<u64>,
    fragments: Vec<Rc<RefCell<Fragment>>>,
    results: Rc<RefCell<Results>>,
    clock: Rc<RefCell<EventClock>>,
    layout: Option<Arc<Layout>>,
    /// Columns of the view's own rows, as its readers name them.
    columns: Arc<[usize]>,
    has_failed: bool,
}

struct RelationInput {
    relation: RelationId,
    columns: Vec<usize>,
    /// What the relation was is looked up.
    only_changes: bool,
    handle: InputHandle<u64, Builder>,
}

/// What a step of a view is told beside its rows.
#[derive(Default)]
pub struct StepMoment {
    pub epoch: Epoch,
    pub watermarks: Arc<Watermarks>,
    pub now_us: i64,
    pub is_catching_up: bool,
    /// Relations as they were before the epoch.
    pub arranged: Arc<Arranged>,
}

/// The step under way, and the watermarks of the step before it.
#[derive(Default)]
struct EventClock {
    now: StepMoment,
    before: Arc<Watermarks>,
}

/// What the fragments of one worker leave behind in a step.
#[derive(Default)]
struct Results {
    deltas: Vec<Delta>,
    errors: Vec<RowError>,
    late_row_counts: BTreeMap<RelationId, u64>,
    failure: Option<Error>,
}

impl ViewDataflow {
    /// The fragments' first step is `epoch`.
    pub fn build(
        worker: &mut Worker,
        name: &str,
        graph: &FragmentGraph,
        built: Vec<Fragment>,
        layout: Option<Arc<Layout>>,
        epoch: Epoch,
    ) -> ViewDataflow {
        let results = Rc::new(RefCell::new(Results::default()));
        let clock = Rc::new(RefCell::new(EventClock::default()));
        let mut inputs = vec![];
        let mut fragments = vec![];
        let worker_count = worker.peers();
        let worker_index = worker.index();
        // Who reads each fragment, and how; the last one is read by the view's store.
        let readers: Vec<Vec<Partitioning>> = (0..graph.fragments.len()).map(|f| graph.readers(f)).collect();
        let probe = ProbeHandle::new();
        worker.dataflow_named(name, |scope| {
            let mut streams: Vec<VecDeque<Stream<'_, u64, Parcels>>> = vec![];
            for ((spec, fragment), readers) in graph.fragments.iter().zip(built).zip(readers) {
                let fragment = Rc::new(RefCell::new(fragment));
                fragments.push(fragment.clone());
                let (results, clock) = (results.clone(), clock.clone());
                let stage = Stage { fragment, results, clock, readers, worker_index, worker_count };
                let output = install(scope, spec, stage, &mut inputs, &mut streams, epoch);
                streams.push(output);
            }
            if let Some(last) = streams.pop().and_then(|mut outputs| outputs.pop_front()) {
                last.probe_with(&probe);
            }
        });
        let width = layout.as_ref().map_or(0, |layout| layout.schema.fields().len());
        let columns = (0..width).collect();
        ViewDataflow { inputs, probe, fragments, results, clock, layout, columns, has_failed: false }
    }

    /// Hands in an epoch's deltas and closes the epoch; returns how many rows there were.
    pub fn feed(
        &mut self,
        moment: StepMoment,
        changes: &HashMap<RelationId, Vec<RelationDelta>>,
        backfill: &[Piece],
    ) -> u64 {
        let epoch = moment.epoch;
        let mut clock = self.clock.borrow_mut();
        clock.before = std::mem::replace(&mut clock.now, moment).watermarks;
        drop(clock);
        let mut row_count = 0;
        for input in &mut self.inputs {
            input.handle.advance_to(epoch.0);
            let shared = changes.get(&input.relation).into_iter().flatten();
            let is_fed = |piece: &&Piece| piece.relation == input.relation && (piece.is_new || !input.only_changes);
            let own = backfill.iter().filter(is_fed).map(|piece| &piece.change);
            let mut parcels = vec![];
            for delta in shared.chain(own) {
                row_count += delta.delta.row_count() as u64;
                match delta.project(&input.columns) {
                    Ok(delta) => parcels.push(Parcel { worker: 0, delta }),
                    Err(error) => self.results.borrow_mut().failure = Some(error),
                }
            }
            input.handle.send_batch(&mut parcels);
            input.handle.advance_to(epoch.0 + 1);
        }
        row_count
    }

    /// True once all workers are done with the epoch.
    pub fn is_through(&self, epoch: Epoch) -> bool {
        !self.probe.less_than(&(epoch.0 + 1))
    }

    /// What came out of the step, arranged for the view's store and as it is for the views above.
    pub fn take_output(&mut self, view: RelationId, fed: u64, measure: bool) -> (ViewOutput, Vec<RelationDelta>) {
        let Results { deltas, errors, late_row_counts, mut failure } = std::mem::take(&mut *self.results.borrow_mut());
        let output_row_count = deltas.iter().map(|delta| delta.row_count() as u64).sum();
        let run = match (&self.layout, deltas.is_empty()) {
            (Some(layout), false) => match build_run(layout, &deltas) {
                Ok(run) => Some(run),
                Err(error) => {
                    failure = Some(error);
                    None
                }
            },
            _ => None,
        };
        let state_size = measure.then(|| {
            let (mut size, mut fixed_bytes) = (StateSize::default(), 0);
            for fragment in &self.fragments {
                size += fragment.borrow().state_size();
                fixed_bytes += fragment.borrow().fixed_bytes();
            }
            (size, fixed_bytes)
        });
        self.has_failed |= failure.is_some();
        let output = ViewOutput {
            view,
            run,
            input_row_count: fed,
            output_row_count,
            errors,
            late_row_counts,
            state_size,
            elapsed: Duration::ZERO,
            due_us: self.fragments.iter().filter_map(|fragment| fragment.borrow().due_us()).min(),
            failure,
        };
        // What was looked into must not be kept longer than it is.
        self.clock.borrow_mut().now.arranged = Arc::default();
        let columns = &self.columns;
        let deltas = deltas.into_iter().map(|delta| RelationDelta { columns: columns.clone(), delta });
        (output, deltas.collect())
    }

    /// From now on its operators record what changes of their state.
    pub fn record(&mut self) {
        self.fragments.iter().for_each(|fragment| fragment.borrow_mut().record());
    }

    /// Its operators may let state go that is on disk.
    pub fn attach(&mut self, open: &mut OpenParts<'_>) {
        self.fragments.iter().for_each(|fragment| fragment.borrow_mut().attach(open));
    }

    /// The changes that were taken last are in a finished checkpoint.
    pub fn saved(&mut self) {
        let outcome = self.fragments.iter().try_for_each(|fragment| fragment.borrow_mut().saved());
        if let Err(error) = outcome {
            // It is told with the next step.
            self.results.borrow_mut().failure = Some(error);
        }
    }

    /// What has changed of its operators' state since the last call.
    pub fn take_changes(&mut self, worker: usize) -> Result<StateChanges> {
        let mut changes = vec![];
        for fragment in &self.fragments {
            let own = fragment.borrow_mut().take_changes()?.into_iter();
            changes.extend(own.map(|(operator, part, spec, change)| (Place { worker, operator, part }, spec, change)));
        }
        Ok(changes)
    }

    /// What each operator has done on this worker.
    pub fn meters(&self) -> Vec<(usize, Meter)> {
        self.fragments.iter().flat_map(|fragment| fragment.borrow().meters()).collect()
    }

    /// Ends the dataflow. All workers do this at the same place of their command order.
    pub fn close(self, worker: &mut Worker) {
        drop(self.inputs);
        while !self.probe.done() {
            worker.step_or_park(Some(Duration::from_millis(5)));
        }
    }
}

/// Nanoseconds since the process first asked.
fn clock_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

fn build_run(layout: &Layout, deltas: &[Delta]) -> Result<Run> {
    Run::build(layout, &Delta::concat(&deltas[0].schema(), deltas)?)
}

/// A fragment on its worker, with the way of its output.
struct Stage {
    fragment: Rc<RefCell<Fragment>>,
    results: Rc<RefCell<Results>>,
    clock: Rc<RefCell<EventClock>>,
    /// How each reader of the output wants it; none: it is the view's.
    readers: Vec<Partitioning>,
    worker_index: usize,
    worker_count: usize,
}

impl Stage {
    /// One step; returns the parcels for each reader.
    fn step(&self, epoch: u64, inputs: Vec<Vec<Delta>>) -> Result<Vec<Parcels>> {
        let mut context = EpochContext::new(Epoch(epoch), false, self.worker_index);
        context.clock = clock_ns;
        let clock = self.clock.borrow();
        context.watermarks_before = clock.before.clone();
        context.watermarks = clock.now.watermarks.clone();
        context.now_us = clock.now.now_us;
        context.is_catching_up = clock.now.is_catching_up;
        context.arranged = clock.now.arranged.clone();
        drop(clock);
        let output = self.fragment.borrow_mut().step(inputs, &mut context);
        let mut results = self.results.borrow_mut();
        results.errors.append(&mut context.errors);
        for (relation, count) in context.late_row_counts {
            *results.late_row_counts.entry(relation).or_default() += count;
        }
        let output = output?;
        if self.readers.is_empty() {
            results.deltas.extend(output);
            return Ok(vec![]);
        }
        let parcels = self.readers.iter().map(|partitioning| {
            let mut parcels = vec![];
            for delta in &output {
                let parts = partitioning.split(delta.clone(), self.worker_index, self.worker_count)?;
                let parts = parts.into_iter().enumerate().filter(|(_, delta)| !delta.is_empty());
                parcels.extend(parts.map(|(worker, delta)| Parcel { worker, delta }));
            }
            Ok(parcels)
        });
        parcels.collect()
    }
}

/// Adds one fragment to the dataflow and returns its output, once for each reader (the view's own fragment has one that
/// carries nothing, to be probed).
fn install<'scope>(
    scope: Scope<'scope, u64>,
    spec: &FragmentSpec,
    stage: Stage,
    relation_inputs: &mut Vec<RelationInput>,
    streams: &mut [VecDeque<Stream<'scope, u64, Parcels>>],
    first_epoch: Epoch,
) -> VecDeque<Stream<'scope, u64, Parcels>> {
    let mut builder = OperatorBuilder::new("fragment".to_string(), scope);
    // Each hands over what has arrived on one input.
    type Drain = Box<dyn FnMut(&mut dyn FnMut(Vec<Capability<u64>>, &mut Parcels))>;
    let mut drains: Vec<Drain> = vec![];
    let output_count = stage.readers.len().max(1);
    for input in &spec.inputs {
        match input {
            FragmentInput::Relation { relation, columns, only_changes } => {
                let mut handle = InputHandle::new();
                let stream = scope.input_from(&mut handle);
                let (relation, columns, only_changes) = (*relation, columns.clone(), *only_changes);
                relation_inputs.push(RelationInput { relation, columns, only_changes, handle });
                let mut source = builder.new_input(stream, Pipeline);
                drains.push(Box::new(move |take| {
                    source.for_each(|time, parcels| take(retained(&time, output_count), parcels));
                }));
            }
            FragmentInput::Exchange { fragment, .. } => {
                let stream = streams[*fragment].pop_front().expect("a fragment has an output for each reader");
                let pact = Exchange::new(|parcel: &Parcel| parcel.worker as u64);
                let mut source = builder.new_input(stream, pact);
                drains.push(Box::new(move |take| {
                    source.for_each(|time, parcels| take(retained(&time, output_count), parcels));
                }));
            }
        }
    }
    let (mut outputs, mut output_streams) = (vec![], VecDeque::new());
    for _ in 0..output_count {
        let (output, stream) = builder.new_output::<Parcels>();
        outputs.push(OutputBuilder::<_, Builder>::from(output));
        output_streams.push_back(stream);
    }
    builder.build(move |capabilities| {
        let input_count = drains.len();
        let empty = move || vec![Vec::<Delta>::new(); input_count];
        let first: Vec<_> = capabilities.iter().map(|capability| capability.delayed(&first_epoch.0)).collect();
        drop(capabilities);
        // What follows time is stepped in every epoch that is fed, so it never lets go of the epochs to come.
        let mut standing: Option<Vec<Capability<u64>>> = stage.fragment.borrow().follows_time().then(|| first.clone());
        let mut pending = BTreeMap::new();
        if stage.fragment.borrow().is_first() {
            // The first step is taken even if nothing arrives in it. One that goes on from a checkpoint has none: by the
            // time that it is fed, it would let go of what the rows of that epoch still need.
            pending.insert(first_epoch.0, (first, empty()));
        }
        move |frontiers| {
            for (index, drain) in drains.iter_mut().enumerate() {
                drain(&mut |capabilities, parcels| {
                    let epoch = *capabilities[0].time();
                    let (_, inputs) = pending.entry(epoch).or_insert_with(|| (capabilities, empty()));
                    inputs[index].extend(parcels.drain(..).map(|parcel| parcel.delta));
                });
            }
            if let Some(capabilities) = &mut standing {
                let fed = stage.clock.borrow().now.epoch.0;
                match frontiers.iter().filter_map(|frontier| frontier.frontier().first().copied()).min() {
                    // Epochs that this view takes no part in are passed over.
                    Some(open) if open > fed && *capabilities[0].time() <= fed => {
                        let at = capabilities.iter().map(|capability| capability.delayed(&fed)).collect();
                        pending.entry(fed).or_insert_with(|| (at, empty()));
                        capabilities.iter_mut().for_each(|capability| capability.downgrade(&(fed + 1)));
                    }
                    Some(_) => {}
                    // All inputs have ended.
                    None => standing = None,
                }
            }
            while let Some(entry) = pending.first_entry() {
                let epoch = *entry.key();
                if frontiers.iter().any(|frontier| frontier.less_equal(&epoch)) {
                    break;
                }
                let (capabilities, inputs) = entry.remove();
                match stage.step(epoch, inputs) {
                    Ok(for_readers) => {
                        for ((output, capability), mut parcels) in
                            outputs.iter_mut().zip(&capabilities).zip(for_readers)
                        {
                            if !parcels.is_empty() {
                                output.activate().session(capability).give_container(&mut parcels);
                            }
                        }
                    }
                    Err(error) => stage.results.borrow_mut().failure = Some(error),
                }
            }
        }
    });
    output_streams
}

/// One capability for each output.
fn retained(time: &timely::dataflow::operators::InputCapability<u64>, output_count: usize) -> Vec<Capability<u64>> {
    (0..output_count).map(|output| time.retain_least(output).expect("a parcel travels at one epoch")).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{binary, col, lit};

    use super::*;
    use crate::plan::{AggregateCall, AggregateKind, Properties, StreamNode, StreamPlan};

    /// `SELECT k, sum(k) FROM t WHERE k > 0 GROUP BY k`.
    fn plan() -> Result<StreamPlan> {
        let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true)]));
        let properties = Properties::default();
        let node = StreamNode::Scan { relation: RelationId(1), name: "t".into(), columns: vec![0] };
        let scan = StreamPlan { node, schema: schema.clone(), properties: properties.clone() };
        let predicate = binary(col("k", &schema)?, Operator::Gt, lit(0_i64), &schema)?;
        let node = StreamNode::Filter { input: Box::new(scan), predicate };
        let filter = StreamPlan { node, schema: schema.clone(), properties: properties.clone() };
        let node = StreamNode::Project { input: Box::new(filter), exprs: vec![col("k", &schema)?] };
        let project = StreamPlan { node, schema: schema.clone(), properties: properties.clone() };
        let call = AggregateCall {
            kind: AggregateKind::Count,
            arguments: vec![0],
            order: vec![],
            filter: None,
            distinct: false,
            data_type: DataType::Int64,
            name: "count(k)".into(),
        };
        let fields = vec![Field::new("k", DataType::Int64, true), Field::new("count(k)", DataType::Int64, true)];
        let node = StreamNode::Aggregate {
            input: Box::new(project),
            keys: vec![0],
            calls: vec![call],
            always: None,
            closing: None,
        };
        Ok(StreamPlan { node, schema: Arc::new(Schema::new(fields)), properties })
    }

    fn fragment() -> Result<Fragment> {
        let graph = FragmentGraph::build(&plan()?, 1);
        Fragment::build(&graph.fragments[0])
    }

    fn delta(rows: impl Iterator<Item = i64>) -> Result<Delta> {
        let column = Int64Array::from_iter_values(rows);
        Ok(Delta::insert(RecordBatch::try_from_iter([("k", Arc::new(column) as _)])?))
    }

    #[test]
    fn every_operator_is_metered_under_its_number() -> Result<()> {
        let mut fragment = fragment()?;
        let mut context = EpochContext::new(Epoch(1), true, 0);
        context.clock = clock_ns;
        fragment.step(vec![vec![delta(-5..5)?]], &mut context)?;
        let mut meters = fragment.meters();
        meters.sort_by_key(|(number, _)| *number);
        let rows: Vec<(usize, u64, u64, u64)> = meters
            .iter()
            .map(|(number, meter)| (*number, meter.input_row_count, meter.output_row_count, meter.state.row_count))
            .collect();
        assert_eq!(rows, [(0, 4, 4, 4), (1, 4, 4, 0), (2, 10, 4, 0), (3, 10, 10, 0)]);
        Ok(())
    }

    #[test]
    #[ignore = "a measurement: run it alone, with --nocapture"]
    fn metering_costs_little() -> Result<()> {
        const STEP_COUNT: u64 = 20_000;
        for row_count in [1, 1000] {
            let deltas = vec![delta(1..row_count + 1)?];
            let mut best_ns = [u64::MAX; 2];
            // By turns, and the best of each, so that neither has the quieter machine.
            for turn in 0..20 {
                let mut fragment = fragment()?;
                let mut context = EpochContext::new(Epoch(1), true, 0);
                context.clock = if turn % 2 == 0 { || 0 } else { clock_ns };
                let start = Instant::now();
                for _ in 0..STEP_COUNT / row_count as u64 + 100 {
                    fragment.step(vec![deltas.clone()], &mut context)?;
                }
                let step_ns = start.elapsed().as_nanos() as u64 / (STEP_COUNT / row_count as u64 + 100);
                best_ns[turn % 2] = best_ns[turn % 2].min(step_ns);
            }
            println!("{row_count} rows a step: {} ns without a clock, {} ns with it", best_ns[0], best_ns[1]);
        }
        let start = Instant::now();
        let sum = (0..1_000_000).map(|_| clock_ns()).fold(0u64, u64::wrapping_add);
        println!("a reading of the clock: {} ns ({})", start.elapsed().as_nanos() / 1_000_000, sum % 2);
        Ok(())
    }
}
