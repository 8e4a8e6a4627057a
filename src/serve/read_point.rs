//! What one statement reads: a world, the transaction's own writes over it, and the relations of the system.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::Session;
use datafusion::execution::SessionState;

use super::past::{self, Then};
use crate::error::{Error, Result, SqlState};
use crate::state::{Snapshot, World};
use crate::types::RelationId;

/// Rows of `pg_catalog`, `information_schema` and `hw_catalog`, as of one statement.
pub trait SystemRelations: Send + Sync {
    /// 42P01 if there is no such relation.
    fn rows(&self, schema: &str, name: &str) -> Result<RecordBatch>;
}

/// Everything that the scans of one statement read from. All its relations are of one epoch.
pub struct ReadPoint {
    pub world: Arc<World>,
    /// Tables as the open transaction sees them: the world's snapshot and the transaction's own writes.
    pub overlay: HashMap<RelationId, Arc<Snapshot>>,
    /// The instants that the statement names, by their expressions.
    pub instants: HashMap<String, Then>,
    pub system: Arc<dyn SystemRelations>,
}

impl ReadPoint {
    /// 55000 if the world has no rows of it (a view that is not built yet).
    pub fn snapshot(&self, id: RelationId, name: &str) -> Result<Arc<Snapshot>> {
        self.overlay.get(&id).or_else(|| self.world.snapshots.get(&id)).cloned().ok_or_else(|| {
            Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, format!("relation \"{name}\" cannot be read yet"))
                .with_hint("it is being built (ask hw_catalog.views how far it is), or newer than the epoch that this transaction reads")
        })
    }

    /// A relation as it was at one of the statement's instants. 55000 as for [`ReadPoint::snapshot`], 72000 if that is
    /// longer ago than is kept of it.
    pub fn snapshot_at(&self, id: RelationId, name: &str, instant: &str) -> Result<Arc<Snapshot>> {
        let then = self.instants.get(instant);
        let then = *then.ok_or_else(|| Error::internal(format!("nobody said which epoch {instant} is")))?;
        past::read(&self.world, id, name, then)
    }

    /// Lets the scans planned with `state` read from here.
    pub fn attach(self: &Arc<Self>, state: &mut SessionState) {
        state.config_mut().set_extension(self.clone());
    }

    /// The read point of the statement that is being planned.
    pub(super) fn of(state: &dyn Session) -> Result<Arc<ReadPoint>> {
        state.config().get_extension::<ReadPoint>().ok_or_else(|| Error::internal("a scan without a read point"))
    }
}
