//! Definitions: CREATE, ALTER and DROP. Each takes effect at once, for everybody.
//!
//! ```text
//! validate ──▶ ddl lock ──▶ runtime (create) ──▶ Shared::publish: durable, then current ──▶ answer
//!                  └─ released while a view is built: its name is reserved instead
//! ```
//!
//! What is between the lock and the answer runs to its end even if the client goes away.

mod alter;
mod comment;
mod drop;
mod function;
mod index;
mod late;
mod options;
mod replace;
mod role;
mod set_options;
mod shape;
mod source;
mod table;
mod view;

pub(super) use options::{fixed_us, view_options};
pub(super) use shape::shape;
pub(super) use view::{plan_stored_view, require_no_parameters, require_present};

use super::Session;
use super::limits::Limits;
use super::shared::Shared;
use crate::catalog::{Catalog, QualifiedName};
use crate::error::{Error, Result, SqlState};
use crate::sql::{DropKind, Name, Statement, StatementKind};

impl Session {
    /// The command tag.
    pub(super) async fn execute_ddl(&mut self, statement: &Statement, limits: &mut Limits) -> Result<&'static str> {
        match &statement.kind {
            StatementKind::CreateTable(create) => {
                self.require_writable("CREATE TABLE")?;
                self.create_table(create, &statement.text, limits).await
            }
            StatementKind::CreateSource(create) => {
                self.require_writable("CREATE SOURCE")?;
                self.create_source(create, &statement.text, limits).await
            }
            StatementKind::CreateView { name, columns, query, query_text, or_replace } => {
                self.require_writable("CREATE VIEW")?;
                self.create_view(name, columns, query, query_text, *or_replace).await
            }
            StatementKind::CreateMaterializedView(create) => {
                self.require_writable("CREATE MATERIALIZED VIEW")?;
                self.create_materialized_view(create, limits).await
            }
            StatementKind::CreateSink { name, if_not_exists, query, query_text, options } => {
                self.require_writable("CREATE SINK")?;
                self.create_sink(name, *if_not_exists, query, query_text, options, limits).await
            }
            StatementKind::CreateSchema { name, if_not_exists } => {
                self.require_writable("CREATE SCHEMA")?;
                self.create_schema(name, *if_not_exists).await
            }
            StatementKind::Drop { kind, names, if_exists, cascade } if *kind != DropKind::Index => {
                self.require_writable("DROP")?;
                self.drop_objects(*kind, names, *if_exists, *cascade).await
            }
            StatementKind::CreateFunction(create) => {
                self.require_writable("CREATE FUNCTION")?;
                self.create_function(create, &statement.text).await
            }
            StatementKind::DropFunction(drop) => {
                self.require_writable("DROP FUNCTION")?;
                self.drop_functions(drop).await
            }
            StatementKind::CreateIndex(create) => {
                self.require_writable("CREATE INDEX")?;
                self.create_index(create).await
            }
            StatementKind::Drop { kind: DropKind::Index, names, if_exists, .. } => {
                self.require_writable("DROP INDEX")?;
                self.drop_indexes(names, *if_exists).await
            }
            StatementKind::CreateRole { name, options } => {
                self.require_writable("CREATE ROLE")?;
                self.create_role(name, options).await
            }
            StatementKind::AlterRole { name, change } => {
                self.require_writable("ALTER ROLE")?;
                self.alter_role(name, change).await
            }
            StatementKind::DropRole { names, if_exists } => {
                self.require_writable("DROP ROLE")?;
                self.drop_roles(names, *if_exists).await
            }
            StatementKind::Alter(alter) => {
                self.require_writable("ALTER")?;
                self.alter(alter).await
            }
            StatementKind::CommentOn(comment) => {
                self.require_writable("COMMENT")?;
                self.comment_on(comment).await
            }
            _ => Err(Error::internal("no definition")),
        }
    }

    async fn create_schema(&mut self, name: &str, if_not_exists: bool) -> Result<&'static str> {
        const TAG: &str = "CREATE SCHEMA";
        if name.starts_with("pg_") {
            return Err(Error::new(SqlState("42939"), format!("unacceptable schema name \"{name}\""))
                .with_detail("The prefix \"pg_\" is reserved for system schemas."));
        }
        let (shared, schema) = (self.shared.clone(), name.to_string());
        let created = self.shared.uninterrupted(async move {
            let _lock = shared.ddl.lock().await;
            let mut catalog = shared.catalog().as_ref().clone();
            catalog.create_schema(&schema)?;
            shared.publish(catalog).await
        });
        match created.await {
            Err(error) if if_not_exists && error.code == SqlState::DUPLICATE_SCHEMA => {
                self.notice(SqlState::DUPLICATE_SCHEMA, format!("{}, skipping", error.message));
                Ok(TAG)
            }
            created => created.map(|()| TAG),
        }
    }

    /// Where a new relation goes; `None` if it is there already and the client does not mind (it gets a NOTICE).
    fn new_name(&mut self, name: &Name, if_not_exists: bool) -> Result<Option<QualifiedName>> {
        let catalog = self.shared.catalog();
        let qualified = self.resolver(catalog.clone()).creation_name(name)?;
        match require_free(&self.shared, &catalog, &qualified) {
            Ok(()) => Ok(Some(qualified)),
            Err(error) => self.skip_existing(error, if_not_exists).map(|()| None),
        }
    }

    /// Turns 42P07 into a NOTICE under IF NOT EXISTS.
    fn skip_existing(&mut self, error: Error, if_not_exists: bool) -> Result<()> {
        if !if_not_exists || error.code != SqlState::DUPLICATE_TABLE {
            return Err(error);
        }
        self.notice(SqlState::DUPLICATE_TABLE, format!("{}, skipping", error.message));
        Ok(())
    }
}

/// 42P07 if the name is taken, or about to be.
fn require_free(shared: &Shared, catalog: &Catalog, name: &QualifiedName) -> Result<()> {
    if catalog.find(Some(&name.schema), &name.name).is_some() || shared.builds.is_reserved(name) {
        return Err(Error::new(SqlState::DUPLICATE_TABLE, format!("relation \"{}\" already exists", name.name)));
    }
    Ok(())
}
