//! Output columns are named as Postgres names them: a function's call after the function, a cast after what it casts,
//! anything else `?column?`.
//!
//! DataFusion wants the names in one SELECT to be unique and Postgres does not care, so a name that was there before
//! carries a mark that no client types; [`client_name`] takes it off again when the result is described.

use std::collections::HashSet;

use sqlparser::ast::{AccessExpr, DataType, Expr, Ident, Select, SelectItem, SetExpr, TrimWhereField, Value};

use super::build::{folded, folded_parts};

const MARK: char = '\u{1}';

/// A column's name as the client is told it.
pub fn client_name(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

pub(super) fn name_items(select: &mut Select) {
    let mut taken = HashSet::new();
    let mut columns = HashSet::new();
    for item in &mut select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let is_column = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                let name = item_name(expr).unwrap_or_else(|| "?column?".to_string());
                // Columns keep the names they have; the same one twice needs another.
                let unique = if is_column {
                    let first = columns.insert(expr.to_string());
                    taken.insert(name.clone());
                    if first {
                        continue;
                    }
                    unique(&name, &mut taken)
                } else {
                    unique(&name, &mut taken)
                };
                let expr = std::mem::replace(expr, super::build::null());
                *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', unique) };
                unquote(item);
            }
            SelectItem::ExprWithAlias { alias, .. } => {
                let name = folded(alias);
                let unique = unique(&name, &mut taken);
                if unique != name {
                    *alias = Ident::with_quote('"', unique);
                }
            }
            _ => {}
        }
    }
}

/// Plain names are easier to read without quotes.
fn unquote(item: &mut SelectItem) {
    if let SelectItem::ExprWithAlias { alias, .. } = item
        && alias.value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    {
        alias.quote_style = None;
    }
}

fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    if taken.insert(name.to_string()) {
        return name.to_string();
    }
    let mut count = 2;
    loop {
        let marked = format!("{name}{MARK}{count}");
        if taken.insert(marked.clone()) {
            return marked;
        }
        count += 1;
    }
}

/// The name that Postgres gives; `None`: `?column?`.
fn item_name(expr: &Expr) -> Option<String> {
    strong_name(expr).or_else(|| weak_name(expr))
}

/// Names that a cast or a CASE around the expression takes over.
fn strong_name(expr: &Expr) -> Option<String> {
    let fixed = |name: &str| Some(name.to_string());
    match expr {
        Expr::Identifier(ident) => Some(folded(ident)),
        Expr::CompoundIdentifier(idents) => idents.last().map(folded),
        Expr::Function(function) => folded_parts(&function.name)?.pop(),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => strong_name(inner),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                AccessExpr::Dot(field) => strong_name(field),
                AccessExpr::Subscript(_) => None,
            });
            field.or_else(|| strong_name(root))
        }
        Expr::Cast { expr, .. } => strong_name(expr),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::UnnamedExpr(expr) => item_name(expr),
                SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
                _ => None,
            },
            _ => None,
        },
        Expr::Exists { .. } => fixed("exists"),
        Expr::Array(_) => fixed("array"),
        Expr::Substring { .. } => fixed("substring"),
        Expr::Trim { trim_where, .. } => fixed(match trim_where {
            Some(TrimWhereField::Leading) => "ltrim",
            Some(TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        Expr::Extract { .. } => fixed("extract"),
        Expr::Position { .. } => fixed("position"),
        Expr::Overlay { .. } => fixed("overlay"),
        Expr::Ceil { .. } => fixed("ceil"),
        Expr::Floor { .. } => fixed("floor"),
        Expr::AtTimeZone { .. } => fixed("timezone"),
        Expr::Tuple(_) => fixed("row"),
        _ => None,
    }
}

/// Names that give way to a stronger one inside.
fn weak_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => weak_name(inner),
        Expr::Cast { data_type, .. } => Some(type_name(data_type)),
        Expr::TypedString(typed) => Some(type_name(&typed.data_type)),
        Expr::Interval(_) => Some("interval".to_string()),
        Expr::Case { else_result, .. } => {
            else_result.as_deref().and_then(strong_name).or_else(|| Some("case".to_string()))
        }
        Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => Some("bool".to_string()),
        _ => None,
    }
}

/// `pg_type.typname` of a type in a cast.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Array(sqlparser::ast::ArrayElemTypeDef::SquareBracket(item, _)) => type_name(item),
        DataType::Custom(name, _) => {
            folded_parts(name).and_then(|mut parts| parts.pop()).unwrap_or_else(|| "?column?".to_string())
        }
        other => {
            let text = other.to_string().to_lowercase();
            let word = text.split('(').next().unwrap_or_default().trim();
            match word {
                "int" | "integer" => "int4",
                "smallint" => "int2",
                "bigint" => "int8",
                "real" => "float4",
                "double" | "double precision" | "float" => "float8",
                "boolean" => "bool",
                "decimal" | "dec" => "numeric",
                "character varying" => "varchar",
                "char" | "character" => "bpchar",
                "timestamp with time zone" => "timestamptz",
                "timestamp without time zone" => "timestamp",
                "time without time zone" => "time",
                other => other,
            }
            .to_string()
        }
    }
}
