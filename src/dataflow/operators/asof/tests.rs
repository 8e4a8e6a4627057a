//! Against a model that looks for the nearest row of every left row anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::dataflow::durable::hand_over;
use crate::plan::JoinKeys;
use crate::types::Epoch;

/// Key, time and value.
type Row = [Option<i64>; 3];
type Bag = BTreeMap<Vec<Option<i64>>, i64>;

#[derive(Clone, Copy, Debug)]
struct Case {
    has_key: bool,
    /// The last before, or the first after.
    looks_back: bool,
    is_strict: bool,
    keeps_unmatched: bool,
}

fn schema(prefix: &str) -> SchemaRef {
    let field = |column: &str| Field::new(format!("{prefix}{column}"), DataType::Int64, true);
    Arc::new(Schema::new(["k", "t", "v"].map(field).to_vec()))
}

impl Case {
    fn all() -> impl Iterator<Item = Case> {
        (0..16).map(|bits| Case {
            has_key: bits & 1 == 0,
            looks_back: bits & 2 == 0,
            is_strict: bits & 4 == 0,
            keeps_unmatched: bits & 8 == 0,
        })
    }

    fn operator(&self) -> Result<AsofOperator> {
        let inputs = [schema("l"), schema("r")];
        let fields: Vec<Arc<Field>> = inputs.iter().flat_map(|input| input.fields().iter().cloned()).collect();
        let columns = if self.has_key { vec![0] } else { vec![] };
        let keys = JoinKeys { null_equals_null: vec![false; columns.len()], left: columns.clone(), right: columns };
        let options = SortOptions { descending: self.looks_back, nulls_first: false };
        let nearest =
            Nearest { keys, left_time: 1, order: vec![SortColumn { column: 1, options }], is_strict: self.is_strict };
        AsofOperator::new(inputs, nearest, self.keeps_unmatched, Arc::new(Schema::new(fields)))
    }

    fn is_candidate(&self, left: &Row, right: &Row) -> bool {
        let same_key = !self.has_key || left[0].is_some() && left[0] == right[0];
        let (Some(l), Some(r)) = (left[1], right[1]) else { return false };
        same_key
            && match (self.looks_back, self.is_strict) {
                (true, false) => r <= l,
                (true, true) => r < l,
                (false, false) => r >= l,
                (false, true) => r > l,
            }
    }

    fn naive(&self, left: &BTreeMap<Row, i64>, right: &BTreeMap<Row, i64>) -> Bag {
        let mut bag = Bag::new();
        for (row, weight) in left {
            let candidates = right.iter().filter(|(other, weight)| **weight > 0 && self.is_candidate(row, other));
            let away = |time: Option<i64>| time.map(|time| if self.looks_back { -time } else { time });
            // NULL comes first among values, as in the rows' bytes.
            let found = candidates.map(|(other, _)| other).min_by_key(|other| (away(other[1]), **other));
            let partner = match found {
                Some(partner) => *partner,
                None if self.keeps_unmatched => [None; 3],
                None => continue,
            };
            *bag.entry([*row, partner].concat()).or_default() += weight;
        }
        bag.retain(|_, weight| *weight != 0);
        bag
    }
}

fn delta(prefix: &str, rows: &[(Row, i64)]) -> Delta {
    let column = |at: usize| Arc::new(rows.iter().map(|(row, _)| row[at]).collect::<Int64Array>()) as ArrayRef;
    let batch = RecordBatch::try_new(schema(prefix), (0..3).map(column).collect()).expect("three columns");
    Delta::new(batch, rows.iter().map(|(_, weight)| *weight).collect::<Vec<_>>())
}

fn take(bag: &mut Bag, deltas: &[Delta]) {
    for delta in deltas {
        for row in 0..delta.row_count() {
            let cells = delta.batch().columns().iter().map(|column| {
                let column = column.as_primitive::<Int64Type>();
                column.is_valid(row).then(|| column.value(row))
            });
            *bag.entry(cells.collect()).or_default() += delta.weight(row);
        }
    }
    bag.retain(|_, weight| *weight != 0);
}

