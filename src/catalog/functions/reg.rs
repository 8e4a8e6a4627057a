//! Names and OIDs: what the `reg…` types read and print.
//!
//! `'users'::regclass` reads a name into the relation's OID, `16390::regclass` prints the name. `sql::compat` writes
//! the casts as calls: `hw_regclass` gives the OID, `hw_regclass_text` the printed name.

use datafusion::common::ScalarValue;

use super::Argument::{Any, Text};
use super::{Call, Definition, FunctionContext, Returns, define, text_of};
use crate::catalog::Catalog;
use crate::catalog::system::{self, Value, schema_oid, type_by_name};
use crate::error::{Error, Result, SqlState};
use crate::types::{PgType, RelationId};

pub(super) const DEFINITIONS: &[Definition] = &[
    define("to_regclass", &[Text], Returns::Regclass, |call| to_oid(call, regclass)),
    define("to_regtype", &[Text], Returns::Regtype, |call| to_oid(call, |_, name| type_by_name(name))),
    define("to_regproc", &[Text], Returns::Regproc, |call| to_oid(call, regproc)),
    define("to_regnamespace", &[Text], Returns::Regnamespace, |call| to_oid(call, regnamespace)),
    define("hw_regclass", &[Any], Returns::Regclass, |call| Ok(read_regclass(call)?.into())),
    define("hw_regtype", &[Any], Returns::Regtype, |call| Ok(read_regtype(call)?.into())),
    define("hw_regproc", &[Any], Returns::Regproc, |call| Ok(read_regproc(call)?.into())),
    define("hw_regnamespace", &[Any], Returns::Regnamespace, |call| Ok(read_regnamespace(call)?.into())),
    define("hw_regclass_text", &[Any], Returns::Text, |call| {
        Ok(regclass_name(call.context, read_regclass(call)?).into())
    }),
    define("hw_regtype_text", &[Any], Returns::Text, |call| Ok(regtype_name(read_regtype(call)?).into())),
    define("hw_regproc_text", &[Any], Returns::Text, |call| Ok(regproc_name(read_regproc(call)?).into())),
    define("hw_regnamespace_text", &[Any], Returns::Text, |call| {
        Ok(regnamespace_name(&call.context.catalog(), read_regnamespace(call)?).into())
    }),
];

/// `to_reg…`: NULL where there is no such thing.
fn to_oid(call: &Call<'_>, find: fn(&dyn FunctionContext, &str) -> Option<u32>) -> Result<Value> {
    let text = call.text(0).unwrap_or_default();
    let number = text.parse::<u32>().ok();
    Ok(number.or_else(|| find(call.context, text)).into())
}

/// A cast to a `reg…` type: an OID or a quoted OID stays, a name is looked up.
fn read(
    call: &Call<'_>,
    find: impl Fn(&dyn FunctionContext, &str) -> Option<u32>,
    missing: impl Fn(&str) -> Error,
) -> Result<u32> {
    let Some(name) = call.arguments.first().and_then(text_of) else {
        let number = call.arguments.first().and_then(|value| match value.cast_to(&arrow::datatypes::DataType::Int64) {
            Ok(ScalarValue::Int64(number)) => number,
            _ => None,
        });
        return number
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "OID out of range"));
    };
    if name == "-" {
        return Ok(0);
    }
    match name.parse::<u32>() {
        Ok(number) => Ok(number),
        Err(_) => find(call.context, name).ok_or_else(|| missing(name)),
    }
}

fn read_regclass(call: &Call<'_>) -> Result<u32> {
    read(call, regclass, |name| Error::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist")))
}

fn read_regtype(call: &Call<'_>) -> Result<u32> {
    read(
        call,
        |_, name| type_by_name(name),
        |name| Error::new(SqlState::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist")),
    )
}

fn read_regproc(call: &Call<'_>) -> Result<u32> {
    read(call, regproc, |name| Error::new(SqlState::UNDEFINED_FUNCTION, format!("function \"{name}\" does not exist")))
}

fn read_regnamespace(call: &Call<'_>) -> Result<u32> {
    read(call, regnamespace, |name| {
        Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist"))
    })
}

/// The parts of a possibly quoted, possibly qualified name, folded as Postgres folds them.
pub(super) fn name_parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        let part = parts.last_mut().expect("there is always a part");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c if quoted => part.push(c),
            c => part.extend(c.to_lowercase()),
        }
    }
    parts
}

/// The last part, and the schema before it if there is one.
fn qualified(text: &str) -> (Option<String>, String) {
    let mut parts = name_parts(text);
    let name = parts.pop().unwrap_or_default();
    (parts.pop(), name)
}

