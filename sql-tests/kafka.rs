//! A real Kafka broker (docker/kafka.sh): JSON of three partitions with broken records among it; the broker is killed and
//! comes back, the server is killed and comes back, and nothing is lost or counted twice.

use std::time::Duration;

use crate::harness::{Broker, Client, Server, TestResult, eventually, one, rows, skip};

const LIMIT: Duration = Duration::from_secs(90);
const PARTITIONS: i32 = 3;

fn record(id: u64) -> (i32, String) {
    let second = id % 60;
    let payload = format!("{{\"id\": {id}, \"url\": \"/{}\", \"ts\": \"2013-01-01T10:00:{second:02}Z\"}}", id % 7);
    ((id % PARTITIONS as u64) as i32, payload)
}

fn source(broker: &Broker, topic: &str, options: &str) -> String {
    format!(
        "CREATE SOURCE clicks (id BIGINT, url VARCHAR, ts TIMESTAMPTZ, WATERMARK FOR ts AS ts - INTERVAL '1 second')
         WITH (connector = 'kafka', topic = '{topic}', properties.bootstrap.server = '127.0.0.1:{}', scan.startup.mode = 'earliest'{options})
         FORMAT PLAIN ENCODE JSON",
        broker.port()
    )
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

async fn each_id_once(client: &Client, count: u64) -> TestResult {
    becomes(client, "SELECT n FROM total", &count.to_string()).await?;
    let sums = rows(client, "SELECT n, ids, low, high FROM total").await?;
    let expected = [count, count, 0, count - 1].map(|value| Some(value.to_string()));
    assert_eq!(sums, [expected.to_vec()], "lost or doubled: count, distinct ids, first, last");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_and_a_server_that_go_away_and_come_back() -> TestResult {
    const TEST: &str = "a_broker_and_a_server_that_go_away_and_come_back";
    let broker = match Broker::start() {
        Ok(broker) => broker,
        Err(reason) => return skip(TEST, &reason),
    };
    broker.create_topic("clicks", PARTITIONS).await?;
    broker.produce("clicks", &(0..300).map(record).collect::<Vec<_>>()).await?;
    let bad = ["no json", "{\"id\": \"text\"}", "{\"id\": 1", ""].map(|text| (1, text.to_string()));
    broker.produce("clicks", &bad).await?;

    let mut server = Server::start(2)?;
    let client = server.connect().await?;
    client.batch_execute(&source(&broker, "clicks", "")).await?;
    client
        .batch_execute(
            "CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n, count(DISTINCT id) AS ids, min(id) AS low, max(id) AS high FROM clicks;
             CREATE MATERIALIZED VIEW by_url AS SELECT url, count(*) AS n FROM clicks GROUP BY url",
        )
        .await?;
    each_id_once(&client, 300).await?;

    // Broken records: where they stood, and why they are no rows.
    let errors =
        rows(&client, "SELECT partition, position, reason FROM hw_catalog.source_errors ORDER BY position").await?;
    assert!(errors.len() >= 3, "{errors:?}");
    for error in &errors {
        assert_eq!(error[0].as_deref(), Some("1"), "{error:?}");
        assert!(error[1].as_deref().is_some_and(|p| p.parse::<u64>().is_ok_and(|p| p >= 100)), "{error:?}");
        assert!(error[2].as_deref().is_some_and(|reason| !reason.is_empty()), "{error:?}");
    }

    // The broker goes and comes back; meanwhile the views answer, and the source says what it does.
    broker.down()?;
    assert_eq!(one(&client, "SELECT n FROM total").await?, "300");
    becomes(&client, "SELECT state FROM hw_catalog.sources", "retrying").await?;
    broker.up()?;
    broker.produce("clicks", &(300..600).map(record).collect::<Vec<_>>()).await?;
    each_id_once(&client, 600).await?;

    // The server goes without a goodbye and comes back.
    server.kill()?;
    broker.produce("clicks", &(600..900).map(record).collect::<Vec<_>>()).await?;
    server.start_again(Some(1))?;
    let client = server.connect().await?;
    each_id_once(&client, 900).await?;
    becomes(&client, "SELECT sum(n) FROM by_url", "900").await?;
    // The least of the three partitions' latest times, less a second.
    becomes(&client, "SELECT watermark FROM hw_catalog.sources", "2013-01-01 10:00:56+00").await?;

    // A topic that does not exist is an error at once.
    let refused = client.batch_execute(&source(&broker, "nowhere", "").replace("SOURCE clicks", "SOURCE other")).await;
    let refused = refused.expect_err("there is no such topic");
    let message = refused.as_db_error().map(|error| error.message().to_string()).unwrap_or_default();
    assert!(message.contains("nowhere"), "{refused:?}");
    Ok(())
}
