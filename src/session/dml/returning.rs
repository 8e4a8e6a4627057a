//! RETURNING: a query whose scan of the target is replaced by the rows that the statement touched.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::{MemTable, provider_as_source, source_as_provider};
use datafusion::logical_expr::{LogicalPlan, TableScan};

use super::Target;
use crate::error::Result;
use crate::serve::SnapshotTable;

/// Scans of other relations (in subqueries) stay what they are.
pub fn over_rows(returning: &LogicalPlan, target: &Target, rows: RecordBatch) -> Result<LogicalPlan> {
    let touched = provider_as_source(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?));
    let replaced = returning.clone().transform_up(|node| match node {
        LogicalPlan::TableScan(scan) if !scans_other(&scan, target) => {
            Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source: touched.clone(), ..scan })))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(replaced.data)
}

/// Subqueries are not descended into, so in the plan itself there is the target, and nothing else that is a table.
fn scans_other(scan: &TableScan, target: &Target) -> bool {
    let provider = source_as_provider(&scan.source).ok();
    provider.is_some_and(|p| p.downcast_ref::<SnapshotTable>().is_some_and(|table| table.id != target.id))
}
