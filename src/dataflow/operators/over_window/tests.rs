//! Random changes against DataFusion's evaluation of the whole partition, for every kind of reach.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::common::ScalarValue;
use datafusion::functions_aggregate as aggregate;
use datafusion::functions_window as window;
use datafusion::logical_expr::{WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::windows::create_window_expr;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::dataflow::residency::by_hand::Life;
use crate::plan::{Reach, Running};
use crate::state::Memory;
use crate::types::Epoch;

type Row = (i32, Option<i32>, Option<i64>);

fn input_schema() -> SchemaRef {
    let types = [("p", DataType::Int32), ("k", DataType::Int32), ("v", DataType::Int64)];
    Arc::new(Schema::new(types.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec()))
}

fn batch(rows: impl Iterator<Item = Row> + Clone) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.clone().map(|row| row.0).collect::<Int32Array>()),
        Arc::new(rows.clone().map(|row| row.1).collect::<Int32Array>()),
        Arc::new(rows.map(|row| row.2).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(input_schema(), columns).expect("three columns")
}

const ORDER: SortOptions = SortOptions { descending: false, nulls_first: false };

fn call(
    name: &str,
    function: WindowFunctionDefinition,
    more: &[ScalarValue],
    frame: WindowFrame,
    reach: Reach,
) -> WindowCall {
    let column = |name: &str, at| Arc::new(Column::new(name, at)) as Arc<dyn PhysicalExpr>;
    let mut args = match function.name() {
        "row_number" | "rank" | "dense_rank" | "percent_rank" | "cume_dist" | "ntile" => vec![],
        _ => vec![column("v", 2)],
    };
    args.extend(more.iter().map(|value| Arc::new(Literal::new(value.clone())) as _));
    let order = [PhysicalSortExpr { expr: column("k", 1), options: ORDER }];
    let expr = create_window_expr(
        &function,
        name.to_string(),
        &args,
        &[column("p", 0)],
        &order,
        Arc::new(frame),
        input_schema(),
        false,
        false,
        None,
    );
    WindowCall {
        expr: expr.expect("a window function"),
        filter: None,
        reach,
        name: name.to_string(),
        form: name.to_string(),
    }
}

fn frame(units: WindowFrameUnits, before: Option<i64>, after: Option<i64>) -> WindowFrame {
    let distance = |n: Option<i64>| match units {
        WindowFrameUnits::Range => ScalarValue::Int32(n.map(|n| n as i32)),
        _ => ScalarValue::UInt64(n.map(|n| n as u64)),
    };
    let end =
        if after == Some(0) { WindowFrameBound::CurrentRow } else { WindowFrameBound::Following(distance(after)) };
    WindowFrame::new_bounds(units, WindowFrameBound::Preceding(distance(before)), end)
}

