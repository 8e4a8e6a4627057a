//! `information_schema`: the standard's words for the same catalog. `table_type` is Postgres' (`BASE TABLE`, `VIEW`,
//! `FOREIGN`); a materialized view is listed as a view here, which Postgres would leave out, because tools that read
//! nothing else must find it.

use super::rows::{Rows, Value};
use super::types::type_name;
use super::{SYSTEM_SCHEMAS, SystemContext, columns, foreign_server, primary_key, primary_key_name};
use crate::catalog::{Function, Object, ObjectKind, Returns};
use crate::types::PgType;

pub(super) fn fill(name: &str, rows: &mut Rows, context: &SystemContext<'_>) {
    match name {
        "information_schema_catalog_name" => rows.push(&[("catalog_name", context.database.into())]),
        "schemata" => schemata(rows, context),
        "tables" => tables(rows, context),
        "columns" => all_columns(rows, context),
        "views" => views(rows, context),
        "table_constraints" => table_constraints(rows, context),
        "key_column_usage" | "constraint_column_usage" => key_columns(name, rows, context),
        "constraint_table_usage" => constraint_tables(rows, context),
        "table_privileges" | "role_table_grants" => privileges(rows, context),
        "enabled_roles" => rows.push(&[("role_name", context.user.into())]),
        "character_sets" => character_sets(rows, context),
        "collations" => collations(rows, context),
        "foreign_tables" => foreign_tables(rows, context),
        "view_table_usage" => view_table_usage(rows, context),
        "routines" => routines(rows, context),
        "parameters" => parameters(rows, context),
        _ => {}
    }
}

fn schemata(rows: &mut Rows, context: &SystemContext<'_>) {
    for (name, _) in SYSTEM_SCHEMAS.iter().copied().chain(context.catalog.schemas()) {
        rows.push(&[
            ("catalog_name", context.database.into()),
            ("schema_name", name.into()),
            ("schema_owner", context.catalog.owner().into()),
        ]);
    }
}

