//! Text that clients build statements from: `quote_ident`, `quote_literal`, `format`, `parse_ident`.

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::ScalarValue;

use super::Argument::{Any, Bool, Text};
use super::reg::{quote_identifier, regtype_name};
use super::{Call, Definition, Returns, define, invalid, text_of};
use crate::catalog::system::Value;
use crate::error::{Error, Result, SqlState};
use crate::types::PgType;
use crate::types::text_output::{TextColumn, TextStyle};

pub(super) const DEFINITIONS: &[Definition] = &[
    define("quote_ident", &[Text], Returns::Text, |call| Ok(call.text(0).map(quote_identifier).into())).immutable(),
    define("quote_literal", &[Any], Returns::Text, |call| {
        Ok(plain_text(&call.arguments[0])?.map(|t| quote(&t)).into())
    })
    .immutable(),
    define("quote_nullable", &[Any], Returns::Text, |call| {
        Ok(plain_text(&call.arguments[0])?.map_or_else(|| "NULL".to_string(), |t| quote(&t)).into())
    })
    .immutable()
    .lenient(),
    define("format", &[Text], Returns::Text, format).variadic().lenient().immutable(),
    define("parse_ident", &[Text, Bool], Returns::TextArray, parse_ident).optional(1).immutable(),
    define("pg_typeof", &[Any], Returns::Text, pg_typeof).lenient(),
    define("hw_keywords", &[], Returns::TextArray, |_| Ok(super::keywords::words().into())).immutable(),
    define("hw_like_pattern", &[Text, Text], Returns::Text, like_pattern).immutable(),
    define("pg_column_size", &[Any], Returns::Int4, |call| Ok((call.arguments[0].size() as i32).into())),
];

/// In single quotes, with `E` where a backslash makes it necessary.
fn quote(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') { format!("E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

/// A value as Postgres prints it, as far as `format` and its kin need: text as it is, booleans by one letter.
pub(super) fn plain_text(value: &ScalarValue) -> Result<Option<String>> {
    if value.is_null() {
        return Ok(None);
    }
    Ok(Some(match value {
        ScalarValue::Boolean(Some(flag)) => if *flag { "t" } else { "f" }.to_string(),
        other => match text_of(other) {
            Some(text) => text.to_string(),
            None if other.data_type().is_numeric() => {
                let array = other.to_array()?;
                let mut out = bytes::BytesMut::new();
                let pg_type = PgType::of_arrow(array.data_type());
                TextColumn::new(&array, &pg_type, &TextStyle::default())?.put(0, &mut out);
                String::from_utf8_lossy(&out).into_owned()
            }
            None => {
                let array = other.to_array()?;
                let options = FormatOptions::new().with_null("");
                ArrayFormatter::try_new(&array, &options)?.value(0).to_string()
            }
        },
    }))
}

/// `format('%s %I %L %1$s %-10s', …)`.
fn format(call: &Call<'_>) -> Result<Value> {
    let Some(template) = call.text(0) else { return Ok(Value::Null) };
    let mut out = String::with_capacity(template.len());
    let mut chars = template.chars().peekable();
    let mut next_argument = 1;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut number = String::new();
        let digits = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>, number: &mut String| {
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                number.push(digit);
            }
        };
        digits(&mut chars, &mut number);
        if chars.peek() == Some(&'$') {
            chars.next();
            next_argument = number
                .parse()
                .ok()
                .filter(|n| *n > 0)
                .ok_or_else(|| invalid("format specifies argument 0, but arguments are numbered from 1"))?;
            number.clear();
        }
        let left = chars.next_if_eq(&'-').is_some();
        if number.is_empty() {
            digits(&mut chars, &mut number);
        }
        let width: usize = number.parse().unwrap_or(0);
        if width > 1 << 20 {
            return Err(invalid("format width is out of range"));
        }
        let Some(kind) = chars.next() else { return Err(invalid("unterminated format() type specifier")) };
        if !matches!(kind, 's' | 'I' | 'L') {
            return Err(invalid(format!("unrecognized format() type specifier \"{kind}\""))
                .with_hint("for a single \"%\" use \"%%\""));
        }
        let Some(value) = call.arguments.get(next_argument) else {
            return Err(invalid("too few arguments for format()"));
        };
        next_argument += 1;
        let text = match (kind, plain_text(value)?) {
            ('s', text) => text.unwrap_or_default(),
            ('L', Some(text)) => quote(&text),
            ('L', None) => "NULL".to_string(),
            (_, Some(text)) => quote_identifier(&text),
            (_, None) => return Err(invalid("null values cannot be formatted as an SQL identifier")),
        };
        let padding = " ".repeat(width.saturating_sub(text.chars().count()));
        if left {
            out.push_str(&text);
            out.push_str(&padding);
        } else {
            out.push_str(&padding);
            out.push_str(&text);
        }
    }
    Ok(out.into())
}

fn parse_ident(call: &Call<'_>) -> Result<Value> {
    let text = call.text(0).unwrap_or_default();
    let parts = super::reg::name_parts(text);
    if parts.iter().any(String::is_empty) {
        return Err(invalid(format!("string is not a valid identifier: \"{text}\"")));
    }
    Ok(parts.into())
}

/// The pattern of `LIKE … ESCAPE c`, with a backslash for c; an empty c escapes nothing.
fn like_pattern(call: &Call<'_>) -> Result<Value> {
    let (pattern, escape) = (call.text(0).unwrap_or_default(), call.text(1).unwrap_or_default());
    let escape = escape.chars().next();
    let mut translated = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            let Some(escaped) = chars.next() else {
                return Err(Error::new(SqlState("22025"), "LIKE pattern must not end with escape character"));
            };
            if matches!(escaped, '%' | '_' | '\\') {
                translated.push('\\');
            }
            translated.push(escaped);
        } else {
            if c == '\\' {
                translated.push(c);
            }
            translated.push(c);
        }
    }
    Ok(translated.into())
}

fn pg_typeof(call: &Call<'_>) -> Result<Value> {
    Ok(match call.fields.first() {
        // Without a modifier.
        Some(field) => PgType::from_oid(PgType::of(field).oid()).unwrap_or_else(|| PgType::of(field)).name(),
        None => regtype_name(0),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn literals_are_quoted() {
        assert_eq!(quote("it's"), "'it''s'");
        assert_eq!(quote("a\\b"), "E'a\\\\b'");
    }
}
