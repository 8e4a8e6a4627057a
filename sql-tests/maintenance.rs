//! Backup, restore and check, as somebody would who types them.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::harness::{Client, Server, TestResult, checkpoint, eventually, one};

fn highwater(arguments: &[&str]) -> TestResult<Output> {
    let program = std::env::var_os("HW_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_highwater").into());
    Ok(Command::new(program).args(arguments).output()?)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn filled() -> TestResult<(Server, Client)> {
    let server = Server::start_with(2, &["--checkpoint-interval-ms", "50"])?;
    let client = server.connect().await?;
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, k int);
             INSERT INTO t SELECT g, g % 10 FROM generate_series(1, 5000) g;
             CREATE MATERIALIZED VIEW m AS SELECT k, count(*) AS n, max(id) AS high FROM t GROUP BY k;
             CREATE MATERIALIZED VIEW j AS SELECT a.id FROM t a JOIN t b ON a.id = b.id + 1;
             DELETE FROM t WHERE id % 7 = 0",
        )
        .await?;
    checkpoint(&client).await?;
    Ok((server, client))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_what_was_there() -> TestResult {
    let (server, client) = filled().await?;
    let scratch = server.scratch()?;
    let (backup, data) = (scratch.join("backup"), scratch.join("restored"));
    let path = |path: &Path| path.display().to_string();
    let address = format!("127.0.0.1:{}", server.port());
    let taken = highwater(&["backup", &path(&backup), "--server", &address])?;
    assert!(taken.status.success(), "{}", said(&taken));
    // What comes later is not in it.
    client.batch_execute("INSERT INTO t VALUES (100000, 1)").await?;
    let again = highwater(&["backup", &path(&backup), "--server", &address])?;
    assert!(!again.status.success() && said(&again).contains("is not empty"), "{}", said(&again));
    assert!(client.batch_execute("BACKUP TO 'here'").await.is_err(), "a relative path");

    let checked = highwater(&["check", &path(&backup)])?;
    assert!(checked.status.success() && said(&checked).contains("complete"), "{}", said(&checked));
    let restored = highwater(&["restore", &path(&backup), "--data-dir", &path(&data)])?;
    assert!(restored.status.success(), "{}", said(&restored));
    let other = Server::start_on(&data, 1)?;
    let client = eventually("a connection", Duration::from_secs(30), async || Ok(other.connect().await.ok())).await?;
    let rows = 5000 - 5000 / 7;
    assert_eq!(one(&client, "SELECT count(*) FROM t").await?, rows.to_string());
    assert_eq!(one(&client, "SELECT sum(n) FROM m").await?, rows.to_string());
    assert_eq!(
        one(&client, "SELECT count(*) FROM j").await?,
        one(&client, "SELECT count(*) FROM t a JOIN t b ON a.id = b.id + 1").await?
    );
    assert!(
        other.log()?.contains("view public.m goes on from the checkpoint") || other.log()?.contains("view m goes on")
    );

    // A file that is not what it was.
    let segments = backup.join("segments");
    let segment = std::fs::read_dir(&segments)?.next().ok_or("no segment")??.path();
    let mut bytes = std::fs::read(&segment)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    std::fs::write(&segment, bytes)?;
    let refused = highwater(&["restore", &path(&backup), "--data-dir", &path(&scratch.join("other"))])?;
    assert!(!refused.status.success() && said(&refused).contains("is not what it was"), "{}", said(&refused));
    assert!(!scratch.join("other").exists(), "half a directory stays behind");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_named_and_does_not_spread() -> TestResult {
    let (mut server, _) = filled().await?;
    server.kill()?;
    let data = server.data();
    let check = || highwater(&["check", &data.display().to_string()]);
    let sound = check()?;
    assert!(sound.status.success(), "{}", said(&sound));
    assert!(said(&sound).contains("4286 rows") && said(&sound).contains("segments:"), "{}", said(&sound));
    for entry in std::fs::read_dir(data.join("segments"))? {
        let path = entry?.path();
        let mut bytes = std::fs::read(&path)?;
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes)?;
    }
    let damaged = check()?;
    assert!(!damaged.status.success() && said(&damaged).contains("checksum"), "{}", said(&damaged));
    // A start names the view whose state is damaged; tables are there, and the view can be made again.
    server.start_again(None)?;
    let client = eventually("a connection", Duration::from_secs(30), async || Ok(server.connect().await.ok())).await?;
    assert_eq!(one(&client, "SELECT count(*) FROM t").await?, "4286");
    let failed = eventually("a view to fail", Duration::from_secs(10), async || {
        let failed =
            one(&client, "SELECT count(*) FROM hw_catalog.views WHERE state = 'failed' AND error LIKE '%checksum%'")
                .await?;
        Ok((failed != "0").then_some(failed))
    });
    failed.await?;
    client.batch_execute("DROP MATERIALIZED VIEW j; DROP MATERIALIZED VIEW m; CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM t").await?;
    assert_eq!(one(&client, "SELECT n FROM m").await?, "4286");

    let nothing = highwater(&["check", "/nonexistent"])?;
    assert!(!nothing.status.success() && said(&nothing).contains("no data directory"), "{}", said(&nothing));
    Ok(())
}
