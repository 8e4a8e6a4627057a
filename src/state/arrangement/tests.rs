//! Arrangements against what a plain list of signed rows says.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::*;
use crate::state::Memory;
use crate::state::store::MemoryStore;

fn layout(key: Vec<usize>) -> Layout {
    let fields = vec![Field::new("k", DataType::Int64, true), Field::new("v", DataType::Int64, true)];
    Layout::indexed(Arc::new(Schema::new(fields)), key)
}

fn delta(layout: &Layout, rows: &[(i64, i64, i64)]) -> Delta {
    let k = Int64Array::from_iter_values(rows.iter().map(|r| r.1));
    let v = Int64Array::from_iter_values(rows.iter().map(|r| r.2));
    let batch = RecordBatch::try_new(layout.schema.clone(), vec![Arc::new(k), Arc::new(v)]).expect("two columns");
    Delta::new(batch, rows.iter().map(|r| r.0).collect::<Vec<_>>())
}

fn sorted(batches: &[RecordBatch]) -> Vec<(i64, i64)> {
    let mut rows = vec![];
    for batch in batches {
        let (k, v) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Int64Type>());
        rows.extend(k.values().iter().copied().zip(v.values().iter().copied()));
    }
    rows.sort_unstable();
    rows
}

/// Random inserts and retractions against a plain multiset, read at every step.
#[test]
fn rows_equal_the_multiset_at_every_step() -> Result<()> {
    for key in [vec![0], vec![]] {
        let layout = layout(key);
        let mut arrangement = Arrangement::new(layout.clone());
        let mut model: Vec<(i64, i64)> = vec![];
        let mut seed = 7u64;
        let mut random = move |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for _ in 0..200 {
            let mut rows = vec![];
            for _ in 0..random(40) {
                if model.is_empty() || random(3) > 0 {
                    let row = (random(20) as i64, random(5) as i64);
                    model.push(row);
                    rows.push((1, row.0, row.1));
                } else {
                    let row = model.swap_remove(random(model.len() as u64) as usize);
                    rows.push((-1, row.0, row.1));
                }
            }
            arrangement.append(&delta(&layout, &rows))?;
            model.sort_unstable();
            let snapshot = arrangement.snapshot();
            assert_eq!(sorted(&snapshot.rows()?), model);
            let wanted = random(20) as i64;
            if snapshot.key() == Some(&[0]) {
                let keys = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(vec![wanted])) as _)])?;
                let expected: Vec<_> = model.iter().copied().filter(|row| row.0 == wanted).collect();
                assert_eq!(sorted(&[snapshot.lookup(&keys)?]), expected);
            }
        }
        assert!(arrangement.runs.len() < 12, "merging keeps the runs few");
    }
    Ok(())
}

/// In files for as long as memory is short, which it always is.
fn spilling(layout: Layout) -> Layout {
    let memory = Arc::new(Memory::new(Some(1)));
    layout.spilling_to(Some(Arc::new(Scratch::new(Arc::new(MemoryStore::default()), memory))))
}

