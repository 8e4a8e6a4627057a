//! Δγ(A) over windows that overlap. A row is counted once, in the slice of time that it falls in; what a window comes to
//! is put together of its slices' when it is shown (Li et al., *No Pane, No Gain*, SIGMOD Record 34(1), 2005). So a
//! row costs the same whatever the number of windows that hold it, and the state is that of the slices.
//!
//! ```text
//! slices    │a│b│c│d│e│          a group for each key and slice
//! windows   [a b c d)            windows of a key side by side: each slice goes in once and comes out once, by two
//!             [b c d e)          stacks, since not every aggregate can take back (Tangwongsan et al., PVLDB 8(7), 2015)
//! ```
//! A row that is late for some of its windows counts in the others: such rows of a slice are a group of their own, with the
//! end of the first window that counts them.

mod durable;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};

use super::scratch::Scratch;
use super::{Accumulator, Shown, accumulator, difference, row_text};
use crate::dataflow::event_time::{times_of, times_us};
use crate::dataflow::key_index::KeyIndex;
use crate::dataflow::operators::only;
use crate::dataflow::{Durable, EpochContext, Operator, StateSize};
use crate::error::Result;
use crate::plan::{AggregateCall, Slices};
use crate::types::{Delta, RowError};

/// So many windows are put together at a time.
const WINDOW_COUNT_MAX: usize = 1 << 15;

pub struct SlicedAggregateOperator {
    keys: Vec<usize>,
    calls: Vec<AggregateCall>,
    slices: Slices,
    input: SchemaRef,
    /// (key, start of the slice, end of the first window that counts the rows) to group.
    groups: KeyIndex,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// By group: the sum of its rows' weights.
    weights: Vec<i64>,
    /// By group: its key's number, the start of its slice, the end of its first window. All below follows from the groups.
    places: Vec<Place>,
    numbers: KeyIndex,
    /// By key's number: its groups.
    of_key: Vec<BTreeMap<(i64, i64), u32>>,
    /// By the start of their slice. A group may stand where it once was, if it was given back meanwhile.
    by_start: BTreeMap<i64, Vec<u32>>,
    scratch: Scratch,
    /// Windows of ends below have been shown, where they are shown when they are over.
    shown: Option<i64>,
    log: durable::SliceLog,
    schema: SchemaRef,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    key: u32,
    start: i64,
    first_end: i64,
    is_used: bool,
}

/// A window of a key, by its end.
type KeyWindow = (u32, i64);

/// Rows that count, one entry for each.
struct Counted {
    delta: Delta,
    keys: Vec<u32>,
    groups: Vec<u32>,
}

impl SlicedAggregateOperator {
    /// `schema`: the key columns, `window_start`, `window_end`, then one column for each call; each of these merges
    /// ([`AggregateCall::merges`]).
    pub fn new(
        input: SchemaRef,
        keys: Vec<usize>,
        calls: Vec<AggregateCall>,
        slices: Slices,
        schema: SchemaRef,
        append_only: bool,
    ) -> Result<SlicedAggregateOperator> {
        let key_types: Vec<DataType> = keys.iter().map(|&key| input.field(key).data_type().clone()).collect();
        let numbers = KeyIndex::new(key_types.clone())?;
        let groups = KeyIndex::new(key_types.into_iter().chain([DataType::Int64, DataType::Int64]).collect())?;
        let make = || calls.iter().map(|call| accumulator(call, &input, append_only)).collect::<Result<Vec<_>>>();
        let (accumulators, scratch) = (make()?, Scratch::new(make)?);
        let log = durable::SliceLog::new(&input, &keys, &accumulators);
        Ok(SlicedAggregateOperator {
            keys,
            calls,
            slices,
            input,
            groups,
            accumulators,
            weights: vec![],
            places: vec![],
            numbers,
            of_key: vec![],
            by_start: BTreeMap::new(),
            scratch,
            shown: None,
            log,
            schema,
        })
    }

