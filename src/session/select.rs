//! Reading: a bound query over one world.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;

use super::limits::{Busy, Limits};
use super::prepare::{Plan, Prepared, fit_parameters, with_parameters};
use super::shared::SystemReader;
use super::shared::builds::WAIT_MAX;
use super::{Outcome, Session};
use crate::error::{Result, SqlState};
use crate::serve::past::Then;
use crate::serve::{PointQuery, ReadPoint};
use crate::sql::bind::Bound;
use crate::types::RelationId;

impl Session {
    pub(super) async fn execute_query(
        &mut self,
        prepared: &Prepared,
        bound: Arc<Bound>,
        parameters: &[ScalarValue],
        mut limits: Limits,
        busy: Busy,
    ) -> Result<Outcome> {
        let started = self.start_current(prepared, bound, parameters);
        let stream = limits.guard(started).await?;
        let stream = limits.watch(stream, busy);
        Ok(Outcome::Rows { schema: stream.schema(), stream, tag: "SELECT", counted: true })
    }

    /// Starts a query; if what it was bound to has been replaced since, binds it to what took its place.
    async fn start_current(
        &mut self,
        prepared: &Prepared,
        mut bound: Arc<Bound>,
        parameters: &[ScalarValue],
    ) -> Result<SendableRecordBatchStream> {
        loop {
            let started = self.start_query(&bound, parameters).await;
            let is_replaced = || bound.relations.iter().any(|id| self.shared.catalog().get(*id).is_none());
            match started {
                Err(error) if error.code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE && is_replaced() => {
                    match self.current_plan(prepared)? {
                        Plan::Query(now) => bound = now,
                        _ => return Err(error),
                    }
                }
                started => return started,
            }
        }
    }

    /// A query's rows, with the columns that it was bound to.
    pub(super) async fn start_query(
        &self,
        bound: &Bound,
        parameters: &[ScalarValue],
    ) -> Result<SendableRecordBatchStream> {
        let fields: Vec<FieldRef> = bound.plan.schema().fields().iter().cloned().collect();
        self.wait_until_readable(&bound.relations).await?;
        if let Some(found) = self.look_up(bound, parameters)? {
            let stream = RecordBatchStreamAdapter::new(found.schema(), futures::stream::iter([Ok(found)]));
            return Ok(present(Box::pin(stream), &fields));
        }
        let plan = with_parameters(&bound.plan, &bound.parameters, parameters)?;
        let state = self.query_state(&self.read_point_of(bound).await?);
        Ok(present(self.shared.engine.run(state, plan).await?, &fields))
    }

    /// The rows of a point query; `None` if it is none, or this transaction has changed what it reads.
    fn look_up(&self, bound: &Bound, parameters: &[ScalarValue]) -> Result<Option<RecordBatch>> {
        let Some(point) = PointQuery::of(&bound.plan) else { return Ok(None) };
        let is_changed = |id: RelationId| self.transaction.writes().is_some_and(|writes| writes.contains_key(&id));
        if point.relation().is_none_or(is_changed) {
            return Ok(None);
        }
        point.answer(&self.world(), &fit_parameters(&bound.parameters, parameters)?)
    }

    /// All rows of a plan, read at `read`.
    pub(super) async fn collect(&self, read: &Arc<ReadPoint>, plan: LogicalPlan) -> Result<Vec<RecordBatch>> {
        self.shared.engine.collect(self.query_state(read), plan).await
    }

    /// Waits a while for views that a restart is re-creating. 55000 after that.
    pub(super) async fn wait_until_readable(&self, relations: &[RelationId]) -> Result<()> {
        for &id in relations {
            if self.shared.builds.state(id).is_some() {
                let name = self.shared.catalog().get(id).map_or_else(String::new, |o| o.name.to_string());
                self.shared.builds.wait(id, &name, Some(WAIT_MAX)).await?;
            }
        }
        Ok(())
    }

    /// The newest world (in a transaction that holds an epoch: its own), with this transaction's own writes over it.
    pub(super) fn read_point(&self) -> Result<Arc<ReadPoint>> {
        self.read_point_with(HashMap::new())
    }

    /// As [`Session::read_point`], for a query that may read the past.
    pub(super) async fn read_point_of(&self, bound: &Bound) -> Result<Arc<ReadPoint>> {
        self.read_point_with(self.resolve_instants(&bound.instants).await?)
    }

    pub(super) fn read_point_with(&self, instants: HashMap<String, Then>) -> Result<Arc<ReadPoint>> {
        let world = self.world();
        let mut overlay = HashMap::new();
        for (id, delta) in self.transaction.writes().into_iter().flatten() {
            if let Some(snapshot) = world.snapshots.get(id) {
                overlay.insert(*id, Arc::new(snapshot.with_delta(delta)?));
            }
        }
        let own = |(name, value, description): (&str, String, &str)| (name.to_string(), value, description.to_string());
        let system = Arc::new(SystemReader {
            shared: self.shared.clone(),
            world: world.clone(),
            catalog: self.shared.catalog(),
            user: self.context.current_user(),
            is_superuser: self.context.is_superuser(),
            settings: self.context.settings.lock().all().into_iter().map(own).collect(),
        });
        Ok(Arc::new(ReadPoint { world, overlay, instants, system }))
    }

    /// What one statement is planned and run with.
    pub(super) fn query_state(&self, read: &Arc<ReadPoint>) -> SessionState {
        let mut state = self.state.clone();
        state.mark_start_execution();
        if let Some(started) = self.transaction.started() {
            state.execution_props_mut().query_execution_start_time = Some(started);
        }
        read.attach(&mut state);
        state
    }
}

/// Rows under the names and types that the client was told. Optimised plans may have lost metadata.
pub(super) fn present(stream: SendableRecordBatchStream, fields: &[FieldRef]) -> SendableRecordBatchStream {
    let schema = present_schema(&stream.schema(), fields);
    let presented = schema.clone();
    let batches = stream.map(move |batch| {
        let batch = batch?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = batch.columns().to_vec();
        RecordBatch::try_new_with_options(presented.clone(), columns, &options).map_err(DataFusionError::from)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

fn present_schema(actual: &SchemaRef, fields: &[FieldRef]) -> SchemaRef {
    let present = |(actual, bound): (&FieldRef, &FieldRef)| {
        bound.as_ref().clone().with_data_type(actual.data_type().clone()).with_nullable(true)
    };
    Arc::new(Schema::new(actual.fields().iter().zip(fields).map(present).collect::<Vec<_>>()))
}
