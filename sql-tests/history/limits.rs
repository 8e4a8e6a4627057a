//! Subscribers that do not behave: one that never reads, one that is cancelled, one that goes away. Nobody else notices,
//! and nothing stays behind.

use std::io::Write;
use std::time::{Duration, Instant};

use super::{Follower, epoch, refused};
use crate::harness::{Client, Server, TestResult, eventually, has, one, query, rows, skip, startup};

const LIMIT: Duration = Duration::from_secs(20);

async fn subscribers(client: &Client) -> TestResult<String> {
    one(client, "SELECT count(*) FROM hw_catalog.subscriptions").await
}

async fn running(client: &Client, what: &str) -> TestResult {
    let shown = one(client, "SELECT subscription FROM hw_catalog.subscriptions").await?;
    assert!(what.contains(&shown), "{shown}");
    Ok(())
}

async fn nobody_is_left(client: &Client) -> TestResult {
    eventually("the end of all subscriptions", LIMIT, async || Ok((subscribers(client).await? == "0").then_some(())))
        .await
}

/// Its queue is the relation's history, which keeps so much for it and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_never_reads_is_ended_and_costs_little() -> TestResult {
    let server = Server::start_configured(2, "subscriber_memory_bytes = 1000000\n")?;
    let (client, fetcher) = (server.connect().await?, server.connect().await?);
    client
        .batch_execute(
            "CREATE TABLE t (n int, s text);
             CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c FROM t",
        )
        .await?;
    // A client that asks and never reads the answer.
    let mut deaf = std::net::TcpStream::connect(("127.0.0.1", server.port()))?;
    deaf.write_all(&startup())?;
    deaf.write_all(&query("SUBSCRIBE t"))?;
    // One that has a cursor and does not fetch.
    fetcher.batch_execute("BEGIN; DECLARE c CURSOR FOR SUBSCRIBE t").await?;
    eventually("two subscribers", LIMIT, async || Ok((subscribers(&client).await? == "2").then_some(()))).await?;
    let start = Instant::now();
    let mut most = 0;
    let text = "x".repeat(200);
    for round in 0..60 {
        let values: Vec<String> = (0..1000).map(|n| format!("({}, '{text}{n}')", round * 1000 + n)).collect();
        client.batch_execute(&format!("INSERT INTO t VALUES {}", values.join(","))).await?;
        assert_eq!(one(&client, "SELECT c FROM v").await?, ((round + 1) * 1000).to_string());
        let bytes = one(&client, "SELECT bytes FROM hw_catalog.history WHERE relation = 't'").await?;
        most = most.max(bytes.parse::<u64>()?);
    }
    println!("60 writes of 1000 rows in {:?}; the history was never larger than {most} bytes", start.elapsed());
    assert!(most < 8_000_000, "{most} bytes are kept for those who do not read");
    let error = fetcher.simple_query("FETCH ALL c WITH (timeout = '5s')").await.expect_err("it was too slow");
    assert_eq!(error.code().map(|code| code.code()), Some("53400"), "{error:?}");
    // Nothing is kept for the one that is still there, either; when it goes, nothing is left.
    let held = "SELECT COALESCE(sum(subscriber_count), 0) FROM hw_catalog.history";
    eventually("nothing that is held", LIMIT, async || Ok((one(&client, held).await? == "0").then_some(()))).await?;
    drop(deaf);
    nobody_is_left(&client).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_a_timeout_and_a_disconnect_end_it_at_once() -> TestResult {
    let server = Server::start(1)?;
    let client = server.connect().await?;
    client.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)").await?;
    for what in ["t", "(SELECT n, count(*) AS c FROM t GROUP BY n)"] {
        let start = Instant::now();
        let follower = server.connect().await?;
        let limited = format!("SET statement_timeout = '300ms'; SUBSCRIBE {what}");
        assert_eq!(refused(&follower, &limited).await?, "57014");
        follower.batch_execute("RESET statement_timeout").await?;
        let cancel = follower.cancel_token();
        let cancelled = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            cancel.cancel_query(tokio_postgres::NoTls).await
        });
        assert_eq!(refused(&follower, &format!("SUBSCRIBE {what}")).await?, "57014");
        cancelled.await??;
        assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
        // What is left of the connection works.
        assert_eq!(one(&follower, "SELECT count(*) FROM t").await?, "2");
        nobody_is_left(&client).await?;
        // Gone in the middle, and gone with an open cursor.
        let (follower, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        let mut changes = Follower::start(&follower, &format!("SUBSCRIBE {what}")).await?;
        assert!(changes.next().await?.is_some());
        running(&client, what).await?;
        connection.abort();
        nobody_is_left(&client).await?;
        let follower = server.connect().await?;
        follower.batch_execute(&format!("BEGIN; DECLARE c CURSOR FOR SUBSCRIBE {what}; FETCH 1 c")).await?;
        running(&client, what).await?;
        drop(follower);
        nobody_is_left(&client).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_wait_as_they_are_told() -> TestResult {
    let server = Server::start(1)?;
    let (client, writer) = (server.connect().await?, server.connect().await?);
    writer.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2), (3)").await?;
    client.batch_execute("BEGIN; DECLARE c CURSOR FOR SUBSCRIBE t").await?;
    assert_eq!(rows(&client, "FETCH 2 c").await?.len(), 2);
    assert_eq!(rows(&client, "FETCH ALL c").await?.len(), 1, "what is there, without waiting for more");
    let start = Instant::now();
    assert_eq!(rows(&client, "FETCH ALL c WITH (timeout = '200ms')").await?.len(), 0);
    assert_eq!(rows(&client, "FETCH ALL c WITH (timeout = '0s')").await?.len(), 0);
    assert!((Duration::from_millis(190)..Duration::from_secs(5)).contains(&start.elapsed()), "{:?}", start.elapsed());
    // Without a timeout it waits for the first row.
    let late = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        writer.batch_execute("INSERT INTO t VALUES (4); DELETE FROM t WHERE n = 1").await.map(|()| writer)
    });
    let mut fetched = rows(&client, "FETCH ALL c").await?;
    let writer = late.await??;
    if fetched.len() == 1 {
        fetched.extend(rows(&client, "FETCH ALL c").await?);
    }
    let told: Vec<_> = fetched.iter().map(|row| (row[2].as_deref(), row[3].as_deref())).collect();
    assert_eq!(
        told,
        [(Some("-1"), Some("1")), (Some("1"), Some("4"))],
        "one message is one epoch: what goes, what comes"
    );
    client.batch_execute("COMMIT").await?;
    for (sql, code) in [
        ("DECLARE c CURSOR FOR SUBSCRIBE t", "25P01"),
        ("BEGIN; DECLARE c CURSOR FOR SUBSCRIBE t; MOVE 1 c", "0A000"),
        ("BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH 1 c WITH (timeout = '1s')", "22023"),
        ("BEGIN; DECLARE c CURSOR FOR SUBSCRIBE t; FETCH 1 c WITH (patience = '1s')", "22023"),
        ("SUBSCRIBE nothing", "42P01"),
        ("SUBSCRIBE t WITH (NOISE)", "22023"),
        ("SUBSCRIBE t AS OF 1", "72000"),
        ("SUBSCRIBE t AS OF 1000000000", "22023"),
        ("SUBSCRIBE t UP TO 1", "22023"),
        ("SUBSCRIBE (SELECT random() FROM t)", "0A000"),
        ("SUBSCRIBE (SELECT n, n FROM t)", "42701"),
        ("SUBSCRIBE hw_catalog.views", "0A000"),
    ] {
        assert_eq!(refused(&client, sql).await?, code, "{sql}");
        client.batch_execute("ROLLBACK").await?;
    }
    nobody_is_left(&client).await?;
    // What it follows goes away, or is replaced.
    writer.batch_execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c FROM t").await?;
    for (what, end) in [
        ("v", "CREATE OR REPLACE MATERIALIZED VIEW v AS SELECT count(*) + 1 AS c FROM t"),
        ("(SELECT c + 1 FROM v)", "DROP MATERIALIZED VIEW v"),
        ("t", "DROP TABLE t"),
    ] {
        let follower = server.connect().await?;
        let mut changes = Follower::start(&follower, &format!("SUBSCRIBE {what}")).await?;
        assert!(changes.next().await?.is_some(), "{what}");
        writer.batch_execute(end).await?;
        let error = changes.rest().await.expect_err("what it followed is gone");
        assert!(
            error.to_string().contains("was dropped or replaced") || format!("{error:?}").contains("55000"),
            "{error:?}"
        );
    }
    nobody_is_left(&client).await
}

