//! Text to values: what Postgres calls a type's input function.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray, ListArray, StringArray};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::DataType;

use super::map_text;
use crate::error::{Error, Result, SqlState};
use crate::types::PgType;

pub(super) fn from_text(strings: &StringArray, target: &PgType, strict: bool) -> Result<ArrayRef> {
    match target {
        PgType::Varchar(Some(n)) => map_text(strings, |text| fit(text, *n as usize, "character varying", strict)),
        PgType::Bpchar(Some(n)) => map_text(strings, |text| {
            let fitted = fit(text, *n as usize, "character", strict)?;
            Ok(format!("{fitted:<width$}", width = *n as usize))
        }),
        PgType::Name => map_text(strings, |text| Ok(text.chars().take(63).collect())),
        PgType::Uuid => map_text(strings, uuid),
        PgType::Json => map_text(strings, |text| json(text).map(|_| text.to_string())),
        PgType::Jsonb => map_text(strings, |text| {
            let mut printed = String::new();
            print_jsonb(&json(text)?, &mut printed);
            Ok(printed)
        }),
        PgType::Bool => {
            let read = |text: &str| boolean(text).ok_or_else(|| syntax(target, text));
            let values = strings.iter().map(|text| text.map(read).transpose()).collect::<Result<BooleanArray>>()?;
            Ok(Arc::new(values))
        }
        PgType::Bytea => {
            let values: Vec<Option<Vec<u8>>> =
                strings.iter().map(|text| text.map(bytea).transpose()).collect::<Result<_>>()?;
            Ok(Arc::new(values.iter().map(|v| v.as_deref()).collect::<BinaryArray>()))
        }
        PgType::Array(item) => array(strings, item, strict),
        PgType::Record(_) => {
            Err(Error::unsupported("text input of a composite value", "write named_struct('field', value, …)"))
        }
        _ if super::is_text(target) => Ok(Arc::new(strings.clone())),
        _ => by_arrow(strings, target),
    }
}

/// `invalid input syntax for type integer: "x"`.
fn syntax(target: &PgType, text: &str) -> Error {
    let name = match target {
        PgType::Varchar(_) => "character varying".to_string(),
        PgType::Numeric(_) => "numeric".to_string(),
        other => other.name(),
    };
    let code = match target {
        PgType::Date | PgType::Time | PgType::Timestamp | PgType::Timestamptz | PgType::Interval => {
            SqlState::INVALID_DATETIME_FORMAT
        }
        _ => SqlState::INVALID_TEXT_REPRESENTATION,
    };
    Error::new(code, format!("invalid input syntax for type {name}: \"{text}\""))
}

/// Numbers and times, by Arrow's parsers.
fn by_arrow(strings: &StringArray, target: &PgType) -> Result<ArrayRef> {
    let trimmed: StringArray = strings.iter().map(|text| text.map(str::trim)).collect();
    let options = CastOptions { safe: true, ..Default::default() };
    let cast = cast_with_options(&trimmed, &target.arrow(), &options)?;
    let bad = (0..strings.len()).find(|&row| strings.is_valid(row) && cast.is_null(row));
    let Some(row) = bad else { return Ok(cast) };
    let text = strings.value(row);
    let digits = trimmed.value(row).trim_start_matches(['-', '+']);
    let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number = whole || digits.parse::<f64>().is_ok();
    match target {
        PgType::Int2 | PgType::Int4 | PgType::Int8 if whole => Err(Error::new(
            SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("value \"{text}\" is out of range for type {}", target.name()),
        )),
        PgType::Numeric(_) if number => Err(numeric_overflow(target)),
        _ => Err(syntax(target, text)),
    }
}

fn numeric_overflow(target: &PgType) -> Error {
    let DataType::Decimal128(precision, scale) = target.arrow() else { return Error::internal("numeric is a decimal") };
    Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").with_detail(format!(
        "A field with precision {precision}, scale {scale} must round to an absolute value less than 10^{}.",
        i32::from(precision) - i32::from(scale)
    ))
}

/// Cut to `length` characters, or an error; blanks beyond it do not count.
fn fit(text: &str, length: usize, type_name: &str, strict: bool) -> Result<String> {
    let Some((end, _)) = text.char_indices().nth(length) else { return Ok(text.to_string()) };
    if strict && !text[end..].bytes().all(|byte| byte == b' ') {
        let message = format!("value too long for type {type_name}({length})");
        return Err(Error::new(SqlState::STRING_DATA_RIGHT_TRUNCATION, message));
    }
    Ok(text[..end].to_string())
}

