//! Random queries over random tables under random changes: every SELECT that runs is a view, and right at every epoch.
//!
//! ```text
//! a round: tables ─ half of the views ─ changes ─ the other half ─ changes … ─ now and then a kill
//!                                                                     after each: view = its SQL afresh = PostgreSQL
//! ```
//! Each query is asked ad hoc (and of PostgreSQL, where it is installed), made a view, and compared after every transaction. A
//! refusal by name (`0A000`) is counted and listed, not a finding. A finding is made smaller and printed as a script.
//!
//! | part | file |
//! |---|---|
//! | decisions, and how a thing gets smaller | [`choices`] |
//! | tables and changes | [`schema`] |
//! | queries | [`query`], [`from`], [`expr`], [`calls`] |
//! | one case, and what can be wrong with it | [`case`] |
//! | from a failing case to a small one | [`shrink`] |
//! | where we differ from PostgreSQL on purpose | [`known`] |
//!
//! HW_FUZZ_SECONDS makes it longer and begins anywhere, HW_SEED replays, HW_FUZZ_FINDINGS says after how many findings it stops
//! (3), HW_FUZZ_LIST_ERRORS=1 lists what fails with an error instead of making it smaller.

mod calls;
mod case;
mod choices;
mod expr;
mod from;
mod known;
mod query;
mod schema;
mod shrink;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Client, Postgres, Server, TestResult, connect, env_number, eventually, seed};
use case::{Case, Finding, Kind, Prepared, execute, prepare, row_errors, verify};
use choices::Choices;
use schema::{Schema, Transaction, transaction, transaction_sql};

const SECONDS_DEFAULT: u64 = 15;
/// A short run tries the same each time, so that a change does not fail for what it has not changed.
const SEED_DEFAULT: u64 = 1;
const FINDINGS_DEFAULT: u64 = 3;

/// Queries of a round.
const QUERIES: usize = 24;
/// Transactions of a round, each with a comparison of all views behind it.
const TRANSACTIONS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_queries_are_right_as_views() -> TestResult {
    let seconds = env_number("HW_FUZZ_SECONDS")?;
    let seed = match seconds {
        None => env_number("HW_SEED")?.unwrap_or(SEED_DEFAULT),
        Some(_) => seed()?,
    };
    let limit = Duration::from_secs(seconds.unwrap_or(SECONDS_DEFAULT));
    let findings_max = env_number("HW_FUZZ_FINDINGS")?.unwrap_or(FINDINGS_DEFAULT) as usize;
    println!("seed: HW_SEED={seed}");
    if limit.is_zero() {
        return Ok(());
    }
    let postgres = Postgres::start()?;
    let start = Instant::now();
    let mut fuzz = Fuzz::start(postgres.as_ref(), findings_max).await?;
    for round in 0.. {
        if start.elapsed() > limit || fuzz.findings.len() >= findings_max {
            break;
        }
        fuzz.round(seed.wrapping_add(round)).await?;
    }
    fuzz.report(start.elapsed());
    if fuzz.findings.is_empty() {
        return Ok(());
    }
    Err(format!("HW_SEED={seed}: {} findings\n\n{}", fuzz.findings.len(), fuzz.findings.join("\n\n")).into())
}

/// Counts of one message, with one query that has it.
type Messages = BTreeMap<String, (usize, String)>;

struct Fuzz {
    server: Server,
    workers: usize,
    client: Client,
    postgres: Option<Client>,
    findings_max: usize,
    findings: Vec<String>,
    /// Kinds of errors that have been reported: one report for each is enough.
    reported: Vec<Kind>,
    refused: Messages,
    invalid: Messages,
    queries: usize,
    views: usize,
    comparisons: usize,
    kills: usize,
}

/// A query with its view, while a round lasts.
struct Running {
    tape: Vec<u32>,
    sql: String,
    view: String,
    /// Transactions that had happened when the view was made.
    made_at: usize,
}

impl Fuzz {
    async fn start(postgres: Option<&Postgres>, findings_max: usize) -> TestResult<Fuzz> {
        let server = Server::start(1)?;
        let client = server.connect().await?;
        let postgres = match postgres {
            None => None,
            Some(postgres) => {
                let client = connect(&postgres.url("postgres")).await?;
                client.batch_execute("SET statement_timeout = '2s'; SET client_min_messages = 'warning'").await?;
                Some(client)
            }
        };
        Ok(Fuzz {
            server,
            workers: 1,
            client,
            postgres,
            findings_max,
            findings: vec![],
            reported: vec![],
            refused: Messages::new(),
            invalid: Messages::new(),
            queries: 0,
            views: 0,
            comparisons: 0,
            kills: 0,
        })
    }

