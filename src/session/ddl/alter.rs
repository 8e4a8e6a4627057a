//! ALTER … RENAME, SET SCHEMA, SWAP WITH: other names for what is there. Nothing is computed again: relations know each
//! other by id, so those that read a renamed one go on reading what they read.
//!
//! Only text names relations: the stored queries of those that read what is renamed are given the new names
//! ([`crate::sql::rename`]) and bound once against the catalog to come; what would no longer bind refuses the change.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Session;
use super::drop::require_kind;
use super::view::check_stored_view;
use crate::catalog::functions::quote_identifier;
use crate::catalog::{Catalog, Object, ObjectKind, QualifiedName, SCHEMA, span_option};
use crate::error::{Error, Result, SqlState};
use crate::session::resolver::undefined;
use crate::session::shared::{Shared, table_spec};
use crate::sql::rename::{Renamed, rename_relations};
use crate::sql::{Alter, AlterAction, DropKind, Name};
use crate::types::RelationId;

impl Session {
    pub(super) async fn alter(&mut self, alter: &Alter) -> Result<&'static str> {
        if alter.kind == DropKind::Index {
            return match &alter.action {
                AlterAction::Rename { to } => self.rename_index(&alter.name, to, alter.if_exists).await,
                _ => Err(Error::unsupported("ALTER INDEX of anything but the name", "an index goes with its relation")),
            };
        }
        let (word, tag) = match alter.kind {
            DropKind::Table => ("relation", "ALTER TABLE"),
            DropKind::Source => ("source", "ALTER SOURCE"),
            DropKind::View => ("view", "ALTER VIEW"),
            DropKind::MaterializedView => ("materialized view", "ALTER MATERIALIZED VIEW"),
            _ => ("sink", "ALTER SINK"),
        };
        let Some(object) = self.altered(&alter.name, alter.kind) else {
            let missing = undefined(&alter.name, word);
            if !alter.if_exists {
                return Err(missing);
            }
            self.notice(SqlState("00000"), format!("{}, skipping", missing.message));
            return Ok(tag);
        };
        let object = object?;
        if let AlterAction::Pause(is_paused) = alter.action {
            self.pause_source(object.id, is_paused).await?;
            return Ok(tag);
        }
        if let AlterAction::SetOptions { options } = &alter.action {
            return self.set_options(&object, options).await.map(|()| tag);
        }
        let with = match &alter.action {
            AlterAction::Swap { with } => {
                let other = self.altered(with, alter.kind).ok_or_else(|| undefined(with, word))??;
                Some(other.id)
            }
            _ => None,
        };
        let (shared, id, action) = (self.shared.clone(), object.id, alter.action.clone());
        let change = async move {
            let _lock = shared.ddl.lock().await;
            let catalog = shared.catalog();
            let changed = changed(&catalog, id, with, &action)?;
            let after = renamed_catalog(&shared, &catalog, changed)?;
            let renamed: Vec<_> = [Some(id), with].into_iter().flatten().collect();
            let tables: Vec<_> = renamed.iter().filter_map(|id| table_spec(after.get(*id)?)).collect();
            shared.publish(after).await?;
            for table in tables {
                shared.runtime.rename_table(table).await?;
            }
            Ok(())
        };
        self.shared.uninterrupted(change).await?;
        Ok(tag)
    }

    /// Survives a restart: a source that is paused stays so.
    async fn pause_source(&mut self, id: RelationId, is_paused: bool) -> Result<()> {
        let shared = self.shared.clone();
        let change = async move {
            let _lock = shared.ddl.lock().await;
            let mut after = Catalog::clone(&shared.catalog());
            let gone = || Error::new(SqlState::UNDEFINED_TABLE, "the source was dropped meanwhile");
            let mut object = after.get(id).ok_or_else(gone)?.as_ref().clone();
            if let ObjectKind::Source(definition) = &mut object.kind {
                definition.is_paused = is_paused;
            }
            after.update(vec![object])?;
            shared.publish(after).await?;
            shared.runtime.pause_source(id, is_paused).await
        };
        self.shared.uninterrupted(change).await
    }

    /// What the statement names; an error if it is of another kind. ALTER TABLE takes every kind.
    fn altered(&self, name: &Name, kind: DropKind) -> Option<Result<Arc<Object>>> {
        let resolver = self.resolver(self.shared.catalog());
        let object = resolver.find(name.schema.as_deref(), &name.name)?.clone();
        if kind == DropKind::Table {
            return Some(Ok(object));
        }
        let fits = require_kind(&object, kind).map_err(|error| Error { hint: None, ..error });
        Some(fits.map(|()| object))
    }
}

