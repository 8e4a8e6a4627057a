//! Which worker a row belongs to: rows with equal keys meet on one worker.

use arrow::array::UInt32Array;

use crate::error::Result;
use crate::state::arrangement::hash_rows;
use crate::types::Delta;

/// How rows are spread before a fragment: by the hash of these columns; without any, all to the first worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitioning {
    pub columns: Vec<usize>,
}

impl Partitioning {
    /// One delta for each worker; some may be empty.
    pub fn split(&self, delta: Delta, worker_count: usize) -> Result<Vec<Delta>> {
        let empty = delta.slice(0, 0);
        if worker_count == 1 || self.columns.is_empty() {
            let mut parts = vec![empty; worker_count];
            parts[0] = delta;
            return Ok(parts);
        }
        let key: Vec<_> = self.columns.iter().map(|&column| delta.column(column).clone()).collect();
        let hashes = hash_rows(&key, delta.row_count())?;
        let mut rows: Vec<Vec<u32>> = vec![Vec::with_capacity(hashes.len() / worker_count + 1); worker_count];
        for (row, hash) in hashes.iter().enumerate() {
            // The high bits: low ones pick slots in the hash tables behind.
            rows[(((hash >> 32) * worker_count as u64) >> 32) as usize].push(row as u32);
        }
        rows.into_iter().map(|rows| Ok(delta.take(&UInt32Array::from(rows))?)).collect()
    }
}

/// Cuts a delta into at most `worker_count` slices of like size, without copying; for rows that may go anywhere.
/// Small ones stay whole.
pub fn spread(delta: &Delta, worker_count: usize, first_worker: usize) -> Vec<(usize, Delta)> {
    const SPREAD_ROW_COUNT_MIN: usize = 2048;
    let row_count = delta.row_count();
    if row_count == 0 {
        return vec![];
    }
    if worker_count == 1 || row_count < SPREAD_ROW_COUNT_MIN {
        return vec![(first_worker % worker_count, delta.clone())];
    }
    let share = row_count.div_ceil(worker_count);
    (0..worker_count)
        .map(|index| {
            (index, delta.slice((index * share).min(row_count), share.min(row_count.saturating_sub(index * share))))
        })
        .filter(|(_, part)| !part.is_empty())
        .collect()
}
