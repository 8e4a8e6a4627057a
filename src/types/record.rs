//! What connectors hand to formats, and what becomes of records and rows that cannot be used.

use std::collections::BTreeMap;

/// Undecoded records of one partition, back to back in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub bytes: Vec<u8>,
    /// Record `i` is `bytes[ends[i-1]..ends[i]]` (0 before the first), without its terminator.
    pub ends: Vec<usize>,
    /// Where record `i` stands in its partition, for error relations: a Kafka offset, a byte offset in a file.
    pub positions: Vec<u64>,
}

impl Records {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn push(&mut self, record: &[u8], position: u64) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
        self.positions.push(position);
    }

    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }
}

/// A record that could not be decoded: counted, kept in the source's error relation, and passed over.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BadRecord {
    pub partition: String,
    pub position: u64,
    pub reason: String,
    /// The record itself, cut to [`BadRecord::PAYLOAD_BYTES_MAX`].
    pub payload: String,
}

impl BadRecord {
    pub const PAYLOAD_BYTES_MAX: usize = 1024;

    pub fn new(partition: &str, position: u64, reason: impl Into<String>, record: &[u8]) -> BadRecord {
        let cut = &record[..record.len().min(Self::PAYLOAD_BYTES_MAX)];
        let payload = String::from_utf8_lossy(cut).into_owned();
        BadRecord { partition: partition.to_string(), position, reason: reason.into(), payload }
    }
}

/// A row for which an expression of a view failed. `weight` is the row's: a later retraction of the row takes the
/// error back.
#[derive(Clone, Debug, PartialEq)]
pub struct RowError {
    pub reason: String,
    /// The row that failed, as text: `(1,apple,NULL)`.
    pub row: String,
    pub weight: i64,
}

/// How far a source has been read: the next offset of each partition. What an offset counts is the connector's to say
/// (Kafka offsets, bytes of a decompressed file, event numbers). Kept by us, never by the outside system.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Position(pub BTreeMap<String, u64>);

impl Position {
    pub fn get(&self, partition: &str) -> Option<u64> {
        self.0.get(partition).copied()
    }
}
