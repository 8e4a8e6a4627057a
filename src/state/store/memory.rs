//! A store that forgets: for tests.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Block, EachPair, SegmentWriter, Store, StoreBatch};
use crate::error::{Error, Result, SqlState};

#[derive(Default)]
pub struct MemoryStore {
    pairs: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
    segments: RwLock<BTreeMap<u64, Arc<Vec<Vec<u8>>>>>,
}

impl Store for MemoryStore {
    fn commit(&self, batch: StoreBatch) -> Result<()> {
        let mut pairs = self.pairs.write();
        for (key, value) in batch.operations {
            match value {
                Some(value) => pairs.insert(key, value),
                None => pairs.remove(&key),
            };
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.pairs.read().get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], each: &mut EachPair<'_>) -> Result<()> {
        let pairs = self.pairs.read();
        for (key, value) in pairs.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix)) {
            each(key, value)?;
        }
        Ok(())
    }

    fn create_segment(&self, number: u64) -> Result<Box<dyn SegmentWriter + '_>> {
        Ok(Box::new(Writer { store: self, number, blocks: vec![] }))
    }

    fn read_block(&self, block: Block) -> Result<Vec<u8>> {
        let segment = self.segments.read().get(&block.segment).cloned();
        let found = segment.as_ref().and_then(|blocks| blocks.get(block.offset as usize)).cloned();
        found.ok_or_else(|| Error::new(SqlState::DATA_CORRUPTED, format!("there is no {block:?}")))
    }

    fn segments(&self) -> Result<Vec<(u64, u64)>> {
        let bytes = |blocks: &[Vec<u8>]| blocks.iter().map(|block| block.len() as u64).sum();
        Ok(self.segments.read().iter().map(|(number, blocks)| (*number, bytes(blocks))).collect())
    }

    fn scratch_file(&self) -> Result<File> {
        tempfile::tempfile().map_err(|e| Error::new(SqlState::IO_ERROR, format!("no file could be made: {e}")))
    }

    fn remove_segment(&self, number: u64) -> Result<()> {
        self.segments.write().remove(&number);
        Ok(())
    }

    fn backup(&self, _: &Path) -> Result<()> {
        Err(Error::unsupported("a backup of what is only in memory", "run a server with a data directory"))
    }
}

/// Its blocks' offsets are their numbers.
struct Writer<'a> {
    store: &'a MemoryStore,
    number: u64,
    blocks: Vec<Vec<u8>>,
}

impl SegmentWriter for Writer<'_> {
    fn append(&mut self, block: &[u8]) -> Result<Block> {
        self.blocks.push(block.to_vec());
        let offset = self.blocks.len() as u64 - 1;
        Ok(Block { segment: self.number, offset, length: block.len() as u64 })
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.store.segments.write().insert(self.number, Arc::new(self.blocks));
        Ok(())
    }
}
