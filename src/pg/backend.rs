//! The session as the protocol sees it.
//!
//! [`Backend`] repeats the contract of [`crate::session::Session`] as a trait, so that the protocol can be tested against
//! a double over an in-memory stream. Nothing else implements it in the running server.

use std::net::SocketAddr;
use std::sync::Arc;

use arrow::datatypes::{FieldRef, SchemaRef};
use bytes::Bytes;
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::BoxStream;
use tokio::sync::watch;

use crate::error::Result;
use crate::session::{Admission, CopyIn, Notice, Outcome, Prepared, Session, Shared, TransactionStatus};
use crate::sql::Statement;
use crate::types::PgType;
use crate::types::text_output::TextStyle;

/// What a statement did; see [`Outcome`].
pub(super) enum Answer<C> {
    Rows { schema: SchemaRef, stream: SendableRecordBatchStream, tag: &'static str, counted: bool },
    Done { tag: String },
    CopyIn { column_count: usize, binary: bool, copy: C },
    CopyOut { column_count: usize, binary: bool, extra_line_count: u64, lines: BoxStream<'static, Result<Bytes>> },
    Empty,
}

/// Opens sessions and cancels them by key: [`Shared`] in the running server.
pub(super) trait Host: Clone + Send + Sync + 'static {
    type Backend: Backend;

    /// How a client that claims to be `role` has to prove it. All errors end the connection.
    fn admission(
        &self,
        role: &str,
        database: &str,
        client: Option<SocketAddr>,
        is_encrypted: bool,
    ) -> Result<Admission>;

    /// For a client that has proved who it is. All errors here end the connection.
    fn start(&self, parameters: &[(String, String)], client: Option<SocketAddr>) -> Result<Self::Backend>;

    fn cancel(&self, pid: i32, secret: i32);
}

/// # Contract
/// As the methods of [`Session`] with the same names.
pub(super) trait Backend: Send + 'static {
    type Statement: Send;
    type Prepared: Send + Sync;
    type Copy: Send;

    fn parse(&self, text: &str) -> Result<Vec<Self::Statement>>;

    fn prepare(
        &mut self,
        statement: Self::Statement,
        types: &[Option<PgType>],
    ) -> impl Future<Output = Result<Self::Prepared>> + Send;

    fn parameters(prepared: &Self::Prepared) -> &[PgType];

    fn fields(prepared: &Self::Prepared) -> Option<&[FieldRef]>;

    fn execute(
        &mut self,
        prepared: &Self::Prepared,
        parameters: Vec<ScalarValue>,
    ) -> impl Future<Output = Result<Answer<Self::Copy>>> + Send;

    fn store_statement(&mut self, name: &str, prepared: Arc<Self::Prepared>) -> Result<()>;
    fn statement(&self, name: &str) -> Result<Arc<Self::Prepared>>;
    fn close_statement(&mut self, name: &str);
    fn describe_cursor(&self, name: &str) -> Option<Vec<FieldRef>>;

    fn copy_in(&mut self, copy: &mut Self::Copy, data: &[u8]) -> impl Future<Output = Result<()>> + Send;
    fn copy_done(&mut self, copy: Self::Copy) -> impl Future<Output = Result<String>> + Send;
    fn copy_fail(&mut self, copy: Self::Copy);

    fn is_in_block(&self) -> bool;
    fn begin_implicit(&mut self);
    fn end_implicit(&mut self) -> impl Future<Output = Result<()>> + Send;
    fn transaction_status(&self) -> TransactionStatus;
    fn fail_transaction(&mut self);
    fn take_notices(&mut self) -> Vec<Notice>;
    fn take_parameter_changes(&mut self) -> Vec<(String, String)>;
    fn backend_key(&self) -> (i32, i32);
    fn terminated(&self) -> watch::Receiver<bool>;
    fn text_style(&self) -> TextStyle;
}

pub(super) struct SessionBackend {
    session: Session,
}

impl Host for Arc<Shared> {
    type Backend = SessionBackend;

