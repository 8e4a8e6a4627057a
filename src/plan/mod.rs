//! The stream plan: what a maintained view computes, as a tree of incremental operators, and what is known of each
//! operator's output.
//!
//! `sql` lowers a bound query to a [`StreamPlan`]; `dataflow` builds operators from it; EXPLAIN prints it
//! ([`explain`]). Scalar expressions are DataFusion physical expressions over the input's columns. A plan knows no
//! epoch and no worker: exchanges are put in by `dataflow` where [`StreamPlan::partitioning`] asks for them.

mod arranged;
pub mod explain;
pub mod growth;
pub mod identity;
mod join;
mod over;
mod properties;
pub mod session;
mod slices;
mod time;
mod window;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

pub use arranged::ArrangedInput;
pub use join::{JoinClosing, JoinKeys, JoinType, Nearest};
pub use over::{Reach, Running, WindowCall};
pub use properties::{Arrival, Properties};
pub use slices::Slices;
pub use time::{Mapping, TimeColumn, Watermark, Watermarks, least};

use crate::types::RelationId;
use crate::types::moments::Statistic;

/// One operator of a view with its inputs. `schema` is that of the rows that come out.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamPlan {
    pub node: StreamNode,
    pub schema: SchemaRef,
    pub properties: Properties,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StreamNode {
    /// The deltas of a table, source or view, cut to `columns` (indices into the relation's columns, ascending).
    Scan { relation: RelationId, name: String, columns: Vec<usize> },
    /// Rows that are there from the start and never change.
    Values { batch: RecordBatch },
    /// Keeps rows whose predicate is true.
    Filter { input: Box<StreamPlan>, predicate: Arc<dyn PhysicalExpr> },
    /// One expression for each output column.
    Project { input: Box<StreamPlan>, exprs: Vec<Arc<dyn PhysicalExpr>> },
    /// Appends `window_start` and `window_end` to each row, once for each window that holds the row's time.
    /// Rows whose time is NULL belong to no window and fall out.
    Window { input: Box<StreamPlan>, time_column: usize, window: Window },
    /// Takes out the rows that come too late: those whose time is older than its watermark, less the lateness, was when
    /// they arrived. Output columns are the input's first `width`.
    Late { input: Box<StreamPlan>, late: Late, width: usize },
    /// Holds rows back until their time is complete: EMIT ON WINDOW CLOSE.
    Hold { input: Box<StreamPlan>, time: TimeColumn },
    /// Keeps each row while wall-clock time is within all of its limits; or keeps all rows, and says in a Boolean column
    /// behind the others whether it is.
    Temporal { input: Box<StreamPlan>, limits: Vec<TimeLimit>, marks: bool },
    /// Appends the start and the end of each bucket of an axis that holds the column's value: what a window is to a
    /// time. Rows whose value is NULL are in no bucket; but they come out once, with NULL for the bucket.
    Buckets { input: Box<StreamPlan>, column: usize, window: Window },
    /// Output columns are the left input's, then the right's; of semi and anti joins the left's alone, of mark joins
    /// the left's and a Boolean. `residual` sees the left input's columns, then the right's. Rows whose time is over are let
    /// go.
    Join {
        left: Box<StreamPlan>,
        right: Box<StreamPlan>,
        join_type: JoinType,
        keys: JoinKeys,
        residual: Option<Arc<dyn PhysicalExpr>>,
        closing: Option<JoinClosing>,
        /// The side (0: left, 1: right) that is not kept, but looked up in its relation's arrangement ([`ArrangedInput`]).
        arranged: Option<usize>,
    },
    /// Each left row as it arrives beside the right rows that match it then; without any, it is dropped, or stays beside
    /// NULLs. What becomes of the right rows later does not reach it, and when it is retracted, so is what it gave. Output
    /// columns and `residual` are those of a join.
    Lookup {
        left: Box<StreamPlan>,
        right: Box<StreamPlan>,
        keys: JoinKeys,
        residual: Option<Arc<dyn PhysicalExpr>>,
        keeps_unmatched: bool,
    },
    /// Each left row beside the one right row that is nearest to it in time; without any, it is dropped, or stays beside
    /// NULLs. Output columns are the left input's, then the right's.
    Asof { left: Box<StreamPlan>, right: Box<StreamPlan>, nearest: Nearest, keeps_unmatched: bool },
    /// Each row once for each grouping set; output columns are the keys (NULL where the set leaves one out), the set's
    /// number, then the columns.
    Expand { input: Box<StreamPlan>, keys: Vec<usize>, sets: Vec<GroupingSet>, columns: Vec<usize> },
    /// Output columns are the keys, then one for each call. Without keys there is exactly one row, also over an empty
    /// input; so there is for each key of `always`. Without calls this is DISTINCT.
    /// State of groups whose time is over is let go.
    Aggregate {
        input: Box<StreamPlan>,
        keys: Vec<usize>,
        calls: Vec<AggregateCall>,
        always: Option<RecordBatch>,
        /// A column of the input that is a key.
        closing: Option<TimeColumn>,
    },
    /// Aggregates over windows that overlap, of rows that are not copied for each. Output columns are the keys, `window_start`,
    /// `window_end`, then one for each call; calls merge ([`AggregateCall::merges`]).
    SlicedAggregate { input: Box<StreamPlan>, keys: Vec<usize>, calls: Vec<AggregateCall>, slices: Slices },
    /// The first rows of each partition in the order of `order`; without partition columns, of all rows.
    /// Peers are ordered by the whole row. Partitions whose time is over are let go.
    TopN {
        input: Box<StreamPlan>,
        partition: Vec<usize>,
        order: Vec<SortColumn>,
        top: TopN,
        /// A column of the partition.
        closing: Option<TimeColumn>,
    },
    /// Appends one column for each call. Peers are ordered by the whole row. Partitions whose time is over are let go.
    OverWindow {
        input: Box<StreamPlan>,
        partition: Vec<usize>,
        order: Vec<SortColumn>,
        calls: Vec<WindowCall>,
        /// A column of the partition.
        closing: Option<TimeColumn>,
    },
    /// Appends the start and the end of the session that the row belongs to, by the rows with the same values in
    /// `partition` ([`session`]). Rows whose time is NULL fall out. State of sessions that are over is let go.
    Session {
        input: Box<StreamPlan>,
        partition: Vec<usize>,
        time_column: usize,
        gap_us: i64,
        /// Of the time column: sessions whose last row is older are over.
        closing: Option<TimeColumn>,
        /// Behind the columns that come out. `None`: what was over when a row arrived is gone.
        arrival: Option<Arrival>,
    },
    /// UNION ALL; the inputs have equal column types.
    Union { inputs: Vec<StreamPlan> },
    /// Rows to many: a row comes out once for each position of its lists, which go side by side to the end of the
    /// longest. One of `columns` for each output column.
    Unnest { input: Box<StreamPlan>, columns: Vec<UnnestColumn>, empty: EmptyLists },
}

