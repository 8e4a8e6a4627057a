//! What things are, in words: types, definitions, comments, visibility.

use std::sync::Arc;

use super::Argument::{Any, Bool, Int, Text};
use super::reg::{quote_identifier, regclass, regclass_name, regtype_name};
use super::{Call, Definition, Returns, define, invalid};
use crate::catalog::system::{self, IndexRow, Value, index_by_oid, relation_of_constraint, type_row};
use crate::catalog::{Class, Commented, Function, Object, ObjectKind};
use crate::error::{Error, Result, SqlState};
use crate::types::{PgType, RelationId};

pub(super) const DEFINITIONS: &[Definition] = &[
    define("format_type", &[Int, Int], Returns::Text, format_type).lenient(),
    define("pg_get_expr", &[Text, Int, Bool], Returns::Text, |call| Ok(call.text(0).into())).optional(1),
    define("pg_get_indexdef", &[Int, Int, Bool], Returns::Text, get_indexdef).optional(2),
    define("pg_get_constraintdef", &[Int, Bool], Returns::Text, get_constraintdef).optional(1),
    define("pg_get_viewdef", &[Any, Any], Returns::Text, get_viewdef).optional(1),
    define("pg_get_ruledef", &[Int, Bool], Returns::Text, |_| Ok(Value::Null)).optional(1),
    define("pg_get_triggerdef", &[Int, Bool], Returns::Text, |_| Ok(Value::Null)).optional(1),
    define("pg_get_partkeydef", &[Int], Returns::Text, |_| Ok(Value::Null)),
    define("pg_get_statisticsobjdef", &[Int], Returns::Text, |_| Ok(Value::Null)),
    define("pg_get_statisticsobjdef_columns", &[Int], Returns::Text, |_| Ok(Value::Null)),
    define("pg_get_userbyid", &[Int], Returns::Name, get_userbyid),
    define("pg_get_serial_sequence", &[Text, Text], Returns::Text, get_serial_sequence),
    define("pg_get_functiondef", &[Int], Returns::Text, get_functiondef),
    define("pg_get_function_sqlbody", &[Int], Returns::Text, |_| Ok(Value::Null)),
    define("pg_get_function_result", &[Int], Returns::Text, |call| function(call, Function::result, built_in_result)),
    define("pg_get_function_arguments", &[Int], Returns::Text, |call| {
        function(call, |f| f.argument_list(true), arguments)
    }),
    define("pg_get_function_identity_arguments", &[Int], Returns::Text, |call| {
        function(call, |f| f.argument_list(false), arguments)
    }),
    define("obj_description", &[Int, Text], Returns::Text, obj_description).optional(1),
    define("col_description", &[Int, Int], Returns::Text, col_description),
    define("shobj_description", &[Int, Text], Returns::Text, shobj_description),
    define("pg_table_is_visible", &[Int], Returns::Bool, table_is_visible),
    define("pg_type_is_visible", &[Int], Returns::Bool, type_is_visible),
    define("pg_function_is_visible", &[Int], Returns::Bool, function_is_visible),
    define("pg_operator_is_visible", &[Int], Returns::Bool, always),
    define("pg_opclass_is_visible", &[Int], Returns::Bool, always),
    define("pg_opfamily_is_visible", &[Int], Returns::Bool, always),
    define("pg_collation_is_visible", &[Int], Returns::Bool, always),
    define("pg_conversion_is_visible", &[Int], Returns::Bool, always),
    define("pg_statistics_obj_is_visible", &[Int], Returns::Bool, always),
    define("pg_ts_config_is_visible", &[Int], Returns::Bool, always),
    define("pg_ts_dict_is_visible", &[Int], Returns::Bool, always),
    define("pg_ts_parser_is_visible", &[Int], Returns::Bool, always),
    define("pg_ts_template_is_visible", &[Int], Returns::Bool, always),
    define("pg_relation_is_publishable", &[Any], Returns::Bool, |_| Ok(false.into())),
    define("pg_relation_is_updatable", &[Int, Bool], Returns::Int4, relation_is_updatable),
    define("pg_column_is_updatable", &[Int, Int, Bool], Returns::Bool, |call| {
        Ok(object(call).is_some_and(|o| matches!(o.kind, ObjectKind::Table { .. })).into())
    }),
    define("pg_index_column_has_property", &[Int, Int, Text], Returns::Bool, index_column_has_property),
    define("pg_partition_root", &[Any], Returns::Regclass, |_| Ok(Value::Null)),
    define("pg_tablespace_location", &[Int], Returns::Text, |_| Ok("".into())),
    define("pg_stat_get_numscans", &[Int], Returns::Int8, |_| Ok(0i64.into())),
    define("hw_partition_ancestors", &[Any], Returns::OidArray, |_| Ok(Value::Ints(vec![]))),
];

