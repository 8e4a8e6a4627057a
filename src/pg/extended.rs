//! The extended protocol: Parse, Bind, Describe, Execute, Close.
//!
//! Named statements belong to the session, which SQL's PREPARE, EXECUTE and DEALLOCATE see too; portals belong to the
//! connection and end with their transaction. A portal that is not ours may be a cursor that SQL declared.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Trouble;
use super::backend::{Answer, Backend};
use super::connection::{Connection, Parsed};
use super::decode::decode;
use super::encode::Format;
use super::message::Bind;
use super::outbox::ColumnHead;
use super::portal::{Portal, PortalState, RowSource};
use crate::error::{Error, Result, SqlState};
use crate::session::TransactionStatus;
use crate::types::PgType;

/// Portals that one connection may hold open.
const PORTAL_COUNT_MAX: usize = 10_000;
/// Statements with an empty text that one connection may name.
const EMPTY_STATEMENT_COUNT_MAX: usize = 10_000;

impl<R, W, B> Connection<'_, R, W, B>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    B: Backend,
{
    pub(super) async fn parse(&mut self, name: String, text: &str, oids: &[u32]) -> Result<(), Trouble> {
        if name.is_empty() {
            self.statements.remove("");
        } else if self.statements.contains_key(&name) || self.session.statement(&name).is_ok() {
            return Err(Error::new(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            )
            .into());
        }
        let types = oids.iter().map(|&oid| parameter_type(oid)).collect::<Result<Vec<_>>>()?;
        let mut statements = self.session.parse(text)?;
        if statements.len() > 1 {
            return Err(Error::new(
                SqlState::SYNTAX_ERROR,
                "cannot insert multiple commands into a prepared statement",
            )
            .into());
        }
        let parsed = match statements.pop() {
            None => Parsed::Empty,
            Some(statement) => {
                Parsed::Statement(Arc::new(self.client.watched(self.session.prepare(statement, &types)).await??))
            }
        };
        match parsed {
            Parsed::Statement(prepared) if !name.is_empty() => self.session.store_statement(&name, prepared)?,
            parsed => {
                if self.statements.len() >= EMPTY_STATEMENT_COUNT_MAX {
                    return Err(too_many("prepared statements").into());
                }
                self.statements.insert(name, parsed);
            }
        }
        self.outbox.parse_complete();
        Ok(())
    }

    fn parsed(&self, name: &str) -> Result<Parsed<B::Prepared>> {
        match self.statements.get(name) {
            Some(parsed) => Ok(parsed.clone()),
            None if name.is_empty() => {
                Err(Error::new(SqlState::INVALID_SQL_STATEMENT_NAME, "unnamed prepared statement does not exist"))
            }
            None => self.session.statement(name).map(Parsed::Statement),
        }
    }

    pub(super) fn bind(&mut self, bind: Bind) -> Result<(), Trouble> {
        let statement = self.parsed(&bind.statement)?;
        if bind.portal.is_empty() {
            self.portals.remove("");
        } else if self.portals.contains_key(&bind.portal) || self.session.describe_cursor(&bind.portal).is_some() {
            return Err(
                Error::new(SqlState::DUPLICATE_CURSOR, format!("cursor \"{}\" already exists", bind.portal)).into()
            );
        } else if self.portals.len() >= PORTAL_COUNT_MAX {
            return Err(too_many("portals").into());
        }
        let (types, column_count) = match &statement {
            Parsed::Empty => (&[][..], 0),
            Parsed::Statement(prepared) => (B::parameters(prepared), B::fields(prepared).map_or(0, <[_]>::len)),
        };
        if bind.parameters.len() != types.len() {
            return Err(Error::new(
                SqlState::PROTOCOL_VIOLATION,
                format!(
                    "bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
                    bind.parameters.len(),
                    bind.statement,
                    types.len()
                ),
            )
            .into());
        }
        let parameter_formats = formats(&bind.parameter_formats, types.len(), |given, wanted| {
            format!("bind message has {given} parameter formats but {wanted} parameters")
        })?;
        let zone = self.session.text_style().time_zone;
        let parameters = bind.parameters.iter().zip(types).zip(parameter_formats).enumerate();
        let parameters = parameters
            .map(|(index, ((bytes, pg_type), format))| decode(bytes.as_deref(), pg_type, format, index + 1, zone))
            .collect::<Result<Vec<_>>>()?;
        // Statements without rows may be bound with any one format.
        let formats = match (column_count, bind.result_formats.as_slice()) {
            (0, [code]) => {
                Format::of_code(*code)?;
                vec![]
            }
            (count, codes) => formats(codes, count, |given, wanted| {
                format!("bind message has {given} result formats but query has {wanted} columns")
            })?,
        };
        let portal = Portal { statement, parameters, formats, state: PortalState::Bound };
        self.portals.insert(bind.portal, portal);
        self.outbox.bind_complete();
        Ok(())
    }

