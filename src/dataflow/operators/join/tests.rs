//! Every kind of join against a naive one, which joins the whole inputs anew.

mod residency;

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::logical_expr::Operator as Comparison;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, lit};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::dataflow::residency::by_hand::Life;
use crate::plan::{Properties, StreamNode, TimeColumn, Watermark, Watermarks, least};
use crate::state::{Arrangement, Layout, Memory};
use crate::types::{Epoch, RelationId};

/// Key and value of a row.
type Row = (Option<i64>, i64);
/// An output row as text, with its weight.
type Rows = BTreeMap<Vec<Option<i64>>, i64>;

const TYPES: [JoinType; 7] =
    [JoinType::Inner, JoinType::Left, JoinType::Right, JoinType::Full, JoinType::Semi, JoinType::Anti, JoinType::Mark];

/// Which condition the join has.
#[derive(Clone, Copy, Debug)]
struct Case {
    join_type: JoinType,
    has_key: bool,
    null_equals_null: bool,
    /// left value < right value
    has_residual: bool,
    /// right value <= left value + 3
    is_near: bool,
}

impl Case {
    fn all() -> Vec<Case> {
        let mut cases = vec![];
        for join_type in TYPES {
            for (has_key, null_equals_null) in [(true, false), (true, true), (false, false)] {
                for has_residual in [false, true] {
                    cases.push(Case { join_type, has_key, null_equals_null, has_residual, is_near: false });
                }
            }
        }
        cases
    }

    fn operator(&self) -> Result<JoinOperator> {
        let side = |name: &str| {
            let field = |column: &str| Field::new(format!("{name}{column}"), DataType::Int64, true);
            vec![field("k"), field("v")]
        };
        let (left, right) = (side("l"), side("r"));
        let mut output = left.clone();
        match self.join_type {
            JoinType::Semi | JoinType::Anti => {}
            JoinType::Mark => output.push(Field::new("mark", DataType::Boolean, false)),
            _ => output.extend(right.clone()),
        }
        let columns = if self.has_key { vec![0] } else { vec![] };
        let keys = JoinKeys {
            left: columns.clone(),
            right: columns,
            null_equals_null: if self.has_key { vec![self.null_equals_null] } else { vec![] },
        };
        let residual: Option<Arc<dyn PhysicalExpr>> = self.has_residual.then(|| {
            let (l, r) = (Arc::new(Column::new("lv", 1)), Arc::new(Column::new("rv", 3)));
            let less: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(l.clone(), Comparison::Lt, r.clone()));
            if !self.is_near {
                return less;
            }
            let limit = Arc::new(BinaryExpr::new(l, Comparison::Plus, lit(3_i64)));
            let near = Arc::new(BinaryExpr::new(r, Comparison::LtEq, limit));
            Arc::new(BinaryExpr::new(less, Comparison::And, near)) as _
        });
        let inputs = [Arc::new(Schema::new(left)), Arc::new(Schema::new(right))];
        JoinOperator::new(self.join_type, inputs, &keys, residual.as_ref(), Arc::new(Schema::new(output)))
    }

    fn matches(&self, left: &Row, right: &Row) -> bool {
        let keys = match (self.has_key, left.0, right.0) {
            (false, ..) => true,
            (true, None, None) => self.null_equals_null,
            (true, l, r) => l == r,
        };
        keys && (!self.has_residual || left.1 < right.1) && (!self.is_near || right.1 <= left.1 + 3)
    }

    fn naive(&self, inputs: &[BTreeMap<Row, i64>; 2]) -> Rows {
        let mut rows = Rows::new();
        let mut put = |row: Vec<Option<i64>>, weight: i64| *rows.entry(row).or_default() += weight;
        let [left, right] = inputs;
        for (l, &lw) in left {
            let matching = right.iter().filter(|(r, _)| self.matches(l, r));
            let count: i64 = matching.clone().map(|(_, weight)| weight).sum();
            let own = vec![l.0, Some(l.1)];
            match self.join_type {
                JoinType::Semi if count > 0 => put(own, lw),
                JoinType::Anti if count == 0 => put(own, lw),
                JoinType::Mark => put([own, vec![Some(i64::from(count > 0))]].concat(), lw),
                JoinType::Semi | JoinType::Anti => {}
                _ => {
                    for (r, &rw) in matching {
                        put(vec![l.0, Some(l.1), r.0, Some(r.1)], lw * rw);
                    }
                    if count == 0 && self.join_type.watched()[0] {
                        put(vec![l.0, Some(l.1), None, None], lw);
                    }
                }
            }
        }
        if self.join_type.watched()[1] {
            for (r, &rw) in right {
                if left.iter().filter(|(l, _)| self.matches(l, r)).map(|(_, w)| w).sum::<i64>() == 0 {
                    put(vec![None, None, r.0, Some(r.1)], rw);
                }
            }
        }
        rows.retain(|_, weight| *weight != 0);
        rows
    }
}

