//! The saved state of operators that look up what they do not have in memory: the checkpointer publishes it, workers read it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::dataflow::fragment::OpenParts;
use crate::state::arrangement::Scratch;
use crate::state::checkpoint::record::ViewRecord;
use crate::state::checkpoint::{Collection, KeyLookup, Place, SavedKeys, Version};
use crate::state::{Memory, MemoryAccount, Store};
use crate::types::RelationId;

/// Rows that are read are taken in when they come to one of so many parts of what there is room for.
const PIECES: u64 = 4;

pub struct SavedState {
    store: Arc<dyn Store>,
    memory: Arc<Memory>,
    scratch: Option<Arc<Scratch>>,
    /// Of the parts that some operator looks keys up in.
    keys: Mutex<HashMap<RelationId, BTreeMap<Place, Arc<SavedKeys>>>>,
}

impl SavedState {
    pub fn new(store: Arc<dyn Store>, memory: Arc<Memory>) -> SavedState {
        let scratch = memory.limit_bytes().map(|_| Arc::new(Scratch::new(store.clone(), memory.clone())));
        SavedState { store, memory, scratch, keys: Mutex::default() }
    }

    /// Of a part that an operator has just been built for. `saved`: what it goes on from; else nothing is there yet.
    pub fn open(&self, view: RelationId, place: Place, saved: Option<&Collection>) -> Arc<dyn KeyLookup> {
        let keys = Arc::new(SavedKeys::new(self.store.clone()));
        if let Some(collection) = saved {
            keys.publish(collection);
        }
        self.keys.lock().entry(view).or_default().insert(place, keys.clone());
        keys
    }

    /// For the operators of a view that starts over, on one worker.
    pub fn open_new(&self, view: RelationId, worker: usize) -> Box<OpenParts<'_>> {
        Box::new(move |operator, part_count| {
            let places = (0..part_count).map(|part| Place { worker, operator, part });
            (places.map(|place| self.open(view, place, None)).collect(), self.account())
        })
    }

    /// Where rows of tables and views go when memory is short; `None` if there is no limit.
    pub fn scratch(&self) -> Option<Arc<Scratch>> {
        self.scratch.clone()
    }

    /// So many bytes of rows should not be in memory at once.
    pub fn is_short_with(&self, bytes: usize) -> bool {
        self.memory.is_short_with(bytes as u64 * PIECES)
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    pub fn account(&self) -> MemoryAccount {
        MemoryAccount::new(self.memory.clone())
    }

    /// From now on the view is what the record says. Returns the versions before, which may still be read.
    pub fn publish(&self, view: RelationId, record: &ViewRecord) -> Vec<Arc<Version>> {
        let keys = self.keys.lock();
        let Some(keys) = keys.get(&view) else { return vec![] };
        let published = record.collections.iter().filter_map(|own| keys.get(&own.place)?.publish(own));
        published.collect()
    }

    pub fn forget(&self, view: RelationId) {
        self.keys.lock().remove(&view);
    }

    /// Of what is needed to find keys.
    pub fn memory_bytes(&self) -> u64 {
        self.keys.lock().values().flat_map(BTreeMap::values).map(|keys| keys.memory_bytes() as u64).sum()
    }
}
