//! Text to values: Postgres' input functions. Parameters in text format, COPY FROM and casts of literals come here.
//!
//! What is read has the Arrow type of [`PgType::arrow`]. Bad text is 22P02 (dates: 22007), a value that does not fit
//! 22003 or 22008, a string that is too long 22001.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ListArray, StructArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, IntervalMonthDayNano};
use chrono_tz::Tz;
use datafusion::common::ScalarValue;

pub use super::datetime_input::zone_named;
pub use super::interval_input::{Interval, parse_interval};
pub use super::json_input::normal_jsonb;
pub use super::number_input::{from_digits as decimal_from_digits, parse_decimal};

use super::PgType;
use super::datetime_input::{parse_date, parse_time, parse_timestamp, parse_timestamptz};
use super::json_input::check_json;
use super::number_input::{invalid_syntax, parse_float4, parse_float8, parse_integer, parse_oid, shown};
use super::pg_type::NUMERIC_DEFAULT;
use crate::error::{Error, Result, SqlState};

/// Bytes that a `name` can have.
const NAME_BYTES_MAX: usize = 63;

/// Reads one value that is not NULL. `zone` is that of the session: for timestamps with time zone that name none.
pub fn parse_text(text: &str, pg_type: &PgType, zone: Tz) -> Result<ScalarValue> {
    Ok(match pg_type {
        PgType::Bool => ScalarValue::Boolean(Some(parse_bool(text)?)),
        PgType::Int2 => {
            ScalarValue::Int16(Some(parse_integer(text, "smallint", i16::MIN as i64, i16::MAX as i64)? as i16))
        }
        PgType::Int4 => {
            ScalarValue::Int32(Some(parse_integer(text, "integer", i32::MIN as i64, i32::MAX as i64)? as i32))
        }
        PgType::Int8 => ScalarValue::Int64(Some(parse_integer(text, "bigint", i64::MIN, i64::MAX)?)),
        PgType::Float4 => ScalarValue::Float32(Some(parse_float4(text)?)),
        PgType::Float8 => ScalarValue::Float64(Some(parse_float8(text)?)),
        PgType::Numeric(declared) => {
            let (precision, scale) = declared.unwrap_or(NUMERIC_DEFAULT);
            let unscaled = parse_decimal(text, precision, scale, declared.is_some())?;
            ScalarValue::Decimal128(Some(unscaled), precision, scale)
        }
        PgType::Text | PgType::Unknown | PgType::Void => ScalarValue::Utf8(Some(text.to_string())),
        PgType::Varchar(limit) => ScalarValue::Utf8(Some(fit_varchar(text, *limit)?)),
        PgType::Bpchar(limit) => ScalarValue::Utf8(Some(fit_bpchar(text, *limit)?)),
        PgType::Char => ScalarValue::Utf8(Some(text.chars().take(1).collect())),
        PgType::Name => ScalarValue::Utf8(Some(fit_name(text).to_string())),
        PgType::Bytea => ScalarValue::Binary(Some(parse_bytea(text)?)),
        PgType::Date => ScalarValue::Date32(Some(parse_date(text)?)),
        PgType::Time => ScalarValue::Time64Microsecond(Some(parse_time(text)?)),
        PgType::Timestamp => ScalarValue::TimestampMicrosecond(Some(parse_timestamp(text)?), None),
        PgType::Timestamptz => {
            ScalarValue::TimestampMicrosecond(Some(parse_timestamptz(text, zone)?), Some("UTC".into()))
        }
        PgType::Interval => {
            let Interval { months, days, time_us } = parse_interval(text)?;
            // The parser keeps the time inside what nanoseconds can hold.
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(months, days, time_us * 1000)))
        }
        PgType::Uuid => ScalarValue::Utf8(Some(parse_uuid(text)?)),
        PgType::Json => {
            check_json(text)?;
            ScalarValue::Utf8(Some(text.to_string()))
        }
        PgType::Jsonb => ScalarValue::Utf8(Some(normal_jsonb(text)?)),
        PgType::Oid => ScalarValue::UInt32(Some(parse_oid(text)?)),
        PgType::Regclass | PgType::Regtype | PgType::Regproc | PgType::Regnamespace => {
            ScalarValue::UInt32(Some(parse_reg(text, pg_type)?))
        }
        PgType::Int2vector => parse_vector(text, &PgType::Int2, zone)?,
        PgType::Oidvector => parse_vector(text, &PgType::Oid, zone)?,
        PgType::Array(item) => parse_array(text, item, zone)?,
        PgType::Record(fields) => parse_record(text, fields, zone)?,
    })
}