    fn admission(
        &self,
        role: &str,
        database: &str,
        client: Option<SocketAddr>,
        is_encrypted: bool,
    ) -> Result<Admission> {
        Shared::admission(self, role, database, client.map(|client| client.ip()), is_encrypted)
    }

    fn start(&self, parameters: &[(String, String)], client: Option<SocketAddr>) -> Result<SessionBackend> {
        let mut session = Session::start(self.clone(), parameters)?;
        if let Some(client) = client {
            session.set_client_address(client);
        }
        Ok(SessionBackend { session })
    }

    fn cancel(&self, pid: i32, secret: i32) {
        Shared::cancel(self, pid, secret);
    }
}

impl Backend for SessionBackend {
    type Statement = Statement;
    type Prepared = Prepared;
    type Copy = Box<CopyIn>;

    fn parse(&self, text: &str) -> Result<Vec<Statement>> {
        self.session.parse(text)
    }

    fn prepare(
        &mut self,
        statement: Statement,
        types: &[Option<PgType>],
    ) -> impl Future<Output = Result<Prepared>> + Send {
        self.session.prepare(statement, types)
    }

    fn parameters(prepared: &Prepared) -> &[PgType] {
        &prepared.parameters
    }

    fn fields(prepared: &Prepared) -> Option<&[FieldRef]> {
        prepared.fields.as_deref()
    }

    async fn execute(&mut self, prepared: &Prepared, parameters: Vec<ScalarValue>) -> Result<Answer<Box<CopyIn>>> {
        Ok(match self.session.execute(prepared, parameters).await? {
            Outcome::Rows { schema, stream, tag, counted } => Answer::Rows { schema, stream, tag, counted },
            Outcome::Done { tag } => Answer::Done { tag },
            Outcome::CopyIn(copy) => Answer::CopyIn { column_count: copy.column_count, binary: copy.binary, copy },
            Outcome::CopyOut { column_count, binary, extra_line_count, lines } => {
                Answer::CopyOut { column_count, binary, extra_line_count, lines }
            }
            Outcome::Empty => Answer::Empty,
        })
    }

    fn store_statement(&mut self, name: &str, prepared: Arc<Prepared>) -> Result<()> {
        self.session.store_statement(name, prepared)
    }

    fn statement(&self, name: &str) -> Result<Arc<Prepared>> {
        self.session.statement(name)
    }

    fn close_statement(&mut self, name: &str) {
        self.session.close_statement(name);
    }

    fn describe_cursor(&self, name: &str) -> Option<Vec<FieldRef>> {
        self.session.describe_cursor(name)
    }

    fn copy_in(&mut self, copy: &mut Box<CopyIn>, data: &[u8]) -> impl Future<Output = Result<()>> + Send {
        self.session.copy_in(copy, data)
    }

    fn copy_done(&mut self, copy: Box<CopyIn>) -> impl Future<Output = Result<String>> + Send {
        self.session.copy_done(copy)
    }

    fn copy_fail(&mut self, copy: Box<CopyIn>) {
        self.session.copy_fail(copy);
    }

    fn is_in_block(&self) -> bool {
        self.session.is_in_block()
    }

    fn begin_implicit(&mut self) {
        self.session.begin_implicit();
    }

    fn end_implicit(&mut self) -> impl Future<Output = Result<()>> + Send {
        self.session.end_implicit()
    }

    fn transaction_status(&self) -> TransactionStatus {
        self.session.transaction_status()
    }

    fn fail_transaction(&mut self) {
        self.session.fail_transaction();
    }

    fn take_notices(&mut self) -> Vec<Notice> {
        self.session.take_notices()
    }

    fn take_parameter_changes(&mut self) -> Vec<(String, String)> {
        self.session.take_parameter_changes()
    }

    fn backend_key(&self) -> (i32, i32) {
        self.session.backend_key()
    }

    fn terminated(&self) -> watch::Receiver<bool> {
        self.session.terminated()
    }

    fn text_style(&self) -> TextStyle {
        self.session.text_style()
    }
}
