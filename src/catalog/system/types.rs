//! `pg_type`, `pg_proc` and `pg_cast`: the types that the engine has, and the functions that it answers catalog
//! questions with, which are the same in every catalog; and the users' SQL functions.

use super::rows::Rows;
use super::{SystemContext, schema_oid};
use crate::catalog::{Returns, functions};
use crate::types::PgType;

/// A row of `pg_type`, for a type that is no array.
pub struct TypeRow {
    pub oid: u32,
    pub name: &'static str,
    pub by_value: bool,
    pub category: char,
    pub preferred: bool,
    pub align: char,
    pub storage: char,
    /// `b` base, `p` pseudo.
    pub kind: char,
    /// What its input and output functions are called: `{io}in`, `{io}out`.
    pub io: &'static str,
}

const fn row(
    oid: u32,
    name: &'static str,
    by_value: bool,
    category: char,
    preferred: bool,
    layout: (char, char),
    io: &'static str,
) -> TypeRow {
    TypeRow { oid, name, by_value, category, preferred, align: layout.0, storage: layout.1, kind: 'b', io }
}

const fn pseudo(oid: u32, name: &'static str, category: char, layout: (char, char), io: &'static str) -> TypeRow {
    TypeRow {
        oid,
        name,
        by_value: false,
        category,
        preferred: false,
        align: layout.0,
        storage: layout.1,
        kind: 'p',
        io,
    }
}

pub static TYPES: &[TypeRow] = &[
    row(16, "bool", true, 'B', true, ('c', 'p'), "bool"),
    row(17, "bytea", false, 'U', false, ('i', 'x'), "bytea"),
    row(18, "char", true, 'Z', false, ('c', 'p'), "char"),
    row(19, "name", false, 'S', false, ('c', 'p'), "name"),
    row(20, "int8", true, 'N', false, ('d', 'p'), "int8"),
    row(21, "int2", true, 'N', false, ('s', 'p'), "int2"),
    row(22, "int2vector", false, 'A', false, ('i', 'p'), "int2vector"),
    row(23, "int4", true, 'N', false, ('i', 'p'), "int4"),
    row(24, "regproc", true, 'N', false, ('i', 'p'), "regproc"),
    row(25, "text", false, 'S', true, ('i', 'x'), "text"),
    row(26, "oid", true, 'N', true, ('i', 'p'), "oid"),
    row(30, "oidvector", false, 'A', false, ('i', 'p'), "oidvector"),
    row(114, "json", false, 'U', false, ('i', 'x'), "json_"),
    row(700, "float4", true, 'N', false, ('i', 'p'), "float4"),
    row(701, "float8", true, 'N', true, ('d', 'p'), "float8"),
    pseudo(705, "unknown", 'X', ('c', 'p'), "unknown"),
    row(1042, "bpchar", false, 'S', false, ('i', 'x'), "bpchar"),
    row(1043, "varchar", false, 'S', false, ('i', 'x'), "varchar"),
    row(1082, "date", true, 'D', false, ('i', 'p'), "date_"),
    row(1083, "time", true, 'D', false, ('d', 'p'), "time_"),
    row(1114, "timestamp", true, 'D', false, ('d', 'p'), "timestamp_"),
    row(1184, "timestamptz", true, 'D', true, ('d', 'p'), "timestamptz_"),
    row(1186, "interval", false, 'T', true, ('d', 'p'), "interval_"),
    row(1700, "numeric", false, 'N', false, ('i', 'm'), "numeric_"),
    row(2205, "regclass", true, 'N', false, ('i', 'p'), "regclass"),
    row(2206, "regtype", true, 'N', false, ('i', 'p'), "regtype"),
    pseudo(2249, "record", 'P', ('d', 'x'), "record_"),
    pseudo(2278, "void", 'P', ('i', 'p'), "void_"),
    row(2950, "uuid", false, 'U', false, ('c', 'p'), "uuid_"),
    row(3802, "jsonb", false, 'U', false, ('i', 'x'), "jsonb_"),
    row(4089, "regnamespace", true, 'N', false, ('i', 'p'), "regnamespace"),
];

/// Spellings of SQL that are no `typname`.
const SPELLINGS: &[(&str, &str)] = &[
    ("boolean", "bool"),
    ("smallint", "int2"),
    ("integer", "int4"),
    ("int", "int4"),
    ("bigint", "int8"),
    ("real", "float4"),
    ("double precision", "float8"),
    ("float", "float8"),
    ("decimal", "numeric"),
    ("character varying", "varchar"),
    ("character", "bpchar"),
    ("char", "bpchar"),
    ("\"char\"", "char"),
    ("time without time zone", "time"),
    ("timestamp without time zone", "timestamp"),
    ("timestamp with time zone", "timestamptz"),
];

