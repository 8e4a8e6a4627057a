//! Against a model that remembers for each left row what it gave.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::logical_expr::Operator as Comparison;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::dataflow::durable::hand_over;
use crate::types::Epoch;

/// Key and value.
type Row = (Option<i64>, i64);
type Rows = BTreeMap<Vec<Option<i64>>, i64>;

fn schema(prefix: &str) -> SchemaRef {
    let field = |column: &str| Field::new(format!("{prefix}{column}"), DataType::Int64, true);
    Arc::new(Schema::new(vec![field("k"), field("v")]))
}

#[derive(Clone, Copy, Debug)]
struct Case {
    has_key: bool,
    /// left value < right value
    has_residual: bool,
    keeps_unmatched: bool,
    retracts: bool,
}

impl Case {
    fn operator(&self) -> Result<LookupOperator> {
        let inputs = [schema("l"), schema("r")];
        let fields: Vec<Arc<Field>> = inputs.iter().flat_map(|input| input.fields().iter().cloned()).collect();
        let columns = if self.has_key { vec![0] } else { vec![] };
        let null_equals_null = vec![false; columns.len()];
        let keys = JoinKeys { left: columns.clone(), right: columns, null_equals_null };
        let residual: Option<Arc<dyn PhysicalExpr>> = self.has_residual.then(|| {
            let (l, r) = (Arc::new(Column::new("lv", 1)), Arc::new(Column::new("rv", 3)));
            Arc::new(BinaryExpr::new(l, Comparison::Lt, r)) as _
        });
        let schema = Arc::new(Schema::new(fields));
        let operator = LookupOperator::new(inputs, &keys, residual.as_ref(), self.keeps_unmatched, schema)?;
        if self.retracts { operator.with_retractions() } else { Ok(operator) }
    }

    fn given(&self, left: &Row, right: &BTreeMap<Row, i64>) -> Rows {
        let matches = |other: &Row| {
            let keys = !self.has_key || (left.0.is_some() && left.0 == other.0);
            keys && (!self.has_residual || left.1 < other.1)
        };
        let pairs = right.iter().filter(|(other, _)| matches(other));
        let mut rows: Rows =
            pairs.map(|(other, weight)| (vec![left.0, Some(left.1), other.0, Some(other.1)], *weight)).collect();
        if rows.is_empty() && self.keeps_unmatched {
            rows.insert(vec![left.0, Some(left.1), None, None], 1);
        }
        rows
    }
}

fn delta(prefix: &str, rows: &[(Row, i64)]) -> Delta {
    let keys: Int64Array = rows.iter().map(|(row, _)| row.0).collect();
    let values: Int64Array = rows.iter().map(|(row, _)| Some(row.1)).collect();
    let batch = RecordBatch::try_new(schema(prefix), vec![Arc::new(keys), Arc::new(values)]).expect("two columns");
    Delta::new(batch, rows.iter().map(|(_, weight)| *weight).collect::<Vec<_>>())
}

fn add(rows: &mut Rows, row: Vec<Option<i64>>, weight: i64) {
    let total = rows.entry(row).or_default();
    *total += weight;
    rows.retain(|_, weight| *weight != 0);
}

fn take(rows: &mut Rows, deltas: &[Delta]) {
    for delta in deltas {
        for row in 0..delta.row_count() {
            let cells = delta.batch().columns().iter().map(|column| {
                let column = column.as_primitive::<Int64Type>();
                (!column.is_null(row)).then(|| column.value(row))
            });
            add(rows, cells.collect(), delta.weight(row));
        }
    }
}

fn step(operator: &mut LookupOperator, epoch: u64, inputs: [Vec<Delta>; 2], catching_up: bool) -> Result<Vec<Delta>> {
    let mut context = EpochContext::new(Epoch(epoch), epoch == 1, 0);
    context.is_catching_up = catching_up;
    let output = operator.step(inputs.into(), &mut context)?;
    assert!(context.errors.is_empty());
    Ok(output)
}

