//! The partitions of an operator that keeps the rows of each in order: a top-n, a window function.
//!
//! A partition is gone when its rows are, or when its time is over. Of partitions that are on disk alone, those that a step
//! touches come back as what was saved of their rows.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

use super::closing::Closing;
use super::key_index::KeyIndex;
use super::residency::{Partial, Residency};
use super::row_order::{Change, RowOrder};
use super::{EpochContext, StateSize};
use crate::error::Result;
use crate::plan::TimeColumn;
use crate::state::checkpoint::{Part, PartKind, Spread, can_hash};
use crate::types::Delta;

/// What is known of one partition.
pub trait Partition: Default {
    fn is_empty(&self) -> bool;

    fn row_count(&self) -> usize;

    /// About; told often.
    fn memory_bytes(&self) -> usize;
}

pub struct Partitions<P> {
    columns: Vec<usize>,
    index: KeyIndex,
    /// By number.
    partitions: Vec<P>,
    residency: Residency,
    /// Partitions by the time at which they end, where they do.
    closing: Option<Closing>,
    emptied: Vec<u32>,
    /// Of those that are not taken out.
    bytes: usize,
    can_be_partial: bool,
}

/// What a step brings, ascending by partition and row.
pub struct Arrived {
    /// The rows of partitions that have come back. What they come to is out already.
    pub saved: Vec<Change>,
    pub changes: Vec<Change>,
}

impl<P: Partition> Partitions<P> {
    /// An error for columns that have no equality.
    pub fn new(schema: &SchemaRef, columns: Vec<usize>) -> Result<Partitions<P>> {
        let types: Vec<_> = columns.iter().map(|&column| schema.field(column).data_type().clone()).collect();
        let can_be_partial = !columns.is_empty() && types.iter().all(can_hash);
        Ok(Partitions {
            columns,
            index: KeyIndex::new(types)?,
            partitions: vec![],
            residency: Residency::default(),
            closing: None,
            emptied: vec![],
            bytes: 0,
            can_be_partial,
        })
    }

    /// Those whose time is over go. `time` is of a partition column; late rows must have been taken out before.
    pub fn close_by(&mut self, time: TimeColumn) {
        self.closing = Some(Closing::new(time, &self.columns));
    }

    pub fn follows_time(&self) -> bool {
        self.closing.is_some()
    }

    /// Rows of older times are gone.
    pub fn below(&self) -> Option<i64> {
        self.closing.as_ref().and_then(|closing| closing.below())
    }

    /// Their rows, as a part of the operator's state.
    pub fn part(&self, schema: &SchemaRef) -> Part {
        Part {
            schema: schema.clone(),
            kind: PartKind::Sum,
            time_column: self.closing.as_ref().map(|closing| self.columns[closing.key()]),
            spread: Spread::By(self.columns.clone()),
            key: self.columns.clone(),
        }
    }

    /// Those that may be on disk alone.
    pub fn partial(&mut self) -> Option<&mut dyn Partial>
    where
        P: 'static,
    {
        if self.can_be_partial { Some(self) } else { None }
    }

    /// All changes so far are on their way to a checkpoint.
    pub fn handed_over(&mut self) {
        self.residency.handed_over();
    }

    /// The deltas are what was saved: the next step takes them over.
    pub fn begin_restored(&mut self) {
        self.residency.begin_restored();
    }

    pub fn begin_step(&mut self) {
        self.residency.begin_step();
    }

