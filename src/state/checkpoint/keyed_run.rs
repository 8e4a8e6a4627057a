//! A run that is ordered by the hash of its rows' keys, in small blocks, so that a key is found without reading the rest.
//!
//! ```text
//! block, block, … (each a delta of about 16 kB)   index: of each block its place, first and last hash; then the filter
//! ```
//!
//! The record of the view knows where the index lies, and the index where the blocks do: so records stay short.

use std::ops::RangeInclusive;

use arrow::array::{Array, ArrayRef, UInt32Array};
use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::key_hash::key_hashes;
use crate::error::{Error, Result, SqlState};
use crate::state::codec::{decode_delta, encode_delta};
use crate::state::store::{Block, SegmentWriter, Store};
use crate::types::Delta;

/// Bytes of a block, as its columns are in memory.
const BLOCK_BYTES_TARGET: usize = 16 * 1024;
const BLOCK_ROW_COUNTS: RangeInclusive<usize> = 32..=4096;

/// Of a block in the index: four words.
const ENTRY_BYTES: usize = 32;

/// Where it lies: all of it in one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyedBlocks {
    pub index: Block,
    /// Of its blocks and its index.
    pub bytes: u64,
}

#[derive(Debug)]
pub struct RunIndex {
    pub blocks: Vec<IndexedBlock>,
    pub filter: Filter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexedBlock {
    /// Its place in the run's segment.
    offset: u64,
    length: u64,
    first: u64,
    last: u64,
}

impl KeyedBlocks {
    /// XX001 if it is not what was written.
    pub fn open(&self, store: &dyn Store) -> Result<RunIndex> {
        let bytes = store.read_block(self.index)?;
        RunIndex::read(&bytes).ok_or_else(|| {
            Error::new(SqlState::DATA_CORRUPTED, format!("unreadable index of a run at {:?}", self.index))
        })
    }

    pub fn block(&self, indexed: &IndexedBlock) -> Block {
        Block { segment: self.index.segment, offset: indexed.offset, length: indexed.length }
    }

    /// The same blocks in another segment.
    pub fn copy(&self, store: &dyn Store, segment: &mut dyn SegmentWriter) -> Result<KeyedBlocks> {
        let RunIndex { mut blocks, filter } = self.open(store)?;
        for indexed in &mut blocks {
            indexed.offset = segment.append(&store.read_block(self.block(indexed))?)?.offset;
        }
        let index = segment.append(&RunIndex { blocks, filter }.write())?;
        Ok(KeyedBlocks { index, bytes: self.bytes })
    }
}

impl RunIndex {
    /// The blocks that may have rows of this hash.
    pub fn blocks_of(&self, hash: u64) -> std::ops::Range<usize> {
        let start = self.blocks.partition_point(|block| block.last < hash);
        let count = self.blocks[start..].iter().take_while(|block| block.first <= hash).count();
        start..start + count
    }

    pub fn memory_bytes(&self) -> usize {
        self.blocks.len() * size_of::<IndexedBlock>() + self.filter.memory_bytes()
    }

    /// The number of blocks, each as four words, then the filter; all little-endian.
    fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.blocks.len() * ENTRY_BYTES + self.filter.memory_bytes());
        bytes.extend((self.blocks.len() as u64).to_le_bytes());
        for IndexedBlock { offset, length, first, last } in &self.blocks {
            bytes.extend([offset, length, first, last].into_iter().flat_map(|word| word.to_le_bytes()));
        }
        self.filter.write(&mut bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<RunIndex> {
        let (count, rest) = bytes.split_first_chunk::<8>()?;
        let blocks_length = usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(ENTRY_BYTES)?;
        let (blocks, filter) = rest.split_at_checked(blocks_length)?;
        let blocks = blocks.as_chunks::<ENTRY_BYTES>().0.iter().map(|bytes| {
            let (words, _) = bytes.as_chunks::<8>();
            let [offset, length, first, last] = std::array::from_fn(|at| u64::from_le_bytes(words[at]));
            IndexedBlock { offset, length, first, last }
        });
        Some(RunIndex { blocks: blocks.collect(), filter: Filter::read(filter)? })
    }
}

/// The hashes of a delta's keys.
pub fn hashes_of(delta: &Delta, key: &[usize]) -> Result<Vec<u64>> {
    let columns: Vec<ArrayRef> = key.iter().map(|&column| delta.column(column).clone()).collect();
    key_hashes(&columns, delta.row_count())
}

/// The rows in the order of their hashes; those of equal hashes stay in theirs.
pub fn ordered(delta: &Delta, key: &[usize]) -> Result<(Delta, Vec<u64>)> {
    let hashes = hashes_of(delta, key)?;
    if hashes.is_sorted() {
        return Ok((delta.clone(), hashes));
    }
    let mut order: Vec<u32> = (0..hashes.len() as u32).collect();
    order.sort_by_key(|&row| hashes[row as usize]);
    let sorted = order.iter().map(|&row| hashes[row as usize]).collect();
    Ok((delta.take(&UInt32Array::from(order))?, sorted))
}

pub fn read_block(store: &dyn Store, block: Block) -> Result<Delta> {
    decode_delta(&store.read_block(block)?)
}

/// Writes one run; rows come in the order of their hashes.
pub struct KeyedRunWriter<'a> {
    segment: &'a mut dyn SegmentWriter,
    pending: Vec<Delta>,
    pending_hashes: Vec<u64>,
    /// Of a block; known from the first rows on.
    block_row_count: Option<usize>,
    blocks: Vec<IndexedBlock>,
    filter: Filter,
    hash_count: usize,
    last_hash: Option<u64>,
    bytes: u64,
}

