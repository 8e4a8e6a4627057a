//! The tagged union: one SUBSCRIBE over two tables and the views above them, while others write. At every epoch each view is
//! what its query says of the tables at that epoch, by the rows that came, and by the tables read AS OF it. Then: a
//! subscription that goes on from the middle tells what the whole one told, nothing twice and nothing left out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Change, Follower, epoch};
use crate::harness::{Client, Server, TestResult, env_number, rows, seed, text};

const SCHEMA: &str = "
    CREATE TABLE a (id int PRIMARY KEY, g int, n int) WITH (retention = '1 hour');
    CREATE TABLE b (id int, g int) WITH (retention = '1 hour');
    CREATE MATERIALIZED VIEW by_g WITH (retention = '1 hour') AS
        SELECT g, count(*)::int AS c, sum(n)::int AS s FROM a GROUP BY g;
    CREATE MATERIALIZED VIEW joined WITH (retention = '1 hour') AS
        SELECT a.id, b.id AS other, by_g.s FROM a JOIN b ON a.g = b.g JOIN by_g ON by_g.g = a.g";

const TAGGED: &str = "
    SELECT 'a' AS relation, id AS x, g AS y, n AS z FROM a
    UNION ALL SELECT 'b', id, g, NULL FROM b
    UNION ALL SELECT 'by_g', g, c, s FROM by_g
    UNION ALL SELECT 'joined', id, other, s FROM joined";

type Bag = BTreeMap<String, i64>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_epoch_of_a_tagged_union_agrees_with_one_worker() -> TestResult {
    agrees(1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_epoch_of_a_tagged_union_agrees_with_two_workers() -> TestResult {
    agrees(2).await
}

async fn agrees(workers: usize) -> TestResult {
    let seed = seed()?;
    println!("seed: HW_SEED={seed}");
    let limit = Duration::from_secs(env_number("HW_CONSISTENCY_SECONDS")?.unwrap_or(6));
    let server = Server::start(workers)?;
    let (follower, asker) = (server.connect().await?, server.connect().await?);
    asker.batch_execute(SCHEMA).await?;
    asker.batch_execute("INSERT INTO a VALUES (0, 0, 1); INSERT INTO b VALUES (0, 0)").await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..2 {
        writers.spawn(write(server.connect().await?, seed + writer, stop.clone()));
    }
    let mut changes = Follower::start(&follower, &format!("SUBSCRIBE ({TAGGED}) WITH (PROGRESS)")).await?;
    let (mut now, mut epochs, mut asked, mut last) = (Bag::new(), 0, 0, 0);
    let start = Instant::now();
    loop {
        let change = changes.next().await?.ok_or("a subscription without an end ended")?;
        assert!(change.epoch >= last, "epoch {} after {last}", change.epoch);
        if change.epoch > last && last > 0 {
            epochs += 1;
            check(&now, last)?;
            if epochs % 25 == 0 {
                asked += 1;
                ask(&asker, &now, last).await?;
            }
            if start.elapsed() > limit {
                break;
            }
        }
        last = change.epoch;
        let Some(row) = change.row else { continue };
        assert_ne!(change.weight, 0, "a change of nothing: {row}");
        let count = now.entry(row.clone()).or_default();
        *count += change.weight;
        if *count == 0 {
            now.remove(&row);
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(written) = writers.join_next().await {
        written??;
    }
    println!("{epochs} epochs, {asked} of them asked again with AS OF");
    if epochs < 50 || asked == 0 { Err(format!("only {epochs} epochs were seen").into()) } else { Ok(()) }
}

async fn write(client: Client, seed: u64, stop: Arc<AtomicBool>) -> TestResult {
    let mut random = StdRng::seed_from_u64(seed);
    while !stop.load(Ordering::Relaxed) {
        let (id, g, n) = (random.random_range(0..20), random.random_range(0..4), random.random_range(0..9));
        let sql = match random.random_range(0..6) {
            0 | 1 => format!("INSERT INTO a VALUES ({id}, {g}, {n}) ON CONFLICT (id) DO UPDATE SET n = excluded.n"),
            2 => format!("UPDATE a SET g = {g} WHERE id = {id}"),
            3 => format!("INSERT INTO b VALUES ({id}, {g})"),
            4 => format!("DELETE FROM b WHERE id = {id}"),
            _ => format!("BEGIN; DELETE FROM a WHERE id = {id}; INSERT INTO b VALUES ({id}, {g}), ({n}, {g}); COMMIT"),
        };
        match client.batch_execute(&sql).await {
            Ok(()) => {}
            Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::T_R_SERIALIZATION_FAILURE) => {
                client.batch_execute("ROLLBACK").await?;
            }
            Err(error) => return Err(format!("{error:?}").into()),
        }
    }
    Ok(())
}

/// The rows of one relation, as often as they are there.
fn of(now: &Bag, relation: &str) -> Vec<[Option<i64>; 3]> {
    let rows = now.iter().filter_map(|(row, count)| Some((row.strip_prefix(relation)?.strip_prefix(',')?, *count)));
    let number = |text: &str| text.parse().ok();
    let values = |row: &str| {
        let mut fields = row.split(',').map(number);
        std::array::from_fn(|_| fields.next().flatten())
    };
    rows.flat_map(|(row, count)| std::iter::repeat_n(values(row), usize::try_from(count).unwrap_or(0))).collect()
}

/// Each view against what its query says of the tables.
fn check(now: &Bag, epoch: u64) -> TestResult {
    assert!(now.values().all(|count| *count > 0), "rows of negative weight at epoch {epoch}: {now:?}");
    let (a, b) = (of(now, "a"), of(now, "b"));
    let mut groups: BTreeMap<Option<i64>, (i64, i64)> = BTreeMap::new();
    for [_, g, n] in &a {
        let (count, sum) = groups.entry(*g).or_default();
        (*count, *sum) = (*count + 1, *sum + n.unwrap_or(0));
    }
    let by_g: Vec<_> = groups.iter().map(|(g, (count, sum))| [*g, Some(*count), Some(*sum)]).collect();
    assert_eq!(sorted(of(now, "by_g")), sorted(by_g), "by_g at epoch {epoch}");
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b))).filter(|(a, b)| a[1] == b[1]);
    let joined = pairs.map(|(a, b)| [a[0], b[0], groups.get(&a[1]).map(|(_, sum)| *sum)]).collect();
    assert_eq!(sorted(of(now, "joined")), sorted(joined), "joined at epoch {epoch}");
    Ok(())
}

