//! json and jsonb as Postgres reads them: json keeps its text, jsonb its value.
//!
//! jsonb sorts keys by length, then bytes, and the last of equal keys wins; it is printed with a blank behind `:` and `,`.

use serde_json::Value;

use crate::error::{Error, Result, SqlState};

fn invalid(error: serde_json::Error) -> Error {
    Error::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type json")
        .with_detail(error.to_string())
}

/// 22P02 if the text is no JSON.
pub(super) fn check_json(text: &str) -> Result<()> {
    // IgnoredAny: no tree is built.
    serde_json::from_str::<serde::de::IgnoredAny>(text).map(|_| ()).map_err(invalid)
}

/// The text of a jsonb value in its normal form.
pub fn normal_jsonb(text: &str) -> Result<String> {
    let value: Value = serde_json::from_str(text).map_err(invalid)?;
    let mut out = String::with_capacity(text.len());
    put(&value, &mut out);
    Ok(out)
}

fn put(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                put(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
            out.push('{');
            for (index, (key, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push_str(": ");
                put(member, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jsonb_is_normalised() {
        let normal = normal_jsonb(r#" {"bb":1,"a":[1,2.50,{"x":"é\n"}],"a":null , "c" : true}"#);
        assert_eq!(normal.map_err(|e| e.message), Ok(r#"{"a": null, "c": true, "bb": 1}"#.to_string()));
        assert_eq!(normal_jsonb("{").map_err(|e| e.code.0), Err("22P02"));
        assert_eq!(check_json("[1,").map_err(|e| e.code.0), Err("22P02"));
        assert!(check_json(" [1, 2] ").is_ok());
        assert!(normal_jsonb(&"[".repeat(100_000)).is_err());
    }
}
