//! CREATE INDEX and DROP INDEX: another order in which a relation's rows can be found.
//!
//! Rows go on being read and written while an index is made; a unique one is checked against the rows that are there
//! between two epochs, so that none slips in unseen.

use super::Session;
use crate::catalog::{Catalog, Index, Object, ObjectKind};
use crate::error::{Error, Result, SqlState};
use crate::session::resolver::wrong_kind;
use crate::session::shared::index_specs;
use crate::sql::{CreateIndex, Name};
use crate::state::arrangement::can_be_indexed;
use crate::types::RelationId;

/// As in Postgres.
const COLUMN_COUNT_MAX: usize = 32;

impl Session {
    pub(super) async fn create_index(&mut self, create: &CreateIndex) -> Result<&'static str> {
        const TAG: &str = "CREATE INDEX";
        let relation = self.resolver(self.shared.catalog()).require(&create.relation)?.clone();
        let columns = indexed_columns(&relation, create)?;
        let (shared, id) = (self.shared.clone(), relation.id);
        let (name, unique) = (create.name.clone(), create.unique);
        let change = async move {
            let _lock = shared.ddl.lock().await;
            let mut catalog = shared.catalog().as_ref().clone();
            let mut object = match catalog.get(id) {
                Some(object) => object.as_ref().clone(),
                None => return Err(Error::new(SqlState::UNDEFINED_TABLE, "the relation was dropped meanwhile")),
            };
            let name = name.unwrap_or_else(|| free_name(&catalog, &object, &columns));
            require_free(&catalog, &object, &name)?;
            if shared.builds.state(id).is_some() || shared.builds.reserved_reader(id).is_some_and(|r| r == object.name)
            {
                let message = format!("materialized view \"{}\" is still being built", object.name);
                return Err(Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message).with_hint("try again"));
            }
            object.indexes.push(Index { id: catalog.allocate_id(), name, columns: columns.clone(), unique });
            let before = index_specs(catalog.get(id).map_or(&object, |before| before));
            shared.runtime.set_indexes(id, index_specs(&object)).await?;
            let snapshot = shared.runtime.world().snapshots.get(&id).cloned();
            catalog.update(vec![object])?;
            let published = shared.publish(catalog).await;
            if published.is_err() {
                // Nobody has seen it; the first error is the one to tell.
                let _ = shared.runtime.set_indexes(id, before).await;
                return published;
            }
            let Some(snapshot) = snapshot else { return Ok(()) };
            // It is in force already; this only spares the first reader the wait.
            let built = tokio::task::spawn_blocking(move || snapshot.build_index(&columns)).await;
            built.map_err(|e| Error::internal(format!("building an index failed: {e}")))?
        };
        match self.shared.uninterrupted(change).await {
            Ok(()) => Ok(TAG),
            Err(error) => self.skip_existing(error, create.if_not_exists).map(|()| TAG),
        }
    }

    pub(super) async fn drop_indexes(&mut self, names: &[Name], if_exists: bool) -> Result<&'static str> {
        let catalog = self.shared.catalog();
        let mut ids = vec![];
        for name in names {
            match self.find_index(&catalog, name)? {
                Some(id) => ids.push(id),
                None => {
                    let message = format!("index \"{}\" does not exist", name.name);
                    if !if_exists {
                        return Err(Error::new(SqlState::UNDEFINED_OBJECT, message));
                    }
                    self.notice(SqlState("00000"), format!("{message}, skipping"));
                }
            }
        }
        let shared = self.shared.clone();
        let change = async move {
            let _lock = shared.ddl.lock().await;
            for id in ids {
                let mut catalog = shared.catalog().as_ref().clone();
                // Dropped meanwhile: then nothing is left to do.
                let Some((object, _)) = catalog.index(id) else { continue };
                let mut object = object.as_ref().clone();
                object.indexes.retain(|index| index.id != id);
                let (relation, specs) = (object.id, index_specs(&object));
                catalog.update(vec![object])?;
                shared.publish(catalog).await?;
                shared.runtime.set_indexes(relation, specs).await?;
            }
            Ok(())
        };
        self.shared.uninterrupted(change).await?;
        Ok("DROP INDEX")
    }

    pub(super) async fn rename_index(&mut self, name: &Name, to: &str, if_exists: bool) -> Result<&'static str> {
        const TAG: &str = "ALTER INDEX";
        let Some(id) = self.find_index(&self.shared.catalog(), name)? else {
            let message = format!("relation \"{}\" does not exist", name.name);
            if !if_exists {
                return Err(Error::new(SqlState::UNDEFINED_TABLE, message));
            }
            self.notice(SqlState("00000"), format!("{message}, skipping"));
            return Ok(TAG);
        };
        let (shared, to) = (self.shared.clone(), to.to_string());
        let change = async move {
            let _lock = shared.ddl.lock().await;
            let mut catalog = shared.catalog().as_ref().clone();
            // Dropped meanwhile: then nothing is left to do.
            let Some((object, _)) = catalog.index(id) else { return Ok(()) };
            let mut object = object.as_ref().clone();
            require_free(&catalog, &object, &to)?;
            object.indexes.iter_mut().filter(|index| index.id == id).for_each(|index| index.name = to.clone());
            let (relation, specs) = (object.id, index_specs(&object));
            catalog.update(vec![object])?;
            shared.publish(catalog).await?;
            // Its name is in the errors of a unique one.
            shared.runtime.set_indexes(relation, specs).await
        };
        self.shared.uninterrupted(change).await?;
        Ok(TAG)
    }

    /// 42809 for a relation, 2BP01 for the index of a primary key.
    fn find_index(&self, catalog: &std::sync::Arc<Catalog>, name: &Name) -> Result<Option<RelationId>> {
        let schemas = match &name.schema {
            Some(schema) => vec![schema.clone()],
            None => self.context.settings.lock().search_path(),
        };
        for schema in &schemas {
            if let Some((_, index)) = catalog.find_index(Some(schema), &name.name) {
                return Ok(Some(index.id));
            }
            if let Some(object) = catalog.find(Some(schema), &name.name) {
                let message = format!("\"{}\" is not an index", object.name.name);
                return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, message));
            }
            let in_schema = catalog.objects().filter(|object| object.name.schema == *schema);
            for object in in_schema {
                let keys = crate::catalog::system::indexes(object);
                if keys.iter().any(|index| index.is_primary && index.name == name.name) {
                    let table = &object.name;
                    let message = format!("cannot drop index {} because table {table} requires it", name.name);
                    return Err(Error::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                        .with_hint("a primary key goes with its table only"));
                }
            }
        }
        Ok(None)
    }
}

