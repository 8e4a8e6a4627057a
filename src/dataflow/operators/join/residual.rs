//! The part of a join's condition that is no equality of keys: evaluated over candidate pairs, and only over the columns
//! that it reads.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{prep_null_mask_filter, take};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatchOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;

use super::Pairs;
use super::side::Side;
use crate::dataflow::EpochContext;
use crate::dataflow::expression::evaluate_mask;
use crate::error::Result;
use crate::types::Delta;

pub struct Residual {
    predicate: Arc<dyn PhysicalExpr>,
    /// The columns of the left and of the right input that it reads: first these, then those.
    columns: [Vec<usize>; 2],
    schema: SchemaRef,
}

impl Residual {
    /// `predicate` is over the left input's columns, then the right's.
    pub fn new(predicate: Arc<dyn PhysicalExpr>, inputs: [&SchemaRef; 2]) -> Result<Residual> {
        let left_width = inputs[0].fields().len();
        let mut used: Vec<usize> = collect_columns(&predicate).iter().map(Column::index).collect();
        used.sort_unstable();
        used.dedup();
        let field = |&column: &usize| match column.checked_sub(left_width) {
            None => inputs[0].field(column).clone(),
            Some(column) => inputs[1].field(column).clone(),
        };
        let schema = Arc::new(Schema::new(used.iter().map(field).collect::<Vec<_>>()));
        let predicate = predicate
            .transform_up(|expr| {
                let any: &dyn std::any::Any = expr.as_ref();
                let Some(column) = any.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
                let place = used.binary_search(&column.index()).unwrap_or_default();
                Ok(Transformed::yes(Arc::new(Column::new(column.name(), place)) as Arc<dyn PhysicalExpr>))
            })?
            .data;
        let (left, right): (Vec<usize>, Vec<usize>) = used.into_iter().partition(|&column| column < left_width);
        let right = right.into_iter().map(|column| column - left_width).collect();
        Ok(Residual { predicate, columns: [left, right], schema })
    }

    /// Which of the pairs it holds for; `delta` is of side `own`. Pairs for which it fails are reported with their weight.
    pub fn mask(
        &self,
        delta: &Delta,
        own: usize,
        pairs: &Pairs,
        other: &Side,
        context: &mut EpochContext,
    ) -> Result<BooleanArray> {
        let rows = UInt32Array::from(pairs.rows.clone());
        let ours = self.columns[own].iter().map(|&column| Ok(take(delta.column(column), &rows, None)?));
        let ours: Vec<ArrayRef> = ours.collect::<Result<_>>()?;
        let theirs = other.gather_columns(&self.columns[1 - own], &pairs.places)?;
        let columns = if own == 0 { [ours, theirs].concat() } else { [theirs, ours].concat() };
        let options = RecordBatchOptions::new().with_row_count(Some(pairs.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let mask = evaluate_mask(&self.predicate, &Delta::new(batch, pairs.weights.clone()), context)?;
        Ok(if mask.null_count() > 0 { prep_null_mask_filter(&mask) } else { mask })
    }
}
