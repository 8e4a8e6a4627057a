//! Building and stepping the operators of a view. No thread, no clock, no I/O: an epoch's deltas go in, an epoch's
//! deltas come out, so every step can be driven by hand and replayed.
//!
//! 1. [`fragment::FragmentGraph`] cuts a stream plan at the places where rows must change worker.
//! 2. [`fragment::Fragment`] holds the operators between two cuts and runs them in one synchronous step.
//! 3. [`operators`] are plain structs: `step(inputs) -> outputs`, one file each, headed by its law.
//! 4. [`partition`] says which worker a row belongs to.
//!
//! A row for which an expression fails leaves the stream and is reported in [`EpochContext::errors`].

pub mod event_time;
pub mod fragment;
pub mod meter;
pub mod operators;
pub mod partition;
pub mod source_columns;

mod closing;
mod durable;
mod expression;
mod floats;
mod key_index;
mod ordered_rows;
mod partitions;
mod pending;
mod residency;
mod row_order;
mod row_store;

pub use durable::Durable;
pub use expression::row_text;
pub use residency::Partial;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::plan::Watermarks;
use crate::state::Snapshot;
use crate::types::{Delta, Epoch, RelationId, RowError};

/// Rows that failed, by their place in a batch, ascending; and why.
pub type Failed = Vec<(usize, Error)>;

/// Incremental form of one relational operator.
///
/// # Contract
/// - The sum of all outputs up to an epoch equals the operator applied to the sum of all inputs up to that epoch.
/// - This holds for any way of cutting the inputs into steps, also if a retraction arrives before its insertion
///   (backfill feeds a snapshot in pieces among newer deltas): then it holds once the insertion has come.
/// - Data never makes it panic. `Err` means that a kernel broke an invariant; the view is then stopped.
pub trait Operator: Send {
    /// `inputs[i]` are the deltas of input `i` in this epoch, in arrival order, possibly none.
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>>;

    /// True if it also acts where no row has come: when a watermark has moved, or at [`Operator::due_us`].
    fn follows_time(&self) -> bool {
        false
    }

    /// The wall-clock time at which it wants to be stepped, whether or not there are rows.
    fn due_us(&self) -> Option<i64> {
        None
    }

    /// What it keeps between epochs.
    fn state_size(&self) -> StateSize {
        StateSize::default()
    }

    /// True if it tells a [`crate::state::MemoryAccount`] what it keeps, and gives way where memory is short.
    fn gives_way(&self) -> bool {
        false
    }

    /// Its state, for checkpoints; `None` if it keeps nothing between epochs.
    fn durable(&mut self) -> Option<&mut dyn Durable>;
}

/// What an operator may know of the world: which epoch it is, who it is, how far event time has come, and where to
/// report failing and late rows.
#[derive(Debug)]
pub struct EpochContext {
    pub epoch: Epoch,
    /// The operator's first step: relations that are never empty (a global aggregate) show their first row in it.
    pub is_first: bool,
    pub worker_index: usize,
    /// The inputs do not add up yet to what they are: a snapshot comes in pieces.
    pub is_catching_up: bool,
    /// Nanoseconds since some moment; for nothing but the meters.
    pub clock: fn() -> u64,
    pub errors: Vec<RowError>,
    /// The relations' watermarks as they were before this epoch, and as they are with it.
    pub watermarks_before: Arc<Watermarks>,
    pub watermarks: Arc<Watermarks>,
    /// Wall-clock time of the epoch, microseconds since 1970; never goes back.
    pub now_us: i64,
    /// Relations as they were before the epoch, for those who look into them.
    pub arranged: Arc<Arranged>,
    /// Rows that came too late in this epoch, by the relation whose watermark they missed.
    pub late_row_counts: BTreeMap<RelationId, u64>,
}

impl EpochContext {
    pub fn new(epoch: Epoch, is_first: bool, worker_index: usize) -> EpochContext {
        EpochContext {
            epoch,
            is_first,
            worker_index,
            is_catching_up: false,
            clock: || 0,
            errors: vec![],
            watermarks_before: Arc::default(),
            watermarks: Arc::default(),
            now_us: 0,
            arranged: Arc::default(),
            late_row_counts: BTreeMap::new(),
        }
    }
}

/// Relations at one epoch.
pub type Arranged = HashMap<RelationId, Arc<Snapshot>>;

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct StateSize {
    pub row_count: u64,
    pub bytes: u64,
}

impl std::ops::AddAssign for StateSize {
    fn add_assign(&mut self, other: StateSize) {
        self.row_count += other.row_count;
        self.bytes += other.bytes;
    }
}
