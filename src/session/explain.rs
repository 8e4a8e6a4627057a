//! EXPLAIN: the optimised logical plan, and how the query would be maintained as a view, or what stands in the way.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::logical_expr::LogicalPlanBuilder;

use super::Session;
use super::ddl::view_options;
use crate::catalog::{ObjectKind, ViewOptions};
use crate::dataflow::meter::Meter;
use crate::error::{Error, Result, SqlState};
use crate::plan;
use crate::runtime::OperatorMeasurement;
use crate::serve::access_lines;
use crate::sql::bind::Bound;
use crate::sql::lower::{lower, lower_view};
use crate::sql::{Name, Statement, StatementKind};

pub fn fields() -> Vec<FieldRef> {
    vec![Arc::new(Field::new("QUERY PLAN", DataType::Utf8, true))]
}

/// `rows in 10, out 3; state 2 rows, 4 kB; 1.204 ms in 5 steps`.
fn told(meter: &Meter) -> String {
    let Meter { input_row_count, output_row_count, step_count, busy_ns, state } = meter;
    let state = match state.row_count + state.bytes {
        0 => String::new(),
        _ => format!("; state {} rows, {} bytes", state.row_count, state.bytes),
    };
    let busy_ms = *busy_ns as f64 / 1e6;
    format!("rows in {input_row_count}, out {output_row_count}{state}; {busy_ms:.3} ms in {step_count} steps")
}

impl Session {
    /// One string for each line.
    pub(super) async fn explain(&self, statement: &Statement, analyze: bool, verbose: bool) -> Result<Vec<String>> {
        match &statement.kind {
            StatementKind::Query(query) if analyze => {
                let bound = self.bind_query(query, &[])?;
                self.explain_analyze(bound, verbose).await
            }
            StatementKind::Query(query) | StatementKind::Declare { query, .. } if !analyze => {
                let bound = self.bind_query(query, &[])?;
                let mut lines = self.explain_logical(&bound).await?;
                lines.push("stream plan".to_string());
                match self.stream_lines(&bound, None) {
                    Ok(stream) => lines.extend(stream),
                    Err(error) => lines.push(format!("  none: {}", error.message)),
                }
                Ok(lines)
            }
            StatementKind::CreateMaterializedView(view) if !analyze => {
                self.explain_maintained(&view.query, Some(&view_options(view)?)).await
            }
            StatementKind::CreateSink { query, .. } if !analyze => self.explain_maintained(query, None).await,
            StatementKind::Dml(dml) if !analyze => {
                let resolver = self.resolver(self.shared.catalog());
                let target = |name: &_| resolver.dml_target(name);
                let bound = crate::sql::bind::bind_dml(&self.state, &resolver, dml, &target, &[])?;
                self.explain_logical(&bound.bound).await
            }
            StatementKind::CreateMaterializedView(_) | StatementKind::CreateSink { .. } => Err(Error::unsupported(
                "EXPLAIN ANALYZE of a view that is not there",
                "create it, and ask EXPLAIN ANALYZE MATERIALIZED VIEW name what its operators did",
            )),
            _ if analyze => Err(Error::unsupported(
                "EXPLAIN ANALYZE of this statement",
                "only a query can be run and measured; use EXPLAIN without ANALYZE",
            )),
            _ => Err(Error::unsupported(
                "EXPLAIN of this statement",
                "queries, INSERT, UPDATE, DELETE, CREATE MATERIALIZED VIEW and CREATE SINK can be explained",
            )),
        }
    }

    /// What cannot be maintained is an error here, as it is for the statement itself.
    async fn explain_maintained(
        &self,
        query: &crate::sql::Query,
        options: Option<&ViewOptions>,
    ) -> Result<Vec<String>> {
        let bound = self.bind_query(query, &[])?;
        let stream = self.stream_lines(&bound, options)?;
        let mut lines = self.explain_logical(&bound).await?;
        lines.push("stream plan".to_string());
        lines.extend(stream);
        Ok(lines)
    }

    fn stream_lines(&self, bound: &Bound, options: Option<&ViewOptions>) -> Result<Vec<String>> {
        let resolver = self.resolver(self.shared.catalog());
        let plan = match options {
            Some(options) => lower_view(&self.state, &resolver, bound, options)?,
            None => lower(&self.state, &resolver, bound)?,
        };
        let mut lines: Vec<String> = plan::explain::lines(&plan).into_iter().map(|line| format!("  {line}")).collect();
        if plan.depends_on_arrival() {
            lines.push("depends on when rows arrive: made anew, it may say something else".to_string());
        }
        let unbounded = plan::growth::unbounded(&plan, &|id| self.shared.grows(id));
        if !unbounded.is_empty() {
            lines.push("state that grows without bound".to_string());
            lines.extend(unbounded.into_iter().map(|line| format!("  {line}")));
        }
        Ok(lines)
    }

    /// The plan of a maintained view as it runs; with ANALYZE also what each operator did since it was built.
    pub(super) async fn explain_view(&self, name: &Name, analyze: bool) -> Result<Vec<String>> {
        let object = self.resolver(self.shared.catalog()).require(name)?.clone();
        if !matches!(object.kind, ObjectKind::MaterializedView { .. } | ObjectKind::Sink) {
            let message = format!("\"{}\" is not a materialized view", object.name.name);
            return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, message)
                .with_hint("nothing runs for it; EXPLAIN a query that reads it"));
        }
        self.wait_until_readable(&[object.id]).await?;
        let runtime = self.shared.runtime.clone();
        let measured = tokio::task::spawn_blocking(move || runtime.measure()).await;
        let measured = measured.map_err(|e| Error::internal(format!("measuring failed: {e}")))??;
        let Some(view) = measured.into_iter().find(|view| view.view == object.id) else {
            return Err(Error::new(SqlState::UNDEFINED_TABLE, format!("\"{}\" was dropped meanwhile", object.name)));
        };
        let mut lines = vec![];
        for OperatorMeasurement { depth, text, meter } in view.operators {
            lines.push(plan::explain::indented(depth, &text));
            if analyze {
                let margin = " ".repeat(2 * depth + 4);
                let told = meter.map_or_else(|| "shared with the same part above".to_string(), |meter| told(&meter));
                lines.push(format!("{margin}({told})"));
            }
        }
        Ok(lines)
    }

    async fn explain_logical(&self, bound: &Bound) -> Result<Vec<String>> {
        let read = self.read_point_of(bound).await?;
        let optimised = self.query_state(&read).optimize(&bound.plan)?;
        let mut lines = vec!["logical plan".to_string()];
        lines.extend(optimised.display_indent().to_string().lines().map(|line| format!("  {line}")));
        // A view that is still being built has no rows to find.
        let accesses = access_lines(&optimised, &read).unwrap_or_default();
        if !accesses.is_empty() {
            lines.push("access".to_string());
            lines.extend(accesses.into_iter().map(|line| format!("  {line}")));
        }
        Ok(lines)
    }

    async fn explain_analyze(&self, bound: Bound, verbose: bool) -> Result<Vec<String>> {
        self.wait_until_readable(&bound.relations).await?;
        let read = self.read_point_of(&bound).await?;
        let plan = LogicalPlanBuilder::from(bound.plan).explain(verbose, true)?.build()?;
        let mut lines = vec![];
        for batch in self.collect(&read, plan).await? {
            // Kind of plan, text of plan.
            let texts = arrow::compute::cast(batch.column(1), &DataType::Utf8)?;
            lines.extend(texts.as_string::<i32>().iter().flatten().flat_map(str::lines).map(str::to_string));
        }
        Ok(lines)
    }
}