fn uuid(text: &str) -> Result<String> {
    match uuid::Uuid::try_parse(text.trim()) {
        Ok(uuid) => Ok(uuid.hyphenated().to_string()),
        Err(_) => Err(syntax(&PgType::Uuid, text)),
    }
}

fn json(text: &str) -> Result<serde_json::Value> {
    serde_json::from_str(text).map_err(|e| {
        Error::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type json")
            .with_detail(e.to_string())
    })
}

/// As `jsonb` prints: keys by length, then by bytes, each once; a blank after `:` and `,`.
fn print_jsonb(value: &serde_json::Value, out: &mut String) {
    match value {
        serde_json::Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                print_jsonb(item, out);
            }
            out.push(']');
        }
        serde_json::Value::Object(entries) => {
            let mut keys: Vec<&String> = entries.keys().collect();
            keys.sort_by(|a, b| (a.len(), a.as_bytes()).cmp(&(b.len(), b.as_bytes())));
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                out.push_str(&serde_json::Value::String(key.clone()).to_string());
                out.push_str(": ");
                print_jsonb(&entries[key], out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// Unique prefixes of true, false, yes, no, on, off, and 0 and 1.
fn boolean(text: &str) -> Option<bool> {
    let text = text.trim().to_ascii_lowercase();
    let begins = |word: &str, shortest: usize| text.len() >= shortest && word.starts_with(&text);
    if begins("true", 1) || begins("yes", 1) || text == "on" || text == "1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || text == "0" {
        Some(false)
    } else {
        None
    }
}

/// `\x` and hexadecimal digits, or characters with `\\` and `\ooo` escapes.
fn bytea(text: &str) -> Result<Vec<u8>> {
    let bad = || syntax(&PgType::Bytea, text);
    if let Some(digits) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = digits.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        if digits.len() % 2 != 0 {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "invalid hexadecimal data: odd number of digits",
            ));
        }
        let nibble = |byte: u8| (byte as char).to_digit(16).map(|d| d as u8);
        return digits
            .chunks(2)
            .map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?))
            .collect::<Option<_>>()
            .ok_or_else(bad);
    }
    let (mut bytes, mut rest) = (vec![], text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'\\' {
            bytes.push(byte);
            rest = after;
        } else if let Some(after) = after.strip_prefix(b"\\") {
            bytes.push(b'\\');
            rest = after;
        } else {
            let octal =
                after.get(..3).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
            bytes.push(octal.ok_or_else(bad)?);
            rest = &after[3..];
        }
    }
    Ok(bytes)
}

/// `{1,NULL,"a b"}`.
fn array(strings: &StringArray, item: &PgType, strict: bool) -> Result<ArrayRef> {
    let (mut items, mut lengths, mut valid) = (vec![], vec![], vec![]);
    for text in strings {
        let before = items.len();
        if let Some(text) = text {
            items.extend(array_items(text)?);
        }
        valid.push(text.is_some());
        lengths.push(items.len() - before);
    }
    let values = from_text(&StringArray::from(items), item, strict)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(item.field("item", true), offsets, values, Some(NullBuffer::from(valid)))?))
}

fn array_items(text: &str) -> Result<Vec<Option<String>>> {
    let bad = |detail: &str| {
        Error::new(SqlState::INVALID_TEXT_REPRESENTATION, format!("malformed array literal: \"{text}\""))
            .with_detail(detail)
    };
    let inner = text.trim().strip_prefix('{').and_then(|t| t.strip_suffix('}'));
    let inner = inner.ok_or_else(|| bad("Array value must start with \"{\" and end with \"}\"."))?;
    if inner.trim().is_empty() {
        return Ok(vec![]);
    }
    let (mut items, mut chars) = (vec![], inner.chars().peekable());
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let (mut item, mut quoted) = (String::new(), false);
        if chars.next_if_eq(&'"').is_some() {
            quoted = true;
            loop {
                match chars.next() {
                    Some('"') => break,
                    Some('\\') => item.extend(chars.next()),
                    Some(c) => item.push(c),
                    None => return Err(bad("Unexpected end of input.")),
                }
            }
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                match c {
                    '{' | '}' => return Err(Error::unsupported("an array of more dimensions", "take one dimension")),
                    '"' => return Err(bad("Incorrectly quoted array element.")),
                    '\\' => item.extend(chars.next()),
                    c => item.push(c),
                }
            }
            item.truncate(item.trim_end().len());
            if item.is_empty() {
                return Err(bad("Unexpected \",\" character."));
            }
        }
        items.push(if !quoted && item.eq_ignore_ascii_case("null") { None } else { Some(item) });
        match chars.next() {
            None => return Ok(items),
            Some(',') => {}
            Some(_) => return Err(bad("Junk after closing quote.")),
        }
    }
}
