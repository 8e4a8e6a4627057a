//! Every kind of aggregate against a recomputation from scratch: random rows come and go, in pieces, retractions
//! before their insertions too.

mod residency;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, UInt8Array,
};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_aggregate::string_agg::string_agg_udaf;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, Literal};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::{AggregateOperator, CombineOperator, combines};
use crate::dataflow::{EpochContext, Operator};
use crate::error::Result;
use crate::plan::{AggregateCall, AggregateKind, Fold, OrderColumn};
use crate::types::moments::{Moments, Statistic};
use crate::types::{Delta, Epoch, ExactSum};

#[derive(Clone, Debug, PartialEq, PartialOrd)]
struct Row {
    key: Option<i32>,
    x: Option<f64>,
    n: Option<i64>,
    text: Option<&'static str>,
    flag: Option<bool>,
}

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int32, true),
        Field::new("x", DataType::Float64, true),
        Field::new("n", DataType::Int64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("flag", DataType::Boolean, true),
    ]))
}

fn delta(changes: &[(Row, i64)]) -> Result<Delta> {
    let rows = || changes.iter().map(|(row, _)| row);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows().map(|row| row.key).collect::<Int32Array>()),
        Arc::new(rows().map(|row| row.x).collect::<Float64Array>()),
        Arc::new(rows().map(|row| row.n).collect::<Int64Array>()),
        Arc::new(rows().map(|row| row.text).collect::<StringArray>()),
        Arc::new(rows().map(|row| row.flag).collect::<BooleanArray>()),
    ];
    let weights: Vec<i64> = changes.iter().map(|(_, weight)| *weight).collect();
    Ok(Delta::new(RecordBatch::try_new(input(), columns)?, weights))
}

fn call(kind: AggregateKind, arguments: Vec<usize>, data_type: DataType) -> AggregateCall {
    AggregateCall { kind, arguments, order: vec![], filter: None, distinct: false, data_type, name: "f".into() }
}

fn calls() -> Result<Vec<AggregateCall>> {
    let schema = Arc::new(Schema::new(vec![Field::new("p0", DataType::Utf8, true)]));
    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("p0", 0));
    let comma: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::from(",")));
    let joined = AggregateExprBuilder::new(string_agg_udaf(), vec![column.clone(), comma])
        .schema(schema.clone())
        .alias("joined")
        .build()?;
    let gathered = AggregateExprBuilder::new(array_agg_udaf(), vec![column]).schema(schema).alias("a").build()?;
    let texts = DataType::new_list(DataType::Utf8, true);
    let by_number = OrderColumn { column: 2, options: SortOptions { descending: true, nulls_first: true } };
    Ok(vec![
        call(AggregateKind::Count, vec![], DataType::Int64),
        call(AggregateKind::Count, vec![1, 2], DataType::Int64),
        call(AggregateKind::Sum, vec![1], DataType::Float64),
        AggregateCall { filter: Some(4), ..call(AggregateKind::Avg, vec![1], DataType::Float64) },
        AggregateCall { distinct: true, ..call(AggregateKind::Sum, vec![2], DataType::Decimal128(38, 0)) },
        call(AggregateKind::Min, vec![3], DataType::Utf8),
        call(AggregateKind::Max, vec![1], DataType::Float64),
        call(AggregateKind::Bits(Fold::And), vec![4], DataType::Boolean),
        call(AggregateKind::Bits(Fold::Xor), vec![2], DataType::Int64),
        call(AggregateKind::Statistic(Statistic::VarSamp), vec![1], DataType::Float64),
        AggregateCall {
            order: vec![by_number],
            ..call(AggregateKind::General(Arc::new(joined)), vec![3], DataType::LargeUtf8)
        },
        AggregateCall { distinct: true, ..call(AggregateKind::General(Arc::new(gathered)), vec![3], texts) },
    ])
}

fn output(calls: &[AggregateCall]) -> SchemaRef {
    let results =
        calls.iter().enumerate().map(|(index, call)| Field::new(format!("c{index}"), call.data_type.clone(), true));
    Arc::new(Schema::new(std::iter::once(Field::new("key", DataType::Int32, true)).chain(results).collect::<Vec<_>>()))
}

