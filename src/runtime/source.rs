//! One thread for each pass over a source: fetch, decode, pace, and queue the rows for the sequencer.
//!
//! ```text
//! connector ──chunk──▶ decoder ──rows──▶ pace ──▶ queue (bounded by rows and bytes) ──try_next──▶ sequencer
//!     ▲                                              │ full: the thread waits, and with it the outside system
//!     └── reopened at the last queued offsets after trouble, 100 ms … 10 s apart
//! ```
//!
//! The way to use it: [`SourceTask::new`] from the source's definition, [`spawn`] with a `wake` that tells the sequencer
//! to look, then [`SourceHandle::try_next`] until it is empty, with as many rows as an epoch has room for. `SourceBatch::next_offset` goes into the committed
//! [`Position`] together with the batch's rows; a task that starts at that position goes on behind them, without a gap
//! and without a repetition. Event times go to a [`SourceWatermark`] in the order of the events.
//!
//! A task with `until` reads what is past: it is neither paced nor does it follow, and it ends with
//! [`SourceEvent::Finished`]. One without ends only if the source does.

mod arrivals;
mod idle;
mod pace;
mod queue;
mod rate_limit;
mod thread;
mod watermark;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::compute::max;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};

use crate::catalog::{SourceDefinition, WatermarkDefinition};
use crate::connectors::{Connector, Framing, Options, Reading, Replay, connect};
use crate::dataflow::source_columns::SourceColumns;
use crate::error::{Error, Result, SqlState};
use crate::formats::{Decoder, decoder};
use crate::types::{BadRecord, Position, RelationId};
use queue::Queue;

pub use arrivals::ArrivalLog;
pub use rate_limit::RateLimit;
pub use watermark::{SourceWatermark, arrival_columns};

/// One pass over a source, yet to be started.
pub struct SourceTask {
    pub id: RelationId,
    connector: Arc<dyn Connector>,
    /// `None` where the connector makes rows itself.
    decoder: Option<Box<dyn Decoder>>,
    columns: ReadColumns,
    /// Where it starts, inclusive.
    from: Position,
    /// Where it ends, exclusive.
    until: Option<Position>,
    replay: Option<Replay>,
    idle_timeout: Option<Duration>,
    /// How far a row's time may be ahead of the clock on the wall.
    ahead_max: Option<Duration>,
    /// When rows were read first.
    arrivals: Arc<ArrivalLog>,
    /// As it is where the task starts, and what rows tell of it.
    watermark: Option<(SourceWatermark, WatermarkDefinition)>,
}

/// What is read is what was asked for, and the times that are needed besides.
struct ReadColumns {
    made: SourceColumns,
    /// The asked-for columns' places in `made`.
    output: Vec<usize>,
    /// Which of the two columns that tell of a row's arrival are asked for besides; they come last.
    arrival: [bool; 2],
    /// The watermark column's place in `made`.
    event_time: Option<usize>,
    /// The replay column's place in `made`.
    replay_time: Option<usize>,
}

impl ReadColumns {
    /// Columns behind the source's `width` own are those of the arrival.
    fn new(
        schema: &SchemaRef,
        definition: &SourceDefinition,
        projection: &[usize],
        replay_time: Option<usize>,
    ) -> Result<ReadColumns> {
        let width = schema.fields().len();
        let event_time = definition.watermark.as_ref().map(|watermark| watermark.column);
        let arrival = [width, width + 1].map(|column| projection.contains(&column));
        let projection: Vec<usize> = projection.iter().copied().filter(|&column| column < width).collect();
        let wanted = projection.iter().copied().chain(event_time).chain(replay_time);
        let wanted = wanted.chain(definition.telling_columns(width));
        let made = SourceColumns::new(schema, definition, wanted)?;
        let place = |column: usize| made.place(column);
        Ok(ReadColumns {
            output: projection.iter().map(|&column| place(column)).collect(),
            arrival,
            event_time: event_time.map(place),
            replay_time: replay_time.map(place),
            made,
        })
    }
}

