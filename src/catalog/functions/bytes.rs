//! bytea, and the functions that take text and bytea alike: positions count characters of the one and bytes of the other.

use super::invalid;
use super::scalar::{Function, Kernel, Row, Type, function, overload};
use crate::error::{Error, Result, SqlState};

use Type::{Bytea, Int4, Int8, Text};

pub(super) const FUNCTIONS: &[Function] = &[
    function("substring", SUBSTRING),
    function("substr", SUBSTRING),
    function(
        "strpos",
        &[
            overload(
                &[Text, Text],
                Kernel::Int4(|row| {
                    let (text, part) = (row.text(0), row.text(1));
                    Ok(Some(text.find(part).map_or(0, |at| text[..at].chars().count() as i32 + 1)))
                }),
            ),
            overload(
                &[Bytea, Bytea],
                Kernel::Int4(|row| {
                    let (bytes, part) = (row.bytes(0), row.bytes(1));
                    let found = if part.is_empty() {
                        Some(0)
                    } else {
                        bytes.windows(part.len()).position(|window| window == part)
                    };
                    Ok(Some(found.map_or(0, |at| at as i32 + 1)))
                }),
            ),
        ],
    ),
    function(
        "overlay",
        &[
            overload(&[Text, Text, Int4, Int4], Kernel::Text(overlay)).optional(1),
            overload(&[Bytea, Bytea, Int4, Int4], Kernel::Bytea(overlay_bytes)).optional(1),
        ],
    ),
    function(
        "btrim",
        &[
            overload(&[Text, Text], Kernel::Text(|row| Ok(Some(trim(row, true, true))))).optional(1),
            overload(&[Bytea, Bytea], Kernel::Bytea(|row| Ok(Some(trim_bytes(row, true, true))))),
        ],
    ),
    function(
        "ltrim",
        &[
            overload(&[Text, Text], Kernel::Text(|row| Ok(Some(trim(row, true, false))))).optional(1),
            overload(&[Bytea, Bytea], Kernel::Bytea(|row| Ok(Some(trim_bytes(row, true, false))))),
        ],
    ),
    function(
        "rtrim",
        &[
            overload(&[Text, Text], Kernel::Text(|row| Ok(Some(trim(row, false, true))))).optional(1),
            overload(&[Bytea, Bytea], Kernel::Bytea(|row| Ok(Some(trim_bytes(row, false, true))))),
        ],
    ),
    function("encode", &[overload(&[Bytea, Text], Kernel::Text(encode))]),
    function("decode", &[overload(&[Text, Text], Kernel::Bytea(decode))]),
    function(
        "get_byte",
        &[overload(
            &[Bytea, Int4],
            Kernel::Int4(|row| {
                let at = position(row.int(1), row.bytes(0).len())?;
                Ok(Some(row.bytes(0)[at].into()))
            }),
        )],
    ),
    function(
        "set_byte",
        &[overload(
            &[Bytea, Int4, Int4],
            Kernel::Bytea(|row| {
                let mut bytes = row.bytes(0).to_vec();
                let at = position(row.int(1), bytes.len())?;
                bytes[at] = row.int(2) as u8;
                Ok(Some(bytes))
            }),
        )],
    ),
    function(
        "get_bit",
        &[overload(
            &[Bytea, Int8],
            Kernel::Int4(|row| {
                let at = position(row.int(1), row.bytes(0).len() * 8)?;
                Ok(Some((row.bytes(0)[at / 8] >> (at % 8) & 1).into()))
            }),
        )],
    ),
    function(
        "set_bit",
        &[overload(
            &[Bytea, Int8, Int4],
            Kernel::Bytea(|row| {
                let mut bytes = row.bytes(0).to_vec();
                let at = position(row.int(1), bytes.len() * 8)?;
                let bit = 1u8 << (at % 8);
                match row.int(2) {
                    0 => bytes[at / 8] &= !bit,
                    1 => bytes[at / 8] |= bit,
                    _ => return Err(invalid("new bit must be 0 or 1")),
                }
                Ok(Some(bytes))
            }),
        )],
    ),
    function(
        "bit_count",
        &[overload(
            &[Bytea],
            Kernel::Int8(|row| Ok(Some(row.bytes(0).iter().map(|byte| i64::from(byte.count_ones())).sum()))),
        )],
    ),
    function(
        "convert_from",
        &[overload(
            &[Bytea, Text],
            Kernel::Text(|row| {
                utf8(row.text(1))?;
                let text = String::from_utf8(row.bytes(0).to_vec());
                text.map(Some).map_err(|_| Error::new(SqlState("22021"), "invalid byte sequence for encoding \"UTF8\""))
            }),
        )],
    ),
    function(
        "convert_to",
        &[overload(
            &[Text, Text],
            Kernel::Bytea(|row| {
                utf8(row.text(1))?;
                Ok(Some(row.text(0).as_bytes().to_vec()))
            }),
        )],
    ),
];

