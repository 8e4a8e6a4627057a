//! What every room of the tests stands on: a running server ([`Server`]), ways to read it, and what to do when a
//! program that a test needs is not there ([`skip`]).

mod broker;
mod postgres;
mod protocol;
mod rows;
mod server;

pub use broker::{Broker, send};
pub use postgres::Postgres;
pub use protocol::{message, query, startup};
pub use rows::{difference, ints, one, rounded, rows, tagged, text};
pub use server::{Client, Server, connect};

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a test returns. Any error fails it, printed with everything it knows.
pub type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// `sql-tests/` in the working tree.
pub fn home() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sql-tests")
}

/// A directory that outlives test runs: jars, virtual environments.
pub fn cache_dir() -> TestResult<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(base) => PathBuf::from(base),
        None => PathBuf::from(std::env::var_os("HOME").ok_or("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache"),
    };
    let dir = base.join("highwater").join("clients");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Says that a test did not run because something is missing. In CI nothing may be missing.
pub fn skip(test: &str, reason: &str) -> TestResult {
    println!("SKIPPED {test}: {reason}");
    // The harness swallows the output of a passing test; this line is what a person sees.
    eprintln!("SKIPPED {test}: {reason}");
    match std::env::var("CI").as_deref() {
        Ok("true") | Ok("1") => Err(format!("{test} cannot run in CI: {reason}").into()),
        _ => Ok(()),
    }
}

/// Whether a program answers `--version`.
pub fn has(program: &str) -> bool {
    std::process::Command::new(program)
        .arg("--version")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A number from the environment.
pub fn env_number(name: &str) -> TestResult<Option<u64>> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text.parse().map_err(|_| format!("{name}={text} is not a whole number"))?)),
        Err(_) => Ok(None),
    }
}

/// A seed: from HW_SEED, else of this instant. The caller prints it.
pub fn seed() -> TestResult<u64> {
    match env_number("HW_SEED")? {
        Some(seed) => Ok(seed),
        None => Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_micros() as u64),
    }
}

/// Returns once a checkpoint holds what views are now.
pub async fn checkpoint(client: &Client) -> TestResult {
    let now = one(client, "SELECT epoch FROM hw_catalog.epoch").await?;
    let query = format!("SELECT coalesce(checkpoint_epoch >= {now}, false) FROM hw_catalog.epoch");
    eventually("a checkpoint", Duration::from_secs(60), async || Ok((one(client, &query).await? == "t").then_some(())))
        .await
}

/// Asks again until `check` is content (`Ok(Some)`) or `limit` has passed; `what` names what was waited for.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut check: impl AsyncFnMut() -> TestResult<Option<T>>,
) -> TestResult<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = check().await? {
            return Ok(value);
        }
        if start.elapsed() > limit {
            return Err(format!("waited {limit:?} in vain for {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
