//! `kill -9`, again and again, at random instants: between and within checkpoints, while views are made, replaced and
//! made again by a start. Tables change, a followed file grows, and a topic where there is a broker, which is killed too;
//! after each kill every view must equal its own SQL over what is there, and what is there must be what was acknowledged.
//!
//! `HW_CRASH_SECONDS` (or `make crash SECONDS=…`) says for how long, `HW_SEED` replays the choices.

mod topic;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use self::topic::Topic;
use crate::harness::{Broker, Client, Server, TestResult, difference, env_number, eventually, one, seed, skip, tagged};

const SECONDS: u64 = 20;
const LIMIT: Duration = Duration::from_secs(60);
const WRITERS: usize = 3;

const TABLES: &str = "
    CREATE TABLE written (writer int, n int, PRIMARY KEY (writer, n));
    CREATE TABLE item (id int PRIMARY KEY, grp int, amount int, name text);
    CREATE TABLE label (grp int PRIMARY KEY, label text);
    INSERT INTO label SELECT g, 'label ' || g FROM generate_series(0, 9) g;
    CREATE TABLE bad (id int, n int);
";

/// Each is compared with its own SQL, asked at the same moment.
const VIEWS: &[(&str, &str)] = &[
    ("acks", "SELECT writer, count(*) AS n, max(n) AS high FROM written GROUP BY writer"),
    (
        "groups",
        "SELECT grp, count(*) AS n, sum(amount) AS s, min(amount) AS lo, max(name) AS hi FROM item GROUP BY grp",
    ),
    (
        "names",
        "SELECT grp, string_agg(name, ',' ORDER BY id) AS names, count(DISTINCT name) AS d FROM item GROUP BY grp",
    ),
    ("joined", "SELECT i.id, l.label, i.amount FROM item i JOIN label l ON i.grp = l.grp"),
    ("outer_joined", "SELECT l.label, i.id FROM label l LEFT JOIN item i ON i.grp = l.grp AND i.amount > 50"),
    ("beside_its_group", "SELECT i.id, i.amount, g.n, g.s FROM item i JOIN groups g ON g.grp = i.grp"),
    (
        "labelled",
        "SELECT i.id, l.label FROM item i LEFT JOIN label l ON l.grp = i.grp AND i.amount > 50 AND l.label < 'label 7'",
    ),
    ("of_groups", "SELECT l.grp FROM label l WHERE EXISTS (SELECT FROM groups g WHERE g.grp = l.grp)"),
    ("without", "SELECT l.label FROM label l WHERE NOT EXISTS (SELECT FROM item i WHERE i.grp = l.grp)"),
    ("top", "SELECT id, amount FROM item ORDER BY amount DESC, id LIMIT 5"),
    (
        "ranked",
        "SELECT id, grp, rank() OVER (PARTITION BY grp ORDER BY amount, id) AS r, sum(amount) OVER (PARTITION BY grp) AS s FROM item",
    ),
    ("above", "SELECT n, count(*) AS groups FROM groups GROUP BY n"),
    ("fails", "SELECT id, 10 / n AS q FROM bad WHERE n <> 0"),
    ("events", "SELECT k, count(*) AS n, sum(v) AS s, max(id) AS hi FROM ev GROUP BY k"),
    ("first_events", "SELECT k, min(id) AS lo FROM ev WHERE v % 2 = 0 GROUP BY k"),
    ("enriched", "SELECT e.id, l.label FROM ev e JOIN label l ON l.grp = e.k WHERE e.v < 3"),
    (
        "windows",
        "SELECT window_start, k, count(*) AS n FROM TUMBLE(ev, ts, INTERVAL '10 seconds') GROUP BY window_start, k",
    ),
    (
        "sessions",
        "SELECT window_start, window_end, count(*) AS n FROM SESSION(ev PARTITION BY k, ts, INTERVAL '3 seconds') GROUP BY k, window_start, window_end",
    ),
    (
        "ev_top",
        "SELECT k, id FROM (SELECT k, id, row_number() OVER (PARTITION BY k ORDER BY id DESC) AS r FROM ev) x WHERE r <= 3",
    ),
];

