//! `json_build_object` and `json_build_array`: values side by side into one JSON text.

use arrow::array::Array;
use datafusion::common::ScalarValue;
use serde_json::Value as Json;

use super::text::plain_text;
use super::{Call, Definition, Returns, define, invalid, text_of};
use crate::catalog::system::Value;
use crate::error::Result;
use crate::types::PgType;

pub(super) const DEFINITIONS: &[Definition] = &[
    define("json_build_object", &[], Returns::Json, |call| object(call, " : ")).variadic().lenient(),
    define("jsonb_build_object", &[], Returns::Jsonb, |call| object(call, ": ")).variadic().lenient(),
    define("json_build_array", &[], Returns::Json, build_array).variadic().lenient(),
    define("jsonb_build_array", &[], Returns::Jsonb, build_array).variadic().lenient(),
    define("to_json", &[super::Argument::Any], Returns::Json, one),
    define("to_jsonb", &[super::Argument::Any], Returns::Jsonb, one),
];

/// Keys in the order they are given, spaced as Postgres spaces them.
fn object(call: &Call<'_>, colon: &str) -> Result<Value> {
    if call.arguments.len() % 2 == 1 {
        return Err(invalid("argument list must have even number of elements")
            .with_hint("the arguments of json_build_object() must consist of alternating keys and values"));
    }
    let mut parts = vec![];
    for (index, pair) in call.arguments.chunks(2).enumerate() {
        let Some(key) = plain_text(&pair[0])? else {
            return Err(invalid(format!("argument {}: key must not be null", 2 * index + 1)));
        };
        parts.push(format!("{}{colon}{}", Json::String(key), json(&pair[1], call, 2 * index + 1)?));
    }
    Ok(format!("{{{}}}", parts.join(", ")).into())
}

fn build_array(call: &Call<'_>) -> Result<Value> {
    let parts: Vec<String> = call.arguments.iter().enumerate().map(|(i, v)| json(v, call, i)).collect::<Result<_>>()?;
    Ok(format!("[{}]", parts.join(", ")).into())
}

fn one(call: &Call<'_>) -> Result<Value> {
    Ok(json(&call.arguments[0], call, 0)?.into())
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
