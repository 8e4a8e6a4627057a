//! A session that knows a handful of words, in the place of the real one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{ArrayRef, Int32Array, RecordBatch};
use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::ScalarValue;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use tokio::sync::watch;

use super::super::backend::{Answer, Backend, Host};
use crate::catalog::Verifier;
use crate::error::{Error, Result, SqlState};
use crate::session::{Admission, Notice, TransactionStatus};
use crate::types::PgType;
use crate::types::text_output::TextStyle;

/// What the doubles tell the tests.
#[derive(Default)]
pub struct Seen {
    pub cancelled: AtomicUsize,
    /// `sleep` statements that were dropped before their end.
    pub dropped: AtomicUsize,
    /// Blocks around the statements of a message or a pipeline that came to their end.
    pub implicit_blocks: AtomicUsize,
    pub terminate: watch::Sender<bool>,
}

#[derive(Clone, Default)]
pub struct DoubleHost(pub Arc<Seen>);

pub struct Double {
    seen: Arc<Seen>,
    status: TransactionStatus,
    is_implicit: bool,
    statements: HashMap<String, Arc<Prepared>>,
    notices: Vec<Notice>,
    changes: Vec<(String, String)>,
}

pub struct Prepared {
    text: String,
    parameters: Vec<PgType>,
    fields: Option<Vec<FieldRef>>,
}

struct Sleep(Arc<Seen>);

impl Drop for Sleep {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Host for DoubleHost {
    type Backend = Double;

    /// `ann` has the password `pencil`, `nobody` has none.
    fn admission(&self, role: &str, _: &str, _: Option<std::net::SocketAddr>, _: bool) -> Result<Admission> {
        Ok(match role {
            "ann" => Admission::Scram { verifier: Verifier::derive("pencil")?, is_mock: false },
            "nobody" => Admission::Scram { verifier: Verifier::derive("pencil")?, is_mock: true },
            _ => Admission::Trust,
        })
    }

    fn start(&self, parameters: &[(String, String)], _: Option<std::net::SocketAddr>) -> Result<Double> {
        let database = parameters.iter().find(|(name, _)| name == "database").map_or("dev", |(_, value)| value);
        if database != "dev" {
            return Err(Error::new(SqlState::INVALID_CATALOG_NAME, format!("database \"{database}\" does not exist")));
        }
        Ok(Double {
            seen: self.0.clone(),
            status: TransactionStatus::Idle,
            is_implicit: false,
            statements: HashMap::new(),
            notices: vec![],
            changes: vec![("server_version".into(), "15.0".into()), ("client_encoding".into(), "UTF8".into())],
        })
    }

    fn cancel(&self, pid: i32, secret: i32) {
        assert_eq!((pid, secret), (7, 77));
        self.0.cancelled.fetch_add(1, Ordering::SeqCst);
    }
}

fn rows(values: Vec<i32>, fail: bool) -> Answer<u64> {
    let schema = Arc::new(Schema::new(vec![PgType::Int4.field("n", true)]));
    let batch_schema = schema.clone();
    let batches: Vec<_> = values
        .chunks(3)
        .map(|chunk| {
            let column: ArrayRef = Arc::new(Int32Array::from(chunk.to_vec()));
            Ok(RecordBatch::try_new(batch_schema.clone(), vec![column])?)
        })
        .chain(fail.then(|| Err(Error::new(SqlState::DIVISION_BY_ZERO, "division by zero").into())))
        .collect();
    let stream = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), futures::stream::iter(batches)));
    Answer::Rows { schema, stream, tag: "SELECT", counted: true }
}

impl Backend for Double {
    type Statement = String;
    type Prepared = Prepared;
    type Copy = u64;

