//! Which worker a row belongs to: rows with equal keys meet on one worker.

use arrow::array::UInt32Array;

use super::floats::canonical;
use crate::error::Result;
use crate::state::arrangement::hash_rows;
use crate::types::Delta;

/// How rows are spread before a fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partitioning {
    /// By the hash of these columns; without any, all to the first worker.
    Hash(Vec<usize>),
    /// Every row to every worker: the small side of a join without equalities.
    Broadcast,
    /// Rows stay where they are.
    Local,
}

impl Partitioning {
    /// One delta for each worker; some may be empty. `worker` is where the rows are now.
    pub fn split(&self, delta: Delta, worker: usize, worker_count: usize) -> Result<Vec<Delta>> {
        let all_to = |worker: usize, delta: Delta| {
            let mut parts = vec![delta.slice(0, 0); worker_count];
            parts[worker] = delta;
            Ok(parts)
        };
        let columns = match self {
            Partitioning::Broadcast => return Ok(vec![delta; worker_count]),
            Partitioning::Local => return all_to(worker, delta),
            Partitioning::Hash(columns) => columns,
        };
        if worker_count == 1 || columns.is_empty() {
            return all_to(0, delta);
        }
        let key: Vec<_> = columns.iter().map(|&column| canonical(delta.column(column))).collect();
        let hashes = hash_rows(&key, delta.row_count())?;
        let mut rows: Vec<Vec<u32>> = vec![Vec::with_capacity(hashes.len() / worker_count + 1); worker_count];
        for (row, hash) in hashes.iter().enumerate() {
            rows[worker_of(*hash, worker_count)].push(row as u32);
        }
        rows.into_iter().map(|rows| Ok(delta.take(&UInt32Array::from(rows))?)).collect()
    }
}

/// The worker of rows whose key has this hash.
pub fn worker_of(key_hash: u64, worker_count: usize) -> usize {
    // The high bits: low ones pick slots in the hash tables behind.
    (((key_hash >> 32) * worker_count as u64) >> 32) as usize
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