/// An instant of a row (a timestamp in microseconds; NULL: never) from which, or until which, it counts.
#[derive(Clone, Debug)]
pub struct TimeLimit {
    pub expr: Arc<dyn PhysicalExpr>,
    pub limit: Limit,
    /// The instant itself counts too.
    pub is_inclusive: bool,
}

impl PartialEq for TimeLimit {
    fn eq(&self, other: &TimeLimit) -> bool {
        self.expr.as_ref() == other.expr.as_ref()
            && self.limit == other.limit
            && self.is_inclusive == other.is_inclusive
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    From,
    Until,
}

/// What is late, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// A column of the input.
    pub time: TimeColumn,
    /// Where a row's own arrival stands in the input. `None`: a row arrives with its epoch.
    pub arrival: Option<Arrival>,
    pub rows: LateRows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateRows {
    /// Counted and let go; the others come out.
    Drop,
    /// They alone come out, with the watermark and the wall-clock time of their arrival behind.
    Only,
}

/// Where an output column of [`StreamNode::Unnest`] comes from: a column of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnnestColumn {
    /// The value, repeated.
    Copy(usize),
    /// An element of the list that is there.
    Element(usize),
    /// A field of the record that is there.
    Field(usize, usize),
}

/// What becomes of a row whose lists have no elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyLists {
    Drop,
    /// Stays, with NULL for the element, if a list is NULL.
    KeepNull,
    /// Stays, with NULL for the element.
    Keep,
}

