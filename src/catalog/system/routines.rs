//! `pg_proc`, `pg_aggregate`, `pg_operator` and `pg_cast`: what can be called, said and cast here.
//!
//! Three text tables hold Postgres' own rows of those that the engine takes, with Postgres' OIDs. Functions that Postgres
//! does not have follow with OIDs of ours ([`functions::listed`]), and the users' SQL functions with those of the catalog.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::rows::Rows;
use super::{SystemContext, schema_oid};
use crate::catalog::{Returns, functions};

/// The first OID of the functions that Postgres does not have.
pub const FUNCTION_OID: u32 = 15_000;
const INTERNAL_LANGUAGE: u32 = 12;
const SQL_LANGUAGE: u32 = 14;
const RECORD: u32 = 2249;

/// A function as `pg_proc` lists it.
pub struct FunctionRow {
    pub oid: u32,
    pub name: &'static str,
    /// `f` function, `a` aggregate, `w` window function.
    pub kind: char,
    pub arguments: Vec<u32>,
    pub returns: u32,
    pub returns_set: bool,
    pub strict: bool,
    pub volatility: char,
    /// The last argument may be repeated.
    pub variadic: bool,
    pub description: Option<&'static str>,
}

struct OperatorRow {
    oid: u32,
    name: &'static str,
    left: u32,
    right: u32,
    result: u32,
    commutator: u32,
    negator: u32,
    description: Option<&'static str>,
}

static FUNCTIONS: LazyLock<Vec<FunctionRow>> = LazyLock::new(|| {
    let mut all: Vec<FunctionRow> = lines(include_str!("pg_proc.txt")).map(|line| function_row(&line)).collect();
    let known: HashSet<&str> = all.iter().map(|function| function.name).collect();
    let own: Vec<_> = functions::listed().filter(|listed| !known.contains(listed.name)).collect();
    all.extend(own.into_iter().enumerate().map(|(index, listed)| FunctionRow {
        oid: FUNCTION_OID + index as u32,
        name: listed.name,
        kind: 'f',
        arguments: listed.arguments,
        returns: listed.returns,
        returns_set: false,
        strict: listed.strict,
        volatility: listed.volatility,
        variadic: false,
        description: None,
    }));
    all
});

static BY_NAME: LazyLock<HashMap<&str, u32>> =
    LazyLock::new(|| FUNCTIONS.iter().rev().map(|function| (function.name, function.oid)).collect());

static BY_OID: LazyLock<HashMap<u32, usize>> =
    LazyLock::new(|| FUNCTIONS.iter().enumerate().map(|(index, function)| (function.oid, index)).collect());

static OPERATORS: LazyLock<Vec<OperatorRow>> =
    LazyLock::new(|| lines(include_str!("pg_operator.txt")).map(|line| operator_row(&line)).collect());

/// A line of a text table: its words, and what stands behind ` -- `.
struct Line {
    words: Vec<&'static str>,
    description: Option<&'static str>,
}

impl Line {
    fn number(&self, index: usize) -> u32 {
        self.words[index].parse().expect("an OID is a number")
    }
}

fn lines(text: &'static str) -> impl Iterator<Item = Line> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let (words, description) = match line.split_once(" -- ") {
            Some((words, description)) => (words, Some(description)),
            None => (line, None),
        };
        Line { words: words.split(' ').collect(), description }
    })
}

fn function_row(line: &Line) -> FunctionRow {
    let mut letters = line.words[2].chars();
    let mut letter = || letters.next().expect("a function has a kind and a volatility");
    let (kind, volatility) = (letter(), letter());
    let has = |letter: char| line.words[2][2..].contains(letter);
    FunctionRow {
        oid: line.number(0),
        name: line.words[1],
        kind,
        arguments: (4..line.words.len()).map(|index| line.number(index)).collect(),
        returns: line.number(3),
        returns_set: has('r'),
        strict: has('s'),
        volatility,
        variadic: has('v'),
        description: line.description,
    }
}

fn operator_row(line: &Line) -> OperatorRow {
    OperatorRow {
        oid: line.number(0),
        name: line.words[1],
        left: line.number(2),
        right: line.number(3),
        result: line.number(4),
        commutator: line.number(5),
        negator: line.number(6),
        description: line.description,
    }
}

/// The function with this OID, if it is none of the users'.
pub fn function_row_of(oid: u32) -> Option<&'static FunctionRow> {
    BY_OID.get(&oid).map(|index| &FUNCTIONS[*index])
}

/// The OID of a function by its name alone; the first, if it has several forms.
pub fn function_oid(name: &str) -> Option<u32> {
    BY_NAME.get(name).copied()
}

/// OID of the catalog, of the thing, and what is said of it.
pub(super) fn descriptions() -> impl Iterator<Item = (u32, u32, &'static str)> {
    let functions = FUNCTIONS.iter().filter_map(|function| Some((1255, function.oid, function.description?)));
    functions.chain(OPERATORS.iter().filter_map(|operator| Some((2617, operator.oid, operator.description?))))
}

