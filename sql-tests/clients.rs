//! Real clients: psql and its meta-commands, psycopg 3, the JDBC driver, tokio-postgres. One that is not installed is
//! SKIPPED, and in CI fails.

mod captured;
mod transcripts;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use futures::{SinkExt, StreamExt};
use tokio_postgres::types::Type;

use crate::harness::{Server, TestResult, cache_dir, has, home, one, skip};

const JDBC_VERSION: &str = "42.7.7";

/// Runs a program to its end; an error with its output if it fails.
pub fn run(command: &mut Command) -> TestResult<String> {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output()?;
    let (out, err) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned());
    if status.success() { Ok(out + &err) } else { Err(format!("{command:?}: {status}\n{out}\n{err}").into()) }
}

fn psql(server: &Server, command: &str) -> TestResult<String> {
    // -X: without the user's own settings.
    run(Command::new("psql").args(["-X", "-v", "ON_ERROR_STOP=1", "-d", &server.url(), "-c", command]))
}

/// The answer must hold each of these.
pub fn says(answer: &str, expected: &[&str]) -> TestResult {
    for part in expected {
        if !answer.contains(part) {
            return Err(format!("\"{part}\" is not in:\n{answer}").into());
        }
    }
    Ok(())
}

#[test]
fn psql_and_its_meta_commands() -> TestResult {
    if !has("psql") {
        return skip("psql_and_its_meta_commands", "psql is not installed");
    }
    let server = Server::start(1)?;
    says(
        &psql(
            &server,
            "CREATE TABLE fruit (id int PRIMARY KEY, name varchar(20) NOT NULL DEFAULT 'x', price numeric(10,2))",
        )?,
        &["CREATE TABLE"],
    )?;
    says(&psql(&server, "INSERT INTO fruit VALUES (1, 'apple', 1.5), (2, 'pear', NULL)")?, &["INSERT 0 2"])?;
    says(
        &psql(&server, "CREATE MATERIALIZED VIEW dear AS SELECT name, price FROM fruit WHERE price > 1")?,
        &["MATERIALIZED VIEW"],
    )?;
    says(&psql(&server, "CREATE VIEW names AS SELECT name FROM fruit")?, &["CREATE VIEW"])?;
    says(
        &psql(&server, "SELECT * FROM fruit ORDER BY id")?,
        &[" id | name  | price", "  1 | apple |  1.50", "  2 | pear  |", "(2 rows)"],
    )?;

    says(
        &psql(&server, "\\d")?,
        &[
            "List of relations",
            "public | dear  | materialized view | root",
            "public | fruit | table             | root",
            "public | names | view",
        ],
    )?;
    let tables = psql(&server, "\\dt")?;
    says(&tables, &["public | fruit | table | root"])?;
    assert!(!tables.contains("dear"), "{tables}");
    says(&psql(&server, "\\dm")?, &["public | dear | materialized view | root"])?;
    says(&psql(&server, "\\dv")?, &["public | names | view | root"])?;
    let fruit = psql(&server, "\\d fruit")?;
    says(
        &fruit,
        &[
            "Table \"public.fruit\"",
            " id     | integer",
            "not null",
            " name   | character varying(20)",
            "'x'",
            " price  | numeric(10,2)",
            "PRIMARY KEY",
        ],
    )?;
    says(&psql(&server, "\\d dear")?, &["Materialized view \"public.dear\"", " price  | numeric(10,2)"])?;
    says(&psql(&server, "SELECT 'fruit'::regclass, 'fruit'::regclass::oid > 0")?, &["fruit    | t"])?;
    says(&psql(&server, "\\d+ dear")?, &["View definition:", "FROM fruit"])?;
    says(&psql(&server, "\\l")?, &["List of databases", " dev ", "UTF8"])?;
    says(&psql(&server, "\\dn")?, &["List of schemas", "public"])?;
    says(&psql(&server, "\\df")?, &["List of functions"])?;
    says(&psql(&server, "\\du")?, &["root"])?;
    says(&psql(&server, "\\conninfo")?, &["database \"dev\" as user \"root\""])?;
    let nothing = psql(&server, "\\d nowhere");
    assert!(nothing.is_err() || nothing.is_ok_and(|text| text.contains("Did not find any relation named \"nowhere\"")));

    let refused = psql(&server, "SELECT nothing FROM fruit").expect_err("there is no such column").to_string();
    says(
        &refused,
        &["ERROR:  column \"nothing\" does not exist", "LINE 1: SELECT nothing FROM fruit", "               ^"],
    )?;
    let out = run(Command::new("psql").args([
        "-X",
        "-d",
        &server.url(),
        "-c",
        "\\copy (SELECT id, name FROM fruit ORDER BY id) TO STDOUT CSV HEADER",
    ]))?;
    says(&out, &["id,name\n1,apple\n2,pear\n"])
}

