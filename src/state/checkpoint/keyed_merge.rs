//! Ordered runs as one: block by block in the order of their hashes, so that it needs no more memory for long runs than
//! for short ones.
//!
//! Of each run some blocks are at hand. Whatever lies below the least of their last hashes is complete, since what is
//! still to come of any run is not below it: that much is added up and written, and where little is left, more is read.

use super::Collection;
use super::collection::{Run, RunSummary};
use super::keyed_run::{KeyedBlocks, KeyedRunWriter, RunIndex, hashes_of, ordered, read_block};
use crate::error::Result;
use crate::state::store::{SegmentWriter, Store};
use crate::types::Delta;

/// Blocks of one run that are read at a time.
const READ_BLOCK_COUNT: usize = 16;

/// The runs' sum; `None` if it comes to nothing. `settles`: nothing lies below them. Panics if a run is not ordered.
pub fn merge_ordered(
    collection: &Collection,
    runs: &[Run],
    settles: bool,
    store: &dyn Store,
    segment: &mut dyn SegmentWriter,
) -> Result<Option<Run>> {
    let cursors = runs.iter().map(|run| Cursor::open(run.ordered().expect("an ordered run"), collection.key(), store));
    let mut cursors = cursors.collect::<Result<Vec<Cursor>>>()?;
    let mut writer = KeyedRunWriter::new(segment, runs.iter().map(Run::row_count).sum());
    let mut summary = RunSummary::default();
    loop {
        let bound = cursors.iter().filter(|cursor| !cursor.is_at_end()).filter_map(Cursor::last_hash).min();
        let taken: Vec<Delta> = cursors.iter_mut().map(|cursor| cursor.take_below(bound)).collect();
        let taken: Vec<Delta> = taken.into_iter().filter(|delta| !delta.is_empty()).collect();
        if let Some(first) = taken.first() {
            let kind = collection.kind();
            let merged = collection.kept(kind.merge(&first.schema(), &taken)?)?;
            let merged = if settles { kind.settle(merged)? } else { merged };
            summary.add(&merged, collection.time_column())?;
            let (merged, hashes) = ordered(&merged, collection.key())?;
            writer.push(merged, &hashes)?;
        }
        let Some(bound) = bound else { break };
        for cursor in cursors.iter_mut().filter(|cursor| cursor.last_hash() == Some(bound)) {
            cursor.read()?;
        }
    }
    Ok(writer.finish()?.map(|blocks| summary.run(vec![], Some(blocks), vec![])))
}

/// How far a run has been read.
struct Cursor<'a> {
    run: &'a KeyedBlocks,
    key: &'a [usize],
    store: &'a dyn Store,
    index: RunIndex,
    /// The block to be read next.
    next: usize,
    /// What was read and not taken; while there are blocks to be read, some row is.
    rows: Delta,
    hashes: Vec<u64>,
}

impl<'a> Cursor<'a> {
    fn open(run: &'a KeyedBlocks, key: &'a [usize], store: &'a dyn Store) -> Result<Cursor<'a>> {
        let index = run.open(store)?;
        // A run has a block, and a block has a row.
        let rows = read_block(store, run.block(&index.blocks[0]))?;
        let hashes = hashes_of(&rows, key)?;
        Ok(Cursor { run, key, store, index, next: 1, rows, hashes })
    }

    fn is_at_end(&self) -> bool {
        self.next == self.index.blocks.len()
    }

    fn last_hash(&self) -> Option<u64> {
        self.hashes.last().copied()
    }

    /// Takes what is below the bound; without one, all.
    fn take_below(&mut self, bound: Option<u64>) -> Delta {
        let count = bound.map_or(self.hashes.len(), |bound| self.hashes.partition_point(|hash| *hash < bound));
        let taken = self.rows.slice(0, count);
        self.rows = self.rows.slice(count, self.hashes.len() - count);
        self.hashes.drain(..count);
        taken
    }

    /// Some more blocks, if there are any.
    fn read(&mut self) -> Result<()> {
        let end = (self.next + READ_BLOCK_COUNT).min(self.index.blocks.len());
        let mut deltas = vec![self.rows.clone()];
        for indexed in &self.index.blocks[self.next..end] {
            let delta = read_block(self.store, self.run.block(indexed))?;
            self.hashes.extend(hashes_of(&delta, self.key)?);
            deltas.push(delta);
        }
        self.next = end;
        self.rows = Delta::concat(&deltas[0].schema(), &deltas)?;
        Ok(())
    }
}