/// A column of ORDER BY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortColumn {
    pub column: usize,
    pub options: SortOptions,
}

/// Which of a partition's rows are the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopN {
    /// Rows that are passed over; only with [`Ties::Cut`].
    pub offset: u64,
    /// `None`: all that follow.
    pub limit: Option<u64>,
    pub ties: Ties,
}

/// What a limit counts where rows are equal in ORDER BY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// Rows: `row_number() <= n`.
    Cut,
    /// Rows, and the last one's peers come with it: `rank() <= n`.
    Rank,
    /// Groups of peers: `dense_rank() <= n`.
    DenseRank,
}

/// Windows of event time; all in microseconds. Window starts are `offset + n · slide`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    Tumble {
        size_us: i64,
        offset_us: i64,
    },
    Hop {
        slide_us: i64,
        size_us: i64,
        offset_us: i64,
    },
    /// Windows of one start that grow by `step_us` up to `size_us`, a multiple of it; starts are `size_us` apart.
    Cumulate {
        step_us: i64,
        size_us: i64,
        offset_us: i64,
    },
}

/// What one of several groupings keeps of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupingSet {
    /// One for each key.
    pub kept: Vec<bool>,
    /// From the lowest bit: for each key, the last first, whether it is left out; above that, which of several equal
    /// sets it is.
    pub id: u64,
}

/// One aggregate function over columns of the input (arguments are projected beforehand).
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateCall {
    pub kind: AggregateKind,
    /// Columns of the input; none only for `count(*)`. A row in which one of them is NULL does not count, but for
    /// [`AggregateKind::General`].
    pub arguments: Vec<usize>,
    /// The order in which [`AggregateKind::General`] sees its rows; the others do not mind it.
    pub order: Vec<OrderColumn>,
    /// A Boolean column: rows where it is not true do not count (`FILTER (WHERE …)`).
    pub filter: Option<usize>,
    pub distinct: bool,
    /// The result type that the planner promised.
    pub data_type: DataType,
    /// As printed by EXPLAIN, and the output column's name.
    pub name: String,
}

impl AggregateCall {
    /// Whether what it keeps of two sets of rows comes to what it keeps of both: a total does, and an extreme where nothing
    /// is taken back.
    pub fn merges(&self, append_only: bool) -> bool {
        match self.kind {
            AggregateKind::Min | AggregateKind::Max => append_only,
            AggregateKind::General(_) => false,
            _ => !self.distinct,
        }
    }
}

/// A column of the input to sort by, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderColumn {
    pub column: usize,
    pub options: SortOptions,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AggregateKind {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    /// `bool_and`, `bit_or` …: a function of each bit of the argument.
    Bits(Fold),
    /// Variance, correlation, regression.
    Statistic(Statistic),
    /// Any other function: evaluated from scratch over the rows of each group that changes. Its parameters are constants
    /// and columns; column `i` is the call's argument `i`. It is given rows in order and, where asked for, distinct, so
    /// it needs to know of neither.
    General(Arc<AggregateFunctionExpr>),
}

