//! Window functions, and filters on a row's number or rank, which are top-n.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Between, BinaryExpr, Expr, Filter, LogicalPlan, Operator, Window, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition,
};
use datafusion::physical_expr::expressions::Column as PhysicalColumn;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::windows::create_window_expr;
use datafusion::physical_planner::is_window_frame_bound_valid;

use super::aggregate::readable;
use super::order::sort_columns;
use super::temporal::has_now;
use super::{Lowering, filtered, project, time};
use crate::error::{Error, Result, SqlState};
use crate::plan::{Properties, Reach, Running, SortColumn, StreamNode, StreamPlan, Ties, TimeColumn, TopN, WindowCall};
use crate::sql::framed::{Exclude, Framed};

/// Aggregates whose state is small, whatever they have seen.
const SMALL_STATES: &[&str] = &[
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "bool_and",
    "bool_or",
    "bit_and",
    "bit_or",
    "bit_xor",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "var",
    "var_pop",
    "var_samp",
    "var_sample",
];

impl Lowering<'_> {
    pub(super) fn over(&self, window: &Window) -> Result<StreamPlan> {
        let input = self.node(&window.input)?;
        self.over_rows(window, input)
    }

    /// The calls over `input`, which has the columns of the window's input.
    fn over_rows(&self, window: &Window, input: StreamPlan) -> Result<StreamPlan> {
        let width = input.schema.fields().len();
        let calls = functions(window)?;
        // Which column each call's result is in, once it is there.
        let mut results: Vec<Option<usize>> = vec![None; calls.len()];
        let mut plan = input;
        while let Some(first) = results.iter().position(Option::is_none) {
            let together: Vec<usize> = (first..calls.len())
                .filter(|&at| results[at].is_none() && same_rows(calls[first], calls[at]))
                .collect();
            let functions: Vec<&WindowFunction> = together.iter().map(|&at| calls[at]).collect();
            let fields = together.iter().map(|&at| window.schema.field(width + at)).collect();
            plan = self.over_group(window, plan, &functions, fields)?;
            let begin = plan.schema.fields().len() - together.len();
            together.iter().enumerate().for_each(|(place, &at)| results[at] = Some(begin + place));
        }
        let columns: Vec<usize> = (0..width).chain(results.into_iter().flatten()).collect();
        Ok(chosen(plan, &columns))
    }

    /// Calls with the same PARTITION BY and ORDER BY; their results come behind the columns of `input`.
    fn over_group(
        &self,
        window: &Window,
        input: StreamPlan,
        functions: &[&WindowFunction],
        fields: Vec<&Arc<Field>>,
    ) -> Result<StreamPlan> {
        let schema = window.input.schema();
        let width = input.schema.fields().len();
        let (partition_by, order_by) = (&functions[0].params.partition_by, &functions[0].params.order_by);
        // ORDER BY a constant is no order, but its peers are.
        let mut exprs: Vec<&Expr> = partition_by.iter().chain(order_by.iter().map(|sort| &sort.expr)).collect();
        for function in functions {
            exprs.extend(function.params.args.iter().filter(|arg| !is_literal(arg)));
            exprs.extend(function.params.filter.as_deref());
        }
        let (input, columns) = self.with_columns(input, &exprs, schema)?;
        let (input, closing) = self.on_time_showing(input, &columns[..partition_by.len()], width)?;
        let column = |at: usize| -> Arc<dyn PhysicalExpr> {
            Arc::new(PhysicalColumn::new(input.schema.field(columns[at]).name(), columns[at]))
        };
        let partition = columns[..partition_by.len()].to_vec();
        let order = sort_columns(order_by, &columns[partition_by.len()..]);
        let partition_exprs: Vec<_> = (0..partition_by.len()).map(column).collect();
        let sort_exprs: Vec<PhysicalSortExpr> = order
            .iter()
            .enumerate()
            .map(|(at, sort)| PhysicalSortExpr { expr: column(partition_by.len() + at), options: sort.options })
            .collect();

        let mut next = partition_by.len() + order_by.len();
        let mut calls = vec![];
        for function in functions {
            let params = &function.params;
            let mut args = vec![];
            for arg in &params.args {
                args.push(if is_literal(arg) {
                    self.physical(arg, schema)?
                } else {
                    next += 1;
                    column(next - 1)
                });
            }
            let filter = params.filter.as_ref().map(|_| {
                next += 1;
                column(next - 1)
            });
            let frame = &params.window_frame;
            if !is_window_frame_bound_valid(frame) {
                let message = "frame starting from following row cannot have preceding rows";
                return Err(Error::new(SqlState("42P20"), message));
            }
            let expr = create_window_expr(
                &function.fun,
                function.fun.name().to_string(),
                &args,
                &partition_exprs,
                &sort_exprs,
                Arc::new(frame.clone()),
                input.schema.clone(),
                params.null_treatment == Some(NullTreatment::IgnoreNulls),
                params.distinct,
                filter.clone(),
            )?;
            let form = |arg: &Expr| if is_literal(arg) { readable(arg) } else { "_".to_string() };
            let (name, form) = (call_text(function, &readable), call_text(function, &form));
            calls.push(WindowCall { expr, filter, reach: reach(function), name, form });
        }

        let own = input.schema.fields().iter().cloned();
        let results = fields
            .iter()
            .zip(&calls)
            .map(|(field, call)| Arc::new(Field::new(&call.name, field.data_type().clone(), field.is_nullable())));
        let schema = Arc::new(Schema::new(own.chain(results).collect::<Vec<_>>()));
        let times = match &closing {
            Some(closing) => time::of_partitions(&input, &partition, Some(closing)),
            None => times_in_order(&input.properties, &order, &calls),
        };
        let properties = Properties { append_only: false, times, ..input.properties.clone() };
        let node = StreamNode::OverWindow { input: Box::new(input), partition, order, calls, closing };
        Ok(StreamPlan { node, schema, properties })
    }

    /// `row_number() OVER (PARTITION BY p ORDER BY o) <= n` is top-n: the rest of the rows is cut off before they are
    /// numbered.
    pub(super) fn filter(&self, filter: &Filter) -> Result<StreamPlan> {
        let plain = || {
            let schema = filter.input.schema();
            let input = self.node(&filter.input)?;
            let (moving, fixed): (Vec<&Expr>, Vec<&Expr>) =
                split_conjunction(&filter.predicate).into_iter().partition(|conjunct| has_now(conjunct));
            let input = match conjunction(fixed.into_iter().cloned()) {
                Some(predicate) => filtered(input, self.physical(&predicate, schema)?),
                None => input,
            };
            if moving.is_empty() { Ok(input) } else { self.temporal(input, &moving, schema) }
        };
        let Some((window, columns)) = chosen_of_window(&filter.input) else { return plain() };
        let calls = functions(window)?;
        let mut rest = split_conjunction(&filter.predicate);
        let width = window.input.schema().fields().len();
        let call_of = |expr: &Expr| -> Option<usize> {
            let Expr::Column(column) = bare(expr) else { return None };
            columns[filter.input.schema().index_of_column(column).ok()?].checked_sub(width)
        };
        let found =
            rest.iter().enumerate().find_map(|(at, conjunct)| Some((at, first_rows(&calls, &call_of, conjunct)?)));
        let Some((at, first)) = found else { return plain() };
        let params = &calls[first.call].params;
        let input = self.node(&window.input)?;
        let first_rows = self.top_n(input, window.input.schema(), &params.partition_by, &params.order_by, first.top)?;
        let mut plan = chosen(self.over_rows(window, first_rows)?, &columns);
        if first.is_all {
            rest.remove(at);
        }
        for conjunct in rest {
            plan = filtered(plan, self.physical(conjunct, filter.input.schema())?);
        }
        Ok(plan)
    }
}

