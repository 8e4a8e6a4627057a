//! Names to relations, over one catalog: what binding asks.

use std::sync::Arc;

use datafusion::datasource::{TableProvider, provider_as_source};

use super::settings::Settings;
use super::shared::Shared;
use super::shared::builds::still_building;
use crate::catalog::{
    Catalog, DATABASE, Function, Index, Object, ObjectKind, QualifiedName, SourceDefinition, WatermarkDefinition,
    system,
};
use crate::error::{Error, Result, SqlState};
use crate::plan::{Arrival, Properties, TimeColumn, Watermark};
use crate::serve::{SnapshotTable, SourceTable, SystemTable, TableIndex};
use crate::sql::bind::{DmlTarget, RelationProperties};
use crate::sql::{Name, RelationResolver, ResolvedRelation, as_of};
use crate::types::RelationId;

pub struct Resolver<'a> {
    shared: &'a Shared,
    catalog: Arc<Catalog>,
    settings: Settings,
    path: Vec<String>,
    /// Indexes that came later are not seen.
    before: Option<RelationId>,
}

impl<'a> Resolver<'a> {
    pub fn new(shared: &'a Shared, catalog: Arc<Catalog>, settings: Settings) -> Resolver<'a> {
        let path = settings.search_path();
        Resolver { shared, catalog, settings, path, before: None }
    }

    /// For the stored query of this object: indexes that came after it are not seen, so that its plan is what it was.
    pub fn before(self, object: RelationId) -> Resolver<'a> {
        Resolver { before: Some(object), ..self }
    }

    /// A user's relation; an unqualified name along the search path.
    pub fn find(&self, schema: Option<&str>, name: &str) -> Option<&Arc<Object>> {
        match schema {
            Some(schema) => self.catalog.find(Some(schema), name),
            None => self.path.iter().find_map(|schema| self.catalog.find(Some(schema), name)),
        }
    }

    /// 42P01 if there is no such relation.
    pub fn require(&self, name: &Name) -> Result<&Arc<Object>> {
        self.find(name.schema.as_deref(), &name.name).ok_or_else(|| undefined(name, "relation"))
    }

    /// Where a new relation of this name goes. 3F000 if its schema does not exist.
    pub fn creation_name(&self, name: &Name) -> Result<QualifiedName> {
        let schema = match &name.schema {
            Some(schema) if matches!(schema.as_str(), "pg_catalog" | "information_schema" | "hw_catalog") => {
                return Err(Error::new(
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    format!("permission denied to create \"{schema}.{}\"", name.name),
                )
                .with_detail("system catalog modifications are currently disallowed"));
            }
            Some(schema) => schema.clone(),
            None => match self.path.iter().find(|schema| self.catalog.has_schema(schema)) {
                Some(schema) => schema.clone(),
                None => {
                    return Err(Error::new(SqlState::INVALID_SCHEMA_NAME, "no schema has been selected to create in"));
                }
            },
        };
        if !self.catalog.has_schema(&schema) {
            return Err(Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{schema}\" does not exist")));
        }
        Ok(QualifiedName { schema, name: name.name.clone() })
    }

    /// What a DML statement changes. 42P01, or 42809 if rows do not go there.
    pub fn dml_target(&self, name: &Name) -> Result<DmlTarget> {
        let object = self.require(name)?;
        match &object.kind {
            ObjectKind::Table { primary_key, .. } => Ok(DmlTarget {
                id: object.id,
                columns: object.columns.clone(),
                primary_key: primary_key.clone(),
                has_unique_index: object.indexes.iter().any(|index| index.unique),
            }),
            ObjectKind::Source(_) => Err(wrong_kind(object, "its rows come from the outside system")),
            ObjectKind::Sink => Err(wrong_kind(object, "change the tables that its query reads")),
            ObjectKind::View | ObjectKind::MaterializedView { .. } => {
                Err(wrong_kind(object, "change the tables that it reads; it follows at once"))
            }
        }
    }

    fn user_relation(&self, object: &Arc<Object>, instant: Option<&str>) -> Result<ResolvedRelation> {
        let (id, name, schema) = (object.id, object.name.to_string(), object.schema());
        let snapshot = || {
            let index = |index: &Index| TableIndex { name: index.name.clone(), columns: index.columns.clone() };
            let indexes = object.indexes.iter().map(index).collect();
            let instant = instant.map(str::to_string);
            Arc::new(SnapshotTable { id, name: name.clone(), schema: schema.clone(), indexes, instant })
        };
        let (provider, properties): (Arc<dyn TableProvider>, _) = match &object.kind {
            ObjectKind::Table { primary_key, append_only, watermark, .. } => {
                let key = (!primary_key.is_empty()).then(|| primary_key.clone());
                let known = watermarked(object, watermark.as_ref());
                (snapshot(), RelationProperties { key, append_only: *append_only, ..known })
            }
            ObjectKind::MaterializedView { key, .. } => {
                let known = self.shared.builds.properties(id);
                let known = known.unwrap_or_else(|| Properties { key: key.clone(), ..Properties::default() });
                (snapshot(), known)
            }
            ObjectKind::Source(_) if instant.is_some() => {
                return Err(Error::unsupported(
                    format!("FOR SYSTEM_TIME AS OF of source \"{name}\""),
                    "a source keeps no rows; create a materialized view over it WITH (retention = '1 hour')",
                ));
            }
            ObjectKind::Source(definition) => {
                let table = SourceTable {
                    id,
                    name: name.clone(),
                    schema: schema.clone(),
                    definition: Arc::new(definition.clone()),
                };
                (Arc::new(table), source_properties(object, definition))
            }
            ObjectKind::View => {
                let columns = object.columns.iter().map(|c| c.name.clone()).collect();
                return Ok(ResolvedRelation::View { columns, query: self.shared.view_query(object)? });
            }
            ObjectKind::Sink => {
                return Err(wrong_kind(object, "a sink keeps no rows; select from what its query reads"));
            }
        };
        let is_seen = |index: &&Index| self.before.is_none_or(|object| index.id < object);
        let indexes = object.indexes.iter().filter(is_seen).map(|index| index.columns.clone()).collect();
        Ok(ResolvedRelation::Rows { id: Some(id), source: provider_as_source(provider), properties, indexes })
    }

    fn system_relation(&self, schema: &str, name: &str) -> Option<ResolvedRelation> {
        let arrow = system::schema_of(schema, name)?;
        let table = SystemTable { schema_name: schema.to_string(), name: name.to_string(), schema: arrow };
        Some(ResolvedRelation::Rows {
            id: None,
            source: provider_as_source(Arc::new(table)),
            properties: RelationProperties::default(),
            indexes: vec![],
        })
    }
}

