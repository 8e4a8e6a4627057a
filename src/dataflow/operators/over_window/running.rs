//! What running calls have seen: the state before a row of all rows that come before it in its partition.
//!
//! It is kept at the start of each chunk. A change makes the starts behind it wrong, up to one at which the same has
//! been seen again: from there on nothing is different. So `max(x) OVER (ORDER BY o)` stops at the next greater x, and
//! an update that moves no row leaves `row_number()` alone.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute::{filter, prep_null_mask_filter};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Accumulator;
use datafusion::physical_expr::window::PlainAggregateWindowExpr;

use super::evaluate::Evaluated;
use super::reach::remembered;
use super::{OverWindowOperator, Rows};
use crate::dataflow::ordered_rows::Place;
use crate::error::{Error, Result};
use crate::plan::{Reach, Running, WindowCall};

/// What one running call has seen.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Seen {
    /// `row_number`: so many rows.
    Rows(u64),
    /// `rank`: so many rows; the last one's peers begin behind `group_start` of them.
    Rank { row_count: u64, group_start: u64, sort_key: Box<[u8]> },
    /// `dense_rank`: so many groups of peers, the last one with this key.
    Groups { group_count: u64, sort_key: Box<[u8]> },
    /// `first_value`.
    First(Option<ScalarValue>),
    /// State of an aggregate; nothing before the first row.
    State(Vec<ScalarValue>),
    /// It failed, and so it does for every row from here on.
    Failed(Box<str>),
}

impl Seen {
    fn nothing(running: Running) -> Seen {
        match running {
            Running::RowNumber => Seen::Rows(0),
            Running::Rank => Seen::Rank { row_count: 0, group_start: 0, sort_key: Box::default() },
            Running::DenseRank => Seen::Groups { group_count: 0, sort_key: Box::default() },
            Running::FirstValue => Seen::First(None),
            Running::Aggregate { .. } => Seen::State(vec![]),
        }
    }

    pub fn memory_bytes(&self) -> usize {
        size_of::<Seen>()
            + match self {
                Seen::Rank { sort_key, .. } | Seen::Groups { sort_key, .. } => sort_key.len(),
                Seen::First(value) => value.as_ref().map_or(0, ScalarValue::size),
                Seen::State(values) => values.iter().map(ScalarValue::size).sum(),
                _ => 0,
            }
    }
}

/// Rows in order, as bytes of their ORDER BY columns and as columns.
struct Slice<'a> {
    /// One for each row.
    sort_keys: Vec<&'a [u8]>,
    batch: &'a RecordBatch,
}

impl OverWindowOperator {
    fn running_calls(&self) -> impl Iterator<Item = (&WindowCall, Running)> {
        self.calls.iter().filter_map(|call| match call.reach {
            Reach::Running(running) => Some((call, running)),
            _ => None,
        })
    }

    /// Brings the chunks' memories up to date after changes at `places` (ascending), and says what they touched.
    pub(super) fn settle(&self, rows: &mut Rows, places: &[Place]) -> Result<Vec<Range<Place>>> {
        let calls: Vec<(&WindowCall, Running)> = self.running_calls().collect();
        let mut regions = vec![];
        if calls.is_empty() {
            return Ok(regions);
        }
        let needs_values = calls.iter().any(|(_, running)| needs_values(*running));
        let mut places = places.iter().copied().peekable();
        while let Some(first) = places.next() {
            // A row that came or went at a chunk's start may have been the last of the chunk before.
            let chunk = if first.entry == 0 { first.chunk.saturating_sub(1) } else { first.chunk };
            let mut chunk = remembered(rows, Place { chunk, entry: 0 }).chunk;
            let mut seen = self.seen_before(rows, chunk);
            let end = loop {
                let (start, end) = (Place { chunk, entry: 0 }, Place { chunk: chunk + 1, entry: 0 });
                let batch = if needs_values { self.rows_between(rows, start, end)? } else { self.no_rows() };
                let slice = Slice { sort_keys: sort_keys(rows, start, end), batch: &batch };
                for ((call, running), seen) in calls.iter().zip(&mut seen) {
                    pass(call, *running, &slice, seen)?;
                }
                while places.next_if(|place| *place <= end).is_some() {}
                chunk += 1;
                if end == rows.end() {
                    break end;
                }
                let memory = &mut rows.chunk_mut(chunk).memory;
                if memory.as_ref() == Some(&seen) {
                    break end;
                }
                *memory = Some(seen.clone());
            };
            regions.push(first..end);
        }
        Ok(regions)
    }

