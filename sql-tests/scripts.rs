//! Scripts of SQL with the results they must have (`scripts/**/*.slt`, the notation of sqllogictest), over the wire,
//! each on a server of its own, with one worker and with two.
//!
//! Those under `scripts/views/` are twins: each runs once with the rows there before the view, once with the view there
//! before the rows, and must answer the same. Where PostgreSQL is installed, it answers the scripts too, views
//! in place of maintained views: a result that we and the script agree on, and it does not, is wrong.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use sqllogictest::{DBOutput, DefaultColumnType, Runner};
use tokio_postgres::SimpleQueryMessage;

use crate::harness::{Client, Postgres, Server, TestResult, home, skip};

/// Scripts that run at once, for each number of workers.
const PARALLEL: usize = 2;

#[test]
fn scripts_with_one_worker() -> TestResult {
    run_all(1)
}

#[test]
fn scripts_with_two_workers() -> TestResult {
    run_all(2)
}

#[test]
fn scripts_with_postgres() -> TestResult {
    let Some(postgres) = Postgres::start()? else {
        return skip("scripts_with_postgres", "initdb and pg_ctl are not installed");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut failures = vec![];
    for (number, path) in scripts()?.into_iter().enumerate() {
        let script = Script::read(&path)?;
        if script.only_highwater {
            continue;
        }
        let database = format!("script_{number}");
        runtime.block_on(async {
            let client = crate::harness::connect(&postgres.url("postgres")).await?;
            client.batch_execute(&format!("CREATE DATABASE {database}")).await?;
            let scratch = tempfile::tempdir()?;
            let pieces = script.in_order(Order::RowsFirst, scratch.path());
            let pieces = pieces.into_iter().map(|piece| as_postgres(&piece)).collect();
            if let Err(error) = run(&postgres.url(&database), "postgres", &script.name, pieces).await {
                failures.push(format!("{} on PostgreSQL: {error}", script.name));
            }
            TestResult::Ok(())
        })?;
    }
    report(failures)
}

/// What stands first: the rows or the view.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    RowsFirst,
    ViewFirst,
}

fn run_all(workers: usize) -> TestResult {
    let mut jobs = VecDeque::new();
    for path in scripts()? {
        let script = std::sync::Arc::new(Script::read(&path)?);
        jobs.push_back((script.clone(), Order::RowsFirst));
        if script.is_twin {
            jobs.push_back((script, Order::ViewFirst));
        }
    }
    println!("{} runs with {workers} worker(s)", jobs.len());
    let (jobs, failures) = (Mutex::new(jobs), Mutex::new(vec![]));
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let Some((script, order)) = jobs.lock().expect("no runner panics").pop_front() else { return };
                    if let Err(error) = run_one(&script, order, workers) {
                        let failure = format!("{} ({order:?}, {workers} workers): {error}", script.name);
                        failures.lock().expect("no runner panics").push(failure);
                    }
                }
            });
        }
    });
    report(failures.into_inner()?)
}

fn report(failures: Vec<String>) -> TestResult {
    if failures.is_empty() {
        return Ok(());
    }
    Err(format!("{} scripts failed\n\n{}", failures.len(), failures.join("\n")).into())
}

fn run_one(script: &Script, order: Order, workers: usize) -> TestResult {
    let mut server = Server::start(workers)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pieces = script.in_order(order, &server.scratch()?);
    let result = runtime.block_on(run(&server.url(), "highwater", &script.name, pieces));
    if !server.is_alive()? {
        return Err(format!("the server died: {result:?}\n{}", server.log()?).into());
    }
    result
}

async fn run(url: &str, engine: &'static str, name: &str, pieces: Vec<String>) -> TestResult {
    let mut runner = Runner::new(|| Database::connect(url.to_string(), engine));
    for piece in pieces {
        runner.run_script_with_name_async(&piece, name).await.map_err(|error| error.display(false).to_string())?;
    }
    runner.shutdown_async().await;
    Ok(())
}

/// All scripts, or those whose path contains HW_SCRIPT.
fn scripts() -> TestResult<Vec<PathBuf>> {
    let wanted = std::env::var("HW_SCRIPT").unwrap_or_default();
    let mut found = vec![];
    let mut folders = vec![home().join("scripts")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "slt") && path.to_string_lossy().contains(&wanted) {
                found.push(path);
            }
        }
    }
    found.sort();
    if found.is_empty() { Err(format!("no script matches \"{wanted}\"").into()) } else { Ok(found) }
}

/// A script, cut at its `# @…` lines.
struct Script {
    name: String,
    is_twin: bool,
    /// It uses what PostgreSQL does not have.
    only_highwater: bool,
    /// Each with as many empty lines before it as stand before it in the file, so that line numbers hold.
    setup: String,
    rows: String,
    view: String,
    check: String,
}

