//! Outside systems. A connector finds and fetches; it does not decode (that is `formats`) and keeps no state: a reader
//! can be opened at any [`Position`], and reading the same span again yields the same records. This is what lets a new
//! view catch up on its own, and what makes a crash harmless.
//!
//! One folder for each system: [`nexmark`], [`files`], [`kafka`].

pub mod files;
pub mod kafka;
pub mod nexmark;
mod options;

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

pub use options::Options;

use crate::error::{Error, Result};
use crate::types::{Position, Records};

/// A validated `WITH (connector = …)`. Cheap to clone through `Arc`; safe to use from several readers at once.
///
/// # Contract
/// - Options are checked when the connector is made, not when it is read.
/// - For the same span of positions every reader yields the same records in the same order within a partition.
pub trait Connector: Send + Sync + std::fmt::Debug {
    /// Where reading begins, made concrete now (`latest` and timestamps become offsets). Environment trouble
    /// (a broker that is away) is an error the caller may retry; a topic that does not exist is a user error.
    fn start(&self) -> Result<Position>;

    /// Everything there is at this moment, for a SELECT on a source that nothing else reads.
    /// `None` if there is no end in sight (an unbounded generator).
    fn end(&self) -> Result<Option<Position>>;

    /// A reader from `from` (inclusive) to `until` (exclusive; `None`: for as long as there is something).
    /// `projection` holds the needed columns, ascending; native connectors make only those, others ignore it.
    fn open(&self, from: &Position, until: Option<&Position>, projection: &[usize]) -> Result<Box<dyn Reader>>;

    /// Columns of a connector that makes rows itself; `None` for one that yields bytes. A source may leave columns out
    /// of its definition, or leave the definition out.
    fn native_schema(&self) -> Option<SchemaRef> {
        None
    }
}

/// One pass over a source. Driven by one thread.
pub trait Reader: Send {
    /// Waits at most `timeout` for the next chunk. Environment trouble is `Err`: the caller shows it, waits, and calls
    /// again or reopens at the last position; no record may be lost by that.
    fn poll(&mut self, timeout: Duration) -> Result<Polled>;

    /// Partitions that exist now, also those that have yielded nothing.
    fn partitions(&self) -> Vec<String>;
}

pub enum Polled {
    Chunk(Chunk),
    /// Nothing within the timeout; more may come.
    Idle,
    /// A bounded source, or `until`, has been reached: nothing will come.
    Finished,
}

/// Some consecutive records of one partition.
pub struct Chunk {
    pub partition: String,
    pub payload: Payload,
    /// The partition's next offset once this chunk is taken.
    pub next_offset: u64,
}

pub enum Payload {
    /// To be decoded by the source's format.
    Records(Records),
    /// Rows of the projected columns, ready to use.
    Rows(RecordBatch),
}

/// How a byte stream falls apart into records; the format says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One record a line.
    Lines,
    /// One record a line, but a line break inside double quotes belongs to the field; `header`: the first is no record.
    QuotedLines { header: bool },
    /// The file is read by a columnar reader.
    Parquet,
}

/// Makes the connector that `options` name. `schema` is the source's declared columns.
/// Fails with 22023 (unknown connector or option: named, with the known ones in the hint).
pub fn connect(options: &Options, schema: &SchemaRef, framing: Framing) -> Result<Box<dyn Connector>> {
    match options.require("connector")? {
        "nexmark" => Ok(Box::new(nexmark::NexmarkConnector::new(options, schema)?)),
        "files" => Ok(Box::new(files::FilesConnector::new(options, schema, framing)?)),
        "kafka" => Ok(Box::new(kafka::KafkaConnector::new(options)?)),
        other => Err(Error::unsupported(format!("connector \"{other}\""), "known connectors: nexmark, files, kafka")),
    }
}
