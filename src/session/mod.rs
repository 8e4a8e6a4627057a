//! One client's session: a statement in, an effect out.
//!
//! ```text
//! text ──sql::parse──▶ Statement ──prepare──▶ Prepared ──execute(params)──▶ Outcome
//! ```
//!
//! The protocol (`pg`) drives a [`Session`] and turns [`Outcome`]s into messages; nothing here knows the wire.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;

use crate::error::{Error, Result};
use crate::types::PgType;

/// What all sessions share: catalog, runtime, query engine, settings, the registry of running sessions.
pub struct Shared {}

/// Cancels whatever the session is executing (57014). Held by the registry under (pid, secret key).
pub struct CancelHandle {}

pub struct Session {}

/// A statement that was parsed and bound once, with the types of its parameters and of its result.
pub struct Prepared {
    pub parameters: Vec<PgType>,
    /// `None` if it returns no rows.
    pub fields: Option<Vec<FieldRef>>,
}

/// What a statement did.
pub enum Outcome {
    /// Rows, to be counted into the tag `{tag} {n}` (`SELECT 3`, `FETCH 2`; `SHOW` has no count).
    Rows { schema: SchemaRef, stream: SendableRecordBatchStream, tag: &'static str, counted: bool },
    /// `INSERT 0 3`, `CREATE TABLE`, `BEGIN`.
    Done { tag: String },
    /// The client now sends rows: call [`Session::copy_in`] with each piece, then [`Session::copy_done`].
    CopyIn(Box<CopyIn>),
    /// COPY … TO STDOUT: lines ready to send.
    CopyOut { column_count: usize, binary: bool, lines: futures::stream::BoxStream<'static, Result<bytes::Bytes>> },
    /// The empty query.
    Empty,
}

/// A COPY … FROM STDIN under way.
pub struct CopyIn {
    pub column_count: usize,
    pub binary: bool,
}

/// As ReadyForQuery says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransactionStatus {
    Idle,
    Open,
    Failed,
}

/// A NOTICE or WARNING for the client, sent before the statement's own answer.
#[derive(Clone, Debug)]
pub struct Notice {
    pub severity: &'static str,
    pub error: Error,
}

impl Session {
    /// `parameters`: the start-up message's (user, database, application_name, options …). FATAL errors: 3D000, 28000.
    pub fn start(shared: Arc<Shared>, parameters: &[(String, String)]) -> Result<Session> {
        let _ = (shared, parameters);
        unimplemented!()
    }

    /// Splits a simple query into statements, each with its byte range in `text`.
    pub fn parse(&self, text: &str) -> Result<Vec<crate::sql::Statement>> {
        let _ = text;
        unimplemented!()
    }

    /// Binds a statement. `parameter_types` are the client's hints (`None`: infer).
    pub async fn prepare(
        &mut self,
        statement: crate::sql::Statement,
        parameter_types: &[Option<PgType>],
    ) -> Result<Prepared> {
        let _ = (statement, parameter_types);
        unimplemented!()
    }

    /// Runs a prepared statement. Errors put an open transaction into the failed state.
    pub async fn execute(&mut self, prepared: &Prepared, parameters: Vec<ScalarValue>) -> Result<Outcome> {
        let _ = (prepared, parameters);
        unimplemented!()
    }

    pub async fn copy_in(&mut self, copy: &mut CopyIn, data: &[u8]) -> Result<()> {
        let _ = (copy, data);
        unimplemented!()
    }

    /// Ends the copy; the tag is `COPY n`.
    pub async fn copy_done(&mut self, copy: Box<CopyIn>) -> Result<String> {
        let _ = copy;
        unimplemented!()
    }

    /// The client gave up (CopyFail), or an error ended it.
    pub fn copy_fail(&mut self, copy: Box<CopyIn>) {
        let _ = copy;
    }

    pub fn transaction_status(&self) -> TransactionStatus {
        unimplemented!()
    }

    /// Any error seen by the protocol itself (a bad parameter, a bad portal) fails an open transaction too.
    pub fn fail_transaction(&mut self) {}

    pub fn take_notices(&mut self) -> Vec<Notice> {
        unimplemented!()
    }

    /// Settings to report: all of Postgres' thirteen at the start, later those that changed since the last call.
    pub fn take_parameter_changes(&mut self) -> Vec<(String, String)> {
        unimplemented!()
    }

    /// (pid, secret key) for BackendKeyData.
    pub fn backend_key(&self) -> (i32, i32) {
        unimplemented!()
    }

    /// Where the client comes from, for `pg_stat_activity`.
    pub fn set_client_address(&mut self, address: std::net::SocketAddr) {
        let _ = address;
    }

    /// Becomes true when somebody asked for this session's end (57P01: `pg_terminate_backend`, shutdown).
    pub fn terminated(&self) -> tokio::sync::watch::Receiver<bool> {
        unimplemented!()
    }

    /// Columns of an open SQL cursor, which the protocol may describe and execute as a portal of this name.
    pub fn describe_cursor(&self, name: &str) -> Option<Vec<FieldRef>> {
        let _ = name;
        unimplemented!()
    }

    /// Keeps a named statement of the protocol, so that EXECUTE and DEALLOCATE know it. 42P05 if the name is taken.
    pub fn store_statement(&mut self, name: &str, prepared: Arc<Prepared>) -> Result<()> {
        let _ = (name, prepared);
        unimplemented!()
    }

    /// 26000 if there is none of this name.
    pub fn statement(&self, name: &str) -> Result<Arc<Prepared>> {
        let _ = name;
        unimplemented!()
    }

    /// The protocol's Close: no error if there is none.
    pub fn close_statement(&mut self, name: &str) {
        let _ = name;
    }

    /// Display settings that the encoders need: time zone, DateStyle, IntervalStyle, bytea_output, extra_float_digits.
    pub fn time_zone(&self) -> chrono_tz::Tz {
        unimplemented!()
    }
}

impl Shared {
    /// Reads the catalog, starts the runtime and re-creates sources. XX001 if the catalog cannot be read.
    pub fn open(config: &crate::config::Config, store: Arc<dyn crate::state::Store>) -> Result<Arc<Shared>> {
        let _ = (config, store);
        unimplemented!()
    }

    /// Ends what sessions are executing. The listener must have been closed before.
    pub async fn shutdown(&self) {
        unimplemented!()
    }

    /// The catalog as it is now.
    pub fn catalog(&self) -> Arc<crate::catalog::Catalog> {
        unimplemented!()
    }

    /// Cancels the session with this key, if there is one. Never tells which.
    pub fn cancel(&self, pid: i32, secret: i32) {
        let _ = (pid, secret);
    }
}
