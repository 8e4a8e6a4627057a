//! Δ(f OVER (PARTITION BY p ORDER BY o))(A): for each partition that ΔA touches, evaluate the rows that reach a changed
//! row ([`reach`]), compare with what was shown, and put out −old +new where they differ.
//!
//! A partition's rows lie in order ([`OrderedRows`]), each with the results shown for it, so that what is taken back is
//! what was given out, whatever became of its neighbours. Functions that need a few rows around get a slice of the
//! partition ([`evaluate`]); those that run from the partition's start keep what they have seen at the start of each
//! chunk ([`running`]), go on from there, and stop where the next chunk's start is what it was.
//!
//! Peers are ordered by the whole row: results are a function of the rows. A partition whose time is over is let go; what
//! was shown of it stays.

mod evaluate;
mod reach;
mod running;

#[cfg(test)]
mod tests;

use std::ops::Range;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, RowParser, SortField};

use super::only;
use crate::dataflow::closing::Closing;
use crate::dataflow::durable::{ChangeLog, partitioned_rows};
use crate::dataflow::expression::row_text;
use crate::dataflow::key_index::KeyIndex;
use crate::dataflow::ordered_rows::{OrderedRows, Place};
use crate::dataflow::row_order::{Change, RowOrder};
use crate::dataflow::{Durable, EpochContext, Operator, StateSize};
use crate::error::{Error, Result};
use crate::plan::{SortColumn, TimeColumn, WindowCall};
use crate::state::checkpoint::{Part, PartChange};
use crate::types::{Delta, RowError};
use running::Seen;

pub struct OverWindowOperator {
    partition: Vec<usize>,
    order: RowOrder,
    calls: Vec<WindowCall>,
    index: KeyIndex,
    /// By partition number. With each row, what is shown for each time it is there; with each chunk, what the running
    /// calls have seen before it.
    partitions: Vec<Rows>,
    /// Partitions by the time at which they end, where they do.
    closing: Option<Closing>,
    results: Results,
    log: ChangeLog,
    schema: SchemaRef,
}

type Rows = OrderedRows<Vec<Shown>, Vec<Seen>>;

/// What is shown for one row.
#[derive(Clone, PartialEq, Eq)]
enum Shown {
    /// The results of all calls.
    Results(Box<[u8]>),
    /// A call failed: the row is among the errors.
    Failed(Box<str>),
}

/// Results as bytes and back.
struct Results {
    converter: RowConverter,
    parser: RowParser,
}

/// What a step puts out, in its order.
#[derive(Default)]
struct Output {
    rows: Vec<Box<[u8]>>,
    results: Vec<Box<[u8]>>,
    weights: Vec<i64>,
    /// Whole rows with why they failed.
    failed: Vec<(Box<[u8]>, Box<str>, i64)>,
}

impl OverWindowOperator {
    /// `schema`: the input's columns, then one column for each call. 0A000 for types that have no order.
    pub fn new(
        input: SchemaRef,
        partition: Vec<usize>,
        order: Vec<SortColumn>,
        calls: Vec<WindowCall>,
        schema: SchemaRef,
    ) -> Result<OverWindowOperator> {
        assert_eq!(input.fields().len() + calls.len(), schema.fields().len(), "one column for each call");
        let index = KeyIndex::new(partition.iter().map(|&column| input.field(column).data_type().clone()).collect())?;
        let results = schema.fields()[input.fields().len()..].iter();
        let fields: Vec<SortField> = results.map(|field| SortField::new(field.data_type().clone())).collect();
        if !RowConverter::supports_fields(&fields) {
            return Err(Error::unsupported("a window function with a result of this type", "cast it to text"));
        }
        let converter = RowConverter::new(fields)?;
        let results = Results { parser: converter.parser(), converter };
        let order = RowOrder::new(input, order)?;
        let (partitions, closing, log) = (vec![], None, ChangeLog::default());
        Ok(OverWindowOperator { partition, order, calls, index, partitions, closing, results, log, schema })
    }

    /// Partitions whose time is over go. `time` is a partition column; late rows must have been taken out before.
    pub fn with_closing(self, time: Option<TimeColumn>) -> OverWindowOperator {
        let closing = time.map(|time| Closing::new(time, &self.partition));
        OverWindowOperator { closing, ..self }
    }

    fn close(&mut self, context: &EpochContext) -> Result<()> {
        let Some(closing) = &mut self.closing else { return Ok(()) };
        let is_live = |number: u32| !self.partitions[number as usize].is_empty();
        let Some(over) = closing.take_over(context, &self.index, is_live)? else { return Ok(()) };
        for &number in &over {
            self.partitions[number as usize] = Rows::default();
        }
        self.index.remove(&over);
        Ok(())
    }

    /// Takes in one partition's changes and brings what is shown up to date.
    fn advance(&mut self, number: u32, changes: &[Change], output: &mut Output) -> Result<()> {
        let mut rows = std::mem::take(&mut self.partitions[number as usize]);
        let mut changed = Vec::with_capacity(changes.len());
        for change in changes.iter().filter(|change| change.weight != 0) {
            let added = rows.add(&change.key, change.sort_length, change.weight);
            for shown in added.removed.into_iter().flatten() {
                output.push(&change.key[change.sort_length..], shown, -1);
            }
            // What stays taken back more often than it came moves nothing.
            if added.before == 0 || added.before.max(0) != added.after.max(0) {
                changed.push(change);
            }
        }
        for region in self.regions(&mut rows, &changed)? {
            self.show(&mut rows, region, output)?;
        }
        if rows.is_empty() {
            self.index.remove(&[number]);
        }
        self.partitions[number as usize] = rows;
        Ok(())
    }

