//! `a IS DISTINCT FROM b AND c` binds as `(a IS DISTINCT FROM b) AND c`; the parser takes everything behind FROM.

use sqlparser::ast::{BinaryOperator, Expr};

use super::build::take;

pub(super) fn rewrite_expr(expr: &mut Expr) {
    let (Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right)) = expr else { return };
    if !is_logical(right) {
        return;
    }
    let mut logical = take(right);
    // The operand is the left end of what was taken.
    let mut operand = &mut logical;
    while let Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, .. } = operand {
        operand = left.as_mut();
    }
    let own = take(operand);
    if let Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right) = expr {
        **right = own;
    }
    *operand = take(expr);
    *expr = logical;
}

fn is_logical(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. })
}
