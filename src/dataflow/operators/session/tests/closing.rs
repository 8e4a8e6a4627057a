//! Sessions that are let go, against a model that takes rows in the order of their arrival and never into what is over.

use super::*;
use crate::plan::Watermark;
use crate::types::RelationId;

const RELATION: RelationId = RelationId(7);
const LATENESS_US: i64 = 3;

/// A row, and the watermark when it came.
type Arrived = (Row, Option<i64>);

fn closing_operator() -> Result<SessionOperator> {
    let watermark = Watermark::Delayed(Box::new(Watermark::Relation(RELATION)), GAP_US - 1);
    let time = TimeColumn { column: 1, watermark, lateness_us: LATENESS_US, is_kept: true };
    Ok(operator(vec![0])?.with_closing(time, Some(Arrival { column: 3, relation: RELATION })))
}

fn arrived_delta(rows: &[(Arrived, i64)]) -> Delta {
    let plain: Vec<(Row, i64)> = rows.iter().map(|((row, _), weight)| (*row, *weight)).collect();
    let plain = delta(&plain);
    let mut columns = plain.batch().columns().to_vec();
    columns.push(Arc::new(rows.iter().map(|((_, arrived), _)| *arrived).collect::<Int64Array>()));
    columns.push(Arc::new(Int64Array::from(vec![0; rows.len()])));
    let mut fields: Vec<Field> = input_schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.extend(["watermark_at_arrival", "arrived_at"].map(|name| Field::new(name, DataType::Int64, true)));
    plain.with_batch(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("five columns"))
}

fn context(before: Option<i64>, now: Option<i64>) -> EpochContext {
    let mut context = EpochContext::new(Epoch(1), false, 0);
    let of = |watermark: Option<i64>| Arc::new(watermark.map(|us| (RELATION, us)).into_iter().collect());
    (context.watermarks_before, context.watermarks) = (of(before), of(now));
    context
}

/// The end of the last session that is over.
fn over(watermark: Option<i64>) -> i64 {
    watermark.map_or(i64::MIN, |watermark| watermark - LATENESS_US)
}

fn is_late((row, arrived): &Arrived) -> bool {
    row.1.is_some_and(|time| time + GAP_US <= over(*arrived))
}

/// Rows in the order of their arrival, none of them late.
fn model(rows: &[Arrived]) -> BTreeMap<Shown, i64> {
    struct Open {
        key: Option<i32>,
        start: i64,
        last: i64,
        rows: Vec<Row>,
    }
    let mut sessions: Vec<Open> = vec![];
    for (row, arrived) in rows {
        let Some(time) = row.1 else { continue };
        let mut joined = Open { key: row.0, start: time, last: time, rows: vec![*row] };
        let (touched, others): (Vec<Open>, Vec<Open>) = sessions.into_iter().partition(|session| {
            let is_open = session.last + GAP_US > over(*arrived);
            is_open && session.key == row.0 && time < session.last + GAP_US && session.start < time + GAP_US
        });
        sessions = others;
        for session in touched {
            joined.start = joined.start.min(session.start);
            joined.last = joined.last.max(session.last);
            joined.rows.extend(session.rows);
        }
        sessions.push(joined);
    }
    let mut shown = BTreeMap::new();
    for session in sessions {
        for row in session.rows {
            *shown.entry((row, session.start, session.last + GAP_US)).or_default() += 1;
        }
    }
    shown
}

/// A stream whose times run ahead and fall back, with the watermark before each row and after the last.
fn stream(random: &mut StdRng, row_count: usize) -> (Vec<Arrived>, Vec<Option<i64>>) {
    let (pace, back) = (random.random_range(1..8), random.random_range(1..60));
    let delay = random.random_range(0..8);
    let (mut now, mut watermark) = (0, None::<i64>);
    let (mut rows, mut watermarks) = (vec![], vec![None]);
    for id in 0..row_count {
        now += random.random_range(0..=pace);
        let time =
            (!random.random_bool(0.02)).then(|| now - random.random_range(0..=back) * random.random_range(0..=1));
        let key = (!random.random_bool(0.1)).then(|| random.random_range(0..2));
        // Some rows are equal but for their arrival.
        let row = (key, time, if random.random_bool(0.3) { 0 } else { id as i32 });
        rows.push((row, watermark));
        watermark = watermark.max(time.map(|time| time - delay));
        watermarks.push(watermark);
    }
    (rows, watermarks)
}

fn in_time(rows: &[Arrived]) -> Vec<Arrived> {
    rows.iter().filter(|row| !is_late(row)).copied().collect()
}

fn added(rows: &[Arrived]) -> Vec<(Arrived, i64)> {
    rows.iter().map(|row| (*row, 1)).collect()
}