/// The renamed objects as they shall be, with the column names that their readers know where those change.
fn changed(
    catalog: &Catalog,
    id: RelationId,
    with: Option<RelationId>,
    action: &AlterAction,
) -> Result<Vec<(Object, Option<Vec<String>>)>> {
    let gone = || Error::new(SqlState::UNDEFINED_TABLE, "the relation was dropped meanwhile");
    let object = catalog.get(id).ok_or_else(gone)?.as_ref().clone();
    let renamed = |name: QualifiedName| vec![(Object { name, ..object.clone() }, None)];
    Ok(match action {
        AlterAction::Rename { to } => renamed(QualifiedName { schema: object.name.schema.clone(), name: to.clone() }),
        AlterAction::SetSchema { to } => {
            if matches!(to.as_str(), "pg_catalog" | "information_schema" | "hw_catalog") {
                let message = format!("permission denied to move relations into \"{to}\"");
                return Err(Error::new(SqlState("42501"), message));
            }
            renamed(QualifiedName { schema: to.clone(), name: object.name.name.clone() })
        }
        AlterAction::Pause(_) => return Err(Error::internal("a source that is paused has no other name")),
        AlterAction::Swap { .. } => {
            let other = catalog.get(with.ok_or_else(gone)?).ok_or_else(gone)?.as_ref().clone();
            if object.id == other.id {
                return Err(Error::new(
                    SqlState::INVALID_TABLE_DEFINITION,
                    "a relation cannot change places with itself",
                ));
            }
            if object.kind_name() != other.kind_name() {
                let message = format!(
                    "\"{}\" is a {} and \"{}\" is a {}",
                    object.name.name,
                    object.kind_name(),
                    other.name.name,
                    other.kind_name()
                );
                return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, message)
                    .with_hint("only relations of one kind can change places"));
            }
            let names = (object.name.clone(), other.name.clone());
            vec![(Object { name: names.1, ..object }, None), (Object { name: names.0, ..other }, None)]
        }
        AlterAction::SetOptions { .. } => return Err(Error::internal("options are no names")),
        AlterAction::RenameColumn { from, to } => {
            let known: Vec<String> = object.columns.iter().map(|column| column.name.clone()).collect();
            if matches!(object.kind, ObjectKind::Source(_) | ObjectKind::Sink) {
                return Err(Error::unsupported(
                    format!("renaming a column of a {}", object.kind_name()),
                    "its columns are called as the outside system calls them; rename them in a view",
                ));
            }
            let missing = || {
                let message = format!("column \"{from}\" does not exist");
                Error::new(SqlState::UNDEFINED_COLUMN, message)
            };
            let place = known.iter().position(|column| column == from).ok_or_else(missing)?;
            if known.contains(to) {
                let message = format!("column \"{to}\" of relation \"{}\" already exists", object.name.name);
                return Err(Error::new(SqlState::DUPLICATE_COLUMN, message));
            }
            let mut object = object;
            object.columns[place].name = to.clone();
            vec![(object, Some(known))]
        }
    })
}

