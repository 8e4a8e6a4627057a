//! Against librdkafka's mock cluster: brokers in this process that speak the protocol.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};

use super::*;
use crate::connectors::{Connector, Options};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;
type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster(topic: &str, partition_count: i32) -> std::result::Result<(Cluster, BaseProducer), KafkaError> {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic(topic, partition_count, 1)?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers());
    Ok((cluster, config.create()?))
}

fn connector(brokers: &str, topic: &str, more: &[(&str, &str)]) -> Result<KafkaConnector> {
    let mut values = BTreeMap::from([
        ("topic".to_string(), topic.to_string()),
        ("properties.bootstrap.server".to_string(), brokers.to_string()),
    ]);
    values.extend(more.iter().map(|(key, value)| (key.to_string(), value.to_string())));
    KafkaConnector::new(&Options::new(values))
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, texts: &[&str]) -> std::result::Result<(), KafkaError> {
    for text in texts {
        let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(text);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(Duration::from_secs(10))
}

/// Polls until `count` records have come, or the end: `partition:offset:text`, sorted.
fn read(reader: &mut dyn Reader, count: usize) -> Result<(Vec<String>, Position, Vec<BadRecord>)> {
    let (mut texts, mut position, mut bad) = (vec![], Position::default(), vec![]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while texts.len() + bad.len() < count && Instant::now() < deadline {
        match reader.poll(Duration::from_millis(100))? {
            Polled::Chunk(Chunk {
                partition, payload: Payload::Records(records), bad_records, next_offset, ..
            }) => {
                for index in 0..records.len() {
                    let text = String::from_utf8_lossy(records.get(index)).into_owned();
                    texts.push(format!("{partition}:{}:{text}", records.positions[index]));
                }
                position.0.insert(partition, next_offset);
                bad.extend(bad_records);
            }
            Polled::Chunk(_) | Polled::Idle => {}
            Polled::Finished => break,
        }
    }
    texts.sort();
    Ok((texts, position, bad))
}

#[test]
fn all_partitions_from_start_to_end() -> Outcome {
    let (cluster, producer) = cluster("t", 3)?;
    send(&producer, "t", 0, &["a", "b", "c"])?;
    send(&producer, "t", 2, &["d"])?;
    let kafka = connector(&cluster.bootstrap_servers(), "t", &[])?;
    let (start, end) = (kafka.start()?, kafka.end()?.ok_or("a topic has an end")?);
    assert_eq!(end.0.values().copied().collect::<Vec<_>>(), [3, 0, 1]);
    send(&producer, "t", 0, &["later"])?;
    let mut reader = kafka.open(&start, Some(&end), &[])?;
    let (texts, position, _) = read(reader.as_mut(), usize::MAX)?;
    assert_eq!(texts, ["0:0:a", "0:1:b", "0:2:c", "2:0:d"]);
    assert_eq!((position.get("0"), position.get("2")), (Some(3), Some(1)));
    // From the middle on, without an end.
    let middle = Position(BTreeMap::from([("0".into(), 2), ("1".into(), 0), ("2".into(), 1)]));
    let mut reader = kafka.open(&middle, None, &[])?;
    assert_eq!(read(reader.as_mut(), 2)?.0, ["0:2:c", "0:3:later"]);
    send(&producer, "t", 1, &["live"])?;
    assert_eq!(read(reader.as_mut(), 1)?.0, ["1:0:live"]);
    assert_eq!(reader.partitions(), ["0", "1", "2"]);
    Ok(())
}

#[test]
fn latest_begins_at_the_end() -> Outcome {
    let (cluster, producer) = cluster("t", 1)?;
    send(&producer, "t", 0, &["old"])?;
    let kafka = connector(&cluster.bootstrap_servers(), "t", &[("scan.startup.mode", "latest")])?;
    let start = kafka.start()?;
    assert_eq!(start.get("0"), Some(1));
    send(&producer, "t", 0, &["new"])?;
    assert_eq!(read(kafka.open(&start, None, &[])?.as_mut(), 1)?.0, ["0:1:new"]);
    Ok(())
}

#[test]
fn tombstones_are_bad_records_and_long_messages_are_not() -> Outcome {
    let cluster = MockCluster::new(1)?;
    cluster.create_topic("t", 1, 1)?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers()).set("message.max.bytes", "300000000");
    config.set("queue.buffering.max.kbytes", "1000000");
    let producer: BaseProducer = config.create()?;
    // The mock keeps 5 MiB of a partition.
    let long = "x".repeat(3 << 20);
    send(&producer, "t", 0, &["a"])?;
    producer.send(BaseRecord::<str, str>::to("t").partition(0).key("k")).map_err(|(error, _)| error)?;
    send(&producer, "t", 0, &[&long, "z"])?;
    let kafka = connector(&cluster.bootstrap_servers(), "t", &[])?;
    let (texts, position, bad) = read(kafka.open(&kafka.start()?, None, &[])?.as_mut(), 4)?;
    assert_eq!(texts.iter().map(String::len).collect::<Vec<_>>(), [5, 4 + (3 << 20), 5]);
    assert_eq!((bad.len(), bad[0].position, bad[0].reason.as_str()), (1, 1, "null payload"));
    assert_eq!(position.get("0"), Some(4));
    Ok(())
}

#[test]
fn messages_that_the_broker_threw_away_are_told() -> Outcome {
    let (cluster, producer) = cluster("t", 1)?;
    // The mock keeps 5 MiB of a partition.
    let long = "x".repeat(900 << 10);
    send(&producer, "t", 0, &[long.as_str(); 12])?;
    let kafka = connector(&cluster.bootstrap_servers(), "t", &[])?;
    let kept_from = kafka.start()?.get("0").ok_or("a partition")?;
    assert!(kept_from > 2, "the mock has thrown something away");
    let from = Position(BTreeMap::from([("0".to_string(), 2)]));
    let (texts, position, bad) = read(kafka.open(&from, kafka.end()?.as_ref(), &[])?.as_mut(), usize::MAX)?;
    assert_eq!((texts.len() as u64, position.get("0")), (12 - kept_from, Some(12)));
    let reason = format!("offsets 2 to {} are no longer in the topic", kept_from - 1);
    assert_eq!((bad.len(), bad[0].position, &bad[0].reason), (1, 2, &reason));
    // A position behind the end: the topic is another one.
    let from = Position(BTreeMap::from([("0".to_string(), 100)]));
    let error = read(kafka.open(&from, None, &[])?.as_mut(), 1).expect_err("there is no such offset");
    assert_eq!(error.message, "partition 0 of topic \"t\" ends at 12, before offset 100");
    Ok(())
}

#[test]
fn a_broker_that_goes_and_comes_loses_nothing() -> Outcome {
    let (cluster, producer) = cluster("t", 1)?;
    send(&producer, "t", 0, &["a"])?;
    let kafka = connector(&cluster.bootstrap_servers(), "t", &[])?;
    let mut reader = kafka.open(&kafka.start()?, None, &[])?;
    assert_eq!(read(reader.as_mut(), 1)?.0, ["0:0:a"]);
    cluster.broker_down(1)?;
    let error = (0..100).find_map(|_| reader.poll(Duration::from_millis(100)).err()).ok_or("it is told")?;
    assert_eq!(error.code, SqlState::CONNECTION_FAILURE, "{error}");
    assert!(reader.poll(Duration::from_millis(100)).is_err(), "while it lasts, each poll is an error");
    cluster.broker_up(1)?;
    send(&producer, "t", 0, &["b"])?;
    let mut texts = vec![];
    for _ in 0..100 {
        if let Ok((found, ..)) = read(reader.as_mut(), 1) {
            texts = found;
            break;
        }
    }
    assert_eq!(texts, ["0:1:b"]);
    Ok(())
}

#[test]
fn what_is_wrong_is_told_at_the_start() -> Outcome {
    let (cluster, _producer) = cluster("t", 1)?;
    let brokers = cluster.bootstrap_servers();
    let bare = |options: &[(&str, &str)]| connector(&brokers, "t", options).expect_err("refused").message;
    assert_eq!(bare(&[("scan.startup.mode", "soon")]), "invalid value \"soon\" for option \"scan.startup.mode\"");
    assert_eq!(
        bare(&[("properties.no.such", "1")]),
        "invalid option \"properties.no.such\": No such configuration property: \"no.such\""
    );
    assert!(bare(&[("properties.auto.offset.reset", "latest")]).starts_with("invalid value"));
    assert!(connector(&brokers, "a b", &[]).is_err());
    // A port that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let away = connector(&free.to_string(), "t", &[])?.start().expect_err("nobody is there");
    assert_eq!(
        (away.code, away.message),
        (SqlState::CONNECTION_FAILURE, format!("could not reach kafka broker {free}"))
    );
    let detail = away.detail.unwrap_or_default();
    assert!(away.hint.is_some() && detail.contains("refused"), "{detail}");
    Ok(())
}

/// By hand: `HW_KAFKA=127.0.0.1:9092 cargo test --lib -- --ignored a_real_broker`, with docker/kafka.sh and a topic
/// "clicks" that has some messages.
#[test]
#[ignore = "needs a broker: see docker/kafka.sh"]
fn a_real_broker() -> Outcome {
    let brokers = std::env::var("HW_KAFKA")?;
    let kafka = connector(&brokers, "clicks", &[])?;
    let (start, end) = (kafka.start()?, kafka.end()?.ok_or("a topic has an end")?);
    println!("from {start:?} to {end:?}");
    let begin = Instant::now();
    let mut reader = kafka.open(&start, Some(&end), &[])?;
    let (texts, position, bad) = read(reader.as_mut(), usize::MAX)?;
    println!("{} records, {} bad, in {:?}, up to {position:?}", texts.len(), bad.len(), begin.elapsed());
    println!("longest: {:?}", texts.iter().map(String::len).max());
    let expected: u64 = start.0.iter().map(|(name, from)| end.get(name).unwrap_or(0) - from).sum();
    assert_eq!(texts.len() + bad.len(), expected as usize);
    let missing = connector(&brokers, "no-such-topic", &[])?.start().expect_err("it is not there");
    assert_eq!(missing.message, "topic \"no-such-topic\" does not exist");
    Ok(())
}
