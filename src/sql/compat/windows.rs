//! `OVER w` and `OVER (w ORDER BY …)` as what `WINDOW w AS (…)` says. The planner knows the first in select lists only, and
//! passes over the name in the second.

use sqlparser::ast::{
    Expr, Function, Ident, NamedWindowDefinition, NamedWindowExpr, Query, Select, SetExpr, VisitMut, WindowSpec,
    WindowType,
};

use super::build::{folded, rewrite_outside_subqueries};
use crate::error::{Error, Result, SqlState};

/// What a name in WINDOW stands for.
type Windows = Vec<(String, WindowSpec)>;

/// Spells out the windows of a query's own SELECT, where it sorts, too. 42704 for a name that there is not, 42P20 for what
/// a window may not add to another.
pub(in crate::sql) fn spell_out(query: &mut Query) -> Result<()> {
    if let SetExpr::Select(select) = query.body.as_mut() {
        let windows = spell_out_select(select)?;
        return over(&mut query.order_by, &windows);
    }
    spell_out_body(&mut query.body)
}

/// Parenthesised queries are visited by themselves.
fn spell_out_body(body: &mut SetExpr) -> Result<()> {
    match body {
        SetExpr::Select(select) => spell_out_select(select).map(drop),
        SetExpr::SetOperation { left, right, .. } => {
            spell_out_body(left)?;
            spell_out_body(right)
        }
        _ => Ok(()),
    }
}

fn spell_out_select(select: &mut Select) -> Result<Windows> {
    let mut windows: Windows = vec![];
    for NamedWindowDefinition(name, definition) in std::mem::take(&mut select.named_window) {
        let name = folded(&name);
        if windows.iter().any(|(other, _)| *other == name) {
            return Err(Error::new(SqlState("42P20"), format!("window \"{name}\" is already defined")));
        }
        let window = match definition {
            NamedWindowExpr::NamedWindow(other) => find(&other, &windows)?.clone(),
            NamedWindowExpr::WindowSpec(window) => completed(window, &windows)?,
        };
        windows.push((name, window));
    }
    over(&mut select.projection, &windows)?;
    over(&mut select.having, &windows)?;
    over(&mut select.qualify, &windows)?;
    if let Some(distinct) = &mut select.distinct {
        over(distinct, &windows)?;
    }
    Ok(windows)
}

fn find<'a>(name: &Ident, windows: &'a Windows) -> Result<&'a WindowSpec> {
    let name = folded(name);
    let found = windows.iter().find(|(other, _)| *other == name).map(|(_, window)| window);
    found.ok_or_else(|| Error::new(SqlState::UNDEFINED_OBJECT, format!("window \"{name}\" does not exist")))
}

/// A definition with what it takes over from another.
fn completed(mut window: WindowSpec, windows: &Windows) -> Result<WindowSpec> {
    let Some(name) = window.window_name.take() else { return Ok(window) };
    let other = find(&name, windows)?;
    let refuse = |what: String| Err(Error::new(SqlState("42P20"), what));
    let shown = folded(&name);
    // What a frame leaves out stands among the columns.
    let (marks, columns): (Vec<Expr>, Vec<Expr>) = window.partition_by.into_iter().partition(is_mark);
    if !columns.is_empty() {
        return refuse(format!("cannot override PARTITION BY clause of window \"{shown}\""));
    }
    if !window.order_by.is_empty() && !other.order_by.is_empty() {
        return refuse(format!("cannot override ORDER BY clause of window \"{shown}\""));
    }
    if other.window_frame.is_some() {
        return refuse(format!("cannot copy window \"{shown}\" because it has a frame clause"));
    }
    window.partition_by = marks.into_iter().chain(other.partition_by.iter().cloned()).collect();
    if window.order_by.is_empty() {
        window.order_by = other.order_by.clone();
    }
    Ok(window)
}

fn is_mark(expr: &Expr) -> bool {
    let Expr::Function(function) = expr else { return false };
    super::build::function_name(&function.name).is_some_and(|name| name == crate::sql::parser::EXCLUDE)
}

/// The windows of all calls in `node`, those of its subqueries left out.
fn over<T: VisitMut>(node: &mut T, windows: &Windows) -> Result<()> {
    let mut error = None;
    rewrite_outside_subqueries(node, |expr| {
        let Expr::Function(Function { over: Some(spelled), .. }) = expr else { return };
        let window = match spelled.clone() {
            WindowType::NamedWindow(name) => find(&name, windows).cloned(),
            WindowType::WindowSpec(window) => completed(window, windows),
        };
        match window {
            Ok(window) => *spelled = WindowType::WindowSpec(window),
            Err(wrong) => error = error.take().or(Some(wrong)),
        }
    });
    error.map_or(Ok(()), Err)
}
