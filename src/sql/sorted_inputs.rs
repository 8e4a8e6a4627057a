//! The last physical rule before the planner checks itself: an operator whose input is not known to be sorted as it needs
//! gets a sort below.
//!
//! DataFusion's rules push sorts down as far as they see that nothing is lost; where its check afterwards sees less (a
//! union of queries that list one column twice), it refuses its own plan.

use std::sync::Arc;

use datafusion::common::Result as PlanResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

#[derive(Debug)]
pub(super) struct SortedInputs;

impl PhysicalOptimizerRule for SortedInputs {
    fn name(&self) -> &str {
        "sorted_inputs"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> PlanResult<Arc<dyn ExecutionPlan>> {
        plan.transform_up(with_sorted_inputs).data()
    }
}

fn with_sorted_inputs(plan: Arc<dyn ExecutionPlan>) -> PlanResult<Transformed<Arc<dyn ExecutionPlan>>> {
    let mut any = false;
    let mut children = vec![];
    for (child, needed) in plan.children().into_iter().zip(plan.required_input_ordering()) {
        let child = child.clone();
        let Some(needed) = needed.map(|needed| needed.into_single()) else {
            children.push(child);
            continue;
        };
        if child.equivalence_properties().ordering_satisfy_requirement(needed.clone())? {
            children.push(child);
            continue;
        }
        any = true;
        let is_split = child.output_partitioning().partition_count() > 1;
        let sort = SortExec::new(LexOrdering::from(needed), child).with_preserve_partitioning(is_split);
        children.push(Arc::new(sort));
    }
    match any {
        true => Ok(Transformed::yes(replace_children_if_necessary(plan, children)?)),
        false => Ok(Transformed::no(plan)),
    }
}