/// What is known of time where partitions are kept for good: rows of any time change with their neighbours. But where
/// rows stand in the order of a time and look at none behind them, no row changes that is older than what changed it.
fn times_in_order(input: &Properties, order: &[SortColumn], calls: &[WindowCall]) -> Vec<TimeColumn> {
    let looks_back = |call: &WindowCall| match &call.reach {
        Reach::Rows { after, .. } | Reach::Groups { after, .. } => *after == 0,
        Reach::Range { after, .. } => after.is_none(),
        Reach::Running(_) => true,
        Reach::Partition => false,
    };
    let first = order.first().filter(|sort| !sort.options.descending && calls.iter().all(looks_back));
    let is_kept = |time: &TimeColumn| time.is_kept && first.is_some_and(|sort| sort.column == time.column);
    input.times.iter().map(|time| TimeColumn { is_kept: is_kept(time), ..time.clone() }).collect()
}

/// A projection to columns, under their names.
fn chosen(plan: StreamPlan, columns: &[usize]) -> StreamPlan {
    let fields = plan.schema.fields().clone();
    let exprs = columns.iter().map(|&column| Arc::new(PhysicalColumn::new(fields[column].name(), column)) as _);
    let schema = Schema::new(columns.iter().map(|&column| fields[column].clone()).collect::<Vec<_>>());
    let exprs = exprs.collect();
    project(plan, exprs, Arc::new(schema))
}

