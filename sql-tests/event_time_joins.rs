//! Joins and top-n that let go of what is over, against a model that recomputes everything from the order in which rows
//! came: whatever the batches, the workers, and the restarts between them. And that they do let go.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Client, Server, TestResult, rows, seed};

/// Seconds that the watermarks trail the largest time of their relation.
const DELAY: i64 = 20;
const SIZE: i64 = 60;
/// A row of `a` matches those of `b` from so many seconds before it to so many after it.
const BEFORE: i64 = 30;
const AFTER: i64 = 45;

const TABLES: &str = "
    CREATE TABLE a (ts timestamp, k int, v int, WATERMARK FOR ts AS ts - INTERVAL '20 seconds') APPEND ONLY;
    CREATE TABLE b (ts timestamp, k int, v int, WATERMARK FOR ts AS ts - INTERVAL '20 seconds') APPEND ONLY";

const WINDOWS: &str = "TUMBLE(a, ts, INTERVAL '60 seconds') l {join} TUMBLE(b, ts, INTERVAL '60 seconds') r ON l.window_start = r.window_start \
     AND l.window_end = r.window_end AND l.k = r.k";
const INTERVAL: &str =
    "a l {join} b r ON l.k = r.k AND r.ts BETWEEN l.ts - INTERVAL '30 seconds' AND l.ts + INTERVAL '45 seconds'";
const BAND: &str = "a l {join} b r ON l.ts >= r.ts - INTERVAL '45 seconds' AND l.ts <= r.ts + INTERVAL '30 seconds'";

/// Names, queries, and what follows them.
fn views() -> Vec<(String, String)> {
    let mut views = vec![];
    let kinds = [("inner", "JOIN"), ("left", "LEFT JOIN"), ("right", "RIGHT JOIN"), ("full", "FULL JOIN")];
    for (on, from) in [("windows", WINDOWS), ("interval", INTERVAL), ("band", BAND)] {
        for (kind, join) in kinds {
            let from = from.replace("{join}", join);
            views.push((format!("{on}_{kind}"), format!("SELECT l.v AS l, r.v AS r FROM {from}")));
        }
        let (left, right) = from.split_once(" {join} ").unwrap_or_default();
        let (right, condition) = right.split_once(" ON ").unwrap_or_default();
        for (kind, exists) in [("semi", "EXISTS"), ("anti", "NOT EXISTS")] {
            let query = format!("SELECT l.v AS l FROM {left} WHERE {exists} (SELECT 1 FROM {right} WHERE {condition})");
            views.push((format!("{on}_{kind}"), query));
        }
    }
    let closed = WINDOWS.replace("{join}", "LEFT JOIN");
    let closed = format!("SELECT l.window_end AS e, l.v AS l, r.v AS r FROM {closed} EMIT ON WINDOW CLOSE");
    views.push(("windows_closed".into(), closed));
    let pairs = INTERVAL.replace("{join}", "JOIN");
    let sums = format!(
        "SELECT window_end, count(*) AS n, sum(v) AS total
         FROM TUMBLE((SELECT l.ts, r.v FROM {pairs}), ts, INTERVAL '60 seconds') GROUP BY window_end"
    );
    views.push((
        "interval_sums".into(),
        format!("SELECT extract(epoch FROM window_end)::bigint, n, total FROM ({sums})"),
    ));
    let top = "SELECT v FROM (SELECT *, row_number() OVER (PARTITION BY window_end, k ORDER BY v % 10, v) AS n
               FROM TUMBLE(a, ts, INTERVAL '60 seconds')) WHERE n <= 2";
    views.push(("top".into(), top.into()));
    let once = "SELECT DISTINCT ON (date_trunc('minute', ts), k) v FROM a ORDER BY date_trunc('minute', ts), k, ts, v";
    views.push(("once".into(), once.into()));
    let ranked = "SELECT v, rank() OVER w, lead(v) OVER w, count(*) OVER (PARTITION BY window_end)
                  FROM TUMBLE(a, ts, INTERVAL '60 seconds') WINDOW w AS (PARTITION BY window_end ORDER BY v)";
    views.push(("ranked".into(), ranked.into()));
    views
}

#[derive(Clone, Copy)]
struct Row {
    time: Option<i64>,
    key: i64,
    /// Differs from row to row.
    value: i64,
    /// The watermark of its relation before it came.
    watermark: Option<i64>,
}

impl Row {
    fn end(&self) -> Option<i64> {
        Some(self.time?.div_euclid(SIZE) * SIZE + SIZE)
    }

    /// Its window was open when it came.
    fn is_in_window(&self) -> bool {
        self.end().is_some_and(|end| self.watermark.is_none_or(|watermark| watermark < end))
    }

    /// It was not behind the watermark when it came; without a time it never is.
    fn is_in_time(&self) -> bool {
        self.time.is_none_or(|time| self.watermark.is_none_or(|watermark| watermark <= time))
    }
}

/// One of the two relations: its rows in the order of their arrival.
#[derive(Default)]
struct Relation {
    rows: Vec<Row>,
    watermark: Option<i64>,
}

