//! Which epoch it was at which instant. Both only ever grow, so each finds the other by bisection.

use std::collections::VecDeque;

use parking_lot::RwLock;

use crate::types::{Epoch, Moment};

/// Shared by the sequencer, which appends, and readers. It holds 16 bytes for each epoch of the time that the longest
/// history reaches back.
#[derive(Debug, Default)]
pub struct Timeline(RwLock<VecDeque<Moment>>);

impl Timeline {
    /// Epoch and instant must both be later than the last ones.
    pub fn push(&self, moment: Moment) {
        let mut moments = self.0.write();
        let is_later = |last: &Moment| last.epoch < moment.epoch && last.at_us < moment.at_us;
        assert!(moments.back().is_none_or(is_later), "time goes on");
        moments.push_back(moment);
    }

    /// The last epoch that was committed at or before the instant; `None` if that is longer ago than it reaches.
    pub fn at(&self, instant_us: i64) -> Option<Moment> {
        let moments = self.0.read();
        let later = moments.partition_point(|moment| moment.at_us <= instant_us);
        later.checked_sub(1).map(|last| moments[last])
    }

    /// The last epoch not after this one: numbers leave gaps at restarts.
    pub fn of(&self, epoch: Epoch) -> Option<Moment> {
        let moments = self.0.read();
        let later = moments.partition_point(|moment| moment.epoch <= epoch);
        later.checked_sub(1).map(|last| moments[last])
    }

    pub fn first(&self) -> Option<Moment> {
        self.0.read().front().copied()
    }

    pub fn last(&self) -> Option<Moment> {
        self.0.read().back().copied()
    }

    /// Forgets what nobody can ask for any more; the epoch that stood at that instant stays.
    pub fn trim(&self, before_us: i64) {
        let mut moments = self.0.write();
        while moments.get(1).is_some_and(|second| second.at_us <= before_us) {
            moments.pop_front();
        }
    }
}