impl AggregateKind {
    /// The value is that of one row, the first or the last: of rows that stay, none of the others need be kept.
    pub fn end(&self) -> Option<End> {
        match self {
            AggregateKind::General(function) => match function.fun().name() {
                "first_value" => Some(End::First),
                "last_value" => Some(End::Last),
                _ => None,
            },
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    First,
    Last,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    And,
    Or,
    Xor,
}

impl StreamPlan {
    /// The schema of the operator's deltas: `schema`, but any column may be NULL, since within a step an outer join may
    /// show a row without its match and take it back.
    pub fn delta_schema(&self) -> SchemaRef {
        let fields = self.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), self.schema.metadata().clone()))
    }

    /// All operators, each before its inputs: the order in which EXPLAIN numbers them.
    pub fn preorder(&self) -> Vec<&StreamPlan> {
        let mut all = vec![self];
        self.inputs().into_iter().for_each(|input| all.extend(input.preorder()));
        all
    }

    /// The operator's inputs, left to right.
    pub fn inputs(&self) -> Vec<&StreamPlan> {
        match &self.node {
            StreamNode::Scan { .. } | StreamNode::Values { .. } => vec![],
            StreamNode::Filter { input, .. }
            | StreamNode::Project { input, .. }
            | StreamNode::Window { input, .. }
            | StreamNode::Late { input, .. }
            | StreamNode::Hold { input, .. }
            | StreamNode::Temporal { input, .. }
            | StreamNode::Buckets { input, .. }
            | StreamNode::Expand { input, .. }
            | StreamNode::Aggregate { input, .. }
            | StreamNode::SlicedAggregate { input, .. }
            | StreamNode::Unnest { input, .. }
            | StreamNode::TopN { input, .. }
            | StreamNode::OverWindow { input, .. }
            | StreamNode::Session { input, .. } => vec![input],
            StreamNode::Join { left, right, .. }
            | StreamNode::Lookup { left, right, .. }
            | StreamNode::Asof { left, right, .. } => vec![left, right],
            StreamNode::Union { inputs } => inputs.iter().collect(),
        }
    }

    /// True if the operator itself keeps rows between epochs.
    pub fn is_stateful(&self) -> bool {
        match &self.node {
            StreamNode::Join { .. }
            | StreamNode::Lookup { .. }
            | StreamNode::Asof { .. }
            | StreamNode::Hold { .. }
            | StreamNode::Temporal { .. }
            | StreamNode::Aggregate { .. }
            | StreamNode::SlicedAggregate { .. }
            | StreamNode::TopN { .. }
            | StreamNode::OverWindow { .. }
            | StreamNode::Session { .. } => true,
            StreamNode::Scan { .. }
            | StreamNode::Values { .. }
            | StreamNode::Filter { .. }
            | StreamNode::Project { .. }
            | StreamNode::Window { .. }
            | StreamNode::Late { .. }
            | StreamNode::Buckets { .. }
            | StreamNode::Expand { .. }
            | StreamNode::Unnest { .. }
            | StreamNode::Union { .. } => false,
        }
    }

    /// True if the rows are no function of the inputs alone, but also of the order in which they came: computed again,
    /// they may be others.
    pub fn depends_on_arrival(&self) -> bool {
        self.preorder().iter().any(|plan| matches!(plan.node, StreamNode::Lookup { .. }))
    }

    /// The columns by whose time operators let state go or rows out.
    pub fn times_followed(&self) -> Vec<TimeColumn> {
        let times = |plan: &StreamPlan| match &plan.node {
            StreamNode::Aggregate { closing, .. }
            | StreamNode::Session { closing, .. }
            | StreamNode::TopN { closing, .. }
            | StreamNode::OverWindow { closing, .. } => closing.iter().cloned().collect(),
            StreamNode::SlicedAggregate { slices, .. } => {
                slices.closing.iter().cloned().chain(slices.shown_when_over()).collect()
            }
            StreamNode::Join { closing: Some(closing), .. } => closing.times(),
            StreamNode::Hold { time, .. } => vec![TimeColumn { lateness_us: 0, ..time.clone() }],
            _ => vec![],
        };
        self.preorder().into_iter().flat_map(times).collect()
    }

    /// Each relation that the plan reads, with the columns of it that any scan needs; ascending, each once.
    pub fn relations(&self) -> std::collections::BTreeMap<RelationId, Vec<usize>> {
        let mut relations = std::collections::BTreeMap::new();
        self.collect_relations(&mut relations);
        relations
    }

    fn collect_relations(&self, relations: &mut std::collections::BTreeMap<RelationId, Vec<usize>>) {
        if let StreamNode::Scan { relation, columns, .. } = &self.node {
            let all = relations.entry(*relation).or_default();
            all.extend(columns);
            all.sort_unstable();
            all.dedup();
        }
        for input in self.inputs() {
            input.collect_relations(relations);
        }
    }
}
