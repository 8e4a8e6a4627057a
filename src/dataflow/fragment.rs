//! From a stream plan to runnable fragments.
//!
//! A plan is cut where rows must meet their key's worker: below joins and aggregates, if there are several workers and
//! the rows are not yet where they belong. It is cut, too, where a part of it that keeps state appears more than once (a
//! subquery used twice, the domain of a correlated one): that part becomes one fragment with several readers. What lies
//! between two cuts is a fragment: its operators run one after the other in one synchronous step for each epoch.
//!
//! ```text
//! scan ─ filter ─┐ fragment 0                 ┌ join ─ project ┐ fragment 2
//!                └──── exchange by key ────▶  │                ├───▶ output
//! scan ──────────┐ fragment 1                 │                │
//!                └──── exchange by key ────▶  ┘                ┘
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use super::meter::Meter;
use super::operators::{
    AggregateOperator, AsofOperator, CombineOperator, ExpandOperator, FilterOperator, HoldOperator, JoinOperator,
    Keyless, LateOperator, LookupOperator, OverWindowOperator, ProjectOperator, SessionOperator,
    SlicedAggregateOperator, TemporalOperator, TopNOperator, UnionOperator, UnnestOperator, ValuesOperator,
    WindowOperator, combines,
};
use super::partition::Partitioning;
use super::{Durable, EpochContext, Operator, StateSize};
use crate::error::Result;
use crate::plan::{JoinKeys, JoinType, StreamNode, StreamPlan};
use crate::state::MemoryAccount;
use crate::state::checkpoint::{KeyLookup, Part, PartChange};
use crate::types::{Delta, RelationId};

/// A plan cut into fragments, in an order in which inputs come before their readers; the last one's output is the
/// view's. Each other fragment's output is read by one fragment or more.
#[derive(Clone, Debug)]
pub struct FragmentGraph {
    pub fragments: Vec<FragmentSpec>,
}

#[derive(Clone, Debug)]
pub struct FragmentSpec {
    pub inputs: Vec<FragmentInput>,
    /// For each input, the number of the scan that it stands for, in the plan's preorder.
    scans: Vec<Option<usize>>,
    /// In evaluation order; the last one's output is the fragment's.
    nodes: Vec<NodeSpec>,
    worker_count: usize,
}

/// Where a fragment's rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FragmentInput {
    /// Deltas of a relation, cut to these columns, on whichever worker they are; or its changes alone, where what it was is
    /// looked up in its arrangement.
    Relation { relation: RelationId, columns: Vec<usize>, only_changes: bool },
    /// The output of an earlier fragment, spread anew.
    Exchange { fragment: usize, partitioning: Partitioning },
}

#[derive(Clone, Debug)]
struct NodeSpec {
    /// `None` hands the external input through.
    plan: Option<StreamPlan>,
    /// Of an aggregate, only what can be added up before rows change worker.
    is_partial: bool,
    /// Its number in the plan's preorder.
    number: Option<usize>,
    inputs: Vec<NodeInput>,
}

#[derive(Clone, Copy, Debug)]
enum NodeInput {
    Node(usize),
    External(usize),
}

impl FragmentGraph {
    pub fn build(plan: &StreamPlan, worker_count: usize) -> FragmentGraph {
        let numbers = plan.preorder().into_iter().enumerate().map(|(number, part)| (std::ptr::from_ref(part), number));
        let numbers = numbers.collect();
        let shared = repeated(plan);
        let mut builder = Builder { fragments: vec![], shared, numbers, worker_count, only_changes: false };
        let last = builder.fragment(plan);
        debug_assert_eq!(last + 1, builder.fragments.len(), "the view's own fragment comes last");
        FragmentGraph { fragments: builder.fragments }
    }

    /// Relations that the fragments read, with the columns of each, and whether they read its changes alone.
    pub fn relation_inputs(&self) -> impl Iterator<Item = (RelationId, &[usize], bool)> {
        self.fragments.iter().flat_map(|fragment| &fragment.inputs).filter_map(|input| match input {
            FragmentInput::Relation { relation, columns, only_changes } => {
                Some((*relation, columns.as_slice(), *only_changes))
            }
            FragmentInput::Exchange { .. } => None,
        })
    }

