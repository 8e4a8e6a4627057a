//! System relations for one statement: `pg_catalog` and `information_schema` from the catalog, `hw_catalog` from what the
//! runtime tells of itself.

mod event_time;
mod history;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::{
    ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
};

use super::builds::Build;
use super::{Shared, rows_per_s};
use crate::catalog::{Catalog, DATABASE, Object, ObjectKind, system};
use crate::dataflow::meter::Meter;
use crate::error::{Error, Result, SqlState};
use crate::runtime::{OperatorMeasurement, ViewStatus};
use crate::serve::SystemRelations;
use crate::state::World;
use crate::state::memory::Holder;
use crate::types::{Epoch, RelationId};

pub struct SystemReader {
    pub shared: Arc<Shared>,
    /// What the statement reads.
    pub world: Arc<World>,
    pub catalog: Arc<Catalog>,
    pub user: String,
    pub is_superuser: bool,
    /// Name, value, description.
    pub settings: Vec<(String, String, String)>,
}

impl SystemReader {
    fn columns(&self, name: &str) -> Result<Vec<ArrayRef>> {
        match name {
            "sources" => self.sources(),
            "views" => Ok(self.views()),
            "view_operators" => self.view_operators(),
            "source_errors" => Ok(self.source_errors()),
            "view_errors" => Ok(self.view_errors()),
            "watermarks" => Ok(event_time::watermarks(self)),
            "late_rows" => Ok(event_time::late_rows(self)),
            "subscriptions" => Ok(history::subscriptions(self)),
            "history" => Ok(history::history(self)),
            "memory" => Ok(self.memory()),
            "epoch" => Ok(history::epoch(self)),
            other => Err(Error::internal(format!("system relation \"{other}\" has columns and no rows"))),
        }
    }

    fn sources(&self) -> Result<Vec<ArrayRef>> {
        let statuses = self.shared.runtime.source_statuses();
        let rows: Vec<_> =
            statuses.iter().filter_map(|status| Some((self.catalog.get(status.id)?.as_ref(), status))).collect();
        let connector = |object: &Object| match &object.kind {
            ObjectKind::Source(definition) => definition.options.get("connector").cloned(),
            _ => None,
        };
        let rate_limit = |object: &Object| match &object.kind {
            ObjectKind::Source(definition) => rows_per_s(definition).and_then(|rows| i64::try_from(rows.get()).ok()),
            _ => None,
        };
        let positions: Vec<String> = rows
            .iter()
            .map(|(_, s)| serde_json::to_string(&s.position).map_err(|e| Error::internal(e.to_string())))
            .collect::<Result<_>>()?;
        let watermarks: TimestampMicrosecondArray = rows.iter().map(|(_, s)| s.watermark_us).collect();
        Ok(vec![
            Arc::new(rows.iter().map(|(o, _)| Some(o.id.0)).collect::<UInt32Array>()),
            text(rows.iter().map(|(o, _)| Some(o.name.schema.as_str()))),
            text(rows.iter().map(|(o, _)| Some(o.name.name.as_str()))),
            text(rows.iter().map(|(o, _)| connector(o))),
            text(rows.iter().map(|(_, s)| Some(s.state))),
            text(rows.iter().map(|(_, s)| s.error.as_deref())),
            count(rows.iter().map(|(_, s)| s.row_count)),
            count(rows.iter().map(|(_, s)| s.bad_record_count)),
            text(positions.iter().map(Some)),
            Arc::new(watermarks.with_timezone("UTC")),
            text(rows.iter().map(|(_, s)| s.watermark_partition.as_deref())),
            Arc::new(rows.iter().map(|(o, _)| rate_limit(o)).collect::<Int64Array>()),
        ])
    }

    fn views(&self) -> Vec<ArrayRef> {
        let statuses: HashMap<RelationId, ViewStatus> =
            self.shared.runtime.view_statuses().into_iter().map(|status| (status.id, status)).collect();
        let maintained = |o: &&Arc<Object>| matches!(o.kind, ObjectKind::MaterializedView { .. } | ObjectKind::Sink);
        let rows: Vec<(&Arc<Object>, ViewStatus)> = self
            .catalog
            .objects()
            .filter(maintained)
            .map(|object| {
                let status = statuses.get(&object.id).cloned().unwrap_or_else(|| unknown_status(object.id));
                let status = match self.shared.builds.state(object.id) {
                    Some(Build::Failed(error)) => {
                        ViewStatus { state: "failed", error: Some(error.to_string()), ..status }
                    }
                    Some(Build::Running) => ViewStatus { state: "backfilling", ..status },
                    _ => status,
                };
                (object, status)
            })
            .collect();
        vec![
            Arc::new(rows.iter().map(|(o, _)| Some(o.id.0)).collect::<UInt32Array>()),
            text(rows.iter().map(|(o, _)| Some(o.name.schema.as_str()))),
            text(rows.iter().map(|(o, _)| Some(o.name.name.as_str()))),
            text(rows.iter().map(|(o, _)| Some(o.kind_name()))),
            text(rows.iter().map(|(_, s)| Some(s.state))),
            text(rows.iter().map(|(_, s)| s.error.as_deref())),
            count(rows.iter().map(|(_, s)| s.input_row_count)),
            count(rows.iter().map(|(_, s)| s.output_row_count)),
            count(rows.iter().map(|(_, s)| s.state_row_count)),
            count(rows.iter().map(|(_, s)| s.state_bytes)),
            count(rows.iter().map(|(_, s)| s.stored_row_count)),
            count(rows.iter().map(|(_, s)| s.stored_bytes)),
            count(rows.iter().map(|(_, s)| s.row_error_count)),
            count(rows.iter().map(|(_, s)| s.epoch.0)),
        ]
    }

