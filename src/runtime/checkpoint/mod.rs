//! Checkpoints: about once a second the state of an epoch is written beside the stream, so that a start goes on from there.
//!
//! ```text
//! sequencer: epoch e is through ─▶ workers hand over what changed ─▶ epoch e + 1 …
//!                                        └──▶ writer: segment, records ─▶ sequencer: tables may be merged up to e,
//!                                                                        workers: what was handed over is on disk
//! start: records ─▶ one thread for each view reads its state ─▶ workers, at the epoch of the checkpoint ─▶ what came since
//! operators: a key that is not in memory ◀─looked up─ what the last checkpoint has
//! ```
//!
//! A checkpoint holds, of one and the same epoch: what each operator and each view keeps, how far each source has been
//! read, watermarks, and the rows that failed. Tables are not in it; their writes are durable by themselves, and a view
//! that starts from a checkpoint is fed those that came after it.

mod merging;
mod restore;
mod saved;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use restore::{Restored, contents_part, contents_place, fingerprint, prepare};
pub use saved::SavedState;
pub use writer::{Checkpointer, Finished, read_source_errors};

use super::status::{SourceError, ViewErrorCount};
use crate::error::Result;
use crate::state::checkpoint::StateChanges;
use crate::state::checkpoint::record::{self, EngineRecord, SourceRecord, ViewRecord};
use crate::state::{Store, StoreBatch};
use crate::types::{Epoch, RelationId};

/// What one checkpoint writes.
pub struct Job {
    pub epoch: Epoch,
    pub now_us: i64,
    /// All sources that have been read.
    pub sources: BTreeMap<RelationId, SourceRecord>,
    /// Records that could not be decoded, that came since the last checkpoint, with their numbers.
    pub source_errors: Vec<(u64, SourceError)>,
    pub views: Vec<ViewJob>,
    /// Relations that are no more, or whose state is of no use.
    pub forgotten: Vec<RelationId>,
}

/// What has become of one view.
pub struct ViewJob {
    pub id: RelationId,
    /// It starts over: what was saved under its id is another's.
    pub is_fresh: bool,
    /// Without its collections.
    pub record: ViewRecord,
    pub changes: StateChanges,
    /// All rows that fail, if any of them came or went.
    pub errors: Option<Vec<ViewErrorCount>>,
}

/// The last checkpoint, as a start finds it.
#[derive(Default)]
pub struct Saved {
    pub engine: EngineRecord,
    pub views: BTreeMap<RelationId, Arc<ViewRecord>>,
}

impl Saved {
    /// XX001 if it cannot be read. `views`: those that there are; the state of others is removed.
    pub fn load(store: &dyn Store, views: &[RelationId]) -> Result<Saved> {
        let engine = match store.get(record::ENGINE_KEY)? {
            Some(bytes) => record::read("the engine", &bytes)?,
            None => EngineRecord::default(),
        };
        let mut saved = Saved { engine, views: BTreeMap::new() };
        let mut orphans = StoreBatch::default();
        store.scan(record::VIEWS_PREFIX, &mut |key, bytes| {
            let id = key[record::VIEWS_PREFIX.len()..].try_into().map(|id| RelationId(u32::from_be_bytes(id)));
            match id {
                Ok(id) if views.contains(&id) => {
                    let view: ViewRecord = record::read("a view", bytes)?;
                    saved.views.insert(id, Arc::new(view));
                }
                Ok(id) => {
                    orphans.delete(key);
                    orphans.delete(record::view_errors_key(id));
                }
                Err(_) => orphans.delete(key),
            }
            Ok(())
        })?;
        if !orphans.is_empty() {
            store.commit(orphans)?;
        }
        Ok(saved)
    }

    /// Removes all of it: nothing will keep it up to date.
    pub fn discard(store: &dyn Store) -> Result<()> {
        let mut batch = StoreBatch::default();
        store.scan(b"k/", &mut |key, _| {
            batch.delete(key);
            Ok(())
        })?;
        if !batch.is_empty() {
            store.commit(batch)?;
        }
        for (number, _) in store.segments()? {
            store.remove_segment(number)?;
        }
        Ok(())
    }
}
