//! One case: tables, changes, a query, its view, more changes; and what can be wrong with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::harness::{Client, TestResult, difference, rounded, text};

use super::known::{AD_HOC_FAILS, POSTGRES_REFUSES, is_known, is_refusal};
use super::schema::{Schema, Transaction, transaction_sql};

/// Answers with more rows are not compared.
pub const ROWS_MAX: usize = 600;

/// A query that takes longer is a finding: it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// What is wrong. Two findings are of one kind if they are equal without their details.
#[derive(Clone, Debug)]
pub struct Finding {
    pub kind: Kind,
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The view is not its own SQL.
    ViewDiffers,
    /// The view is not its own SQL, but it is PostgreSQL's answer: the ad-hoc query is wrong.
    AdHocDiffers,
    /// The view and the ad-hoc answer are the same, and not PostgreSQL's.
    PostgresDiffers,
    /// PostgreSQL answers, we do not; the SQLSTATE and the start of the message.
    AdHocFails(String),
    /// The query runs, the view is not made, and that is no refusal.
    ViewFails(String),
    /// The view and its SQL cannot be read together.
    CompareFails(String),
    /// The view has row errors, its SQL has none.
    RowErrors,
    /// The connection broke or nothing came back.
    ServerDied,
}

impl Finding {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Finding {
        Finding { kind, detail: detail.into() }
    }
}

/// SQLSTATE and message of an error; `None` if the server is gone.
pub fn refusal(error: &tokio_postgres::Error) -> Option<(String, String)> {
    error.as_db_error().map(|error| (error.code().code().to_string(), error.message().to_string()))
}

/// A message without what differs from case to case: names, numbers, expressions.
pub fn class(code: &str, message: &str) -> String {
    let mut class = String::new();
    for word in message.split_whitespace().take(9) {
        let is_name = word.chars().any(|c| c.is_ascii_digit() || "\"'().,=".contains(c));
        class.push_str(if is_name { "…" } else { word });
        class.push(' ');
    }
    format!("{code} {}", class.trim_end())
}

pub type Rows = BTreeMap<String, usize>;

/// Runs statements; an error as `(SQLSTATE, message)`, or the finding that the server is gone.
pub async fn execute(client: &Client, sql: &str) -> Result<Result<(), (String, String)>, Finding> {
    match tokio::time::timeout(LIMIT, client.batch_execute(sql)).await {
        Ok(Ok(())) => Ok(Ok(())),
        Ok(Err(error)) => match refusal(&error) {
            Some(refusal) => Ok(Err(refusal)),
            None => Err(Finding::new(Kind::ServerDied, format!("{error:?}\nin: {sql}"))),
        },
        Err(_) => Err(Finding::new(Kind::ServerDied, format!("no answer within {LIMIT:?}\nto: {sql}"))),
    }
}

/// The rows of a query, numbers rounded.
pub async fn answer(client: &Client, sql: &str) -> Result<Result<Rows, (String, String)>, Finding> {
    let messages = match tokio::time::timeout(LIMIT, client.simple_query(sql)).await {
        Ok(Ok(messages)) => messages,
        Ok(Err(error)) => match refusal(&error) {
            Some(refusal) => return Ok(Err(refusal)),
            None => return Err(Finding::new(Kind::ServerDied, format!("{error:?}\nin: {sql}"))),
        },
        Err(_) => return Err(Finding::new(Kind::ServerDied, format!("no answer within {LIMIT:?}\nto: {sql}"))),
    };
    let mut rows = Rows::new();
    for message in messages {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            let values: Vec<Option<String>> = (0..row.len()).map(|i| row.get(i).map(rounded)).collect();
            *rows.entry(text(&values)).or_default() += 1;
        }
    }
    Ok(Ok(rows))
}

/// How long a view may be read in vain after a restart: it is computed again.
const RESTART_LIMIT: Duration = Duration::from_secs(10);

