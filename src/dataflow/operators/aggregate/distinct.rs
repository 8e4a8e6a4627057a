//! f(DISTINCT x, …): the inner aggregate sees values when their weight in the group becomes positive, and their
//! retraction when it stops being so.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, UInt32Type};

use super::{Accumulator, Evaluated};
use crate::dataflow::key_index::KeyIndex;
use crate::error::Result;

pub struct Distinct {
    inner: Box<dyn Accumulator>,
    /// (group, value) to number.
    values: KeyIndex,
    /// By number: the value's weight in its group.
    weights: Vec<i64>,
    /// By group: values of non-zero weight.
    value_counts: Vec<u32>,
}

impl Distinct {
    pub fn new(arguments: Vec<DataType>, inner: Box<dyn Accumulator>) -> Result<Distinct> {
        let values = KeyIndex::new(std::iter::once(DataType::UInt32).chain(arguments).collect())?;
        Ok(Distinct { inner, values, weights: vec![], value_counts: vec![] })
    }
}

impl Accumulator for Distinct {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn resize(&mut self, group_count: usize) {
        self.value_counts.resize(group_count, 0);
        self.inner.resize(group_count);
    }

    fn update(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[i64]>) -> Result<()> {
        let group_column: ArrayRef = Arc::new(UInt32Array::from(groups.to_vec()));
        let columns: Vec<ArrayRef> = std::iter::once(group_column).chain(arguments.iter().cloned()).collect();
        let numbers = self.values.intern(&columns, groups.len())?;
        self.weights.resize(self.values.capacity(), 0);
        let (mut rows, mut row_groups, mut transitions) = (vec![], vec![], vec![]);
        for (row, (&number, &group)) in numbers.iter().zip(groups).enumerate() {
            let weight = &mut self.weights[number as usize];
            let before = *weight;
            *weight += weights.map_or(1, |w| w[row]);
            let after = *weight;
            match (before != 0, after != 0) {
                (false, true) => self.value_counts[group as usize] += 1,
                (true, false) => self.value_counts[group as usize] -= 1,
                _ => {}
            }
            let transition = i64::from(after > 0) - i64::from(before > 0);
            if transition != 0 {
                rows.push(row as u32);
                row_groups.push(group);
                transitions.push(transition);
            }
        }
        let mut gone = numbers;
        gone.sort_unstable();
        gone.dedup();
        gone.retain(|&number| self.weights[number as usize] == 0);
        self.values.remove(&gone);
        let rows = UInt32Array::from(rows);
        let changed = arguments.iter().map(|a| take(a, &rows, None)).collect::<Result<Vec<_>, _>>()?;
        self.inner.update(&row_groups, &changed, Some(&transitions))
    }

    fn evaluate(&self, groups: &[u32]) -> Result<Evaluated> {
        self.inner.evaluate(groups)
    }

    fn is_empty(&self, group: u32) -> bool {
        self.value_counts[group as usize] == 0 && self.inner.is_empty(group)
    }

    fn clear(&mut self, group: u32) {
        self.inner.clear(group);
    }

    fn clear_all(&mut self, groups: &[u32]) -> Result<()> {
        self.inner.clear_all(groups)?;
        let mut is_cleared = vec![false; self.value_counts.len()];
        for &group in groups {
            is_cleared[group as usize] = true;
            self.value_counts[group as usize] = 0;
        }
        // Values are found by group and value, not by group: all are looked at, once for all groups that end together.
        let kept: Vec<u32> = (0..self.weights.len() as u32).filter(|&n| self.weights[n as usize] != 0).collect();
        let columns = self.values.columns(&kept)?;
        let groups = columns[0].as_primitive::<UInt32Type>().values();
        let gone = kept.iter().zip(groups.iter()).filter(|(_, group)| is_cleared[**group as usize]);
        let gone: Vec<u32> = gone.map(|(&number, _)| number).collect();
        gone.iter().for_each(|&number| self.weights[number as usize] = 0);
        self.values.remove(&gone);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.inner.memory_bytes() + self.values.memory_bytes() + self.weights.len() * 8 + self.value_counts.len() * 4
    }
}
