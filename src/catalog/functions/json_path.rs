//! SQL/JSON paths (`$.a[*] ? (@.b > 2).c`), read to a tree and walked over a jsonb.
//!
//! In lax mode, which is the default, arrays are unwrapped where an object is asked for and what is missing gives nothing;
//! in strict mode it is an error. Not there: `.**`, `.datetime()` and `.keyvalue()`.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::json_change::{compare, compare_numbers, parse};
use super::scalar::{Function, Kernel, Row, Type, function, overload};
use crate::error::{Error, Result, SqlState};
use crate::types::{PgType, jsonb_text};

mod read;

use Type::{Bool, Jsonb, Text};
use read::{Arithmetic, Comparison, Expr, Method, Step};

const JSONB: &[(&str, PgType)] = &[("value", PgType::Jsonb)];

pub(super) const FUNCTIONS: &[Function] = &[
    function("jsonb_path_exists", &[overload(&[Jsonb, Text, Jsonb, Bool], Kernel::Bool(exists)).optional(2)]),
    function("jsonb_path_match", &[overload(&[Jsonb, Text, Jsonb, Bool], Kernel::Bool(matches)).optional(2)]),
    function("jsonb_path_query_first", &[overload(&[Jsonb, Text, Jsonb, Bool], Kernel::Jsonb(first)).optional(2)]),
    function("jsonb_path_query_array", &[overload(&[Jsonb, Text, Jsonb, Bool], Kernel::Jsonb(all)).optional(2)]),
    function("hw_jsonb_path_query", &[overload(&[Jsonb, Text, Jsonb, Bool], Kernel::Records(JSONB, rows)).optional(2)]),
    function(
        "hw_jsonb_path_exists",
        &[overload(&[Jsonb, Text], Kernel::Bool(|row| silently(query(row).map(|found| !found.is_empty()))))],
    ),
    function(
        "hw_jsonb_path_match",
        &[overload(
            &[Jsonb, Text],
            Kernel::Bool(|row| match query(row) {
                Ok(found) => Ok(truth(&found)),
                Err(error) => silently::<bool>(Err(error)),
            }),
        )],
    ),
];

/// Operators give NULL where the function of the same name fails on the data.
fn silently<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code.0.starts_with("2203") || error.code == SqlState::DIVISION_BY_ZERO => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_silent(row: &Row<'_>) -> bool {
    row.len() > 3 && row.bool(3)
}

fn exists(row: &Row<'_>) -> Result<Option<bool>> {
    match query(row) {
        Err(error) if is_silent(row) => silently(Err(error)),
        found => Ok(Some(!found?.is_empty())),
    }
}

fn truth(found: &[Json]) -> Option<bool> {
    match found {
        [Json::Bool(value)] => Some(*value),
        _ => None,
    }
}

fn matches(row: &Row<'_>) -> Result<Option<bool>> {
    let found = match query(row) {
        Err(error) if is_silent(row) => return silently(Err(error)),
        found => found?,
    };
    match found.as_slice() {
        [Json::Bool(value)] => Ok(Some(*value)),
        [Json::Null] => Ok(None),
        _ if is_silent(row) => Ok(None),
        _ => Err(Error::new(SqlState("22038"), "single boolean result is expected")),
    }
}

fn first(row: &Row<'_>) -> Result<Option<String>> {
    match query(row) {
        Err(error) if is_silent(row) => silently(Err(error)),
        found => Ok(found?.first().map(jsonb_text)),
    }
}

fn all(row: &Row<'_>) -> Result<Option<String>> {
    match query(row) {
        Err(error) if is_silent(row) => silently(Err(error)),
        found => Ok(Some(jsonb_text(&Json::Array(found?)))),
    }
}

fn rows(row: &Row<'_>, cells: &mut Vec<Option<String>>) -> Result<()> {
    match query(row) {
        Err(error) if is_silent(row) => silently::<()>(Err(error)).map(|_| ()),
        found => {
            cells.extend(found?.iter().map(|item| Some(jsonb_text(item))));
            Ok(())
        }
    }
}

/// All that the path finds.
fn query(row: &Row<'_>) -> Result<Vec<Json>> {
    let path = read::path(row.text(1))?;
    let root = parse(row.text(0))?;
    let vars = if row.len() > 2 { parse(row.text(2))? } else { Json::Null };
    let walk = Walk { root: &root, vars: &vars, strict: path.strict };
    walk.values(&path.expr, &root, None)
}

struct Walk<'a> {
    root: &'a Json,
    vars: &'a Json,
    strict: bool,
}

fn path_error(code: &'static str, message: impl Into<String>) -> Error {
    Error::new(SqlState(code), message)
}

