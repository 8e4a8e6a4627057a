//! What checkpoints cost, and what they are worth: throughput with and without them, and how soon a killed server answers.

use std::path::Path;
use std::time::{Duration, Instant};

use super::queries::{self, QUERIES, Query};
use super::server::Server;
use super::{TestResult, finished_row_count, measure_on, rows};

/// Measured by turns; long enough for several checkpoints.
const NAMES: &[&str] = &["q3", "q8", "group_by", "tumble_closed"];
const TIMES_LONGER: f64 = 8.0;

pub async fn overhead(event_count: u64, workers: &[usize]) -> TestResult {
    println!("\n| query, checkpoints every second | workers | without | with | ratio |\n|---|---|---|---|---|");
    for query in QUERIES.iter().filter(|query| NAMES.contains(&query.name)) {
        for workers in workers {
            let (mut without, mut with) = (0.0_f64, 0.0_f64);
            // The best of two each, by turns, so that neither has the quieter machine.
            for _ in 0..2 {
                without = without.max(rate(query, event_count, *workers, "0").await?);
                with = with.max(rate(query, event_count, *workers, "1000").await?);
            }
            println!(
                "| {} | {workers} | {:.2} M rows/s | {:.2} M rows/s | {:.2} |",
                query.title,
                without / 1e6,
                with / 1e6,
                with / without
            );
        }
    }
    Ok(())
}

async fn rate(query: &Query, event_count: u64, workers: usize, interval_ms: &str) -> TestResult<f64> {
    let server = Server::start_with(workers, &["--checkpoint-interval-ms", interval_ms])?;
    let measured = measure_on(&server, query, (event_count as f64 * TIMES_LONGER) as u64).await?;
    Ok(measured.row_count as f64 / measured.elapsed.as_secs_f64())
}

/// Groups and rows of bids: the one is state of an operator and contents, the other contents alone.
pub async fn recovery(event_count: u64, workers: &[usize]) -> TestResult {
    println!(
        "\n| killed with | workers | on disk | listening | SELECT from a table | both views readable |\n|---|---|---|---|---|---|"
    );
    for workers in workers {
        let mut server = Server::start(*workers)?;
        let client = server.connect().await?;
        client.batch_execute(&queries::source("Bid", event_count, queries::Emits::Changes)).await?;
        client
            .batch_execute(
                "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
                 CREATE MATERIALIZED VIEW groups AS
                     SELECT auction, bidder, count(*) AS n, sum(price) AS total, max(price) AS high FROM bid GROUP BY auction, bidder;
                 CREATE MATERIALIZED VIEW bids AS SELECT auction, bidder, price, date_time FROM bid",
            )
            .await?;
        while finished_row_count(&client, 1).await?.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let count = "SELECT (SELECT count(*) FROM groups), (SELECT sum(n) FROM groups), (SELECT count(*) FROM bids)";
        let before = rows(&client, count).await?;
        // Until all of it is saved.
        let mut bytes = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(2500)).await;
            let now = size(&server.data())?;
            if std::mem::replace(&mut bytes, now) == now {
                break;
            }
        }
        server.kill()?;
        let start = Instant::now();
        let listening = server.start_again(None)?;
        let client = server.connect().await?;
        rows(&client, "SELECT * FROM t").await?;
        let first = start.elapsed();
        let after = loop {
            // A view that is not there yet is waited for, but not for ever.
            match rows(&client, count).await {
                Ok(after) => break after,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let readable = start.elapsed();
        if after != before {
            return Err(format!("{after:?} instead of {before:?}").into());
        }
        let described = rows(&client, "SELECT count(*) FROM groups").await?[0][0].clone().unwrap_or_default();
        println!(
            "| {described} groups, {event_count} events | {workers} | {} MB | {listening:.0?} | {first:.0?} | {readable:.1?} |",
            bytes >> 20
        );
    }
    Ok(())
}

fn size(dir: &Path) -> TestResult<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        // Files come and go meanwhile.
        bytes += if path.is_dir() { size(&path)? } else { path.metadata().map_or(0, |file| file.len()) };
    }
    Ok(bytes)
}