    /// For each row, the end of the first window that was not over when it arrived.
    fn open_from(&self, delta: &Delta, context: &EpochContext) -> Vec<i64> {
        let row_count = delta.row_count();
        let Some(time) = self.slices.closing.as_ref().filter(|_| self.slices.takes_late) else {
            return vec![i64::MIN; row_count];
        };
        let before = &context.watermarks_before;
        let Some(arrival) = self.slices.arrival else {
            return vec![time.closed_at(before).unwrap_or(i64::MIN); row_count];
        };
        let arrivals = delta.column(arrival.column).as_primitive::<Int64Type>();
        let (mut last, mut bound) = (None, None);
        let of_row = |row: usize| {
            let arrived = arrivals.is_valid(row).then(|| arrivals.value(row));
            if last != Some(arrived) {
                last = Some(arrived);
                bound = time.closed_for(arrived, before);
            }
            bound.unwrap_or(i64::MIN)
        };
        (0..row_count).map(of_row).collect()
    }

    /// Puts the rows into their groups, without those that are late for all of their windows.
    fn count(&mut self, deltas: &[Delta], context: &mut EpochContext) -> Result<Option<Counted>> {
        let delta = Delta::concat(&self.input, deltas)?;
        let times = times_us(delta.column(self.slices.time_column))?;
        let open_from = self.open_from(&delta, context);
        let (mut rows, mut starts, mut first_ends, mut late_count) = (vec![], vec![], vec![], 0);
        for (row, &open_from) in open_from.iter().enumerate() {
            if times.is_null(row) {
                continue;
            }
            let start = self.slices.start(times.value(row));
            let (first, last) = self.slices.ends(start);
            if open_from > first {
                late_count +=
                    ((open_from.min(last.saturating_add(1)) - first - 1) / self.slices.window.slide_us() + 1) as u64;
            }
            if open_from <= last {
                rows.push(row as u32);
                starts.push(start);
                first_ends.push(first.max(open_from));
            }
        }
        let relation = self.slices.arrival.map(|arrival| arrival.relation);
        let followed = self.slices.closing.as_ref().and_then(|time| time.watermark.relations().first().copied());
        if let (Some(relation), true) = (relation.or(followed), late_count > 0) {
            *context.late_row_counts.entry(relation).or_default() += late_count;
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let delta = if rows.len() == delta.row_count() { delta } else { delta.take(&UInt32Array::from(rows))? };
        let mut columns: Vec<ArrayRef> = self.keys.iter().map(|&key| delta.column(key).clone()).collect();
        let keys = self.numbers.intern(&columns, delta.row_count())?;
        columns.push(Arc::new(Int64Array::from(starts.clone())));
        columns.push(Arc::new(Int64Array::from(first_ends.clone())));
        let groups = self.groups.intern(&columns, delta.row_count())?;
        self.make_room();
        for (row, &group) in groups.iter().enumerate() {
            let (start, first_end) = (starts[row], first_ends[row]);
            if !self.places[group as usize].is_used {
                self.place(group, Place { key: keys[row], start, first_end, is_used: true });
            }
        }
        Ok(Some(Counted { delta, keys, groups }))
    }

    /// A new group.
    fn place(&mut self, group: u32, place: Place) {
        self.places[group as usize] = place;
        self.of_key[place.key as usize].insert((place.start, place.first_end), group);
        if self.slices.closing.is_some() {
            self.by_start.entry(place.start).or_default().push(group);
        }
    }

    fn make_room(&mut self) {
        let group_count = self.groups.capacity();
        self.weights.resize(group_count, 0);
        self.places.resize(group_count, Place::default());
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.resize(group_count));
        self.of_key.resize_with(self.numbers.capacity().max(1), BTreeMap::new);
    }