/// The view, its SQL, and PostgreSQL's answer are the same.
pub async fn verify(client: &Client, postgres: Option<&Client>, query: &str, view: &str) -> Result<(), Finding> {
    let start = Instant::now();
    let fresh = loop {
        match compare(client, view, query).await {
            Err(Finding { kind: Kind::CompareFails(class), .. })
                if class.starts_with("55000") && start.elapsed() < RESTART_LIMIT =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(finding) if finding.kind == Kind::ViewDiffers && postgres.is_some() => {
                let kept = answer(client, &format!("SELECT * FROM {view}")).await?;
                let expected = match postgres {
                    Some(postgres) => answer(postgres, query).await?,
                    None => return Err(finding),
                };
                let is_right = kept.is_ok() && kept == expected;
                return Err(if is_right { Finding::new(Kind::AdHocDiffers, finding.detail) } else { finding });
            }
            Err(mut finding) if start.elapsed() >= RESTART_LIMIT => {
                let states = answer(client, "SELECT name, state, error FROM hw_catalog.views").await?;
                finding.detail = format!("{}; after {RESTART_LIMIT:?}\n{states:?}", finding.detail);
                return Err(finding);
            }
            result => break result?,
        }
    };
    let Some(postgres) = postgres else { return Ok(()) };
    if let Ok(expected) = answer(postgres, query).await?
        && expected != fresh
    {
        return Err(Finding::new(Kind::PostgresDiffers, difference(&fresh, &expected)));
    }
    Ok(())
}

/// The view beside its own SQL in one query, and so at one epoch. Returns what both hold, numbers rounded.
pub async fn compare(client: &Client, view: &str, query: &str) -> Result<Rows, Finding> {
    let sql = format!(
        "SELECT 'view' AS hw_tag, v.* FROM {view} AS v UNION ALL SELECT 'fresh' AS hw_tag, f.* FROM ({query}) AS f"
    );
    let both = match tokio::time::timeout(LIMIT, client.simple_query(&sql)).await {
        Ok(Ok(messages)) => messages,
        Ok(Err(error)) => {
            return Err(match refusal(&error) {
                Some((code, message)) => Finding::new(Kind::CompareFails(class(&code, &message)), message),
                None => Finding::new(Kind::ServerDied, format!("{error:?}")),
            });
        }
        Err(_) => return Err(Finding::new(Kind::ServerDied, format!("no answer within {LIMIT:?}"))),
    };
    let (mut kept, mut fresh, mut shown) = (Rows::new(), Rows::new(), Rows::new());
    for message in both {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            let values: Vec<Option<String>> = (1..row.len()).map(|i| row.get(i).map(str::to_string)).collect();
            if row.get(0) == Some("view") {
                *kept.entry(text(&values)).or_default() += 1;
                continue;
            }
            *fresh.entry(text(&values)).or_default() += 1;
            let values: Vec<Option<String>> = values.iter().map(|value| value.as_deref().map(rounded)).collect();
            *shown.entry(text(&values)).or_default() += 1;
        }
    }
    if kept != fresh {
        return Err(Finding::new(Kind::ViewDiffers, difference(&kept, &fresh)));
    }
    Ok(shown)
}

/// A case by itself, on servers that hold nothing else of its names.
#[derive(Clone, Debug)]
pub struct Case {
    pub schema: Schema,
    pub query: String,
    pub before: Vec<Transaction>,
    pub after: Vec<Transaction>,
}

impl Case {
    /// Runs it from the start. `Ok(None)`: nothing is wrong with it, or it is no case at all.
    pub async fn run(&self, client: &Client, postgres: Option<&Client>) -> TestResult<Option<Finding>> {
        let everywhere = [Some(client), postgres].into_iter().flatten().collect::<Vec<_>>();
        for client in &everywhere {
            client.batch_execute(&self.schema.drop()).await?;
            client.batch_execute(&self.schema.create().join("; ")).await?;
            for transaction in &self.before {
                client.batch_execute(&transaction_sql(transaction)).await?;
            }
        }
        Ok(self.check(client, postgres).await?.err())
    }

