//! A log kept here against the server's memory: contents of tables and views at every epoch and instant, by scan, by key,
//! by index; differences of two of them; all of it until a crash, and what a crash leaves.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{epoch, refused};
use crate::harness::{Client, Server, TestResult, eventually, one, rows, seed};

const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY, g int, n int) WITH (retention = '1 hour');
    CREATE INDEX t_g ON t (g);
    CREATE TABLE e (id int, n int) APPEND ONLY WITH (retention = '1 hour');
    CREATE MATERIALIZED VIEW v WITH (retention = '1 hour') AS SELECT g, count(*) AS c, sum(n) AS s FROM t GROUP BY g;
    CREATE MATERIALIZED VIEW log WITH (retention = '1 hour') AS SELECT id, n FROM e WHERE n > 1;
    CREATE VIEW several AS SELECT g, s FROM v WHERE c > 1;
    CREATE TABLE forgetful (n int)";

type Rows = Vec<Vec<Option<String>>>;

/// What the relations were.
struct Then {
    epoch: u64,
    instant: String,
    contents: Vec<Rows>,
}

/// Each as it is asked for; `@` stands for the clause.
const ASKED: &[&str] = &[
    "SELECT id, g, n FROM t @ ORDER BY 1",
    "SELECT g, c, s FROM v @ ORDER BY 1",
    "SELECT x.id, x.n FROM log @ AS x ORDER BY 1, 2",
    "SELECT * FROM several @ of_them ORDER BY 1",
    "SELECT t.n FROM t @ WHERE t.id = 3",
    "SELECT t.id FROM public.t @ WHERE g = 2 ORDER BY 1",
    "SELECT t.id, v.s FROM t @ JOIN v @ ON v.g = t.g ORDER BY 1",
];

fn as_of(query: &str, instant: &str) -> String {
    query.replace('@', &format!("FOR SYSTEM_TIME AS OF {instant}"))
}

