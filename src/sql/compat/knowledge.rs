//! What is known of the system relations without reading them, used where a query asks in a way that DataFusion cannot
//! plan and the answer cannot matter.
//!
//! - A relation that lists what we do not have (triggers, policies, publications …) is always empty. A subquery over it
//!   gives NULL, `EXISTS` false, `ARRAY()` an empty array; a SELECT that joins it yields no row, so a subquery in its
//!   select list is never asked.
//! - Some columns have one value: no type is a domain or an enum, no column is an identity. `CASE WHEN t.typtype = 'd'`
//!   is a branch that is never taken.
//! - `tableoid` of a system relation is the relation's own OID.

use std::collections::HashMap;

use sqlparser::ast::{
    BinaryOperator, DataType, Expr, FunctionArguments, JoinOperator, Query, Select, SelectItem, SetExpr, TableFactor,
    Value, VisitMut, VisitorMut,
};
use std::ops::ControlFlow;

use super::build::{
    boolean, cast, column_name, folded, folded_parts, function_name, has_subquery, is_not_plain, null, null_text,
    string_literal,
};
use super::subqueries::empty_array;
use crate::catalog::system;

/// The system relations that a SELECT reads, by the name they go by in it.
pub(super) struct Scope {
    relations: HashMap<String, String>,
    /// One that must have a row for the SELECT to have one is always empty.
    yields_nothing: bool,
}

impl Scope {
    pub(super) fn of(select: &Select) -> Scope {
        let mut scope = Scope { relations: HashMap::new(), yields_nothing: false };
        for table in &select.from {
            // A RIGHT or FULL JOIN makes rows without its left side.
            let required = table.joins.iter().all(|join| !keeps_right(&join.join_operator));
            scope.add(&table.relation, required);
            for join in &table.joins {
                let inner = matches!(
                    join.join_operator,
                    JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_)
                );
                scope.add(&join.relation, inner && required);
            }
        }
        scope
    }

    fn add(&mut self, factor: &TableFactor, required: bool) {
        let TableFactor::Table { name, alias, args: None, .. } = factor else { return };
        let Some(parts) = folded_parts(name) else { return };
        let relation = match parts.as_slice() {
            [name] if name.starts_with("pg_") => name,
            [schema, name] if schema == "pg_catalog" => name,
            _ => return,
        };
        self.yields_nothing |= required && system::is_always_empty("pg_catalog", relation);
        let known_as = alias.as_ref().map_or_else(|| relation.clone(), |alias| folded(&alias.name));
        self.relations.insert(known_as, relation.clone());
    }

    /// The system relation that a qualified column belongs to, and the column.
    fn column(&self, expr: &Expr) -> Option<(&str, String)> {
        let Expr::CompoundIdentifier(idents) = expr else { return None };
        let [.., qualifier, column] = idents.as_slice() else { return None };
        let relation = self.relations.get(&folded(qualifier))?;
        Some((relation, folded(column)))
    }
}

fn keeps_right(operator: &JoinOperator) -> bool {
    matches!(operator, JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_))
}

pub(super) fn simplify(select: &mut Select, scope: &Scope) {
    if scope.relations.is_empty() {
        return;
    }
    if scope.yields_nothing && !select.projection.iter().any(aggregates) {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item
                && has_subquery(expr)
            {
                *expr = null_text();
            }
        }
    }
    let mut visitor = Known { scope, depth: 0 };
    for item in &mut select.projection {
        let _ = item.visit(&mut visitor);
    }
    if let Some(selection) = &mut select.selection {
        let _ = selection.visit(&mut visitor);
    }
    for table in &mut select.from {
        for join in &mut table.joins {
            let _ = join.join_operator.visit(&mut visitor);
        }
    }
}

fn aggregates(item: &SelectItem) -> bool {
    match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => is_not_plain(expr),
        _ => false,
    }
}

