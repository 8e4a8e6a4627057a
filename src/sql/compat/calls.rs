//! Calls and operators by their full names, and functions that return sets.
//!
//! A set-returning function in the select list becomes `unnest` of the list that it stands for; in FROM it gets the
//! column name that Postgres gives it, and a derived table where its arguments are no literals.

use sqlparser::ast::{
    AccessExpr, Array, ArrayElemTypeDef, BinaryOperator, DataType, Expr, Function, FunctionArguments, Ident,
    ObjectName, ObjectNamePart, Query, Subscript, TableAlias, TableAliasColumnDef, TableFactor, UnaryOperator, Value,
    ValueWithSpan,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::build::{
    call, column_name, folded, folded_parts, function_name, plain_arguments, string_literal, take, text,
};

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
    let listed = match name.as_str() {
        "_pg_expandarray" => "hw_expand_array",
        "generate_subscripts" => "hw_generate_subscripts",
        "pg_partition_ancestors" => "hw_partition_ancestors",
        "generate_series" => "generate_series",
        _ => return None,
    };
    let FunctionArguments::List(list) = &function.args else { return None };
    let arguments = plain_arguments(&list.args)?;
    Some(call("UNNEST", vec![call(listed, arguments)]))
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

/// True for what a table function's argument may be: a value that is known without looking at a row.
fn is_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => !matches!(value.value, Value::Placeholder(_)),
        Expr::TypedString(_) | Expr::Interval(_) => true,
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => is_literal(expr),
        Expr::Cast { expr, .. } | Expr::Nested(expr) => is_literal(expr),
        _ => false,
    }
}

pub(super) fn rewrite_table_factor(factor: &mut TableFactor) {
    match factor {
        TableFactor::Table { name, alias, args: Some(args), with_ordinality, .. } => {
            let Some(function) = function_name(name) else { return };
            let Some(arguments) = plain_arguments(&args.args) else { return };
            if let Some(replacement) = table_function(&function, arguments, alias.clone(), *with_ordinality) {
                *factor = replacement;
                return;
            }
            if name.0.len() > 1 {
                *name = ObjectName::from(vec![Ident::new(function.as_str())]);
            }
            // Others, the window functions among them, have columns of their own.
            if function == "generate_series" {
                name_column(alias, &function);
            }
        }
        TableFactor::UNNEST { alias: Some(alias), array_exprs, .. }
            if array_exprs.len() == 1 && alias.columns.is_empty() =>
        {
            alias.columns = vec![TableAliasColumnDef::from_name(alias.name.value.clone())];
        }
        _ => {}
    }
}

/// A function that returns one column names it after its alias, or after itself.
fn name_column(alias: &mut Option<TableAlias>, function: &str) {
    match alias {
        Some(alias) if alias.columns.is_empty() => {
            alias.columns = vec![TableAliasColumnDef { name: alias.name.clone(), data_type: None }];
        }
        Some(_) => {}
        None if function == "generate_series" => {
            *alias = Some(new_alias(Ident::new(function), vec![Ident::new(function)]))
        }
        None => {}
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
        "generate_series" if !arguments.iter().all(is_literal) => {
            one_column(function, call("generate_series", arguments), alias)
        }
        "generate_subscripts" => one_column(function, call("hw_generate_subscripts", arguments), alias),
        "unnest" if arguments.len() == 1 => {
            let mut alias = alias;
            name_column(&mut alias, function);
            Some(TableFactor::UNNEST {
                alias,
                array_exprs: arguments,
                with_offset: false,
                with_offset_alias: None,
                with_ordinality,
            })
        }
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
        _ => None,
    }
}

/// `(SELECT UNNEST(list)) AS alias(column)`.
fn one_column(function: &str, list: Expr, alias: Option<TableAlias>) -> Option<TableFactor> {
    let mut alias = alias.or_else(|| Some(new_alias(Ident::new(function), vec![])));
    name_column(&mut alias, function);
    let mut subquery = parse_query("SELECT UNNEST(NULL)")?;
    if let sqlparser::ast::SetExpr::Select(select) = subquery.body.as_mut() {
        select.projection = vec![sqlparser::ast::SelectItem::UnnamedExpr(call("UNNEST", vec![list]))];
    }
    Some(TableFactor::Derived { lateral: false, subquery, alias, sample: None })
}

fn derived(sql: &str, alias: Option<TableAlias>, function: &str) -> Option<TableFactor> {
    let alias = alias.or_else(|| Some(new_alias(Ident::new(function), vec![])));
    Some(TableFactor::Derived { lateral: false, subquery: parse_query(sql)?, alias, sample: None })
}

fn parse_query(sql: &str) -> Option<Box<Query>> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).ok()?.parse_query().ok()
}