/// NULL of the type.
pub fn null_of(pg_type: &PgType) -> Result<ScalarValue> {
    Ok(ScalarValue::try_from(&pg_type.arrow())?)
}

/// Unique prefixes of true, false, yes, no; on, off; 1, 0.
pub fn parse_bool(text: &str) -> Result<bool> {
    let word = text.trim_matches(|c: char| c.is_ascii_whitespace()).to_ascii_lowercase();
    match word.as_str() {
        "1" | "on" | "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" => Ok(true),
        "0" | "of" | "off" | "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" => Ok(false),
        _ => Err(invalid_syntax("boolean", text)),
    }
}

fn too_long(type_name: &str, limit: u32) -> Error {
    Error::new(SqlState::STRING_DATA_RIGHT_TRUNCATION, format!("value too long for type {type_name}({limit})"))
}

/// The text cut to `limit` characters, if only blanks are lost.
fn cut(text: &str, limit: u32, type_name: &str) -> Result<String> {
    match text.char_indices().nth(limit as usize) {
        None => Ok(text.to_string()),
        Some((end, _)) if text[end..].bytes().all(|b| b == b' ') => Ok(text[..end].to_string()),
        Some(_) => Err(too_long(type_name, limit)),
    }
}

pub fn fit_varchar(text: &str, limit: Option<u32>) -> Result<String> {
    match limit {
        Some(limit) => cut(text, limit, "character varying"),
        None => Ok(text.to_string()),
    }
}

/// `char(n)`: padded with blanks to n characters.
pub fn fit_bpchar(text: &str, limit: Option<u32>) -> Result<String> {
    let Some(limit) = limit else { return Ok(text.to_string()) };
    let mut fitted = cut(text, limit, "character")?;
    let missing = (limit as usize).saturating_sub(fitted.chars().count());
    fitted.extend(std::iter::repeat_n(' ', missing));
    Ok(fitted)
}

fn fit_name(text: &str) -> &str {
    if text.len() <= NAME_BYTES_MAX {
        return text;
    }
    let end = (0..=NAME_BYTES_MAX).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    &text[..end]
}

/// `\x…` in hexadecimal, or the old escape format (`\\`, `\ooo`).
pub fn parse_bytea(text: &str) -> Result<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let mut bytes = Vec::with_capacity(hex.len() / 2);
        let mut digits = hex.chars();
        let digit = |c: char| {
            c.to_digit(16).ok_or_else(|| {
                Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("invalid hexadecimal digit: \"{c}\""))
            })
        };
        while let Some(first) = digits.next() {
            if first.is_ascii_whitespace() {
                continue;
            }
            let high = digit(first)?;
            let low = digits.next().ok_or_else(|| {
                Error::new(SqlState::INVALID_PARAMETER_VALUE, "invalid hexadecimal data: odd number of digits")
            })?;
            bytes.push((high << 4 | digit(low)?) as u8);
        }
        return Ok(bytes);
    }
    let invalid = || Error::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type bytea");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        if *first != b'\\' {
            bytes.push(*first);
            rest = behind;
            continue;
        }
        match behind {
            [b'\\', behind @ ..] => {
                bytes.push(b'\\');
                rest = behind;
            }
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', behind @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = behind;
            }
            _ => return Err(invalid()),
        }
    }
    Ok(bytes)
}

