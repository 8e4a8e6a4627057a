//! Column names as Postgres gives them: `SELECT count(*), a + 1, x::date` is called `count`, `?column?`, `x`.
//!
//! The planner wants the columns of a select list to differ in name, where Postgres does not mind; a repeated name gets
//! an invisible suffix, taken off again at the top of the plan ([`public`]). Names are given once, to what the client
//! wrote, before anything is respelled: a respelled expression would be called otherwise.

use std::collections::HashSet;

use sqlparser::ast::{self, Expr, Ident, Query, Select, SelectItem, SetExpr};

use super::parser::fold;
use crate::types::PgType;

/// Begins the suffix of a repeated name. No client can type it.
const SUFFIX: char = '\u{1}';

/// The name that a client sees.
pub(super) fn public(name: &str) -> &str {
    name.split(SUFFIX).next().unwrap_or(name)
}

/// What FROM says of a relation by its name alone.
pub(super) fn plain_table(name: ast::ObjectName) -> ast::TableFactor {
    ast::TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}

/// A name that no client can have given to a column.
pub(super) fn hidden(name: &str) -> String {
    format!("{name}{SUFFIX}0")
}

/// `SELECT a + 1 … ORDER BY a + 1` sorts by that column, which is about to get a name of its own: say which by number.
pub(super) fn order_by_position(query: &mut Query) {
    let SetExpr::Select(select) = query.body.as_ref() else { return };
    let Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(sorts), .. }) = &mut query.order_by else { return };
    let expr = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr.clone()),
        _ => None,
    };
    let Some(listed) = select.projection.iter().map(expr).collect::<Option<Vec<Expr>>>() else { return };
    for sort in sorts {
        if plain_column(&sort.expr).is_some() || matches!(sort.expr, Expr::Value(_)) {
            continue;
        }
        if let Some(position) = listed.iter().position(|expr| *expr == sort.expr) {
            sort.expr = Expr::value(ast::Value::Number((position + 1).to_string(), false));
        }
    }
}

/// Names the columns of one select list.
pub(super) fn name_select(select: &mut Select) {
    let mut taken: Vec<(String, Option<String>)> = vec![];
    let mut given = HashSet::new();
    let wildcards: Vec<Wildcard> = select.projection.iter().filter_map(wildcard).collect();
    for item in &mut select.projection {
        let (name, qualified) = match item {
            SelectItem::UnnamedExpr(expr) => (column_name(expr), plain_column(expr)),
            SelectItem::ExprWithAlias { alias, .. } => (fold(alias), None),
            _ => continue,
        };
        // The same column of different relations does not clash; a bare column may be one of a wildcard's.
        let clashes = taken.iter().any(|(other, other_qualified)| {
            *other == name && (qualified.is_none() || other_qualified.is_none() || qualified == *other_qualified)
        }) || (qualified.is_some() && wildcards.iter().any(|wildcard| may_hold(wildcard, item)));
        let is_bare = qualified.is_some();
        let unique = if clashes { unused(&name, &given) } else { name.clone() };
        given.insert(unique.clone());
        taken.push((name, qualified));
        if is_bare && !clashes {
            continue;
        }
        let plain = unique.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let alias = if plain { Ident::new(unique) } else { Ident::with_quote('"', unique) };
        match item {
            SelectItem::UnnamedExpr(expr) => {
                let expr = std::mem::replace(expr, Expr::value(ast::Value::Null));
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
            SelectItem::ExprWithAlias { alias: old, .. } if clashes => *old = alias,
            _ => {}
        }
    }
}

/// The relation whose columns it stands for; `None`: those of all.
type Wildcard = Option<String>;

fn wildcard(item: &SelectItem) -> Option<Wildcard> {
    match item {
        SelectItem::Wildcard(_) => Some(None),
        SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            Some(name.0.last().and_then(|part| part.as_ident()).map(fold))
        }
        // Of a composite value: its fields have no relation.
        SelectItem::QualifiedWildcard(..) => Some(None),
        _ => None,
    }
}

/// Whether the item, a column, may be one of the wildcard's.
fn may_hold(wildcard: &Wildcard, item: &SelectItem) -> bool {
    match (wildcard, item) {
        (Some(relation), SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts))) if parts.len() > 1 => {
            *relation == fold(&parts[parts.len() - 2])
        }
        _ => true,
    }
}