/// Window functions, maybe below a projection to some of their columns; and which columns.
fn chosen_of_window(plan: &LogicalPlan) -> Option<(&Window, Vec<usize>)> {
    match plan {
        LogicalPlan::Window(window) => Some((window, (0..window.schema.fields().len()).collect())),
        LogicalPlan::SubqueryAlias(alias) => chosen_of_window(&alias.input),
        LogicalPlan::Projection(projection) => {
            let (window, below) = chosen_of_window(&projection.input)?;
            let columns = projection.expr.iter().map(|expr| {
                let mut expr = expr;
                while let Expr::Alias(alias) = expr {
                    expr = &alias.expr;
                }
                let Expr::Column(column) = expr else { return None };
                Some(below[projection.input.schema().index_of_column(column).ok()?])
            });
            Some((window, columns.collect::<Option<_>>()?))
        }
        _ => None,
    }
}

/// A condition that only a partition's first rows fulfil.
struct First {
    call: usize,
    top: TopN,
    /// All of them do.
    is_all: bool,
}

/// `call_of` says which call's result an expression is.
fn first_rows(calls: &[&WindowFunction], call_of: &dyn Fn(&Expr) -> Option<usize>, condition: &Expr) -> Option<First> {
    let (call, limit, is_all) = match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (expr, op, limit) = match (number(left), number(right)) {
                (None, Some(limit)) => (left, *op, limit),
                (Some(limit), None) => (right, op.swap()?, limit),
                _ => return None,
            };
            match op {
                Operator::LtEq => (call_of(expr)?, limit, true),
                Operator::Lt => (call_of(expr)?, limit - 1, true),
                Operator::Eq => (call_of(expr)?, limit, limit <= 1),
                _ => return None,
            }
        }
        Expr::Between(Between { expr, negated: false, low, high }) => {
            (call_of(expr)?, number(high)?, number(low)? <= 1)
        }
        _ => return None,
    };
    let ties = match calls[call].fun.name() {
        "row_number" => Ties::Cut,
        "rank" => Ties::Rank,
        "dense_rank" => Ties::DenseRank,
        _ => return None,
    };
    // What is computed beside it must not see the rows that are cut off.
    let is_blind = |other: &&WindowFunction| {
        same_rows(calls[call], other)
            && match reach(other) {
                Reach::Rows { after: 0, .. } => true,
                Reach::Running(Running::Aggregate { peers: true }) => ties != Ties::Cut,
                Reach::Running(_) => true,
                _ => false,
            }
    };
    if !calls.iter().all(is_blind) {
        return None;
    }
    // No row's number is 0: then nothing is left, and the filter stays to say so.
    let top = TopN { offset: 0, limit: Some(limit.max(0) as u64), ties };
    Some(First { call, top, is_all })
}

fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => bare(&cast.expr),
        Expr::Alias(alias) => bare(&alias.expr),
        other => other,
    }
}

/// A whole number that is written out.
fn number(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = bare(expr) else { return None };
    match value {
        ScalarValue::UInt64(Some(value)) => i64::try_from(*value).ok(),
        ScalarValue::Int64(Some(value)) => Some(*value),
        ScalarValue::Int32(Some(value)) => Some(i64::from(*value)),
        _ => None,
    }
}

fn functions(window: &Window) -> Result<Vec<&WindowFunction>> {
    fn function(expr: &Expr) -> Result<&WindowFunction> {
        match expr {
            Expr::WindowFunction(function) => Ok(function),
            Expr::Alias(alias) => function(&alias.expr),
            other => Err(Error::internal(format!("{other} is no window function"))),
        }
    }
    window.window_expr.iter().map(function).collect()
}

fn same_rows(one: &WindowFunction, other: &WindowFunction) -> bool {
    one.params.partition_by == other.params.partition_by && one.params.order_by == other.params.order_by
}

fn is_literal(expr: &Expr) -> bool {
    matches!(bare(expr), Expr::Literal(..))
}