/// 32 hexadecimal digits, hyphens after any four, braces around: the lower-case form with four hyphens.
fn parse_uuid(text: &str) -> Result<String> {
    let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
    let mut digits = [0u8; 32];
    let mut count = 0;
    let mut after_hyphen = true;
    for byte in inner.bytes() {
        match byte {
            b'-' if !after_hyphen && count % 4 == 0 && count < 32 => after_hyphen = true,
            _ if byte.is_ascii_hexdigit() && count < 32 => {
                digits[count] = byte.to_ascii_lowercase();
                count += 1;
                after_hyphen = false;
            }
            _ => return Err(invalid_syntax("uuid", text)),
        }
    }
    if count != 32 || after_hyphen {
        return Err(invalid_syntax("uuid", text));
    }
    let digits = std::str::from_utf8(&digits).expect("hexadecimal digits are ASCII");
    Ok(format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]))
}

/// A number, `-` for none, or the name of a type. Names of relations need a catalog, which the caller has.
fn parse_reg(text: &str, pg_type: &PgType) -> Result<u32> {
    if text == "-" {
        return Ok(0);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return parse_oid(text);
    }
    Err(Error::unsupported(
        format!("the name \"{}\" as a value of type {}", shown(text), pg_type.name()),
        format!("give the number, or write '{}'::{}", shown(text), pg_type.name()),
    ))
}

fn parse_vector(text: &str, item: &PgType, zone: Tz) -> Result<ScalarValue> {
    let items = text.split_ascii_whitespace().map(|word| parse_text(word, item, zone)).collect::<Result<Vec<_>>>()?;
    list_of(items, item)
}

/// A list value of items that have the type already.
pub fn list_of(items: Vec<ScalarValue>, item: &PgType) -> Result<ScalarValue> {
    let field = item.field("item", true);
    let length = items.len();
    let values: ArrayRef = match items.is_empty() {
        true => new_empty_array(field.data_type()),
        false => ScalarValue::iter_to_array(items)?,
    };
    let list = ListArray::try_new(field, OffsetBuffer::from_lengths([length]), values, None)?;
    Ok(ScalarValue::List(Arc::new(list)))
}

/// `{1,NULL,"a b"}`, with the bounds `[0:2]=` in front if need be.
fn parse_array(text: &str, item: &PgType, zone: Tz) -> Result<ScalarValue> {
    let mut reader = ArrayReader { text, rest: text.trim(), zone };
    if reader.rest.starts_with('[') {
        let (_, behind) = reader.rest.split_once('=').ok_or_else(|| reader.malformed("missing assignment operator"))?;
        reader.rest = behind.trim_start();
    }
    let value = reader.array(item)?;
    if reader.rest.trim().is_empty() { Ok(value) } else { Err(reader.malformed("junk after closing right brace")) }
}

struct ArrayReader<'a> {
    text: &'a str,
    rest: &'a str,
    zone: Tz,
}

