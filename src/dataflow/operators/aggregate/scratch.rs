//! Putting windows together of slices, which enter at one end and leave at the other: two stacks, of which one holds what
//! has come lately as one state, the other, for each of the older slices, the state of all from it on.
//!
//! ```text
//! push d, e:  old [abc, bc, c]  new de      the window is abc + de
//! pop:        old [bc, c]       new de      the window is bc + de
//! pop, pop:   old []            new de ──▶ old [de, e]  new –
//! ```

use arrow::array::ArrayRef;

use super::Accumulator;
use crate::dataflow::Failed;
use crate::error::{Error, Result};

type States = Vec<Box<dyn Accumulator>>;

/// States of a call each, of which none outlives a step.
pub struct Scratch {
    /// One state: what has come lately.
    new: States,
    /// One state: the sum while a stack is turned over.
    sum: States,
    old: States,
    results: States,
    result_weights: Vec<i64>,
    /// Where the results of the run under way begin.
    begin: usize,
    kept: Vec<u32>,
}

impl Scratch {
    pub fn new(make: impl Fn() -> Result<States>) -> Result<Scratch> {
        let one = || {
            let mut states = make()?;
            states.iter_mut().for_each(|states| states.resize(1));
            Ok::<States, Error>(states)
        };
        Ok(Scratch {
            new: one()?,
            sum: one()?,
            old: make()?,
            results: make()?,
            result_weights: vec![],
            begin: 0,
            kept: vec![],
        })
    }

    /// Room for so many results.
    pub fn begin(&mut self, count: usize) {
        self.result_weights.clear();
        self.result_weights.resize(count, 0);
        self.results.iter_mut().for_each(|states| states.resize(count));
        self.begin = 0;
        self.kept.clear();
    }

    /// The stacks of one key, over the states of slices and their weights.
    pub fn stacks<'s>(&'s mut self, slices: &'s [Box<dyn Accumulator>], weights: &'s [i64]) -> Stacks<'s> {
        self.new.iter_mut().for_each(|states| states.clear(0));
        Stacks { scratch: self, slices, weights, waiting: vec![], new_weight: 0, old: vec![] }
    }

    /// The sum of the weights in a result of the run under way.
    pub fn weight(&self, place: usize) -> i64 {
        self.result_weights[self.begin + place]
    }

    /// A result that is evaluated.
    pub fn keep(&mut self, place: usize) {
        self.kept.push((self.begin + place) as u32);
    }

    pub fn end_run(&mut self, count: usize) {
        self.begin += count;
    }

    /// A column for each call of what was kept, and what failed. Then the results are gone.
    pub fn evaluate(&mut self) -> Result<(Vec<ArrayRef>, Failed)> {
        let (mut columns, mut failed) = (vec![], vec![]);
        let all: Vec<u32> = (0..self.result_weights.len() as u32).collect();
        for states in &mut self.results {
            let evaluated = states.evaluate(&self.kept)?;
            columns.push(evaluated.values);
            failed.extend(evaluated.failed);
            states.clear_all(&all)?;
        }
        Ok((columns, failed))
    }
}

pub struct Stacks<'s> {
    scratch: &'s mut Scratch,
    slices: &'s [Box<dyn Accumulator>],
    weights: &'s [i64],
    /// What the new state is made of.
    waiting: Vec<u32>,
    new_weight: i64,
    /// Weights of the old states; the last is that of all of them, and the first to go.
    old: Vec<i64>,
}

fn merge(into: &mut States, place: u32, from: &[Box<dyn Accumulator>], group: u32) {
    for (into, from) in into.iter_mut().zip(from) {
        into.merge_from(place, from.as_ref(), group);
    }
}

impl Stacks<'_> {
    pub fn push(&mut self, group: u32) {
        merge(&mut self.scratch.new, 0, self.slices, group);
        self.new_weight += self.weights[group as usize];
        self.waiting.push(group);
    }

    /// Lets the oldest go. There must be one.
    pub fn pop(&mut self) {
        if self.old.is_empty() {
            self.turn_over();
        }
        let place = self.old.len() - 1;
        self.old.pop();
        self.scratch.old.iter_mut().for_each(|states| states.clear(place as u32));
    }

    fn turn_over(&mut self) {
        let Scratch { new, sum, old, .. } = &mut *self.scratch;
        old.iter_mut().for_each(|states| states.resize(self.waiting.len()));
        sum.iter_mut().for_each(|states| states.clear(0));
        let mut weight = 0;
        for group in self.waiting.drain(..).rev() {
            merge(sum, 0, self.slices, group);
            weight += self.weights[group as usize];
            let place = self.old.len() as u32;
            old.iter_mut().for_each(|states| states.clear(place));
            merge(old, place, sum, 0);
            self.old.push(weight);
        }
        new.iter_mut().for_each(|states| states.clear(0));
        self.new_weight = 0;
    }

    /// What is in both stacks is the result at `place`.
    pub fn result(&mut self, place: usize) {
        let Scratch { new, old, results, result_weights, begin, .. } = &mut *self.scratch;
        let place = *begin + place;
        if let Some(weight) = self.old.last() {
            merge(results, place as u32, old, self.old.len() as u32 - 1);
            result_weights[place] += weight;
        }
        if !self.waiting.is_empty() {
            merge(results, place as u32, new, 0);
            result_weights[place] += self.new_weight;
        }
    }

    /// One slice more for the result at `place`.
    pub fn add(&mut self, place: usize, group: u32) {
        let Scratch { results, result_weights, begin, .. } = &mut *self.scratch;
        let place = *begin + place;
        merge(results, place as u32, self.slices, group);
        result_weights[place] += self.weights[group as usize];
    }
}
