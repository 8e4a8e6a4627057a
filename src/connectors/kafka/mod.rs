//! `connector = 'kafka'`: one topic, all its partitions, read by assignment. Offsets are ours: nothing is committed to
//! the broker and no consumer group is joined. Only this room names rdkafka.
//!
//! ```text
//! partition = the partition's number; offset and position = Kafka's offset; one record a message (its value)
//! ```
//!
//! Options: `topic`, `properties.*` (librdkafka's settings; `properties.bootstrap.server` as RisingWave spells it),
//! `scan.startup.mode` (earliest, latest), `scan.startup.timestamp.millis`.

mod client;
mod reader;

use std::collections::BTreeMap;

use rdkafka::config::ClientConfig;

use super::options::invalid;
use super::{Connector, Options, RECORD_BYTES_MAX, Reader};
use crate::error::{Error, Result, SqlState};
use crate::types::Position;
use client::Client;

#[derive(Clone, Debug)]
pub struct KafkaConnector {
    topic: String,
    /// As the user wrote them, for messages.
    brokers: String,
    startup: Startup,
    config: ClientConfig,
}

/// Where a new source begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Startup {
    Earliest,
    Latest,
    /// The first message at or after this time, in milliseconds since 1970.
    Timestamp(i64),
}

/// Settings that are ours to make: the user's would break what the connector promises.
const RESERVED: &[&str] = &[
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "auto.offset.reset",
    "allow.auto.create.topics",
];

impl KafkaConnector {
    pub fn new(options: &Options) -> Result<KafkaConnector> {
        let topic = options.require("topic")?.to_string();
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if topic.is_empty() || topic.len() > 249 || !topic.chars().all(is_legal) {
            return Err(invalid("topic", &topic, "a topic has up to 249 letters, digits, '.', '_' and '-'"));
        }
        let mut properties = options.under("properties.");
        let spellings = ["bootstrap.server", "bootstrap.servers"];
        let Some(brokers) = spellings.iter().filter_map(|key| properties.remove(*key)).next_back() else {
            let message = "option \"properties.bootstrap.server\" is missing";
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
                .with_hint("add it to WITH (properties.bootstrap.server = 'host:9092')"));
        };
        let millis = options.parse::<i64>("scan.startup.timestamp.millis", "milliseconds since 1970")?;
        let startup = match (options.get("scan.startup.mode").map(str::to_ascii_lowercase).as_deref(), millis) {
            (None, Some(millis)) => Startup::Timestamp(millis),
            (Some(mode), Some(_)) => {
                let hint = "leave it out where scan.startup.timestamp.millis is given";
                return Err(invalid("scan.startup.mode", mode, hint));
            }
            (None | Some("earliest"), None) => Startup::Earliest,
            (Some("latest"), None) => Startup::Latest,
            (Some(other), None) => return Err(invalid("scan.startup.mode", other, "it takes earliest or latest")),
        };
        let config = client_config(&brokers, &properties)?;
        Ok(KafkaConnector { topic, brokers, startup, config })
    }
}

/// 22023 for a setting that is ours or that librdkafka does not know or take.
fn client_config(brokers: &str, properties: &BTreeMap<String, String>) -> Result<ClientConfig> {
    let mut config = ClientConfig::new();
    let frame_bytes = RECORD_BYTES_MAX + (32 << 20);
    for (key, value) in [
        ("bootstrap.servers", brokers),
        // Assignment needs a name, though nothing is kept under it.
        ("group.id", "highwater"),
        ("client.id", "highwater"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("enable.partition.eof", "true"),
        // An offset that is gone is an event to tell, not one to jump over.
        ("auto.offset.reset", "error"),
        ("allow.auto.create.topics", "false"),
        // A fetch returns at least one message, however long, so this bounds batches and not messages.
        ("fetch.message.max.bytes", "4194304"),
        ("fetch.max.bytes", "67108864"),
        ("receive.message.max.bytes", &frame_bytes.to_string()),
        ("queued.max.messages.kbytes", "65536"),
        ("fetch.wait.max.ms", "100"),
        ("fetch.queue.backoff.ms", "10"),
        ("reconnect.backoff.max.ms", "2000"),
        ("topic.metadata.refresh.interval.ms", "30000"),
    ] {
        config.set(key, value);
    }
    for (key, value) in properties {
        if RESERVED.contains(&key.as_str()) {
            return Err(invalid(&format!("properties.{key}"), value, "this setting cannot be changed"));
        }
        config.set(key, value);
    }
    // Makes no connection; checks every name and value.
    if let Err(error) = config.create_native_config() {
        let message = match &error {
            rdkafka::error::KafkaError::ClientConfig(_, reason, key, _) => {
                format!("invalid option \"properties.{key}\": {reason}")
            }
            other => format!("invalid kafka properties: {other}"),
        };
        return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
            .with_hint("properties.* takes the settings of librdkafka"));
    }
    Ok(config)
}

impl Connector for KafkaConnector {
    fn start(&self) -> Result<Position> {
        let client = Client::connect(self)?;
        let partitions = client.partitions()?;
        let offsets = match self.startup {
            Startup::Earliest => client.watermarks(&partitions)?.into_iter().map(|(low, _)| low).collect(),
            Startup::Latest => client.watermarks(&partitions)?.into_iter().map(|(_, high)| high).collect(),
            Startup::Timestamp(millis) => client.offsets_at(&partitions, millis)?,
        };
        Ok(position(&partitions, offsets))
    }

    fn end(&self) -> Result<Option<Position>> {
        let client = Client::connect(self)?;
        let partitions = client.partitions()?;
        let offsets = client.watermarks(&partitions)?.into_iter().map(|(_, high)| high).collect();
        Ok(Some(position(&partitions, offsets)))
    }

    fn is_endless(&self) -> bool {
        true
    }

    fn open(&self, from: &Position, until: Option<&Position>, _projection: &[usize]) -> Result<Box<dyn Reader>> {
        Ok(Box::new(reader::KafkaReader::new(self, from, until)?))
    }
}

fn position(partitions: &[i32], offsets: Vec<i64>) -> Position {
    let pair = |(partition, offset): (&i32, i64)| (partition.to_string(), offset.max(0) as u64);
    Position(partitions.iter().zip(offsets).map(pair).collect())
}
