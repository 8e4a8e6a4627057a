//! Regular expressions as Postgres' functions take them, over the `regex` crate.
//!
//! A dot matches a line break unless the flag `n` says otherwise, `\y \m \M` are word boundaries. There are no
//! backreferences and no lookaround, and of several alternatives the first that matches is taken: 2201B says so where it
//! can be seen.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use regex::{Captures, Regex, RegexBuilder};

use super::scalar::{Function, Kernel, Row, Type, function, overload};
use crate::error::{Error, Result, SqlState};

use Type::{Int4, Text};

pub(super) const FUNCTIONS: &[Function] = &[
    function("regexp_match", &[overload(&[Text, Text, Text], Kernel::TextArray(regexp_match)).optional(1)]),
    function("regexp_like", &[overload(&[Text, Text, Text], Kernel::Bool(regexp_like)).optional(1)]),
    function("regexp_count", &[overload(&[Text, Text, Int4, Text], Kernel::Int4(regexp_count)).optional(2)]),
    function(
        "regexp_instr",
        &[overload(&[Text, Text, Int4, Int4, Int4, Text, Int4], Kernel::Int4(regexp_instr)).optional(5)],
    ),
    function(
        "regexp_substr",
        &[overload(&[Text, Text, Int4, Int4, Text, Int4], Kernel::Text(regexp_substr)).optional(4)],
    ),
    function(
        "regexp_replace",
        &[
            overload(&[Text, Text, Text, Int4, Int4, Text], Kernel::Text(regexp_replace_from)).optional(2),
            overload(&[Text, Text, Text, Text], Kernel::Text(regexp_replace)).optional(1),
        ],
    ),
    function(
        "regexp_split_to_array",
        &[overload(
            &[Text, Text, Text],
            Kernel::TextArray(|row| {
                Ok(Some(split(row.text(0), row.text(1), row.text_or(2, ""))?.into_iter().map(Some).collect()))
            }),
        )
        .optional(1)],
    ),
    function("hw_similar", &[overload(&[Text, Text, Text], Kernel::Bool(similar))]),
];

/// Compiled expressions that are kept for the rows to come.
const KEPT_MAX: usize = 64;
/// Bytes that a compiled expression may take.
const COMPILED_BYTES_MAX: usize = 8 << 20;

thread_local! {
    static KEPT: RefCell<HashMap<(String, String), Rc<Compiled>>> = RefCell::new(HashMap::new());
}

struct Compiled {
    regex: Regex,
    global: bool,
}

fn compile(pattern: &str, flags: &str) -> Result<Rc<Compiled>> {
    let key = (pattern.to_string(), flags.to_string());
    if let Some(found) = KEPT.with(|kept| kept.borrow().get(&key).cloned()) {
        return Ok(found);
    }
    let compiled = Rc::new(build(pattern, flags)?);
    KEPT.with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(key, compiled.clone());
    });
    Ok(compiled)
}

fn build(pattern: &str, flags: &str) -> Result<Compiled> {
    let (mut global, mut ignore_case, mut lines, mut dot_all, mut extended, mut literal) =
        (false, false, false, true, false, false);
    for flag in flags.chars() {
        match flag {
            'g' => global = true,
            'i' => ignore_case = true,
            'c' => ignore_case = false,
            'n' | 'm' => (lines, dot_all) = (true, false),
            'p' => (lines, dot_all) = (false, false),
            'w' => (lines, dot_all) = (true, true),
            's' => (lines, dot_all) = (false, true),
            'x' => extended = true,
            't' => extended = false,
            'q' => literal = true,
            'b' | 'e' => {}
            other => return Err(super::invalid(format!("invalid regular expression option: \"{other}\""))),
        }
    }
    let pattern = if literal { regex::escape(pattern) } else { translated(pattern) };
    let regex = RegexBuilder::new(&pattern)
        .case_insensitive(ignore_case)
        .multi_line(lines)
        .dot_matches_new_line(dot_all)
        .ignore_whitespace(extended)
        .size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
            Error::new(SqlState("2201B"), format!("invalid regular expression: {reason}"))
        })?;
    Ok(Compiled { regex, global })
}