fn delta(schema: &SchemaRef, rows: &[(Row, i64)]) -> Delta {
    let keys: Int64Array = rows.iter().map(|(row, _)| row.0).collect();
    let values: Int64Array = rows.iter().map(|(row, _)| Some(row.1)).collect();
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(keys), Arc::new(values)]).expect("two columns");
    Delta::new(batch, rows.iter().map(|(_, weight)| *weight).collect::<Vec<_>>())
}

fn add(rows: &mut Rows, deltas: &[Delta]) {
    for delta in deltas {
        for row in 0..delta.row_count() {
            let cell = |column: &ArrayRef| match column.data_type() {
                DataType::Boolean => Some(i64::from(column.as_boolean().value(row))),
                _ if column.is_null(row) => None,
                _ => Some(column.as_primitive::<Int64Type>().value(row)),
            };
            let key = delta.batch().columns().iter().map(cell).collect();
            *rows.entry(key).or_default() += delta.weight(row);
        }
    }
    rows.retain(|_, weight| *weight != 0);
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }

    fn row(&mut self) -> Row {
        let key = self.below(6);
        ((key > 0).then_some(key as i64), self.below(4) as i64)
    }
}

/// Steps of insertions and of retractions of what is there, compared after each step.
#[test]
fn every_join_equals_the_naive_one_after_each_step() -> Result<()> {
    for (number, case) in Case::all().into_iter().enumerate() {
        let mut random = Random(number as u64 + 1);
        let mut operator = case.operator()?;
        let mut inputs: [BTreeMap<Row, i64>; 2] = Default::default();
        let mut output = Rows::new();
        for step in 0..120 {
            let mut deltas: Vec<Vec<Delta>> = vec![vec![], vec![]];
            for side in 0..2 {
                let mut rows = vec![];
                for _ in 0..random.below(5) {
                    let present: Vec<Row> = inputs[side].keys().copied().collect();
                    let retracts = !present.is_empty() && random.below(100) < 45;
                    let (row, weight) = match retracts {
                        true => (present[random.below(present.len() as u64) as usize], -1),
                        false => (random.row(), 1 + i64::from(random.below(8) == 0)),
                    };
                    *inputs[side].entry(row).or_default() += weight;
                    inputs[side].retain(|_, weight| *weight != 0);
                    rows.push((row, weight));
                }
                if !rows.is_empty() {
                    deltas[side].push(delta(operator.sides[side].schema(), &rows));
                }
            }
            let mut context = EpochContext::new(Epoch(step), step == 0, 0);
            add(&mut output, &operator.step(deltas, &mut context)?);
            assert_eq!(output, case.naive(&inputs), "{case:?} at step {step}");
            assert!(context.errors.is_empty());
        }
    }
    Ok(())
}

/// Retractions may come before their insertions: the end is what counts.
#[test]
fn any_order_of_changes_ends_the_same() -> Result<()> {
    for (number, case) in Case::all().into_iter().enumerate() {
        let mut random = Random(number as u64 + 1000);
        let mut operator = case.operator()?;
        let mut inputs: [BTreeMap<Row, i64>; 2] = Default::default();
        let mut changes: Vec<(usize, Row, i64)> = vec![];
        for _ in 0..150 {
            let (side, row) = (random.below(2) as usize, random.row());
            changes.push((side, row, 1));
            match random.below(2) {
                0 => changes.push((side, row, -1)),
                _ => *inputs[side].entry(row).or_default() += 1,
            }
        }
        for at in (1..changes.len()).rev() {
            changes.swap(at, random.below(at as u64 + 1) as usize);
        }
        let mut output = Rows::new();
        for piece in changes.chunks(7) {
            let mut deltas: Vec<Vec<Delta>> = vec![vec![], vec![]];
            for &(side, row, weight) in piece {
                deltas[side].push(delta(operator.sides[side].schema(), &[(row, weight)]));
            }
            let mut context = EpochContext::new(Epoch(0), false, 0);
            add(&mut output, &operator.step(deltas, &mut context)?);
        }
        assert_eq!(output, case.naive(&inputs), "{case:?}");
    }
    Ok(())
}