/// Column indices. 42703 for one that is not there, 0A000 for one whose values have no order, or for an index that
/// would be unique over a view.
fn indexed_columns(relation: &Object, create: &CreateIndex) -> Result<Vec<usize>> {
    match relation.kind {
        ObjectKind::Table { .. } => {}
        ObjectKind::MaterializedView { .. } if create.unique => {
            return Err(Error::unsupported(
                "a unique index on a materialized view",
                "its rows follow from what it reads; leave UNIQUE out, or make an index of the table unique",
            ));
        }
        ObjectKind::MaterializedView { .. } => {}
        ObjectKind::View => return Err(wrong_kind(relation, "index the tables that it reads, or materialize it")),
        ObjectKind::Source(_) => return Err(wrong_kind(relation, "it keeps no rows; index a view over it")),
        ObjectKind::Sink => return Err(wrong_kind(relation, "it keeps no rows")),
    }
    if create.columns.len() > COLUMN_COUNT_MAX {
        let message = format!("cannot use more than {COLUMN_COUNT_MAX} columns in an index");
        return Err(Error::new(SqlState("54011"), message));
    }
    let mut columns = vec![];
    for name in &create.columns {
        let Some(place) = relation.columns.iter().position(|column| column.name == *name) else {
            return Err(Error::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist")));
        };
        let pg_type = &relation.columns[place].pg_type;
        if !can_be_indexed(&[pg_type.arrow()]) {
            return Err(Error::unsupported(
                format!("an index over a column of type {}", pg_type.name()),
                "index a column that holds a single value",
            ));
        }
        if columns.contains(&place) {
            let message = format!("column \"{name}\" appears twice in the index");
            return Err(Error::new(SqlState::DUPLICATE_COLUMN, message).with_hint("once is enough"));
        }
        columns.push(place);
    }
    Ok(columns)
}

/// `t_a_b_idx`, with a number if that is taken.
fn free_name(catalog: &Catalog, object: &Object, columns: &[usize]) -> String {
    let columns: Vec<&str> = columns.iter().map(|&column| object.columns[column].name.as_str()).collect();
    let base = format!("{}_{}_idx", object.name.name, columns.join("_"));
    let numbered = (1..).map(|number: usize| format!("{base}{number}"));
    let mut candidates = std::iter::once(base.clone()).chain(numbered);
    candidates.find(|name| require_free(catalog, object, name).is_ok()).unwrap_or(base)
}

/// Indexes and relations of a schema share their names: 42P07.
fn require_free(catalog: &Catalog, object: &Object, name: &str) -> Result<()> {
    let schema = Some(object.name.schema.as_str());
    let keys = catalog.objects().filter(|other| other.name.schema == object.name.schema);
    let is_key = keys.flat_map(|other| crate::catalog::system::indexes(other)).any(|index| index.name == name);
    if is_key || catalog.find(schema, name).is_some() {
        return Err(Error::new(SqlState::DUPLICATE_TABLE, format!("relation \"{name}\" already exists")));
    }
    Ok(())
}