/// Escapes that Postgres spells otherwise.
fn translated(pattern: &str) -> String {
    let pattern = pattern.strip_prefix("***:").unwrap_or(pattern);
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('y') => out.push_str("\\b"),
            Some('Y') => out.push_str("\\B"),
            Some('m') => out.push_str("\\b{start}"),
            Some('M') => out.push_str("\\b{end}"),
            Some('Z') => out.push_str("\\z"),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

/// The groups; the whole match where there are none.
fn groups(captures: &Captures<'_>) -> Vec<Option<String>> {
    let text = |group: Option<regex::Match<'_>>| group.map(|group| group.as_str().to_string());
    match captures.len() {
        1 => vec![text(captures.get(0))],
        _ => captures.iter().skip(1).map(text).collect(),
    }
}

/// `regexp_matches`.
pub(super) fn matches(text: &str, pattern: &str, flags: &str) -> Result<Vec<Vec<Option<String>>>> {
    let compiled = compile(pattern, flags)?;
    let limit = if compiled.global { usize::MAX } else { 1 };
    Ok(compiled.regex.captures_iter(text).take(limit).map(|captures| groups(&captures)).collect())
}

/// What lies between the matches; one of no length at either end or right behind another does not count.
pub(super) fn split(text: &str, pattern: &str, flags: &str) -> Result<Vec<String>> {
    not_global(flags, "regexp_split_to_table")?;
    let compiled = compile(pattern, flags)?;
    let (mut parts, mut start) = (vec![], 0);
    for found in compiled.regex.find_iter(text) {
        if found.is_empty() && (found.start() == start || found.end() == text.len()) {
            continue;
        }
        parts.push(text[start..found.start()].to_string());
        start = found.end();
    }
    parts.push(text[start..].to_string());
    Ok(parts)
}

fn not_global(flags: &str, function: &str) -> Result<()> {
    if flags.contains('g') {
        return Err(super::invalid(format!("{function}() does not support the \"global\" option")));
    }
    Ok(())
}

fn regexp_match(row: &Row<'_>) -> Result<Option<Vec<Option<String>>>> {
    let flags = row.text_or(2, "");
    not_global(flags, "regexp_match").map_err(|error| error.with_hint("use the regexp_matches function instead"))?;
    Ok(matches(row.text(0), row.text(1), flags)?.pop())
}

fn regexp_like(row: &Row<'_>) -> Result<Option<bool>> {
    let flags = row.text_or(2, "");
    not_global(flags, "regexp_like")?;
    Ok(Some(compile(row.text(1), flags)?.regex.is_match(row.text(0))))
}

/// The rest of the text from its `start`th character on; 22023 if the start is not positive.
fn from_character(text: &str, start: i64) -> Result<&str> {
    if start < 1 {
        return Err(super::invalid(format!("invalid value for parameter \"start\": {start}")));
    }
    Ok(text.char_indices().nth(start as usize - 1).map_or("", |(at, _)| &text[at..]))
}

fn regexp_count(row: &Row<'_>) -> Result<Option<i32>> {
    let flags = row.text_or(3, "");
    not_global(flags, "regexp_count")?;
    let rest = from_character(row.text(0), row.int_or(2, 1))?;
    Ok(Some(compile(row.text(1), flags)?.regex.find_iter(rest).count() as i32))
}

/// How many bytes lie before the text that was searched, where in it the match is, and the text.
type Match<'a> = (usize, Option<std::ops::Range<usize>>, &'a str);

/// The nth match.
fn nth<'a>(row: &Row<'a>, flags: &str, function: &str, group: i64) -> Result<Option<Match<'a>>> {
    not_global(flags, function)?;
    let (text, n) = (row.text(0), row.int_or(3, 1));
    let rest = from_character(text, row.int_or(2, 1))?;
    if n < 1 {
        return Err(super::invalid(format!("invalid value for parameter \"n\": {n}")));
    }
    if group < 0 {
        return Err(super::invalid(format!("invalid value for parameter \"subexpr\": {group}")));
    }
    let compiled = compile(row.text(1), flags)?;
    let captures = compiled.regex.captures_iter(rest).nth(n as usize - 1);
    Ok(captures.map(|captures| (text.len() - rest.len(), captures.get(group as usize).map(|g| g.range()), rest)))
}

fn regexp_instr(row: &Row<'_>) -> Result<Option<i32>> {
    let end = row.int_or(4, 0);
    if !(0..=1).contains(&end) {
        return Err(super::invalid(format!("invalid value for parameter \"endoption\": {end}")));
    }
    let found = nth(row, row.text_or(5, ""), "regexp_instr", row.int_or(6, 0))?;
    let Some((before, Some(range), _)) = found else { return Ok(Some(0)) };
    let at = before + if end == 0 { range.start } else { range.end };
    Ok(Some(row.text(0)[..at].chars().count() as i32 + 1))
}

fn regexp_substr(row: &Row<'_>) -> Result<Option<String>> {
    let found = nth(row, row.text_or(4, ""), "regexp_substr", row.int_or(5, 0))?;
    Ok(found.and_then(|(_, range, rest)| Some(rest[range?].to_string())))
}

fn regexp_replace(row: &Row<'_>) -> Result<Option<String>> {
    let flags = row.text_or(3, "");
    if flags.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) {
        let message = format!("invalid regular expression option: \"{}\"", &flags[..1]);
        return Err(super::invalid(message).with_hint(
            "if you meant to use regexp_replace() with a start parameter, cast the fourth argument to integer",
        ));
    }
    let compiled = compile(row.text(1), flags)?;
    let limit = if compiled.global { 0 } else { 1 };
    Ok(Some(replace(&compiled.regex, row.text(0), row.text(2), limit, 1)))
}

