//! `JOIN rates FOR SYSTEM_TIME AS OF PROCTIME() r`: the rows that are there when a row of the other side arrives.
//!
//! ```text
//! rates FOR SYSTEM_TIME AS OF PROCTIME() ──[`ArrivalPlanner`]──▶ [`ArrivalNode`] ─┬─ lower ──▶ the right side of a lookup
//!                                                                              └─[`ReadNow`]─▶ the relation itself
//! ```
//! To a query that is asked once, all rows arrive now.

use std::any::Any;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchemaRef, Result as PlanResult, plan_err};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use sqlparser::ast::{Select, TableAlias, TableFactor};

use super::names::plain_table;
use super::parser::as_of_arrival;
use crate::error::Error;

/// Its input, as of the arrival of the rows that it is joined with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ArrivalNode {
    input: LogicalPlan,
}

impl ArrivalNode {
    pub fn of(plan: &LogicalPlan) -> Option<&ArrivalNode> {
        let LogicalPlan::Extension(extension) = plan else { return None };
        let node: &dyn Any = extension.node.as_any();
        node.downcast_ref()
    }
}

/// The right side of a join without the mark that it is as of arrival; `None` if it has none. Filters and projections may
/// stand over it.
pub(super) fn looked_up(right: &LogicalPlan) -> PlanResult<Option<LogicalPlan>> {
    if let Some(node) = ArrivalNode::of(right) {
        return Ok(Some(node.input.clone()));
    }
    if !matches!(right, LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_)) {
        return Ok(None);
    }
    let input = right.inputs()[0];
    let Some(input) = looked_up(input)? else { return Ok(None) };
    Ok(Some(right.with_new_exprs(right.expressions(), vec![input])?))
}

/// True if some join of the plan is by arrival: then it matters which of its inputs are joined first.
pub(super) fn is_by_arrival(plan: &LogicalPlan) -> PlanResult<bool> {
    use datafusion::common::tree_node::TreeNode;
    plan.exists(|node| Ok(ArrivalNode::of(node).is_some()))
}

/// 0A000.
pub(super) fn refuse_place() -> Error {
    Error::unsupported(
        "FOR SYSTEM_TIME AS OF PROCTIME() elsewhere than on the right side of JOIN or LEFT JOIN",
        "write FROM stream s JOIN relation FOR SYSTEM_TIME AS OF PROCTIME() r ON …; without it, the relation is joined as it \
         changes",
    )
}

/// Relations are called by their own name where they have no other.
pub(super) fn name(select: &mut Select) {
    let joined = |from: &mut sqlparser::ast::TableWithJoins| {
        let joins = from.joins.iter_mut().map(|join| &mut join.relation);
        std::iter::once(&mut from.relation).chain(joins).for_each(name_factor);
    };
    select.from.iter_mut().for_each(joined);
}

fn name_factor(factor: &mut TableFactor) {
    let Some(found) = as_of_arrival(factor) else { return };
    let TableFactor::Table { alias: alias @ None, .. } = factor else { return };
    let own = found.relation.0.last().and_then(|part| part.as_ident()).cloned();
    *alias = own.map(|name| TableAlias { explicit: true, name, columns: vec![], at: None });
}

#[derive(Debug)]
pub(super) struct ArrivalPlanner;

impl RelationPlanner for ArrivalPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        let Some(found) = as_of_arrival(&relation) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        if let Some(time) = found.time {
            let hint = "FOR SYSTEM_TIME AS OF PROCTIME() takes the rows that are there when a row arrives; ASOF JOIN … \
                        MATCH_CONDITION (o.t >= r.t) takes the nearest one by a time of its own";
            return Err(Error::unsupported(format!("FOR SYSTEM_TIME AS OF {time}"), hint).into());
        }
        let TableFactor::Table { alias, .. } = relation else {
            return Err(refuse_place().into());
        };
        let node = Arc::new(ArrivalNode { input: context.plan(plain_table(found.relation))? });
        let plan = LogicalPlan::Extension(Extension { node });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

impl PartialOrd for ArrivalNode {
    fn partial_cmp(&self, other: &ArrivalNode) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for ArrivalNode {
    fn name(&self) -> &str {
        "AsOfArrival"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsOfArrival")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> PlanResult<ArrivalNode> {
        match inputs.pop() {
            Some(input) => Ok(ArrivalNode { input }),
            None => plan_err!("a relation as of arrival has one input"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// Of queries that are asked once.
#[derive(Debug)]
pub(super) struct ReadNow;

impl OptimizerRule for ReadNow {
    fn name(&self) -> &str {
        "read_now"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> PlanResult<Transformed<LogicalPlan>> {
        Ok(match ArrivalNode::of(&plan) {
            Some(node) => Transformed::yes(node.input.clone()),
            None => Transformed::no(plan),
        })
    }
}