/// One group's row as text.
fn naive(key: Option<i32>, rows: &[Row]) -> String {
    let shown = |value: Option<String>| value.unwrap_or("NULL".into());
    let xs: Vec<f64> = rows.iter().filter_map(|row| row.x).collect();
    let sum = |values: &[f64]| {
        let mut sum = ExactSum::default();
        values.iter().for_each(|&value| sum.add(value, 1));
        sum.value()
    };
    let flagged: Vec<f64> = rows.iter().filter(|row| row.flag == Some(true)).filter_map(|row| row.x).collect();
    let mut numbers: Vec<i64> = rows.iter().filter_map(|row| row.n).collect();
    let xor = numbers.iter().copied().reduce(|a, b| a ^ b);
    numbers.sort_unstable();
    numbers.dedup();
    let mut variance = Moments::new(Statistic::VarSamp);
    xs.iter().for_each(|&x| variance.add(x, 0.0, 1));
    let mut ordered: Vec<(Option<i64>, &str)> = rows.iter().filter_map(|row| Some((row.n, row.text?))).collect();
    // Descending with NULLs first, then by text.
    ordered.sort_by(|a, b| match (a.0, b.0) {
        (None, None) => a.1.cmp(b.1),
        (None, _) => std::cmp::Ordering::Less,
        (_, None) => std::cmp::Ordering::Greater,
        (Some(x), Some(y)) => y.cmp(&x).then(a.1.cmp(b.1)),
    });
    let joined: Vec<&str> = ordered.iter().map(|(_, text)| *text).collect();
    let mut texts: Vec<&str> = rows.iter().filter_map(|row| row.text).collect();
    texts.sort_unstable();
    texts.dedup();
    let first = texts.first().map(|text| text.to_string());
    if rows.iter().any(|row| row.text.is_none()) {
        texts.push("");
    }
    let flags: Vec<bool> = rows.iter().filter_map(|row| row.flag).collect();
    let float = |value: f64| format!("{value:?}");
    [
        shown(key.map(|key| key.to_string())),
        rows.len().to_string(),
        rows.iter().filter(|row| row.x.is_some() && row.n.is_some()).count().to_string(),
        shown((!xs.is_empty()).then(|| float(sum(&xs)))),
        shown((!flagged.is_empty()).then(|| float(sum(&flagged) / flagged.len() as f64))),
        shown((!numbers.is_empty()).then(|| numbers.iter().sum::<i64>().to_string())),
        shown(first),
        shown(xs.iter().copied().reduce(f64::max).map(float)),
        shown((!flags.is_empty()).then(|| flags.iter().all(|flag| *flag).to_string())),
        shown(xor.map(|xor| xor.to_string())),
        shown(variance.value().map(float)),
        shown((!joined.is_empty()).then(|| joined.join(","))),
        format!("[{}]", texts.join(", ")),
    ]
    .join("|")
}

fn expected(contents: &[(Row, i64)]) -> BTreeMap<String, i64> {
    let mut groups: BTreeMap<Option<i32>, Vec<Row>> = BTreeMap::new();
    for (row, weight) in contents {
        groups.entry(row.key).or_default().extend((0..*weight).map(|_| row.clone()));
    }
    groups.retain(|_, rows| !rows.is_empty());
    groups.iter().map(|(key, rows)| (naive(*key, rows), 1)).collect()
}

/// Adds an operator's output to what was shown.
fn apply(shown: &mut BTreeMap<String, i64>, deltas: Vec<Delta>) -> Result<()> {
    let options = FormatOptions::default().with_null("");
    for delta in deltas {
        for row in 0..delta.row_count() {
            let cells = delta.batch().columns().iter().map(|column| {
                if column.is_null(row) {
                    return Ok("NULL".to_string());
                }
                let formatter = ArrayFormatter::try_new(column, &options)?;
                Ok(match column.data_type() {
                    DataType::Float64 => {
                        format!(
                            "{:?}",
                            arrow::array::AsArray::as_primitive::<arrow::datatypes::Float64Type>(column).value(row)
                        )
                    }
                    _ => formatter.value(row).to_string(),
                })
            });
            let text = cells.collect::<Result<Vec<_>>>()?.join("|");
            *shown.entry(text).or_default() += delta.weight(row);
        }
    }
    shown.retain(|_, weight| *weight != 0);
    Ok(())
}

