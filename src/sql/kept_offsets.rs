//! What `OFFSET` leaves out depends on the order below it, which must stay.
//!
//! DataFusion's physical plans push the order that is asked for above a limit down to the sort below it, unless the limit also
//! says how many rows it keeps: `SELECT … FROM (SELECT … ORDER BY a OFFSET 1) q ORDER BY b` left out the first by `b`. So such a limit is
//! told to keep more rows than there can be.

use datafusion::common::Result as PlanResult;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Limit, LogicalPlan, lit};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// To be among the last rules: limits have been pushed down by then.
#[derive(Debug, Default)]
pub(super) struct KeepOffsets;

/// So many that the rows left out can be added.
const ALL_ROWS: i64 = i64::MAX / 2;

impl OptimizerRule for KeepOffsets {
    fn name(&self) -> &str {
        "keep_offsets"
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> PlanResult<Transformed<LogicalPlan>> {
        // Nothing is above the root.
        plan.map_children(|below| {
            below.transform_down_with_subqueries(|node| match node {
                LogicalPlan::Limit(limit) if limit.skip.is_some() && limit.fetch.is_none() => {
                    let limit = Limit { fetch: Some(Box::new(lit(ALL_ROWS))), ..limit };
                    Ok(Transformed::yes(LogicalPlan::Limit(limit)))
                }
                other => Ok(Transformed::no(other)),
            })
        })
    }
}