impl Script {
    fn read(path: &Path) -> TestResult<Script> {
        let text = std::fs::read_to_string(path)?;
        let name = path.strip_prefix(home())?.display().to_string();
        let mut sections = [String::new(), String::new(), String::new(), String::new()];
        let mut current = 0;
        for (number, line) in text.lines().enumerate() {
            current = match line.trim_end() {
                "# @rows" => 1,
                "# @view" => 2,
                "# @check" => 3,
                "# @only highwater" => current,
                other if other.starts_with("# @") => {
                    return Err(format!("{name}:{}: unknown section {other}", number + 1).into());
                }
                _ => current,
            };
            let section = &mut sections[current];
            let behind = number.saturating_sub(section.lines().count());
            section.push_str(&"\n".repeat(behind));
            section.push_str(line);
            section.push('\n');
        }
        let [setup, rows, view, check] = sections;
        let is_twin = !rows.is_empty() && !view.is_empty();
        if path.parent().is_some_and(|p| p.ends_with("views")) && !is_twin {
            return Err(format!("{name}: a view script needs the sections @rows, @view and @check").into());
        }
        let only_highwater = text.lines().any(|line| line == "# @only highwater");
        Ok(Script { name, is_twin, only_highwater, setup, rows, view, check })
    }

    /// The pieces to run, with the places of files filled in: `__DATA__` is sql-tests/data, `__SCRATCH__` an empty
    /// directory.
    fn in_order(&self, order: Order, scratch: &Path) -> Vec<String> {
        let (first, second) = match order {
            Order::RowsFirst => (&self.rows, &self.view),
            Order::ViewFirst => (&self.view, &self.rows),
        };
        let data = home().join("data").display().to_string();
        let place =
            |piece: &String| piece.replace("__DATA__", &data).replace("__SCRATCH__", &scratch.display().to_string());
        [&self.setup, first, second, &self.check].into_iter().filter(|piece| !piece.is_empty()).map(place).collect()
    }
}

/// What PostgreSQL has in place of a maintained view is a view: always right, computed at each query.
fn as_postgres(script: &str) -> String {
    script
        .replace("CREATE MATERIALIZED VIEW", "CREATE VIEW")
        .replace("DROP MATERIALIZED VIEW", "DROP VIEW")
        .replace("ALTER MATERIALIZED VIEW", "ALTER VIEW")
}

/// One connection, as sqllogictest drives it.
struct Database {
    client: Client,
    engine: &'static str,
}

/// An error as a script can match it: `42P01: relation "t" does not exist HINT: … POSITION: 15`.
#[derive(Debug)]
struct Refusal {
    code: Option<String>,
    text: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

impl From<tokio_postgres::Error> for Refusal {
    fn from(error: tokio_postgres::Error) -> Refusal {
        let Some(db) = error.as_db_error() else { return Refusal { code: None, text: format!("{error:?}") } };
        let mut text = format!("{}: {}", db.code().code(), db.message());
        for (word, value) in [("DETAIL", db.detail()), ("HINT", db.hint())] {
            if let Some(value) = value {
                text.push_str(&format!(" {word}: {value}"));
            }
        }
        if let Some(tokio_postgres::error::ErrorPosition::Original(position)) = db.position() {
            text.push_str(&format!(" POSITION: {position}"));
        }
        Refusal { code: Some(db.code().code().to_string()), text }
    }
}

impl Database {
    async fn connect(url: String, engine: &'static str) -> Result<Database, Refusal> {
        Ok(Database { client: crate::harness::connect(&url).await?, engine })
    }
}

#[async_trait::async_trait]
impl sqllogictest::AsyncDB for Database {
    type Error = Refusal;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Refusal> {
        let (mut rows, mut types, mut count) = (vec![], None, 0);
        for message in self.client.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    types = Some(vec![DefaultColumnType::Any; columns.len()]);
                }
                SimpleQueryMessage::Row(row) => rows.push((0..row.len()).map(|i| shown(row.get(i))).collect()),
                SimpleQueryMessage::CommandComplete(n) => count = n,
                _ => {}
            }
        }
        Ok(match types {
            Some(types) => DBOutput::Rows { types, rows },
            None => DBOutput::StatementComplete(count),
        })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        self.engine
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn error_sql_state(error: &Refusal) -> Option<String> {
        error.code.clone()
    }
}

/// A value as scripts write it.
fn shown(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_string(),
        Some("") => "(empty)".to_string(),
        Some(text) => text.replace('\n', "\\n"),
    }
}
