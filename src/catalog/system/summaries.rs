//! The views of pg_catalog that sum up its tables for people: `pg_tables`, `pg_views`, `pg_matviews`, `pg_indexes`, and
//! the statistics by table.

use super::rows::Rows;
use super::{SystemContext, columns, indexes};
use crate::catalog::functions::index_definition;
use crate::catalog::{Object, ObjectKind};

fn of_kind<'a>(context: &SystemContext<'a>, relkind: char) -> impl Iterator<Item = &'a Object> {
    context.catalog.objects().map(AsRef::as_ref).filter(move |o| o.relkind() == relkind)
}

pub(super) fn pg_tables(rows: &mut Rows, context: &SystemContext<'_>) {
    for relation in columns::relations().iter().filter(|r| r.relkind == 'r') {
        rows.push(&[
            ("schemaname", relation.schema.into()),
            ("tablename", relation.name.into()),
            ("tableowner", context.catalog.owner().into()),
        ]);
    }
    for object in of_kind(context, 'r') {
        rows.push(&[
            ("schemaname", object.name.schema.as_str().into()),
            ("tablename", object.name.name.as_str().into()),
            ("tableowner", context.catalog.owner().into()),
            ("hasindexes", (!indexes(object).is_empty()).into()),
        ]);
    }
}

pub(super) fn pg_views(rows: &mut Rows, context: &SystemContext<'_>) {
    for relation in columns::relations().iter().filter(|r| r.relkind == 'v') {
        rows.push(&[
            ("schemaname", relation.schema.into()),
            ("viewname", relation.name.into()),
            ("viewowner", context.catalog.owner().into()),
        ]);
    }
    for object in of_kind(context, 'v') {
        rows.push(&[
            ("schemaname", object.name.schema.as_str().into()),
            ("viewname", object.name.name.as_str().into()),
            ("viewowner", context.catalog.owner().into()),
            ("definition", format!("{};", object.definition).into()),
        ]);
    }
}

pub(super) fn pg_matviews(rows: &mut Rows, context: &SystemContext<'_>) {
    for object in of_kind(context, 'm') {
        rows.push(&[
            ("schemaname", object.name.schema.as_str().into()),
            ("matviewname", object.name.name.as_str().into()),
            ("matviewowner", context.catalog.owner().into()),
            ("definition", format!("{};", object.definition).into()),
        ]);
    }
}

pub(super) fn pg_indexes(rows: &mut Rows, context: &SystemContext<'_>) {
    for object in context.catalog.objects() {
        for index in indexes(object) {
            rows.push(&[
                ("schemaname", object.name.schema.as_str().into()),
                ("tablename", object.name.name.as_str().into()),
                ("indexdef", index_definition(object, &index).into()),
                ("indexname", index.name.into()),
            ]);
        }
    }
}

/// One row for each relation that holds rows.
pub(super) fn table_statistics(rows: &mut Rows, context: &SystemContext<'_>) {
    let held = |o: &&Object| matches!(o.kind, ObjectKind::Table { .. } | ObjectKind::MaterializedView { .. });
    for object in context.catalog.objects().map(AsRef::as_ref).filter(held) {
        rows.push(&[
            ("relid", object.id.0.into()),
            ("schemaname", object.name.schema.as_str().into()),
            ("relname", object.name.name.as_str().into()),
        ]);
    }
}

pub(super) fn index_statistics(rows: &mut Rows, context: &SystemContext<'_>) {
    for object in context.catalog.objects() {
        for index in indexes(object) {
            rows.push(&[
                ("relid", object.id.0.into()),
                ("indexrelid", index.oid.into()),
                ("schemaname", object.name.schema.as_str().into()),
                ("relname", object.name.name.as_str().into()),
                ("indexrelname", index.name.into()),
            ]);
        }
    }
}
