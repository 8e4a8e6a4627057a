//! Running dataflows: one sequencer thread decides what is in each epoch, N timely workers step the views through it,
//! one source thread for each source reads ahead into a bounded queue.
//!
//! ```text
//! sessions ──write──▶┐                      ┌─▶ worker 0 ─┐
//! sources ──chunks──▶│ sequencer: epoch e ──┤             ├─▶ outputs ─▶ sequencer: commit e, publish World
//! DDL ──commands────▶┘                      └─▶ worker N ─┘
//! ```
//!
//! An epoch starts when there is something to do and the workers are free; what arrives meanwhile waits for the next.
//! Table writes are on disk before the epoch's results are published, and published before the writer hears of it.
//! Only this room names timely.

pub mod source;

use std::sync::Arc;

use crate::catalog::SourceDefinition;
use crate::error::Result;
use crate::plan::StreamPlan;
use crate::state::{Store, World};
use crate::types::{BadRecord, Delta, Epoch, Position, RelationId, RowError};
use arrow::datatypes::SchemaRef;

/// A handle on the running engine; clones share it.
#[derive(Clone)]
pub struct Runtime {}

pub struct TableSpec {
    pub id: RelationId,
    pub name: String,
    pub schema: SchemaRef,
    /// Column indices; empty: none.
    pub primary_key: Vec<usize>,
}

pub struct SourceSpec {
    pub id: RelationId,
    pub name: String,
    pub schema: SchemaRef,
    pub definition: SourceDefinition,
}

pub struct ViewSpec {
    pub id: RelationId,
    pub name: String,
    pub plan: StreamPlan,
    /// A sink to nowhere: maintained, counted, not kept.
    pub discard: bool,
}

/// A change to one table, as a session computed it from a snapshot.
pub struct TableWrite {
    pub table: RelationId,
    /// Columns are the table's, in order. Retractions name rows that must be there.
    pub delta: Delta,
}

/// What `hw_catalog.sources` shows.
#[derive(Clone, Debug)]
pub struct SourceStatus {
    pub id: RelationId,
    /// `idle` (nothing reads it), `running`, `finished`, `retrying`, `failed`.
    pub state: &'static str,
    pub error: Option<String>,
    pub row_count: u64,
    pub bad_record_count: u64,
    pub position: Position,
    /// Microseconds since 1970, per source.
    pub watermark_us: Option<i64>,
    /// The partition that holds the watermark back.
    pub watermark_partition: Option<String>,
}

/// What `hw_catalog.views` shows.
#[derive(Clone, Debug)]
pub struct ViewStatus {
    pub id: RelationId,
    /// `backfilling`, `running`, `failed`.
    pub state: &'static str,
    pub error: Option<String>,
    pub input_row_count: u64,
    pub output_row_count: u64,
    pub state_row_count: u64,
    pub state_bytes: u64,
    pub row_error_count: u64,
}

impl Runtime {
    /// Starts workers and sequencer. Table contents are read from `store`.
    pub fn start(worker_count: usize, store: Arc<dyn Store>, tables: Vec<TableSpec>) -> Result<Runtime> {
        let _ = (worker_count, store, tables);
        unimplemented!()
    }

    /// The last committed epoch.
    pub fn world(&self) -> Arc<World> {
        unimplemented!()
    }

    pub async fn create_table(&self, spec: TableSpec) -> Result<()> {
        let _ = spec;
        unimplemented!()
    }

    /// Registers a source; reading starts with the first view on it.
    pub async fn create_source(&self, spec: SourceSpec) -> Result<()> {
        let _ = spec;
        unimplemented!()
    }

    /// Returns when the view has caught up with its inputs and can be read. Dropping the future abandons the view.
    pub async fn create_view(&self, spec: ViewSpec) -> Result<()> {
        let _ = spec;
        unimplemented!()
    }

    /// Drops relations together, dependents first; the tables' rows go too.
    pub async fn drop_relations(&self, ids: Vec<RelationId>) -> Result<()> {
        let _ = ids;
        unimplemented!()
    }

    /// One atomic change of one or more tables: durable and visible to `world()` when it returns. 23505 on a duplicate
    /// key, 40001 if a retracted row is no longer there (the caller recomputes and tries again).
    pub async fn write(&self, writes: Vec<TableWrite>) -> Result<Epoch> {
        let _ = writes;
        unimplemented!()
    }

    pub fn source_statuses(&self) -> Vec<SourceStatus> {
        unimplemented!()
    }

    /// Records that could not be decoded, as far as they are kept, oldest first: `hw_catalog.source_errors`.
    pub fn source_errors(&self) -> Vec<(RelationId, BadRecord)> {
        unimplemented!()
    }

    /// Rows for which an expression of a view fails, as far as they are kept: `hw_catalog.view_errors`.
    pub fn view_errors(&self) -> Vec<(RelationId, RowError)> {
        unimplemented!()
    }

    pub fn view_statuses(&self) -> Vec<ViewStatus> {
        unimplemented!()
    }
}
