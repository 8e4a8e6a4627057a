//! Two of DataFusion's rules take `a = b` for `a IS NOT DISTINCT FROM b` where a join has both: a join says for all its keys
//! at once whether NULL equals NULL. They are kept from joins that say so.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{NullEquality, Result as PlanResult};
use datafusion::logical_expr::{Join, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

type Rule = Arc<dyn OptimizerRule + Send + Sync>;

/// The rules, those two kept apart from where they are wrong.
pub(super) fn kept_apart(rules: Vec<Rule>) -> Vec<Rule> {
    let keep = |rule: Rule| -> Rule {
        match rule.name() {
            // Adds an equality to the keys of the join.
            "extract_equijoin_predicate" => Arc::new(Apart { rule, is_wrong: |plan| Ok(equates_nulls(plan)) }),
            // Joins anew by all keys of the joins below.
            "eliminate_cross_join" => {
                Arc::new(Apart { rule, is_wrong: |plan| plan.exists(|node| Ok(equates_nulls(node))) })
            }
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
