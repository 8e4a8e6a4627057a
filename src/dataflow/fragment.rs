//! From a stream plan to runnable fragments.
//!
//! A plan is cut where rows must meet their key's worker: below joins and aggregates, if there are several workers and
//! the rows are not yet where they belong. What lies between two cuts is a fragment: its operators run one after the
//! other in one synchronous step for each epoch.
//!
//! ```text
//! scan ─ filter ─┐ fragment 0                 ┌ join ─ project ┐ fragment 2
//!                └──── exchange by key ────▶  │                ├───▶ output
//! scan ──────────┐ fragment 1                 │                │
//!                └──── exchange by key ────▶  ┘                ┘
//! ```

use super::operators::{
    AggregateOperator, FilterOperator, JoinOperator, ProjectOperator, UnionOperator, ValuesOperator, WindowOperator,
};
use super::partition::Partitioning;
use super::{EpochContext, Operator, StateSize};
use crate::error::Result;
use crate::plan::{StreamNode, StreamPlan};
use crate::types::{Delta, RelationId};

/// A plan cut into fragments, in an order in which inputs come before their readers; the last one's output is the
/// view's. Each fragment's output is read by exactly one other.
#[derive(Clone, Debug)]
pub struct FragmentGraph {
    pub fragments: Vec<FragmentSpec>,
}

#[derive(Clone, Debug)]
pub struct FragmentSpec {
    pub inputs: Vec<FragmentInput>,
    /// In evaluation order; the last one's output is the fragment's.
    nodes: Vec<NodeSpec>,
}

/// Where a fragment's rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FragmentInput {
    /// Deltas of a relation, cut to these columns, on whichever worker they are.
    Relation { relation: RelationId, columns: Vec<usize> },
    /// The output of an earlier fragment, spread anew.
    Exchange { fragment: usize, partitioning: Partitioning },
}

#[derive(Clone, Debug)]
struct NodeSpec {
    /// `None` hands the external input through.
    plan: Option<StreamPlan>,
    inputs: Vec<NodeInput>,
}

#[derive(Clone, Copy, Debug)]
enum NodeInput {
    Node(usize),
    External(usize),
}

impl FragmentGraph {
    pub fn build(plan: &StreamPlan, worker_count: usize) -> FragmentGraph {
        let mut graph = FragmentGraph { fragments: vec![] };
        let last = graph.fragment(plan, worker_count);
        debug_assert_eq!(last + 1, graph.fragments.len(), "the view's own fragment comes last");
        graph
    }

    /// Relations that the fragments read, with the columns of each.
    pub fn relation_inputs(&self) -> impl Iterator<Item = (RelationId, &[usize])> {
        self.fragments.iter().flat_map(|fragment| &fragment.inputs).filter_map(|input| match input {
            FragmentInput::Relation { relation, columns } => Some((*relation, columns.as_slice())),
            FragmentInput::Exchange { .. } => None,
        })
    }

    /// How the reader of a fragment's output wants it spread; `None` for the last fragment.
    pub fn reader(&self, fragment: usize) -> Option<Partitioning> {
        self.fragments.iter().flat_map(|spec| &spec.inputs).find_map(|input| match input {
            FragmentInput::Exchange { fragment: read, partitioning } if *read == fragment => Some(partitioning.clone()),
            _ => None,
        })
    }

    fn fragment(&mut self, plan: &StreamPlan, worker_count: usize) -> usize {
        let mut spec = FragmentSpec { inputs: vec![], nodes: vec![] };
        let root = self.node(plan, worker_count, &mut spec);
        if let NodeInput::External(_) = root {
            spec.nodes.push(NodeSpec { plan: None, inputs: vec![root] });
        }
        self.fragments.push(spec);
        self.fragments.len() - 1
    }

    /// Puts `plan` into the fragment `spec`.
    fn node(&mut self, plan: &StreamPlan, worker_count: usize, spec: &mut FragmentSpec) -> NodeInput {
        let inputs = match &plan.node {
            StreamNode::Scan { relation, columns, .. } => {
                spec.inputs.push(FragmentInput::Relation { relation: *relation, columns: columns.clone() });
                return NodeInput::External(spec.inputs.len() - 1);
            }
            StreamNode::Join { left, right, left_keys, right_keys, .. } => vec![
                self.exchanged(left, left_keys, worker_count, spec),
                self.exchanged(right, right_keys, worker_count, spec),
            ],
            StreamNode::Aggregate { input, keys, .. } => vec![self.exchanged(input, keys, worker_count, spec)],
            _ => plan.inputs().into_iter().map(|input| self.node(input, worker_count, spec)).collect(),
        };
        spec.nodes.push(NodeSpec { plan: Some(plan.clone()), inputs });
        NodeInput::Node(spec.nodes.len() - 1)
    }

