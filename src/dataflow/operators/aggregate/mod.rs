//! Δγ(A): for the groups that ΔA touches, take back what was shown and show what is now; other groups cost nothing.
//!
//! Groups are numbered by a [`KeyIndex`]; each aggregate is a column of accumulators, one slot for each group number,
//! updated in typed loops. A group is shown while the weights of its rows add up to more than zero; without keys there
//! is one group, shown always, and so are the groups of empty grouping sets. Without calls this is DISTINCT.

mod bits;
mod combine;
mod count;
mod distinct;
mod durable;
mod extreme;
mod general;
mod residency;
mod running;
mod scratch;
mod sliced;

#[cfg(test)]
mod tests;

pub use combine::{CombineOperator, combines};
pub use sliced::SlicedAggregateOperator;

use std::any::Any;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, make_comparator};
use arrow::compute::{SortOptions, and, concat, filter, filter_record_batch, is_not_null, prep_null_mask_filter, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatchOptions;

use super::only;
use crate::dataflow::closing::Closing;
use crate::dataflow::expression::row_text;
use crate::dataflow::key_index::KeyIndex;
use crate::dataflow::partition::worker_of;
use crate::dataflow::residency::{Residency, TouchedAt};
use crate::dataflow::{Durable, EpochContext, Operator, Partial, StateSize};
use crate::error::{Error, Result, SqlState};
use crate::plan::{AggregateCall, AggregateKind, TimeColumn};
use crate::state::arrangement::hash_rows;
use crate::types::summary::{Measure, Results as Evaluated};
use crate::types::{Delta, RowError};

/// One aggregate function over all groups.
///
/// # Contract
/// - [`Accumulator::update`] sees only rows that count: the filter is true, and no argument is NULL unless the function
///   wants to see them.
/// - The state is a function of the sum of all updates, whatever their order; weights may be negative before their
///   counterparts come.
trait Accumulator: Send {
    /// Makes room for group numbers below `group_count`.
    fn resize(&mut self, group_count: usize);

    /// `groups[i]` is the group of row `i`; `arguments` are the call's arguments, then the columns of its order;
    /// `weights` absent means +1.
    fn update(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[i64]>) -> Result<()>;

    fn evaluate(&self, groups: &[u32]) -> Result<Evaluated>;

    /// Adds the state of a group of another accumulator, of the same call; only of calls that merge
    /// ([`AggregateCall::merges`]).
    fn merge_from(&mut self, _into: u32, _from: &dyn Accumulator, _group: u32) {
        unreachable!("this call does not merge");
    }

    fn as_any(&self) -> &dyn Any;

    /// True if the group's state is that of a group that was never touched.
    fn is_empty(&self, group: u32) -> bool;

    /// Makes an empty group's state exactly new (floating point may leave a residue).
    fn clear(&mut self, group: u32);

    /// Makes the groups' state new, whatever it holds.
    fn clear_all(&mut self, groups: &[u32]) -> Result<()> {
        groups.iter().for_each(|&group| self.clear(group));
        Ok(())
    }

    fn memory_bytes(&self) -> usize;

    /// Rows that it keeps beside the groups.
    fn row_count(&self) -> usize {
        0
    }

    /// The type of a group's state as a value; `None` if the state is the rows that were counted, and as many.
    fn saved_type(&self) -> Option<DataType> {
        None
    }

    /// The groups' states, of that type.
    fn save(&self, _groups: &[u32]) -> Result<ArrayRef> {
        Err(Error::internal("an aggregate whose state is its rows was asked for another"))
    }

    /// Adds saved states to those of the groups; a new group has what was saved then.
    fn merge(&mut self, _groups: &[u32], _saved: &ArrayRef) -> Result<()> {
        Err(Error::internal("an aggregate whose state is its rows was given another"))
    }
}

/// XX001: a state that is none.
fn damaged() -> Error {
    Error::new(SqlState::DATA_CORRUPTED, "unreadable state of an aggregate")
}

/// Another accumulator of the same call.
fn same<A: 'static>(accumulator: &dyn Accumulator) -> &A {
    accumulator.as_any().downcast_ref().expect("accumulators of one call are of one kind")
}

