//! Subqueries as expressions, and quantified comparisons with the text of an array.

use sqlparser::ast::{
    BinaryOperator, CaseWhen, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, GroupByExpr, LimitClause, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr,
    TableFactor, Value, helpers::attached_token::AttachedToken,
};

use super::build::{
    call, cast, column_name, folded, function_name, is_not_plain, plain_arguments, rewrite_outside_subqueries,
    string_literal, take,
};
use super::casts::array_elements;
use super::correlate::untangle;

pub(super) fn rewrite_expr(expr: &mut Expr) {
    match expr {
        Expr::Subquery(query) => {
            let Some((is_counted, condition)) = make_single(query) else { return };
            if is_counted {
                *expr = call("hw_one", vec![take(expr)]);
            }
            if let Some(condition) = condition {
                let result = take(expr);
                *expr = Expr::Case {
                    case_token: AttachedToken::empty(),
                    end_token: AttachedToken::empty(),
                    operand: None,
                    conditions: vec![CaseWhen { condition, result }],
                    else_result: None,
                };
            }
        }
        Expr::AnyOp { left, compare_op, right, .. } => {
            if let (BinaryOperator::Eq, Some(list)) = (&*compare_op, listed(right)) {
                *expr = in_list(take(left), list, false);
            }
        }
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => {
            if let Some(list) = listed(right) {
                *expr = in_list(take(left), list, true);
            }
        }
        _ => {}
    }
}

/// The elements of an array that is written out.
fn listed(array: &Expr) -> Option<Vec<Expr>> {
    match array {
        Expr::Nested(inner) => listed(inner),
        Expr::Array(array) if !array.elem.is_empty() && !array.elem.iter().any(|e| matches!(e, Expr::Array(_))) => {
            Some(array.elem.clone())
        }
        other => string_literal(other).and_then(array_elements),
    }
}

fn in_list(expr: Expr, list: Vec<Expr>, negated: bool) -> Expr {
    if list.is_empty() {
        return super::build::boolean(negated);
    }
    Expr::InList { expr: Box::new(expr), list, negated }
}

/// The SELECT of a query that is one SELECT and nothing else that makes or drops rows.
fn plain_select(query: &mut Query) -> Option<&mut Select> {
    if query.with.is_some() || query.fetch.is_some() {
        return None;
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    let grouped = match &select.group_by {
        GroupByExpr::Expressions(exprs, modifiers) => !exprs.is_empty() || !modifiers.is_empty(),
        GroupByExpr::All(_) => true,
    };
    let plain = !grouped && select.having.is_none() && select.distinct.is_none() && !select.from.is_empty();
    plain.then_some(select.as_mut())
}

/// `(SELECT x …)` is the one row's x. A correlated one must be aggregated for DataFusion, so it says so: with
/// `ORDER BY … LIMIT 1` it is `first_value`; else `hw_single_value(x)`, which the caller puts into `hw_one`, and which
/// fails with 21000 for two rows, as Postgres does.
///
/// Gives back whether rows are counted, and the condition on outer columns alone under which the subquery is to be
/// asked at all; `None` if the subquery was left as it is.
fn make_single(query: &mut Query) -> Option<(bool, Option<Expr>)> {
    let limit_one = match &query.limit_clause {
        None => false,
        Some(limit) if is_limit_one(limit) => true,
        Some(_) => return None,
    };
    let order = match &query.order_by {
        None => vec![],
        Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) => order.clone(),
        Some(_) => return None,
    };
    let select = plain_select(query)?;
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] = select.projection.as_slice()
    else {
        return None;
    };
    if is_not_plain(item) {
        return None;
    }
    let mut order = order.into_iter().map(|o| resolve_order(o, &select.projection)).collect::<Option<Vec<_>>>()?;
    // A constant orders nothing, and would be taken for a position.
    order.retain(|order| !matches!(order.expr, Expr::Value(_)));
    let item = item.clone();
    let single =
        if limit_one { ordered(call("first_value", vec![item]), order) } else { call("hw_single_value", vec![item]) };
    select.projection = vec![SelectItem::UnnamedExpr(single)];
    let condition = untangle(select);
    query.order_by = None;
    query.limit_clause = None;
    Some((!limit_one, condition))
}

fn is_limit_one(limit: &LimitClause) -> bool {
    matches!(
        limit,
        LimitClause::LimitOffset { limit: Some(Expr::Value(value)), offset: None, limit_by }
            if limit_by.is_empty() && matches!(&value.value, Value::Number(n, _) if n == "1")
    )
}

/// `ORDER BY 1` and `ORDER BY alias` mean an output column; an aggregate's ORDER BY needs its expression.
fn resolve_order(mut order: OrderByExpr, projection: &[SelectItem]) -> Option<OrderByExpr> {
    let output = |index: usize| match projection.get(index)? {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr.clone()),
        _ => None,
    };
    match &order.expr {
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) => order.expr = output(number.parse::<usize>().ok()?.checked_sub(1)?)?,
            _ => return None,
        },
        Expr::Identifier(ident) => {
            let named = projection.iter().position(
                |item| matches!(item, SelectItem::ExprWithAlias { alias, .. } if folded(alias) == folded(ident)),
            );
            if let Some(index) = named {
                order.expr = output(index)?;
            }
        }
        _ => {}
    }
    Some(order)
}