impl KeyedRunWriter<'_> {
    /// No more rows than `row_count_max` may come.
    pub fn new(segment: &mut dyn SegmentWriter, row_count_max: usize) -> KeyedRunWriter<'_> {
        KeyedRunWriter {
            segment,
            pending: vec![],
            pending_hashes: vec![],
            block_row_count: None,
            blocks: vec![],
            filter: Filter::with_room(row_count_max),
            hash_count: 0,
            last_hash: None,
            bytes: 0,
        }
    }

    pub fn push(&mut self, delta: Delta, hashes: &[u64]) -> Result<()> {
        if delta.is_empty() {
            return Ok(());
        }
        debug_assert!(hashes.is_sorted() && self.last_hash.is_none_or(|last| last <= hashes[0]), "rows come in order");
        for &hash in hashes {
            if self.last_hash != Some(hash) {
                self.filter.insert(hash);
                self.hash_count += 1;
                self.last_hash = Some(hash);
            }
        }
        let row_count = *self.block_row_count.get_or_insert_with(|| block_row_count(&delta));
        self.pending.push(delta);
        self.pending_hashes.extend(hashes);
        if self.pending_hashes.len() >= row_count { self.write_blocks(row_count) } else { Ok(()) }
    }

    /// All that fill a block, or whatever there is.
    fn write_blocks(&mut self, row_count_min: usize) -> Result<()> {
        let Some(first) = self.pending.first() else { return Ok(()) };
        let all = Delta::concat(&first.schema(), &self.pending)?;
        let row_count = self.block_row_count.unwrap_or(*BLOCK_ROW_COUNTS.end());
        let mut start = 0;
        while all.row_count() - start >= row_count_min.max(1) {
            let length = row_count.min(all.row_count() - start);
            let block = self.segment.append(&encode_delta(&all.slice(start, length))?)?;
            let hashes = &self.pending_hashes[start..start + length];
            self.bytes += block.length;
            let (first, last) = (hashes[0], hashes[length - 1]);
            self.blocks.push(IndexedBlock { offset: block.offset, length: block.length, first, last });
            start += length;
        }
        self.pending_hashes.drain(..start);
        self.pending.clear();
        if start < all.row_count() {
            self.pending.push(all.slice(start, all.row_count() - start));
        }
        Ok(())
    }

    /// `None`: nothing has come.
    pub fn finish(mut self) -> Result<Option<KeyedBlocks>> {
        self.write_blocks(1)?;
        if self.blocks.is_empty() {
            return Ok(None);
        }
        self.filter.shrink(self.hash_count);
        let index = self.segment.append(&RunIndex { blocks: self.blocks, filter: self.filter }.write())?;
        Ok(Some(KeyedBlocks { index, bytes: self.bytes + index.length }))
    }
}

fn block_row_count(sample: &Delta) -> usize {
    let columns = sample.batch().columns().iter();
    let bytes = columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or_default()).sum::<usize>();
    let row_bytes = (bytes / sample.row_count() + size_of::<i64>()).max(1);
    (BLOCK_BYTES_TARGET / row_bytes).clamp(*BLOCK_ROW_COUNTS.start(), *BLOCK_ROW_COUNTS.end())
}