    /// The windows with a changed group, of ends below `until`; ascending, each once.
    fn touched(&self, groups: &[u32], until: i64) -> BTreeSet<KeyWindow> {
        let slide_us = self.slices.window.slide_us();
        let places: BTreeSet<(u32, i64, i64)> = groups
            .iter()
            .map(|&group| self.places[group as usize])
            .filter(|place| place.first_end < until)
            .map(|place| (place.key, place.start, place.first_end))
            .collect();
        let mut windows = BTreeSet::new();
        for (key, start, first_end) in places {
            let last = self.slices.ends(start).1;
            let ends = std::iter::successors(Some(first_end), |end| end.checked_add(slide_us));
            windows.extend(ends.take_while(|&end| end <= last && end < until).map(|end| (key, end)));
        }
        windows
    }

    fn update(&mut self, delta: &Delta, groups: &[u32]) -> Result<()> {
        let weights = delta.weights().map(|weights| weights.as_ref());
        for (row, &group) in groups.iter().enumerate() {
            self.weights[group as usize] += weights.map_or(1, |weights| weights[row]);
        }
        super::update(&self.calls, &mut self.accumulators, delta, groups, None)
    }

    /// The windows' rows as they are now, and for each window whether it is there. A window whose result does not fit its
    /// type is reported with `weight` and has no row.
    fn show(&mut self, windows: &[KeyWindow], weight: i64, context: &mut EpochContext) -> Result<(Shown, Vec<bool>)> {
        let mut is_there = vec![false; windows.len()];
        let (mut keys, mut ends): (Vec<u32>, Vec<i64>) = (vec![], vec![]);
        self.scratch.begin(windows.len());
        let mut at = 0;
        for run in windows.chunk_by(|a, b| a.0 == b.0) {
            self.combine(run)?;
            for (place, &(key, end)) in run.iter().enumerate() {
                if self.scratch.weight(place) > 0 {
                    is_there[at + place] = true;
                    keys.push(key);
                    ends.push(end);
                    self.scratch.keep(place);
                }
            }
            self.scratch.end_run(run.len());
            at += run.len();
        }
        let mut columns = self.numbers.columns(&keys)?;
        let size_us = self.slices.window.size_us();
        let starts: Int64Array = ends.iter().map(|&end| Some(end.saturating_sub(size_us))).collect();
        for (bounds, field) in [starts, Int64Array::from(ends)].into_iter().zip(&self.schema.fields()[columns.len()..])
        {
            columns.push(times_of(bounds, field.data_type())?);
        }
        let (values, failed) = self.scratch.evaluate()?;
        columns.extend(values);
        let mut has_row = vec![true; keys.len()];
        if !failed.is_empty() {
            let named = columns.iter().enumerate().map(|(index, column)| (index.to_string(), column.clone(), true));
            let batch = RecordBatch::try_from_iter_with_nullable(named)?;
            for (place, error) in failed {
                has_row[place] = false;
                context.errors.push(RowError { reason: error.to_string(), row: row_text(&batch, place), weight });
            }
        }
        Ok((Shown { columns, has_row }, is_there))
    }

    /// Puts windows of one key, ascending, together.
    fn combine(&mut self, windows: &[KeyWindow]) -> Result<()> {
        let (Some(&(key, first)), Some(&(_, last))) = (windows.first(), windows.last()) else { return Ok(()) };
        let size_us = self.slices.window.size_us();
        let range = (first.saturating_sub(size_us), i64::MIN)..(last, i64::MIN);
        let mut whole: Vec<(i64, u32)> = vec![];
        let mut partly: Vec<(i64, i64, u32)> = vec![];
        for (&(start, first_end), &group) in self.of_key[key as usize].range(range) {
            match first_end == self.slices.ends(start).0 {
                true => whole.push((start, group)),
                false => partly.push((start, first_end, group)),
            }
        }
        let mut stacks = self.scratch.stacks(&self.accumulators, &self.weights);
        let (mut entered, mut left) = (0, 0);
        for (place, &(_, end)) in windows.iter().enumerate() {
            while whole.get(entered).is_some_and(|(start, _)| *start < end) {
                stacks.push(whole[entered].1);
                entered += 1;
            }
            while left < entered && whole[left].0 < end.saturating_sub(size_us) {
                stacks.pop();
                left += 1;
            }
            stacks.result(place);
            for &(start, first_end, group) in &partly {
                if start >= end.saturating_sub(size_us) && start < end && first_end <= end {
                    stacks.add(place, group);
                }
            }
        }
        Ok(())
    }

