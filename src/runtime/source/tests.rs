//! Whole tasks over real files, a generator, and a connector that fails on purpose.

use std::collections::BTreeMap;
use std::time::Instant;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, Schema};
use parking_lot::{Condvar, Mutex};

use super::*;
use crate::catalog::WatermarkDefinition;
use crate::connectors::{Chunk, Payload, Polled, Reader};
use crate::types::{PgType, Records};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![PgType::Int8.field("id", true), PgType::Timestamp.field("ts", true)]))
}

fn definition(options: &[(&str, &str)], encode: &str, has_watermark: bool) -> SourceDefinition {
    SourceDefinition {
        is_paused: false,
        options: options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        format: "PLAIN".into(),
        encode: encode.into(),
        encode_options: BTreeMap::new(),
        watermark: has_watermark.then(|| WatermarkDefinition {
            column: 1,
            expression: "ts".into(),
            delay_us: Some(0),
            planned: None,
        }),
        generated: vec![],
        start: Position::default(),
    }
}

/// Wakes a test that waits.
#[derive(Default)]
struct Bell(Mutex<u64>, Condvar);

struct Running {
    handle: SourceHandle,
    bell: Arc<Bell>,
}

fn start(task: SourceTask, queue_row_count_max: usize) -> Result<Running> {
    let bell = Arc::new(Bell::default());
    let rung = bell.clone();
    let wake = move || {
        *rung.0.lock() += 1;
        rung.1.notify_all();
    };
    Ok(Running { handle: spawn(task, Arc::new(wake), queue_row_count_max)?, bell })
}

impl Running {
    fn next(&mut self) -> SourceEvent {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let mut rings = self.bell.0.lock();
            if let Some(event) = self.handle.try_next(usize::MAX) {
                return event;
            }
            assert!(!self.bell.1.wait_until(&mut rings, deadline).timed_out(), "no event for 20 s");
        }
    }

    /// Ids of all rows until the source is finished, with bad records and other events as text.
    fn drain(&mut self) -> (Vec<i64>, Vec<String>, Position) {
        let (mut ids, mut others, mut position) = (vec![], vec![], Position::default());
        loop {
            match self.next() {
                SourceEvent::Batch(batch) => {
                    ids.extend(batch.rows.column(0).as_primitive::<Int64Type>().values());
                    others.extend(batch.bad_records.iter().map(|bad| format!("bad {}", bad.position)));
                    position.0.insert(batch.partition, batch.next_offset);
                }
                SourceEvent::Finished => return (ids, others, position),
                SourceEvent::Partitions(names) => others.push(format!("partitions {}", names.join(" "))),
                SourceEvent::Idle { partition } => others.push(format!("idle {partition}")),
                SourceEvent::Trouble(error) => others.push(format!("trouble {error}")),
                SourceEvent::Recovered => others.push("recovered".into()),
            }
        }
    }
}

#[test]
fn a_file_from_start_to_end() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a.json").display().to_string();
    std::fs::write(&path, "{\"id\":1,\"ts\":5}\nnonsense\n{\"id\":2,\"ts\":3}\n")?;
    let definition = definition(&[("connector", "files"), ("path", &path)], "JSON", true);
    let task = SourceTask::new(RelationId::FIRST, &schema(), &definition, &[0], Position::default(), None)?;
    let mut running = start(task, 1000)?;
    let mut events = vec![];
    loop {
        match running.next() {
            SourceEvent::Batch(batch) => {
                assert_eq!((batch.rows.num_columns(), batch.told_max_us()), (1, Some(5000)));
                assert_eq!((batch.next_offset, batch.bad_records[0].position), (41, 16));
                events.push("batch");
            }
            SourceEvent::Partitions(_) => events.push("partitions"),
            SourceEvent::Idle { .. } => events.push("idle"),
            SourceEvent::Finished => break,
            other => panic!("unexpected: {other:?}"),
        }
    }
    assert_eq!(events, ["partitions", "batch", "idle"]);
    running.handle.stop();
    Ok(())
}

#[test]
fn a_full_queue_holds_the_generator_back() -> Outcome {
    let options = [("connector", "nexmark"), ("nexmark.table.type", "Bid"), ("nexmark.event.num", "500000")];
    let bids: SchemaRef = Arc::new(Schema::new(vec![PgType::Int8.field("auction", true)]));
    let task = SourceTask::new(
        RelationId::FIRST,
        &bids,
        &definition(&options, "NATIVE", false),
        &[0],
        Position::default(),
        None,
    )?;
    let mut running = start(task, 20_000)?;
    assert!(matches!(running.next(), SourceEvent::Partitions(names) if names == ["0"]));
    std::thread::sleep(Duration::from_millis(100));
    assert!(running.handle.queue.row_count() <= 20_000);
    let (ids, _, position) = running.drain();
    assert_eq!((ids.len(), position.get("0")), (460_000, Some(500_000)));
    Ok(())
}

