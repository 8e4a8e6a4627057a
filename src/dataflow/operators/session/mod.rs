//! Δ(session windows)(A): the sessions that ΔA touches are worked out anew ([`sessions`]), and of those that have changed
//! each row is taken back with the old bounds and shown with the new ones.
//!
//! A partition keeps its rows in the order of time, and its sessions by their start. What is shown for a row follows
//! from the session that spans its time, so it is not kept with the row; a row within a session that stays as it is
//! moves nobody else. Rows taken back before they came wait among the others, and stand for none.
//!
//! Where the time follows a watermark, a session is let go with its rows once the watermark has reached its end. A row that
//! is in time may yet begin before that end, but never before the last row. It is not taken into that session: what is over
//! stays as it is. This is told from the row alone, by the watermark when it arrived, which bounds how far it reaches back
//! ([`sessions`]). So the rows that are kept make the same sessions in whatever order they come, all at once or one by one.

mod durable;
mod sessions;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::is_not_null;
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, RowParser, SortField};

use super::only;
use crate::dataflow::event_time::{times_of, times_us};
use crate::dataflow::key_index::KeyIndex;
use crate::dataflow::ordered_rows::OrderedRows;
use crate::dataflow::row_order::{Change, add_up};
use crate::dataflow::{Durable, EpochContext, Operator, StateSize};
use crate::error::{Error, Result};
use crate::plan::{Arrival, TimeColumn, session};
use crate::types::Delta;
use sessions::{Changes, Session, Sessions};

pub struct SessionOperator {
    partition: Vec<usize>,
    time_column: usize,
    gap_us: i64,
    index: KeyIndex,
    /// By partition number.
    partitions: Vec<Partition>,
    converter: RowConverter,
    parser: RowParser,
    closing: Option<Closing>,
    log: durable::RowLog,
    /// The input's columns, without the arrival, then `window_start` and `window_end`.
    schema: SchemaRef,
}

/// Which sessions are over.
struct Closing {
    /// What is older than it is closed to is the last row of such a session.
    time: TimeColumn,
    arrival: Option<Arrival>,
    /// The last time of each session that is there, and its partition.
    by_last: BTreeSet<(i64, u32)>,
}

/// A row's key is its time and how far it reaches back, in bytes of the same order, and then the whole row.
#[derive(Default)]
struct Partition {
    rows: OrderedRows<()>,
    sessions: Sessions,
}

const TIME_LENGTH: usize = size_of::<i64>();
/// Before the row.
const PREFIX_LENGTH: usize = 2 * TIME_LENGTH;

fn time_key(time_us: i64) -> [u8; TIME_LENGTH] {
    (time_us ^ i64::MIN).to_be_bytes()
}

fn time_of(key: &[u8]) -> i64 {
    let bytes = key.first_chunk().expect("a key begins with its time");
    i64::from_be_bytes(*bytes) ^ i64::MIN
}

fn reach_of(key: &[u8]) -> i64 {
    time_of(&key[TIME_LENGTH..])
}

/// A row that is there more often than before, or less.
struct Changed<'a> {
    key: &'a [u8],
    before: u64,
    after: u64,
}

impl Changed<'_> {
    fn time_us(&self) -> i64 {
        time_of(self.key)
    }
}

/// Whole rows with their sessions, and how often they come or go.
#[derive(Default)]
struct Output {
    rows: Vec<Box<[u8]>>,
    starts_us: Vec<i64>,
    ends_us: Vec<i64>,
    weights: Vec<i64>,
}

impl SessionOperator {
    /// The time column is a timestamp in microseconds. 0A000 for types that have no order.
    pub fn new(
        input: &Schema,
        partition: Vec<usize>,
        time_column: usize,
        gap_us: i64,
        schema: SchemaRef,
    ) -> Result<SessionOperator> {
        assert!(gap_us > 0, "sessions have a positive gap");
        let index = KeyIndex::new(partition.iter().map(|&column| input.field(column).data_type().clone()).collect())?;
        let shown = input.fields().iter().take(schema.fields().len() - 2);
        let fields: Vec<SortField> = shown.map(|f| SortField::new(f.data_type().clone())).collect();
        if !RowConverter::supports_fields(&fields) {
            return Err(Error::unsupported("sessions over rows of this type", "cast the column to text"));
        }
        let converter = RowConverter::new(fields)?;
        let parser = converter.parser();
        let (partitions, closing, log) = (vec![], None, durable::RowLog::default());
        Ok(SessionOperator {
            partition,
            time_column,
            gap_us,
            index,
            partitions,
            converter,
            parser,
            closing,
            log,
            schema,
        })
    }