impl Relation {
    fn push(&mut self, time: Option<i64>, key: i64, value: i64) {
        self.rows.push(Row { time, key, value, watermark: self.watermark });
        self.watermark = self.watermark.max(time.map(|time| time - DELAY));
    }

    fn chosen(&self, is_chosen: fn(&Row) -> bool) -> Vec<Row> {
        self.rows.iter().filter(|row| is_chosen(row)).copied().collect()
    }
}

/// Pairs of rows that match, and rows without a match.
type Joined = Vec<(Option<Row>, Option<Row>)>;

fn join(left: &[Row], right: &[Row], matches: fn(&Row, &Row) -> bool) -> Joined {
    let mut joined = vec![];
    let mut is_met = vec![false; right.len()];
    for l in left {
        let before = joined.len();
        for (r, met) in right.iter().zip(&mut is_met).filter(|(r, _)| matches(l, r)) {
            joined.push((Some(*l), Some(*r)));
            *met = true;
        }
        if joined.len() == before {
            joined.push((Some(*l), None));
        }
    }
    joined.extend(right.iter().zip(is_met).filter(|(_, met)| !met).map(|(r, _)| (None, Some(*r))));
    joined
}

fn near(l: &Row, r: &Row) -> bool {
    let (Some(l), Some(r)) = (l.time, r.time) else { return false };
    (l - BEFORE..=l + AFTER).contains(&r)
}

/// What each view has to hold.
fn model(a: &Relation, b: &Relation) -> BTreeMap<String, Vec<String>> {
    let text = |value: Option<i64>| value.map_or("NULL".to_string(), |value| value.to_string());
    let value = |row: &Option<Row>| text(row.map(|row| row.value));
    let mut held = BTreeMap::new();
    let mut add = |on: &str, joined: &Joined| {
        for (kind, shows_left, shows_right) in
            [("inner", false, false), ("left", true, false), ("right", false, true), ("full", true, true)]
        {
            let is_shown =
                |(l, r): &&(Option<Row>, Option<Row>)| (l.is_some() || shows_right) && (r.is_some() || shows_left);
            let shown = joined.iter().filter(is_shown).map(|(l, r)| format!("{}|{}", value(l), value(r)));
            held.insert(format!("{on}_{kind}"), shown.collect());
        }
        let lefts = |is_met: bool| {
            let lefts = joined.iter().filter(move |(l, r)| l.is_some() && r.is_some() == is_met);
            let mut lefts: Vec<String> = lefts.map(|(l, _)| value(l)).collect();
            lefts.dedup();
            lefts
        };
        held.insert(format!("{on}_semi"), lefts(true));
        held.insert(format!("{on}_anti"), lefts(false));
    };
    let (a_windows, b_windows) = (a.chosen(Row::is_in_window), b.chosen(Row::is_in_window));
    let windows = join(&a_windows, &b_windows, |l, r| l.end() == r.end() && l.key == r.key);
    add("windows", &windows);
    let (a_times, b_times) = (a.chosen(Row::is_in_time), b.chosen(Row::is_in_time));
    let interval = join(&a_times, &b_times, |l, r| near(l, r) && l.key == r.key);
    add("interval", &interval);
    add("band", &join(&a_times, &b_times, near));

    let over = a.watermark.zip(b.watermark).map(|(a, b)| a.min(b));
    let is_over = |row: &Row| row.end() <= over;
    let closed = windows.iter().filter(|(l, _)| l.as_ref().is_some_and(is_over));
    let closed = closed.map(|(l, r)| format!("{}|{}|{}", text(l.and_then(|l| l.end())), value(l), value(r)));
    held.insert("windows_closed".into(), closed.collect());

    let mut sums: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (l, r) in &interval {
        if let (Some(end), Some(r)) = (l.and_then(|l| l.end()), r) {
            let (count, sum) = sums.entry(end).or_default();
            (*count, *sum) = (*count + 1, *sum + r.value);
        }
    }
    held.insert("interval_sums".into(), sums.iter().map(|(end, (n, sum))| format!("{end}|{n}|{sum}")).collect());

    let (mut tops, mut firsts): (BTreeMap<_, Vec<Row>>, BTreeMap<_, Row>) = Default::default();
    let mut ranked: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for row in &a_windows {
        tops.entry((row.end(), row.key)).or_default().push(*row);
        ranked.entry(row.end()).or_default().push(row.value);
    }
    let top = tops.into_values().flat_map(|mut rows| {
        rows.sort_by_key(|row| (row.value % 10, row.value));
        rows.into_iter().take(2).map(|row| row.value.to_string())
    });
    held.insert("top".into(), top.collect());
    // Without a time a row is in no window, but in a partition.
    for row in a.rows.iter().filter(|row| row.time.is_none() || row.is_in_window()) {
        let first = firsts.entry((row.end(), row.key)).or_insert(*row);
        if (row.time, row.value) < (first.time, first.value) {
            *first = *row;
        }
    }
    held.insert("once".into(), firsts.into_values().map(|row| row.value.to_string()).collect());
    let ranked = ranked.into_values().flat_map(|mut values| {
        values.sort_unstable();
        let line = |at: usize| {
            let next = text(values.get(at + 1).copied());
            format!("{}|{}|{next}|{}", values[at], at + 1, values.len())
        };
        (0..values.len()).map(line).collect::<Vec<_>>()
    });
    held.insert("ranked".into(), ranked.collect());
    held
}

