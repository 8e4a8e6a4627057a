//! What the columns of a set operation are called, its first branch says. DataFusion looks for the others by name: where one has
//! two columns of one name, they get names of their own.

use std::collections::HashSet;

use sqlparser::ast::{Expr, Ident, Query, Select, SelectItem, SetExpr};

/// Looks at a query's own branches; parenthesised ones are reached from here, too.
pub(super) fn name_apart(query: &mut Query) {
    if let SetExpr::SetOperation { left, right, .. } = query.body.as_mut() {
        first_branch(left);
        later_branch(right);
    }
}

fn first_branch(body: &mut SetExpr) {
    if let SetExpr::SetOperation { left, right, .. } = body {
        first_branch(left);
        later_branch(right);
    }
}

fn later_branch(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => name_columns(select),
        SetExpr::SetOperation { left, right, .. } => {
            later_branch(left);
            later_branch(right);
        }
        // What sorts it goes by its names.
        SetExpr::Query(query) if query.order_by.is_none() => later_branch(&mut query.body),
        _ => {}
    }
}

fn name_columns(select: &mut Select) {
    let mut known = HashSet::new();
    for (place, item) in select.projection.iter_mut().enumerate() {
        let name = match item {
            SelectItem::ExprWithAlias { alias, .. } => alias,
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => name,
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => match parts.last_mut() {
                Some(name) => name,
                None => continue,
            },
            _ => continue,
        };
        if known.insert(name.value.clone()) {
            continue;
        }
        let alias = Ident::with_quote('"', format!("hw_column_{place}"));
        match item {
            SelectItem::ExprWithAlias { alias: old, .. } => *old = alias,
            SelectItem::UnnamedExpr(expr) => *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias },
            _ => {}
        }
    }
}
