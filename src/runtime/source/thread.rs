//! What the source thread does: poll, decode, pace, queue; and on trouble wait, reopen, go on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, max};
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};

use super::idle::IdleClock;
use super::pace::Pace;
use super::queue::Queue;
use super::watermark::arrival_columns;
use super::{SourceBatch, SourceEvent, SourceTask, take_before};
use crate::connectors::{Chunk, Payload, Polled, Reader};
use crate::dataflow::event_time::{times_us, told_us};
use crate::dataflow::row_text;
use crate::error::{Error, Result};
use crate::types::BadRecord;

/// Bounds the time until a stop is seen.
const POLL_TIMEOUT: Duration = Duration::from_millis(50);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Paced rows that are due within this time come together.
const PACE_GRAIN: Duration = Duration::from_millis(5);

/// Marks the queue as ended however the thread ends.
struct EndOfThread<'q>(&'q Queue, &'q (dyn Fn() + Send + Sync));

impl Drop for EndOfThread<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.push_now(SourceEvent::Trouble(Error::internal("the source thread has panicked")));
            self.1();
        }
        self.0.end();
    }
}

pub fn run(task: SourceTask, queue: &Queue, wake: &(dyn Fn() + Send + Sync)) {
    let _end = EndOfThread(queue, wake);
    let pace = task.replay.as_ref().map(Pace::new);
    let idle = IdleClock::new(task.idle_timeout);
    let mut run = Run { task, queue, wake, pace, idle, started: Instant::now() };
    run.run();
}

struct Run<'q> {
    /// `from` moves with what is queued.
    task: SourceTask,
    queue: &'q Queue,
    wake: &'q (dyn Fn() + Send + Sync),
    pace: Option<Pace>,
    idle: IdleClock,
    started: Instant,
}

