//! The topic of the crash test: records of three partitions, sent while the server, and now and then the broker, is
//! killed. A record counts as sent when the broker has acknowledged it, and every one is waited for before a check.

use rand::Rng;
use rand::rngs::StdRng;
use rdkafka::producer::FutureProducer;

use crate::harness::{Broker, Client, TestResult, eventually, one, send};

const TOPIC: &str = "clicks";
const PARTITIONS: i32 = 3;

pub const VIEWS: &[(&str, &str)] = &[
    (
        "clicks_total",
        "SELECT count(*) AS n, count(DISTINCT id) AS ids, min(id) AS lo, max(id) AS hi, sum(v) AS s FROM clicks",
    ),
    ("clicks_by_k", "SELECT k, count(*) AS n, sum(id) AS s FROM clicks GROUP BY k"),
    ("clicks_joined", "SELECT c.id, l.label FROM clicks c JOIN label l ON l.grp = c.k WHERE c.v < 3"),
    (
        "clicks_top",
        "SELECT k, id FROM (SELECT k, id, row_number() OVER (PARTITION BY k ORDER BY id DESC) AS r FROM clicks) x WHERE r <= 3",
    ),
    ("clicks_and_events", "SELECT e.id, c.k FROM ev e JOIN clicks c ON c.id = e.id WHERE e.v = 1"),
];

pub struct Topic {
    broker: Broker,
    producer: FutureProducer,
    /// Records that were given to the producer.
    pub count: i64,
    pub kill_count: usize,
    sending: Vec<tokio::task::JoinHandle<TestResult>>,
}

impl Topic {
    /// With some records in it, a source over it and views over that.
    pub async fn start(broker: Broker, client: &Client) -> TestResult<Topic> {
        broker.create_topic(TOPIC, PARTITIONS).await?;
        let producer = broker.config().create()?;
        let mut topic = Topic { broker, producer, count: 0, kill_count: 0, sending: vec![] };
        topic.send(300);
        topic.sent().await?;
        client
            .batch_execute(&format!(
                "CREATE SOURCE clicks (id int, k int, v int)
                 WITH (connector = 'kafka', topic = '{TOPIC}', properties.bootstrap.server = '127.0.0.1:{}', scan.startup.mode = 'earliest')
                 FORMAT PLAIN ENCODE JSON",
                topic.broker.port()
            ))
            .await?;
        for (name, sql) in VIEWS {
            client.batch_execute(&format!("CREATE MATERIALIZED VIEW {name} AS {sql}")).await?;
        }
        Ok(topic)
    }

    /// Begins to send so many records.
    pub fn send(&mut self, count: i64) {
        let record = |id: i64| {
            let payload = format!("{{\"id\": {id}, \"k\": {}, \"v\": {}}}", id * 3 % 10, id % 11);
            ((id * 7 % 5) as i32 % PARTITIONS, payload)
        };
        let records: Vec<(i32, String)> = (self.count..self.count + count).map(record).collect();
        let producer = self.producer.clone();
        self.sending.push(tokio::spawn(async move { send(&producer, TOPIC, &records).await }));
        self.count += count;
    }

    /// Waits until the broker has acknowledged all of them.
    async fn sent(&mut self) -> TestResult {
        for sending in self.sending.drain(..) {
            sending.await??;
        }
        Ok(())
    }

    /// Now and then the broker is killed, while records are on their way.
    pub fn kill_now_and_then(&mut self, random: &mut StdRng) -> TestResult<bool> {
        let killed = random.random_bool(0.1);
        if killed {
            self.broker.kill()?;
            self.kill_count += 1;
        }
        Ok(killed)
    }

    pub fn up(&self) -> TestResult {
        self.broker.up()
    }

    /// Each record is counted once, and every view is its SQL over the whole topic.
    pub async fn check(&mut self, client: &Client) -> TestResult {
        self.sent().await?;
        let (count, last) = (self.count, self.count - 1);
        let expected = format!("{count},{count},0,{last}");
        let found = std::cell::RefCell::new(String::new());
        let reached = eventually("all records to be counted", super::LIMIT, async || {
            *found.borrow_mut() = one(client, "SELECT concat_ws(',', n, ids, lo, hi) FROM clicks_total").await?;
            Ok((*found.borrow() == expected).then_some(()))
        });
        reached.await.map_err(|error| format!("{error}: {} instead of {expected}", found.borrow()))?;
        for (name, sql) in VIEWS {
            super::compare(client, name, sql).await?;
        }
        Ok(())
    }
}