fn regexp_replace_from(row: &Row<'_>) -> Result<Option<String>> {
    let text = row.text(0);
    let rest = from_character(text, row.int(3))?;
    let flags = row.text_or(5, "");
    let compiled = compile(row.text(1), flags)?;
    // The nth, or all for 0.
    let n = row.int_or(4, if compiled.global { 0 } else { 1 });
    if n < 0 {
        return Err(super::invalid(format!("invalid value for parameter \"n\": {n}")));
    }
    let (limit, first) = if n == 0 { (0, 1) } else { (1, n as usize) };
    let replaced = replace(&compiled.regex, rest, row.text(2), limit, first);
    Ok(Some(format!("{}{replaced}", &text[..text.len() - rest.len()])))
}

/// Replaces `limit` matches (0: all) beginning with the `first`th.
fn replace(regex: &Regex, text: &str, replacement: &str, limit: usize, first: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for (index, captures) in regex.captures_iter(text).enumerate().skip(first - 1) {
        if limit > 0 && index + 1 - first >= limit {
            break;
        }
        let Some(found) = captures.get(0) else { break };
        out.push_str(&text[end..found.start()]);
        let mut chars = replacement.chars();
        while let Some(c) = chars.next() {
            if c != '\\' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some('&') => out.push_str(found.as_str()),
                Some(digit @ '1'..='9') => {
                    let group = digit as usize - '0' as usize;
                    out.push_str(captures.get(group).map_or("", |group| group.as_str()));
                }
                Some('\\') | None => out.push('\\'),
                Some(other) => out.extend(['\\', other]),
            }
        }
        end = found.end();
    }
    out.push_str(&text[end..]);
    out
}

/// `substring(text from pattern)`: the first group, or the whole match.
pub(super) fn substring_pattern(row: &Row<'_>) -> Result<Option<String>> {
    let compiled = compile(row.text(1), "")?;
    let captures = compiled.regex.captures(row.text(0));
    Ok(captures.and_then(|captures| groups(&captures).into_iter().next().flatten()))
}

fn similar(row: &Row<'_>) -> Result<Option<bool>> {
    let pattern = similar_pattern(row.text(1), row.text(2))?;
    Ok(Some(compile(&pattern, "")?.regex.is_match(row.text(0))))
}

pub(super) fn substring_similar(row: &Row<'_>) -> Result<Option<String>> {
    let pattern = similar_pattern(row.text(1), row.text(2))?;
    let compiled = compile(&pattern, "")?;
    let captures = compiled.regex.captures(row.text(0));
    Ok(captures.and_then(|captures| {
        let group = captures.name("part").or_else(|| captures.get(0));
        group.map(|group| group.as_str().to_string())
    }))
}

/// SQL's pattern as a regular expression: `%` and `_` are wildcards, `| * + ? { } ( ) [ ]` are what they are there, and
/// escaped double quotes enclose the part that `substring` takes.
fn similar_pattern(pattern: &str, escape: &str) -> Result<String> {
    let mut escapes = escape.chars();
    let (escape, None) = (escapes.next(), escapes.next()) else {
        return Err(Error::new(SqlState("22025"), "invalid escape string")
            .with_hint("escape string must be empty or one character"));
    };
    // What lies before the part is as short as it can be.
    let has_part = escape.is_some_and(|escape| pattern.contains(&format!("{escape}\"")));
    let mut out = String::from(if has_part { "^(?U:" } else { "^(?:" });
    let mut chars = pattern.chars();
    let (mut in_brackets, mut quotes) = (false, 0);
    while let Some(c) = chars.next() {
        if Some(c) == escape {
            match chars.next() {
                Some('"') => {
                    quotes += 1;
                    out.push_str(match quotes {
                        1 => ")(?P<part>",
                        2 => ")(?:",
                        _ => {
                            let message =
                                "SQL regular expression may not contain more than two escape-double-quote separators";
                            return Err(Error::new(SqlState("2200C"), message));
                        }
                    });
                }
                Some(escaped) => out.push_str(&regex::escape(&escaped.to_string())),
                None => {}
            }
            continue;
        }
        match c {
            '[' | ']' => {
                in_brackets = c == '[';
                out.push(c);
            }
            _ if in_brackets => out.push(c),
            '%' => out.push_str(".*"),
            '_' => out.push('.'),
            '(' => out.push_str("(?:"),
            '\\' | '.' | '^' | '$' => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out.push_str(")$");
    Ok(out)
}

/// `like_regex` of a path.
pub(super) fn is_match(text: &str, pattern: &str, flags: &str) -> Result<bool> {
    Ok(compile(pattern, flags)?.regex.is_match(text))
}
