//! One part on disk: runs, oldest first, each of which is what changed between two checkpoints, or several of those
//! added up.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use super::arranged_run::{SavedChunk, write_arranged};
use super::keyed_merge::merge_ordered;
use super::keyed_run::{KeyedBlocks, KeyedRunWriter, ordered, read_block};
use super::{Part, PartKind, can_hash, not_below};
use crate::error::Result;
use crate::state::arrangement::{self, Layout};
use crate::state::codec::encode_delta;
use crate::state::store::{Block, SegmentWriter, Store};
use crate::types::Delta;
use crate::types::times::times_us;

/// Where an operator's part belongs. A view's contents are those of the operator behind its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    pub worker: usize,
    /// Its number in the plan's preorder.
    pub operator: usize,
    pub part: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Collection {
    pub place: Place,
    kind: PartKind,
    time_column: Option<usize>,
    /// Rows that are older are gone.
    below: Option<i64>,
    /// Runs are ordered by the hash of these columns; empty: they are in no order. Those that were written before it was
    /// named are in none either, until they are added up with others.
    #[serde(default)]
    key: Vec<usize>,
    runs: Vec<Run>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// None, if it is ordered or arranged.
    blocks: Vec<Block>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ordered: Option<KeyedBlocks>,
    /// Of a relation's rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chunks: Vec<SavedChunk>,
    row_count: usize,
    /// Rows that take something back: only with them does adding up make anything shorter.
    retraction_count: usize,
    /// The newest time of its rows; `None`: there are rows without a time, or it has no time column.
    newest_us: Option<i64>,
}

/// What is known of the rows of a run that is being written.
#[derive(Default)]
pub struct RunSummary {
    pub row_count: usize,
    retraction_count: usize,
    /// `None`: no row has come yet.
    newest_us: Option<Option<i64>>,
}

/// So many runs of like size become one.
const MERGE_COUNT: usize = 4;
/// Runs of more rows than this are not joined where that would save nothing.
const LONG_ROW_COUNT: usize = 1 << 20;
/// Rows of a block: what is read and decoded at a time.
const BLOCK_ROW_COUNT: usize = 64 * 1024;

impl Run {
    pub fn ordered(&self) -> Option<&KeyedBlocks> {
        self.ordered.as_ref()
    }

    pub fn row_count(&self) -> usize {
        self.row_count
    }

    /// Of its blocks.
    pub fn bytes(&self) -> u64 {
        self.segments().map(|(_, bytes)| bytes).sum()
    }

    /// Where it lies, with bytes.
    fn segments(&self) -> impl Iterator<Item = (u64, u64)> {
        let ordered = self.ordered.iter().map(|own| (own.index.segment, own.bytes));
        let blocks = self.blocks.iter().chain(self.chunks.iter().map(|chunk| &chunk.block));
        blocks.map(|block| (block.segment, block.length)).chain(ordered)
    }

    /// Its rows, block by block in their order.
    fn each(&self, store: &dyn Store, take: &mut dyn FnMut(Delta) -> Result<()>) -> Result<()> {
        for chunk in &self.chunks {
            take(chunk.read(store)?.delta())?;
        }
        let blocks = match &self.ordered {
            None => self.blocks.clone(),
            Some(own) => own.open(store)?.blocks.iter().map(|indexed| own.block(indexed)).collect(),
        };
        blocks.into_iter().try_for_each(|block| take(read_block(store, block)?))
    }

