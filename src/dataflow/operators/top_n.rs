//! Δ(first rows of each partition): a change moves the window's two ends by as many rows as it adds or takes away, and
//! only rows that cross an end, or are themselves changed, come out.
//!
//! Each partition keeps its rows in order ([`OrderedRows`]), and each row how often it is shown. If the input only
//! grows, rows behind the window are not kept: nothing can bring them back. A partition whose time is over is let go; what
//! was shown of it stays. What is not touched for long may be on disk alone ([`Partitions`]).

use arrow::datatypes::SchemaRef;

use super::only;
use crate::dataflow::durable::ChangeLog;
use crate::dataflow::ordered_rows::{OrderedRows, Place};
use crate::dataflow::partitions::{self, Arrived, Partitions};
use crate::dataflow::row_order::{Change, RowOrder};
use crate::dataflow::{Durable, EpochContext, Operator, Partial, StateSize};
use crate::error::Result;
use crate::plan::{SortColumn, Ties, TimeColumn, TopN};
use crate::state::checkpoint::{Part, PartChange};
use crate::types::Delta;

pub struct TopNOperator {
    top: TopN,
    append_only: bool,
    order: RowOrder,
    partitions: Partitions<Partition>,
    log: ChangeLog,
    /// Whole rows that were let go since the state was last saved, as often as they were there.
    trimmed: Output,
}

#[derive(Default)]
struct Partition {
    /// With each row, how often it is shown.
    rows: OrderedRows<u64>,
    /// The first and the last row that is shown.
    bounds: Option<Bounds>,
}

#[derive(Clone, PartialEq, Eq)]
struct Bounds {
    first: Box<[u8]>,
    last: Box<[u8]>,
}

/// Whole rows and how often they come or go.
type Output = Vec<(Box<[u8]>, i64)>;

impl TopNOperator {
    /// `schema` is that of the input and of the output.
    pub fn new(
        schema: SchemaRef,
        partition: Vec<usize>,
        order: Vec<SortColumn>,
        top: TopN,
        append_only: bool,
    ) -> Result<TopNOperator> {
        assert!(top.ties == Ties::Cut || top.offset == 0, "an offset with ties is a filter above");
        let partitions = Partitions::new(&schema, partition)?;
        let order = RowOrder::new(schema, order)?;
        Ok(TopNOperator { top, append_only, order, partitions, log: ChangeLog::default(), trimmed: vec![] })
    }

    /// Partitions whose time is over go. `time` is a partition column; late rows must have been taken out before.
    pub fn with_closing(mut self, time: Option<TimeColumn>) -> TopNOperator {
        time.into_iter().for_each(|time| self.partitions.close_by(time));
        self
    }

    /// Takes in the changes of some partitions.
    fn take_in(&mut self, changes: &[Change], output: &mut Output, mut trimmed: Option<&mut Output>) {
        for changes in changes.chunk_by(|a, b| a.partition == b.partition) {
            let number = changes[0].partition;
            let mut partition = self.partitions.take(number);
            partition.step(changes, &self.top, self.append_only, output, trimmed.as_deref_mut());
            self.partitions.put(number, partition);
        }
    }

    fn change(&mut self, deltas: &[Delta], context: &EpochContext) -> Result<Vec<Delta>> {
        let Arrived { saved, changes } = self.partitions.arrive(deltas, &self.order)?;
        self.take_in(&saved, &mut vec![], None);
        let mut output = vec![];
        let mut trimmed = self.log.is_on().then(|| std::mem::take(&mut self.trimmed));
        self.take_in(&changes, &mut output, trimmed.as_mut());
        self.trimmed.extend(trimmed.into_iter().flatten());
        self.partitions.end_step(context)?;
        if output.is_empty() {
            return Ok(vec![]);
        }
        let batch = self.order.batch(output.iter().map(|(row, _)| row.as_ref()))?;
        if output.iter().all(|(_, weight)| *weight == 1) {
            return Ok(vec![Delta::insert(batch)]);
        }
        Ok(vec![Delta::new(batch, output.iter().map(|(_, weight)| *weight).collect::<Vec<_>>())])
    }
}

