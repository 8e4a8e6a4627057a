//! One part on disk: runs, oldest first, each of which is what changed between two checkpoints, or several of those
//! added up.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::Array;
use serde::{Deserialize, Serialize};

use super::{Part, PartKind, not_below};
use crate::error::Result;
use crate::state::codec::{decode_delta, encode_delta};
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
    runs: Vec<Run>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    blocks: Vec<Block>,
    row_count: usize,
    /// Rows that take something back: only with them does adding up make anything shorter.
    retraction_count: usize,
    /// The newest time of its rows; `None`: there are rows without a time, or it has no time column.
    newest_us: Option<i64>,
}

/// So many runs of like size become one.
const MERGE_COUNT: usize = 4;
/// Runs of more rows than this are not joined where that would save nothing.
const LONG_ROW_COUNT: usize = 1 << 20;
/// Rows of a block: what is read and decoded at a time.
const BLOCK_ROW_COUNT: usize = 64 * 1024;

impl Collection {
    pub fn new(place: Place, part: &Part) -> Collection {
        Collection { place, kind: part.kind, time_column: part.time_column, below: None, runs: vec![] }
    }

    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Bytes of each segment that its runs refer to.
    pub fn count_bytes(&self, bytes: &mut BTreeMap<u64, u64>) {
        for block in self.runs.iter().flat_map(|run| &run.blocks) {
            *bytes.entry(block.segment).or_default() += block.length;
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
        let delta = self.kept(self.kind.merge(&first.schema(), deltas)?)?;
        match self.write(&delta, segment)? {
            None => Ok(0),
            Some(run) => {
                let bytes = run.blocks.iter().map(|block| block.length).sum();
                self.runs.push(run);
                Ok(bytes)
            }
        }
    }

    /// Where the runs begin that should become one: the last [`MERGE_COUNT`], if the first is not much longer than the
    /// others together. So a row is written again O(log n) times.
    pub fn due(&self) -> Option<usize> {
        let start = self.runs.len().checked_sub(MERGE_COUNT)?;
        let tail = &self.runs[start..];
        let row_count: usize = tail.iter().map(|run| run.row_count).sum();
        let retraction_count: usize = tail.iter().map(|run| run.retraction_count).sum();
        let is_saving = match self.kind {
            PartKind::Sum => retraction_count * 8 > row_count,
            PartKind::Latest { .. } => true,
        };
        let is_alike = tail[0].row_count <= MERGE_COUNT * (row_count - tail[0].row_count);
        (is_alike && (row_count < LONG_ROW_COUNT || is_saving)).then_some(start)
    }

    /// Adds up the runs from `start` on. On an error it is what it was.
    pub fn merge(&mut self, start: usize, store: &dyn Store, segment: &mut dyn SegmentWriter) -> Result<u64> {
        let mut deltas = vec![];
        for run in &self.runs[start..] {
            for block in &run.blocks {
                deltas.push(decode_delta(&store.read_block(*block)?)?);
            }
        }
        let merged = self.kept(self.kind.merge(&deltas[0].schema(), &deltas)?)?;
        // Nothing lies below the first: there is nothing that a row taken away could still take away.
        let merged = if start == 0 { self.kind.settle(merged)? } else { merged };
        let run = self.write(&merged, segment)?;
        self.runs.truncate(start);
        let bytes = run.iter().flat_map(|run| &run.blocks).map(|block| block.length).sum();
        self.runs.extend(run);
        Ok(bytes)
    }

    /// Whether a run lies in one of these segments.
    pub fn lies_in(&self, segments: &BTreeSet<u64>) -> bool {
        self.runs.iter().flat_map(|run| &run.blocks).any(|block| segments.contains(&block.segment))
    }

    /// Copies what lies in these segments to another. On an error it is what it was.
    pub fn move_out(
        &mut self,
        segments: &BTreeSet<u64>,
        store: &dyn Store,
        segment: &mut dyn SegmentWriter,
    ) -> Result<u64> {
        let (mut runs, mut bytes) = (self.runs.clone(), 0);
        for block in runs.iter_mut().flat_map(|run| &mut run.blocks) {
            if segments.contains(&block.segment) {
                bytes += block.length;
                *block = segment.append(&store.read_block(*block)?)?;
            }
        }
        self.runs = runs;
        Ok(bytes)
    }

    /// All that it holds, added up.
    pub fn read(&self, store: &dyn Store) -> Result<Vec<Delta>> {
        let mut deltas = vec![];
        for block in self.runs.iter().flat_map(|run| &run.blocks) {
            deltas.push(self.kept(decode_delta(&store.read_block(*block)?)?)?);
        }
        let Some(first) = deltas.first() else { return Ok(vec![]) };
        // Rows that only ever came need not be looked at.
        let is_plain = self.kind == PartKind::Sum && self.runs.iter().all(|run| run.retraction_count == 0);
        if is_plain || self.runs.len() == 1 {
            return deltas.into_iter().map(|delta| self.kind.settle(delta)).collect();
        }
        let merged = self.kind.settle(self.kind.merge(&first.schema(), &deltas)?)?;
        Ok(vec![merged])
    }

    fn kept(&self, delta: Delta) -> Result<Delta> {
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
        let starts = (0..row_count).step_by(BLOCK_ROW_COUNT);
        let blocks = starts.map(|start| {
            let piece = delta.slice(start, BLOCK_ROW_COUNT.min(row_count - start));
            segment.append(&encode_delta(&piece)?)
        });
        let blocks = blocks.collect::<Result<Vec<Block>>>()?;
        let retraction_count = match delta.weights() {
            Some(weights) => weights.iter().filter(|weight| **weight < 0).count(),
            None => 0,
        };
        Ok(Some(Run { blocks, row_count, retraction_count, newest_us: self.newest_us(delta)? }))
    }

    fn newest_us(&self, delta: &Delta) -> Result<Option<i64>> {
        let Some(column) = self.time_column else { return Ok(None) };
        let times = times_us(delta.column(column))?;
        if times.null_count() > 0 {
            return Ok(None);
        }
        Ok(arrow::compute::max(&times))
    }
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
        Collection::new(place, &Part { schema: schema(), kind, time_column, spread: Spread::Anywhere })
    }

    /// Whatever is merged when: what is read is what was written, added up or the last of it.
    #[test]
    fn what_is_read_is_the_sum_of_what_was_written() -> Result<()> {
        for kind in [PartKind::Sum, PartKind::Latest { key_width: 1 }] {
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
                        PartKind::Sum => *expected.entry((*key, value.to_string())).or_insert(0) += weight,
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
                if let Some(start) = collection.due() {
                    let mut writer = store.create_segment(1000 + segment)?;
                    collection.merge(start, &store, writer.as_mut())?;
                    writer.finish()?;
                }
                assert_eq!(rows(&collection.read(&store)?), expected, "{kind:?} after {segment}");
            }
            assert!(collection.runs().len() < 16, "{} runs", collection.runs().len());
        }
        Ok(())
    }

    #[test]
    fn what_is_moved_out_is_the_same_elsewhere() -> Result<()> {
        let store = MemoryStore::default();
        let mut collection = collection(PartKind::Sum, None);
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
