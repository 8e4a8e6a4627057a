//! Sums and averages of intervals: months, days and time apart, as Postgres adds them.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, IntervalMonthDayNanoArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit};

use super::{Measure, Results, Summary, Total, take};
use crate::error::{Error, Result, SqlState};

const DAY_US: i128 = 86_400_000_000;
const MONTH_DAYS: i128 = 30;
const US_NANOSECONDS: i128 = 1_000;

#[derive(Clone, Debug)]
pub struct Intervals {
    average: bool,
}

impl Intervals {
    pub fn new(measure: Measure) -> Option<Intervals> {
        match measure {
            Measure::Sum => Some(Intervals { average: false }),
            Measure::Average => Some(Intervals { average: true }),
            Measure::Spread(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    months: i64,
    days: i64,
    nanoseconds: i128,
}

impl Parts {
    fn interval(self) -> Option<IntervalMonthDayNano> {
        Some(IntervalMonthDayNano {
            months: self.months.try_into().ok()?,
            days: self.days.try_into().ok()?,
            nanoseconds: self.nanoseconds.try_into().ok()?,
        })
    }

    /// What is left of months goes into days of a thirtieth, what is left of days into time.
    fn divided(self, count: i64) -> Parts {
        let days_left = i128::from(self.months % count) * MONTH_DAYS;
        let count = i128::from(count);
        let day_fraction = i128::from(self.days) % count + days_left % count;
        let time = self.nanoseconds / US_NANOSECONDS + day_fraction % count * DAY_US;
        let (time_us, rest) = (time / count, time % count);
        let up = if rest.abs() * 2 >= count.abs() { rest.signum() * count.signum() } else { 0 };
        Parts {
            months: self.months / count as i64,
            days: (i128::from(self.days) / count + days_left / count + day_fraction / count) as i64,
            nanoseconds: (time_us + up) * US_NANOSECONDS,
        }
    }
}

impl Summary for Intervals {
    type Columns = ScalarBuffer<IntervalMonthDayNano>;
    type Value = IntervalMonthDayNano;
    type State = Total<Parts>;

    fn start(&self) -> Total<Parts> {
        Total::default()
    }

    fn columns(&self, arguments: &[ArrayRef]) -> Result<Self::Columns> {
        let intervals = cast(&arguments[0], &DataType::Interval(IntervalUnit::MonthDayNano))?;
        Ok(intervals.as_primitive::<IntervalMonthDayNanoType>().values().clone())
    }

    fn value(columns: &Self::Columns, row: usize) -> IntervalMonthDayNano {
        columns[row]
    }

    fn add(state: &mut Total<Parts>, value: IntervalMonthDayNano, weight: i64) {
        state.count += weight;
        state.sum.months += i64::from(value.months) * weight;
        state.sum.days += i64::from(value.days) * weight;
        state.sum.nanoseconds += i128::from(value.nanoseconds) * i128::from(weight);
    }

    fn merge(state: &mut Total<Parts>, other: &Total<Parts>) {
        state.count += other.count;
        state.sum.months += other.sum.months;
        state.sum.days += other.sum.days;
        state.sum.nanoseconds += other.sum.nanoseconds;
    }

    fn is_empty(state: &Total<Parts>) -> bool {
        state.count == 0 && state.sum == Parts::default()
    }

    fn results<'a>(&self, states: impl Iterator<Item = &'a Total<Parts>>) -> Result<Results> {
        let mut failed = vec![];
        let value = |(place, state): (usize, &'a Total<Parts>)| {
            if state.count == 0 {
                return None;
            }
            let parts = if self.average { state.sum.divided(state.count) } else { state.sum };
            let interval = parts.interval();
            if interval.is_none() {
                failed.push((place, Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range")));
            }
            interval
        };
        let values: IntervalMonthDayNanoArray = states.enumerate().map(value).collect();
        Ok(Results { values: Arc::new(values), failed })
    }

    fn write(state: &Total<Parts>, out: &mut Vec<u8>) {
        out.extend(state.count.to_le_bytes());
        out.extend(state.sum.months.to_le_bytes());
        out.extend(state.sum.days.to_le_bytes());
        out.extend(state.sum.nanoseconds.to_le_bytes());
    }

    fn read(&self, mut bytes: &[u8]) -> Option<Total<Parts>> {
        let count = i64::from_le_bytes(take(&mut bytes)?);
        let months = i64::from_le_bytes(take(&mut bytes)?);
        let days = i64::from_le_bytes(take(&mut bytes)?);
        Some(Total { count, sum: Parts { months, days, nanoseconds: i128::from_le_bytes(take(&mut bytes)?) } })
    }

    fn pack(value: IntervalMonthDayNano) -> [u8; 16] {
        let mut packed = [0; 16];
        packed[..4].copy_from_slice(&value.months.to_le_bytes());
        packed[4..8].copy_from_slice(&value.days.to_le_bytes());
        packed[8..].copy_from_slice(&value.nanoseconds.to_le_bytes());
        packed
    }

    fn unpack(packed: [u8; 16]) -> IntervalMonthDayNano {
        let bits = u128::from_le_bytes(packed);
        IntervalMonthDayNano {
            months: bits as u32 as i32,
            days: (bits >> 32) as u32 as i32,
            nanoseconds: (bits >> 64) as u64 as i64,
        }
    }
}