#[test]
fn psycopg_3() -> TestResult {
    let venv = cache_dir()?.join("psycopg");
    let python = venv.join("bin/python");
    if !python.is_file() || run(Command::new(&python).args(["-c", "import psycopg"])).is_err() {
        if !has("python3") {
            return skip("psycopg_3", "python3 is not installed");
        }
        let install = || -> TestResult {
            run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
            run(Command::new(&python).args(["-m", "pip", "install", "-q", "psycopg[binary]"]))?;
            Ok(())
        };
        if let Err(error) = install() {
            return skip("psycopg_3", &format!("psycopg could not be installed: {error}"));
        }
    }
    let server = Server::start(1)?;
    let out = run(Command::new(python).arg(home().join("clients/psycopg_session.py")).arg(server.url()))?;
    says(&out, &["ok"])
}

#[test]
fn jdbc() -> TestResult {
    if !has("javac") {
        return skip("jdbc", "javac is not installed");
    }
    let jar = match jdbc_jar()? {
        Some(jar) => jar,
        None => return skip("jdbc", "the driver could not be fetched with mvn"),
    };
    let server = Server::start(1)?;
    let url = format!("jdbc:postgresql://127.0.0.1:{}/dev", server.port());
    let out = run(Command::new("java").arg("-cp").arg(jar).arg(home().join("clients/Jdbc.java")).arg(url))?;
    says(&out, &["ok"])
}

