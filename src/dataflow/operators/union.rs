//! Δ(A + B) = ΔA + ΔB: UNION ALL adds Z-sets.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatchOptions;

use crate::dataflow::{Durable, EpochContext, Operator};
use crate::error::Result;
use crate::types::Delta;

pub struct UnionOperator {
    schema: SchemaRef,
}

impl UnionOperator {
    /// The inputs have the schema's column types; names and nullability may differ.
    pub fn new(schema: SchemaRef) -> UnionOperator {
        UnionOperator { schema }
    }
}

impl Operator for UnionOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, _: &mut EpochContext) -> Result<Vec<Delta>> {
        let deltas = inputs.into_iter().flatten();
        let output = deltas.map(|delta| {
            let options = RecordBatchOptions::new().with_row_count(Some(delta.row_count()));
            let columns = delta.batch().columns().to_vec();
            Ok(delta.with_batch(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?))
        });
        output.collect()
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        None
    }
}