/// What is there is found without its schema: every schema but the user's own is searched, or holds nothing.
fn always(_: &Call<'_>) -> Result<Value> {
    Ok(true.into())
}

fn object(call: &Call<'_>) -> Option<Arc<Object>> {
    call.context.catalog().get(RelationId(call.oid(0)?)).cloned()
}

/// `format_type(oid, typmod)`: NULL for a NULL type, `???` for one that is not there, `-` for none.
fn format_type(call: &Call<'_>) -> Result<Value> {
    let Some(oid) = call.oid(0) else { return Ok(Value::Null) };
    let modifier = call.int(1).filter(|m| *m >= 4);
    if oid == 1042 && call.int(1).is_some() && modifier.is_none() {
        return Ok("bpchar".into());
    }
    let name = regtype_name(oid);
    if name == oid.to_string() {
        return Ok("???".into());
    }
    let (base, suffix) = match name.strip_suffix("[]") {
        Some(base) => (base.to_string(), "[]"),
        None => (name, ""),
    };
    let Some(modifier) = modifier.map(|m| m - 4) else { return Ok(format!("{base}{suffix}").into()) };
    let element = if suffix.is_empty() { oid } else { element_oid(oid) };
    let with_modifier = match element {
        1042 | 1043 => format!("{base}({modifier})"),
        // The scale is eleven bits with a sign.
        1700 => format!("{base}({},{})", modifier >> 16 & 0xffff, ((modifier & 0x7ff) ^ 1024) - 1024),
        _ => base,
    };
    Ok(format!("{with_modifier}{suffix}").into())
}

fn element_oid(array: u32) -> u32 {
    match PgType::from_oid(array) {
        Some(PgType::Array(item)) => item.oid(),
        _ => array,
    }
}

/// `CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id)`.
pub fn index_definition(object: &Object, index: &IndexRow<'_>) -> String {
    let schema = quote_identifier(&object.name.schema);
    index_definition_on(&format!("{schema}.{}", quote_identifier(&object.name.name)), object, index)
}

fn index_definition_on(relation: &str, object: &Object, index: &IndexRow<'_>) -> String {
    let columns: Vec<String> = index.columns.iter().map(|&c| quote_identifier(&object.columns[c].name)).collect();
    format!(
        "CREATE {}INDEX {} ON {relation} USING btree ({})",
        if index.is_unique { "UNIQUE " } else { "" },
        quote_identifier(&index.name),
        columns.join(", ")
    )
}

fn key_columns(object: &Object) -> impl Iterator<Item = &str> {
    let key: &[usize] = match &object.kind {
        ObjectKind::Table { primary_key, .. } => primary_key,
        _ => &[],
    };
    key.iter().filter_map(|i| object.columns.get(*i)).map(|c| c.name.as_str())
}

/// With a column number from 1, that column alone; with 0 or none, the whole definition, which, if it shall be pretty, names
/// the relation's schema only where it must.
fn get_indexdef(call: &Call<'_>) -> Result<Value> {
    let catalog = call.context.catalog();
    let Some((object, index)) = call.oid(0).and_then(|oid| index_by_oid(&catalog, oid)) else { return Ok(Value::Null) };
    match call.int(1).and_then(|n| usize::try_from(n).ok()) {
        None | Some(0) if call.flag(2) == Some(true) => {
            let relation = regclass_name(call.context, object.id.0);
            Ok(index_definition_on(&relation, object, &index).into())
        }
        None | Some(0) => Ok(index_definition(object, &index).into()),
        Some(number) => {
            let column = index.columns.get(number - 1).and_then(|&place| object.columns.get(place));
            Ok(column.map(|column| quote_identifier(&column.name)).unwrap_or_default().into())
        }
    }
}

