//! A transaction that is READ ONLY or REPEATABLE READ reads the epoch of its first statement to its end: by SELECT, by
//! cursors, by COPY, in both protocols, in the relations of the system.

use futures::StreamExt;

use super::epoch;
use crate::harness::{Server, TestResult, one};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_holds_its_epoch() -> TestResult {
    let server = Server::start(2)?;
    let (reader, writer) = (server.connect().await?, server.connect().await?);
    writer
        .batch_execute(
            "CREATE TABLE t (n int PRIMARY KEY);
             CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c FROM t;
             INSERT INTO t VALUES (1), (2)",
        )
        .await?;
    let mut next = 10;
    for begin in [
        "BEGIN READ ONLY",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY",
        "BEGIN; SET TRANSACTION READ ONLY",
        "SET default_transaction_isolation = 'repeatable read'; BEGIN",
    ] {
        let count = one(&writer, "SELECT count(*) FROM t").await?;
        reader.batch_execute(begin).await?;
        let held = epoch(&reader).await?;
        for _ in 0..3 {
            next += 1;
            writer.batch_execute(&format!("INSERT INTO t VALUES ({next})")).await?;
            assert_eq!(one(&reader, "SELECT count(*) FROM t").await?, count, "{begin}");
            assert_eq!(one(&reader, "SELECT c FROM v").await?, count, "{begin}");
            assert_eq!(one(&reader, &format!("SELECT count(*) FROM t WHERE n = {next}")).await?, "0", "{begin}");
            let prepared = reader.query_one("SELECT c, (SELECT count(*) FROM t) FROM v", &[]).await?;
            assert_eq!(
                [prepared.get::<_, i64>(0), prepared.get(1)].map(|n| n.to_string()),
                [count.clone(), count.clone()]
            );
            assert_eq!(epoch(&reader).await?, held, "{begin}");
            reader.batch_execute("DECLARE c CURSOR FOR SELECT * FROM t").await?;
            let fetched = reader.query("FETCH ALL c", &[]).await?;
            reader.batch_execute("CLOSE c").await?;
            assert_eq!(fetched.len().to_string(), count, "{begin}");
            let mut copied = Box::pin(reader.copy_out("COPY t TO STDOUT").await?);
            let mut lines = 0;
            while let Some(line) = copied.next().await {
                line?;
                lines += 1;
            }
            assert_eq!(lines.to_string(), count, "{begin}");
        }
        reader.batch_execute("COMMIT").await?;
        assert!(epoch(&reader).await? > held);
        assert_eq!(one(&reader, "SELECT count(*) FROM t").await?, one(&writer, "SELECT c FROM v").await?);
    }
    reader.batch_execute("RESET default_transaction_isolation").await?;
    // At the default level each statement reads anew.
    reader.batch_execute("BEGIN").await?;
    let before = epoch(&reader).await?;
    writer.batch_execute("DELETE FROM t").await?;
    assert!(epoch(&reader).await? > before);
    assert_eq!(one(&reader, "SELECT count(*) FROM t").await?, "0");
    reader.batch_execute("ROLLBACK").await?;
    Ok(())
}

/// Own writes are seen over the held epoch; what others have changed since ends the transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeatable_read_writes_over_what_it_holds() -> TestResult {
    let server = Server::start(1)?;
    let (one_client, other) = (server.connect().await?, server.connect().await?);
    other.batch_execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1), (2, 2)").await?;
    one_client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    assert_eq!(one(&one_client, "SELECT sum(n) FROM t").await?, "3");
    other.batch_execute("UPDATE t SET n = 20 WHERE id = 2").await?;
    one_client.batch_execute("UPDATE t SET n = 10 WHERE id = 1").await?;
    assert_eq!(one(&one_client, "SELECT sum(n) FROM t").await?, "12");
    one_client.batch_execute("COMMIT").await?;
    assert_eq!(one(&one_client, "SELECT sum(n) FROM t").await?, "30");
    one_client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    assert_eq!(one(&one_client, "SELECT sum(n) FROM t").await?, "30");
    other.batch_execute("UPDATE t SET n = 21 WHERE id = 2").await?;
    one_client.batch_execute("UPDATE t SET n = n + 1 WHERE id = 2").await?;
    let error = one_client.batch_execute("COMMIT").await.expect_err("the row has changed since");
    assert_eq!(error.code().map(|code| code.code()), Some("40001"));
    assert_eq!(one(&other, "SELECT sum(n) FROM t").await?, "31");
    Ok(())
}