const SUBSTRING: &[super::scalar::Overload] = &[
    overload(
        &[Text, Int4, Int4],
        Kernel::Text(|row| {
            let (start, end) = range(row)?;
            let text = row.text(0);
            Ok(Some(text.chars().skip(start).take(end.saturating_sub(start)).collect()))
        }),
    )
    .optional(1),
    overload(
        &[Bytea, Int4, Int4],
        Kernel::Bytea(|row| {
            let (start, end) = range(row)?;
            let bytes = row.bytes(0);
            Ok(Some(bytes[start.min(bytes.len())..end.min(bytes.len()).max(start.min(bytes.len()))].to_vec()))
        }),
    )
    .optional(1),
    overload(&[Text, Text], Kernel::Text(super::regex::substring_pattern)),
    overload(&[Text, Text, Text], Kernel::Text(super::regex::substring_similar)),
];

/// From where to where, counted from 0; what lies before the first character counts for the length.
fn range(row: &Row<'_>) -> Result<(usize, usize)> {
    let start = row.int(1) - 1;
    let end = if row.len() > 2 {
        let length = row.int(2);
        if length < 0 {
            return Err(Error::new(SqlState("22011"), "negative substring length not allowed"));
        }
        start + length
    } else {
        i64::MAX
    };
    Ok((start.max(0) as usize, end.max(0) as usize))
}

fn overlay(row: &Row<'_>) -> Result<Option<String>> {
    let (text, new, start) = (row.text(0), row.text(1), row.int(2));
    let length = if row.len() > 3 { row.int(3) } else { new.chars().count() as i64 };
    if start < 1 {
        return Err(Error::new(SqlState("22011"), "negative substring length not allowed"));
    }
    let before: String = text.chars().take(start as usize - 1).collect();
    let after: String = text.chars().skip((start - 1 + length).max(0) as usize).collect();
    Ok(Some(format!("{before}{new}{after}")))
}

fn overlay_bytes(row: &Row<'_>) -> Result<Option<Vec<u8>>> {
    let (bytes, new, start) = (row.bytes(0), row.bytes(1), row.int(2));
    let length = if row.len() > 3 { row.int(3) } else { new.len() as i64 };
    if start < 1 {
        return Err(Error::new(SqlState("22011"), "negative substring length not allowed"));
    }
    let mut out: Vec<u8> = bytes.iter().take(start as usize - 1).copied().collect();
    out.extend(new);
    out.extend(bytes.iter().skip((start - 1 + length).max(0) as usize));
    Ok(Some(out))
}

fn trim(row: &Row<'_>, start: bool, end: bool) -> String {
    let mut text = row.text(0);
    let set = if row.len() > 1 { row.text(1) } else { " " };
    if start {
        text = text.trim_start_matches(|c| set.contains(c));
    }
    if end {
        text = text.trim_end_matches(|c| set.contains(c));
    }
    text.to_string()
}

fn trim_bytes(row: &Row<'_>, start: bool, end: bool) -> Vec<u8> {
    let (mut bytes, set) = (row.bytes(0), row.bytes(1));
    while start && bytes.first().is_some_and(|byte| set.contains(byte)) {
        bytes = &bytes[1..];
    }
    while end && bytes.last().is_some_and(|byte| set.contains(byte)) {
        bytes = &bytes[..bytes.len() - 1];
    }
    bytes.to_vec()
}

