//! Functions that return sets, wherever they stand, as `unnest` of a list of records.
//!
//! ```text
//! SELECT f(x)                            → get_field(UNNEST(list(x)), 'value')
//! FROM t, f(t.x) WITH ORDINALITY AS u    → FROM t, LATERAL (SELECT get_field(hw_row, 'value') AS u, …
//!                                                           FROM (SELECT UNNEST(hw_ordinality(list(t.x))) AS hw_row) hw_set) AS u
//! ```
//! Each function has a scalar one that gives the list ([`crate::catalog::functions`]); a record keeps what is known of its
//! fields' types (jsonb, uuid), which a bare element would lose. Binding takes the lateral subquery apart again
//! (`bind::lateral`), so that no join is left.

use std::collections::HashSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Array, DataType, Expr, FunctionArg, Ident, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor,
    UnaryOperator, Value, VisitMut, VisitorMut,
};

use super::build::{call, cast, folded, function_name, plain_arguments, text};
use super::calls::parse_query;

struct SetFunction {
    name: &'static str,
    /// The scalar function that gives the list.
    list: &'static str,
    columns: Columns,
}

enum Columns {
    /// One column, named as the relation is.
    Alias,
    /// One column that is called `value`; the relation's name means it too.
    Value,
    /// `key` and `value`.
    Pair,
}

const fn set(name: &'static str, list: &'static str, columns: Columns) -> SetFunction {
    SetFunction { name, list, columns }
}

const SETS: &[SetFunction] = &[
    set("unnest", "hw_elements", Columns::Alias),
    set("generate_series", "hw_series", Columns::Alias),
    set("generate_subscripts", "hw_elements", Columns::Alias),
    set("json_array_elements", "hw_json_elements", Columns::Value),
    set("jsonb_array_elements", "hw_jsonb_elements", Columns::Value),
    set("json_array_elements_text", "hw_json_elements_text", Columns::Value),
    set("jsonb_array_elements_text", "hw_jsonb_elements_text", Columns::Value),
    set("json_each", "hw_json_each", Columns::Pair),
    set("jsonb_each", "hw_jsonb_each", Columns::Pair),
    set("json_each_text", "hw_json_each_text", Columns::Pair),
    set("jsonb_each_text", "hw_jsonb_each_text", Columns::Pair),
    set("json_object_keys", "hw_json_object_keys", Columns::Alias),
    set("jsonb_object_keys", "hw_jsonb_object_keys", Columns::Alias),
    set("jsonb_path_query", "hw_jsonb_path_query", Columns::Alias),
    set("regexp_matches", "hw_regexp_matches", Columns::Alias),
    set("regexp_split_to_table", "hw_regexp_split", Columns::Alias),
    set("string_to_table", "hw_string_split", Columns::Alias),
];

fn find(name: &str) -> Option<&'static SetFunction> {
    SETS.iter().find(|function| function.name == name)
}

/// True if a call of it yields a set.
pub(super) fn is_set_function(name: &str) -> bool {
    find(name).is_some()
}

/// A call in the select list.
pub(super) fn in_select(name: &str, arguments: Vec<Expr>) -> Option<Expr> {
    let function = find(name)?;
    let rows = call("UNNEST", vec![list_of(function, arguments)]);
    Some(match function.columns {
        // Its type is a record, and so it is shown.
        Columns::Pair => rows,
        _ => call("get_field", vec![rows, text("value")]),
    })
}

