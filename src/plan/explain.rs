//! EXPLAIN of a stream plan: an indented tree, inputs below their operator, derived properties in braces.

use std::sync::Arc;

use datafusion::physical_expr::PhysicalExpr;

use super::{
    AggregateCall, EmptyLists, JoinClosing, JoinKeys, LateRows, Limit, Reach, SortColumn, StreamNode, StreamPlan, Ties,
    TimeColumn, TimeLimit, TopN, UnnestColumn, Window, WindowCall,
};

/// One line for each operator, in the order of [`StreamPlan::preorder`].
pub fn lines(plan: &StreamPlan) -> Vec<String> {
    let mut lines = vec![];
    describe(plan, 0, &mut lines);
    lines.into_iter().map(|(depth, text)| indented(depth, &text)).collect()
}

/// The same lines without their indent, and how deep each stands.
pub fn outline(plan: &StreamPlan) -> Vec<(usize, String)> {
    let mut lines = vec![];
    describe(plan, 0, &mut lines);
    lines
}

pub fn indented(depth: usize, text: &str) -> String {
    if depth == 0 { text.to_string() } else { format!("{}→ {text}", "  ".repeat(depth)) }
}

fn describe(plan: &StreamPlan, depth: usize, lines: &mut Vec<(usize, String)>) {
    lines.push((depth, format!("{} {}", operator(plan), properties(plan))));
    for input in plan.inputs() {
        describe(input, depth + 1, lines);
    }
}

