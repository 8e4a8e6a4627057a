//! Windows, lateness and emission against a model that recomputes everything: whatever the batches, the workers and the
//! restarts between them, the views hold what the order of the rows alone makes of them.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Client, Server, TestResult, eventually, one, rows, seed};

/// Seconds that the watermark trails the largest time.
const DELAY: i64 = 20;
const SIZE: i64 = 60;
const SLIDE: i64 = 30;
const FINE_SLIDE: i64 = 5;
const LATENESS: i64 = 45;
const GAP: i64 = 20;

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

/// Sessions as (start, end, key): count and sum. A row is taken into what it touches, if that is not over when it comes.
fn sessions(arrived: &[Row], lateness: i64) -> BTreeMap<(i64, i64, i64), (i64, i64)> {
    let (before, _) = watermarks(arrived);
    let mut sessions: BTreeMap<(i64, i64, i64), (i64, i64)> = BTreeMap::new();
    for ((time, key, value), watermark) in arrived.iter().zip(before) {
        let Some(time) = *time else { continue };
        let is_open = |end: i64| watermark.is_none_or(|watermark| watermark < end + lateness);
        if !is_open(time + GAP) {
            continue;
        }
        let is_touched =
            |&(start, end, of): &(i64, i64, i64)| of == *key && is_open(end) && time < end && start < time + GAP;
        let touched: Vec<(i64, i64, i64)> = sessions.keys().copied().filter(is_touched).collect();
        let (mut start, mut end, mut count, mut sum) = (time, time + GAP, 1, *value);
        for session in touched {
            let (n, total) = sessions.remove(&session).expect("it was just found");
            (start, end) = (start.min(session.0), end.max(session.1));
            (count, sum) = (count + n, sum + total);
        }
        sessions.insert((start, end, *key), (count, sum));
    }
    sessions
}

fn shown_sessions(
    sessions: &BTreeMap<(i64, i64, i64), (i64, i64)>,
    is_shown: impl Fn(i64) -> bool,
) -> BTreeSet<String> {
    let shown = sessions.iter().filter(|((_, end, _), _)| is_shown(*end));
    shown.map(|((start, end, key), (count, sum))| format!("{start}+{}|{key}|{count}|{sum}", end - start)).collect()
}

fn shown(windows: &BTreeMap<(i64, i64), (i64, i64)>, is_shown: impl Fn(i64) -> bool) -> BTreeSet<String> {
    let shown = windows.iter().filter(|((start, _), _)| is_shown(*start));
    shown.map(|((start, key), (count, sum))| format!("{start}|{key}|{count}|{sum}")).collect()
}

async fn view(client: &Client, name: &str) -> TestResult<BTreeSet<String>> {
    view_by(client, name, "extract(epoch FROM s)::bigint").await
}

async fn session_view(client: &Client, name: &str) -> TestResult<BTreeSet<String>> {
    view_by(client, name, "extract(epoch FROM s)::bigint || '+' || extract(epoch FROM e - s)::bigint").await
}

