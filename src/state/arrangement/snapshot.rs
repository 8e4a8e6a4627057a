//! A snapshot: a relation's rows at one epoch.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array, new_null_array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};

use super::scan::expand;
use super::{Chunk, Interval, Layout, Rows, Run, encode_keys, hash_rows};
use crate::error::Result;
use crate::types::Delta;

/// Immutable; it costs a few pointers until somebody asks for its rows.
#[derive(Debug)]
pub struct Snapshot {
    layout: Arc<Layout>,
    runs: Vec<Arc<Run>>,
    /// The runs added up, once somebody asked.
    rows: OnceLock<Arc<Vec<RecordBatch>>>,
}

/// Columns that the delta lacks at its end are NULL: a row that has not arrived yet cannot tell of its arrival.
fn widened(delta: &Delta, schema: &SchemaRef) -> Result<Delta> {
    let missing = &schema.fields()[delta.schema().fields().len().min(schema.fields().len())..];
    if missing.is_empty() {
        return Ok(delta.clone());
    }
    let row_count = delta.row_count();
    let nulls = missing.iter().map(|field| new_null_array(field.data_type(), row_count));
    let columns = delta.batch().columns().iter().cloned().chain(nulls).collect();
    Ok(delta.with_batch(RecordBatch::try_new(schema.clone(), columns)?))
}

impl Snapshot {
    pub(super) fn new(layout: Arc<Layout>, runs: Vec<Arc<Run>>) -> Snapshot {
        Snapshot { layout, runs, rows: OnceLock::new() }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.layout.schema
    }

    /// Columns by which [`Snapshot::lookup`] finds rows without a scan; `None` if it cannot.
    pub fn key(&self) -> Option<&[usize]> {
        self.layout.indexed.then_some(&self.layout.key)
    }

