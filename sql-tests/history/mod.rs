//! What was, and what becomes of it: `FOR SYSTEM_TIME AS OF`, transactions that hold an epoch, `SUBSCRIBE`.
//!
//! | file | what it holds against the server |
//! |---|---|
//! | [`travel`] | every epoch and instant against a log that the test keeps; numbers and instants after a crash |
//! | [`held`] | a transaction that only reads sees one epoch, whatever kind of statement asks |
//! | [`follow`] | a tagged union over tables and views, checked at every epoch; going on from the middle |
//! | [`limits`] | subscribers that do not read, that are cancelled, that go away |

mod follow;
mod held;
mod limits;
mod travel;

use bytes::Bytes;
use futures::{Stream, StreamExt};

use crate::harness::{Client, TestResult};

/// One row of a subscription. `row` is `None` where it tells how far it has come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    epoch: u64,
    weight: i64,
    row: Option<String>,
}

/// The rows of `COPY (SUBSCRIBE …) TO STDOUT`, as they come.
struct Follower {
    lines: std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, tokio_postgres::Error>> + Send>>,
    has_progress: bool,
}

impl Follower {
    /// `subscribe` without COPY.
    async fn start(client: &Client, subscribe: &str) -> TestResult<Follower> {
        let copy = format!("COPY ({subscribe}) TO STDOUT");
        let lines = client.copy_out(&copy).await.map_err(|error| format!("{error:?}\nin: {copy}"))?;
        Ok(Follower { lines: Box::pin(lines), has_progress: subscribe.contains("PROGRESS") })
    }

    /// `None` at the end.
    async fn next(&mut self) -> TestResult<Option<Change>> {
        let Some(line) = self.lines.next().await else { return Ok(None) };
        let line = String::from_utf8(line?.to_vec())?;
        let fields: Vec<&str> = line.trim_end_matches('\n').split('\t').collect();
        let at = if self.has_progress { 3 } else { 2 };
        let epoch = fields[0].parse()?;
        if self.has_progress && fields[2] == "t" {
            return Ok(Some(Change { epoch, weight: 0, row: None }));
        }
        Ok(Some(Change { epoch, weight: fields[at].parse()?, row: Some(fields[at + 1..].join(",")) }))
    }

    /// All that is left, of one that ends.
    async fn rest(&mut self) -> TestResult<Vec<Change>> {
        let mut changes = vec![];
        while let Some(change) = self.next().await? {
            changes.push(change);
        }
        Ok(changes)
    }
}

/// The SQLSTATE that a statement fails with.
async fn refused(client: &Client, sql: &str) -> TestResult<String> {
    match client.simple_query(sql).await {
        Ok(_) => Err(format!("was not refused: {sql}").into()),
        Err(error) => Ok(error.code().map_or_else(|| error.to_string(), |code| code.code().to_string())),
    }
}

async fn epoch(client: &Client) -> TestResult<u64> {
    Ok(crate::harness::one(client, "SELECT epoch FROM hw_catalog.epoch").await?.parse()?)
}
