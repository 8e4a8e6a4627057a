//! Which side of a join need not be kept by it: one that is a relation whose key, or one of whose indexes, is the join's key.
//!
//! Its arrangement is there anyway, for queries and for every other view that joins by the same key.

use std::any::Any;
use std::sync::Arc;

use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};

use super::Lowering;
use crate::plan::{ArrangedInput, JoinKeys, JoinType, StreamNode, StreamPlan};

impl Lowering<'_> {
    /// The side that is looked up, if one is, and the join's keys, then in the order of what finds its rows.
    pub(super) fn arranged(
        &self,
        inputs: [&StreamPlan; 2],
        join_type: JoinType,
        keys: JoinKeys,
    ) -> (Option<usize>, JoinKeys) {
        // Rows that come out by themselves must be fed, all of them.
        for side in [1, 0].into_iter().filter(|&side| !join_type.watched()[side]) {
            if let Some(keys) = self.keys_in_order(inputs[side], side, &keys) {
                return (Some(side), keys);
            }
        }
        (None, keys)
    }

    fn keys_in_order(&self, input: &StreamPlan, side: usize, keys: &JoinKeys) -> Option<JoinKeys> {
        let arranged = ArrangedInput::of(input)?;
        let own = [&keys.left, &keys.right][side];
        let sources: Vec<usize> = own.iter().map(|&column| arranged.source(column)).collect::<Option<_>>()?;
        // Equal floats differ in their bits. Rows that go by their time are kept, to be let go.
        let is_found = |&column: &usize| !input.schema.field(column).data_type().is_floating();
        let is_plain = input.properties.times.is_empty() && arranged.steps.iter().all(|step| cannot_fail(step));
        if own.is_empty() || !is_plain || !own.iter().all(is_found) {
            return None;
        }
        let orders = self.orders.borrow();
        let places = |order: &Vec<usize>| -> Option<Vec<usize>> {
            let place = |column: &usize| sources.iter().position(|source| source == column);
            (order.len() == sources.len()).then(|| order.iter().map(place).collect::<Option<Vec<usize>>>()).flatten()
        };
        let places = orders.get(&arranged.relation)?.iter().find_map(places)?;
        Some(JoinKeys {
            left: places.iter().map(|&place| keys.left[place]).collect(),
            right: places.iter().map(|&place| keys.right[place]).collect(),
            null_equals_null: places.iter().map(|&place| keys.null_equals_null[place]).collect(),
        })
    }
}

/// True if no row can make the operator's expressions fail: only those that come as changes would be reported.
fn cannot_fail(step: &StreamPlan) -> bool {
    match &step.node {
        StreamNode::Filter { predicate, .. } => is_total(predicate),
        StreamNode::Project { exprs, .. } => exprs.iter().all(is_total),
        _ => false,
    }
}

/// Of columns, constants, comparisons and what joins these.
fn is_total(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let any: &dyn Any = expr.as_ref();
    let is_known = match any.downcast_ref::<BinaryExpr>() {
        Some(binary) => {
            let op = binary.op();
            let compares = matches!(
                op,
                Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
            );
            let is_logic = matches!(op, Operator::And | Operator::Or);
            compares || is_logic || matches!(op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom)
        }
        None => {
            any.is::<Column>()
                || any.is::<Literal>()
                || any.is::<InListExpr>()
                || any.is::<IsNullExpr>()
                || any.is::<IsNotNullExpr>()
                || any.is::<LikeExpr>()
                || any.is::<NotExpr>()
        }
    };
    is_known && expr.children().into_iter().all(is_total)
}