/// Puts in what is known of one SELECT's columns; subqueries have scopes of their own.
struct Known<'a> {
    scope: &'a Scope,
    depth: usize,
}

impl VisitorMut for Known<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        if let Some((relation, column)) = self.scope.column(expr)
            && column == "tableoid"
            && let Some((.., oid)) =
                system::names().find(|(schema, name, _)| *schema == "pg_catalog" && *name == relation)
        {
            *expr = cast(Expr::Value(Value::Number(oid.to_string(), false).into()), super::build::oid());
        }
        drop_untaken(expr, self.scope);
        ControlFlow::Continue(())
    }
}

/// Leaves out the branches of a CASE that are never taken.
fn drop_untaken(expr: &mut Expr, scope: &Scope) {
    let Expr::Case { operand: None, conditions, else_result, .. } = expr else { return };
    if !conditions.iter().any(|when| never(&when.condition, scope)) {
        return;
    }
    let dropped = conditions.iter().find(|when| never(&when.condition, scope)).map(|when| typed_null(&when.result));
    conditions.retain(|when| !never(&when.condition, scope));
    if conditions.is_empty() {
        let otherwise = else_result.take().map(|e| *e).filter(|e| *e != null());
        *expr = otherwise.or(dropped).unwrap_or_else(null_text);
    }
}

fn never(condition: &Expr, scope: &Scope) -> bool {
    match condition {
        Expr::Nested(inner) => never(inner, scope),
        Expr::BinaryOp { left, op, right } => {
            let (Some((relation, column)), Some(word)) = (scope.column(left), string_literal(right)) else {
                return false;
            };
            match (relation, column.as_str(), op) {
                // Base and pseudo types are all there are.
                ("pg_type", "typtype", BinaryOperator::Eq) => !matches!(word, "b" | "p"),
                ("pg_attribute", "attidentity" | "attgenerated", BinaryOperator::NotEq) => word.is_empty(),
                _ => false,
            }
        }
        _ => false,
    }
}

/// NULL of the type that a branch would have had, as far as its text tells.
fn typed_null(result: &Expr) -> Expr {
    let array_of = |item| DataType::Array(sqlparser::ast::ArrayElemTypeDef::SquareBracket(Box::new(item), None));
    let is_oid = |expr: &Expr| column_name(expr).is_some_and(|name| name == "oid" || name.ends_with("typid"));
    let item = match result {
        Expr::Subquery(query) => only_item(query),
        other => Some(other),
    };
    let data_type = match item {
        Some(Expr::Function(function)) if function_name(&function.name).as_deref() == Some("array_agg") => {
            let argument = match &function.args {
                FunctionArguments::List(list) => super::build::plain_arguments(&list.args).and_then(|mut a| a.pop()),
                _ => None,
            };
            array_of(if argument.as_ref().is_some_and(is_oid) { super::build::oid() } else { DataType::Text })
        }
        Some(Expr::Function(function)) if function_name(&function.name).as_deref() == Some("json_build_object") => {
            DataType::JSON
        }
        Some(expr) if is_oid(expr) => super::build::oid(),
        _ => DataType::Text,
    };
    cast(null(), data_type)
}

fn only_item(query: &Query) -> Option<&Expr> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }] => Some(expr),
        _ => None,
    }
}

/// A subquery over what is always empty is what an empty one is.
pub(super) fn drop_empty_subquery(expr: &mut Expr) {
    match expr {
        Expr::Subquery(query) if is_empty(query) => *expr = typed_null(expr),
        Expr::Exists { subquery, negated } if is_empty(subquery) => *expr = boolean(*negated),
        Expr::Function(function) if function_name(&function.name).as_deref() == Some("array") => {
            if let FunctionArguments::Subquery(query) = &function.args
                && is_empty(query)
            {
                *expr = empty_array();
            }
        }
        _ => {}
    }
}

fn is_empty(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    query.with.is_none() && !select.projection.iter().any(aggregates) && Scope::of(select).yields_nothing
}
