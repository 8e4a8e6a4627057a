//! Sessions in signed rows, and random changes against sessions worked out from scratch.

mod closing;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int32Array, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type, TimeUnit};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::types::Epoch;

/// Partition, time, and what tells equal times apart.
type Row = (Option<i32>, Option<i64>, i32);
/// A row with the bounds of its session.
type Shown = (Row, i64, i64);

const GAP_US: i64 = 10;

fn input_schema() -> Schema {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let types = [("k", DataType::Int32), ("ts", time), ("id", DataType::Int32)];
    Schema::new(types.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec())
}

fn operator(partition: Vec<usize>) -> Result<SessionOperator> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let mut fields: Vec<Field> = input_schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.extend(["window_start", "window_end"].map(|name| Field::new(name, time.clone(), true)));
    SessionOperator::new(&input_schema(), partition, 1, GAP_US, Arc::new(Schema::new(fields)))
}

fn delta(rows: &[(Row, i64)]) -> Delta {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|(row, _)| row.0).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|(row, _)| row.1).collect::<TimestampMicrosecondArray>()),
        Arc::new(rows.iter().map(|(row, _)| row.2).collect::<Int32Array>()),
    ];
    let batch = RecordBatch::try_new(Arc::new(input_schema()), columns).expect("three columns");
    Delta::new(batch, rows.iter().map(|(_, weight)| *weight).collect::<Vec<_>>())
}

/// One step; what comes out is added to `shown`.
fn step(operator: &mut SessionOperator, deltas: Vec<Delta>, shown: &mut BTreeMap<Shown, i64>) -> Result<()> {
    step_in(operator, deltas, &mut EpochContext::new(Epoch(1), false, 0), shown)
}

fn step_in(
    operator: &mut SessionOperator,
    deltas: Vec<Delta>,
    context: &mut EpochContext,
    shown: &mut BTreeMap<Shown, i64>,
) -> Result<()> {
    for delta in operator.step(vec![deltas], context)? {
        let numbers = |column: usize| delta.column(column).as_primitive::<Int32Type>().clone();
        let times = |column: usize| cast(delta.column(column), &DataType::Int64).expect("a timestamp is a number");
        let (keys, ids) = (numbers(0), numbers(2));
        let [times, starts, ends] = [1, 3, 4].map(times);
        let value = |times: &ArrayRef, row: usize| times.as_primitive::<Int64Type>().value(row);
        for row in 0..delta.row_count() {
            let key = keys.is_valid(row).then(|| keys.value(row));
            let of_input = (key, Some(value(&times, row)), ids.value(row));
            *shown.entry((of_input, value(&starts, row), value(&ends, row))).or_default() += delta.weight(row);
        }
    }
    shown.retain(|_, weight| *weight != 0);
    Ok(())
}

