//! Long runs are added up beside the checkpoints, which they would hold up: one merge at a time, on a thread of its own and
//! into a segment of its own, whose result the next checkpoint takes in.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::error::{Error, Result};
use crate::runtime::worker::last_words;
use crate::state::Store;
use crate::state::checkpoint::{Collection, Place, Run};
use crate::state::store::{Block, SegmentWriter};
use crate::types::RelationId;

/// A merge under way.
pub struct Merging {
    pub view: RelationId,
    pub place: Place,
    /// What becomes one.
    pub old: Vec<Run>,
    pub segment: u64,
    is_stopping: Arc<AtomicBool>,
    thread: JoinHandle<Result<(Option<Run>, u64)>>,
}

/// One that has come to its end.
pub struct Merged {
    pub view: RelationId,
    pub place: Place,
    pub old: Vec<Run>,
    /// `None`: it comes to nothing.
    pub new: Option<Run>,
    pub segment: u64,
    /// Of the segment; 0: there is none.
    pub bytes: u64,
}

impl Merging {
    /// Of these runs of a collection, which must have been committed.
    pub fn start(
        view: RelationId,
        collection: &Collection,
        range: Range<usize>,
        segment: u64,
        store: Arc<dyn Store>,
    ) -> Result<Merging> {
        let (place, old) = (collection.place, collection.runs()[range.clone()].to_vec());
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (collection, stopping) = (collection.clone(), is_stopping.clone());
        let thread = std::thread::Builder::new().name("merger".to_string()).spawn(move || {
            let mut writer = Stoppable { writer: store.create_segment(segment)?, is_stopping: &stopping, bytes: 0 };
            let run = collection.merged(range, store.as_ref(), &mut writer)?;
            let bytes = writer.bytes;
            writer.writer.finish()?;
            Ok((run, bytes))
        });
        let thread = thread.map_err(|e| Error::internal(format!("could not start the merger: {e}")))?;
        Ok(Merging { view, place, old, segment, is_stopping, thread })
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end.
    pub fn join(self) -> Result<Merged> {
        let Merging { view, place, old, segment, thread, .. } = self;
        let outcome = thread
            .join()
            .map_err(|panic| Error::internal(format!("adding up saved runs failed: {}", last_words(panic.as_ref()))));
        let (new, bytes) = outcome??;
        Ok(Merged { view, place, old, new, segment, bytes })
    }

    /// Ends it before it is through; what it has written is of no use.
    pub fn stop(self) {
        self.is_stopping.store(true, Ordering::Release);
        let _ = self.thread.join();
    }
}

struct Stoppable<'a> {
    writer: Box<dyn SegmentWriter + 'a>,
    is_stopping: &'a AtomicBool,
    bytes: u64,
}

impl SegmentWriter for Stoppable<'_> {
    fn append(&mut self, block: &[u8]) -> Result<Block> {
        if self.is_stopping.load(Ordering::Acquire) {
            return Err(Error::internal("a merge was stopped"));
        }
        self.bytes += block.len() as u64;
        self.writer.append(block)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.writer.finish()
    }
}
