//! Sources: the files of the demo, followed files, broken records, generated events; and what a restart does to them.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::harness::{Client, Server, TestResult, eventually, home, one, rows};

const LIMIT: Duration = Duration::from_secs(30);

async fn finished(client: &Client, source: &str) -> TestResult {
    eventually(&format!("source {source} to finish"), LIMIT, async || {
        let state = one(client, &format!("SELECT state FROM hw_catalog.sources WHERE name = '{source}'")).await?;
        match state.as_str() {
            "finished" => Ok(Some(())),
            "failed" => Err(format!("source {source} failed").into()),
            _ => Ok(None),
        }
    })
    .await
}

async fn becomes(client: &Client, sql: &str, expected: &str) -> TestResult {
    let last = std::cell::RefCell::new(String::new());
    let reached = eventually(&format!("{sql} to be {expected}"), LIMIT, async || {
        *last.borrow_mut() = one(client, sql).await?;
        Ok((*last.borrow() == expected).then_some(()))
    })
    .await;
    reached.map_err(|error| format!("{error}; it is {}", last.borrow()).into())
}

fn flights(path: &Path, options: &str) -> String {
    format!(
        "CREATE SOURCE flights (year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT,
             sched_arr_time INT, arr_delay INT, carrier VARCHAR, flight INT, tailnum VARCHAR, origin VARCHAR, dest VARCHAR,
             air_time INT, distance INT, hour INT, minute INT, time_hour TIMESTAMPTZ, sched_dep TIMESTAMPTZ,
             WATERMARK FOR sched_dep AS sched_dep - INTERVAL '1 hour')
         WITH (connector = 'files', path = '{}'{options}) FORMAT PLAIN ENCODE CSV (header = true, null_string = 'NA')",
        path.display()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_of_flights_and_a_restart() -> TestResult {
    let mut server = Server::start(2)?;
    let client = server.connect().await?;
    client.batch_execute(&flights(&home().join("data/flights-2013-01.csv.gz"), "")).await?;
    client
        .batch_execute(
            "CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n, count(dep_time) AS departed, count(DISTINCT tailnum) AS planes FROM flights;
             CREATE MATERIALIZED VIEW hours AS
                 SELECT window_start, origin, count(*) AS n FROM TUMBLE(flights, sched_dep, INTERVAL '1 hour') GROUP BY window_start, origin;
             CREATE MATERIALIZED VIEW closed AS
                 SELECT window_start, origin, count(*) AS n FROM TUMBLE(flights, sched_dep, INTERVAL '1 hour') GROUP BY window_start, origin
                 EMIT ON WINDOW CLOSE",
        )
        .await?;
    let check = async |client: &Client| -> TestResult {
        finished(client, "flights").await?;
        becomes(client, "SELECT n FROM m", "27004").await?;
        assert_eq!(one(client, "SELECT departed FROM m").await?, "26483");
        // The file is sorted by departure, not by schedule: flights that left days later come after their hour is over.
        let late = one(client, "SELECT row_count FROM hw_catalog.late_rows WHERE view = 'hours'").await?;
        assert_eq!((one(client, "SELECT sum(n) FROM hours").await?.as_str(), late.as_str()), ("25926", "1078"));
        // The file has come to its end, and so has every hour.
        assert_eq!(one(client, "SELECT sum(n) FROM closed").await?, "25926");
        // The latest scheduled departure of the month, less an hour.
        let watermark =
            "SELECT watermark = (SELECT max(sched_dep) FROM flights) - INTERVAL '1 hour' FROM hw_catalog.sources";
        assert_eq!(one(client, watermark).await?, "t");
        Ok(())
    };
    check(&client).await?;
    // A view made later reads the same rows.
    client
        .batch_execute("CREATE MATERIALIZED VIEW later AS SELECT count(*) AS n FROM flights WHERE dep_time IS NULL")
        .await?;
    becomes(&client, "SELECT n FROM later", "521").await?;
    server.kill()?;
    server.start_again(Some(1))?;
    let client = server.connect().await?;
    check(&client).await?;
    becomes(&client, "SELECT n FROM later", "521").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_records_are_kept_aside_and_the_stream_goes_on() -> TestResult {
    let server = Server::start(1)?;
    let client = server.connect().await?;
    let path = server.scratch()?.join("clicks.ndjson");
    let good = "{\"id\": 1, \"url\": \"a\"}\n";
    let huge = format!("{{\"id\": 2, \"url\": \"{}\"}}\n", "x".repeat(2 << 20));
    let bad = [
        "no json\n",
        "{\"id\": \"text\", \"url\": \"b\"}\n",
        "{\"id\": 99999999999, \"url\": \"c\"}\n",
        "[1, 2]\n",
        "{\"id\": 3\n",
    ];
    std::fs::write(&path, format!("{good}{}{huge}{}{}{good}{}{}", bad[0], bad[1], bad[2], bad[3], bad[4]))?;
    client
        .batch_execute(&format!(
            "CREATE SOURCE clicks (id INT, url VARCHAR) WITH (connector = 'files', path = '{}') FORMAT PLAIN ENCODE JSON;
             CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n, max(length(url)) AS longest FROM clicks WHERE id IS NOT NULL",
            path.display()
        ))
        .await?;
    finished(&client, "clicks").await?;
    becomes(&client, "SELECT n FROM m", "3").await?;
    assert_eq!(one(&client, "SELECT longest FROM m").await?, (2 << 20).to_string());
    assert_eq!(one(&client, "SELECT bad_record_count FROM hw_catalog.sources").await?, "5");
    let errors =
        rows(&client, "SELECT source, position, reason, payload FROM hw_catalog.source_errors ORDER BY position")
            .await?;
    assert_eq!(errors.len(), 5);
    for error in &errors {
        assert!(error.iter().all(|value| value.as_deref().is_some_and(|text| !text.is_empty())), "{error:?}");
    }
    assert_eq!(errors[0][3].as_deref(), Some("no json"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_from_the_far_future_ends_no_window() -> TestResult {
    let server = Server::start(2)?;
    let client = server.connect().await?;
    let path = server.scratch()?.join("bids.ndjson");
    let lines = ["2026-01-01 10:00:00", "3026-01-01 00:00:00", "2026-01-01 10:00:30"]
        .map(|ts| format!("{{\"ts\": \"{ts}\"}}\n"));
    std::fs::write(&path, lines.concat())?;
    let source = |name: &str, option: &str| {
        let path = path.display();
        format!(
            "CREATE SOURCE {name} (ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'files', path = '{path}'{option}) FORMAT PLAIN ENCODE JSON;
             CREATE MATERIALIZED VIEW m_{name} AS SELECT window_end, count(*) AS n FROM TUMBLE({name}, ts, INTERVAL '1 minute') GROUP BY window_end"
        )
    };
    client.batch_execute(&source("guarded", ", watermark.max.ahead = '1 day'")).await?;
    finished(&client, "guarded").await?;
    becomes(&client, "SELECT sum(n) FROM m_guarded", "2").await?;
    let watermark = "SELECT watermark FROM hw_catalog.watermarks WHERE relation = 'guarded'";
    assert_eq!(one(&client, watermark).await?, "2026-01-01 10:00:30+00");
    let error = "SELECT source || '|' || position || '|' || reason || '|' || payload FROM hw_catalog.source_errors";
    let error = one(&client, error).await?;
    assert!(error.starts_with("guarded|") && error.contains("ahead of the clock|(3026-01-01"), "{error}");
    // Without the bound the last row is late.
    client.batch_execute(&source("open", "")).await?;
    finished(&client, "open").await?;
    becomes(&client, "SELECT row_count FROM hw_catalog.late_rows WHERE relation = 'open'", "1").await?;
    let refused = client.batch_execute("CREATE SOURCE x (ts TIMESTAMP) WITH (connector = 'files', path = 'x', watermark.max.ahead = '1 day') FORMAT PLAIN ENCODE JSON").await;
    assert!(refused.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_partition_is_waited_for_and_a_silent_one_is_not() -> TestResult {
    use std::io::Write;
    let mut server = Server::start(2)?;
    let client = server.connect().await?;
    let dir = server.scratch()?.join("in");
    std::fs::create_dir_all(&dir)?;
    let append = |file: &str, times: &[&str]| -> TestResult {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(dir.join(file))?;
        times.iter().try_for_each(|time| writeln!(file, "{{\"ts\": \"2026-01-01 {time}\"}}"))?;
        Ok(())
    };
    append("a.ndjson", &["10:00:00"])?;
    append("b.ndjson", &["10:00:10"])?;
    client
        .batch_execute(&format!(
            "CREATE SOURCE e (ts TIMESTAMP, WATERMARK FOR ts AS ts)
             WITH (connector = 'files', path = '{}', follow = 'true', watermark.idle.timeout = '2 seconds') FORMAT PLAIN ENCODE JSON;
             CREATE MATERIALIZED VIEW open AS
                 SELECT window_end, count(*) AS n FROM TUMBLE(e, ts, INTERVAL '1 minute') GROUP BY window_end;
             CREATE MATERIALIZED VIEW closed AS
                 SELECT window_end, count(*) AS n FROM TUMBLE(e, ts, INTERVAL '1 minute') GROUP BY window_end EMIT ON WINDOW CLOSE",
            dir.display()
        ))
        .await?;
    becomes(&client, "SELECT sum(n) FROM open", "2").await?;
    append("a.ndjson", &["10:05:00"])?;
    becomes(&client, "SELECT sum(n) FROM open", "3").await?;
    let watermark = "SELECT watermark FROM hw_catalog.watermarks WHERE relation = 'e'";
    becomes(&client, watermark, "2026-01-01 10:00:10+00").await?;
    let holder = one(&client, "SELECT held_back_by FROM hw_catalog.watermarks WHERE relation = 'e'").await?;
    assert!(holder.contains("b.ndjson"), "{holder}");
    assert_eq!(one(&client, "SELECT count(*) FROM closed").await?, "0");
    // Both fall silent; the first that speaks again goes on alone.
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    append("a.ndjson", &["10:06:30"])?;
    becomes(&client, watermark, "2026-01-01 10:06:30+00").await?;
    becomes(&client, "SELECT string_agg(n::text, ',' ORDER BY window_end) FROM closed", "2,1").await?;
    // What the silent one has to say now is late, and it holds nothing back any more that was let go.
    append("b.ndjson", &["10:00:20", "10:06:40"])?;
    becomes(&client, "SELECT sum(n) FROM open", "5").await?;
    assert_eq!(one(&client, "SELECT row_count FROM hw_catalog.late_rows WHERE view = 'open'").await?, "1");
    // A restart reads the files anew, one after the other perhaps: nothing is lost of either.
    server.kill()?;
    server.start_again(Some(1))?;
    let client = server.connect().await?;
    let all = "SELECT (SELECT sum(n) FROM open) + coalesce((SELECT sum(row_count) FROM hw_catalog.late_rows WHERE view = 'open'), 0)";
    becomes(&client, all, "6").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_followed_directory_grows() -> TestResult {
    let mut server = Server::start(2)?;
    let client = server.connect().await?;
    let dir = server.scratch()?.join("in");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("1.csv"), "id,name\n1,ada\n2,\"b,\n b\"\n")?;
    client
        .batch_execute(&format!(
            "CREATE SOURCE people (id INT, name VARCHAR) WITH (connector = 'files', path = '{}', follow = 'true') FORMAT PLAIN ENCODE CSV (header = true);
             CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n, sum(id) AS s FROM people",
            dir.display()
        ))
        .await?;
    becomes(&client, "SELECT s FROM m", "3").await?;
    // An unfinished line waits for its end; a new file is found.
    let mut first = std::fs::File::options().append(true).open(dir.join("1.csv"))?;
    first.write_all(b"3,cyd\n40,d")?;
    becomes(&client, "SELECT s FROM m", "6").await?;
    first.write_all(b"an\n")?;
    std::fs::write(dir.join("2.csv"), "id,name\n100,eve\n")?;
    becomes(&client, "SELECT s FROM m", "146").await?;
    server.kill()?;
    std::fs::write(dir.join("3.csv"), "id,name\n1000,fay\n")?;
    server.start_again(None)?;
    let client = server.connect().await?;
    becomes(&client, "SELECT s FROM m", "1146").await?;
    becomes(&client, "SELECT n FROM m", "6").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paced_replay_takes_its_time() -> TestResult {
    let server = Server::start(1)?;
    let client = server.connect().await?;
    // An hour of January each 200 ms: the month would take two and a half minutes.
    let pace = ", replay.time_column = 'sched_dep', replay.speed = '18000'";
    client.batch_execute(&flights(&home().join("data/flights-2013-01.csv.gz"), pace)).await?;
    client.batch_execute("CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM flights").await?;
    let count = async || -> TestResult<u64> { Ok(one(&client, "SELECT n FROM m").await?.parse()?) };
    let first = eventually("the first flights", LIMIT, async || Ok(Some(count().await?).filter(|n| *n > 0))).await?;
    let more =
        eventually("more flights", LIMIT, async || Ok(Some(count().await?).filter(|n| *n > first + 100))).await?;
    assert!(more < 20_000, "{more} flights at once are no paced replay");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nexmark_is_the_same_for_everybody() -> TestResult {
    let mut answers = vec![];
    for workers in [1, 2] {
        let server = Server::start(workers)?;
        let client = server.connect().await?;
        for table in ["Person", "Auction", "Bid"] {
            let sql = format!(
                "CREATE SOURCE {0} WITH (connector = 'nexmark', nexmark.table.type = '{table}', nexmark.event.num = '50000', nexmark.seed = '7');
                 CREATE MATERIALIZED VIEW count_{0} AS SELECT count(*) AS n FROM {0}",
                table.to_lowercase()
            );
            client.batch_execute(&sql).await?;
            finished(&client, &table.to_lowercase()).await?;
        }
        becomes(&client, "SELECT n FROM count_person", "1000").await?;
        becomes(&client, "SELECT n FROM count_auction", "3000").await?;
        becomes(&client, "SELECT n FROM count_bid", "46000").await?;
        client
            .batch_execute(
                "CREATE MATERIALIZED VIEW by_auction AS SELECT auction, count(*) AS n, max(price) AS high FROM bid GROUP BY auction;
                 CREATE MATERIALIZED VIEW sellers AS SELECT p.name, count(*) AS n FROM auction a JOIN person p ON a.seller = p.id GROUP BY p.name",
            )
            .await?;
        becomes(&client, "SELECT sum(n) FROM by_auction", "46000").await?;
        answers.push((
            rows(&client, "SELECT * FROM by_auction ORDER BY auction").await?,
            rows(&client, "SELECT * FROM sellers ORDER BY name").await?,
        ));
        // The view over the source, and the source itself read from the start.
        assert_eq!(one(&client, "SELECT count(*) FROM bid").await?, "46000");
    }
    assert_eq!(answers[0], answers[1], "two servers with the same seed differ");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_source_waits_and_nothing_of_it_is_lost() -> TestResult {
    let mut server = Server::start(1)?;
    let client = server.connect().await?;
    let path = server.scratch()?.join("events.json");
    let mut file = std::fs::File::create(&path)?;
    writeln!(file, "{{\"id\": 1}}\n{{\"id\": 2}}")?;
    client
        .batch_execute(&format!(
            "CREATE SOURCE ev (id int) WITH (connector = 'files', path = '{}', follow = 'true') FORMAT PLAIN ENCODE JSON;
             CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM ev",
            path.display()
        ))
        .await?;
    becomes(&client, "SELECT n FROM m", "2").await?;
    client.batch_execute("ALTER SOURCE ev PAUSE").await?;
    writeln!(file, "{{\"id\": 3}}")?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(one(&client, "SELECT n FROM m").await?, "2");
    assert_eq!(one(&client, "SELECT state FROM hw_catalog.sources WHERE name = 'ev'").await?, "paused");
    server.kill()?;
    server.start_again(None)?;
    let client = eventually("a connection", LIMIT, async || Ok(server.connect().await.ok())).await?;
    becomes(&client, "SELECT n FROM m", "2").await?;
    assert_eq!(one(&client, "SELECT state FROM hw_catalog.sources WHERE name = 'ev'").await?, "paused");
    client.batch_execute("ALTER SOURCE ev RESUME").await?;
    becomes(&client, "SELECT n FROM m", "3").await?;
    let refused = client.batch_execute("ALTER SOURCE m PAUSE").await;
    assert!(refused.is_err(), "a view is no source");
    Ok(())
}

/// Whether a record is one depends on nobody's columns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_record_is_bad_for_every_view() -> TestResult {
    let server = Server::start(2)?;
    let client = server.connect().await?;
    let path = server.scratch()?.join("events.json");
    std::fs::write(
        &path,
        "{\"id\": 1, \"url\": \"a\"}\n{\"id\": \"x\", \"url\": \"b\"}\n{\"id\": 3, \"url\": \"c\"}\n",
    )?;
    client
        .batch_execute(&format!(
            "CREATE SOURCE ev (id int, url text, third int AS (30 / (id - 2))) WITH (connector = 'files', path = '{}') FORMAT PLAIN ENCODE JSON;
             CREATE MATERIALIZED VIEW urls AS SELECT count(url) AS n FROM ev",
            path.display()
        ))
        .await?;
    becomes(&client, "SELECT n FROM urls", "2").await?;
    for (view, column) in [("ids", "id"), ("rows", "*"), ("more_urls", "url"), ("thirds", "third")] {
        client
            .batch_execute(&format!("CREATE MATERIALIZED VIEW {view} AS SELECT count({column}) AS n FROM ev"))
            .await?;
        becomes(&client, &format!("SELECT n FROM {view}"), "2").await?;
        assert_eq!(one(&client, &format!("SELECT count({column}) FROM ev")).await?, "2", "{column} ad hoc");
    }
    assert_eq!(one(&client, "SELECT bad_record_count FROM hw_catalog.sources WHERE name = 'ev'").await?, "1");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_column_is_the_time_of_a_source() -> TestResult {
    let mut server = Server::start(2)?;
    let client = server.connect().await?;
    let directory = server.scratch()?;
    // The third is no time: its row cannot be made. Of the fifth the watermark's expression fails: the row stays.
    let lines: String = [30_000, 69_999, i64::MAX, 30_001, 0, 70_000, 30_002]
        .iter()
        .map(|ms| format!("{{\"ms\":{ms},\"a\":\"x\"}}\n"))
        .collect();
    std::fs::write(directory.join("a.json"), lines)?;
    client
        .batch_execute(&format!(
            "CREATE SOURCE s (ts timestamptz GENERATED ALWAYS AS (to_timestamp(ms / 1000.0)) STORED, ms bigint, a text,
                 WATERMARK FOR ts AS ts - (INTERVAL '10 seconds') * (extract(epoch FROM ts) / extract(epoch FROM ts))::int)
             WITH (connector = 'files', path = '{}') FORMAT PLAIN ENCODE JSON;
             CREATE MATERIALIZED VIEW m AS
                 SELECT window_start, count(*) AS n FROM TUMBLE(s, ts, INTERVAL '1 minute') GROUP BY window_start, window_end;
             CREATE MATERIALIZED VIEW plain AS SELECT a, ms FROM s",
            directory.display()
        ))
        .await?;
    finished(&client, "s").await?;
    let check = async |client: &Client| -> TestResult {
        becomes(
            client,
            "SELECT string_agg(extract(epoch FROM window_start)::bigint || ' ' || n, ', ' ORDER BY 1) FROM m",
            "0 3, 60 2",
        )
        .await?;
        assert_eq!(one(client, "SELECT row_count FROM hw_catalog.late_rows WHERE view = 'm'").await?, "1");
        assert_eq!(
            one(client, "SELECT count(ts) || ' ' || count(*) || ' ' || max(ts) FROM s").await?,
            "6 6 1970-01-01 00:01:10+00"
        );
        let reasons = rows(client, "SELECT reason FROM hw_catalog.source_errors ORDER BY reason").await?;
        let reasons: Vec<&str> =
            reasons.iter().flatten().flatten().map(|reason| reason.split(':').next().unwrap_or_default()).collect();
        assert_eq!(reasons, ["a generated column failed", "the row is kept, but tells nothing of the watermark"]);
        Ok(())
    };
    check(&client).await?;
    server.kill()?;
    server.start_again(Some(1))?;
    let client = server.connect().await?;
    finished(&client, "s").await?;
    check(&client).await?;
    Ok(())
}

/// `PROCTIME()` of a row is the instant at which it came first: for views that come later, and after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processing_time_is_told_once() -> TestResult {
    let mut server = Server::start(2)?;
    let client = server.connect().await?;
    let directory = server.scratch()?;
    std::fs::write(directory.join("a.json"), "{\"a\":1}\n{\"a\":2}\n")?;
    client
        .batch_execute(&format!(
            "CREATE SOURCE s (a int, p timestamptz AS PROCTIME(), WATERMARK FOR p AS p)
             WITH (connector = 'files', path = '{}', follow = 'true') FORMAT PLAIN ENCODE JSON;
             CREATE MATERIALIZED VIEW early AS SELECT a, p FROM s;
             CREATE SOURCE bid (bidder bigint, p_time timestamptz GENERATED ALWAYS AS (PROCTIME()) STORED)
             WITH (connector = 'nexmark', nexmark.table.type = 'Bid', nexmark.event.num = '50000', nexmark.split.num = '3');
             CREATE MATERIALIZED VIEW q12 AS SELECT bidder, count(*) AS bid_count, window_start, window_end
                 FROM TUMBLE(bid, p_time, INTERVAL '10' MILLISECOND) GROUP BY bidder, window_start, window_end",
            directory.display()
        ))
        .await?;
    becomes(&client, "SELECT count(*) FROM early", "2").await?;
    finished(&client, "bid").await?;
    assert_eq!(one(&client, "SELECT sum(bid_count) FROM q12").await?, "46000");
    let mut file = std::fs::OpenOptions::new().append(true).open(directory.join("a.json"))?;
    writeln!(file, "{{\"a\":3}}")?;
    becomes(&client, "SELECT count(*) FROM early", "3").await?;
    // Columns that the reader does not make yet start it anew.
    client
        .batch_execute(
            "CREATE MATERIALIZED VIEW late AS SELECT a, p FROM s;
             CREATE MATERIALIZED VIEW q12_again AS SELECT bidder, count(*) AS bid_count, window_start, window_end
                 FROM TUMBLE(bid, p_time, INTERVAL '10' MILLISECOND) GROUP BY bidder, window_start, window_end",
        )
        .await?;
    let differ = |a: &str, b: &str| format!("SELECT count(*) FROM (SELECT * FROM {a} EXCEPT ALL SELECT * FROM {b}) d");
    assert_eq!(one(&client, &differ("early", "late")).await?, "0");
    assert_eq!(one(&client, &differ("q12", "q12_again")).await?, "0");
    assert_eq!(one(&client, "SELECT count(DISTINCT p) FROM early").await?, "2");
    let told = |sql: &str| format!("SELECT string_agg(a || ' ' || p, ', ' ORDER BY a) FROM {sql}");
    let (rows_before, windows_before) = (
        one(&client, &told("early")).await?,
        one(&client, "SELECT count(*) || ' ' || min(window_start) || ' ' || max(window_end) FROM q12").await?,
    );
    let refused = one(&client, "SELECT p FROM s LIMIT 1").await;
    assert!(refused.is_err_and(|error| error.to_string().contains("PROCTIME")));
    assert_eq!(one(&client, "SELECT a FROM s LIMIT 1").await?, "1");
    server.kill()?;
    server.start_again(Some(1))?;
    let client = server.connect().await?;
    becomes(&client, "SELECT count(*) FROM early", "3").await?;
    finished(&client, "bid").await?;
    assert_eq!(one(&client, &told("early")).await?, rows_before);
    assert_eq!(
        one(&client, "SELECT count(*) || ' ' || min(window_start) || ' ' || max(window_end) FROM q12").await?,
        windows_before
    );
    Ok(())
}