/// The first OID of the types' input, output, receive and send functions; four for each type.
const IO_FUNCTION_OID: u32 = 14_000;
/// The first OID of the functions of [`functions`].
pub const FUNCTION_OID: u32 = 15_000;
const ARRAY_IN: u32 = 750;
const ARRAY_OUT: u32 = 751;
const ARRAY_RECV: u32 = 2400;
const ARRAY_SEND: u32 = 2401;
/// The default collation; types that have none give 0.
const DEFAULT_COLLATION: u32 = 100;
const C_COLLATION: u32 = 950;

/// The type of this OID, if it is no array.
pub fn type_row(oid: u32) -> Option<&'static TypeRow> {
    TYPES.iter().find(|t| t.oid == oid)
}

/// The OID of a type as SQL spells it: `int4`, `integer`, `pg_catalog.text[]`, `numeric(10,2)`, `_text`.
pub fn type_by_name(text: &str) -> Option<u32> {
    let mut name = text.trim().to_ascii_lowercase();
    if let Some(rest) = name.strip_prefix("pg_catalog.") {
        name = rest.to_string();
    }
    if let Some(item) = name.strip_suffix("[]") {
        return PgType::from_oid(type_by_name(item)?).map(|t| PgType::Array(Box::new(t)).oid());
    }
    if let Some(open) = name.find('(') {
        let close = name[open..].find(')')? + open;
        name.replace_range(open..=close, "");
    }
    let name = name.trim();
    let name = SPELLINGS.iter().find(|(spelling, _)| *spelling == name).map_or(name, |(_, typname)| typname);
    if let Some(item) = name.strip_prefix('_') {
        let item = TYPES.iter().find(|t| t.name == item)?;
        return PgType::from_oid(item.oid).map(|t| PgType::Array(Box::new(t)).oid());
    }
    TYPES.iter().find(|t| t.name == name).map(|t| t.oid)
}

/// `pg_type.typname` of a type: `int4`, `_text`.
pub fn type_name(pg_type: &PgType) -> String {
    match pg_type {
        PgType::Array(item) => format!("_{}", type_name(item)),
        other => type_row(other.oid()).map_or_else(|| other.name(), |row| row.name.to_string()),
    }
}

pub fn collation(oid: u32) -> u32 {
    match oid {
        25 | 1042 | 1043 | 1009 | 1014 | 1015 => DEFAULT_COLLATION,
        19 | 1003 => C_COLLATION,
        _ => 0,
    }
}

/// Element type of the types that are read by subscript but are no arrays.
fn vector_element(oid: u32) -> u32 {
    match oid {
        22 => 21,
        30 => 26,
        19 => 18,
        _ => 0,
    }
}

/// The array type over `oid`; 0 for `unknown` and `void`, which have none.
fn array_oid(oid: u32) -> u32 {
    match oid {
        705 | 2278 => 0,
        2249 => 2287,
        _ => PgType::from_oid(oid).map_or(0, |t| PgType::Array(Box::new(t)).oid()),
    }
}

fn length(oid: u32) -> i16 {
    PgType::from_oid(oid).map_or(-1, |t| t.length())
}

pub(super) fn pg_type(rows: &mut Rows) {
    for (index, t) in TYPES.iter().enumerate() {
        let io = IO_FUNCTION_OID + 4 * index as u32;
        let array = array_oid(t.oid);
        rows.push(&[
            ("oid", t.oid.into()),
            ("typname", t.name.into()),
            ("typlen", length(t.oid).into()),
            ("typbyval", t.by_value.into()),
            ("typtype", t.kind.into()),
            ("typcategory", t.category.into()),
            ("typispreferred", t.preferred.into()),
            ("typelem", vector_element(t.oid).into()),
            ("typarray", array.into()),
            ("typinput", io.into()),
            ("typoutput", (io + 1).into()),
            ("typreceive", (io + 2).into()),
            ("typsend", (io + 3).into()),
            ("typalign", t.align.into()),
            ("typstorage", t.storage.into()),
            ("typcollation", collation(t.oid).into()),
        ]);
        if array == 0 {
            continue;
        }
        rows.push(&[
            ("oid", array.into()),
            ("typname", format!("_{}", t.name).into()),
            ("typlen", (-1i16).into()),
            ("typtype", t.kind.into()),
            ("typcategory", if t.kind == 'p' { 'P' } else { 'A' }.into()),
            ("typelem", t.oid.into()),
            ("typinput", ARRAY_IN.into()),
            ("typoutput", ARRAY_OUT.into()),
            ("typreceive", ARRAY_RECV.into()),
            ("typsend", ARRAY_SEND.into()),
            ("typalign", if t.align == 'd' { 'd' } else { 'i' }.into()),
            ("typstorage", 'x'.into()),
            ("typcollation", collation(t.oid).into()),
        ]);
    }
}

