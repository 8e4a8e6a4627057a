//! TPC-H: all 22 queries as materialized views over tables that fill and change.
//!
//! ```text
//! tables ─ half of the views ─ rows, in mixed pieces ─ (midway: a quarter) ─ the last quarter ─ a tenth updated and deleted
//!              checkpoint: ↑              ↑                                        ↑                  ↑ after each step
//! ```
//! At a checkpoint each view equals its own SQL run afresh, in one query and so at one epoch. At the end PostgreSQL, which
//! was given the same rows and changes, must agree too.
//!
//! HW_TPCH_SF is the scale factor, HW_SEED another mixture.

pub mod data;
pub mod queries;

use std::collections::BTreeMap;
use std::time::Instant;

use futures::SinkExt;

use crate::harness::{
    Client, Postgres, Server, TestResult, connect, difference, one, rounded, rows, skip, tagged, text,
};
use data::{CHANGES, Piece, TABLES, pieces};
use queries::{QUERIES, Query};

/// Small enough for every test run. With fewer suppliers than it has, dbgen gives a part the same supplier twice.
const SCALE_FACTOR_DEFAULT: f64 = 0.01;

/// Queries that cannot be maintained yet: it may only become shorter.
const REFUSED: &[&str] = &[];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tpch_views_equal_their_own_sql() -> TestResult {
    let seed = crate::harness::env_number("HW_SEED")?.unwrap_or(1);
    let scale_factor: f64 = match std::env::var("HW_TPCH_SF") {
        Ok(text) => text.parse()?,
        Err(_) => SCALE_FACTOR_DEFAULT,
    };
    let server = Server::start(1 + seed as usize % 2)?;
    let client = server.connect().await?;
    let postgres = Postgres::start()?;
    let reference = match &postgres {
        Some(postgres) => Some(connect(&postgres.url("postgres")).await?),
        None => None,
    };
    client.batch_execute(TABLES).await?;
    if let Some(reference) = &reference {
        reference.batch_execute(TABLES).await?;
    }
    let mut run = Run { client, reference, views: vec![], refused: vec![], start: Instant::now() };
    let pieces = pieces(scale_factor, seed);
    run.make_views(|number| number % 2 == 0).await?;
    let midway = pieces.len() / 2;
    for piece in &pieces[..midway] {
        run.load(piece).await?;
    }
    run.make_views(|number| number % 4 == 1).await?;
    run.check("midway").await?;
    for piece in &pieces[midway..] {
        run.load(piece).await?;
    }
    run.make_views(|number| number % 4 == 3).await?;
    run.check("loaded").await?;
    for (step, change) in CHANGES.iter().enumerate() {
        run.change(change).await?;
        if step % 2 == 0 || step + 1 == CHANGES.len() {
            run.check(&format!("step {}", step + 1)).await?;
        }
    }
    run.check_with_postgres().await?;
    let unexpected: Vec<&String> =
        run.refused.iter().filter(|text| !REFUSED.iter().any(|name| text.starts_with(&format!("{name}:")))).collect();
    if !unexpected.is_empty() {
        return Err(format!(
            "refused:\n{}",
            unexpected.iter().map(|text| text.as_str()).collect::<Vec<_>>().join("\n")
        )
        .into());
    }
    Ok(())
}

struct Run {
    client: Client,
    /// PostgreSQL, if it is installed.
    reference: Option<Client>,
    views: Vec<&'static Query>,
    /// `name: message`.
    refused: Vec<String>,
    start: Instant,
}

impl Run {
    async fn make_views(&mut self, which: impl Fn(usize) -> bool) -> TestResult {
        for (number, query) in QUERIES.iter().enumerate().filter(|(number, _)| which(*number)) {
            debug_assert_eq!(query.name, format!("q{}", number + 1));
            let sql = format!("CREATE MATERIALIZED VIEW {} AS {}", query.name, query.sql);
            match self.client.batch_execute(&sql).await {
                Ok(()) => self.views.push(query),
                Err(error) => match error.as_db_error() {
                    Some(refusal) if refusal.code().code() == "0A000" => {
                        self.refused.push(format!("{}: {}", query.name, refusal.message()));
                    }
                    _ => return Err(format!("{}: {error:?}", query.name).into()),
                },
            }
        }
        Ok(())
    }

    async fn load(&self, piece: &Piece) -> TestResult {
        for client in [Some(&self.client), self.reference.as_ref()].into_iter().flatten() {
            let sink = client.copy_in(&format!("COPY {} FROM STDIN (FORMAT csv)", piece.table)).await?;
            let mut sink = std::pin::pin!(sink);
            sink.send(bytes::Bytes::from(piece.csv.clone())).await?;
            let row_count = sink.finish().await?;
            if row_count != piece.row_count as u64 {
                return Err(format!("COPY {} took {row_count} of {} rows", piece.table, piece.row_count).into());
            }
        }
        Ok(())
    }

    async fn change(&self, sql: &str) -> TestResult {
        self.client.batch_execute(sql).await.map_err(|error| format!("{error:?}\nin: {sql}"))?;
        if let Some(reference) = &self.reference {
            reference.batch_execute(sql).await?;
        }
        Ok(())
    }

    /// Each view against its own SQL, at one epoch.
    async fn check(&self, when: &str) -> TestResult {
        let mut failures = vec![];
        let mut counts = vec![];
        for view in &self.views {
            let sql = format!(
                "SELECT 'view' AS hw_tag, v.* FROM {} AS v UNION ALL SELECT 'fresh' AS hw_tag, f.* FROM ({}) AS f",
                view.name, view.sql
            );
            let mut both = tagged(&self.client, &sql).await?;
            let (kept, fresh) = (both.remove("view").unwrap_or_default(), both.remove("fresh").unwrap_or_default());
            counts.push(format!("{} {}", view.name, fresh.values().sum::<usize>()));
            if kept != fresh {
                failures.push(format!("{} is not its own SQL ({when})\n{}", view.name, difference(&kept, &fresh)));
            }
        }
        println!("{:5.1} s {when}: rows of {}", self.start.elapsed().as_secs_f64(), counts.join(", "));
        let errors = one(&self.client, "SELECT count(*) FROM hw_catalog.view_errors").await?;
        if errors != "0" {
            failures.push(format!("{errors} row errors ({when})"));
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
    }

    async fn check_with_postgres(&self) -> TestResult {
        let Some(reference) = &self.reference else {
            return skip("tpch_views_equal_their_own_sql, PostgreSQL's part", "initdb and pg_ctl are not installed");
        };
        // Its planner would take minutes for the correlated ones without them.
        reference
            .batch_execute(
                "CREATE INDEX ON lineitem (l_partkey, l_suppkey); CREATE INDEX ON orders (o_custkey); ANALYZE",
            )
            .await?;
        let mut failures = vec![];
        for view in &self.views {
            let kept = multiset(&self.client, &format!("SELECT * FROM {}", view.name)).await?;
            let expected = multiset(reference, view.sql).await?;
            if kept != expected {
                failures.push(format!("{} is not PostgreSQL's answer\n{}", view.name, difference(&kept, &expected)));
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
    }
}

/// Rows with how often each is there; numbers rounded, because a mean has more digits in PostgreSQL.
async fn multiset(client: &Client, sql: &str) -> TestResult<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for row in rows(client, sql).await? {
        let row: Vec<Option<String>> = row.into_iter().map(|value| value.map(|text| rounded(&text))).collect();
        *counts.entry(text(&row)).or_default() += 1;
    }
    Ok(counts)
}
