//! `x op ANY (array)` as a call of `hw_any_op(x, array)`, and `x op ALL (array)` as its opposite: not `x` opposite `ANY (array)`.
//!
//! This comes late, when the query is planned: before, a parameter in the place of the array is told by ANY
//! (`sql::bind::parameters`).

use std::ops::ControlFlow;

use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, VisitMut, VisitorMut};

use super::build::{call, take};

/// Those over subqueries stay as they are.
pub(in crate::sql) fn spell_out(tree: &mut impl VisitMut) {
    // Nothing breaks it off.
    let _: ControlFlow<()> = tree.visit(&mut Calls);
}

struct Calls;

impl VisitorMut for Calls {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::AnyOp { left, compare_op, right, .. } if !is_subquery(right) => {
                if let Some((function, _)) = functions(compare_op) {
                    *expr = call(function, vec![take(left), take(right)]);
                }
            }
            Expr::AllOp { left, compare_op, right } if !is_subquery(right) => {
                if let Some((_, opposite)) = functions(compare_op) {
                    let any = call(opposite, vec![take(left), take(right)]);
                    *expr = Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(any) }));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn is_subquery(right: &Expr) -> bool {
    match right {
        Expr::Nested(inner) => is_subquery(inner),
        right => matches!(right, Expr::Subquery(_)),
    }
}

/// The functions of a comparison and of its opposite.
fn functions(op: &BinaryOperator) -> Option<(&'static str, &'static str)> {
    Some(match op {
        BinaryOperator::Eq => ("hw_any_eq", "hw_any_ne"),
        BinaryOperator::NotEq => ("hw_any_ne", "hw_any_eq"),
        BinaryOperator::Lt => ("hw_any_lt", "hw_any_ge"),
        BinaryOperator::LtEq => ("hw_any_le", "hw_any_gt"),
        BinaryOperator::Gt => ("hw_any_gt", "hw_any_le"),
        BinaryOperator::GtEq => ("hw_any_ge", "hw_any_lt"),
        _ => return None,
    })
}