/// The three columns that name a relation.
fn place<'n>(context: &SystemContext<'_>, schema: &str, name: &str) -> [(&'n str, Value); 3] {
    [("table_catalog", context.database.into()), ("table_schema", schema.into()), ("table_name", name.into())]
}

fn place_of<'n>(context: &SystemContext<'_>, object: &Object) -> [(&'n str, Value); 3] {
    place(context, &object.name.schema, &object.name.name)
}

fn tables(rows: &mut Rows, context: &SystemContext<'_>) {
    for relation in columns::relations() {
        let kind = if relation.relkind == 'r' { "BASE TABLE" } else { "VIEW" };
        let mut row = place(context, relation.schema, relation.name).to_vec();
        row.push(("table_type", kind.into()));
        rows.push(&row);
    }
    for object in context.catalog.objects() {
        let kind = match object.kind {
            ObjectKind::Table { .. } => "BASE TABLE",
            ObjectKind::View | ObjectKind::MaterializedView { .. } => "VIEW",
            ObjectKind::Source(_) | ObjectKind::Sink => "FOREIGN",
        };
        let mut row = place_of(context, object).to_vec();
        row.push(("table_type", kind.into()));
        row.push(("is_insertable_into", if kind == "BASE TABLE" { "YES" } else { "NO" }.into()));
        rows.push(&row);
    }
}

fn all_columns(rows: &mut Rows, context: &SystemContext<'_>) {
    for relation in columns::relations() {
        for (index, column) in relation.columns.iter().enumerate() {
            let mut row = place(context, relation.schema, relation.name).to_vec();
            column_values(&mut row, context, column.name, index, &column.pg_type);
            row.push(("is_nullable", if column.name == "oid" { "NO" } else { "YES" }.into()));
            rows.push(&row);
        }
    }
    for object in context.catalog.objects() {
        for (index, column) in object.columns.iter().enumerate() {
            let nullable = column.nullable && !primary_key(object).contains(&index);
            let mut row = place_of(context, object).to_vec();
            column_values(&mut row, context, &column.name, index, &column.pg_type);
            row.push(("is_nullable", if nullable { "YES" } else { "NO" }.into()));
            row.push(("column_default", column.shown_default().into()));
            let updatable = matches!(object.kind, ObjectKind::Table { .. });
            row.push(("is_updatable", if updatable { "YES" } else { "NO" }.into()));
            rows.push(&row);
        }
    }
}

fn column_values(
    row: &mut Vec<(&'static str, Value)>,
    context: &SystemContext<'_>,
    name: &str,
    index: usize,
    pg_type: &PgType,
) {
    row.push(("column_name", name.into()));
    row.push(("ordinal_position", (index as i32 + 1).into()));
    row.push(("data_type", data_type(pg_type).into()));
    row.push(("udt_catalog", context.database.into()));
    row.push(("udt_name", type_name(pg_type).into()));
    row.push(("dtd_identifier", (index as i32 + 1).to_string().into()));
    let (precision, scale) = match pg_type {
        PgType::Int2 => (Some(16), Some(0)),
        PgType::Int4 => (Some(32), Some(0)),
        PgType::Int8 => (Some(64), Some(0)),
        PgType::Float4 => (Some(24), None),
        PgType::Float8 => (Some(53), None),
        PgType::Numeric(Some((precision, scale))) => (Some(i32::from(*precision)), Some(i32::from(*scale))),
        _ => (None, None),
    };
    let radix = match pg_type {
        PgType::Numeric(_) => Some(10),
        _ => precision.map(|_| 2),
    };
    row.push(("numeric_precision", precision.into()));
    row.push(("numeric_precision_radix", radix.into()));
    row.push(("numeric_scale", scale.into()));
    let length = match pg_type {
        PgType::Varchar(Some(n)) | PgType::Bpchar(Some(n)) => Some(*n),
        _ => None,
    };
    row.push(("character_maximum_length", length.into()));
    let octets = match pg_type {
        PgType::Text | PgType::Varchar(None) | PgType::Bpchar(None) => Some(1_073_741_824),
        _ => length.map(|n| (i64::from(n) * 4).min(1_073_741_824)),
    };
    row.push(("character_octet_length", octets.into()));
    let fraction = match pg_type {
        PgType::Date => Some(0),
        PgType::Time | PgType::Timestamp | PgType::Timestamptz | PgType::Interval => Some(6),
        _ => None,
    };
    row.push(("datetime_precision", fraction.into()));
}

/// The standard's spelling: no modifiers, and one word for all arrays.
fn data_type(pg_type: &PgType) -> String {
    match pg_type {
        PgType::Array(_) => "ARRAY".into(),
        PgType::Int2vector | PgType::Oidvector => "ARRAY".into(),
        PgType::Varchar(_) => "character varying".into(),
        PgType::Bpchar(_) => "character".into(),
        PgType::Numeric(_) => "numeric".into(),
        other => other.name(),
    }
}

fn views(rows: &mut Rows, context: &SystemContext<'_>) {
    for object in context.catalog.objects() {
        if matches!(object.kind, ObjectKind::View | ObjectKind::MaterializedView { .. }) {
            let mut row = place_of(context, object).to_vec();
            row.push(("view_definition", format!("{};", object.definition).into()));
            rows.push(&row);
        }
    }
}

/// The three columns that name a primary key.
fn constraint_place<'n>(context: &SystemContext<'_>, object: &Object) -> [(&'n str, Value); 3] {
    [
        ("constraint_catalog", context.database.into()),
        ("constraint_schema", object.name.schema.as_str().into()),
        ("constraint_name", primary_key_name(object).into()),
    ]
}

fn keyed<'a>(context: &SystemContext<'a>) -> impl Iterator<Item = &'a Object> {
    context.catalog.objects().map(AsRef::as_ref).filter(|o| !primary_key(o).is_empty())
}

fn table_constraints(rows: &mut Rows, context: &SystemContext<'_>) {
    for object in keyed(context) {
        let mut row = [constraint_place(context, object), place_of(context, object)].concat();
        row.push(("constraint_type", "PRIMARY KEY".into()));
        rows.push(&row);
    }
}

fn key_columns(name: &str, rows: &mut Rows, context: &SystemContext<'_>) {
    for object in keyed(context) {
        for (position, index) in primary_key(object).iter().enumerate() {
            let mut row = [constraint_place(context, object), place_of(context, object)].concat();
            row.push(("column_name", object.columns[*index].name.as_str().into()));
            if name == "key_column_usage" {
                row.push(("ordinal_position", (position as i32 + 1).into()));
            }
            rows.push(&row);
        }
    }
}

fn constraint_tables(rows: &mut Rows, context: &SystemContext<'_>) {
    for object in keyed(context) {
        rows.push(&[constraint_place(context, object), place_of(context, object)].concat());
    }
}

fn privileges(rows: &mut Rows, context: &SystemContext<'_>) {
    for object in context.catalog.objects() {
        let granted: &[&str] = match object.kind {
            ObjectKind::Table { .. } => &["INSERT", "SELECT", "UPDATE", "DELETE", "TRUNCATE"],
            _ => &["SELECT"],
        };
        for privilege in granted {
            let mut row = place_of(context, object).to_vec();
            row.push(("grantor", context.catalog.owner().into()));
            row.push(("grantee", context.catalog.owner().into()));
            row.push(("privilege_type", (*privilege).into()));
            rows.push(&row);
        }
    }
}