pub struct AggregateOperator {
    keys: Vec<usize>,
    calls: Vec<AggregateCall>,
    index: KeyIndex,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// By group: the sum of its rows' weights.
    weights: Vec<i64>,
    /// Keys of groups that have a row over an empty input too, and how many workers share the groups.
    always: Option<(RecordBatch, usize)>,
    /// The numbers of those of them that are this worker's; known from the first step on.
    pinned: Vec<u32>,
    /// Groups by the time at which they end, where they do.
    closing: Option<Closing>,
    log: durable::GroupLog,
    residency: Residency,
    /// How many columns rows have; [sums](combine) have more.
    input_width: usize,
    schema: SchemaRef,
}

impl AggregateOperator {
    /// `schema`: the key columns, then one column for each call. 0A000 for a function over a type we cannot maintain.
    pub fn new(
        input: &SchemaRef,
        keys: Vec<usize>,
        calls: Vec<AggregateCall>,
        schema: SchemaRef,
        append_only: bool,
    ) -> Result<AggregateOperator> {
        let index = KeyIndex::new(keys.iter().map(|&key| input.field(key).data_type().clone()).collect())?;
        let accumulators: Vec<Box<dyn Accumulator>> =
            calls.iter().map(|call| accumulator(call, input, append_only)).collect::<Result<_>>()?;
        let log = durable::GroupLog::new(input, &keys, &calls, &accumulators);
        Ok(AggregateOperator {
            keys,
            calls,
            index,
            accumulators,
            weights: vec![],
            always: None,
            pinned: vec![],
            closing: None,
            log,
            residency: Residency::default(),
            input_width: input.fields().len(),
            schema,
        })
    }

    /// The state of groups whose time is over goes; what was shown of them stays. `time` is of a key; late rows must have
    /// been taken out before.
    pub fn with_closing(self, time: Option<TimeColumn>) -> AggregateOperator {
        let closing = time.map(|time| Closing::new(time, &self.keys));
        AggregateOperator { closing, ..self }
    }

    /// The groups of these keys have a row over an empty input too.
    pub fn with_always(self, keys: RecordBatch, worker_count: usize) -> AggregateOperator {
        AggregateOperator { always: Some((keys, worker_count)), ..self }
    }

    fn is_shown(&self, group: u32) -> bool {
        self.weights[group as usize] > 0 || self.pinned.contains(&group)
    }

    /// The groups that are shown always, as far as they are this worker's.
    fn pin(&mut self, worker_index: usize) -> Result<()> {
        if self.keys.is_empty() && worker_index == 0 {
            self.pinned = vec![0];
        } else if let Some((keys, worker_count)) = &self.always {
            let hashes = hash_rows(keys.columns(), keys.num_rows())?;
            let own: BooleanArray =
                hashes.into_iter().map(|hash| Some(worker_of(hash, *worker_count) == worker_index)).collect();
            let keys = filter_record_batch(keys, &own)?;
            self.pinned = self.index.intern(keys.columns(), keys.num_rows())?;
        }
        self.make_room();
        Ok(())
    }

    /// Numbers the rows' groups and makes room for new ones.
    fn group(&mut self, delta: &Delta) -> Result<Vec<u32>> {
        let columns: Vec<_> = self.keys.iter().map(|&key| delta.column(key).clone()).collect();
        let groups = self.index.intern(&columns, delta.row_count())?;
        self.make_room();
        Ok(groups)
    }