    fn seen_before(&self, rows: &Rows, chunk: usize) -> Vec<Seen> {
        match &rows.chunks()[chunk].memory {
            Some(seen) if chunk > 0 => seen.clone(),
            _ => self.running_calls().map(|(_, running)| Seen::nothing(running)).collect(),
        }
    }

    /// Results of running call number `number` for the rows of `region`; `batch` holds the rows of `span`, which starts
    /// at a chunk's start and may end behind the region, with its last peers.
    pub(super) fn evaluate_running(
        &self,
        rows: &Rows,
        call: &WindowCall,
        running: Running,
        region: &Range<usize>,
        span: &Range<Place>,
        batch: &RecordBatch,
    ) -> Result<Evaluated> {
        let number = self.running_calls().position(|(other, _)| std::ptr::eq(other, call));
        let number = number.expect("a running call is one of them");
        let mut seen = self.seen_before(rows, span.start.chunk).swap_remove(number);
        let slice = Slice { sort_keys: sort_keys(rows, span.start, span.end), batch };
        let sort_keys = &slice.sort_keys;
        match &mut seen {
            Seen::Rows(count) => {
                let count = *count;
                Ok(region.clone().map(|row| count + row as u64 + 1).collect::<UInt64Array>().into())
            }
            Seen::Rank { row_count, group_start, sort_key } => {
                let (mut group_start, mut key) = (*group_start, sort_key.as_ref());
                let ranks = sort_keys.iter().enumerate().map(|(row, next)| {
                    let position = *row_count + row as u64;
                    if *next != key || position == 0 {
                        (group_start, key) = (position, next);
                    }
                    group_start + 1
                });
                Ok(UInt64Array::from_iter_values(ranks.take(region.end).skip(region.start)).into())
            }
            Seen::Groups { group_count, sort_key } => {
                let (mut group_count, mut key) = (*group_count, sort_key.as_ref());
                let ranks = sort_keys.iter().map(|next| {
                    if *next != key || group_count == 0 {
                        (group_count, key) = (group_count + 1, next);
                    }
                    group_count
                });
                Ok(UInt64Array::from_iter_values(ranks.take(region.end).skip(region.start)).into())
            }
            Seen::First(first) => {
                let value = match first.take() {
                    Some(value) => value,
                    None => first_argument(call, batch)?,
                };
                Ok(value.to_array_of_size(region.len())?.into())
            }
            Seen::State(state) => {
                let peers = running == Running::Aggregate { peers: true };
                aggregate(call, state, peers, region, &slice)
            }
            Seen::Failed(reason) => {
                let data_type = call.expr.field()?.data_type().clone();
                Ok(Evaluated::failed(&data_type, region.len(), reason))
            }
        }
    }
}

fn needs_values(running: Running) -> bool {
    matches!(running, Running::FirstValue | Running::Aggregate { .. })
}

fn sort_keys(rows: &Rows, start: Place, end: Place) -> Vec<&[u8]> {
    let entries = rows.range(start, end);
    entries.flat_map(|entry| (0..entry.row_count()).map(|_| entry.sort_key())).collect()
}

/// Adds the rows to what a call has seen.
fn pass(call: &WindowCall, running: Running, slice: &Slice<'_>, seen: &mut Seen) -> Result<()> {
    let count = slice.sort_keys.len() as u64;
    let Some(&last) = slice.sort_keys.last() else { return Ok(()) };
    match seen {
        Seen::Rows(row_count) => *row_count += count,
        Seen::Rank { row_count, group_start, sort_key } => {
            // The last group begins in here, unless all rows are of the one before.
            let peers = slice.sort_keys.iter().rev().take_while(|key| **key == last).count() as u64;
            if peers < count || **sort_key != *last || *row_count == 0 {
                *group_start = *row_count + count - peers;
                *sort_key = last.into();
            }
            *row_count += count;
        }
        Seen::Groups { group_count, sort_key } => {
            let begins = slice.sort_keys.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
            let is_new = *group_count == 0 || **sort_key != *slice.sort_keys[0];
            *group_count += begins + u64::from(is_new);
            *sort_key = last.into();
        }
        Seen::First(first) => {
            if first.is_none() {
                *first = Some(first_argument(call, slice.batch)?);
            }
        }
        Seen::State(state) => {
            debug_assert!(matches!(running, Running::Aggregate { .. }));
            let next = accumulator(call, state).and_then(|mut accumulator| {
                let (arguments, counts) = arguments(call, slice.batch)?;
                update(accumulator.as_mut(), &arguments, counts.as_ref(), 0..count as usize)?;
                Ok(accumulator.state()?)
            });
            match next {
                Ok(next) => *state = next,
                Err(error) => *seen = Seen::Failed(error.to_string().into()),
            }
        }
        Seen::Failed(_) => {}
    }
    Ok(())
}

