//! What a plan computes, as text in which nothing has a name: relations are ids, columns are places, and types, constants
//! and functions are said. Two plans of one identity keep the same state, whatever their relations and columns are
//! called, so a view goes on from its checkpoint under another name.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use super::{AggregateCall, AggregateKind, JoinClosing, StreamNode, StreamPlan, TimeColumn, Watermark, WindowCall};

/// One line for each operator, in the order of [`StreamPlan::preorder`].
pub fn identity(plan: &StreamPlan) -> String {
    let mut lines = vec![];
    describe(plan, 0, &mut lines);
    lines.join("\n")
}

fn describe(plan: &StreamPlan, depth: usize, lines: &mut Vec<String>) {
    let types: Vec<String> = plan.schema.fields().iter().map(|field| field.data_type().to_string()).collect();
    let known = &plan.properties;
    lines.push(format!(
        "{depth} {}: ({}) append-only {}, key {:?}, times {}, arrival {:?}",
        operator(&plan.node),
        types.join(", "),
        known.append_only,
        known.key,
        times(&known.times),
        known.arrival
    ));
    for input in plan.inputs() {
        describe(input, depth + 1, lines);
    }
}

/// Every field is named here: one that is added has to be thought of.
fn operator(node: &StreamNode) -> String {
    match node {
        StreamNode::Scan { relation, name: _, columns } => format!("scan {} {columns:?}", relation.0),
        StreamNode::Values { batch } => format!("values {} {:?}", batch.num_rows(), batch.columns()),
        StreamNode::Filter { input: _, predicate } => format!("filter {}", bare(predicate)),
        StreamNode::Project { input: _, exprs } => format!("project {}", list(exprs, bare)),
        StreamNode::Window { input: _, time_column, window } => format!("window {time_column} {window:?}"),
        StreamNode::Late { input: _, late, width } => {
            format!("late {} {:?} {:?} {width}", time(&late.time), late.arrival, late.rows)
        }
        StreamNode::Hold { input: _, time: held } => format!("hold {}", time(held)),
        StreamNode::Temporal { input: _, limits, marks } => {
            let limit =
                |limit: &super::TimeLimit| format!("{:?} {} {}", limit.limit, limit.is_inclusive, bare(&limit.expr));
            format!("temporal {} {marks}", list(limits, limit))
        }
        StreamNode::Buckets { input: _, column, window } => format!("buckets {column} {window:?}"),
        StreamNode::Join { left: _, right: _, join_type, keys, residual, closing, arranged } => {
            let closing = match closing {
                None => "never".to_string(),
                Some(JoinClosing::Keys(key)) => format!("keys {}", time(key)),
                Some(JoinClosing::Rows(sides)) => format!("rows {}", list(sides, closing_text)),
            };
            let residual = residual.as_ref().map(bare).unwrap_or_default();
            format!("join {join_type:?} {keys:?} {residual} {closing} {arranged:?}")
        }
        StreamNode::Lookup { left: _, right: _, keys, residual, keeps_unmatched } => {
            format!("lookup {keys:?} {} {keeps_unmatched}", residual.as_ref().map(bare).unwrap_or_default())
        }
        StreamNode::Asof { left: _, right: _, nearest, keeps_unmatched } => {
            format!("asof {nearest:?} {keeps_unmatched}")
        }
        StreamNode::Expand { input: _, keys, sets, columns } => format!("expand {keys:?} {sets:?} {columns:?}"),
        StreamNode::Aggregate { input: _, keys, calls, always, closing } => {
            let always = always.as_ref().map(|batch| batch.columns().to_vec());
            format!("aggregate {keys:?} {} {always:?} {}", list(calls, aggregate), closing_text(closing))
        }
        StreamNode::SlicedAggregate { input: _, keys, calls, slices } => {
            let super::Slices { time_column, window, closing, takes_late, arrival, on_close } = slices;
            let slices =
                format!("{time_column} {window:?} {} {takes_late} {arrival:?} {on_close}", closing_text(closing));
            format!("sliced {keys:?} {} {slices}", list(calls, aggregate))
        }
        StreamNode::TopN { input: _, partition, order, top, closing } => {
            format!("top_n {partition:?} {order:?} {top:?} {}", closing_text(closing))
        }
        StreamNode::OverWindow { input: _, partition, order, calls, closing } => {
            format!("over {partition:?} {order:?} {} {}", list(calls, window_call), closing_text(closing))
        }
        StreamNode::Session { input: _, partition, time_column, gap_us, closing, arrival } => {
            format!("session {partition:?} {time_column} {gap_us} {} {arrival:?}", closing_text(closing))
        }
        StreamNode::Union { inputs } => format!("union {}", inputs.len()),
        StreamNode::Unnest { input: _, columns, empty } => format!("unnest {columns:?} {empty:?}"),
    }
}

fn aggregate(call: &AggregateCall) -> String {
    let AggregateCall { kind, arguments, order, filter, distinct, data_type, name: _ } = call;
    let kind = match kind {
        AggregateKind::General(function) => format!(
            "{} {} ordered {} {} {}",
            function.fun().name(),
            list(&function.expressions(), bare),
            list(function.order_bys(), |sort| format!("{} {:?}", bare(&sort.expr), sort.options)),
            function.ignore_nulls(),
            function.is_reversed()
        ),
        kind => format!("{kind:?}"),
    };
    format!("{kind} {arguments:?} {order:?} {filter:?} {distinct} {data_type}")
}

fn window_call(call: &WindowCall) -> String {
    let WindowCall { expr, filter, reach, name: _, form } = call;
    let filter = filter.as_ref().map(bare).unwrap_or_default();
    format!("{form} {} {:?} {filter} {reach:?}", list(&expr.expressions(), bare), expr.get_window_frame())
}

fn times(times: &[TimeColumn]) -> String {
    list(times, time)
}

fn closing_text(closing: &Option<TimeColumn>) -> String {
    closing.as_ref().map_or_else(|| "never".to_string(), time)
}

fn time(time: &TimeColumn) -> String {
    let TimeColumn { column, watermark: followed, lateness_us, is_kept } = time;
    format!("{column} by {} + {lateness_us} {is_kept}", watermark(followed))
}

fn watermark(followed: &Watermark) -> String {
    match followed {
        Watermark::Relation(relation) => format!("{}", relation.0),
        Watermark::Delayed(of, us) => format!("({} - {us})", watermark(of)),
        Watermark::Least(all) => list(all, watermark),
        Watermark::Start(of, window) => format!("start({}, {window:?})", watermark(of)),
        Watermark::End(of, window) => format!("end({}, {window:?})", watermark(of)),
        Watermark::SessionEnd(of) => format!("session_end({})", watermark(of)),
        Watermark::Mapped(of, mapping) => format!("{}({})", bare(&mapping.expr), watermark(of)),
    }
}

fn list<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", "))
}

/// The expression with its columns' places in place of their names: `@3 + 1`.
fn bare(expr: &Arc<dyn PhysicalExpr>) -> String {
    let unnamed = expr.clone().transform_up(|part| {
        Ok(match part.downcast_ref::<Column>() {
            Some(column) => Transformed::yes(Arc::new(Column::new("", column.index())) as Arc<dyn PhysicalExpr>),
            None => Transformed::no(part),
        })
    });
    unnamed.map_or_else(|_| expr.to_string(), |unnamed| unnamed.data.to_string())
}
