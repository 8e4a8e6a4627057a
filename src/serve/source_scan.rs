//! Reads a source for one query: a blocking thread polls, decodes and hands batches through a bounded channel. Records
//! that cannot be decoded, or of which a generated column fails, are left out here; the views over the source count them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use tokio::sync::mpsc::Sender;

use crate::catalog::SourceDefinition;
use crate::connectors::{Connector, Payload, Polled};
use crate::dataflow::source_columns::SourceColumns;
use crate::error::{Error, Result};
use crate::formats;
use crate::types::Position;

/// Batches between the reading thread and the query.
const BATCH_COUNT_MAX: usize = 4;
/// How long one poll waits before the thread looks whether the query still listens.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// What to read.
#[derive(Clone, Debug)]
pub struct SourceScan {
    pub name: String,
    /// All columns of the source.
    pub schema: SchemaRef,
    pub definition: Arc<SourceDefinition>,
    pub connector: Arc<dyn Connector>,
    /// Exclusive; `None`: there is no end.
    pub until: Option<Position>,
    /// Columns that come out, in this order.
    pub columns: Vec<usize>,
}

#[derive(Debug)]
pub struct SourceScanExec {
    scan: SourceScan,
    properties: Arc<PlanProperties>,
}

impl SourceScanExec {
    pub fn new(scan: SourceScan) -> Result<SourceScanExec> {
        let schema = Arc::new(scan.schema.project(&scan.columns)?);
        // Endless scans are refused or let through by `endless`, which knows LIMIT better than the planner's own check.
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(SourceScanExec { scan, properties: Arc::new(properties) })
    }

    pub fn name(&self) -> &str {
        &self.scan.name
    }

    pub fn is_endless(&self) -> bool {
        self.scan.until.is_none()
    }
}

impl DisplayAs for SourceScanExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceScanExec: {}", self.scan.name)
    }
}

impl ExecutionPlan for SourceScanExec {
    fn name(&self) -> &str {
        "SourceScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _each: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let mut builder = RecordBatchReceiverStream::builder(self.schema(), BATCH_COUNT_MAX);
        let (sender, scan) = (builder.tx(), self.scan.clone());
        builder.spawn_blocking(move || read(&scan, &sender).map_err(DataFusionError::from));
        Ok(builder.build())
    }
}

/// Returns when the source is read up to its end, or when nobody listens any more.
fn read(scan: &SourceScan, sender: &Sender<DataFusionResult<RecordBatch>>) -> Result<()> {
    // Connectors and decoders want ascending columns; a query that needs none still needs to count rows.
    let definition = &scan.definition;
    let mut needed = scan.columns.clone();
    needed.extend(definition.telling_columns(scan.schema.fields().len()));
    needed.sort_unstable();
    needed.dedup();
    let read_schema = definition.read_schema(&scan.schema);
    if needed.is_empty() && !read_schema.fields().is_empty() {
        needed.extend((0..scan.schema.fields().len()).find(|&column| !definition.is_generated(column)));
    }
    let columns = SourceColumns::new(&scan.schema, definition, needed)?;
    if columns.takes_arrival() {
        let hint = "query a view over the source: there each row has the instant at which it came";
        return Err(Error::unsupported("PROCTIME() in a query that reads the source itself", hint));
    }
    let output: Vec<usize> = scan.columns.iter().map(|&column| columns.place(column)).collect();
    let mut decoder = match definition.is_decoded() {
        false => None,
        true => {
            let (encode, options) = (&definition.encode, &definition.encode_options);
            Some(formats::decoder(encode, options, &read_schema, &columns.read)?)
        }
    };
    let mut reader = scan.connector.open(&definition.start, scan.until.as_ref(), &columns.read)?;
    while !sender.is_closed() {
        let chunk = match reader.poll(POLL_TIMEOUT)? {
            Polled::Chunk(chunk) => chunk,
            Polled::Idle => continue,
            Polled::Finished => return Ok(()),
        };
        let batch = match (chunk.payload, &mut decoder) {
            (Payload::Rows(batch), _) => batch,
            (Payload::Records(records), Some(decoder)) => decoder.decode(&chunk.partition, &records)?.batch,
            (Payload::Records(_), None) => {
                return Err(Error::internal("a connector without a format sent records"));
            }
        };
        let (mut batch, failed) = columns.complete(batch, None)?;
        if !failed.is_empty() {
            let keep: BooleanArray = (0..batch.num_rows())
                .map(|row| Some(failed.binary_search_by_key(&row, |(row, _)| *row).is_err()))
                .collect();
            batch = filter_record_batch(&batch, &keep)?;
        }
        if batch.num_rows() > 0 && sender.blocking_send(Ok(batch.project(&output)?)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
