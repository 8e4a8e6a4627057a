//! The one row of the other side that is nearest in time, as a node of logical plans: [`super::decorrelate`] finds it in a
//! LATERAL that takes the first row by a time up to a time of the outer row (which is how `ASOF JOIN` is spelled out), and
//! [`super::lower`] makes it an operator. Queries that are asked once never have it.

use std::any::Any;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchemaRef, JoinType, Result as PlanResult, plan_err};
use datafusion::logical_expr::logical_plan::builder::build_join_schema;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Extension, Filter, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// Each left row beside the first right row, by `order`, with equal keys and a time at or behind the left row's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct AsofNode {
    pub left: LogicalPlan,
    pub right: LogicalPlan,
    /// Columns of both sides, of one type pair by pair.
    pub keys: Vec<(Column, Column)>,
    pub left_time: Column,
    /// Columns of the right side, the time first.
    pub order: Vec<(Column, SortOptions)>,
    /// Times that are equal do not count.
    pub is_strict: bool,
    pub keeps_unmatched: bool,
    schema: DFSchemaRef,
}

/// What is beside its inputs in an [`AsofNode`].
pub(super) struct AsofCondition {
    pub keys: Vec<(Column, Column)>,
    pub left_time: Column,
    pub order: Vec<(Column, SortOptions)>,
    pub is_strict: bool,
    pub keeps_unmatched: bool,
}

impl AsofNode {
    pub fn try_new(left: LogicalPlan, right: LogicalPlan, condition: AsofCondition) -> PlanResult<AsofNode> {
        let AsofCondition { keys, left_time, order, is_strict, keeps_unmatched } = condition;
        let join_type = if keeps_unmatched { JoinType::Left } else { JoinType::Inner };
        let schema = Arc::new(build_join_schema(left.schema(), right.schema(), &join_type)?);
        Ok(AsofNode { left, right, keys, left_time, order, is_strict, keeps_unmatched, schema })
    }

    pub fn of(plan: &LogicalPlan) -> Option<&AsofNode> {
        let LogicalPlan::Extension(extension) = plan else { return None };
        let node: &dyn Any = extension.node.as_any();
        node.downcast_ref()
    }

    fn columns(&self) -> impl Iterator<Item = &Column> {
        let keys = self.keys.iter().flat_map(|(left, right)| [left, right]);
        keys.chain([&self.left_time]).chain(self.order.iter().map(|(column, _)| column))
    }
}

impl PartialOrd for AsofNode {
    fn partial_cmp(&self, other: &AsofNode) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for AsofNode {
    fn name(&self) -> &str {
        "AsofJoin"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.left, &self.right]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// The keys pair by pair, the left time, the order.
    fn expressions(&self) -> Vec<Expr> {
        self.columns().cloned().map(Expr::Column).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(|(left, right)| format!("{left} = {right}")).collect();
        write!(f, "AsofJoin: {}; {} to {}", keys.join(", "), self.left_time, self.order[0].0)
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> PlanResult<AsofNode> {
        let mut columns = vec![];
        for expr in exprs {
            match expr.unalias() {
                Expr::Column(column) => columns.push(column),
                other => return plan_err!("an ASOF join takes columns, not {other}"),
            }
        }
        let Ok([left, right]) = <[LogicalPlan; 2]>::try_from(inputs) else {
            return plan_err!("an ASOF join has two inputs");
        };
        if columns.len() != self.columns().count() {
            return plan_err!("an ASOF join keeps its columns");
        }
        let mut columns = columns.into_iter();
        let mut next = || columns.next().unwrap_or_else(|| Column::new_unqualified(""));
        let keys = self.keys.iter().map(|_| (next(), next())).collect();
        let left_time = next();
        let order = self.order.iter().map(|(_, options)| (next(), *options)).collect();
        let (is_strict, keeps_unmatched) = (self.is_strict, self.keeps_unmatched);
        AsofNode::try_new(left, right, AsofCondition { keys, left_time, order, is_strict, keeps_unmatched })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.left.schema().fields().len();
        let (mut left, mut right): (Vec<usize>, Vec<usize>) =
            output_columns.iter().copied().partition(|&column| column < width);
        right.iter_mut().for_each(|column| *column -= width);
        for (l, r) in &self.keys {
            left.push(self.left.schema().index_of_column(l).ok()?);
            right.push(self.right.schema().index_of_column(r).ok()?);
        }
        left.push(self.left.schema().index_of_column(&self.left_time).ok()?);
        for (column, _) in &self.order {
            right.push(self.right.schema().index_of_column(column).ok()?);
        }
        for needed in [&mut left, &mut right] {
            needed.sort_unstable();
            needed.dedup();
        }
        Some(vec![left, right])
    }
}

/// Conditions on the left side alone hold below as well. (On the right side they do not: they take the nearest row away, and
/// not put the next one in its place.)
#[derive(Debug)]
pub(super) struct PushFilterToLeft;

impl OptimizerRule for PushFilterToLeft {
    fn name(&self) -> &str {
        "push_filter_to_left_of_asof"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> PlanResult<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else { return Ok(Transformed::no(plan)) };
        let Some(node) = AsofNode::of(&filter.input) else { return Ok(Transformed::no(plan)) };
        let is_of_left = |condition: &Expr| {
            let columns = condition.column_refs();
            !columns.is_empty() && columns.iter().all(|column| node.left.schema().index_of_column(column).is_ok())
        };
        let (below, above): (Vec<Expr>, Vec<Expr>) =
            split_conjunction_owned(filter.predicate.clone()).into_iter().partition(is_of_left);
        let Some(below) = conjunction(below) else { return Ok(Transformed::no(plan)) };
        let left = LogicalPlan::Filter(Filter::try_new(below, Arc::new(node.left.clone()))?);
        let node = node.with_exprs_and_inputs(node.expressions(), vec![left, node.right.clone()])?;
        let joined = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(Transformed::yes(match conjunction(above) {
            Some(above) => LogicalPlan::Filter(Filter::try_new(above, Arc::new(joined))?),
            None => joined,
        }))
    }
}
