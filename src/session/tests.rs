//! Statements against a whole server without a wire: an in-memory store, the runtime, one or more sessions.

use std::sync::Arc;
use std::time::Instant;

use arrow::util::display::array_value_to_string;
use futures::StreamExt;

use super::{Outcome, Session, Shared, TransactionStatus};
use crate::config::{Config, ConfigFile};
use crate::error::{Error, Result};
use crate::state::Store;
use crate::state::store::MemoryStore;

fn open(store: Arc<dyn Store>) -> Result<Arc<Shared>> {
    let flags = ConfigFile { workers: Some(1), ..ConfigFile::default() };
    Shared::open(&Config::resolve(flags, ConfigFile::default())?, store)
}

fn start(shared: &Arc<Shared>) -> Result<Session> {
    Session::start(shared.clone(), &[("user".to_string(), "root".to_string())])
}

fn server() -> Result<Arc<Shared>> {
    open(Arc::new(MemoryStore::default()))
}

/// The last statement's rows as `a|b`, or its tag.
async fn run(session: &mut Session, text: &str) -> Result<Vec<String>> {
    let mut answer = vec![];
    for statement in session.parse(text)? {
        let prepared = session.prepare(statement, &[]).await?;
        answer = match session.execute(&prepared, vec![]).await? {
            Outcome::Rows { mut stream, .. } => {
                let mut rows = vec![];
                while let Some(batch) = stream.next().await {
                    let batch = batch?;
                    for row in 0..batch.num_rows() {
                        let cells = batch.columns().iter().map(|column| array_value_to_string(column, row));
                        rows.push(cells.collect::<Result<Vec<_>, _>>()?.join("|"));
                    }
                }
                rows
            }
            Outcome::Done { tag } => vec![tag],
            Outcome::Empty => vec![],
            Outcome::CopyIn(_) | Outcome::CopyOut { .. } => return Err(Error::internal("COPY is tested elsewhere")),
        };
    }
    Ok(answer)
}