impl Operator for TopNOperator {
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

/// The rows that are kept. What is shown of them follows.
impl Durable for TopNOperator {
    fn parts(&self) -> Vec<Part> {
        vec![self.partitions.part(self.order.schema())]
    }

    fn record(&mut self) {
        self.log.start();
    }

    fn take_changes(&mut self) -> Result<Vec<PartChange>> {
        let mut deltas = self.log.take();
        let trimmed = std::mem::take(&mut self.trimmed);
        if !trimmed.is_empty() {
            let batch = self.order.batch(trimmed.iter().map(|(row, _)| row.as_ref()))?;
            deltas.push(Delta::new(batch, trimmed.iter().map(|(_, count)| -count).collect::<Vec<_>>()));
        }
        self.partitions.handed_over();
        Ok(vec![PartChange { deltas, below: self.partitions.below() }])
    }

    fn restore(&mut self, parts: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<()> {
        self.partitions.begin_restored();
        self.change(&only(parts), context).map(|_| ())
    }

    fn partial(&mut self) -> Option<&mut dyn Partial> {
        self.partitions.partial()
    }
}

impl partitions::Partition for Partition {
    fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn row_count(&self) -> usize {
        self.rows.entry_count()
    }

    fn memory_bytes(&self) -> usize {
        let bounds = self.bounds.as_ref().map_or(0, |bounds| bounds.first.len() + bounds.last.len());
        self.rows.memory_bytes() + bounds
    }
}

impl Partition {
    /// `trimmed` takes the rows that are not kept, if somebody wants to know.
    fn step(
        &mut self,
        changes: &[Change],
        top: &TopN,
        append_only: bool,
        output: &mut Output,
        mut trimmed: Option<&mut Output>,
    ) {
        let trims = append_only && top.limit.is_some() && top.ties == Ties::Cut;
        let mut changed = Vec::with_capacity(changes.len());
        for change in changes.iter().filter(|change| change.weight != 0) {
            // Rows come in order: once the window is full, whatever lies behind its last row stays there.
            if trims
                && self.is_full(top)
                && let Some(bounds) = &self.bounds
                && *change.key > *bounds.last
            {
                if let Some(trimmed) = &mut trimmed {
                    trimmed.push((change.key[change.sort_length..].into(), change.weight));
                }
                continue;
            }
            let added = self.rows.add(&change.key, change.sort_length, change.weight);
            match added.removed {
                Some(0) => {}
                Some(shown) => output.push((change.key[change.sort_length..].into(), -(shown as i64))),
                None => changed.push(&change.key),
            }
        }
        let (start, end) = self.window(top);
        let bounds = (start < end).then(|| Bounds {
            first: self.rows.entry(self.rows.at(start).0).key.clone(),
            last: self.rows.entry(self.rows.at(end - 1).0).key.clone(),
        });
        for key in changed {
            let place = self.rows.lower_bound(key);
            let is_behind = bounds.as_ref().is_none_or(|bounds| key.as_slice() > bounds.last.as_ref());
            if is_behind && self.rows.entry(place).shown == 0 {
                continue;
            }
            let after = self.rows.after(place);
            self.show(place, after, (start, end), output);
        }
        match (self.bounds.take(), &bounds) {
            (None, None) => {}
            (Some(one), None) => self.show_between(&one.first, &one.last, (start, end), output),
            (None, Some(one)) => self.show_between(&one.first, &one.last, (start, end), output),
            (Some(old), Some(new)) => {
                let (low, high) = ordered(&old.first, &new.first);
                self.show_between(low, high, (start, end), output);
                let (low, high) = ordered(&old.last, &new.last);
                self.show_between(low, high, (start, end), output);
            }
        }
        self.bounds = bounds;
        if trims && end > 0 {
            // The last shown entry may stand for more rows than fit: they are the same row, and stay.
            let behind = match self.rows.at(end - 1).0 {
                place if place == self.rows.end() => place,
                place => self.rows.after(place),
            };
            if let Some(trimmed) = trimmed {
                let gone = self.rows.range(behind, self.rows.end());
                trimmed.extend(gone.map(|entry| (entry.row().into(), entry.weight)));
            }
            self.rows.truncate(behind);
        }
    }