    pub(super) fn describe_statement(&mut self, name: &str) -> Result<(), Trouble> {
        match self.parsed(name)? {
            Parsed::Empty => {
                self.outbox.parameter_description(&[]);
                self.outbox.no_data();
            }
            Parsed::Statement(prepared) => {
                self.outbox.parameter_description(B::parameters(&prepared));
                self.describe_fields(B::fields(&prepared), &[]);
            }
        }
        Ok(())
    }

    pub(super) fn describe_portal(&mut self, name: &str) -> Result<(), Trouble> {
        if let Some(portal) = self.portals.get(name) {
            let formats = portal.formats.clone();
            match portal.statement.clone() {
                Parsed::Empty => self.outbox.no_data(),
                Parsed::Statement(prepared) => self.describe_fields(B::fields(&prepared), &formats),
            }
            return Ok(());
        }
        let fields = self.session.describe_cursor(name).ok_or_else(|| no_portal(name))?;
        self.describe_fields(Some(&fields), &[]);
        Ok(())
    }

    /// `formats` empty: all text.
    fn describe_fields(&mut self, fields: Option<&[FieldRef]>, formats: &[Format]) {
        let Some(fields) = fields else { return self.outbox.no_data() };
        self.outbox.row_description(fields.iter().enumerate().map(|(index, field)| ColumnHead {
            name: field.name(),
            pg_type: PgType::of(field),
            format: formats.get(index).copied().unwrap_or(Format::Text),
        }));
    }