fn reach(function: &WindowFunction) -> Reach {
    let params = &function.params;
    let frame = &params.window_frame;
    let ignores_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
    if Framed::of(function).is_some() {
        return frame_reach(frame);
    }
    match (&function.fun, function.fun.name()) {
        (WindowFunctionDefinition::WindowUDF(_), "row_number") => Reach::Running(Running::RowNumber),
        (WindowFunctionDefinition::WindowUDF(_), "rank") => Reach::Running(Running::Rank),
        (WindowFunctionDefinition::WindowUDF(_), "dense_rank") => Reach::Running(Running::DenseRank),
        (WindowFunctionDefinition::WindowUDF(_), name @ ("lag" | "lead")) if !ignores_nulls => {
            let distance = match params.args.get(1) {
                None => Some(1),
                Some(expr) => number(expr),
            };
            match distance.map(|distance| if name == "lag" { distance } else { -distance }) {
                Some(back @ 0..) => Reach::Rows { before: back as u64, after: 0 },
                Some(forth) => Reach::Rows { before: 0, after: forth.unsigned_abs() },
                None => Reach::Partition,
            }
        }
        (WindowFunctionDefinition::WindowUDF(_), "first_value")
            if !ignores_nulls && frame.start_bound.is_unbounded() && reaches_itself(frame) =>
        {
            Reach::Running(Running::FirstValue)
        }
        // The last of the rows up to this one is this one, or its last peer.
        (WindowFunctionDefinition::WindowUDF(_), "last_value")
            if !ignores_nulls && frame.end_bound == WindowFrameBound::CurrentRow =>
        {
            match frame.units {
                WindowFrameUnits::Rows => Reach::Rows { before: 0, after: 0 },
                _ => Reach::Groups { before: 0, after: 0 },
            }
        }
        (WindowFunctionDefinition::WindowUDF(_), "first_value" | "last_value" | "nth_value") => frame_reach(frame),
        (WindowFunctionDefinition::WindowUDF(_), _) => Reach::Partition,
        (WindowFunctionDefinition::AggregateUDF(_), name) => {
            let runs = frame.start_bound.is_unbounded() && frame.end_bound == WindowFrameBound::CurrentRow;
            if runs && !params.distinct && SMALL_STATES.contains(&name) {
                return Reach::Running(Running::Aggregate { peers: frame.units != WindowFrameUnits::Rows });
            }
            frame_reach(frame)
        }
    }
}

/// The frame holds the row itself, so it is never empty.
fn reaches_itself(frame: &WindowFrame) -> bool {
    matches!(frame.end_bound, WindowFrameBound::CurrentRow | WindowFrameBound::Following(_))
}

fn frame_reach(frame: &WindowFrame) -> Reach {
    let (start, end) = (&frame.start_bound, &frame.end_bound);
    if start.is_unbounded() || end.is_unbounded() {
        return Reach::Partition;
    }
    let before = match start {
        WindowFrameBound::Preceding(distance) => Some(distance.clone()),
        _ => None,
    };
    let after = match end {
        WindowFrameBound::Following(distance) => Some(distance.clone()),
        _ => None,
    };
    let count = |distance: &Option<ScalarValue>| match distance {
        None => Some(0),
        Some(ScalarValue::UInt64(count)) => *count,
        Some(_) => None,
    };
    match (frame.units, count(&before), count(&after)) {
        (WindowFrameUnits::Rows, Some(before), Some(after)) => Reach::Rows { before, after },
        (WindowFrameUnits::Groups, Some(before), Some(after)) => Reach::Groups { before, after },
        (WindowFrameUnits::Range, ..) if before.is_none() && after.is_none() => Reach::Groups { before: 0, after: 0 },
        // What lies between the bounds and the row itself is looked at, too.
        (WindowFrameUnits::Range, ..) => Reach::Range { before, after },
        _ => Reach::Partition,
    }
}

/// `sum(x) ROWS BETWEEN 1 PRECEDING AND CURRENT ROW`, its arguments as `shown`.
fn call_text(function: &WindowFunction, shown: &dyn Fn(&Expr) -> String) -> String {
    let params = &function.params;
    let framed = Framed::of(function);
    let (args, filter) = match framed {
        Some(framed) => (&params.args[..framed.argument_count()], params.args.get(framed.argument_count())),
        None => (params.args.as_slice(), params.filter.as_deref()),
    };
    let is_count = function.fun.name() == "count" && args.iter().all(is_literal);
    let args: Vec<String> = match is_count {
        true => vec!["*".to_string()],
        false => args.iter().map(shown).collect(),
    };
    let distinct = if params.distinct || framed.is_some_and(Framed::is_distinct) { "DISTINCT " } else { "" };
    let mut name = format!("{}({distinct}{})", function.fun.name(), args.join(", "));
    if let Some(filter) = filter {
        name.push_str(&format!(" FILTER (WHERE {})", shown(filter)));
    }
    if params.null_treatment == Some(NullTreatment::IgnoreNulls) {
        name.push_str(" IGNORE NULLS");
    }
    let frame = &params.window_frame;
    let is_framed = framed.is_some()
        || matches!(function.fun, WindowFunctionDefinition::AggregateUDF(_))
        || matches!(function.fun.name(), "first_value" | "last_value" | "nth_value");
    let is_usual = frame.start_bound.is_unbounded()
        && match frame.end_bound {
            WindowFrameBound::CurrentRow => frame.units == WindowFrameUnits::Range,
            _ => frame.end_bound.is_unbounded(),
        };
    let exclude = framed.map_or(Exclude::Nothing, Framed::exclude);
    if is_framed && (!is_usual || exclude != Exclude::Nothing) {
        name.push_str(&format!(" {} BETWEEN {} AND {}", frame.units, frame.start_bound, frame.end_bound));
    }
    if exclude != Exclude::Nothing {
        name.push_str(&format!(" EXCLUDE {}", exclude.text()));
    }
    name
}
