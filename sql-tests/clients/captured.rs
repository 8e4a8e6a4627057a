//! What real clients were seen to send (`*.sql`), and what PostgreSQL 15 answers to it (`expected/*.txt`).
//!
//! ```text
//! relations.sql ──▶ PostgreSQL ─┐
//!               └─▶ Highwater ──┴─ each statement of each file ──▶ columns and rows, OIDs by name ──▶ expected/*.txt
//! ```
//!
//! A statement of which the answer must differ says so: `-- differs: why` under its title. Then the expected answer is
//! Highwater's own. `-- in any order` where the statement leaves the order open.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use tokio_postgres::types::{Kind, Type};

use super::transcripts::{first_difference, makes_expected};
use crate::harness::{Client, Postgres, Server, TestResult, home, rows, skip};

/// A source reads as a foreign table; so PostgreSQL gets one.
const SOURCE: &str =
    "CREATE SOURCE clicks WITH (connector = 'nexmark', nexmark.table.type = 'Bid', nexmark.event.num = '10')";
const FOREIGN_TABLE: &str = "CREATE FOREIGN DATA WRAPPER highwater;
    CREATE SERVER nexmark FOREIGN DATA WRAPPER highwater;
    CREATE FOREIGN TABLE clicks (auction bigint, bidder bigint, price bigint, channel varchar, url varchar, date_time timestamp,
        extra varchar) SERVER nexmark
        OPTIONS (connector 'nexmark', \"nexmark.event.num\" '10', \"nexmark.table.type\" 'Bid')";

/// Those objects whose OIDs differ from server to server, by what they are.
const OIDS: &str = "SELECT 'relation ' || n.nspname || '.' || c.relname, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid >= 16384
    UNION ALL SELECT 'schema ' || nspname, oid FROM pg_namespace WHERE nspname = 'analytics'
    UNION ALL SELECT 'constraint ' || conname, oid FROM pg_constraint WHERE oid >= 16384
    UNION ALL SELECT 'function ' || proname, oid FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT 'default ' || adrelid::regclass::text || '.' || adnum::text, oid FROM pg_attrdef
    UNION ALL SELECT 'rule of ' || ev_class::regclass::text, oid FROM pg_rewrite WHERE oid >= 16384";

struct Statement {
    title: String,
    text: String,
    differs: bool,
    any_order: bool,
}

#[test]
fn captured_statements_are_answered_as_by_postgres() -> TestResult {
    let server = Server::start(1)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = server.connect().await?;
        prepare(&client, SOURCE).await?;
        // PostgreSQL makes the other answers.
        compare_all(&client, |statement| statement.differs || !makes_expected()).await
    })
}

#[test]
fn captured_statements_are_answered_by_postgres() -> TestResult {
    let Some(postgres) = Postgres::start()? else {
        return skip("captured_statements_are_answered_by_postgres", "initdb and pg_ctl are not installed");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let first = crate::harness::connect(&postgres.url("postgres")).await?;
        first.batch_execute("CREATE DATABASE dev").await?;
        let client = crate::harness::connect(&postgres.url("dev")).await?;
        prepare(&client, FOREIGN_TABLE).await?;
        compare_all(&client, |statement| !statement.differs).await
    })
}

async fn prepare(client: &Client, source: &str) -> TestResult {
    let relations = std::fs::read_to_string(home().join("clients/relations.sql"))?;
    // One by one: a message of several statements is one transaction, and definitions want none.
    for statement in relations.split(";\n").chain(source.split(";\n")) {
        client.batch_execute(statement).await.map_err(|error| format!("{error:?}\nin: {statement}"))?;
    }
    Ok(())
}

