//! Brings the condition of a correlated subquery into the only form that DataFusion pulls up through an aggregate:
//! equalities between an inner and an outer column, and conditions on inner columns alone.
//!
//! - Where `inner = outer` is one of the conditions, the others may say `inner` for `outer`.
//! - A condition on outer columns alone does not depend on the inner row: `(SELECT x … WHERE a AND outer)` is
//!   `CASE WHEN outer THEN (SELECT x … WHERE a) END`.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Query, Select, TableFactor, TableWithJoins, Visit, VisitMut, Visitor, VisitorMut,
};

use super::build::{folded, folded_parts, has_subquery};

/// The names that a SELECT's own relations go by.
fn inner_names(select: &Select) -> HashSet<String> {
    let mut names = HashSet::new();
    select.from.iter().for_each(|from| add_names(from, &mut names));
    names
}

fn add_names(from: &TableWithJoins, names: &mut HashSet<String>) {
    for factor in std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)) {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias } => {
                names.extend(alias.iter().map(|alias| folded(&alias.name)));
                add_names(table_with_joins, names);
            }
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. }
            | TableFactor::Function { alias: Some(alias), .. } => {
                names.insert(folded(&alias.name));
            }
            TableFactor::Table { name, .. } => names.extend(folded_parts(name).and_then(|mut parts| parts.pop())),
            _ => {}
        }
    }
}

/// The qualifier of `relation.column` or `schema.relation.column`.
fn qualifier(expr: &Expr) -> Option<String> {
    match expr {
        Expr::CompoundIdentifier(idents) => idents.iter().rev().nth(1).map(folded),
        _ => None,
    }
}

/// Splits the SELECT's condition; gives back what asks only of outer columns, joined by AND.
pub(super) fn untangle(select: &mut Select) -> Option<Expr> {
    let names = inner_names(select);
    let selection = select.selection.take()?;
    let mut conditions = vec![];
    split(selection, &mut conditions);
    let is_inner = |expr: &Expr| qualifier(expr).map(|q| names.contains(&q));
    let equal: Vec<(usize, Expr, Expr)> = conditions
        .iter()
        .enumerate()
        .filter_map(|(index, condition)| {
            let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = condition else { return None };
            match (is_inner(left)?, is_inner(right)?) {
                (true, false) => Some((index, right.as_ref().clone(), left.as_ref().clone())),
                (false, true) => Some((index, left.as_ref().clone(), right.as_ref().clone())),
                _ => None,
            }
        })
        .collect();
    let (mut kept, mut outer) = (vec![], vec![]);
    for (index, mut condition) in conditions.into_iter().enumerate() {
        let columns = Columns::of(&condition, &names);
        if columns.only_outer() && !has_subquery(&condition) {
            outer.push(condition);
            continue;
        }
        if columns.inner > 0 && columns.outer > 0 && !equal.iter().any(|(at, ..)| *at == index) {
            let _ = VisitMut::visit(&mut condition, &mut Substitute { equal: &equal });
        }
        kept.push(condition);
    }
    select.selection = join(kept);
    join(outer)
}

fn split(expr: Expr, conditions: &mut Vec<Expr>) {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            split(*left, conditions);
            split(*right, conditions);
        }
        Expr::Nested(inner) if matches!(*inner, Expr::BinaryOp { op: BinaryOperator::And, .. }) => {
            split(*inner, conditions);
        }
        other => conditions.push(other),
    }
}

fn join(conditions: Vec<Expr>) -> Option<Expr> {
    conditions.into_iter().reduce(|left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: BinaryOperator::And,
        right: Box::new(right),
    })
}

/// How many columns of each kind a condition names; one without a qualifier could be either.
#[derive(Default)]
struct Columns {
    inner: usize,
    outer: usize,
    unknown: usize,
}

impl Columns {
    fn of(condition: &Expr, names: &HashSet<String>) -> Columns {
        struct Count<'a>(&'a HashSet<String>, Columns);
        impl Visitor for Count<'_> {
            type Break = ();

            fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
                match expr {
                    Expr::CompoundIdentifier(_) => match qualifier(expr) {
                        Some(q) if self.0.contains(&q) => self.1.inner += 1,
                        _ => self.1.outer += 1,
                    },
                    Expr::Identifier(_) => self.1.unknown += 1,
                    _ => {}
                }
                ControlFlow::Continue(())
            }
        }
        let mut count = Count(names, Columns::default());
        let _ = condition.visit(&mut count);
        count.1
    }

    fn only_outer(&self) -> bool {
        self.outer > 0 && self.inner == 0 && self.unknown == 0
    }
}

struct Substitute<'a> {
    equal: &'a [(usize, Expr, Expr)],
}

impl VisitorMut for Substitute<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some((.., inner)) = self.equal.iter().find(|(_, outer, _)| outer == expr) {
            *expr = inner.clone();
        }
        ControlFlow::Continue(())
    }
}