/// Runs in files, of several chunks: what is read is what was written, and memory holds little of it.
#[test]
fn rows_in_files_are_as_good_as_those_in_memory() -> Result<()> {
    for (is_log, key) in [(false, vec![0]), (false, vec![]), (true, vec![])] {
        let layout = spilling(if is_log { Layout::log(layout(key).schema) } else { layout(key) });
        let mut arrangement = Arrangement::new(layout.clone());
        arrangement.set_indexes(vec![vec![1]]);
        let mut model = std::collections::BTreeSet::new();
        for round in 0..20i64 {
            let mut rows: Vec<_> = (0..30_000).map(|i| (1, i * 40 + round, i % 1000)).collect();
            model.extend(rows.iter().map(|row| (row.1, row.2)));
            if !is_log {
                let gone: Vec<_> = model.iter().copied().step_by(97).take(2000).collect();
                rows.extend(gone.iter().map(|(k, v)| (-1, *k, *v)));
                gone.iter().for_each(|row| _ = model.remove(row));
            }
            arrangement.append(&delta(&layout, &rows))?;
        }
        // Merges under way come to their end.
        while let Some(merge) = arrangement.merging.take() {
            arrangement.runs.splice(merge.start..merge.start + merge.count, [Arc::new(merge.wait()?)]);
            arrangement.maintain()?;
        }
        let snapshot = Arc::new(arrangement.snapshot());
        let longest = snapshot.runs().iter().map(|run| run.chunks().len()).max();
        assert!(snapshot.is_mapped() && longest > Some(1), "{longest:?} chunks");
        let stored = arrangement.stored_bytes();
        assert!(arrangement.memory_bytes() < stored / 4, "{} of {stored}", arrangement.memory_bytes());

        let expected: Vec<_> = model.iter().copied().collect();
        assert_eq!(sorted(&snapshot.rows()?), expected);
        let pieces = Scan::new(snapshot.clone(), None).collect::<Result<Vec<_>>>()?;
        assert!(pieces.len() > 1);
        assert_eq!(sorted(&pieces), expected);
        let mut values: Vec<i64> = vec![];
        for piece in Scan::new(snapshot.clone(), Some(vec![1])) {
            values.extend(piece?.column(0).as_primitive::<Int64Type>().values());
        }
        assert_eq!(
            (values.len(), values.iter().sum::<i64>()),
            (expected.len(), expected.iter().map(|row| row.1).sum())
        );

        let keys = encode_keys(&[Arc::new(Int64Array::from(vec![7])) as _])?;
        let interval = Interval { low: keys[0].clone(), high: keys[0].clone() };
        let found = snapshot.range(&[1], &[interval])?.expect("few rows are looked up");
        assert_eq!(sorted(&[found]), expected.iter().copied().filter(|row| row.1 == 7).collect::<Vec<_>>());
        if snapshot.key() == Some(&[0]) {
            let wanted = [5, 40_001, 999_001, 7_000_000];
            let keys = RecordBatch::try_from_iter([("k", Arc::new(Int64Array::from(wanted.to_vec())) as _)])?;
            let expected: Vec<_> = expected.iter().copied().filter(|row| wanted.contains(&row.0)).collect();
            assert_eq!(sorted(&[snapshot.lookup(&keys)?]), expected);
        }
    }
    Ok(())
}

/// A file has every type that a relation can have.
#[test]
fn all_types_survive_a_file() -> Result<()> {
    use arrow::datatypes::{Float64Type, Int32Type};
    let strings = arrow::array::StringArray::from_iter((0..5000).map(|i| (i % 3 > 0).then(|| "x".repeat(i % 40))));
    let lists = arrow::array::ListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..5000).map(|i| (i % 5 > 0).then(|| (0..i % 4).map(Some).collect::<Vec<_>>())),
    );
    let floats =
        arrow::array::PrimitiveArray::<Float64Type>::from_iter((0..5000).map(|i| (i % 7 > 0).then(|| f64::from(i))));
    let decimals =
        arrow::array::Decimal128Array::from_iter((0..5000).map(|i| (i % 2 > 0).then_some(1i128 << (i % 90))));
    let flags = arrow::array::BooleanArray::from_iter((0..5000).map(|i| (i % 11 > 0).then_some(i % 2 == 0)));
    let bytes = arrow::array::BinaryArray::from_iter((0..5000).map(|i| (i % 3 > 0).then(|| vec![i as u8; i % 9])));
    let columns: Vec<(&str, arrow::array::ArrayRef)> = vec![
        ("strings", Arc::new(strings)),
        ("lists", Arc::new(lists)),
        ("floats", Arc::new(floats)),
        ("decimals", Arc::new(decimals)),
        ("flags", Arc::new(flags)),
        ("bytes", Arc::new(bytes)),
    ];
    let rows = RecordBatch::try_from_iter(columns)?;
    let layout = spilling(Layout::log(rows.schema()));
    let runs =
        [Run::build(&layout, &Delta::insert(rows.clone()))?, Run::build(&layout, &Delta::insert(rows.slice(9, 4000)))?];
    let merged = Run::merge(&layout, &runs.map(Arc::new))?;
    assert!(merged.chunks()[0].is_mapped());
    assert_eq!(merged.chunks()[0].rows()?.batch.slice(0, 5000), rows);
    Ok(())
}

