//! The system relations: `pg_catalog` and `information_schema` as Postgres 15 has them, answered from a [`Catalog`]; and
//! `hw_catalog`.
//!
//! ```text
//! (schema, name) ──find──▶ columns.rs: the relation's columns ──┐
//! Catalog, settings, sessions ──▶ rows of that relation only ───┴──▶ RecordBatch
//! ```
//!
//! Nothing is kept between calls but what never changes (types, functions, and the system relations themselves), so an
//! answer is as fresh as the catalog it is asked of. Relations of things we do not have (triggers, policies, …) are
//! there with their columns, and empty. Of `hw_catalog` only the columns are known here: its rows are the runtime's to tell.

mod cluster;
mod columns;
mod descriptions;
mod information_schema;
mod orders;
mod relations;
mod roles;
mod routines;
mod rows;
mod summaries;
mod types;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

pub use descriptions::description;
pub use routines::{FunctionRow, function_oid, function_row_of};
pub use rows::Value;
pub(crate) use rows::array;
pub use types::{TYPES, TypeRow, type_by_name, type_row};

use super::{Catalog, Object, ObjectKind};
use crate::types::RelationId;
use columns::Relation;
use rows::Rows;

/// What the system relations tell about, besides the catalog.
pub struct SystemContext<'a> {
    pub catalog: &'a Catalog,
    /// The database that the session is in.
    pub database: &'a str,
    /// `current_user`.
    pub user: &'a str,
    /// Only superusers see verifiers of passwords.
    pub is_superuser: bool,
    /// Name, value, description: `pg_settings`.
    pub settings: &'a [(String, String, String)],
    /// `pg_stat_activity`.
    pub activity: &'a [Activity],
}

/// A session, as `pg_stat_activity` shows it. Times are microseconds since 1970.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    pub pid: i32,
    pub user: String,
    pub database: String,
    pub application_name: String,
    pub client_address: Option<String>,
    pub client_port: Option<i32>,
    pub backend_start_us: i64,
    pub transaction_start_us: Option<i64>,
    pub query_start_us: Option<i64>,
    pub state_change_us: Option<i64>,
    /// `active`, `idle`, `idle in transaction`, `idle in transaction (aborted)`.
    pub state: String,
    pub query: String,
}

/// OIDs of the schemas that are always there; `public` is 2200 in the catalog.
pub const PG_CATALOG_OID: u32 = 11;
pub const INFORMATION_SCHEMA_OID: u32 = 13000;
pub const HW_CATALOG_OID: u32 = 12900;
/// The schemas of the system relations, which nobody creates or drops.
pub const SYSTEM_SCHEMAS: &[(&str, u32)] =
    &[("pg_catalog", PG_CATALOG_OID), ("information_schema", INFORMATION_SCHEMA_OID), ("hw_catalog", HW_CATALOG_OID)];
/// The one database, its owner, and where its files are.
pub const DATABASE_OID: u32 = 5;
pub const OWNER_OID: u32 = 10;
pub const TABLESPACE_OID: u32 = 1663;
/// Access methods.
pub const HEAP_OID: u32 = 2;
pub const BTREE_OID: u32 = 403;

/// Things that come with a relation get the relation's OID with one of these bits set: its primary key's index, its
/// primary key's constraint, its rewrite rule. Relations start at 16384 and stay far below the lowest of them.
const INDEX_BIT: u32 = 1 << 30;
const CONSTRAINT_BIT: u32 = 1 << 29;
const RULE_BIT: u32 = 1 << 28;

/// Rows of a relation of `pg_catalog` or `information_schema`; `None` if there is no such relation.
pub fn table(schema: &str, name: &str, context: &SystemContext<'_>) -> Option<RecordBatch> {
    let relation = columns::find(schema, name).filter(|_| schema != "hw_catalog")?;
    let mut rows = Rows::new(relation);
    match schema {
        "pg_catalog" => fill_pg_catalog(relation, &mut rows, context),
        _ => information_schema::fill(relation.name, &mut rows, context),
    }
    Some(rows.finish())
}

/// The columns of a system relation.
pub fn schema_of(schema: &str, name: &str) -> Option<SchemaRef> {
    columns::find(schema, name).map(|r| r.arrow.clone())
}

/// Schema, name and OID of every system relation.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str, u32)> {
    columns::relations().iter().map(|r| (r.schema, r.name, r.oid))
}

/// True for a relation that has no rows and never will, because it lists what we do not have.
pub fn is_always_empty(schema: &str, name: &str) -> bool {
    schema == "pg_catalog"
        && matches!(
            name,
            "pg_auth_members"
                | "pg_conversion"
                | "pg_db_role_setting"
                | "pg_default_acl"
                | "pg_enum"
                | "pg_event_trigger"
                | "pg_extension"
                | "pg_inherits"
                | "pg_largeobject"
                | "pg_largeobject_metadata"
                | "pg_partitioned_table"
                | "pg_policies"
                | "pg_policy"
                | "pg_publication"
                | "pg_publication_namespace"
                | "pg_publication_rel"
                | "pg_publication_tables"
                | "pg_range"
                | "pg_sequence"
                | "pg_sequences"
                | "pg_statistic_ext"
                | "pg_subscription"
                | "pg_trigger"
                | "pg_user_mapping"
                | "pg_user_mappings"
        )
}