/// Steps through lines like `+ 1 5` (a row of partition 1 at time 5; `-`, `+2` and `NULL` may stand for what they say) and
/// tells what comes out in the same way, with the bounds behind.
fn tell(operator: &mut SessionOperator, lines: &str) -> Result<String> {
    let mut rows = vec![];
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let weight = match words[0] {
            "+" => 1,
            "-" => -1,
            number => number.parse().expect("a weight"),
        };
        rows.push(((words[1].parse().ok(), words[2].parse().ok(), 0), weight));
    }
    let mut shown = BTreeMap::new();
    step(operator, vec![delta(&rows)], &mut shown)?;
    let lines = shown.iter().map(|(((key, time, _), start, end), weight)| {
        let sign = match weight {
            1 => "+".to_string(),
            -1 => "-".to_string(),
            more => format!("{more:+}"),
        };
        let key = key.map_or("NULL".to_string(), |key| key.to_string());
        format!("{sign} {key} {} [{start}, {end})", time.expect("a time"))
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

fn check(steps: &[(&str, &str)]) -> Result<()> {
    let mut operator = operator(vec![0])?;
    for (change, expected) in steps {
        let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let told = tell(&mut operator, change)?;
        assert_eq!(told.lines().collect::<Vec<_>>(), expected, "after\n{change}");
    }
    Ok(())
}

#[test]
fn a_row_begins_a_session_and_others_extend_it() -> Result<()> {
    check(&[
        ("+ 1 100", "+ 1 100 [100, 110)"),
        (
            "+ 1 109",
            "- 1 100 [100, 110)
             + 1 100 [100, 119)
             + 1 109 [100, 119)",
        ),
        // The gap itself is apart; another partition has sessions of its own.
        ("+ 1 119", "+ 1 119 [119, 129)"),
        ("+ 2 115", "+ 2 115 [115, 125)"),
        // A row between two others moves nobody; nor does one more like it.
        ("+ 1 104", "+ 1 104 [100, 119)"),
        ("+2 1 104", "+2 1 104 [100, 119)"),
        ("- 1 104", "- 1 104 [100, 119)"),
        ("-2 1 104", "-2 1 104 [100, 119)"),
    ])
}

#[test]
fn sessions_merge_and_split() -> Result<()> {
    check(&[
        ("+ 1 0\n+ 1 15", "+ 1 0 [0, 10)\n+ 1 15 [15, 25)"),
        (
            "+ 1 8",
            "- 1 0 [0, 10)
             + 1 0 [0, 25)
             + 1 8 [0, 25)
             + 1 15 [0, 25)
             - 1 15 [15, 25)",
        ),
        // Another bridge beside the first one: the first may go.
        ("+ 1 7", "+ 1 7 [0, 25)"),
        ("- 1 8", "- 1 8 [0, 25)"),
        (
            "- 1 7",
            "+ 1 0 [0, 10)
             - 1 0 [0, 25)
             - 1 7 [0, 25)
             - 1 15 [0, 25)
             + 1 15 [15, 25)",
        ),
        // A row moves from one to the other.
        (
            "- 1 0\n+ 1 20",
            "- 1 0 [0, 10)
             - 1 15 [15, 25)
             + 1 15 [15, 30)
             + 1 20 [15, 30)",
        ),
    ])
}

#[test]
fn rows_without_a_time_fall_out_and_null_is_a_partition() -> Result<()> {
    check(&[
        ("+ NULL 5\n+ 1 NULL\n+ NULL NULL", "+ NULL 5 [5, 15)"),
        ("- 1 NULL", ""),
        (
            "+ NULL 3",
            "+ NULL 3 [3, 15)
             + NULL 5 [3, 15)
             - NULL 5 [5, 15)",
        ),
    ])
}

#[test]
fn what_is_taken_back_before_it_came_is_never_seen() -> Result<()> {
    check(&[
        ("- 1 8", ""),
        ("+ 1 0\n+ 1 16", "+ 1 0 [0, 10)\n+ 1 16 [16, 26)"),
        ("+ 1 8", ""),
        ("-2 1 5", ""),
        ("+ 1 5", ""),
        (
            "+2 1 5",
            "- 1 0 [0, 10)
             + 1 0 [0, 15)
             + 1 5 [0, 15)",
        ),
    ])
}

#[test]
fn nothing_is_kept_of_what_is_gone() -> Result<()> {
    let mut operator = operator(vec![0])?;
    tell(&mut operator, "+ 1 0\n+ 1 5\n+ 2 5\n+ NULL 5")?;
    assert_eq!(operator.state_size().row_count, 4);
    tell(&mut operator, "- 1 0\n- 1 5\n- 2 5\n- NULL 5")?;
    assert_eq!(operator.state_size().row_count, 0);
    assert_eq!(operator.index.len(), 0);
    assert!(operator.partitions.iter().all(|partition| partition.sessions.memory_bytes() == 0));
    Ok(())
}

/// Each partition sorted, and cut where two neighbours are the gap apart.
fn naive(rows: &BTreeMap<Row, i64>, partitioned: bool) -> BTreeMap<Shown, i64> {
    let mut partitions: BTreeMap<Option<i32>, Vec<(i64, Row, i64)>> = BTreeMap::new();
    for (row, &weight) in rows {
        if let (Some(time), 1..) = (row.1, weight) {
            let partition = if partitioned { row.0 } else { None };
            partitions.entry(partition).or_default().push((time, *row, weight));
        }
    }
    let mut shown = BTreeMap::new();
    for mut rows in partitions.into_values() {
        rows.sort_unstable();
        let (mut session, mut start) = (vec![], 0);
        for at in 0..rows.len() {
            if session.is_empty() {
                start = rows[at].0;
            }
            session.push(rows[at]);
            let last = rows[at].0;
            if rows.get(at + 1).is_none_or(|next| next.0 - last >= GAP_US) {
                for (_, row, weight) in session.drain(..) {
                    shown.insert((row, start, last + GAP_US), weight);
                }
            }
        }
    }
    shown
}

#[test]
fn random_changes_equal_a_recomputation() -> Result<()> {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let partitioned = random.random_bool(0.7);
        let mut operator = operator(if partitioned { vec![0] } else { vec![] })?;
        // Sparse times make many sessions, dense ones few.
        let times = [40, 300, 4000][seed as usize % 3];
        let row_count = [20, 200, 1500][random.random_range(0..3)];
        // Inserts, of which some are taken back, in no order at all: a retraction may come before its insertion.
        let mut changes: Vec<(Row, i64)> = vec![];
        for _ in 0..row_count {
            let key = (!random.random_bool(0.1)).then(|| random.random_range(0..3));
            let time = (!random.random_bool(0.05)).then(|| random.random_range(-times..times));
            let row = (key, time, random.random_range(0..3));
            let count = random.random_range(1..3);
            changes.push((row, count));
            if random.random_bool(0.6) {
                changes.push((row, -random.random_range(1..=count)));
            }
        }
        changes.shuffle(&mut random);
        // At last all of it goes.
        let mut sum: BTreeMap<Row, i64> = BTreeMap::new();
        changes.iter().for_each(|(row, weight)| *sum.entry(*row).or_default() += weight);
        let mut rest: Vec<(Row, i64)> = sum.into_iter().map(|(row, weight)| (row, -weight)).collect();
        rest.shuffle(&mut random);
        changes.extend(rest);

        let (mut rows, mut shown) = (BTreeMap::new(), BTreeMap::new());
        let mut changes = &changes[..];
        while !changes.is_empty() {
            let (now, later) = changes.split_at(random.random_range(1..=changes.len().min(60)));
            changes = later;
            now.iter().for_each(|(row, weight)| *rows.entry(*row).or_default() += weight);
            rows.retain(|_, weight| *weight != 0);
            let deltas = match random.random_bool(0.5) {
                true => now.chunks(random.random_range(1..8)).map(delta).collect(),
                false => vec![delta(now)],
            };
            step(&mut operator, deltas, &mut shown)?;
            assert_eq!(shown, naive(&rows, partitioned), "seed {seed}, {} changes to come", later.len());
        }
        assert!(shown.is_empty(), "seed {seed}");
        assert_eq!(operator.state_size().row_count, 0, "seed {seed}");
    }
    Ok(())
}

/// Rows within a session that stays as it is move nobody, however long the session is.
#[test]
fn what_comes_out_is_of_sessions_that_changed() -> Result<()> {
    let mut operator = operator(vec![0])?;
    let rows: Vec<(Row, i64)> = (0..1000).map(|at| ((Some(1), Some(at * 4), 0), 1)).collect();
    step(&mut operator, vec![delta(&rows)], &mut BTreeMap::new())?;
    let row_count = |operator: &mut SessionOperator, row: Row, weight: i64| -> Result<usize> {
        let mut context = EpochContext::new(Epoch(1), false, 0);
        let output = operator.step(vec![vec![delta(&[(row, weight)])]], &mut context)?;
        Ok(output.iter().map(Delta::row_count).sum())
    };
    assert_eq!(row_count(&mut operator, (Some(1), Some(1001), 0), 1)?, 1);
    assert_eq!(row_count(&mut operator, (Some(1), Some(1001), 0), -1)?, 1);
    assert_eq!(row_count(&mut operator, (Some(1), Some(2000), 0), -1)?, 1);
    assert_eq!(row_count(&mut operator, (Some(1), Some(5000), 0), 1)?, 1);
    // Two rows that are next to each other hold it together: without the second it splits.
    assert_eq!(row_count(&mut operator, (Some(1), Some(2004), 0), -1)?, 1 + 2 * 998);
    Ok(())
}
