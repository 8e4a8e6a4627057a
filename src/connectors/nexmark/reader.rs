//! One pass over the generator: batches of rows, the partition that lags most first.

use std::time::{Duration, Instant};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};

use super::NexmarkConnector;
use super::columns::Column;
use super::model::{Kind, Model, ROUND};
use crate::connectors::{Chunk, Payload, Polled, Reader};
use crate::error::Result;
use crate::types::{BadRecord, Position};

const BATCH_ROW_COUNT_MAX: usize = 8192;

pub struct NexmarkReader {
    kind: Kind,
    model: Model,
    schema: SchemaRef,
    columns: Vec<(FieldRef, Column)>,
    splits: Vec<Split>,
    split_count: u64,
    pace: Option<Pace>,
    /// The events of the batch in the making.
    events: Vec<u64>,
}

struct Split {
    name: String,
    number: u64,
    /// The next event number; those below are taken.
    next: u64,
    /// Exclusive.
    end: u64,
}

/// Lets `events_per_s` pass from the event at which it starts.
struct Pace {
    start: Instant,
    first_event: u64,
    events_per_s: f64,
}

impl Pace {
    /// The first event that has not happened yet.
    fn now(&self) -> u64 {
        self.first_event.saturating_add((self.start.elapsed().as_secs_f64() * self.events_per_s) as u64)
    }

    fn until(&self, event: u64) -> Duration {
        let due = Duration::from_secs_f64((event.saturating_sub(self.first_event)) as f64 / self.events_per_s);
        due.saturating_sub(self.start.elapsed())
    }
}

impl NexmarkReader {
    /// A reader with an end is not paced: what it reads has happened before.
    pub fn new(
        connector: &NexmarkConnector,
        from: &Position,
        until: Option<&Position>,
        projection: &[usize],
    ) -> Result<NexmarkReader> {
        let split = |number: u64| {
            let name = number.to_string();
            let next = from.get(&name).unwrap_or(0);
            let own_end = connector.event_count.unwrap_or(u64::MAX);
            let end = until.map_or(own_end, |until| until.get(&name).unwrap_or(0).min(own_end));
            Split { name, number, next, end }
        };
        let splits: Vec<Split> = (0..connector.split_count).map(split).collect();
        let columns: Vec<_> = projection.iter().map(|&column| connector.fields[column].clone()).collect();
        let first_event = splits.iter().map(|split| split.next).min().unwrap_or(0);
        let pace = match (connector.event_rate, until) {
            (Some(events_per_s), None) => Some(Pace { start: Instant::now(), first_event, events_per_s }),
            _ => None,
        };
        Ok(NexmarkReader {
            kind: connector.kind,
            model: connector.model,
            schema: std::sync::Arc::new(Schema::new(
                columns.iter().map(|(field, _)| field.clone()).collect::<Vec<_>>(),
            )),
            columns,
            splits,
            split_count: connector.split_count,
            pace,
            events: Vec::with_capacity(BATCH_ROW_COUNT_MAX),
        })
    }

    /// Fills `events` with the split's next of our kind below `end`; where to go on.
    fn take_events(&mut self, split: usize, end: u64) -> u64 {
        let Split { number, next, .. } = self.splits[split];
        self.events.clear();
        let places = self.kind.places();
        let mut round = next / ROUND;
        // The split's first round that is not before `next`.
        round += (number + self.split_count - round % self.split_count) % self.split_count;
        loop {
            for place in places.clone() {
                let event = round * ROUND + place;
                if event < next {
                    continue;
                }
                if event >= end || self.events.len() == BATCH_ROW_COUNT_MAX {
                    return event.min(end);
                }
                self.events.push(event);
            }
            round += self.split_count;
        }
    }

    fn make(&self) -> Result<RecordBatch> {
        let arrays = self.columns.iter().map(|(field, column)| column.make(&self.model, field, &self.events)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.events.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?)
    }
}

