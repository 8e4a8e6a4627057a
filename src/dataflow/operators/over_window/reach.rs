//! From changed rows to the rows to evaluate again.

use std::ops::Range;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::ScalarValue;

use super::{OverWindowOperator, Rows};
use crate::dataflow::ordered_rows::Place;
use crate::dataflow::row_order::Change;
use crate::error::Result;
use crate::plan::{Reach, Running};

/// If more than one in so many entries has changed, the whole partition is evaluated at once.
const SCATTERED_SHARE: usize = 4;

impl OverWindowOperator {
    /// Places whose rows depend on a changed row, ascending and apart from each other. Brings what the running calls
    /// have seen up to date.
    pub(super) fn regions(&self, rows: &mut Rows, changed: &[&Change]) -> Result<Vec<Range<Place>>> {
        if rows.is_empty() || changed.is_empty() {
            return Ok(vec![]);
        }
        let places: Vec<Place> = changed.iter().map(|change| rows.lower_bound(&change.key)).collect();
        let mut regions = self.settle(rows, &places)?;
        let everything = rows.start()..rows.end();
        let whole = self.calls.iter().any(|call| call.reach == Reach::Partition);
        if whole || changed.len() * SCATTERED_SHARE > rows.entry_count() {
            return Ok(vec![everything]);
        }
        let sees_peers = self.calls.iter().any(|call| call.reach.sees_peers());
        for (change, &place) in changed.iter().zip(&places) {
            for call in &self.calls {
                regions.push(self.touched(rows, change, place, &call.reach)?);
            }
        }
        if sees_peers {
            for region in &mut regions {
                if region.start < rows.end() {
                    region.start = rows.peers_start(rows.entry(region.start).sort_key());
                }
                if region.start < region.end {
                    region.end = peers_end_before(rows, region.end);
                }
            }
        }
        regions.retain(|region| region.start < region.end);
        regions.sort_unstable_by_key(|region| region.start);
        regions.dedup_by(|later, first| {
            let meet = later.start <= first.end;
            if meet {
                first.end = first.end.max(later.end);
            }
            meet
        });
        Ok(regions)
    }

    /// The rows that a change at `place` reaches through one call, the changed row itself included if it is there.
    fn touched(&self, rows: &Rows, change: &Change, place: Place, reach: &Reach) -> Result<Range<Place>> {
        let sort_key = &change.key[..change.sort_length];
        let is_there = place < rows.end() && *rows.entry(place).key == *change.key;
        let own = place..if is_there { rows.after(place) } else { place };
        Ok(match reach {
            Reach::Rows { before, after } => back_rows(rows, own.start, *after)..on_rows(rows, own.end, *before),
            Reach::Groups { before, after } => {
                let (start, end) = (rows.peers_start(sort_key), rows.peers_end(sort_key));
                back_groups(rows, start, *after)..on_groups(rows, end, *before)
            }
            Reach::Range { before, after } => {
                let value = self.order_value(&change.key[change.sort_length..])?;
                self.value_place(rows, &value, after.as_ref(), Side::Before, sort_key)?
                    ..self.value_place(rows, &value, before.as_ref(), Side::After, sort_key)?
            }
            // The rest is known from what the call has seen.
            Reach::Running(Running::Aggregate { peers: true }) => rows.peers_start(sort_key)..rows.peers_end(sort_key),
            Reach::Running(_) => own,
            Reach::Partition => rows.start()..rows.end(),
        })
    }

    /// The rows that the rows of a region see through a call.
    pub(super) fn seen_by(&self, rows: &Rows, region: &Range<Place>, reach: &Reach) -> Result<Range<Place>> {
        Ok(match reach {
            Reach::Rows { before, after } => back_rows(rows, region.start, *before)..on_rows(rows, region.end, *after),
            Reach::Groups { before, after } => {
                let end = peers_end_before(rows, region.end);
                let start = rows.peers_start(rows.entry(region.start).sort_key());
                back_groups(rows, start, *before)..on_groups(rows, end, *after)
            }
            Reach::Range { before, after } => {
                let first = rows.entry(region.start);
                let start = self.value_place(
                    rows,
                    &self.order_value(first.row())?,
                    before.as_ref(),
                    Side::Before,
                    first.sort_key(),
                )?;
                let last = rows.entry(place_before(rows, region.end));
                let end = self.value_place(
                    rows,
                    &self.order_value(last.row())?,
                    after.as_ref(),
                    Side::After,
                    last.sort_key(),
                )?;
                start..end
            }
            Reach::Running(Running::Aggregate { peers: true }) => {
                remembered(rows, region.start)..peers_end_before(rows, region.end)
            }
            Reach::Running(_) => remembered(rows, region.start)..region.end,
            Reach::Partition => rows.start()..rows.end(),
        })
    }

