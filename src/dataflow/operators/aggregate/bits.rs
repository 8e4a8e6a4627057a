//! bool_and, bool_or, bit_and, bit_or, bit_xor: for each bit, how many of the group's values have it set. A bit of the
//! result says of the count whether it is all, some, or an odd number.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryBuilder, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};

use super::{Accumulator, Evaluated, damaged, same};
use crate::error::Result;
use crate::plan::Fold;

pub struct Bits {
    fold: Fold,
    /// The argument's type and the result's.
    data_type: DataType,
    /// 1 for Booleans.
    width: usize,
    /// Values of each group.
    counts: Vec<i64>,
    /// `width` for each group: values that have the bit set.
    ones: Vec<i64>,
}

impl Bits {
    pub fn new(fold: Fold, data_type: &DataType) -> Bits {
        let width = match data_type {
            DataType::Boolean => 1,
            other => other.primitive_width().map_or(64, |bytes| bytes * 8),
        };
        Bits { fold, data_type: data_type.clone(), width, counts: vec![], ones: vec![] }
    }

    fn value(&self, group: usize) -> Option<i64> {
        let count = self.counts[group];
        if count == 0 {
            return None;
        }
        let is_set = |ones: i64| match self.fold {
            Fold::And => ones == count,
            Fold::Or => ones != 0,
            Fold::Xor => ones % 2 != 0,
        };
        let ones = &self.ones[group * self.width..(group + 1) * self.width];
        let bits = ones.iter().enumerate().fold(0u64, |bits, (bit, &ones)| bits | (u64::from(is_set(ones)) << bit));
        // The highest bit is the sign.
        let unused = 64 - self.width as u32;
        Some(if self.width == 1 { bits as i64 } else { ((bits << unused) as i64) >> unused })
    }
}

impl Accumulator for Bits {
    fn merge_from(&mut self, into: u32, from: &dyn Accumulator, group: u32) {
        let (from, into, group) = (same::<Bits>(from), into as usize, group as usize);
        self.counts[into] += from.counts[group];
        let ones = &mut self.ones[into * self.width..(into + 1) * self.width];
        let others = &from.ones[group * self.width..(group + 1) * self.width];
        ones.iter_mut().zip(others).for_each(|(ones, other)| *ones += other);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn resize(&mut self, group_count: usize) {
        self.counts.resize(group_count, 0);
        self.ones.resize(group_count * self.width, 0);
    }

    fn update(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[i64]>) -> Result<()> {
        let words = cast(&arguments[0], &DataType::Int64)?;
        for (row, (&group, &word)) in groups.iter().zip(words.as_primitive::<Int64Type>().values()).enumerate() {
            let (group, weight) = (group as usize, weights.map_or(1, |w| w[row]));
            self.counts[group] += weight;
            let ones = &mut self.ones[group * self.width..(group + 1) * self.width];
            let mut left = if self.width == 64 { word as u64 } else { word as u64 & ((1 << self.width) - 1) };
            while left != 0 {
                ones[left.trailing_zeros() as usize] += weight;
                left &= left - 1;
            }
        }
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<Evaluated> {
        let words: Int64Array = groups.iter().map(|&group| self.value(group as usize)).collect();
        Ok(Evaluated::from(cast(&words, &self.data_type)?))
    }

    fn is_empty(&self, group: u32) -> bool {
        let group = group as usize;
        self.counts[group] == 0 && self.ones[group * self.width..(group + 1) * self.width].iter().all(|&ones| ones == 0)
    }

    fn clear(&mut self, group: u32) {
        let group = group as usize;
        self.counts[group] = 0;
        self.ones[group * self.width..(group + 1) * self.width].fill(0);
    }

    fn memory_bytes(&self) -> usize {
        (self.counts.len() + self.ones.len()) * size_of::<i64>()
    }

    fn saved_type(&self) -> Option<DataType> {
        Some(DataType::Binary)
    }

    /// The count of values, then of each bit how many have it set; words, little-endian.
    fn save(&self, groups: &[u32]) -> Result<ArrayRef> {
        let mut states = BinaryBuilder::with_capacity(groups.len(), groups.len() * (1 + self.width) * size_of::<i64>());
        let mut bytes = vec![];
        for &group in groups {
            let group = group as usize;
            let ones = &self.ones[group * self.width..(group + 1) * self.width];
            bytes.clear();
            bytes.extend(std::iter::once(&self.counts[group]).chain(ones).flat_map(|count| count.to_le_bytes()));
            states.append_value(&bytes);
        }
        Ok(Arc::new(states.finish()))
    }

    fn merge(&mut self, groups: &[u32], saved: &ArrayRef) -> Result<()> {
        let saved = saved.as_binary::<i32>();
        for (row, &group) in groups.iter().enumerate() {
            let (group, (words, _)) = (group as usize, saved.value(row).as_chunks::<{ size_of::<i64>() }>());
            let mut words = words.iter().map(|word| i64::from_le_bytes(*word));
            self.counts[group] += words.next().ok_or_else(damaged)?;
            for ones in &mut self.ones[group * self.width..(group + 1) * self.width] {
                *ones += words.next().ok_or_else(damaged)?;
            }
        }
        Ok(())
    }
}
