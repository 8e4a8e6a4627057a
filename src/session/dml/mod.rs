//! INSERT, UPDATE, DELETE, TRUNCATE: a statement's rows become one delta of its table.
//!
//! ```text
//! bound query ──values | QueryEngine──▶ rows ──insert | change──▶ Effect { delta, count, returning }
//!                                                                    ├─ in a block: staged
//!                                                                    └─ else: Runtime::write, again on 40001
//! ```
//!
//! Writing is optimistic: the delta is computed from one world, and the runtime refuses it if a row that it takes back is
//! gone by then. Outside of a block the statement is then computed anew from the newer world.

mod change;
mod insert;
mod keys;
mod target;
mod values;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::execution_props::ExecutionProps;
use futures::stream;

pub(super) use target::Target;
#[cfg(test)]
pub(super) use target::tests::table as test_table;

use super::execute::done;
use super::limits::{Busy, Limits};
use super::prepare::{fit_parameters, with_parameters};
use super::select::present;
use super::{Outcome, Session};
use crate::error::{Error, Result, SqlState};
use crate::runtime::TableWrite;
use crate::serve::ReadPoint;
use crate::sql::bind::{DmlAction, OnConflict, over_rows};
use crate::sql::{BoundDml, Name};
use crate::types::Delta;

/// How often a statement is computed anew because others changed its rows.
const ATTEMPT_COUNT_MAX: u32 = 20;
/// Times the attempt's number, the most that is waited before it.
const BACKOFF_MAX: Duration = Duration::from_millis(2);

/// What a statement does to its table.
pub(super) struct Effect {
    pub delta: Delta,
    /// As the command tag counts: rows touched, also those that stay the same.
    pub row_count: usize,
    /// The rows that RETURNING sees: new ones, for DELETE old ones.
    pub rows: RecordBatch,
}

impl Session {
    pub(super) async fn execute_dml(
        &mut self,
        dml: &BoundDml,
        parameters: &[ScalarValue],
        mut limits: Limits,
        busy: Busy,
    ) -> Result<Outcome> {
        let verb = match &dml.action {
            DmlAction::Insert { .. } => "INSERT",
            DmlAction::Update => "UPDATE",
            DmlAction::Delete => "DELETE",
        };
        self.require_writable(verb)?;
        let target = Target::of(&self.shared.catalog(), dml.table_id)?;
        match &dml.action {
            DmlAction::Insert { on_conflict: OnConflict::DoUpdate { .. } } => {
                target.require_changeable("INSERT … ON CONFLICT DO UPDATE")?;
            }
            DmlAction::Insert { .. } => {}
            DmlAction::Update | DmlAction::Delete => target.require_changeable(verb)?,
        }
        let mut attempt = 0;
        let effect = loop {
            let effect = limits.guard(self.effect(dml, &target, parameters)).await?;
            match self.apply(&target, effect.delta.clone()).await {
                Ok(()) => break effect,
                Err(error) => self.back_off(error, &mut attempt).await?,
            }
        };
        let tag = match &dml.action {
            DmlAction::Insert { .. } => format!("INSERT 0 {}", effect.row_count),
            _ => format!("{verb} {}", effect.row_count),
        };
        let Some(returning) = &dml.returning else { return Ok(Outcome::Done { tag }) };
        let plan = over_rows(returning, vec![effect.rows])?;
        let plan = with_parameters(&plan, &dml.bound.parameters, parameters)?;
        let fields: Vec<_> = returning.schema().fields().iter().cloned().collect();
        // The rows are written: whatever happens to the answer, all of it has to be computed.
        let batches = self.collect(&self.read_point()?, plan).await?;
        let schema = match batches.first() {
            Some(batch) => batch.schema(),
            None => Arc::new(returning.schema().as_arrow().clone()),
        };
        let rows = datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(
            schema,
            stream::iter(batches.into_iter().map(Ok)),
        );
        let rows = limits.watch(present(Box::pin(rows), &fields), busy);
        let tag = if verb == "INSERT" { "INSERT 0" } else { verb };
        Ok(Outcome::Rows { schema: rows.schema(), stream: rows, tag, counted: true })
    }

