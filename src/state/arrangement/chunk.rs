//! A chunk: some rows of a Z-set, consolidated, sorted by key hash, in one batch.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{DynComparator, make_comparator};
use arrow::array::{RecordBatch, UInt32Array, UInt64Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{SortOptions, concat_batches, take_record_batch};

use super::index::ChunkIndexes;
use super::{Layout, hash_rows};
use crate::error::Result;
use crate::types::Delta;

/// Immutable. Equal rows are merged and weights are never zero, unless the layout is a log: then rows stand as they
/// came, all of weight +1 or more.
#[derive(Debug)]
pub struct Chunk {
    pub(super) batch: RecordBatch,
    /// `None`: all +1.
    pub(super) weights: Option<ScalarBuffer<i64>>,
    /// Key hash of each row, ascending. Empty in a log.
    pub(super) hashes: ScalarBuffer<u64>,
    pub(super) indexes: ChunkIndexes,
    /// Of its rows, wherever they lie.
    bytes: usize,
    /// They lie in a file.
    pub(super) is_mapped: bool,
}

impl Chunk {
    pub(super) fn new(batch: RecordBatch, weights: Option<ScalarBuffer<i64>>, hashes: ScalarBuffer<u64>) -> Chunk {
        let bytes = batch.get_array_memory_size() + hashes.len() * 8 + weights.as_ref().map_or(0, |w| w.len() * 8);
        Chunk { batch, weights, hashes, indexes: ChunkIndexes::default(), bytes, is_mapped: false }
    }

    /// The same rows, which lie in a file of so many bytes.
    pub(super) fn mapped(
        batch: RecordBatch,
        weights: Option<ScalarBuffer<i64>>,
        hashes: ScalarBuffer<u64>,
        bytes: usize,
    ) -> Chunk {
        Chunk { batch, weights, hashes, indexes: ChunkIndexes::default(), bytes, is_mapped: true }
    }

    pub(super) fn build(layout: &Layout, delta: &Delta) -> Result<Chunk> {
        // Columns may come with narrower nullability or metadata than the relation's.
        let batch = relabel(layout, delta.batch())?;
        let weights = delta.weights().cloned();
        if !layout.indexed {
            return Ok(Chunk::new(batch, weights, ScalarBuffer::default()));
        }
        let key: Vec<_> = layout.key.iter().map(|&column| batch.column(column).clone()).collect();
        let hashes = hash_rows(&key, batch.num_rows())?;
        Chunk::consolidate(batch, weights, hashes)
    }

    /// The sum of several chunks of one layout.
    pub(super) fn merge<'a>(layout: &Layout, chunks: impl Iterator<Item = &'a Chunk> + Clone) -> Result<Chunk> {
        let batch = concat_batches(&layout.schema, chunks.clone().map(|chunk| &chunk.batch))?;
        let weights = if chunks.clone().all(|chunk| chunk.weights.is_none()) {
            None
        } else {
            Some(chunks.clone().flat_map(|chunk| (0..chunk.row_count()).map(|row| chunk.weight(row))).collect())
        };
        if !layout.indexed {
            return Ok(Chunk::new(batch, weights, ScalarBuffer::default()));
        }
        let hashes = chunks.flat_map(|chunk| chunk.hashes.iter().copied()).collect();
        Chunk::consolidate(batch, weights, hashes)
    }

    pub fn row_count(&self) -> usize {
        self.batch.num_rows()
    }

    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |w| w[row])
    }

    pub fn delta(&self) -> Delta {
        match &self.weights {
            None => Delta::insert(self.batch.clone()),
            Some(weights) => Delta::new(self.batch.clone(), weights.clone()),
        }
    }

    /// Of its rows and indexes, wherever they lie.
    pub fn stored_bytes(&self) -> usize {
        self.bytes + self.indexes.stored_bytes()
    }

    /// Of what lies in memory alone.
    pub fn memory_bytes(&self) -> usize {
        let own = if self.is_mapped { 0 } else { self.bytes };
        own + self.indexes.memory_bytes()
    }

    /// Some of its rows, as a chunk that shares them.
    pub(super) fn slice(&self, rows: Range<usize>) -> Chunk {
        let weights = self.weights.as_ref().map(|weights| weights.slice(rows.start, rows.len()));
        let hashes = match self.hashes.is_empty() {
            true => ScalarBuffer::default(),
            false => self.hashes.slice(rows.start, rows.len()),
        };
        let bytes = self.bytes * rows.len() / self.row_count().max(1);
        let (batch, indexes) = (self.batch.slice(rows.start, rows.len()), ChunkIndexes::default());
        Chunk { batch, weights, hashes, indexes, bytes, is_mapped: self.is_mapped }
    }

    /// Rows with this key hash.
    pub(super) fn rows_with_hash(&self, hash: u64) -> Range<usize> {
        let start = self.hashes.partition_point(|&h| h < hash);
        let count = self.hashes[start..].iter().take_while(|&&h| h == hash).count();
        start..start + count
    }

    /// The rows whose hash is not below `from` and below `to`, if there are any. `None`: no bound.
    pub(super) fn between(&self, from: Option<u64>, to: Option<u64>) -> Option<Chunk> {
        let start = from.map_or(0, |from| self.hashes.partition_point(|&hash| hash < from));
        let end = to.map_or(self.row_count(), |to| self.hashes.partition_point(|&hash| hash < to));
        (start < end).then(|| self.slice(start..end))
    }

    /// Sorts by hash and adds up equal rows.
    fn consolidate(batch: RecordBatch, weights: Option<ScalarBuffer<i64>>, hashes: Vec<u64>) -> Result<Chunk> {
        let row_count = batch.num_rows();
        let weight = |row: usize| weights.as_ref().map_or(1, |w| w[row]);
        let mut order: Vec<u32> = (0..row_count as u32).collect();
        // Stable, and quick over the sorted stretches that merging gives it.
        order.sort_by_key(|&row| hashes[row as usize]);

        let mut comparators: Option<Vec<DynComparator>> = None;
        let (mut kept, mut kept_weights) = (Vec::with_capacity(row_count), Vec::with_capacity(row_count));
        let mut start = 0;
        while start < row_count {
            let hash = hashes[order[start] as usize];
            let mut end = start + 1;
            while end < row_count && hashes[order[end] as usize] == hash {
                end += 1;
            }
            if end == start + 1 {
                let row = order[start];
                if weight(row as usize) != 0 {
                    kept.push(row);
                    kept_weights.push(weight(row as usize));
                }
            } else {
                let comparators = match &mut comparators {
                    Some(made) => made,
                    none => none.insert(row_comparators(&batch, &batch)?),
                };
                let first = kept.len();
                for &row in &order[start..end] {
                    let equal = (first..kept.len()).find(|&slot| rows_equal(comparators, kept[slot], row));
                    match equal {
                        Some(slot) => kept_weights[slot] += weight(row as usize),
                        None => {
                            kept.push(row);
                            kept_weights.push(weight(row as usize));
                        }
                    }
                }
                // Drop what came to nothing, keeping the order.
                let mut write = first;
                for read in first..kept.len() {
                    if kept_weights[read] != 0 {
                        kept[write] = kept[read];
                        kept_weights[write] = kept_weights[read];
                        write += 1;
                    }
                }
                kept.truncate(write);
                kept_weights.truncate(write);
            }
            start = end;
        }
        let hashes = kept.iter().map(|&row| hashes[row as usize]).collect();
        let batch = take_record_batch(&batch, &UInt32Array::from(kept))?;
        let weights = if kept_weights.iter().all(|&w| w == 1) { None } else { Some(kept_weights.into()) };
        Ok(Chunk::new(batch, weights, hashes))
    }
}

