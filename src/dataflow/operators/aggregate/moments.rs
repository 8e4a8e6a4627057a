//! Variance, covariance, correlation and regression: running [`Moments`], exact under retraction.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::{Accumulator, Evaluated};
use crate::error::Result;
use crate::types::moments::{Moments, Statistic};

pub struct Statistics {
    statistic: Statistic,
    groups: Vec<Moments>,
}

impl Statistics {
    pub fn new(statistic: Statistic) -> Statistics {
        Statistics { statistic, groups: vec![] }
    }
}

fn floats(column: &ArrayRef) -> Result<PrimitiveArray<Float64Type>> {
    Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

impl Accumulator for Statistics {
    fn resize(&mut self, group_count: usize) {
        self.groups.resize_with(group_count, || Moments::new(self.statistic));
    }

    fn update(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[i64]>) -> Result<()> {
        // With two arguments the first is Y.
        let (first, last) = (floats(&arguments[0])?, floats(&arguments[arguments.len() - 1])?);
        for (row, &group) in groups.iter().enumerate() {
            let weight = weights.map_or(1, |w| w[row]);
            self.groups[group as usize].add(last.value(row), first.value(row), weight);
        }
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<Evaluated> {
        let values: Float64Array = groups.iter().map(|&group| self.groups[group as usize].value()).collect();
        Ok(Evaluated::from(Arc::new(values) as ArrayRef))
    }

    fn is_empty(&self, group: u32) -> bool {
        self.groups[group as usize].is_empty()
    }

    fn clear(&mut self, group: u32) {
        self.groups[group as usize] = Moments::new(self.statistic);
    }

    fn memory_bytes(&self) -> usize {
        let each = Moments::new(self.statistic).memory_bytes();
        self.groups.len() * each
    }
}
