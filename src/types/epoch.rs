//! System time: the epoch. Event time never comes as one: it is microseconds in a column.

use std::fmt;

/// One committed step of the whole system. Every delta belongs to exactly one epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An epoch and the wall-clock instant of its commit. Of two moments the one with the later epoch has the later instant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Moment {
    pub epoch: Epoch,
    /// Microseconds since 1970.
    pub at_us: i64,
}