/// One comparator for each column, between rows of `left` and rows of `right`. NULL equals NULL.
pub(super) fn row_comparators(left: &RecordBatch, right: &RecordBatch) -> Result<Vec<DynComparator>> {
    let pairs = left.columns().iter().zip(right.columns());
    Ok(pairs.map(|(l, r)| make_comparator(l, r, SortOptions::default())).collect::<Result<_, _>>()?)
}

pub(super) fn rows_equal(comparators: &[DynComparator], left: u32, right: u32) -> bool {
    comparators.iter().all(|compare| compare(left as usize, right as usize) == Ordering::Equal)
}

/// The batch under the layout's schema. The column types must agree.
fn relabel(layout: &Layout, batch: &RecordBatch) -> Result<RecordBatch> {
    if Arc::ptr_eq(&batch.schema(), &layout.schema) {
        return Ok(batch.clone());
    }
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(layout.schema.clone(), batch.columns().to_vec(), &options)?)
}

/// `row` repeated as its weight says, for all rows: indices for `take`.
pub(super) fn repeat_by_weight(row_count: usize, weight: impl Fn(usize) -> i64) -> UInt64Array {
    (0..row_count)
        .flat_map(|row| std::iter::repeat_n(row as u64, weight(row).max(0) as usize))
        .collect::<Vec<_>>()
        .into()
}
