//! The reference pages tell the truth: every ```` ```sql ```` block of `docs/sql/*.md`, `docs/event-time.md`, `docs/history.md` and `docs/postgres.md` is run, in order, on
//! one server for each page. A block that a ```` ```text ```` block follows must print that, as `psql -qA` does: a line of column names, a line for each
//! row, the count of rows; or the error with its hint.
//!
//! HW_DOCS_BLESS=1 writes what was printed into the pages instead, to be read before it is committed.

use std::path::PathBuf;

use tokio_postgres::SimpleQueryMessage;

use crate::harness::{Client, Server, TestResult};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_of_the_reference_runs() -> TestResult {
    let mut failures = vec![];
    for path in pages()? {
        let text = std::fs::read_to_string(&path)?;
        let page = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let server = Server::start(2)?;
        let client = server.connect().await?;
        let mut blessed = String::new();
        for part in parts(&text) {
            let printed = match &part.sql {
                Some(sql) => print(&client, sql).await,
                None => String::new(),
            };
            if let Some(expected) = &part.expected
                && expected.trim_end() != printed.trim_end()
            {
                failures.push(format!(
                    "{page}:{}: prints\n{printed}\ninstead of\n{expected}\nfor\n{}",
                    part.line,
                    part.sql.as_deref().unwrap_or_default()
                ));
            }
            if part.expected.is_none() && printed.starts_with("ERROR:") {
                failures.push(format!("{page}:{}: {printed}\nin\n{}", part.line, part.sql.unwrap_or_default()));
            }
            blessed.push_str(&part.text);
            if part.expected.is_some() {
                blessed.push_str(&format!("```text\n{}\n```\n", printed.trim_end()));
            }
        }
        if std::env::var_os("HW_DOCS_BLESS").is_some() {
            std::fs::write(&path, blessed)?;
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n\n").into()) }
}

fn pages() -> TestResult<Vec<PathBuf>> {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut pages = vec![docs.join("event-time.md"), docs.join("history.md"), docs.join("postgres.md")];
    for entry in std::fs::read_dir(docs.join("sql"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    Ok(pages)
}

/// A stretch of a page: text, and at its end a block of SQL, with what the block must print.
#[derive(Default)]
struct Part {
    /// The page's text without the expected result.
    text: String,
    line: usize,
    sql: Option<String>,
    expected: Option<String>,
}

fn parts(page: &str) -> Vec<Part> {
    let mut parts = vec![Part::default()];
    // The language of the open block.
    let mut open: Option<String> = None;
    for (number, line) in page.lines().enumerate() {
        let language = line.strip_prefix("```");
        let last = parts.last_mut().expect("there is always one");
        match (&open, language) {
            (None, Some("text")) if last.sql.is_some() && last.expected.is_none() => {
                last.expected = Some(String::new());
                open = Some("text".to_string());
                continue;
            }
            (None, Some(language)) => {
                if language == "sql" && last.sql.is_some() {
                    parts.push(Part::default());
                }
                let last = parts.last_mut().expect("there is always one");
                if language == "sql" {
                    (last.sql, last.line) = (Some(String::new()), number + 1);
                }
                last.text.push_str(&format!("{line}\n"));
                open = Some(language.to_string());
                continue;
            }
            (Some(language), Some(_)) => {
                if language != "text" || last.expected.is_none() {
                    last.text.push_str(&format!("{line}\n"));
                } else {
                    parts.push(Part::default());
                }
                open = None;
                continue;
            }
            _ => {}
        }
        match open.as_deref() {
            Some("sql") => {
                last.text.push_str(&format!("{line}\n"));
                if let Some(sql) = &mut last.sql {
                    sql.push_str(&format!("{line}\n"));
                }
            }
            Some("text") if last.expected.is_some() => {
                if let Some(expected) = &mut last.expected {
                    expected.push_str(&format!("{line}\n"));
                }
            }
            _ => {
                // Text behind a block that prints nothing begins the next part, unless its result follows at once.
                if last.sql.is_some() && open.is_none() && !line.trim().is_empty() {
                    parts.push(Part::default());
                }
                parts.last_mut().expect("there is always one").text.push_str(&format!("{line}\n"));
            }
        }
    }
    parts
}

/// What `psql -qA` prints for the statements of a block, each sent by itself, up to the first that fails; NULL is empty.
async fn print(client: &Client, sql: &str) -> String {
    let mut lines = vec![];
    for statement in statements(sql) {
        match client.simple_query(&statement).await {
            Ok(messages) => table(messages, &mut lines),
            Err(error) => {
                let Some(error) = error.as_db_error() else { return format!("ERROR:  {error:?}") };
                lines.push(format!("ERROR:  {}", error.message()));
                for (word, value) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
                    lines.extend(value.map(|value| format!("{word}:  {value}")));
                }
                break;
            }
        }
    }
    lines.join("\n")
}

fn table(messages: Vec<SimpleQueryMessage>, lines: &mut Vec<String>) {
    let mut row_count = None;
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                row_count = Some(0);
                lines.push(columns.iter().map(|column| column.name()).collect::<Vec<_>>().join("|"));
            }
            SimpleQueryMessage::Row(row) => {
                row_count = row_count.map(|count| count + 1);
                let values: Vec<&str> = (0..row.len()).map(|column| row.get(column).unwrap_or_default()).collect();
                lines.push(values.join("|"));
            }
            _ => {}
        }
    }
    lines.extend(row_count.map(|count| if count == 1 { "(1 row)".to_string() } else { format!("({count} rows)") }));
}

/// Cut at semicolons outside of quotes, as psql does.
fn statements(sql: &str) -> Vec<String> {
    let (mut statements, mut current, mut quote) = (vec![], String::new(), None);
    let mut rest = sql;
    while let Some(next) = rest.chars().next() {
        let token = if rest.starts_with("$$") { "$$" } else { &rest[..next.len_utf8()] };
        match (quote, token) {
            (None, "'" | "\"" | "$$") => quote = Some(token),
            (Some(open), _) if open == token => quote = None,
            (None, ";") => {
                statements.push(std::mem::take(&mut current));
                rest = &rest[token.len()..];
                continue;
            }
            _ => {}
        }
        current.push_str(token);
        rest = &rest[token.len()..];
    }
    statements.push(current);
    statements.retain(|statement| !statement.trim().is_empty());
    statements
}