fn get_constraintdef(call: &Call<'_>) -> Result<Value> {
    let catalog = call.context.catalog();
    let object = call.oid(0).and_then(relation_of_constraint).and_then(|id| catalog.get(id));
    let Some(object) = object.filter(|o| key_columns(o).next().is_some()) else { return Ok(Value::Null) };
    let columns: Vec<String> = key_columns(object).map(quote_identifier).collect();
    Ok(format!("PRIMARY KEY ({})", columns.join(", ")).into())
}

/// Of a view or a materialized view, by OID or by name. The second argument asks for wrapping, which we do not do.
fn get_viewdef(call: &Call<'_>) -> Result<Value> {
    let catalog = call.context.catalog();
    let oid = match call.text(0) {
        Some(name) => name
            .parse()
            .ok()
            .or_else(|| regclass(call.context, name))
            .ok_or_else(|| Error::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist")))?,
        None => call.oid(0).unwrap_or(0),
    };
    let view = catalog
        .get(RelationId(oid))
        .filter(|o| matches!(o.kind, ObjectKind::View | ObjectKind::MaterializedView { .. }));
    let text = |object: &Arc<Object>| {
        let emit = match &object.kind {
            ObjectKind::MaterializedView { options, .. } => options.emit_clause(),
            _ => "",
        };
        format!(" {}{emit};", object.definition.trim().trim_end_matches(';'))
    };
    Ok(view.map(text).into())
}

/// Of an object of the catalog of this name; without one, of any object with this OID.
fn obj_description(call: &Call<'_>) -> Result<Value> {
    let Some(oid) = call.oid(0) else { return Ok(Value::Null) };
    let catalog = call.context.catalog();
    Ok(system::description(&catalog, call.text(1), oid).into())
}

fn col_description(call: &Call<'_>) -> Result<Value> {
    let column = call.int(1).and_then(|column| u32::try_from(column).ok());
    let Some((oid, column)) = call.oid(0).zip(column) else { return Ok(Value::Null) };
    let catalog = call.context.catalog();
    Ok(catalog.comment(Commented { class: Class::Relation, oid, column }).into())
}

fn shobj_description(call: &Call<'_>) -> Result<Value> {
    let class = call.text(1).and_then(Class::from_name).filter(|class| *class == Class::Database);
    let Some((oid, class)) = call.oid(0).zip(class) else { return Ok(Value::Null) };
    let catalog = call.context.catalog();
    Ok(catalog.comment(Commented::object(class, oid)).into())
}

fn get_userbyid(call: &Call<'_>) -> Result<Value> {
    let oid = call.oid(0).unwrap_or(0);
    let name = call.context.catalog().role(oid).map(|role| role.name.clone());
    Ok(name.unwrap_or_else(|| format!("unknown (OID={oid})")).into())
}

/// There are no sequences; a column that is not there is still an error.
fn get_serial_sequence(call: &Call<'_>) -> Result<Value> {
    let (table, column) = (call.text(0).unwrap_or_default(), call.text(1).unwrap_or_default());
    let catalog = call.context.catalog();
    let Some(oid) = regclass(call.context, table) else {
        return Err(Error::new(SqlState::UNDEFINED_TABLE, format!("relation \"{table}\" does not exist")));
    };
    let found = catalog.get(RelationId(oid)).is_none_or(|o| o.columns.iter().any(|c| c.name == column));
    if found {
        return Ok(Value::Null);
    }
    let relation = regclass_name(call.context, oid);
    Err(Error::new(
        SqlState::UNDEFINED_COLUMN,
        format!("column \"{column}\" of relation \"{relation}\" does not exist"),
    ))
}

/// Of a SQL function `sql` tells, of a built-in one `describe`.
fn function(
    call: &Call<'_>,
    sql: fn(&Function) -> String,
    describe: fn(&system::FunctionRow) -> String,
) -> Result<Value> {
    let oid = call.oid(0).unwrap_or(0);
    if let Some(function) = call.context.catalog().function(RelationId(oid)) {
        return Ok(sql(function).into());
    }
    Ok(system::function_row_of(oid).map(describe).into())
}

fn built_in_result(function: &system::FunctionRow) -> String {
    format!("{}{}", if function.returns_set { "SETOF " } else { "" }, regtype_name(function.returns))
}

fn arguments(function: &system::FunctionRow) -> String {
    let last = function.arguments.len().saturating_sub(1);
    let shown = |(index, oid): (usize, &u32)| {
        let is_repeated = function.variadic && index == last;
        format!("{}{}", if is_repeated { "VARIADIC " } else { "" }, regtype_name(*oid))
    };
    function.arguments.iter().enumerate().map(shown).collect::<Vec<_>>().join(", ")
}

/// As Postgres writes it, so that it can be edited and run again.
fn sql_definition(function: &Function) -> String {
    let volatility = match function.volatility {
        'i' => " IMMUTABLE",
        's' => " STABLE",
        _ => "",
    };
    let strict = if function.strict { " STRICT" } else { "" };
    let options = if volatility.is_empty() && strict.is_empty() { "" } else { "\n" };
    let tag = (0..).map(|n| if n == 0 { "$function$".to_string() } else { format!("$function{n}$") });
    let tag = tag.into_iter().find(|tag| !function.body.contains(tag.as_str())).unwrap_or_default();
    format!(
        "CREATE OR REPLACE FUNCTION {}.{}({})\n RETURNS {}\n LANGUAGE sql{options}{volatility}{strict}\nAS {tag}{}{tag}\n",
        quote_identifier(&function.name.schema),
        quote_identifier(&function.name.name),
        function.argument_list(true),
        function.result(),
        function.body,
    )
}

fn get_functiondef(call: &Call<'_>) -> Result<Value> {
    function(call, sql_definition, |f| {
        format!(
            "CREATE OR REPLACE FUNCTION pg_catalog.{}({})\n RETURNS {}\n LANGUAGE internal\nAS $function${}$function$\n",
            quote_identifier(f.name),
            arguments(f),
            built_in_result(f),
            f.name
        )
    })
}

/// In a schema of the search path, or in pg_catalog, and not hidden by a relation of the same name before it.
fn table_is_visible(call: &Call<'_>) -> Result<Value> {
    let Some(oid) = call.oid(0) else { return Ok(Value::Null) };
    let catalog = call.context.catalog();
    let path = call.context.search_path();
    if let Some(object) = catalog.get(RelationId(oid)) {
        let first = path.iter().find(|schema| catalog.find(Some(schema), &object.name.name).is_some());
        return Ok((first == Some(&object.name.schema)).into());
    }
    if let Some((object, _)) = index_by_oid(&catalog, oid) {
        return Ok(path.contains(&object.name.schema).into());
    }
    Ok(system::names().find(|(.., o)| *o == oid).map(|(schema, ..)| schema == "pg_catalog").into())
}

fn type_is_visible(call: &Call<'_>) -> Result<Value> {
    let oid = call.oid(0).unwrap_or(0);
    let known = type_row(oid).is_some() || PgType::from_oid(oid).is_some();
    Ok(known.then_some(true).into())
}

fn function_is_visible(call: &Call<'_>) -> Result<Value> {
    function(call, |_| String::new(), |_| String::new()).map(|found| (found != Value::Null).then_some(true).into())
}

/// Bits of the events that a relation takes: UPDATE 4, INSERT 8, DELETE 16.
fn relation_is_updatable(call: &Call<'_>) -> Result<Value> {
    let is_table = object(call).is_some_and(|o| matches!(o.kind, ObjectKind::Table { .. }));
    Ok(if is_table { 28 } else { 0 }.into())
}

fn index_column_has_property(call: &Call<'_>) -> Result<Value> {
    Ok(match call.text(2).unwrap_or_default() {
        "asc" | "nulls_last" | "orderable" | "returnable" | "search_array" | "search_nulls" => true.into(),
        "desc" | "nulls_first" | "distance_orderable" => false.into(),
        other => return Err(invalid(format!("unrecognized index property \"{other}\""))),
    })
}
