//! JSON out of values, and values out of JSON: `to_jsonb`, `json_build_object`, `->`, `#>>`, `jsonb_typeof` ….
//!
//! Looking into a value scans its text ([`json_scan`]); what comes out of a jsonb is in normal form, because all of it was.
//! Names with the prefix `hw_` are operators, which `sql::operators` writes where an operand is json.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field};
use chrono_tz::Tz;
use serde_json::Value as Json;

use super::invalid;
use super::scalar::{Function, Kernel, Row, Type, function, overload};
use crate::error::{Error, Result, SqlState};
use crate::types::text_output::{TextColumn, TextStyle};
use crate::types::{PgType, json_scan, normal_jsonb};

use Type::{Any, Array as AnyArray, Bool, Int8, Text, TextArray};

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        "json_build_object",
        &[overload(&[], Kernel::Json(|row| build_object(row).map(Some))).variadic(Any).lenient()],
    ),
    function(
        "jsonb_build_object",
        &[overload(&[], Kernel::Jsonb(|row| normal(&build_object(row)?))).variadic(Any).lenient()],
    ),
    function(
        "json_build_array",
        &[overload(&[], Kernel::Json(|row| build_array(row).map(Some))).variadic(Any).lenient()],
    ),
    function(
        "jsonb_build_array",
        &[overload(&[], Kernel::Jsonb(|row| normal(&build_array(row)?))).variadic(Any).lenient()],
    ),
    function("to_json", &[overload(&[Any], Kernel::Json(|row| to_json(row, 0).map(Some)))]),
    function("to_jsonb", &[overload(&[Any], Kernel::Jsonb(|row| normal(&to_json(row, 0)?)))]),
    function(
        "array_to_json",
        &[overload(&[AnyArray, Bool], Kernel::Json(|row| to_json(row, 0).map(Some))).optional(1)],
    ),
    function("row_to_json", &[overload(&[Any, Bool], Kernel::Json(|row| to_json(row, 0).map(Some))).optional(1)]),
    function(
        "json_object",
        &[
            overload(&[TextArray], Kernel::Json(|row| object_of_list(row, " : ").map(Some))),
            overload(&[TextArray, TextArray], Kernel::Json(|row| object_of_lists(row, " : ").map(Some))),
        ],
    ),
    function(
        "jsonb_object",
        &[
            overload(&[TextArray], Kernel::Jsonb(|row| normal(&object_of_list(row, ": ")?))),
            overload(&[TextArray, TextArray], Kernel::Jsonb(|row| normal(&object_of_lists(row, ": ")?))),
        ],
    ),
    function("json_typeof", &[overload(&[Type::Json], Kernel::Text(type_of))]),
    function("jsonb_typeof", &[overload(&[Type::Jsonb], Kernel::Text(type_of))]),
    function("json_array_length", &[overload(&[Type::Json], Kernel::Int4(array_length))]),
    function("jsonb_array_length", &[overload(&[Type::Jsonb], Kernel::Int4(array_length))]),
    function("json_extract_path", &[overload(&[Type::Json], Kernel::Json(extract)).variadic(Text)]),
    function("jsonb_extract_path", &[overload(&[Type::Jsonb], Kernel::Jsonb(extract)).variadic(Text)]),
    function("json_extract_path_text", &[overload(&[Type::Json], Kernel::Text(extract_text)).variadic(Text)]),
    function("jsonb_extract_path_text", &[overload(&[Type::Jsonb], Kernel::Text(extract_text)).variadic(Text)]),
    function(
        "hw_json_get",
        &[overload(&[Type::Json, Text], Kernel::Json(get)), overload(&[Type::Json, Int8], Kernel::Json(get))],
    ),
    function(
        "hw_jsonb_get",
        &[overload(&[Type::Jsonb, Text], Kernel::Jsonb(get)), overload(&[Type::Jsonb, Int8], Kernel::Jsonb(get))],
    ),
    function(
        "hw_json_get_text",
        &[overload(&[Type::Json, Text], Kernel::Text(get_text)), overload(&[Type::Json, Int8], Kernel::Text(get_text))],
    ),
    function("hw_json_path", &[overload(&[Type::Json, TextArray], Kernel::Json(path))]),
    function("hw_jsonb_path", &[overload(&[Type::Jsonb, TextArray], Kernel::Jsonb(path))]),
    function("hw_json_path_text", &[overload(&[Type::Json, TextArray], Kernel::Text(path_text))]),
    function("hw_jsonb_number", &[overload(&[Type::Jsonb, Text], Kernel::Numeric(number))]),
    function("hw_jsonb_bool", &[overload(&[Type::Jsonb], Kernel::Bool(boolean))]),
];