fn jdbc_jar() -> TestResult<Option<PathBuf>> {
    let dir = cache_dir()?;
    let jar = dir.join(format!("postgresql-{JDBC_VERSION}.jar"));
    if jar.is_file() {
        return Ok(Some(jar));
    }
    let fetch = |dir: &Path| {
        run(Command::new("mvn").args(["-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"]).args(
            [
                &format!("-Dartifact=org.postgresql:postgresql:{JDBC_VERSION}"),
                &format!("-DoutputDirectory={}", dir.display()),
            ],
        ))
    };
    match fetch(&dir) {
        Ok(_) if jar.is_file() => Ok(Some(jar)),
        Ok(_) => Ok(None),
        Err(error) => {
            eprintln!("{error}");
            Ok(None)
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_postgres_types_both_ways() -> TestResult {
    let server = Server::start(1)?;
    let client = server.connect().await?;
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, b bool, i2 int2, i8 int8, f4 float4, f8 float8, s text, v varchar(9), raw bytea,
                 d date, tm time, ts timestamp, tz timestamptz, u uuid, j jsonb, a int[], ta text[])",
        )
        .await?;
    let day = NaiveDate::from_ymd_opt(2013, 1, 31).ok_or("a day")?;
    let time = NaiveTime::from_hms_micro_opt(23, 59, 59, 500_000).ok_or("a time")?;
    let ts = NaiveDateTime::new(day, time);
    let tz: DateTime<Utc> = ts.and_utc();
    let id = uuid::Uuid::parse_str("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")?;
    let json = serde_json::json!({"a": [1, 2.5, null], "b": "ü"});
    let insert = client
        .prepare("INSERT INTO t VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)")
        .await?;
    assert_eq!(insert.params()[..5], [Type::INT4, Type::BOOL, Type::INT2, Type::INT8, Type::FLOAT4]);
    let count = client
        .execute(
            &insert,
            &[
                &1i32,
                &true,
                &-7i16,
                &i64::MIN,
                &1.5f32,
                &f64::INFINITY,
                &"naïve",
                &"short",
                &b"\x00\xff".as_slice(),
                &day,
                &time,
                &ts,
                &tz,
                &id,
                &json,
                &vec![Some(1i32), None, Some(3)],
                &vec!["x", "y z"],
            ],
        )
        .await?;
    assert_eq!(count, 1);
    let none: Option<i32> = None;
    client.execute("INSERT INTO t (id, i2) VALUES ($1, $2::int4)", &[&2i32, &none]).await?;
    let row = client.query_one("SELECT * FROM t WHERE id = $1", &[&1i32]).await?;
    assert!(row.get::<_, bool>("b"));
    assert_eq!((row.get::<_, i16>("i2"), row.get::<_, i64>("i8")), (-7, i64::MIN));
    assert_eq!((row.get::<_, f32>("f4"), row.get::<_, f64>("f8")), (1.5, f64::INFINITY));
    assert_eq!(
        (row.get::<_, &str>("s"), row.get::<_, &str>("v"), row.get::<_, &[u8]>("raw")),
        ("naïve", "short", b"\x00\xff".as_slice())
    );
    assert_eq!((row.get::<_, NaiveDate>("d"), row.get::<_, NaiveTime>("tm")), (day, time));
    assert_eq!((row.get::<_, NaiveDateTime>("ts"), row.get::<_, DateTime<Utc>>("tz")), (ts, tz));
    assert_eq!((row.get::<_, uuid::Uuid>("u"), row.get::<_, serde_json::Value>("j")), (id, json));
    assert_eq!(row.get::<_, Vec<Option<i32>>>("a"), [Some(1), None, Some(3)]);
    assert_eq!(row.get::<_, Vec<String>>("ta"), ["x", "y z"]);
    let empty = client.query_one("SELECT b, i8, s, tz, a FROM t WHERE id = 2", &[]).await?;
    for column in 0..5 {
        let is_null = match column {
            0 => empty.get::<_, Option<bool>>(0).is_none(),
            1 => empty.get::<_, Option<i64>>(1).is_none(),
            2 => empty.get::<_, Option<String>>(2).is_none(),
            3 => empty.get::<_, Option<DateTime<Utc>>>(3).is_none(),
            _ => empty.get::<_, Option<Vec<i32>>>(4).is_none(),
        };
        assert!(is_null, "column {column}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_postgres_portals_copy_and_cancel() -> TestResult {
    let server = Server::start(1)?;
    let mut client = server.connect().await?;
    client
        .batch_execute("CREATE TABLE t (a int, b text); CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM t")
        .await?;
    let sink = client.copy_in("COPY t FROM STDIN").await?;
    futures::pin_mut!(sink);
    for n in 0..1000 {
        sink.send(bytes::Bytes::from(format!("{n}\t{}\n", if n % 2 == 0 { "\\N" } else { "odd" }))).await?;
    }
    assert_eq!(sink.finish().await?, 1000);
    assert_eq!(one(&client, "SELECT n FROM m").await?, "1000");
    let out: Vec<_> = client.copy_out("COPY (SELECT a FROM t WHERE a < 3 ORDER BY a) TO STDOUT").await?.collect().await;
    let out: Vec<u8> = out.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    assert_eq!(out, b"0\n1\n2\n");

    // A portal gives its rows in pieces; two may be open at once.
    let transaction = client.transaction().await?;
    let statement = transaction.prepare("SELECT a FROM t WHERE a >= $1 ORDER BY a").await?;
    let (first, second) =
        (transaction.bind(&statement, &[&0i32]).await?, transaction.bind(&statement, &[&990i32]).await?);
    let mut seen = vec![];
    for (portal, limit) in [(&first, 3), (&second, 2), (&first, 2)] {
        seen.extend(transaction.query_portal(portal, limit).await?.iter().map(|row| row.get::<_, i32>(0)));
    }
    assert_eq!(seen, [0, 1, 2, 990, 991, 3, 4]);
    assert_eq!(transaction.query_portal(&second, 0).await?.len(), 8);
    transaction.rollback().await?;

    // A long query is cancelled from another connection; the session goes on.
    let token = client.cancel_token();
    let cancel = tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        token.cancel_query(tokio_postgres::NoTls).await
    });
    let long = "SELECT count(*) FROM generate_series(1, 100000) AS a(i), generate_series(1, 100000) AS b(i) WHERE a.i % 7 = b.i % 11";
    let error = client.simple_query(long).await.expect_err("it was cancelled");
    assert_eq!(error.code().map(|code| code.code().to_string()).as_deref(), Some("57014"), "{error:?}");
    cancel.await??;
    assert_eq!(one(&client, "SELECT 1").await?, "1");
    Ok(())
}