impl RelationResolver for Resolver<'_> {
    fn resolve(&self, schema: Option<&str>, name: &str) -> Result<Option<ResolvedRelation>> {
        let (name, instant) = as_of::split(name);
        if let Some(object) = self.find(schema, name) {
            return self.user_relation(object, instant).map(Some);
        }
        let reserved = |schema: &str| {
            let name = QualifiedName { schema: schema.to_string(), name: name.to_string() };
            self.shared.builds.is_reserved(&name)
        };
        let is_reserved = match schema {
            Some(schema) => reserved(schema),
            None => self.path.iter().any(|schema| reserved(schema)),
        };
        if is_reserved {
            return Err(still_building(name));
        }
        let relation = self.system_relation(schema.unwrap_or("pg_catalog"), name);
        if relation.is_some() && instant.is_some() {
            let what = format!("FOR SYSTEM_TIME AS OF of the system relation \"{name}\"");
            return Err(Error::unsupported(what, "it tells what is so now; leave the clause out"));
        }
        Ok(relation)
    }

    fn has_functions(&self) -> bool {
        self.catalog.functions().next().is_some()
    }

    fn functions(&self, schema: Option<&str>, name: &str) -> Vec<Arc<Function>> {
        let in_schema = |schema: &str| self.catalog.functions_named(schema, name).cloned().collect::<Vec<_>>();
        match schema {
            Some(schema) => in_schema(schema),
            None => {
                self.path.iter().map(|schema| in_schema(schema)).find(|found| !found.is_empty()).unwrap_or_default()
            }
        }
    }

    fn session_value(&self, name: &str) -> Option<String> {
        match name {
            "current_user" | "user" | "current_role" => Some(self.settings.current_user().to_string()),
            "session_user" => Some(self.settings.session_user().to_string()),
            "current_database" | "current_catalog" => Some(DATABASE.to_string()),
            "current_schema" => self.path.iter().find(|schema| self.catalog.has_schema(schema)).cloned(),
            setting => self.settings.get(setting),
        }
    }
}

fn source_properties(object: &Object, definition: &SourceDefinition) -> RelationProperties {
    RelationProperties { append_only: true, ..watermarked(object, definition.watermark.as_ref()) }
}

/// The time column of a source or table, and the columns behind its own that tell when a row arrived.
fn watermarked(object: &Object, watermark: Option<&WatermarkDefinition>) -> RelationProperties {
    let Some(watermark) = watermark else { return RelationProperties::default() };
    let time = TimeColumn {
        column: watermark.column,
        watermark: Watermark::Relation(object.id),
        lateness_us: 0,
        is_kept: false,
    };
    let arrival = Arrival { column: object.columns.len(), relation: object.id };
    RelationProperties { times: vec![time], arrival: Some(arrival), ..RelationProperties::default() }
}

/// 42809.
pub fn wrong_kind(object: &Object, hint: &str) -> Error {
    let message = format!("\"{}\" is a {}, not a table", object.name.name, object.kind_name());
    Error::new(SqlState::WRONG_OBJECT_TYPE, message).with_hint(hint)
}

/// 42P01, as Postgres names each kind.
pub fn undefined(name: &Name, kind: &str) -> Error {
    let shown = match &name.schema {
        Some(schema) => format!("{schema}.{}", name.name),
        None => name.name.clone(),
    };
    Error::new(SqlState::UNDEFINED_TABLE, format!("{kind} \"{shown}\" does not exist"))
}
