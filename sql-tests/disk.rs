//! A disk that is full, and one that can only be read: writes are refused, reads go on, nothing is damaged, and all goes
//! on when the disk does. The disk is a small one in memory, which only root may mount.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Client, Server, TestResult, checkpoint, eventually, one};

const LIMIT: Duration = Duration::from_secs(60);
const DISK: &str = "size=160m";

/// A disk of its own. Unmounted on drop, after the server that was declared behind it.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// Or the reason why there is none.
    fn mount() -> Result<Disk, String> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        run("mount", &["-t", "tmpfs", "-o", DISK, "tmpfs"], dir.path())?;
        Ok(Disk { dir })
    }

    fn remount(&self, how: &str) -> TestResult {
        Ok(run("mount", &["-o", &format!("remount,{how}")], self.dir.path())?)
    }

    fn filler(&self) -> PathBuf {
        self.dir.path().join("filler")
    }

    /// Takes all the room that is left.
    fn fill(&self) -> TestResult {
        use std::io::Write;
        let mut file = std::fs::File::options().create(true).append(true).open(self.filler())?;
        let mut size = 1 << 20;
        while size > 0 {
            if file.write_all(&vec![7; size]).is_err() {
                size /= 2;
            }
        }
        Ok(())
    }

    fn free(&self) -> TestResult {
        Ok(std::fs::remove_file(self.filler())?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Where it fails, the next line of the log says so: the directory cannot be removed.
        let _ = run("umount", &[], self.dir.path());
    }
}

fn run(program: &str, arguments: &[&str], path: &Path) -> Result<(), String> {
    let output = Command::new(program).args(arguments).arg(path).output().map_err(|e| format!("{program}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Inserts rows of 3 kB, 500 at a time, until that is refused; returns how many there are by then.
async fn insert_until_refused(client: &Client, mut count: i64) -> TestResult<i64> {
    for _ in 0..60 {
        let sql = format!(
            "INSERT INTO t SELECT {count} + n, (SELECT string_agg(md5(({count} + n * 100 + i)::text), '') FROM generate_series(1, 90) i)
             FROM generate_series(1, 500) g(n)"
        );
        match client.batch_execute(&sql).await {
            Ok(()) => count += 500,
            Err(error) => {
                assert_eq!(error.code().map(|code| code.code()), Some("53100"), "{error}");
                return Ok(count);
            }
        }
    }
    Err("the disk does not fill".into())
}

async fn expect(client: &Client, count: i64) -> TestResult {
    let sql = "SELECT (SELECT count(*) FROM t) || ',' || (SELECT sum(n) FROM v) || ',' || (SELECT max(id) FROM t)";
    let expected = format!("{count},{count},{count}");
    eventually(&format!("{count} rows"), LIMIT, async || Ok((one(client, sql).await? == expected).then_some(()))).await
}

async fn connect(server: &Server) -> TestResult<Client> {
    eventually("a connection", LIMIT, async || Ok(server.connect().await.ok())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_and_one_that_can_only_be_read() -> TestResult {
    let disk = match Disk::mount() {
        Ok(disk) => disk,
        Err(reason) => {
            // No package brings the right to mount.
            eprintln!("SKIPPED a_full_disk_and_one_that_can_only_be_read: {reason}");
            return Ok(());
        }
    };
    let data = disk.dir.path().join("data");
    std::fs::create_dir(&data)?;
    let mut server = Server::start_on(&data, 2)?;
    let client = server.connect().await?;
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, s text);
             CREATE MATERIALIZED VIEW v AS SELECT id % 10 AS k, count(*) AS n, max(s) AS hi FROM t GROUP BY id % 10;
             INSERT INTO t SELECT n, 'x' FROM generate_series(1, 100) g(n)",
        )
        .await?;
    checkpoint(&client).await?;

    // What the log had reserved is still there to be written to.
    disk.fill()?;
    let mut count = insert_until_refused(&client, 100).await?;
    expect(&client, count).await?;
    let refused = client.batch_execute("CREATE TABLE u (a int)").await.expect_err("there is no room for it");
    assert_eq!(refused.code().map(|code| code.code()), Some("53100"));
    // A checkpoint is due, and cannot be written: it is tried until it can.
    eventually("a checkpoint to fail", LIMIT, async || {
        Ok(server.log()?.contains("could not write a checkpoint, trying again").then_some(()))
    })
    .await?;
    expect(&client, count).await?;
    disk.free()?;
    let row = format!("INSERT INTO t VALUES ({}, 'y')", count + 1);
    eventually("room", LIMIT, async || Ok(client.batch_execute(&row).await.ok())).await?;
    count += 1;
    client.batch_execute("CREATE TABLE u (a int)").await?;
    checkpoint(&client).await?;
    expect(&client, count).await?;
    server.kill()?;
    server.start_again(None)?;
    let client = connect(&server).await?;
    expect(&client, count).await?;

    // A start has to write; where it cannot, it says so and leaves everything as it is.
    server.kill()?;
    disk.fill()?;
    let refused = server.start_again(None).expect_err("there is no room to start").to_string();
    assert!(refused.contains("No space left on device") && refused.contains("make room"), "{refused}");
    disk.free()?;
    disk.remount("ro")?;
    let refused = server.start_again(None).expect_err("nothing can be written").to_string();
    assert!(refused.contains("Read-only file system"), "{refused}");
    disk.remount("rw")?;
    server.start_again(None)?;
    let client = connect(&server).await?;
    expect(&client, count).await?;
    client.batch_execute(&format!("INSERT INTO t VALUES ({}, 'z')", count + 1)).await?;
    expect(&client, count + 1).await?;
    assert!(server.terminate()?.success());
    let checked = Command::new(env!("CARGO_BIN_EXE_highwater")).arg("check").arg(&data).output()?;
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    Ok(())
}
