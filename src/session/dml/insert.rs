//! INSERT into a table with a primary key. What happens to a proposed row whose key is taken:
//!
//! | ON CONFLICT | taken in the table | taken earlier in the statement |
//! |---|---|---|
//! | – | 23505 | 23505 |
//! | DO NOTHING | left out | left out |
//! | DO UPDATE | the old row changes | 21000 |

use std::collections::HashSet;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter, filter_record_batch, take_record_batch};
use arrow::datatypes::UInt32Type;
use arrow::row::OwnedRow;

use super::{Effect, Target, keys};
use crate::error::{Error, Result, SqlState};
use crate::sql::bind::{DoUpdate, OnConflict};
use crate::state::Snapshot;
use crate::types::Delta;

/// `proposed`: rows in the table's types, NULLs checked.
pub fn insert(target: &Target, snapshot: &Snapshot, proposed: RecordBatch, on_conflict: &OnConflict) -> Result<Effect> {
    let proposed_keys = keys::of_rows(&proposed, &target.primary_key)?;
    let (old_rows, taken) = keys::existing(target, snapshot, &proposed)?;
    let mut seen: HashSet<&OwnedRow> = HashSet::with_capacity(proposed_keys.len());
    match on_conflict {
        OnConflict::Error => {
            for (row, key) in proposed_keys.iter().enumerate() {
                if taken.contains_key(key) || !seen.insert(key) {
                    return Err(target.duplicate_key(&proposed, row));
                }
            }
            effect(target, None, proposed)
        }
        OnConflict::DoNothing => {
            let fresh = |key| Some(!taken.contains_key(key) && seen.insert(key));
            let mask: BooleanArray = proposed_keys.iter().map(fresh).collect();
            effect(target, None, filter_record_batch(&proposed, &mask)?)
        }
        OnConflict::DoUpdate { assignments } => {
            let (mut fresh, mut conflicts) = (vec![], vec![]);
            for (row, key) in proposed_keys.iter().enumerate() {
                if !seen.insert(key) {
                    return Err(Error::new(
                        SqlState::CARDINALITY_VIOLATION,
                        "ON CONFLICT DO UPDATE command cannot affect row a second time",
                    )
                    .with_hint(
                        "Ensure that no rows proposed for insertion within the same command have duplicate constrained values.",
                    ));
                }
                match taken.get(key) {
                    None => fresh.push(row as u32),
                    Some(&old) => conflicts.push((old as u32, row as u32)),
                }
            }
            let changed = changed(target, assignments, &old_rows, &proposed, &conflicts)?;
            upsert(target, snapshot, &proposed, fresh, changed)
        }
    }
}

/// Rows that DO UPDATE changes: before, after, and which proposed row each belongs to.
struct Changed {
    old: RecordBatch,
    new: RecordBatch,
    proposed: Vec<u32>,
}

/// Evaluates SET and WHERE over old ‖ excluded.
fn changed(
    target: &Target,
    update: &DoUpdate,
    old_rows: &RecordBatch,
    proposed: &RecordBatch,
    conflicts: &[(u32, u32)],
) -> Result<Changed> {
    let olds: UInt32Array = conflicts.iter().map(|(old, _)| *old).collect::<Vec<_>>().into();
    let old = take_record_batch(old_rows, &olds)?;
    let rows: UInt32Array = conflicts.iter().map(|(_, row)| *row).collect::<Vec<_>>().into();
    let excluded = take_record_batch(proposed, &rows)?;
    let both: Vec<ArrayRef> = old.columns().iter().chain(excluded.columns()).cloned().collect();
    let both = RecordBatch::try_new(update.input_schema.clone(), both)?;
    let (both, old, rows) = match &update.condition {
        None => (both, old, rows),
        Some(condition) => {
            let mask = condition.evaluate(&both)?.into_array(both.num_rows())?;
            let mask = mask.as_boolean();
            let rows = filter(&rows, mask)?.as_primitive::<UInt32Type>().clone();
            (filter_record_batch(&both, mask)?, filter_record_batch(&old, mask)?, rows)
        }
    };
    let columns: Vec<ArrayRef> = update
        .new_row
        .iter()
        .map(|expr| Ok(expr.evaluate(&both)?.into_array(both.num_rows())?))
        .collect::<Result<_>>()?;
    let fields: Vec<_> = columns
        .iter()
        .zip(target.schema.fields())
        .map(|(array, field)| field.as_ref().clone().with_data_type(array.data_type().clone()).with_nullable(true))
        .collect();
    let new = RecordBatch::try_new(std::sync::Arc::new(arrow::datatypes::Schema::new(fields)), columns)?;
    let new = target.conform(new)?;
    target.check_not_null(&new)?;
    Ok(Changed { old, new, proposed: rows.values().to_vec() })
}

