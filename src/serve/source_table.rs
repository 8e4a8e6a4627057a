//! A source as DataFusion sees it: no rows are kept, so a SELECT reads the outside system, from the source's start up to
//! where the world has read it (or to its present end, if no view reads it).

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::ReadPoint;
use super::source_scan::{SourceScan, SourceScanExec};
use crate::catalog::SourceDefinition;
use crate::connectors::{self, Connector, Framing, Options};
use crate::error::{Error, Result};
use crate::types::RelationId;

#[derive(Debug)]
pub struct SourceTable {
    pub id: RelationId,
    pub name: String,
    pub schema: SchemaRef,
    pub definition: Arc<SourceDefinition>,
}

impl SourceTable {
    /// The connector of a definition, its options checked (22023).
    pub fn connect(definition: &SourceDefinition, schema: &SchemaRef) -> Result<Arc<dyn Connector>> {
        let framing = Framing::of(&definition.encode, &definition.encode_options)?;
        let options = Options::new(definition.options.clone());
        Ok(Arc::from(connectors::connect(&options, &definition.read_schema(schema), framing)?))
    }
}

#[async_trait]
impl TableProvider for SourceTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let connector = SourceTable::connect(&self.definition, &self.schema)?;
        let read = ReadPoint::of(state)?;
        let until = match read.world.positions.get(&self.id) {
            Some(position) => Some(position.as_ref().clone()),
            None => {
                let connector = connector.clone();
                let end = tokio::task::spawn_blocking(move || connector.end()).await;
                end.map_err(|e| Error::internal(format!("asking for the source's end failed: {e}")))??
            }
        };
        let scan = SourceScan {
            name: self.name.clone(),
            schema: self.schema.clone(),
            definition: self.definition.clone(),
            connector,
            until,
            columns: projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect()),
        };
        Ok(Arc::new(SourceScanExec::new(scan)?))
    }
}
