//! An arrangement: a Z-set indexed by the hash of its key, as a few immutable sorted [`Run`]s.
//!
//! It is a log-structured merge tree without levels: each epoch appends one run, neighbours of like size are merged, so
//! a row is merged O(log n) times. A [`Snapshot`] is the list of runs at one moment: taking one costs a clone of a few
//! pointers, and it never changes, however the arrangement goes on. Big merges happen on a thread of their own.
//!
//! ```text
//! append(run) ─▶ [ big run ][ run ][ run ] ─▶ snapshot ─▶ rows (scan) | lookup (by key)
//!                     ▲ merge ◀──────┘
//! ```

mod chunk;
mod chunk_file;
mod hash;
mod index;
mod merger;
mod run;
mod scan;
mod scratch;
mod snapshot;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

pub use chunk::{Chunk, ChunkSummary, RowSource, Rows};
pub use chunk_file::{read_rows, write_rows};
pub use hash::{hash_rows, rows_with_hashes};
pub use index::{Interval, can_be_indexed, encode_keys};
pub use run::Run;
pub use scan::Scan;
pub use scratch::Scratch;
pub use snapshot::Snapshot;

use merger::Merge;

use crate::error::Result;
use crate::types::Delta;

/// What the columns of a relation are indexed by.
#[derive(Clone, Debug)]
pub struct Layout {
    pub schema: SchemaRef,
    /// Columns whose hash orders the runs. Never empty for a relation with columns.
    pub key: Vec<usize>,
    /// False for append-only relations without a key: their runs stay in arrival order, and lookups scan.
    pub indexed: bool,
    /// Columns of each secondary index.
    pub indexes: Vec<Vec<usize>>,
    /// Where long chunks go when memory is short; absent: nowhere.
    pub scratch: Option<Arc<Scratch>>,
}

impl Layout {
    /// Indexed by `key`, or by the whole row where there is none.
    pub fn indexed(schema: SchemaRef, key: Vec<usize>) -> Layout {
        let key = if key.is_empty() { (0..schema.fields().len()).collect() } else { key };
        Layout { schema, key, indexed: true, indexes: vec![], scratch: None }
    }

    pub fn spilling_to(self, scratch: Option<Arc<Scratch>>) -> Layout {
        Layout { scratch, ..self }
    }

    /// Rows are only ever added.
    pub fn log(schema: SchemaRef) -> Layout {
        let key = (0..schema.fields().len()).collect();
        Layout { schema, key, indexed: false, indexes: vec![], scratch: None }
    }
}

/// Merges of at most this many rows are done on the spot.
const INLINE_ROW_COUNT_MAX: usize = 16 * 1024;
/// With more runs than this, appending waits for the merge under way.
const RUN_COUNT_MAX: usize = 32;

#[derive(Debug)]
pub struct Arrangement {
    layout: Arc<Layout>,
    runs: Vec<Arc<Run>>,
    /// A merge of `runs[start..start + count]` under way elsewhere.
    merging: Option<Merge>,
}

impl Arrangement {
    pub fn new(layout: Layout) -> Arrangement {
        Arrangement { layout: Arc::new(layout), runs: vec![], merging: None }
    }

    /// Goes on from runs that were made by the same layout.
    pub fn of(layout: Layout, runs: Vec<Arc<Run>>) -> Arrangement {
        Arrangement { layout: Arc::new(layout), runs, merging: None }
    }

    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Which secondary indexes big merges shall make on their way. Runs that are there get theirs when they are read.
    pub fn set_indexes(&mut self, indexes: Vec<Vec<usize>>) {
        self.chunks().for_each(|chunk| chunk.indexes.retain(&indexes));
        self.layout = Arc::new(Layout { indexes, ..self.layout.as_ref().clone() });
    }

    /// Adds a change. `delta` need not be consolidated.
    pub fn append(&mut self, delta: &Delta) -> Result<()> {
        let run = Run::build(&self.layout, delta)?;
        self.append_run(run)
    }

    /// Adds several changes at once, so that they need not be merged.
    pub fn append_all(&mut self, deltas: &[Delta]) -> Result<()> {
        match deltas {
            [] => Ok(()),
            _ => self.append(&Delta::concat(&self.layout.schema, deltas)?),
        }
    }

    pub fn append_run(&mut self, run: Run) -> Result<()> {
        if run.row_count() > 0 {
            self.runs.push(Run::settle(&self.layout, Arc::new(run))?);
            self.maintain()?;
        }
        Ok(())
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.layout.clone(), self.runs.clone())
    }

    /// Goes back to an earlier snapshot of this arrangement, after a commit that failed.
    pub fn reset(&mut self, snapshot: &Snapshot) {
        self.merging = None;
        self.runs = snapshot.runs().to_vec();
    }

    pub fn row_count(&self) -> usize {
        self.runs.iter().map(|run| run.row_count()).sum()
    }

    fn chunks(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        self.runs.iter().flat_map(|run| run.chunks())
    }

    /// Of what lies in memory alone.
    pub fn memory_bytes(&self) -> usize {
        self.chunks().map(|chunk| chunk.memory_bytes()).sum()
    }

    /// Wherever they lie.
    pub fn stored_bytes(&self) -> usize {
        self.chunks().map(|chunk| chunk.stored_bytes()).sum()
    }

    /// Takes in a finished merge and merges what is due: the longest tail in which no run is more than twice as long as
    /// all that come after it. Small tails are merged here, big ones on the merger's thread; if runs come in faster
    /// than it merges them, the caller waits for it, which is what holds the sources back.
    fn maintain(&mut self) -> Result<()> {
        let is_behind = self.runs.len() > RUN_COUNT_MAX;
        if let Some(merge) = &self.merging {
            let finished = if is_behind { Some(merge.wait()) } else { merge.poll() };
            if let Some(merged) = finished {
                let span = merge.start..merge.start + merge.count;
                self.runs.splice(span, [Arc::new(merged?)]);
                self.merging = None;
            }
        }
        // Runs of a merge under way keep their places.
        let floor = self.merging.as_ref().map_or(0, |merge| merge.start + merge.count);
        let Some((start, row_count)) = self.due(floor) else { return Ok(()) };
        if row_count <= INLINE_ROW_COUNT_MAX {
            let merged = Run::merge(&self.layout, &self.runs[start..])?;
            self.runs.truncate(start);
            if merged.row_count() > 0 {
                self.runs.push(Arc::new(merged));
            }
        } else if self.merging.is_none() {
            self.merging = Some(Merge::start(self.layout.clone(), self.runs[start..].to_vec(), start));
        }
        Ok(())
    }

    /// Where the tail to merge begins, and how many rows it has; `None` if no two runs are to be merged.
    fn due(&self, floor: usize) -> Option<(usize, usize)> {
        let mut start = self.runs.len().checked_sub(1).filter(|last| *last >= floor)?;
        let mut row_count = self.runs[start].row_count();
        while start > floor && self.runs[start - 1].row_count() <= 2 * row_count {
            start -= 1;
            row_count += self.runs[start].row_count();
        }
        (start + 1 < self.runs.len()).then_some((start, row_count))
    }
}

#[cfg(test)]
mod tests;
