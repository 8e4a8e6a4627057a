//! Strings as Postgres' functions take them: characters, not bytes, and positions from 1.

use super::scalar::{Function, Kernel, Row, Type, function, overload};
use crate::error::{Error, Result, SqlState};

use Type::{Any, Bytea, Int4, Int8, Text};

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        "to_hex",
        &[
            overload(&[Int4], Kernel::Text(|row| Ok(Some(format!("{:x}", row.int(0) as i32))))),
            overload(&[Int8], Kernel::Text(|row| Ok(Some(format!("{:x}", row.int(0)))))),
        ],
    ),
    function(
        "chr",
        &[overload(
            &[Int4],
            Kernel::Text(|row| {
                let code = row.int(0);
                if code == 0 {
                    return Err(Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "null character not permitted"));
                }
                let character = u32::try_from(code).ok().and_then(char::from_u32);
                let message = format!("requested character too large for encoding: {code}");
                character
                    .map(|c| Some(c.to_string()))
                    .ok_or_else(|| Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message))
            }),
        )],
    ),
    function("concat", &[overload(&[], Kernel::Text(concat)).variadic(Any).lenient()]),
    function("concat_ws", &[overload(&[Text], Kernel::Text(concat_ws)).variadic(Any).lenient()]),
    function(
        "string_to_array",
        &[overload(&[Text, Text, Text], Kernel::TextArray(string_to_array)).optional(1).lenient()],
    ),
    function(
        "starts_with",
        &[overload(&[Text, Text], Kernel::Bool(|row| Ok(Some(row.text(0).starts_with(row.text(1))))))],
    ),
    function("normalize", &[overload(&[Text, Text], Kernel::Text(normalize)).optional(1)]),
    function("unistr", &[overload(&[Text], Kernel::Text(unistr))]),
    function(
        "length",
        &[
            overload(&[Text], Kernel::Int4(|row| Ok(Some(row.text(0).chars().count() as i32)))),
            overload(&[Bytea], Kernel::Int4(|row| Ok(Some(row.bytes(0).len() as i32)))),
        ],
    ),
    function(
        "octet_length",
        &[
            overload(&[Text], Kernel::Int4(|row| Ok(Some(row.text(0).len() as i32)))),
            overload(&[Bytea], Kernel::Int4(|row| Ok(Some(row.bytes(0).len() as i32)))),
        ],
    ),
    function(
        "bit_length",
        &[
            overload(&[Text], Kernel::Int4(|row| Ok(Some(row.text(0).len() as i32 * 8)))),
            overload(&[Bytea], Kernel::Int4(|row| Ok(Some(row.bytes(0).len() as i32 * 8)))),
        ],
    ),
];

/// `string_to_array`: by characters for no delimiter, one part for an empty one; what equals `null` is NULL.
pub(super) fn split(text: &str, delimiter: Option<&str>, null: Option<&str>) -> Vec<Option<String>> {
    let item = |part: &str| (Some(part) != null).then(|| part.to_string());
    if text.is_empty() {
        return vec![];
    }
    match delimiter {
        None => text.chars().map(|c| item(c.encode_utf8(&mut [0; 4]))).collect(),
        Some("") => vec![item(text)],
        Some(delimiter) => text.split(delimiter).map(item).collect(),
    }
}

fn string_to_array(row: &Row<'_>) -> Result<Option<Vec<Option<String>>>> {
    if row.is_null(0) {
        return Ok(None);
    }
    let delimiter = (!row.is_null(1)).then(|| row.text(1));
    let null = (row.len() > 2 && !row.is_null(2)).then(|| row.text(2));
    Ok(Some(split(row.text(0), delimiter, null)))
}

fn concat(row: &Row<'_>) -> Result<Option<String>> {
    let mut out = String::new();
    for index in 0..row.len() {
        out.push_str(&row.printed(index)?.unwrap_or_default());
    }
    Ok(Some(out))
}

fn concat_ws(row: &Row<'_>) -> Result<Option<String>> {
    if row.is_null(0) {
        return Ok(None);
    }
    let mut parts = vec![];
    for index in 1..row.len() {
        parts.extend(row.printed(index)?);
    }
    Ok(Some(parts.join(row.text(0))))
}

/// Text that is ASCII is in every form; there are no tables for the rest.
fn normalize(row: &Row<'_>) -> Result<Option<String>> {
    let text = row.text(0);
    if text.is_ascii() {
        return Ok(Some(text.to_string()));
    }
    Err(Error::unsupported("normalize of text beyond ASCII", "normalize the text before it comes in"))
}

/// `\XXXX`, `\+XXXXXX`, `\uXXXX`, `\UXXXXXXXX`.
fn unistr(row: &Row<'_>) -> Result<Option<String>> {
    let bad = |what: &str| Error::new(SqlState("42601"), what);
    let text = row.text(0);
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('\\') {
            out.push('\\');
            rest = after;
            continue;
        }
        let (skip, length) = match rest.as_bytes().first() {
            Some(b'+') => (1, 6),
            Some(b'u') => (1, 4),
            Some(b'U') => (1, 8),
            _ => (0, 4),
        };
        let digits = rest.get(skip..skip + length).ok_or_else(|| bad("invalid Unicode escape"))?;
        let code = u32::from_str_radix(digits, 16).map_err(|_| bad("invalid Unicode escape"))?;
        out.push(char::from_u32(code).ok_or_else(|| bad("invalid Unicode code point"))?);
        rest = &rest[skip + length..];
    }
    out.push_str(rest);
    Ok(Some(out))
}