    /// Relations whose arrangements the fragments look into.
    pub fn arranged(&self) -> impl Iterator<Item = RelationId> {
        self.relation_inputs().filter(|(.., only_changes)| *only_changes).map(|(relation, ..)| relation)
    }

    /// How each reader of a fragment's output wants it spread, in the order of the readers; none for the last fragment.
    pub fn readers(&self, fragment: usize) -> Vec<Partitioning> {
        let inputs = self.fragments.iter().flat_map(|spec| &spec.inputs);
        let ways = inputs.filter_map(|input| match input {
            FragmentInput::Exchange { fragment: read, partitioning } if *read == fragment => Some(partitioning.clone()),
            _ => None,
        });
        ways.collect()
    }
}

/// The largest parts of a plan that keep state and appear more than once.
fn repeated(plan: &StreamPlan) -> Vec<Shared> {
    let (mut seen, mut found): (Vec<&StreamPlan>, Vec<Shared>) = (vec![], vec![]);
    // Outer parts come first; what is inside a part that was seen already is shared with it.
    let mut rest = vec![plan];
    while let Some(part) = rest.pop() {
        if holds_state(part) {
            if seen.contains(&part) {
                if !found.iter().any(|shared| shared.plan == *part) {
                    found.push(Shared { plan: part.clone(), fragment: None });
                }
                continue;
            }
            seen.push(part);
        }
        rest.extend(part.inputs());
    }
    found
}

fn holds_state(plan: &StreamPlan) -> bool {
    plan.is_stateful() || plan.inputs().into_iter().any(holds_state)
}

/// A part of the plan with several readers, and its fragment once it is built.
struct Shared {
    plan: StreamPlan,
    fragment: Option<usize>,
}

struct Builder {
    fragments: Vec<FragmentSpec>,
    shared: Vec<Shared>,
    /// The parts of the plan that is being cut, by their place in memory.
    numbers: HashMap<*const StreamPlan, usize>,
    worker_count: usize,
    /// What is cut is the side of a join that is looked up in its arrangement.
    only_changes: bool,
}

impl Builder {
    fn fragment(&mut self, plan: &StreamPlan) -> usize {
        let mut spec = FragmentSpec { inputs: vec![], scans: vec![], nodes: vec![], worker_count: self.worker_count };
        let root = self.operator(plan, &mut spec);
        if let NodeInput::External(_) = root {
            spec.nodes.push(NodeSpec { plan: None, is_partial: false, number: None, inputs: vec![root] });
        }
        self.fragments.push(spec);
        self.fragments.len() - 1
    }

    /// The fragment of a part with several readers; `None` for other parts.
    fn shared_fragment(&mut self, plan: &StreamPlan) -> Option<usize> {
        let at = self.shared.iter().position(|shared| shared.plan == *plan)?;
        if self.shared[at].fragment.is_none() {
            self.shared[at].fragment = Some(self.fragment(plan));
        }
        self.shared[at].fragment
    }

    /// Puts `plan` into the fragment `spec`, or reads it from its own.
    fn node(&mut self, plan: &StreamPlan, spec: &mut FragmentSpec) -> NodeInput {
        match self.shared_fragment(plan) {
            Some(fragment) => read(spec, fragment, Partitioning::Local),
            None => self.operator(plan, spec),
        }
    }