/// Shown once, when they are over: with what must be in it, given how far the file was read.
const CLOSED: (&str, &str, &str) = (
    "closed",
    "SELECT window_start, count(*) AS n FROM TUMBLE(ev, ts, INTERVAL '10 seconds') GROUP BY window_start EMIT ON WINDOW CLOSE",
    "SELECT window_start, count(*) AS n FROM TUMBLE(ev, ts, INTERVAL '10 seconds')
     WHERE window_end <= (SELECT max(ts) - INTERVAL '2 seconds' FROM ev) GROUP BY window_start",
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_comes_twice() -> TestResult {
    let seed = seed()?;
    println!("seed: HW_SEED={seed}");
    let seconds = env_number("HW_CRASH_SECONDS")?.unwrap_or(SECONDS);
    let mut random = StdRng::seed_from_u64(seed);
    // Half of the runs let go of all state that is on disk.
    let flags: &[&str] = &["--checkpoint-interval-ms", "40", "--memory-limit", "1MiB"];
    let mut server = Server::start_with(2, if seed.is_multiple_of(2) { flags } else { &flags[..2] })?;
    let events = server.scratch()?.join("events.json");
    let mut run = Run { acknowledged: vec![0; WRITERS], event_count: 0, topic: None, replaced_count: 0 };
    run.append(&events, 500)?;
    let client = server.connect().await?;
    set_up(&client, &events).await?;
    match Broker::start() {
        Ok(broker) => run.topic = Some(Topic::start(broker, &client).await?),
        Err(reason) => skip("the crash test's topic", &reason)?,
    }
    drop(client);

    let start = Instant::now();
    let mut kills = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        // Some kills come while a start still makes its views.
        let pause = Duration::from_millis(if random.random_bool(0.3) {
            random.random_range(0..60)
        } else {
            random.random_range(60..900)
        });
        let is_broker_killed = match &mut run.topic {
            Some(topic) => topic.kill_now_and_then(&mut random)?,
            None => false,
        };
        run.load(&server, &events, pause, &mut random).await?;
        server.kill()?;
        kills += 1;
        let workers = if random.random_bool(0.25) { Some(random.random_range(1..=2)) } else { None };
        server.start_again(workers)?;
        if random.random_bool(0.2) {
            // Right into recovery.
            tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
            server.kill()?;
            kills += 1;
            server.start_again(None)?;
        }
        if let Some(topic) = run.topic.as_ref().filter(|_| is_broker_killed) {
            topic.up()?;
        }
        run.check(&server).await?;
    }
    let log = server.log()?;
    let resumed = log.matches("goes on from the checkpoint").count();
    println!(
        "{kills} kills, {} rows acknowledged, {} events, {} views replaced; {resumed} times a view went on from a checkpoint",
        run.acknowledged.iter().sum::<i64>(),
        run.event_count,
        run.replaced_count
    );
    if let Some(topic) = &run.topic {
        println!("{} records of a topic, whose broker was killed {} times", topic.count, topic.kill_count);
    }
    assert!(resumed > kills, "views hardly ever went on from a checkpoint");
    assert!(!log.contains("panicked"), "the server panicked");
    Ok(())
}

async fn set_up(client: &Client, events: &Path) -> TestResult {
    client.batch_execute(TABLES).await?;
    client
        .batch_execute(&format!(
            "CREATE SOURCE ev (id int, k int, v int, ts timestamp, WATERMARK FOR ts AS ts - INTERVAL '2 seconds')
             WITH (connector = 'files', path = '{}', follow = 'true') FORMAT PLAIN ENCODE JSON",
            events.display()
        ))
        .await?;
    for (name, sql) in VIEWS.iter().chain([&(CLOSED.0, CLOSED.1)]) {
        client.batch_execute(&format!("CREATE MATERIALIZED VIEW {name} AS {sql}")).await?;
    }
    Ok(())
}

struct Run {
    /// Of each writer: all numbers below were acknowledged.
    acknowledged: Vec<i64>,
    event_count: i64,
    topic: Option<Topic>,
    replaced_count: usize,
}

impl Run {
    /// Grows the file by so many events, a tenth of a second of event time apart, and now and then something else.
    fn append(&mut self, path: &Path, count: i64) -> TestResult {
        let mut lines = String::new();
        for id in self.event_count..self.event_count + count {
            let (second, tenth) = (id / 10, id % 10);
            let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
            lines += &format!(
                "{{\"id\": {id}, \"k\": {}, \"v\": {}, \"ts\": \"2026-01-01T{hour:02}:{minute:02}:{second:02}.{tenth}\"}}\n",
                id * 7 % 10,
                id % 13
            );
            if id % 100 == 99 {
                lines += "no event\n";
            }
        }
        File::options().create(true).append(true).open(path)?.write_all(lines.as_bytes())?;
        self.event_count += count;
        Ok(())
    }