fn ordered(mut aggregate: Expr, order: Vec<OrderByExpr>) -> Expr {
    if let Expr::Function(function) = &mut aggregate
        && let FunctionArguments::List(list) = &mut function.args
        && !order.is_empty()
    {
        list.clauses.push(FunctionArgumentClause::OrderBy(order));
    }
    aggregate
}

/// `ARRAY(SELECT x … ORDER BY y)` → `hw_array_or_empty((SELECT array_agg(x ORDER BY y) …))`. Called before what is
/// inside is visited, so that the subquery is seen as the aggregate it becomes.
pub(super) fn rewrite_array_before(expr: &mut Expr) {
    let Expr::Function(function) = expr else { return };
    if function_name(&function.name).as_deref() != Some("array") {
        return;
    }
    let FunctionArguments::Subquery(query) = &mut function.args else { return };
    if let Some(mapped) = mapped_array(query) {
        *expr = mapped;
        return;
    }
    if query.limit_clause.is_some() {
        return;
    }
    let order = match &query.order_by {
        None => vec![],
        Some(OrderBy { kind: OrderByKind::Expressions(order), .. }) => order.clone(),
        Some(_) => return,
    };
    let Some(select) = plain_select(query) else { return };
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] = select.projection.as_slice()
    else {
        return;
    };
    if is_not_plain(item) {
        return;
    }
    let Some(order) = order.into_iter().map(|o| resolve_order(o, &select.projection)).collect::<Option<Vec<_>>>()
    else {
        return;
    };
    let aggregate = ordered(call("array_agg", vec![item.clone()]), order);
    select.projection = vec![SelectItem::UnnamedExpr(aggregate)];
    query.order_by = None;
    let subquery = Expr::Subquery(query.clone());
    *expr = call("hw_array_or_empty", vec![subquery]);
}

/// `ARRAY(SELECT f(x) FROM unnest(array) x)` for the few f that clients write: it maps an array, and needs no join.
fn mapped_array(query: &mut Query) -> Option<Expr> {
    if query.order_by.is_some() || query.limit_clause.is_some() {
        return None;
    }
    let select = plain_select(query)?;
    let ([table], None) = (select.from.as_slice(), &select.selection) else { return None };
    if !table.joins.is_empty() {
        return None;
    }
    let [SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. }] = select.projection.as_slice()
    else {
        return None;
    };
    let (function, array, alias) = match &table.relation {
        TableFactor::UNNEST { array_exprs, alias, .. } if array_exprs.len() == 1 => {
            ("unnest".to_string(), array_exprs[0].clone(), alias)
        }
        TableFactor::Table { name, args: Some(args), alias, .. } => {
            let mut arguments = plain_arguments(&args.args)?;
            (function_name(name)?, arguments.pop().filter(|_| arguments.is_empty())?, alias)
        }
        _ => return None,
    };
    if function == "pg_options_to_table" {
        let expected = "quote_ident(option_name) || ' ' || quote_literal(option_value)";
        let same = item.to_string().replace("pg_catalog.", "") == expected;
        return same.then(|| call("hw_options_list", vec![array]));
    }
    if function != "unnest" {
        return None;
    }
    let column = alias.as_ref().map(|alias| match alias.columns.as_slice() {
        [column] => folded(&column.name),
        _ => folded(&alias.name),
    })?;
    let is_element = |expr: &Expr| column_name(expr).as_ref() == Some(&column);
    match item {
        Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right }
            if string_literal(left).is_some() && is_element(right) =>
        {
            Some(call("hw_array_prefix", vec![left.as_ref().clone(), array]))
        }
        item if is_element(item) => Some(call("hw_array_or_empty", vec![array])),
        _ => None,
    }
}

/// `EXISTS` in a select list, which DataFusion takes in a condition only: `(SELECT count(*) …) > 0`.
pub(super) fn count_existing(select: &mut Select) {
    for item in &mut select.projection {
        rewrite_outside_subqueries(item, count_rows);
    }
}

fn count_rows(expr: &mut Expr) {
    if let Expr::Exists { subquery, negated } = expr
        && subquery.limit_clause.is_none()
        && let Some(select) = plain_select(subquery)
    {
        let all = FunctionArg::Unnamed(FunctionArgExpr::Wildcard);
        let mut count = call("count", vec![]);
        if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = &mut count {
            list.args.push(all);
        }
        select.projection = vec![SelectItem::UnnamedExpr(count)];
        subquery.order_by = None;
        let zero = Expr::Value(Value::Number("0".into(), false).into());
        *expr = Expr::BinaryOp {
            left: Box::new(Expr::Subquery(subquery.clone())),
            op: if *negated { BinaryOperator::Eq } else { BinaryOperator::Gt },
            right: Box::new(zero),
        };
    }
}

/// An empty `text[]`.
pub(super) fn empty_array() -> Expr {
    let item = Box::new(DataType::Text);
    let array = sqlparser::ast::Array { elem: vec![], named: true };
    cast(Expr::Array(array), DataType::Array(sqlparser::ast::ArrayElemTypeDef::SquareBracket(item, None)))
}