    fn operator(&mut self, plan: &StreamPlan, spec: &mut FragmentSpec) -> NodeInput {
        let number = self.numbers.get(&std::ptr::from_ref(plan)).copied();
        let inputs = match &plan.node {
            StreamNode::Scan { relation, columns, .. } => {
                let (columns, only_changes) = (columns.clone(), self.only_changes);
                spec.inputs.push(FragmentInput::Relation { relation: *relation, columns, only_changes });
                spec.scans.push(number);
                return NodeInput::External(spec.inputs.len() - 1);
            }
            StreamNode::Join { left, right, join_type, keys, arranged, .. } => {
                let ways = join_partitioning(left, right, *join_type, keys);
                let outer = self.only_changes;
                let sides = [left, right].into_iter().zip(ways).enumerate().map(|(side, (input, way))| {
                    self.only_changes = *arranged == Some(side);
                    self.exchanged(input, way, spec)
                });
                let sides = sides.collect();
                self.only_changes = outer;
                sides
            }
            StreamNode::Lookup { left, right, keys, keeps_unmatched, .. } => {
                let join_type = if *keeps_unmatched { JoinType::Left } else { JoinType::Inner };
                let [left_way, right_way] = join_partitioning(left, right, join_type, keys);
                vec![self.exchanged(left, left_way, spec), self.exchanged(right, right_way, spec)]
            }
            StreamNode::Asof { left, right, nearest, .. } => {
                let [left_way, right_way] = join_partitioning(left, right, JoinType::Left, &nearest.keys);
                vec![self.exchanged(left, left_way, spec), self.exchanged(right, right_way, spec)]
            }
            StreamNode::SlicedAggregate { input, keys, .. } => {
                vec![self.exchanged(input, Partitioning::Hash(keys.clone()), spec)]
            }
            StreamNode::Aggregate { input, keys, calls, .. } => {
                let way = Partitioning::Hash(keys.clone());
                vec![match self.worker_count > 1 && combines(calls, input.properties.append_only) {
                    true => self.combined(plan, input, way, spec),
                    false => self.exchanged(input, way, spec),
                }]
            }
            StreamNode::TopN { input, partition, .. }
            | StreamNode::OverWindow { input, partition, .. }
            | StreamNode::Session { input, partition, .. } => {
                vec![self.exchanged(input, Partitioning::Hash(partition.clone()), spec)]
            }
            _ => plan.inputs().into_iter().map(|input| self.node(input, spec)).collect(),
        };
        spec.nodes.push(NodeSpec { plan: Some(plan.clone()), is_partial: false, number, inputs });
        NodeInput::Node(spec.nodes.len() - 1)
    }

    /// The input of an aggregate, added up by each worker for itself before it is spread.
    fn combined(
        &mut self,
        plan: &StreamPlan,
        input: &StreamPlan,
        partitioning: Partitioning,
        spec: &mut FragmentSpec,
    ) -> NodeInput {
        let mut below = FragmentSpec { inputs: vec![], scans: vec![], nodes: vec![], worker_count: self.worker_count };
        let inputs = vec![self.node(input, &mut below)];
        below.nodes.push(NodeSpec { plan: Some(plan.clone()), is_partial: true, number: None, inputs });
        self.fragments.push(below);
        read(spec, self.fragments.len() - 1, partitioning)
    }

    fn exchanged(&mut self, plan: &StreamPlan, partitioning: Partitioning, spec: &mut FragmentSpec) -> NodeInput {
        if self.worker_count == 1 {
            return self.node(plan, spec);
        }
        let fragment = match self.shared_fragment(plan) {
            Some(fragment) => fragment,
            None => self.fragment(plan),
        };
        read(spec, fragment, partitioning)
    }
}

fn read(spec: &mut FragmentSpec, fragment: usize, partitioning: Partitioning) -> NodeInput {
    spec.inputs.push(FragmentInput::Exchange { fragment, partitioning });
    spec.scans.push(None);
    NodeInput::External(spec.inputs.len() - 1)
}

/// Rows of equal keys meet. Without keys every pair must meet somewhere: the side whose rows do not come out by themselves
/// goes to all workers (of an inner join the one that is known to have one row at most, or else the right), the other
/// side's rows to one each.
fn join_partitioning(left: &StreamPlan, right: &StreamPlan, join_type: JoinType, keys: &JoinKeys) -> [Partitioning; 2] {
    if !keys.is_empty() {
        return [Partitioning::Hash(keys.left.clone()), Partitioning::Hash(keys.right.clone())];
    }
    // By the whole row, so that a retraction finds its insertion.
    let spread = |input: &StreamPlan| Partitioning::Hash((0..input.schema.fields().len()).collect());
    match join_type.watched() {
        [true, true] => [Partitioning::Hash(vec![]), Partitioning::Hash(vec![])],
        [false, true] => [Partitioning::Broadcast, spread(right)],
        [false, false] if left.properties.key.as_ref().is_some_and(|key| key.is_empty()) => {
            [Partitioning::Broadcast, spread(right)]
        }
        _ => [spread(left), Partitioning::Broadcast],
    }
}

struct Node {
    /// `None` hands its input through.
    operator: Option<Box<dyn Operator>>,
    number: Option<usize>,
    inputs: Vec<NodeInput>,
    meter: Meter,
    follows_time: bool,
}

