//! One arm for each kind of statement.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;

use super::limits::{Busy, Limits};
use super::prepare::Plan;
use super::{Outcome, Prepared, Session};
use crate::error::{Error, Result, SqlState};
use crate::sql::{Query, Statement, StatementKind, with_place_of_constant};
use crate::types::PgType;
use crate::types::text_input::parse_text;

impl Session {
    /// Runs a prepared statement. Errors put an open transaction into the failed state.
    pub async fn execute(&mut self, prepared: &Prepared, parameters: Vec<ScalarValue>) -> Result<Outcome> {
        let busy = Busy::start(&self.context.entry, prepared.statement.public_text(), self.transaction_status());
        let result = self.execute_now(prepared, &parameters, busy).await;
        let result = with_places(result, &prepared.statement);
        if result.is_err() {
            self.fail_transaction();
        }
        if !matches!(result, Ok(Outcome::Rows { .. } | Outcome::CopyIn(_) | Outcome::CopyOut { .. })) {
            self.context.entry.end(self.transaction_status());
        }
        result
    }

    async fn execute_now(&mut self, prepared: &Prepared, parameters: &[ScalarValue], busy: Busy) -> Result<Outcome> {
        let statement = &prepared.statement;
        self.require_not_failed(&statement.kind)?;
        let mut limits = Limits::start(&self.context.entry, self.context.settings.lock().statement_timeout());
        match self.current_plan(prepared)? {
            Plan::Query(bound) => match &statement.kind {
                StatementKind::Declare { binary: true, .. } => Err(Error::unsupported(
                    "DECLARE BINARY CURSOR",
                    "declare it without BINARY, and ask for binary results in the extended protocol",
                )),
                StatementKind::Declare { name, hold, .. } => {
                    limits.guard(self.declare(name, &bound, parameters, *hold)).await
                }
                _ => self.execute_query(prepared, bound, parameters, limits, busy).await,
            },
            Plan::Dml(dml) => self.execute_dml(&dml, parameters, limits, busy).await,
            Plan::Late => self.execute_late(statement, limits, busy).await,
        }
    }

    async fn execute_late(&mut self, statement: &Arc<Statement>, mut limits: Limits, busy: Busy) -> Result<Outcome> {
        match &statement.kind {
            StatementKind::Query(_) | StatementKind::Dml(_) | StatementKind::Declare { .. } => {
                Err(Error::internal("a statement that has to be bound was not"))
            }
            StatementKind::CreateTable(_)
            | StatementKind::CreateSource(_)
            | StatementKind::CreateView { .. }
            | StatementKind::CreateMaterializedView(_)
            | StatementKind::CreateSink { .. }
            | StatementKind::CreateSchema { .. }
            | StatementKind::CreateIndex(_)
            | StatementKind::CreateFunction(_)
            | StatementKind::DropFunction(_)
            | StatementKind::Alter(_)
            | StatementKind::CommentOn(_)
            | StatementKind::CreateRole { .. }
            | StatementKind::AlterRole { .. }
            | StatementKind::DropRole { .. }
            | StatementKind::Drop { .. } => {
                self.notice_ddl();
                self.write_implicit().await?;
                let tag = self.execute_ddl(statement, &mut limits).await?;
                Ok(Outcome::Done { tag: tag.to_string() })
            }
            StatementKind::Refresh { name } => limits.guard(self.refresh(name)).await,
            StatementKind::Truncate { names } => limits.guard(self.truncate(names)).await,
            StatementKind::Explain { statement, analyze, verbose } => {
                let lines = limits.guard(self.explain(statement, *analyze, *verbose)).await?;
                Ok(text_rows(super::explain::fields(), vec![lines.into_iter().map(Some).collect()], "EXPLAIN"))
            }
            StatementKind::ExplainView { name, analyze } => {
                let lines = limits.guard(self.explain_view(name, *analyze)).await?;
                Ok(text_rows(super::explain::fields(), vec![lines.into_iter().map(Some).collect()], "EXPLAIN"))
            }
            StatementKind::Copy(copy) => self.copy(copy, limits, busy).await,
            StatementKind::Show(show) => self.show(show),
            StatementKind::Set { name, value, local } => self.set(name, value.as_deref(), *local),
            StatementKind::Reset { name } => self.reset(name.as_deref()),
            StatementKind::Begin { read_only, isolation } => self.begin(*read_only, *isolation),
            StatementKind::Commit => self.commit().await,
            StatementKind::Rollback => Ok(self.rollback()),
            StatementKind::Savepoint { name } => self.savepoint(name.clone()),
            StatementKind::ReleaseSavepoint { name } => self.release_savepoint(name),
            StatementKind::RollbackToSavepoint { name } => self.rollback_to_savepoint(name),
            StatementKind::Subscribe(subscribe) => {
                let stream = limits.guard(self.start_subscription(subscribe)).await?;
                let stream = limits.watch(stream, busy);
                Ok(Outcome::Rows { schema: stream.schema(), stream, tag: "SUBSCRIBE", counted: true })
            }
            StatementKind::DeclareSubscribe { name, subscribe, hold } => {
                limits.guard(self.declare_subscribe(name, subscribe, *hold)).await
            }
            StatementKind::Fetch { name, count, move_only: true, .. } => {
                limits.guard(self.move_cursor(name, *count)).await
            }
            StatementKind::Fetch { name, count, timeout, .. } => {
                self.fetch(name, *count, timeout.as_deref(), limits, busy)
            }
            StatementKind::Close { name } => self.close_cursor(name.as_deref()),
            StatementKind::Prepare { name, types, statement } => {
                let hints: Vec<Option<PgType>> = types.iter().cloned().map(Some).collect();
                let prepared = self.prepare(statement.as_ref().clone(), &hints).await?;
                self.store_statement(name, Arc::new(prepared))?;
                Ok(done("PREPARE"))
            }
            StatementKind::Execute { name, arguments } => {
                let prepared = self.statement(name)?;
                let values = limits.guard(self.arguments(name, &prepared, arguments)).await?;
                Box::pin(self.execute_now(&prepared, &values, busy)).await
            }
            StatementKind::Deallocate { name: Some(name) } => {
                self.statement(name)?;
                self.statements.remove(name);
                Ok(done("DEALLOCATE"))
            }
            StatementKind::Deallocate { name: None } => {
                self.statements.clear();
                Ok(done("DEALLOCATE ALL"))
            }
            StatementKind::Discard => self.discard(),
            StatementKind::Listen { tag } => Ok(done(tag)),
            StatementKind::Backup { directory } => limits.guard(self.backup(directory)).await,
            StatementKind::Flush => Ok(done("FLUSH")),
            StatementKind::Empty => Ok(Outcome::Empty),
        }
    }