    fn make_room(&mut self) {
        let group_count = self.index.capacity();
        self.weights.resize(group_count, 0);
        self.residency.make_room(group_count);
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.resize(group_count));
    }

    fn update(&mut self, delta: &Delta, groups: &[u32]) -> Result<()> {
        if let Some((weights, states)) = combine::sums(delta, self.input_width) {
            groups.iter().zip(weights).for_each(|(&group, weight)| self.weights[group as usize] += weight);
            let mut accumulators = self.accumulators.iter_mut().zip(states);
            return accumulators.try_for_each(|(accumulator, saved)| accumulator.merge(groups, saved));
        }
        for (row, &group) in groups.iter().enumerate() {
            self.weights[group as usize] += delta.weight(row);
        }
        update(&self.calls, &mut self.accumulators, delta, groups, Some(&mut self.log))
    }

    /// The rows of these groups as they are now; a group whose result does not fit its type is reported with `weight`
    /// and has no row.
    fn show(&self, groups: &[u32], weight: i64, context: &mut EpochContext) -> Result<Shown> {
        let mut columns = self.index.columns(groups)?;
        let mut has_row = vec![true; groups.len()];
        let mut failed = vec![];
        for accumulator in &self.accumulators {
            let evaluated = accumulator.evaluate(groups)?;
            columns.push(evaluated.values);
            failed.extend(evaluated.failed);
        }
        if !failed.is_empty() {
            let batch = RecordBatch::try_from_iter_with_nullable(
                columns.iter().enumerate().map(|(index, column)| (index.to_string(), column.clone(), true)),
            )?;
            for (place, error) in failed {
                has_row[place] = false;
                context.errors.push(RowError { reason: error.to_string(), row: row_text(&batch, place), weight });
            }
        }
        Ok(Shown { columns, has_row })
    }

    fn state_bytes(&self) -> u64 {
        let bytes = self.index.memory_bytes()
            + self.weights.len() * 16
            + self.closing.as_ref().map_or(0, |closing| closing.memory_bytes())
            + self.accumulators.iter().map(|a| a.memory_bytes()).sum::<usize>();
        bytes as u64
    }

    /// Groups without rows and without state give their numbers back.
    fn forget(&mut self, touched: &[u32]) -> Result<()> {
        let dead: Vec<u32> = touched.iter().copied().filter(|&group| self.is_dead(group)).collect();
        for &group in &dead {
            self.accumulators.iter_mut().for_each(|accumulator| accumulator.clear(group));
        }
        if self.residency.is_partial() {
            self.residency.died(&dead);
            return Ok(());
        }
        self.log.gone(&self.index, &dead)?;
        self.residency.forget(&dead);
        self.index.remove(&dead);
        Ok(())
    }

    /// Takes what the groups hold away.
    fn clear(&mut self, groups: &[u32]) -> Result<()> {
        groups.iter().for_each(|&group| self.weights[group as usize] = 0);
        self.accumulators.iter_mut().try_for_each(|accumulator| accumulator.clear_all(groups))?;
        self.index.remove(groups);
        Ok(())
    }

    /// Lets go of the groups whose time is over.
    fn close(&mut self, context: &EpochContext) -> Result<()> {
        let Some(closing) = &mut self.closing else { return Ok(()) };
        let Some(over) = closing.take_over(context, &self.index, |group| self.residency.is_there(group))? else {
            return Ok(());
        };
        self.residency.forget(&over);
        self.clear(&over)
    }
}

/// Takes the rows of a delta in; `log` is told which of them count.
fn update(
    calls: &[AggregateCall],
    accumulators: &mut [Box<dyn Accumulator>],
    delta: &Delta,
    groups: &[u32],
    mut log: Option<&mut durable::GroupLog>,
) -> Result<()> {
    let weights = delta.weights().map(|w| w.as_ref());
    for (number, (call, accumulator)) in calls.iter().zip(accumulators).enumerate() {
        let columns = call.arguments.iter().chain(call.order.iter().map(|order| &order.column));
        let arguments: Vec<ArrayRef> = columns.map(|&column| delta.column(column).clone()).collect();
        let mask = counted_rows(call, delta)?;
        if let Some(log) = &mut log {
            log.counted(number, delta, mask.as_ref())?;
        }
        update_counted(accumulator.as_mut(), mask, groups, &arguments, weights)?;
    }
    Ok(())
}

/// Rows of some groups, as columns.
struct Shown {
    columns: Vec<ArrayRef>,
    has_row: Vec<bool>,
}

