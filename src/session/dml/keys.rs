//! Keys of rows as comparable bytes, and the check that a change leaves them unique.

use std::collections::{HashMap, HashSet};

use arrow::array::RecordBatch;
use arrow::row::{OwnedRow, RowConverter, SortField};

use super::Target;
use crate::error::Result;
use crate::state::Snapshot;

/// The values of `columns`, row by row; equal values have equal bytes, NULL equals NULL.
pub fn of_rows(batch: &RecordBatch, columns: &[usize]) -> Result<Vec<OwnedRow>> {
    let arrays: Vec<_> = columns.iter().map(|&column| batch.column(column).clone()).collect();
    let fields = arrays.iter().map(|array| SortField::new(array.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(&arrays)?;
    Ok((0..batch.num_rows()).map(|row| rows.row(row).owned()).collect())
}

/// The rows of `snapshot` that have a key of `batch`, and where each key stands among them.
pub fn existing(
    target: &Target,
    snapshot: &Snapshot,
    batch: &RecordBatch,
) -> Result<(RecordBatch, HashMap<OwnedRow, usize>)> {
    let found = snapshot.lookup(&batch.project(&target.primary_key)?)?;
    let keys = of_rows(&found, &target.primary_key)?;
    Ok((found, keys.into_iter().enumerate().map(|(row, key)| (key, row)).collect()))
}

/// 23505 if a key of `added` occurs twice, or belongs to a row of `snapshot` that is not among `removed`.
pub fn check_unique(target: &Target, snapshot: &Snapshot, removed: &RecordBatch, added: &RecordBatch) -> Result<()> {
    if target.primary_key.is_empty() || added.num_rows() == 0 {
        return Ok(());
    }
    let removed: HashSet<OwnedRow> = of_rows(removed, &target.primary_key)?.into_iter().collect();
    let keys = of_rows(added, &target.primary_key)?;
    let mut seen: HashSet<&OwnedRow> = HashSet::with_capacity(keys.len());
    for (row, key) in keys.iter().enumerate() {
        if !seen.insert(key) {
            return Err(target.duplicate_key(added, row));
        }
    }
    // An update that leaves its keys alone needs no lookup.
    if keys.iter().all(|key| removed.contains(key)) {
        return Ok(());
    }
    let (_, taken) = existing(target, snapshot, added)?;
    match keys.iter().position(|key| taken.contains_key(key) && !removed.contains(key)) {
        Some(row) => Err(target.duplicate_key(added, row)),
        None => Ok(()),
    }
}
