//! sum, avg, variance and its kin: a running [`Summary`] for each group, exact under retraction.

use std::any::Any;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryBuilder};
use arrow::datatypes::DataType;

use super::{Accumulator, Evaluated, damaged, same};
use crate::error::{Error, Result};
use crate::types::moments::Statistic;
use crate::types::summary::{Decimals, FloatStatistic, Floats, Integers, Intervals, Measure, Spread, Summary};

/// `result` is the type that the planner promised.
pub fn running(measure: Measure, arguments: &[DataType], result: &DataType) -> Result<Box<dyn Accumulator>> {
    let argument = &arguments[0];
    let found = match (measure, argument) {
        (Measure::Spread(statistic), _) => return Ok(spread(statistic, argument)),
        (_, DataType::Decimal128(..)) => Decimals::new(measure, argument).map(boxed),
        (_, DataType::Interval(_)) => Intervals::new(measure).map(boxed),
        (_, floating) if floating.is_floating() => Floats::new(measure, argument).map(boxed),
        _ => Integers::new(measure, argument).map(|integers| boxed(integers.shown_as(result))),
    };
    found.ok_or_else(|| Error::internal(format!("{measure:?} of {argument}")))
}

fn spread(statistic: Statistic, argument: &DataType) -> Box<dyn Accumulator> {
    match Spread::new(statistic, argument) {
        Some(spread) => boxed(spread),
        None => boxed(FloatStatistic(statistic)),
    }
}

struct Running<S: Summary> {
    summary: S,
    groups: Vec<S::State>,
}

fn boxed<S: Summary>(summary: S) -> Box<dyn Accumulator> {
    Box::new(Running { summary, groups: vec![] })
}

impl<S: Summary> Accumulator for Running<S> {
    fn merge_from(&mut self, into: u32, from: &dyn Accumulator, group: u32) {
        S::merge(&mut self.groups[into as usize], &same::<Running<S>>(from).groups[group as usize]);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn resize(&mut self, group_count: usize) {
        self.groups.resize_with(group_count, || self.summary.start());
    }

    fn update(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[i64]>) -> Result<()> {
        let columns = self.summary.columns(arguments)?;
        match weights {
            None => {
                for (row, &group) in groups.iter().enumerate() {
                    S::add(&mut self.groups[group as usize], S::value(&columns, row), 1);
                }
            }
            Some(weights) => {
                for (row, (&group, &weight)) in groups.iter().zip(weights).enumerate() {
                    S::add(&mut self.groups[group as usize], S::value(&columns, row), weight);
                }
            }
        }
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<Evaluated> {
        self.summary.results(groups.iter().map(|&group| &self.groups[group as usize]))
    }

    fn is_empty(&self, group: u32) -> bool {
        S::is_empty(&self.groups[group as usize])
    }

    fn clear(&mut self, group: u32) {
        self.groups[group as usize] = self.summary.start();
    }

    fn memory_bytes(&self) -> usize {
        // A sample tells what states have allocated.
        let heap = self.groups.first().map_or(0, S::heap_bytes);
        self.groups.len() * (size_of::<S::State>() + heap)
    }

    fn saved_type(&self) -> Option<DataType> {
        Some(DataType::Binary)
    }

    fn save(&self, groups: &[u32]) -> Result<ArrayRef> {
        let mut states = BinaryBuilder::with_capacity(groups.len(), groups.len() * size_of::<S::State>());
        let mut bytes = vec![];
        for &group in groups {
            bytes.clear();
            S::write(&self.groups[group as usize], &mut bytes);
            states.append_value(&bytes);
        }
        Ok(Arc::new(states.finish()))
    }

    fn merge(&mut self, groups: &[u32], saved: &ArrayRef) -> Result<()> {
        let saved = saved.as_binary::<i32>();
        for (row, &group) in groups.iter().enumerate() {
            let state = self.summary.read(saved.value(row)).ok_or_else(damaged)?;
            S::merge(&mut self.groups[group as usize], &state);
        }
        Ok(())
    }
}
