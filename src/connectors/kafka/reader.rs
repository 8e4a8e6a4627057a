//! One pass over a topic: every partition from its offset on, as messages come.
//!
//! librdkafka reconnects by itself and goes on where it was. While no broker can be reached, every poll is an error;
//! the first sign of life ends that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::KafkaConnector;
use super::client::Client;
use crate::connectors::{Chunk, Payload, Polled, RECORD_BYTES_MAX, Reader};
use crate::error::{Error, Result, SqlState};
use crate::types::{BadRecord, Position, Records};

const DISCOVERY_INTERVAL: Duration = Duration::from_secs(30);
/// A question in between polls may not hold up the stream, nor its end, for longer.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(1);
const CHUNK_RECORD_COUNT_MAX: usize = 8192;
const CHUNK_BYTES_MAX: usize = 4 << 20;

pub struct KafkaReader {
    client: Client,
    from: Position,
    until: Option<Position>,
    partitions: BTreeMap<i32, Partition>,
    /// Chunks that wait to be handed out: a poll gathers from several partitions at once.
    ready: Vec<Chunk>,
    /// Payload bytes since the last chunks.
    gathered_bytes: usize,
    discovered_at: Option<Instant>,
    /// A broker has answered since the last trouble.
    is_alive: bool,
}

struct Partition {
    /// The next offset to be taken.
    next: u64,
    /// Exclusive.
    until: Option<u64>,
    is_done: bool,
    records: Records,
    bad_records: Vec<BadRecord>,
    /// `next` has moved since the last chunk.
    is_moved: bool,
}

impl KafkaReader {
    /// Touches no broker: trouble shows in the first poll.
    pub fn new(connector: &KafkaConnector, from: &Position, until: Option<&Position>) -> Result<KafkaReader> {
        let client = Client::connect(connector)?;
        let mut reader = KafkaReader {
            client,
            from: from.clone(),
            until: until.cloned(),
            partitions: BTreeMap::new(),
            ready: vec![],
            gathered_bytes: 0,
            discovered_at: None,
            is_alive: false,
        };
        let named = from.0.keys().chain(until.iter().flat_map(|until| until.0.keys()));
        let numbers: Vec<i32> = named.filter_map(|name| name.parse().ok()).collect();
        reader.assign(&numbers)?;
        Ok(reader)
    }

