//! `pg_class` and what hangs on it: columns, defaults, keys, dependencies, foreign tables.
//!
//! System relations list themselves too, so that `'pg_class'::regclass` and `\d pg_class` find what they ask for.

use super::orders::operator_class;
use super::rows::{Rows, Value};
use super::types::{collation, type_row};
use super::{
    BTREE_OID, HEAP_OID, SYSTEM_SCHEMAS, SystemContext, columns, constraint_oid, foreign_server, index_oid, indexes,
    primary_key, primary_key_name, rule_oid, schema_oid,
};
use crate::catalog::{Object, ObjectKind};
use crate::types::PgType;

const CLASS_PG_CLASS: u32 = 1259;
const CLASS_PG_REWRITE: u32 = 2618;
const CLASS_PG_CONSTRAINT: u32 = 2606;
const CLASS_PG_NAMESPACE: u32 = 2615;
const FOREIGN_DATA_WRAPPER_OID: u32 = 14_499;

pub(super) fn pg_class(rows: &mut Rows, context: &SystemContext<'_>) {
    for relation in columns::relations() {
        rows.push(&[
            ("oid", relation.oid.into()),
            ("relname", relation.name.into()),
            ("relnamespace", namespace(relation.schema).into()),
            ("relam", if relation.relkind == 'r' { HEAP_OID } else { 0 }.into()),
            ("relkind", relation.relkind.into()),
            ("relnatts", (relation.columns.len() as i16).into()),
            ("relhasrules", (relation.relkind == 'v').into()),
            ("relreplident", 'n'.into()),
        ]);
    }
    for object in context.catalog.objects() {
        let relkind = object.relkind();
        let stored = matches!(relkind, 'r' | 'm');
        let options = match &object.kind {
            ObjectKind::MaterializedView { options, .. } => options.listed(),
            _ => vec![],
        };
        let options: Vec<String> = options.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let namespace = schema_oid(context.catalog, &object.name.schema);
        let has_index = !indexes(object).is_empty();
        rows.push(&[
            ("oid", object.id.0.into()),
            ("relname", object.name.name.as_str().into()),
            ("relnamespace", namespace.into()),
            ("relam", if stored { HEAP_OID } else { 0 }.into()),
            ("relfilenode", if stored { object.id.0 } else { 0 }.into()),
            ("relhasindex", has_index.into()),
            ("relkind", relkind.into()),
            ("reloptions", if options.is_empty() { Value::Null } else { Value::Texts(options) }),
            ("relnatts", (object.columns.len() as i16).into()),
            ("relhasrules", matches!(relkind, 'v' | 'm').into()),
            ("relreplident", if stored { 'd' } else { 'n' }.into()),
        ]);
        for index in indexes(object) {
            rows.push(&[
                ("oid", index.oid.into()),
                ("relname", index.name.into()),
                ("relnamespace", namespace.into()),
                ("relam", BTREE_OID.into()),
                ("relfilenode", index.oid.into()),
                ("relkind", 'i'.into()),
                ("relnatts", (index.columns.len() as i16).into()),
                ("relreplident", 'n'.into()),
            ]);
        }
    }
}

fn namespace(schema: &str) -> u32 {
    SYSTEM_SCHEMAS.iter().find(|(name, _)| *name == schema).map_or(0, |(_, oid)| *oid)
}

pub(super) fn pg_attribute(rows: &mut Rows, context: &SystemContext<'_>) {
    for relation in columns::relations() {
        for (index, column) in relation.columns.iter().enumerate() {
            attribute(rows, relation.oid, column.name, &column.pg_type, index, column.name == "oid", false);
        }
    }
    for object in context.catalog.objects() {
        for (index, column) in object.columns.iter().enumerate() {
            let not_null = !column.nullable || primary_key(object).contains(&index);
            attribute(rows, object.id.0, &column.name, &column.pg_type, index, not_null, column.default.is_some());
        }
        for index in indexes(object) {
            for (position, place) in index.columns.iter().enumerate() {
                let column = &object.columns[*place];
                attribute(rows, index.oid, &column.name, &column.pg_type, position, false, false);
            }
        }
    }
}

