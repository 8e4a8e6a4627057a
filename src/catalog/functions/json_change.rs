//! jsonb compared, joined and changed: `@>`, `||`, `-`, `#-`, `jsonb_set`, `jsonb_insert`, `jsonb_strip_nulls` ….
//!
//! Values are built as trees here, and printed in normal form again.

use std::cmp::Ordering;

use serde_json::{Map, Value as Json};

use super::invalid;
use super::scalar::{Function, Kernel, Row, Type, function, overload};
use crate::error::{Error, Result, SqlState};
use crate::types::{json_scan, jsonb_text};

use Type::{Bool, Int8, Jsonb, Text, TextArray};

pub(super) const FUNCTIONS: &[Function] = &[
    function("hw_jsonb_eq", &[overload(&[Jsonb, Jsonb], Kernel::Bool(|row| Ok(Some(compared(row)?.is_eq()))))]),
    function("hw_jsonb_compare", &[overload(&[Jsonb, Jsonb], Kernel::Int4(|row| Ok(Some(compared(row)? as i32))))]),
    function(
        "hw_jsonb_contains",
        &[overload(&[Jsonb, Jsonb], Kernel::Bool(|row| Ok(Some(contains(&tree(row, 0)?, &tree(row, 1)?, true)))))],
    ),
    function(
        "hw_jsonb_exists",
        &[overload(&[Jsonb, Text], Kernel::Bool(|row| Ok(Some(has_key(row.text(0), row.text(1))))))],
    ),
    function(
        "hw_jsonb_exists_any",
        &[overload(
            &[Jsonb, TextArray],
            Kernel::Bool(|row| Ok(Some(row.texts(1).iter().flatten().any(|key| has_key(row.text(0), key))))),
        )],
    ),
    function(
        "hw_jsonb_exists_all",
        &[overload(
            &[Jsonb, TextArray],
            Kernel::Bool(|row| Ok(Some(row.texts(1).iter().flatten().all(|key| has_key(row.text(0), key))))),
        )],
    ),
    function("hw_jsonb_concat", &[overload(&[Jsonb, Jsonb], Kernel::Jsonb(concat))]),
    function(
        "hw_jsonb_delete",
        &[
            overload(&[Jsonb, Text], Kernel::Jsonb(|row| delete(row, &[row.text(1).to_string()]))),
            overload(&[Jsonb, Int8], Kernel::Jsonb(delete_item)),
            overload(
                &[Jsonb, TextArray],
                Kernel::Jsonb(|row| {
                    let keys: Vec<String> = row.texts(1).into_iter().flatten().collect();
                    delete(row, &keys)
                }),
            ),
        ],
    ),
    function("hw_jsonb_delete_path", &[overload(&[Jsonb, TextArray], Kernel::Jsonb(delete_path))]),
    function(
        "jsonb_set",
        &[overload(&[Jsonb, TextArray, Jsonb, Bool], Kernel::Jsonb(|row| set(row, tree(row, 2)?))).optional(1)],
    ),
    function(
        "jsonb_set_lax",
        &[overload(&[Jsonb, TextArray, Jsonb, Bool, Text], Kernel::Jsonb(set_lax)).optional(2).lenient()],
    ),
    function("jsonb_insert", &[overload(&[Jsonb, TextArray, Jsonb, Bool], Kernel::Jsonb(insert)).optional(1)]),
    function(
        "jsonb_strip_nulls",
        &[overload(&[Jsonb], Kernel::Jsonb(|row| Ok(Some(jsonb_text(&stripped(tree(row, 0)?))))))],
    ),
    function(
        "json_strip_nulls",
        &[overload(
            &[Type::Json],
            Kernel::Json(|row| {
                let mut out = String::new();
                strip_text(row.text(0).trim(), &mut out);
                Ok(Some(out))
            }),
        )],
    ),
    function(
        "jsonb_pretty",
        &[overload(
            &[Jsonb],
            Kernel::Text(|row| {
                let mut out = String::new();
                pretty(row.text(0), 0, &mut out);
                Ok(Some(out))
            }),
        )],
    ),
];

fn tree(row: &Row<'_>, index: usize) -> Result<Json> {
    parse(row.text(index))
}