    fn exchanged(
        &mut self,
        plan: &StreamPlan,
        key: &[usize],
        worker_count: usize,
        spec: &mut FragmentSpec,
    ) -> NodeInput {
        if worker_count == 1 {
            return self.node(plan, worker_count, spec);
        }
        let fragment = self.fragment(plan, worker_count);
        spec.inputs.push(FragmentInput::Exchange { fragment, partitioning: Partitioning { columns: key.to_vec() } });
        NodeInput::External(spec.inputs.len() - 1)
    }
}

/// `None` hands its input through.
type Node = (Option<Box<dyn Operator>>, Vec<NodeInput>);

/// One worker's share of a fragment: its operators and their state.
pub struct Fragment {
    nodes: Vec<Node>,
    is_first: bool,
}

impl Fragment {
    /// 0A000 if an operator cannot be built over these types.
    pub fn build(spec: &FragmentSpec) -> Result<Fragment> {
        let nodes = spec.nodes.iter().map(|node| {
            let operator = node.plan.as_ref().map(operator).transpose()?;
            Ok((operator, node.inputs.clone()))
        });
        Ok(Fragment { nodes: nodes.collect::<Result<_>>()?, is_first: true })
    }

    /// Runs all operators over one epoch's inputs: `inputs[i]` are the deltas of the fragment's input `i`.
    pub fn step(&mut self, mut inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        context.is_first = std::mem::replace(&mut self.is_first, false);
        let mut outputs: Vec<Vec<Delta>> = Vec::with_capacity(self.nodes.len());
        for (operator, sources) in &mut self.nodes {
            // The graph is a tree: every output has one reader.
            let operands = sources.iter().map(|source| match source {
                NodeInput::External(index) => std::mem::take(&mut inputs[*index]),
                NodeInput::Node(index) => std::mem::take(&mut outputs[*index]),
            });
            let operands: Vec<Vec<Delta>> = operands.collect();
            let idle = !context.is_first && operands.iter().all(|deltas| deltas.is_empty());
            let mut output = match operator {
                _ if idle => vec![],
                Some(operator) => operator.step(operands, context)?,
                None => operands.into_iter().flatten().collect(),
            };
            output.retain(|delta| !delta.is_empty());
            outputs.push(output);
        }
        Ok(outputs.pop().unwrap_or_default())
    }

    pub fn state_size(&self) -> StateSize {
        let mut size = StateSize::default();
        self.nodes.iter().flat_map(|(operator, _)| operator).for_each(|operator| size += operator.state_size());
        size
    }
}

fn operator(plan: &StreamPlan) -> Result<Box<dyn Operator>> {
    let schema = plan.schema.clone();
    Ok(match &plan.node {
        StreamNode::Scan { .. } => unreachable!("a scan is an input of its fragment"),
        StreamNode::Values { batch } => Box::new(ValuesOperator::new(batch.clone())),
        StreamNode::Filter { predicate, .. } => Box::new(FilterOperator::new(predicate.clone())),
        StreamNode::Project { exprs, .. } => Box::new(ProjectOperator::new(exprs.clone(), schema)),
        StreamNode::Window { time_column, window, .. } => Box::new(WindowOperator::new(*time_column, *window, schema)),
        StreamNode::Join { left, right, left_keys, right_keys, residual } => Box::new(JoinOperator::new(
            [left.schema.clone(), right.schema.clone()],
            left_keys.clone(),
            right_keys.clone(),
            residual.clone(),
            schema,
        )?),
        StreamNode::Aggregate { input, keys, calls } => {
            let append_only = input.properties.append_only;
            Box::new(AggregateOperator::new(&input.schema, keys.clone(), calls.clone(), schema, append_only)?)
        }
        StreamNode::Union { .. } => Box::new(UnionOperator::new(schema)),
    })
}
