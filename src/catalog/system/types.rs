//! `pg_type`: the types that the engine has, which are the same in every catalog.

use super::routines::function_oid;
use super::rows::Rows;
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

/// The element type of an array type; a pseudo-type that is any of several is its own.
pub(super) fn element_of(array: u32) -> u32 {
    match PgType::from_oid(array) {
        Some(PgType::Array(item)) => item.oid(),
        // anyarray over anyelement, anycompatiblearray over anycompatible
        _ if array == 2277 => 2283,
        _ if array == 5078 => 5077,
        _ => array,
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
    let array_function = |name: &str| function_oid(name).unwrap_or(0).into();
    for t in TYPES {
        let function = |what: &str| function_oid(&format!("{}{what}", t.io)).unwrap_or(0).into();
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
            ("typinput", function("in")),
            ("typoutput", function("out")),
            ("typreceive", function("recv")),
            ("typsend", function("send")),
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
            ("typinput", array_function("array_in")),
            ("typoutput", array_function("array_out")),
            ("typreceive", array_function("array_recv")),
            ("typsend", array_function("array_send")),
            ("typalign", if t.align == 'd' { 'd' } else { 'i' }.into()),
            ("typstorage", 'x'.into()),
            ("typcollation", collation(t.oid).into()),
        ]);
    }
}