#[test]
fn rows_keep_what_they_met_when_they_came() -> Result<()> {
    let all = (0..16).map(|bits| Case {
        has_key: bits & 1 == 0,
        has_residual: bits & 2 == 0,
        keeps_unmatched: bits & 4 == 0,
        retracts: bits & 8 == 0,
    });
    for case in all {
        for seed in 0..5 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut operator = case.operator()?;
            let mut right: BTreeMap<Row, i64> = BTreeMap::new();
            // For each left row what its copies gave, the last one last.
            let mut left: BTreeMap<Row, Vec<Rows>> = BTreeMap::new();
            let (mut expected, mut found) = (Rows::new(), Rows::new());
            operator.record();
            let mut saved = vec![vec![]; operator.parts().len()];
            for epoch in 1..40 {
                let (mut left_changes, mut right_changes) = (vec![], vec![]);
                let keys: Vec<Option<i64>> =
                    (0..6).map(|_| Some(random.random_range(0..4)).filter(|key| *key > 0)).collect();
                for key in &keys[..3] {
                    let row = (*key, random.random_range(0..3));
                    if random.random_bool(0.4) && right.get(&row).is_some_and(|weight| *weight > 0) {
                        right_changes.push((row, -1));
                        *right.entry(row).or_default() -= 1;
                    } else if random.random_bool(0.5) {
                        let weight = random.random_range(1..3);
                        right_changes.push((row, weight));
                        *right.entry(row).or_default() += weight;
                    }
                }
                right.retain(|_, weight| *weight != 0);
                let mut before = left.clone();
                for key in &keys[3..] {
                    let row = (*key, random.random_range(0..3));
                    if case.retracts && random.random_bool(0.5) {
                        // One that was there before: what comes and goes at once is another case.
                        if let Some(given) = before.get_mut(&row).and_then(Vec::pop) {
                            left.get_mut(&row).expect("it is there").pop();
                            left_changes.push((row, -1));
                            given.into_iter().for_each(|(row, weight)| add(&mut expected, row, -weight));
                        }
                    }
                }
                for key in &keys[3..] {
                    let row = (*key, random.random_range(0..3));
                    if !left_changes.iter().any(|(other, _)| *other == row) {
                        let given = case.given(&row, &right);
                        let copies = random.random_range(1..3);
                        left_changes.push((row, copies));
                        for _ in 0..copies {
                            left.entry(row).or_default().push(given.clone());
                            given.iter().for_each(|(row, weight)| add(&mut expected, row.clone(), *weight));
                        }
                    }
                }
                if epoch % 7 == 0 {
                    let mut next = case.operator()?;
                    hand_over(&mut operator, &mut saved, &mut next)?;
                    operator = next;
                }
                let inputs = [vec![delta("l", &left_changes)], vec![delta("r", &right_changes)]];
                take(&mut found, &step(&mut operator, epoch, inputs, false)?);
                assert_eq!(found, expected, "{case:?}, seed {seed}, epoch {epoch}");
            }
        }
    }
    Ok(())
}

#[test]
fn rows_wait_for_the_whole_right_side() -> Result<()> {
    let case = Case { has_key: true, has_residual: false, keeps_unmatched: true, retracts: true };
    let mut operator = case.operator()?;
    let piece = |rows: &[(Row, i64)]| vec![delta("r", rows)];
    // A row is taken back before the piece comes that it is in.
    let left = vec![delta("l", &[((Some(1), 1), 1), ((Some(2), 2), -1)])];
    assert!(step(&mut operator, 1, [left, piece(&[((Some(2), 5), 1)])], true)?.is_empty());
    let left = vec![delta("l", &[((Some(2), 2), 1)])];
    assert!(step(&mut operator, 2, [left, piece(&[((Some(1), 7), 1)])], true)?.is_empty());
    let mut found = Rows::new();
    take(&mut found, &step(&mut operator, 3, [vec![], vec![]], false)?);
    assert_eq!(found, Rows::from([(vec![Some(1), Some(1), Some(1), Some(7)], 1)]));
    // The right side, the left row and its pair.
    assert_eq!(operator.state_size().row_count, 4);
    take(&mut found, &step(&mut operator, 4, [vec![delta("l", &[((Some(1), 1), -1)])], vec![]], false)?);
    assert!(found.is_empty());
    assert_eq!(operator.state_size().row_count, 2);
    Ok(())
}

#[test]
fn nothing_is_kept_of_rows_that_stay() -> Result<()> {
    let mut operator =
        Case { has_key: true, has_residual: false, keeps_unmatched: false, retracts: false }.operator()?;
    let left: Vec<(Row, i64)> = (0..100).map(|value| ((Some(value % 5), value), 1)).collect();
    let inputs = [vec![delta("l", &left)], vec![delta("r", &[((Some(1), 1), 1)])]];
    let output = step(&mut operator, 1, inputs, false)?;
    assert_eq!(output.iter().map(Delta::row_count).sum::<usize>(), 20);
    assert_eq!(operator.state_size().row_count, 1);
    assert_eq!(operator.keys.len(), 1);
    Ok(())
}
