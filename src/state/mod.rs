//! State: what is kept in memory between epochs, and what outlives the process.
//!
//! - [`arrangement`]: a Z-set indexed by key, made of immutable runs, so that a [`Snapshot`] costs a few clones.
//! - [`world`]: every relation's snapshot at one epoch; what a query reads.
//! - [`history`]: what changed in a relation, epoch by epoch.
//! - [`codec`]: deltas as bytes.
//! - [`checkpoint`]: the state of operators and views as it lies on disk.
//! - [`memory`]: how much memory is in use, and how much may be.
//! - [`store`]: the durable side behind a trait; only `store/rocks.rs` names RocksDB.

pub mod arrangement;
pub mod checkpoint;
pub mod codec;
pub mod history;
pub mod memory;
pub mod store;
pub mod world;

pub use arrangement::{Arrangement, Layout, Run, Snapshot};
pub use history::{History, Timeline};
pub use memory::{Memory, MemoryAccount};
pub use store::{Store, StoreBatch};
pub use world::World;
