//! `a ASOF [LEFT] JOIN b MATCH_CONDITION (a.t >= b.t) ON a.k = b.k`: the one row of b that is nearest in time, as
//! `[LEFT] JOIN LATERAL (SELECT * FROM b WHERE a.k = b.k AND a.t >= b.t ORDER BY b.t DESC LIMIT 1)`.
//!
//! Where several rows of b have the same time, which of them it is follows from their other columns.

use sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, LimitClause, OrderBy, OrderByExpr, OrderByKind,
    OrderByOptions, Query, Select, SetExpr, TableAlias, TableFactor, TableWithJoins, Value,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::build::{boolean, folded, take};
use crate::sql::parser::ASOF_LEFT;

pub(super) fn rewrite(select: &mut Select) {
    for table in &mut select.from {
        table.joins.iter_mut().for_each(rewrite_join);
    }
}

/// Leaves a join that it cannot read; the planner then refuses it.
fn rewrite_join(join: &mut Join) {
    let JoinOperator::AsOf { match_condition, constraint } = &mut join.join_operator else { return };
    let Some(relation) = name_of(&join.relation) else { return };
    let on = match constraint {
        JoinConstraint::On(on) => Some(on.clone()),
        JoinConstraint::None => None,
        _ => return,
    };
    let mut condition = match_condition.clone();
    let is_left = take_mark(&mut condition);
    let Some((time, ascending)) = nearest(&condition, &relation) else { return };
    let Some(mut query) = empty_query() else { return };
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    select.from = vec![TableWithJoins { relation: join.relation.clone(), joins: vec![] }];
    select.selection = Some(match on {
        None => condition,
        Some(on) => Expr::BinaryOp {
            left: Box::new(Expr::Nested(Box::new(on))),
            op: BinaryOperator::And,
            right: Box::new(condition),
        },
    });
    let options = OrderByOptions { asc: Some(ascending), nulls_first: None };
    let order = OrderByExpr { expr: time, options, with_fill: None };
    query.order_by = Some(OrderBy { kind: OrderByKind::Expressions(vec![order]), interpolate: None });
    let one = Expr::Value(Value::Number("1".into(), false).into());
    query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(one), offset: None, limit_by: vec![] });
    let always = JoinConstraint::On(boolean(true));
    join.join_operator = if is_left { JoinOperator::LeftOuter(always) } else { JoinOperator::Inner(always) };
    let alias = TableAlias { explicit: true, name: relation, columns: vec![], at: None };
    join.relation = TableFactor::Derived { lateral: true, subquery: query, alias: Some(alias), sample: None };
}

fn name_of(factor: &TableFactor) -> Option<Ident> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(alias.name.clone())
        }
        TableFactor::Table { name, .. } => name.0.last()?.as_ident().cloned(),
        _ => None,
    }
}

/// `LEFT` was put into the condition when the text was read: the grammar has no place for it.
fn take_mark(condition: &mut Expr) -> bool {
    let Expr::BinaryOp { left, op: BinaryOperator::And, right } = condition else { return false };
    if !matches!(left.as_ref(), Expr::Identifier(ident) if ident.value == ASOF_LEFT) {
        return false;
    }
    *condition = take(right);
    true
}

/// The time of the joined relation, and whether the nearest row is the one with the least.
fn nearest(condition: &Expr, relation: &Ident) -> Option<(Expr, bool)> {
    let Expr::BinaryOp { left, op, right } = condition else { return None };
    let is_own = |expr: &Expr| match expr {
        Expr::CompoundIdentifier(parts) => {
            parts.iter().rev().nth(1).is_some_and(|qualifier| folded(qualifier) == folded(relation))
        }
        _ => false,
    };
    // `outer >= own`: the greatest of the own ones that are no greater.
    match (op, is_own(left), is_own(right)) {
        (BinaryOperator::GtEq | BinaryOperator::Gt, false, true) => Some((right.as_ref().clone(), false)),
        (BinaryOperator::LtEq | BinaryOperator::Lt, false, true) => Some((right.as_ref().clone(), true)),
        (BinaryOperator::GtEq | BinaryOperator::Gt, true, false) => Some((left.as_ref().clone(), true)),
        (BinaryOperator::LtEq | BinaryOperator::Lt, true, false) => Some((left.as_ref().clone(), false)),
        _ => None,
    }
}

fn empty_query() -> Option<Box<Query>> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql("SELECT * FROM none").ok()?;
    parser.parse_query().ok()
}
