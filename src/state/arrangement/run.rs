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

    /// Several, of about a chunk each, whose sum is that of the deltas.
    pub fn build_each(layout: &Layout, deltas: &[Delta]) -> Result<Vec<Run>> {
        let mut row_count = 0;
        let groups = deltas.chunk_by(|_, delta| {
            row_count += delta.row_count();
            if row_count > CHUNK_ROW_COUNT {
                row_count = 0;
            }
            row_count > 0
        });
        groups.map(|deltas| Run::build(layout, &Delta::concat(&deltas[0].schema(), deltas)?)).collect()
    }

    pub fn of(chunks: impl IntoIterator<Item = Arc<Chunk>>) -> Run {
        let chunks: Vec<_> = chunks.into_iter().filter(|chunk| chunk.row_count() > 0).collect();
        let row_count = chunks.iter().map(|chunk| chunk.row_count()).sum();
        Run { chunks, row_count }
    }

    /// The sum of several runs of one layout.
    pub fn merge(layout: &Layout, runs: &[Arc<Run>]) -> Result<Run> {
        let all = runs.iter().flat_map(|run| &run.chunks);
        let bytes = all.clone().map(|chunk| chunk.stored_bytes()).sum();
        match scratch_for(layout, bytes) {
            Some(scratch) => {
                let mut chunks = vec![];
                Run::merge_each(layout, runs, &mut |chunk| {
                    chunks.push(Arc::new(scratch.settle(layout, chunk)));
                    Ok(())
                })?;
                Ok(Run::of(chunks))
            }
            None => Ok(Run::of([Arc::new(Chunk::merge(layout, all.map(Arc::as_ref))?)])),
        }
    }

    /// The same, chunk by chunk: each is let go before the next is made.
    pub fn merge_each(layout: &Layout, runs: &[Arc<Run>], take: &mut dyn FnMut(Chunk) -> Result<()>) -> Result<()> {
        match layout.indexed {
            true => merge_by_hash(layout, runs, take),
            false => chain(layout, runs, take),
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
    pub fn deltas(&self) -> impl Iterator<Item = Result<Delta>> {
        self.chunks.iter().map(|chunk| Ok(chunk.rows()?.delta()))
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
fn merge_by_hash(layout: &Layout, runs: &[Arc<Run>], take: &mut dyn FnMut(Chunk) -> Result<()>) -> Result<()> {
    let all = || runs.iter().flat_map(|run| &run.chunks);
    let is_short = |chunk: &Arc<Chunk>| chunk.row_count() <= CHUNK_ROW_COUNT && chunk.stored_bytes() <= CHUNK_BYTES;
    if runs.len() == 1 && all().all(is_short) {
        return all().try_for_each(|chunk| take(chunk.shared()?));
    }
    let row_count: usize = runs.iter().map(|run| run.row_count).sum();
    let bytes: usize = all().map(|chunk| chunk.stored_bytes()).sum();
    let chunk_count = row_count.div_ceil(CHUNK_ROW_COUNT).max(bytes.div_ceil(CHUNK_BYTES));
    let bounds = bounds(runs, chunk_count)?;
    let starts = std::iter::once(None).chain(bounds.iter().copied().map(Some));
    let ends = bounds.iter().copied().map(Some).chain([None]);
    for (start, end) in starts.zip(ends) {
        let slices = all().filter_map(|chunk| chunk.between(start, end).transpose());
        let slices = slices.collect::<Result<Vec<Chunk>>>()?;
        let merged = Chunk::merge(layout, slices.iter())?;
        if merged.row_count() > 0 {
            take(merged)?;
        }
    }
    Ok(())
}

/// Hashes that cut the longest of the runs into as many pieces of like length.
fn bounds(runs: &[Arc<Run>], piece_count: usize) -> Result<Vec<u64>> {
    let Some(longest) = runs.iter().max_by_key(|run| run.row_count) else { return Ok(vec![]) };
    let hash_at = |mut row: usize| {
        for chunk in &longest.chunks {
            if row < chunk.row_count() {
                return Ok(chunk.rows()?.hashes[row]);
            }
            row -= chunk.row_count();
        }
        Ok(u64::MAX)
    };
    let bounds = (1..piece_count).map(|piece| hash_at(longest.row_count * piece / piece_count));
    let mut bounds = bounds.collect::<Result<Vec<u64>>>()?;
    bounds.dedup();
    Ok(bounds)
}

/// The chunks of logs one after the other; short neighbours become one, long ones stay as they are.
fn chain(layout: &Layout, runs: &[Arc<Run>], take: &mut dyn FnMut(Chunk) -> Result<()>) -> Result<()> {
    let mut short: Vec<&Chunk> = vec![];
    let (mut row_count, mut bytes) = (0, 0);
    for chunk in runs.iter().flat_map(|run| &run.chunks) {
        let (own_count, own_bytes) = (chunk.row_count(), chunk.stored_bytes());
        if !short.is_empty() && (row_count + own_count > CHUNK_ROW_COUNT || bytes + own_bytes > CHUNK_BYTES) {
            take(joined(layout, &short)?)?;
            short.clear();
            (row_count, bytes) = (0, 0);
        }
        short.push(chunk);
        row_count += own_count;
        bytes += own_bytes;
    }
    if short.is_empty() { Ok(()) } else { take(joined(layout, &short)?) }
}

fn joined(layout: &Layout, chunks: &[&Chunk]) -> Result<Chunk> {
    match chunks {
        [one] => one.shared(),
        _ => Chunk::merge(layout, chunks.iter().copied()),
    }
}