pub(super) fn pg_proc(rows: &mut Rows, context: &SystemContext<'_>) {
    for function in context.catalog.functions() {
        let types: Vec<i64> = function.arguments.iter().map(|argument| argument.pg_type.oid().into()).collect();
        let names: Vec<String> =
            function.arguments.iter().map(|argument| argument.name.clone().unwrap_or_default()).collect();
        let default_count = function.arguments.iter().filter(|argument| argument.default.is_some()).count();
        let (returns, is_set) = match &function.returns {
            Returns::Value(pg_type) => (pg_type.oid(), false),
            Returns::SetOf(pg_type) => (pg_type.oid(), true),
            Returns::Table(_) => (RECORD, true),
        };
        rows.push(&[
            ("oid", function.id.0.into()),
            ("proname", function.name.name.as_str().into()),
            ("pronamespace", schema_oid(context.catalog, &function.name.schema).into()),
            ("prolang", SQL_LANGUAGE.into()),
            ("prosrc", function.body.as_str().into()),
            ("proisstrict", function.strict.into()),
            ("proretset", is_set.into()),
            ("provolatile", function.volatility.into()),
            ("proparallel", 'u'.into()),
            ("pronargs", (types.len() as i16).into()),
            ("pronargdefaults", (default_count as i16).into()),
            ("proargtypes", types.into()),
            ("proargnames", names.iter().any(|name| !name.is_empty()).then_some(names).into()),
            ("prorettype", returns.into()),
        ]);
    }
    for function in FUNCTIONS.iter() {
        let arguments: Vec<i64> = function.arguments.iter().map(|a| (*a).into()).collect();
        let variadic = function.arguments.last().copied().filter(|_| function.variadic).map(super::types::element_of);
        rows.push(&[
            ("oid", function.oid.into()),
            ("prosrc", function.name.into()),
            ("proname", function.name.into()),
            ("prolang", INTERNAL_LANGUAGE.into()),
            ("prokind", function.kind.into()),
            ("provariadic", variadic.unwrap_or(0).into()),
            ("proisstrict", function.strict.into()),
            ("proretset", function.returns_set.into()),
            ("prorows", if function.returns_set { 1000.0 } else { 0.0 }.into()),
            ("provolatile", function.volatility.into()),
            ("pronargs", (arguments.len() as i16).into()),
            ("proargtypes", arguments.into()),
            ("prorettype", function.returns.into()),
        ]);
    }
}

/// How it adds up is nobody's to see; that it is an aggregate is.
pub(super) fn pg_aggregate(rows: &mut Rows) {
    const OVER_AN_ORDER: &[&str] = &["percentile_cont", "percentile_disc", "mode"];
    for function in FUNCTIONS.iter().filter(|function| function.kind == 'a') {
        let is_ordered = OVER_AN_ORDER.contains(&function.name);
        let direct = if is_ordered { function.arguments.len() as i16 - 1 } else { 0 };
        rows.push(&[
            ("aggfnoid", function.oid.into()),
            ("aggkind", if is_ordered { 'o' } else { 'n' }.into()),
            ("aggnumdirectargs", direct.into()),
        ]);
    }
}

pub(super) fn pg_operator(rows: &mut Rows) {
    for operator in OPERATORS.iter() {
        rows.push(&[
            ("oid", operator.oid.into()),
            ("oprname", operator.name.into()),
            ("oprkind", if operator.left == 0 { 'l' } else { 'b' }.into()),
            ("oprleft", operator.left.into()),
            ("oprright", operator.right.into()),
            ("oprresult", operator.result.into()),
            ("oprcom", operator.commutator.into()),
            ("oprnegate", operator.negator.into()),
        ]);
    }
}

pub(super) fn pg_cast(rows: &mut Rows) {
    for line in lines(include_str!("pg_cast.txt")) {
        let mut letters = line.words[3].chars();
        let mut letter = || letters.next().expect("a cast has a context and a method");
        let (context, method) = (letter(), letter());
        rows.push(&[
            ("oid", line.number(0).into()),
            ("castsource", line.number(1).into()),
            ("casttarget", line.number(2).into()),
            ("castfunc", line.number(4).into()),
            ("castcontext", context.into()),
            ("castmethod", method.into()),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_tables_are_whole() {
        assert!(FUNCTIONS.len() > 700 && OPERATORS.len() > 400, "{} {}", FUNCTIONS.len(), OPERATORS.len());
        let now = function_oid("now").and_then(function_row_of).expect("now() is there");
        assert_eq!((now.oid, now.returns, now.volatility, now.strict), (1299, 1184, 's', true));
        let count = FUNCTIONS.iter().filter(|f| f.name == "count" && f.kind == 'a').count();
        assert_eq!(count, 2);
        assert_eq!(BY_OID.len(), FUNCTIONS.len(), "every function has an OID of its own");
        for table in super::super::types::TYPES {
            assert!(function_oid(&format!("{}in", table.io)).is_some(), "{}", table.name);
        }
        let operators: HashSet<u32> = OPERATORS.iter().map(|operator| operator.oid).collect();
        let is_known = |oid: u32| oid == 0 || operators.contains(&oid);
        assert!(OPERATORS.iter().all(|operator| is_known(operator.commutator) && is_known(operator.negator)));
    }
}
