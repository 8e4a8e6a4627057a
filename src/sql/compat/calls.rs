//! Calls and operators by their full names, and functions that return sets.
//!
//! Functions that return sets are rewritten by [`sets`].

use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, Array, ArrayElemTypeDef, BinaryOperator, DataType, Expr, Function, FunctionArguments, Ident,
    ObjectName, ObjectNamePart, Query, SelectItem, SetExpr, Subscript, TableAlias, TableAliasColumnDef, TableFactor,
    Value, ValueWithSpan, visit_expressions,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::build::{
    call, column_name, folded, folded_parts, function_name, plain_arguments, string_literal, take, text,
};
use super::sets;
use crate::catalog::functions::scalar_function;

pub(super) fn rewrite_expr(expr: &mut Expr) {
    match expr {
        Expr::BinaryOp { op, left, right } => {
            if let Some(known) = built_in_operator(op) {
                *op = known;
            }
            boolean_literal(op, left, right);
        }
        Expr::Collate { expr: inner, collation } => {
            let name = folded_parts(collation).and_then(|mut parts| parts.pop());
            if name.is_some_and(|n| matches!(n.as_str(), "default" | "C" | "POSIX" | "c" | "ucs_basic")) {
                *expr = take(inner);
            }
        }
        // Words that Postgres takes for functions without parentheses, and the parser for columns.
        Expr::Identifier(ident) if ident.quote_style.is_none() => {
            let name = folded(ident);
            if matches!(name.as_str(), "current_schema" | "current_role") {
                *expr = call(&name, vec![]);
            }
        }
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
            like_escape(pattern, escape_char);
        }
        Expr::CompoundFieldAccess { root, access_chain } => match field_of(root, access_chain) {
            Some(field) => *expr = field,
            None => zero_based(root, access_chain),
        },
        Expr::Function(function) => {
            super::aggregates::drop_constant_order(function);
            if let Some(replacement) = rewrite_function(function) {
                *expr = replacement;
            }
        }
        _ => {}
    }
}

fn built_in_operator(op: &BinaryOperator) -> Option<BinaryOperator> {
    let BinaryOperator::PGCustomBinaryOperator(parts) = op else { return None };
    let symbol = match parts.as_slice() {
        [symbol] => symbol,
        [schema, symbol] if schema == "pg_catalog" => symbol,
        _ => return None,
    };
    Some(match symbol.as_str() {
        "~" => BinaryOperator::PGRegexMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "~~" => BinaryOperator::PGLikeMatch,
        "~~*" => BinaryOperator::PGILikeMatch,
        "!~~" => BinaryOperator::PGNotLikeMatch,
        "!~~*" => BinaryOperator::PGNotILikeMatch,
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "*" => BinaryOperator::Multiply,
        "/" => BinaryOperator::Divide,
        "||" => BinaryOperator::StringConcat,
        _ => return None,
    })
}

/// `indisprimary = 'f'`: a quoted boolean beside a column of the catalogs that is one.
fn boolean_literal(op: &BinaryOperator, left: &Expr, right: &mut Expr) {
    const COLUMNS: &[&str] = &[
        "indisunique",
        "indisprimary",
        "indisvalid",
        "indisclustered",
        "relhasindex",
        "attnotnull",
        "attisdropped",
        "atthasdef",
        "datistemplate",
        "datallowconn",
        "rolsuper",
        "rolcanlogin",
    ];
    if matches!(op, BinaryOperator::Eq | BinaryOperator::NotEq)
        && column_name(left).is_some_and(|name| COLUMNS.contains(&name.as_str()))
        && let Some(word) = string_literal(right)
    {
        match word {
            "t" | "true" => *right = super::build::boolean(true),
            "f" | "false" => *right = super::build::boolean(false),
            _ => {}
        }
    }
}

/// `LIKE pattern ESCAPE '/'`: the pattern with backslashes for it, which is what DataFusion takes.
fn like_escape(pattern: &mut Expr, escape: &mut Option<ValueWithSpan>) {
    let Some(Value::SingleQuotedString(character)) = escape.as_ref().map(|e| &e.value) else { return };
    if character == "\\" || character.chars().count() > 1 {
        return;
    }
    let character = text(character.as_str());
    *pattern = call("hw_like_pattern", vec![take(pattern), character]);
    *escape = None;
}

/// `(x).field`, for any x.
fn field_of(root: &mut Expr, access_chain: &[AccessExpr]) -> Option<Expr> {
    let mut result = root.clone();
    for access in access_chain {
        let AccessExpr::Dot(Expr::Identifier(field)) = access else { return None };
        result = call("get_field", vec![result, text(folded(field))]);
    }
    Some(result)
}

/// The vectors of `pg_index` count from 0; lists count from 1. JDBC's alias for one of them is known, too.
fn zero_based(root: &Expr, access_chain: &mut [AccessExpr]) {
    let vector = column_name(root).is_some_and(|name| {
        matches!(name.as_str(), "indkey" | "indoption" | "indclass" | "i_indoption" | "proargtypes")
    });
    if vector && let Some(AccessExpr::Subscript(Subscript::Index { index })) = access_chain.first_mut() {
        let zero_based = take(index);
        *index = Expr::BinaryOp {
            left: Box::new(Expr::Nested(Box::new(zero_based))),
            op: BinaryOperator::Plus,
            right: Box::new(Expr::Value(Value::Number("1".into(), false).into())),
        };
    }
}