/// What is taken back leaves nothing behind, and rows are found again after the dead ones were cleared away.
#[test]
fn retracted_rows_free_their_state() -> Result<()> {
    let case =
        Case { join_type: JoinType::Full, has_key: true, null_equals_null: false, has_residual: true, is_near: false };
    let mut operator = case.operator()?;
    let schema = operator.sides[0].schema().clone();
    let mut output = Rows::new();
    for round in 0..6i64 {
        for (weight, count) in [(1, 5000), (-1, 4990)] {
            let rows: Vec<(Row, i64)> = (0..count).map(|at| ((Some(at % 50), round * 10_000 + at), weight)).collect();
            let mut context = EpochContext::new(Epoch(0), false, 0);
            add(&mut output, &operator.step(vec![vec![delta(&schema, &rows)], vec![]], &mut context)?);
        }
    }
    assert_eq!(operator.state_size().row_count, 60);
    assert_eq!(output.len(), 60);
    Ok(())
}

/// Changes never touch what is older than the watermark of their side: then what is let go is not missed, whichever of the
/// two watermarks is ahead. The time is the key, or the value.
#[test]
fn what_is_over_is_let_go_and_not_missed() -> Result<()> {
    let relations = [RelationId(1), RelationId(2)];
    let of = |side: usize, delay_ms: i64| {
        // Numbers count milliseconds.
        Watermark::Delayed(Box::new(Watermark::Relation(relations[side])), delay_ms * 1_000)
    };
    let time = |column: usize, a: Watermark, b: Watermark| TimeColumn {
        column,
        watermark: least(&a, &b),
        lateness_us: 0,
        is_kept: true,
    };
    let by_key = JoinClosing::Keys(time(0, of(0, 0), of(1, 0)));
    let by_value = JoinClosing::Rows([Some(time(1, of(0, 0), of(1, 3))), Some(time(1, of(1, 0), of(0, -1)))]);
    let cases = Case::all().into_iter().flat_map(|case| {
        let keyed = case.has_key.then(|| (case, by_key.clone()));
        let near = case.has_residual.then(|| (Case { is_near: true, ..case }, by_value.clone()));
        keyed.into_iter().chain(near)
    });
    for (number, (case, closing)) in cases.enumerate() {
        let mut random = Random(number as u64 + 1);
        let columns = if case.has_key { vec![0] } else { vec![] };
        let keys = JoinKeys { left: columns.clone(), right: columns, null_equals_null: vec![] };
        let build = || Ok::<_, Error>(case.operator()?.with_closing(Some(&closing), &keys));
        let mut chance = StdRng::seed_from_u64(number as u64);
        let mut life = Life::begin(build()?, Arc::new(Memory::new(None)))?;
        assert!(life.operator.follows_time());
        let is_by_key = matches!(closing, JoinClosing::Keys(_));
        let mut inputs: [BTreeMap<Row, i64>; 2] = Default::default();
        let mut output = Rows::new();
        let mut watermarks = [0_i64; 2];
        for step in 0..200 {
            let mut deltas: Vec<Vec<Delta>> = vec![vec![], vec![]];
            for side in 0..2 {
                let is_open = |row: &Row| if is_by_key { row.0 } else { Some(row.1) } >= Some(watermarks[side]);
                let mut rows = vec![];
                for _ in 0..random.below(5) {
                    let open: Vec<Row> = inputs[side].keys().copied().filter(is_open).collect();
                    let later = watermarks[side] + random.below(6) as i64;
                    let (row, weight) = match !open.is_empty() && random.below(100) < 35 {
                        true => (open[random.below(open.len() as u64) as usize], -1),
                        false if is_by_key => ((Some(later), random.below(4) as i64), 1),
                        false => ((random.row().0, later), 1),
                    };
                    *inputs[side].entry(row).or_default() += weight;
                    inputs[side].retain(|_, weight| *weight != 0);
                    rows.push((row, weight));
                }
                if !rows.is_empty() {
                    deltas[side].push(delta(life.operator.sides[side].schema(), &rows));
                }
            }
            // Now and then one side falls behind.
            for (side, watermark) in watermarks.iter_mut().enumerate() {
                let is_slow = step / 20 % 3 == side as u64;
                *watermark += random.below(if is_slow { 1 } else { 3 }) as i64;
            }
            let mut context = EpochContext::new(Epoch(step), step == 0, 0);
            let now: Watermarks = relations.into_iter().zip(watermarks.map(|ms| ms * 1_000)).collect();
            context.watermarks = Arc::new(now);
            add(&mut output, &life.operator.step(deltas, &mut context)?);
            assert_eq!(output, case.naive(&inputs), "{case:?} {closing:?} at step {step}");
            // Of every other case keys are on disk alone, at random.
            if case.has_key && number % 2 == 0 {
                life.disturb(&mut chance)?;
                if chance.random_bool(0.05) {
                    life.restart(build()?, chance.random_bool(0.7))?;
                }
            }
        }
        let after = Watermarks::from(relations.map(|relation| (relation, 10_000_000)));
        let mut context = EpochContext::new(Epoch(200), false, 0);
        context.watermarks = Arc::new(after);
        assert!(life.operator.step(vec![vec![], vec![]], &mut context)?.is_empty());
        (0..6).try_for_each(|_| life.go_on())?;
        assert_eq!(life.operator.state_size().row_count, 0, "{case:?} {closing:?}");
        assert_eq!(life.operator.keys.len(), usize::from(!case.has_key), "{case:?} {closing:?}");
    }
    Ok(())
}