fn random_row(random: &mut StdRng) -> Row {
    fn maybe<T>(random: &mut StdRng, value: T) -> Option<T> {
        random.random_bool(0.85).then_some(value)
    }
    let x = [0.1, 1e15, -2.5, 1e-9, 7.0, 1e300][random.random_range(0..6)];
    let (key, n) = (random.random_range(0..3), random.random_range(-4..5));
    let text = ["a", "b", "cc", "d d"][random.random_range(0..4)];
    let flag = random.random_bool(0.7);
    Row {
        key: maybe(random, key),
        x: maybe(random, x),
        n: maybe(random, n),
        text: maybe(random, text),
        flag: maybe(random, flag),
    }
}

#[test]
fn aggregates_are_those_of_a_recomputation() -> Result<()> {
    for seed in 0..30 {
        let mut random = StdRng::seed_from_u64(seed);
        let calls = calls()?;
        let mut operator = AggregateOperator::new(&input(), vec![0], calls.clone(), output(&calls), false)?;
        let (mut contents, mut shown): (Vec<(Row, i64)>, _) = (vec![], BTreeMap::new());
        for step in 0..25 {
            let mut changes = vec![];
            for _ in 0..random.random_range(1..8) {
                if random.random_bool(0.4) && !contents.is_empty() {
                    let at = random.random_range(0..contents.len());
                    let weight = contents[at].1;
                    changes.push((contents.swap_remove(at).0, -weight));
                } else {
                    let change = (random_row(&mut random), random.random_range(1..3));
                    contents.push(change.clone());
                    changes.push(change);
                }
            }
            let mut context = EpochContext::new(Epoch(step), step == 0, 0);
            apply(&mut shown, operator.step(vec![vec![delta(&changes)?]], &mut context)?)?;
            assert!(context.errors.is_empty());
            assert_eq!(shown, expected(&contents), "seed {seed} step {step}");
        }
        let rest: Vec<(Row, i64)> = contents.iter().map(|(row, weight)| (row.clone(), -weight)).collect();
        let mut context = EpochContext::new(Epoch(99), false, 0);
        apply(&mut shown, operator.step(vec![vec![delta(&rest)?]], &mut context)?)?;
        assert!(shown.is_empty());
        assert_eq!(operator.state_size().row_count, 0, "nothing is kept of groups that are gone");
    }
    Ok(())
}

#[test]
fn a_retraction_may_come_before_its_insertion() -> Result<()> {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let kept: Vec<(Row, i64)> = (0..6).map(|_| (random_row(&mut random), 1)).collect();
        let mut changes = kept.clone();
        for _ in 0..10 {
            let row = random_row(&mut random);
            changes.extend([(row.clone(), 1), (row, -1)]);
        }
        changes.shuffle(&mut random);
        let calls = calls()?;
        let mut operator = AggregateOperator::new(&input(), vec![0], calls.clone(), output(&calls), false)?;
        let mut shown = BTreeMap::new();
        for (step, piece) in changes.chunks(3).enumerate() {
            let mut context = EpochContext::new(Epoch(step as u64), step == 0, 0);
            apply(&mut shown, operator.step(vec![vec![delta(piece)?]], &mut context)?)?;
        }
        assert_eq!(shown, expected(&kept), "seed {seed}");
    }
    Ok(())
}