fn upsert(
    target: &Target,
    snapshot: &Snapshot,
    proposed: &RecordBatch,
    fresh: Vec<u32>,
    changed: Changed,
) -> Result<Effect> {
    let fresh_rows = take_record_batch(proposed, &UInt32Array::from(fresh.clone()))?;
    let both = concat_batches(&proposed.schema(), [&fresh_rows, &changed.new])?;
    // RETURNING tells in the order of the proposed rows.
    let origins: Vec<u32> = fresh.into_iter().chain(changed.proposed).collect();
    let mut order: Vec<u32> = (0..origins.len() as u32).collect();
    order.sort_by_key(|&row| origins[row as usize]);
    let added = take_record_batch(&both, &UInt32Array::from(order))?;
    keys::check_unique(target, snapshot, &changed.old, &added)?;
    effect(target, Some(&changed.old), added)
}

/// `removed` and `added` as one delta.
pub fn effect(target: &Target, removed: Option<&RecordBatch>, added: RecordBatch) -> Result<Effect> {
    let added = target.admit(added)?;
    let inserted = Delta::insert(added.clone());
    let delta = match removed.filter(|rows| rows.num_rows() > 0) {
        None => inserted,
        Some(removed) => {
            let removed = Delta::insert(target.admit(removed.clone())?).negate();
            Delta::concat(&target.schema, &[removed, inserted])?.consolidate()?
        }
    };
    Ok(Effect { delta, row_count: added.num_rows(), rows: added })
}

#[cfg(test)]
mod tests {
    use super::super::target::tests::{rows, table};
    use super::*;
    use crate::state::Arrangement;
    use crate::state::arrangement::Layout;

    fn snapshot(target: &Target, present: &[(Option<i32>, &str)]) -> Result<Snapshot> {
        let mut arrangement = Arrangement::new(Layout::indexed(target.schema.clone(), vec![0]));
        arrangement.append(&Delta::insert(target.admit(rows(target, present))?))?;
        Ok(arrangement.snapshot())
    }

    #[test]
    fn a_taken_key_is_refused_whoever_took_it() -> Result<()> {
        let target = table();
        let snapshot = snapshot(&target, &[(Some(1), "a")])?;
        let insert = |proposed| insert(&target, &snapshot, rows(&target, proposed), &OnConflict::Error);
        let code = |result: Result<Effect>| result.err().map(|e| e.code);
        assert_eq!(code(insert(&[(Some(2), "b"), (Some(1), "b")])), Some(SqlState::UNIQUE_VIOLATION));
        assert_eq!(code(insert(&[(Some(2), "b"), (Some(2), "c")])), Some(SqlState::UNIQUE_VIOLATION));
        assert_eq!(insert(&[(Some(2), "b"), (Some(3), "c")])?.row_count, 2);
        Ok(())
    }

    #[test]
    fn do_nothing_leaves_the_first_of_each_key() -> Result<()> {
        let target = table();
        let snapshot = snapshot(&target, &[(Some(1), "a")])?;
        let proposed = rows(&target, &[(Some(1), "x"), (Some(2), "b"), (Some(2), "c")]);
        let effect = insert(&target, &snapshot, proposed, &OnConflict::DoNothing)?;
        assert_eq!(effect.row_count, 1);
        assert_eq!(effect.rows.column(1).as_string::<i32>().value(0), "b");
        Ok(())
    }
}
