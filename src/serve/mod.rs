//! Reading: one world, seen by DataFusion.
//!
//! ```text
//! bound plan ─┐                      ┌─ SnapshotTable: by key, by index, or all ──▶ World (state)
//!             ├─▶ QueryEngine ─scan──┼─ SourceTable: read, decode, bounded ───────▶ connectors, formats
//! ReadPoint ──┘   (own threads)      └─ SystemTable: pg_catalog and its kin ───────▶ SystemRelations
//! ```
//!
//! The past is read through the histories that a world has ([`past`]); [`subscription`] follows what becomes of a relation.
//!
//! A plan names relations, never rows: tables bind late. The [`ReadPoint`] of a statement travels in the plan's session
//! configuration, so a plan that was bound once runs again and again, each time on the newest world.

mod access;
mod endless;
mod engine;
pub mod past;
mod point;
mod read_point;
mod snapshot_table;
mod source_scan;
mod source_table;
pub mod subscription;
mod system_table;

pub use access::TableIndex;
pub use engine::{QueryEngine, STACK_BYTES};
pub use point::PointQuery;
pub use read_point::{ReadPoint, SystemRelations};
pub use snapshot_table::{SnapshotTable, access_lines};
pub use source_table::SourceTable;
pub use system_table::SystemTable;