    /// One row for each operator, in the order in which EXPLAIN shows them; NULLs where a part is run elsewhere.
    fn view_operators(&self) -> Result<Vec<ArrayRef>> {
        let mut rows = vec![];
        for view in self.shared.runtime.measure()? {
            let Some(name) = self.name_of(view.view) else { continue };
            rows.extend(
                view.operators.into_iter().enumerate().map(|(number, operator)| (name.clone(), number, operator)),
            );
        }
        let number = |pick: fn(&(String, usize, OperatorMeasurement)) -> usize| -> ArrayRef {
            Arc::new(rows.iter().map(|row| i32::try_from(pick(row)).ok()).collect::<Int32Array>())
        };
        let measured = |pick: fn(&Meter) -> u64| -> ArrayRef {
            let values = rows.iter().map(|(.., operator)| operator.meter.as_ref().map(pick));
            Arc::new(values.map(|value| value.and_then(|v| i64::try_from(v).ok())).collect::<Int64Array>())
        };
        Ok(vec![
            text(rows.iter().map(|(name, ..)| Some(name))),
            number(|(_, number, _)| *number),
            number(|(.., operator)| operator.depth),
            text(rows.iter().map(|(.., operator)| Some(&operator.text))),
            measured(|meter| meter.input_row_count),
            measured(|meter| meter.output_row_count),
            measured(|meter| meter.state.row_count),
            measured(|meter| meter.state.bytes),
            measured(|meter| meter.busy_ns / 1000),
            measured(|meter| meter.step_count),
        ])
    }

    /// One row for each holder; without a limit, NULL stands for it.
    fn memory(&self) -> Vec<ArrayRef> {
        let memory = self.shared.runtime.memory();
        let limit = memory.limit_bytes().and_then(|limit| i64::try_from(limit).ok());
        vec![
            text(Holder::ALL.iter().map(|holder| Some(holder.name()))),
            count(Holder::ALL.iter().map(|holder| memory.used_bytes(*holder))),
            Arc::new(Holder::ALL.iter().map(|_| limit).collect::<Int64Array>()),
        ]
    }

    fn name_of(&self, id: RelationId) -> Option<String> {
        self.catalog.get(id).map(|object| object.name.to_string())
    }

    fn source_errors(&self) -> Vec<ArrayRef> {
        let errors = self.shared.runtime.source_errors();
        vec![
            text(errors.iter().map(|e| self.name_of(e.source))),
            time(errors.iter().map(|e| e.at)),
            count(errors.iter().map(|e| e.epoch.0)),
            text(errors.iter().map(|e| Some(e.record.partition.as_str()))),
            count(errors.iter().map(|e| e.record.position)),
            text(errors.iter().map(|e| Some(e.record.reason.as_str()))),
            text(errors.iter().map(|e| Some(e.record.payload.as_str()))),
        ]
    }

    fn view_errors(&self) -> Vec<ArrayRef> {
        let errors = self.shared.runtime.view_errors();
        vec![
            text(errors.iter().map(|e| self.name_of(e.view))),
            text(errors.iter().map(|e| Some(e.reason.as_str()))),
            text(errors.iter().map(|e| Some(e.row.as_str()))),
            Arc::new(errors.iter().map(|e| Some(e.count)).collect::<Int64Array>()),
        ]
    }
}

impl SystemRelations for SystemReader {
    fn rows(&self, schema: &str, name: &str) -> Result<RecordBatch> {
        let undefined =
            || Error::new(SqlState::UNDEFINED_TABLE, format!("relation \"{schema}.{name}\" does not exist"));
        if schema == "hw_catalog" {
            let columns = system::schema_of(schema, name).ok_or_else(undefined)?;
            return Ok(RecordBatch::try_new(columns, self.columns(name)?)?);
        }
        let is_superuser = self.is_superuser;
        let mut activity = if name == "pg_stat_activity" { self.shared.registry.activities() } else { vec![] };
        // What others do, and from where, is theirs.
        for other in activity.iter_mut().filter(|other| !is_superuser && other.user != self.user) {
            other.query = "<insufficient privilege>".to_string();
            (other.client_address, other.client_port) = (None, None);
            other.application_name.clear();
        }
        let context = system::SystemContext {
            catalog: &self.catalog,
            database: DATABASE,
            user: &self.user,
            is_superuser,
            settings: &self.settings,
            activity: &activity,
        };
        system::table(schema, name, &context).ok_or_else(undefined)
    }
}

fn unknown_status(id: RelationId) -> ViewStatus {
    ViewStatus {
        id,
        state: "backfilling",
        error: None,
        input_row_count: 0,
        output_row_count: 0,
        state_row_count: 0,
        state_bytes: 0,
        stored_row_count: 0,
        stored_bytes: 0,
        row_error_count: 0,
        late_row_counts: BTreeMap::new(),
        epoch: Epoch::default(),
    }
}

fn time(values: impl Iterator<Item = SystemTime>) -> ArrayRef {
    let us = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).ok().map(|age| age.as_micros() as i64);
    Arc::new(values.map(us).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn text<T: AsRef<str>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn count(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(values.into_iter().map(|v| Some(i64::try_from(v).unwrap_or(i64::MAX))).collect::<Int64Array>())
}
