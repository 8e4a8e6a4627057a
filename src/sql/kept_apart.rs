//! Rules of DataFusion that are right of most plans, kept apart from those of which they are wrong:
//!
//! | rule | what it mistakes |
//! |---|---|
//! | `extract_equijoin_predicate`, `eliminate_cross_join` | `a = b` for `a IS NOT DISTINCT FROM b`, where a join has both: a join says for all its keys at once whether NULL equals NULL |
//! | `eliminate_cross_join` | the order of joins for a matter of taste, where one of them is by arrival |
//! | `push_down_filter` | a condition without columns for one on group keys: below an aggregate that has a row over nothing, it drops no row of it |

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{NullEquality, Result as PlanResult};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Join, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::arrival::is_by_arrival;

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// The rules, those kept apart from where they are wrong.
pub(super) fn apart(rules: Vec<Rule>) -> Vec<Rule> {
    let keep = |rule: Rule| -> Rule {
        match rule.name() {
            // Adds an equality to the keys of the join.
            "extract_equijoin_predicate" => Arc::new(Apart { rule, is_wrong: |plan| Ok(equates_nulls(plan)) }),
            // Joins anew by all keys of the joins below.
            "eliminate_cross_join" => {
                let is_wrong =
                    |plan: &LogicalPlan| Ok(plan.exists(|node| Ok(equates_nulls(node)))? || is_by_arrival(plan)?);
                Arc::new(Apart { rule, is_wrong })
            }
            "push_down_filter" => Arc::new(Apart { rule, is_wrong: |plan| Ok(filters_row_over_nothing(plan)) }),
            _ => rule,
        }
    };
    rules.into_iter().map(keep).collect()
}

fn equates_nulls(plan: &LogicalPlan) -> bool {
    matches!(
        plan,
        LogicalPlan::Join(Join { null_equality: NullEquality::NullEqualsNull, on, .. })
            if !on.is_empty()
    )
}

/// Grouping sets may hold the empty one. Filters above each other become one.
fn filters_row_over_nothing(plan: &LogicalPlan) -> bool {
    let (mut below, mut has_constant) = (plan, false);
    while let LogicalPlan::Filter(filter) = below {
        has_constant |= split_conjunction(&filter.predicate).iter().any(|part| part.column_refs().is_empty());
        below = filter.input.as_ref();
    }
    let LogicalPlan::Aggregate(aggregate) = below else { return false };
    has_constant && matches!(aggregate.group_expr.as_slice(), [] | [Expr::GroupingSet(_)])
}

#[derive(Debug)]
struct Apart {
    rule: Rule,
    is_wrong: fn(&LogicalPlan) -> PlanResult<bool>,
}

impl OptimizerRule for Apart {
    fn name(&self) -> &str {
        self.rule.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.rule.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> PlanResult<Transformed<LogicalPlan>> {
        match (self.is_wrong)(&plan)? {
            true => Ok(Transformed::no(plan)),
            false => self.rule.rewrite(plan, config),
        }
    }
}
