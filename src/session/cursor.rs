//! SQL cursors: DECLARE, FETCH, MOVE, CLOSE. A cursor reads the world of its DECLARE, however long it lives.
//!
//! One over SUBSCRIBE goes on with time: FETCH waits for a first row, then takes what is there; with a timeout it waits so
//! long for all that it may take.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::limits::{Busy, Limits};
use super::{Outcome, Session};
use crate::error::{Error, Result, SqlState};
use crate::sql::bind::Bound;
use crate::sql::{FetchCount, Subscribe};

pub struct Cursor {
    schema: SchemaRef,
    rows: Arc<Mutex<Rows>>,
    /// Stays when its transaction commits.
    pub hold: bool,
    /// Over SUBSCRIBE: its rows come as time goes on.
    is_live: bool,
}

struct Rows {
    /// `None` after the end or an error.
    stream: Option<SendableRecordBatchStream>,
    /// What the last FETCH left of a batch.
    rest: Option<RecordBatch>,
}

impl Rows {
    /// At most `count_max` rows; `None` at the end.
    async fn next(&mut self, count_max: u64) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.rest.take().filter(|batch| batch.num_rows() > 0) {
                let taken = usize::try_from(count_max).unwrap_or(usize::MAX).min(batch.num_rows());
                self.rest = Some(batch.slice(taken, batch.num_rows() - taken));
                return Ok(Some(batch.slice(0, taken)));
            }
            let Some(stream) = &mut self.stream else { return Ok(None) };
            match stream.next().await {
                Some(Ok(batch)) => self.rest = Some(batch),
                Some(Err(error)) => {
                    self.stream = None;
                    return Err(error.into());
                }
                None => self.stream = None,
            }
        }
    }
}

impl Cursor {
    pub fn fields(&self) -> Vec<FieldRef> {
        self.schema.fields().iter().cloned().collect()
    }
}

impl Session {
    /// 42P03 if the name is taken, 25P01 outside of a transaction without WITH HOLD.
    pub(super) async fn declare(
        &mut self,
        name: &str,
        bound: &Bound,
        parameters: &[ScalarValue],
        hold: bool,
    ) -> Result<Outcome> {
        self.require_declarable(name, hold)?;
        let stream = self.start_query(bound, parameters).await?;
        Ok(self.declared(name, stream, hold, false))
    }

    /// As [`Session::declare`], over SUBSCRIBE.
    pub(super) async fn declare_subscribe(&mut self, name: &str, subscribe: &Subscribe, hold: bool) -> Result<Outcome> {
        self.require_declarable(name, hold)?;
        let stream = self.start_subscription(subscribe).await?;
        Ok(self.declared(name, stream, hold, true))
    }

    fn require_declarable(&self, name: &str, hold: bool) -> Result<()> {
        if !hold && !self.transaction.is_open() {
            return Err(Error::new(
                SqlState::NO_ACTIVE_SQL_TRANSACTION,
                "DECLARE CURSOR can only be used in transaction blocks",
            ));
        }
        if self.cursors.contains_key(name) {
            return Err(Error::new(SqlState::DUPLICATE_CURSOR, format!("cursor \"{name}\" already exists")));
        }
        Ok(())
    }

    fn declared(&mut self, name: &str, stream: SendableRecordBatchStream, hold: bool, is_live: bool) -> Outcome {
        let schema = stream.schema();
        let rows = Arc::new(Mutex::new(Rows { stream: Some(stream), rest: None }));
        self.cursors.insert(name.to_string(), Cursor { schema, rows, hold, is_live });
        Outcome::Done { tag: "DECLARE CURSOR".to_string() }
    }

    /// 34000 if there is none of this name.
    pub(super) fn cursor(&self, name: &str) -> Result<&Cursor> {
        self.cursors
            .get(name)
            .ok_or_else(|| Error::new(SqlState::INVALID_CURSOR_NAME, format!("cursor \"{name}\" does not exist")))
    }