/// By number: one of each kind.
fn calls() -> Vec<WindowCall> {
    use WindowFrameUnits::{Groups, Range, Rows};
    use WindowFunctionDefinition::{AggregateUDF, WindowUDF};
    let usual = || WindowFrame::new(Some(false));
    let value = |n: i32| ScalarValue::Int32(Some(n));
    let long = |n: i64| ScalarValue::Int64(Some(n));
    let running = Reach::Running;
    let rows = |before, after| Reach::Rows { before, after };
    let sum = || AggregateUDF(aggregate::sum::sum_udaf());
    let max = || AggregateUDF(aggregate::min_max::max_udaf());
    let count = || AggregateUDF(aggregate::count::count_udaf());
    vec![
        call("number", WindowUDF(window::row_number::row_number_udwf()), &[], usual(), running(Running::RowNumber)),
        call("rank", WindowUDF(window::rank::rank_udwf()), &[], usual(), running(Running::Rank)),
        call("dense", WindowUDF(window::rank::dense_rank_udwf()), &[], usual(), running(Running::DenseRank)),
        call("percent", WindowUDF(window::rank::percent_rank_udwf()), &[], usual(), Reach::Partition),
        call("tile", WindowUDF(window::ntile::ntile_udwf()), &[long(3)], usual(), Reach::Partition),
        call("lag", WindowUDF(window::lead_lag::lag_udwf()), &[long(2), long(-1)], usual(), rows(2, 0)),
        call("lead", WindowUDF(window::lead_lag::lead_udwf()), &[], usual(), rows(0, 1)),
        call("first", WindowUDF(window::nth_value::first_value_udwf()), &[], usual(), running(Running::FirstValue)),
        call(
            "last",
            WindowUDF(window::nth_value::last_value_udwf()),
            &[],
            usual(),
            Reach::Groups { before: 0, after: 0 },
        ),
        call("run", sum(), &[], usual(), running(Running::Aggregate { peers: true })),
        call("run_rows", sum(), &[], frame(Rows, None, Some(0)), running(Running::Aggregate { peers: false })),
        call("run_max", max(), &[], usual(), running(Running::Aggregate { peers: true })),
        call("run_count", count(), &[], frame(Rows, None, Some(0)), running(Running::Aggregate { peers: false })),
        call("all", count(), &[], frame(Rows, None, None), Reach::Partition),
        call("near", sum(), &[], frame(Rows, Some(3), Some(1)), rows(3, 1)),
        call("near_max", max(), &[], frame(Rows, Some(1), Some(2)), rows(1, 2)),
        call("groups", sum(), &[], frame(Groups, Some(1), Some(2)), Reach::Groups { before: 1, after: 2 }),
        call(
            "range",
            count(),
            &[],
            frame(Range, Some(2), Some(3)),
            Reach::Range { before: Some(value(2)), after: Some(value(3)) },
        ),
        call(
            "range_back",
            sum(),
            &[],
            frame(Range, Some(4), Some(0)),
            Reach::Range { before: Some(value(4)), after: None },
        ),
    ]
}

fn text(batch: &RecordBatch, row: usize) -> String {
    let cells = batch.columns().iter().map(|column| array_value_to_string(column, row).expect("a printable value"));
    cells.collect::<Vec<_>>().join(",")
}

fn schema_of(calls: &[WindowCall]) -> SchemaRef {
    let results =
        calls.iter().map(|call| Arc::new(call.expr.field().expect("a field").as_ref().clone().with_name(&call.name)));
    Arc::new(Schema::new(input_schema().fields().iter().cloned().chain(results).collect::<Vec<_>>()))
}

/// Each partition sorted and evaluated as a whole.
fn naive(rows: &BTreeMap<Row, i64>, calls: &[WindowCall]) -> Result<BTreeMap<String, i64>> {
    let mut partitions: BTreeMap<i32, Vec<Row>> = BTreeMap::new();
    for (row, &weight) in rows {
        partitions.entry(row.0).or_default().extend((0..weight.max(0)).map(|_| *row));
    }
    let mut shown = BTreeMap::new();
    for mut rows in partitions.into_values() {
        // NULL last in ORDER BY, first among peers.
        rows.sort_by_key(|row| (row.1.is_none(), row.1, row.2));
        if rows.is_empty() {
            continue;
        }
        let input = batch(rows.iter().copied());
        let mut columns = input.columns().to_vec();
        for call in calls {
            columns.push(call.expr.evaluate(&input)?);
        }
        let output = RecordBatch::try_new(schema_of(calls), columns)?;
        (0..output.num_rows()).for_each(|row| *shown.entry(text(&output, row)).or_default() += 1);
    }
    Ok(shown)
}