/// The name with the first suffix that no column has yet.
fn unused(name: &str, given: &HashSet<String>) -> String {
    let suffixed = (2..).map(|count: usize| format!("{name}{SUFFIX}{count}"));
    suffixed.into_iter().find(|suffixed| !given.contains(suffixed)).unwrap_or_else(|| name.to_string())
}

/// The column's full spelling, if the expression is nothing but a column.
fn plain_column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(fold(ident)),
        Expr::CompoundIdentifier(idents) => Some(idents.iter().map(fold).collect::<Vec<_>>().join(".")),
        _ => None,
    }
}

/// Postgres' `FigureColname`.
fn column_name(expr: &Expr) -> String {
    figure(expr).map_or_else(|| "?column?".to_string(), |(name, _)| name)
}

/// A name, and whether it is a strong one (a column or function, which wins over a type's name).
fn figure(expr: &Expr) -> Option<(String, bool)> {
    let strong = |name: &str| Some((name.to_string(), true));
    let weak = |name: &str| Some((name.to_string(), false));
    match expr {
        Expr::Identifier(ident) => Some((fold(ident), true)),
        Expr::CompoundIdentifier(idents) => idents.last().map(|ident| (fold(ident), true)),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                ast::AccessExpr::Dot(Expr::Identifier(ident)) => Some((fold(ident), true)),
                _ => None,
            });
            field.or_else(|| figure(root))
        }
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => figure(inner),
        Expr::Function(call) => call.name.0.last().and_then(|part| part.as_ident()).map(|ident| (fold(ident), true)),
        Expr::Cast { expr, data_type, .. } => match figure(expr) {
            Some((name, true)) => Some((name, true)),
            _ => Some((type_name(data_type), false)),
        },
        Expr::TypedString(typed) => Some((type_name(&typed.data_type), false)),
        Expr::Interval(_) => weak("interval"),
        Expr::Value(value) => match value.value {
            ast::Value::Boolean(_) => weak("bool"),
            _ => None,
        },
        Expr::Case { else_result, .. } => match else_result.as_deref().and_then(figure) {
            Some((name, true)) => Some((name, true)),
            _ => weak("case"),
        },
        Expr::Exists { .. } => strong("exists"),
        Expr::Subquery(query) => subquery_name(&query.body),
        Expr::Array(_) => strong("array"),
        Expr::Tuple(_) => strong("row"),
        Expr::Extract { .. } => strong("extract"),
        Expr::Position { .. } => strong("position"),
        Expr::Substring { .. } => strong("substring"),
        Expr::Overlay { .. } => strong("overlay"),
        Expr::Ceil { .. } => strong("ceil"),
        Expr::Floor { .. } => strong("floor"),
        Expr::AtTimeZone { .. } => strong("timezone"),
        Expr::Trim { trim_where, .. } => strong(match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        _ => None,
    }
}

fn subquery_name(body: &SetExpr) -> Option<(String, bool)> {
    match body {
        SetExpr::Select(select) => match select.projection.first()? {
            SelectItem::UnnamedExpr(expr) => figure(expr),
            SelectItem::ExprWithAlias { alias, .. } => Some((public(&fold(alias)).to_string(), true)),
            _ => None,
        },
        SetExpr::Query(query) => subquery_name(&query.body),
        SetExpr::SetOperation { left, .. } => subquery_name(left),
        _ => None,
    }
}

/// As the catalog calls the type: `SELECT '1'::int` is a column `int4`.
fn type_name(data_type: &ast::DataType) -> String {
    match (super::types::pg_type(data_type), data_type) {
        // A type we do not have is called by its last word.
        (Err(_), ast::DataType::Custom(name, _)) => {
            name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default()
        }
        (Err(_), other) => other.to_string().to_ascii_lowercase(),
        (Ok(pg_type), _) => catalog_name(&pg_type),
    }
}

fn catalog_name(pg_type: &PgType) -> String {
    match pg_type {
        PgType::Bool => "bool".into(),
        PgType::Int2 => "int2".into(),
        PgType::Int4 => "int4".into(),
        PgType::Int8 => "int8".into(),
        PgType::Float4 => "float4".into(),
        PgType::Float8 => "float8".into(),
        PgType::Numeric(_) => "numeric".into(),
        PgType::Varchar(_) => "varchar".into(),
        PgType::Bpchar(_) => "bpchar".into(),
        PgType::Char => "char".into(),
        PgType::Time => "time".into(),
        PgType::Timestamp => "timestamp".into(),
        PgType::Timestamptz => "timestamptz".into(),
        PgType::Array(item) => catalog_name(item),
        other => other.name(),
    }
}