/// Ranges over a secondary index against a plain filter, with rows that come and go, and equal rows.
#[test]
fn an_index_finds_what_a_scan_finds() -> Result<()> {
    for layout in [layout(vec![0]), layout(vec![])] {
        let mut arrangement = Arrangement::new(layout.clone());
        arrangement.set_indexes(vec![vec![1]]);
        let mut model: Vec<(i64, i64)> = vec![];
        let mut seed = 11u64;
        let mut random = move |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for _ in 0..100 {
            let mut rows = vec![];
            for _ in 0..random(60) {
                if model.is_empty() || random(3) > 0 {
                    let row = (random(10) as i64, random(50) as i64 - 25);
                    model.push(row);
                    rows.push((1, row.0, row.1));
                } else {
                    let row = model.swap_remove(random(model.len() as u64) as usize);
                    rows.push((-1, row.0, row.1));
                }
            }
            arrangement.append(&delta(&layout, &rows))?;
            let (low, high) = (random(50) as i64 - 25, random(50) as i64 - 25);
            let keys = encode_keys(&[Arc::new(Int64Array::from(vec![low, high])) as _])?;
            let interval = Interval { low: keys[0].clone(), high: keys[1].clone() };
            let mut expected: Vec<_> = model.iter().copied().filter(|row| low <= row.1 && row.1 <= high).collect();
            expected.sort_unstable();
            let found = arrangement.snapshot().range(&[1], &[interval.clone(), interval])?;
            assert_eq!(sorted(&[found.expect("few rows are always looked up")]), expected);
            let open = Interval { low: keys[0].clone(), high: vec![] };
            let mut expected: Vec<_> = model.iter().copied().filter(|row| low <= row.1).collect();
            expected.sort_unstable();
            let found = arrangement.snapshot().range(&[1], &[open])?;
            assert_eq!(sorted(&[found.expect("few rows are always looked up")]), expected);
        }
    }
    Ok(())
}

/// Leading columns alone find the rows of all keys that begin with them.
#[test]
fn leading_columns_of_an_index_are_enough() -> Result<()> {
    let layout = layout(vec![]);
    let mut arrangement = Arrangement::new(layout.clone());
    arrangement.append(&delta(&layout, &[(1, 1, 10), (1, 2, 20), (2, 2, 21), (1, 3, 30)]))?;
    let keys = encode_keys(&[Arc::new(Int64Array::from(vec![2])) as _])?;
    let interval = Interval { low: keys[0].clone(), high: keys[0].clone() };
    let found = arrangement.snapshot().range(&[0, 1], &[interval])?;
    assert_eq!(sorted(&[found.expect("few rows are always looked up")]), [(2, 20), (2, 21), (2, 21)]);
    Ok(())
}

/// A snapshot does not see what comes after it, merges included.
#[test]
fn a_snapshot_stands_still() -> Result<()> {
    let layout = layout(vec![0]);
    let mut arrangement = Arrangement::new(layout.clone());
    arrangement.append(&delta(&layout, &[(1, 1, 10), (1, 2, 20)]))?;
    let before = arrangement.snapshot();
    arrangement.append(&delta(&layout, &[(-1, 1, 10), (1, 1, 11)]))?;
    assert_eq!(sorted(&before.rows()?), vec![(1, 10), (2, 20)]);
    assert_eq!(sorted(&arrangement.snapshot().rows()?), vec![(1, 11), (2, 20)]);
    arrangement.reset(&before);
    assert_eq!(sorted(&arrangement.snapshot().rows()?), vec![(1, 10), (2, 20)]);
    Ok(())
}

/// Big runs are merged on the merger's thread; nothing is lost meanwhile.
#[test]
fn big_merges_happen_aside() -> Result<()> {
    let layout = layout(vec![]);
    let mut arrangement = Arrangement::new(layout.clone());
    let mut expected = vec![];
    for round in 0..12i64 {
        let rows: Vec<_> = (0..10_000).map(|i| (1, round * 10_000 + i, i)).collect();
        expected.extend(rows.iter().map(|r| (r.1, r.2)));
        arrangement.append(&delta(&layout, &rows))?;
        assert_eq!(arrangement.snapshot().row_count_max(), expected.len());
    }
    assert_eq!(sorted(&arrangement.snapshot().rows()?), expected);
    Ok(())
}
