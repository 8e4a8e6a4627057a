//! A few relations in memory, for the tests of binding and lowering.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;

use super::bind::{Bound, RelationProperties, bind_query};
use super::{RelationResolver, ResolvedRelation, StatementKind, dialect_state, parser};
use crate::error::{Error, Result};
use crate::plan::{Arrival, TimeColumn, Watermark};
use crate::types::{PgType, RelationId};

/// `t (a int4, b text, c int8)` with a key on a; `u (a int4, d float8, v varchar(3))`; the append-only
/// `bid (ts timestamp, price int8, item text)` with a watermark; the view `w` over t; the system relation `pg_x`.
pub(super) struct Relations;

impl Relations {
    pub fn columns(name: &str) -> Option<Vec<(&'static str, PgType)>> {
        Some(match name {
            "t" => vec![("a", PgType::Int4), ("b", PgType::Text), ("c", PgType::Int8)],
            "u" => vec![("a", PgType::Int4), ("d", PgType::Float8), ("v", PgType::Varchar(Some(3)))],
            "bid" => vec![("ts", PgType::Timestamp), ("price", PgType::Int8), ("item", PgType::Text)],
            "pg_x" => vec![("oid", PgType::Oid)],
            _ => return None,
        })
    }

    pub fn schema(name: &str) -> Option<SchemaRef> {
        let fields: Vec<_> = Relations::columns(name)?.iter().map(|(name, t)| t.field(name, true)).collect();
        Some(Arc::new(Schema::new(fields)))
    }

    fn rows(name: &str, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let text: Vec<Vec<Option<&str>>> = match name {
            "t" => vec![
                vec![Some("1"), Some("one"), Some("10")],
                vec![Some("2"), None, Some("20")],
                vec![Some("2147483647"), Some("big"), Some("30")],
            ],
            "bid" => vec![
                vec![Some("1969-12-31 23:59:59"), Some("5"), Some("x")],
                vec![Some("2020-01-01 00:00:30"), Some("7"), Some("y")],
                vec![None, Some("9"), Some("z")],
            ],
            _ => vec![],
        };
        let columns = (0..schema.fields().len()).map(|column| {
            let strings: datafusion::arrow::array::StringArray = text.iter().map(|row| row[column]).collect();
            super::convert::stored(&(Arc::new(strings) as _), &PgType::of(schema.field(column)))
        });
        Ok(vec![RecordBatch::try_new(schema.clone(), columns.collect::<Result<_>>()?)?])
    }
}

impl RelationResolver for Relations {
    fn resolve(&self, schema: Option<&str>, name: &str) -> Result<Option<ResolvedRelation>> {
        if !matches!(schema, None | Some("public")) {
            return Ok(None);
        }
        if let Some(text) = match name {
            "w" => Some("SELECT a, count(*) AS n FROM t GROUP BY a"),
            "w2" => Some("SELECT n + 1 AS m FROM w"),
            "loop" => Some("SELECT * FROM loop"),
            _ => None,
        } {
            return Ok(Some(ResolvedRelation::View { columns: vec![], query: parser::parse_query(text)? }));
        }
        let Some(columns) = Relations::schema(name) else { return Ok(None) };
        let table = MemTable::try_new(columns.clone(), vec![Relations::rows(name, &columns)?])?;
        let (id, properties) = match name {
            "t" => (Some(RelationId(1)), RelationProperties { key: Some(vec![0]), ..Default::default() }),
            "u" => (Some(RelationId(2)), RelationProperties::default()),
            "bid" => (
                Some(RelationId(3)),
                RelationProperties {
                    append_only: true,
                    key: None,
                    times: vec![TimeColumn {
                        column: 0,
                        watermark: Watermark::Relation(RelationId(3)),
                        lateness_us: 0,
                        is_kept: false,
                    }],
                    arrival: Some(Arrival { column: 3, relation: RelationId(3) }),
                },
            ),
            _ => (None, RelationProperties::default()),
        };
        let source = provider_as_source(Arc::new(table));
        Ok(Some(ResolvedRelation::Rows { id, source, properties, indexes: vec![] }))
    }

    fn session_value(&self, _: &str) -> Option<String> {
        None
    }
}

pub(super) fn state() -> SessionState {
    dialect_state().build()
}

pub(super) fn statement(text: &str) -> Result<StatementKind> {
    parser::parse(text)?.pop().map(|s| s.kind).ok_or_else(|| Error::internal("no statement"))
}

pub(super) fn bind(text: &str) -> Result<Bound> {
    match statement(text)? {
        StatementKind::Query(query) => bind_query(&state(), &Relations, &query, &[]),
        other => Err(Error::internal(format!("{other:?} is no query"))),
    }
}

/// Runs a plan; the rows as a table of text, without its frame.
pub(super) fn run(plan: &LogicalPlan) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::internal(e.to_string()))?;
    let mut state = state();
    // now() is that of the statement.
    state.mark_start_execution();
    let batches = runtime.block_on(async {
        let physical = state.create_physical_plan(plan).await?;
        collect(physical, state.task_ctx()).await
    })?;
    let text = pretty_format_batches(&batches)?.to_string();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        cells.join("|")
    };
    Ok(text.lines().skip(3).filter(|line| line.starts_with('|')).map(row).collect())
}

pub(super) fn rows(text: &str) -> Result<Vec<String>> {
    run(&bind(text)?.plan)
}