#[test]
fn the_nearest_row_is_that_of_the_model() -> Result<()> {
    for case in Case::all() {
        for seed in 0..6 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut operator = case.operator()?;
            operator.record();
            let mut saved = vec![vec![], vec![]];
            let (mut sides, mut found) = ([BTreeMap::new(), BTreeMap::new()], Bag::new());
            // Few times and many, so that rows meet at one time and lie apart.
            let times = [4, 40][seed as usize % 2];
            for epoch in 1..60 {
                let mut inputs = vec![];
                for (side, prefix) in sides.iter_mut().zip(["l", "r"]) {
                    let mut changes: Vec<(Row, i64)> = vec![];
                    for _ in 0..random.random_range(0..6) {
                        let some = |value: i64| (value > 0).then_some(value);
                        let time = some(random.random_range(0..times));
                        let row = [some(random.random_range(0..4)), time, some(random.random_range(0..3))];
                        let weight = random.random_range(1..3);
                        // Sometimes a row is taken back, and sometimes before it has come.
                        let have: Vec<Row> = side.keys().copied().collect();
                        match random.random_range(0..10) {
                            0..4 if !have.is_empty() => {
                                changes.push((have[random.random_range(0..have.len())], -1));
                            }
                            4 => changes.push((row, -1)),
                            _ => changes.push((row, weight)),
                        }
                    }
                    for (row, weight) in &changes {
                        *side.entry(*row).or_insert(0) += weight;
                    }
                    side.retain(|_, weight| *weight != 0);
                    inputs.push(vec![delta(prefix, &changes)]);
                }
                if epoch % 9 == 0 {
                    let mut next = case.operator()?;
                    hand_over(&mut operator, &mut saved, &mut next)?;
                    operator = next;
                }
                let mut context = EpochContext::new(Epoch(epoch), epoch == 1, 0);
                take(&mut found, &operator.step(inputs, &mut context)?);
                let [left, right] = &sides;
                assert_eq!(found, case.naive(left, right), "{case:?}, seed {seed}, epoch {epoch}");
            }
            // What goes leaves nothing behind.
            let all = |side: &BTreeMap<Row, i64>| side.iter().map(|(row, weight)| (*row, -weight)).collect::<Vec<_>>();
            let inputs = vec![vec![delta("l", &all(&sides[0]))], vec![delta("r", &all(&sides[1]))]];
            take(&mut found, &operator.step(inputs, &mut EpochContext::new(Epoch(60), false, 0))?);
            assert!(found.is_empty(), "{case:?}, seed {seed}");
            assert_eq!(operator.state_size().row_count, 0);
        }
    }
    Ok(())
}

#[test]
fn a_change_touches_the_rows_up_to_its_neighbour() -> Result<()> {
    let case = Case { has_key: true, looks_back: true, is_strict: false, keeps_unmatched: false };
    let mut operator = case.operator()?;
    let row = |time: i64| ([Some(1), Some(time), Some(0)], 1);
    let left: Vec<(Row, i64)> = (0..1000).map(row).collect();
    let right: Vec<(Row, i64)> = (0..1000).step_by(10).map(row).collect();
    let mut context = EpochContext::new(Epoch(1), true, 0);
    operator.step(vec![vec![delta("l", &left)], vec![delta("r", &right)]], &mut context)?;
    let mut step = |changes: &[(Row, i64)]| -> Result<usize> {
        let output = operator.step(vec![vec![], vec![delta("r", changes)]], &mut context)?;
        Ok(output.iter().map(Delta::row_count).sum())
    };
    // Rows at 505 to 509 find a nearer one.
    assert_eq!(step(&[row(505)])?, 10);
    // Those from 500 to 504 go back to 490, those from 505 stay.
    assert_eq!(step(&[([Some(1), Some(500), Some(0)], -1)])?, 10);
    assert_eq!(operator.state_size().row_count, 1100);
    Ok(())
}