    /// Rows are read from the query as the client takes them.
    pub(super) fn fetch(
        &self,
        name: &str,
        count: FetchCount,
        timeout: Option<&str>,
        limits: Limits,
        busy: Busy,
    ) -> Result<Outcome> {
        let cursor = self.cursor(name)?;
        let patience = match (timeout, cursor.is_live) {
            (Some(timeout), true) => Patience::Until(Instant::now() + super::subscribe::timeout(timeout)?),
            (None, true) => Patience::FirstRow,
            (None, false) => Patience::All,
            (Some(_), false) => {
                let message = format!("cursor \"{name}\" has no timeout: its rows are there");
                return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
                    .with_hint("timeout is for cursors over SUBSCRIBE; leave it out"));
            }
        };
        let (schema, rows) = (cursor.schema.clone(), cursor.rows.clone());
        let batches = futures::stream::unfold(Some((rows, count_max(count), patience)), |state| async move {
            let (rows, left, patience) = state.filter(|(_, left, _)| *left > 0)?;
            let next = patience.wait(async { rows.lock().await.next(left).await }).await?;
            match next {
                Ok(batch) => {
                    let batch = batch?;
                    let left = left - batch.num_rows() as u64;
                    Some((Ok(batch), Some((rows, left, patience.after_rows()))))
                }
                Err(error) => Some((Err(DataFusionError::from(error)), None)),
            }
        });
        let stream = limits.watch(Box::pin(RecordBatchStreamAdapter::new(schema.clone(), batches)), busy);
        Ok(Outcome::Rows { schema, stream, tag: "FETCH", counted: true })
    }

    pub(super) async fn move_cursor(&self, name: &str, count: FetchCount) -> Result<Outcome> {
        if self.cursor(name)?.is_live {
            return Err(Error::unsupported("MOVE in a cursor over SUBSCRIBE", "FETCH its rows, or begin with AS OF"));
        }
        let mut rows = self.cursor(name)?.rows.lock().await;
        let (mut moved, count_max) = (0, count_max(count));
        while moved < count_max
            && let Some(batch) = rows.next(count_max - moved).await?
        {
            moved += batch.num_rows() as u64;
        }
        Ok(Outcome::Done { tag: format!("MOVE {moved}") })
    }

    /// `None`: all.
    pub(super) fn close_cursor(&mut self, name: Option<&str>) -> Result<Outcome> {
        match name {
            Some(name) => {
                self.cursor(name)?;
                self.cursors.remove(name);
                Ok(Outcome::Done { tag: "CLOSE CURSOR".to_string() })
            }
            None => {
                self.cursors.clear();
                Ok(Outcome::Done { tag: "CLOSE CURSOR ALL".to_string() })
            }
        }
    }
}

/// How long FETCH waits for rows.
#[derive(Clone, Copy)]
enum Patience {
    /// They all come, sooner or later.
    All,
    FirstRow,
    /// For no row that is not there.
    NoRow,
    Until(Instant),
}

impl Patience {
    /// `None`: it is at an end. What is abandoned is there for the next FETCH.
    async fn wait<T>(self, next: impl Future<Output = T>) -> Option<T> {
        match self {
            Patience::All | Patience::FirstRow => Some(next.await),
            Patience::NoRow => tokio::time::timeout_at(Instant::now(), next).await.ok(),
            Patience::Until(deadline) => tokio::time::timeout_at(deadline, next).await.ok(),
        }
    }

    fn after_rows(self) -> Patience {
        match self {
            Patience::FirstRow => Patience::NoRow,
            other => other,
        }
    }
}

fn count_max(count: FetchCount) -> u64 {
    match count {
        FetchCount::Rows(count) => count,
        FetchCount::All => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[tokio::test]
    async fn fetches_cut_batches_and_go_on_where_they_stopped() -> Result<()> {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, false)]));
        let batch = |values: Vec<i32>| {
            RecordBatch::try_new(schema.clone(), vec![Arc::new(Int32Array::from(values))])
                .map_err(DataFusionError::from)
        };
        let batches = futures::stream::iter([batch(vec![1, 2, 3]), batch(vec![]), batch(vec![4])]);
        let stream: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), batches));
        let mut rows = Rows { stream: Some(stream), rest: None };
        let mut taken = vec![];
        for count_max in [2, 2, 5, 5] {
            taken.push(rows.next(count_max).await?.map(|batch| batch.num_rows()));
        }
        assert_eq!(taken, [Some(2), Some(1), Some(1), None]);
        Ok(())
    }
}
