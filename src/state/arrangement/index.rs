//! A secondary index: the rows of each run in the order of some columns, so that equal values and ranges are found by
//! bisection.
//!
//! ```text
//! run (immutable) ──first lookup, or the merge that made it──▶ RunIndex: encoded keys, order of rows
//! snapshot.range(columns, intervals) = Σ over runs of the rows between two keys, added up by weight
//! ```
//! Runs never change, so neither do their indexes: a run is indexed once, off the writers' way, and every snapshot that
//! holds the run shares it. Keys are encoded by arrow-row, whose bytes sort as the values do and whose columns follow
//! each other, so the encoding of some leading columns is a prefix of the whole key's. It lives in memory only.

use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows, SortField};
use parking_lot::Mutex;

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

/// The indexes of one run, each made when it is first asked for.
#[derive(Default, Debug)]
pub(super) struct RunIndexes(Mutex<Vec<(Vec<usize>, Arc<Cell>)>>);

/// Empty until it is made.
type Cell = OnceLock<RunIndex>;

impl RunIndexes {
    pub fn get(&self, batch: &RecordBatch, columns: &[usize]) -> Result<Arc<Cell>> {
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
            let built = RunIndex::build(batch, columns)?;
            let _ = cell.set(built);
        }
        Ok(cell)
    }

    /// Keeps only the indexes over these columns.
    pub fn retain(&self, wanted: &[Vec<usize>]) {
        self.0.lock().retain(|(columns, _)| wanted.contains(columns));
    }

    pub fn memory_bytes(&self) -> usize {
        self.0.lock().iter().filter_map(|(_, cell)| cell.get()).map(RunIndex::memory_bytes).sum()
    }
}

#[derive(Debug)]
pub(super) struct RunIndex {
    keys: Rows,
    /// Row numbers in the order of their keys.
    order: Vec<u32>,
}

impl RunIndex {
    fn build(batch: &RecordBatch, columns: &[usize]) -> Result<RunIndex> {
        let columns: Vec<ArrayRef> = columns.iter().map(|&column| batch.column(column).clone()).collect();
        let keys = convert(&columns)?;
        let mut order: Vec<u32> = (0..batch.num_rows() as u32).collect();
        order.sort_unstable_by(|&a, &b| keys.row(a as usize).cmp(&keys.row(b as usize)));
        Ok(RunIndex { keys, order })
    }

    fn key(&self, row: u32) -> &[u8] {
        self.keys.row(row as usize).data()
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

    fn memory_bytes(&self) -> usize {
        self.keys.size() + self.order.len() * 4
    }
}
