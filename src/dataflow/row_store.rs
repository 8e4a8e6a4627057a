//! Rows in columnar chunks, addressed by a number that stays the same while the row lives: the memory of a join side.
//!
//! A delta is appended as a chunk; short neighbours are joined into one, which keeps the numbers, since a row's number
//! is its chunk's base plus its place.

use arrow::array::{Array, ArrayRef, DynComparator, RecordBatch, UInt32Array, make_comparator, new_empty_array};
use arrow::compute::{SortOptions, concat_batches, interleave, take};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatchOptions;

use crate::error::Result;

pub struct RowStore {
    schema: SchemaRef,
    chunks: Vec<RecordBatch>,
    /// Number of each chunk's first row; ascending.
    bases: Vec<u32>,
    row_count: u32,
}

impl RowStore {
    pub fn new(schema: SchemaRef) -> RowStore {
        RowStore { schema, chunks: vec![], bases: vec![], row_count: 0 }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn memory_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.get_array_memory_size()).sum()
    }

    /// Returns the number of the first appended row.
    pub fn append(&mut self, batch: RecordBatch) -> Result<u32> {
        let first = self.row_count;
        if batch.num_rows() == 0 {
            return Ok(first);
        }
        self.row_count = first.checked_add(batch.num_rows() as u32).expect("a join side holds less than 2^32 rows");
        self.chunks.push(batch);
        self.bases.push(first);
        while let [.., a, b] = &self.chunks[..] {
            if a.num_rows() > 2 * b.num_rows() || a.num_rows() + b.num_rows() > CHUNK_ROW_COUNT_MAX {
                break;
            }
            let joined = concat_batches(&self.schema, [a, b])?;
            self.chunks.truncate(self.chunks.len() - 2);
            self.chunks.push(joined);
            self.bases.pop();
        }
        Ok(first)
    }

    /// Keeps these rows, which ascend, and numbers them from 0 anew; one chunk after the other, so that little is there twice.
    pub fn keep(&mut self, rows: &[u32]) -> Result<()> {
        let mut rest = rows;
        let (chunks, bases) = (std::mem::take(&mut self.chunks), std::mem::take(&mut self.bases));
        self.row_count = 0;
        for (chunk, base) in chunks.into_iter().zip(bases) {
            let end = u64::from(base) + chunk.num_rows() as u64;
            let (own, others) = rest.split_at(rest.partition_point(|&row| u64::from(row) < end));
            rest = others;
            if own.len() == chunk.num_rows() {
                self.append(chunk)?;
                continue;
            }
            let places = UInt32Array::from_iter_values(own.iter().map(|&row| row - base));
            let columns = chunk.columns().iter().map(|column| take(column, &places, None)).collect::<Result<_, _>>()?;
            drop(chunk);
            let options = RecordBatchOptions::new().with_row_count(Some(own.len()));
            self.append(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)?;
        }
        Ok(())
    }

    fn locate(&self, row: u32) -> (usize, usize) {
        let chunk = self.bases.partition_point(|&base| base <= row) - 1;
        (chunk, (row - self.bases[chunk]) as usize)
    }

    /// The stored batches, in the order of their rows' numbers.
    pub fn chunks(&self) -> &[RecordBatch] {
        &self.chunks
    }

    /// All columns of these rows, in this order.
    pub fn gather(&self, rows: &[u32]) -> Result<Vec<ArrayRef>> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        self.gather_columns(&all, rows)
    }

    /// Some columns of these rows, in this order.
    pub fn gather_columns(&self, columns: &[usize], rows: &[u32]) -> Result<Vec<ArrayRef>> {
        match &self.chunks[..] {
            [] => Ok(columns.iter().map(|&column| new_empty_array(self.schema.field(column).data_type())).collect()),
            [only] => {
                let rows = UInt32Array::from(rows.to_vec());
                columns.iter().map(|&column| Ok(take(only.column(column), &rows, None)?)).collect()
            }
            chunks => {
                let places: Vec<(usize, usize)> = rows.iter().map(|&row| self.locate(row)).collect();
                let gather = |&column: &usize| {
                    let arrays: Vec<&dyn Array> = chunks.iter().map(|chunk| chunk.column(column).as_ref()).collect();
                    Ok(interleave(&arrays, &places)?)
                };
                columns.iter().map(gather).collect()
            }
        }
    }

    /// Compares rows of `batch` with rows in here.
    pub fn matcher<'a>(&'a self, batch: &'a RecordBatch) -> RowMatcher<'a> {
        RowMatcher { store: self, batch, comparators: self.chunks.iter().map(|_| None).collect() }
    }
}

/// Chunks longer than this are not joined any more: copying them again would cost more than a longer list.
const CHUNK_ROW_COUNT_MAX: usize = 1 << 18;

pub struct RowMatcher<'a> {
    store: &'a RowStore,
    batch: &'a RecordBatch,
    /// For each chunk, once it was needed: one comparator for each column.
    comparators: Vec<Option<Vec<DynComparator>>>,
}

impl RowMatcher<'_> {
    /// NULL equals NULL.
    pub fn equal(&mut self, batch_row: usize, stored_row: u32) -> Result<bool> {
        let (chunk, place) = self.store.locate(stored_row);
        let comparators = match &mut self.comparators[chunk] {
            Some(made) => made,
            none => {
                let pairs = self.batch.columns().iter().zip(self.store.chunks[chunk].columns());
                let made = pairs.map(|(l, r)| make_comparator(l, r, SortOptions::default()));
                none.insert(made.collect::<Result<Vec<_>, _>>()?)
            }
        };
        Ok(comparators.iter().all(|compare| compare(batch_row, place).is_eq()))
    }
}
