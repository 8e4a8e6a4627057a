//! EXPLAIN: the optimised logical plan, and how the query would be maintained as a view, or what stands in the way.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};

use super::Session;
use crate::error::{Error, Result};
use crate::plan;
use crate::serve::access_lines;
use crate::sql::bind::Bound;
use crate::sql::lower::lower;
use crate::sql::{Statement, StatementKind};

pub fn fields() -> Vec<FieldRef> {
    vec![Arc::new(Field::new("QUERY PLAN", DataType::Utf8, true))]
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
                let mut lines = self.explain_logical(bound.plan.clone()).await?;
                lines.push("stream plan".to_string());
                match self.stream_lines(&bound) {
                    Ok(stream) => lines.extend(stream),
                    Err(error) => lines.push(format!("  none: {}", error.message)),
                }
                Ok(lines)
            }
            StatementKind::CreateMaterializedView(view) if !analyze => self.explain_maintained(&view.query).await,
            StatementKind::CreateSink { query, .. } if !analyze => self.explain_maintained(query).await,
            StatementKind::Dml(dml) if !analyze => {
                let resolver = self.resolver(self.shared.catalog());
                let target = |name: &_| resolver.dml_target(name);
                let bound = crate::sql::bind::bind_dml(&self.state, &resolver, dml, &target, &[])?;
                self.explain_logical(bound.bound.plan).await
            }
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
    async fn explain_maintained(&self, query: &crate::sql::Query) -> Result<Vec<String>> {
        let bound = self.bind_query(query, &[])?;
        let stream = self.stream_lines(&bound)?;
        let mut lines = self.explain_logical(bound.plan).await?;
        lines.push("stream plan".to_string());
        lines.extend(stream);
        Ok(lines)
    }

    fn stream_lines(&self, bound: &Bound) -> Result<Vec<String>> {
        let plan = lower(&self.state, &self.resolver(self.shared.catalog()), bound)?;
        Ok(plan::explain::lines(&plan).into_iter().map(|line| format!("  {line}")).collect())
    }

    async fn explain_logical(&self, plan: LogicalPlan) -> Result<Vec<String>> {
        let read = self.read_point()?;
        let optimised = self.query_state(&read).optimize(&plan)?;
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
        let plan = LogicalPlanBuilder::from(bound.plan).explain(verbose, true)?.build()?;
        let mut lines = vec![];
        for batch in self.collect(&self.read_point()?, plan).await? {
            // Kind of plan, text of plan.
            let texts = arrow::compute::cast(batch.column(1), &DataType::Utf8)?;
            lines.extend(texts.as_string::<i32>().iter().flatten().flat_map(str::lines).map(str::to_string));
        }
        Ok(lines)
    }
}
