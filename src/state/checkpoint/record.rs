//! The records of a checkpoint, as JSON: what they hold is small, and somebody who looks for trouble can read them.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Collection;
use crate::error::{Error, Result, SqlState};
use crate::types::{Position, RelationId};

pub const ENGINE_KEY: &[u8] = b"k/engine";
pub const VIEWS_PREFIX: &[u8] = b"k/view/";

pub fn view_key(id: RelationId) -> Vec<u8> {
    [VIEWS_PREFIX, &id.0.to_be_bytes()].concat()
}

pub fn view_errors_key(id: RelationId) -> Vec<u8> {
    [b"k/view-errors/".as_slice(), &id.0.to_be_bytes()].concat()
}

pub fn source_errors_prefix(id: RelationId) -> Vec<u8> {
    [b"k/source-error/".as_slice(), &id.0.to_be_bytes()].concat()
}

pub fn source_error_key(id: RelationId, number: u64) -> Vec<u8> {
    [source_errors_prefix(id).as_slice(), &number.to_be_bytes()].concat()
}

/// What concerns all views.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EngineRecord {
    /// The last epoch that is in the state.
    pub epoch: u64,
    /// Wall-clock time of that epoch, microseconds since 1970.
    pub now_us: i64,
    pub sources: BTreeMap<u32, SourceRecord>,
    /// Segments from this number on are of checkpoints that were not finished.
    pub next_segment: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SourceRecord {
    pub position: Position,
    pub row_count: u64,
    pub bad_record_count: u64,
    /// Its watermark, with what each partition has told; `None` if it has none.
    pub watermark: Option<serde_json::Value>,
    /// Records that could not be decoded are kept under numbers below this.
    pub next_error: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ViewRecord {
    /// Of the plan that made the state: another one could not read it.
    pub fingerprint: String,
    /// Among which it is spread.
    pub worker_count: usize,
    /// False while it catches up: then its state is of no use yet.
    pub is_complete: bool,
    /// The last epoch that changed it.
    pub epoch: u64,
    pub input_row_count: u64,
    pub output_row_count: u64,
    /// By the relation whose watermark the rows missed.
    pub late_row_counts: BTreeMap<u32, u64>,
    pub collections: Vec<Collection>,
}

/// As JSON.
pub fn write<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(|e| Error::internal(format!("a record could not be written: {e}")))
}

/// XX001 if the bytes are not such a record.
pub fn read<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    let damaged = |e| Error::new(SqlState::DATA_CORRUPTED, format!("unreadable checkpoint record of {what}: {e}"));
    serde_json::from_slice(bytes).map_err(damaged)
}
