//! What the engine tells about itself: counts, positions, errors. Written by the sequencer after an epoch, read by
//! `hw_catalog`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use crate::dataflow::meter::Meter;
use crate::plan::Watermarks;
use crate::types::{BadRecord, Epoch, Position, RelationId, RowError};

/// Errors kept for one object; older ones are let go, but stay counted.
pub const ERROR_COUNT_MAX: usize = 10_000;

#[derive(Clone, Debug)]
pub struct SourceStatus {
    pub id: RelationId,
    /// `idle` (nothing reads it), `running`, `paused`, `finished`, `retrying`.
    pub state: &'static str,
    /// What it is retrying for.
    pub error: Option<String>,
    pub row_count: u64,
    pub bad_record_count: u64,
    pub position: Position,
    /// Microseconds since 1970.
    pub watermark_us: Option<i64>,
    /// The partition that holds the watermark back.
    pub watermark_partition: Option<String>,
}

#[derive(Clone, Debug)]
pub struct ViewStatus {
    pub id: RelationId,
    /// `backfilling`, `running`, `failed`.
    pub state: &'static str,
    pub error: Option<String>,
    pub input_row_count: u64,
    pub output_row_count: u64,
    /// Rows and bytes in operators, on all workers; measured now and then.
    pub state_row_count: u64,
    pub state_bytes: u64,
    /// Rows and bytes of the view's own contents, before consolidation.
    pub stored_row_count: u64,
    pub stored_bytes: u64,
    /// Rows that fail at this moment.
    pub row_error_count: u64,
    /// Rows that came too late, by the relation whose watermark they missed.
    pub late_row_counts: BTreeMap<RelationId, u64>,
    /// The last epoch that changed it.
    pub epoch: Epoch,
}

/// What the operators of one view have done since it was built.
#[derive(Clone, Debug)]
pub struct ViewMeasurement {
    pub view: RelationId,
    /// In the order in which EXPLAIN shows them.
    pub operators: Vec<OperatorMeasurement>,
}

#[derive(Clone, Debug)]
pub struct OperatorMeasurement {
    /// How deep it stands in the plan.
    pub depth: usize,
    pub text: String,
    /// Over all workers; `None` where the plan repeats a part that is run only once, at its first place.
    pub meter: Option<Meter>,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct SourceError {
    pub source: RelationId,
    pub epoch: Epoch,
    pub at: SystemTime,
    pub record: BadRecord,
}

#[derive(Clone, Debug)]
pub struct ViewError {
    pub view: RelationId,
    pub reason: String,
    pub row: String,
    pub count: i64,
}

/// How many rows fail in one way.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ViewErrorCount {
    pub reason: String,
    pub row: String,
    pub count: i64,
}

/// Reason and row to how many such rows fail.
type RowErrors = BTreeMap<(String, String), i64>;

#[derive(Default)]
pub struct Statuses {
    pub watermarks: Arc<Watermarks>,
    /// The newest epoch whose views are saved.
    pub checkpoint: Option<Epoch>,
    sources: BTreeMap<RelationId, (SourceStatus, VecDeque<SourceError>)>,
    views: BTreeMap<RelationId, (ViewStatus, RowErrors)>,
    /// Views whose errors have changed since they were last saved.
    changed_errors: BTreeSet<RelationId>,
}

impl Statuses {
    pub fn sources(&self) -> Vec<SourceStatus> {
        self.sources.values().map(|(status, _)| status.clone()).collect()
    }

    pub fn views(&self) -> Vec<ViewStatus> {
        self.views.values().map(|(status, _)| status.clone()).collect()
    }

    pub fn source_errors(&self) -> Vec<SourceError> {
        self.sources.values().flat_map(|(_, errors)| errors.iter().cloned()).collect()
    }

    pub fn view_errors(&self) -> Vec<ViewError> {
        let errors = self.views.iter().flat_map(|(id, (_, errors))| errors.iter().map(move |error| (*id, error)));
        let errors = errors.filter(|(_, (_, count))| **count > 0);
        errors
            .map(|(view, ((reason, row), count))| ViewError {
                view,
                reason: reason.clone(),
                row: row.clone(),
                count: *count,
            })
            .collect()
    }

    pub fn set_source(&mut self, status: SourceStatus) {
        match self.sources.get_mut(&status.id) {
            Some((kept, _)) => *kept = status,
            None => {
                self.sources.insert(status.id, (status, VecDeque::new()));
            }
        }
    }

    pub fn set_view(&mut self, mut status: ViewStatus) {
        let (kept, errors) = self.views.entry(status.id).or_insert_with(|| (status.clone(), BTreeMap::new()));
        status.row_error_count = errors.values().filter(|count| **count > 0).map(|count| *count as u64).sum();
        *kept = status;
    }

    pub fn add_source_errors(&mut self, source: RelationId, added: Vec<SourceError>) {
        let Some((_, errors)) = self.sources.get_mut(&source) else { return };
        errors.extend(added);
        let excess = errors.len().saturating_sub(ERROR_COUNT_MAX);
        errors.drain(..excess);
    }

    /// Errors are a Z-set too: a retracted row takes its error back.
    pub fn add_view_errors(&mut self, view: RelationId, row_errors: Vec<RowError>) {
        let Some((_, errors)) = self.views.get_mut(&view) else { return };
        self.changed_errors.insert(view);
        for error in row_errors {
            let key = (error.reason, error.row);
            if errors.len() >= ERROR_COUNT_MAX && !errors.contains_key(&key) {
                continue;
            }
            let count = errors.entry(key.clone()).or_insert(0);
            *count += error.weight;
            if *count == 0 {
                errors.remove(&key);
            }
        }
    }

    /// All errors of a view, if they have changed since the last call.
    pub fn take_changed_view_errors(&mut self, view: RelationId) -> Option<Vec<ViewErrorCount>> {
        let errors = self.changed_errors.remove(&view).then(|| self.views.get(&view))?;
        let errors = errors.into_iter().flat_map(|(_, errors)| errors);
        let saved = errors.map(|((reason, row), count)| ViewErrorCount {
            reason: reason.clone(),
            row: row.clone(),
            count: *count,
        });
        Some(saved.collect())
    }

    pub fn restore_view_errors(&mut self, view: RelationId, saved: Vec<ViewErrorCount>) {
        if let Some((_, errors)) = self.views.get_mut(&view) {
            *errors = saved.into_iter().map(|error| ((error.reason, error.row), error.count)).collect();
        }
    }

    pub fn restore_source_errors(&mut self, source: RelationId, saved: Vec<SourceError>) {
        if let Some((_, errors)) = self.sources.get_mut(&source) {
            *errors = saved.into();
        }
    }

    pub fn forget(&mut self, id: RelationId) {
        self.changed_errors.remove(&id);
        self.sources.remove(&id);
        self.views.remove(&id);
    }
}