    async fn round(&mut self, seed: u64) -> TestResult {
        let mut random = StdRng::seed_from_u64(seed);
        let mut choices = Choices::random(random.random());
        let schema = Schema::random(&mut choices);
        if random.random_bool(0.3) {
            self.start_again(random.random_range(1..=2)).await?;
        }
        for client in [Some(&self.client), self.postgres.as_ref()].into_iter().flatten() {
            client.batch_execute(&schema.create().join("; ")).await?;
        }
        let mut done: Vec<Transaction> = vec![];
        let mut running = vec![];
        self.make_views(&schema, &mut random, &done, &mut running).await?;
        let kill_at = if random.random_bool(0.25) { random.random_range(1..TRANSACTIONS) } else { usize::MAX };
        for step in 0..TRANSACTIONS {
            if self.findings.len() >= self.findings_max {
                break;
            }
            let next = transaction(&schema, &mut choices);
            let sql = transaction_sql(&next);
            done.push(next);
            if let Err((code, message)) = execute(&self.client, &sql).await.map_err(|finding| finding.detail)? {
                return Err(format!("{code}: {message}\nin: {sql}").into());
            }
            if let Some(postgres) = &self.postgres {
                postgres.batch_execute(&sql).await.map_err(|error| format!("PostgreSQL: {error:?}\nin: {sql}"))?;
            }
            if step == kill_at {
                self.kills += 1;
                self.start_again(random.random_range(1..=2)).await?;
            }
            self.verify_all(&schema, &done, &mut running).await?;
            if step == TRANSACTIONS / 2 - 1 {
                self.make_views(&schema, &mut random, &done, &mut running).await?;
            }
        }
        for client in [Some(&self.client), self.postgres.as_ref()].into_iter().flatten() {
            client.batch_execute(&schema.drop()).await?;
        }
        Ok(())
    }

    /// Half of the round's views.
    async fn make_views(
        &mut self,
        schema: &Schema,
        random: &mut StdRng,
        done: &[Transaction],
        running: &mut Vec<Running>,
    ) -> TestResult {
        for _ in 0..QUERIES / 2 {
            let mut choices = Choices::random(random.random());
            let sql = query::query(schema, &mut choices);
            let (tape, _) = choices.into_tape();
            self.queries += 1;
            let view = format!("v{}", self.queries);
            let result = prepare(&self.client, self.postgres.as_ref(), &sql, &view).await;
            let made = Running { tape, sql, view, made_at: done.len() };
            match result {
                Ok(Prepared::View) => {
                    self.views += 1;
                    running.push(made);
                }
                Ok(Prepared::Refused(message)) => note(&mut self.refused, message, &made.sql),
                Ok(Prepared::Invalid(message)) => note(&mut self.invalid, message, &made.sql),
                Err(finding) => self.found(schema, done, &made, finding).await?,
            }
        }
        Ok(())
    }