/// 2202E beyond the bytes.
fn position(index: i64, length: usize) -> Result<usize> {
    usize::try_from(index).ok().filter(|at| *at < length).ok_or_else(|| {
        let message = format!("index {index} out of valid range, 0..{}", length as i64 - 1);
        Error::new(SqlState("2202E"), message)
    })
}

fn utf8(name: &str) -> Result<()> {
    if matches!(name.to_ascii_lowercase().replace(['-', '_'], "").as_str(), "utf8" | "unicode" | "sqlascii") {
        return Ok(());
    }
    Err(Error::unsupported(format!("encoding \"{name}\""), "text is UTF8 here; convert it before it comes in"))
}

fn unknown_encoding(name: &str) -> Error {
    invalid(format!("unrecognized encoding: \"{name}\""))
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Characters of base64 in a line.
const LINE_LENGTH: usize = 76;

fn encode(row: &Row<'_>) -> Result<Option<String>> {
    let bytes = row.bytes(0);
    let mut out = String::with_capacity(bytes.len() * 2);
    match row.text(1).to_ascii_lowercase().as_str() {
        "hex" => {
            for byte in bytes {
                out.push_str(&format!("{byte:02x}"));
            }
        }
        "escape" => {
            for &byte in bytes {
                match byte {
                    b'\\' => out.push_str("\\\\"),
                    0 | 128.. => out.push_str(&format!("\\{byte:03o}")),
                    _ => out.push(byte.into()),
                }
            }
        }
        "base64" => {
            let mut in_line = 0;
            for chunk in bytes.chunks(3) {
                if in_line == LINE_LENGTH {
                    out.push('\n');
                    in_line = 0;
                }
                let group =
                    chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
                for at in 0..4 {
                    let digit = BASE64[(group >> (18 - 6 * at) & 63) as usize];
                    out.push(if at <= chunk.len() { digit.into() } else { '=' });
                }
                in_line += 4;
            }
        }
        _ => return Err(unknown_encoding(row.text(1))),
    }
    Ok(Some(out))
}

fn decode(row: &Row<'_>) -> Result<Option<Vec<u8>>> {
    let text = row.text(0);
    match row.text(1).to_ascii_lowercase().as_str() {
        "hex" => {
            let mut digits = vec![];
            for c in text.chars().filter(|c| !c.is_ascii_whitespace()) {
                let digit = c.to_digit(16).ok_or_else(|| invalid(format!("invalid hexadecimal digit: \"{c}\"")))?;
                digits.push(digit as u8);
            }
            if digits.len() % 2 == 1 {
                return Err(invalid("invalid hexadecimal data: odd number of digits"));
            }
            Ok(Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()))
        }
        "base64" => decode_base64(text).map(Some),
        "escape" => {
            let wrong = || Error::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type bytea");
            let (bytes, mut out, mut at) = (text.as_bytes(), vec![], 0);
            while at < bytes.len() {
                if bytes[at] != b'\\' {
                    out.push(bytes[at]);
                    at += 1;
                } else if bytes.get(at + 1) == Some(&b'\\') {
                    out.push(b'\\');
                    at += 2;
                } else {
                    let digits = bytes.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
                    let value = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).ok_or_else(wrong)?;
                    out.push(value);
                    at += 4;
                }
            }
            Ok(Some(out))
        }
        _ => Err(unknown_encoding(row.text(1))),
    }
}

fn decode_base64(text: &str) -> Result<Vec<u8>> {
    let (mut out, mut group, mut count, mut padding) = (vec![], 0u32, 0, 0);
    for c in text.bytes().filter(|c| !c.is_ascii_whitespace()) {
        let digit = match BASE64.iter().position(|digit| *digit == c) {
            Some(digit) if padding == 0 => digit as u32,
            None if c == b'=' && count >= 2 => {
                padding += 1;
                0
            }
            _ => {
                let message = format!("invalid symbol \"{}\" found while decoding base64 sequence", char::from(c));
                return Err(invalid(message));
            }
        };
        group = group << 6 | digit;
        count += 1;
        if count == 4 {
            out.extend(&group.to_be_bytes()[1..4 - padding.min(2)]);
            (group, count) = (0, 0);
        }
    }
    if count != 0 {
        return Err(invalid("invalid base64 end sequence")
            .with_hint("input data is missing padding, is truncated, or is otherwise corrupted"));
    }
    Ok(out)
}
