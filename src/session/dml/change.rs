//! UPDATE and DELETE: the query tells the old rows (and the new ones beside them).
//!
//! A join may tell an old row more than once; it is changed once, by the first, as Postgres does. Without a primary key
//! equal rows are told apart by their number: of m mentions of a row that the table has k times, the first k count.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::Schema;
use arrow::row::OwnedRow;

use super::insert::effect;
use super::{Effect, Target, keys};
use crate::error::{Error, Result};
use crate::state::Snapshot;
use crate::types::Delta;

/// `batches`: the old row's columns, then the new row's.
pub fn update(target: &Target, snapshot: &Snapshot, batches: &[RecordBatch]) -> Result<Effect> {
    let width = target.columns.len();
    let (mut old, mut new) = (vec![], vec![]);
    for batch in batches {
        if batch.num_columns() != 2 * width {
            return Err(Error::internal("an UPDATE does not tell its old and new rows"));
        }
        old.push(columns(batch, 0..width)?);
        new.push(columns(batch, width..2 * width)?);
    }
    let (old, new) = (target.concat(&old)?, target.concat(&new)?);
    let once = once(target, snapshot, &old)?;
    let (old, new) = (take_record_batch(&old, &once)?, take_record_batch(&new, &once)?);
    target.check_not_null(&new)?;
    keys::check_unique(target, snapshot, &old, &new)?;
    effect(target, Some(&old), new)
}

/// `batches`: the old row's columns.
pub fn delete(target: &Target, snapshot: &Snapshot, batches: &[RecordBatch]) -> Result<Effect> {
    let old = target.concat(batches)?;
    let old = target.admit(take_record_batch(&old, &once(target, snapshot, &old)?)?)?;
    Ok(Effect { delta: Delta::insert(old.clone()).negate(), row_count: old.num_rows(), rows: old })
}

fn columns(batch: &RecordBatch, range: std::ops::Range<usize>) -> Result<RecordBatch> {
    // By hand, since the old and the new column of one name are fine here.
    let fields: Vec<_> = range.clone().map(|index| batch.schema_ref().fields()[index].clone()).collect();
    let arrays = range.map(|index| batch.column(index).clone()).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}

/// Which of the mentioned rows to change.
fn once(target: &Target, snapshot: &Snapshot, mentioned: &RecordBatch) -> Result<UInt32Array> {
    let all: Vec<usize> = (0..target.columns.len()).collect();
    let identity = if target.primary_key.is_empty() { &all } else { &target.primary_key };
    let mentions = keys::of_rows(mentioned, identity)?;
    let mut counts: HashMap<&OwnedRow, usize> = HashMap::with_capacity(mentions.len());
    for mention in &mentions {
        *counts.entry(mention).or_default() += 1;
    }
    let mut left: HashMap<OwnedRow, usize> = HashMap::new();
    let repeated: Vec<u32> =
        (0..mentions.len()).filter(|&row| counts[&mentions[row]] > 1).map(|row| row as u32).collect();
    if target.primary_key.is_empty() && !repeated.is_empty() {
        let found = snapshot.lookup(&take_record_batch(mentioned, &UInt32Array::from(repeated))?)?;
        for row in keys::of_rows(&found, &all)? {
            *left.entry(row).or_default() += 1;
        }
    }
    let keep = |row: &usize| {
        let mention = &mentions[*row];
        let left = left.entry(mention.clone()).or_insert(1);
        *left > 0 && {
            *left -= 1;
            true
        }
    };
    Ok((0..mentions.len()).filter(keep).map(|row| row as u32).collect::<Vec<_>>().into())
}

#[cfg(test)]
mod tests {
    use super::super::target::tests::{rows, table};
    use super::*;
    use crate::error::SqlState;
    use crate::state::Arrangement;
    use crate::state::arrangement::Layout;

    fn snapshot(target: &Target, present: &[(Option<i32>, &str)]) -> Result<Snapshot> {
        let mut arrangement = Arrangement::new(Layout::indexed(target.schema.clone(), target.primary_key.clone()));
        arrangement.append(&Delta::insert(target.admit(rows(target, present))?))?;
        Ok(arrangement.snapshot())
    }

    fn side_by_side(old: &RecordBatch, new: &RecordBatch) -> Result<RecordBatch> {
        let fields: Vec<_> = old.schema().fields().iter().chain(new.schema().fields()).cloned().collect();
        let arrays = old.columns().iter().chain(new.columns()).cloned().collect();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
    }

    #[test]
    fn keys_may_change_places_but_not_collide() -> Result<()> {
        let target = table();
        let present = [(Some(1), "a"), (Some(2), "b"), (Some(3), "c")];
        let snapshot = snapshot(&target, &present)?;
        let old = rows(&target, &present[..2]);
        let swapped = side_by_side(&old, &rows(&target, &[(Some(2), "a"), (Some(1), "b")]))?;
        assert_eq!(update(&target, &snapshot, &[swapped])?.row_count, 2);
        let collision = side_by_side(&old, &rows(&target, &[(Some(3), "a"), (Some(1), "b")]))?;
        let error = update(&target, &snapshot, &[collision]).err().map(|e| e.code);
        assert_eq!(error, Some(SqlState::UNIQUE_VIOLATION));
        Ok(())
    }

    #[test]
    fn a_row_told_twice_is_changed_once() -> Result<()> {
        let mut target = table();
        let twice = [(Some(1), "a"), (Some(1), "a")];
        let snapshot_with_key = snapshot(&target, &twice[..1])?;
        assert_eq!(delete(&target, &snapshot_with_key, &[rows(&target, &twice)])?.row_count, 1);
        target.primary_key.clear();
        let snapshot_of_two = snapshot(&target, &twice)?;
        let mentioned = rows(&target, &[twice[0], twice[0], twice[0], twice[0]]);
        assert_eq!(delete(&target, &snapshot_of_two, &[mentioned])?.row_count, 2);
        Ok(())
    }

    #[test]
    fn an_update_that_changes_nothing_counts_and_writes_nothing() -> Result<()> {
        let target = table();
        let snapshot = snapshot(&target, &[(Some(1), "a")])?;
        let row = rows(&target, &[(Some(1), "a")]);
        let effect = update(&target, &snapshot, &[side_by_side(&row, &row)?])?;
        assert!(effect.row_count == 1 && effect.delta.is_empty());
        Ok(())
    }
}
