//! `pg_opclass` and `pg_opfamily`: how the types are ordered in an index, with Postgres' OIDs.

use super::rows::Rows;
use crate::types::PgType;

/// Operator class: the type it orders, its OID and name, OID and name of its family.
type OperatorClass = (u32, u32, &'static str, u32, &'static str);

const ANY_ARRAY: u32 = 2277;
const OID: u32 = 26;
const TEXT: u32 = 25;

const OPERATOR_CLASSES: &[OperatorClass] = &[
    (16, 10003, "bool_ops", 424, "bool_ops"),
    (17, 10006, "bytea_ops", 428, "bytea_ops"),
    (18, 10007, "char_ops", 429, "char_ops"),
    (19, 10028, "name_ops", 1994, "text_ops"),
    (20, 3124, "int8_ops", 1976, "integer_ops"),
    (21, 1979, "int2_ops", 1976, "integer_ops"),
    (23, 1978, "int4_ops", 1976, "integer_ops"),
    (TEXT, 3126, "text_ops", 1994, "text_ops"),
    (OID, 1981, "oid_ops", 1989, "oid_ops"),
    (30, 10032, "oidvector_ops", 1991, "oidvector_ops"),
    (700, 10012, "float4_ops", 1970, "float_ops"),
    (701, 3123, "float8_ops", 1970, "float_ops"),
    (1042, 10004, "bpchar_ops", 426, "bpchar_ops"),
    (1082, 3122, "date_ops", 434, "datetime_ops"),
    (1083, 10038, "time_ops", 1996, "time_ops"),
    (1114, 3128, "timestamp_ops", 434, "datetime_ops"),
    (1184, 3127, "timestamptz_ops", 434, "datetime_ops"),
    (1186, 10022, "interval_ops", 1982, "interval_ops"),
    (1700, 3125, "numeric_ops", 1988, "numeric_ops"),
    (2249, 10034, "record_ops", 2994, "record_ops"),
    (ANY_ARRAY, 10000, "array_ops", 397, "array_ops"),
    (2950, 10065, "uuid_ops", 2968, "uuid_ops"),
    (3802, 10088, "jsonb_ops", 4033, "jsonb_ops"),
];

/// The operator class that an index over a column of this type has; 0 for a type that has no order.
pub(super) fn operator_class(pg_type: &PgType) -> u32 {
    let ordered_as = match pg_type {
        PgType::Varchar(_) => TEXT,
        PgType::Array(_) => ANY_ARRAY,
        PgType::Regclass | PgType::Regtype | PgType::Regproc | PgType::Regnamespace => OID,
        other => other.oid(),
    };
    OPERATOR_CLASSES.iter().find(|(of, ..)| *of == ordered_as).map_or(0, |(_, oid, ..)| *oid)
}

pub(super) fn pg_opclass(rows: &mut Rows) {
    for (of, oid, name, family, _) in OPERATOR_CLASSES {
        rows.push(&[
            ("oid", (*oid).into()),
            ("opcname", (*name).into()),
            ("opcfamily", (*family).into()),
            ("opcintype", (*of).into()),
        ]);
    }
}

pub(super) fn pg_opfamily(rows: &mut Rows) {
    let mut families: Vec<(u32, &str)> = OPERATOR_CLASSES.iter().map(|(.., family, name)| (*family, *name)).collect();
    families.sort_unstable();
    families.dedup();
    for (oid, name) in families {
        rows.push(&[("oid", oid.into()), ("opfname", name.into())]);
    }
}