/// A portal gives what is there, however many rows were asked for, and goes on when it is asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_gives_what_is_there() -> TestResult {
    let server = Server::start(1)?;
    let (mut client, writer) = (server.connect().await?, server.connect().await?);
    writer.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2), (3)").await?;
    let transaction = client.transaction().await?;
    let portal = transaction.bind("SUBSCRIBE t", &[]).await?;
    assert_eq!(transaction.query_portal(&portal, 2).await?.len(), 2);
    assert_eq!(transaction.query_portal(&portal, 100).await?.len(), 1);
    writer.batch_execute("INSERT INTO t VALUES (4)").await?;
    let rows = transaction.query_portal(&portal, 100).await?;
    assert_eq!(rows.iter().map(|row| row.get::<_, i32>("n")).collect::<Vec<_>>(), [4]);
    transaction.rollback().await?;
    nobody_is_left(&writer).await
}

/// An end at an instant, which may be to come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_ends_at_an_instant() -> TestResult {
    let server = Server::start(1)?;
    let (client, writer) = (server.connect().await?, server.connect().await?);
    writer.batch_execute("CREATE TABLE t (n int) WITH (retention = '1 hour'); INSERT INTO t VALUES (1)").await?;
    let start = Instant::now();
    let mut changes = Follower::start(&client, "SUBSCRIBE t UP TO now() + INTERVAL '2 seconds'").await?;
    assert!(changes.next().await?.is_some_and(|change| change.weight == 1));
    writer.batch_execute("INSERT INTO t VALUES (2)").await?;
    assert!(changes.next().await?.is_some_and(|change| change.row.as_deref() == Some("2")));
    assert_eq!(changes.rest().await?, []);
    assert!(start.elapsed() > Duration::from_millis(1900), "it ended after {:?}", start.elapsed());
    writer.batch_execute("INSERT INTO t VALUES (3)").await?;
    let now = epoch(&writer).await?;
    let all = "SUBSCRIBE t WITH (SNAPSHOT = false) AS OF now() - INTERVAL '1 minute' UP TO now()";
    assert_eq!(refused(&client, all).await?, "72000", "the table is younger");
    let all = format!("SUBSCRIBE t UP TO {now}");
    assert_eq!(Follower::start(&client, &all).await?.rest().await?.len(), 3);
    Ok(())
}

