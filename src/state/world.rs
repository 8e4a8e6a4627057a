//! The world at one epoch: a snapshot of every relation that keeps rows, and the position of every source.
//!
//! The runtime publishes a new world when an epoch commits; a query takes one world and reads nothing else, so it sees
//! all relations at one instant without a lock.

use std::collections::HashMap;
use std::sync::Arc;

use super::{History, Snapshot, Timeline};
use crate::types::{Epoch, Moment, Position, RelationId};

#[derive(Clone, Debug, Default)]
pub struct World {
    pub epoch: Epoch,
    /// When the epoch was committed, microseconds since 1970.
    pub at_us: i64,
    /// Tables and materialized views. A view that is still backfilling is not in here.
    pub snapshots: HashMap<RelationId, Arc<Snapshot>>,
    /// How far each running source has been read. A source that nothing reads has none.
    pub positions: HashMap<RelationId, Arc<Position>>,
    /// Of relations that keep what they were. They go on after this world: only what is not newer than `epoch` is its.
    pub histories: HashMap<RelationId, Arc<History>>,
    pub timeline: Arc<Timeline>,
}

impl World {
    pub fn moment(&self) -> Moment {
        Moment { epoch: self.epoch, at_us: self.at_us }
    }
}
