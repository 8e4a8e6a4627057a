//! The durable side: ordered keys to bytes, written in atomic batches, and segments, files that are written once.
//!
//! Everything above sees this trait. [`rocks`] is the one that runs; [`MemoryStore`] serves tests and `demo`.

mod backup;
mod memory;
mod rocks;
mod segments;

pub use backup::{BackupList, make_empty};
pub use memory::MemoryStore;
pub use rocks::RocksStore;

use std::fs::File;
use std::path::Path;

use bytes::Bytes;

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

/// Where a block lies: its segment's number, its first byte in it, its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Block {
    pub segment: u64,
    pub offset: u64,
    pub length: u64,
}

/// A block that can be read for as long as it is held, whatever becomes of its segment.
pub trait HeldBlock: Send + Sync {
    /// XX001 if it is not what was written.
    fn read(&self) -> Result<Bytes>;
}

impl HeldBlock for Bytes {
    fn read(&self) -> Result<Bytes> {
        Ok(self.clone())
    }
}

/// A segment that is being written.
pub trait SegmentWriter {
    /// Adds a block, which can be read once the segment is finished.
    fn append(&mut self, block: &[u8]) -> Result<Block>;

    /// Durable when it returns.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// # Contract
/// - [`Store::commit`] is atomic and durable (synced) when it returns; on an error nothing of it is visible.
/// - [`Store::scan`] yields keys in byte order, each once, with the last committed value.
/// - A segment that was not finished may be there in part or not at all.
pub trait Store: Send + Sync {
    /// 53100 when the disk is full, 58030 for other trouble.
    fn commit(&self, batch: StoreBatch) -> Result<()>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// All pairs whose key starts with `prefix`.
    fn scan(&self, prefix: &[u8], each: &mut EachPair<'_>) -> Result<()>;

    /// Starts the segment of this number anew. 53100 when the disk is full, 58030 for other trouble.
    fn create_segment(&self, number: u64) -> Result<Box<dyn SegmentWriter + '_>>;

    /// XX001 if it is not what was written.
    fn read_block(&self, block: Block) -> Result<Vec<u8>>;

    /// The same in pages of the file, where that can be: it takes no memory but what is looked at.
    fn hold_block(&self, block: Block) -> Result<Box<dyn HeldBlock>> {
        Ok(Box::new(Bytes::from(self.read_block(block)?)))
    }

    /// The numbers of all segments, finished or not, and their bytes.
    fn segments(&self) -> Result<Vec<(u64, u64)>>;

    /// Nothing, if it is not there.
    fn remove_segment(&self, number: u64) -> Result<()>;

    /// A new file without a name, which is gone when it is closed.
    fn scratch_file(&self) -> Result<File>;

    /// What its caches and buffers hold.
    fn memory_bytes(&self) -> u64 {
        0
    }

    /// Writes what is committed at this moment to a directory that is empty or not there; commits go on meanwhile. 0A000
    /// if it keeps nothing on disk.
    fn backup(&self, directory: &Path) -> Result<()>;
}
