//! σ[from ≤ now < until](A), maintained as time moves: each row comes in when its time begins and goes when it ends.
//!
//! A change of weight w that counts from f until u is two changes to come: +w at f, −w at u. Those that are due come out,
//! the others are kept by their instant. So it is linear: a retraction puts the opposite changes there, and they add up to
//! nothing. What comes out in an epoch costs in proportion to what is due in it.
//!
//! Where it marks rows instead of filtering them, each row is always there, with true while its time lasts: a change to
//! come then takes the row with one mark away and brings the row with the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};

use super::only;
use crate::dataflow::expression::evaluate;
use crate::dataflow::pending::Pending;
use crate::dataflow::{Durable, EpochContext, Operator, StateSize};
use crate::error::Result;
use crate::plan::{Limit, TimeLimit};
use crate::types::Delta;

pub struct TemporalOperator {
    limits: Vec<TimeLimit>,
    marks: bool,
    /// The input's columns and, where rows are marked, the mark.
    schema: SchemaRef,
    /// Changes to come, by instant.
    to_come: Pending,
}

/// The first instant at which a row counts, and the first after that at which it does not; `None`: it never does.
type Span = Option<(i64, i64)>;

impl TemporalOperator {
    pub fn new(limits: Vec<TimeLimit>, marks: bool, schema: SchemaRef) -> TemporalOperator {
        TemporalOperator { limits, marks, to_come: Pending::new(schema.clone()), schema }
    }

    /// Rows whose time begins (or, negated, ends), as changes of what comes out.
    fn begin(&self, delta: &Delta) -> Result<Delta> {
        if !self.marks {
            return Ok(delta.clone());
        }
        let parts = [self.marked(&delta.negate(), false)?, self.marked(delta, true)?];
        Ok(Delta::concat(&self.schema, &parts)?)
    }

    fn marked(&self, delta: &Delta, mark: bool) -> Result<Delta> {
        let mark: ArrayRef = Arc::new(BooleanArray::from(vec![mark; delta.row_count()]));
        let columns = delta.batch().columns().iter().cloned().chain([mark]).collect();
        Ok(delta.with_batch(RecordBatch::try_new(self.schema.clone(), columns)?))
    }

    /// For each row, from when on and until when it counts: the first instant that does, and the first that does not.
    fn spans(&self, delta: Delta, context: &mut EpochContext) -> Result<(Delta, Vec<Span>)> {
        let exprs: Vec<_> = self.limits.iter().map(|limit| limit.expr.clone()).collect();
        let (delta, instants) = evaluate(&exprs, &delta, context)?;
        let mut spans = vec![Some((i64::MIN, i64::MAX)); delta.row_count()];
        for (limit, instants) in self.limits.iter().zip(&instants) {
            let instants = instants.as_primitive::<TimestampMicrosecondType>();
            for (row, span) in spans.iter_mut().enumerate() {
                let Some((from, until)) = span else { continue };
                if instants.is_null(row) {
                    *span = None;
                    continue;
                }
                let instant = instants.value(row);
                match (limit.limit, limit.is_inclusive) {
                    (Limit::From, true) => *from = (*from).max(instant),
                    (Limit::From, false) => *from = (*from).max(instant.saturating_add(1)),
                    (Limit::Until, true) => *until = (*until).min(instant.saturating_add(1)),
                    (Limit::Until, false) => *until = (*until).min(instant),
                }
            }
        }
        Ok((delta, spans))
    }
}

/// Some rows of a delta, in order.
fn rows_of(delta: &Delta, rows: Vec<u32>) -> Result<Delta> {
    let taken = delta.take(&UInt32Array::from(rows))?;
    let weights: ScalarBuffer<i64> = (0..taken.row_count()).map(|row| taken.weight(row)).collect();
    Ok(Delta::new(taken.into_batch(), weights))
}