fn sorted<T: Ord>(mut rows: Vec<T>) -> Vec<T> {
    rows.sort();
    rows
}

/// The same by SQL: tables as they were, views as they were, and the views' queries over the tables as they were.
async fn ask(client: &Client, now: &Bag, epoch: u64) -> TestResult {
    let at = format!("FOR SYSTEM_TIME AS OF {epoch}");
    for (relation, sql) in [
        ("a", format!("SELECT id, g, n FROM a {at}")),
        ("b", format!("SELECT id, g, NULL FROM b {at}")),
        ("by_g", format!("SELECT g, c, s FROM by_g {at}")),
        ("by_g", format!("SELECT g, count(*), sum(n) FROM a {at} GROUP BY g")),
        ("joined", format!("SELECT id, other, s FROM joined {at}")),
        (
            "joined",
            format!(
                "SELECT a.id, b.id, sums.s FROM a {at} JOIN b {at} ON a.g = b.g
                 JOIN (SELECT g, sum(n) AS s FROM a {at} GROUP BY g) AS sums ON sums.g = a.g"
            ),
        ),
    ] {
        let number = |value: &Option<String>| value.as_ref().map(|value| value.parse::<i64>()).transpose();
        let mut found = vec![];
        for row in rows(client, &sql).await? {
            found.push([number(&row[0])?, number(&row[1])?, number(&row[2])?]);
        }
        assert_eq!(sorted(found), sorted(of(now, relation)), "{sql}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_goes_on_from_the_middle() -> TestResult {
    let seed = seed()?;
    println!("seed: HW_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let server = Server::start(2)?;
    let client = server.connect().await?;
    client.batch_execute(SCHEMA).await?;
    let first = epoch(&client).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(server.connect().await?, seed, stop.clone()));
    // One that began at once and one that begins later end at the same epoch, which is to come.
    let last = first + 150;
    let whole = "SUBSCRIBE by_g WITH (SNAPSHOT = false, PROGRESS)";
    let other = server.connect().await?;
    let mut live = Follower::start(&other, &format!("{whole} AS OF {first} UP TO {last}")).await?;
    let live = live.rest().await?;
    stop.store(true, Ordering::Relaxed);
    writer.await??;
    assert!(live.iter().any(|change| change.row.is_none() && change.epoch == last), "the end is told");
    let rows_of = |changes: &[Change]| sorted(changes.iter().filter(|change| change.row.is_some()).cloned().collect());
    let told = rows_of(&live);
    assert!(told.len() > 30, "only {} changes", told.len());
    let once: std::collections::BTreeSet<_> = told.iter().map(|change| (change.epoch, change.row.clone())).collect();
    assert_eq!(once.len(), told.len(), "each row is told once an epoch");
    for _ in 0..8 {
        let cut = random.random_range(first..=last);
        let mut parts = vec![];
        for (from, to) in [(first, cut), (cut, last)] {
            let part = format!("SUBSCRIBE by_g WITH (SNAPSHOT = false) AS OF {from} UP TO {to}");
            let part = Follower::start(&client, &part).await?.rest().await?;
            assert!(part.iter().all(|change| (from + 1..=to).contains(&change.epoch)));
            parts.extend(part);
        }
        assert_eq!(rows_of(&parts), told, "cut at {cut}");
        // The snapshot at the cut and what comes after it are what is there at the end; so they are of a query, of which
        // what came in between is told as one change.
        let part = format!("SUBSCRIBE by_g AS OF {cut} UP TO {last}");
        let there = bag(&client, &format!("SELECT * FROM by_g FOR SYSTEM_TIME AS OF {last}")).await?;
        assert_eq!(sum(&client, &part).await?, there, "from {cut}");
        let query = "SELECT g, s + 1 AS t FROM by_g @ WHERE c > 1";
        let part = format!("SUBSCRIBE ({}) AS OF {cut} UP TO {last}", query.replace('@', ""));
        let at = |epoch: u64| query.replace('@', &format!("FOR SYSTEM_TIME AS OF {epoch}"));
        assert_eq!(sum(&client, &part).await?, bag(&client, &at(last)).await?, "a query from {cut}");
        let part = part.replace("AS OF", "WITH (SNAPSHOT = false) AS OF");
        let mut changed = bag(&client, &at(last)).await?;
        bag(&client, &at(cut)).await?.into_iter().for_each(|(row, n)| *changed.entry(row).or_default() -= n);
        changed.retain(|_, count| *count != 0);
        assert_eq!(sum(&client, &part).await?, changed, "changes of a query from {cut}");
    }
    goes_on_live(&client, &other, last).await?;
    formats(&client, first, last, told.len()).await
}

/// The sum of all that a subscription tells.
async fn sum(client: &Client, subscribe: &str) -> TestResult<Bag> {
    let mut sum = Bag::new();
    for change in Follower::start(client, subscribe).await?.rest().await? {
        *sum.entry(format!("({})", change.row.ok_or("a row")?)).or_default() += change.weight;
    }
    sum.retain(|_, count| *count != 0);
    Ok(sum)
}

async fn bag(client: &Client, query: &str) -> TestResult<Bag> {
    let mut bag = Bag::new();
    for row in rows(client, query).await? {
        *bag.entry(text(&row).replace("NULL", "\\N")).or_default() += 1;
    }
    Ok(bag)
}

/// A query from an epoch of the past on, while it changes.
async fn goes_on_live(client: &Client, other: &Client, past: u64) -> TestResult {
    client.batch_execute("DELETE FROM a; INSERT INTO a VALUES (100, 1, 5)").await?;
    let subscribe =
        format!("SUBSCRIBE (SELECT id, n FROM a WHERE n > 4) WITH (SNAPSHOT = false, PROGRESS) AS OF {past}");
    let mut changes = Follower::start(other, &subscribe).await?;
    let mut now = bag(client, &format!("SELECT id, n FROM a FOR SYSTEM_TIME AS OF {past} WHERE n > 4")).await?;
    client.batch_execute("UPDATE a SET n = 6").await?;
    let end = epoch(client).await?;
    loop {
        let change = changes.next().await?.ok_or("it has no end")?;
        match change.row {
            Some(row) => *now.entry(format!("({row})")).or_default() += change.weight,
            None if change.epoch >= end => break,
            None => {}
        }
    }
    now.retain(|_, count| *count != 0);
    assert_eq!(now, Bag::from([("(100,6)".to_string(), 1)]));
    Ok(())
}

/// The same rows as CSV, in binary, through a cursor, as rows of the extended protocol.
async fn formats(client: &Client, first: u64, last: u64, count: usize) -> TestResult {
    let part = format!("SUBSCRIBE by_g WITH (SNAPSHOT = false) AS OF {first} UP TO {last}");
    let csv = collect(client, &format!("COPY ({part}) TO STDOUT WITH (FORMAT csv, HEADER)")).await?;
    let csv = String::from_utf8(csv)?;
    assert_eq!(csv.lines().next(), Some("hw_epoch,hw_time,hw_weight,g,c,s"));
    assert_eq!(csv.lines().count(), count + 1);
    let binary = collect(client, &format!("COPY ({part}) TO STDOUT WITH (FORMAT binary)")).await?;
    assert!(binary.starts_with(b"PGCOPY\n\xff\r\n\0") && binary.ends_with(&[0xff, 0xff]));
    let fetched = client.query(&part, &[]).await?;
    assert_eq!(fetched.len(), count);
    let (number, weight): (i64, i64) = (fetched[0].get("hw_epoch"), fetched[0].get("hw_weight"));
    assert!(number as u64 > first && weight != 0);
    let _: chrono::DateTime<chrono::Utc> = fetched[0].get("hw_time");
    client.batch_execute(&format!("BEGIN; DECLARE c CURSOR FOR {part}")).await?;
    let mut taken = 0;
    loop {
        let some = client.query("FETCH 7 c WITH (timeout = '5s')", &[]).await?.len();
        taken += some;
        if some < 7 {
            break;
        }
    }
    assert_eq!(taken, count);
    client.batch_execute("COMMIT").await?;
    Ok(())
}

async fn collect(client: &Client, copy: &str) -> TestResult<Vec<u8>> {
    let mut bytes = vec![];
    let mut pieces = Box::pin(client.copy_out(copy).await?);
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}