/// Returns how many partitions went to disk meanwhile.
fn check(seed: u64, row_count: i32, epoch_count: u64, chosen: &[WindowCall]) -> Result<usize> {
    let mut random = StdRng::seed_from_u64(seed);
    let schema = schema_of(chosen);
    let order = vec![SortColumn { column: 1, options: ORDER }];
    let operator = || OverWindowOperator::new(input_schema(), vec![0], order.clone(), chosen.to_vec(), schema.clone());
    let memory = Arc::new(Memory::new(random.random_bool(0.5).then_some(4 << 10)));
    let mut life = Life::begin(operator()?, memory)?;
    let (mut rows, mut shown): (BTreeMap<Row, i64>, BTreeMap<String, i64>) = Default::default();
    let keys = row_count.max(4);
    let partition_count = [30, 2][seed as usize % 2];
    for epoch in 0..epoch_count {
        let count = if epoch == 0 { row_count } else { random.random_range(1..[3, 8][epoch as usize % 2]) };
        let mut changes: Vec<(Row, i64)> = vec![];
        for _ in 0..count {
            let (k, v) = (random.random_range(0..keys), random.random_range(0..6));
            let mut known = || random.random_bool(0.95);
            let (k, v) = (known().then_some(k), known().then_some(v));
            let row = (random.random_range(0..partition_count), k, v);
            changes.push((row, random.random_range(-1..3)));
        }
        // Rows that are there go, too, and are updated in place.
        for _ in 0..random.random_range(0..3) {
            let live: Vec<Row> = rows.iter().filter(|(_, weight)| **weight > 0).map(|(row, _)| *row).collect();
            if !live.is_empty() {
                let row = live[random.random_range(0..live.len())];
                changes.push((row, -1));
                if random.random_bool(0.5) {
                    changes.push(((row.0, row.1, row.2.map(|v| v + 1)), 1));
                }
            }
        }
        for (row, weight) in &changes {
            *rows.entry(*row).or_default() += weight;
        }
        rows.retain(|_, weight| *weight != 0);
        let delta = |changes: &[(Row, i64)]| {
            let weights: Vec<i64> = changes.iter().map(|(_, weight)| *weight).collect();
            Delta::new(batch(changes.iter().map(|(row, _)| *row)), weights)
        };
        let deltas = vec![delta(&changes[..changes.len() / 2]), delta(&changes[changes.len() / 2..])];
        let mut context = EpochContext::new(Epoch(epoch), epoch == 0, 0);
        for output in life.operator.step(vec![deltas], &mut context)? {
            for row in 0..output.row_count() {
                *shown.entry(text(output.batch(), row)).or_default() += output.weight(row);
            }
        }
        shown.retain(|_, weight| *weight != 0);
        assert!(context.errors.is_empty(), "{:?}", context.errors);
        let expected = naive(&rows, chosen)?;
        if shown != expected {
            let wrong: Vec<_> = shown.iter().filter(|(row, n)| expected.get(*row) != Some(n)).take(5).collect();
            let missing: Vec<_> = expected.iter().filter(|(row, n)| shown.get(*row) != Some(n)).take(5).collect();
            let names: Vec<&str> = chosen.iter().map(|call| call.name.as_str()).collect();
            panic!("seed {seed} epoch {epoch} {names:?}\nshown {wrong:?}\nexpected {missing:?}");
        }
        // What is on disk alone, and restarts, make no difference.
        life.disturb(&mut random)?;
        if random.random_bool(0.05) {
            life.restart(operator()?, random.random_bool(0.7))?;
        }
    }
    Ok(life.evicted_count)
}

#[test]
fn each_call_alone() -> Result<()> {
    let mut evicted_count = 0;
    for call in calls() {
        for seed in 0..4 {
            evicted_count += check(seed, [0, 6, 40, 1500][seed as usize], 25, std::slice::from_ref(&call))?;
        }
    }
    assert!(evicted_count > 100, "{evicted_count} partitions went");
    Ok(())
}

#[test]
fn calls_beside_each_other() -> Result<()> {
    let all = calls();
    for seed in 0..12 {
        let mut random = StdRng::seed_from_u64(seed);
        let chosen: Vec<WindowCall> = all.iter().filter(|_| random.random_bool(0.25)).cloned().collect();
        check(seed, [3, 30, 900][seed as usize % 3], 15, &chosen)?;
    }
    Ok(())
}
