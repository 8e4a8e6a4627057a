//! The durable side: ordered keys to bytes, written in atomic batches.
//!
//! Everything above sees this trait. [`rocks`] is the one that runs; [`MemoryStore`] serves tests and `demo`.

mod memory;
mod rocks;

pub use memory::MemoryStore;
pub use rocks::RocksStore;

use crate::error::Result;

/// Puts and deletes that become durable together. Later operations on a key win.
#[derive(Default, Debug, Clone)]
pub struct StoreBatch {
    pub operations: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl StoreBatch {
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.operations.push((key.into(), Some(value.into())));
    }

    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.operations.push((key.into(), None));
    }

    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// Called with each key and value of a scan; an error ends the scan.
pub type EachPair<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// # Contract
/// - [`Store::commit`] is atomic and durable (synced) when it returns; on an error nothing of it is visible.
/// - [`Store::scan`] yields keys in byte order, each once, with the last committed value.
pub trait Store: Send + Sync {
    /// 53100 when the disk is full, 58030 for other trouble.
    fn commit(&self, batch: StoreBatch) -> Result<()>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// All pairs whose key starts with `prefix`.
    fn scan(&self, prefix: &[u8], each: &mut EachPair<'_>) -> Result<()>;
}
