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
pub fn check_json(text: &str) -> Result<()> {
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

/// A value as jsonb prints it.
pub fn jsonb_text(value: &Value) -> String {
    let mut out = String::new();
    put(value, &mut out);
    out
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
        Value::Number(number) => put_number(&number.to_string(), out),
        other => out.push_str(&other.to_string()),
    }
}

/// Exponents that are written out; a number further away stays as it came.
const EXPONENT_MAX: i64 = 400;

/// As `numeric` prints it: no exponent, no negative zero.
fn put_number(text: &str, out: &mut String) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let exponent = match exponent.parse::<i64>() {
        Ok(exponent) if exponent.abs() <= EXPONENT_MAX => exponent,
        _ => return out.push_str(text),
    };
    let (whole, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if negative && mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
        out.push('-');
    }
    if exponent == 0 {
        return out.push_str(mantissa);
    }
    let digits = format!("{whole}{rest}");
    let point = whole.len() as i64 + exponent;
    if point <= 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
        out.push_str(&digits);
    } else {
        let point = point as usize;
        let padded = format!("{digits:0<point$}");
        let (whole, rest) = padded.split_at(point);
        let whole = whole.trim_start_matches('0');
        out.push_str(if whole.is_empty() { "0" } else { whole });
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jsonb_is_normalised() {
        let normal = normal_jsonb(r#" {"bb":1,"a":[1,2.50,{"x":"é\n"}],"a":null , "c" : true}"#);
        assert_eq!(normal.map_err(|e| e.message), Ok(r#"{"a": null, "c": true, "bb": 1}"#.to_string()));
        let numbers = normal_jsonb("[1e2, 1.5e3, 12e-3, -0, -1.50, 1.234e1, 0e5]").map_err(|e| e.message);
        assert_eq!(numbers, Ok("[100, 1500, 0.012, 0, -1.50, 12.34, 0]".to_string()));
        assert_eq!(normal_jsonb("{").map_err(|e| e.code.0), Err("22P02"));
        assert_eq!(check_json("[1,").map_err(|e| e.code.0), Err("22P02"));
        assert!(check_json(" [1, 2] ").is_ok());
        assert!(normal_jsonb(&"[".repeat(100_000)).is_err());
    }
}
