//! `pg_description` and `pg_shdescription`: what people have said of objects (COMMENT ON), and what the types,
//! functions, operators and the relations of `hw_catalog` are.

use super::rows::Rows;
use super::{SystemContext, columns, routines};
use crate::catalog::{Catalog, Class, Commented};

const CLASS_PG_TYPE: u32 = 1247;

/// What Postgres says of its types.
const TYPES: &[(u32, &str)] = &[
    (16, "boolean, 'true'/'false'"),
    (17, "variable-length string, binary values escaped"),
    (18, "single character"),
    (19, "63-byte type for storing system identifiers"),
    (20, "~18 digit integer, 8-byte storage"),
    (21, "-32 thousand to 32 thousand, 2-byte storage"),
    (22, "array of int2, used in system tables"),
    (23, "-2 billion to 2 billion integer, 4-byte storage"),
    (24, "registered procedure"),
    (25, "variable-length string, no limit specified"),
    (26, "object identifier(oid), maximum 4 billion"),
    (30, "array of oids, used in system tables"),
    (114, "JSON stored as text"),
    (700, "single-precision floating point number, 4-byte storage"),
    (701, "double-precision floating point number, 8-byte storage"),
    (705, "pseudo-type representing an undetermined type"),
    (1042, "char(length), blank-padded string, fixed storage length"),
    (1043, "varchar(length), non-blank-padded string, variable storage length"),
    (1082, "date"),
    (1083, "time of day"),
    (1114, "date and time"),
    (1184, "date and time with time zone"),
    (1186, "@ <number> <units>, time interval"),
    (1700, "numeric(precision, decimal), arbitrary precision number"),
    (2205, "registered class"),
    (2206, "registered type"),
    (2249, "pseudo-type representing any composite type"),
    (2278, "pseudo-type for the result of a function with no real result"),
    (2950, "UUID datatype"),
    (3802, "Binary JSON"),
    (4089, "registered namespace"),
];

pub(super) fn pg_description(rows: &mut Rows, context: &SystemContext<'_>) {
    for (on, text) in context.catalog.comments().filter(|(on, _)| on.class != Class::Database) {
        rows.push(&[
            ("objoid", on.oid.into()),
            ("classoid", on.class.relation().0.into()),
            ("objsubid", (on.column as i32).into()),
            ("description", text.into()),
        ]);
    }
    for (oid, text) in of_system_relations() {
        rows.push(&[
            ("objoid", oid.into()),
            ("classoid", Class::Relation.relation().0.into()),
            ("objsubid", 0i32.into()),
            ("description", text.into()),
        ]);
    }
    for (class, oid, text) in routines::descriptions() {
        rows.push(&[
            ("objoid", oid.into()),
            ("classoid", class.into()),
            ("objsubid", 0i32.into()),
            ("description", text.into()),
        ]);
    }
    for (oid, text) in TYPES {
        rows.push(&[
            ("objoid", (*oid).into()),
            ("classoid", CLASS_PG_TYPE.into()),
            ("objsubid", 0i32.into()),
            ("description", (*text).into()),
        ]);
    }
}

fn of_system_relations() -> impl Iterator<Item = (u32, &'static str)> {
    columns::relations().iter().filter_map(|relation| Some((relation.oid, relation.description?)))
}

pub(super) fn pg_shdescription(rows: &mut Rows, context: &SystemContext<'_>) {
    for (on, text) in context.catalog.comments().filter(|(on, _)| on.class == Class::Database) {
        rows.push(&[
            ("objoid", on.oid.into()),
            ("classoid", on.class.relation().0.into()),
            ("description", text.into()),
        ]);
    }
}

/// What is said of an object in the catalog of this name; `None`: in any.
pub fn description(catalog: &Catalog, class_name: Option<&str>, oid: u32) -> Option<String> {
    let of_type = || TYPES.iter().find(|(known, _)| *known == oid).map(|(_, text)| text.to_string());
    let of_system = || of_system_relations().find(|(known, _)| *known == oid).map(|(_, text)| text.to_string());
    let of_routine = |wanted: u32| {
        let mut all = routines::descriptions();
        all.find(|(class, known, _)| *class == wanted && *known == oid).map(|(.., text)| text.to_string())
    };
    let commented = |class| {
        let own = catalog.comment(Commented::object(class, oid)).map(str::to_string);
        own.or_else(|| match class {
            Class::Relation => of_system(),
            Class::Function => of_routine(1255),
            _ => None,
        })
    };
    match class_name {
        None => [Class::Relation, Class::Function, Class::Schema, Class::Constraint]
            .into_iter()
            .find_map(commented)
            .or_else(of_type),
        Some("pg_type") => of_type(),
        Some("pg_operator") => of_routine(2617),
        Some(name) => Class::from_name(name).filter(|class| *class != Class::Database).and_then(commented),
    }
}
