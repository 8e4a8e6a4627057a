//! placeholder until the source thread lands
#![allow(unused)]
use crate::catalog::SourceDefinition;
use crate::error::{Error, Result};
use crate::types::{BadRecord, Position, RelationId, Watermark};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::sync::Arc;
use std::time::Instant;
pub struct SourceTask {}
impl SourceTask {
    pub fn new(
        id: RelationId,
        name: &str,
        definition: &SourceDefinition,
        schema: &SchemaRef,
        projection: &[usize],
        from: &Position,
        until: Option<&Position>,
    ) -> Result<SourceTask> {
        Ok(SourceTask {})
    }
}
pub struct SourceHandle {}
pub struct SourceBatch {
    pub rows: RecordBatch,
    pub bad_records: Vec<BadRecord>,
    pub partition: String,
    pub next_offset: u64,
    pub event_time_max_us: Option<i64>,
}
pub enum SourceEvent {
    Batch(SourceBatch),
    Finished,
    Trouble(Error),
    Recovered,
    Idle { partition: String },
}
impl SourceHandle {
    pub fn try_next(&mut self) -> Option<SourceEvent> {
        None
    }
    pub fn stop(self) {}
}
pub fn spawn(task: SourceTask, wake: Arc<dyn Fn() + Send + Sync>) -> Result<SourceHandle> {
    Ok(SourceHandle {})
}
pub struct SourceWatermark {}
impl SourceWatermark {
    pub fn of(definition: &SourceDefinition) -> Result<Option<SourceWatermark>> {
        Ok(None)
    }
    pub fn observe(&mut self, partition: &str, event_time_max_us: Option<i64>, now: Instant) {}
    pub fn observe_idle(&mut self, partition: &str, now: Instant) {}
    pub fn tick(&mut self, now: Instant) -> bool {
        false
    }
    pub fn current(&self) -> Option<Watermark> {
        None
    }
    pub fn held_back_by(&self) -> Option<String> {
        None
    }
}
