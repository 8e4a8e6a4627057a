//! The world at one epoch: a snapshot of every relation that keeps rows, and the position of every source.
//!
//! The runtime publishes a new world when an epoch commits; a query takes one world and reads nothing else, so it sees
//! all relations at one instant without a lock.

use std::collections::HashMap;
use std::sync::Arc;

use super::Snapshot;
use crate::types::{Epoch, Position, RelationId};

#[derive(Clone, Debug, Default)]
pub struct World {
    pub epoch: Epoch,
    /// Tables and materialized views. A view that is still backfilling is not in here.
    pub snapshots: HashMap<RelationId, Arc<Snapshot>>,
    /// How far each running source has been read. A source that nothing reads has none.
    pub positions: HashMap<RelationId, Arc<Position>>,
}
