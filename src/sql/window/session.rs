//! Windows of activity in FROM: `SESSION(rel PARTITION BY k, ts, gap)`.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use datafusion::common::{Column, DFSchemaRef, Result as PlanResult, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use super::with_window_columns;
use crate::plan::explain;

/// Appends `window_start` and `window_end`, of the time column's type, to each row of the input: those of the session
/// that it belongs to, by the rows of equal partition columns. Rows whose time is NULL fall out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::sql) struct SessionNode {
    pub input: LogicalPlan,
    /// Columns of the input; without any, all rows are one partition.
    pub partition: Vec<Column>,
    /// A column of the input: a timestamp, or milliseconds as a bigint.
    pub time: Column,
    pub gap_us: i64,
    schema: DFSchemaRef,
}

impl PartialOrd for SessionNode {
    fn partial_cmp(&self, other: &SessionNode) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl SessionNode {
    pub fn try_new(input: LogicalPlan, partition: Vec<Column>, time: Column, gap_us: i64) -> PlanResult<SessionNode> {
        let schema = with_window_columns(&input, &time)?;
        Ok(SessionNode { input, partition, time, gap_us, schema })
    }

    /// Where the time column stands in the input.
    pub fn time_index(&self) -> PlanResult<usize> {
        self.input.schema().index_of_column(&self.time)
    }

    /// Where the partition columns stand in the input.
    pub fn partition_indices(&self) -> PlanResult<Vec<usize>> {
        self.partition.iter().map(|column| self.input.schema().index_of_column(column)).collect()
    }
}

impl UserDefinedLogicalNodeCore for SessionNode {
    fn name(&self) -> &str {
        "Session"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// The time column, then those of the partition: [`Self::with_exprs_and_inputs`] takes more of the latter, too.
    fn expressions(&self) -> Vec<Expr> {
        [&self.time].into_iter().chain(&self.partition).cloned().map(Expr::Column).collect()
    }

    /// A filter must take whole partitions, or it would take rows out of the middle of a session. Rules know columns by
    /// their bare names, so a partition column that shares its name with another one counts as that.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let all = self.schema.columns().into_iter();
        all.filter(|column| !self.partition.contains(column)).map(|column| column.name).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session: ")?;
        if !self.partition.is_empty() {
            let columns: Vec<String> = self.partition.iter().map(Column::to_string).collect();
            write!(f, "by {}; ", columns.join(", "))?;
        }
        write!(f, "{}, gap {}", self.time, explain::span(self.gap_us))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> PlanResult<SessionNode> {
        let mut columns = vec![];
        for expr in exprs {
            match expr.unalias() {
                Expr::Column(column) => columns.push(column),
                other => return plan_err!("a session takes columns, not {other}"),
            }
        }
        match (columns.is_empty(), inputs.pop()) {
            (false, Some(input)) => {
                let partition = columns.split_off(1);
                SessionNode::try_new(input, partition, columns.remove(0), self.gap_us)
            }
            _ => plan_err!("a session takes a time column and one input"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output_columns.iter().copied().filter(|&column| column < width).collect();
        needed.push(self.time_index().ok()?);
        needed.extend(self.partition_indices().ok()?);
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}
