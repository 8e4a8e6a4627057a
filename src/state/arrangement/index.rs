//! A secondary index: the rows of each run in the order of some columns, so that equal values and ranges are found by
//! bisection.
//!
//! ```text
//! run (immutable) ──first lookup, or the merge that made it──▶ ChunkIndex: encoded keys, order of rows
//! snapshot.range(columns, intervals) = Σ over runs of the rows between two keys, added up by weight
//! ```
//! Runs never change, so neither do their indexes: a run is indexed once, off the writers' way, and every snapshot that
//! holds the run shares it. Keys are encoded by arrow-row, whose bytes sort as the values do and whose columns follow
//! each other, so the encoding of some leading columns is a prefix of the whole key's. It lives in memory only.

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, UInt32Type};
use arrow::row::{RowConverter, Rows, SortField};
use parking_lot::Mutex;

use super::{Chunk, Layout};
use crate::error::Result;

/// The keys from `low` on up to those that begin with `high` or sort before it; empty: no bound. Both come from
/// [`encode_keys`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    pub low: Vec<u8>,
    pub high: Vec<u8>,
}

/// Keys as bytes, one for each row of `columns`. They sort as the values do, NULL first.
pub fn encode_keys(columns: &[ArrayRef]) -> Result<Vec<Vec<u8>>> {
    let rows = convert(columns)?;
    Ok(rows.iter().map(|row| row.data().to_vec()).collect())
}

/// True if keys of these types can be encoded.
pub fn can_be_indexed(types: &[DataType]) -> bool {
    types.iter().all(|data_type| !data_type.is_nested())
        && RowConverter::supports_fields(&types.iter().cloned().map(SortField::new).collect::<Vec<_>>())
}

fn convert(columns: &[ArrayRef]) -> Result<Rows> {
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?.convert_columns(columns)?)
}

/// The indexes of one chunk, each made when it is first asked for.
#[derive(Default, Debug)]
pub(super) struct ChunkIndexes(Mutex<Vec<(Vec<usize>, Arc<Cell>)>>);

/// Empty until it is made.
type Cell = OnceLock<ChunkIndex>;

impl ChunkIndexes {
    /// Of this chunk, whose indexes these are.
    pub fn get(&self, chunk: &Chunk, layout: &Layout, columns: &[usize]) -> Result<Arc<Cell>> {
        let cell = {
            let mut known = self.0.lock();
            match known.iter().find(|(known, _)| known == columns) {
                Some((_, cell)) => cell.clone(),
                None => {
                    let cell: Arc<Cell> = Arc::default();
                    known.push((columns.to_vec(), cell.clone()));
                    cell
                }
            }
        };
        if cell.get().is_none() {
            // Two that come at once both build it; one is kept.
            let built = ChunkIndex::build(chunk, layout, columns)?;
            let _ = cell.set(built);
        }
        Ok(cell)
    }

    /// Keeps only the indexes over these columns.
    pub fn retain(&self, wanted: &[Vec<usize>]) {
        self.0.lock().retain(|(columns, _)| wanted.contains(columns));
    }

    pub fn stored_bytes(&self) -> usize {
        self.0.lock().iter().filter_map(|(_, cell)| cell.get()).map(|index| index.bytes).sum()
    }

    pub fn memory_bytes(&self) -> usize {
        let known = self.0.lock();
        let made = known.iter().filter_map(|(_, cell)| cell.get());
        made.filter(|index| !index.is_mapped).map(|index| index.bytes).sum()
    }
}

#[derive(Debug)]
pub(super) struct ChunkIndex {
    keys: BinaryArray,
    /// Row numbers in the order of their keys.
    order: ScalarBuffer<u32>,
    bytes: usize,
    /// It lies in a file.
    is_mapped: bool,
}

impl ChunkIndex {
    /// It lies where the chunk does.
    fn build(chunk: &Chunk, layout: &Layout, columns: &[usize]) -> Result<ChunkIndex> {
        let rows = chunk.rows()?;
        let columns: Vec<ArrayRef> = columns.iter().map(|&column| rows.batch.column(column).clone()).collect();
        let keys = convert(&columns)?.try_into_binary()?;
        let mut order: Vec<u32> = (0..chunk.row_count() as u32).collect();
        order.sort_unstable_by_key(|&row| keys.value(row as usize));
        let order = UInt32Array::from(order);
        if let Some(scratch) = layout.scratch.as_ref().filter(|_| chunk.is_mapped()) {
            let (batch, bytes) = scratch.write(vec![Arc::new(keys), Arc::new(order)])?;
            let (keys, order) = (batch.column(0).as_binary().clone(), batch.column(1).as_primitive::<UInt32Type>());
            return Ok(ChunkIndex { keys, order: order.values().clone(), bytes, is_mapped: true });
        }
        let bytes = keys.get_array_memory_size() + order.get_array_memory_size();
        Ok(ChunkIndex { keys, order: order.values().clone(), bytes, is_mapped: false })
    }

    fn key(&self, row: u32) -> &[u8] {
        self.keys.value(row as usize)
    }

    /// Rows whose key lies in the interval, in key order.
    pub fn rows(&self, interval: &Interval) -> &[u32] {
        let Interval { low, high } = interval;
        let start = self.order.partition_point(|&row| self.key(row) < low.as_slice());
        let end = self.order.partition_point(|&row| {
            let key = self.key(row);
            &key[..key.len().min(high.len())] <= high.as_slice()
        });
        &self.order[start..end.max(start)]
    }
}
