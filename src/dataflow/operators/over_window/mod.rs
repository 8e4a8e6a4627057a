//! Δ(f OVER (PARTITION BY p ORDER BY o))(A): for each partition that ΔA touches, evaluate the rows that reach a changed
//! row ([`reach`]), compare with what was shown, and put out −old +new where they differ.
//!
//! A partition's rows lie in order ([`OrderedRows`]), each with the results shown for it, so that what is taken back is
//! what was given out, whatever became of its neighbours. Functions that need a few rows around get a slice of the
//! partition ([`evaluate`]); those that run from the partition's start keep what they have seen at the start of each
//! chunk ([`running`]), go on from there, and stop where the next chunk's start is what it was.
//!
//! Peers are ordered by the whole row: results are a function of the rows. A partition whose time is over is let go; what
//! was shown of it stays. What is not touched for long may be on disk alone ([`Partitions`]).

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
use crate::dataflow::durable::ChangeLog;
use crate::dataflow::expression::row_text;
use crate::dataflow::ordered_rows::{OrderedRows, Place};
use crate::dataflow::partitions::{self, Arrived, Partitions};
use crate::dataflow::row_order::{Change, RowOrder};
use crate::dataflow::{Durable, EpochContext, Operator, Partial, StateSize};
use crate::error::{Error, Result};
use crate::plan::{SortColumn, TimeColumn, WindowCall};
use crate::state::checkpoint::{Part, PartChange};
use crate::types::{Delta, RowError};
use running::Seen;

pub struct OverWindowOperator {
    order: RowOrder,
    calls: Vec<WindowCall>,
    partitions: Partitions<Rows>,
    results: Results,
    log: ChangeLog,
    schema: SchemaRef,
}

/// The rows of a partition: with each, what is shown for each time it is there; with each chunk, what the running calls
/// have seen before it.
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
        let partitions = Partitions::new(&input, partition)?;
        let results = schema.fields()[input.fields().len()..].iter();
        let fields: Vec<SortField> = results.map(|field| SortField::new(field.data_type().clone())).collect();
        if !RowConverter::supports_fields(&fields) {
            return Err(Error::unsupported("a window function with a result of this type", "cast it to text"));
        }
        let converter = RowConverter::new(fields)?;
        let results = Results { parser: converter.parser(), converter };
        let order = RowOrder::new(input, order)?;
        Ok(OverWindowOperator { order, calls, partitions, results, log: ChangeLog::default(), schema })
    }

    /// Partitions whose time is over go. `time` is a partition column; late rows must have been taken out before.
    pub fn with_closing(mut self, time: Option<TimeColumn>) -> OverWindowOperator {
        time.into_iter().for_each(|time| self.partitions.close_by(time));
        self
    }

    fn change(&mut self, deltas: &[Delta], context: &mut EpochContext) -> Result<Vec<Delta>> {
        let Arrived { saved, changes } = self.partitions.arrive(deltas, &self.order)?;
        self.take_in(&saved, &mut Output::default())?;
        let mut output = Output::default();
        self.take_in(&changes, &mut output)?;
        self.partitions.end_step(context)?;
        self.finish(output, context)
    }

    /// Takes in the changes of some partitions.
    fn take_in(&mut self, changes: &[Change], output: &mut Output) -> Result<()> {
        let mut changes = changes.chunk_by(|a, b| a.partition == b.partition);
        changes.try_for_each(|changes| self.advance(changes[0].partition, changes, output))
    }

    /// Takes in one partition's changes and brings what is shown up to date.
    fn advance(&mut self, number: u32, changes: &[Change], output: &mut Output) -> Result<()> {
        let mut rows = self.partitions.take(number);
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
        self.partitions.put(number, rows);
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
        self.partitions.begin_step();
        self.change(&deltas, context)
    }

    fn follows_time(&self) -> bool {
        self.partitions.follows_time()
    }

    fn state_size(&self) -> StateSize {
        self.partitions.state_size()
    }

    fn gives_way(&self) -> bool {
        self.partitions.gives_way()
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        Some(self)
    }
}

/// The rows. What is shown for them is a function of the rows, and so are the failures among it.
impl Durable for OverWindowOperator {
    fn parts(&self) -> Vec<Part> {
        vec![self.partitions.part(self.order.schema())]
    }

    fn record(&mut self) {
        self.log.start();
    }

    fn take_changes(&mut self) -> Result<Vec<PartChange>> {
        self.partitions.handed_over();
        Ok(vec![PartChange { deltas: self.log.take(), below: self.partitions.below() }])
    }

    fn restore(&mut self, parts: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<()> {
        self.partitions.begin_restored();
        self.change(&only(parts), context).map(|_| ())
    }

    fn partial(&mut self) -> Option<&mut dyn Partial> {
        self.partitions.partial()
    }
}

impl partitions::Partition for Rows {
    fn is_empty(&self) -> bool {
        OrderedRows::is_empty(self)
    }

    fn row_count(&self) -> usize {
        self.entry_count()
    }

    fn memory_bytes(&self) -> usize {
        // Most rows are there once, and results are numbers; running calls may remember more and more.
        let last = self.chunks().last().and_then(|chunk| chunk.memory.as_deref());
        let remembered: usize = last.unwrap_or_default().iter().map(Seen::memory_bytes).sum();
        OrderedRows::memory_bytes(self)
            + self.entry_count() * (size_of::<Shown>() + RESULT_BYTES)
            + self.chunks().len() * remembered
    }
}

/// Of what is shown for a row, about.
const RESULT_BYTES: usize = 32;