    async fn verify_all(&mut self, schema: &Schema, done: &[Transaction], running: &mut Vec<Running>) -> TestResult {
        let failing = crate::harness::rows(&self.client, "SELECT DISTINCT view FROM hw_catalog.view_errors").await?;
        let failing: Vec<&str> = failing.iter().filter_map(|row| row.first()?.as_deref()).collect();
        let mut at = 0;
        while at < running.len() {
            self.comparisons += 1;
            let one = &running[at];
            let mut result = verify(&self.client, self.postgres.as_ref(), &one.sql, &one.view).await;
            if result.is_ok() && failing.contains(&one.view.as_str()) {
                result = row_errors(&self.client, &one.view).await;
            }
            match result {
                Ok(()) => at += 1,
                Err(finding) => {
                    let one = running.remove(at);
                    self.found(schema, done, &one, finding).await?;
                    if self.findings.len() >= self.findings_max {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the case smaller and writes it down. An error of a kind that is known already is only counted.
    async fn found(&mut self, schema: &Schema, done: &[Transaction], one: &Running, finding: Finding) -> TestResult {
        let is_error = !matches!(finding.kind, Kind::ViewDiffers | Kind::AdHocDiffers | Kind::PostgresDiffers);
        if is_error && self.reported.contains(&finding.kind) {
            note(&mut self.refused, format!("(finding again) {:?}", finding.kind), &one.sql);
            return Ok(());
        }
        self.reported.push(finding.kind.clone());
        if is_error && std::env::var_os("HW_FUZZ_LIST_ERRORS").is_some() {
            note(&mut self.refused, format!("(finding) {:?} {}", finding.kind, finding.detail), &one.sql);
            return Ok(());
        }
        println!("found {:?} after {} transactions; making it smaller", finding.kind, done.len());
        if finding.kind == Kind::ServerDied {
            println!("in: {}\n{}", one.sql, finding.detail);
            self.start_again(self.workers).await?;
        }
        let case = Case {
            schema: schema.clone(),
            query: one.sql.clone(),
            before: done[..one.made_at].to_vec(),
            after: done[one.made_at..].to_vec(),
        };
        // PostgreSQL's tables of the round are in the way: the case gets a database of its own.
        let beside = match &self.postgres {
            None => None,
            Some(postgres) => Some(self.beside(postgres).await?),
        };
        let kind = finding.kind.clone();
        let shrunk =
            shrink::shrink(case.clone(), one.tape.clone(), kind.clone(), self.workers, beside.as_ref()).await?;
        let text = match shrunk {
            Some(shrunk) => format!(
                "{kind:?} ({} workers, smallest of {} tries)\n{}\n\n{}",
                self.workers,
                shrunk.tries,
                shrunk.finding.detail,
                shrunk.case.script(&expected(&shrunk.case, beside.as_ref()).await)
            ),
            None => format!(
                "{kind:?} ({} workers; does not fail again by itself)\n{}\n\n{}",
                self.workers,
                finding.detail,
                case.script("")
            ),
        };
        println!("{text}\n");
        self.findings.push(text);
        Ok(())
    }

    async fn beside(&self, postgres: &Client) -> TestResult<Client> {
        let name = format!("case_{}", self.findings.len());
        postgres.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        let port = postgres.query_one("SELECT current_setting('port')", &[]).await?.get::<_, String>(0);
        let client = connect(&format!("postgresql://root@127.0.0.1:{port}/{name}")).await?;
        client.batch_execute("SET statement_timeout = '2s'; SET client_min_messages = 'warning'").await?;
        Ok(client)
    }

    /// Kills the server and starts it on the same data.
    async fn start_again(&mut self, workers: usize) -> TestResult {
        self.server.kill()?;
        self.workers = workers;
        self.server.start_again(Some(workers))?;
        let server = &self.server;
        self.client =
            eventually("a connection", Duration::from_secs(30), async || Ok(server.connect().await.ok())).await?;
        Ok(())
    }

    fn report(&self, elapsed: Duration) {
        println!(
            "{} queries, {} views, {} comparisons, {} kills in {:.0?}",
            self.queries, self.views, self.comparisons, self.kills, elapsed
        );
        for (title, messages) in [("refused", &self.refused), ("not asked, for PostgreSQL", &self.invalid)] {
            let mut messages: Vec<_> = messages.iter().collect();
            messages.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
            for (message, (count, query)) in messages {
                println!("{title}: {count} × {message}\n    {query}");
            }
        }
    }
}

fn note(messages: &mut Messages, message: String, query: &str) {
    let entry = messages.entry(message).or_insert_with(|| (0, query.to_string()));
    entry.0 += 1;
    if query.len() < entry.1.len() {
        entry.1 = query.to_string();
    }
}

/// The rows that PostgreSQL has at the end of the case, for the script.
async fn expected(case: &Case, postgres: Option<&Client>) -> String {
    let Some(postgres) = postgres else { return String::new() };
    let result = async {
        let changes = case.before.iter().chain(&case.after).map(|change| transaction_sql(change));
        let setup: Vec<String> = [case.schema.drop()].into_iter().chain(case.schema.create()).chain(changes).collect();
        for sql in setup {
            postgres.batch_execute(&sql).await?;
        }
        crate::harness::rows(postgres, &case.query).await
    };
    let shown = |value: &Option<String>| match value.as_deref() {
        None => "NULL".to_string(),
        Some("") => "(empty)".to_string(),
        Some(text) => text.to_string(),
    };
    match result.await {
        Ok(rows) => {
            let mut lines: Vec<String> =
                rows.iter().map(|row| row.iter().map(shown).collect::<Vec<_>>().join(" ")).collect();
            lines.sort();
            lines.join("\n")
        }
        Err(error) => format!("({error})"),
    }
}