    fn is_full(&self, top: &TopN) -> bool {
        top.limit.is_some_and(|limit| self.rows.row_count() >= top.offset.saturating_add(limit))
    }

    /// Positions of the rows to show.
    fn window(&self, top: &TopN) -> (u64, u64) {
        let count = self.rows.row_count();
        let Some(limit) = top.limit else { return (top.offset.min(count), count) };
        let end = match top.ties {
            Ties::Cut => top.offset.saturating_add(limit),
            _ if limit == 0 => 0,
            Ties::Rank => match self.rows.at(limit - 1).0 {
                place if place == self.rows.end() => count,
                place => self.rows.position(self.rows.peers_end(self.rows.entry(place).sort_key())),
            },
            Ties::DenseRank => self.dense_end(limit),
        };
        (top.offset.min(count), end.min(count))
    }

    /// The position behind the first `group_count` groups of peers.
    fn dense_end(&self, group_count: u64) -> u64 {
        let mut end = 0;
        for _ in 0..group_count {
            // Entries that stand for no row make no group.
            let place = self.rows.at(end).0;
            if place == self.rows.end() {
                break;
            }
            end = self.rows.position(self.rows.peers_end(self.rows.entry(place).sort_key()));
        }
        end
    }

    fn show_between(&mut self, first: &[u8], last: &[u8], window: (u64, u64), output: &mut Output) {
        let start = self.rows.lower_bound(first);
        let end = self.rows.partition_point(|entry| *entry.key <= *last);
        self.show(start, end, window, output);
    }

    /// Brings the entries of `[place, end)` to what the window says.
    fn show(&mut self, mut place: Place, end: Place, window: (u64, u64), output: &mut Output) {
        let mut position = self.rows.position(place);
        while place < end {
            let entry = self.rows.entry(place);
            let after = position + entry.row_count();
            let shown = window.1.min(after).saturating_sub(window.0.max(position));
            let difference = shown as i64 - entry.shown as i64;
            if difference != 0 {
                output.push((entry.row().into(), difference));
                *self.rows.shown_mut(place) = shown;
            }
            position = after;
            place = self.rows.after(place);
        }
    }
}

fn ordered<'a>(a: &'a [u8], b: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    if a <= b { (a, b) } else { (b, a) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{AsArray, Int32Array, RecordBatch};
    use arrow::compute::SortOptions;
    use arrow::datatypes::{DataType, Field, Int32Type, Schema};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::dataflow::residency::by_hand::Life;
    use crate::state::Memory;
    use crate::types::Epoch;

    type Row = [i32; 3];

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(["p", "k", "v"].map(|name| Field::new(name, DataType::Int32, true)).to_vec()))
    }

    pub fn delta(rows: &[(Row, i64)]) -> Delta {
        let column = |at: usize| Arc::new(rows.iter().map(|(row, _)| row[at]).collect::<Int32Array>()) as _;
        let batch = RecordBatch::try_new(schema(), (0..3).map(column).collect()).expect("three columns");
        Delta::new(batch, rows.iter().map(|(_, weight)| *weight).collect::<Vec<_>>())
    }

    fn add_up(deltas: &[Delta], sum: &mut BTreeMap<Row, i64>) {
        for delta in deltas {
            for row in 0..delta.row_count() {
                let value = |column: usize| delta.column(column).as_primitive::<Int32Type>().value(row);
                *sum.entry([value(0), value(1), value(2)]).or_default() += delta.weight(row);
            }
        }
        sum.retain(|_, weight| *weight != 0);
    }

