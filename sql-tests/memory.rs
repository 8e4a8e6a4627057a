//! State that does not fit into the memory limit: views are right, keys are let go, and a start reads none of them.

use std::time::Duration;

use crate::harness::{Client, Server, TestResult, checkpoint, eventually, one};

const FRESH: &str =
    "SELECT k, count(*) AS n, sum(v) AS s, min(v) AS lo, count(DISTINCT v % 10) AS d, max(name) AS name,
                     array_agg(v ORDER BY v) AS vs FROM t GROUP BY k";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_beyond_the_memory_limit_is_right() -> TestResult {
    let mut server = Server::start_with(1, &["--memory-limit", "1MiB", "--checkpoint-interval-ms", "50"])?;
    let client = server.connect().await?;
    client
        .batch_execute(&format!(
            "CREATE TABLE t (k int, v int, name text);
             CREATE MATERIALIZED VIEW g AS {FRESH};
             CREATE MATERIALIZED VIEW pairs AS {PAIRS};
             CREATE MATERIALIZED VIEW tops AS {TOPS};
             CREATE MATERIALIZED VIEW runs AS {RUNS};
             CREATE MATERIALIZED VIEW sizes AS SELECT n, count(*) AS groups FROM (SELECT k, count(*) AS n FROM t GROUP BY k) x
             GROUP BY n;
             INSERT INTO t SELECT n % 7000, n, 'name ' || n % 11 FROM generate_series(1, 20000) AS n"
        ))
        .await?;
    agree(&client).await?;
    let limit = one(&client, "SELECT DISTINCT limit_bytes FROM hw_catalog.memory").await?;
    assert_eq!(
        (limit.as_str(), one(&client, "SELECT count(*) FROM hw_catalog.memory").await?.as_str()),
        ("1048576", "7")
    );
    let mut client = client;
    for workers in [1, 2, 2, 1] {
        checkpoint(&client).await?;
        let all = 14_000 * 60;
        eventually("keys that are let go", Duration::from_secs(30), async || {
            // The next step lets go of what the last checkpoint has saved.
            client.batch_execute("INSERT INTO t VALUES (1, 1, 'one')").await?;
            let held: i64 = one(&client, KEYS_HELD).await?.parse()?;
            Ok((0 < held && held < all / 4).then_some(()))
        })
        .await?;
        client
            .batch_execute(
                "DELETE FROM t WHERE v % 17 = 3;
                 UPDATE t SET v = v + 1 WHERE k % 400 = 7;
                 INSERT INTO t SELECT n, n, NULL FROM generate_series(6900, 7100) AS n",
            )
            .await?;
        agree(&client).await?;
        // Groups go, and some of them come back as they were.
        client
            .batch_execute("DELETE FROM t WHERE k BETWEEN 100 AND 300; INSERT INTO t VALUES (200, 5, 'five')")
            .await?;
        checkpoint(&client).await?;
        client.batch_execute("INSERT INTO t VALUES (201, 6, 'six'), (200, 7, 'seven')").await?;
        agree(&client).await?;
        server.kill()?;
        server.start_again(Some(workers))?;
        client = eventually("a connection", Duration::from_secs(30), async || Ok(server.connect().await.ok())).await?;
        agree(&client).await?;
    }
    assert!(server.log()?.matches("goes on from the checkpoint").count() >= 8);
    Ok(())
}

/// Rows of tables and views in files: scans, keys, indexes, changes, restarts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_beyond_the_memory_limit_are_right() -> TestResult {
    let mut server = Server::start_with(1, &["--memory-limit", "4MiB", "--checkpoint-interval-ms", "100"])?;
    let mut client = server.connect().await?;
    client
        .batch_execute(
            "CREATE TABLE big (k int PRIMARY KEY, v int, name text);
             CREATE INDEX by_v ON big (v);
             CREATE MATERIALIZED VIEW even AS SELECT k, v, upper(name) AS name FROM big WHERE v % 2 = 0",
        )
        .await?;
    for piece in 0..10 {
        let (first, last) = (piece * 20_000, piece * 20_000 + 19_999);
        let rows = format!(
            "SELECT n, n % 1000, 'a name that is rather long: ' || n FROM generate_series({first}, {last}) AS n"
        );
        client.batch_execute(&format!("INSERT INTO big {rows}")).await?;
    }
    let mut expected = (0..200_000).filter(|n| n % 1000 % 2 == 0).count() as i64;
    for round in 0..3 {
        let agree =
            "SELECT count(*) FROM (SELECT k, v, upper(name) FROM big WHERE v % 2 = 0 EXCEPT ALL SELECT * FROM even) x";
        assert_eq!(one(&client, agree).await?, "0");
        assert_eq!(one(&client, "SELECT count(*) FROM even").await?, expected.to_string());
        assert_eq!(one(&client, "SELECT name FROM big WHERE k = 123456").await?, "a name that is rather long: 123456");
        let found = one(&client, "SELECT count(*) FROM big WHERE v = 7").await?;
        assert_eq!(found, "200");
        // About 20 MB of rows.
        let held: i64 =
            one(&client, "SELECT bytes FROM hw_catalog.memory WHERE holder = 'tables and views'").await?.parse()?;
        assert!(held < 8 << 20, "{held} bytes are held");
        client
            .batch_execute(&format!(
                "UPDATE big SET name = name || '!' WHERE v = {};
                 DELETE FROM big WHERE k BETWEEN {} AND {}",
                500 + 2 * round,
                round * 1000,
                round * 1000 + 9
            ))
            .await?;
        client.batch_execute(&format!("INSERT INTO big VALUES ({}, 7, 'seven')", round * 1000 + 7)).await?;
        expected -= 5;
        server.kill()?;
        server.start_again(None)?;
        client = eventually("a connection", Duration::from_secs(30), async || Ok(server.connect().await.ok())).await?;
        assert_eq!(
            one(&client, &format!("SELECT right(name, 1) FROM big WHERE k = {}", 100_500 + 2 * round)).await?,
            "!"
        );
    }
    Ok(())
}

const KEYS_HELD: &str = "SELECT bytes FROM hw_catalog.memory WHERE holder = 'keys of operators'";

/// A join, a top-n and window functions, each by a key.
const PAIRS: &str = "SELECT a.k, a.v AS one, b.v AS other FROM t AS a LEFT JOIN t AS b ON a.k = b.v";
const TOPS: &str = "SELECT k, v FROM (SELECT k, v, row_number() OVER (PARTITION BY k ORDER BY v DESC) AS place FROM t) x WHERE place <= 2";
const RUNS: &str =
    "SELECT k, v, sum(v) OVER w AS total, lag(v) OVER w AS before FROM t WINDOW w AS (PARTITION BY k ORDER BY v)";

async fn agree(client: &Client) -> TestResult {
    let sizes = "SELECT n, count(*) AS groups FROM (SELECT k, count(*) AS n FROM t GROUP BY k) x GROUP BY n";
    for (view, fresh) in [("g", FRESH), ("sizes", sizes), ("pairs", PAIRS), ("tops", TOPS), ("runs", RUNS)] {
        let missing =
            one(client, &format!("SELECT count(*) FROM (({fresh}) EXCEPT ALL SELECT * FROM {view}) x")).await?;
        let extra = one(client, &format!("SELECT count(*) FROM (SELECT * FROM {view} EXCEPT ALL ({fresh})) x")).await?;
        assert_eq!((missing.as_str(), extra.as_str()), ("0", "0"), "{view}");
    }
    Ok(())
}
