//! Windows, lateness and emission against a model that recomputes everything: whatever the batches, the workers and the
//! restarts between them, the views hold what the order of the rows alone makes of them.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Client, Server, TestResult, rows, seed};

/// Seconds that the watermark trails the largest time.
const DELAY: i64 = 20;
const SIZE: i64 = 60;
const SLIDE: i64 = 30;
const LATENESS: i64 = 45;

/// Time in seconds, key, value; in the order of their arrival.
type Row = (Option<i64>, i64, i64);

/// The watermark before each row and after all of them.
fn watermarks(arrived: &[Row]) -> (Vec<Option<i64>>, Option<i64>) {
    let mut now: Option<i64> = None;
    let before = arrived.iter().map(|(time, ..)| {
        let before = now;
        now = now.max(time.map(|time| time - DELAY));
        before
    });
    (before.collect(), now)
}

/// Windows by start and key: count and sum of the rows that came before `lateness` after their end.
fn model(arrived: &[Row], slide: i64, lateness: i64) -> BTreeMap<(i64, i64), (i64, i64)> {
    let (before, _) = watermarks(arrived);
    let mut windows = BTreeMap::new();
    for ((time, key, value), watermark) in arrived.iter().zip(before) {
        let Some(time) = time else { continue };
        let mut start = time.div_euclid(slide) * slide;
        while start + SIZE > *time {
            if watermark.is_none_or(|watermark| watermark < start + SIZE + lateness) {
                let (count, sum) = windows.entry((start, *key)).or_insert((0, 0));
                *count += 1;
                *sum += value;
            }
            start -= slide;
        }
    }
    windows
}

fn shown(windows: &BTreeMap<(i64, i64), (i64, i64)>, is_shown: impl Fn(i64) -> bool) -> BTreeSet<String> {
    let shown = windows.iter().filter(|((start, _), _)| is_shown(*start));
    shown.map(|((start, key), (count, sum))| format!("{start}|{key}|{count}|{sum}")).collect()
}

async fn view(client: &Client, name: &str) -> TestResult<BTreeSet<String>> {
    let sql = format!("SELECT extract(epoch FROM s)::bigint, k, n, total FROM {name}");
    let cell = |cell: Option<String>| cell.unwrap_or_else(|| "NULL".into());
    Ok(rows(client, &sql)
        .await?
        .into_iter()
        .map(|row| row.into_iter().map(cell).collect::<Vec<_>>().join("|"))
        .collect())
}

const VIEWS: &[&str] = &[
    "CREATE MATERIALIZED VIEW eager AS SELECT window_start AS s, k, count(*) AS n, sum(v) AS total
     FROM TUMBLE(t, ts, INTERVAL '60 seconds') GROUP BY window_start, window_end, k",
    "CREATE MATERIALIZED VIEW closed AS SELECT window_start AS s, k, count(*) AS n, sum(v) AS total
     FROM TUMBLE(t, ts, INTERVAL '60 seconds') GROUP BY window_start, window_end, k EMIT ON WINDOW CLOSE",
    "CREATE MATERIALIZED VIEW allowed WITH (allowed_lateness = '45 seconds', late_rows = 'keep') AS
     SELECT window_start AS s, k, count(*) AS n, sum(v) AS total
     FROM TUMBLE(t, ts, INTERVAL '60 seconds') GROUP BY window_start, k EMIT ON WINDOW CLOSE",
    "CREATE MATERIALIZED VIEW hops AS SELECT window_start AS s, k, count(*) AS n, sum(v) AS total
     FROM HOP(t, ts, INTERVAL '30 seconds', INTERVAL '60 seconds') GROUP BY window_start, window_end, k",
    "CREATE MATERIALIZED VIEW passed AS SELECT ts, k, v FROM t WHERE v >= 0",
    "CREATE MATERIALIZED VIEW over_passed AS SELECT date_trunc('minute', ts) AS s, k, count(*) AS n, sum(v) AS total
     FROM passed WHERE ts IS NOT NULL GROUP BY 1, k",
];