impl Operator for AggregateOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let output = self.change(inputs, context)?;
        self.close(context)?;
        self.keep_to_allowance()?;
        Ok(output)
    }

    fn follows_time(&self) -> bool {
        self.closing.is_some()
    }

    fn state_size(&self) -> StateSize {
        let group_count = self.index.len() - self.dead().len();
        let row_count = group_count + self.accumulators.iter().map(|a| a.row_count()).sum::<usize>();
        StateSize { row_count: row_count as u64, bytes: self.state_bytes() }
    }

    fn gives_way(&self) -> bool {
        self.residency.gives_way()
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        Some(self)
    }
}

impl AggregateOperator {
    fn touch(&mut self, group: u32) -> TouchedAt {
        let touched_at = self.residency.touch(group);
        if touched_at.is_saved {
            self.log.groups.touch(&[group]);
        }
        touched_at
    }

    /// Takes in the changes of an epoch and says how the touched groups change.
    fn change(&mut self, inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let deltas = only(inputs);
        self.residency.begin_step();
        let mut touched: Vec<u32> = vec![];
        if context.is_first {
            self.pin(context.worker_index)?;
            touched.clone_from(&self.pinned);
            for &group in &touched {
                self.touch(group);
            }
        }
        let may_be_saved = self.residency.may_miss();
        let mut missing = vec![];
        let mut groups_of = Vec::with_capacity(deltas.len());
        for delta in &deltas {
            let groups = self.group(delta)?;
            for &group in &groups {
                let touched_at = self.touch(group);
                if touched_at.is_first {
                    if touched_at.is_new {
                        if let Some(closing) = &mut self.closing {
                            closing.opened.push(group);
                        }
                        if may_be_saved {
                            missing.push(group);
                        }
                    }
                    touched.push(group);
                }
            }
            groups_of.push(groups);
        }
        if touched.is_empty() {
            return Ok(vec![]);
        }
        self.fetch(&missing)?;

        // Nothing was shown before the first step.
        let is_old = |group: &u32| !context.is_first && self.is_shown(*group);
        let old_groups: Vec<u32> = touched.iter().copied().filter(is_old).collect();
        let mut places: Vec<(Option<u32>, Option<u32>)> = vec![(None, None); touched.len()];
        place_groups(&touched, is_old, &mut places, |place, number| place.0 = Some(number));
        let old = self.show(&old_groups, -1, context)?;
        for (delta, groups) in deltas.iter().zip(&groups_of) {
            self.update(delta, groups)?;
        }
        let is_new = |group: &u32| self.is_shown(*group);
        let new_groups: Vec<u32> = touched.iter().copied().filter(is_new).collect();
        place_groups(&touched, is_new, &mut places, |place, number| place.1 = Some(number));
        let new = self.show(&new_groups, 1, context)?;
        let output = difference(&self.schema, self.keys.len(), &old, &new, &places)?;
        self.forget(&touched)?;
        Ok(output.into_iter().collect())
    }
}