fn fill_pg_catalog(relation: &Relation, rows: &mut Rows, context: &SystemContext<'_>) {
    match relation.name {
        "pg_class" => relations::pg_class(rows, context),
        "pg_attribute" => relations::pg_attribute(rows, context),
        "pg_attrdef" => relations::pg_attrdef(rows, context),
        "pg_index" => relations::pg_index(rows, context),
        "pg_constraint" => relations::pg_constraint(rows, context),
        "pg_depend" => relations::pg_depend(rows, context),
        "pg_rewrite" => relations::pg_rewrite(rows, context),
        "pg_description" => descriptions::pg_description(rows, context),
        "pg_shdescription" => descriptions::pg_shdescription(rows, context),
        "pg_foreign_data_wrapper" => relations::pg_foreign_data_wrapper(rows),
        "pg_foreign_server" => relations::pg_foreign_server(rows, context),
        "pg_foreign_table" => relations::pg_foreign_table(rows, context),
        "pg_type" => types::pg_type(rows),
        "pg_proc" => routines::pg_proc(rows, context),
        "pg_aggregate" => routines::pg_aggregate(rows),
        "pg_operator" => routines::pg_operator(rows),
        "pg_cast" => routines::pg_cast(rows),
        "pg_namespace" => cluster::pg_namespace(rows, context),
        "pg_database" => cluster::pg_database(rows, context),
        "pg_authid" | "pg_roles" => roles::pg_roles(relation.name, rows, context),
        "pg_user" | "pg_shadow" => roles::pg_user(relation.name, rows, context),
        "pg_settings" => cluster::pg_settings(rows, context),
        "pg_stat_activity" => cluster::pg_stat_activity(rows, context),
        "pg_stat_database" => cluster::pg_stat_database(rows, context),
        "pg_am" => cluster::pg_am(rows),
        "pg_tablespace" => cluster::pg_tablespace(rows),
        "pg_collation" => cluster::pg_collation(rows),
        "pg_language" => cluster::pg_language(rows),
        "pg_opclass" => orders::pg_opclass(rows),
        "pg_opfamily" => orders::pg_opfamily(rows),
        "pg_timezone_names" => cluster::pg_timezone_names(rows),
        "pg_tables" => summaries::pg_tables(rows, context),
        "pg_views" => summaries::pg_views(rows, context),
        "pg_matviews" => summaries::pg_matviews(rows, context),
        "pg_indexes" => summaries::pg_indexes(rows, context),
        "pg_stat_user_tables" | "pg_stat_all_tables" | "pg_statio_user_tables" | "pg_statio_all_tables" => {
            summaries::table_statistics(rows, context)
        }
        "pg_stat_user_indexes" | "pg_stat_all_indexes" => summaries::index_statistics(rows, context),
        _ => {}
    }
}

/// The columns of a table's primary key, in index order; empty for everything else.
fn primary_key(object: &Object) -> &[usize] {
    match &object.kind {
        ObjectKind::Table { primary_key, .. } => primary_key,
        _ => &[],
    }
}

/// Whether a constraint stands for the object's primary key.
pub fn has_primary_key(object: &Object) -> bool {
    !primary_key(object).is_empty()
}

/// OID of the schema of this name.
pub fn schema_oid(catalog: &Catalog, schema: &str) -> Option<u32> {
    let mut all = SYSTEM_SCHEMAS.iter().copied().chain(catalog.schemas());
    all.find(|(name, _)| *name == schema).map(|(_, oid)| oid)
}

/// Name of the index and the constraint of a table's primary key.
pub fn primary_key_name(object: &Object) -> String {
    format!("{}_pkey", object.name.name)
}

pub fn index_oid(id: RelationId) -> u32 {
    id.0 | INDEX_BIT
}

pub fn constraint_oid(id: RelationId) -> u32 {
    id.0 | CONSTRAINT_BIT
}

fn rule_oid(id: RelationId) -> u32 {
    id.0 | RULE_BIT
}

/// An index as the system relations show it: that of the primary key, or one of CREATE INDEX.
pub struct IndexRow<'a> {
    pub oid: u32,
    pub name: String,
    pub columns: &'a [usize],
    pub is_unique: bool,
    pub is_primary: bool,
}

/// The primary key's index first.
pub fn indexes(object: &Object) -> Vec<IndexRow<'_>> {
    let key = primary_key(object);
    let primary = (!key.is_empty()).then(|| IndexRow {
        oid: index_oid(object.id),
        name: primary_key_name(object),
        columns: key,
        is_unique: true,
        is_primary: true,
    });
    let others = object.indexes.iter().map(|index| IndexRow {
        oid: index.id.0,
        name: index.name.clone(),
        columns: &index.columns,
        is_unique: index.unique,
        is_primary: false,
    });
    primary.into_iter().chain(others).collect()
}

/// The index with this OID, with its relation.
pub fn index_by_oid(catalog: &Catalog, oid: u32) -> Option<(&Object, IndexRow<'_>)> {
    let object = match oid & INDEX_BIT {
        0 => catalog.index(RelationId(oid))?.0,
        _ => catalog.get(RelationId(oid & !INDEX_BIT))?,
    };
    Some((object, indexes(object).into_iter().find(|index| index.oid == oid)?))
}

/// The relation whose primary key is this constraint.
pub fn relation_of_constraint(oid: u32) -> Option<RelationId> {
    (oid & CONSTRAINT_BIT != 0 && oid & INDEX_BIT == 0).then_some(RelationId(oid & !CONSTRAINT_BIT))
}

/// The foreign server that stands for a connector: its name and OID. Sources and sinks read as foreign tables.
fn foreign_server(object: &Object) -> Option<(String, u32)> {
    let connector = match &object.kind {
        ObjectKind::Source(source) => source.options.get("connector").cloned().unwrap_or_else(|| "unknown".into()),
        ObjectKind::Sink => "sink".to_string(),
        _ => return None,
    };
    // A server's OID follows from its name, so that it is the same in every snapshot.
    let hash = connector.bytes().fold(0u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    Some((connector, 14_500 + hash % 1_000))
}
