//! Hashes of rows, the same in every thread and process of one version. They are never written to disk.

use arrow::array::ArrayRef;
use datafusion::common::hash_utils::{RandomState, create_hashes};

use crate::error::Result;

/// One hash for each row over `columns`; zero columns hash alike. NULLs hash alike too.
pub fn hash_rows(columns: &[ArrayRef], row_count: usize) -> Result<Vec<u64>> {
    let mut hashes = vec![0; row_count];
    create_hashes(columns, &RandomState::with_seed(SEED), &mut hashes)?;
    // Partitioning and hash tables both take low bits; foldhash mixes the high ones best.
    for hash in &mut hashes {
        *hash ^= *hash >> 32;
    }
    Ok(hashes)
}

const SEED: u64 = 0x4869_6768_7761_7465;