async fn compare(client: &Client, a: &Relation, b: &Relation) -> TestResult {
    for (name, mut expected) in model(a, b) {
        let columns = if name == "windows_closed" { "extract(epoch FROM e)::bigint, l, r" } else { "*" };
        let found = rows(client, &format!("SELECT {columns} FROM {name}")).await?;
        let cell = |cell: Option<String>| cell.unwrap_or_else(|| "NULL".into());
        let line = |row: Vec<Option<String>>| row.into_iter().map(cell).collect::<Vec<_>>().join("|");
        let mut found: Vec<String> = found.into_iter().map(line).collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{name}");
    }
    Ok(())
}

async fn create(client: &Client, views: &[(String, String)]) -> TestResult {
    for (name, query) in views {
        client.batch_execute(&format!("CREATE MATERIALIZED VIEW {name} AS {query}")).await?;
    }
    Ok(())
}

fn value(row: &Row) -> String {
    let time = row.time.map_or("NULL".to_string(), |time| format!("to_timestamp({time})::timestamp"));
    format!("({time}, {}, {})", row.key, row.value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_depend_on_nothing_but_the_order_of_rows() -> TestResult {
    let seed = seed()?;
    println!("HW_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for workers in [1, 2] {
        let mut server = Server::start(workers)?;
        let mut client = server.connect().await?;
        client.batch_execute(TABLES).await?;
        // Some views are there from the start, the others come later.
        let mut all = views();
        for at in (1..all.len()).rev() {
            all.swap(at, random.random_range(0..=at));
        }
        let (early, later) = all.split_at(random.random_range(0..=all.len()));
        create(&client, early).await?;
        let mut relations = [Relation::default(), Relation::default()];
        // Each has a clock of its own.
        let mut clocks = [0, 0];
        for round in 0..12 {
            for _ in 0..random.random_range(1..4) {
                let side = random.random_range(0..2);
                let relation = &mut relations[side];
                let before = relation.rows.len();
                for _ in 0..random.random_range(1..20) {
                    clocks[side] += random.random_range(0..12);
                    let far = random.random_bool(0.2);
                    let back = if far { random.random_range(0..150) } else { random.random_range(0..20) };
                    let time = (!random.random_bool(0.03)).then_some(clocks[side] - back);
                    relation.push(time, random.random_range(0..3), relation.rows.len() as i64);
                }
                let name = ["a", "b"][side];
                let values: Vec<String> = relation.rows[before..].iter().map(value).collect();
                client.batch_execute(&format!("INSERT INTO {name} VALUES {}", values.join(", "))).await?;
            }
            if round == 4 {
                create(&client, later).await?;
            }
            if round == 8 {
                server.kill()?;
                server.start_again(Some(random.random_range(1..=2)))?;
                client = server.connect().await?;
            }
            println!("{workers} workers, round {round}: {:?} rows", relations.each_ref().map(|r| r.rows.len()));
            if round >= 4 {
                compare(&client, &relations[0], &relations[1]).await?;
            }
        }
    }
    Ok(())
}

/// Rows of a minute in each relation.
const ROWS_PER_MINUTE: i64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_is_let_go() -> TestResult {
    for workers in [1, 2] {
        let server = Server::start(workers)?;
        let client = server.connect().await?;
        client.batch_execute(TABLES).await?;
        create(&client, &views()).await?;
        // A day of event time, half an hour at a time.
        for half_hour in 0..48 {
            for name in ["a", "b"] {
                let values = (0..30 * ROWS_PER_MINUTE).map(|row| {
                    let time = half_hour * 1800 + row * 60 / ROWS_PER_MINUTE;
                    value(&Row { time: Some(time), key: row % 3, value: half_hour * 1000 + row, watermark: None })
                });
                let values: Vec<String> = values.collect();
                client.batch_execute(&format!("INSERT INTO {name} VALUES {}", values.join(", "))).await?;
            }
            if half_hour % 12 == 11 {
                let sql = "SELECT view, operator, state_row_count FROM hw_catalog.view_operators WHERE state_row_count > 1000";
                assert_eq!(rows(&client, sql).await?, Vec::<Vec<Option<String>>>::new(), "{workers} workers");
            }
        }
        // Half a day later no window is open, and no row can be met.
        client
            .batch_execute(
                "INSERT INTO a VALUES ('1970-01-02 12:00', 9, 1); INSERT INTO b VALUES ('1970-01-02 12:00', 9, 2)",
            )
            .await?;
        let sql = "SELECT view, operator, state_row_count FROM hw_catalog.view_operators WHERE state_row_count > 4";
        assert_eq!(rows(&client, sql).await?, Vec::<Vec<Option<String>>>::new(), "{workers} workers");
        let counted = rows(&client, "SELECT count(*) FROM windows_inner").await?;
        assert!(counted[0][0].as_deref() > Some("1"), "{counted:?}");
    }
    Ok(())
}
