//! count: the sum of the weights.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};

use super::{Accumulator, Evaluated, same};
use crate::error::Result;

#[derive(Default)]
pub struct Count {
    counts: Vec<i64>,
}

impl Accumulator for Count {
    fn merge_from(&mut self, into: u32, from: &dyn Accumulator, group: u32) {
        self.counts[into as usize] += same::<Count>(from).counts[group as usize];
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn resize(&mut self, group_count: usize) {
        self.counts.resize(group_count, 0);
    }

    fn update(&mut self, groups: &[u32], _: &[ArrayRef], weights: Option<&[i64]>) -> Result<()> {
        match weights {
            None => groups.iter().for_each(|&group| self.counts[group as usize] += 1),
            Some(weights) => {
                groups.iter().zip(weights).for_each(|(&group, weight)| self.counts[group as usize] += weight)
            }
        }
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<Evaluated> {
        let values: Int64Array = groups.iter().map(|&group| self.counts[group as usize]).collect::<Vec<_>>().into();
        Ok(Evaluated::from(Arc::new(values) as ArrayRef))
    }

    fn is_empty(&self, group: u32) -> bool {
        self.counts[group as usize] == 0
    }

    fn clear(&mut self, group: u32) {
        self.counts[group as usize] = 0;
    }

    fn memory_bytes(&self) -> usize {
        self.counts.len() * size_of::<i64>()
    }

    fn saved_type(&self) -> Option<DataType> {
        Some(DataType::Int64)
    }

    fn save(&self, groups: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(groups.iter().map(|&group| Some(self.counts[group as usize])).collect::<Int64Array>()))
    }

    fn merge(&mut self, groups: &[u32], saved: &ArrayRef) -> Result<()> {
        for (&group, count) in groups.iter().zip(saved.as_primitive::<Int64Type>().values()) {
            self.counts[group as usize] += *count;
        }
        Ok(())
    }
}
