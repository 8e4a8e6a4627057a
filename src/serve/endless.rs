//! A scan without an end is fine below a LIMIT that can be filled while it streams, and hopeless anywhere else.

use std::sync::Arc;

use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::source_scan::SourceScanExec;
use crate::error::{Error, Result};

/// 0A000 if the plan would never finish.
pub fn refuse_endless(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    match endless(plan) {
        None => Ok(()),
        Some(name) => Err(Error::unsupported(
            format!("reading all of the unbounded source \"{name}\""),
            "create a materialized view over it, or use LIMIT",
        )),
    }
}

/// The name of an endless source that the plan would read to its end.
fn endless(plan: &Arc<dyn ExecutionPlan>) -> Option<String> {
    if let Some(scan) = plan.downcast_ref::<SourceScanExec>() {
        return scan.is_endless().then(|| scan.name().to_string());
    }
    plan.children().into_iter().find_map(|child| {
        let name = endless(child)?;
        // A sort or an aggregate below the limit has to see everything first.
        let filled_while_streaming = plan.fetch().is_some()
            && plan.pipeline_behavior() != EmissionType::Final
            && child.pipeline_behavior() != EmissionType::Final;
        (!filled_while_streaming).then_some(name)
    })
}
