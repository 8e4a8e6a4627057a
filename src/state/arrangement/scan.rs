//! Rows of a snapshot, piece by piece, so that one that is larger than memory can be read.
//!
//! ```text
//! base      [ chunk 0 ][ chunk 1 ][ chunk 2 ]        the longest run, in the order of hashes
//! the rest  [ · ·· · ·   ··  ·  · ·  ·    · ]        added up for the hashes of one chunk at a time
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{filter_record_batch, take_record_batch};

use super::chunk::{repeat_by_weight, row_comparators, rows_equal};
use super::{Chunk, Rows, Run, Snapshot};
use crate::error::{Error, Result};

/// All rows, cut to some columns; a row of weight 2 comes twice.
pub struct Scan {
    snapshot: Arc<Snapshot>,
    columns: Option<Vec<usize>>,
    next: usize,
    ready: VecDeque<RecordBatch>,
}

impl Scan {
    pub fn new(snapshot: Arc<Snapshot>, columns: Option<Vec<usize>>) -> Scan {
        Scan { snapshot, columns, next: 0, ready: VecDeque::new() }
    }
}

impl Iterator for Scan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            if let Some(rows) = self.ready.pop_front() {
                return Some(Ok(rows));
            }
            if self.next >= self.snapshot.piece_count() {
                return None;
            }
            match self.snapshot.piece(self.next, self.columns.as_deref()) {
                Ok(piece) => self.ready.extend(piece),
                Err(error) => return Some(Err(error)),
            }
            self.next += 1;
        }
    }
}

impl Snapshot {
    /// Nothing has to be added up.
    fn is_plain(&self) -> bool {
        self.chunks().all(|chunk| chunk.is_plain())
    }

    /// The biggest run: it is touched only where a smaller one takes something back.
    fn base(&self) -> Option<&Arc<Run>> {
        self.runs().iter().max_by_key(|run| run.row_count())
    }

    pub(super) fn piece_count(&self) -> usize {
        match !self.layout().indexed || self.is_plain() {
            true => self.chunks().count(),
            false => self.base().map_or(0, |base| base.chunks().len()),
        }
    }

    /// Together they are all rows.
    pub(super) fn piece(&self, number: usize, columns: Option<&[usize]>) -> Result<Vec<RecordBatch>> {
        let cut = |rows: RecordBatch| match columns {
            Some(columns) => Ok(rows.project(columns)?),
            None => Ok::<_, Error>(rows),
        };
        if !self.layout().indexed || self.is_plain() {
            return self.chunks().nth(number).map(|chunk| cut(expand(chunk.rows()?)?)).into_iter().collect();
        }
        let Some(base) = self.base() else { return Ok(vec![]) };
        let start_of = |number: usize| base.chunks().get(number).and_then(|chunk| chunk.first_hash());
        let (from, to) = (start_of(number).filter(|_| number > 0), start_of(number + 1));
        let others = self.runs().iter().filter(|run| !Arc::ptr_eq(run, base)).flat_map(|run| run.chunks());
        let others = others.filter_map(|chunk| chunk.between(from, to).transpose()).collect::<Result<Vec<Chunk>>>()?;
        let base = &base.chunks()[number];
        if base.is_plain() {
            let (base, rest) = (base.rows()?, Chunk::merge(self.layout(), others.iter())?);
            let rest = rest.rows()?;
            if let Some(kept) = retract(base, rest)? {
                let kept = filter_record_batch(&cut(base.batch.clone())?, &kept)?;
                return Ok(vec![kept, cut(expand(rest)?)?]);
            }
        }
        let all = Chunk::merge(self.layout(), others.iter().chain([base.as_ref()]))?;
        Ok(vec![cut(expand(all.rows()?)?)?])
    }
}

/// Which rows of `base` (all of weight 1) remain when the negative rows of `rest` are taken out of it. `None` if a
/// negative row has no counterpart there, or takes out more than there is.
fn retract(base: &Rows, rest: &Rows) -> Result<Option<BooleanArray>> {
    let comparators = row_comparators(&base.batch, &rest.batch)?;
    let mut kept = vec![true; base.batch.num_rows()];
    for row in (0..rest.batch.num_rows()).filter(|&row| rest.weight(row) < 0) {
        if rest.weight(row) != -1 {
            return Ok(None);
        }
        let mut candidates = base.with_hash(rest.hashes[row]);
        let found = candidates.find(|&b| kept[b] && rows_equal(&comparators, b as u32, row as u32));
        let Some(found) = found else { return Ok(None) };
        kept[found] = false;
    }
    Ok(Some(kept.into()))
}

/// Each row as often as its weight says; rows of negative weight are not there. A committed relation has none: they
/// exist only in lookups over a part of the runs and are then met by their counterpart.
pub(super) fn expand(rows: &Rows) -> Result<RecordBatch> {
    let Some(weights) = &rows.weights else { return Ok(rows.batch.clone()) };
    if weights.iter().any(|&w| w > EXPANSION_MAX) {
        return Err(Error::internal("a row occurs more often than a result can hold"));
    }
    Ok(take_record_batch(&rows.batch, &repeat_by_weight(weights.len(), |row| weights[row]))?)
}

/// Copies of one row that a scan will produce at most.
const EXPANSION_MAX: i64 = 1 << 31;
