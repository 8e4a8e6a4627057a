//! One client's session: a statement in, an effect out.
//!
//! ```text
//! text ──sql::parse──▶ Statement ──prepare──▶ Prepared ──execute(params)──▶ Outcome
//!                                     │                      ├─ select, cursor, explain, show: rows of one world
//!                            resolver: names over one        ├─ subscribe: changes of worlds to come
//!                        catalog                         ├─ dml, copy: deltas, staged or written
//!                            catalog                         ├─ ddl: the catalog and the runtime change
//!                                                            └─ transaction, settings: the session changes
//! ```
//!
//! The protocol (`pg`) drives a [`Session`] and turns [`Outcome`]s into messages; nothing here knows the wire.

mod admission;
mod as_of;
mod context;
mod copy;
mod cursor;
mod ddl;
mod dml;
mod execute;
mod explain;
mod limits;
mod prepare;
mod resolver;
mod select;
mod settings;
mod shared;
mod show;
mod subscribe;
mod transaction;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use parking_lot::Mutex;
use tokio::sync::watch;

pub use admission::Admission;
pub use copy::CopyIn;
pub use prepare::Prepared;
pub use shared::registry::CancelHandle;
pub use shared::{Shared, load_catalog};

use crate::catalog::DATABASE;
use crate::catalog::functions;
use crate::error::{Error, Result, SqlState};
use crate::types::PgType;
use crate::types::text_output::{RegNames, TextStyle};
use context::SessionContext;
use cursor::Cursor;
use settings::Settings;
use transaction::Transaction;

pub struct Session {
    shared: Arc<Shared>,
    context: Arc<SessionContext>,
    transaction: Transaction,
    cursors: HashMap<String, Cursor>,
    /// SQL's PREPARE and the protocol's named statements share one namespace.
    statements: HashMap<String, Arc<Prepared>>,
    notices: Vec<Notice>,
    /// Functions and options of this session, as of `state_version` of its settings.
    state: SessionState,
    state_version: u64,
    reported: Vec<(String, String)>,
    reg_names: RegNames,
}