    fn parse(&self, text: &str) -> Result<Vec<String>> {
        if text.contains("syntax") {
            return Err(Error::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"syntax\"").with_position(1));
        }
        Ok(text.split(';').map(|s| s.trim().to_string()).filter(|s| !s.is_empty()).collect())
    }

    /// `param` has one parameter, an int4 unless the client says otherwise.
    async fn prepare(&mut self, text: String, types: &[Option<PgType>]) -> Result<Prepared> {
        let word = text.split(' ').next().unwrap_or_default();
        let parameters = match word {
            "param" => vec![types.first().cloned().flatten().unwrap_or(PgType::Int4)],
            _ => vec![],
        };
        let fields = match word {
            "rows" | "failrows" | "FETCH" => Some(vec![PgType::Int4.field("n", true)]),
            "param" => Some(vec![parameters[0].field("p", true)]),
            _ => None,
        };
        Ok(Prepared { text, parameters, fields })
    }

    fn parameters(prepared: &Prepared) -> &[PgType] {
        &prepared.parameters
    }

    fn fields(prepared: &Prepared) -> Option<&[FieldRef]> {
        prepared.fields.as_deref()
    }

    async fn execute(&mut self, prepared: &Prepared, parameters: Vec<ScalarValue>) -> Result<Answer<u64>> {
        let mut words = prepared.text.split(' ');
        let word = words.next().unwrap_or_default();
        let count = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        if self.status == TransactionStatus::Failed && !word.eq_ignore_ascii_case("rollback") {
            return Err(Error::new(SqlState::IN_FAILED_SQL_TRANSACTION, "current transaction is aborted"));
        }
        let done = |tag: &str| Ok(Answer::Done { tag: tag.to_string() });
        match word {
            "rows" => Ok(rows((0..count).collect(), false)),
            "failrows" => Ok(rows((0..count).collect(), true)),
            "FETCH" => Ok(rows(vec![1, 2], false)),
            "param" => {
                let schema = Arc::new(Schema::new(prepared.fields.clone().unwrap_or_default()));
                let batch = RecordBatch::try_new(schema.clone(), vec![parameters[0].to_array()?])?;
                let stream = futures::stream::iter([Ok(batch)]);
                let stream = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), stream));
                Ok(Answer::Rows { schema, stream, tag: "SELECT", counted: true })
            }
            "begin" | "START" => {
                self.status = TransactionStatus::Open;
                done("BEGIN")
            }
            "commit" | "COMMIT" | "rollback" | "ROLLBACK" => {
                self.status = TransactionStatus::Idle;
                done(if word.eq_ignore_ascii_case("commit") { "COMMIT" } else { "ROLLBACK" })
            }
            "set" => {
                self.changes.push(("TimeZone".into(), "Europe/Berlin".into()));
                done("SET")
            }
            "notice" => {
                self.notices.push(Notice { severity: "NOTICE", error: Error::new(SqlState("00000"), "take note") });
                done("DO")
            }
            "fail" => Err(Error::new(SqlState::DIVISION_BY_ZERO, "division by zero").with_hint("do not")),
            "panic" => panic!("the double was told to"),
            "sleep" => {
                let _sleep = Sleep(self.seen.clone());
                std::future::pending().await
            }
            "copyin" => Ok(Answer::CopyIn { column_count: 2, binary: false, copy: 0 }),
            "copyout" => {
                let lines = (0..count).map(|n| Ok(bytes::Bytes::from(format!("{n}\n"))));
                let lines = Box::pin(futures::stream::iter(lines.collect::<Vec<_>>()));
                Ok(Answer::CopyOut { column_count: 1, binary: false, extra_line_count: 0, lines })
            }
            "CLOSE" => done("CLOSE CURSOR"),
            other => Err(Error::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{other}\""))),
        }
    }

    fn store_statement(&mut self, name: &str, prepared: Arc<Prepared>) -> Result<()> {
        self.statements.insert(name.to_string(), prepared);
        Ok(())
    }

    fn statement(&self, name: &str) -> Result<Arc<Prepared>> {
        self.statements.get(name).cloned().ok_or_else(|| {
            Error::new(SqlState::INVALID_SQL_STATEMENT_NAME, format!("prepared statement \"{name}\" does not exist"))
        })
    }

    fn close_statement(&mut self, name: &str) {
        self.statements.remove(name);
    }

    /// A cursor `srv` is always open.
    fn describe_cursor(&self, name: &str) -> Option<Vec<FieldRef>> {
        (name == "srv").then(|| vec![PgType::Int4.field("n", true)])
    }

    async fn copy_in(&mut self, copy: &mut u64, data: &[u8]) -> Result<()> {
        if data.contains(&b'!') {
            return Err(Error::new(SqlState::BAD_COPY_FILE_FORMAT, "extra data after last expected column"));
        }
        *copy += data.iter().filter(|&&b| b == b'\n').count() as u64;
        Ok(())
    }

    async fn copy_done(&mut self, copy: u64) -> Result<String> {
        Ok(format!("COPY {copy}"))
    }

    fn copy_fail(&mut self, _: u64) {}

    fn is_in_block(&self) -> bool {
        self.is_implicit || self.status != TransactionStatus::Idle
    }

    fn begin_implicit(&mut self) {
        self.is_implicit = true;
    }

    async fn end_implicit(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_implicit) {
            self.seen.implicit_blocks.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    fn transaction_status(&self) -> TransactionStatus {
        self.status
    }

    fn fail_transaction(&mut self) {
        if self.status == TransactionStatus::Open {
            self.status = TransactionStatus::Failed;
        }
    }

    fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn take_parameter_changes(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.changes)
    }

    fn backend_key(&self) -> (i32, i32) {
        (7, 77)
    }

    fn terminated(&self) -> watch::Receiver<bool> {
        self.seen.terminate.subscribe()
    }

    fn text_style(&self) -> TextStyle {
        TextStyle::default()
    }
}
