//! Δσ(A) = σ(ΔA): filtering is linear and keeps nothing.

use std::sync::Arc;

use arrow::array::AsArray;
use datafusion::physical_expr::PhysicalExpr;

use super::only;
use crate::dataflow::expression::evaluate;
use crate::dataflow::{Durable, EpochContext, Operator};
use crate::error::Result;
use crate::types::Delta;

pub struct FilterOperator {
    predicate: Arc<dyn PhysicalExpr>,
}

impl FilterOperator {
    /// `predicate` yields Booleans; rows where it is NULL fall out.
    pub fn new(predicate: Arc<dyn PhysicalExpr>) -> FilterOperator {
        FilterOperator { predicate }
    }
}

impl Operator for FilterOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let mut output = vec![];
        for delta in only(inputs) {
            let (delta, mask) = evaluate(std::slice::from_ref(&self.predicate), &delta, context)?;
            let mask = mask[0].as_boolean();
            if mask.true_count() == delta.row_count() {
                output.push(delta);
            } else {
                output.push(delta.filter(mask)?);
            }
        }
        output.retain(|delta| !delta.is_empty());
        Ok(output)
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        None
    }
}