/// For an operator that need not have all of its state in memory (its number in the plan's preorder, and how many parts it
/// has): what the last checkpoint has of each part, now and later.
pub type OpenParts<'a> = dyn FnMut(usize, usize) -> (Vec<Arc<dyn KeyLookup>>, MemoryAccount) + 'a;

/// What was saved of operators, by their number in the plan's preorder.
pub trait SavedParts {
    /// What adds up to a part.
    fn read(&mut self, operator: usize, part: usize, spec: &Part) -> Result<Vec<Delta>>;

    /// As [`OpenParts`].
    fn open(&mut self, operator: usize, part_count: usize) -> (Vec<Arc<dyn KeyLookup>>, MemoryAccount);

    /// True if what is opened shows all of the operator's state.
    fn can_be_looked_up(&self, operator: usize, part_count: usize) -> bool;
}

/// One worker's share of a fragment: its operators and their state.
pub struct Fragment {
    nodes: Vec<Node>,
    /// Number and rows of each input that is a scan.
    scans: Vec<(Option<usize>, Meter)>,
    is_first: bool,
}

impl Fragment {
    /// 0A000 if an operator cannot be built over these types.
    pub fn build(spec: &FragmentSpec) -> Result<Fragment> {
        let nodes = spec.nodes.iter().map(|node| {
            let operator = match &node.plan {
                Some(plan) if node.is_partial => Some(partial(plan)?),
                Some(plan) => Some(operator(plan, spec.worker_count)?),
                None => None,
            };
            let follows_time = operator.as_ref().is_some_and(|operator| operator.follows_time());
            let (number, inputs) = (node.number, node.inputs.clone());
            Ok(Node { operator, number, inputs, meter: Meter::default(), follows_time })
        });
        let scans = spec.scans.iter().map(|number| (*number, Meter::default())).collect();
        Ok(Fragment { nodes: nodes.collect::<Result<_>>()?, scans, is_first: true })
    }

    /// Runs all operators over one epoch's inputs: `inputs[i]` are the deltas of the fragment's input `i`.
    pub fn step(&mut self, mut inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        context.is_first = std::mem::replace(&mut self.is_first, false);
        for ((_, meter), deltas) in self.scans.iter_mut().zip(&inputs) {
            let row_count = count_rows(deltas);
            meter.input_row_count += row_count;
            meter.output_row_count += row_count;
            meter.step_count += 1;
        }
        let mut outputs: Vec<Vec<Delta>> = Vec::with_capacity(self.nodes.len());
        let mut now_ns = (context.clock)();
        for Node { operator, inputs: sources, meter, follows_time, .. } in &mut self.nodes {
            // Within a fragment every output has one reader.
            let operands = sources.iter().map(|source| match source {
                NodeInput::External(index) => std::mem::take(&mut inputs[*index]),
                NodeInput::Node(index) => std::mem::take(&mut outputs[*index]),
            });
            let operands: Vec<Vec<Delta>> = operands.collect();
            let is_due = context.is_first || *follows_time;
            let idle = !is_due && operands.iter().all(|deltas| deltas.is_empty());
            if idle {
                outputs.push(vec![]);
                continue;
            }
            meter.input_row_count += operands.iter().map(|deltas| count_rows(deltas)).sum::<u64>();
            let mut output = match operator {
                Some(operator) => operator.step(operands, context)?,
                None => operands.into_iter().flatten().collect(),
            };
            output.retain(|delta| !delta.is_empty());
            meter.output_row_count += count_rows(&output);
            meter.step_count += 1;
            let then_ns = std::mem::replace(&mut now_ns, (context.clock)());
            meter.busy_ns += now_ns.saturating_sub(then_ns);
            outputs.push(output);
        }
        Ok(outputs.pop().unwrap_or_default())
    }

    /// True until it has taken its first step or has been restored.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// True if it has to be stepped when a watermark moves.
    pub fn follows_time(&self) -> bool {
        self.nodes.iter().any(|node| node.follows_time)
    }

    /// The wall-clock time at which one of its operators wants to be stepped.
    pub fn due_us(&self) -> Option<i64> {
        self.nodes.iter().flat_map(|node| &node.operator).filter_map(|operator| operator.due_us()).min()
    }

