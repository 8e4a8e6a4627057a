//! Questions to the brokers: which partitions, which offsets. And what rdkafka's errors mean to a user.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::KafkaConnector;
use crate::error::{Error, Result, SqlState};

/// How long a question may take.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps librdkafka's last word about a connection, for messages.
#[derive(Clone, Default)]
pub struct Listener {
    last_failure: Arc<Mutex<Option<String>>>,
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!("librdkafka {level:?} {facility}: {message}");
        if facility == "FAIL" {
            *self.last_failure.lock() = Some(telling_part(message).to_string());
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
    }
}

/// `[thrd:…]: host:9092/bootstrap: Connect to ipv4#… failed: Connection refused (after 0ms in state CONNECT, …)`
/// without its frame.
fn telling_part(message: &str) -> &str {
    let message = message.split(" (after ").next().unwrap_or(message);
    let message = message.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(message, |(_, m)| m);
    match message.split_once(": ") {
        Some((broker, rest)) if !broker.contains(' ') => rest,
        _ => message,
    }
}

impl ConsumerContext for Listener {}

pub struct Client {
    pub consumer: BaseConsumer<Listener>,
    pub topic: String,
    pub brokers: String,
}

impl Client {
    /// Makes the client; connections come with the first question.
    pub fn connect(connector: &KafkaConnector) -> Result<Client> {
        let consumer = connector.config.create_with_context(Listener::default()).map_err(|error| {
            Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("invalid kafka properties: {error}"))
        })?;
        Ok(Client { consumer, topic: connector.topic.clone(), brokers: connector.brokers.clone() })
    }

    /// Ascending. 42704 if the topic does not exist, 08006 if no broker answers.
    pub fn partitions(&self) -> Result<Vec<i32>> {
        self.partitions_within(ANSWER_TIMEOUT).map_err(|error| {
            self.listen();
            match error.code {
                // Once more, with what was heard.
                SqlState::CONNECTION_FAILURE => self.away(error.detail),
                _ => error,
            }
        })
    }

    pub fn partitions_within(&self, timeout: Duration) -> Result<Vec<i32>> {
        let answer = self.consumer.fetch_metadata(Some(&self.topic), timeout).map_err(|error| self.failure(&error))?;
        let topic = answer.topics().iter().find(|topic| topic.name() == self.topic);
        let error = topic.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from);
        let partitions: Vec<i32> = topic.map_or(vec![], |t| t.partitions().iter().map(|p| p.id()).collect());
        match error {
            Some(RDKafkaErrorCode::LeaderNotAvailable) if !partitions.is_empty() => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                return Err(self.no_topic());
            }
            Some(other) => return Err(self.failure(&KafkaError::MetadataFetch(other))),
            None if partitions.is_empty() => return Err(self.no_topic()),
            None => {}
        }
        let mut partitions = partitions;
        partitions.sort_unstable();
        Ok(partitions)
    }

    /// Logs stand in the event queue until somebody polls. Only for a client to which no messages come.
    fn listen(&self) {
        const EVENT_COUNT_MAX: usize = 16;
        for _ in 0..EVENT_COUNT_MAX {
            if !matches!(self.consumer.poll(Duration::ZERO), Some(Err(_))) {
                break;
            }
        }
    }

    /// The first offset and the one after the last, of each partition.
    pub fn watermarks(&self, partitions: &[i32]) -> Result<Vec<(i64, i64)>> {
        let ask = |&partition: &i32| {
            self.consumer.fetch_watermarks(&self.topic, partition, ANSWER_TIMEOUT).map_err(|error| self.failure(&error))
        };
        partitions.iter().map(ask).collect()
    }

    /// The first offset at or after a time; the end where there is none.
    pub fn offsets_at(&self, partitions: &[i32], millis: i64) -> Result<Vec<i64>> {
        let mut times = TopicPartitionList::new();
        for &partition in partitions {
            times
                .add_partition_offset(&self.topic, partition, Offset::Offset(millis.max(0)))
                .map_err(|error| self.failure(&error))?;
        }
        let found = self.consumer.offsets_for_times(times, ANSWER_TIMEOUT).map_err(|error| self.failure(&error))?;
        let ends = self.watermarks(partitions)?;
        let offset = |(&partition, (_, end)): (&i32, (i64, i64))| match found
            .find_partition(&self.topic, partition)
            .map(|element| element.offset())
        {
            Some(Offset::Offset(offset)) => offset,
            _ => end,
        };
        Ok(partitions.iter().zip(ends).map(offset).collect())
    }

    fn no_topic(&self) -> Error {
        Error::new(SqlState::UNDEFINED_OBJECT, format!("topic \"{}\" does not exist", self.topic))
            .with_detail(format!("asked broker {}", self.brokers))
            .with_hint("create the topic, or check its name and the broker's address")
    }

    /// 08006 naming the brokers, for whatever keeps us from reading.
    pub fn failure(&self, error: &KafkaError) -> Error {
        use RDKafkaErrorCode::*;
        match error.rdkafka_error_code() {
            Some(UnknownTopicOrPartition | UnknownTopic) => self.no_topic(),
            Some(TopicAuthorizationFailed | GroupAuthorizationFailed | ClusterAuthorizationFailed) => {
                let message = format!("not allowed to read topic \"{}\" of broker {}", self.topic, self.brokers);
                Error::new(SqlState::INVALID_AUTHORIZATION, message).with_detail(error.to_string())
            }
            code => self.away(Some(code.map_or_else(|| error.to_string(), |code| code.to_string()))),
        }
    }

    /// What librdkafka has said tells more than its error code.
    fn away(&self, detail: Option<String>) -> Error {
        let message = format!("could not reach kafka broker {}", self.brokers);
        let heard = self.consumer.context().last_failure.lock().clone();
        let error = Error::new(SqlState::CONNECTION_FAILURE, message)
            .with_hint("check that the broker runs and that its advertised listeners can be reached from here");
        match heard.or(detail) {
            Some(detail) => error.with_detail(detail),
            None => error,
        }
    }
}