fn rewrite_function(function: &mut Function) -> Option<Expr> {
    let name = function_name(&function.name)?;
    let qualified = function.name.0.len() > 1;
    let in_information_schema = qualified && folded_parts(&function.name)?.first()? == "information_schema";
    if in_information_schema && name != "_pg_expandarray" {
        return None;
    }
    if qualified && let Some(ObjectNamePart::Identifier(last)) = function.name.0.last() {
        function.name = ObjectName::from(vec![last.clone()]);
    }
    if let Some(aggregate) = super::aggregates::rewrite(function, &name) {
        return Some(aggregate);
    }
    if name == "coalesce" {
        empty_arrays(function);
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    let arguments = plain_arguments(&list.args)?;
    match name.as_str() {
        // A record for each element, whose fields the query takes.
        "_pg_expandarray" => Some(call("UNNEST", vec![call("hw_expand_array", arguments)])),
        "pg_partition_ancestors" => Some(call("UNNEST", vec![call("hw_partition_ancestors", arguments)])),
        _ => sets::in_select(&name, arguments),
    }
}

/// psycopg's `coalesce(fnames, '{}')`: the text of an empty array beside one that it has just aggregated.
fn empty_arrays(function: &mut Function) {
    let FunctionArguments::List(list) = &mut function.args else { return };
    let Some(arguments) = plain_arguments(&list.args) else { return };
    let [array, empty] = arguments.as_slice() else { return };
    let item = match column_name(array).as_deref() {
        Some("fnames") => DataType::Text,
        Some("ftypes") => super::build::oid(),
        _ => return,
    };
    if string_literal(empty) == Some("{}") {
        let none = Expr::Array(Array { elem: vec![], named: true });
        let of_items = DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(item), None));
        function.args = super::build::list(vec![array.clone(), super::build::cast(none, of_items)]);
    }
}

pub(super) fn rewrite_table_factor(factor: &mut TableFactor) {
    let replacement = match factor {
        TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } => {
            let Some(function) = function_name(name) else { return };
            let Some(arguments) = plain_arguments(&args.args) else { return };
            let replacement = table_function(&function, arguments, alias.clone(), *with_ordinality);
            if replacement.is_none() {
                if name.0.len() > 1 {
                    *name = ObjectName::from(vec![Ident::new(function.as_str())]);
                }
                // Others, the window functions among them, have columns of their own.
                if function == "generate_series" {
                    name_column(alias, &function);
                }
            }
            replacement
        }
        TableFactor::Function { name, args, with_ordinality, alias, .. } => {
            let Some(function) = function_name(name) else { return };
            let Some(arguments) = plain_arguments(args) else { return };
            table_function(&function, arguments, alias.clone(), *with_ordinality)
        }
        TableFactor::UNNEST { alias, array_exprs, with_ordinality, with_offset: false, .. } => {
            table_function("unnest", array_exprs.clone(), alias.clone(), *with_ordinality)
        }
        _ => None,
    };
    if let Some(replacement) = replacement {
        *factor = replacement;
    }
}

/// A series that DataFusion makes has one column, named after the alias, or after itself.
fn name_column(alias: &mut Option<TableAlias>, function: &str) {
    match alias {
        Some(alias) if alias.columns.is_empty() => {
            alias.columns = vec![TableAliasColumnDef { name: alias.name.clone(), data_type: None }];
        }
        Some(_) => {}
        None => *alias = Some(new_alias(Ident::new(function), vec![Ident::new(function)])),
    }
}

fn new_alias(name: Ident, columns: Vec<Ident>) -> TableAlias {
    let columns = columns.into_iter().map(|name| TableAliasColumnDef { name, data_type: None }).collect();
    TableAlias { explicit: false, name, columns, at: None }
}

fn table_function(
    function: &str,
    arguments: Vec<Expr>,
    alias: Option<TableAlias>,
    with_ordinality: bool,
) -> Option<TableFactor> {
    match function {
        // There are no partitions.
        "pg_partition_ancestors" => {
            let ordinality = if with_ordinality { ", CAST(0 AS BIGINT) AS ordinality" } else { "" };
            derived(&format!("SELECT CAST(0 AS oid) AS relid{ordinality} WHERE false"), alias, function)
        }
        "pg_get_keywords" => derived(
            "SELECT UNNEST(hw_keywords()) AS word, CAST('U' AS TEXT) AS catcode, true AS barelabel, \
             CAST('unreserved' AS TEXT) AS catdesc, CAST('can be bare label' AS TEXT) AS baredesc",
            alias,
            function,
        ),
        _ if !with_ordinality && scalar_function(function).is_some() => one_row(function, arguments, alias),
        _ => sets::in_from(function, arguments, alias, with_ordinality),
    }
}

/// `FROM string_to_array('a,b', ',') AS s`: one row, with one column that is named as the relation is.
fn one_row(function: &str, arguments: Vec<Expr>, alias: Option<TableAlias>) -> Option<TableFactor> {
    let lateral = visit_expressions(&arguments, |expr| match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let alias = alias.unwrap_or_else(|| new_alias(Ident::new(function), vec![]));
    let mut subquery = parse_query("SELECT 1")?;
    let SetExpr::Select(select) = subquery.body.as_mut() else { return None };
    let (expr, name) = (call(function, arguments), alias.name.clone());
    select.projection = vec![SelectItem::ExprWithAlias { expr, alias: name }];
    Some(TableFactor::Derived { lateral: lateral.is_break(), subquery, alias: Some(alias), sample: None })
}

fn derived(sql: &str, alias: Option<TableAlias>, function: &str) -> Option<TableFactor> {
    let alias = alias.or_else(|| Some(new_alias(Ident::new(function), vec![])));
    Some(TableFactor::Derived { lateral: false, subquery: parse_query(sql)?, alias, sample: None })
}

pub(super) fn parse_query(sql: &str) -> Option<Box<Query>> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).ok()?.parse_query().ok()
}
