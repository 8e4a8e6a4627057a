//! The oracle: at every epoch a view equals its own SQL run from scratch over its inputs.
//!
//! Random inserts, updates, deletes, upserts and truncations, in random transactions, some rolled back; after every
//! commit some of the [`views`] (all of them in turn) are read beside their own SQL in one query, which is answered
//! from one epoch, and must hold the same rows the same number of times. A [`model`] of the tables, kept here, says what
//! the tables must hold. Now and then the server is killed, also in the middle of a commit, and comes back with another
//! number of workers.
//!
//! Short by default; HW_ORACLE_SECONDS makes it longer. The seed is printed; HW_SEED replays it.

mod model;
mod views;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::harness::{Client, Server, TestResult, difference, env_number, eventually, seed, tagged};
use model::Model;
use views::{TABLES, VIEWS};

/// How long it runs unless told otherwise.
const SECONDS_DEFAULT: u64 = 20;

/// Views that are compared after each commit; all take their turn.
const VIEWS_PER_COMMIT: usize = 4;

/// Statements that a failure shows.
const STATEMENTS_SHOWN: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_view_equals_its_own_sql_at_every_epoch() -> TestResult {
    let seed = seed()?;
    let limit = Duration::from_secs(env_number("HW_ORACLE_SECONDS")?.unwrap_or(SECONDS_DEFAULT));
    println!("seed: HW_SEED={seed}");
    let mut run = Run::start(seed).await?;
    let result = run.go(limit).await;
    println!("{} commits, {} comparisons, {} kills", run.commits, run.comparisons, run.kills);
    result.map_err(|error| {
        let last: Vec<&str> = run.statements.iter().map(String::as_str).collect();
        format!("seed: HW_SEED={seed}\nlast statements:\n{}\n\n{error}", last.join(";\n")).into()
    })
}

/// One run of the oracle: the server, its one writer, and what the tables must hold.
struct Run {
    random: StdRng,
    server: Server,
    client: Client,
    model: Model,
    /// The last statements, for a person who must find out what happened.
    statements: VecDeque<String>,
    next_view: usize,
    commits: usize,
    comparisons: usize,
    kills: usize,
}

impl Run {
    async fn start(seed: u64) -> TestResult<Run> {
        let mut random = StdRng::seed_from_u64(seed);
        // Half of the runs let go of all state that is on disk, as soon as it is.
        let flags: &[&str] = &["--checkpoint-interval-ms", "100", "--memory-limit", "1MiB"];
        let server = Server::start_with(random.random_range(1..=2), if seed.is_multiple_of(2) { flags } else { &[] })?;
        let client = server.connect().await?;
        client.batch_execute(TABLES).await?;
        let mut run = Run {
            random,
            server,
            client,
            model: Model::default(),
            statements: VecDeque::new(),
            next_view: 0,
            commits: 0,
            comparisons: 0,
            kills: 0,
        };
        // Half of the views stand before the first row; the others are made over what is there.
        for (number, view) in VIEWS.iter().enumerate() {
            if number == VIEWS.len() / 2 {
                for _ in 0..10 {
                    run.commit().await?;
                }
            }
            run.say(&format!("CREATE MATERIALIZED VIEW {} AS {}", view.name, view.sql)).await?;
        }
        Ok(run)
    }

    async fn go(&mut self, limit: Duration) -> TestResult {
        let start = Instant::now();
        self.compare_all().await?;
        while start.elapsed() < limit {
            self.commit().await?;
            for _ in 0..VIEWS_PER_COMMIT {
                self.compare(self.next_view).await?;
                self.next_view = (self.next_view + 1) % VIEWS.len();
            }
            match self.random.random_range(0..60) {
                0 => self.kill_between_commits().await?,
                1 => self.kill_during_a_commit().await?,
                2 => self.make_a_view_again().await?,
                3 => self.compare_tables().await?,
                _ => {}
            }
        }
        self.kill_during_a_commit().await?;
        self.compare_tables().await?;
        self.compare_all().await
    }

    async fn say(&mut self, sql: &str) -> TestResult {
        self.statements.push_back(sql.to_string());
        if self.statements.len() > STATEMENTS_SHOWN {
            self.statements.pop_front();
        }
        self.client.batch_execute(sql).await.map_err(|error| format!("{error:?}\nin: {sql}").into())
    }