    /// What the statement does, seen from the newest world.
    async fn effect(&self, dml: &BoundDml, target: &Target, parameters: &[ScalarValue]) -> Result<Effect> {
        let plan = with_parameters(&dml.bound.plan, &dml.bound.parameters, parameters)?;
        let filled = match &dml.action {
            DmlAction::Insert { on_conflict: OnConflict::DoUpdate { assignments } } if !parameters.is_empty() => {
                let values = fit_parameters(&dml.bound.parameters, parameters)?;
                Some(OnConflict::DoUpdate { assignments: assignments.with_parameters(&self.state, &values)? })
            }
            _ => None,
        };
        let mut props = ExecutionProps::new();
        props.config_options = Some(self.state.config_options().clone());
        if let DmlAction::Insert { on_conflict } = &dml.action
            && let Some(rows) = values::literal_rows(&plan, &props)?
        {
            return self.insert(target, rows, filled.as_ref().unwrap_or(on_conflict), None);
        }
        self.wait_until_readable(&dml.bound.relations).await?;
        let read = self.read_point_of(&dml.bound).await?;
        let batches = self.collect(&read, plan).await?;
        match &dml.action {
            DmlAction::Insert { on_conflict } => {
                self.insert(target, target.concat(&batches)?, filled.as_ref().unwrap_or(on_conflict), Some(&read))
            }
            DmlAction::Update => {
                let snapshot = read.snapshot(target.id, &target.name)?;
                change::update(target, &snapshot, &batches)
            }
            DmlAction::Delete => {
                let snapshot = read.snapshot(target.id, &target.name)?;
                change::delete(target, &snapshot, &batches)
            }
        }
    }

    /// `read`: where the rows came from, if from a world.
    pub(super) fn insert(
        &self,
        target: &Target,
        proposed: RecordBatch,
        on_conflict: &OnConflict,
        read: Option<&Arc<ReadPoint>>,
    ) -> Result<Effect> {
        let proposed = target.conform(proposed)?;
        target.check_not_null(&proposed)?;
        if target.primary_key.is_empty() {
            let row_count = proposed.num_rows();
            return Ok(Effect { delta: Delta::insert(proposed.clone()), row_count, rows: proposed });
        }
        let snapshot = match read {
            Some(read) => read.snapshot(target.id, &target.name)?,
            None => self.table_snapshot(target)?,
        };
        insert::insert(target, &snapshot, proposed, on_conflict)
    }

    /// The table as this session sees it now; cheaper than a whole read point.
    fn table_snapshot(&self, target: &Target) -> Result<Arc<crate::state::Snapshot>> {
        let world = self.world();
        let snapshot = world.snapshots.get(&target.id).cloned().ok_or_else(|| {
            Error::new(SqlState::UNDEFINED_TABLE, format!("relation \"{}\" does not exist", target.name))
        })?;
        match self.transaction.writes().and_then(|writes| writes.get(&target.id)) {
            Some(delta) => Ok(Arc::new(snapshot.with_delta(delta)?)),
            None => Ok(snapshot),
        }
    }

    /// Stages the change in an open block, or writes it: then it is durable and visible.
    pub(super) async fn apply(&mut self, target: &Target, delta: Delta) -> Result<()> {
        if delta.is_empty() || self.transaction.stage(target.id, &delta)? {
            return Ok(());
        }
        self.shared.runtime.write(vec![TableWrite { table: target.id, delta }]).await.map(|_| ())
    }

    /// Returns when it is time to try again; with the error if there is no use in it.
    pub(super) async fn back_off(&self, error: Error, attempt: &mut u32) -> Result<()> {
        // A duplicate that the statement did not see came in the meantime: looking again gives the better answer.
        let stale = matches!(error.code, SqlState::SERIALIZATION_FAILURE | SqlState::UNIQUE_VIOLATION);
        if !stale || *attempt >= ATTEMPT_COUNT_MAX {
            return Err(error);
        }
        *attempt += 1;
        let random = std::hash::RandomState::new().hash_one(*attempt) % 1024;
        tokio::time::sleep(BACKOFF_MAX * *attempt * random as u32 / 1024).await;
        Ok(())
    }

    pub(super) async fn truncate(&mut self, names: &[Name]) -> Result<Outcome> {
        self.require_writable("TRUNCATE TABLE")?;
        let catalog = self.shared.catalog();
        let targets = {
            let resolver = self.resolver(catalog.clone());
            let ids = names.iter().map(|name| Ok(resolver.dml_target(name)?.id)).collect::<Result<Vec<_>>>()?;
            ids.into_iter().map(|id| Target::of(&catalog, id)).collect::<Result<Vec<_>>>()?
        };
        targets.iter().try_for_each(|target| target.require_changeable("TRUNCATE"))?;
        let mut attempt = 0;
        loop {
            let mut writes: Vec<TableWrite> = vec![];
            for target in &targets {
                let rows = concat_batches(&target.schema, self.table_snapshot(target)?.rows()?.iter())?;
                // A table named twice is emptied once.
                let again = writes.iter().any(|write| write.table == target.id);
                if rows.num_rows() > 0 && !again {
                    writes.push(TableWrite { table: target.id, delta: Delta::insert(rows).negate() });
                }
            }
            if self.transaction.is_open() {
                for write in &writes {
                    self.transaction.stage(write.table, &write.delta)?;
                }
                break;
            }
            if writes.is_empty() {
                break;
            }
            match self.shared.runtime.write(writes).await {
                Ok(_) => break,
                Err(error) => self.back_off(error, &mut attempt).await?,
            }
        }
        Ok(done("TRUNCATE TABLE"))
    }
}