async fn compare(client: &Client, arrived: &[Row]) -> TestResult {
    let (before, watermark) = watermarks(arrived);
    let is_over = |start: i64| watermark.is_some_and(|watermark| watermark >= start + SIZE);
    let strict = model(arrived, SIZE, 0);
    let lenient = model(arrived, SIZE, LATENESS);
    assert_eq!(view(client, "eager").await?, shown(&strict, |_| true), "eager");
    assert_eq!(view(client, "over_passed").await?, shown(&strict, |_| true), "over_passed");
    assert_eq!(view(client, "closed").await?, shown(&strict, is_over), "closed");
    assert_eq!(view(client, "allowed").await?, shown(&lenient, is_over), "allowed");
    assert_eq!(view(client, "hops").await?, shown(&model(arrived, SLIDE, 0), |_| true), "hops");
    // What is not counted is kept, and nothing is both.
    let timed = arrived.iter().filter(|(time, ..)| time.is_some()).count() as i64;
    let counted: i64 = lenient.values().map(|(count, _)| count).sum();
    let late = rows(client, "SELECT extract(epoch FROM watermark_at_arrival)::bigint FROM allowed_late").await?;
    assert_eq!(late.len() as i64, timed - counted, "late rows");
    let known: BTreeSet<i64> = before.into_iter().flatten().collect();
    for row in late {
        let at: i64 = row[0].as_deref().unwrap_or_default().parse()?;
        assert!(known.contains(&at), "a late row names the watermark {at}, which there never was");
    }
    Ok(())
}

fn value(row: &Row) -> String {
    let (time, key, value) = row;
    let time = time.map_or("NULL".to_string(), |time| format!("to_timestamp({time})::timestamp"));
    format!("({time}, {key}, {value})")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lateness_depends_on_nothing_but_the_order_of_rows() -> TestResult {
    let seed = seed()?;
    println!("HW_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for workers in [1, 2] {
        let mut server = Server::start(workers)?;
        let mut client = server.connect().await?;
        client
            .batch_execute("CREATE TABLE t (ts timestamp, k int, v int, WATERMARK FOR ts AS ts - INTERVAL '20 seconds') APPEND ONLY")
            .await?;
        // Some views are there from the start, the others come later.
        let (early, later) = VIEWS.split_at(random.random_range(0..=VIEWS.len()));
        for view in early {
            client.batch_execute(view).await?;
        }
        let (mut arrived, mut now): (Vec<Row>, i64) = (vec![], 0);
        for round in 0..12 {
            let batch: Vec<Row> = (0..random.random_range(1..40))
                .map(|_| {
                    now += random.random_range(0..15);
                    let back =
                        if random.random_bool(0.2) { random.random_range(0..200) } else { random.random_range(0..20) };
                    let time = (!random.random_bool(0.03)).then_some(now - back);
                    (time, random.random_range(0..3), random.random_range(0..100))
                })
                .collect();
            // The same rows in one statement or several.
            let mut rest = batch.as_slice();
            while !rest.is_empty() {
                let (part, after) = rest.split_at(random.random_range(1..=rest.len()));
                let values: Vec<String> = part.iter().map(value).collect();
                client.batch_execute(&format!("INSERT INTO t VALUES {}", values.join(", "))).await?;
                rest = after;
            }
            arrived.extend(batch);
            if round == 4 {
                for view in later {
                    client.batch_execute(view).await?;
                }
            }
            if round == 8 {
                server.kill()?;
                server.start_again(Some(random.random_range(1..=2)))?;
                client = server.connect().await?;
            }
            println!("{workers} workers, round {round}: {} rows", arrived.len());
            if round >= 4 {
                compare(&client, &arrived).await?;
            }
        }
    }
    Ok(())
}
