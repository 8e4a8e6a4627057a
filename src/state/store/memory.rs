//! A store that forgets: for tests.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use super::{EachPair, Store, StoreBatch};
use crate::error::Result;

#[derive(Default)]
pub struct MemoryStore {
    pairs: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
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
}
