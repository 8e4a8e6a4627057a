//! placeholder
use crate::error::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::sync::Arc;

/// The rows of one relation at one epoch. Immutable; clones share everything.
#[derive(Debug)]
pub struct Snapshot {}
#[derive(Debug)]
pub struct Run {}
#[derive(Debug)]
pub struct Arrangement {}

impl Snapshot {
    pub fn schema(&self) -> SchemaRef {
        unimplemented!()
    }
    /// Columns that index it; empty: all.
    pub fn key(&self) -> &[usize] {
        unimplemented!()
    }
    /// Rows with their multiplicity: a row of weight 2 appears twice. Consolidated on first use, then kept.
    pub fn rows(&self) -> Result<Arc<Vec<RecordBatch>>> {
        unimplemented!()
    }
    /// Rows whose key columns equal row `row` of `keys` (columns in the key's order), for all rows of `keys`.
    pub fn lookup(&self, keys: &RecordBatch) -> Result<RecordBatch> {
        let _ = keys;
        unimplemented!()
    }
    /// An upper bound without consolidating.
    pub fn row_count_max(&self) -> usize {
        unimplemented!()
    }
    /// This snapshot with one more delta (a transaction's own uncommitted writes).
    pub fn with_delta(&self, delta: &crate::types::Delta) -> Result<Snapshot> {
        let _ = delta;
        unimplemented!()
    }
}
