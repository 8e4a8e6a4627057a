//! What may end a statement early: a cancel request, `statement_timeout`. Both are 57014.

use std::sync::Arc;
use std::time::Duration;

use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;

use super::TransactionStatus;
use super::shared::registry::Entry;
use crate::error::{Error, Result, SqlState};

/// Watches over one statement from its start.
pub struct Limits {
    cancelled: watch::Receiver<u64>,
    terminated: watch::Receiver<bool>,
    /// The moment, and how to put it off by the time that the client took between two fetches.
    deadline: Option<Instant>,
}

impl Limits {
    pub fn start(entry: &Entry, timeout: Option<Duration>) -> Limits {
        Limits {
            cancelled: entry.cancel.listen(),
            terminated: entry.terminate.subscribe(),
            deadline: timeout.map(|timeout| Instant::now() + timeout),
        }
    }

    /// The future's result, or 57014 if the statement was ended before it was there.
    pub async fn guard<T>(&mut self, future: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            result = future => result,
            error = self.ended() => Err(error),
        }
    }

    async fn ended(&mut self) -> Error {
        let deadline = self.deadline;
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let reason = tokio::select! {
            // The entry lives as long as its session, and so does the sender.
            _ = self.cancelled.changed() => "user request",
            _ = late => "statement timeout",
        };
        if *self.terminated.borrow() {
            return Error::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command");
        }
        Error::new(SqlState::QUERY_CANCELED, format!("canceling statement due to {reason}"))
    }

    /// The same rows under the same limits. `busy` is dropped with the stream.
    pub fn watch(self, stream: SendableRecordBatchStream, busy: Busy) -> SendableRecordBatchStream {
        let schema = stream.schema();
        let watched = futures::stream::unfold(Some((stream, self, busy, Instant::now())), |state| async move {
            let (mut stream, mut limits, busy, rested_since) = state?;
            // While a portal is suspended, the clock stands still.
            limits.deadline = limits.deadline.map(|deadline| deadline + rested_since.elapsed());
            let next = async { Ok(stream.next().await) };
            match limits.guard(next).await {
                Ok(Some(Ok(batch))) => Some((Ok(batch), Some((stream, limits, busy, Instant::now())))),
                Ok(Some(Err(error))) => Some((Err(error), None)),
                Ok(None) => None,
                Err(error) => Some((Err(DataFusionError::from(error)), None)),
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, watched))
    }
}

/// Shows the session as active until it is dropped.
pub struct Busy {
    entry: Arc<Entry>,
    /// What it is afterwards.
    pub status: TransactionStatus,
}

impl Busy {
    pub fn start(entry: &Arc<Entry>, query: &str, status: TransactionStatus) -> Busy {
        entry.begin(query);
        Busy { entry: entry.clone(), status }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.entry.end(self.status);
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::registry::Registry;
    use super::*;

    #[tokio::test]
    async fn a_cancel_ends_the_statement_under_way() -> Result<()> {
        let entry = Registry::default().register("root", "dev", 1, None)?;
        let mut limits = Limits::start(&entry, None);
        entry.cancel.cancel();
        let error = limits.guard(std::future::pending::<Result<()>>()).await.expect_err("it was cancelled");
        assert_eq!((error.code.0, error.message.as_str()), ("57014", "canceling statement due to user request"));
        // A new statement does not hear the old cancel.
        Limits::start(&entry, None).guard(async { Ok(()) }).await
    }

    #[tokio::test]
    async fn a_timeout_says_so() -> Result<()> {
        let entry = Registry::default().register("root", "dev", 1, None)?;
        let mut limits = Limits::start(&entry, Some(Duration::from_millis(1)));
        let error = limits.guard(std::future::pending::<Result<()>>()).await.expect_err("it took too long");
        assert_eq!((error.code.0, error.message.as_str()), ("57014", "canceling statement due to statement timeout"));
        Ok(())
    }
}