/// psql prints what COPY sends, and the rows of SUBSCRIBE.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_subscribes() -> TestResult {
    if !has("psql") {
        return skip("psql_subscribes", "psql is not installed");
    }
    let server = Server::start(1)?;
    let client = server.connect().await?;
    client.batch_execute("CREATE TABLE t (n int, s text); INSERT INTO t VALUES (1, 'one'), (2, NULL)").await?;
    let psql = |sql: &str| -> TestResult<String> {
        let output = std::process::Command::new("psql").args(["-XqAt", "-d", &server.url(), "-c", sql]).output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let now = epoch(&client).await?;
    let copied = psql(&format!("COPY (SUBSCRIBE t UP TO {now}) TO STDOUT"))?;
    let mut lines: Vec<Vec<&str>> = copied.lines().map(|line| line.split('\t').collect()).collect();
    lines.sort_by_key(|line| line[3]);
    let number = now.to_string();
    assert_eq!(lines[0][..1], [number.as_str()]);
    assert_eq!((&lines[0][2..], &lines[1][2..]), (&["1", "1", "one"][..], &["1", "2", "\\N"][..]));
    let shown = psql(&format!("SUBSCRIBE (SELECT sum(n) AS n FROM t) WITH (PROGRESS) UP TO {}", now + 1))?;
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(shown.lines().any(|line| line.ends_with("|f|1|3")), "{shown}");
    Ok(())
}
