//! Nexmark and freshness, measured from outside against the real program: `make bench`.
//!
//! ```text
//! for each query and number of workers: a fresh server ─ CREATE SOURCE … ─ CREATE SINK … (blackhole) ─ until finished
//! rows per second = rows that the sources made ÷ time from CREATE SINK until all sources are finished
//! ```
//!
//! A source makes rows inside the server as fast as they are taken; the sink maintains its query and keeps nothing of the
//! output. The queries are RisingWave's. Prints a table for docs/benchmarks.md.
//!
//! Flags: `--rows N` (events to generate for a query, before its own factor), `--query NAME` (one of them; `freshness`,
//! `idle`, `durability`, `recovery`), `--workers N`.

mod durability;
mod freshness;
mod machine;
mod queries;
#[path = "../../sql-tests/harness/server.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod server;

use std::time::{Duration, Instant};

use tokio_postgres::SimpleQueryMessage;

use queries::{Emits, QUERIES, Query};
use server::{Client, Server};

pub type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Events for a query whose factor is 1.
const EVENTS_DEFAULT: u64 = 10_000_000;
/// A query that takes longer than this has failed.
const LIMIT: Duration = Duration::from_secs(600);
/// How often the sources are asked whether they are done; an upper bound of the error in time.
const ASK_EVERY: Duration = Duration::from_millis(5);

struct Flags {
    event_count: u64,
    query: Option<String>,
    workers: Vec<usize>,
}

fn main() -> TestResult {
    let flags = flags()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(run(flags))
}

async fn run(flags: Flags) -> TestResult {
    println!("{}\n", machine::describe()?);
    let wanted = |name: &str| flags.query.as_deref().is_none_or(|query| query == name);
    let queries: Vec<&Query> = QUERIES.iter().filter(|query| wanted(query.name)).collect();
    if !queries.is_empty() {
        println!(
            "| query | workers | rows | seconds | rows/s | peak memory | most state | of a row |\n|---|---|---|---|---|---|---|---|"
        );
    }
    for query in queries {
        for workers in &flags.workers {
            let measured = measure(query, flags.event_count, *workers).await?;
            println!(
                "| {} | {workers} | {} | {:.2} | {:.2} M | {} MB | {} |",
                query.title,
                measured.row_count,
                measured.elapsed.as_secs_f64(),
                measured.row_count as f64 / measured.elapsed.as_secs_f64() / 1e6,
                measured.peak_bytes >> 20,
                measured.state.map_or("– | –".to_string(), |state| state.to_string())
            );
        }
    }
    if wanted("freshness") {
        println!(
            "\n| 10,000 rows/s into a table under a GROUP BY | workers | p50 | p99 | worst |\n|---|---|---|---|---|"
        );
        for workers in &flags.workers {
            for (what, times) in freshness::measure(*workers).await? {
                println!("| {what} | {workers} | {} | {} | {} |", times.at(0.5), times.at(0.99), times.at(1.0));
            }
        }
    }
    if wanted("idle") {
        idle(&flags.workers).await?;
    }
    if wanted("durability") {
        durability::overhead(flags.event_count, &flags.workers).await?;
    }
    if wanted("recovery") {
        durability::recovery(flags.event_count, &flags.workers).await?;
    }
    Ok(())
}

struct Measured {
    row_count: u64,
    elapsed: Duration,
    peak_bytes: u64,
    /// Where windows close.
    state: Option<State>,
}

/// What operators keep: rows, open windows and sessions among them.
#[derive(Clone, Copy, Default)]
struct State {
    row_count: u64,
    bytes: u64,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let each = self.bytes / self.row_count.max(1);
        write!(f, "{} rows, {} MB | {each} B", self.row_count, self.bytes >> 20)
    }
}

/// Looks while the query runs; the workers are asked between two epochs, so not too often.
async fn most_state(client: &Client, most: &mut State) -> TestResult {
    let sql = "SELECT sum(state_row_count)::bigint, sum(state_bytes)::bigint FROM hw_catalog.view_operators";
    if let [Some(row_count), Some(bytes)] = rows(client, sql).await?.concat().as_slice() {
        let now = State { row_count: row_count.parse()?, bytes: bytes.parse()? };
        if now.bytes > most.bytes {
            *most = now;
        }
    }
    Ok(())
}

/// How often the state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

async fn measure(query: &Query, event_count: u64, workers: usize) -> TestResult<Measured> {
    measure_on(&Server::start(workers)?, query, event_count).await
}