pub(super) fn operator(plan: &StreamPlan) -> String {
    let input_name = |column: usize| match plan.inputs().first() {
        Some(input) => input.schema.field(column).name().clone(),
        None => format!("#{column}"),
    };
    match &plan.node {
        StreamNode::Scan { name, .. } => format!("stream_scan {name} [{}]", column_names(plan)),
        StreamNode::Values { batch } => format!("stream_values [{} rows]", batch.num_rows()),
        StreamNode::Filter { predicate, .. } => format!("stream_filter [{predicate}]"),
        StreamNode::Project { exprs, .. } => {
            let list: Vec<String> = exprs
                .iter()
                .zip(plan.schema.fields())
                .map(|(expr, field)| {
                    let text = expr.to_string();
                    // A plain column prints as `name@index`.
                    match text.split_once('@') {
                        Some((name, index)) if name == field.name() && index.bytes().all(|b| b.is_ascii_digit()) => {
                            name.to_string()
                        }
                        _ => format!("{text} as {}", field.name()),
                    }
                })
                .collect();
            format!("stream_project [{}]", list.join(", "))
        }
        StreamNode::Window { time_column, window, .. } => match window {
            Window::Tumble { size_us, offset_us } => {
                format!("stream_tumble [{}, size {}{}]", input_name(*time_column), span(*size_us), shift(*offset_us))
            }
            Window::Hop { slide_us, size_us, offset_us } => format!(
                "stream_hop [{}, slide {}, size {}{}]",
                input_name(*time_column),
                span(*slide_us),
                span(*size_us),
                shift(*offset_us)
            ),
            Window::Cumulate { step_us, size_us, offset_us } => format!(
                "stream_cumulate [{}, step {}, size {}{}]",
                input_name(*time_column),
                span(*step_us),
                span(*size_us),
                shift(*offset_us)
            ),
        },
        StreamNode::Late { late, .. } => {
            let kept = if late.rows == LateRows::Only { ", the late ones" } else { "" };
            let lateness =
                if late.time.lateness_us == 0 { String::new() } else { format!(" + {}", span(late.time.lateness_us)) };
            format!("stream_late [{}{lateness}{kept}]", input_name(late.time.column))
        }
        StreamNode::Hold { time, .. } => format!("stream_hold [until {} is over]", input_name(time.column)),
        StreamNode::Temporal { limits, marks, .. } => {
            let text = |limit: &TimeLimit| {
                let op = match (limit.limit, limit.is_inclusive) {
                    (Limit::From, false) => ">",
                    (Limit::From, true) => ">=",
                    (Limit::Until, false) => "<",
                    (Limit::Until, true) => "<=",
                };
                format!("now() {op} {}", limit.expr)
            };
            let kind = if *marks { "mark" } else { "filter" };
            format!("stream_temporal_{kind} [{}]", limits.iter().map(text).collect::<Vec<_>>().join(", "))
        }
        StreamNode::Buckets { column, window, .. } => {
            let copies = if window.size_us() > window.slide_us() { ", of a band" } else { "" };
            format!("stream_buckets [{}, width {}{copies}]", input_name(*column), window.slide_us())
        }
        StreamNode::Join { left, right, join_type, keys, residual, closing, arranged } => {
            let algorithm = if keys.is_empty() { "nested_loop" } else { "hash" };
            let kind = if join_type.name().is_empty() { String::new() } else { format!("_{}", join_type.name()) };
            let conditions = conditions_text([left, right], keys, residual);
            let names: Vec<&str> = match closing {
                None => vec![],
                Some(JoinClosing::Keys(time)) => vec![left.schema.field(time.column).name()],
                Some(JoinClosing::Rows([l, r])) => {
                    let left = l.iter().map(|time| left.schema.field(time.column).name().as_str());
                    left.chain(r.iter().map(|time| right.schema.field(time.column).name().as_str())).collect()
                }
            };
            let over = match names[..] {
                [] => String::new(),
                [one] => format!("; until {one} is over"),
                _ => format!("; until {} are over", names.join(", ")),
            };
            let looked_up = match arranged {
                None => "",
                Some(0) => "; left as it is arranged",
                Some(_) => "; right as it is arranged",
            };
            format!("stream_{algorithm}{kind}_join [{conditions}{over}{looked_up}]")
        }
        StreamNode::Lookup { left, right, keys, residual, keeps_unmatched } => {
            let kind = if *keeps_unmatched { "_left" } else { "" };
            let conditions = conditions_text([left, right], keys, residual);
            let separator = if conditions.is_empty() { "" } else { "; " };
            format!("stream_lookup{kind}_join [{conditions}{separator}right as of arrival]")
        }
        StreamNode::Asof { left, right, nearest, keeps_unmatched } => {
            let kind = if *keeps_unmatched { "_left" } else { "" };
            let keys = conditions_text([left, right], &nearest.keys, &None);
            let separator = if keys.is_empty() { "" } else { "; " };
            let op = match (nearest.order[0].options.descending, nearest.is_strict) {
                (true, false) => ">=",
                (true, true) => ">",
                (false, false) => "<=",
                (false, true) => "<",
            };
            let time = left.schema.field(nearest.left_time).name();
            let right_name = |column: usize| right.schema.field(column).name().clone();
            let rest = match &nearest.order[1..] {
                [] => String::new(),
                rest => format!("; {}", order_text(rest, &right_name)),
            };
            let other = right_name(nearest.order[0].column);
            format!("stream_asof{kind}_join [{keys}{separator}{time} {op} {other}{rest}]")
        }
        StreamNode::Expand { keys, sets, .. } => {
            let names = |kept: &[bool]| {
                let kept = keys.iter().zip(kept).filter(|(_, is_kept)| **is_kept);
                kept.map(|(&key, _)| input_name(key)).collect::<Vec<_>>().join(", ")
            };
            let sets: Vec<String> = sets.iter().map(|set| format!("({})", names(&set.kept))).collect();
            format!("stream_expand [{}]", sets.join(", "))
        }
        StreamNode::Aggregate { keys, calls, closing, .. } => {
            let keys: Vec<String> = keys.iter().map(|&key| input_name(key)).collect();
            let calls: Vec<&str> = calls.iter().map(|AggregateCall { name, .. }| name.as_str()).collect();
            let over = closing_text(closing, &input_name);
            if calls.is_empty() {
                format!("stream_distinct [{}{}]", keys.join(", "), over)
            } else {
                format!("stream_hash_aggregate [by {}{over}] [{}]", keys.join(", "), calls.join(", "))
            }
        }
        StreamNode::TopN { partition, order, top, closing, .. } => {
            let by: Vec<String> = partition.iter().map(|&column| input_name(column)).collect();
            let over = closing_text(closing, &input_name);
            let (by, order) = (partition_text(&by), order_text(order, &input_name));
            format!("stream_top_n [{by}{order}; {}{over}]", top_text(top))
        }
        StreamNode::OverWindow { partition, order, calls, closing, .. } => {
            let by: Vec<String> = partition.iter().map(|&column| input_name(column)).collect();
            let calls: Vec<String> = calls.iter().map(call_text).collect();
            let (by, order) = (partition_text(&by), order_text(order, &input_name));
            let over = closing_text(closing, &input_name);
            format!("stream_over_window [{by}{order}{over}] [{}]", calls.join(", "))
        }
        StreamNode::SlicedAggregate { keys, calls, slices, .. } => {
            let by: Vec<String> = keys.iter().map(|&key| input_name(key)).collect();
            let calls: Vec<&str> = calls.iter().map(|AggregateCall { name, .. }| name.as_str()).collect();
            let over = if slices.closing.is_some() { "; until window_end is over" } else { "" };
            let shown = if slices.on_close { "; shown when window_end is over" } else { "" };
            format!(
                "stream_sliced_aggregate [{}{}, slide {}, size {}, slices of {}{over}{shown}] [{}]",
                partition_text(&by),
                input_name(slices.time_column),
                span(slices.window.slide_us()),
                span(slices.window.size_us()),
                span(slices.length_us()),
                calls.join(", ")
            )
        }
        StreamNode::Session { partition, time_column, gap_us, closing, .. } => {
            let by: Vec<String> = partition.iter().map(|&column| input_name(column)).collect();
            let (by, time) = (partition_text(&by), input_name(*time_column));
            let over = if closing.is_some() { "; until window_end is over" } else { "" };
            format!("stream_session [{by}{time}, gap {}{over}]", span(*gap_us))
        }
        StreamNode::Union { .. } => "stream_union".to_string(),
        StreamNode::Unnest { columns, empty, .. } => {
            let taken = columns.iter().zip(plan.schema.fields());
            let taken = taken.filter(|(column, _)| !matches!(column, UnnestColumn::Copy(_)));
            let taken: Vec<&str> = taken.map(|(_, field)| field.name().as_str()).collect();
            let kept = if *empty == EmptyLists::Drop { "" } else { "; empty ones too" };
            format!("stream_unnest [{}{kept}]", taken.join(", "))
        }
    }
}

