//! For tests: keys that are on disk alone, at random.

use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;

use crate::dataflow::{Durable, EpochContext};
use crate::error::Result;
use crate::state::checkpoint::{Collection, KeyLookup, Part, PartChange, Place, SavedKeys};
use crate::state::store::MemoryStore;
use crate::state::{Memory, MemoryAccount, Store};
use crate::types::{Delta, Epoch};

/// What a checkpointer does, by hand.
pub struct Disk {
    store: Arc<MemoryStore>,
    parts: Vec<Part>,
    collections: Vec<Collection>,
    saved: Vec<Arc<SavedKeys>>,
    next_segment: u64,
}

impl Disk {
    pub fn new(operator: &dyn Durable) -> Disk {
        let (store, parts) = (Arc::new(MemoryStore::default()), operator.parts());
        let place = |part| Place { worker: 0, operator: 0, part };
        let collections = parts.iter().enumerate().map(|(number, part)| Collection::new(place(number), part));
        let collections = collections.collect();
        let saved = parts.iter().map(|_| Arc::new(SavedKeys::new(store.clone()))).collect();
        Disk { store, parts, collections, saved, next_segment: 0 }
    }

    fn lookups(&self) -> Vec<Arc<dyn KeyLookup>> {
        self.saved.iter().map(|saved| saved.clone() as Arc<dyn KeyLookup>).collect()
    }

    pub fn write(&mut self, changes: Vec<PartChange>) -> Result<()> {
        for ((collection, saved), change) in self.collections.iter_mut().zip(&self.saved).zip(changes) {
            let mut segment = self.store.create_segment(self.next_segment)?;
            collection.close_below(change.below);
            if let Some(range) = collection.due(0) {
                collection.merge(range, self.store.as_ref(), segment.as_mut())?;
            }
            collection.append(&change.deltas, segment.as_mut())?;
            segment.finish()?;
            self.next_segment += 1;
            saved.publish(collection);
        }
        Ok(())
    }

    pub fn read(&self) -> Result<Vec<Vec<Delta>>> {
        assert_eq!(self.parts.len(), self.collections.len());
        self.collections.iter().map(|collection| collection.read(self.store.as_ref())).collect()
    }
}

/// An operator whose checkpoints come through some steps after they were taken, and whose keys go at random.
pub struct Life<O> {
    pub operator: O,
    pub disk: Disk,
    memory: Arc<Memory>,
    taken: Option<Vec<PartChange>>,
    is_written: bool,
    pub evicted_count: usize,
}

impl<O: Durable> Life<O> {
    pub fn begin(mut operator: O, memory: Arc<Memory>) -> Result<Life<O>> {
        let disk = Disk::new(&operator);
        attach(&mut operator, &disk, &memory);
        operator.record();
        Ok(Life { operator, disk, memory, taken: None, is_written: false, evicted_count: 0 })
    }

    pub fn disturb(&mut self, random: &mut StdRng) -> Result<()> {
        for _ in 0..random.random_range(0..3) {
            self.go_on()?;
        }
        if random.random_bool(0.5)
            && let Some(partial) = self.operator.partial()
        {
            let mut going = partial.evictable();
            going.retain(|_| random.random_bool(0.5));
            partial.evict(&going)?;
            self.evicted_count += going.len();
        }
        Ok(())
    }

    /// The next of: changes are taken, they are written, the operator is told.
    pub fn go_on(&mut self) -> Result<()> {
        match (self.taken.take(), self.is_written) {
            (None, false) => self.taken = Some(self.operator.take_changes()?),
            (Some(changes), _) => {
                self.disk.write(changes)?;
                self.is_written = true;
            }
            (None, true) => {
                self.is_written = false;
                if let Some(partial) = self.operator.partial() {
                    partial.saved()?;
                }
            }
        }
        Ok(())
    }

    /// Another operator goes on from what is on disk: without reading it, if it can, or after reading all of it.
    pub fn restart(&mut self, mut next: O, is_lazy: bool) -> Result<()> {
        while self.taken.is_some() || self.is_written {
            self.go_on()?;
        }
        (0..3).try_for_each(|_| self.go_on())?;
        let mut context = EpochContext::new(Epoch(0), false, 0);
        if is_lazy && let Some(partial) = next.partial() {
            partial.attach(self.disk.lookups(), MemoryAccount::new(self.memory.clone()));
            partial.begin_absent(&mut context)?;
            let is_needed = |key: u32| partial.is_pinned(key) || !partial.residency().is_there(key);
            assert!((0..partial.index().capacity() as u32).all(is_needed), "nothing is read before it is needed");
        } else {
            next.restore(self.disk.read()?, &mut context)?;
            attach(&mut next, &self.disk, &self.memory);
        }
        next.record();
        self.operator = next;
        Ok(())
    }
}

/// Nothing goes of one that has no key.
pub fn attach(operator: &mut dyn Durable, disk: &Disk, memory: &Arc<Memory>) {
    if let Some(partial) = operator.partial() {
        partial.attach(disk.lookups(), MemoryAccount::new(memory.clone()));
    }
}