    fn set(&mut self, name: &str, value: Option<&str>, local: bool) -> Result<Outcome> {
        if local && !self.transaction.is_open() {
            let message = "SET LOCAL can only be used in transaction blocks";
            self.warning(SqlState::NO_ACTIVE_SQL_TRANSACTION, message);
        } else {
            // The settings of one transaction end with it, however they are set.
            let local = local || name.to_ascii_lowercase().starts_with("transaction_");
            self.context.set(name, value, local)?;
        }
        Ok(done("SET"))
    }

    fn reset(&mut self, name: Option<&str>) -> Result<Outcome> {
        match name {
            Some(name) => self.context.set(name, None, false)?,
            None => self.context.settings.lock().reset_all(),
        }
        Ok(done("RESET"))
    }

    /// Goes on to its end if the client leaves.
    async fn backup(&mut self, directory: &str) -> Result<Outcome> {
        self.require_superuser("permission denied to back up the server")?;
        if directory.contains("://") {
            let hint = "back up to a directory of the server's machine, and copy that";
            return Err(Error::unsupported("BACKUP TO an object store", hint));
        }
        let directory = PathBuf::from(directory);
        if !directory.is_absolute() {
            let message = format!("\"{}\" is not an absolute path", directory.display());
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
                .with_hint("a relative one would be the server's, not the client's"));
        }
        self.shared.backup(directory).await?;
        Ok(done("BACKUP"))
    }

    fn discard(&mut self) -> Result<Outcome> {
        if self.transaction.is_open() {
            return Err(Error::new(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "DISCARD ALL cannot run inside a transaction block",
            ));
        }
        let mut settings = self.context.settings.lock();
        settings.reset_all();
        settings.reset_identity();
        drop(settings);
        self.cursors.clear();
        self.statements.clear();
        self.shared.locks.unlock_all(self.context.entry.pid);
        Ok(done("DISCARD ALL"))
    }

    /// The values of EXECUTE's arguments, in the types of the statement's parameters.
    async fn arguments(&self, name: &str, prepared: &Prepared, arguments: &[Query]) -> Result<Vec<ScalarValue>> {
        if arguments.len() != prepared.parameters.len() {
            return Err(Error::new(
                SqlState::SYNTAX_ERROR,
                format!("wrong number of parameters for prepared statement \"{name}\""),
            )
            .with_detail(format!(
                "Expected {} parameters but got {}.",
                prepared.parameters.len(),
                arguments.len()
            )));
        }
        let read = self.read_point()?;
        let mut values = vec![];
        for (argument, pg_type) in arguments.iter().zip(&prepared.parameters) {
            let bound = self.bind_query(argument, &[])?;
            let batches = self.collect(&read, bound.plan).await?;
            let Some(row) = batches.iter().find(|batch| batch.num_rows() > 0) else {
                return Err(Error::internal("an argument of EXECUTE has no value"));
            };
            let value = ScalarValue::try_from_array(row.column(0), 0)?;
            values.push(match &value {
                value if value.is_null() => ScalarValue::try_from(&pg_type.arrow())?,
                // A quoted constant is read as the client's text would be.
                ScalarValue::Utf8(Some(text)) if pg_type.arrow() != DataType::Utf8 => {
                    parse_text(text, pg_type, self.time_zone())?
                }
                _ => value,
            });
        }
        Ok(values)
    }
}

/// Errors of a statement, those of its rows too, say where the constant is that could not be read.
fn with_places(result: Result<Outcome>, statement: &Arc<Statement>) -> Result<Outcome> {
    match result {
        Ok(Outcome::Rows { schema, stream, tag, counted }) => {
            let statement = statement.clone();
            let placed = stream.map_err(move |error| with_place_of_constant(Error::from(error), &statement).into());
            let stream = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), placed));
            Ok(Outcome::Rows { schema, stream, tag, counted })
        }
        Ok(outcome) => Ok(outcome),
        Err(error) => Err(with_place_of_constant(error, statement)),
    }
}

pub(super) fn done(tag: &str) -> Outcome {
    Outcome::Done { tag: tag.to_string() }
}

/// A small answer of texts, by column.
pub(super) fn text_rows(fields: Vec<FieldRef>, columns: Vec<Vec<Option<String>>>, tag: &'static str) -> Outcome {
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let columns = columns.into_iter().map(|values| Arc::new(StringArray::from(values)) as _).collect();
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(Into::into);
    let rows = RecordBatchStreamAdapter::new(schema.clone(), futures::stream::iter([batch]));
    Outcome::Rows { schema, stream: Box::pin(rows), tag, counted: false }
}
