//! Single keys of what is saved: all that an operator misses in a step are looked up together.
//!
//! The checkpointer [publishes](SavedKeys::publish) a new version of a part with each checkpoint that changed it; a lookup goes
//! on with the one that it began with, whose segments stay as long.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::UInt32Array;
use parking_lot::Mutex;

use super::Collection;
use super::keyed_run::{KeyedBlocks, RunIndex, hashes_of, read_block};
use crate::error::{Error, Result, SqlState};
use crate::state::arrangement::rows_with_hashes;
use crate::state::store::{Block, Store};
use crate::types::Delta;

/// The saved rows of one part, by the hash of their key.
pub trait KeyLookup: Send + Sync {
    /// All rows with these hashes, added up; `None` if there are none. The hashes ascend and are different. Rows of other keys with
    /// the same hash come along.
    fn fetch(&self, hashes: &[u64]) -> Result<Option<Delta>>;

    /// False: what is saved can only be read as a whole.
    fn is_ordered(&self) -> bool;
}

/// A part as the last checkpoint has it.
pub struct SavedKeys {
    store: Arc<dyn Store>,
    /// `None`: nothing of it has been saved.
    version: Mutex<Option<Arc<Version>>>,
}

/// A part as one checkpoint has it.
pub struct Version {
    collection: Collection,
    /// Of each run.
    runs: Vec<Arc<OpenRun>>,
}

struct OpenRun {
    blocks: KeyedBlocks,
    /// Read when it is first needed.
    index: OnceLock<RunIndex>,
}

/// Blocks that are read by one thread at least.
const THREAD_BLOCK_COUNT_MIN: usize = 64;
const THREAD_COUNT_MAX: usize = 4;
/// A read that fails for the environment's sake is tried again after these pauses.
const RETRIES_MS: [u64; 4] = [10, 50, 200, 1000];

impl SavedKeys {
    pub fn new(store: Arc<dyn Store>) -> SavedKeys {
        SavedKeys { store, version: Mutex::new(None) }
    }

    /// From now on the part is what the collection holds. Returns the version that was, which may still be read.
    pub fn publish(&self, collection: &Collection) -> Option<Arc<Version>> {
        let mut version = self.version.lock();
        let known = version.as_ref().map_or(&[] as &[Arc<OpenRun>], |version| &version.runs);
        let runs = collection.runs().iter().filter_map(|run| run.ordered()).map(|blocks| {
            let open = known.iter().find(|run| run.blocks == *blocks).cloned();
            open.unwrap_or_else(|| Arc::new(OpenRun { blocks: blocks.clone(), index: OnceLock::new() }))
        });
        let runs = runs.collect();
        version.replace(Arc::new(Version { collection: collection.clone(), runs }))
    }

    /// Of the indexes that are open.
    pub fn memory_bytes(&self) -> usize {
        let version = self.version.lock().clone();
        let runs = version.iter().flat_map(|version| &version.runs);
        runs.filter_map(|run| run.index.get()).map(RunIndex::memory_bytes).sum()
    }
}

impl KeyLookup for SavedKeys {
    fn fetch(&self, hashes: &[u64]) -> Result<Option<Delta>> {
        debug_assert!(hashes.is_sorted_by(|one, next| one < next), "hashes ascend");
        let Some(version) = self.version.lock().clone() else { return Ok(None) };
        let mut pauses_ms = RETRIES_MS.into_iter();
        loop {
            match (version.fetch(self.store.as_ref(), hashes), pauses_ms.next()) {
                (Err(error), Some(pause_ms)) if error.code == SqlState::IO_ERROR => {
                    tracing::warn!("could not read saved keys, trying again: {error}");
                    std::thread::sleep(Duration::from_millis(pause_ms));
                }
                (outcome, _) => return outcome,
            }
        }
    }

    fn is_ordered(&self) -> bool {
        self.version.lock().as_ref().is_none_or(|version| version.collection.is_ordered())
    }
}

impl Version {
    /// Those that its runs lie in.
    pub fn segments(&self) -> BTreeSet<u64> {
        self.runs.iter().map(|run| run.blocks.index.segment).collect()
    }

    fn fetch(&self, store: &dyn Store, hashes: &[u64]) -> Result<Option<Delta>> {
        let mut found = vec![];
        for run in &self.runs {
            found.extend(self.fetch_from(run, store, hashes)?);
        }
        let Some(first) = found.first() else { return Ok(None) };
        let kind = self.collection.kind();
        Ok(Some(kind.settle(kind.merge(&first.schema(), &found)?)?))
    }

    /// The rows of one run: its filter, then the blocks that are left, in the order in which they lie.
    fn fetch_from(&self, run: &OpenRun, store: &dyn Store, hashes: &[u64]) -> Result<Vec<Delta>> {
        let index = run.index(store)?;
        let mut wanted: Vec<(usize, Vec<u64>)> = vec![];
        for &hash in hashes.iter().filter(|hash| index.filter.may_hold(**hash)) {
            for block in index.blocks_of(hash) {
                match wanted.last_mut() {
                    Some((last, hashes)) if *last == block => hashes.push(hash),
                    _ => wanted.push((block, vec![hash])),
                }
            }
        }
        let read = |wanted: &[(usize, Vec<u64>)]| -> Result<Vec<Delta>> {
            let deltas = wanted
                .iter()
                .map(|(block, hashes)| self.rows_of(run.blocks.block(&index.blocks[*block]), store, hashes));
            deltas.filter(|delta| delta.as_ref().map_or(true, |delta| !delta.is_empty())).collect()
        };
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let thread_count = (wanted.len() / THREAD_BLOCK_COUNT_MIN).clamp(1, THREAD_COUNT_MAX.min(cores));
        if thread_count == 1 {
            return read(&wanted);
        }
        std::thread::scope(|scope| {
            let shares = wanted.chunks(wanted.len().div_ceil(thread_count));
            let threads: Vec<_> = shares.map(|share| scope.spawn(move || read(share))).collect();
            let read = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err(Error::internal("a thread that looked up saved keys panicked")))
            });
            Ok(read.collect::<Result<Vec<_>>>()?.concat())
        })
    }

    fn rows_of(&self, block: Block, store: &dyn Store, hashes: &[u64]) -> Result<Delta> {
        let delta = self.collection.kept(read_block(store, block)?)?;
        let own = hashes_of(&delta, self.collection.key())?;
        Ok(delta.take(&UInt32Array::from(rows_with_hashes(&own, hashes)))?)
    }
}

impl OpenRun {
    fn index(&self, store: &dyn Store) -> Result<&RunIndex> {
        match self.index.get() {
            Some(index) => Ok(index),
            None => {
                let index = self.blocks.open(store)?;
                Ok(self.index.get_or_init(|| index))
            }
        }
    }
}