async fn view_by(client: &Client, name: &str, window: &str) -> TestResult<BTreeSet<String>> {
    let sql = format!("SELECT {window}, k, n, total FROM {name}");
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
    "CREATE MATERIALIZED VIEW slid AS SELECT window_start AS s, k, count(*) AS n, sum(v) AS total
     FROM HOP(t, ts, INTERVAL '5 seconds', INTERVAL '60 seconds') GROUP BY window_start, window_end, k",
    "CREATE MATERIALIZED VIEW slid_closed AS SELECT window_start AS s, k, count(*) AS n, sum(v) AS total
     FROM HOP(t, ts, INTERVAL '5 seconds', INTERVAL '60 seconds') GROUP BY k, window_end, window_start EMIT ON WINDOW CLOSE",
    "CREATE MATERIALIZED VIEW slid_allowed WITH (allowed_lateness = '45 seconds', late_rows = 'keep') AS
     SELECT window_start AS s, k, count(*) AS n, sum(v) AS total
     FROM HOP(t, ts, INTERVAL '5 seconds', INTERVAL '60 seconds') WHERE k >= 0 GROUP BY window_start, k EMIT ON WINDOW CLOSE",
    "CREATE MATERIALIZED VIEW passed AS SELECT ts, k, v FROM t WHERE v >= 0",
    "CREATE MATERIALIZED VIEW over_passed AS SELECT date_trunc('minute', ts) AS s, k, count(*) AS n, sum(v) AS total
     FROM passed WHERE ts IS NOT NULL GROUP BY 1, k",
    "CREATE MATERIALIZED VIEW visits AS SELECT window_start AS s, window_end AS e, k, count(*) AS n, sum(v) AS total
     FROM SESSION(passed PARTITION BY k, ts, INTERVAL '20 seconds') GROUP BY window_start, window_end, k",
    "CREATE MATERIALIZED VIEW visit_rows AS SELECT ts, k, v, window_start, window_end
     FROM SESSION(t PARTITION BY k, ts, INTERVAL '20 seconds')",
    "CREATE MATERIALIZED VIEW visits_above AS SELECT window_start AS s, window_end AS e, k, count(*) AS n, sum(v) AS total
     FROM visit_rows GROUP BY window_start, window_end, k",
    "CREATE MATERIALIZED VIEW final_visits AS SELECT window_start AS s, window_end AS e, k, count(*) AS n, sum(v) AS total
     FROM SESSION(t PARTITION BY k, ts, INTERVAL '20 seconds') GROUP BY window_start, window_end, k EMIT ON WINDOW CLOSE",
    "CREATE MATERIALIZED VIEW allowed_visits WITH (allowed_lateness = '45 seconds', late_rows = 'keep') AS
     SELECT window_start AS s, window_end AS e, k, count(*) AS n, sum(v) AS total
     FROM SESSION(t PARTITION BY k, ts, INTERVAL '20 seconds') GROUP BY window_start, window_end, k EMIT ON WINDOW CLOSE",
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
    let fine = model(arrived, FINE_SLIDE, 0);
    assert_eq!(view(client, "slid").await?, shown(&fine, |_| true), "slid");
    assert_eq!(view(client, "slid_closed").await?, shown(&fine, is_over), "slid_closed");
    let slid_lenient = model(arrived, FINE_SLIDE, LATENESS);
    assert_eq!(view(client, "slid_allowed").await?, shown(&slid_lenient, is_over), "slid_allowed");
    let copies = arrived.iter().filter(|(time, ..)| time.is_some()).count() as i64 * (SIZE / FINE_SLIDE);
    let late = rows(client, "SELECT count(*) FROM slid_allowed_late").await?;
    let counted: i64 = slid_lenient.values().map(|(count, _)| count).sum();
    assert_eq!(late[0][0].as_deref().unwrap_or_default().parse::<i64>()?, copies - counted, "late rows of slices");
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

async fn compare_sessions(client: &Client, arrived: &[Row]) -> TestResult {
    let (_, watermark) = watermarks(arrived);
    let is_over = |end: i64| watermark.is_some_and(|watermark| watermark >= end);
    let (strict, lenient) = (sessions(arrived, 0), sessions(arrived, LATENESS));
    for name in ["visits", "visits_above"] {
        assert_eq!(session_view(client, name).await?, shown_sessions(&strict, |_| true), "{name}");
    }
    assert_eq!(session_view(client, "final_visits").await?, shown_sessions(&strict, is_over), "final_visits");
    assert_eq!(session_view(client, "allowed_visits").await?, shown_sessions(&lenient, is_over), "allowed_visits");
    let timed = arrived.iter().filter(|(time, ..)| time.is_some()).count() as i64;
    let counted: i64 = lenient.values().map(|(count, _)| count).sum();
    let late = rows(client, "SELECT ts FROM allowed_visits_late").await?;
    assert_eq!(late.len() as i64, timed - counted, "late rows of sessions");
    // Of what is over nothing is kept: rows of open sessions, and groups.
    let open = |sessions: &BTreeMap<(i64, i64, i64), (i64, i64)>, lateness: i64| -> (i64, i64) {
        let is_open = |end: i64| watermark.is_none_or(|watermark| watermark < end + lateness);
        let open = sessions.iter().filter(|((_, end, _), _)| is_open(*end));
        open.fold((0, 0), |(rows, groups), (_, (count, _))| (rows + count, groups + 1))
    };
    let kept = rows(
        client,
        "SELECT view, sum(state_row_count)::bigint FROM hw_catalog.view_operators
         WHERE operator LIKE '%window_end is over%' AND view LIKE '%visit%' GROUP BY view ORDER BY view",
    )
    .await?;
    let kept: Vec<String> =
        kept.into_iter().map(|row| row.into_iter().flatten().collect::<Vec<_>>().join("|")).collect();
    let ((few_rows, few), (all_rows, all)) = (open(&strict, 0), open(&lenient, LATENESS));
    let expected = [
        format!("allowed_visits|{}", all_rows + all),
        format!("final_visits|{}", few_rows + few),
        format!("visit_rows|{few_rows}"),
        format!("visits|{}", few_rows + few),
        format!("visits_above|{few}"),
    ];
    assert_eq!(kept, expected, "state");
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
        let (mut arrived, mut now, mut serial): (Vec<Row>, i64, i64) = (vec![], 0, 0);
        for round in 0..12 {
            let batch: Vec<Row> = (0..random.random_range(1..40))
                .map(|_| {
                    now += random.random_range(0..15);
                    let back =
                        if random.random_bool(0.2) { random.random_range(0..200) } else { random.random_range(0..20) };
                    let time = (!random.random_bool(0.03)).then_some(now - back);
                    // No two rows are equal: equal ones are kept as one.
                    serial += 1;
                    (time, random.random_range(0..3), serial)
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
                compare_sessions(&client, &arrived).await?;
            }
        }
    }
    Ok(())
}

/// Each row of a union is late by the watermark of its own table: so it does not matter how the rows of one came among those
/// of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_union_are_late_by_their_own_relation() -> TestResult {
    let seed = seed()?;
    println!("HW_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let views = [
        "CREATE MATERIALIZED VIEW above AS SELECT * FROM a UNION ALL SELECT * FROM b",
        "CREATE MATERIALIZED VIEW eager AS SELECT window_start AS s, k, count(*) AS n, sum(v) AS total
         FROM TUMBLE((SELECT * FROM a UNION ALL SELECT * FROM b), ts, INTERVAL '60 seconds') GROUP BY window_start, window_end, k",
        "CREATE MATERIALIZED VIEW closed AS SELECT window_start AS s, k, count(*) AS n, sum(v) AS total
         FROM TUMBLE(above, ts, INTERVAL '60 seconds') GROUP BY window_start, window_end, k EMIT ON WINDOW CLOSE",
        "CREATE MATERIALIZED VIEW beside AS SELECT window_start AS s, k, count(*) AS n, sum(v) AS total
         FROM (SELECT window_start, window_end, k, v FROM TUMBLE(a, ts, INTERVAL '60 seconds')
               UNION ALL SELECT window_start, window_end, k, v FROM TUMBLE(b, ts, INTERVAL '60 seconds')) w
         GROUP BY window_start, window_end, k",
        "CREATE MATERIALIZED VIEW slid AS SELECT window_start AS s, k, count(*) AS n, sum(v) AS total
         FROM HOP((SELECT * FROM a UNION ALL SELECT * FROM b), ts, INTERVAL '5 seconds', INTERVAL '60 seconds')
         GROUP BY window_start, window_end, k",
        "CREATE MATERIALIZED VIEW lenient WITH (allowed_lateness = '45 seconds', late_rows = 'keep') AS
         SELECT window_start AS s, k, count(*) AS n, sum(v) AS total
         FROM TUMBLE(above, ts, INTERVAL '60 seconds') GROUP BY window_start, window_end, k",
    ];
    for workers in [1, 2] {
        let mut server = Server::start(workers)?;
        let mut client = server.connect().await?;
        for table in ["a", "b"] {
            let sql = format!(
                "CREATE TABLE {table} (ts timestamp, k int, v int, WATERMARK FOR ts AS ts - INTERVAL '20 seconds') APPEND ONLY"
            );
            client.batch_execute(&sql).await?;
        }
        let early = random.random_range(0..=views.len());
        for view in &views[..early] {
            client.batch_execute(view).await?;
        }
        let (mut arrived, mut now): ([Vec<Row>; 2], [i64; 2]) = ([vec![], vec![]], [0, 0]);
        for round in 0..16 {
            let side = random.random_range(0..2);
            let batch: Vec<Row> = (0..random.random_range(1..25))
                .map(|_| {
                    now[side] += random.random_range(0..20);
                    let back_max = if random.random_bool(0.2) { 200 } else { 20 };
                    let back = random.random_range(0..back_max);
                    (Some(now[side] - back), random.random_range(0..3), random.random_range(0..100))
                })
                .collect();
            let values: Vec<String> = batch.iter().map(value).collect();
            client.batch_execute(&format!("INSERT INTO {} VALUES {}", ["a", "b"][side], values.join(", "))).await?;
            arrived[side].extend(batch);
            if round == 7 {
                for view in &views[early..] {
                    client.batch_execute(view).await?;
                }
            }
            if round == 11 {
                server.kill()?;
                server.start_again(Some(random.random_range(1..=2)))?;
                client = server.connect().await?;
            }
            if round < 7 {
                continue;
            }
            let both = |slide: i64, lateness: i64| {
                let mut windows = model(&arrived[0], slide, lateness);
                for (window, (count, sum)) in model(&arrived[1], slide, lateness) {
                    let own = windows.entry(window).or_insert((0, 0));
                    *own = (own.0 + count, own.1 + sum);
                }
                windows
            };
            let least = watermarks(&arrived[0]).1.min(watermarks(&arrived[1]).1);
            let is_over = |start: i64| least.is_some_and(|watermark| watermark >= start + SIZE);
            let strict = both(SIZE, 0);
            assert_eq!(view(&client, "eager").await?, shown(&strict, |_| true), "eager");
            assert_eq!(view(&client, "beside").await?, shown(&strict, |_| true), "beside");
            assert_eq!(view(&client, "closed").await?, shown(&strict, is_over), "closed");
            assert_eq!(view(&client, "slid").await?, shown(&both(FINE_SLIDE, 0), |_| true), "slid");
            let lenient = both(SIZE, LATENESS);
            assert_eq!(view(&client, "lenient").await?, shown(&lenient, |_| true), "lenient");
            let counted: i64 = lenient.values().map(|(count, _)| count).sum();
            let late = rows(&client, "SELECT count(*) FROM lenient_late").await?;
            let all = (arrived[0].len() + arrived[1].len()) as i64;
            assert_eq!(late[0][0].as_deref().unwrap_or_default().parse::<i64>()?, all - counted, "late rows");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_rows_are_kept_for_a_while() -> TestResult {
    let server = Server::start(2)?;
    let client = server.connect().await?;
    client
        .batch_execute(
            "CREATE TABLE t (ts timestamp, k int, WATERMARK FOR ts AS ts) APPEND ONLY;
             CREATE MATERIALIZED VIEW hourly WITH (late_rows = 'keep', late_rows_retention = '1 hour') AS
                 SELECT window_end, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY window_end;
             CREATE MATERIALIZED VIEW brief WITH (late_rows = 'keep', late_rows_retention = '500 milliseconds') AS
                 SELECT window_end, count(*) AS n FROM TUMBLE(t, ts, INTERVAL '1 minute') GROUP BY window_end;
             INSERT INTO t VALUES ('2026-01-01 00:00:30', 1), ('2026-01-01 00:01:00', 2), ('2026-01-01 00:00:40', 3)",
        )
        .await?;
    eventually("the late row to go", std::time::Duration::from_secs(20), async || {
        Ok((one(&client, "SELECT count(*) FROM brief_late").await? == "0").then_some(()))
    })
    .await?;
    assert_eq!(one(&client, "SELECT k FROM hourly_late").await?, "3");
    // It came too late all the same.
    let counted = "SELECT string_agg(view || ' ' || row_count, ', ' ORDER BY view) FROM hw_catalog.late_rows";
    assert_eq!(one(&client, counted).await?, "brief 1, hourly 1");
    let with = one(&client, "SELECT array_to_string(reloptions, ', ') FROM pg_class WHERE relname = 'hourly'").await?;
    assert_eq!(with, "late_rows=keep, late_rows_retention=3600 seconds");
    Ok(())
}
