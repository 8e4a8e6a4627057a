//! Joins with the right side as of arrival.

use datafusion::common::JoinType as LogicalJoinType;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Join, LogicalPlan};

use super::{Lowering, side_by_side};
use crate::error::Result;
use crate::plan::{JoinKeys, Properties, StreamNode, StreamPlan};
use crate::sql::arrival::refuse_place;

impl Lowering<'_> {
    /// `right` is the join's right side without its mark; `keys` and `rest` are the join's condition.
    pub(super) fn lookup(
        &self,
        join: &Join,
        right: &LogicalPlan,
        keys: JoinKeys,
        rest: Vec<Expr>,
    ) -> Result<StreamPlan> {
        let keeps_unmatched = match join.join_type {
            LogicalJoinType::Inner => false,
            LogicalJoinType::Left => true,
            _ => return Err(refuse_place()),
        };
        let residual = match conjunction(rest) {
            None => None,
            Some(rest) => Some(self.physical(&rest, &join.left.schema().join(right.schema())?)?),
        };
        let (left, right) = (Box::new(self.node(&join.left)?), Box::new(self.node(right)?));
        let is_unique = |key: &Vec<usize>| key.iter().all(|column| keys.right.contains(column));
        // One match at most for each left row. Rows that met the right side at different times may be alike in its key.
        let one = right.properties.key.as_ref().is_some_and(is_unique);
        let key = left.properties.key.clone().filter(|_| one);
        let (append_only, times) = (left.properties.append_only, left.properties.times.clone());
        let properties = Properties { append_only, key, times, arrival: None };
        let node = StreamNode::Lookup { left, right, keys, residual, keeps_unmatched };
        Ok(StreamPlan { node, schema: side_by_side(&join.schema), properties })
    }
}