fn normal(text: &str) -> Result<Option<String>> {
    normal_jsonb(text).map(Some)
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

/// Keys in the order they are given, spaced as Postgres spaces them.
fn build_object(row: &Row<'_>) -> Result<String> {
    if row.len() % 2 == 1 {
        return Err(invalid("argument list must have even number of elements")
            .with_hint("the arguments of json_build_object() must consist of alternating keys and values"));
    }
    let mut parts = vec![];
    for index in (0..row.len()).step_by(2) {
        let Some(key) = row.printed(index)? else {
            return Err(invalid(format!("argument {}: key must not be null", index + 1)));
        };
        parts.push(format!("{} : {}", quoted(&key), to_json(row, index + 1)?));
    }
    Ok(format!("{{{}}}", parts.join(", ")))
}

fn build_array(row: &Row<'_>) -> Result<String> {
    let parts: Vec<String> = (0..row.len()).map(|index| to_json(row, index)).collect::<Result<_>>()?;
    Ok(format!("[{}]", parts.join(", ")))
}

fn object_of_list(row: &Row<'_>, colon: &str) -> Result<String> {
    let items = row.texts(0);
    if items.len() % 2 == 1 {
        return Err(Error::new(SqlState("2202E"), "array must have even number of elements"));
    }
    let pairs = items.chunks(2).map(|pair| (pair[0].as_deref(), pair[1].as_deref()));
    object_of_pairs(pairs, colon)
}

fn object_of_lists(row: &Row<'_>, colon: &str) -> Result<String> {
    let (keys, values) = (row.texts(0), row.texts(1));
    if keys.len() != values.len() {
        return Err(Error::new(SqlState("2202E"), "mismatched array dimensions"));
    }
    object_of_pairs(keys.iter().map(Option::as_deref).zip(values.iter().map(Option::as_deref)), colon)
}

fn object_of_pairs<'a>(pairs: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>, colon: &str) -> Result<String> {
    let mut parts = vec![];
    for (key, value) in pairs {
        let Some(key) = key else {
            return Err(Error::new(SqlState("22004"), "null value not allowed for object key"));
        };
        parts.push(format!("{}{colon}{}", quoted(key), value.map_or_else(|| "null".to_string(), quoted)));
    }
    Ok(format!("{{{}}}", parts.join(", ")))
}

/// The argument as JSON text.
fn to_json(row: &Row<'_>, index: usize) -> Result<String> {
    if row.is_null(index) {
        return Ok("null".to_string());
    }
    let (column, at) = row.column(index);
    json_of(column, at, &row.pg_type(index), row.zone)
}

/// A value as JSON text: numbers and json as they are, times in ISO form, all else in quotes.
pub(super) fn json_of(column: &ArrayRef, at: usize, pg_type: &PgType, zone: Tz) -> Result<String> {
    if column.is_null(at) {
        return Ok("null".to_string());
    }
    match column.data_type() {
        DataType::List(item) => {
            let items = column.as_list::<i32>().value(at);
            let item = PgType::of(item);
            let parts = (0..items.len()).map(|index| json_of(&items, index, &item, zone));
            return Ok(format!("[{}]", parts.collect::<Result<Vec<_>>>()?.join(",")));
        }
        DataType::Struct(fields) => {
            // `ROW(…)` has no names: Postgres calls them f1, f2 ….
            let unnamed = fields.iter().enumerate().all(|(index, field)| *field.name() == format!("c{index}"));
            let name = |(index, field): (usize, &Field)| {
                if unnamed { format!("f{}", index + 1) } else { field.name().clone() }
            };
            let columns = column.as_struct().columns();
            let parts = fields.iter().enumerate().zip(columns).map(|((index, field), column)| {
                let value = json_of(column, at, &PgType::of(field), zone)?;
                Ok(format!("{}:{value}", quoted(&name((index, field)))))
            });
            return Ok(format!("{{{}}}", parts.collect::<Result<Vec<_>>>()?.join(",")));
        }
        DataType::Boolean => return Ok(column.as_boolean().value(at).to_string()),
        DataType::Null => return Ok("null".to_string()),
        _ => {}
    }
    let style = TextStyle { time_zone: zone, reg_names: None };
    let mut out = bytes::BytesMut::new();
    TextColumn::new(&column.slice(at, 1), pg_type, &style)?.put(0, &mut out);
    let text = String::from_utf8_lossy(&out).into_owned();
    Ok(match pg_type {
        PgType::Json | PgType::Jsonb => text,
        PgType::Int2
        | PgType::Int4
        | PgType::Int8
        | PgType::Oid
        | PgType::Float4
        | PgType::Float8
        | PgType::Numeric(_)
            if text.bytes().next_back().is_some_and(|byte| byte.is_ascii_digit()) =>
        {
            text
        }
        PgType::Timestamp => quoted(&text.replacen(' ', "T", 1)),
        PgType::Timestamptz => {
            let mut text = text.replacen(' ', "T", 1);
            // `+00` is `+00:00` here.
            if text.len() > 3 && matches!(text.as_bytes()[text.len() - 3], b'+' | b'-') {
                text.push_str(":00");
            }
            quoted(&text)
        }
        _ => quoted(&text),
    })
}