    /// One transaction: a single statement, or several between BEGIN and COMMIT or ROLLBACK.
    async fn commit(&mut self) -> TestResult {
        self.commits += 1;
        if self.random.random_bool(0.5) {
            let statement = self.model.change(&mut self.random);
            return self.say(&statement).await;
        }
        let before = self.model.clone();
        self.say("BEGIN").await?;
        for _ in 0..self.random.random_range(1..6) {
            let statement = self.model.change(&mut self.random);
            self.say(&statement).await?;
        }
        if self.random.random_bool(0.2) {
            self.model = before;
            self.say("ROLLBACK").await
        } else {
            self.say("COMMIT").await
        }
    }

    async fn compare_all(&mut self) -> TestResult {
        for number in 0..VIEWS.len() {
            self.compare(number).await?;
        }
        Ok(())
    }

    /// The view and its SQL, in one query and so at one epoch, counted as multisets.
    async fn compare(&mut self, number: usize) -> TestResult {
        self.comparisons += 1;
        let view = &VIEWS[number];
        let sql = format!(
            "SELECT 'view' AS hw_tag, v.* FROM {} AS v UNION ALL SELECT 'fresh' AS hw_tag, f.* FROM ({}) AS f",
            view.name, view.sql
        );
        let mut both = tagged(&self.client, &sql).await?;
        let (kept, fresh) = (both.remove("view").unwrap_or_default(), both.remove("fresh").unwrap_or_default());
        if kept == fresh {
            return Ok(());
        }
        Err(format!("view {} is not its own SQL\n{}\n{}", view.name, view.sql, difference(&kept, &fresh)).into())
    }

    /// The tables against the model.
    async fn compare_tables(&mut self) -> TestResult {
        let found = self.tables().await?;
        let expected = self.model.contents();
        if found == expected {
            return Ok(());
        }
        Err(format!("the tables are not what was written\n{}", difference(&found, &expected)).into())
    }

    async fn tables(&self) -> TestResult<BTreeMap<String, usize>> {
        let mut contents = BTreeMap::new();
        for table in ["items", "links", "labels"] {
            let sql = format!("SELECT '{table}' AS hw_tag, t.* FROM {table} AS t");
            for (tag, rows) in tagged(&self.client, &sql).await? {
                contents.extend(rows.into_iter().map(|(row, count)| (format!("{tag}{row}"), count)));
            }
        }
        Ok(contents)
    }

    async fn kill_between_commits(&mut self) -> TestResult {
        self.server.kill()?;
        self.come_back().await?;
        self.compare_tables().await?;
        self.compare_all().await
    }

    /// The commit is in doubt: it may have happened as a whole, or not at all.
    async fn kill_during_a_commit(&mut self) -> TestResult {
        let before = self.model.clone();
        let mut statements = vec!["BEGIN".to_string()];
        for _ in 0..self.random.random_range(1..4) {
            statements.push(self.model.change(&mut self.random));
        }
        statements.push("COMMIT".to_string());
        let message = statements.join(";\n");
        self.statements.push_back(format!("{message} -- killed"));
        let pause = Duration::from_micros(self.random.random_range(0..20_000));
        // Whether it was answered does not matter; what does is that it is whole.
        let _ = tokio::time::timeout(pause, self.client.batch_execute(&message)).await;
        self.server.kill()?;
        self.come_back().await?;
        if self.tables().await? == before.contents() {
            self.model = before;
        }
        self.compare_tables().await?;
        self.compare_all().await
    }

    async fn come_back(&mut self) -> TestResult {
        self.kills += 1;
        let workers = self.random.random_range(1..=2);
        self.server.start_again(Some(workers))?;
        let server = &self.server;
        self.client =
            eventually("a connection", Duration::from_secs(30), async || Ok(server.connect().await.ok())).await?;
        Ok(())
    }

    /// Drops a view that nothing reads and makes it over the rows that are there.
    async fn make_a_view_again(&mut self) -> TestResult {
        let number = self.random.random_range(0..VIEWS.len());
        let view = &VIEWS[number];
        if VIEWS.iter().any(|other| other.sql.contains(view.name) && other.name != view.name) {
            return Ok(());
        }
        self.say(&format!("DROP MATERIALIZED VIEW {}", view.name)).await?;
        self.say(&format!("CREATE MATERIALIZED VIEW {} AS {}", view.name, view.sql)).await?;
        self.compare(number).await
    }
}