#[test]
fn stopping_is_quick_even_when_the_queue_is_full() -> Outcome {
    for more in [("nexmark.event.rate", "1"), ("nexmark.seed", "1")] {
        let options = [("connector", "nexmark"), ("nexmark.table.type", "Bid"), more];
        let bids: SchemaRef = Arc::new(Schema::new(vec![PgType::Int8.field("auction", true)]));
        let definition = definition(&options, "NATIVE", false);
        let task = SourceTask::new(RelationId::FIRST, &bids, &definition, &[0], Position::default(), None)?;
        let mut running = start(task, 10_000)?;
        running.next();
        let begin = Instant::now();
        running.handle.stop();
        assert!(begin.elapsed() < Duration::from_millis(150), "{:?}", begin.elapsed());
    }
    Ok(())
}

#[test]
fn a_paced_batch_is_cut_where_it_can_be_resumed() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a.json").display().to_string();
    let lines = "{\"id\":1,\"ts\":0}\n{\"id\":2,\"ts\":0}\nbad\n{\"id\":3,\"ts\":60000}\n{\"id\":4,\"ts\":3600000}\n";
    std::fs::write(&path, lines)?;
    let options =
        [("connector", "files"), ("path", path.as_str()), ("replay.time_column", "ts"), ("replay.speed", "600")];
    let definition = definition(&options, "JSON", false);
    let task = SourceTask::new(RelationId::FIRST, &schema(), &definition, &[0], Position::default(), None)?;
    let mut running = start(task, 1000)?;
    let (mut ids, mut position, begin) = (vec![], Position::default(), Instant::now());
    while ids.len() < 3 {
        if let SourceEvent::Batch(batch) = running.next() {
            ids.extend(batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec());
            position.0.insert(batch.partition, batch.next_offset);
        }
    }
    assert!(begin.elapsed() >= Duration::from_millis(95), "a minute at 600 minutes a minute is 100 ms");
    running.handle.stop();
    assert_eq!((ids, position.get("a.json")), (vec![1, 2, 3], Some(lines.rfind("{").ok_or("a line")? as u64)));
    // What is past is not paced.
    let until = Position(BTreeMap::from([("a.json".to_string(), lines.len() as u64)]));
    let task = SourceTask::new(RelationId::FIRST, &schema(), &definition, &[0], position, Some(until))?;
    assert_eq!(start(task, 1000)?.drain().0, [4]);
    Ok(())
}

#[test]
fn a_batch_is_cut_where_there_is_no_room_for_more() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a.json").display().to_string();
    let lines = "{\"id\":1,\"ts\":5}\n{\"id\":2,\"ts\":9}\nbad\n{\"id\":3,\"ts\":7}\nworse\n{\"id\":4,\"ts\":8}\n{\"id\":5,\"ts\":6}\n";
    std::fs::write(&path, lines)?;
    let definition = definition(&[("connector", "files"), ("path", &path)], "JSON", true);
    let ids = |batch: &SourceBatch| batch.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
    for room in 1..=5 {
        // A reader for each part: it begins where the one before it ended.
        let (mut position, mut parts, mut bad_count, mut told) = (Position::default(), vec![], 0, vec![]);
        while parts.len() < 5usize.div_ceil(room) {
            let task = SourceTask::new(RelationId::FIRST, &schema(), &definition, &[0], position.clone(), None)?;
            let mut running = start(task, 1000)?;
            let deadline = Instant::now() + Duration::from_secs(20);
            let batch = loop {
                match running.handle.try_next(room) {
                    Some(SourceEvent::Batch(batch)) => break batch,
                    _ => assert!(Instant::now() < deadline, "no rows for 20 s"),
                }
            };
            let (bad_before, rest) = (batch.bad_records.len(), running.handle.has_rest());
            // Nothing overtakes the rest.
            assert!(running.handle.try_next(0).is_none() || !rest);
            bad_count += bad_before;
            told.extend(batch.told_max_us());
            parts.push(ids(&batch));
            position.0.insert(batch.partition, batch.next_offset);
            running.handle.stop();
        }
        assert_eq!(parts.concat(), [1, 2, 3, 4, 5], "{room} at a time");
        assert!(parts.iter().all(|part| part.len() <= room), "{parts:?}");
        assert_eq!((bad_count, position.get("a.json")), (2, Some(lines.len() as u64)));
        let told_max_us = |part: &Vec<i64>| part.iter().map(|id| [5, 9, 7, 8, 6][*id as usize - 1] * 1000).max();
        assert_eq!(told, parts.iter().filter_map(told_max_us).collect::<Vec<i64>>());
    }
    Ok(())
}