async fn measure_on(server: &Server, query: &Query, event_count: u64) -> TestResult<Measured> {
    let (client, watch) = (server.connect().await?, server.connect().await?);
    let event_count = (event_count as f64 * query.factor) as u64;
    for table in query.tables {
        client.batch_execute(&queries::source(table, event_count, query.emits)).await?;
    }
    let start = Instant::now();
    let sink = tokio::spawn({
        let sql = query.statement();
        async move { client.batch_execute(&sql).await }
    });
    let (mut most, mut looked) = (State::default(), Instant::now());
    let row_count = loop {
        if let Some(row_count) = finished_row_count(&watch, query.tables.len()).await? {
            break row_count;
        }
        if sink.is_finished() && start.elapsed() > LIMIT {
            return Err(format!("{} did not finish within {LIMIT:?}", query.name).into());
        }
        if query.emits != Emits::Changes && looked.elapsed() > LOOK_EVERY {
            most_state(&watch, &mut most).await?;
            looked = Instant::now();
        }
        tokio::time::sleep(ASK_EVERY).await;
    };
    let elapsed = start.elapsed();
    sink.await??;
    let state = (most.bytes > 0).then_some(most);
    Ok(Measured { row_count, elapsed, peak_bytes: machine::peak_bytes(server.pid())?, state })
}

/// Rows made by all sources, once all of them are finished.
async fn finished_row_count(client: &Client, source_count: usize) -> TestResult<Option<u64>> {
    let (mut done, mut row_count) = (0, 0);
    for row in rows(client, "SELECT state, row_count, error FROM hw_catalog.sources").await? {
        match row.as_slice() {
            [Some(state), Some(count), _] if state == "finished" => {
                done += 1;
                row_count += count.parse::<u64>()?;
            }
            [Some(state), _, Some(error)] if state == "failed" => return Err(error.clone().into()),
            _ => {}
        }
    }
    Ok((done == source_count).then_some(row_count))
}

async fn idle(workers: &[usize]) -> TestResult {
    println!("\n| server at rest | workers | start to first answer | resident | CPU over 5 s |\n|---|---|---|---|---|");
    for workers in workers {
        let start = Instant::now();
        let server = Server::start(*workers)?;
        let client = server.connect().await?;
        rows(&client, "SELECT 1").await?;
        let started = start.elapsed();
        let cpu = machine::cpu(server.pid())?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let cpu = machine::cpu(server.pid())? - cpu;
        let resident = machine::resident_bytes(server.pid())? >> 20;
        println!("| no views | {workers} | {started:.0?} | {resident} MB | {cpu:.0?} |");
        client
            .batch_execute("CREATE TABLE t (id int PRIMARY KEY, k int, v int); CREATE TABLE u (k int, v int)")
            .await?;
        for n in 0..100 {
            let sql = format!(
                "CREATE MATERIALIZED VIEW v{n} AS SELECT k, count(*) AS n, sum(v) AS s FROM t WHERE v > {n} GROUP BY k"
            );
            client.batch_execute(&sql).await?;
        }
        client.batch_execute("CREATE MATERIALIZED VIEW w AS SELECT k, sum(v) AS s FROM u GROUP BY k").await?;
        let start = Instant::now();
        for n in 0..200 {
            client.batch_execute(&format!("INSERT INTO u VALUES ({n}, {n})")).await?;
        }
        let each = start.elapsed() / 200;
        let resident = machine::resident_bytes(server.pid())? >> 20;
        println!("| 100 idle views, one other touched: {each:.0?} an INSERT | {workers} | – | {resident} MB | – |");
    }
    Ok(())
}

/// All rows of a query as text.
pub async fn rows(client: &Client, sql: &str) -> TestResult<Vec<Vec<Option<String>>>> {
    let messages = client.simple_query(sql).await.map_err(|error| format!("{error:?}\nin: {sql}"))?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_string)).collect()),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

fn flags() -> TestResult<Flags> {
    let mut flags = Flags { event_count: EVENTS_DEFAULT, query: None, workers: vec![1, 2] };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} takes a value"));
        match argument.as_str() {
            // cargo says so.
            "--bench" => {}
            "--rows" => flags.event_count = value()?.parse()?,
            "--query" => flags.query = Some(value()?),
            "--workers" => flags.workers = vec![value()?.parse()?],
            other => return Err(format!("unknown flag {other}; known: --rows, --query, --workers").into()),
        }
    }
    Ok(flags)
}
