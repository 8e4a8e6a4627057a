//! A view's logical plan to its stream plan.

use datafusion::execution::SessionState;

use super::bind::{Bound, RelationResolver};
use crate::error::Result;
use crate::plan::StreamPlan;

/// Optimises with an explicit list of rules (those that fold `now()` or evaluate scalar subqueries once would be wrong
/// here) and lowers. 0A000 names the construct that cannot be maintained yet.
pub fn lower(state: &SessionState, resolver: &dyn RelationResolver, bound: &Bound) -> Result<StreamPlan> {
    let _ = (state, resolver, bound);
    unimplemented!()
}
