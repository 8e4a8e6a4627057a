//! Windows in ad-hoc queries: a [`SessionNode`] becomes window functions over its partitions ([`session_functions`]), a
//! [`WindowNode`] lists of window starts and ends for each row, unnested.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, Int64Array, ListArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result as PlanResult, UnnestOptions};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use super::session_functions::SessionBound;
use super::{SessionNode, WINDOW_END, WINDOW_START, WindowNode};
use crate::dataflow::event_time::{times_of, times_us};
use crate::plan::Window;

/// The planner of ad-hoc queries: DataFusion's, with windows spelled out.
#[derive(Debug, Default)]
pub(in crate::sql) struct AdhocPlanner;

#[async_trait]
impl QueryPlanner for AdhocPlanner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        session: &dyn datafusion::catalog::Session,
    ) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let plan = plan.clone().transform_up_with_subqueries(spell_out)?.data;
        DefaultPhysicalPlanner::default().create_physical_plan(&plan, session).await
    }
}

fn spell_out(plan: LogicalPlan) -> PlanResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Extension(extension) = &plan else { return Ok(Transformed::no(plan)) };
    let node: &dyn Any = extension.node.as_any();
    match (node.downcast_ref::<WindowNode>(), node.downcast_ref::<SessionNode>()) {
        (Some(node), _) => Ok(Transformed::yes(unnested(node)?)),
        (_, Some(node)) => Ok(Transformed::yes(partitioned(node)?)),
        _ => Ok(Transformed::no(plan)),
    }
}

/// input → (input, the starts and the ends of its windows) → both lists unnested side by side.
fn unnested(node: &WindowNode) -> PlanResult<LogicalPlan> {
    let mut exprs: Vec<Expr> = node.input.schema().columns().into_iter().map(Expr::Column).collect();
    for (name, bound) in [(WINDOW_START, Bound::Start), (WINDOW_END, Bound::End)] {
        let bounds = ScalarUDF::new_from_impl(WindowBounds::new(node.window, bound));
        exprs.push(bounds.call(vec![Expr::Column(node.time.clone())]).alias(name));
    }
    LogicalPlanBuilder::from(node.input.clone())
        .project(exprs)?
        .unnest_columns_with_options(
            [WINDOW_START, WINDOW_END].map(Column::new_unqualified).to_vec(),
            UnnestOptions::new().with_preserve_nulls(false),
        )?
        .build()
}

/// input → rows with a time → (input, the start and the end of its session OVER (PARTITION BY … ORDER BY time)).
fn partitioned(node: &SessionNode) -> PlanResult<LogicalPlan> {
    let time = Expr::Column(node.time.clone());
    let mut exprs: Vec<Expr> = node.input.schema().columns().into_iter().map(Expr::Column).collect();
    let mut calls = vec![];
    for (name, bound) in [(WINDOW_START, Bound::Start), (WINDOW_END, Bound::End)] {
        let call = SessionBound::new(node.gap_us, bound)
            .call(time.clone())
            .partition_by(node.partition.iter().cloned().map(Expr::Column).collect())
            .order_by(vec![time.clone().sort(true, false)])
            .build()?;
        exprs.push(Expr::Column(Column::new_unqualified(call.schema_name().to_string())).alias(name));
        calls.push(call);
    }
    LogicalPlanBuilder::from(node.input.clone()).filter(time.is_not_null())?.window(calls)?.project(exprs)?.build()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bound {
    Start,
    End,
}

/// The starts, or the ends, of all windows that hold a time; NULL for NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowBounds {
    window: Window,
    bound: Bound,
    signature: Signature,
}

impl WindowBounds {
    fn new(window: Window, bound: Bound) -> WindowBounds {
        WindowBounds { window, bound, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for WindowBounds {
    fn name(&self) -> &str {
        match self.bound {
            Bound::Start => "window_starts",
            Bound::End => "window_ends",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> PlanResult<DataType> {
        let time = arguments.first().cloned().unwrap_or(DataType::Null);
        Ok(DataType::List(Arc::new(Field::new_list_field(time, true))))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> PlanResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let times = &times_us(&arrays[0])?;
        let (mut bounds, mut lengths) = (vec![], Vec::with_capacity(times.len()));
        for time in times {
            let before = bounds.len();
            let windows = time.into_iter().flat_map(|time| self.window.bounds(time));
            bounds.extend(windows.map(|(start, end)| if self.bound == Bound::Start { start } else { end }));
            lengths.push(bounds.len() - before);
        }
        let data_type = arrays[0].data_type();
        let values = times_of(Int64Array::from(bounds), data_type)?;
        let item = Arc::new(Field::new_list_field(data_type.clone(), true));
        let list = ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, times.nulls().cloned())?;
        Ok(ColumnarValue::Array(Arc::new(list)))
    }
}