/// A call in FROM.
pub(super) fn in_from(
    name: &str,
    arguments: Vec<Expr>,
    alias: Option<TableAlias>,
    with_ordinality: bool,
) -> Option<TableFactor> {
    if let Some(list) = record_list(name, &arguments) {
        return typed_records(name, list, alias?, with_ordinality);
    }
    let function = find(name)?;
    if name == "generate_series" && !with_ordinality && is_long_series(&arguments) {
        return None;
    }
    let alias = alias.unwrap_or_else(|| table_alias(Ident::new(name)));
    let default_name = match function.columns {
        Columns::Value => Ident::new("value"),
        _ => alias.name.clone(),
    };
    // `unnest(a, b)` has a column for each array.
    let fields: Vec<(String, Ident)> = match function.columns {
        Columns::Pair => vec![("key".into(), Ident::new("key")), ("value".into(), Ident::new("value"))],
        _ if name == "unnest" => (1..=arguments.len())
            .map(|number| match number {
                1 => ("value".to_string(), default_name.clone()),
                _ => (format!("value{number}"), default_name.clone()),
            })
            .collect(),
        _ => vec![("value".into(), default_name)],
    };
    let mut list = list_of(function, arguments);
    let mut outputs: Vec<(Expr, Ident)> =
        fields.into_iter().map(|(field, name)| (field_of_row(&field), name)).collect();
    if with_ordinality {
        list = call("hw_ordinality", vec![list]);
        outputs.push((field_of_row("ordinality"), Ident::new("ordinality")));
    }
    for ((_, name), given) in outputs.iter_mut().zip(&alias.columns) {
        *name = given.name.clone();
    }
    derived(list, outputs, alias.name)
}

/// `ARRAY[a, b]` as a call: the planner looks for an array's columns in the row alone, and not in the row beside it.
fn call_array(argument: &mut Expr) {
    match argument {
        Expr::Nested(inner) => call_array(inner),
        Expr::Array(array) if !array.elem.is_empty() => {
            array.elem.iter_mut().for_each(call_array);
            *argument = call("make_array", std::mem::take(&mut array.elem));
        }
        _ => {}
    }
}

fn list_of(function: &SetFunction, mut arguments: Vec<Expr>) -> Expr {
    arguments.iter_mut().for_each(call_array);
    match function.name {
        "generate_subscripts" => call(function.list, vec![call("hw_generate_subscripts", arguments)]),
        _ => call(function.list, arguments),
    }
}

/// The list of records behind `jsonb_to_recordset(j)` and `jsonb_to_record(j)`.
fn record_list(name: &str, arguments: &[Expr]) -> Option<Expr> {
    let [json] = arguments else { return None };
    Some(match name {
        "json_to_recordset" => call("hw_json_records", vec![json.clone()]),
        "jsonb_to_recordset" => call("hw_jsonb_records", vec![json.clone()]),
        "json_to_record" | "jsonb_to_record" => {
            call("hw_elements", vec![Expr::Array(Array { elem: vec![json.clone()], named: true })])
        }
        _ => return None,
    })
}

/// `AS x(a int, b text)`: each column is the member of its name, cast from its text.
fn typed_records(name: &str, mut list: Expr, alias: TableAlias, with_ordinality: bool) -> Option<TableFactor> {
    let value = || field_of_row("value");
    let is_jsonb = name.starts_with("jsonb");
    let mut outputs = vec![];
    for column in &alias.columns {
        let Some(data_type) = &column.data_type else {
            outputs.push((field_of_row("ordinality"), column.name.clone()));
            continue;
        };
        let key = text(folded(&column.name));
        let member = match data_type {
            DataType::Array(_) => return None,
            DataType::JSON | DataType::JSONB if is_jsonb => call("hw_jsonb_get", vec![value(), key]),
            DataType::JSON | DataType::JSONB => call("hw_json_get", vec![value(), key]),
            _ => call("hw_json_get_text", vec![value(), key]),
        };
        outputs.push((cast(member, data_type.clone()), column.name.clone()));
    }
    if with_ordinality {
        list = call("hw_ordinality", vec![list]);
        if alias.columns.iter().all(|column| column.data_type.is_some()) {
            outputs.push((field_of_row("ordinality"), Ident::new("ordinality")));
        }
    }
    derived(list, outputs, alias.name)
}

fn field_of_row(field: &str) -> Expr {
    call("get_field", vec![Expr::Identifier(Ident::new("hw_row")), text(field)])
}