/// The catalog after the change, with the stored queries of all readers. 55006 if something is being built on what is
/// renamed, 0A000 if a stored query would no longer mean the same.
fn renamed_catalog(
    shared: &Arc<Shared>,
    before: &Catalog,
    changed: Vec<(Object, Option<Vec<String>>)>,
) -> Result<Catalog> {
    for (object, _) in &changed {
        if let Some(reader) = shared.builds.reserved_reader(object.id) {
            let old = before.get(object.id).map_or(&object.name, |old| &old.name);
            let message = format!("cannot rename \"{old}\" because \"{reader}\" is being built on it");
            return Err(
                Error::new(SqlState("55006"), message).with_hint("cancel the statement that builds it, or wait")
            );
        }
        if shared.builds.is_reserved(&object.name) {
            let message = format!("relation \"{}\" already exists", object.name.name);
            return Err(Error::new(SqlState::DUPLICATE_TABLE, message));
        }
    }
    let renamed: BTreeMap<RelationId, Renamed> = changed
        .iter()
        .map(|(object, columns)| (object.id, Renamed { name: object.name.clone(), columns: columns.clone() }))
        .collect();
    let lookup = |name: &Name| {
        let read = before.find(Some(name.schema.as_deref().unwrap_or(SCHEMA)), &name.name)?;
        renamed.get(&read.id).cloned()
    };
    let mut objects: BTreeMap<RelationId, Object> =
        changed.into_iter().map(|(object, _)| (object.id, with_new_definition(object))).collect();
    let mut readers = vec![];
    for reader in before.objects().filter(|o| o.depends_on.iter().any(|id| renamed.contains_key(id))) {
        let definition = rename_relations(&reader.definition, &lookup).map_err(|e| refused(reader, e))?;
        let entry = objects.entry(reader.id).or_insert_with(|| reader.as_ref().clone());
        entry.definition = definition;
        readers.push(reader.id);
    }
    let mut after = before.clone();
    after.update(objects.into_values().collect())?;
    let catalog = Arc::new(after.clone());
    for id in readers {
        let Some(reader) = catalog.get(id) else { continue };
        check_stored_view(shared, catalog.clone(), reader).map_err(|e| refused(reader, e))?;
    }
    Ok(after)
}

fn refused(reader: &Object, reason: Error) -> Error {
    let (kind, name) = (reader.kind_name(), &reader.name);
    Error::unsupported(
        format!("a new name for what {kind} \"{name}\" reads in a way that the name cannot follow"),
        format!("drop {kind} \"{name}\", rename, and create it again"),
    )
    .with_detail(reason.message)
}

/// A table's or source's CREATE statement says its name; views keep only their query.
fn with_new_definition(mut object: Object) -> Object {
    match &object.kind {
        ObjectKind::Table { .. } => object.definition = table_definition(&object),
        ObjectKind::Source(_) => {
            if let Ok(definition) = crate::sql::rename::rename_created(&object.definition, &object.name) {
                object.definition = definition;
            }
        }
        _ => {}
    }
    object
}

/// The CREATE TABLE of a table as it is now.
pub(super) fn table_definition(object: &Object) -> String {
    let mut parts: Vec<String> = object
        .columns
        .iter()
        .map(|column| {
            let not_null = if column.nullable { "" } else { " NOT NULL" };
            let default = column.default.as_ref().map_or_else(String::new, |default| format!(" DEFAULT {default}"));
            format!("{} {}{default}{not_null}", quote_identifier(&column.name), column.pg_type.name())
        })
        .collect();
    let mut clauses = String::new();
    if let ObjectKind::Table { primary_key, append_only, watermark, retention_us } = &object.kind {
        let key: Vec<String> = primary_key.iter().map(|&c| quote_identifier(&object.columns[c].name)).collect();
        if !key.is_empty() {
            parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
        }
        if let Some(watermark) = watermark {
            let column = quote_identifier(&object.columns[watermark.column].name);
            let expression = match watermark.delay_us {
                Some(delay_us) => format!("{column} - INTERVAL '{delay_us} microseconds'"),
                None => watermark.expression.clone(),
            };
            parts.push(format!("WATERMARK FOR {column} AS {expression}"));
        }
        if *append_only {
            clauses.push_str(" APPEND ONLY");
        }
        if let Some(retention) = span_option("retention", *retention_us) {
            clauses.push_str(&format!(" WITH ({retention})"));
        }
    }
    format!("CREATE TABLE {} ({}){clauses}", quoted(&object.name), parts.join(", "))
}

fn quoted(name: &QualifiedName) -> String {
    match name.schema.as_str() {
        SCHEMA => quote_identifier(&name.name),
        schema => format!("{}.{}", quote_identifier(schema), quote_identifier(&name.name)),
    }
}
