//! From a failing case to a small one: whatever can go while the same thing still fails goes.

use std::time::{Duration, Instant};

use crate::harness::{Client, Server, TestResult};

use super::case::{Case, Finding, Kind};
use super::choices::{Choices, smaller};
use super::query::query;
use super::schema::{Change, Transaction};

/// How long one case is made smaller.
const LIMIT: Duration = Duration::from_secs(40);

pub struct Shrinker<'a> {
    server: Server,
    client: Client,
    postgres: Option<&'a Client>,
    kind: Kind,
    start: Instant,
    tries: usize,
}

/// The smallest case found, what is wrong with it, and how many were tried.
pub struct Shrunk {
    pub case: Case,
    pub finding: Finding,
    pub tries: usize,
}

/// `None`: the case does not fail by itself on a fresh server.
pub async fn shrink(
    case: Case,
    tape: Vec<u32>,
    kind: Kind,
    workers: usize,
    postgres: Option<&Client>,
) -> TestResult<Option<Shrunk>> {
    let server = Server::start(workers)?;
    let client = server.connect().await?;
    let mut shrinker = Shrinker { server, client, postgres, kind, start: Instant::now(), tries: 0 };
    let Some(finding) = shrinker.fails(&case).await? else { return Ok(None) };
    let (mut case, mut finding, mut tape) = (case, finding, tape);
    loop {
        let size = size(&case);
        shrinker.fewer_changes(&mut case, &mut finding).await?;
        shrinker.smaller_query(&mut case, &mut finding, &mut tape).await?;
        shrinker.fewer_rows(&mut case, &mut finding).await?;
        if self::size(&case) == size || shrinker.is_over() {
            return Ok(Some(Shrunk { case, finding, tries: shrinker.tries }));
        }
    }
}

fn size(case: &Case) -> usize {
    let changes = case.before.iter().chain(&case.after).flatten();
    case.query.len() + changes.map(|change| change.sql().len()).sum::<usize>()
}

impl Shrinker<'_> {
    fn is_over(&self) -> bool {
        self.start.elapsed() > LIMIT
    }

    /// The finding, if the case still has one of the kind.
    async fn fails(&mut self, case: &Case) -> TestResult<Option<Finding>> {
        self.tries += 1;
        let result = case.run(&self.client, self.postgres).await;
        if self.client.is_closed() || !self.server.is_alive()? {
            self.server.kill()?;
            self.server.start_again(None)?;
            self.client = self.server.connect().await?;
        }
        match result {
            Ok(Some(finding)) if finding.kind == self.kind => Ok(Some(finding)),
            // A change that does not go through makes no case.
            _ => Ok(None),
        }
    }

    async fn takes(&mut self, case: &mut Case, finding: &mut Finding, smaller: Case) -> TestResult<bool> {
        if self.is_over() {
            return Ok(false);
        }
        if let Some(found) = self.fails(&smaller).await? {
            (*case, *finding) = (smaller, found);
            return Ok(true);
        }
        Ok(false)
    }

    /// Whole runs of transactions first, then single ones, then statements.
    async fn fewer_changes(&mut self, case: &mut Case, finding: &mut Finding) -> TestResult {
        for after in [true, false] {
            let mut length = side(case, after).len();
            while length > 0 {
                let mut at = 0;
                while at < side(case, after).len() {
                    let mut smaller = case.clone();
                    let end = (at + length).min(side(&mut smaller, after).len());
                    side(&mut smaller, after).drain(at..end);
                    if !self.takes(case, finding, smaller).await? {
                        at += length;
                    }
                }
                length /= 2;
            }
            let mut at = 0;
            while at < side(case, after).len() {
                let mut statement = 0;
                while side(case, after)[at].len() > 1 && statement < side(case, after)[at].len() {
                    let mut smaller = case.clone();
                    side(&mut smaller, after)[at].remove(statement);
                    if !self.takes(case, finding, smaller).await? {
                        statement += 1;
                    }
                }
                at += 1;
            }
        }
        Ok(())
    }

    async fn fewer_rows(&mut self, case: &mut Case, finding: &mut Finding) -> TestResult {
        for after in [true, false] {
            for at in 0..side(case, after).len() {
                for statement in 0..side(case, after)[at].len() {
                    let mut row = 0;
                    while row < row_count(&side(case, after)[at][statement]) {
                        let mut smaller = case.clone();
                        if let Change::Insert { rows, .. } = &mut side(&mut smaller, after)[at][statement] {
                            rows.remove(row);
                        }
                        if !self.takes(case, finding, smaller).await? {
                            row += 1;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    async fn smaller_query(&mut self, case: &mut Case, finding: &mut Finding, tape: &mut Vec<u32>) -> TestResult {
        let mut again = true;
        while again && !self.is_over() {
            again = false;
            let mut choices = Choices::again(tape.clone());
            query(&case.schema, &mut choices);
            let (read, spans) = choices.into_tape();
            let mut tried = std::collections::HashSet::new();
            for candidate in smaller(&read, &spans) {
                let mut choices = Choices::again(candidate);
                let sql = query(&case.schema, &mut choices);
                if sql.len() >= case.query.len() || !tried.insert(sql.clone()) {
                    continue;
                }
                let (candidate, _) = choices.into_tape();
                let smaller = Case { query: sql, ..case.clone() };
                if self.takes(case, finding, smaller).await? {
                    *tape = candidate;
                    again = true;
                    break;
                }
            }
        }
        Ok(())
    }
}

fn side(case: &mut Case, after: bool) -> &mut Vec<Transaction> {
    if after { &mut case.after } else { &mut case.before }
}

/// Rows that can go: the last one cannot.
fn row_count(change: &Change) -> usize {
    match change {
        Change::Insert { rows, .. } if rows.len() > 1 => rows.len(),
        _ => 0,
    }
}
