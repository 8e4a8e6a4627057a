//! Δπ(A) = π(ΔA): projection is linear and keeps nothing.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatchOptions;
use datafusion::physical_expr::PhysicalExpr;

use super::only;
use crate::dataflow::expression::evaluate;
use crate::dataflow::{Durable, EpochContext, Operator};
use crate::error::Result;
use crate::types::Delta;

pub struct ProjectOperator {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

impl ProjectOperator {
    /// `schema` has one field for each expression.
    pub fn new(exprs: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef) -> ProjectOperator {
        assert_eq!(exprs.len(), schema.fields().len(), "one field for each expression");
        ProjectOperator { exprs, schema }
    }
}

impl Operator for ProjectOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let mut output = vec![];
        for delta in only(inputs) {
            let (delta, columns) = evaluate(&self.exprs, &delta, context)?;
            let options = RecordBatchOptions::new().with_row_count(Some(delta.row_count()));
            let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
            output.push(delta.with_batch(batch));
        }
        Ok(output)
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        None
    }
}