    /// Some of its rows, if it has any.
    fn first(&self, store: &dyn Store) -> Result<Option<Delta>> {
        match (self.chunks.first(), self.blocks.first()) {
            (Some(chunk), _) => Ok(Some(chunk.read(store)?.delta())),
            (None, Some(block)) => read_block(store, *block).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// As its arrangement had it.
    fn arranged(&self, layout: &Layout, store: &dyn Store) -> Result<arrangement::Run> {
        if !self.chunks.is_empty() {
            let chunks = self.chunks.iter().map(|chunk| Ok(Arc::new(chunk.load(store)?)));
            return Ok(arrangement::Run::of(chunks.collect::<Result<Vec<_>>>()?));
        }
        let mut deltas = vec![];
        self.each(store, &mut |delta| {
            deltas.push(delta);
            Ok(())
        })?;
        arrangement::Run::build(layout, &Delta::concat(&layout.schema, &deltas)?)
    }
}

impl RunSummary {
    pub fn add(&mut self, delta: &Delta, time_column: Option<usize>) -> Result<()> {
        if delta.is_empty() {
            return Ok(());
        }
        self.row_count += delta.row_count();
        if let Some(weights) = delta.weights() {
            self.retraction_count += weights.iter().filter(|weight| **weight < 0).count();
        }
        let newest = newest_us(delta, time_column)?;
        self.newest_us = Some(match self.newest_us {
            None => newest,
            Some(before) => before.zip(newest).map(|(before, newest)| before.max(newest)),
        });
        Ok(())
    }

    pub fn run(self, blocks: Vec<Block>, ordered: Option<KeyedBlocks>, chunks: Vec<SavedChunk>) -> Run {
        let RunSummary { row_count, retraction_count, newest_us } = self;
        Run { blocks, ordered, chunks, row_count, retraction_count, newest_us: newest_us.flatten() }
    }
}

impl Collection {
    pub fn new(place: Place, part: &Part) -> Collection {
        let (kind, time_column) = (part.kind, part.time_column);
        Collection { place, kind, time_column, below: None, key: key_of(part), runs: vec![] }
    }

    /// Runs that are written from now on are ordered as the part says: a program that knew of no order may have begun it.
    pub fn order_as(&mut self, part: &Part) {
        (self.kind, self.key) = (part.kind, key_of(part));
    }

    pub fn kind(&self) -> PartKind {
        self.kind
    }

    pub fn key(&self) -> &[usize] {
        &self.key
    }

    pub fn time_column(&self) -> Option<usize> {
        self.time_column
    }

    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Of the blocks of these runs.
    pub fn bytes_of(&self, range: Range<usize>) -> u64 {
        self.runs[range].iter().map(Run::bytes).sum()
    }

    /// Its runs are blocks by key, as they are written now.
    fn is_keyed(&self) -> bool {
        !self.key.is_empty() && self.kind != PartKind::Arranged
    }

    /// Of the relation whose rows these are, if they are of one.
    fn layout(&self, schema: &SchemaRef) -> Layout {
        match self.key.is_empty() {
            true => Layout::log(schema.clone()),
            false => Layout::indexed(schema.clone(), self.key.clone()),
        }
    }

    /// The runs of a relation that is arranged so, to go on from without reading them; `None` if they were written otherwise.
    pub fn arranged(&self, layout: &Layout, store: &dyn Store) -> Result<Option<Vec<Arc<arrangement::Run>>>> {
        let key: &[usize] = if layout.indexed { &layout.key } else { &[] };
        let is_alike = self.kind == PartKind::Arranged && self.key == key;
        if !is_alike || self.runs.iter().any(|run| run.chunks.is_empty()) {
            return Ok(None);
        }
        let run = |chunks: &mut dyn Iterator<Item = &SavedChunk>| {
            let opened = chunks.map(|chunk| chunk.open(store, &layout.schema).map(Arc::new));
            Ok(Arc::new(arrangement::Run::of(opened.collect::<Result<Vec<_>>>()?)))
        };
        match layout.indexed {
            true => self.runs.iter().map(|own| run(&mut own.chunks.iter())).collect::<Result<Vec<_>>>().map(Some),
            // The rows of a log stand as they came, whichever run they are in.
            false => Ok(Some(vec![run(&mut self.runs.iter().flat_map(|own| &own.chunks))?])),
        }
    }

    /// Single keys can be looked up.
    pub fn is_ordered(&self) -> bool {
        self.is_keyed() && self.runs.iter().all(|run| run.ordered.is_some())
    }

    /// Bytes of each segment that its runs refer to.
    pub fn count_bytes(&self, bytes: &mut BTreeMap<u64, u64>) {
        for (segment, length) in self.runs.iter().flat_map(Run::segments) {
            *bytes.entry(segment).or_default() += length;
        }
    }

    pub fn row_count(&self) -> usize {
        self.runs.iter().map(|run| run.row_count).sum()
    }

    /// Rows that are older than this go from here on; runs that have no others are let go at once.
    pub fn close_below(&mut self, below: Option<i64>) {
        self.below = self.below.max(below);
        if let Some(below) = self.below {
            self.runs.retain(|run| run.newest_us.is_none_or(|newest| newest >= below));
        }
    }

    /// Adds a run of the changes, if they come to anything; returns the bytes written.
    pub fn append(&mut self, deltas: &[Delta], segment: &mut dyn SegmentWriter) -> Result<u64> {
        let Some(first) = deltas.first() else { return Ok(0) };
        let run = match self.kind {
            PartKind::Arranged => {
                let layout = self.layout(&first.schema());
                self.write_arranged(&layout, arrangement::Run::build_each(&layout, deltas)?, segment)?
            }
            kind => self.write(&self.kept(kind.merge(&first.schema(), deltas)?)?, segment)?,
        };
        let bytes = run.as_ref().map_or(0, Run::bytes);
        self.runs.extend(run);
        Ok(bytes)
    }

    /// Which runs should become one, of those from `from` on: the last [`MERGE_COUNT`], if the first is not much longer than
    /// the others together. So a row is written again O(log n) times.
    pub fn due(&self, from: usize) -> Option<Range<usize>> {
        // What was written before it had a key is brought into order first.
        if self.is_keyed()
            && let Some(last) = self.runs.iter().rposition(|run| run.ordered.is_none())
        {
            let first = self.runs.iter().position(|run| run.ordered.is_none()).filter(|first| *first >= from)?;
            return Some(first..last + 1);
        }
        let start = self.runs.len().checked_sub(MERGE_COUNT).filter(|start| *start >= from)?;
        let tail = &self.runs[start..];
        let row_count: usize = tail.iter().map(|run| run.row_count).sum();
        let retraction_count: usize = tail.iter().map(|run| run.retraction_count).sum();
        let is_saving = match self.kind {
            PartKind::Sum | PartKind::Arranged => retraction_count * 8 > row_count,
            PartKind::Latest { .. } => true,
        };
        let is_alike = tail[0].row_count <= MERGE_COUNT * (row_count - tail[0].row_count);
        // A key is looked for in every run.
        let is_worth_it = row_count < LONG_ROW_COUNT || is_saving || !self.key.is_empty();
        (is_alike && is_worth_it).then_some(start..self.runs.len())
    }

    /// Adds up these runs. On an error it is what it was.
    pub fn merge(&mut self, range: Range<usize>, store: &dyn Store, segment: &mut dyn SegmentWriter) -> Result<u64> {
        let run = self.merged(range.clone(), store, segment)?;
        let bytes = run.as_ref().map_or(0, Run::bytes);
        self.runs.splice(range, run);
        Ok(bytes)
    }

    /// These runs as one. Those that are ordered are read block by block, others as a whole.
    pub fn merged(
        &self,
        range: Range<usize>,
        store: &dyn Store,
        segment: &mut dyn SegmentWriter,
    ) -> Result<Option<Run>> {
        // Nothing lies below the first: there is nothing that a row taken away could still take away.
        let settles = range.start == 0;
        let runs = &self.runs[range];
        if self.is_keyed() && runs.iter().all(|run| run.ordered.is_some()) {
            return merge_ordered(self, runs, settles, store, segment);
        }
        if self.kind == PartKind::Arranged {
            return self.merge_arranged(runs, store, segment);
        }
        let mut deltas = vec![];
        for run in runs {
            run.each(store, &mut |delta| {
                deltas.push(delta);
                Ok(())
            })?;
        }
        let Some(first) = deltas.first() else { return Ok(None) };
        let merged = self.kept(self.kind.merge(&first.schema(), &deltas)?)?;
        let merged = if settles { self.kind.settle(merged)? } else { merged };
        self.write(&merged, segment)
    }

    fn merge_arranged(&self, runs: &[Run], store: &dyn Store, segment: &mut dyn SegmentWriter) -> Result<Option<Run>> {
        let mut first = None;
        for run in runs {
            first = first.or(run.first(store)?);
        }
        let Some(schema) = first.map(|delta| delta.schema()) else { return Ok(None) };
        let layout = self.layout(&schema);
        let runs = runs.iter().map(|run| run.arranged(&layout, store)).collect::<Result<Vec<_>>>()?;
        self.write_arranged(&layout, runs, segment)
    }

    fn write_arranged(
        &self,
        layout: &Layout,
        runs: Vec<arrangement::Run>,
        segment: &mut dyn SegmentWriter,
    ) -> Result<Option<Run>> {
        let mut summary = RunSummary::default();
        let runs: Vec<Arc<arrangement::Run>> = runs.into_iter().map(Arc::new).collect();
        let chunks = write_arranged(layout, &runs, &mut summary, segment)?;
        Ok((!chunks.is_empty()).then(|| summary.run(vec![], None, chunks)))
    }

    /// Puts a run in the place of those that it is the sum of, as far as they are still there. False: none is.
    pub fn replace(&mut self, old: &[Run], new: Option<Run>) -> bool {
        let is_old = |run: &Run| old.contains(run);
        let Some(start) = self.runs.iter().position(is_old) else { return false };
        let end = self.runs.iter().rposition(is_old).expect("there is one") + 1;
        debug_assert!(self.runs[start..end].iter().all(is_old), "nothing comes in between");
        self.runs.splice(start..end, new);
        true
    }

    /// Behind the last of these runs, as far as they are still there.
    pub fn end_of(&self, runs: &[Run]) -> usize {
        self.runs.iter().rposition(|run| runs.contains(run)).map_or(0, |last| last + 1)
    }

    /// Whether a run lies in one of these segments.
    pub fn lies_in(&self, segments: &BTreeSet<u64>) -> bool {
        self.runs.iter().flat_map(Run::segments).any(|(segment, _)| segments.contains(&segment))
    }

    /// Copies what lies in these segments to another. On an error it is what it was.
    pub fn move_out(
        &mut self,
        segments: &BTreeSet<u64>,
        store: &dyn Store,
        segment: &mut dyn SegmentWriter,
    ) -> Result<u64> {
        let (mut runs, mut bytes) = (self.runs.clone(), 0);
        for run in &mut runs {
            let blocks = run.blocks.iter_mut().chain(run.chunks.iter_mut().map(|chunk| &mut chunk.block));
            for block in blocks.filter(|block| segments.contains(&block.segment)) {
                bytes += block.length;
                *block = segment.append(&store.read_block(*block)?)?;
            }
            if let Some(own) = run.ordered.as_mut().filter(|own| segments.contains(&own.index.segment)) {
                bytes += own.bytes;
                *own = own.copy(store, segment)?;
            }
        }
        self.runs = runs;
        Ok(bytes)
    }

    /// What it holds, block by block and not added up.
    pub fn each(&self, store: &dyn Store, take: &mut dyn FnMut(Delta) -> Result<()>) -> Result<()> {
        self.runs.iter().try_for_each(|run| run.each(store, &mut |delta| take(self.kept(delta)?)))
    }

    /// All that it holds, added up.
    pub fn read(&self, store: &dyn Store) -> Result<Vec<Delta>> {
        let mut deltas = vec![];
        self.each(store, &mut |delta| {
            deltas.push(delta);
            Ok(())
        })?;
        let Some(first) = deltas.first() else { return Ok(vec![]) };
        // Rows that only ever came need not be looked at.
        let is_sum = matches!(self.kind, PartKind::Sum | PartKind::Arranged);
        let is_plain = is_sum && self.runs.iter().all(|run| run.retraction_count == 0);
        if is_plain || self.runs.len() == 1 {
            return deltas.into_iter().map(|delta| self.kind.settle(delta)).collect();
        }
        let merged = self.kind.settle(self.kind.merge(&first.schema(), &deltas)?)?;
        Ok(vec![merged])
    }

    /// Without the rows that are gone by their time.
    pub fn kept(&self, delta: Delta) -> Result<Delta> {
        match (self.time_column, self.below) {
            (Some(column), Some(below)) => not_below(delta, column, below),
            _ => Ok(delta),
        }
    }

    fn write(&self, delta: &Delta, segment: &mut dyn SegmentWriter) -> Result<Option<Run>> {
        let row_count = delta.row_count();
        if row_count == 0 {
            return Ok(None);
        }
        let mut summary = RunSummary::default();
        summary.add(delta, self.time_column)?;
        if self.is_keyed() {
            let mut writer = KeyedRunWriter::new(segment, row_count);
            let (delta, hashes) = ordered(delta, &self.key)?;
            writer.push(delta, &hashes)?;
            return Ok(writer.finish()?.map(|blocks| summary.run(vec![], Some(blocks), vec![])));
        }
        let starts = (0..row_count).step_by(BLOCK_ROW_COUNT);
        let blocks = starts.map(|start| {
            let piece = delta.slice(start, BLOCK_ROW_COUNT.min(row_count - start));
            segment.append(&encode_delta(&piece)?)
        });
        Ok(Some(summary.run(blocks.collect::<Result<Vec<Block>>>()?, None, vec![])))
    }
}

/// The key by which a part's rows can be ordered.
fn key_of(part: &Part) -> Vec<usize> {
    let can_be = part.kind == PartKind::Arranged
        || part.key.iter().all(|&column| can_hash(part.schema.field(column).data_type()));
    if can_be { part.key.clone() } else { vec![] }
}

fn newest_us(delta: &Delta, time_column: Option<usize>) -> Result<Option<i64>> {
    let Some(column) = time_column else { return Ok(None) };
    let times = times_us(delta.column(column))?;
    if times.null_count() > 0 {
        return Ok(None);
    }
    Ok(arrow::compute::max(&times))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::state::checkpoint::Spread;
    use crate::state::store::MemoryStore;

    fn schema() -> SchemaRef {
        let text = Field::new("v", DataType::Utf8, true);
        Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true), text]))
    }

    fn delta(rows: &[(i64, &str, i64)]) -> Result<Delta> {
        let keys: Int64Array = rows.iter().map(|(key, ..)| Some(*key)).collect();
        let values: StringArray = rows.iter().map(|(_, value, _)| Some(*value)).collect();
        let batch = RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(values)])?;
        Ok(Delta::new(batch, rows.iter().map(|(.., weight)| *weight).collect::<Vec<_>>()))
    }

    fn rows(deltas: &[Delta]) -> BTreeMap<(i64, String), i64> {
        let mut rows = BTreeMap::new();
        for delta in deltas {
            let (keys, values) = (delta.column(0).as_primitive::<Int64Type>(), delta.column(1).as_string::<i32>());
            for row in 0..delta.row_count() {
                *rows.entry((keys.value(row), values.value(row).to_string())).or_insert(0) += delta.weight(row);
            }
        }
        rows.retain(|_, weight| *weight != 0);
        rows
    }

    fn collection(kind: PartKind, time_column: Option<usize>) -> Collection {
        let place = Place { worker: 0, operator: 0, part: 0 };
        let key = if kind == PartKind::Arranged { vec![0] } else { vec![] };
        Collection::new(place, &Part { schema: schema(), kind, time_column, spread: Spread::Anywhere, key })
    }

    /// Whatever is merged when: what is read is what was written, added up or the last of it.
    #[test]
    fn what_is_read_is_the_sum_of_what_was_written() -> Result<()> {
        for kind in [PartKind::Sum, PartKind::Arranged, PartKind::Latest { key_width: 1 }] {
            let mut random = StdRng::seed_from_u64(11);
            let store = MemoryStore::default();
            let mut collection = collection(kind, None);
            let mut expected: BTreeMap<(i64, String), i64> = BTreeMap::new();
            for segment in 0..200 {
                let mut writer = store.create_segment(segment)?;
                let changes: Vec<(i64, &str, i64)> = (0..random.random_range(0..20))
                    .map(|_| {
                        let weight = if random.random_bool(0.4) { -1 } else { 1 };
                        (random.random_range(0..30), ["a", "b", "c"][random.random_range(0..3)], weight)
                    })
                    .collect();
                for (key, value, weight) in &changes {
                    match kind {
                        PartKind::Sum | PartKind::Arranged => {
                            *expected.entry((*key, value.to_string())).or_insert(0) += weight
                        }
                        PartKind::Latest { .. } => {
                            expected.retain(|(other, _), _| other != key);
                            if *weight > 0 {
                                expected.insert((*key, value.to_string()), 1);
                            }
                        }
                    }
                }
                expected.retain(|_, weight| *weight != 0);
                collection.append(&[delta(&changes)?], writer.as_mut())?;
                writer.finish()?;
                if let Some(range) = collection.due(0) {
                    let mut writer = store.create_segment(1000 + segment)?;
                    collection.merge(range, &store, writer.as_mut())?;
                    writer.finish()?;
                }
                assert_eq!(rows(&collection.read(&store)?), expected, "{kind:?} after {segment}");
                if kind == PartKind::Arranged {
                    let layout = Layout::indexed(schema(), vec![0]);
                    let runs = collection.arranged(&layout, &store)?.expect("it is arranged so");
                    let deltas = runs.iter().flat_map(|run| run.deltas()).collect::<Result<Vec<Delta>>>()?;
                    assert_eq!(rows(&deltas), expected, "{kind:?} after {segment}");
                    assert!(collection.arranged(&Layout::indexed(schema(), vec![1]), &store)?.is_none());
                    assert!(collection.arranged(&Layout::log(schema()), &store)?.is_none());
                }
            }
            assert!(collection.runs().len() < 16, "{} runs", collection.runs().len());
        }
        Ok(())
    }

    #[test]
    fn what_is_moved_out_is_the_same_elsewhere() -> Result<()> {
        for kind in [PartKind::Sum, PartKind::Arranged] {
            moves_out(kind)?;
        }
        Ok(())
    }

    fn moves_out(kind: PartKind) -> Result<()> {
        let store = MemoryStore::default();
        let mut collection = collection(kind, None);
        for segment in 0..3 {
            let mut writer = store.create_segment(segment)?;
            collection.append(&[delta(&[(segment as i64, "x", 1), (7, "y", -1)])?], writer.as_mut())?;
            writer.finish()?;
        }
        let before = rows(&collection.read(&store)?);
        let mut writer = store.create_segment(9)?;
        let old = BTreeSet::from([0, 1]);
        assert!(collection.lies_in(&old) && collection.move_out(&old, &store, writer.as_mut())? > 0);
        writer.finish()?;
        assert!(!collection.lies_in(&old) && collection.lies_in(&BTreeSet::from([2])));
        [0, 1].into_iter().try_for_each(|segment| store.remove_segment(segment))?;
        assert_eq!(rows(&collection.read(&store)?), before);
        Ok(())
    }

    #[test]
    fn what_is_over_goes_without_a_retraction() -> Result<()> {
        let store = MemoryStore::default();
        let mut collection = collection(PartKind::Sum, Some(0));
        for (segment, times) in [[1, 5], [6, 7], [2, 9]].into_iter().enumerate() {
            let mut writer = store.create_segment(segment as u64)?;
            collection.append(&[delta(&[(times[0], "x", 1), (times[1], "x", 1)])?], writer.as_mut())?;
            writer.finish()?;
        }
        collection.close_below(Some(6_000));
        assert_eq!(collection.runs().len(), 2, "a run that is over as a whole goes");
        collection.close_below(Some(3_000));
        let left: Vec<i64> = rows(&collection.read(&store)?).into_keys().map(|(time, _)| time).collect();
        assert_eq!(left, [6, 7, 9]);
        Ok(())
    }
}