/// −old +new for the touched groups, without those whose row stays the same; the first `key_count` columns always do.
/// `places` holds, for each touched group, its place in `old` and in `new`, where it has one.
fn difference(
    schema: &SchemaRef,
    key_count: usize,
    old: &Shown,
    new: &Shown,
    places: &[(Option<u32>, Option<u32>)],
) -> Result<Option<Delta>> {
    let compared = old.columns.iter().zip(&new.columns).skip(key_count);
    let comparators = compared.map(|(old, new)| make_comparator(old, new, SortOptions::default()));
    let comparators = comparators.collect::<Result<Vec<_>, _>>()?;
    let old_count = old.has_row.len() as u32;
    let (mut rows, mut weights) = (vec![], vec![]);
    for &(old_place, new_place) in places {
        let old_place = old_place.filter(|&place| old.has_row[place as usize]);
        let new_place = new_place.filter(|&place| new.has_row[place as usize]);
        if let (Some(o), Some(n)) = (old_place, new_place)
            && comparators.iter().all(|compare| compare(o as usize, n as usize).is_eq())
        {
            continue;
        }
        if let Some(place) = old_place {
            rows.push(place);
            weights.push(-1);
        }
        if let Some(place) = new_place {
            rows.push(old_count + place);
            weights.push(1);
        }
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let rows = UInt32Array::from(rows);
    let columns = old.columns.iter().zip(&new.columns).map(|(old, new)| {
        if old_count == 0 {
            return Ok(take(new, &rows, None)?);
        }
        Ok(take(&concat(&[old.as_ref(), new.as_ref()])?, &rows, None)?)
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
    let all_new = weights.iter().all(|&weight| weight == 1);
    Ok(Some(if all_new { Delta::insert(batch) } else { Delta::new(batch, weights) }))
}

/// Numbers the chosen groups in their order.
fn place_groups(
    touched: &[u32],
    is_chosen: impl Fn(&u32) -> bool,
    places: &mut [(Option<u32>, Option<u32>)],
    set: impl Fn(&mut (Option<u32>, Option<u32>), u32),
) {
    let mut number = 0;
    for (group, place) in touched.iter().zip(places) {
        if is_chosen(group) {
            set(place, number);
            number += 1;
        }
    }
}

/// Updates with the rows of the mask; without one, with all.
fn update_counted(
    accumulator: &mut dyn Accumulator,
    mask: Option<BooleanArray>,
    groups: &[u32],
    arguments: &[ArrayRef],
    weights: Option<&[i64]>,
) -> Result<()> {
    let Some(mask) = mask else { return accumulator.update(groups, arguments, weights) };
    let rows: Vec<u32> = (0..groups.len() as u32).filter(|&row| mask.value(row as usize)).collect();
    let groups: Vec<u32> = rows.iter().map(|&row| groups[row as usize]).collect();
    let weights: Option<Vec<i64>> = weights.map(|w| rows.iter().map(|&r| w[r as usize]).collect());
    let arguments = arguments.iter().map(|a| filter(a, &mask)).collect::<Result<Vec<_>, _>>()?;
    accumulator.update(&groups, &arguments, weights.as_deref())
}

/// Rows that the call counts: its filter is true and no argument NULL. `None`: all.
fn counted_rows(call: &AggregateCall, delta: &Delta) -> Result<Option<BooleanArray>> {
    let mut mask: Option<BooleanArray> = call.filter.map(|column| {
        let mask = delta.column(column).as_boolean();
        if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() }
    });
    if matches!(call.kind, AggregateKind::General(_)) {
        return Ok(mask);
    }
    for &column in &call.arguments {
        if delta.column(column).null_count() > 0 {
            let present = is_not_null(delta.column(column))?;
            mask = Some(match mask {
                Some(mask) => and(&mask, &present)?,
                None => present,
            });
        }
    }
    Ok(mask)
}

fn accumulator(call: &AggregateCall, input: &SchemaRef, append_only: bool) -> Result<Box<dyn Accumulator>> {
    let types: Vec<DataType> = call.arguments.iter().map(|&column| input.field(column).data_type().clone()).collect();
    let inner: Box<dyn Accumulator> = match (&call.kind, types.as_slice()) {
        (AggregateKind::General(function), _) => {
            return Ok(Box::new(general::General::new(function.clone(), call, input, append_only)?));
        }
        (AggregateKind::Count, []) => return Ok(Box::new(count::Count::default())),
        (AggregateKind::Count, _) => Box::new(count::Count::default()),
        (AggregateKind::Sum, [_]) => running::running(Measure::Sum, &types, &call.data_type)?,
        (AggregateKind::Avg, [_]) => running::running(Measure::Average, &types, &call.data_type)?,
        // DISTINCT changes nothing here.
        (AggregateKind::Min, [argument]) => return extreme::extreme(argument, extreme::Side::Least, append_only),
        (AggregateKind::Max, [argument]) => return extreme::extreme(argument, extreme::Side::Greatest, append_only),
        (AggregateKind::Bits(fold), [argument]) => Box::new(bits::Bits::new(*fold, argument)),
        (AggregateKind::Statistic(statistic), [_] | [_, _]) => {
            running::running(Measure::Spread(*statistic), &types, &call.data_type)?
        }
        (kind, types) => return Err(Error::internal(format!("{kind:?} of {} arguments", types.len()))),
    };
    Ok(if call.distinct { Box::new(distinct::Distinct::new(types, inner)?) } else { inner })
}