    /// What the deltas change, by partition, after what those partitions were that were not there.
    pub fn arrive(&mut self, deltas: &[Delta], order: &RowOrder) -> Result<Arrived> {
        let changes = order.changes(deltas, &self.columns, &mut self.index)?;
        self.partitions.resize_with(self.index.capacity(), P::default);
        self.residency.make_room(self.index.capacity());
        let numbers = changes.chunk_by(|a, b| a.partition == b.partition).map(|changes| changes[0].partition);
        let missing: Vec<u32> = numbers.filter(|&number| self.residency.touch(number).is_new).collect();
        if let Some(closing) = &mut self.closing {
            closing.opened.extend(&missing);
        }
        let mut saved = vec![];
        if self.residency.may_miss() {
            let key = |_: usize, rows: &Delta| -> Vec<ArrayRef> {
                self.columns.iter().map(|&column| rows.column(column).clone()).collect()
            };
            let fetched = self.residency.fetch(&missing, &self.index, key)?;
            let rows: Vec<Delta> = fetched.into_iter().map(|fetched| fetched.rows).collect();
            saved = order.changes(&rows, &self.columns, &mut self.index)?;
        }
        Ok(Arrived { saved, changes })
    }

    /// One of them, to be [put back](Self::put).
    pub fn take(&mut self, number: u32) -> P {
        let partition = std::mem::take(&mut self.partitions[number as usize]);
        self.bytes -= partition.memory_bytes();
        partition
    }

    pub fn put(&mut self, number: u32, partition: P) {
        if partition.is_empty() {
            self.emptied.push(number);
            return;
        }
        self.bytes += partition.memory_bytes();
        self.partitions[number as usize] = partition;
    }

    /// Lets go of those that are empty, over, or too many.
    pub fn end_step(&mut self, context: &EpochContext) -> Result<()> {
        let mut emptied = std::mem::take(&mut self.emptied);
        emptied.sort_unstable();
        emptied.dedup();
        emptied.retain(|&number| self.residency.is_there(number) && self.is_dead(number));
        if self.residency.is_partial() {
            self.residency.died(&emptied);
        } else {
            self.residency.forget(&emptied);
            self.index.remove(&emptied);
        }
        self.close(context)?;
        self.keep_to_allowance()
    }

    fn close(&mut self, context: &EpochContext) -> Result<()> {
        let Some(closing) = &mut self.closing else { return Ok(()) };
        let is_live = |number: u32| self.residency.is_there(number);
        let Some(over) = closing.take_over(context, &self.index, is_live)? else { return Ok(()) };
        self.residency.forget(&over);
        self.clear(&over);
        Ok(())
    }

    fn clear(&mut self, numbers: &[u32]) {
        numbers.iter().for_each(|&number| _ = self.take(number));
        self.index.remove(numbers);
    }

    pub fn state_size(&self) -> StateSize {
        let row_count = self.partitions.iter().map(|partition| partition.row_count() as u64).sum();
        StateSize { row_count, bytes: (self.bytes + self.fixed_bytes()) as u64 }
    }

    pub fn gives_way(&self) -> bool {
        self.residency.gives_way()
    }

    fn fixed_bytes(&self) -> usize {
        let closing = self.closing.as_ref().map_or(0, |closing| closing.memory_bytes());
        self.index.memory_bytes() + self.partitions.len() * (size_of::<P>() + size_of::<u64>()) + closing
    }
}

impl<P: Partition> Partial for Partitions<P> {
    fn residency(&self) -> &Residency {
        &self.residency
    }

    fn residency_mut(&mut self) -> &mut Residency {
        &mut self.residency
    }

    fn index(&self) -> &KeyIndex {
        &self.index
    }

    fn resident_bytes(&self) -> u64 {
        (self.bytes + self.fixed_bytes() * self.index.len() / self.index.capacity().max(1)) as u64
    }

    fn is_dead(&self, number: u32) -> bool {
        self.partitions[number as usize].is_empty()
    }

    fn give_back(&mut self, numbers: &[u32]) {
        self.index.remove(numbers);
    }

    fn let_go(&mut self, numbers: &[u32]) -> Result<()> {
        self.clear(numbers);
        if let Some(closing) = &mut self.closing {
            closing.forget_others(|number| self.residency.is_there(number));
        }
        Ok(())
    }

    fn begin_absent(&mut self, _: &mut EpochContext) -> Result<()> {
        self.residency.begin_absent();
        Ok(())
    }
}