fn attribute(
    rows: &mut Rows,
    relation: u32,
    name: &str,
    pg_type: &PgType,
    index: usize,
    not_null: bool,
    has_default: bool,
) {
    let oid = pg_type.oid();
    let layout = type_row(oid);
    let is_array = matches!(pg_type, PgType::Array(_));
    rows.push(&[
        ("attrelid", relation.into()),
        ("attname", name.into()),
        ("atttypid", oid.into()),
        ("attlen", pg_type.length().into()),
        ("attnum", (index as i16 + 1).into()),
        ("attndims", i32::from(is_array).into()),
        ("atttypmod", pg_type.modifier().into()),
        ("attbyval", layout.is_some_and(|t| t.by_value).into()),
        ("attalign", layout.map_or('i', |t| t.align).into()),
        ("attstorage", layout.map_or('x', |t| t.storage).into()),
        ("attnotnull", not_null.into()),
        ("atthasdef", has_default.into()),
        ("attcollation", collation(oid).into()),
    ]);
}

pub(super) fn pg_attrdef(rows: &mut Rows, context: &SystemContext<'_>) {
    for object in context.catalog.objects() {
        for (index, column) in object.columns.iter().enumerate() {
            let Some(default) = column.shown_default() else { continue };
            // The OID of a default: the relation's, turned far enough that its columns fit below.
            let oid = (object.id.0 & 0x0f_ffff) << 11 | index as u32 & 0x7ff;
            rows.push(&[
                ("oid", oid.into()),
                ("adrelid", object.id.0.into()),
                ("adnum", (index as i16 + 1).into()),
                ("adbin", default.into()),
            ]);
        }
    }
}

/// Attribute numbers of the primary key.
fn key_numbers(object: &Object) -> Vec<i64> {
    primary_key(object).iter().map(|i| *i as i64 + 1).collect()
}

fn keyed<'a>(context: &SystemContext<'a>) -> impl Iterator<Item = &'a Object> {
    context.catalog.objects().map(AsRef::as_ref).filter(|o| !primary_key(o).is_empty())
}

pub(super) fn pg_index(rows: &mut Rows, context: &SystemContext<'_>) {
    for object in context.catalog.objects() {
        for index in indexes(object) {
            let key: Vec<i64> = index.columns.iter().map(|place| *place as i64 + 1).collect();
            let zeros = vec![0; key.len()];
            let type_of = |place: &usize| object.columns[*place].pg_type.oid();
            let collations = index.columns.iter().map(|i| collation(type_of(i)).into()).collect::<Vec<i64>>();
            let classes =
                index.columns.iter().map(|i| operator_class(&object.columns[*i].pg_type).into()).collect::<Vec<i64>>();
            rows.push(&[
                ("indexrelid", index.oid.into()),
                ("indrelid", object.id.0.into()),
                ("indnatts", (key.len() as i16).into()),
                ("indnkeyatts", (key.len() as i16).into()),
                ("indisunique", index.is_unique.into()),
                ("indisprimary", index.is_primary.into()),
                ("indkey", key.into()),
                ("indcollation", collations.into()),
                ("indclass", classes.into()),
                ("indoption", zeros.into()),
            ]);
        }
    }
}

pub(super) fn pg_constraint(rows: &mut Rows, context: &SystemContext<'_>) {
    for object in keyed(context) {
        rows.push(&[
            ("oid", constraint_oid(object.id).into()),
            ("conname", primary_key_name(object).into()),
            ("connamespace", schema_oid(context.catalog, &object.name.schema).into()),
            ("contype", 'p'.into()),
            ("conrelid", object.id.0.into()),
            ("conindid", index_oid(object.id).into()),
            ("conkey", key_numbers(object).into()),
        ]);
    }
}