    /// p ascending; k descending, then v ascending.
    fn naive(rows: &BTreeMap<Row, i64>, top: &TopN, partitioned: bool) -> BTreeMap<Row, i64> {
        let mut groups: BTreeMap<i32, Vec<(i32, Row)>> = BTreeMap::new();
        for (row, &weight) in rows {
            let group = groups.entry(if partitioned { row[0] } else { 0 }).or_default();
            group.extend((0..weight.max(0)).map(|_| (-row[1], *row)));
        }
        let mut shown = BTreeMap::new();
        for mut group in groups.into_values() {
            group.sort_unstable();
            for (position, (key, row)) in group.iter().enumerate() {
                let rank = group.iter().filter(|(other, _)| other < key).count() as u64;
                let mut before: Vec<i32> = group.iter().map(|(other, _)| *other).filter(|other| other < key).collect();
                before.dedup();
                let place = position as u64;
                let limit = top.limit.unwrap_or(u64::MAX);
                let is_shown = match top.ties {
                    Ties::Cut => place >= top.offset && place - top.offset < limit,
                    Ties::Rank => rank < limit,
                    Ties::DenseRank => (before.len() as u64) < limit,
                };
                if is_shown {
                    *shown.entry(*row).or_default() += 1;
                }
            }
        }
        shown
    }

    /// Whatever of it is on disk alone, and over restarts.
    #[test]
    fn random_changes_equal_a_recomputation() -> Result<()> {
        let mut evicted_count = 0;
        for seed in 0..48 {
            let mut random = StdRng::seed_from_u64(seed);
            let ties = [Ties::Cut, Ties::Cut, Ties::Rank, Ties::DenseRank][seed as usize % 4];
            let offset = if ties == Ties::Cut { random.random_range(0..4) } else { 0 };
            let limit = (random.random_range(0..6) > 0).then(|| random.random_range(0..8));
            let top = TopN { offset, limit, ties };
            let append_only = random.random_bool(0.3);
            let partitioned = random.random_bool(0.7);
            let partition = if partitioned { vec![0] } else { vec![] };
            let order = vec![SortColumn { column: 1, options: SortOptions { descending: true, nulls_first: true } }];
            let operator = || TopNOperator::new(schema(), partition.clone(), order.clone(), top, append_only);
            let memory = Arc::new(Memory::new(random.random_bool(0.5).then_some(4 << 10)));
            let mut life = Life::begin(operator()?, memory)?;
            let (mut rows, mut shown) = (BTreeMap::new(), BTreeMap::new());
            for epoch in 0..80 {
                let count = random.random_range(1..[3, 3, 3, 30][epoch % 4]);
                let mut changes: Vec<(Row, i64)> = vec![];
                for _ in 0..count {
                    let row = [0..12, 0..6, 0..4].map(|range| random.random_range(range));
                    let weight = if append_only { random.random_range(1..3) } else { random.random_range(-2..3) };
                    changes.push((row, weight));
                }
                let deltas = if random.random_bool(0.5) {
                    changes.iter().map(|change| delta(&[*change])).collect()
                } else {
                    vec![delta(&changes)]
                };
                add_up(&deltas, &mut rows);
                let mut context = EpochContext::new(Epoch(epoch as u64), epoch == 0, 0);
                let output = life.operator.step(vec![deltas], &mut context)?;
                add_up(&output, &mut shown);
                let expected = naive(&rows, &top, partitioned);
                assert_eq!(shown, expected, "seed {seed} epoch {epoch} {top:?}");
                life.disturb(&mut random)?;
                if random.random_bool(0.05) {
                    life.restart(operator()?, random.random_bool(0.7))?;
                }
            }
            evicted_count += life.evicted_count;
            if append_only && ties == Ties::Cut && limit.is_some_and(|limit| limit > 0) {
                assert!(life.operator.state_size().row_count <= 12 * (offset + limit.unwrap_or(0)));
            }
        }
        assert!(evicted_count > 500, "{evicted_count} partitions went");
        Ok(())
    }
}
