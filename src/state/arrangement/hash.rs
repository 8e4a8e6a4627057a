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

/// Which of some rows, in the order of their hashes, have one of the wanted hashes, which ascend.
pub fn rows_with_hashes(hashes: &[u64], wanted: &[u64]) -> Vec<u32> {
    let mut rows = vec![];
    let mut at = 0;
    for &hash in wanted {
        // In strides that double: near ones are found at once, far ones by bisection.
        let mut stride = 1;
        while at + stride < hashes.len() && hashes[at + stride] < hash {
            stride *= 2;
        }
        let end = (at + stride).min(hashes.len());
        at += hashes[at..end].partition_point(|&own| own < hash);
        let equal = hashes[at..].iter().take_while(|&&own| own == hash).count();
        rows.extend(at as u32..(at + equal) as u32);
        at += equal;
    }
    rows
}

const SEED: u64 = 0x4869_6768_7761_7465;