    async fn check(&self, client: &Client, postgres: Option<&Client>) -> TestResult<Result<(), Finding>> {
        match prepare(client, postgres, &self.query, "hw_case").await {
            Ok(Prepared::View) => {}
            Ok(_) => return Ok(Ok(())),
            Err(finding) => return Ok(Err(finding)),
        }
        for step in 0..=self.after.len() {
            if step > 0 {
                let sql = transaction_sql(&self.after[step - 1]);
                if let Err(finding) = execute(client, &sql).await.map(|_| ()) {
                    return Ok(Err(finding));
                }
                if let Some(postgres) = postgres {
                    postgres.batch_execute(&sql).await?;
                }
            }
            if let Err(finding) = verify(client, postgres, &self.query, "hw_case").await {
                return Ok(Err(finding));
            }
        }
        Ok(row_errors(client, "hw_case").await)
    }

    /// The whole as a script, with the result it must have at the end.
    pub fn script(&self, expected: &str) -> String {
        let statement = |sql: &str| format!("statement ok\n{sql}\n\n");
        let mut script: String = self.schema.create().iter().map(|sql| statement(sql)).collect();
        script.push_str("# @rows\n");
        self.before.iter().for_each(|change| script.push_str(&statement(&transaction_sql(change))));
        script.push_str("# @view\n");
        script.push_str(&statement(&format!("CREATE MATERIALIZED VIEW v AS\n{}", self.query)));
        script.push_str("# @check\n");
        self.after.iter().for_each(|change| script.push_str(&statement(&transaction_sql(change))));
        script.push_str(&format!("query rowsort\nSELECT * FROM v\n----\n{expected}\n"));
        script
    }
}

/// What a query is good for.
#[derive(Debug, PartialEq)]
pub enum Prepared {
    View,
    /// The ad-hoc query or the view is refused by design: the message.
    Refused(String),
    /// PostgreSQL does not take it, or it is too large.
    Invalid(String),
}

/// Asks PostgreSQL and ourselves for the query, and makes the view.
pub async fn prepare(client: &Client, postgres: Option<&Client>, query: &str, view: &str) -> Result<Prepared, Finding> {
    if let Some(postgres) = postgres {
        match answer(postgres, query).await? {
            Ok(rows) if rows.values().sum::<usize>() > ROWS_MAX => return Ok(Prepared::Invalid("many rows".into())),
            Err((code, message)) if !is_known(POSTGRES_REFUSES, &message) => {
                return Ok(Prepared::Invalid(format!("{code} {message}")));
            }
            _ => {}
        }
    }
    match answer(client, query).await? {
        Ok(rows) if rows.values().sum::<usize>() > ROWS_MAX => return Ok(Prepared::Invalid("many rows".into())),
        Ok(_) => {}
        Err((code, message)) if is_refusal(&code) || is_known(AD_HOC_FAILS, &message) => {
            return Ok(Prepared::Refused(format!("ad hoc: {message}")));
        }
        Err((code, message)) => {
            return Err(Finding::new(Kind::AdHocFails(class(&code, &message)), format!("{code}: {message}")));
        }
    }
    match execute(client, &format!("CREATE MATERIALIZED VIEW {view} AS {query}")).await? {
        Ok(()) => Ok(Prepared::View),
        Err((code, message)) if is_refusal(&code) => Ok(Prepared::Refused(message)),
        Err((code, message)) => {
            Err(Finding::new(Kind::ViewFails(class(&code, &message)), format!("{code}: {message}")))
        }
    }
}

/// No expression of these queries can fail.
pub async fn row_errors(client: &Client, view: &str) -> Result<(), Finding> {
    let sql = format!("SELECT * FROM hw_catalog.view_errors WHERE view = '{view}'");
    match answer(client, &sql).await? {
        Ok(rows) if rows.is_empty() => Ok(()),
        Ok(rows) => Err(Finding::new(Kind::RowErrors, rows.into_keys().take(3).collect::<Vec<_>>().join("\n"))),
        Err((code, message)) => Err(Finding::new(Kind::RowErrors, format!("{code}: {message}"))),
    }
}
