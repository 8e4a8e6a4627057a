//! Histories against a list of what the relation was at every epoch.

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::*;
use crate::state::{Arrangement, Layout};

const EVERYTHING: usize = usize::MAX;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("v", DataType::Int64, true)]))
}

fn delta(rows: &[(i64, i64, i64)]) -> Delta {
    let column = |pick: fn(&(i64, i64, i64)) -> i64| Arc::new(Int64Array::from_iter_values(rows.iter().map(pick)));
    let batch = RecordBatch::try_new(schema(), vec![column(|r| r.1), column(|r| r.2)]).expect("two columns");
    Delta::new(batch, rows.iter().map(|r| r.0).collect::<Vec<_>>())
}

fn moment(epoch: u64) -> Moment {
    Moment { epoch: Epoch(epoch), at_us: 1000 * epoch as i64 }
}

fn sorted(snapshot: &Snapshot) -> Result<Vec<(i64, i64)>> {
    let mut rows = vec![];
    for batch in snapshot.rows()?.iter() {
        let (k, v) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
        rows.extend(k.values().iter().copied().zip(v.values().iter().copied()));
    }
    rows.sort_unstable();
    Ok(rows)
}

/// Random changes; after each, every epoch that is in reach is read, and looked up by key.
#[test]
fn every_epoch_in_reach_is_what_it_was() -> Result<()> {
    for (layout, keeps) in [(Layout::indexed(schema(), vec![0]), false), (Layout::log(schema()), true)] {
        let mut arrangement = Arrangement::new(layout);
        let history = History::new(schema(), moment(0));
        let mut past: Vec<Vec<(i64, i64)>> = vec![vec![]];
        let mut seed = 5u64;
        let mut random = move |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for epoch in 1..150u64 {
            let mut now = past[past.len() - 1].clone();
            let mut rows = vec![];
            for _ in 0..random(12) {
                if keeps || now.is_empty() || random(3) > 0 {
                    let row = (random(10) as i64, random(3) as i64);
                    now.push(row);
                    rows.push((1, row.0, row.1));
                } else {
                    let row = now.swap_remove(random(now.len() as u64) as usize);
                    rows.push((-1, row.0, row.1));
                }
            }
            now.sort_unstable();
            past.push(now);
            arrangement.append(&delta(&rows))?;
            history.append(moment(epoch), &[delta(&rows)])?;
            let since = epoch.saturating_sub(40);
            history.trim(moment(since), 0);
            let snapshot = Arc::new(arrangement.snapshot());
            for then in since..=epoch {
                let found = history.as_of(&snapshot, Epoch(epoch), Epoch(then))?.expect("it is in reach");
                assert_eq!(sorted(&found)?, past[then as usize], "epoch {then} at {epoch}");
                if let Some([0]) = found.key() {
                    let keys = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(vec![3])) as _)])?;
                    let expected = past[then as usize].iter().filter(|row| row.0 == 3).count();
                    assert_eq!(found.lookup(&keys)?.num_rows(), expected);
                }
            }
            if since > 0 {
                assert!(history.as_of(&snapshot, Epoch(epoch), Epoch(since - 1))?.is_none());
            }
        }
    }
    Ok(())
}

/// A world that is older than the log does not see what came after it.
#[test]
fn what_is_newer_than_the_world_is_left_alone() -> Result<()> {
    let mut arrangement = Arrangement::new(Layout::indexed(schema(), vec![0]));
    let history = History::new(schema(), moment(0));
    arrangement.append(&delta(&[(1, 1, 1)]))?;
    history.append(moment(1), &[delta(&[(1, 1, 1)])])?;
    let old = Arc::new(arrangement.snapshot());
    history.append(moment(2), &[delta(&[(-1, 1, 1)])])?;
    let then = history.as_of(&old, Epoch(1), Epoch(0))?.expect("it is in reach");
    assert_eq!(sorted(&then)?, []);
    let now = history.as_of(&old, Epoch(1), Epoch(1))?.expect("it is in reach");
    assert_eq!(sorted(&now)?, [(1, 1)]);
    Ok(())
}

/// A hold keeps what comes after it, and no more; one that is too far behind is gone, and the others are not.
#[test]
fn holds_are_kept_within_bounds() -> Result<()> {
    let history = Arc::new(History::new(schema(), moment(0)));
    let (slow, quick) = (history.hold(Epoch(0)).expect("nothing is gone"), history.hold(Epoch(0)).expect("as well"));
    for epoch in 1..=400 {
        history.append(moment(epoch), &[delta(&[(1, epoch as i64, 0)])])?;
        quick.advance(Epoch(epoch));
        history.trim(moment(epoch), EVERYTHING);
    }
    let taken = slow.changes(Epoch(300)).expect("it is held");
    let epochs: Vec<u64> = taken.iter().flat_map(Changes::epochs).map(|(at, _)| at.epoch.0).collect();
    assert_eq!(epochs, (1..=300).collect::<Vec<_>>());
    slow.advance(Epoch(300));
    let taken = slow.changes(Epoch(400)).expect("it is held");
    assert_eq!(taken.iter().map(|changes| changes.epochs().count()).sum::<usize>(), 100);
    let before = history.size().bytes;
    history.trim(moment(400), before / 64);
    assert!(slow.changes(Epoch(400)).is_none(), "too far behind");
    assert!(quick.changes(Epoch(400)).is_some_and(|changes| changes.is_empty()));
    assert!(history.size().bytes < before);
    assert!(history.hold(Epoch(10)).is_none(), "what is gone cannot be held");
    drop((slow, quick));
    assert!(!history.has_holds());
    Ok(())
}

#[test]
fn instants_find_their_epochs() {
    let timeline = Timeline::default();
    for epoch in [10, 11, 20] {
        timeline.push(moment(epoch));
    }
    assert_eq!(timeline.at(9_999), None);
    assert_eq!(timeline.at(11_500).map(|m| m.epoch), Some(Epoch(11)));
    assert_eq!(timeline.of(Epoch(15)).map(|m| m.at_us), Some(11_000));
    timeline.trim(11_500);
    assert_eq!(timeline.first().map(|m| m.epoch), Some(Epoch(11)));
    assert_eq!(timeline.at(10_500), None);
    timeline.trim(90_000);
    assert_eq!(timeline.at(90_000).map(|m| m.epoch), Some(Epoch(20)));
}
