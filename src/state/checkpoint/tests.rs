//! Ordered runs against a model: whatever is merged when, single keys are found as they were last written, and all of them
//! are what is read as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::state::Store;
use crate::state::store::MemoryStore;

type Rows = BTreeMap<(Option<i64>, String), i64>;

fn schema() -> SchemaRef {
    let text = Field::new("v", DataType::Utf8, true);
    Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true), text]))
}

fn part(kind: PartKind, time_column: Option<usize>, key: &[usize]) -> Part {
    Part { schema: schema(), kind, time_column, spread: Spread::Anywhere, key: key.to_vec() }
}

fn delta(rows: &[(Option<i64>, String, i64)]) -> Result<Delta> {
    let keys: Int64Array = rows.iter().map(|(key, ..)| *key).collect();
    let values: StringArray = rows.iter().map(|(_, value, _)| Some(value.as_str())).collect();
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(values)])?;
    Ok(Delta::new(batch, rows.iter().map(|(.., weight)| *weight).collect::<Vec<_>>()))
}

fn rows<'a>(deltas: impl IntoIterator<Item = &'a Delta>) -> Rows {
    let mut rows = Rows::new();
    for delta in deltas {
        let (keys, values) = (delta.column(0).as_primitive::<Int64Type>(), delta.column(1).as_string::<i32>());
        for (row, key) in keys.iter().enumerate() {
            *rows.entry((key, values.value(row).to_string())).or_insert(0) += delta.weight(row);
        }
    }
    rows.retain(|_, weight| *weight != 0);
    rows
}

fn hashes(keys: &BTreeSet<Option<i64>>) -> Result<Vec<u64>> {
    let column: ArrayRef = Arc::new(keys.iter().copied().collect::<Int64Array>());
    let mut hashes = key_hashes(&[column], keys.len())?;
    hashes.sort_unstable();
    hashes.dedup();
    Ok(hashes)
}

/// Changes of some keys, as the model takes them in.
fn change(kind: PartKind, random: &mut StdRng, expected: &mut Rows, key_count: i64) -> Vec<(Option<i64>, String, i64)> {
    let mut changes = vec![];
    for _ in 0..random.random_range(0..key_count / 2) {
        // One key has far more rows than a block.
        let key = if random.random_bool(0.2) { 7 } else { random.random_range(0..key_count) };
        let key = (key > 0).then_some(key);
        let value =
            format!("{}{}", "a long text, so that few rows fill a block. ".repeat(12), random.random_range(0..3));
        let weight = if random.random_bool(0.4) { -1 } else { 1 };
        match kind {
            PartKind::Sum | PartKind::Arranged => *expected.entry((key, value.clone())).or_insert(0) += weight,
            PartKind::Latest { .. } => {
                expected.retain(|(other, _), _| *other != key);
                if weight > 0 {
                    expected.insert((key, value.clone()), 1);
                }
            }
        }
        expected.retain(|_, weight| *weight != 0);
        changes.push((key, value, weight));
    }
    changes
}

#[test]
fn keys_are_found_as_they_were_last_written() -> Result<()> {
    for (seed, kind) in [(1, PartKind::Sum), (2, PartKind::Latest { key_width: 1 }), (3, PartKind::Sum)] {
        let mut random = StdRng::seed_from_u64(seed);
        let store = Arc::new(MemoryStore::default());
        // What the first few checkpoints write is in no order: they did not know a key.
        let unordered_count = if seed == 3 { 5 } else { 0 };
        let is_ordered_from_the_start = unordered_count == 0;
        let first_part = if is_ordered_from_the_start { part(kind, None, &[0]) } else { part(kind, None, &[]) };
        let mut collection = Collection::new(Place { worker: 0, operator: 0, part: 0 }, &first_part);
        let saved = SavedKeys::new(store.clone());
        let mut expected = Rows::new();
        let mut was_ordered = false;
        for round in 0..120 {
            if round == unordered_count {
                collection.order_as(&part(kind, None, &[0]));
            }
            let changes = change(kind, &mut random, &mut expected, 200);
            let mut writer = store.create_segment(round)?;
            collection.append(&[delta(&changes)?], writer.as_mut())?;
            writer.finish()?;
            if let Some(range) = collection.due(0) {
                let mut writer = store.create_segment(1000 + round)?;
                // Now and then as it is done beside the stream: on a copy, while changes are added.
                if random.random_bool(0.5) {
                    let merged = collection.merged(range.clone(), store.as_ref(), writer.as_mut())?;
                    let old = collection.runs()[range].to_vec();
                    let mut next = store.create_segment(2000 + round)?;
                    let changes = change(kind, &mut random, &mut expected, 200);
                    collection.append(&[delta(&changes)?], next.as_mut())?;
                    next.finish()?;
                    assert!(collection.replace(&old, merged));
                } else {
                    collection.merge(range, store.as_ref(), writer.as_mut())?;
                }
                writer.finish()?;
            }
            assert_eq!(rows(&collection.read(store.as_ref())?), expected, "{kind:?} after {round}");
            saved.publish(&collection);
            if !saved.is_ordered() {
                assert!(!was_ordered && !is_ordered_from_the_start, "what is in order stays so");
                continue;
            }
            was_ordered = true;
            for count in [1, 5, 150] {
                let wanted: BTreeSet<Option<i64>> =
                    (0..count).map(|_| Some(random.random_range(0..250)).filter(|key| *key > 0)).collect();
                let found = saved.fetch(&hashes(&wanted)?)?;
                let mut model = expected.clone();
                model.retain(|(key, _), _| wanted.contains(key));
                assert_eq!(rows(&found), model, "{kind:?} after {round}");
            }
        }
        assert!(was_ordered && collection.runs().len() < 24, "{} runs", collection.runs().len());
        // Far more than one block, and all of it in order.
        let copied: BTreeSet<u64> = store.segments()?.into_iter().map(|(number, _)| number).collect();
        let mut writer = store.create_segment(9999)?;
        collection.move_out(&copied, store.as_ref(), writer.as_mut())?;
        writer.finish()?;
        copied.into_iter().try_for_each(|segment| store.remove_segment(segment))?;
        saved.publish(&collection);
        let all: BTreeSet<Option<i64>> = (0..200).map(|key| Some(key).filter(|key| *key > 0)).collect();
        assert_eq!(rows(&saved.fetch(&hashes(&all)?)?), expected);
    }
    Ok(())
}

#[test]
fn keys_whose_time_is_over_are_not_found() -> Result<()> {
    let store = Arc::new(MemoryStore::default());
    let mut collection =
        Collection::new(Place { worker: 0, operator: 0, part: 0 }, &part(PartKind::Sum, Some(0), &[0]));
    let mut writer = store.create_segment(0)?;
    let changes: Vec<_> = (1..=100).map(|time| (Some(time), "x".to_string(), 1)).collect();
    collection.append(&[delta(&changes)?], writer.as_mut())?;
    writer.finish()?;
    collection.close_below(Some(50_000));
    let saved = SavedKeys::new(store.clone());
    saved.publish(&collection);
    let all: BTreeSet<Option<i64>> = (1..=100).map(Some).collect();
    assert_eq!(rows(&saved.fetch(&hashes(&all)?)?).len(), 51);
    collection.close_below(Some(101_000));
    assert!(collection.runs().is_empty(), "a run that is over as a whole goes");
    saved.publish(&collection);
    assert!(saved.fetch(&hashes(&all)?)?.is_none());
    Ok(())
}
