//! A table or materialized view as DataFusion sees it: all rows of its snapshot, or only those that its key or an index
//! leads to ([`super::access`]). The filter stays above the scan; the lookup merely narrows what it has to see.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source_as_provider;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableScan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use super::ReadPoint;
use super::access::{Access, TableIndex, choose, is_of_use};
use crate::error::Result;
use crate::state::Snapshot;
use crate::state::arrangement::{Interval, Scan};
use crate::types::RelationId;

/// Binds late: the rows come from the [`ReadPoint`] of the statement that scans it.
#[derive(Debug)]
pub struct SnapshotTable {
    pub id: RelationId,
    pub name: String,
    pub schema: SchemaRef,
    pub indexes: Vec<TableIndex>,
    /// The expression of the instant at which it is read, if that is not now.
    pub instant: Option<String>,
}

impl SnapshotTable {
    fn snapshot(&self, read: &ReadPoint) -> Result<Arc<Snapshot>> {
        match &self.instant {
            Some(instant) => read.snapshot_at(self.id, &self.name, instant),
            None => read.snapshot(self.id, &self.name),
        }
    }

    fn access(&self, snapshot: &Snapshot, filters: &[Expr]) -> Result<Access> {
        let count = |columns: &[usize], intervals: &[Interval]| snapshot.range_count(columns, intervals);
        Ok(match choose(&self.schema, snapshot.key(), &self.indexes, filters, &count)? {
            Access::Index { index, intervals, .. } if !snapshot.is_few(count(&index.columns, &intervals)?) => {
                Access::All
            }
            access => access,
        })
    }
}

#[async_trait]
impl TableProvider for SnapshotTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| match is_of_use(filter, &self.schema, &self.indexes) {
                true => TableProviderFilterPushDown::Inexact,
                false => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let snapshot = self.snapshot(ReadPoint::of(state)?.as_ref())?;
        let found = match self.access(&snapshot, filters)? {
            Access::Key(keys) => Some(snapshot.lookup(&keys)?),
            Access::Index { index, intervals, .. } => snapshot.range(&index.columns, &intervals)?,
            Access::All => None,
        };
        let batches = match found {
            Some(found) => vec![found],
            None if snapshot.is_mapped() => return stream(snapshot, &self.schema, projection),
            None => snapshot.rows()?.as_ref().clone(),
        };
        let batches = batches.into_iter().map(|batch| conform(batch, &self.schema)).collect::<Result<Vec<_>>>()?;
        Ok(MemorySourceConfig::try_new_exec(&[batches], self.schema.clone(), projection.cloned())?)
    }
}

/// All rows of a snapshot, which need not fit into memory together.
fn stream(
    snapshot: Arc<Snapshot>,
    schema: &SchemaRef,
    projection: Option<&Vec<usize>>,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let columns = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
    let schema = Arc::new(schema.project(&columns)?);
    let rows: Arc<dyn PartitionStream> = Arc::new(Rows { snapshot, columns, schema: schema.clone() });
    Ok(Arc::new(StreamingTableExec::try_new(schema, vec![rows], None, [], false, None)?))
}

#[derive(Debug)]
struct Rows {
    snapshot: Arc<Snapshot>,
    columns: Vec<usize>,
    /// Of these columns.
    schema: SchemaRef,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = self.schema.clone();
        let rows = Scan::new(self.snapshot.clone(), Some(self.columns.clone()));
        let rows = rows.map(move |rows| Ok(conform(rows?, &schema)?));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::iter(rows)))
    }
}

/// How the scans of an optimised plan would find their rows, one line for each that need not see all: for EXPLAIN.
pub fn access_lines(plan: &LogicalPlan, read: &ReadPoint) -> Result<Vec<String>> {
    let mut lines = vec![];
    let mut failed = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            match access_line(scan, read) {
                Ok(line) => lines.extend(line),
                Err(error) => failed = Some(error),
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    failed.map_or(Ok(lines), Err)
}

fn access_line(scan: &TableScan, read: &ReadPoint) -> Result<Option<String>> {
    // What is no provider is a view that was planned in place, or a relation of the system.
    let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
    let provider: &dyn Any = provider.as_ref();
    let Some(table) = provider.downcast_ref::<SnapshotTable>() else { return Ok(None) };
    let snapshot = table.snapshot(read)?;
    let named = |columns: &[usize]| {
        let names: Vec<&str> = columns.iter().map(|&column| table.schema.field(column).name().as_str()).collect();
        names.join(", ")
    };
    Ok(match table.access(&snapshot, &scan.filters)? {
        Access::Key(keys) => {
            let key = named(snapshot.key().unwrap_or_default());
            let count = keys.num_rows();
            Some(format!("{}: lookup by key ({key}), {count} {}", table.name, plural(count, "key", "keys")))
        }
        Access::Index { index, used, intervals } => {
            let count = intervals.len();
            let (name, columns) = (&index.name, named(&index.columns[..used]));
            Some(format!("{}: index {name} ({columns}), {count} {}", table.name, plural(count, "range", "ranges")))
        }
        Access::All => None,
    })
}

fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// The columns under the schema that the plan was made for; the metadata of a running view may say less. What stands
/// behind them tells of the rows' arrival, and is not for readers.
fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let columns = batch.columns()[..schema.fields().len()].to_vec();
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