/// Of those statements that `asked` says yes to; the others' expected answers stay as they are.
async fn compare_all(client: &Client, asked: impl Fn(&Statement) -> bool) -> TestResult {
    let oids = rows(client, OIDS).await?;
    let oids: HashMap<String, String> =
        oids.into_iter().filter_map(|row| Some((row[1].clone()?, row[0].clone()?))).collect();
    let mut failures = vec![];
    for name in files()? {
        let path = home().join(format!("clients/expected/{name}.txt"));
        let mut expected = read_expected(&std::fs::read_to_string(&path).unwrap_or_default());
        let statements = statements(&std::fs::read_to_string(home().join(format!("clients/{name}.sql")))?);
        for statement in statements.iter().filter(|statement| asked(statement)) {
            let answer =
                answer(client, statement, &oids).await.map_err(|error| format!("{}: {error}", statement.title))?;
            if makes_expected() {
                expected.insert(statement.title.clone(), answer);
                continue;
            }
            let wanted = expected.get(&statement.title).map_or("", String::as_str);
            if let Some(difference) = first_difference(wanted, &answer) {
                failures.push(format!("{name}: {}: {difference}", statement.title));
            }
        }
        if makes_expected() {
            let mut text = String::new();
            for title in statements.iter().map(|statement| &statement.title) {
                let answer = expected.get(title).map_or("", String::as_str);
                write!(text, "-- # {title}\n{answer}\n")?;
            }
            std::fs::write(&path, text)?;
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(format!("{} answers differ\n{}", failures.len(), failures.join("\n")).into())
}

/// The captured files, by name without ending: those with an expected answer beside.
fn files() -> TestResult<Vec<String>> {
    let mut names = vec![];
    for file in std::fs::read_dir(home().join("clients"))? {
        let path: PathBuf = file?.path();
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "sql") && name != "relations" {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// `-- # title` opens a statement; titles that occur several times are numbered.
fn statements(text: &str) -> Vec<Statement> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut all = vec![];
    for part in text.split("\n-- # ").skip(1) {
        let (title, text) = part.split_once('\n').unwrap_or((part, ""));
        let number = seen.entry(title.to_string()).or_default();
        *number += 1;
        let has = |mark: &str| text.lines().any(|line| line.starts_with(mark));
        all.push(Statement {
            title: format!("{title} ({number})"),
            text: text.trim().trim_end_matches(';').to_string(),
            differs: has("-- differs: "),
            any_order: has("-- in any order"),
        });
    }
    all
}

fn read_expected(text: &str) -> HashMap<String, String> {
    let parts = text.split("-- # ").skip(1);
    let answer =
        |part: &str| part.split_once('\n').map(|(title, rest)| (title.to_string(), rest.trim_end().to_string()));
    parts.filter_map(answer).collect()
}

/// The columns with their types, and the rows.
async fn answer(client: &Client, statement: &Statement, oids: &HashMap<String, String>) -> TestResult<String> {
    let mut sql = statement.text.clone();
    for (oid, what) in oids {
        if let Some((_, name)) = what.strip_prefix("relation ").and_then(|name| name.split_once('.')) {
            sql = sql.replace(&format!("{{{name}}}"), oid);
        }
    }
    let prepared = client.prepare(&sql).await.map_err(|error| format!("{error:?}"))?;
    let columns = prepared.columns().iter().map(|column| format!("{} {}", column.name(), type_name(column.type_())));
    let columns = columns.collect::<Vec<_>>().join(", ");
    let is_ordered = sql.to_ascii_uppercase().contains("ORDER BY") && !statement.any_order;
    let found = rows(client, &sql).await?;
    let shown = |value: &Option<String>| value.as_deref().map_or("∅".to_string(), |text| normalized(text, oids));
    let mut lines: Vec<String> =
        found.iter().map(|row| row.iter().map(shown).collect::<Vec<_>>().join(" | ")).collect();
    if !is_ordered {
        lines.sort();
    }
    lines.insert(0, columns);
    Ok(lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n"))
}

/// Types by what they look like to a client: names, references, documents and trees are texts; so are the domains of
/// information_schema.
fn type_name(of: &Type) -> String {
    const TEXTS: &[&str] = &[
        "name",
        "char",
        "varchar",
        "bpchar",
        "unknown",
        "regclass",
        "regtype",
        "regproc",
        "pg_node_tree",
        "aclitem",
        "json",
        "sql_identifier",
        "character_data",
        "yes_or_no",
    ];
    match of.kind() {
        Kind::Array(item) => format!("{}[]", type_name(item)),
        _ if TEXTS.contains(&of.name()) => "text".to_string(),
        _ => of.name().to_string(),
    }
}

/// Numbers that are somebody's OID by what they are; a line stays a line; versions without the last digits.
fn normalized(text: &str, oids: &HashMap<String, String>) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if text.starts_with("PostgreSQL 15.") {
        return "PostgreSQL 15".to_string();
    }
    let mut shown = String::new();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let length = rest[start..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - start);
        let number = &rest[start..start + length];
        shown.push_str(&rest[..start]);
        match oids.get(number) {
            Some(what) => shown.push_str(&format!("<{what}>")),
            None => shown.push_str(number),
        }
        rest = &rest[start + length..];
    }
    shown + rest
}