#[test]
fn groups_that_are_always_there_have_a_row_before_the_first_and_after_the_last() -> Result<()> {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::UInt8, false)]));
    let ids = |values: Vec<u8>| RecordBatch::try_new(schema.clone(), vec![Arc::new(UInt8Array::from(values))]);
    let calls = vec![call(AggregateKind::Count, vec![], DataType::Int64)];
    let output =
        Arc::new(Schema::new(vec![Field::new("id", DataType::UInt8, false), Field::new("n", DataType::Int64, true)]));
    let mut shown = BTreeMap::new();
    let mut operators = (0..2)
        .map(|_| {
            let operator = AggregateOperator::new(&schema, vec![0], calls.clone(), output.clone(), false)?;
            Ok(operator.with_always(ids(vec![1, 3])?, 2))
        })
        .collect::<Result<Vec<_>>>()?;
    for (worker, operator) in operators.iter_mut().enumerate() {
        let mut context = EpochContext::new(Epoch(1), true, worker);
        apply(&mut shown, operator.step(vec![vec![]], &mut context)?)?;
    }
    assert_eq!(shown.keys().collect::<Vec<_>>(), ["1|0", "3|0"]);

    let operator = AggregateOperator::new(&schema, vec![0], calls, output, false)?;
    let mut operator = operator.with_always(ids(vec![1])?, 1);
    let mut shown = BTreeMap::new();
    for (step, weight) in [1, -1].into_iter().enumerate() {
        let delta = Delta::new(ids(vec![0, 1])?, vec![weight, weight]);
        let mut context = EpochContext::new(Epoch(step as u64), step == 0, 0);
        apply(&mut shown, operator.step(vec![vec![delta]], &mut context)?)?;
        let expected: &[&str] = if weight == 1 { &["0|1", "1|1"] } else { &["1|0"] };
        assert_eq!(shown.keys().collect::<Vec<_>>(), expected);
    }
    Ok(())
}

/// Rows and retractions come by either of two workers; what is added up first gives the same as the rows themselves.
#[test]
fn sums_of_workers_add_up_to_those_of_rows() -> Result<()> {
    let calls: Vec<AggregateCall> =
        calls()?.into_iter().filter(|call| combines(std::slice::from_ref(call), false)).collect();
    assert!(calls.len() > 5);
    for (seed, keys) in [(0, vec![0]), (1, vec![]), (2, vec![0]), (3, vec![])] {
        let mut random = StdRng::seed_from_u64(seed);
        let schema = match keys.as_slice() {
            [] => Arc::new(output(&calls).project(&(1..=calls.len()).collect::<Vec<_>>())?),
            _ => output(&calls),
        };
        let build = || AggregateOperator::new(&input(), keys.clone(), calls.clone(), schema.clone(), false);
        let (mut whole, mut merging) = (build()?, build()?);
        let mut workers = [(); 2].map(|()| CombineOperator::new(&input(), keys.clone(), calls.clone(), false));
        let (mut direct, mut merged) = (BTreeMap::new(), BTreeMap::new());
        let mut contents: Vec<Row> = vec![];
        let mut combined_count = 0;
        for step in 0..12 {
            let mut pieces = [vec![], vec![]];
            // Small deltas go on as they are.
            for _ in 0..[700, 40, 3000][step % 3] {
                let worker = random.random_range(0..2);
                if random.random_bool(0.4) && !contents.is_empty() {
                    let at = random.random_range(0..contents.len());
                    pieces[worker].push((contents.swap_remove(at), -1));
                } else {
                    let row = random_row(&mut random);
                    contents.push(row.clone());
                    pieces[worker].push((row, 1));
                }
            }
            let deltas = pieces.iter().map(|piece| delta(piece)).collect::<Result<Vec<_>>>()?;
            let context = || EpochContext::new(Epoch(step as u64), step == 0, 0);
            apply(&mut direct, whole.step(vec![deltas.clone()], &mut context())?)?;
            let mut sums = vec![];
            for (worker, delta) in workers.iter_mut().zip(deltas) {
                let worker = worker.as_mut().map_err(|error| error.clone())?;
                sums.extend(worker.step(vec![vec![delta]], &mut context())?);
            }
            combined_count += sums.iter().filter(|delta| delta.batch().num_columns() > 5).count();
            apply(&mut merged, merging.step(vec![sums], &mut context())?)?;
            assert_eq!(merged, direct, "seed {seed} step {step}");
        }
        assert!(combined_count >= 16, "large deltas are added up");
        assert_eq!(merging.state_size().row_count, whole.state_size().row_count);
    }
    Ok(())
}