impl Operator for TemporalOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let now = context.now_us;
        let mut output = self.to_come.take_below(now.saturating_add(1))?;
        for delta in only(inputs) {
            let (delta, spans) = self.spans(delta, context)?;
            let (mut present, mut begin, mut end) =
                (vec![], BTreeMap::<i64, Vec<u32>>::new(), BTreeMap::<i64, Vec<u32>>::new());
            let mut absent = vec![];
            for (row, span) in spans.into_iter().enumerate() {
                if span.is_none_or(|(from, until)| from > now || until <= now) {
                    absent.push(row as u32);
                }
                let Some((from, until)) = span.filter(|(from, until)| from < until && *until > now) else { continue };
                if from <= now {
                    present.push(row as u32);
                } else {
                    begin.entry(from).or_default().push(row as u32);
                }
                if until < i64::MAX {
                    end.entry(until).or_default().push(row as u32);
                }
            }
            let present = if absent.is_empty() { delta.clone() } else { delta.take(&UInt32Array::from(present))? };
            output.push(if self.marks { self.marked(&present, true)? } else { present });
            if self.marks && !absent.is_empty() {
                output.push(self.marked(&delta.take(&UInt32Array::from(absent))?, false)?);
            }
            for (instant, rows) in begin {
                let changes = self.begin(&rows_of(&delta, rows)?)?;
                self.to_come.add(instant, changes)?;
            }
            for (instant, rows) in end {
                let changes = self.begin(&rows_of(&delta, rows)?.negate())?;
                self.to_come.add(instant, changes)?;
            }
        }
        Ok(output)
    }

    fn follows_time(&self) -> bool {
        true
    }

    fn due_us(&self) -> Option<i64> {
        self.to_come.first_time()
    }

    fn state_size(&self) -> StateSize {
        self.to_come.state_size()
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        Some(&mut self.to_come)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;
    use datafusion::physical_expr::expressions::col;

    use super::*;
    use crate::types::Epoch;

    fn step(operator: &mut TemporalOperator, now_us: i64, rows: &[(Option<i64>, i64)]) -> Result<Vec<(i64, i64)>> {
        let times: TimestampMicrosecondArray = rows.iter().map(|(time, _)| *time).collect();
        let batch = RecordBatch::try_from_iter_with_nullable([("ts", Arc::new(times) as ArrayRef, true)])?;
        let weights: Vec<i64> = rows.iter().map(|(_, weight)| *weight).collect();
        let mut context = EpochContext::new(Epoch(1), false, 0);
        context.now_us = now_us;
        let output = operator.step(vec![vec![Delta::new(batch, weights)]], &mut context)?;
        let output = Delta::concat(&operator.schema, &output)?.consolidate()?;
        let times = output.column(0).as_primitive::<TimestampMicrosecondType>().clone();
        let mut changes: Vec<(i64, i64)> =
            (0..output.row_count()).map(|row| (times.value(row), output.weight(row))).collect();
        changes.sort_unstable();
        Ok(changes)
    }

    fn operator(limits: &[(Limit, bool)]) -> Result<TemporalOperator> {
        let times = TimestampMicrosecondArray::from(vec![None::<i64>]);
        let batch = RecordBatch::try_from_iter_with_nullable([("ts", Arc::new(times) as ArrayRef, true)])?;
        let schema = batch.schema();
        let limit =
            |&(limit, is_inclusive): &(Limit, bool)| Ok(TimeLimit { expr: col("ts", &schema)?, limit, is_inclusive });
        Ok(TemporalOperator::new(limits.iter().map(limit).collect::<Result<_>>()?, false, schema.clone()))
    }

    #[test]
    fn rows_come_and_go_with_time() -> Result<()> {
        let mut until = operator(&[(Limit::Until, false)])?;
        assert_eq!(
            step(&mut until, 10, &[(Some(10), 1), (Some(11), 2), (Some(30), 1), (None, 1)])?,
            [(11, 2), (30, 1)]
        );
        assert_eq!(until.due_us(), Some(11));
        // Taken back before its time: nothing is left to expire.
        assert_eq!(step(&mut until, 10, &[(Some(11), -2)])?, [(11, -2)]);
        assert_eq!(step(&mut until, 29, &[])?, []);
        assert_eq!(step(&mut until, 30, &[])?, [(30, -1)]);
        assert_eq!((until.due_us(), until.state_size().row_count), (None, 0));

        let mut from = operator(&[(Limit::From, true)])?;
        assert_eq!(step(&mut from, 10, &[(Some(10), 1), (Some(12), 1)])?, [(10, 1)]);
        assert_eq!(step(&mut from, 11, &[(Some(12), 1)])?, []);
        assert_eq!(step(&mut from, 12, &[])?, [(12, 2)]);
        // Gone again, since the row itself goes.
        assert_eq!(step(&mut from, 13, &[(Some(12), -1)])?, [(12, -1)]);
        Ok(())
    }

    #[test]
    fn limits_that_touch_leave_one_instant() -> Result<()> {
        let mut both = operator(&[(Limit::From, true), (Limit::Until, true)])?;
        assert_eq!(step(&mut both, 4, &[(Some(5), 1)])?, []);
        assert_eq!(step(&mut both, 5, &[])?, [(5, 1)]);
        assert_eq!(step(&mut both, 6, &[])?, [(5, -1)]);
        let mut never = operator(&[(Limit::From, false), (Limit::Until, false)])?;
        assert_eq!(step(&mut never, 0, &[(Some(5), 1)])?, []);
        assert_eq!(never.due_us(), None);
        Ok(())
    }

    /// Whatever the order of rows, retractions and time: the sum of what came out is the filter at this moment.
    #[test]
    fn the_sum_is_the_filter_now() -> Result<()> {
        use rand::{Rng, SeedableRng};
        let mut random = rand::rngs::StdRng::seed_from_u64(7);
        let mut operator = operator(&[(Limit::Until, false)])?;
        let (mut total, mut shown) = (BTreeMap::<i64, i64>::new(), BTreeMap::<i64, i64>::new());
        let mut now = 0;
        for _ in 0..300 {
            now += random.random_range(0..4);
            let rows: Vec<(Option<i64>, i64)> = (0..random.random_range(0..5))
                .map(|_| (Some(now + random.random_range(-3..20)), if random.random_bool(0.4) { -1 } else { 1 }))
                .collect();
            for (time, weight) in &rows {
                *total.entry(time.unwrap_or_default()).or_default() += weight;
            }
            for (time, weight) in step(&mut operator, now, &rows)? {
                *shown.entry(time).or_default() += weight;
            }
            shown.retain(|_, weight| *weight != 0);
            let expected: BTreeMap<i64, i64> =
                total.iter().filter(|(time, weight)| **time > now && **weight != 0).map(|(t, w)| (*t, *w)).collect();
            assert_eq!(shown, expected, "at {now}");
        }
        Ok(())
    }
}
