//! A chunk: some rows of a Z-set, consolidated, sorted by key hash, in one batch.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::{DynComparator, make_comparator};
use arrow::array::{RecordBatch, UInt32Array, UInt64Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{SortOptions, concat_batches, take_record_batch};

use serde::{Deserialize, Serialize};

use super::index::ChunkIndexes;
use super::{Layout, hash_rows, rows_with_hashes};
use crate::error::{Error, Result, SqlState};
use crate::types::Delta;

/// Immutable. What lies on disk is read, and its checksum with it, when it is first looked at.
pub struct Chunk {
    row_count: usize,
    /// Of the first row and the last one; `None` in a log.
    hashes: Option<(u64, u64)>,
    /// All weights are +1.
    is_plain: bool,
    /// Of its rows, wherever they lie.
    bytes: usize,
    /// They lie in a file.
    is_mapped: bool,
    rows: OnceLock<Rows>,
    /// Where the rows are read if they are not there.
    source: Option<Box<dyn RowSource>>,
    pub(super) indexes: ChunkIndexes,
}

/// Equal rows are merged and weights are never zero, unless the layout is a log: then rows stand as they came, all of weight
/// +1 or more.
#[derive(Debug)]
pub struct Rows {
    pub batch: RecordBatch,
    /// `None`: all +1.
    pub weights: Option<ScalarBuffer<i64>>,
    /// Key hash of each row, ascending. Empty in a log.
    pub hashes: ScalarBuffer<u64>,
}

/// Where a chunk's rows lie.
pub trait RowSource: Send + Sync {
    /// XX001 if they are not what was written.
    fn read(&self) -> Result<Rows>;
}

/// What is known of a chunk whose rows have not been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkSummary {
    pub row_count: usize,
    pub hashes: Option<(u64, u64)>,
    pub is_plain: bool,
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("row_count", &self.row_count).field("is_mapped", &self.is_mapped).finish()
    }
}

impl Rows {
    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |w| w[row])
    }

    fn slice(&self, rows: Range<usize>) -> Rows {
        let (start, count) = (rows.start, rows.len());
        let weights = self.weights.as_ref().map(|weights| weights.slice(start, count));
        let hashes = match self.hashes.is_empty() {
            true => ScalarBuffer::default(),
            false => self.hashes.slice(start, count),
        };
        Rows { batch: self.batch.slice(start, count), weights, hashes }
    }

    pub fn delta(&self) -> Delta {
        match &self.weights {
            None => Delta::insert(self.batch.clone()),
            Some(weights) => Delta::new(self.batch.clone(), weights.clone()),
        }
    }

    /// Rows with this key hash.
    pub(super) fn with_hash(&self, hash: u64) -> Range<usize> {
        let start = self.hashes.partition_point(|&h| h < hash);
        let count = self.hashes[start..].iter().take_while(|&&h| h == hash).count();
        start..start + count
    }

    fn summary(&self) -> ChunkSummary {
        let hashes = self.hashes.first().copied().zip(self.hashes.last().copied());
        ChunkSummary { row_count: self.batch.num_rows(), hashes, is_plain: self.weights.is_none() }
    }
}

impl Chunk {
    fn new(rows: Rows, bytes: usize, is_mapped: bool) -> Chunk {
        let ChunkSummary { row_count, hashes, is_plain } = rows.summary();
        let (rows, indexes) = (OnceLock::from(rows), ChunkIndexes::default());
        Chunk { row_count, hashes, is_plain, bytes, is_mapped, rows, source: None, indexes }
    }

    pub(super) fn in_memory(rows: Rows) -> Chunk {
        let weights = rows.weights.as_ref().map_or(0, |weights| weights.len() * 8);
        let bytes = rows.batch.get_array_memory_size() + rows.hashes.len() * 8 + weights;
        Chunk::new(rows, bytes, false)
    }

    /// Its rows lie in a file of so many bytes.
    pub fn mapped(rows: Rows, bytes: usize) -> Chunk {
        Chunk::new(rows, bytes, true)
    }

    /// Its rows are read when they are first looked at.
    pub fn at_rest(summary: ChunkSummary, bytes: usize, source: Box<dyn RowSource>) -> Chunk {
        let ChunkSummary { row_count, hashes, is_plain } = summary;
        let (rows, source) = (OnceLock::new(), Some(source));
        Chunk { row_count, hashes, is_plain, bytes, is_mapped: true, rows, source, indexes: ChunkIndexes::default() }
    }

