//! TPC-H as maintained views, measured from outside against the real program: `make bench-tpch`.
//!
//! ```text
//! for each query and number of workers: a fresh server ─ tables ─ CREATE MATERIALIZED VIEW ─ rows of the tables it reads, mixed
//!   live rows/s     = rows ÷ time of all COPYs, durable, the view up to date behind the last
//!   backfill rows/s = rows ÷ time of CREATE MATERIALIZED VIEW over the full tables
//!   state           = what the operators keep at the end (hw_catalog.views)
//! ```
//! COPY decodes, checks keys and writes to disk; the first line says how fast that is without a view. Prints a table for
//! docs/benchmarks.md.
//!
//! Flags: `--sf F` (scale factor), `--query NAME` (one of them), `--workers N`.

#[path = "../../sql-tests/tpch/data.rs"]
#[allow(dead_code, reason = "the tests change the rows too")]
mod data;
#[path = "../nexmark/machine.rs"]
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod machine;
#[path = "../../sql-tests/tpch/queries.rs"]
mod queries;
#[path = "../../sql-tests/harness/server.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod server;

use std::time::{Duration, Instant};

use futures::SinkExt;
use tokio_postgres::SimpleQueryMessage;

use data::{Piece, TABLES, pieces};
use queries::{QUERIES, Query};
use server::{Client, Server};

pub type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SCALE_FACTOR_DEFAULT: f64 = 0.1;

/// The mixture of the pieces; the same for all queries.
const SEED: u64 = 1;

struct Flags {
    scale_factor: f64,
    query: Option<String>,
    workers: Vec<usize>,
}

fn main() -> TestResult {
    let flags = flags()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(run(flags))
}

async fn run(flags: Flags) -> TestResult {
    println!("{}; scale factor {}\n", machine::describe()?, flags.scale_factor);
    let pieces = pieces(flags.scale_factor, SEED);
    println!(
        "| query | workers | rows in | rows out | live rows/s | backfill rows/s | state rows | state | peak memory |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for workers in &flags.workers {
        if flags.query.is_none() {
            measure(None, *workers, &pieces).await?;
        }
        for query in QUERIES.iter().filter(|query| flags.query.as_deref().is_none_or(|name| name == query.name)) {
            measure(Some(query), *workers, &pieces).await?;
        }
    }
    Ok(())
}

/// One line of the table; without a query, what COPY alone takes.
async fn measure(query: Option<&Query>, workers: usize, pieces: &[Piece]) -> TestResult {
    let server = Server::start(workers)?;
    let client = server.connect().await?;
    client.batch_execute(TABLES).await?;
    let name = query.map_or("(no view)", |query| query.name);
    let create = query.map(|query| format!("CREATE MATERIALIZED VIEW v AS {}", query.sql));
    if let Some(create) = &create
        && let Err(error) = client.batch_execute(create).await
    {
        let message = error.as_db_error().map_or(error.to_string(), |error| error.message().to_string());
        println!("| {name} | {workers} | {message} | | | | | | |");
        return Ok(());
    }
    let wanted: Vec<&Piece> =
        pieces.iter().filter(|piece| query.is_none_or(|query| reads(query.sql, piece.table))).collect();
    let row_count: usize = wanted.iter().map(|piece| piece.row_count).sum();
    let start = Instant::now();
    for piece in &wanted {
        let sink = client.copy_in(&format!("COPY {} FROM STDIN (FORMAT csv)", piece.table)).await?;
        let mut sink = std::pin::pin!(sink);
        sink.send(bytes::Bytes::from(piece.csv.clone())).await?;
        sink.finish().await?;
    }
    let live = per_second(row_count, start.elapsed());
    let Some(create) = create else {
        println!(
            "| {name} | {workers} | {row_count} | | {live} | | | | {} MB |",
            machine::peak_bytes(server.pid())? >> 20
        );
        return Ok(());
    };
    let out = rows(&client, "SELECT count(*) FROM v").await?;
    let state = rows(&client, "SELECT state_row_count, state_bytes FROM hw_catalog.views WHERE name = 'v'").await?;
    let number = |row: usize, column: usize, from: &[Vec<Option<String>>]| -> TestResult<u64> {
        let value = from.get(row).and_then(|row| row.get(column)).ok_or("no such view")?;
        Ok(value.as_deref().unwrap_or("0").parse()?)
    };
    client.batch_execute("DROP MATERIALIZED VIEW v").await?;
    let start = Instant::now();
    client.batch_execute(&create).await?;
    let backfill = per_second(row_count, start.elapsed());
    println!(
        "| {name} | {workers} | {row_count} | {} | {live} | {backfill} | {} | {:.1} MB | {} MB |",
        number(0, 0, &out)?,
        number(0, 0, &state)?,
        number(0, 1, &state)? as f64 / (1 << 20) as f64,
        machine::peak_bytes(server.pid())? >> 20
    );
    Ok(())
}

/// Whether the query names the table.
fn reads(sql: &str, table: &str) -> bool {
    sql.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == table)
}

fn per_second(row_count: usize, elapsed: Duration) -> String {
    format!("{:.0} k", row_count as f64 / elapsed.as_secs_f64() / 1e3)
}

/// All rows of a query as text.
async fn rows(client: &Client, sql: &str) -> TestResult<Vec<Vec<Option<String>>>> {
    let messages = client.simple_query(sql).await.map_err(|error| format!("{error:?}\nin: {sql}"))?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_string)).collect()),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

fn flags() -> TestResult<Flags> {
    let mut flags = Flags { scale_factor: SCALE_FACTOR_DEFAULT, query: None, workers: vec![1, 2] };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} takes a value"));
        match argument.as_str() {
            // cargo says so.
            "--bench" => {}
            "--sf" => flags.scale_factor = value()?.parse()?,
            "--query" => flags.query = Some(value()?),
            "--workers" => flags.workers = vec![value()?.parse()?],
            other => return Err(format!("unknown flag {other}; known: --sf, --query, --workers").into()),
        }
    }
    Ok(flags)
}