#[test]
fn definitions_are_checked() -> Outcome {
    let refuse = |options: &[(&str, &str)], encode: &str| match check(&schema(), &definition(options, encode, true)) {
        Err(error) => format!("{}: {}", error.code.0, error.message),
        Ok(position) => format!("fine: {position:?}"),
    };
    let files = ("connector", "files");
    assert_eq!(refuse(&[files], "JSON"), "22023: option \"path\" is missing");
    assert_eq!(refuse(&[files, ("path", "/x"), ("folow", "1")], "JSON"), "22023: unknown option \"folow\"");
    assert_eq!(refuse(&[files, ("path", "/x")], "NATIVE"), "0A000: ENCODE NATIVE is not supported");
    assert_eq!(refuse(&[files, ("path", "/no/x")], "JSON"), "58030: no file matches \"/no/x\"");
    assert_eq!(refuse(&[("connector", "pulsar")], "JSON"), "0A000: connector \"pulsar\" is not supported");
    let fields = schema().fields().iter().cloned().chain([PgType::Text.field("t", true)]).collect::<Vec<_>>();
    let with_text: SchemaRef = Arc::new(Schema::new(fields));
    let mut wrong = definition(&[files, ("path", "/x")], "JSON", true);
    wrong.watermark.iter_mut().for_each(|watermark| watermark.column = 2);
    assert_eq!(check(&with_text, &wrong).expect_err("no timestamp").code.0, "42804");
    Ok(())
}

/// Ten records `{"id":n}`; each reader yields three and then fails, until `failures_left` is used up.
#[derive(Debug)]
struct Flaky {
    failures_left: Arc<Mutex<u32>>,
}

struct FlakyReader {
    next: u64,
    count: u32,
    failures_left: Arc<Mutex<u32>>,
}

impl Connector for Flaky {
    fn is_endless(&self) -> bool {
        false
    }

    fn start(&self) -> Result<Position> {
        Ok(Position::default())
    }

    fn end(&self) -> Result<Option<Position>> {
        Ok(None)
    }

    fn open(&self, from: &Position, _until: Option<&Position>, _projection: &[usize]) -> Result<Box<dyn Reader>> {
        let next = from.get("p").unwrap_or(0);
        Ok(Box::new(FlakyReader { next, count: 0, failures_left: self.failures_left.clone() }))
    }
}

impl Reader for FlakyReader {
    fn poll(&mut self, _timeout: Duration) -> Result<Polled> {
        if self.next == 10 {
            return Ok(Polled::Finished);
        }
        let mut failures_left = self.failures_left.lock();
        if *failures_left > 0 && self.count == 3 {
            *failures_left -= 1;
            return Err(Error::internal("away"));
        }
        self.count += 1;
        let mut records = Records::default();
        records.push(format!("{{\"id\":{}}}", self.next).as_bytes(), self.next);
        self.next += 1;
        Ok(Polled::Chunk(Chunk {
            partition: "p".into(),
            payload: Payload::Records(records),
            bad_records: vec![],
            next_offset: self.next,
            positions: None,
        }))
    }

    fn partitions(&self) -> Vec<String> {
        vec!["p".into()]
    }
}

#[test]
fn trouble_is_told_and_nothing_is_lost_or_doubled() -> Outcome {
    let task = SourceTask {
        id: RelationId::FIRST,
        connector: Arc::new(Flaky { failures_left: Arc::new(Mutex::new(2)) }),
        decoder: Some(decoder("JSON", &BTreeMap::new(), &schema(), &[0])?),
        columns: ReadColumns::new(&schema(), &definition(&[], "JSON", false), &[0], None)?,
        from: Position::default(),
        until: None,
        replay: None,
        idle_timeout: None,
        ahead_max: None,
        arrivals: Arc::default(),
        watermark: None,
    };
    let (ids, others, position) = start(task, 1000)?.drain();
    assert_eq!(ids, (0..10).collect::<Vec<_>>());
    assert_eq!(others, ["partitions p", "trouble away", "recovered", "trouble away", "recovered"]);
    assert_eq!(position.get("p"), Some(10));
    Ok(())
}

/// By hand, with a broker of docker/kafka.sh and some messages in topic "clicks"; kill the broker and start it again
/// while this runs: `HW_KAFKA=127.0.0.1:9092 cargo test --lib -- --ignored a_real_broker --nocapture`.
#[test]
#[ignore = "needs a broker: see docker/kafka.sh"]
fn a_real_broker_may_be_killed() -> Outcome {
    let brokers = std::env::var("HW_KAFKA")?;
    let options = [
        ("connector", "kafka"),
        ("topic", "clicks"),
        ("properties.bootstrap.server", brokers.as_str()),
        ("properties.queued.max.messages.kbytes", "256"),
        ("properties.fetch.message.max.bytes", "65536"),
    ];
    let definition = definition(&options, "JSON", false);
    let from = check(&schema(), &definition)?;
    let task = SourceTask::new(RelationId::FIRST, &schema(), &definition, &[0], from, None)?;
    let end = task.connector.end()?.ok_or("a topic has an end")?;
    let mut running = start(task, 10_000)?;
    let (mut row_count, mut position) = (0, Position::default());
    while end.0.iter().any(|(name, end)| position.get(name).unwrap_or(0) < *end) {
        match running.next() {
            SourceEvent::Batch(batch) => {
                row_count += batch.rows.num_rows() + batch.bad_records.len();
                position.0.insert(batch.partition, batch.next_offset);
                std::thread::sleep(Duration::from_millis(100));
            }
            other => println!("after {row_count} rows: {other:?}"),
        }
    }
    println!("{row_count} rows up to {position:?}");
    assert_eq!(row_count as u64, end.0.values().sum::<u64>());
    running.handle.stop();
    Ok(())
}
