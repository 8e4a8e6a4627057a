//! ΔExpand(A) = Expand(ΔA): each row once for each grouping set, its keys NULL where the set leaves them out, with the
//! set's number. Linear, and keeps nothing.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;

use super::only;
use crate::dataflow::{Durable, EpochContext, Operator};
use crate::error::Result;
use crate::plan::GroupingSet;
use crate::types::Delta;

pub struct ExpandOperator {
    keys: Vec<usize>,
    sets: Vec<GroupingSet>,
    /// Columns that go through as they are.
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl ExpandOperator {
    /// `schema`: the keys, the set's number, the columns.
    pub fn new(keys: Vec<usize>, sets: Vec<GroupingSet>, columns: Vec<usize>, schema: SchemaRef) -> ExpandOperator {
        ExpandOperator { keys, sets, columns, schema }
    }

    fn expand(&self, delta: &Delta, set: &GroupingSet) -> Result<Delta> {
        let row_count = delta.row_count();
        let keys = self.keys.iter().zip(&set.kept).map(|(&key, is_kept)| {
            let column = delta.column(key);
            if *is_kept { column.clone() } else { new_null_array(column.data_type(), row_count) }
        });
        let id: ArrayRef = Arc::new(UInt64Array::from(vec![set.id; row_count]));
        let id = cast(&id, self.schema.field(self.keys.len()).data_type())?;
        let columns = self.columns.iter().map(|&column| delta.column(column).clone());
        let batch = RecordBatch::try_new(self.schema.clone(), keys.chain([id]).chain(columns).collect())?;
        Ok(delta.with_batch(batch))
    }
}

impl Operator for ExpandOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, _: &mut EpochContext) -> Result<Vec<Delta>> {
        let deltas = only(inputs);
        deltas.iter().flat_map(|delta| self.sets.iter().map(|set| self.expand(delta, set))).collect()
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        None
    }
}
