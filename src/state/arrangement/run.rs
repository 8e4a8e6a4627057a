//! A run: some rows of a Z-set, consolidated, in the order of their key hash.
//!
//! One that is long and shall not lie in memory is made of several chunks, each merged and put away before the next, so that a
//! merge takes no more memory than a chunk does.

use std::sync::Arc;

use super::scratch::Scratch;
use super::{Chunk, Layout};
use crate::error::Result;
use crate::types::Delta;

/// Immutable. Chunks follow each other by hash, and no hash is in two of them; those of a log follow as their rows came.
#[derive(Debug, Default)]
pub struct Run {
    chunks: Vec<Arc<Chunk>>,
    row_count: usize,
}

/// About, where runs are cut.
const CHUNK_ROW_COUNT: usize = 1 << 18;
const CHUNK_BYTES: usize = 32 << 20;
/// Shorter runs stay in memory.
const SPILLED_BYTES_MIN: usize = 256 << 10;

impl Run {
    pub fn build(layout: &Layout, delta: &Delta) -> Result<Run> {
        Ok(Run::of([Arc::new(Chunk::build(layout, delta)?)]))
    }

    pub(super) fn of(chunks: impl IntoIterator<Item = Arc<Chunk>>) -> Run {
        let chunks: Vec<_> = chunks.into_iter().filter(|chunk| chunk.row_count() > 0).collect();
        let row_count = chunks.iter().map(|chunk| chunk.row_count()).sum();
        Run { chunks, row_count }
    }

    /// The sum of several runs of one layout.
    pub fn merge(layout: &Layout, runs: &[Arc<Run>]) -> Result<Run> {
        let all = runs.iter().flat_map(|run| &run.chunks);
        let bytes = all.clone().map(|chunk| chunk.stored_bytes()).sum();
        match scratch_for(layout, bytes) {
            Some(scratch) if layout.indexed => merge_by_hash(layout, runs, bytes, scratch),
            Some(scratch) => chain(layout, all, scratch),
            None => Ok(Run::of([Arc::new(Chunk::merge(layout, all.map(Arc::as_ref))?)])),
        }
    }

    /// The run where it should lie.
    pub(super) fn settle(layout: &Layout, run: Arc<Run>) -> Result<Arc<Run>> {
        let bytes = run.chunks.iter().map(|chunk| chunk.memory_bytes()).sum();
        match scratch_for(layout, bytes) {
            Some(_) => Ok(Arc::new(Run::merge(layout, &[run])?)),
            None => Ok(run),
        }
    }

    pub fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    pub fn row_count(&self) -> usize {
        self.row_count
    }

    /// Its rows in pieces.
    pub fn deltas(&self) -> impl Iterator<Item = Delta> {
        self.chunks.iter().map(|chunk| chunk.delta())
    }

    /// Makes the index over these columns.
    pub(super) fn build_index(&self, layout: &Layout, columns: &[usize]) -> Result<()> {
        self.chunks.iter().try_for_each(|chunk| chunk.indexes.get(chunk, layout, columns).map(|_| ()))
    }
}

/// Where so many bytes should lie, if not in memory.
fn scratch_for(layout: &Layout, bytes: usize) -> Option<&Scratch> {
    let scratch = layout.scratch.as_deref();
    scratch.filter(|scratch| bytes >= SPILLED_BYTES_MIN && scratch.is_wanted_for(bytes))
}

/// Each chunk holds the rows of some hashes of all runs.
fn merge_by_hash(layout: &Layout, runs: &[Arc<Run>], bytes: usize, scratch: &Scratch) -> Result<Run> {
    let all = || runs.iter().flat_map(|run| &run.chunks);
    let row_count: usize = runs.iter().map(|run| run.row_count).sum();
    let chunk_count = row_count.div_ceil(CHUNK_ROW_COUNT).max(bytes.div_ceil(CHUNK_BYTES));
    let bounds = bounds(runs, chunk_count);
    let starts = std::iter::once(None).chain(bounds.iter().copied().map(Some));
    let ends = bounds.iter().copied().map(Some).chain([None]);
    let mut chunks = vec![];
    for (start, end) in starts.zip(ends) {
        let slices = all().filter_map(|chunk| chunk.between(start, end));
        let slices: Vec<Chunk> = slices.collect();
        chunks.push(Arc::new(scratch.settle(layout, Chunk::merge(layout, slices.iter())?)));
    }
    Ok(Run::of(chunks))
}

/// Hashes that cut the longest of the runs into as many pieces of like length.
fn bounds(runs: &[Arc<Run>], piece_count: usize) -> Vec<u64> {
    let Some(longest) = runs.iter().max_by_key(|run| run.row_count) else { return vec![] };
    let hash_at = |mut row: usize| {
        for chunk in &longest.chunks {
            match chunk.hashes.get(row) {
                Some(hash) => return *hash,
                None => row -= chunk.row_count(),
            }
        }
        u64::MAX
    };
    let mut bounds: Vec<u64> = (1..piece_count).map(|piece| hash_at(longest.row_count * piece / piece_count)).collect();
    bounds.dedup();
    bounds
}

/// The chunks of logs one after the other; short neighbours become one.
fn chain<'a>(layout: &Layout, chunks: impl Iterator<Item = &'a Arc<Chunk>>, scratch: &Scratch) -> Result<Run> {
    let (mut chained, mut short) = (vec![], vec![]);
    let (mut row_count, mut bytes) = (0, 0);
    let flush = |short: &mut Vec<&'a Arc<Chunk>>, chained: &mut Vec<Arc<Chunk>>| -> Result<()> {
        match &short[..] {
            [] => {}
            [one] if one.is_mapped => chained.push((*one).clone()),
            _ => {
                let merged = Chunk::merge(layout, short.iter().map(|chunk| chunk.as_ref()))?;
                chained.push(Arc::new(scratch.settle(layout, merged)));
            }
        }
        short.clear();
        Ok(())
    };
    for chunk in chunks {
        let (own_count, own_bytes) = (chunk.row_count(), chunk.stored_bytes());
        if row_count + own_count > CHUNK_ROW_COUNT || bytes + own_bytes > CHUNK_BYTES {
            flush(&mut short, &mut chained)?;
            (row_count, bytes) = (0, 0);
        }
        short.push(chunk);
        row_count += own_count;
        bytes += own_bytes;
    }
    flush(&mut short, &mut chained)?;
    Ok(Run::of(chained))
}