    /// The state of sessions that are over goes, those whose last row is older than `time` is closed to; what was shown of
    /// them stays. Late rows must have been taken out before. `arrival`: behind the columns that come out.
    pub fn with_closing(self, time: TimeColumn, arrival: Option<Arrival>) -> SessionOperator {
        SessionOperator { closing: Some(Closing { time, arrival, by_last: BTreeSet::new() }), ..self }
    }

    /// The changes that the deltas come to: ascending by partition and key, each once. Those that come to zero are among
    /// them, so that every partition that got a number is named.
    fn changes(&mut self, deltas: &[Delta]) -> Result<Vec<Change>> {
        let mut changes: Vec<Change> = vec![];
        for delta in deltas {
            let delta = &match delta.column(self.time_column).null_count() {
                0 => delta.clone(),
                _ => delta.filter(&is_not_null(delta.column(self.time_column))?)?,
            };
            let reached = match &self.closing {
                Some(closing) => closing.closed_to(delta),
                None => vec![None; delta.row_count()],
            };
            let gap_us = self.gap_us;
            self.key_rows(delta, &mut changes, |row, time_us| {
                let reach_us = reached[row].map_or(i64::MIN, |bound| bound.min(time_us));
                reach_us.max(time_us.saturating_sub(gap_us - 1))
            })?;
        }
        add_up(&mut changes);
        Ok(changes)
    }

    /// The rows of a delta, each under its key. `reach` says of a row and its time how far back it reaches.
    fn key_rows(&mut self, delta: &Delta, changes: &mut Vec<Change>, reach: impl Fn(usize, i64) -> i64) -> Result<()> {
        let key: Vec<ArrayRef> = self.partition.iter().map(|&column| delta.column(column).clone()).collect();
        let numbers = self.index.intern(&key, delta.row_count())?;
        let times = times_us(delta.column(self.time_column))?;
        let rows = self.converter.convert_columns(&delta.batch().columns()[..self.schema.fields().len() - 2])?;
        for (row, &partition) in numbers.iter().enumerate() {
            let time_us = times.value(row);
            let key = [&time_key(time_us), &time_key(reach(row, time_us)), rows.row(row).data()].concat();
            changes.push(Change { partition, key, sort_length: TIME_LENGTH, weight: delta.weight(row) });
        }
        Ok(())
    }

    /// Takes in the changes of an epoch, each partition's together.
    fn advance(&mut self, changes: &[Change]) -> Output {
        self.partitions.resize_with(self.index.capacity(), Partition::default);
        let mut output = Output::default();
        let mut emptied = vec![];
        for changes in changes.chunk_by(|a, b| a.partition == b.partition) {
            let number = changes[0].partition;
            let partition = &mut self.partitions[number as usize];
            let moved = partition.step(changes, self.gap_us, &mut output);
            if let Some(closing) = &mut self.closing {
                closing.file(number, &moved);
            }
            if partition.rows.is_empty() {
                *partition = Partition::default();
                emptied.push(number);
            }
        }
        self.index.remove(&emptied);
        output
    }

    fn finish(&self, output: Output) -> Result<Vec<Delta>> {
        if output.rows.is_empty() {
            return Ok(vec![]);
        }
        let mut columns = self.converter.convert_rows(output.rows.iter().map(|row| self.parser.parse(row)))?;
        let window_type = self.schema.field(columns.len()).data_type();
        for bounds in [output.starts_us, output.ends_us] {
            columns.push(times_of(Int64Array::from(bounds), window_type)?);
        }
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        let all_new = output.weights.iter().all(|&weight| weight == 1);
        Ok(vec![if all_new { Delta::insert(batch) } else { Delta::new(batch, output.weights) }])
    }
}