/// What a statement did.
pub enum Outcome {
    /// Rows, to be counted into the tag `{tag} {n}` (`SELECT 3`, `FETCH 2`; `SHOW` has no count).
    Rows { schema: SchemaRef, stream: SendableRecordBatchStream, tag: &'static str, counted: bool },
    /// `INSERT 0 3`, `CREATE TABLE`, `BEGIN`.
    Done { tag: String },
    /// The client now sends rows: call [`Session::copy_in`] with each piece, then [`Session::copy_done`].
    CopyIn(Box<CopyIn>),
    /// COPY … TO STDOUT: lines ready to send. `extra_line_count` of them are no rows: header, trailer.
    CopyOut {
        column_count: usize,
        binary: bool,
        extra_line_count: u64,
        lines: futures::stream::BoxStream<'static, Result<bytes::Bytes>>,
    },
    /// The empty query.
    Empty,
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
    /// `parameters`: the start-up message's (user, database, application_name, options …), of a client that has proved
    /// to be that user. FATAL errors: 3D000, 28000, 53300, and those of SET.
    pub fn start(shared: Arc<Shared>, parameters: &[(String, String)]) -> Result<Session> {
        let parameter = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let Some(user) = parameter("user").filter(|user| !user.is_empty()) else {
            return Err(Error::new(SqlState("28000"), "no PostgreSQL user name specified in startup packet"));
        };
        let role = shared.require_login(user)?;
        let database = parameter("database").filter(|database| !database.is_empty()).unwrap_or(DATABASE);
        if database != DATABASE {
            return Err(Error::new(SqlState::INVALID_CATALOG_NAME, format!("database \"{database}\" does not exist")));
        }
        let mut settings = Settings::start(parameters, user)?;
        settings.show_superuser(role.is_superuser);
        let user_count_max = role.connection_limit.filter(|_| !role.is_superuser);
        let entry = shared.registry.register(user, database, shared.config.connection_count_max, user_count_max)?;
        entry.set_application_name(settings.application_name());
        let context = Arc::new(SessionContext {
            shared: shared.clone(),
            settings: Mutex::new(settings),
            entry,
            user: user.to_string(),
            user_oid: role.oid,
            epoch: AtomicU64::new(shared.runtime.world().epoch.0),
        });
        let state = session_state(&shared, &context);
        let state_version = context.settings.lock().version;
        let reg_names = reg_names(context.clone());
        let session = Session {
            shared,
            context,
            transaction: Transaction::default(),
            cursors: HashMap::new(),
            statements: HashMap::new(),
            notices: vec![],
            state,
            state_version,
            reported: vec![],
            reg_names,
        };
        let role = session.context.settings.lock().show("role")?;
        session.context.require_becoming(&role, user, "role")?;
        Ok(session)
    }

    /// Splits a simple query into statements, each with its byte range in `text`.
    pub fn parse(&self, text: &str) -> Result<Vec<crate::sql::Statement>> {
        crate::sql::parser::parse(text)
    }

    /// Where the client comes from, for `pg_stat_activity`.
    pub fn set_client_address(&mut self, address: std::net::SocketAddr) {
        self.context.entry.set_client(address.ip().to_string(), address.port());
    }

    pub fn transaction_status(&self) -> TransactionStatus {
        self.transaction.status()
    }

    /// True in a block of the client's, and in one around the statements of a message or a pipeline.
    pub fn is_in_block(&self) -> bool {
        self.transaction.is_open()
    }

    /// Any error seen by the protocol itself (a bad parameter, a bad portal) fails an open transaction too.
    pub fn fail_transaction(&mut self) {
        self.transaction.fail();
    }

    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Settings to report: all of Postgres' thirteen at the start, later those that changed since the last call.
    pub fn take_parameter_changes(&mut self) -> Vec<(String, String)> {
        let is_superuser = self.context.is_superuser();
        let mut settings = self.context.settings.lock();
        settings.show_superuser(is_superuser);
        let now = settings.reported();
        drop(settings);
        let changed = now.iter().filter(|pair| !self.reported.contains(pair)).cloned().collect();
        self.reported = now;
        changed
    }

    /// (pid, secret key) for BackendKeyData.
    pub fn backend_key(&self) -> (i32, i32) {
        (self.context.entry.pid, self.context.entry.secret)
    }

    /// Becomes true when somebody asked for this session's end (57P01: `pg_terminate_backend`, shutdown).
    pub fn terminated(&self) -> watch::Receiver<bool> {
        self.context.entry.terminate.subscribe()
    }

    /// How values are shown as text.
    pub fn text_style(&self) -> TextStyle {
        TextStyle { time_zone: self.time_zone(), reg_names: Some(self.reg_names.clone()) }
    }

    /// The zone in which timestamps are shown.
    fn time_zone(&self) -> chrono_tz::Tz {
        self.context.settings.lock().time_zone()
    }

    /// Columns of an open SQL cursor, which the protocol may describe and execute as a portal of this name.
    pub fn describe_cursor(&self, name: &str) -> Option<Vec<FieldRef>> {
        self.cursors.get(name).map(Cursor::fields)
    }

    /// Keeps a named statement of the protocol, so that EXECUTE and DEALLOCATE know it. 42P05 if the name is taken.
    pub fn store_statement(&mut self, name: &str, prepared: Arc<Prepared>) -> Result<()> {
        if self.statements.contains_key(name) {
            return Err(Error::new(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            ));
        }
        self.statements.insert(name.to_string(), prepared);
        Ok(())
    }

    /// 26000 if there is none of this name.
    pub fn statement(&self, name: &str) -> Result<Arc<Prepared>> {
        self.statements.get(name).cloned().ok_or_else(|| {
            Error::new(SqlState::INVALID_SQL_STATEMENT_NAME, format!("prepared statement \"{name}\" does not exist"))
        })
    }

    /// The protocol's Close: no error if there is none.
    pub fn close_statement(&mut self, name: &str) {
        self.statements.remove(name);
    }

    fn notice(&mut self, code: SqlState, message: impl Into<String>) {
        self.notices.push(Notice { severity: "NOTICE", error: Error::new(code, message) });
    }

    fn warning(&mut self, code: SqlState, message: impl Into<String>) {
        self.notices.push(Notice { severity: "WARNING", error: Error::new(code, message) });
    }

    /// The state that binding and planning use, with the settings in force.
    fn refresh_state(&mut self) {
        let settings = self.context.settings.lock();
        if settings.version != self.state_version {
            self.state_version = settings.version;
            apply_settings(&mut self.state, &settings);
            self.context.entry.set_application_name(settings.application_name());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.locks.unlock_all(self.context.entry.pid);
        self.shared.registry.unregister(self.context.entry.pid);
    }
}

impl Shared {
    /// Cancels the session with this key, if there is one. Never tells which.
    pub fn cancel(&self, pid: i32, secret: i32) {
        self.registry.cancel(pid, secret);
    }
}

/// Names relations and schemas as Postgres prints `regclass` and `regnamespace`.
fn reg_names(context: Arc<SessionContext>) -> RegNames {
    Arc::new(move |pg_type, oid| match pg_type {
        PgType::Regclass => Some(functions::regclass_name(context.as_ref(), oid)),
        PgType::Regnamespace => Some(functions::regnamespace_name(&context.shared.catalog(), oid)),
        _ => None,
    })
}

/// The shared state with the functions that answer for this session.
fn session_state(shared: &Arc<Shared>, context: &Arc<SessionContext>) -> SessionState {
    let mut state = shared.base_state().clone();
    for function in functions::all(context.clone()) {
        // Only a registry that does not take functions refuses.
        if let Err(error) = datafusion::execution::FunctionRegistry::register_udf(&mut state, function) {
            tracing::error!(%error, "a session function could not be registered");
        }
    }
    apply_settings(&mut state, &context.settings.lock());
    state
}

fn apply_settings(state: &mut SessionState, settings: &Settings) {
    let zone = settings.time_zone().name().to_string();
    state.config_mut().options_mut().execution.time_zone = Some(zone);
}