    pub fn state_size(&self) -> StateSize {
        let mut size = StateSize::default();
        self.nodes.iter().flat_map(|node| &node.operator).for_each(|operator| size += operator.state_size());
        size
    }

    /// Bytes of state that does not give way where memory is short.
    pub fn fixed_bytes(&self) -> u64 {
        let operators = self.nodes.iter().flat_map(|node| &node.operator).filter(|operator| !operator.gives_way());
        operators.map(|operator| operator.state_size().bytes).sum()
    }

    /// From now on its operators record what changes of their state.
    pub fn record(&mut self) {
        self.states().for_each(|(_, state)| state.record());
    }

    fn states(&mut self) -> impl Iterator<Item = (usize, &mut dyn Durable)> {
        self.nodes.iter_mut().filter_map(|node| Some((node.number?, node.operator.as_mut()?.durable()?)))
    }

    /// What has changed of the operators' state since the last call, by their number in the plan's preorder and part.
    pub fn take_changes(&mut self) -> Result<Vec<(usize, usize, Part, PartChange)>> {
        let mut changes = vec![];
        for (number, state) in self.states() {
            let parts = state.parts().into_iter().zip(state.take_changes()?).enumerate();
            changes.extend(parts.map(|(part, (spec, change))| (number, part, spec, change)));
        }
        Ok(changes)
    }

    /// Takes over saved state instead of a first step. What can be looked up later is not read now.
    pub fn restore(&mut self, context: &mut EpochContext, saved: &mut dyn SavedParts) -> Result<()> {
        self.is_first = false;
        for (number, state) in self.states() {
            let parts = state.parts();
            if saved.can_be_looked_up(number, parts.len())
                && let Some(partial) = state.partial()
            {
                let (lookups, account) = saved.open(number, parts.len());
                partial.attach(lookups, account);
                partial.begin_absent(context)?;
                continue;
            }
            let part_count = parts.len();
            let parts = parts.into_iter().enumerate();
            let parts = parts.map(|(part, spec)| saved.read(number, part, &spec)).collect::<Result<Vec<_>>>()?;
            state.restore(parts, context)?;
            if let Some(partial) = state.partial() {
                let (lookups, account) = saved.open(number, part_count);
                partial.attach(lookups, account);
            }
        }
        Ok(())
    }

    /// Its operators may let state go that is on disk. For those that start over.
    pub fn attach(&mut self, open: &mut OpenParts<'_>) {
        for (number, state) in self.states() {
            let part_count = state.parts().len();
            if let Some(partial) = state.partial() {
                let (lookups, account) = open(number, part_count);
                partial.attach(lookups, account);
            }
        }
    }

    /// The changes that were taken last are in a finished checkpoint.
    pub fn saved(&mut self) -> Result<()> {
        self.states().filter_map(|(_, state)| state.partial()).try_for_each(|partial| partial.saved())
    }

    /// What each operator has done on this worker, under its number in the plan's preorder.
    pub fn meters(&self) -> Vec<(usize, Meter)> {
        let nodes = self.nodes.iter().filter_map(|node| {
            let state = node.operator.as_ref().map_or_else(StateSize::default, |operator| operator.state_size());
            Some((node.number?, Meter { state, ..node.meter }))
        });
        let scans = self.scans.iter().filter_map(|(number, meter)| Some(((*number)?, *meter)));
        scans.chain(nodes).collect()
    }
}

fn count_rows(deltas: &[Delta]) -> u64 {
    deltas.iter().map(|delta| delta.row_count() as u64).sum()
}

/// What each worker does of an aggregate by itself.
fn partial(plan: &StreamPlan) -> Result<Box<dyn Operator>> {
    let StreamNode::Aggregate { input, keys, calls, .. } = &plan.node else {
        unreachable!("aggregates alone have two phases");
    };
    let append_only = input.properties.append_only;
    Ok(Box::new(CombineOperator::new(&input.delta_schema(), keys.clone(), calls.clone(), append_only)?))
}