impl Walk<'_> {
    /// What the expression gives at `at`; `last` is the index of the array's last item within a subscript.
    fn values(&self, expr: &Expr, at: &Json, last: Option<i64>) -> Result<Vec<Json>> {
        Ok(match expr {
            Expr::Root => vec![self.root.clone()],
            Expr::Current => vec![at.clone()],
            Expr::Last => {
                let last = last.ok_or_else(|| path_error("42601", "LAST is allowed only in array subscripts"))?;
                vec![Json::from(last)]
            }
            Expr::Variable(name) => match self.vars.get(name) {
                Some(value) => vec![value.clone()],
                None => return Err(path_error("42704", format!("could not find jsonpath variable \"{name}\""))),
            },
            Expr::Literal(value) => vec![value.clone()],
            Expr::Step(inner, step) => {
                let inner = self.values(inner, at, last)?;
                self.step(inner, step)?
            }
            Expr::Negative(inner) => self
                .numbers(self.values(inner, at, last)?)?
                .into_iter()
                .map(|value| number(-value))
                .collect::<Result<_>>()?,
            Expr::Arithmetic(op, left, right) => {
                let left = self.single_number(self.values(left, at, last)?)?;
                let right = self.single_number(self.values(right, at, last)?)?;
                if matches!(op, Arithmetic::Divide | Arithmetic::Modulo) && right == 0.0 {
                    return Err(Error::new(SqlState::DIVISION_BY_ZERO, "division by zero"));
                }
                vec![number(match op {
                    Arithmetic::Add => left + right,
                    Arithmetic::Subtract => left - right,
                    Arithmetic::Multiply => left * right,
                    Arithmetic::Divide => left / right,
                    Arithmetic::Modulo => left % right,
                })?]
            }
            predicate => vec![self.truth(predicate, at, last)?.map_or(Json::Null, Json::Bool)],
        })
    }

    fn unwrapped(&self, values: Vec<Json>) -> Vec<Json> {
        if self.strict {
            return values;
        }
        let items = |value| match value {
            Json::Array(items) => items,
            other => vec![other],
        };
        values.into_iter().flat_map(items).collect()
    }

    fn numbers(&self, values: Vec<Json>) -> Result<Vec<f64>> {
        self.unwrapped(values)
            .iter()
            .map(|value| {
                value
                    .as_f64()
                    .ok_or_else(|| path_error("2203B", "operand of unary jsonpath operator is not a numeric value"))
            })
            .collect()
    }

    fn single_number(&self, values: Vec<Json>) -> Result<f64> {
        match self.unwrapped(values).as_slice() {
            [value] if value.is_number() => Ok(value.as_f64().unwrap_or(f64::NAN)),
            _ => Err(path_error("22038", "operand of jsonpath operator is not a single numeric value")),
        }
    }

    fn step(&self, values: Vec<Json>, step: &Step) -> Result<Vec<Json>> {
        let mut found = vec![];
        match step {
            Step::Member(name) => {
                for value in self.unwrapped(values) {
                    match value {
                        Json::Object(mut object) => match object.remove(name) {
                            Some(member) => found.push(member),
                            None if self.strict => {
                                return Err(path_error(
                                    "2203A",
                                    format!("JSON object does not contain key \"{name}\""),
                                ));
                            }
                            None => {}
                        },
                        _ if self.strict => {
                            return Err(path_error(
                                "2203A",
                                "jsonpath member accessor can only be applied to an object",
                            ));
                        }
                        _ => {}
                    }
                }
            }
            Step::AnyMember => {
                for value in self.unwrapped(values) {
                    match value {
                        Json::Object(_) => {
                            // In the order that jsonb keeps.
                            let text = jsonb_text(&value);
                            for (_, member) in crate::types::json_scan::members(&text) {
                                found.push(parse(member)?);
                            }
                        }
                        _ if self.strict => {
                            return Err(path_error(
                                "2203C",
                                "jsonpath wildcard member accessor can only be applied to an object",
                            ));
                        }
                        _ => {}
                    }
                }
            }
            Step::AnyItem => {
                for value in values {
                    match value {
                        Json::Array(items) => found.extend(items),
                        _ if self.strict => {
                            return Err(path_error(
                                "22039",
                                "jsonpath wildcard array accessor can only be applied to an array",
                            ));
                        }
                        other => found.push(other),
                    }
                }
            }
            Step::Items(ranges) => {
                for value in values {
                    let items = match value {
                        Json::Array(items) => items,
                        _ if self.strict => {
                            return Err(path_error("22039", "jsonpath array accessor can only be applied to an array"));
                        }
                        other => vec![other],
                    };
                    let last = items.len() as i64 - 1;
                    for (from, to) in ranges {
                        let index = |expr: &Expr| -> Result<i64> {
                            let value = self.single_number(self.values(expr, &Json::Null, Some(last))?)?;
                            Ok(value.trunc() as i64)
                        };
                        let from = index(from)?;
                        let to = to.as_ref().map_or(Ok(from), index)?;
                        if self.strict && (from < 0 || from > to || to > last) {
                            return Err(path_error("22033", "jsonpath array subscript is out of bounds"));
                        }
                        for at in from.max(0)..=to.min(last) {
                            found.push(items[at as usize].clone());
                        }
                    }
                }
            }
            Step::Filter(predicate) => {
                for value in self.unwrapped(values) {
                    if self.truth(predicate, &value, None)? == Some(true) {
                        found.push(value);
                    }
                }
            }
            Step::Method(method) => {
                for value in values {
                    self.method(value, *method, &mut found)?;
                }
            }
        }
        Ok(found)
    }

    fn method(&self, value: Json, method: Method, found: &mut Vec<Json>) -> Result<()> {
        match (method, value) {
            (Method::Type, value) => found.push(Json::from(crate::types::json_scan::kind(&jsonb_text(&value)))),
            (Method::Size, Json::Array(items)) => found.push(Json::from(items.len())),
            (Method::Size, _) if self.strict => {
                return Err(path_error("22039", "jsonpath item method .size() can only be applied to an array"));
            }
            (Method::Size, _) => found.push(Json::from(1)),
            (method, Json::Array(items)) if !self.strict => {
                for item in items {
                    self.method(item, method, found)?;
                }
            }
            (Method::Double, Json::String(text)) => {
                let value: f64 = text.trim().parse().map_err(|_| {
                    path_error("22036", "string argument of jsonpath item method .double() is not a valid representation of a double precision number")
                })?;
                found.push(number(value)?);
            }
            (method, value) => {
                let Some(value) = value.as_f64() else {
                    let name = method.name();
                    let message = format!("jsonpath item method .{name}() can only be applied to a numeric value");
                    return Err(path_error("22036", message));
                };
                found.push(number(match method {
                    Method::Ceiling => value.ceil(),
                    Method::Floor => value.floor(),
                    Method::Abs => value.abs(),
                    _ => value,
                })?);
            }
        }
        Ok(())
    }

    /// `None` is unknown.
    fn truth(&self, predicate: &Expr, at: &Json, last: Option<i64>) -> Result<Option<bool>> {
        Ok(match predicate {
            Expr::And(left, right) => match (self.truth(left, at, last)?, self.truth(right, at, last)?) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Expr::Or(left, right) => match (self.truth(left, at, last)?, self.truth(right, at, last)?) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Expr::Not(inner) => self.truth(inner, at, last)?.map(|value| !value),
            Expr::IsUnknown(inner) => Some(self.truth(inner, at, last)?.is_none()),
            Expr::Exists(inner) => match self.values(inner, at, last) {
                Ok(found) => Some(!found.is_empty()),
                Err(error) => silently(Err(error))?,
            },
            Expr::Compare(op, left, right) => {
                let (Some(left), Some(right)) = (self.operand(left, at, last)?, self.operand(right, at, last)?) else {
                    return Ok(None);
                };
                self.some_pair(&left, &right, |a, b| compared(*op, a, b))
            }
            Expr::StartsWith(left, right) => {
                let (Some(left), Some(right)) = (self.operand(left, at, last)?, self.operand(right, at, last)?) else {
                    return Ok(None);
                };
                self.some_pair(&left, &right, |a, b| Some(a.as_str()?.starts_with(b.as_str()?)))
            }
            Expr::LikeRegex(left, pattern, flags) => {
                let Some(left) = self.operand(left, at, last)? else { return Ok(None) };
                let mut result = Some(false);
                for value in &left {
                    match value.as_str() {
                        Some(text) if super::regex::is_match(text, pattern, flags)? => return Ok(Some(true)),
                        Some(_) => {}
                        None => result = None,
                    }
                }
                result
            }
            other => return Ok(truth(&self.values(other, at, last)?)),
        })
    }

    /// An operand's values; `None` where it fails, which makes the predicate unknown.
    fn operand(&self, expr: &Expr, at: &Json, last: Option<i64>) -> Result<Option<Vec<Json>>> {
        Ok(silently(self.values(expr, at, last))?.map(|values| self.unwrapped(values)))
    }

    /// True if it holds for some pair; unknown if it cannot be said for one (in lax mode: and holds for none).
    fn some_pair(&self, left: &[Json], right: &[Json], holds: impl Fn(&Json, &Json) -> Option<bool>) -> Option<bool> {
        let (mut any, mut unknown) = (false, false);
        for a in left {
            for b in right {
                match holds(a, b) {
                    Some(true) if !self.strict => return Some(true),
                    Some(true) => any = true,
                    Some(false) => {}
                    None if self.strict => return None,
                    None => unknown = true,
                }
            }
        }
        if any {
            Some(true)
        } else if unknown {
            None
        } else {
            Some(false)
        }
    }
}

/// Values of two kinds are not equal, and cannot be put in order; null is equal to null.
fn compared(op: Comparison, a: &Json, b: &Json) -> Option<bool> {
    let order = match (a, b) {
        (Json::Null, Json::Null) => Ordering::Equal,
        (Json::Null, _) | (_, Json::Null) => return Some(op == Comparison::NotEqual),
        (Json::Number(a), Json::Number(b)) => compare_numbers(&a.to_string(), &b.to_string()),
        (Json::String(_), Json::String(_)) | (Json::Bool(_), Json::Bool(_)) => compare(a, b),
        _ => return None,
    };
    Some(match op {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    })
}

fn number(value: f64) -> Result<Json> {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return Ok(Json::from(value as i64));
    }
    let number = serde_json::Number::from_f64(value);
    number.map(Json::Number).ok_or_else(|| path_error("22036", "numeric value out of range"))
}