impl ArrayReader<'_> {
    fn malformed(&self, why: &str) -> Error {
        Error::new(SqlState::INVALID_TEXT_REPRESENTATION, format!("malformed array literal: \"{}\"", shown(self.text)))
            .with_detail(why)
    }

    fn array(&mut self, item: &PgType) -> Result<ScalarValue> {
        self.rest = self
            .rest
            .strip_prefix('{')
            .ok_or_else(|| self.malformed("array value must start with \"{\" or dimension information"))?;
        let mut items = vec![];
        self.rest = self.rest.trim_start();
        if let Some(behind) = self.rest.strip_prefix('}') {
            self.rest = behind;
            return list_of(items, item);
        }
        loop {
            self.rest = self.rest.trim_start();
            items.push(match (self.rest.as_bytes().first(), item) {
                (Some(b'{'), PgType::Array(inner)) => self.array(inner)?,
                (Some(b'{'), _) => {
                    return Err(Error::unsupported(
                        "an array of more than one dimension as input",
                        "build it with ARRAY[…] from arrays of one dimension",
                    ));
                }
                (Some(b'"'), _) => {
                    let text = self.quoted()?;
                    parse_text(&text, item, self.zone)?
                }
                _ => self.bare(item)?,
            });
            self.rest = self.rest.trim_start();
            match self.rest.as_bytes().first() {
                Some(b',') => self.rest = &self.rest[1..],
                Some(b'}') => {
                    self.rest = &self.rest[1..];
                    return list_of(items, item);
                }
                _ => return Err(self.malformed("unexpected end of input")),
            }
        }
    }

    fn quoted(&mut self) -> Result<String> {
        let mut value = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 2..];
                    return Ok(value);
                }
                '\\' => match chars.next() {
                    Some((_, escaped)) => value.push(escaped),
                    None => break,
                },
                c => value.push(c),
            }
        }
        Err(self.malformed("unexpected end of input"))
    }

    fn bare(&mut self, item: &PgType) -> Result<ScalarValue> {
        let mut value = String::new();
        let (mut end, mut escaped_any) = (None, false);
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                ',' | '}' => {
                    end = Some(at);
                    break;
                }
                '{' | '"' => return Err(self.malformed(&format!("unexpected \"{c}\" character"))),
                '\\' => {
                    let (_, escaped) = chars.next().ok_or_else(|| self.malformed("unexpected end of input"))?;
                    value.push(escaped);
                    escaped_any = true;
                }
                c => value.push(c),
            }
        }
        let end = end.ok_or_else(|| self.malformed("unexpected end of input"))?;
        self.rest = &self.rest[end..];
        let value = value.trim_end();
        if value.is_empty() {
            return Err(self.malformed("unexpected \",\" or \"}\" character"));
        }
        if !escaped_any && value.eq_ignore_ascii_case("null") {
            return null_of(item);
        }
        parse_text(value, item, self.zone)
    }
}

/// `(1,"a b",)`: an empty place is NULL.
fn parse_record(text: &str, fields: &[(String, PgType)], zone: Tz) -> Result<ScalarValue> {
    let malformed = |why: &str| {
        Error::new(SqlState::INVALID_TEXT_REPRESENTATION, format!("malformed record literal: \"{}\"", shown(text)))
            .with_detail(why.to_string())
    };
    let inner = text.trim().strip_prefix('(').ok_or_else(|| malformed("missing left parenthesis"))?;
    let inner = inner.strip_suffix(')').ok_or_else(|| malformed("missing right parenthesis"))?;
    let mut values: Vec<Option<String>> = vec![];
    let mut current: Option<String> = None;
    let mut in_quotes = false;
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if in_quotes && chars.peek() == Some(&'"') => {
                chars.next();
                current.get_or_insert_default().push('"');
            }
            '"' => {
                in_quotes = !in_quotes;
                current.get_or_insert_default();
            }
            '\\' => {
                let escaped = chars.next().ok_or_else(|| malformed("unexpected end of input"))?;
                current.get_or_insert_default().push(escaped);
            }
            ',' if !in_quotes => values.push(current.take()),
            c => current.get_or_insert_default().push(c),
        }
    }
    if in_quotes {
        return Err(malformed("unexpected end of input"));
    }
    if !fields.is_empty() {
        values.push(current);
    }
    if values.len() != fields.len() {
        return Err(malformed(if values.len() < fields.len() { "too few columns" } else { "too many columns" }));
    }
    let scalars = values
        .into_iter()
        .zip(fields)
        .map(|(value, (_, pg_type))| match value {
            Some(value) => parse_text(&value, pg_type, zone),
            None => null_of(pg_type),
        })
        .collect::<Result<Vec<_>>>()?;
    struct_of(scalars, fields)
}

/// A record value of members that have their types already.
pub fn struct_of(members: Vec<ScalarValue>, fields: &[(String, PgType)]) -> Result<ScalarValue> {
    let DataType::Struct(arrow_fields) = PgType::Record(fields.to_vec()).arrow() else {
        return Err(Error::internal("a record is carried by a struct"));
    };
    let columns = members.iter().map(|m| Ok(m.to_array()?)).collect::<Result<Vec<ArrayRef>>>()?;
    let array = match columns.is_empty() {
        true => StructArray::new_empty_fields(1, None),
        false => StructArray::try_new(arrow_fields, columns, None)?,
    };
    debug_assert_eq!(array.len(), 1);
    Ok(ScalarValue::Struct(Arc::new(array)))
}

#[cfg(test)]
mod tests;
