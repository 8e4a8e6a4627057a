//! Δ(session windows)(A): the sessions that ΔA touches are worked out anew ([`sessions`]), and of those that have changed
//! each row is taken back with the old bounds and shown with the new ones.
//!
//! A partition keeps its rows in the order of time, and its sessions by their start. What is shown for a row follows
//! from the session that spans its time, so it is not kept with the row; a row within a session that stays as it is
//! moves nobody else. Rows taken back before they came wait among the others, and stand for none.

mod sessions;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::{cast, is_not_null};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use arrow::row::{RowConverter, RowParser, SortField};

use super::only;
use crate::dataflow::key_index::KeyIndex;
use crate::dataflow::ordered_rows::OrderedRows;
use crate::dataflow::{EpochContext, Operator, StateSize};
use crate::error::{Error, Result};
use crate::plan::session;
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
    /// The input's columns, then `window_start` and `window_end`.
    schema: SchemaRef,
}

/// A row's key is its time, in bytes of the same order, and then the whole row.
#[derive(Default)]
struct Partition {
    rows: OrderedRows<()>,
    sessions: Sessions,
}

const TIME_LENGTH: usize = size_of::<i64>();

fn time_key(time_us: i64) -> [u8; TIME_LENGTH] {
    (time_us ^ i64::MIN).to_be_bytes()
}

fn time_of(key: &[u8]) -> i64 {
    let bytes = key.first_chunk().expect("a key begins with its time");
    i64::from_be_bytes(*bytes) ^ i64::MIN
}

/// What the deltas of a step come to for one row.
struct Change {
    partition: u32,
    key: Vec<u8>,
    weight: i64,
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
        let fields: Vec<SortField> = input.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
        if !RowConverter::supports_fields(&fields) {
            return Err(Error::unsupported("sessions over rows of this type", "cast the column to text"));
        }
        let converter = RowConverter::new(fields)?;
        let parser = converter.parser();
        Ok(SessionOperator { partition, time_column, gap_us, index, partitions: vec![], converter, parser, schema })
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
            let key: Vec<ArrayRef> = self.partition.iter().map(|&column| delta.column(column).clone()).collect();
            let numbers = self.index.intern(&key, delta.row_count())?;
            let times = cast(delta.column(self.time_column), &DataType::Int64)?;
            let times = times.as_primitive::<Int64Type>();
            let rows = self.converter.convert_columns(delta.batch().columns())?;
            for (row, &partition) in numbers.iter().enumerate() {
                let key = [&time_key(times.value(row)), rows.row(row).data()].concat();
                changes.push(Change { partition, key, weight: delta.weight(row) });
            }
        }
        changes.sort_unstable_by(|a, b| (a.partition, &a.key).cmp(&(b.partition, &b.key)));
        changes.dedup_by(|later, first| {
            let same = later.partition == first.partition && later.key == first.key;
            if same {
                first.weight += later.weight;
            }
            same
        });
        Ok(changes)
    }

    fn finish(&self, output: Output) -> Result<Vec<Delta>> {
        if output.rows.is_empty() {
            return Ok(vec![]);
        }
        let mut columns = self.converter.convert_rows(output.rows.iter().map(|row| self.parser.parse(row)))?;
        let window_type = self.schema.field(columns.len()).data_type();
        for bounds in [output.starts_us, output.ends_us] {
            let bounds: ArrayRef = Arc::new(Int64Array::from(bounds));
            columns.push(cast(&bounds, window_type)?);
        }
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        let all_new = output.weights.iter().all(|&weight| weight == 1);
        Ok(vec![if all_new { Delta::insert(batch) } else { Delta::new(batch, output.weights) }])
    }
}