/// A side that is looked up where it is arranged, by its key or by an index, whole or filtered; restored now and then.
#[test]
fn a_side_that_is_looked_up_is_not_missed() -> Result<()> {
    const RELATION: RelationId = RelationId(7);
    let cases = Case::all().into_iter().filter(|case| case.has_key);
    let cases = cases.flat_map(|case| [0, 1].map(|side| (case, side)));
    let cases = cases.filter(|(case, side)| !case.join_type.watched()[*side]);
    for (number, (case, side)) in cases.enumerate() {
        let mut random = Random(number as u64 + 1);
        let (by_key, is_filtered) = (number % 2 == 0, number / 2 % 2 == 0);
        let keys = JoinKeys { left: vec![0], right: vec![0], null_equals_null: vec![case.null_equals_null] };
        let schema = case.operator()?.sides[side].schema().clone();
        let plan = |node| StreamPlan { node, schema: schema.clone(), properties: Properties::default() };
        let mut input = plan(StreamNode::Scan { relation: RELATION, name: "r".into(), columns: vec![0, 1] });
        if is_filtered {
            let value = Arc::new(Column::new(schema.field(1).name(), 1));
            let predicate = Arc::new(BinaryExpr::new(value, Comparison::Lt, lit(3_i64)));
            input = plan(StreamNode::Filter { input: Box::new(input), predicate });
        }
        let make = || {
            let mut operator = case.operator()?.with_arranged(side, &input, &keys)?;
            Durable::record(&mut operator);
            Ok::<_, crate::error::Error>(operator)
        };
        let key = if by_key { vec![0] } else { vec![] };
        let mut relation = Arrangement::new(Layout::indexed(schema.clone(), key));
        let mut operator = make()?;
        let mut saved: Vec<Vec<Delta>> = vec![vec![], vec![]];
        let mut inputs: [BTreeMap<Row, i64>; 2] = Default::default();
        let mut output = Rows::new();
        for step in 0..120 {
            let mut deltas: Vec<Vec<Delta>> = vec![vec![], vec![]];
            for own in 0..2 {
                for _ in 0..random.below(3) {
                    let present: Vec<Row> = inputs[own].keys().copied().collect();
                    let (row, weight) = match !present.is_empty() && random.below(100) < 45 {
                        true => (present[random.below(present.len() as u64) as usize], -1),
                        false => (random.row(), 1),
                    };
                    *inputs[own].entry(row).or_default() += weight;
                    inputs[own].retain(|_, weight| *weight != 0);
                    deltas[own].push(delta(operator.sides[own].schema(), &[(row, weight)]));
                }
            }
            let mut context = EpochContext::new(Epoch(step), step == 0, 0);
            context.arranged = Arc::new([(RELATION, Arc::new(relation.snapshot()))].into());
            deltas[side].iter().try_for_each(|delta| relation.append(delta))?;
            let fits = |row: &Row| !is_filtered || row.1 < 3;
            deltas[side].retain(|delta| fits(&(None, delta.column(1).as_primitive::<Int64Type>().value(0))));
            add(&mut output, &operator.step(deltas, &mut context)?);
            let mut seen = inputs.clone();
            seen[side].retain(|row, _| fits(row));
            assert_eq!(output, case.naive(&seen), "{case:?}, side {side} at step {step}");
            assert_eq!(operator.sides[side].row_count(), 0, "the side is kept");
            for (all, change) in saved.iter_mut().zip(operator.take_changes()?) {
                all.extend(change.deltas);
            }
            assert!(saved[side].is_empty(), "the side is saved");
            if step % 40 == 39 {
                operator = make()?;
                operator.restore(saved.clone(), &mut EpochContext::new(Epoch(step), false, 0))?;
            }
        }
    }
    Ok(())
}