    /// Takes in the rows and says how the windows that are shown change.
    fn change(&mut self, counted: &Counted, until: i64, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let windows: Vec<KeyWindow> = self.touched(&counted.groups, until).into_iter().collect();
        let mut output = vec![];
        if windows.is_empty() {
            self.update(&counted.delta, &counted.groups)?;
            return Ok(output);
        }
        // Rows of one key come together, and with them the windows of the key.
        let mut order: Vec<u32> = (0..counted.keys.len() as u32).collect();
        order.sort_by_key(|&row| counted.keys[row as usize]);
        let (mut window, mut row) = (0, 0);
        while row < order.len() {
            let mut window_end = (window + WINDOW_COUNT_MAX).min(windows.len());
            while window_end < windows.len() && windows[window_end].0 == windows[window_end - 1].0 {
                window_end += 1;
            }
            let next_key = windows.get(window_end).map_or(u32::MAX, |(key, _)| *key);
            let row_end = match window_end == windows.len() {
                true => order.len(),
                false => row + order[row..].partition_point(|&row| counted.keys[row as usize] < next_key),
            };
            let rows = &order[row..row_end];
            let groups: Vec<u32> = rows.iter().map(|&row| counted.groups[row as usize]).collect();
            let delta = counted.delta.take(&UInt32Array::from(rows.to_vec()))?;
            let part = &windows[window..window_end];
            let (old, was_there) = self.show(part, -1, context)?;
            self.update(&delta, &groups)?;
            let (new, is_there) = self.show(part, 1, context)?;
            let places: Vec<(Option<u32>, Option<u32>)> = numbered(&was_there).zip(numbered(&is_there)).collect();
            output.extend(difference(&self.schema, self.keys.len() + 2, &old, &new, &places)?);
            (window, row) = (window_end, row_end);
        }
        Ok(output)
    }

    /// All windows that have come to be over, of ends from `from` below `until`.
    fn show_over(&mut self, from: i64, until: i64, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let mut output = vec![];
        if from >= until {
            return Ok(output);
        }
        let slide_us = self.slices.window.slide_us();
        let mut windows: Vec<KeyWindow> = vec![];
        for key in 0..self.of_key.len() as u32 {
            let mut shown = i64::MIN;
            let mut of_key: BTreeSet<i64> = BTreeSet::new();
            for &(start, first_end) in self.of_key[key as usize].keys() {
                let (first, last) = self.slices.ends(start);
                // The first end at `from` or above.
                let skipped = from.saturating_sub(first_end.max(shown)).max(0);
                let begin = first_end.max(shown) + (skipped + slide_us - 1) / slide_us * slide_us;
                let ends = std::iter::successors(Some(begin), |end| end.checked_add(slide_us));
                of_key.extend(ends.take_while(|&end| end <= last && end < until));
                if first_end == first {
                    shown = shown.max(last);
                }
            }
            windows.extend(of_key.into_iter().map(|end| (key, end)));
            if windows.len() >= WINDOW_COUNT_MAX {
                output.extend(self.inserted(&std::mem::take(&mut windows), context)?);
            }
        }
        output.extend(self.inserted(&windows, context)?);
        Ok(output)
    }