    /// Starts reading partitions that are not read yet.
    fn assign(&mut self, numbers: &[i32]) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for &number in numbers {
            let name = number.to_string();
            let next = self.from.get(&name).unwrap_or(0);
            let until = self.until.as_ref().map(|until| until.get(&name).unwrap_or(0));
            if self.partitions.contains_key(&number) {
                continue;
            }
            let is_done = until.is_some_and(|until| next >= until);
            if !is_done {
                // A partition that came later has been ours from its first message on, whatever that message's offset.
                let offset = if self.from.get(&name).is_some() { offset(next) } else { Offset::Beginning };
                list.add_partition_offset(&self.client.topic, number, offset).map_err(|e| self.client.failure(&e))?;
            }
            let partition =
                Partition { next, until, is_done, records: Records::default(), bad_records: vec![], is_moved: false };
            self.partitions.insert(number, partition);
        }
        if list.count() > 0 {
            self.client.consumer.incremental_assign(&list).map_err(|e| self.client.failure(&e))?;
        }
        Ok(())
    }

    /// Finds new partitions; also the question whether a broker is there at all.
    fn discover(&mut self) -> Result<()> {
        let numbers = self.client.partitions_within(DISCOVERY_TIMEOUT)?;
        self.discovered_at = Some(Instant::now());
        self.is_alive = true;
        if self.until.is_none() {
            self.assign(&numbers)?;
        }
        Ok(())
    }

    fn take(&mut self, timeout: Duration) -> Result<bool> {
        let name = |number: i32| number.to_string();
        match self.client.consumer.poll(timeout) {
            None => return Ok(false),
            Some(Ok(message)) => {
                self.is_alive = true;
                let (number, offset) = (message.partition(), message.offset().max(0) as u64);
                let Some(partition) = self.partitions.get_mut(&number) else { return Ok(true) };
                // Behind the end, or (after a jump) before what is taken already.
                if partition.is_done || offset < partition.next {
                    return Ok(true);
                }
                if partition.until.is_some_and(|until| offset >= until) {
                    partition.finish();
                    return Ok(true);
                }
                match message.payload() {
                    None => {
                        let key = message.key().unwrap_or_default();
                        partition.bad_records.push(BadRecord::new(&name(number), offset, "null payload", key));
                    }
                    Some(payload) if payload.len() > RECORD_BYTES_MAX => {
                        let reason = format!("record is longer than {} MiB", RECORD_BYTES_MAX >> 20);
                        partition.bad_records.push(BadRecord::new(&name(number), offset, reason, payload));
                    }
                    Some(payload) => {
                        self.gathered_bytes += payload.len();
                        partition.records.push(payload, offset);
                    }
                }
                partition.advance(offset + 1);
            }
            Some(Err(KafkaError::PartitionEOF(number))) => {
                self.is_alive = true;
                // Transaction markers and compacted messages have offsets too, but never come.
                let at = self.position(number);
                if let (Some(partition), Some(at)) = (self.partitions.get_mut(&number), at) {
                    partition.advance(at);
                }
            }
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => self.mend_offsets()?,
                // Of one broker among several, or passing by itself: the next answer tells.
                Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve) => self.is_alive = false,
                Some(RDKafkaErrorCode::GroupAuthorizationFailed | RDKafkaErrorCode::CoordinatorNotAvailable) => {}
                _ => {
                    self.is_alive = false;
                    return Err(self.client.failure(&error));
                }
            },
        }
        Ok(true)
    }

    /// Where librdkafka stands in a partition.
    fn position(&self, number: i32) -> Option<u64> {
        let list = self.client.consumer.position().ok()?;
        match list.find_partition(&self.client.topic, number)?.offset() {
            Offset::Offset(offset) => u64::try_from(offset).ok(),
            _ => None,
        }
    }

    /// Messages that the broker has thrown away are told as a bad record, and reading goes on behind them. An offset
    /// behind the end means that the topic was made anew: 55000.
    fn mend_offsets(&mut self) -> Result<()> {
        let numbers: Vec<i32> = self.partitions.iter().filter(|(_, p)| !p.is_done).map(|(&n, _)| n).collect();
        for (&number, (low, high)) in numbers.iter().zip(self.client.watermarks(&numbers)?) {
            let (low, high) = (low.max(0) as u64, high.max(0) as u64);
            let Some(partition) = self.partitions.get_mut(&number) else { continue };
            if partition.next > high {
                let (topic, next) = (&self.client.topic, partition.next);
                let message = format!("partition {number} of topic \"{topic}\" ends at {high}, before offset {next}");
                return Err(Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                    .with_detail("the topic was deleted and made anew, or its broker lost data")
                    .with_hint("drop the source and create it again"));
            }
            if partition.next < low {
                let reason = format!("offsets {} to {} are no longer in the topic", partition.next, low - 1);
                let name = number.to_string();
                partition.bad_records.push(BadRecord::new(&name, partition.next, reason, b""));
                partition.advance(low);
                let mut list = TopicPartitionList::new();
                list.add_partition(&self.client.topic, number);
                // Whether it was still assigned depends on how far librdkafka got; either way it is anew now.
                drop(self.client.consumer.incremental_unassign(&list));
                if !partition.is_done {
                    let mut list = TopicPartitionList::new();
                    let added = list.add_partition_offset(&self.client.topic, number, offset(low));
                    added
                        .and_then(|()| self.client.consumer.incremental_assign(&list))
                        .map_err(|e| self.client.failure(&e))?;
                }
            }
        }
        Ok(())
    }

    /// What the partitions have gathered becomes chunks.
    fn gather(&mut self) {
        self.gathered_bytes = 0;
        for (number, partition) in &mut self.partitions {
            if std::mem::take(&mut partition.is_moved) {
                self.ready.push(Chunk {
                    partition: number.to_string(),
                    payload: Payload::Records(std::mem::take(&mut partition.records)),
                    bad_records: std::mem::take(&mut partition.bad_records),
                    next_offset: partition.next,
                    positions: None,
                });
            }
        }
    }
}

impl Partition {
    fn advance(&mut self, next: u64) {
        if next > self.next {
            self.next = next;
            self.is_moved = true;
        }
        if self.until.is_some_and(|until| self.next >= until) {
            self.is_done = true;
        }
    }

    /// A message behind `until` shows that nothing before it is missing.
    fn finish(&mut self) {
        if let Some(until) = self.until {
            self.advance(until);
        }
    }
}

fn offset(next: u64) -> Offset {
    Offset::Offset(i64::try_from(next).unwrap_or(i64::MAX))
}

impl Reader for KafkaReader {
    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        let deadline = Instant::now() + timeout;
        if let Some(chunk) = self.ready.pop() {
            return Ok(Polled::Chunk(chunk));
        }
        loop {
            if self.partitions.values().all(|p| p.is_done) && self.until.is_some() {
                return Ok(Polled::Finished);
            }
            // Wait for the first message; then take what is there, and do not wait for more.
            let is_one = match self.take(deadline.saturating_duration_since(Instant::now())) {
                Ok(is_one) => is_one,
                Err(error) => {
                    self.gather();
                    return self.ready.pop().map(Polled::Chunk).ok_or(error);
                }
            };
            let mut event_count = 0;
            while is_one && event_count < CHUNK_RECORD_COUNT_MAX && self.gathered_bytes < CHUNK_BYTES_MAX {
                event_count += 1;
                if !self.take(Duration::ZERO)? {
                    break;
                }
            }
            self.gather();
            if let Some(chunk) = self.ready.pop() {
                return Ok(Polled::Chunk(chunk));
            }
            if !self.is_alive || self.discovered_at.is_none_or(|at| at.elapsed() >= DISCOVERY_INTERVAL) {
                self.discover()?;
            }
            if Instant::now() >= deadline {
                return Ok(Polled::Idle);
            }
        }
    }

    fn partitions(&self) -> Vec<String> {
        self.partitions.keys().map(i32::to_string).collect()
    }
}

#[cfg(test)]
mod tests;
