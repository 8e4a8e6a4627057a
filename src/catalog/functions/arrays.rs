//! Arrays as Postgres counts them: bounds, subscripts, text of an array.
//!
//! An `int2vector` and an `oidvector` (`pg_index.indkey`) count from 0, every other array from 1.

use arrow::array::{Array, ArrayRef, AsArray};
use datafusion::common::ScalarValue;

use super::Argument::{Any, Int, Text};
use super::text::plain_text;
use super::{Call, Definition, Returns, define};
use crate::catalog::system::Value;
use crate::error::Result;
use crate::types::PgType;

pub(super) const DEFINITIONS: &[Definition] = &[
    define("array_lower", &[Any, Int], Returns::Int4, |call| Ok(bounds(call).map(|(lower, _)| lower).into()))
        .immutable(),
    define("array_upper", &[Any, Int], Returns::Int4, |call| Ok(bounds(call).map(|(_, upper)| upper).into()))
        .immutable(),
    define("hw_generate_subscripts", &[Any, Int], Returns::Int4Array, generate_subscripts).immutable(),
    define("array_to_string", &[Any, Text, Text], Returns::Text, array_to_string).optional(1).lenient().immutable(),
    define("hw_array_prefix", &[Text, Any], Returns::TextArray, array_prefix).lenient().immutable(),
    define("hw_options_list", &[Any], Returns::TextArray, options_list).lenient().immutable(),
];

/// The elements of a list value; `None` for NULL and for what is no list.
fn elements(value: &ScalarValue) -> Option<ArrayRef> {
    match value {
        ScalarValue::List(list) if !list.is_null(0) => Some(list.value(0)),
        ScalarValue::LargeList(list) if !list.is_null(0) => Some(list.value(0)),
        ScalarValue::FixedSizeList(list) if !list.is_null(0) => Some(list.value(0)),
        _ => None,
    }
}

/// Lower and upper bound in the dimension that the second argument names; `None` where Postgres says NULL.
fn bounds(call: &Call<'_>) -> Option<(i64, i64)> {
    let dimension = call.int(1).filter(|d| *d >= 1)?;
    let mut items = elements(&call.arguments[0])?;
    for _ in 1..dimension {
        let nested = items.as_list_opt::<i32>().filter(|l| !l.is_empty() && !l.is_null(0))?.value(0);
        items = nested;
    }
    let length = i64::try_from(items.len()).ok().filter(|n| *n > 0)?;
    let vector = call.fields.first().is_some_and(|f| matches!(PgType::of(f), PgType::Int2vector | PgType::Oidvector));
    let lower = if vector { 0 } else { 1 };
    Some((lower, lower + length - 1))
}

/// `generate_subscripts` as a list, which `sql::compat` unnests.
fn generate_subscripts(call: &Call<'_>) -> Result<Value> {
    Ok(match bounds(call) {
        Some((lower, upper)) => Value::Ints((lower..=upper).collect()),
        None => Value::Ints(vec![]),
    })
}

/// Joined by the second argument; NULLs left out, or written as the third.
fn array_to_string(call: &Call<'_>) -> Result<Value> {
    let (Some(items), Some(delimiter)) = (elements(&call.arguments[0]), call.text(1)) else { return Ok(Value::Null) };
    let mut parts = vec![];
    collect(&items, call.text(2), &mut parts)?;
    Ok(parts.join(delimiter).into())
}

fn collect(items: &ArrayRef, null: Option<&str>, parts: &mut Vec<String>) -> Result<()> {
    for index in 0..items.len() {
        let value = ScalarValue::try_from_array(items, index)?;
        match elements(&value) {
            Some(nested) => collect(&nested, null, parts)?,
            None => parts.extend(plain_text(&value)?.or_else(|| null.map(str::to_string))),
        }
    }
    Ok(())
}

/// `ARRAY(SELECT prefix || x FROM unnest(array) x)`: never NULL.
fn array_prefix(call: &Call<'_>) -> Result<Value> {
    let Some(items) = elements(&call.arguments[1]) else { return Ok(Value::Texts(vec![])) };
    let prefix = call.text(0).unwrap_or_default();
    let mut parts = vec![];
    collect(&items, None, &mut parts)?;
    Ok(parts.into_iter().map(|part| format!("{prefix}{part}")).collect::<Vec<_>>().into())
}

/// `ARRAY(SELECT quote_ident(option_name) || ' ' || quote_literal(option_value) FROM pg_options_to_table(options))`.
fn options_list(call: &Call<'_>) -> Result<Value> {
    let Some(items) = elements(&call.arguments[0]) else { return Ok(Value::Texts(vec![])) };
    let mut parts = vec![];
    collect(&items, None, &mut parts)?;
    let shown = parts.iter().map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        format!("{} '{}'", super::quote_identifier(name), value.replace('\'', "''"))
    });
    Ok(shown.collect::<Vec<_>>().into())
}