fn operator(plan: &StreamPlan, worker_count: usize) -> Result<Box<dyn Operator>> {
    let schema = plan.delta_schema();
    Ok(match &plan.node {
        StreamNode::Scan { .. } => unreachable!("a scan is an input of its fragment"),
        StreamNode::Values { batch } => Box::new(ValuesOperator::new(batch.clone())),
        StreamNode::Filter { predicate, .. } => Box::new(FilterOperator::new(predicate.clone())),
        StreamNode::Project { exprs, .. } => Box::new(ProjectOperator::new(exprs.clone(), schema)),
        StreamNode::Window { time_column, window, .. } => {
            Box::new(WindowOperator::new(*time_column, *window, Keyless::Drop, schema))
        }
        StreamNode::Late { late, width, .. } => Box::new(LateOperator::new(late.clone(), *width, schema)),
        StreamNode::Hold { time, .. } => Box::new(HoldOperator::new(time.clone(), schema)),
        StreamNode::Temporal { limits, marks, .. } => Box::new(TemporalOperator::new(limits.clone(), *marks, schema)),
        StreamNode::Buckets { column, window, .. } => {
            Box::new(WindowOperator::new(*column, *window, Keyless::Keep, schema))
        }
        StreamNode::Join { left, right, join_type, keys, residual, closing, arranged } => {
            let inputs = [left.delta_schema(), right.delta_schema()];
            let operator = JoinOperator::new(*join_type, inputs, keys, residual.as_ref(), schema)?;
            let operator = operator.with_closing(closing.as_ref(), keys);
            Box::new(match arranged {
                None => operator,
                Some(side) => operator.with_arranged(*side, [left, right][*side], keys)?,
            })
        }
        StreamNode::Lookup { left, right, keys, residual, keeps_unmatched } => {
            let (append_only, inputs) = (left.properties.append_only, [left.delta_schema(), right.delta_schema()]);
            let operator = LookupOperator::new(inputs, keys, residual.as_ref(), *keeps_unmatched, schema)?;
            Box::new(if append_only { operator } else { operator.with_retractions()? })
        }
        StreamNode::Asof { left, right, nearest, keeps_unmatched } => {
            let inputs = [left.delta_schema(), right.delta_schema()];
            Box::new(AsofOperator::new(inputs, nearest.clone(), *keeps_unmatched, schema)?)
        }
        StreamNode::Expand { keys, sets, columns, .. } => {
            Box::new(ExpandOperator::new(keys.clone(), sets.clone(), columns.clone(), schema))
        }
        StreamNode::Aggregate { input, keys, calls, always, closing } => {
            let append_only = input.properties.append_only;
            let operator =
                AggregateOperator::new(&input.delta_schema(), keys.clone(), calls.clone(), schema, append_only)?;
            let operator = operator.with_closing(closing.clone());
            Box::new(match always {
                Some(always) => operator.with_always(always.clone(), worker_count),
                None => operator,
            })
        }
        StreamNode::SlicedAggregate { input, keys, calls, slices } => {
            let (append_only, input) = (input.properties.append_only, input.delta_schema());
            let (keys, calls, slices) = (keys.clone(), calls.clone(), slices.clone());
            Box::new(SlicedAggregateOperator::new(input, keys, calls, slices, schema, append_only)?)
        }
        StreamNode::TopN { input, partition, order, top, closing } => {
            let append_only = input.properties.append_only;
            let operator = TopNOperator::new(schema, partition.clone(), order.clone(), *top, append_only)?;
            Box::new(operator.with_closing(closing.clone()))
        }
        StreamNode::OverWindow { input, partition, order, calls, closing } => {
            let input = input.delta_schema();
            let operator = OverWindowOperator::new(input, partition.clone(), order.clone(), calls.clone(), schema)?;
            Box::new(operator.with_closing(closing.clone()))
        }
        StreamNode::Session { input, partition, time_column, gap_us, closing, arrival } => {
            let input = input.delta_schema();
            let operator = SessionOperator::new(&input, partition.clone(), *time_column, *gap_us, schema)?;
            Box::new(match closing {
                Some(closing) => operator.with_closing(closing.clone(), *arrival),
                None => operator,
            })
        }
        StreamNode::Union { .. } => Box::new(UnionOperator::new(schema)),
        StreamNode::Unnest { input, columns, empty } => {
            Box::new(UnnestOperator::new(&input.schema, columns.clone(), *empty, schema)?)
        }
    })
}