impl Operator for SessionOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let changes = self.changes(&only(inputs))?;
        changes.iter().for_each(|change| self.log.push(&change.key, change.weight));
        let output = self.advance(&changes);
        let output = self.finish(output)?;
        self.close(context);
        Ok(output)
    }

    fn follows_time(&self) -> bool {
        self.closing.is_some()
    }

    fn state_size(&self) -> StateSize {
        let session_count = self.closing.as_ref().map_or(0, |closing| closing.by_last.len());
        let (mut row_count, mut bytes) = (0, self.index.memory_bytes() + session_count * size_of::<(i64, u32)>());
        for partition in &self.partitions {
            row_count += partition.rows.entry_count() as u64;
            bytes += size_of::<Partition>() + partition.rows.memory_bytes() + partition.sessions.memory_bytes();
        }
        StateSize { row_count, bytes: bytes as u64 }
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        Some(self)
    }
}

impl SessionOperator {
    /// Lets go of the sessions that are over, with their rows.
    fn close(&mut self, context: &EpochContext) {
        let Some(closing) = &mut self.closing else { return };
        let Some(bound) = closing.time.closed_at(&context.watermarks) else {
            return;
        };
        let open = closing.by_last.split_off(&(bound, 0));
        let mut emptied = vec![];
        for (last_us, number) in std::mem::replace(&mut closing.by_last, open) {
            let partition = &mut self.partitions[number as usize];
            partition.sessions.forget(last_us);
            // Whatever lies before it in its partition was over before.
            let end = partition.rows.peers_end(&time_key(last_us));
            if self.log.is_on() {
                let over = partition.rows.range(partition.rows.start(), end);
                over.for_each(|entry| self.log.push(&entry.key, -entry.weight));
            }
            partition.rows.truncate_start(end);
            if partition.rows.is_empty() {
                *partition = Partition::default();
                emptied.push(number);
            }
        }
        self.index.remove(&emptied);
    }
}

impl Closing {
    /// For each row, what its time was closed to when it arrived: it reaches nothing before.
    fn closed_to(&self, delta: &Delta) -> Vec<Option<i64>> {
        let Some(arrival) = self.arrival else { return vec![None; delta.row_count()] };
        let arrivals = delta.column(arrival.column).as_primitive::<Int64Type>();
        arrivals.iter().map(|arrived| self.time.closed_below(&|_| arrived)).collect()
    }

    fn file(&mut self, partition: u32, moved: &Changes) {
        for session in moved.gone() {
            self.by_last.remove(&(session.last_us, partition));
        }
        self.by_last.extend(moved.made().map(|session| (session.last_us, partition)));
    }
}

impl Partition {
    /// Which sessions have changed; the rows come out.
    fn step(&mut self, changes: &[Change], gap_us: i64, output: &mut Output) -> Changes {
        let mut changed = Vec::with_capacity(changes.len());
        for change in changes.iter().filter(|change| change.weight != 0) {
            let added = self.rows.add(&change.key, change.sort_length, change.weight);
            let (before, after) = (added.before.max(0) as u64, added.after.max(0) as u64);
            // What stays taken back more often than it came moves nothing.
            if before != after {
                changed.push(Changed { key: &change.key, before, after });
            }
        }
        let mut moved = Changes::default();
        self.move_sessions(&changed, &mut moved);
        moved.finish();

        for row in &changed {
            let time_us = row.time_us();
            let now = self.sessions.at(time_us);
            let old = moved.gone_at(time_us).or(now);
            if row.before > 0 && row.after > 0 && old == now {
                output.push(row.key, now, gap_us, row.after as i64 - row.before as i64);
                continue;
            }
            output.push(row.key, old, gap_us, -(row.before as i64));
            output.push(row.key, now, gap_us, row.after as i64);
        }
        // The others of the sessions that are new.
        let mut changed = changed.iter().peekable();
        for session in moved.made() {
            let start = self.rows.peers_start(&time_key(session.start_us));
            let end = self.rows.peers_end(&time_key(session.last_us));
            for entry in self.rows.range(start, end).filter(|entry| entry.row_count() > 0) {
                while changed.next_if(|row| row.key < &*entry.key).is_some() {}
                if changed.peek().is_some_and(|row| row.key == &*entry.key) {
                    continue;
                }
                let count = entry.row_count() as i64;
                output.push(&entry.key, moved.gone_at(time_of(&entry.key)), gap_us, -count);
                output.push(&entry.key, Some(session), gap_us, count);
            }
        }
        moved
    }