/// A function as `pg_proc` lists it.
pub struct FunctionRow {
    pub oid: u32,
    pub name: String,
    pub arguments: Vec<u32>,
    pub returns: u32,
    pub strict: bool,
    pub volatility: char,
    pub language: u32,
}

const CSTRING: u32 = 2275;
const INTERNAL_LANGUAGE: u32 = 12;
const SQL_LANGUAGE: u32 = 14;

/// All functions of `pg_proc`, with fixed OIDs.
pub fn function_rows() -> Vec<FunctionRow> {
    let internal = |oid: u32, name: String, arguments: Vec<u32>, returns: u32| FunctionRow {
        oid,
        name,
        arguments,
        returns,
        strict: true,
        volatility: 's',
        language: INTERNAL_LANGUAGE,
    };
    let mut all = vec![
        internal(ARRAY_IN, "array_in".into(), vec![CSTRING, 26, 23], 2277),
        internal(ARRAY_OUT, "array_out".into(), vec![2277], CSTRING),
        internal(ARRAY_RECV, "array_recv".into(), vec![2281, 26, 23], 2277),
        internal(ARRAY_SEND, "array_send".into(), vec![2277], 17),
    ];
    for (index, t) in TYPES.iter().enumerate() {
        let oid = IO_FUNCTION_OID + 4 * index as u32;
        all.push(internal(oid, format!("{}in", t.io), vec![CSTRING], t.oid));
        all.push(internal(oid + 1, format!("{}out", t.io), vec![t.oid], CSTRING));
        all.push(internal(oid + 2, format!("{}recv", t.io), vec![2281], t.oid));
        all.push(internal(oid + 3, format!("{}send", t.io), vec![t.oid], 17));
    }
    for (index, listed) in functions::listed().enumerate() {
        all.push(FunctionRow {
            oid: FUNCTION_OID + index as u32,
            name: listed.name.to_string(),
            arguments: listed.arguments,
            returns: listed.returns,
            strict: listed.strict,
            volatility: listed.volatility,
            language: INTERNAL_LANGUAGE,
        });
    }
    all
}

/// The OID of a function by its name alone; the first, if it has several forms.
pub fn function_oid(name: &str) -> Option<u32> {
    function_rows().into_iter().find(|f| f.name == name).map(|f| f.oid)
}

pub fn function_name(oid: u32) -> Option<String> {
    function_rows().into_iter().find(|f| f.oid == oid).map(|f| f.name)
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
            // A record.
            Returns::Table(_) => (2249, true),
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
            ("pronargs", (types.len() as i16).into()),
            ("pronargdefaults", (default_count as i16).into()),
            ("proargtypes", types.into()),
            ("proargnames", names.iter().any(|name| !name.is_empty()).then_some(names).into()),
            ("prorettype", returns.into()),
        ]);
    }
    for function in function_rows() {
        let arguments: Vec<i64> = function.arguments.iter().map(|a| (*a).into()).collect();
        rows.push(&[
            ("oid", function.oid.into()),
            ("prosrc", function.name.clone().into()),
            ("proname", function.name.into()),
            ("prolang", function.language.into()),
            ("proisstrict", function.strict.into()),
            ("provolatile", function.volatility.into()),
            ("pronargs", (arguments.len() as i16).into()),
            ("proargtypes", arguments.into()),
            ("prorettype", function.returns.into()),
        ]);
    }
}

/// Casts that the engine makes without being asked (`i`) or in an assignment (`a`), between the number types and
/// between the times.
pub(super) fn pg_cast(rows: &mut Rows) {
    const IMPLICIT: &[(u32, u32)] = &[
        (21, 23),
        (21, 20),
        (23, 20),
        (21, 700),
        (23, 700),
        (20, 700),
        (21, 701),
        (23, 701),
        (20, 701),
        (700, 701),
        (21, 1700),
        (23, 1700),
        (20, 1700),
        (1700, 701),
        (1082, 1114),
        (1082, 1184),
        (1114, 1184),
        (1043, 25),
        (1042, 25),
        (19, 25),
    ];
    for (index, (source, target)) in IMPLICIT.iter().enumerate() {
        rows.push(&[
            ("oid", (14_900 + index as u32).into()),
            ("castsource", (*source).into()),
            ("casttarget", (*target).into()),
            ("castcontext", 'i'.into()),
        ]);
    }
}