    fn inserted(&mut self, windows: &[KeyWindow], context: &mut EpochContext) -> Result<Option<Delta>> {
        let (new, is_there) = self.show(windows, 1, context)?;
        let old = Shown { columns: new.columns.iter().map(|column| column.slice(0, 0)).collect(), has_row: vec![] };
        let places: Vec<(Option<u32>, Option<u32>)> = numbered(&is_there).map(|place| (None, place)).collect();
        difference(&self.schema, self.keys.len() + 2, &old, &new, &places)
    }

    /// Groups without rows and without state go.
    fn forget(&mut self, touched: &[u32]) -> Result<()> {
        let is_dead = |group: &u32| {
            self.weights[*group as usize] == 0
                && self.accumulators.iter().all(|accumulator| accumulator.is_empty(*group))
        };
        let mut dead: Vec<u32> = touched.iter().copied().filter(is_dead).collect();
        dead.sort_unstable();
        dead.dedup();
        self.remove(&dead)
    }

    /// Slices of which no window is open go.
    fn close(&mut self, context: &EpochContext) -> Result<()> {
        let bound = self.slices.closing.as_ref().and_then(|time| time.closed_at(&context.watermarks));
        let Some(bound) = bound else { return Ok(()) };
        let mut over = vec![];
        while let Some(entry) = self.by_start.first_entry() {
            let start = *entry.key();
            if self.slices.ends(start).1 >= bound {
                break;
            }
            let places = &self.places;
            let is_there = |group: &u32| places[*group as usize].is_used && places[*group as usize].start == start;
            over.extend(entry.remove().into_iter().filter(is_there));
        }
        over.sort_unstable();
        over.dedup();
        self.remove(&over)
    }

    fn remove(&mut self, groups: &[u32]) -> Result<()> {
        if groups.is_empty() {
            return Ok(());
        }
        let mut emptied = vec![];
        for &group in groups {
            let place = std::mem::take(&mut self.places[group as usize]);
            let of_key = &mut self.of_key[place.key as usize];
            of_key.remove(&(place.start, place.first_end));
            if of_key.is_empty() {
                emptied.push(place.key);
            }
            self.weights[group as usize] = 0;
        }
        self.accumulators.iter_mut().try_for_each(|accumulator| accumulator.clear_all(groups))?;
        self.log.groups.gone(&self.groups, groups)?;
        self.groups.remove(groups);
        self.numbers.remove(&emptied);
        Ok(())
    }
}

/// The numbers of those that are there, in their order.
fn numbered(is_there: &[bool]) -> impl Iterator<Item = Option<u32>> {
    let mut number = 0;
    is_there.iter().map(move |is_there| {
        is_there.then(|| {
            number += 1;
            number - 1
        })
    })
}

impl Operator for SlicedAggregateOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let deltas = only(inputs);
        let (mut shown_before, mut shown) = (i64::MAX, i64::MAX);
        if let Some(time) = self.slices.shown_when_over() {
            shown_before = self.shown.unwrap_or(i64::MIN);
            self.shown = self.shown.max(time.closed_at(&context.watermarks));
            shown = self.shown.unwrap_or(i64::MIN);
        }
        let mut output = vec![];
        if !deltas.is_empty()
            && let Some(counted) = self.count(&deltas, context)?
        {
            output.extend(self.change(&counted, shown_before, context)?);
            self.log.groups.touch(&counted.groups);
            self.forget(&counted.groups)?;
        }
        output.extend(self.show_over(shown_before, shown, context)?);
        self.close(context)?;
        Ok(output)
    }

    fn follows_time(&self) -> bool {
        self.slices.closing.is_some()
    }

    fn state_size(&self) -> StateSize {
        let bytes = self.groups.memory_bytes()
            + self.numbers.memory_bytes()
            + self.groups.len() * 40
            + self.weights.len() * size_of::<(i64, Place)>()
            + self.accumulators.iter().map(|accumulator| accumulator.memory_bytes()).sum::<usize>();
        StateSize { row_count: self.groups.len() as u64, bytes: bytes as u64 }
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        Some(self)
    }
}