fn first_argument(call: &WindowCall, batch: &RecordBatch) -> Result<ScalarValue> {
    let arguments = call.expr.evaluate_args(batch)?;
    Ok(ScalarValue::try_from_array(&arguments[0], 0)?)
}

/// The aggregate as it is after what was seen.
fn accumulator(call: &WindowCall, state: &[ScalarValue]) -> Result<Box<dyn Accumulator>> {
    let Some(expr) = call.expr.as_any().downcast_ref::<PlainAggregateWindowExpr>() else {
        return Err(Error::internal(format!("{} is no aggregate", call.name)));
    };
    let mut accumulator = expr.get_aggregate_expr().create_accumulator()?;
    if !state.is_empty() {
        let arrays = state.iter().map(|value| Ok(value.to_array()?)).collect::<Result<Vec<_>>>()?;
        accumulator.merge_batch(&arrays)?;
    }
    Ok(accumulator)
}

/// The call's arguments, and which rows its filter lets through (`None`: all).
fn arguments(call: &WindowCall, batch: &RecordBatch) -> Result<(Vec<ArrayRef>, Option<BooleanArray>)> {
    let counts = match &call.filter {
        None => None,
        Some(expr) => {
            let mask = expr.evaluate(batch)?.into_array(batch.num_rows())?;
            let mask = mask.as_boolean();
            Some(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() })
        }
    };
    Ok((call.expr.evaluate_args(batch)?, counts))
}

fn update(
    accumulator: &mut dyn Accumulator,
    arguments: &[ArrayRef],
    counts: Option<&BooleanArray>,
    rows: Range<usize>,
) -> Result<()> {
    let mut slices: Vec<ArrayRef> = arguments.iter().map(|array| array.slice(rows.start, rows.len())).collect();
    if let Some(counts) = counts {
        let counts = counts.slice(rows.start, rows.len());
        slices = slices.iter().map(|array| filter(array, &counts)).collect::<Result<_, _>>()?;
    }
    Ok(accumulator.update_batch(&slices)?)
}

/// Goes through the slice row by row, or by groups of peers, which all get the result of their last.
fn aggregate(
    call: &WindowCall,
    state: &[ScalarValue],
    peers: bool,
    region: &Range<usize>,
    slice: &Slice<'_>,
) -> Result<Evaluated> {
    let data_type = call.expr.field()?.data_type().clone();
    let all_fail = |error: &Error| Evaluated::failed(&data_type, region.len(), &error.to_string());
    let (arguments, counts) = match arguments(call, slice.batch) {
        Ok(read) => read,
        Err(error) => return Ok(all_fail(&error)),
    };
    let mut accumulator = match accumulator(call, state) {
        Ok(made) => made,
        Err(error) => return Ok(all_fail(&error)),
    };
    let null = ScalarValue::try_from(&data_type)?;
    let mut values: Vec<ScalarValue> = Vec::with_capacity(region.len());
    let mut failures: Vec<(usize, Box<str>)> = vec![];
    let mut poison: Option<Box<str>> = None;
    let mut row = 0;
    while row < region.end {
        let mut end = row + 1;
        if row < region.start && !peers {
            end = region.start;
        }
        while peers && end < slice.sort_keys.len() && slice.sort_keys[end] == slice.sort_keys[row] {
            end += 1;
        }
        if poison.is_none() {
            let updated = update(accumulator.as_mut(), &arguments, counts.as_ref(), row..end);
            poison = updated.err().map(|error| error.to_string().into());
        }
        let shown = row.max(region.start)..end.min(region.end);
        if !shown.is_empty() {
            let value = match &poison {
                Some(reason) => Err(reason.clone()),
                None => accumulator.evaluate().map_err(|error| Error::from(error).to_string().into()),
            };
            for row in shown {
                match &value {
                    Ok(value) => values.push(value.clone()),
                    Err(reason) => {
                        failures.push((row - region.start, reason.clone()));
                        values.push(null.clone());
                    }
                }
            }
        }
        row = end;
    }
    Ok(Evaluated { values: ScalarValue::iter_to_array(values)?, failures })
}
