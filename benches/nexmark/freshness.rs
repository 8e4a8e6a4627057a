//! How old an answer is: while 10,000 rows a second arrive, one session inserts a marked row; from the moment its INSERT
//! is acknowledged, another asks a view over the table until the row counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Client, Server, TestResult, rows};

const ROWS_PER_S: u64 = 10_000;
const ROWS_PER_INSERT: u64 = 25;
const WRITERS: u64 = 4;
const GROUPS: u64 = 1000;
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

/// Durations, sorted.
pub struct Times(Vec<Duration>);

impl Times {
    /// The `share` quantile: 0.5 is the median, 1.0 the worst.
    pub fn at(&self, share: f64) -> String {
        let index = ((self.0.len() as f64 * share).ceil() as usize).clamp(1, self.0.len()) - 1;
        format!("{:.2} ms", self.0[index].as_secs_f64() * 1e3)
    }
}

pub async fn measure(workers: usize) -> TestResult<Vec<(&'static str, Times)>> {
    let server = Server::start(workers)?;
    let (writer, reader) = (server.connect().await?, server.connect().await?);
    writer
        .batch_execute(
            "CREATE TABLE load (k int, v int);
             CREATE MATERIALIZED VIEW sums AS SELECT k, count(*) AS n, sum(v) AS s FROM load GROUP BY k",
        )
        .await?;
    let (stop, row_count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut load = tokio::task::JoinSet::new();
    for number in 0..WRITERS {
        load.spawn(write(server.connect().await?, number, stop.clone(), row_count.clone()));
    }
    tokio::time::sleep(WARM_UP).await;
    let (start, before) = (Instant::now(), row_count.load(Ordering::Relaxed));
    let (mut insert, mut visible) = (vec![], vec![]);
    for mark in 1.. {
        if start.elapsed() > MEASURED {
            break;
        }
        let sent = Instant::now();
        writer.batch_execute(&format!("INSERT INTO load VALUES (-{mark}, 1)")).await?;
        let acknowledged = Instant::now();
        insert.push(acknowledged - sent);
        while rows(&reader, &format!("SELECT n FROM sums WHERE k = -{mark}")).await?.is_empty() {}
        visible.push(acknowledged.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    let rate = (row_count.load(Ordering::Relaxed) - before) as f64 / start.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    while let Some(result) = load.join_next().await {
        result??;
    }
    if rate < ROWS_PER_S as f64 * 0.98 {
        println!("| only {rate:.0} rows/s were taken | {workers} | | | |");
    }
    insert.sort_unstable();
    visible.sort_unstable();
    Ok(vec![("acknowledged → visible in a SELECT", Times(visible)), ("INSERT → acknowledged (on disk)", Times(insert))])
}

/// Inserts at its share of the rate; a late insert does not make the next one later.
async fn write(client: Client, number: u64, stop: Arc<AtomicBool>, row_count: Arc<AtomicU64>) -> TestResult {
    let period = Duration::from_secs_f64((ROWS_PER_INSERT * WRITERS) as f64 / ROWS_PER_S as f64);
    let mut tick = tokio::time::interval(period);
    let mut next = number;
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let mut values = vec![];
        for _ in 0..ROWS_PER_INSERT {
            // A step that is coprime to the number of groups visits all of them.
            next = (next + 7919) % GROUPS;
            values.push(format!("({next}, {})", values.len()));
        }
        client.batch_execute(&format!("INSERT INTO load VALUES {}", values.join(", "))).await?;
        row_count.fetch_add(ROWS_PER_INSERT, Ordering::Relaxed);
    }
    Ok(())
}
