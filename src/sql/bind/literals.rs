//! A quoted constant beside a time is read as PostgreSQL reads it: `ts >= '2013-01-01 10:00'`, `day = 'Jan 1, 2013'`, in the
//! session's time zone. The planner would take a full ISO timestamp in UTC only.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result as PlanResult, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};

use super::postgres::expression_type;
use crate::sql::convert;
use crate::types::PgType;

/// The comparison, with its constants cast to the type of what they are compared with.
pub(super) fn typed(expr: Expr, schema: &DFSchema) -> PlanResult<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
            match (time_type(&left, schema), time_type(&right, schema)) {
                (Some(target), _) if is_constant(&right) => {
                    let right = Box::new(convert::explicit(*right, target));
                    Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
                }
                (_, Some(target)) if is_constant(&left) => {
                    let left = Box::new(convert::explicit(*left, target));
                    Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right })))
                }
                _ => Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            }
        }
        Expr::InList(InList { expr, list, negated }) => {
            let Some(target) = time_type(&expr, schema).filter(|_| list.iter().any(is_constant)) else {
                return Ok(Transformed::no(Expr::InList(InList { expr, list, negated })));
            };
            let list = list.into_iter().map(|item| cast(item, &target)).collect();
            Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let Some(target) = time_type(&expr, schema).filter(|_| is_constant(&low) || is_constant(&high)) else {
                return Ok(Transformed::no(Expr::Between(Between { expr, negated, low, high })));
            };
            let (low, high) = (Box::new(cast(*low, &target)), Box::new(cast(*high, &target)));
            Ok(Transformed::yes(Expr::Between(Between { expr, negated, low, high })))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn cast(expr: Expr, target: &PgType) -> Expr {
    if is_constant(&expr) { convert::explicit(expr, target.clone()) } else { expr }
}

/// A quoted constant has no type of its own.
fn is_constant(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(_)), None))
}

fn time_type(expr: &Expr, schema: &DFSchema) -> Option<PgType> {
    let known = expression_type(expr, schema).ok()?;
    matches!(known, PgType::Date | PgType::Time | PgType::Timestamp | PgType::Timestamptz).then_some(known)
}