impl SourceTask {
    /// `schema`: all columns of the source; `projection`: those that batches shall hold, in this order. Touches nothing
    /// outside. Fails as [`connect`] and [`decoder`] do.
    pub fn new(
        id: RelationId,
        schema: &SchemaRef,
        definition: &SourceDefinition,
        projection: &[usize],
        from: Position,
        until: Option<Position>,
    ) -> Result<SourceTask> {
        let options = Options::new(definition.options.clone());
        let framing = Framing::of(&definition.encode, &definition.encode_options)?;
        let read_schema = definition.read_schema(schema);
        let connector = connect(&options, &read_schema, framing)?;
        let reading = Reading::parse(&options, schema)?;
        // The past has happened: it is read as fast as it can be.
        let replay = reading.replay.filter(|_| until.is_none());
        let replay_time = match &replay {
            Some(Replay::EventTime { column, .. }) => Some(*column),
            _ => None,
        };
        let event_time = definition.watermark.as_ref().map(|watermark| watermark.column);
        if let Some(field) = event_time.map(|column| schema.field(column))
            && !matches!(field.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Int64)
        {
            let message = format!("watermark column \"{}\" is no timestamp", field.name());
            return Err(Error::new(SqlState::DATATYPE_MISMATCH, message)
                .with_hint("WATERMARK FOR takes a timestamp, a timestamptz, or a bigint of milliseconds"));
        }
        let columns = ReadColumns::new(schema, definition, projection, replay_time)?;
        let makes_rows = connector.native_schema().is_some() || framing == Framing::Parquet;
        let decoder = match makes_rows {
            true => None,
            false => Some(decoder(&definition.encode, &definition.encode_options, &read_schema, &columns.made.read)?),
        };
        let (idle_timeout, ahead_max) = (reading.idle_timeout, reading.ahead_max);
        if ahead_max.is_some() && definition.watermark.is_none() {
            let message = "watermark.max.ahead needs a watermark";
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
                .with_hint("declare one among the columns: WATERMARK FOR ts AS ts - INTERVAL '5 seconds'"));
        }
        let watermark = definition.watermark.clone().map(|definition| (SourceWatermark::new(None), definition));
        let connector = Arc::from(connector);
        let arrivals = Arc::default();
        Ok(SourceTask {
            id,
            connector,
            decoder,
            columns,
            from,
            until,
            replay,
            idle_timeout,
            ahead_max,
            arrivals,
            watermark,
        })
    }

    /// Rows that are known there have come before.
    pub fn with_arrivals(self, arrivals: Arc<ArrivalLog>) -> SourceTask {
        SourceTask { arrivals, ..self }
    }

    /// Goes on from a watermark: rows are told of it as their arrival.
    pub fn with_watermark(self, watermark: Option<SourceWatermark>) -> SourceTask {
        let definition = self.watermark;
        SourceTask { watermark: definition.map(|(fresh, definition)| (watermark.unwrap_or(fresh), definition)), ..self }
    }
}

/// What `CREATE SOURCE` asks before it writes anything down: whether all options fit each other and the columns, and
/// whether the outside is there. The position goes into [`SourceDefinition::start`]. May wait for a broker, 5 seconds
/// at most for each question.
pub fn check(schema: &SchemaRef, definition: &SourceDefinition) -> Result<Position> {
    let all: Vec<usize> = (0..schema.fields().len()).collect();
    let task = SourceTask::new(RelationId::FIRST, schema, definition, &all, Position::default(), None)?;
    task.connector.start()
}

/// Rows of one partition, in its order.
#[derive(Debug)]
pub struct SourceBatch {
    /// The task's projection, ascending; may have no rows, where only the offset moved.
    pub rows: RecordBatch,
    pub bad_records: Vec<BadRecord>,
    pub partition: String,
    /// The partition's next offset once this batch is taken.
    pub next_offset: u64,
    /// Of each row; what a part of the batch ends at.
    positions: ScalarBuffer<u64>,
    /// The watermark that each row tells, in microseconds since 1970.
    told_us: Option<Int64Array>,
}

impl SourceBatch {
    /// The largest watermark that a row tells, in microseconds since 1970.
    pub fn told_max_us(&self) -> Option<i64> {
        self.told_us.as_ref().and_then(max)
    }