async fn contents(client: &Client, instant: Option<&str>) -> TestResult<Vec<Rows>> {
    let mut all = vec![];
    for query in ASKED {
        let query = instant.map_or_else(|| query.replace('@', ""), |instant| as_of(query, instant));
        all.push(rows(client, &query).await?);
    }
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_epoch_is_what_it_was() -> TestResult {
    let seed = seed()?;
    println!("seed: HW_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Server::start(2)?;
    let client = server.connect().await?;
    client.batch_execute(SCHEMA).await?;
    let mut past: Vec<Then> = vec![];
    for _ in 0..60 {
        client.batch_execute(&change(&mut random)).await?;
        let now = rows(&client, "SELECT epoch, time FROM hw_catalog.epoch").await?;
        let [Some(number), Some(instant)] = &now[0][..] else { return Err("an epoch has a time".into()) };
        // Some statements change nothing.
        if past.last().is_none_or(|last| last.instant != *instant) {
            let contents = contents(&client, None).await?;
            past.push(Then { epoch: number.parse()?, instant: instant.clone(), contents });
        }
        let then = &past[random.random_range(0..past.len())];
        compare(&client, then, &then.epoch.to_string()).await?;
        compare(&client, then, &format!("TIMESTAMPTZ '{}'", then.instant)).await?;
    }
    for pair in past.windows(2).step_by(7) {
        // Between two epochs it is the earlier one, and a time without a zone is in the session's.
        let just_before = format!("TIMESTAMPTZ '{}' - INTERVAL '1 microsecond'", pair[1].instant);
        compare(&client, &pair[0], &just_before).await?;
        compare(&client, &pair[0], &format!("TIMESTAMP '{}'", pair[0].instant.trim_end_matches("+00"))).await?;
        differences(&client, &pair[0], &pair[1]).await?;
    }
    let last = past.last().ok_or("something was written")?;
    compare(&client, last, "now()").await?;
    // What one relation is now beside what another was.
    let mixed = format!(
        "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM t FOR SYSTEM_TIME AS OF {}), (SELECT count(*) FROM e)",
        past[0].epoch
    );
    let counts = rows(&client, &mixed).await?;
    assert_eq!(counts[0][0], Some(last.contents[0].len().to_string()));
    assert_eq!(counts[0][1], Some(past[0].contents[0].len().to_string()));
    refusals(&client, &past).await?;
    after_a_crash(&mut server, &past).await
}

async fn compare(client: &Client, then: &Then, instant: &str) -> TestResult {
    for (query, expected) in ASKED.iter().zip(&then.contents) {
        let query = as_of(query, instant);
        assert_eq!(&rows(client, &query).await?, expected, "{query}\nat epoch {}", then.epoch);
    }
    Ok(())
}

async fn differences(client: &Client, before: &Then, after: &Then) -> TestResult {
    let query = format!(
        "SELECT * FROM t FOR SYSTEM_TIME AS OF {} EXCEPT SELECT * FROM t FOR SYSTEM_TIME AS OF {} ORDER BY 1",
        after.epoch, before.epoch
    );
    let added: Rows = after.contents[0].iter().filter(|row| !before.contents[0].contains(row)).cloned().collect();
    assert_eq!(rows(client, &query).await?, added, "{query}");
    Ok(())
}

fn change(random: &mut StdRng) -> String {
    let (id, g, n) = (random.random_range(0..12), random.random_range(0..4), random.random_range(0..9));
    match random.random_range(0..6) {
        0 | 1 => format!("INSERT INTO t VALUES ({id}, {g}, {n}) ON CONFLICT (id) DO UPDATE SET n = excluded.n"),
        2 => format!("DELETE FROM t WHERE id = {id}"),
        3 => format!("UPDATE t SET n = n + 1, g = {g} WHERE id < {id}"),
        4 => format!("INSERT INTO e VALUES ({id}, {n}), ({id}, {n})"),
        _ => format!("BEGIN; INSERT INTO e VALUES ({id}, {n}); DELETE FROM t WHERE g = {g}; COMMIT"),
    }
}

async fn refusals(client: &Client, past: &[Then]) -> TestResult {
    let select = |relation: &str, instant: &str| format!("SELECT * FROM {relation} FOR SYSTEM_TIME AS OF {instant}");
    let first = past[0].epoch.to_string();
    for (relation, instant, code) in [
        ("forgetful", first.as_str(), "72000"),
        ("t", "0", "72000"),
        ("t", "now() - INTERVAL '1 day'", "72000"),
        ("t", "now() + INTERVAL '1 day'", "22023"),
        ("t", "1000000000", "22023"),
        ("t", "NULL", "22023"),
        ("t", "true", "22023"),
        ("t", "'no time at all'", "22007"),
        ("t", "t.n", "0A000"),
        ("hw_catalog.views", "now()", "0A000"),
        ("nothing", "now()", "42P01"),
        ("t", "", "42601"),
    ] {
        let sql = select(relation, instant);
        assert_eq!(refused(client, &sql).await?, code, "{sql}");
    }
    for sql in [
        "CREATE MATERIALIZED VIEW old AS SELECT * FROM t FOR SYSTEM_TIME AS OF now()",
        "CREATE VIEW old AS SELECT * FROM t FOR SYSTEM_TIME AS OF now()",
    ] {
        assert_eq!(refused(client, sql).await?, "0A000", "{sql}");
    }
    // Kept from now on, and no longer.
    client.batch_execute("ALTER TABLE forgetful SET (retention = '1 hour'); INSERT INTO forgetful VALUES (1)").await?;
    let before = epoch(client).await?;
    client.batch_execute("INSERT INTO forgetful VALUES (2)").await?;
    let count = format!("SELECT count(*) FROM forgetful FOR SYSTEM_TIME AS OF {before}");
    assert_eq!(one(client, &count).await?, "1");
    client.batch_execute("ALTER TABLE forgetful RESET (retention)").await?;
    assert_eq!(refused(client, &count).await?, "72000");
    assert_eq!(refused(client, "ALTER TABLE t SET (retention = 'for ever')").await?, "22023");
    assert_eq!(refused(client, "ALTER TABLE t SET (fillfactor = 70)").await?, "22023");
    Ok(())
}

/// Contents survive, the past does not; and no number or instant of before means anything else.
async fn after_a_crash(server: &mut Server, past: &[Then]) -> TestResult {
    let last = past.last().ok_or("something was written")?;
    let before = epoch(&server.connect().await?).await?;
    server.kill()?;
    server.start_again(Some(1))?;
    let limit = std::time::Duration::from_secs(30);
    let client = eventually("a connection", limit, async || Ok(server.connect().await.ok())).await?;
    assert_eq!(rows(&client, "SELECT g, c, s FROM v ORDER BY 1").await?, last.contents[1]);
    assert!(epoch(&client).await? > before, "epochs went back");
    let instant = format!("TIMESTAMPTZ '{}'", last.instant);
    for instant in [last.epoch.to_string(), before.to_string(), instant] {
        let sql = format!("SELECT * FROM t FOR SYSTEM_TIME AS OF {instant}");
        assert_eq!(refused(&client, &sql).await?, "72000", "{sql}");
    }
    // The retention is still there, for what comes.
    let now = epoch(&client).await?;
    client.batch_execute("DELETE FROM t").await?;
    let then = rows(&client, &format!("SELECT id, g, n FROM t FOR SYSTEM_TIME AS OF {now} ORDER BY 1")).await?;
    assert_eq!(then, last.contents[0]);
    // Ended in good order, numbers go on without a gap.
    let before = epoch(&client).await?;
    server.terminate()?;
    server.start_again(None)?;
    let client = eventually("a connection", limit, async || Ok(server.connect().await.ok())).await?;
    let after = epoch(&client).await?;
    assert!(after >= before && after < before + 1000, "epoch {after} after {before}");
    Ok(())
}

/// Memory follows the retention: what is older goes, and the range that can be read says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_bounded_by_its_retention() -> TestResult {
    let server = Server::start(1)?;
    let client = server.connect().await?;
    client.batch_execute("CREATE TABLE t (n int) WITH (retention = '2 seconds'); INSERT INTO t VALUES (0)").await?;
    let shown = one(&client, "SELECT retention FROM hw_catalog.history WHERE relation = 't'").await?;
    assert_eq!(shown, "00:00:02");
    let first = epoch(&client).await?;
    let values: Vec<String> = (0..20_000).map(|n| format!("({n})")).collect();
    client.batch_execute(&format!("INSERT INTO t VALUES {}", values.join(","))).await?;
    let count = format!("SELECT count(*) FROM t FOR SYSTEM_TIME AS OF {first}");
    assert_eq!(one(&client, &count).await?, "1");
    let size = "SELECT change_count FROM hw_catalog.history WHERE relation = 't'";
    assert_eq!(one(&client, size).await?, "20001");
    // Nothing is written meanwhile: time alone lets it go.
    let limit = std::time::Duration::from_secs(20);
    eventually("an empty history", limit, async || Ok((one(&client, size).await? == "0").then_some(()))).await?;
    assert_eq!(refused(&client, &count).await?, "72000");
    let range = "SELECT since <= upper AND since_time <= upper_time AND since > 0 FROM hw_catalog.history";
    assert_eq!(one(&client, range).await?, "t");
    Ok(())
}
