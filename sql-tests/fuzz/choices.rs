//! Where a generator's decisions come from: a tape of small numbers.
//!
//! A fresh tape is filled at random as it is read; a given one is read again and makes the same thing again, and beyond
//! its end every answer is 0. Every question is asked so that 0 is the simplest answer. So a thing is made smaller by
//! making its tape smaller, whatever it is: cut a span, put zeros for it, put an inner span in place of an outer one of
//! its kind.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What the numbers of one part of the tape were asked for.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub kind: &'static str,
    pub start: usize,
    pub end: usize,
}

pub struct Choices {
    tape: Vec<u32>,
    at: usize,
    /// `None` while a tape is read again.
    random: Option<StdRng>,
    spans: Vec<Span>,
}

impl Choices {
    pub fn random(seed: u64) -> Choices {
        Choices { tape: vec![], at: 0, random: Some(StdRng::seed_from_u64(seed)), spans: vec![] }
    }

    pub fn again(tape: Vec<u32>) -> Choices {
        Choices { tape, at: 0, random: None, spans: vec![] }
    }

    /// The tape as far as it was read, and its spans.
    pub fn into_tape(mut self) -> (Vec<u32>, Vec<Span>) {
        self.tape.truncate(self.at);
        (self.tape, self.spans)
    }

    /// A number in `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u32::try_from(bound.max(1)).expect("choices are few");
        let value = match (self.tape.get(self.at), &mut self.random) {
            (Some(value), _) => value % bound,
            (None, Some(random)) => random.random_range(0..bound),
            (None, None) => 0,
        };
        match self.tape.get_mut(self.at) {
            Some(place) => *place = value,
            None => self.tape.push(value),
        }
        self.at += 1;
        value as usize
    }

    /// True in `percent` of the cases; false is the simple answer.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// One of the items, each as often as its weight says; the first is the simple one.
    pub fn weighted<T: Copy>(&mut self, items: &[(usize, T)]) -> T {
        let mut drawn = self.below(items.iter().map(|(weight, _)| weight).sum());
        for (weight, item) in items {
            if drawn < *weight {
                return *item;
            }
            drawn -= weight;
        }
        items[0].1
    }

    pub fn open(&self) -> usize {
        self.at
    }

    pub fn close(&mut self, kind: &'static str, start: usize) {
        self.spans.push(Span { kind, start, end: self.at });
    }
}

/// Smaller tapes to try, the boldest first.
pub fn smaller(tape: &[u32], spans: &[Span]) -> Vec<Vec<u32>> {
    let mut spans = spans.to_vec();
    spans.sort_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
    let mut largest_first = spans.clone();
    largest_first.sort_by_key(|span| std::cmp::Reverse(span.end - span.start));
    let replaced = |span: &Span, by: &[u32]| [&tape[..span.start], by, &tape[span.end..]].concat();
    let mut tries = vec![];
    for span in &largest_first {
        for inner in &spans {
            let is_inside = inner.start > span.start && inner.end <= span.end && inner.kind == span.kind;
            if is_inside {
                tries.push(replaced(span, &tape[inner.start..inner.end]));
            }
        }
        for zeros in [&[0][..], &[0, 0], &[0, 0, 0], &[]] {
            if span.end - span.start > zeros.len() {
                tries.push(replaced(span, zeros));
            }
        }
    }
    for at in 0..tape.len() {
        if tape[at] != 0 {
            let mut changed = tape.to_vec();
            changed[at] = 0;
            tries.push(changed);
        }
    }
    tries
}
