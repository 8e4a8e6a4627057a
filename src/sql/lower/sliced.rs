//! GROUP BY over windows that overlap much: rows are aggregated by slices, not copied for each window.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;

use super::{Lowering, column_index, copy, project};
use crate::error::{Error, Result};
use crate::plan::{AggregateCall, Properties, Slices, StreamNode, StreamPlan, TimeColumn, Watermark, Window};

/// From so many windows for each row on. Below that copies cost less than putting windows together.
const WINDOW_COUNT_MIN: i64 = 8;

impl Lowering<'_> {
    /// The groups of `keys`, columns of the input, with `calls` over it; `None` if slices are of no use here. Output columns
    /// are the keys and the calls.
    pub(super) fn sliced(
        &self,
        input: &StreamPlan,
        keys: &[usize],
        calls: &[AggregateCall],
    ) -> Result<Option<StreamPlan>> {
        // What is late is shown with its window.
        if self.late.borrow().is_some() {
            return Ok(None);
        }
        let every = 0..input.schema.fields().len();
        let (mut windows, mut exprs) = (input, every.map(|column| copy(&input.schema, column)).collect::<Vec<_>>());
        while let StreamNode::Project { input, exprs: inner } = &windows.node {
            exprs = exprs.into_iter().map(|expr| substituted(expr, inner)).collect::<Result<_>>()?;
            windows = input.as_ref();
        }
        let StreamNode::Window { input: rows, time_column, window } = &windows.node else { return Ok(None) };
        let Window::Hop { slide_us, size_us, .. } = *window else { return Ok(None) };
        if size_us / slide_us < WINDOW_COUNT_MIN || !calls.iter().all(|call| call.merges(rows.properties.append_only)) {
            return Ok(None);
        }
        let width = rows.schema.fields().len();
        let bound = |column: usize| column_index(&exprs[column]).and_then(|index| index.checked_sub(width));
        if !keys.iter().any(|&key| bound(key).is_some()) {
            return Ok(None);
        }

        // The columns that are not the windows', then the time.
        let mut used: Vec<usize> = keys.iter().copied().filter(|&key| bound(key).is_none()).collect();
        used.extend(calls.iter().flat_map(|call| call.arguments.iter().copied().chain(call.filter)));
        used.sort_unstable();
        used.dedup();
        let is_of_rows = |&column: &usize| collect_columns(&exprs[column]).iter().all(|column| column.index() < width);
        if !used.iter().all(is_of_rows) {
            return Ok(None);
        }
        let place = |column: usize| used.binary_search(&column).expect("every column in use is there");
        let time_field = rows.schema.field(*time_column);
        let time_copy = copy(&rows.schema, *time_column);
        let fields = used.iter().map(|&column| input.schema.field(column).clone()).chain([time_field.clone()]);
        let schema = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
        let taken = used.iter().map(|&column| exprs[column].clone()).chain([time_copy]).collect();
        let rows = project(rows.as_ref().clone(), taken, schema);

        let own: Vec<usize> = keys.iter().copied().filter(|&key| bound(key).is_none()).collect();
        let time = rows.properties.time(used.len()).cloned();
        let takes_late = time.as_ref().is_some_and(|time| !time.is_kept);
        let closing = time.map(|time| TimeColumn {
            column: own.len() + 1,
            lateness_us: if takes_late { self.options.allowed_lateness_us } else { time.lateness_us },
            is_kept: true,
            watermark: Watermark::End(Box::new(time.watermark), *window),
        });
        let (rows, arrival) = match &closing {
            Some(time) if takes_late => self.arriving(rows, time)?,
            _ => (rows, None),
        };
        let calls: Vec<AggregateCall> = calls
            .iter()
            .map(|call| AggregateCall {
                arguments: call.arguments.iter().map(|&column| place(column)).collect(),
                filter: call.filter.map(place),
                ..call.clone()
            })
            .collect();
        let slices = Slices { time_column: used.len(), window: *window, closing, takes_late, arrival, on_close: false };
        Ok(Some(grouped(rows, windows, &own, keys, &bound, &place, input, calls, slices)))
    }
}

/// The expression over the columns that `inner` are over.
fn substituted(expr: Arc<dyn PhysicalExpr>, inner: &[Arc<dyn PhysicalExpr>]) -> Result<Arc<dyn PhysicalExpr>> {
    let outer = expr.transform_up(|expr| match column_index(&expr) {
        Some(column) => Ok(Transformed::new(inner[column].clone(), true, TreeNodeRecursion::Jump)),
        None => Ok(Transformed::no(expr)),
    });
    Ok(outer.map_err(Error::from)?.data)
}

/// The operator, with its columns in the order of the keys.
#[allow(clippy::too_many_arguments)]
fn grouped(
    rows: StreamPlan,
    windows: &StreamPlan,
    own: &[usize],
    keys: &[usize],
    bound: &dyn Fn(usize) -> Option<usize>,
    place: &dyn Fn(usize) -> usize,
    input: &StreamPlan,
    calls: Vec<AggregateCall>,
    slices: Slices,
) -> StreamPlan {
    let width = windows.schema.fields().len() - 2;
    let bounds = [0, 1].map(|bound| windows.schema.field(width + bound).clone());
    let results = calls.iter().map(|call| Field::new(&call.name, call.data_type.clone(), true));
    let fields = own.iter().map(|&key| input.schema.field(key).clone()).chain(bounds).chain(results);
    let schema = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
    let times = slices.closing.iter().flat_map(|end| {
        let inner = match &end.watermark {
            Watermark::End(inner, _) => inner.clone(),
            other => Box::new(other.clone()),
        };
        let start = TimeColumn { column: own.len(), watermark: Watermark::Start(inner, slices.window), ..end.clone() };
        [start, end.clone()]
    });
    let key = (0..=own.len()).collect();
    let properties = Properties { append_only: false, key: Some(key), times: times.collect(), arrival: None };
    let order = keys.iter().map(|&key| match bound(key) {
        Some(bound) => own.len() + bound,
        None => own.iter().position(|own| *own == key).expect("it is one of them"),
    });
    let order: Vec<usize> = order.chain((0..calls.len()).map(|call| own.len() + 2 + call)).collect();
    let shown = Arc::new(schema.project(&order).expect("the columns are there"));
    let exprs = order.iter().map(|&column| copy(&schema, column)).collect();
    let keys = own.iter().map(|&key| place(key)).collect();
    let node = StreamNode::SlicedAggregate { input: Box::new(rows), keys, calls, slices };
    project(StreamPlan { node, schema, properties }, exprs, shown)
}

/// Where nothing but projections and filters is above aggregates over slices, and what holds rows back until they are over
/// goes by these windows: they are not put together before.
pub(super) fn shown_on_close(plan: StreamPlan, column: usize) -> StreamPlan {
    let StreamPlan { node, schema, properties } = plan;
    let node = match node {
        StreamNode::Project { input, exprs } => {
            let below = column_index(&exprs[column]);
            let input = match below {
                Some(column) => Box::new(shown_on_close(*input, column)),
                None => input,
            };
            StreamNode::Project { input, exprs }
        }
        StreamNode::Filter { input, predicate } => {
            StreamNode::Filter { input: Box::new(shown_on_close(*input, column)), predicate }
        }
        StreamNode::SlicedAggregate { input, keys, calls, slices } => {
            let on_close = slices.closing.is_some() && (column == keys.len() || column == keys.len() + 1);
            StreamNode::SlicedAggregate { input, keys, calls, slices: Slices { on_close, ..slices } }
        }
        other => other,
    };
    StreamPlan { node, schema, properties }
}