async fn refused(session: &mut Session, text: &str) -> (&'static str, String) {
    match run(session, text).await {
        Ok(rows) => panic!("{text} was not refused: {rows:?}"),
        Err(error) => {
            // As the wire does: an error may come in the middle of the rows.
            session.fail_transaction();
            (error.code.0, error.message)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_views_and_their_rows() -> Result<()> {
    let shared = server()?;
    let mut session = start(&shared)?;
    let s = &mut session;
    assert_eq!(run(s, "CREATE TABLE t (id int PRIMARY KEY, name text, n int DEFAULT 7)").await?, ["CREATE TABLE"]);
    assert_eq!(run(s, "INSERT INTO t (id, name) VALUES (1, 'a'), (2, 'b')").await?, ["INSERT 0 2"]);
    run(s, "CREATE MATERIALIZED VIEW m AS SELECT name, count(*) AS c, sum(n) AS s FROM t GROUP BY name").await?;
    assert_eq!(run(s, "INSERT INTO t VALUES (3, 'a', 1)").await?, ["INSERT 0 1"]);
    assert_eq!(run(s, "SELECT * FROM m ORDER BY name").await?, ["a|2|8", "b|1|7"]);
    assert_eq!(run(s, "UPDATE t SET n = n + 1 WHERE id = 3 RETURNING id, n").await?, ["3|2"]);
    assert_eq!(run(s, "DELETE FROM t WHERE name = 'b'").await?, ["DELETE 1"]);
    assert_eq!(run(s, "SELECT * FROM m").await?, ["a|2|9"]);
    let upsert = "INSERT INTO t VALUES (1, 'z', 1), (9, 'y', 1) ON CONFLICT (id) DO UPDATE SET name = excluded.name";
    assert_eq!(run(s, upsert).await?, ["INSERT 0 2"]);
    assert_eq!(run(s, "SELECT name FROM t ORDER BY id").await?, ["z", "a", "y"]);
    assert_eq!(refused(s, "INSERT INTO t VALUES (1, 'q', 1)").await.0, "23505");
    assert_eq!(refused(s, "INSERT INTO t VALUES (NULL, 'q', 1)").await.0, "23502");
    assert_eq!(refused(s, "DROP TABLE t").await.0, "2BP01");
    assert_eq!(run(s, "DROP TABLE t CASCADE").await?, ["DROP TABLE"]);
    assert_eq!(s.take_notices()[0].error.message, "drop cascades to materialized view m");
    assert_eq!(refused(s, "SELECT * FROM m").await.0, "42P01");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_sees_its_own_writes_and_others_do_not() -> Result<()> {
    let shared = server()?;
    let (mut a, mut b) = (start(&shared)?, start(&shared)?);
    run(&mut a, "CREATE TABLE t (id int PRIMARY KEY)").await?;
    run(&mut a, "BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s; INSERT INTO t VALUES (2)").await?;
    assert_eq!(run(&mut a, "SELECT count(*) FROM t").await?, ["2"]);
    assert_eq!(run(&mut b, "SELECT count(*) FROM t").await?, ["0"]);
    assert_eq!(refused(&mut a, "SELECT 1/0").await.0, "22012");
    assert_eq!(a.transaction_status(), TransactionStatus::Failed);
    assert_eq!(refused(&mut a, "SELECT 1").await.0, "25P02");
    run(&mut a, "ROLLBACK TO s").await?;
    assert_eq!(run(&mut a, "COMMIT").await?, ["COMMIT"]);
    assert_eq!(run(&mut b, "SELECT id FROM t").await?, ["1"]);
    run(&mut a, "BEGIN; DELETE FROM t; ROLLBACK").await?;
    assert_eq!(run(&mut b, "SELECT id FROM t").await?, ["1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_created_is_there_after_a_restart() -> Result<()> {
    let store = Arc::new(MemoryStore::default());
    {
        let shared = open(store.clone())?;
        let mut s = start(&shared)?;
        run(&mut s, "CREATE TABLE t (id int PRIMARY KEY, n int)").await?;
        run(&mut s, "INSERT INTO t VALUES (1, 10), (2, 20)").await?;
        run(&mut s, "CREATE VIEW v AS SELECT id, n * 2 AS d FROM t").await?;
        run(&mut s, "CREATE MATERIALIZED VIEW m AS SELECT sum(d) AS total FROM v").await?;
        run(&mut s, "CREATE MATERIALIZED VIEW mm AS SELECT total + 1 AS more FROM m").await?;
    }
    let shared = open(store)?;
    let mut s = start(&shared)?;
    assert_eq!(run(&mut s, "SELECT more FROM mm").await?, ["61"]);
    run(&mut s, "INSERT INTO t VALUES (3, 30)").await?;
    assert_eq!(run(&mut s, "SELECT more FROM mm").await?, ["121"]);
    assert_eq!(
        run(&mut s, "SELECT name, state FROM hw_catalog.views ORDER BY name").await?,
        ["m|running", "mm|running"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_prepared_statements_and_settings() -> Result<()> {
    let shared = server()?;
    let mut session = start(&shared)?;
    let s = &mut session;
    run(s, "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2), (3)").await?;
    run(s, "BEGIN; DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id").await?;
    assert_eq!(run(s, "FETCH 2 FROM c").await?, ["1", "2"]);
    assert_eq!(run(s, "FETCH ALL FROM c").await?, ["3"]);
    run(s, "COMMIT").await?;
    assert_eq!(refused(s, "FETCH c").await.0, "34000");
    run(s, "PREPARE p (int) AS SELECT id + $1 FROM t WHERE id = $1").await?;
    assert_eq!(run(s, "EXECUTE p (2)").await?, ["4"]);
    assert_eq!(run(s, "SET TIME ZONE 'Europe/Berlin'; SHOW TimeZone").await?, ["Europe/Berlin"]);
    assert_eq!(run(s, "SELECT current_setting('timezone')").await?, ["Europe/Berlin"]);
    assert_eq!(refused(s, "SET nonsense = 1").await.0, "42704");
    run(s, "SET statement_timeout = '50ms'").await?;
    assert_eq!(refused(s, "SELECT pg_sleep(5)").await.0, "57014");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_read_as_far_as_there_is_something() -> Result<()> {
    let shared = server()?;
    let mut session = start(&shared)?;
    let s = &mut session;
    run(s, "CREATE SOURCE bid WITH (connector = 'nexmark', nexmark.table.type = 'Bid', nexmark.event.num = '1000')")
        .await?;
    assert_eq!(run(s, "SELECT count(*) FROM bid").await?, ["920"]);
    run(s, "CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM bid").await?;
    // The first view of a source starts its reader; what it shows grows until the source is read.
    let start = Instant::now();
    while run(s, "SELECT n FROM n").await? != ["920"] {
        assert!(start.elapsed().as_secs() < 30, "a thousand events are read in no time");
    }
    assert_eq!(run(s, "SELECT count(*) FROM bid").await?, ["920"]);
    run(s, "CREATE SOURCE endless WITH (connector = 'nexmark', nexmark.table.type = 'Bid')").await?;
    assert_eq!(refused(s, "SELECT count(*) FROM endless").await.0, "0A000");
    assert_eq!(run(s, "SELECT auction FROM endless WHERE price > 0 LIMIT 3").await?.len(), 3);
    assert_eq!(refused(s, "CREATE SOURCE x (a int) WITH (connector = 'nexmark', no = '1')").await.0, "22023");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn small_statements_are_quick() -> Result<()> {
    let shared = server()?;
    let mut session = start(&shared)?;
    let s = &mut session;
    run(s, "CREATE TABLE t (id int PRIMARY KEY, name text)").await?;
    const COUNT: u32 = 200;
    let mut per_statement = vec![];
    for text in ["SELECT 1", "INSERT INTO t VALUES (0, 'x') ON CONFLICT DO NOTHING", "SELECT name FROM t WHERE id = 0"]
    {
        run(s, text).await?;
        let start = Instant::now();
        for _ in 0..COUNT {
            run(s, text).await?;
        }
        per_statement.push((text, start.elapsed() / COUNT));
    }
    println!("{per_statement:?}");
    // Generous: an unoptimised build on a busy machine.
    assert!(per_statement.iter().all(|(_, time)| time.as_millis() < 50), "{per_statement:?}");
    Ok(())
}