    /// Writers, changes, events and definitions at once, for as long as told; whoever fails stops.
    async fn load(&mut self, server: &Server, events: &Path, pause: Duration, random: &mut StdRng) -> TestResult {
        let end = Instant::now() + pause;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let client = server.connect().await?;
            writers.spawn(insert(client, writer, self.acknowledged[writer], end));
        }
        let mut others = tokio::task::JoinSet::new();
        others.spawn(change(server.connect().await?, random.random(), end));
        let replaced = random.random_bool(0.5).then(|| random.random_range(0..VIEWS.len()));
        if let Some(number) = replaced {
            others.spawn(replace(server.connect().await?, number, random.random_range(0..200)));
            self.replaced_count += 1;
        }
        while Instant::now() < end {
            self.append(events, random.random_range(0..200))?;
            if let Some(topic) = &mut self.topic {
                topic.send(random.random_range(0..100));
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(1..30))).await;
        }
        // The kill comes while all of them are at it.
        others.detach_all();
        while let Some(done) = writers.join_next().await {
            let (writer, acknowledged) = done?;
            self.acknowledged[writer] = acknowledged;
        }
        Ok(())
    }

    async fn check(&mut self, server: &Server) -> TestResult {
        let client = eventually("a connection", LIMIT, async || Ok(server.connect().await.ok())).await?;
        for writer in 0..WRITERS {
            let found = one(&client, &format!("SELECT count(*) FROM written WHERE writer = {writer}")).await?;
            let found: i64 = found.parse()?;
            assert!(
                found >= self.acknowledged[writer],
                "writer {writer} was told of {} rows",
                self.acknowledged[writer]
            );
            let high =
                one(&client, &format!("SELECT coalesce(max(n) + 1, 0) FROM written WHERE writer = {writer}")).await?;
            assert_eq!(high, found.to_string(), "writer {writer} has gaps");
            // What was not acknowledged and is there nevertheless stays.
            self.acknowledged[writer] = found;
        }
        let expected = self.event_count.to_string();
        eventually("all events to be read", LIMIT, async || {
            Ok((one(&client, "SELECT coalesce(sum(n), 0) FROM events").await? == expected).then_some(()))
        })
        .await?;
        for (name, sql) in VIEWS.iter().map(|(name, sql)| (*name, *sql)).chain([(CLOSED.0, CLOSED.2)]) {
            compare(&client, name, sql).await?;
        }
        let broken = (self.event_count / 100).to_string();
        let counted = one(&client, "SELECT bad_record_count FROM hw_catalog.sources WHERE name = 'ev'").await?;
        assert_eq!(counted, broken, "records that are no events");
        if let Some(topic) = &mut self.topic {
            topic.check(&client).await?;
        }
        let failing = one(&client, "SELECT coalesce(sum(row_count), 0) FROM hw_catalog.view_errors").await?;
        assert_eq!(failing, "0");
        Ok(())
    }
}

/// A view with its SQL, asked at the same moment.
async fn compare(client: &Client, name: &str, sql: &str) -> TestResult {
    let sides =
        format!("SELECT 'kept' AS side, kept.* FROM {name} kept UNION ALL SELECT 'fresh', fresh.* FROM ({sql}) fresh");
    let mut sides = tagged(client, &sides).await?;
    let [kept, fresh] = ["kept", "fresh"].map(|side| sides.remove(side).unwrap_or_default());
    assert!(kept == fresh, "{name} is not its SQL:\n{}", difference(&kept, &fresh));
    Ok(())
}

/// Row after row, until the connection breaks or time is up. Returns how many were acknowledged.
async fn insert(client: Client, writer: usize, from: i64, end: Instant) -> (usize, i64) {
    let mut n = from;
    while Instant::now() < end + Duration::from_millis(20) {
        if client.batch_execute(&format!("INSERT INTO written VALUES ({writer}, {n})")).await.is_err() {
            break;
        }
        n += 1;
    }
    (writer, n)
}

/// Inserts, updates and deletes that nobody keeps count of.
async fn change(client: Client, seed: u64, end: Instant) {
    let mut random = StdRng::seed_from_u64(seed);
    while Instant::now() < end + Duration::from_millis(50) {
        let id = random.random_range(0..300);
        let (grp, amount) = (random.random_range(0..9), random.random_range(0..100));
        let sql = match random.random_range(0..6) {
            0 | 1 => format!(
                "INSERT INTO item VALUES ({id}, {grp}, {amount}, 'n{amount}') ON CONFLICT (id) DO UPDATE SET grp = {grp}, amount = {amount}"
            ),
            2 => format!("UPDATE item SET amount = amount + 1 WHERE grp = {grp}"),
            3 => format!("DELETE FROM item WHERE id = {id}"),
            4 => format!(
                "BEGIN; INSERT INTO bad VALUES ({id}, {amount}); DELETE FROM bad WHERE id < {id} AND id > {id} - 20; COMMIT"
            ),
            _ => format!("UPDATE label SET label = 'label ' || {amount} WHERE grp = {grp}"),
        };
        if client.batch_execute(&sql).await.is_err() {
            return;
        }
    }
}

async fn replace(client: Client, number: usize, pause_ms: u64) {
    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    let (name, sql) = VIEWS[number];
    // The server may be killed in the middle of it.
    let _ = client.batch_execute(&format!("CREATE OR REPLACE MATERIALIZED VIEW {name} AS {sql}")).await;
}