#[test]
fn batches_and_freed_state_change_nothing() -> Result<()> {
    for seed in 0..80 {
        let mut random = StdRng::seed_from_u64(seed);
        let (rows, watermarks) = stream(&mut random, 300);
        let mut operator = closing_operator()?;
        let (mut shown, mut from) = (BTreeMap::new(), 0);
        while from < rows.len() {
            let to = rows.len().min(from + random.random_range(1..=[1, 10, 100][seed as usize % 3]));
            let (before, now) = (watermarks[from], watermarks[to]);
            let delta = arrived_delta(&added(&in_time(&rows[from..to])));
            let mut changed = BTreeMap::new();
            step_in(&mut operator, vec![delta], &mut context(before, now), &mut changed)?;
            for (row, weight) in changed {
                assert!(row.2 > over(before), "seed {seed}: a change of a session that is over, {row:?}");
                *shown.entry(row).or_default() += weight;
            }
            shown.retain(|_, weight| *weight != 0);
            let expected = model(&in_time(&rows[..to]));
            assert_eq!(shown, expected, "seed {seed}, {to} rows");
            let open: i64 = expected.iter().filter(|((_, _, end), _)| *end > over(now)).map(|(_, weight)| weight).sum();
            // Equal rows that came at different times are two.
            let kept = operator.partitions.iter().map(|partition| partition.rows.row_count()).sum::<u64>();
            assert_eq!(kept, open as u64, "seed {seed}, {to} rows");
            from = to;
        }
        step_in(&mut operator, vec![], &mut context(watermarks[rows.len()], Some(i64::MAX)), &mut BTreeMap::new())?;
        assert_eq!((operator.state_size().row_count, operator.index.len()), (0, 0), "seed {seed}");
    }
    Ok(())
}

/// As a view that is created later reads what is there: in no order, and nothing is over before it has read all.
#[test]
fn whatever_the_order_in_which_rows_are_read() -> Result<()> {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let (rows, watermarks) = stream(&mut random, 250);
        let (early, later) = rows.split_at(200);
        let mut read = in_time(early);
        read.shuffle(&mut random);
        let (mut operator, mut shown) = (closing_operator()?, BTreeMap::new());
        let mut rest = &read[..];
        while !rest.is_empty() {
            let (now, after) = rest.split_at(random.random_range(1..=rest.len()));
            step_in(&mut operator, vec![arrived_delta(&added(now))], &mut context(None, None), &mut shown)?;
            rest = after;
        }
        assert_eq!(shown, model(&in_time(early)), "seed {seed}");
        step_in(&mut operator, vec![], &mut context(None, watermarks[200]), &mut shown)?;
        let delta = arrived_delta(&added(&in_time(later)));
        step_in(&mut operator, vec![delta], &mut context(watermarks[200], watermarks[250]), &mut shown)?;
        assert_eq!(shown, model(&in_time(&rows)), "seed {seed}");
    }
    Ok(())
}

/// Rows of a join may go again: the sessions are those of the rows that stay.
#[test]
fn rows_that_go_again_leave_what_the_others_make() -> Result<()> {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let (rows, _) = stream(&mut random, 150);
        let rows = in_time(&rows);
        let mut changes: Vec<(usize, i64)> = (0..rows.len()).map(|at| (at, 1)).collect();
        changes.shuffle(&mut random);
        for at in 0..rows.len() {
            if random.random_bool(0.5) {
                changes.insert(random.random_range(0..=changes.len()), (at, -1));
            }
        }
        let (mut operator, mut shown) = (closing_operator()?, BTreeMap::new());
        let mut weights = vec![0; rows.len()];
        let mut rest = &changes[..];
        while !rest.is_empty() {
            let (now, after) = rest.split_at(random.random_range(1..=rest.len().min(20)));
            rest = after;
            let changed: Vec<(Arrived, i64)> = now.iter().map(|(at, weight)| (rows[*at], *weight)).collect();
            now.iter().for_each(|(at, weight)| weights[*at] += weight);
            step_in(&mut operator, vec![arrived_delta(&changed)], &mut context(None, None), &mut shown)?;
            // A row that went before it came takes another with it, which is equal and reaches as far.
            let mut sums: BTreeMap<(Row, Option<i64>), (Option<i64>, i64)> = BTreeMap::new();
            for ((row, arrived), weight) in rows.iter().zip(&weights) {
                sums.entry((*row, row.1.max(Some(over(*arrived))))).or_insert((*arrived, 0)).1 += weight;
            }
            let mut left: Vec<Arrived> = vec![];
            for ((row, _), (arrived, weight)) in sums {
                left.extend(std::iter::repeat_n((row, arrived), weight.max(0) as usize));
            }
            left.sort_by_key(|(_, arrived)| *arrived);
            assert_eq!(shown, model(&left), "seed {seed}, {} changes to come", rest.len());
        }
    }
    Ok(())
}