fn table_alias(name: Ident) -> TableAlias {
    TableAlias { explicit: false, name, columns: vec![], at: None }
}

fn derived(list: Expr, outputs: Vec<(Expr, Ident)>, name: Ident) -> Option<TableFactor> {
    let mut subquery = parse_query("SELECT 1 FROM (SELECT 1) AS hw_set")?;
    let select = select_of(&mut subquery)?;
    // Two columns of one name are told apart as in any select list.
    let mut taken = HashSet::new();
    select.projection = outputs
        .into_iter()
        .map(|(expr, alias)| {
            let name = folded(&alias);
            let alias = match taken.insert(name.clone()) {
                true => alias,
                false => Ident::with_quote('"', format!("{name}\u{1}{}", taken.len() + 1)),
            };
            SelectItem::ExprWithAlias { expr, alias }
        })
        .collect();
    let TableFactor::Derived { subquery: rows, .. } = &mut select.from.first_mut()?.relation else { return None };
    let row = SelectItem::ExprWithAlias { expr: call("UNNEST", vec![list]), alias: Ident::new("hw_row") };
    select_of(rows)?.projection = vec![row];
    Some(TableFactor::Derived { lateral: true, subquery, alias: Some(table_alias(name)), sample: None })
}

fn select_of(query: &mut Query) -> Option<&mut Select> {
    match query.body.as_mut() {
        SetExpr::Select(select) => Some(select),
        _ => None,
    }
}

/// A series between two numbers that is better made as it is read than kept as a list.
fn is_long_series(arguments: &[Expr]) -> bool {
    const LENGTH_MAX: i64 = 100_000;
    let number = |expr: &Expr| match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse::<i64>().ok(),
            _ => None,
        },
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            Expr::Value(value) => match &value.value {
                Value::Number(digits, _) => digits.parse::<i64>().ok().map(|number| -number),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    match arguments {
        [start, stop] => match (number(start), number(stop)) {
            (Some(start), Some(stop)) => stop.saturating_sub(start) > LENGTH_MAX,
            _ => false,
        },
        _ => false,
    }
}

/// `FROM jsonb_array_elements(j) AS x`: `x` alone means `x.value`. In FROM itself, only what stands further left is seen.
pub(super) fn name_values(select: &mut Select) {
    let mut qualify = Qualify::default();
    let _ = VisitMut::visit(&mut select.from, &mut qualify);
    if qualify.names.is_empty() {
        return;
    }
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr @ Expr::Identifier(_)) = item
            && let Expr::Identifier(ident) = expr
            && qualify.names.contains(&folded(ident))
        {
            *item = SelectItem::ExprWithAlias { alias: ident.clone(), expr: expr.clone() };
        }
    }
    let from = std::mem::take(&mut select.from);
    let _ = VisitMut::visit(select, &mut qualify);
    select.from = from;
}

#[derive(Default)]
struct Qualify {
    names: HashSet<String>,
    /// Of subqueries, which have relations of their own.
    depth: usize,
}

impl VisitorMut for Qualify {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if self.depth == 0 {
            self.names.extend(value_alias(factor));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(ident) = expr
            && self.names.contains(&folded(ident))
        {
            *expr = Expr::CompoundIdentifier(vec![ident.clone(), Ident::new("value")]);
        }
        ControlFlow::Continue(())
    }
}

fn value_alias(factor: &TableFactor) -> Option<String> {
    let (name, args, alias): (_, &[FunctionArg], _) = match factor {
        TableFactor::Table { name, args: Some(args), alias: Some(alias), .. } => (name, &args.args, alias),
        TableFactor::Function { name, args, alias: Some(alias), .. } => (name, args, alias),
        _ => return None,
    };
    plain_arguments(args)?;
    let function = find(&function_name(name)?)?;
    let is_value = matches!(function.columns, Columns::Value) && alias.columns.is_empty();
    is_value.then(|| folded(&alias.name))
}
