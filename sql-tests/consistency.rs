//! One snapshot: a query sees every table and view at one epoch, whatever is written meanwhile.
//!
//! Writers move money between accounts and insert entries; readers ask one tagged query over all tables and views.
//! In each answer the money is all there, and each view says what the tables of the same answer say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Client, Server, TestResult, env_number, ints, one, seed, tagged};

const ACCOUNTS: i64 = 40;
const MONEY_EACH: i64 = 1000;
const WRITERS: usize = 3;
const READERS: usize = 2;

const SCHEMA: &str = "
    CREATE TABLE accounts (id int PRIMARY KEY, branch int NOT NULL, money int NOT NULL);
    CREATE TABLE entries (account int, change int);
    CREATE MATERIALIZED VIEW total AS SELECT sum(money) AS money, count(*) AS n FROM accounts;
    CREATE MATERIALIZED VIEW by_branch AS SELECT branch, sum(money) AS money, max(money) AS high FROM accounts GROUP BY branch;
    CREATE MATERIALIZED VIEW booked AS SELECT account, sum(change) AS change, count(*) AS n FROM entries GROUP BY account;
    CREATE MATERIALIZED VIEW checked AS
        SELECT a.id, a.money, b.change FROM accounts a JOIN booked b ON a.id = b.account;
    CREATE MATERIALIZED VIEW branch_total AS SELECT sum(money) AS money FROM by_branch;
";

/// All sums in one answer.
const SUMS: &str = "
    SELECT (SELECT sum(money) FROM accounts), (SELECT money FROM total), (SELECT money FROM branch_total),
        (SELECT sum(money) FROM by_branch), (SELECT sum(change) FROM entries), (SELECT sum(change) FROM booked),
        (SELECT sum(n) FROM booked), (SELECT count(*) FROM entries)";

/// Tables and views beside what the views must be.
const TAGGED: &str = "
    SELECT 'branch' AS tag, branch AS a, money AS b, high AS c FROM by_branch
    UNION ALL SELECT 'branch, fresh', branch, sum(money), max(money) FROM accounts GROUP BY branch
    UNION ALL SELECT 'booked', account, change, n FROM booked
    UNION ALL SELECT 'booked, fresh', account, sum(change), count(*) FROM entries GROUP BY account
    UNION ALL SELECT 'checked', id, money, change FROM checked
    UNION ALL SELECT 'checked, fresh', a.id, a.money, b.change
        FROM accounts a JOIN (SELECT account, sum(change) AS change FROM entries GROUP BY account) AS b ON a.id = b.account";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_sees_one_epoch_with_one_worker() -> TestResult {
    run(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_sees_one_epoch_with_two_workers() -> TestResult {
    run(2).await
}

async fn run(workers: usize) -> TestResult {
    let seed = seed()?;
    println!("seed: HW_SEED={seed}");
    let limit = Duration::from_secs(env_number("HW_CONSISTENCY_SECONDS")?.unwrap_or(6));
    let server = Server::start(workers)?;
    let client = server.connect().await?;
    client.batch_execute(SCHEMA).await?;
    let accounts: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id}, {}, {MONEY_EACH})", id % 5)).collect();
    client.batch_execute(&format!("INSERT INTO accounts VALUES {}", accounts.join(", "))).await?;

    let stop = Arc::new(AtomicBool::new(false));
    let (transfers, reads) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = server.connect().await?;
        tasks.spawn(write(client, seed + writer as u64, stop.clone(), transfers.clone()));
    }
    for reader in 0..READERS {
        let client = server.connect().await?;
        tasks.spawn(read(client, reader, stop.clone(), reads.clone()));
    }
    let start = Instant::now();
    while start.elapsed() < limit {
        // Nobody ends before the time is up but with an error.
        if let Some(result) = tasks.try_join_next() {
            result??;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(result) = tasks.join_next().await {
        result??;
    }
    let (transfers, reads) = (transfers.load(Ordering::Relaxed), reads.load(Ordering::Relaxed));
    println!("{transfers} transfers, {reads} reads in {limit:?}");
    // Whoever was acknowledged is counted: two entries for each transfer.
    assert_eq!(one(&client, "SELECT count(*) FROM entries").await?, (2 * transfers).to_string());
    if transfers == 0 || reads == 0 { Err("nothing was written, or nothing read".into()) } else { Ok(()) }
}

/// Moves money in transactions of four statements; now and then takes one back.
async fn write(client: Client, seed: u64, stop: Arc<AtomicBool>, transfers: Arc<AtomicU64>) -> TestResult {
    let mut random = StdRng::seed_from_u64(seed);
    let mut own = 0i64;
    while !stop.load(Ordering::Relaxed) {
        let (from, to) = (random.random_range(0..ACCOUNTS), random.random_range(0..ACCOUNTS));
        let money = random.random_range(1..50);
        let keep = random.random_bool(0.9);
        let sql = format!(
            "BEGIN; UPDATE accounts SET money = money - {money} WHERE id = {from};
             UPDATE accounts SET money = money + {money} WHERE id = {to};
             INSERT INTO entries VALUES ({from}, -{money}), ({to}, {money}); {}",
            if keep { "COMMIT" } else { "ROLLBACK" }
        );
        match client.batch_execute(&sql).await {
            Ok(()) if keep => {
                transfers.fetch_add(1, Ordering::Relaxed);
                own += 1;
            }
            Ok(()) => {}
            // Another writer changed the same rows: the transaction is gone as a whole, and may be tried again.
            Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::T_R_SERIALIZATION_FAILURE) => {
                client.batch_execute("ROLLBACK").await?;
            }
            Err(error) => return Err(format!("{error:?}").into()),
        }
        // What this session wrote, it sees.
        if own % 16 == 1 {
            let n = ints(&client, "SELECT count(*) FROM entries").await?[0];
            assert!(n >= 2 * own, "{n} entries are seen by a session that made {}", 2 * own);
        }
    }
    Ok(())
}

async fn read(client: Client, reader: usize, stop: Arc<AtomicBool>, reads: Arc<AtomicU64>) -> TestResult {
    let mut entries_seen = 0;
    while !stop.load(Ordering::Relaxed) {
        if reader.is_multiple_of(2) {
            let sums = ints(&client, SUMS).await?;
            let [money, total, branch_total, branches, change, booked, n, entries] = sums[..] else {
                return Err("eight sums were asked for".into());
            };
            let whole = ACCOUNTS * MONEY_EACH;
            assert_eq!([money, total, branch_total, branches], [whole; 4], "money was made or lost in {sums:?}");
            assert_eq!((change, booked, n), (0, 0, entries), "the entries do not add up in {sums:?}");
            assert!(entries >= entries_seen, "time went back: {entries} entries after {entries_seen}");
            entries_seen = entries;
        } else {
            let answer = tagged(&client, TAGGED).await?;
            for view in ["branch", "booked", "checked"] {
                let fresh = answer.get(&format!("{view}, fresh"));
                assert_eq!(answer.get(view), fresh, "view {view} is not at the epoch of its tables");
            }
        }
        reads.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
