//! A real Kafka broker (docker/kafka.sh) that can be stopped, killed and started again.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::{TestResult, has, home};

/// How long a record may take to get into the sender's queue.
const LIMIT: Duration = Duration::from_secs(90);

/// A broker on a port of its own. Stopped and removed on drop.
pub struct Broker {
    port: u16,
    dir: tempfile::TempDir,
}

impl Broker {
    /// Or the reason why there is none.
    pub fn start() -> Result<Broker, String> {
        if !script().is_file() {
            return Err("docker/kafka.sh is not there".into());
        }
        if !has("java") {
            return Err("java is not installed".into());
        }
        let start = || -> TestResult<Broker> {
            let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let broker = Broker { port, dir: tempfile::tempdir()? };
            broker.up()?;
            Ok(broker)
        };
        start().map_err(|error| format!("the broker did not start: {error}"))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Again, with what it had.
    pub fn up(&self) -> TestResult {
        self.script(&["start", &self.port.to_string(), &self.dir.path().display().to_string()])
    }

    pub fn down(&self) -> TestResult {
        self.script(&["stop", &self.dir.path().display().to_string()])
    }

    /// SIGKILL.
    pub fn kill(&self) -> TestResult {
        self.script(&["stop", &self.dir.path().display().to_string(), "kill"])
    }

    fn script(&self, arguments: &[&str]) -> TestResult {
        // Its output goes to a file: a broker that keeps a pipe open would hold us up.
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("script.log"))?;
        let status = Command::new(script())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()?;
        if status.success() {
            return Ok(());
        }
        let log = std::fs::read_to_string(self.dir.path().join("script.log"))?;
        Err(format!("kafka.sh {arguments:?}: {status}\n{log}").into())
    }

    /// Of a producer that sends until the broker has what it sent, once.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", format!("127.0.0.1:{}", self.port))
            .set("message.timeout.ms", "60000")
            .set("enable.idempotence", "true")
            .set("reconnect.backoff.max.ms", "500");
        config
    }

    pub async fn create_topic(&self, topic: &str, partitions: i32) -> TestResult {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        for result in admin.create_topics([&topic], &options).await? {
            result.map_err(|(topic, code)| format!("{topic}: {code}"))?;
        }
        Ok(())
    }

    /// Sends (partition, payload) pairs and waits until the broker has them all.
    pub async fn produce(&self, topic: &str, records: &[(i32, String)]) -> TestResult {
        let producer: FutureProducer = self.config().create()?;
        send(&producer, topic, records).await
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Best effort; a broker that never started has nothing to stop.
        let _ = self.down();
    }
}

/// Sends (partition, payload) pairs and waits until the broker has them all.
pub async fn send(producer: &FutureProducer, topic: &str, records: &[(i32, String)]) -> TestResult {
    let sends = records.iter().map(|(partition, payload)| {
        producer.send(FutureRecord::<str, str>::to(topic).partition(*partition).payload(payload), LIMIT)
    });
    for result in futures::future::join_all(sends).await {
        result.map_err(|(error, _)| error)?;
    }
    Ok(())
}

fn script() -> PathBuf {
    home().parent().map(|root| root.join("docker/kafka.sh")).unwrap_or_default()
}
