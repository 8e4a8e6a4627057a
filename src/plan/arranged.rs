//! An input of a join that the join need not keep: a relation that is arranged by the join's key anyway, or some of its rows
//! and columns. Its changes flow as always; what it was before an epoch is looked up when the other side's rows ask for it.
//!
//! ```text
//! join ─ project ─ filter ─ scan of customers, key (id):   Δ(A ⋈ B) = ΔA ⋈ B + A' ⋈ ΔB, with B in its arrangement
//! ```

use datafusion::physical_expr::expressions::Column;

use super::{StreamNode, StreamPlan};
use crate::types::RelationId;

pub struct ArrangedInput<'a> {
    pub relation: RelationId,
    /// The relation's columns that are read.
    pub columns: &'a [usize],
    /// Filters and projections of what is read, innermost first.
    pub steps: Vec<&'a StreamPlan>,
}

impl ArrangedInput<'_> {
    /// `None` if more than filters and projections stands above the scan.
    pub fn of(input: &StreamPlan) -> Option<ArrangedInput<'_>> {
        match &input.node {
            StreamNode::Scan { relation, columns, .. } => {
                Some(ArrangedInput { relation: *relation, columns, steps: vec![] })
            }
            StreamNode::Filter { input: below, .. } | StreamNode::Project { input: below, .. } => {
                let mut arranged = ArrangedInput::of(below)?;
                arranged.steps.push(input);
                Some(arranged)
            }
            _ => None,
        }
    }

    /// The relation's column that a column of the input is; `None` if it is computed.
    pub fn source(&self, column: usize) -> Option<usize> {
        let column = self.steps.iter().rev().try_fold(column, |column, step| match &step.node {
            StreamNode::Project { exprs, .. } => {
                let any: &dyn std::any::Any = exprs[column].as_ref();
                any.downcast_ref::<Column>().map(Column::index)
            }
            _ => Some(column),
        })?;
        Some(self.columns[column])
    }
}
