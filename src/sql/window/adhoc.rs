//! Windows in ad-hoc queries: a [`WindowNode`] becomes a list of window starts for each row, unnested.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, AsArray, ListArray, TimestampMicrosecondArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, TimestampMicrosecondType};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result as PlanResult, ScalarValue, UnnestOptions};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};

use super::{WINDOW_END, WINDOW_START, WindowNode};
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
    match node.downcast_ref::<WindowNode>() {
        Some(node) => Ok(Transformed::yes(unnested(node)?)),
        None => Ok(Transformed::no(plan)),
    }
}

/// input → (input, starts as window_start) → unnest → (input, window_start, window_start + size).
fn unnested(node: &WindowNode) -> PlanResult<LogicalPlan> {
    let starts = ScalarUDF::new_from_impl(WindowStarts::new(node.window));
    let columns = |plan: &LogicalPlan| -> Vec<Expr> { plan.schema().columns().into_iter().map(Expr::Column).collect() };
    let mut exprs = columns(&node.input);
    exprs.push(starts.call(vec![Expr::Column(node.time.clone())]).alias(WINDOW_START));
    let unnested = LogicalPlanBuilder::from(node.input.clone())
        .project(exprs)?
        .unnest_columns_with_options(
            vec![Column::new_unqualified(WINDOW_START)],
            UnnestOptions::new().with_preserve_nulls(false),
        )?
        .build()?;
    let size = ScalarValue::new_interval_mdn(0, 0, node.window.size_us().saturating_mul(1000));
    let end = Expr::Column(Column::new_unqualified(WINDOW_START)) + lit(size);
    let mut exprs = columns(&unnested);
    exprs.push(end.alias(WINDOW_END));
    LogicalPlanBuilder::from(unnested).project(exprs)?.build()
}

/// The starts of all windows that hold a time; NULL for NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowStarts {
    /// Slide, size and offset in microseconds, for equality.
    spans: (i64, i64, i64),
    signature: Signature,
}

impl WindowStarts {
    fn new(window: Window) -> WindowStarts {
        WindowStarts {
            spans: (window.slide_us(), window.size_us(), window.offset_us()),
            signature: Signature::any(1, Volatility::Immutable),
        }
    }

    fn window(&self) -> Window {
        let (slide_us, size_us, offset_us) = self.spans;
        Window::Hop { slide_us, size_us, offset_us }
    }
}

impl ScalarUDFImpl for WindowStarts {
    fn name(&self) -> &str {
        "window_starts"
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
        let window = self.window();
        let times = arrays[0].as_primitive::<TimestampMicrosecondType>();
        let (mut starts, mut lengths) = (vec![], Vec::with_capacity(times.len()));
        for time in times {
            let before = starts.len();
            starts.extend(time.into_iter().flat_map(|time| window.starts(time)));
            lengths.push(starts.len() - before);
        }
        let values = TimestampMicrosecondArray::from(starts).with_data_type(times.data_type().clone());
        let item = Arc::new(Field::new_list_field(times.data_type().clone(), true));
        let list =
            ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), Arc::new(values), times.nulls().cloned())?;
        Ok(ColumnarValue::Array(Arc::new(list)))
    }
}
