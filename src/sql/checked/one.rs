//! An exact aggregate of one group: for DISTINCT, and for window frames, where rows also leave.

use std::collections::HashMap;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::logical_expr::Accumulator;

use super::aggregates::{all_of, damaged, present};
use crate::types::summary::Summary;

#[derive(Debug)]
pub(super) struct One<S: Summary> {
    summary: S,
    state: S::State,
    /// For DISTINCT: how often each value is there.
    seen: Option<HashMap<[u8; 16], i64>>,
}

impl<S: Summary> One<S> {
    pub(super) fn new(summary: S, is_distinct: bool) -> One<S> {
        One { state: summary.start(), summary, seen: is_distinct.then(HashMap::new) }
    }

    fn add(&mut self, value: S::Value, weight: i64) {
        let Some(seen) = &mut self.seen else { return S::add(&mut self.state, value, weight) };
        let count = seen.entry(S::pack(value)).or_insert(0);
        let before = *count;
        *count += weight;
        let transition = i64::from(*count > 0) - i64::from(before > 0);
        if *count == 0 {
            seen.remove(&S::pack(value));
        }
        if transition != 0 {
            S::add(&mut self.state, value, transition);
        }
    }

    fn add_all(&mut self, arguments: &[ArrayRef], weight: i64) -> PlanResult<()> {
        let columns = self.summary.columns(arguments)?;
        match present(arguments) {
            None => (0..arguments[0].len()).for_each(|row| self.add(S::value(&columns, row), weight)),
            Some(nulls) => nulls.valid_indices().for_each(|row| self.add(S::value(&columns, row), weight)),
        }
        Ok(())
    }
}

impl<S: Summary> Accumulator for One<S> {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> PlanResult<()> {
        self.add_all(arguments, 1)
    }

    fn retract_batch(&mut self, arguments: &[ArrayRef]) -> PlanResult<()> {
        self.add_all(arguments, -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> PlanResult<ScalarValue> {
        let values = all_of(self.summary.results(std::iter::once(&self.state))?)?;
        ScalarValue::try_from_array(&values, 0)
    }

    fn size(&self) -> usize {
        let seen = self.seen.as_ref().map_or(0, |seen| seen.capacity() * 25);
        size_of::<S::State>() + S::heap_bytes(&self.state) + seen
    }

    fn state(&mut self) -> PlanResult<Vec<ScalarValue>> {
        let mut bytes = vec![];
        match &self.seen {
            None => S::write(&self.state, &mut bytes),
            Some(seen) => seen.iter().for_each(|(packed, count)| {
                bytes.extend(packed);
                bytes.extend(count.to_le_bytes());
            }),
        }
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> PlanResult<()> {
        for bytes in states[0].as_binary::<i32>().iter().flatten() {
            if self.seen.is_none() {
                S::merge(&mut self.state, &self.summary.read(bytes).ok_or_else(damaged)?);
                continue;
            }
            for entry in bytes.as_chunks::<24>().0 {
                let (Some((packed, _)), Some((_, count))) = (entry.split_first_chunk(), entry.split_last_chunk())
                else {
                    return Err(damaged().into());
                };
                self.add(S::unpack(*packed), i64::from_le_bytes(*count));
            }
        }
        Ok(())
    }
}