    /// Takes off the first rows, fewer than there are, with the bad records among them.
    fn split(&mut self, row_count: usize) -> SourceBatch {
        let rest = self.rows.num_rows() - row_count;
        let cut = self.positions[row_count];
        let part = SourceBatch {
            rows: self.rows.slice(0, row_count),
            bad_records: take_before(&mut self.bad_records, cut),
            partition: self.partition.clone(),
            next_offset: cut,
            positions: self.positions.slice(0, row_count),
            told_us: self.told_us.as_ref().map(|told| told.slice(0, row_count)),
        };
        self.rows = self.rows.slice(row_count, rest);
        self.positions = self.positions.slice(row_count, rest);
        self.told_us = self.told_us.as_ref().map(|told| told.slice(row_count, rest));
        part
    }
}

/// Those of the records, which are in their order, that lie before a position.
fn take_before(bad_records: &mut Vec<BadRecord>, cut: u64) -> Vec<BadRecord> {
    let count = bad_records.partition_point(|bad| bad.position < cut);
    bad_records.drain(..count).collect()
}

#[derive(Debug)]
pub enum SourceEvent {
    /// Partitions that were not named before, before any of their rows: see [`SourceWatermark::add_partition`].
    Partitions(Vec<String>),
    Batch(SourceBatch),
    /// Nothing came from the partition for `watermark.idle.timeout`, or its file is done. Rows end this by themselves.
    Idle {
        partition: String,
    },
    /// The outside system is in trouble: told once for each trouble. The thread goes on trying.
    Trouble(Error),
    /// The trouble is over.
    Recovered,
    /// The end of the source or `until` was reached; nothing comes after this.
    Finished,
}

/// Starts the thread. `wake` is called, from that thread, after something was queued: it must not block.
/// `queue_row_count_max` bounds the rows that are read ahead (a single larger batch is let through).
pub fn spawn(task: SourceTask, wake: Arc<dyn Fn() + Send + Sync>, queue_row_count_max: usize) -> Result<SourceHandle> {
    let queue = Arc::new(Queue::new(queue_row_count_max));
    let its_queue = queue.clone();
    let thread = std::thread::Builder::new()
        .name(format!("source-{}", task.id.0))
        .spawn(move || thread::run(task, &its_queue, wake.as_ref()))
        .map_err(|e| Error::internal(format!("could not start a source thread: {e}")))?;
    Ok(SourceHandle { queue, rest: None, thread: Some(thread) })
}

/// The sequencer's end of a running task. Dropping it stops the thread, without waiting for it.
pub struct SourceHandle {
    queue: Arc<Queue>,
    /// What is left of a batch that had more rows than there was room for.
    rest: Option<SourceBatch>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A thread that is held up in an outside call for longer is left to end by itself.
const STOP_TIMEOUT: Duration = Duration::from_millis(100);

impl SourceHandle {
    /// The next event, if there is one now that has no more rows than that; a longer batch is cut. Its order is the
    /// reader's: where no row is wanted, what comes behind the next row stays where it is.
    pub fn try_next(&mut self, row_count_max: usize) -> Option<SourceEvent> {
        let event = self.rest.take().map(SourceEvent::Batch).or_else(|| self.queue.pop())?;
        match event {
            SourceEvent::Batch(mut batch) if batch.rows.num_rows() > row_count_max => {
                let part = (row_count_max > 0).then(|| SourceEvent::Batch(batch.split(row_count_max)));
                self.rest = Some(batch);
                part
            }
            event => Some(event),
        }
    }

    /// Rows are there that were not taken, for want of room.
    pub fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// Stops the thread and waits for it, a tenth of a second at most. What is queued is dropped.
    pub fn stop(mut self) {
        self.queue.stop();
        if let Some(thread) = self.thread.take()
            && self.queue.wait_until_ended(STOP_TIMEOUT)
        {
            // Its panic was told as trouble; here there is nobody left to tell.
            drop(thread.join());
        }
    }
}

impl Drop for SourceHandle {
    fn drop(&mut self) {
        self.queue.stop();
    }
}

#[cfg(test)]
mod tests;
