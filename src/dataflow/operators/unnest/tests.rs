//! Against a naive recomputation over random rows, cut and ordered in random ways.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int32Builder, ListArray, ListBuilder, RecordBatch, StructArray,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::UnnestOperator;
use crate::dataflow::{EpochContext, Operator};
use crate::plan::{EmptyLists, UnnestColumn};
use crate::types::{Delta, Epoch};

/// A key and two lists.
type Row = (i32, Option<Vec<Option<i32>>>, Option<Vec<Option<i32>>>);

fn batch(rows: &[Row]) -> RecordBatch {
    let list = |pick: &dyn Fn(&Row) -> &Option<Vec<Option<i32>>>| -> ArrayRef {
        let mut builder = ListBuilder::new(Int32Builder::new());
        for row in rows {
            match pick(row) {
                Some(items) => builder.append_value(items.iter().copied()),
                None => builder.append_null(),
            }
        }
        Arc::new(builder.finish())
    };
    let keys: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int32Array>());
    let columns = [("k", keys), ("a", list(&|row| &row.1)), ("b", list(&|row| &row.2))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).expect("equal lengths")
}

fn operator(input: &RecordBatch, empty: EmptyLists) -> UnnestOperator {
    let fields = ["k", "x", "y"].map(|name| Field::new(name, DataType::Int32, true));
    let columns = vec![UnnestColumn::Copy(0), UnnestColumn::Element(1), UnnestColumn::Element(2)];
    let schema = Arc::new(Schema::new(fields.to_vec()));
    UnnestOperator::new(&input.schema(), columns, empty, schema).expect("lists can be unnested")
}

type Counts = BTreeMap<Vec<Option<i32>>, i64>;

fn count(counts: &mut Counts, deltas: &[Delta]) {
    for delta in deltas {
        for row in 0..delta.row_count() {
            let values = (0..delta.batch().num_columns()).map(|column| {
                let array = delta.column(column).as_primitive::<Int32Type>();
                array.is_valid(row).then(|| array.value(row))
            });
            *counts.entry(values.collect()).or_default() += delta.weight(row);
        }
    }
    counts.retain(|_, weight| *weight != 0);
}

/// The law, row by row.
fn naive(rows: &[(Row, i64)], empty: EmptyLists) -> Counts {
    let mut counts = Counts::new();
    for ((key, a, b), weight) in rows {
        let length = |list: &Option<Vec<Option<i32>>>| list.as_ref().map_or(0, Vec::len);
        let at = |list: &Option<Vec<Option<i32>>>, i: usize| list.as_ref().and_then(|l| l.get(i).copied()).flatten();
        let kept = match empty {
            EmptyLists::Drop => 0,
            EmptyLists::KeepNull => usize::from(a.is_none() || b.is_none()),
            EmptyLists::Keep => 1,
        };
        for i in 0..length(a).max(length(b)).max(kept) {
            *counts.entry(vec![Some(*key), at(a, i), at(b, i)]).or_default() += weight;
        }
    }
    counts.retain(|_, weight| *weight != 0);
    counts
}

#[test]
fn any_cut_and_any_order_gives_the_same_sum() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for empty in [EmptyLists::Drop, EmptyLists::KeepNull, EmptyLists::Keep] {
        let mut changes: Vec<(Row, i64)> = vec![];
        for _ in 0..200 {
            let mut list = || {
                let length = random.random_range(0..4);
                (!random.random_ratio(1, 5)).then(|| {
                    (0..length).map(|_| (!random.random_ratio(1, 6)).then(|| random.random_range(0..3))).collect()
                })
            };
            let lists = (list(), list());
            let row: Row = (random.random_range(0..5), lists.0, lists.1);
            let weight = random.random_range(1..3);
            if random.random_ratio(1, 3) {
                // A retraction, which may come first.
                let at = random.random_range(0..=changes.len());
                changes.insert(at, (row.clone(), -weight));
            }
            let at = random.random_range(0..=changes.len());
            changes.insert(at, (row, weight));
        }
        let mut found = Counts::new();
        let mut operator = operator(&batch(&[]), empty);
        let mut rest = &changes[..];
        let mut epoch = 0;
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(random.random_range(1..=rest.len().min(30)));
            rest = later;
            let rows: Vec<Row> = piece.iter().map(|(row, _)| row.clone()).collect();
            let weights: Vec<i64> = piece.iter().map(|(_, weight)| *weight).collect();
            let mut context = EpochContext::new(Epoch(epoch), epoch == 0, 0);
            let output = operator.step(vec![vec![Delta::new(batch(&rows), weights)]], &mut context);
            count(&mut found, &output.expect("lists are unnested"));
            epoch += 1;
        }
        assert_eq!(found, naive(&changes, empty), "{empty:?}, seed {seed}");
    }
}

#[test]
fn long_lists_leave_in_pieces() {
    let items: Vec<Option<i32>> = (0..150_000).map(Some).collect();
    let input = batch(&[(1, Some(items), None), (2, Some(vec![Some(7)]), Some(vec![]))]);
    let mut operator = operator(&input, EmptyLists::Drop);
    let mut context = EpochContext::new(Epoch(1), true, 0);
    let output = operator.step(vec![vec![Delta::insert(input)]], &mut context).expect("lists are unnested");
    assert_eq!(output.iter().map(Delta::row_count).collect::<Vec<_>>(), [65_536, 65_536, 18_929]);
    assert!(output.iter().all(|delta| delta.weights().is_none()));
}

#[test]
fn records_fall_apart() {
    let fields = Fields::from(vec![Field::new("p", DataType::Int32, true), Field::new("q", DataType::Int32, true)]);
    let parts: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![1, 2])), Arc::new(Int32Array::from(vec![3, 4]))];
    let records = StructArray::new(fields, parts, Some(vec![true, false].into()));
    let input = RecordBatch::try_from_iter_with_nullable([("r", Arc::new(records) as ArrayRef, true)]);
    let input = input.expect("one column");
    let schema = Schema::new(["p", "q"].map(|name| Field::new(name, DataType::Int32, true)).to_vec());
    let columns = vec![UnnestColumn::Field(0, 0), UnnestColumn::Field(0, 1)];
    let operator = UnnestOperator::new(&input.schema(), columns, EmptyLists::Drop, Arc::new(schema));
    let mut context = EpochContext::new(Epoch(1), true, 0);
    let output = operator.expect("records fall apart").step(vec![vec![Delta::insert(input)]], &mut context);
    let mut counts = Counts::new();
    count(&mut counts, &output.expect("records fall apart"));
    assert_eq!(counts, Counts::from([(vec![Some(1), Some(3)], 1), (vec![None, None], 1)]));
}

#[test]
fn sliced_lists_keep_their_elements() {
    let input = batch(&[(1, Some(vec![Some(1)]), None), (2, Some(vec![Some(2), Some(3)]), None)]).slice(1, 1);
    assert!(input.column(1).as_any().is::<ListArray>());
    let mut operator = operator(&input, EmptyLists::Drop);
    let mut context = EpochContext::new(Epoch(1), true, 0);
    let mut counts = Counts::new();
    count(&mut counts, &operator.step(vec![vec![Delta::insert(input)]], &mut context).expect("lists are unnested"));
    assert_eq!(counts, Counts::from([(vec![Some(2), Some(2), None], 1), (vec![Some(2), Some(3), None], 1)]));
}
