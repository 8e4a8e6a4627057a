//! What `json_agg` and its kin are made of: items as JSON, and arrays and objects of such items.

use arrow::array::{Array, ArrayRef, AsArray};
use datafusion::common::ScalarValue;
use serde_json::Value as Json;

use super::text::plain_text;
use super::{Call, Definition, Returns, define, invalid, text_of};
use crate::catalog::system::Value;
use crate::error::{Error, Result};
use crate::types::PgType;
use crate::types::text_input::normal_jsonb;

pub(super) const DEFINITIONS: &[Definition] = &[
    define("hw_json_item", &[super::Argument::Any], Returns::Text, item).lenient().immutable(),
    define("hw_json_array", &[super::Argument::Any], Returns::Json, |call| Ok(array_of_items(call)?.into()))
        .immutable(),
    define("hw_jsonb_array", &[super::Argument::Any], Returns::Jsonb, |call| {
        Ok(normal_jsonb(&array_of_items(call)?)?.into())
    })
    .immutable(),
    define("hw_json_list", &[super::Argument::Any], Returns::Json, |call| Ok(array_of_values(call)?.into()))
        .immutable(),
    define("hw_jsonb_list", &[super::Argument::Any], Returns::Jsonb, |call| {
        Ok(normal_jsonb(&array_of_values(call)?)?.into())
    })
    .immutable(),
    define("hw_json_object", &[super::Argument::Any], Returns::Json, |call| Ok(object_of_pairs(call)?.into()))
        .immutable(),
    define("hw_jsonb_object", &[super::Argument::Any], Returns::Jsonb, |call| {
        Ok(normal_jsonb(&object_of_pairs(call)?)?.into())
    })
    .immutable(),
];

/// Before the JSON of an array or a record, which stands on a line of its own in an array that is aggregated.
const NEW_LINE: &str = "\n ";

/// A value as an aggregate's item.
fn item(call: &Call<'_>) -> Result<Value> {
    let is_nested = call.arguments[0].data_type().is_nested() && !call.arguments[0].is_null();
    let text = json(&call.arguments[0], call, 0)?;
    Ok(if is_nested { format!("{NEW_LINE}{text}") } else { text }.into())
}

fn list_of(call: &Call<'_>) -> Result<ArrayRef> {
    match &call.arguments[0] {
        ScalarValue::List(list) => Ok(list.value(0)),
        other => Err(Error::internal(format!("an array was expected, not {}", other.data_type()))),
    }
}

/// `[a, b]` of items that are JSON already.
fn array_of_items(call: &Call<'_>) -> Result<String> {
    let items = list_of(call)?;
    let items: Vec<&str> = items.as_string::<i32>().iter().map(|item| item.unwrap_or("null")).collect();
    let joined = items.join(", ");
    Ok(format!("[{}]", joined.strip_prefix(NEW_LINE).unwrap_or(&joined)))
}

fn array_of_values(call: &Call<'_>) -> Result<String> {
    let items = list_of(call)?;
    let item = |row| scalar(&ScalarValue::try_from_array(&items, row)?, false);
    let items = (0..items.len()).map(item).collect::<Result<Vec<_>>>()?;
    Ok(format!("[{}]", items.join(if list_is_nested(call) { ", \n " } else { ", " })))
}

fn list_is_nested(call: &Call<'_>) -> bool {
    matches!(&call.arguments[0], ScalarValue::List(list) if list.value_type().is_nested())
}

/// `{ "a" : 1, "b" : 2 }` of pairs whose values are JSON already.
fn object_of_pairs(call: &Call<'_>) -> Result<String> {
    let pairs = list_of(call)?;
    let Some(pairs) = pairs.as_struct_opt() else { return Err(Error::internal("pairs were expected")) };
    let values = pairs.column(1).as_string::<i32>();
    let part = |row: usize| {
        let Some(key) = plain_text(&ScalarValue::try_from_array(pairs.column(0), row)?)? else {
            return Err(invalid("field name must not be null"));
        };
        let value = if values.is_valid(row) { values.value(row).trim_start_matches(NEW_LINE) } else { "null" };
        Ok(format!("{} : {value}", Json::String(key)))
    };
    let parts = (0..pairs.len()).map(part).collect::<Result<Vec<_>>>()?;
    Ok(format!("{{ {} }}", parts.join(", ")))
}

fn json(value: &ScalarValue, call: &Call<'_>, index: usize) -> Result<String> {
    let is_json = call.fields.get(index).is_some_and(|field| matches!(PgType::of(field), PgType::Json | PgType::Jsonb));
    scalar(value, is_json)
}

fn scalar(value: &ScalarValue, is_json: bool) -> Result<String> {
    if value.is_null() {
        return Ok("null".to_string());
    }
    if let Some(text) = text_of(value) {
        return Ok(if is_json { text.to_string() } else { Json::from(text).to_string() });
    }
    let parts = match value {
        ScalarValue::Boolean(Some(flag)) => return Ok(flag.to_string()),
        ScalarValue::List(list) => {
            let items = list.value(0);
            let items = (0..items.len()).map(|i| scalar(&ScalarValue::try_from_array(&items, i)?, false));
            return Ok(format!("[{}]", items.collect::<Result<Vec<_>>>()?.join(",")));
        }
        ScalarValue::Struct(fields) => fields
            .fields()
            .iter()
            .zip(fields.columns())
            .map(|(field, column)| {
                let value = scalar(&ScalarValue::try_from_array(column, 0)?, false)?;
                Ok(format!("{}:{value}", Json::from(field.name().as_str())))
            })
            .collect::<Result<Vec<_>>>()?,
        other => {
            let text = plain_text(other)?.unwrap_or_default();
            // NaN and infinity are no JSON numbers.
            let is_number = other.data_type().is_numeric() && text.parse::<f64>().is_ok_and(f64::is_finite);
            return Ok(if is_number { text } else { Json::from(text).to_string() });
        }
    };
    Ok(format!("{{{}}}", parts.join(",")))
}