    pub(super) async fn execute(&mut self, name: &str, row_limit: usize) -> Result<(), Trouble> {
        // Taken out: a portal whose run fails is gone.
        let Some(mut portal) = self.portals.remove(name) else { return self.fetch_cursor(name, row_limit).await };
        let Parsed::Statement(prepared) = portal.statement.clone() else {
            self.outbox.empty_query();
            self.portals.insert(name.to_string(), portal);
            return Ok(());
        };
        let mut rows = match portal.state {
            PortalState::Suspended(rows) => rows,
            PortalState::Exhausted(rows) => {
                self.outbox.command_complete(&rows.tag(0));
                portal.state = PortalState::Exhausted(rows);
                self.portals.insert(name.to_string(), portal);
                return Ok(());
            }
            PortalState::Finished => {
                return Err(Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("portal \"{name}\" cannot be run"),
                )
                .into());
            }
            PortalState::Bound => {
                let parameters = std::mem::take(&mut portal.parameters);
                let before = self.session.transaction_status();
                self.begin_pipeline().await?;
                let answer = self.client.watched(self.session.execute(&prepared, parameters)).await??;
                self.send_notices();
                match answer {
                    Answer::Rows { schema, stream, tag, counted } => {
                        let fields = B::fields(&prepared).unwrap_or(schema.fields());
                        if portal.formats.len() != fields.len() {
                            portal.formats = vec![Format::Text; fields.len()];
                        }
                        let style = self.session.text_style();
                        Box::new(RowSource::new(stream, fields, portal.formats.clone(), style, tag, counted))
                    }
                    answer => {
                        let tag = self.answer_without_rows(answer).await?;
                        self.complete(tag);
                        // COMMIT and ROLLBACK end the portals of their transaction; other statements leave those that
                        // were bound before the next Sync.
                        if before != TransactionStatus::Idle {
                            self.drop_dead_portals();
                        }
                        portal.state = PortalState::Finished;
                        self.portals.insert(name.to_string(), portal);
                        return Ok(());
                    }
                }
            }
        };
        let sent = rows.pump(&mut self.client, self.outbox, row_limit).await?;
        self.send_notices();
        portal.state = if sent.is_exhausted {
            self.outbox.command_complete(&rows.tag(sent.row_count));
            PortalState::Exhausted(rows)
        } else {
            self.outbox.portal_suspended();
            PortalState::Suspended(rows)
        };
        self.portals.insert(name.to_string(), portal);
        Ok(())
    }

    /// What runs up to Sync is one transaction. A statement right before Sync with none before it needs no block around
    /// it, and that is the common case: so this waits for what comes next, which a client that wants an answer has sent.
    async fn begin_pipeline(&mut self) -> Result<(), Trouble> {
        if !self.session.is_in_block() && self.client.next_kind().await? != b'S' {
            self.session.begin_implicit();
        }
        Ok(())
    }

    /// Execute of a cursor that SQL declared reads on in it.
    async fn fetch_cursor(&mut self, name: &str, row_limit: usize) -> Result<(), Trouble> {
        self.session.describe_cursor(name).ok_or_else(|| no_portal(name))?;
        let count = if row_limit == 0 { "ALL".to_string() } else { row_limit.to_string() };
        let fetch = format!("FETCH {count} FROM \"{}\"", name.replace('"', "\"\""));
        let statement = self.session.parse(&fetch)?.pop().ok_or_else(|| Error::internal("FETCH is a statement"))?;
        let prepared = self.client.watched(self.session.prepare(statement, &[])).await??;
        let answer = self.client.watched(self.session.execute(&prepared, vec![])).await??;
        let Answer::Rows { schema, stream, .. } = answer else {
            return Err(Error::internal("FETCH gives rows").into());
        };
        let fields = B::fields(&prepared).unwrap_or(schema.fields());
        let (style, formats) = (self.session.text_style(), vec![Format::Text; fields.len()]);
        let mut rows = RowSource::new(stream, fields, formats, style, "SELECT", true);
        let sent = rows.pump(&mut self.client, self.outbox, 0).await?;
        if row_limit != 0 && sent.row_count == row_limit as u64 {
            self.outbox.portal_suspended();
        } else {
            self.outbox.command_complete(&rows.tag(sent.row_count));
        }
        Ok(())
    }

    pub(super) fn close_statement(&mut self, name: &str) {
        if self.statements.remove(name).is_none() {
            self.session.close_statement(name);
        }
        self.outbox.close_complete();
    }

    /// Closing what is not there is no error.
    pub(super) async fn close_portal(&mut self, name: &str) -> Result<(), Trouble> {
        if self.portals.remove(name).is_none() && !name.is_empty() && self.session.describe_cursor(name).is_some() {
            let close = format!("CLOSE \"{}\"", name.replace('"', "\"\""));
            let statement = self.session.parse(&close)?.pop().ok_or_else(|| Error::internal("CLOSE is a statement"))?;
            let prepared = self.client.watched(self.session.prepare(statement, &[])).await??;
            self.client.watched(self.session.execute(&prepared, vec![])).await??;
        }
        self.outbox.close_complete();
        Ok(())
    }
}

/// 0 and `unknown` leave it to the statement; an OID that we do not have is 42704.
fn parameter_type(oid: u32) -> Result<Option<PgType>> {
    if oid == 0 {
        return Ok(None);
    }
    match PgType::from_oid(oid) {
        Some(PgType::Unknown) => Ok(None),
        Some(pg_type) => Ok(Some(pg_type)),
        None => Err(Error::new(SqlState::UNDEFINED_OBJECT, format!("type with OID {oid} does not exist"))
            .with_hint("send 0 and let the type be inferred, or cast the parameter in the statement")),
    }
}

fn formats(codes: &[i16], count: usize, mismatch: impl FnOnce(usize, usize) -> String) -> Result<Vec<Format>> {
    match codes {
        [] => Ok(vec![Format::Text; count]),
        [code] => Ok(vec![Format::of_code(*code)?; count]),
        codes if codes.len() == count => codes.iter().map(|&code| Format::of_code(code)).collect(),
        codes => Err(Error::new(SqlState::PROTOCOL_VIOLATION, mismatch(codes.len(), count))),
    }
}

fn no_portal(name: &str) -> Error {
    Error::new(SqlState::INVALID_CURSOR_NAME, format!("portal \"{name}\" does not exist"))
}

fn too_many(what: &str) -> Error {
    Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, format!("too many {what}")).with_hint("close those not needed")
}
