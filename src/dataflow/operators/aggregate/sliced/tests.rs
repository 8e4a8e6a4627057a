//! Random rows, some of them late, some taken back, against windows worked out from scratch; and an operator that goes on from
//! what another one has saved.

use arrow::datatypes::{Field, Schema, TimeUnit};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::plan::{AggregateKind, Arrival, TimeColumn, Watermark, Watermarks, Window};
use crate::types::{Epoch, RelationId};

const RELATION: RelationId = RelationId(7);
const WINDOW: Window = Window::Hop { slide_us: 4, size_us: 18, offset_us: 1 };
const LATENESS_US: i64 = 5;

/// Key, time, value, the watermark when it came; its weight.
type Row = (i32, i64, i64, Option<i64>, i64);
/// (key, start) to (count, sum).
type Windows = BTreeMap<(i32, i64), (i64, i64)>;

fn input() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int32, true),
        Field::new("time", time, true),
        Field::new("value", DataType::Int32, true),
        Field::new("watermark_at_arrival", DataType::Int64, true),
        Field::new("arrived_at", DataType::Int64, true),
    ]))
}

fn call(kind: AggregateKind, arguments: Vec<usize>) -> AggregateCall {
    let name = "call".to_string();
    AggregateCall { kind, arguments, order: vec![], filter: None, distinct: false, data_type: DataType::Int64, name }
}

fn operator(on_close: bool) -> Result<SlicedAggregateOperator> {
    let watermark = Watermark::End(Box::new(Watermark::Relation(RELATION)), WINDOW);
    let closing = Some(TimeColumn { column: 2, watermark, lateness_us: LATENESS_US, is_kept: true });
    let arrival = Some(Arrival { column: 3, relation: RELATION });
    let slices = Slices { time_column: 1, window: WINDOW, closing, takes_late: true, arrival, on_close };
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let schema = Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int32, true),
        Field::new("window_start", time.clone(), true),
        Field::new("window_end", time, true),
        Field::new("n", DataType::Int64, true),
        Field::new("total", DataType::Int64, true),
    ]));
    let calls = vec![call(AggregateKind::Count, vec![]), call(AggregateKind::Sum, vec![2])];
    SlicedAggregateOperator::new(input(), vec![0], calls, slices, schema, false)
}

fn delta(rows: &[Row]) -> Result<Delta> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.0)).collect::<arrow::array::Int32Array>()),
        Arc::new(rows.iter().map(|row| Some(row.1)).collect::<arrow::array::TimestampMicrosecondArray>()),
        Arc::new(rows.iter().map(|row| Some(row.2 as i32)).collect::<arrow::array::Int32Array>()),
        Arc::new(rows.iter().map(|row| row.3).collect::<Int64Array>()),
        Arc::new(Int64Array::from(vec![0; rows.len()])),
    ];
    Ok(Delta::new(RecordBatch::try_new(input(), columns)?, rows.iter().map(|row| row.4).collect::<Vec<_>>()))
}

/// Adds what comes out to what is shown.
fn show(output: &[Delta], shown: &mut BTreeMap<(i32, i64, i64, i64), i64>) -> Result<()> {
    for delta in output {
        let numbers = |column: usize| -> Result<Int64Array> {
            let column = arrow::compute::cast(delta.column(column), &DataType::Int64)?;
            Ok(column.as_primitive::<Int64Type>().clone())
        };
        let (keys, starts, counts, totals) = (numbers(0)?, numbers(1)?, numbers(3)?, numbers(4)?);
        for row in 0..delta.row_count() {
            let key = (keys.value(row) as i32, starts.value(row), counts.value(row), totals.value(row));
            *shown.entry(key).or_insert(0) += delta.weight(row);
        }
    }
    shown.retain(|_, weight| *weight != 0);
    Ok(())
}

fn model(rows: &[Row], is_shown: impl Fn(i64) -> bool) -> BTreeMap<(i32, i64, i64, i64), i64> {
    let mut windows = Windows::new();
    for &(key, time, value, arrived, weight) in rows {
        for (start, end) in WINDOW.bounds(time) {
            if arrived.is_none_or(|watermark| watermark < end + LATENESS_US) {
                let (count, sum) = windows.entry((key, start)).or_default();
                (*count, *sum) = (*count + weight, *sum + weight * value);
            }
        }
    }
    let there = windows.into_iter().filter(|((_, start), (count, _))| *count > 0 && is_shown(start + WINDOW.size_us()));
    there.map(|((key, start), (count, sum))| ((key, start, count, sum), 1)).collect()
}

#[test]
fn windows_are_what_their_slices_come_to_also_after_a_restart() -> Result<()> {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let on_close = seed % 2 == 0;
        let mut operator = operator(on_close)?;
        operator.record();
        let mut saved: Vec<Vec<Delta>> = vec![vec![], vec![]];
        let (mut rows, mut shown): (Vec<Row>, _) = (vec![], BTreeMap::new());
        let (mut now, mut watermark): (i64, Option<i64>) = (0, None);
        let mut before = Watermarks::new();
        for step in 0..40 {
            let from = rows.len();
            for _ in 0..random.random_range(0..12) {
                now += random.random_range(0..4);
                let back_max = if random.random_bool(0.2) { 40 } else { 6 };
                let time = now - random.random_range(0..back_max);
                let taken_back = rows.last().copied().filter(|row| row.4 > 0 && random.random_bool(0.2));
                rows.push(match taken_back {
                    Some(row) => (row.0, row.1, row.2, row.3, -1),
                    None => (random.random_range(0..3), time, random.random_range(0..100), watermark, 1),
                });
                watermark = watermark.max(Some(time - 6));
            }
            let after: Watermarks = watermark.iter().map(|us| (RELATION, *us)).collect();
            let mut context = EpochContext::new(Epoch(step), step == 0, 0);
            context.watermarks_before = Arc::new(std::mem::replace(&mut before, after.clone()));
            context.watermarks = Arc::new(after);
            let input = if rows.len() > from { vec![delta(&rows[from..])?] } else { vec![] };
            show(&operator.step(vec![input], &mut context)?, &mut shown)?;
            let is_over = |end: i64| !on_close || watermark.is_some_and(|watermark| watermark >= end);
            assert_eq!(shown, model(&rows, is_over), "seed {seed}, step {step}");
            let open = |start: &i64| watermark.is_none_or(|us| us < operator.slices.ends(*start).1 + LATENESS_US);
            assert!(operator.of_key.iter().flat_map(|groups| groups.keys()).all(|(start, _)| open(start)));
            if random.random_bool(0.3) {
                for (saved, change) in saved.iter_mut().zip(operator.take_changes()?) {
                    saved.extend(change.deltas);
                }
                if random.random_bool(0.3) {
                    let parts = operator.parts().into_iter().zip(&saved).map(|(part, saved)| {
                        let all = part.kind.settle(part.kind.merge(&part.schema, saved)?)?;
                        Ok(vec![all])
                    });
                    let parts = parts.collect::<Result<Vec<_>>>()?;
                    operator = self::operator(on_close)?;
                    operator.restore(parts, &mut EpochContext::new(Epoch(step), false, 0))?;
                    operator.record();
                    // A start knows no watermark before its first epoch.
                    before = Watermarks::new();
                }
            }
        }
    }
    Ok(())
}
