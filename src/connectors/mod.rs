//! Outside systems. A connector finds and fetches; it does not decode (that is `formats`) and keeps no state: a reader
//! can be opened at any [`Position`], and reading the same span again yields the same records. This is what lets a new
//! view catch up on its own, and what makes a crash harmless.
//!
//! One folder for each system: [`nexmark`], [`files`], [`kafka`].

pub mod files;
pub mod kafka;
pub mod nexmark;
mod options;
mod reading;

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

pub use options::Options;
pub use reading::{RATE_LIMIT, Reading, Replay, rate_limit};

use crate::error::{Error, Result, SqlState};
use crate::types::{BadRecord, Position, Records};
use options::invalid;

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

    /// True if it yields ever more for as long as it is read.
    fn is_endless(&self) -> bool;

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

/// Some consecutive records of one partition. A record's position (`Records::positions`) counts as offsets do: a chunk
/// may be cut in front of any record, and reading goes on from that record's position.
pub struct Chunk {
    pub partition: String,
    pub payload: Payload,
    /// What the connector itself had to pass over: a record that is too long, a message without a payload.
    pub bad_records: Vec<BadRecord>,
    /// The partition's next offset once this chunk is taken.
    pub next_offset: u64,
    /// Of the rows of [`Payload::Rows`], where they are not consecutive up to `next_offset`, bad records among them.
    pub positions: Option<Vec<u64>>,
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
    /// One record a line, but a line break inside a quoted field belongs to the field; `header`: the first is no record.
    QuotedLines { header: bool, delimiter: u8, quote: u8, escape: u8 },
    /// The file is read by a columnar reader.
    Parquet,
}

impl Framing {
    /// The framing of an encoding and its options, which the format itself checks further.
    /// 0A000 for an encoding that no file has, 22023 for an option that makes no sense.
    pub fn of(encode: &str, options: &BTreeMap<String, String>) -> Result<Framing> {
        let byte = |key: &str, default: u8| match options.get(key).map(String::as_str) {
            None => Ok(default),
            Some("\\t" | "tab") => Ok(b'\t'),
            Some(text) => match text.as_bytes() {
                &[byte] if byte.is_ascii() => Ok(byte),
                _ => Err(invalid(key, text, "it takes a single one-byte character")),
            },
        };
        let flag = |key: &str| Options::new(options.clone()).bool(key);
        match encode.to_ascii_uppercase().as_str() {
            "JSON" | "NATIVE" => Ok(Framing::Lines),
            "PARQUET" => match options.keys().next() {
                None => Ok(Framing::Parquet),
                Some(key) => {
                    Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("unknown encode option \"{key}\""))
                        .with_hint("ENCODE PARQUET takes no options"))
                }
            },
            "CSV" => {
                let quote = byte("quote", b'"')?;
                // RisingWave says it the other way round.
                let header = match (flag("header")?, flag("without_header")?) {
                    (Some(header), Some(without)) if header == without => {
                        return Err(invalid("without_header", &without.to_string(), "header says the opposite"));
                    }
                    (Some(header), _) => header,
                    (None, without) => without.is_some_and(|without| !without),
                };
                Ok(Framing::QuotedLines {
                    header,
                    delimiter: byte("delimiter", b',')?,
                    quote,
                    escape: byte("escape", quote)?,
                })
            }
            other => Err(Error::unsupported(format!("ENCODE {other}"), "known encodings: JSON, CSV, PARQUET")),
        }
    }
}

/// Records that are longer, in bytes, are bad records.
pub const RECORD_BYTES_MAX: usize = 256 << 20;

/// Makes the connector that `options` name, and takes what any source may say ([`Reading`]). `schema` is the source's
/// declared columns. Nothing outside is touched yet: [`Connector::start`] is where a missing file or topic shows.
/// Fails with 22023 (unknown connector or option: named, with the known ones in the hint).
pub fn connect(options: &Options, schema: &SchemaRef, framing: Framing) -> Result<Box<dyn Connector>> {
    let connector: Box<dyn Connector> = match options.require("connector")? {
        "nexmark" => Box::new(nexmark::NexmarkConnector::new(options, schema)?),
        "files" => Box::new(files::FilesConnector::new(options, schema, framing)?),
        "kafka" if framing == Framing::Parquet => {
            return Err(Error::unsupported("ENCODE PARQUET with connector \"kafka\"", "use ENCODE JSON or CSV"));
        }
        "kafka" => Box::new(kafka::KafkaConnector::new(options)?),
        other => {
            let hint = "known connectors: nexmark, files, kafka";
            return Err(Error::unsupported(format!("connector \"{other}\""), hint));
        }
    };
    let native = connector.native_schema().filter(|_| schema.fields().is_empty());
    let reading = Reading::parse(options, native.as_ref().unwrap_or(schema))?;
    options.finish()?;
    if reading.replay.is_some() && connector.native_schema().is_some() {
        let hint = "a generator is paced by nexmark.event.rate";
        return Err(Error::unsupported("replay of a connector that makes its rows itself", hint));
    }
    Ok(connector)
}
