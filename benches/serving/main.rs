//! Reading, measured from outside: point lookups by primary key over the wire, as pgbench does them, and a scan; the same client
//! and the same rows for this program and for PostgreSQL, one after the other.
//!
//! ```text
//! for each server: a table of N rows ─ for each number of clients: prepared SELECTs of random keys for so many seconds
//!   lookups/s, and how long one takes for the client: the median, 99 and 99.9 of a hundred
//!   scan rows/s = N ÷ the best time of SELECT sum(v) … WHERE v <> 1
//! ```
//!
//! Flags: `--rows N`, `--seconds S`, `--clients N` (more than one: several times).

#[path = "../nexmark/machine.rs"]
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod machine;
#[path = "../../sql-tests/harness/postgres.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod postgres;
#[path = "../../sql-tests/harness/server.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod server;

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use postgres::Postgres;
use server::{Client, Server};

pub type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A lookup is a transaction of pgbench's select-only script.
const LOOKUP: &str = "SELECT v, filler FROM accounts WHERE id = $1";
const SCAN: &str = "SELECT sum(v) FROM accounts WHERE v <> 1";
const SCAN_TRIES: usize = 5;

struct Flags {
    row_count: i32,
    duration: Duration,
    clients: Vec<usize>,
}

fn main() -> TestResult {
    let flags = flags()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(run(flags))
}

async fn run(flags: Flags) -> TestResult {
    println!("{}; {} rows\n", machine::describe()?, flags.row_count);
    println!("| server | clients | lookups/s | median | 99 % | 99.9 % | scan rows/s |");
    println!("|---|---|---|---|---|---|---|");
    let server = Server::start(1)?;
    measure("highwater", &server.url(), &flags).await?;
    drop(server);
    match Postgres::start()? {
        Some(postgres) => measure("PostgreSQL", &postgres.url("postgres"), &flags).await,
        None => {
            println!("| PostgreSQL | SKIPPED: initdb and pg_ctl are not installed | | | | | |");
            Ok(())
        }
    }
}

async fn measure(name: &str, url: &str, flags: &Flags) -> TestResult {
    let client = server::connect(url).await?;
    client.batch_execute("CREATE TABLE accounts (id int PRIMARY KEY, v bigint, filler text)").await?;
    client
        .batch_execute(&format!(
            "INSERT INTO accounts SELECT n, n::bigint * 7919 % 100000, 'filler of account ' || n FROM generate_series(1, {}) AS g(n)",
            flags.row_count
        ))
        .await?;
    if name == "PostgreSQL" {
        client.batch_execute("VACUUM ANALYZE accounts").await?;
    }
    let scan = scan(&client).await?;
    for &count in &flags.clients {
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..count {
            let client = server::connect(url).await?;
            clients.spawn(look_up(client, number as u64, flags.row_count, flags.duration));
        }
        let mut times = vec![];
        while let Some(own) = clients.join_next().await {
            times.extend(own??);
        }
        times.sort_unstable();
        let rate = times.len() as f64 / flags.duration.as_secs_f64();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
        let scanned = f64::from(flags.row_count) / scan.as_secs_f64() / 1e6;
        println!(
            "| {name} | {count} | {rate:.0} | {} µs | {} µs | {} µs | {scanned:.0} M |",
            at(0.5),
            at(0.99),
            at(0.999)
        );
    }
    Ok(())
}

async fn scan(client: &Client) -> TestResult<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..SCAN_TRIES {
        let start = Instant::now();
        client.simple_query(SCAN).await?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

/// How long each lookup took.
async fn look_up(client: Client, seed: u64, row_count: i32, duration: Duration) -> TestResult<Vec<Duration>> {
    let mut random = StdRng::seed_from_u64(seed);
    let lookup = client.prepare(LOOKUP).await?;
    let mut times = vec![];
    let start = Instant::now();
    while start.elapsed() < duration {
        let id = random.random_range(1..=row_count);
        let asked = Instant::now();
        let row = client.query_one(&lookup, &[&id]).await?;
        times.push(asked.elapsed());
        let value: i64 = row.get(0);
        if value != i64::from(id) * 7919 % 100_000 {
            return Err(format!("account {id} has {value}").into());
        }
    }
    Ok(times)
}

fn flags() -> TestResult<Flags> {
    let mut flags = Flags { row_count: 1_000_000, duration: Duration::from_secs(5), clients: vec![] };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--rows" => flags.row_count = value()?.parse()?,
            "--seconds" => flags.duration = Duration::from_secs(value()?.parse()?),
            "--clients" => flags.clients.push(value()?.parse()?),
            // What `cargo bench` adds.
            "--bench" => {}
            _ => return Err(format!("unknown flag {flag}").into()),
        }
    }
    if flags.clients.is_empty() {
        flags.clients = vec![1, 8];
    }
    Ok(flags)
}
