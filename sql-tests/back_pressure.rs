//! How fast sources are read: as fast as they are told to at most, and no slower for another's views.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Client, Server, TestResult, eventually, one};

const LIMIT: Duration = Duration::from_secs(60);

fn write_rows(path: &Path, count: usize) -> TestResult {
    let mut lines = String::new();
    for id in 0..count {
        writeln!(lines, "{{\"id\": {id}, \"v\": {}}}", id * 7919 % 10_007)?;
    }
    Ok(std::fs::write(path, lines)?)
}

fn source(name: &str, path: &Path, options: &str) -> String {
    let path = path.display();
    format!(
        "CREATE SOURCE {name} (id int, v bigint) WITH (connector = 'files', path = '{path}', follow = 'true'{options}) FORMAT PLAIN ENCODE JSON"
    )
}

async fn number(client: &Client, sql: &str) -> TestResult<f64> {
    Ok(one(client, sql).await?.parse()?)
}

/// Rows a second that a view gets, over a second and a half; each look in between must find no more than a burst.
async fn rate(client: &Client, rows_per_s: f64) -> TestResult<f64> {
    let (begin, first) = (Instant::now(), number(client, "SELECT n FROM counted").await?);
    loop {
        let count = number(client, "SELECT n FROM counted").await? - first;
        let elapsed_s = begin.elapsed().as_secs_f64();
        let most = rows_per_s * (elapsed_s + 0.2) + 2.0;
        assert!(count <= most, "{count} rows after {elapsed_s} s at {rows_per_s} a second");
        if elapsed_s > 1.5 {
            return Ok(count / elapsed_s);
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limited_source_keeps_to_its_rate() -> TestResult {
    const ROWS: usize = 40_000;
    let mut server = Server::start(2)?;
    let client = server.connect().await?;
    let path = server.scratch()?.join("events.json");
    write_rows(&path, ROWS)?;
    client.batch_execute(&source("ev", &path, ", source_rate_limit = 2000")).await?;
    client
        .batch_execute("CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n, count(DISTINCT id) AS ids FROM ev")
        .await?;
    // Slow machines may fall behind; none may be ahead.
    let kept = async |client: &Client, rows_per_s: f64| -> TestResult {
        let found = rate(client, rows_per_s).await?;
        assert!((0.6..1.05).contains(&(found / rows_per_s)), "{found} rows a second instead of {rows_per_s}");
        Ok(())
    };
    kept(&client, 2000.0).await?;
    client.batch_execute("ALTER SOURCE ev SET (source_rate_limit = 300)").await?;
    kept(&client, 300.0).await?;
    let shown = one(&client, "SELECT rate_limit FROM hw_catalog.sources WHERE name = 'ev'").await?;
    assert_eq!(shown, "300");

    server.kill()?;
    server.start_again(None)?;
    let client = eventually("a connection", LIMIT, async || Ok(server.connect().await.ok())).await?;
    let create = client.query_one("SHOW CREATE SOURCE ev", &[]).await?.get::<_, String>(1);
    assert!(create.contains("follow = 'true', source_rate_limit = 300)"), "{create}");
    eventually("the view", LIMIT, async || Ok(one(&client, "SELECT n FROM counted").await.ok())).await?;
    kept(&client, 300.0).await?;

    // A later view reads again what has been read, at the same rate.
    client.batch_execute("ALTER SOURCE ev SET (source_rate_limit = 2500)").await?;
    let (begin, behind) = (Instant::now(), number(&client, "SELECT n FROM counted").await?);
    client.batch_execute("CREATE MATERIALIZED VIEW later AS SELECT count(*) AS n FROM ev").await?;
    let least_s = behind / 2500.0 - 0.2;
    assert!(begin.elapsed().as_secs_f64() >= least_s, "{behind} rows in {:?}", begin.elapsed());

    client.batch_execute("ALTER SOURCE ev RESET (source_rate_limit)").await?;
    assert_eq!(one(&client, "SELECT rate_limit IS NULL FROM hw_catalog.sources").await?, "t");
    let all = ROWS.to_string();
    for sql in ["SELECT n FROM counted", "SELECT n FROM later"] {
        eventually("all rows", LIMIT, async || Ok((one(&client, sql).await? == all).then_some(()))).await?;
    }
    assert_eq!(one(&client, "SELECT ids FROM counted").await?, all);
    let create = client.query_one("SHOW CREATE SOURCE ev", &[]).await?.get::<_, String>(1);
    assert!(!create.contains("source_rate_limit"), "{create}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_a_whole_number_of_rows() -> TestResult {
    let server = Server::start(1)?;
    let client = server.connect().await?;
    let path = server.scratch()?.join("events.json");
    write_rows(&path, 10)?;
    let code = async |sql: &str| match client.batch_execute(sql).await {
        Ok(()) => "fine".to_string(),
        Err(error) => error.code().map_or_else(|| error.to_string(), |code| code.code().to_string()),
    };
    for limit in ["0", "-1", "1.5", "'fast'", "''"] {
        let created = source("ev", &path, &format!(", source_rate_limit = {limit}"));
        assert_eq!(code(&created).await, "22023", "{limit}");
    }
    assert_eq!(code(&source("ev", &path, ", source_rate_limit = 'none'")).await, "fine");
    assert_eq!(code("CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM ev").await, "fine");
    for (sql, expected) in [
        ("ALTER SOURCE ev SET (source_rate_limit = 0)", "22023"),
        ("ALTER SOURCE ev SET (source_rate_limit = 'some')", "22023"),
        ("ALTER SOURCE ev SET (path = '/tmp')", "22023"),
        ("ALTER SOURCE ev SET (retention = '1 hour')", "0A000"),
        ("ALTER SOURCE ev RESET (follow)", "22023"),
        ("ALTER MATERIALIZED VIEW m SET (source_rate_limit = 1)", "22023"),
        ("ALTER SOURCE nowhere SET (source_rate_limit = 1)", "42P01"),
        ("ALTER SOURCE ev SET (source_rate_limit = '7')", "fine"),
        ("ALTER TABLE ev SET (source_rate_limit = 'none')", "fine"),
        ("ALTER SOURCE IF EXISTS nowhere RESET (source_rate_limit)", "fine"),
    ] {
        assert_eq!(code(sql).await, expected, "{sql}");
    }
    eventually("all rows", LIMIT, async || Ok((one(&client, "SELECT n FROM m").await? == "10").then_some(()))).await
}

/// Each row of `slow` is compared with every row of `dim`: the epochs that these rows are in must not keep everybody waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_view_slows_its_own_source() -> TestResult {
    const QUICK: usize = 100_000;
    let server = Server::start(1)?;
    let client = server.connect().await?;
    let scratch = server.scratch()?;
    let (quick, slow) = (scratch.join("quick.json"), scratch.join("slow.json"));
    write_rows(&quick, QUICK)?;
    write_rows(&slow, 30_000)?;
    client
        .batch_execute(
            "CREATE TABLE dim (w bigint);
             INSERT INTO dim SELECT n FROM generate_series(1, 20000) g(n);
             CREATE TABLE t (id int)",
        )
        .await?;
    client.batch_execute(&source("slow", &slow, "")).await?;
    let sql = "CREATE MATERIALIZED VIEW heavy AS SELECT count(*) AS n FROM slow JOIN dim ON (v * w + id) % 100003 = 7";
    client.batch_execute(sql).await?;
    client.batch_execute(&source("quick", &quick, "")).await?;
    client.batch_execute("CREATE MATERIALIZED VIEW light AS SELECT count(*) AS n FROM quick").await?;

    // Whoever writes waits for the epoch under way, and for that of the row.
    let mut longest = Duration::ZERO;
    let begin = Instant::now();
    for id in 0.. {
        let start = Instant::now();
        client.batch_execute(&format!("INSERT INTO t VALUES ({id})")).await?;
        longest = longest.max(start.elapsed());
        if one(&client, "SELECT n FROM light").await? == QUICK.to_string() && id >= 30 {
            break;
        }
        assert!(begin.elapsed() < LIMIT, "the quick source is held up");
    }
    let read = number(&client, "SELECT row_count FROM hw_catalog.sources WHERE name = 'slow'").await?;
    println!("quick in {:?}, an INSERT waited {longest:?} at most, {read} rows of the slow source", begin.elapsed());
    assert!((1.0..30_000.0).contains(&read), "{read} rows of the slow source: it is not slow, or not read at all");
    assert!(longest < Duration::from_secs(2), "an INSERT waited {longest:?}");
    Ok(())
}