impl Operator for SessionOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, _: &mut EpochContext) -> Result<Vec<Delta>> {
        let changes = self.changes(&only(inputs))?;
        self.partitions.resize_with(self.index.capacity(), Partition::default);
        let mut output = Output::default();
        let mut emptied = vec![];
        for changes in changes.chunk_by(|a, b| a.partition == b.partition) {
            let number = changes[0].partition;
            let partition = &mut self.partitions[number as usize];
            partition.step(changes, self.gap_us, &mut output);
            if partition.rows.is_empty() {
                *partition = Partition::default();
                emptied.push(number);
            }
        }
        self.index.remove(&emptied);
        self.finish(output)
    }

    fn state_size(&self) -> StateSize {
        let (mut row_count, mut bytes) = (0, self.index.memory_bytes());
        for partition in &self.partitions {
            row_count += partition.rows.entry_count() as u64;
            bytes += size_of::<Partition>() + partition.rows.memory_bytes() + partition.sessions.memory_bytes();
        }
        StateSize { row_count, bytes: bytes as u64 }
    }
}

impl Partition {
    fn step(&mut self, changes: &[Change], gap_us: i64, output: &mut Output) {
        let mut changed = Vec::with_capacity(changes.len());
        for change in changes.iter().filter(|change| change.weight != 0) {
            let added = self.rows.add(&change.key, TIME_LENGTH, change.weight);
            let (before, after) = (added.before.max(0) as u64, added.after.max(0) as u64);
            // What stays taken back more often than it came moves nothing.
            if before != after {
                changed.push(Changed { key: &change.key, before, after });
            }
        }
        let mut moved = Changes::default();
        self.move_sessions(&changed, gap_us, &mut moved);
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
    }

    /// Takes new times into the sessions, then those out at which no row is left.
    fn move_sessions(&mut self, changed: &[Changed], gap_us: i64, moved: &mut Changes) {
        let mut left = vec![];
        for rows in changed.chunk_by(|a, b| a.key[..TIME_LENGTH] == b.key[..TIME_LENGTH]) {
            let time_us = rows[0].time_us();
            match (self.was_at(time_us, rows), self.is_at(time_us)) {
                (false, true) => self.sessions.add(time_us, gap_us, moved),
                (true, false) => left.push(time_us),
                _ => {}
            }
        }
        for time_us in left {
            let (start, end) = (self.rows.start(), self.rows.end());
            let place = self.rows.peers_start(&time_key(time_us));
            let before = self.rows.range(start, place).rev().find(|entry| entry.row_count() > 0);
            let after = self.rows.range(place, end).find(|entry| entry.row_count() > 0);
            let [before, after] = [before, after].map(|entry| entry.map(|entry| time_of(&entry.key)));
            self.sessions.remove(time_us, before, after, gap_us, moved);
        }
    }

    fn is_at(&self, time_us: i64) -> bool {
        let key = time_key(time_us);
        self.rows.range(self.rows.peers_start(&key), self.rows.peers_end(&key)).any(|entry| entry.row_count() > 0)
    }

    /// Whether a row was at this time before the step that has changed these rows of it, all of them.
    fn was_at(&self, time_us: i64, changed: &[Changed]) -> bool {
        let key = time_key(time_us);
        let mut peers = self.rows.range(self.rows.peers_start(&key), self.rows.peers_end(&key));
        let is_old = |key: &[u8]| changed.binary_search_by(|row| row.key.cmp(key)).is_err();
        changed.iter().any(|row| row.before > 0) || peers.any(|entry| entry.row_count() > 0 && is_old(&entry.key))
    }
}

impl Output {
    /// Nothing for no weight; otherwise the row has a session.
    fn push(&mut self, key: &[u8], session: Option<Session>, gap_us: i64, weight: i64) {
        if weight == 0 {
            return;
        }
        let session = session.expect("a row that is there is in a session");
        self.rows.push(key[TIME_LENGTH..].into());
        self.starts_us.push(session.start_us);
        self.ends_us.push(session::end(session.last_us, gap_us));
        self.weights.push(weight);
    }
}
