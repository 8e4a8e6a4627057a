//! What each operator of a view has done so far: rows in and out, state, and the time that its steps took.
//!
//! Time comes from a clock that the caller supplies ([`super::EpochContext::clock`]); here it is only subtracted. It is
//! read once between two operators, so a step costs one reading more than it has operators.

use super::StateSize;

/// One operator on one worker, or on all of them added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    pub input_row_count: u64,
    pub output_row_count: u64,
    pub step_count: u64,
    /// Time in its steps, in nanoseconds.
    pub busy_ns: u64,
    pub state: StateSize,
}

impl std::ops::AddAssign for Meter {
    fn add_assign(&mut self, other: Meter) {
        self.input_row_count += other.input_row_count;
        self.output_row_count += other.output_row_count;
        self.step_count += other.step_count;
        self.busy_ns += other.busy_ns;
        self.state += other.state;
    }
}
