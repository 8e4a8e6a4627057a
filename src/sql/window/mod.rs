//! Windows of event time in FROM.
//!
//! ```text
//! TUMBLE(bid, ts, INTERVAL '1 minute') ──[`planner`]──▶ [`WindowNode`]  ─┬─ lower ──▶ stream plan
//!                                                                        └─[`adhoc`]─▶ projection + unnest
//! SESSION(bid, ts, INTERVAL '1 minute') ─[`planner`]──▶ [`SessionNode`] ─┬─ lower ──▶ stream plan
//!                                                                        └─[`adhoc`]─▶ window functions
//! ```
//! Both ways take their arithmetic from [`Window`] and [`session`](crate::plan::session).

pub(super) mod adhoc;
mod arguments;
mod planner;
mod session;
mod session_functions;

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::{Column, DFSchema, DFSchemaRef, ExprSchema, Result as PlanResult, TableReference, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

pub(super) use planner::WindowPlanner;
pub(super) use session::SessionNode;

use crate::plan::{Window, explain};

pub(super) const WINDOW_START: &str = "window_start";
pub(super) const WINDOW_END: &str = "window_end";

/// Appends `window_start` and `window_end`, of the time column's type, to each row of the input; a row comes out once
/// for each window that holds its time, and not at all if the time is NULL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct WindowNode {
    pub input: LogicalPlan,
    /// A column of the input: a timestamp, or milliseconds as a bigint.
    pub time: Column,
    pub window: Window,
    schema: DFSchemaRef,
}

impl PartialOrd for WindowNode {
    fn partial_cmp(&self, other: &WindowNode) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl WindowNode {
    pub fn try_new(input: LogicalPlan, time: Column, window: Window) -> PlanResult<WindowNode> {
        let schema = with_window_columns(&input, &time)?;
        Ok(WindowNode { input, time, window, schema })
    }

    /// Where the time column stands in the input.
    pub fn time_index(&self) -> PlanResult<usize> {
        self.input.schema().index_of_column(&self.time)
    }
}

impl UserDefinedLogicalNodeCore for WindowNode {
    fn name(&self) -> &str {
        match self.window {
            Window::Tumble { .. } => "Tumble",
            Window::Hop { .. } => "Hop",
            Window::Cumulate { .. } => "Cumulate",
        }
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![Expr::Column(self.time.clone())]
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        [WINDOW_START, WINDOW_END].map(String::from).into()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.time)?;
        match self.window {
            Window::Tumble { .. } => {}
            Window::Hop { slide_us, .. } => write!(f, ", slide {}", explain::span(slide_us))?,
            Window::Cumulate { step_us, .. } => write!(f, ", step {}", explain::span(step_us))?,
        }
        write!(f, ", size {}", explain::span(self.window.size_us()))?;
        match self.window.offset_us() {
            0 => Ok(()),
            offset_us => write!(f, ", offset {}", explain::span(offset_us)),
        }
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> PlanResult<WindowNode> {
        match (exprs.pop().map(Expr::unalias), inputs.pop()) {
            (Some(Expr::Column(time)), Some(input)) => WindowNode::try_new(input, time, self.window),
            _ => plan_err!("a window takes one time column and one input"),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output_columns.iter().copied().filter(|&column| column < width).collect();
        needed.push(self.time_index().ok()?);
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// The columns of a relation, then `window_start` and `window_end`.
fn with_window_columns(input: &LogicalPlan, time: &Column) -> PlanResult<DFSchemaRef> {
    let data_type = input.schema().field_from_column(time)?.data_type().clone();
    if !matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Int64) {
        return plan_err!("the time column of a window must be a timestamp, not {data_type}");
    }
    let mut fields: Vec<(Option<TableReference>, Arc<Field>)> =
        input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
    for name in [WINDOW_START, WINDOW_END] {
        fields.push((None, Arc::new(Field::new(name, data_type.clone(), true))));
    }
    Ok(Arc::new(DFSchema::new_with_metadata(fields, DFSchema::metadata(input.schema()).clone())?))
}