fn type_of(row: &Row<'_>) -> Result<Option<String>> {
    Ok(Some(json_scan::kind(row.text(0)).to_string()))
}

fn array_length(row: &Row<'_>) -> Result<Option<i32>> {
    match json_scan::kind(row.text(0)) {
        "array" => Ok(Some(json_scan::items(row.text(0)).count() as i32)),
        "object" => Err(invalid("cannot get array length of a non-array")),
        _ => Err(invalid("cannot get array length of a scalar")),
    }
}

fn found<'a>(row: &Row<'a>) -> Option<&'a str> {
    let text = row.text(0);
    let (column, _) = row.column(1);
    match column.data_type() {
        DataType::Int64 => (json_scan::kind(text) == "array").then(|| json_scan::item(text, row.int(1))).flatten(),
        _ => json_scan::member(text, row.text(1)),
    }
}

fn get(row: &Row<'_>) -> Result<Option<String>> {
    Ok(found(row).map(str::to_string))
}

fn get_text(row: &Row<'_>) -> Result<Option<String>> {
    Ok(found(row).and_then(json_scan::text))
}

fn at_path<'a>(row: &Row<'a>) -> Option<&'a str> {
    let steps = row.list(1);
    let steps = steps.as_string::<i32>();
    if steps.null_count() > 0 {
        return None;
    }
    json_scan::walk(row.text(0), steps.iter().flatten())
}

fn path(row: &Row<'_>) -> Result<Option<String>> {
    Ok(at_path(row).map(str::to_string))
}

fn path_text(row: &Row<'_>) -> Result<Option<String>> {
    Ok(at_path(row).and_then(json_scan::text))
}

fn at_arguments<'a>(row: &Row<'a>) -> Option<&'a str> {
    json_scan::walk(row.text(0), (1..row.len()).map(|index| row.text(index)))
}

fn extract(row: &Row<'_>) -> Result<Option<String>> {
    Ok(at_arguments(row).map(str::to_string))
}

fn extract_text(row: &Row<'_>) -> Result<Option<String>> {
    Ok(at_arguments(row).and_then(json_scan::text))
}

fn cannot_cast(row: &Row<'_>, target: &str) -> Error {
    let kind = match json_scan::kind(row.text(0)) {
        kind @ ("array" | "object") => kind.to_string(),
        kind => kind.to_string(),
    };
    invalid(format!("cannot cast jsonb {kind} to type {target}"))
}

/// `jsonb::integer` and the like go by `numeric`; the second argument names the target.
fn number(row: &Row<'_>) -> Result<Option<super::scalar::Decimal>> {
    match json_scan::kind(row.text(0)) {
        "number" => {
            let (_, scale) = crate::types::NUMERIC_DEFAULT;
            let digits = crate::types::text_input::parse_decimal(row.text(0), 38, scale, false)?;
            Ok(Some(super::scalar::Decimal::new(digits, scale)))
        }
        // Postgres 15 refuses it; a null in the data is no number, and NULL says so.
        "null" => Err(cannot_cast(row, row.text(1))),
        _ => Err(cannot_cast(row, row.text(1))),
    }
}

fn boolean(row: &Row<'_>) -> Result<Option<bool>> {
    match row.text(0) {
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        _ => Err(cannot_cast(row, "boolean")),
    }
}