    /// Evaluates the rows of a region and puts out where they differ from what is shown.
    fn show(&self, rows: &mut Rows, region: Range<Place>, output: &mut Output) -> Result<()> {
        let (results, failures) = self.evaluate(rows, &region)?;
        let results = self.results.converter.convert_columns(&results)?;
        let mut failures = failures.into_iter().peekable();
        let mut row = 0;
        let mut place = region.start;
        while place < region.end {
            let entry = rows.entry(place);
            let mut new = Vec::with_capacity(entry.row_count() as usize);
            for _ in 0..entry.row_count() {
                new.push(match failures.next_if(|(failed, _)| *failed == row) {
                    Some((_, reason)) => Shown::Failed(reason),
                    None => Shown::Results(results.row(row).data().into()),
                });
                row += 1;
            }
            if new != entry.shown {
                for at in 0..new.len().max(entry.shown.len()) {
                    let (old, new) = (entry.shown.get(at), new.get(at));
                    if old != new {
                        old.into_iter().for_each(|old| output.push(entry.row(), old.clone(), -1));
                        new.into_iter().for_each(|new| output.push(entry.row(), new.clone(), 1));
                    }
                }
                *rows.shown_mut(place) = new;
            }
            place = rows.after(place);
        }
        Ok(())
    }

    fn finish(&self, output: Output, context: &mut EpochContext) -> Result<Vec<Delta>> {
        if !output.failed.is_empty() {
            let batch = self.order.batch(output.failed.iter().map(|(row, ..)| row.as_ref()))?;
            for (at, (_, reason, weight)) in output.failed.into_iter().enumerate() {
                context.errors.push(RowError { reason: reason.into(), row: row_text(&batch, at), weight });
            }
        }
        if output.rows.is_empty() {
            return Ok(vec![]);
        }
        let rows = self.order.batch(output.rows.iter().map(|row| row.as_ref()))?;
        let results = output.results.iter().map(|row| self.results.parser.parse(row));
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        columns.extend(self.results.converter.convert_rows(results)?);
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        let all_new = output.weights.iter().all(|&weight| weight == 1);
        Ok(vec![if all_new { Delta::insert(batch) } else { Delta::new(batch, output.weights) }])
    }
}

impl Output {
    fn push(&mut self, row: &[u8], shown: Shown, weight: i64) {
        match shown {
            Shown::Results(results) => {
                self.rows.push(row.into());
                self.results.push(results);
                self.weights.push(weight);
            }
            Shown::Failed(reason) => self.failed.push((row.into(), reason, weight)),
        }
    }
}

impl Operator for OverWindowOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let deltas = only(inputs);
        deltas.iter().for_each(|delta| self.log.push(delta));
        let changes = self.order.changes(&deltas, &self.partition, &mut self.index)?;
        self.partitions.resize_with(self.index.capacity(), OrderedRows::default);
        let mut output = Output::default();
        for changes in changes.chunk_by(|a, b| a.partition == b.partition) {
            let number = changes[0].partition;
            if let Some(closing) = &mut self.closing
                && self.partitions[number as usize].is_empty()
            {
                closing.opened.push(number);
            }
            self.advance(number, changes, &mut output)?;
        }
        self.close(context)?;
        self.finish(output, context)
    }

    fn follows_time(&self) -> bool {
        self.closing.is_some()
    }

    fn state_size(&self) -> StateSize {
        let closing = self.closing.as_ref().map_or(0, |closing| closing.memory_bytes());
        let (mut row_count, mut bytes) = (0, self.index.memory_bytes() + closing);
        for rows in &self.partitions {
            row_count += rows.entry_count() as u64;
            bytes += rows.memory_bytes();
            for entry in rows.range(rows.start(), rows.end()) {
                bytes += entry.shown.iter().map(Shown::memory_bytes).sum::<usize>();
            }
            bytes +=
                rows.chunks().iter().flat_map(|chunk| &chunk.memory).flatten().map(Seen::memory_bytes).sum::<usize>();
        }
        StateSize { row_count, bytes: bytes as u64 }
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        Some(self)
    }
}

/// The rows. What is shown for them is a function of the rows, and so are the failures among it.
impl Durable for OverWindowOperator {
    fn parts(&self) -> Vec<Part> {
        vec![partitioned_rows(self.order.schema(), &self.partition, self.closing.as_ref())]
    }

    fn record(&mut self) {
        self.log.start();
    }

    fn take_changes(&mut self) -> Result<Vec<PartChange>> {
        let below = self.closing.as_ref().and_then(|closing| closing.below());
        Ok(vec![PartChange { deltas: self.log.take(), below }])
    }

    fn restore(&mut self, parts: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<()> {
        self.step(parts, context).map(|_| ())
    }
}

impl Shown {
    fn memory_bytes(&self) -> usize {
        size_of::<Shown>()
            + match self {
                Shown::Results(bytes) => bytes.len(),
                Shown::Failed(reason) => reason.len(),
            }
    }
}