    pub fn build(layout: &Layout, delta: &Delta) -> Result<Chunk> {
        // Columns may come with narrower nullability or metadata than the relation's.
        let batch = relabel(layout, delta.batch())?;
        let weights = delta.weights().cloned();
        if !layout.indexed {
            return Ok(Chunk::in_memory(Rows { batch, weights, hashes: ScalarBuffer::default() }));
        }
        let key: Vec<_> = layout.key.iter().map(|&column| batch.column(column).clone()).collect();
        let hashes = hash_rows(&key, batch.num_rows())?;
        Chunk::consolidate(batch, weights, hashes)
    }

    /// The sum of several chunks of one layout.
    pub(super) fn merge<'a>(layout: &Layout, chunks: impl Iterator<Item = &'a Chunk>) -> Result<Chunk> {
        let all = chunks.map(|chunk| chunk.rows()).collect::<Result<Vec<&Rows>>>()?;
        let batch = concat_batches(&layout.schema, all.iter().map(|rows| &rows.batch))?;
        let weights = if all.iter().all(|rows| rows.weights.is_none()) {
            None
        } else {
            Some(all.iter().flat_map(|rows| (0..rows.batch.num_rows()).map(|row| rows.weight(row))).collect())
        };
        if !layout.indexed {
            return Ok(Chunk::in_memory(Rows { batch, weights, hashes: ScalarBuffer::default() }));
        }
        let hashes = all.iter().flat_map(|rows| rows.hashes.iter().copied()).collect();
        Chunk::consolidate(batch, weights, hashes)
    }

    /// Read, if they are not there. XX001 if they are not what was written.
    pub fn rows(&self) -> Result<&Rows> {
        if let Some(rows) = self.rows.get() {
            return Ok(rows);
        }
        let source = self.source.as_ref().expect("rows are there or can be read");
        let rows = source.read()?;
        if rows.summary() != self.summary() {
            return Err(Error::new(SqlState::DATA_CORRUPTED, "rows of a relation are not those that were written"));
        }
        Ok(self.rows.get_or_init(|| rows))
    }

    pub fn summary(&self) -> ChunkSummary {
        ChunkSummary { row_count: self.row_count, hashes: self.hashes, is_plain: self.is_plain }
    }

    pub fn row_count(&self) -> usize {
        self.row_count
    }

    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    pub fn is_mapped(&self) -> bool {
        self.is_mapped
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
    pub(super) fn slice(&self, rows: Range<usize>) -> Result<Chunk> {
        let bytes = self.bytes * rows.len() / self.row_count.max(1);
        Ok(Chunk::new(self.rows()?.slice(rows), bytes, self.is_mapped))
    }

    /// The same rows, where they lie.
    pub(super) fn shared(&self) -> Result<Chunk> {
        self.slice(0..self.row_count)
    }

    /// The rows whose hash is not below `from` and below `to`, if there are any. `None`: no bound.
    pub(super) fn between(&self, from: Option<u64>, to: Option<u64>) -> Result<Option<Chunk>> {
        let Some((first, last)) = self.hashes else { return Ok(None) };
        if to.is_some_and(|to| to <= first) || from.is_some_and(|from| last < from) {
            return Ok(None);
        }
        let hashes = &self.rows()?.hashes;
        let start = from.map_or(0, |from| hashes.partition_point(|&hash| hash < from));
        let end = to.map_or(self.row_count, |to| hashes.partition_point(|&hash| hash < to));
        if start < end { self.slice(start..end).map(Some) } else { Ok(None) }
    }

    /// Which rows have one of these hashes, which ascend.
    pub(super) fn rows_with_hashes(&self, hashes: &[u64]) -> Result<Vec<u32>> {
        let Some((first, last)) = self.hashes else { return Ok(vec![]) };
        let within = hashes.partition_point(|&hash| hash < first)..hashes.partition_point(|&hash| hash <= last);
        if within.is_empty() {
            return Ok(vec![]);
        }
        Ok(rows_with_hashes(&self.rows()?.hashes, &hashes[within]))
    }

    pub(super) fn first_hash(&self) -> Option<u64> {
        self.hashes.map(|(first, _)| first)
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
        Ok(Chunk::in_memory(Rows { batch, weights, hashes }))
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