impl Reader for NexmarkReader {
    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        let deadline = Instant::now() + timeout;
        loop {
            let open = |split: &&Split| split.next < split.end;
            let Some(index) = self.splits.iter().filter(open).min_by_key(|s| s.next).map(|s| s.number as usize) else {
                return Ok(Polled::Finished);
            };
            let happened = self.pace.as_ref().map_or(u64::MAX, Pace::now);
            let end = self.splits[index].end.min(happened);
            if self.splits[index].next < end {
                let next = self.take_events(index, end);
                self.splits[index].next = next;
                if self.events.is_empty() && next < self.splits[index].end {
                    continue;
                }
                return Ok(Polled::Chunk(Chunk {
                    partition: self.splits[index].name.clone(),
                    payload: Payload::Rows(self.make()?),
                    next_offset: next,
                    bad_records: Vec::<BadRecord>::new(),
                    positions: Some(self.events.clone()),
                }));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Polled::Idle);
            }
            // A millisecond's events at least come together.
            let due = self.pace.as_ref().map_or(Duration::ZERO, |pace| pace.until(self.splits[index].next));
            std::thread::sleep(due.max(Duration::from_millis(1)).min(left));
        }
    }

    fn partitions(&self) -> Vec<String> {
        self.splits.iter().map(|split| split.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::AsArray;
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::connectors::{Connector, Options};

    fn connector(kind: &str, more: &[(&str, &str)], schema: &SchemaRef) -> Result<NexmarkConnector> {
        let mut values = BTreeMap::from([("nexmark.table.type".to_string(), kind.to_string())]);
        values.extend(more.iter().map(|(key, value)| (key.to_string(), value.to_string())));
        NexmarkConnector::new(&Options::new(values), schema)
    }

    fn empty() -> SchemaRef {
        std::sync::Arc::new(Schema::empty())
    }

    /// The rows of each partition from `from` to `until`.
    fn read(
        connector: &NexmarkConnector,
        from: &Position,
        until: Option<&Position>,
    ) -> Result<BTreeMap<String, RecordBatch>> {
        let projection: Vec<usize> = (0..connector.fields.len()).collect();
        let mut reader = connector.open(from, until, &projection)?;
        let mut batches: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
        loop {
            match reader.poll(Duration::from_millis(10))? {
                Polled::Chunk(Chunk { partition, payload: Payload::Rows(rows), .. }) => {
                    batches.entry(partition).or_default().push(rows)
                }
                Polled::Chunk(_) | Polled::Idle => {}
                Polled::Finished => break,
            }
        }
        let whole =
            |(name, batches): (String, Vec<RecordBatch>)| Ok((name, concat_batches(&batches[0].schema(), &batches)?));
        batches.into_iter().map(whole).collect()
    }

    #[test]
    fn proportions_and_seed() -> Result<()> {
        for (kind, count) in [("Person", 2001), ("Auction", 6003), ("bid", 92_006)] {
            let one = connector(kind, &[("nexmark.event.num", "100010"), ("nexmark.seed", "1")], &empty())?;
            let rows = read(&one, &one.start()?, None)?;
            assert_eq!(rows["0"].num_rows(), count, "{kind}");
            assert_eq!(rows, read(&one, &one.start()?, one.end()?.as_ref())?);
            let other = connector(kind, &[("nexmark.event.num", "100010"), ("nexmark.seed", "2")], &empty())?;
            assert_ne!(rows, read(&other, &other.start()?, None)?);
        }
        Ok(())
    }

    #[test]
    fn any_span_can_be_made_again() -> Result<()> {
        let options = [("nexmark.event.num", "60000"), ("nexmark.split.num", "3")];
        let bids = connector("Bid", &options, &empty())?;
        let (whole, start) = (read(&bids, &bids.start()?, None)?, bids.start()?);
        assert_eq!(whole.values().map(RecordBatch::num_rows).sum::<usize>(), 55_200);
        for cut in [0u64, 1, 4, 49, 50, 51, 149, 150, 12_345, 59_999, 60_000] {
            let middle = Position(start.0.keys().map(|name| (name.clone(), cut)).collect());
            let (first, second) = (read(&bids, &start, Some(&middle))?, read(&bids, &middle, None)?);
            for (name, rows) in &whole {
                let parts: Vec<_> = [&first, &second].iter().filter_map(|part| part.get(name)).cloned().collect();
                assert_eq!(&concat_batches(&rows.schema(), &parts)?, rows, "cut at {cut}");
            }
        }
        Ok(())
    }

    #[test]
    fn splits_hold_the_same_rows_as_one() -> Result<()> {
        let ids = |splits: &str| -> Result<Vec<i64>> {
            let options = [("nexmark.event.num", "5000"), ("nexmark.split.num", splits)];
            let auctions = connector("Auction", &options, &empty())?;
            let mut ids: Vec<i64> = vec![];
            for rows in read(&auctions, &auctions.start()?, None)?.values() {
                ids.extend(rows.column(0).as_primitive::<Int64Type>().values());
            }
            ids.sort_unstable();
            Ok(ids)
        };
        assert_eq!(ids("1")?, ids("7")?);
        Ok(())
    }

    #[test]
    fn declared_columns_are_checked() -> Result<()> {
        use crate::types::PgType;
        let schema = |columns: &[(&str, PgType)]| -> SchemaRef {
            std::sync::Arc::new(Schema::new(columns.iter().map(|(n, t)| t.field(n, true)).collect::<Vec<_>>()))
        };
        let some = schema(&[("date_time", PgType::Timestamptz), ("price", PgType::Int8), ("url", PgType::Text)]);
        let bids = connector("Bid", &[("nexmark.event.num", "100")], &some)?;
        assert_eq!(read(&bids, &bids.start()?, None)?["0"].schema(), some);
        let wrong = connector("Bid", &[], &schema(&[("prize", PgType::Int8)])).expect_err("no such column");
        assert_eq!((wrong.code.0, wrong.hint.is_some_and(|h| h.contains("price bigint"))), ("42703", true));
        let wrong = connector("Bid", &[], &schema(&[("price", PgType::Int4)])).expect_err("another type");
        assert_eq!(wrong.code.0, "42804");
        assert_eq!(connector("Bidder", &[], &empty()).expect_err("no such table").code.0, "22023");
        assert_eq!(connector("Bid", &[("nexmark.event.num", "x")], &empty()).expect_err("no number").code.0, "22023");
        Ok(())
    }

    #[test]
    fn a_paced_reader_waits() -> Result<()> {
        let bids = connector("Bid", &[("nexmark.event.rate", "50000")], &empty())?;
        let mut reader = bids.open(&bids.start()?, None, &[0])?;
        let (start, mut count) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(200) {
            if let Polled::Chunk(Chunk { payload: Payload::Rows(rows), .. }) = reader.poll(Duration::from_millis(20))? {
                count += rows.num_rows();
            }
        }
        assert!(count > 2000 && count as f64 <= start.elapsed().as_secs_f64() * 46_000.0 + 46.0, "{count}");
        Ok(())
    }

    /// By hand: `cargo test --release --lib -- --ignored rows_per_second --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn rows_per_second() -> Result<()> {
        let bids = connector("Bid", &[("nexmark.event.num", "5000000")], &empty())?;
        for projection in [&[0, 1, 2, 5][..], &[0, 1, 2, 5, 6], &[0, 1, 5], &[2], &[3], &[4], &[6]] {
            let (mut reader, start, mut count) = (bids.open(&bids.start()?, None, projection)?, Instant::now(), 0);
            while let Polled::Chunk(Chunk { payload: Payload::Rows(rows), .. }) = reader.poll(Duration::ZERO)? {
                count += rows.num_rows();
            }
            println!("{projection:?}: {:.1} M rows/s", count as f64 / start.elapsed().as_secs_f64() / 1e6);
        }
        Ok(())
    }
}