/// A relation or an index; an unqualified name is one of pg_catalog, or is looked for along the search path.
pub(super) fn regclass(context: &dyn FunctionContext, text: &str) -> Option<u32> {
    let (schema, name) = qualified(text);
    let in_schema = |candidate: &str| schema.as_deref().unwrap_or("pg_catalog") == candidate;
    if let Some((.., oid)) = system::names().find(|(schema, n, _)| *n == name && in_schema(schema)) {
        return Some(oid);
    }
    let catalog = context.catalog();
    let path = schema.map_or_else(|| context.search_path(), |schema| vec![schema]);
    path.iter().find_map(|schema| {
        if let Some(object) = catalog.find(Some(schema), &name) {
            return Some(object.id.0);
        }
        let in_schema = catalog.objects().filter(|object| object.name.schema == *schema);
        let mut indexes = in_schema.flat_map(|object| system::indexes(object));
        indexes.find(|index| index.name == name).map(|index| index.oid)
    })
}

fn regproc(context: &dyn FunctionContext, text: &str) -> Option<u32> {
    let (schema, name) = qualified(text.split('(').next().unwrap_or_default());
    let catalog = context.catalog();
    let path = schema.map_or_else(|| context.search_path(), |schema| vec![schema]);
    let own = path.iter().find_map(|schema| catalog.functions_named(schema, &name).next().map(|f| f.id.0));
    own.or_else(|| system::function_oid(&name))
}

fn regnamespace(context: &dyn FunctionContext, text: &str) -> Option<u32> {
    schema_oid(&context.catalog(), &name_parts(text).join("."))
}

/// A relation's name as `regclass` prints it: qualified unless it is found without; the number if there is no such
/// relation.
pub fn regclass_name(context: &dyn FunctionContext, oid: u32) -> String {
    if oid == 0 {
        return "-".to_string();
    }
    let catalog = context.catalog();
    let (schema, name) = if let Some(object) = catalog.get(RelationId(oid)) {
        (object.name.schema.clone(), object.name.name.clone())
    } else if let Some((object, index)) = system::index_by_oid(&catalog, oid) {
        (object.name.schema.clone(), index.name)
    } else if let Some((schema, name, _)) = system::names().find(|(.., o)| *o == oid) {
        (schema.to_string(), name.to_string())
    } else {
        return oid.to_string();
    };
    let is_found = || match schema.as_str() {
        "pg_catalog" => true,
        "information_schema" | "hw_catalog" => false,
        _ => regclass(context, &quote_identifier(&name)) == Some(oid),
    };
    if is_found() {
        quote_identifier(&name)
    } else {
        format!("{}.{}", quote_identifier(&schema), quote_identifier(&name))
    }
}

/// As `regtype` and `format_type` print it; the number if there is no such type.
pub fn regtype_name(oid: u32) -> String {
    match oid {
        0 => "-".to_string(),
        2249 => "record".to_string(),
        2275 => "cstring".to_string(),
        2276 => "\"any\"".to_string(),
        2277 => "anyarray".to_string(),
        2281 => "internal".to_string(),
        2283 => "anyelement".to_string(),
        2776 => "anynonarray".to_string(),
        5077 => "anycompatible".to_string(),
        5078 => "anycompatiblearray".to_string(),
        5079 => "anycompatiblenonarray".to_string(),
        2287 => "record[]".to_string(),
        _ => PgType::from_oid(oid).map_or_else(|| oid.to_string(), |t| t.name()),
    }
}

/// A function's name; the number if there is no such function.
pub fn regproc_name(oid: u32) -> String {
    if oid == 0 {
        return "-".to_string();
    }
    system::function_row_of(oid).map_or_else(|| oid.to_string(), |function| function.name.to_string())
}

/// A schema's name; the number if there is no such schema.
pub fn regnamespace_name(catalog: &Catalog, oid: u32) -> String {
    match oid {
        0 => "-".to_string(),
        _ => {
            let mut all = system::SYSTEM_SCHEMAS.iter().copied().chain(catalog.schemas());
            all.find(|(_, o)| *o == oid).map_or_else(|| oid.to_string(), |(name, _)| quote_identifier(name))
        }
    }
}

/// Words that cannot stand as a column's name without quotes.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "binary",
    "bit",
    "boolean",
    "both",
    "case",
    "cast",
    "check",
    "coalesce",
    "collate",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "exists",
    "extract",
    "false",
    "fetch",
    "float",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "greatest",
    "group",
    "grouping",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "inout",
    "int",
    "integer",
    "intersect",
    "interval",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "least",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "nchar",
    "none",
    "normalize",
    "not",
    "notnull",
    "null",
    "nullif",
    "numeric",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "out",
    "outer",
    "overlaps",
    "overlay",
    "placing",
    "position",
    "precision",
    "primary",
    "real",
    "references",
    "returning",
    "right",
    "row",
    "select",
    "session_user",
    "setof",
    "similar",
    "smallint",
    "some",
    "substring",
    "symmetric",
    "table",
    "tablesample",
    "then",
    "time",
    "timestamp",
    "to",
    "trailing",
    "treat",
    "trim",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "values",
    "varchar",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
    "xmlattributes",
];

/// In double quotes if it must be.
pub fn quote_identifier(name: &str) -> String {
    let mut chars = name.chars();
    let plain = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !RESERVED.contains(&name);
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