    /// Takes new times into the sessions, then those out at which no row is left. A time whose rows reach further than before,
    /// or less far, is both.
    fn move_sessions(&mut self, changed: &[Changed], moved: &mut Changes) {
        let mut less = vec![];
        for rows in changed.chunk_by(|a, b| a.key[..TIME_LENGTH] == b.key[..TIME_LENGTH]) {
            let time_us = rows[0].time_us();
            let (before, after) = (self.reached_from(time_us, rows), self.reach_from(time_us));
            match (before, after) {
                (before, Some(after)) if before.is_none_or(|before| after < before) => {
                    self.sessions.add(time_us, after, moved);
                }
                (Some(before), after) if after != Some(before) => less.push((time_us, before)),
                _ => {}
            }
        }
        for (time_us, reach_us) in less {
            self.shrink(time_us, reach_us, moved);
        }
    }

    /// The time reached so far, and does so no more.
    fn shrink(&mut self, time_us: i64, reach_us: i64, moved: &mut Changes) {
        // It fell out with its neighbour.
        let Some(session) = self.sessions.at(time_us) else { return };
        let (start, end) = (self.rows.start(), self.rows.end());
        let place = self.rows.peers_start(&time_key(time_us));
        let before = self.rows.range(start, place).rev().find(|entry| entry.row_count() > 0);
        let after = self.rows.range(place, end).find(|entry| entry.row_count() > 0);
        let [before, after] = [before, after].map(|entry| entry.map(|entry| time_of(&entry.key)));
        // Its neighbours hold the session together, as far as it did.
        if let Some(before) = before.filter(|&time| time >= session.start_us)
            && let Some(after) = after.filter(|&time| time <= session.last_us)
            && self.reach_from(after).is_some_and(|reach| reach <= before)
            && self.reach_from(before).is_some_and(|reach| reach <= reach_us)
        {
            return;
        }
        let start = self.rows.peers_start(&time_key(session.start_us));
        let end = self.rows.peers_end(&time_key(session.last_us));
        let left = self.rows.range(start, end).filter(|entry| entry.row_count() > 0);
        let mut times: Vec<(i64, i64)> = left.map(|entry| (time_of(&entry.key), reach_of(&entry.key))).collect();
        // Of each time, the first reaches furthest.
        times.dedup_by_key(|(time_us, _)| *time_us);
        self.sessions.remake(session, &times, moved);
    }

    /// How far the rows of this time reach; `None` if there are none.
    fn reach_from(&self, time_us: i64) -> Option<i64> {
        let key = time_key(time_us);
        let mut peers = self.rows.range(self.rows.peers_start(&key), self.rows.peers_end(&key));
        peers.find(|entry| entry.row_count() > 0).map(|entry| reach_of(&entry.key))
    }

    /// How far they reached before the step that has changed these of them.
    fn reached_from(&self, time_us: i64, changed: &[Changed]) -> Option<i64> {
        let key = time_key(time_us);
        let mut peers = self.rows.range(self.rows.peers_start(&key), self.rows.peers_end(&key));
        let is_old = |key: &[u8]| changed.binary_search_by(|row| row.key.cmp(key)).is_err();
        let stayed = peers.find(|entry| entry.row_count() > 0 && is_old(&entry.key)).map(|entry| reach_of(&entry.key));
        let moved = changed.iter().find(|row| row.before > 0).map(|row| reach_of(row.key));
        stayed.into_iter().chain(moved).min()
    }
}

impl Output {
    /// Nothing for no weight; otherwise the row has a session.
    fn push(&mut self, key: &[u8], session: Option<Session>, gap_us: i64, weight: i64) {
        if weight == 0 {
            return;
        }
        let session = session.expect("a row that is there is in a session");
        self.rows.push(key[PREFIX_LENGTH..].into());
        self.starts_us.push(session.start_us);
        self.ends_us.push(session::end(session.last_us, gap_us));
        self.weights.push(weight);
    }
}