/// The value of a text that is a jsonb.
pub(super) fn parse(text: &str) -> Result<Json> {
    serde_json::from_str(text).map_err(|error| {
        Error::new(SqlState::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type json")
            .with_detail(error.to_string())
    })
}

fn compared(row: &Row<'_>) -> Result<Ordering> {
    if row.text(0) == row.text(1) {
        return Ok(Ordering::Equal);
    }
    Ok(compare(&tree(row, 0)?, &tree(row, 1)?))
}

/// Postgres' order of jsonb: object > array > boolean > number > string > null; then by size, then piece by piece.
pub(super) fn compare(left: &Json, right: &Json) -> Ordering {
    let rank = |value: &Json| match value {
        // An empty array at the top sorts below everything in Postgres, which nobody wants to rely on.
        Json::Null => 0,
        Json::String(_) => 1,
        Json::Number(_) => 2,
        Json::Bool(_) => 3,
        Json::Array(_) => 4,
        Json::Object(_) => 5,
    };
    match (left, right) {
        (Json::String(a), Json::String(b)) => a.cmp(b),
        (Json::Number(a), Json::Number(b)) => compare_numbers(&a.to_string(), &b.to_string()),
        (Json::Bool(a), Json::Bool(b)) => a.cmp(b),
        (Json::Array(a), Json::Array(b)) => a.len().cmp(&b.len()).then_with(|| {
            a.iter().zip(b).map(|(a, b)| compare(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        }),
        (Json::Object(a), Json::Object(b)) => a.len().cmp(&b.len()).then_with(|| {
            let (a, b) = (in_order(a), in_order(b));
            let pairs = a.iter().zip(&b);
            let orders = pairs.map(|((ka, va), (kb, vb))| {
                ka.len().cmp(&kb.len()).then_with(|| ka.cmp(kb)).then_with(|| compare(va, vb))
            });
            orders.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        }),
        (left, right) => rank(left).cmp(&rank(right)),
    }
}

fn in_order(object: &Map<String, Json>) -> Vec<(&String, &Json)> {
    let mut members: Vec<_> = object.iter().collect();
    members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    members
}

/// Exactly, whatever the digits.
pub(super) fn compare_numbers(left: &str, right: &str) -> Ordering {
    let (left, right) = (Number::of(left), Number::of(right));
    match (left.sign(), right.sign()) {
        (a, b) if a != b => a.cmp(&b),
        (0, _) => Ordering::Equal,
        (sign, _) => {
            let order = left.point.cmp(&right.point).then_with(|| left.digits.cmp(&right.digits));
            if sign < 0 { order.reverse() } else { order }
        }
    }
}

/// 0.digits · 10^point, without zeros at either end of the digits.
struct Number {
    negative: bool,
    digits: Vec<u8>,
    point: i64,
}

impl Number {
    fn of(text: &str) -> Number {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits: Vec<u8> = whole.bytes().chain(rest.bytes()).collect();
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..zeros);
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        let exponent: i64 = exponent.parse().unwrap_or(0);
        Number { negative, digits, point: whole.len() as i64 - zeros as i64 + exponent }
    }

    fn sign(&self) -> i8 {
        match (self.digits.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }
}

/// `left @> right`. At the top, an array contains a bare scalar that is one of its items.
fn contains(left: &Json, right: &Json, at_top: bool) -> bool {
    match (left, right) {
        (Json::Object(left), Json::Object(right)) => {
            right.iter().all(|(key, value)| left.get(key).is_some_and(|found| contains(found, value, false)))
        }
        (Json::Array(left), Json::Array(right)) => {
            right.iter().all(|item| left.iter().any(|found| contains(found, item, false)))
        }
        (Json::Array(left), scalar) if at_top && !scalar.is_object() => {
            left.iter().any(|found| compare(found, scalar).is_eq())
        }
        (left, right) => !left.is_array() && !left.is_object() && compare(left, right).is_eq(),
    }
}

/// `?`: a key of an object, a string of an array, or the string itself.
fn has_key(text: &str, key: &str) -> bool {
    match json_scan::kind(text) {
        "object" => json_scan::member(text, key).is_some(),
        "array" => json_scan::items(text).any(|item| json_scan::string(item).as_deref() == Some(key)),
        "string" => json_scan::string(text).as_deref() == Some(key),
        _ => false,
    }
}

fn concat(row: &Row<'_>) -> Result<Option<String>> {
    let joined = match (tree(row, 0)?, tree(row, 1)?) {
        (Json::Object(mut left), Json::Object(right)) => {
            left.extend(right);
            Json::Object(left)
        }
        (left, right) => {
            let items = |value| match value {
                Json::Array(items) => items,
                other => vec![other],
            };
            let mut all = items(left);
            all.extend(items(right));
            Json::Array(all)
        }
    };
    Ok(Some(jsonb_text(&joined)))
}

fn delete(row: &Row<'_>, keys: &[String]) -> Result<Option<String>> {
    let left = match tree(row, 0)? {
        Json::Object(mut object) => {
            object.retain(|key, _| !keys.contains(key));
            Json::Object(object)
        }
        Json::Array(mut items) => {
            items.retain(|item| !matches!(item, Json::String(text) if keys.contains(text)));
            Json::Array(items)
        }
        _ => return Err(invalid("cannot delete from scalar")),
    };
    Ok(Some(jsonb_text(&left)))
}

fn delete_item(row: &Row<'_>) -> Result<Option<String>> {
    match tree(row, 0)? {
        Json::Array(mut items) => {
            if let Some(at) = position(row.int(1), items.len()) {
                items.remove(at);
            }
            Ok(Some(jsonb_text(&Json::Array(items))))
        }
        Json::Object(_) => Err(invalid("cannot delete from object using integer index")),
        _ => Err(invalid("cannot delete from scalar")),
    }
}

/// From the end if negative; `None` beyond the array.
fn position(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 { index + length as i64 } else { index };
    usize::try_from(index).ok().filter(|at| *at < length)
}

fn steps(row: &Row<'_>) -> Result<Vec<String>> {
    row.texts(1)
        .into_iter()
        .enumerate()
        .map(|(at, step)| {
            step.ok_or_else(|| Error::new(SqlState("22004"), format!("path element at position {} is null", at + 1)))
        })
        .collect()
}

fn index_of(step: &str, at: usize) -> Result<i64> {
    step.trim().parse().map_err(|_| {
        let message = format!("path element at position {} is not an integer: \"{step}\"", at + 1);
        Error::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
    })
}

/// The container that the path's last step is in; `None` where the path leads nowhere.
fn container<'a>(value: &'a mut Json, steps: &[String]) -> Result<Option<&'a mut Json>> {
    let mut value = value;
    for (at, step) in steps.iter().enumerate().take(steps.len() - 1) {
        let next = match value {
            Json::Object(object) => object.get_mut(step),
            Json::Array(items) => position(index_of(step, at)?, items.len()).and_then(|at| items.get_mut(at)),
            _ => None,
        };
        match next {
            Some(found) => value = found,
            None => return Ok(None),
        }
    }
    Ok(Some(value))
}

fn is_scalar(value: &Json) -> bool {
    !value.is_array() && !value.is_object()
}

fn delete_path(row: &Row<'_>) -> Result<Option<String>> {
    let (mut value, steps) = (tree(row, 0)?, steps(row)?);
    if is_scalar(&value) {
        return Err(invalid("cannot delete path in scalar"));
    }
    if let Some(last) = steps.last() {
        match container(&mut value, &steps)? {
            Some(Json::Object(object)) => {
                object.remove(last);
            }
            Some(Json::Array(items)) => {
                if let Some(at) = position(index_of(last, steps.len() - 1)?, items.len()) {
                    items.remove(at);
                }
            }
            _ => {}
        }
    }
    Ok(Some(jsonb_text(&value)))
}

fn set(row: &Row<'_>, new: Json) -> Result<Option<String>> {
    let creates = row.is_null(3) || row.bool(3);
    let (mut value, steps) = (tree(row, 0)?, steps(row)?);
    if is_scalar(&value) {
        return Err(invalid("cannot set path in scalar"));
    }
    if let Some(last) = steps.last() {
        match container(&mut value, &steps)? {
            Some(Json::Object(object)) if creates || object.contains_key(last) => {
                object.insert(last.clone(), new);
            }
            Some(Json::Array(items)) => {
                let index = index_of(last, steps.len() - 1)?;
                match position(index, items.len()) {
                    Some(at) => items[at] = new,
                    None if creates && index < 0 => items.insert(0, new),
                    None if creates => items.push(new),
                    None => {}
                }
            }
            _ => {}
        }
    }
    Ok(Some(jsonb_text(&value)))
}

fn set_lax(row: &Row<'_>) -> Result<Option<String>> {
    if row.is_null(0) || row.is_null(1) {
        return Ok(None);
    }
    if !row.is_null(2) {
        return set(row, tree(row, 2)?);
    }
    match row.text_or(4, "use_json_null") {
        "use_json_null" => set(row, Json::Null),
        "delete_key" => delete_path(row),
        "return_target" => Ok(Some(row.text(0).to_string())),
        "raise_exception" => Err(Error::new(SqlState("22004"), "JSON value must not be null")
            .with_detail("Exception was raised because null_value_treatment is \"raise_exception\".")),
        _ => Err(invalid(
            "null_value_treatment must be \"delete_key\", \"return_target\", \"use_json_null\", or \"raise_exception\"",
        )),
    }
}

fn insert(row: &Row<'_>) -> Result<Option<String>> {
    let after = !row.is_null(3) && row.bool(3);
    let (mut value, new, steps) = (tree(row, 0)?, tree(row, 2)?, steps(row)?);
    if is_scalar(&value) {
        return Err(invalid("cannot set path in scalar"));
    }
    if let Some(last) = steps.last() {
        match container(&mut value, &steps)? {
            Some(Json::Object(object)) => {
                if object.contains_key(last) {
                    return Err(invalid("cannot replace existing key")
                        .with_hint("try using the function jsonb_set to replace key value"));
                }
                object.insert(last.clone(), new);
            }
            Some(Json::Array(items)) => {
                let index = index_of(last, steps.len() - 1)?;
                let at = match position(index, items.len()) {
                    Some(at) => at + usize::from(after),
                    None if index < 0 => 0,
                    None => items.len(),
                };
                items.insert(at, new);
            }
            _ => {}
        }
    }
    Ok(Some(jsonb_text(&value)))
}

/// Without the members that are null; items of arrays stay.
fn stripped(value: Json) -> Json {
    match value {
        Json::Object(object) => {
            let kept = object.into_iter().filter(|(_, member)| !member.is_null());
            Json::Object(kept.map(|(key, member)| (key, stripped(member))).collect())
        }
        Json::Array(items) => Json::Array(items.into_iter().map(stripped).collect()),
        other => other,
    }
}

/// The same for json, whose members keep their order; blanks between them go.
fn strip_text(text: &str, out: &mut String) {
    match json_scan::kind(text) {
        "object" => {
            out.push('{');
            let kept = json_scan::members(text).filter(|(_, value)| json_scan::kind(value) != "null");
            for (index, (key, value)) in kept.enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(key);
                out.push(':');
                strip_text(value, out);
            }
            out.push('}');
        }
        "array" => {
            out.push('[');
            for (index, item) in json_scan::items(text).enumerate() {
                if index > 0 {
                    out.push(',');
                }
                strip_text(item, out);
            }
            out.push(']');
        }
        _ => out.push_str(text),
    }
}

fn pretty(text: &str, depth: usize, out: &mut String) {
    let line = |depth: usize, out: &mut String| {
        out.push('\n');
        out.push_str(&"    ".repeat(depth));
    };
    match json_scan::kind(text) {
        "object" => {
            out.push('{');
            for (index, (key, value)) in json_scan::members(text).enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(depth + 1, out);
                out.push_str(key);
                out.push_str(": ");
                pretty(value, depth + 1, out);
            }
            line(depth, out);
            out.push('}');
        }
        "array" => {
            out.push('[');
            for (index, item) in json_scan::items(text).enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(depth + 1, out);
                pretty(item, depth + 1, out);
            }
            line(depth, out);
            out.push(']');
        }
        _ => out.push_str(text),
    }
}