/// Why a step cannot go on.
enum Halt {
    /// The queue was stopped.
    Stopped,
    Trouble(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Halt {
        Halt::Trouble(error)
    }
}

impl Run<'_> {
    fn run(&mut self) {
        let (mut backoff, mut told): (Duration, Option<Error>) = (BACKOFF_MIN, None);
        let mut reader: Option<Box<dyn Reader>> = None;
        while !self.queue.is_stopped() {
            let polled = self.poll(&mut reader);
            let error = match polled {
                Ok(polled) => {
                    backoff = BACKOFF_MIN;
                    if told.take().is_some() && self.push(SourceEvent::Recovered).is_err() {
                        return;
                    }
                    match self.handle(polled, reader.as_deref()) {
                        Ok(true) => continue,
                        Ok(false) | Err(Halt::Stopped) => return,
                        Err(Halt::Trouble(error)) => error,
                    }
                }
                Err(error) => error,
            };
            tracing::debug!("source {}: {error}", self.task.id.0);
            let is_new = told.as_ref().is_none_or(|told| (told.code, &told.message) != (error.code, &error.message));
            if is_new && self.push(SourceEvent::Trouble(error.clone())).is_err() {
                return;
            }
            told = Some(error);
            // A reader is not asked to survive its own trouble.
            reader = None;
            if !self.queue.sleep(backoff) {
                return;
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Opens the reader if there is none.
    fn poll(&mut self, reader: &mut Option<Box<dyn Reader>>) -> Result<Polled> {
        let reader = match reader {
            Some(reader) => reader,
            None => {
                let task = &self.task;
                reader.insert(task.connector.open(&task.from, task.until.as_ref(), &task.columns.made.read)?)
            }
        };
        let start = Instant::now();
        let polled = reader.poll(POLL_TIMEOUT);
        self.idle.wait(start.elapsed());
        polled
    }

    /// `false` at the end.
    fn handle(&mut self, polled: Polled, reader: Option<&dyn Reader>) -> Result<bool, Halt> {
        let live = reader.map_or_else(Vec::new, Reader::partitions);
        let strangers = self.idle.meet(&live);
        if !strangers.is_empty() {
            self.push(SourceEvent::Partitions(strangers))?;
        }
        let is_finished = matches!(polled, Polled::Finished);
        if let Polled::Chunk(chunk) = polled {
            self.idle.hear(&chunk.partition);
            let batch = self.decode(chunk)?;
            self.release(batch)?;
        }
        for partition in self.idle.idle(&live) {
            self.push(SourceEvent::Idle { partition })?;
        }
        if is_finished {
            self.push(SourceEvent::Finished)?;
        }
        Ok(!is_finished)
    }

    fn decode(&mut self, chunk: Chunk) -> Result<PartBatch> {
        let Chunk { partition, payload, mut bad_records, next_offset, positions: told_positions } = chunk;
        let (rows, mut positions) = match (payload, &mut self.task.decoder) {
            (Payload::Records(records), Some(decoder)) => {
                let decoded = decoder.decode(&partition, &records)?;
                bad_records.extend(decoded.bad_records);
                (decoded.batch, records.positions)
            }
            (Payload::Rows(rows), _) => {
                // Consecutive offsets, the bad ones among them.
                let count = (rows.num_rows() + bad_records.len()) as u64;
                let consecutive = || (next_offset.saturating_sub(count)..next_offset).collect();
                (rows, told_positions.unwrap_or_else(consecutive))
            }
            (Payload::Records(_), None) => return Err(Error::internal("records of a source that has no decoder")),
        };
        bad_records.sort_by_key(|bad| bad.position);
        if !bad_records.is_empty() {
            let bad: BTreeSet<u64> = bad_records.iter().map(|bad| bad.position).collect();
            positions.retain(|position| !bad.contains(position));
        }
        let made = &self.task.columns.made;
        let arrived =
            made.takes_arrival().then(|| self.task.arrivals.instants_us(&partition, &positions, next_offset, now_us()));
        let (rows, failed) = made.complete(rows, arrived)?;
        let mut batch = PartBatch { partition, rows, positions, bad_records, next_offset };
        if !failed.is_empty() {
            let mut keep = vec![true; batch.rows.num_rows()];
            for (row, error) in failed {
                batch.tell_bad(row, format!("a generated column failed: {error}"));
                keep[row] = false;
            }
            batch.keep(&BooleanArray::from(keep))?;
        }
        self.put_aside(&mut batch)?;
        Ok(batch)
    }

    /// Rows whose time is too far ahead become bad records: they would end every window.
    fn put_aside(&self, batch: &mut PartBatch) -> Result<()> {
        let (Some(ahead_max), Some(place)) = (self.task.ahead_max, self.task.columns.event_time) else { return Ok(()) };
        let bound = now_us().saturating_add(i64::try_from(ahead_max.as_micros()).unwrap_or(i64::MAX));
        let times = times_us(batch.rows.column(place))?;
        if max(&times).is_none_or(|latest| latest <= bound) {
            return Ok(());
        }
        let keep: BooleanArray =
            (0..times.len()).map(|row| Some(times.is_null(row) || times.value(row) <= bound)).collect();
        for row in (0..times.len()).filter(|&row| !keep.value(row)) {
            batch.tell_bad(row, format!("its time is more than {ahead_max:?} ahead of the clock"));
        }
        batch.keep(&keep)
    }

    /// Queues a batch, whole or, where it is paced, part by part as its rows are due.
    fn release(&mut self, mut batch: PartBatch) -> Result<(), Halt> {
        if self.pace.is_some() {
            while batch.rows.num_rows() > 0 {
                let (due_count, wait) = self.due(&batch.rows);
                if due_count == batch.rows.num_rows() {
                    break;
                }
                if due_count > 0 {
                    let part = batch.split(due_count);
                    self.queue_batch(part)?;
                }
                if !self.queue.sleep(wait.max(PACE_GRAIN)) {
                    return Err(Halt::Stopped);
                }
            }
        }
        self.queue_batch(batch)
    }

    fn due(&mut self, rows: &RecordBatch) -> (usize, Duration) {
        let Some(pace) = &mut self.pace else { return (rows.num_rows(), Duration::ZERO) };
        let times =
            self.task.columns.replay_time.map(|place| rows.column(place).as_primitive::<TimestampMicrosecondType>());
        let time_us = |row: usize| times.filter(|times| times.is_valid(row)).map(|times| times.value(row));
        pace.take(rows.num_rows(), time_us, self.started.elapsed())
    }

    fn queue_batch(&mut self, mut batch: PartBatch) -> Result<(), Halt> {
        let columns = &self.task.columns;
        let mut rows = batch.rows.project(&columns.output).map_err(Error::from)?;
        let mut told_us_of_rows = None;
        if let (Some((watermark, definition)), Some(place)) = (&mut self.task.watermark, columns.event_time) {
            let (told, failed) = told_us(definition, batch.rows.column(place))?;
            // Such a row is one as any other, but for the watermark.
            for (row, error) in failed {
                batch.tell_bad(row, format!("the row is kept, but tells nothing of the watermark: {error}"));
            }
            if columns.arrival.contains(&true) {
                let arrival = arrival_columns(Some(watermark), &batch.partition, &told, now_us());
                rows = with_arrival(&rows, arrival, columns.arrival)?;
            }
            watermark.observe(&batch.partition, rows.num_rows(), max(&told));
            told_us_of_rows = Some(told);
        }
        self.task.from.0.insert(batch.partition.clone(), batch.next_offset);
        let PartBatch { partition, positions, bad_records, next_offset, .. } = batch;
        let (positions, told_us) = (positions.into(), told_us_of_rows);
        self.push(SourceEvent::Batch(SourceBatch { rows, bad_records, partition, next_offset, positions, told_us }))
    }

    fn push(&mut self, event: SourceEvent) -> Result<(), Halt> {
        // The thread keeps the watermark as the sequencer will have it, which sees the same events.
        match (&event, &mut self.task.watermark) {
            (SourceEvent::Partitions(partitions), Some((watermark, _))) => {
                partitions.iter().for_each(|partition| watermark.add_partition(partition));
            }
            (SourceEvent::Idle { partition }, Some((watermark, _))) => watermark.set_idle(partition),
            _ => {}
        }
        if !self.queue.push(event) {
            return Err(Halt::Stopped);
        }
        (self.wake)();
        Ok(())
    }
}

/// The rows with the wanted columns of their arrival behind.
fn with_arrival(rows: &RecordBatch, told: [ArrayRef; 2], wanted: [bool; 2]) -> Result<RecordBatch> {
    let mut fields: Vec<Arc<Field>> = rows.schema().fields().iter().cloned().collect();
    let mut columns = rows.columns().to_vec();
    for ((name, column), _) in ["watermark", "arrived_at"].into_iter().zip(told).zip(wanted).filter(|(_, is)| *is) {
        fields.push(Arc::new(Field::new(name, DataType::Int64, true)));
        columns.push(column);
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn now_us() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

/// A decoded chunk, or what is left of it.
struct PartBatch {
    partition: String,
    rows: RecordBatch,
    /// Of each row: where it can be cut, and which row is bad.
    positions: Vec<u64>,
    bad_records: Vec<BadRecord>,
    next_offset: u64,
}

impl PartBatch {
    fn tell_bad(&mut self, row: usize, reason: String) {
        let payload = row_text(&self.rows, row);
        let bad = BadRecord::new(&self.partition, self.positions[row], reason, payload.as_bytes());
        let place = self.bad_records.partition_point(|other| other.position <= bad.position);
        self.bad_records.insert(place, bad);
    }

    /// Rows that are not kept are bad records.
    fn keep(&mut self, keep: &BooleanArray) -> Result<()> {
        let mut row = 0;
        self.positions.retain(|_| {
            row += 1;
            keep.value(row - 1)
        });
        self.rows = filter_record_batch(&self.rows, keep)?;
        Ok(())
    }

    /// Takes off the first rows, fewer than there are, with the bad records among them.
    fn split(&mut self, row_count: usize) -> PartBatch {
        let cut = self.positions[row_count];
        let part = PartBatch {
            partition: self.partition.clone(),
            rows: self.rows.slice(0, row_count),
            positions: self.positions[..row_count].to_vec(),
            bad_records: take_before(&mut self.bad_records, cut),
            next_offset: cut,
        };
        self.rows = self.rows.slice(row_count, self.rows.num_rows() - row_count);
        self.positions.drain(..row_count);
        part
    }
}