/// Every relation is in a schema; a key's index belongs to its constraint; a view's rule reads what the view reads.
pub(super) fn pg_depend(rows: &mut Rows, context: &SystemContext<'_>) {
    let mut push = |class: u32, object: u32, referenced_class: u32, referenced: u32, kind: char| {
        rows.push(&[
            ("classid", class.into()),
            ("objid", object.into()),
            ("refclassid", referenced_class.into()),
            ("refobjid", referenced.into()),
            ("deptype", kind.into()),
        ]);
    };
    for object in context.catalog.objects() {
        if let Some(schema) = schema_oid(context.catalog, &object.name.schema) {
            push(CLASS_PG_CLASS, object.id.0, CLASS_PG_NAMESPACE, schema, 'n');
        }
        if !primary_key(object).is_empty() {
            push(CLASS_PG_CONSTRAINT, constraint_oid(object.id), CLASS_PG_CLASS, object.id.0, 'a');
            push(CLASS_PG_CLASS, index_oid(object.id), CLASS_PG_CONSTRAINT, constraint_oid(object.id), 'i');
        }
        for index in &object.indexes {
            push(CLASS_PG_CLASS, index.id.0, CLASS_PG_CLASS, object.id.0, 'a');
        }
        if has_rule(object) {
            push(CLASS_PG_REWRITE, rule_oid(object.id), CLASS_PG_CLASS, object.id.0, 'i');
            push(CLASS_PG_REWRITE, rule_oid(object.id), CLASS_PG_CLASS, object.id.0, 'n');
            for read in &object.depends_on {
                push(CLASS_PG_REWRITE, rule_oid(object.id), CLASS_PG_CLASS, read.0, 'n');
            }
        } else {
            for read in &object.depends_on {
                push(CLASS_PG_CLASS, object.id.0, CLASS_PG_CLASS, read.0, 'n');
            }
        }
    }
}

fn has_rule(object: &Object) -> bool {
    matches!(object.kind, ObjectKind::View | ObjectKind::MaterializedView { .. })
}

pub(super) fn pg_rewrite(rows: &mut Rows, context: &SystemContext<'_>) {
    for object in context.catalog.objects().filter(|o| has_rule(o)) {
        rows.push(&[
            ("oid", rule_oid(object.id).into()),
            ("ev_class", object.id.0.into()),
            ("ev_action", object.definition.as_str().into()),
        ]);
    }
}

pub(super) fn pg_foreign_data_wrapper(rows: &mut Rows) {
    rows.push(&[("oid", FOREIGN_DATA_WRAPPER_OID.into()), ("fdwname", "highwater".into())]);
}

pub(super) fn pg_foreign_server(rows: &mut Rows, context: &SystemContext<'_>) {
    let mut servers: Vec<(String, u32)> = context.catalog.objects().filter_map(|o| foreign_server(o)).collect();
    servers.sort();
    servers.dedup();
    for (name, oid) in servers {
        rows.push(&[("oid", oid.into()), ("srvname", name.into()), ("srvfdw", FOREIGN_DATA_WRAPPER_OID.into())]);
    }
}

pub(super) fn pg_foreign_table(rows: &mut Rows, context: &SystemContext<'_>) {
    for object in context.catalog.objects() {
        let Some((_, server)) = foreign_server(object) else { continue };
        rows.push(&[
            ("ftrelid", object.id.0.into()),
            ("ftserver", server.into()),
            ("ftoptions", source_options(object)),
        ]);
    }
}

/// `WITH (…)` of a source as `key=value`; what looks like a secret is not shown.
fn source_options(object: &Object) -> Value {
    let ObjectKind::Source(source) = &object.kind else { return Value::Null };
    let secret = |key: &str| ["password", "secret", "token", "jaas", "key"].iter().any(|word| key.contains(word));
    let shown = source.options.iter().map(|(k, v)| format!("{k}={}", if secret(k) { "********" } else { v }));
    Value::Texts(shown.collect())
}
