//! The planner calls an expression by its text without casts: `max(a)` and `max(a::text)` would be one column to it. Where
//! a query has two such calls or group keys, its casts are marked ([`DISTINCTIVE`]) with the type that they cast to.

use std::collections::HashMap;
use std::ops::ControlFlow;

use sqlparser::ast::{
    DataType, Distinct, Expr, GroupByExpr, OrderBy, OrderByKind, Query, Select, SetExpr, VisitMut, VisitorMut,
};

use super::build::{call, is_aggregate, rewrite_outside_subqueries, take, text};

/// `hw_cast(x::t, 't')` is `x::t`; binding takes it out again.
pub(in crate::sql) const DISTINCTIVE: &str = "hw_cast";

/// Looks at a query's own SELECTs.
pub(super) fn tell_apart(query: &mut Query) {
    match query.body.as_mut() {
        SetExpr::Select(select) => tell_apart_select(select, query.order_by.as_mut()),
        body => tell_apart_body(body),
    }
}

/// Parenthesised queries are visited by themselves.
fn tell_apart_body(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => tell_apart_select(select, None),
        SetExpr::SetOperation { left, right, .. } => {
            tell_apart_body(left);
            tell_apart_body(right);
        }
        _ => {}
    }
}

fn tell_apart_select(select: &mut Select, mut order_by: Option<&mut OrderBy>) {
    let mut known: HashMap<String, String> = HashMap::new();
    let mut are_confused = false;
    let mut note = |expr: &Expr| {
        let (mut plain, mut full) = (expr.clone(), expr.clone());
        strip(&mut full, false);
        strip(&mut plain, true);
        let full = full.to_string();
        are_confused |= known.insert(plain.to_string(), full.clone()).is_some_and(|other| other != full);
    };
    if let GroupByExpr::Expressions(exprs, _) = &select.group_by {
        exprs.iter().for_each(&mut note);
    }
    each_part(select, order_by.as_deref_mut(), &mut |expr| {
        if let Expr::Function(function) = expr
            && (function.over.is_some() || is_aggregate(function))
        {
            note(expr);
        }
    });
    if are_confused {
        each_part(select, order_by, &mut mark);
    }
}

fn mark(expr: &mut Expr) {
    let Expr::Cast { data_type, .. } = expr else { return };
    // Some places take an interval that is written out, and nothing else.
    if matches!(data_type, DataType::Interval { .. }) {
        return;
    }
    let name = text(data_type.to_string());
    *expr = call(DISTINCTIVE, vec![take(expr), name]);
}

/// Every expression of a SELECT that is computed from its rows, but for those of subqueries.
fn each_part(select: &mut Select, order_by: Option<&mut OrderBy>, rewrite: &mut dyn FnMut(&mut Expr)) {
    rewrite_outside_subqueries(&mut select.projection, &mut *rewrite);
    if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
        rewrite_outside_subqueries(exprs, &mut *rewrite);
    }
    rewrite_outside_subqueries(&mut select.having, &mut *rewrite);
    rewrite_outside_subqueries(&mut select.qualify, &mut *rewrite);
    if let Some(Distinct::On(exprs)) = &mut select.distinct {
        rewrite_outside_subqueries(exprs, &mut *rewrite);
    }
    if let Some(OrderBy { kind: OrderByKind::Expressions(sorts), .. }) = order_by {
        sorts.iter_mut().for_each(|sort| rewrite_outside_subqueries(&mut sort.expr, &mut *rewrite));
    }
}

/// Takes parentheses off, and casts if `casts`.
fn strip(expr: &mut Expr, casts: bool) {
    struct Strip {
        casts: bool,
    }
    impl VisitorMut for Strip {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            match expr {
                Expr::Nested(inner) => *expr = take(inner),
                Expr::Cast { expr: inner, .. } if self.casts => *expr = take(inner),
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let _ = expr.visit(&mut Strip { casts });
}