    /// The ORDER BY value of a row; RANGE with offsets has one ORDER BY column.
    fn order_value(&self, row: &[u8]) -> Result<ArrayRef> {
        let batch = self.order.batch(std::iter::once(row))?;
        let column = self.order.columns().first().expect("RANGE with an offset has an ORDER BY column");
        Ok(batch.column(column.column).clone())
    }

    /// Where the rows begin whose value is at most `distance` before `value`, or end that are at most so far behind.
    /// NULL has no distance but to itself.
    fn value_place(
        &self,
        rows: &Rows,
        value: &ArrayRef,
        distance: Option<&ScalarValue>,
        side: Side,
        sort_key: &[u8],
    ) -> Result<Place> {
        let own = |side| match side {
            Side::Before => rows.peers_start(sort_key),
            Side::After => rows.peers_end(sort_key),
        };
        let Some(distance) = distance else { return Ok(own(side)) };
        if value.is_null(0) {
            return Ok(own(side));
        }
        let SortOptions { descending, nulls_first } = self.order.columns()[0].options;
        let value = ScalarValue::try_from_array(value, 0)?;
        let distance = generous(distance);
        let subtracts = (side == Side::Before) != descending;
        let moved = if subtracts { value.sub_checked(&distance) } else { value.add_checked(&distance) };
        let moved = moved.and_then(|moved| moved.cast_to(&value.data_type()));
        // Out of the type's range: as far as there are values.
        let Ok(moved) = moved else {
            let null = self.order.sort_key(&[ScalarValue::try_from(value.data_type())?.to_array()?])?;
            return Ok(match (side, nulls_first) {
                (Side::Before, true) => rows.peers_end(&null),
                (Side::Before, false) => rows.start(),
                (Side::After, true) => rows.end(),
                (Side::After, false) => rows.peers_start(&null),
            });
        };
        let key = self.order.sort_key(&[moved.to_array()?])?;
        Ok(match side {
            Side::Before => rows.peers_start(&key),
            Side::After => rows.peers_end(&key),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// Months are of different lengths: `x - 1 month = v` does not mean `x = v + 1 month`, but it is not far off.
fn generous(distance: &ScalarValue) -> ScalarValue {
    const MONTH_ERROR_DAYS: i32 = 4;
    match distance {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months != 0 => {
            let days = interval.days.saturating_add(MONTH_ERROR_DAYS);
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { days, ..*interval }))
        }
        other => other.clone(),
    }
}

/// The last chunk's start at or before `place` of which it is known what came before.
pub(super) fn remembered(rows: &Rows, place: Place) -> Place {
    let mut chunk = place.chunk;
    while chunk > 0 && rows.chunks()[chunk].memory.is_none() {
        chunk -= 1;
    }
    Place { chunk, entry: 0 }
}

/// The place of the entry before; `place` is not the start.
fn place_before(rows: &Rows, place: Place) -> Place {
    match place {
        Place { chunk, entry: 0 } => Place { chunk: chunk - 1, entry: rows.chunks()[chunk - 1].entry_count() - 1 },
        Place { chunk, entry } => Place { chunk, entry: entry - 1 },
    }
}

/// Behind the peers of the last entry before `place`.
fn peers_end_before(rows: &Rows, place: Place) -> Place {
    rows.peers_end(rows.entry(place_before(rows, place)).sort_key())
}

fn back_rows(rows: &Rows, place: Place, count: u64) -> Place {
    if count == 0 {
        return place;
    }
    rows.at(rows.position(place).saturating_sub(count)).0.min(place)
}

fn on_rows(rows: &Rows, place: Place, count: u64) -> Place {
    if count == 0 {
        return place;
    }
    match rows.at(rows.position(place).saturating_add(count - 1)).0 {
        last if last == rows.end() => last,
        last => rows.after(last).max(place),
    }
}

/// Entries that stand for no row make no group, so they do not count.
fn back_groups(rows: &Rows, mut place: Place, count: u64) -> Place {
    for _ in 0..count {
        let position = rows.position(place);
        if position == 0 {
            return rows.start();
        }
        place = rows.peers_start(rows.entry(rows.at(position - 1).0).sort_key());
    }
    place
}

fn on_groups(rows: &Rows, mut place: Place, count: u64) -> Place {
    for _ in 0..count {
        let next = rows.at(rows.position(place)).0;
        if next == rows.end() {
            return next;
        }
        place = rows.peers_end(rows.entry(next).sort_key());
    }
    place
}