    /// The runs, oldest first: their sum is the relation.
    pub fn runs(&self) -> &[Arc<Run>] {
        &self.runs
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn chunks(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        self.runs.iter().flat_map(|run| run.chunks())
    }

    /// Its rows in pieces, not added up: their sum is the relation.
    pub fn deltas(&self) -> impl Iterator<Item = Result<Delta>> {
        self.chunks().map(|chunk| Ok(chunk.rows()?.delta()))
    }

    /// Reads what has not been looked at yet. XX001 if it is not what was written.
    pub fn check(&self) -> Result<()> {
        self.chunks().try_for_each(|chunk| chunk.rows().map(|_| ()))
    }

    /// An upper bound that costs nothing.
    pub fn row_count_max(&self) -> usize {
        self.runs.iter().map(|run| run.row_count()).sum()
    }

    /// This snapshot and one more change: what a transaction sees of its own writes.
    pub fn with_delta(&self, delta: &Delta) -> Result<Snapshot> {
        let mut runs = self.runs.clone();
        runs.push(Arc::new(Run::build(&self.layout, &widened(delta, &self.layout.schema)?)?));
        Ok(Snapshot::new(self.layout.clone(), runs))
    }

    /// This snapshot as it was before some changes that are in it, the last ones.
    pub fn before(&self, changes: &[Delta]) -> Result<Snapshot> {
        if self.layout.indexed {
            let undo = Delta::concat(&self.layout.schema, changes)?.negate();
            let undo = Run::build(&self.layout, &undo)?;
            let runs = self.runs.iter().cloned().chain([Arc::new(undo)]).collect();
            return Ok(Snapshot::new(self.layout.clone(), runs));
        }
        // The rows of a log stand as they came.
        let later: usize = changes.iter().map(|delta| delta.row_count()).sum();
        let mut left = self.row_count_max().checked_sub(later).expect("what has changed since is in the log");
        let mut chunks = vec![];
        for chunk in self.chunks() {
            let taken = chunk.row_count().min(left);
            left -= taken;
            match taken {
                0 => break,
                _ if taken == chunk.row_count() => chunks.push(chunk.clone()),
                _ => chunks.push(Arc::new(chunk.slice(0..taken)?)),
            }
        }
        Ok(Snapshot::new(self.layout.clone(), vec![Arc::new(Run::of(chunks))]))
    }

    /// All rows; a row of weight 2 appears twice. Added up at the first call and kept, where they lie in memory anyway.
    pub fn rows(&self) -> Result<Arc<Vec<RecordBatch>>> {
        if let Some(rows) = self.rows.get() {
            return Ok(rows.clone());
        }
        let pieces = (0..self.piece_count()).map(|number| self.piece(number, None));
        let rows = Arc::new(pieces.collect::<Result<Vec<_>>>()?.concat());
        match self.is_mapped() {
            true => Ok(rows),
            false => Ok(self.rows.get_or_init(|| rows).clone()),
        }
    }

    /// Some of it lies in files: it is better read by a [`super::Scan`].
    pub fn is_mapped(&self) -> bool {
        self.chunks().any(|chunk| chunk.is_mapped())
    }

    /// Some rows of one of the chunks, as a chunk.
    fn some_rows(&self, chunk: &Chunk, rows: Vec<u32>) -> Result<Chunk> {
        let own = chunk.rows()?;
        let hashes = match self.layout.indexed {
            true => rows.iter().map(|&row| own.hashes[row as usize]).collect(),
            false => ScalarBuffer::default(),
        };
        let weights = own.weights.as_ref().map(|w| rows.iter().map(|&row| w[row as usize]).collect());
        let batch = take_record_batch(&own.batch, &UInt32Array::from(rows))?;
        Ok(Chunk::in_memory(Rows { batch, weights, hashes }))
    }

    /// Makes the index over these columns for all runs, so that the first lookup need not.
    pub fn build_index(&self, columns: &[usize]) -> Result<()> {
        self.runs.iter().try_for_each(|run| run.build_index(&self.layout, columns))
    }

    /// True if so many rows are found faster one by one than all are read.
    pub fn is_few(&self, row_count: usize) -> bool {
        const SCANNED_SHARE: usize = 4;
        const ALWAYS_FEW: usize = 4096;
        row_count <= ALWAYS_FEW || row_count <= self.row_count_max() / SCANNED_SHARE
    }

    /// How many rows an index holds in these intervals, weights aside and those in several counted several times.
    pub fn range_count(&self, columns: &[usize], intervals: &[Interval]) -> Result<usize> {
        let mut count = 0;
        for chunk in self.chunks() {
            let index = chunk.indexes.get(chunk, &self.layout, columns)?;
            let index = index.get().map(|index| intervals.iter().map(|interval| index.rows(interval).len()).sum());
            count += index.unwrap_or(0);
        }
        Ok(count)
    }

    /// Rows whose key over `columns` lies in one of the intervals, found by an index. `None` if they are so many that a
    /// scan costs no more.
    pub fn range(&self, columns: &[usize], intervals: &[Interval]) -> Result<Option<RecordBatch>> {
        if !self.is_few(self.range_count(columns, intervals)?) {
            return Ok(None);
        }
        let mut found = vec![];
        for chunk in self.chunks() {
            let index = chunk.indexes.get(chunk, &self.layout, columns)?;
            let Some(index) = index.get() else { continue };
            let mut rows: Vec<u32> = intervals.iter().flat_map(|interval| index.rows(interval)).copied().collect();
            if intervals.len() > 1 {
                // Intervals may overlap.
                rows.sort_unstable();
                rows.dedup();
            }
            if !rows.is_empty() {
                found.push(self.some_rows(chunk, rows)?);
            }
        }
        Ok(Some(expand(Chunk::merge(&self.layout, found.iter())?.rows()?)?))
    }

    /// The rows whose `columns` equal one of `row_count` keys (of the columns' types, in their order), and maybe some whose
    /// hash is the same, cut to the columns `wanted`; with their weights, not added up where nothing is taken back. Looks
    /// by the relation's key if that is what `columns` are, else by the index over them.
    pub fn find(&self, columns: &[usize], keys: &[ArrayRef], row_count: usize, wanted: &[usize]) -> Result<Vec<Delta>> {
        let is_key = self.layout.indexed && self.layout.key == columns;
        let (mut hashes, mut intervals) = (vec![], vec![]);
        if is_key {
            hashes = sorted_hashes(keys, row_count)?;
        } else {
            let mut encoded = encode_keys(keys)?;
            encoded.sort_unstable();
            encoded.dedup();
            intervals = encoded.into_iter().map(|key| Interval { low: key.clone(), high: key }).collect();
        }
        let mut found = vec![];
        for chunk in self.chunks() {
            let rows = match is_key {
                true => chunk.rows_with_hashes(&hashes)?,
                false => {
                    let index = chunk.indexes.get(chunk, &self.layout, columns)?;
                    let rows = index.get().map(|index| intervals.iter().flat_map(|interval| index.rows(interval)));
                    rows.into_iter().flatten().copied().collect()
                }
            };
            if !rows.is_empty() {
                found.push(chunk.rows()?.delta().project(wanted)?.take(&UInt32Array::from(rows))?);
            }
        }
        match &found[..] {
            [first, _, ..] if found.iter().any(|delta| delta.has_retractions()) => {
                Ok(vec![Delta::concat(&first.schema(), &found)?.consolidate()?])
            }
            _ => Ok(found),
        }
    }

    /// Rows whose key columns equal one of the rows of `keys` (columns in the key's order, of the key's types).
    pub fn lookup(&self, keys: &RecordBatch) -> Result<RecordBatch> {
        let sorted = sorted_hashes(keys.columns(), keys.num_rows())?;
        let mut candidates = vec![];
        for chunk in self.chunks() {
            let rows: Vec<u32> = if self.layout.indexed {
                chunk.rows_with_hashes(&sorted)?
            } else {
                (0..chunk.row_count() as u32).collect()
            };
            if !rows.is_empty() {
                candidates.push(self.some_rows(chunk, rows)?);
            }
        }
        let found = expand(Chunk::merge(&self.layout, candidates.iter())?.rows()?)?;
        if found.num_rows() == 0 {
            return Ok(found);
        }
        let found_keys = found.project(&self.layout.key)?;
        let fields = found_keys.columns().iter().map(|c| SortField::new(c.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let wanted = converter.convert_columns(keys.columns())?;
        let wanted: HashSet<&[u8]> = (0..keys.num_rows()).map(|row| wanted.row(row).data()).collect();
        let have = converter.convert_columns(found_keys.columns())?;
        let mask: BooleanArray = (0..found.num_rows()).map(|row| Some(wanted.contains(have.row(row).data()))).collect();
        Ok(filter_record_batch(&found, &mask)?)
    }
}

/// The hashes of some keys, each once.
fn sorted_hashes(keys: &[ArrayRef], row_count: usize) -> Result<Vec<u64>> {
    let mut hashes = hash_rows(keys, row_count)?;
    hashes.sort_unstable();
    hashes.dedup();
    Ok(hashes)
}