fn character_sets(rows: &mut Rows, context: &SystemContext<'_>) {
    rows.push(&[
        ("character_set_name", "UTF8".into()),
        ("character_repertoire", "UCS".into()),
        ("form_of_use", "UTF8".into()),
        ("default_collate_catalog", context.database.into()),
        ("default_collate_schema", "pg_catalog".into()),
        ("default_collate_name", "C".into()),
    ]);
}

fn collations(rows: &mut Rows, context: &SystemContext<'_>) {
    for name in ["default", "C", "POSIX"] {
        rows.push(&[
            ("collation_catalog", context.database.into()),
            ("collation_schema", "pg_catalog".into()),
            ("collation_name", name.into()),
        ]);
    }
}

fn foreign_tables(rows: &mut Rows, context: &SystemContext<'_>) {
    for object in context.catalog.objects() {
        let Some((server, _)) = foreign_server(object) else { continue };
        rows.push(&[
            ("foreign_table_catalog", context.database.into()),
            ("foreign_table_schema", object.name.schema.as_str().into()),
            ("foreign_table_name", object.name.name.as_str().into()),
            ("foreign_server_catalog", context.database.into()),
            ("foreign_server_name", server.into()),
        ]);
    }
}

/// The three columns that tell functions of one name apart.
fn specific<'n>(context: &SystemContext<'_>, function: &Function) -> [(&'n str, Value); 3] {
    [
        ("specific_catalog", context.database.into()),
        ("specific_schema", function.name.schema.as_str().into()),
        ("specific_name", format!("{}_{}", function.name.name, function.id.0).into()),
    ]
}

/// The users' functions.
fn routines(rows: &mut Rows, context: &SystemContext<'_>) {
    for function in context.catalog.functions() {
        let mut row = specific(context, function).to_vec();
        let (data_type, udt_name) = match &function.returns {
            Returns::Value(pg_type) | Returns::SetOf(pg_type) => (data_type(pg_type), type_name(pg_type)),
            Returns::Table(_) => ("record".to_string(), "record".to_string()),
        };
        row.extend([
            ("routine_catalog", context.database.into()),
            ("routine_schema", function.name.schema.as_str().into()),
            ("routine_name", function.name.name.as_str().into()),
            ("routine_type", "FUNCTION".into()),
            ("data_type", data_type.into()),
            ("type_udt_catalog", context.database.into()),
            ("type_udt_schema", "pg_catalog".into()),
            ("type_udt_name", udt_name.into()),
            ("dtd_identifier", "0".into()),
            ("routine_body", "SQL".into()),
            ("routine_definition", function.body.as_str().into()),
            ("external_language", "SQL".into()),
            ("parameter_style", "GENERAL".into()),
            ("is_deterministic", yes_or_no(function.volatility == 'i')),
            ("sql_data_access", "MODIFIES".into()),
            ("is_null_call", yes_or_no(function.strict)),
            ("schema_level_routine", "YES".into()),
            ("max_dynamic_result_sets", 0i32.into()),
            ("security_type", "INVOKER".into()),
            ("as_locator", "NO".into()),
            ("is_udt_dependent", "NO".into()),
        ]);
        rows.push(&row);
    }
}

fn parameters(rows: &mut Rows, context: &SystemContext<'_>) {
    for function in context.catalog.functions() {
        for (index, argument) in function.arguments.iter().enumerate() {
            let mut row = specific(context, function).to_vec();
            row.extend([
                ("ordinal_position", (index as i32 + 1).into()),
                ("parameter_mode", "IN".into()),
                ("is_result", "NO".into()),
                ("as_locator", "NO".into()),
                ("parameter_name", argument.name.clone().into()),
                ("data_type", data_type(&argument.pg_type).into()),
                ("udt_catalog", context.database.into()),
                ("udt_schema", "pg_catalog".into()),
                ("udt_name", type_name(&argument.pg_type).into()),
                ("dtd_identifier", (index as i32 + 1).to_string().into()),
                ("parameter_default", argument.default.clone().into()),
            ]);
            rows.push(&row);
        }
    }
}

fn yes_or_no(value: bool) -> Value {
    if value { "YES" } else { "NO" }.into()
}

fn view_table_usage(rows: &mut Rows, context: &SystemContext<'_>) {
    for view in context.catalog.objects() {
        if !matches!(view.kind, ObjectKind::View | ObjectKind::MaterializedView { .. }) {
            continue;
        }
        for read in view.depends_on.iter().filter_map(|id| context.catalog.get(*id)) {
            let mut row = place_of(context, read).to_vec();
            row.push(("view_catalog", context.database.into()));
            row.push(("view_schema", view.name.schema.as_str().into()));
            row.push(("view_name", view.name.name.as_str().into()));
            rows.push(&row);
        }
    }
}