/// A join's equalities, then the rest.
fn conditions_text(
    [left, right]: [&StreamPlan; 2],
    keys: &JoinKeys,
    residual: &Option<Arc<dyn PhysicalExpr>>,
) -> String {
    let pairs = (0..keys.left.len()).map(|at| {
        let equals = if keys.null_equals_null[at] { "IS NOT DISTINCT FROM" } else { "=" };
        let (l, r) = (keys.left[at], keys.right[at]);
        format!("{} {equals} {}", left.schema.field(l).name(), right.schema.field(r).name())
    });
    let pairs = pairs.collect::<Vec<_>>().join(", ");
    let residual = residual.iter().map(|residual| residual.to_string());
    [pairs].into_iter().filter(|pairs| !pairs.is_empty()).chain(residual).collect::<Vec<_>>().join("; ")
}

/// When state goes.
fn closing_text(closing: &Option<TimeColumn>, name: &dyn Fn(usize) -> String) -> String {
    closing.as_ref().map(|time| format!("; until {} is over", name(time.column))).unwrap_or_default()
}

fn partition_text(columns: &[String]) -> String {
    if columns.is_empty() { String::new() } else { format!("by {}; ", columns.join(", ")) }
}

/// `a, b desc, c nulls first`; what is usual in Postgres is not said.
fn order_text(order: &[SortColumn], name: &dyn Fn(usize) -> String) -> String {
    let text = |sort: &SortColumn| {
        let mut text = name(sort.column);
        if sort.options.descending {
            text.push_str(" desc");
        }
        if sort.options.nulls_first != sort.options.descending {
            text.push_str(if sort.options.nulls_first { " nulls first" } else { " nulls last" });
        }
        text
    };
    let columns: Vec<String> = order.iter().map(text).collect();
    format!("order {}", if columns.is_empty() { "by the row".to_string() } else { columns.join(", ") })
}

/// The call, and whether a change makes all of its partition be evaluated again.
fn call_text(call: &WindowCall) -> String {
    let whole = if call.reach == Reach::Partition { " by whole partition" } else { "" };
    format!("{}{whole}", call.name)
}

fn top_text(top: &TopN) -> String {
    let limit = top.limit.map_or("all".to_string(), |limit| limit.to_string());
    let ties = match top.ties {
        Ties::Cut => "",
        Ties::Rank => " with ties",
        Ties::DenseRank => " groups of peers",
    };
    let offset = if top.offset == 0 { String::new() } else { format!(" after {}", top.offset) };
    format!("first {limit}{ties}{offset}")
}

fn properties(plan: &StreamPlan) -> String {
    let mut known = vec![];
    let name = |column: usize| plan.schema.field(column).name().clone();
    if plan.properties.append_only {
        known.push("append-only".to_string());
    }
    if let Some(key) = &plan.properties.key {
        known.push(format!("key: ({})", key.iter().map(|&c| name(c)).collect::<Vec<_>>().join(", ")));
    }
    if !plan.properties.times.is_empty() {
        let times = plan.properties.times.iter().map(|time| name(time.column));
        known.push(format!("time: {}", times.collect::<Vec<_>>().join(", ")));
    }
    format!("{{{}}}", known.join("; "))
}

fn column_names(plan: &StreamPlan) -> String {
    plan.schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ")
}

fn shift(offset_us: i64) -> String {
    if offset_us == 0 { String::new() } else { format!(", offset {}", span(offset_us)) }
}

/// A span of time in its largest whole unit: `90 s`, `1 h`, `250 ms`.
pub fn span(us: i64) -> String {
    const UNITS: [(&str, i64); 5] =
        [("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1_000)];
    match UNITS.iter().find(|(_, unit)| us != 0 && us % unit == 0) {
        Some((name, unit)) => format!("{} {name}", us / unit),
        None if us == 0 => "0 s".to_string(),
        None => format!("{us} µs"),
    }
}
