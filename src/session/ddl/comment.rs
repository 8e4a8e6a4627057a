//! COMMENT ON: finds what is meant, and keeps what is said of it.

use std::sync::Arc;

use super::Session;
use super::drop::require_kind;
use super::function::shown;
use crate::catalog::system::{DATABASE_OID, constraint_oid, indexes, primary_key_name};
use crate::catalog::{Catalog, Class, Commented, DATABASE, Object, ObjectKind};
use crate::error::{Error, Result, SqlState};
use crate::sql::{CommentOn, CommentSubject, DropKind, Name};

impl Session {
    pub(super) async fn comment_on(&mut self, comment: &CommentOn) -> Result<&'static str> {
        let on = self.commented(&comment.subject)?;
        let (shared, text) = (self.shared.clone(), comment.text.clone());
        let change = async move {
            let _lock = shared.ddl.lock().await;
            let mut catalog = shared.catalog().as_ref().clone();
            if !catalog.can_be_commented(on) {
                return Err(Error::new(SqlState::UNDEFINED_OBJECT, "the object was dropped meanwhile"));
            }
            catalog.set_comment(on, text);
            shared.publish(catalog).await
        };
        self.shared.uninterrupted(change).await?;
        Ok("COMMENT")
    }

    fn commented(&self, subject: &CommentSubject) -> Result<Commented> {
        let catalog = self.shared.catalog();
        match subject {
            CommentSubject::Relation { kind: DropKind::Index, name } => {
                Ok(Commented::object(Class::Relation, self.index_named(&catalog, name)?))
            }
            CommentSubject::Relation { kind, name } => {
                let object = self.resolver(catalog).require(name)?.clone();
                require_kind(&object, *kind).map_err(|error| Error { hint: None, ..error })?;
                Ok(Commented::object(Class::Relation, object.id.0))
            }
            CommentSubject::Column { relation, column } => {
                let object = self.resolver(catalog).require(relation)?.clone();
                let place = object.columns.iter().position(|known| known.name == *column).ok_or_else(|| {
                    let message = format!("column \"{column}\" of relation \"{}\" does not exist", object.name.name);
                    Error::new(SqlState::UNDEFINED_COLUMN, message)
                })?;
                let place = u32::try_from(place).map_err(|_| Error::internal("a column's number is too large"))?;
                Ok(Commented { class: Class::Relation, oid: object.id.0, column: place + 1 })
            }
            CommentSubject::Constraint { name, relation } => {
                let object = self.resolver(catalog).require(relation)?.clone();
                let has_key = matches!(&object.kind, ObjectKind::Table { primary_key, .. } if !primary_key.is_empty());
                if !has_key || primary_key_name(&object) != *name {
                    let message = format!("constraint \"{name}\" for table \"{}\" does not exist", object.name.name);
                    return Err(Error::new(SqlState::UNDEFINED_OBJECT, message));
                }
                Ok(Commented::object(Class::Constraint, constraint_oid(object.id)))
            }
            CommentSubject::Function(name) => match self.named_function(&catalog, name)? {
                Some(function) => Ok(Commented::object(Class::Function, function.id.0)),
                None => {
                    let message = format!("function {} does not exist", shown(name));
                    Err(Error::new(SqlState::UNDEFINED_FUNCTION, message))
                }
            },
            CommentSubject::Schema(name) => {
                let oid = catalog.schemas().find(|(schema, _)| schema == name).map(|(_, oid)| oid);
                let oid = oid.ok_or_else(|| {
                    Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist"))
                })?;
                Ok(Commented::object(Class::Schema, oid))
            }
            CommentSubject::Database(name) if name == DATABASE => Ok(Commented::object(Class::Database, DATABASE_OID)),
            CommentSubject::Database(name) => {
                Err(Error::new(SqlState::INVALID_CATALOG_NAME, format!("database \"{name}\" does not exist")))
            }
        }
    }

    /// The OID of an index, also of a primary key's. 42809 for another relation, 42P01 if there is nothing of the name.
    fn index_named(&self, catalog: &Arc<Catalog>, name: &Name) -> Result<u32> {
        let schemas = match &name.schema {
            Some(schema) => vec![schema.clone()],
            None => self.context.settings.lock().search_path(),
        };
        for schema in schemas {
            let in_schema = |object: &&Arc<Object>| object.name.schema == schema;
            let mut found = catalog.objects().filter(in_schema).flat_map(|object| indexes(object));
            if let Some(index) = found.find(|index| index.name == name.name) {
                return Ok(index.oid);
            }
            if catalog.find(Some(&schema), &name.name).is_some() {
                return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not an index", name.name)));
            }
        }
        Err(crate::session::resolver::undefined(name, "relation"))
    }
}
