//! `now()` in WHERE: rows that count for a while.
//!
//! A condition that compares `now()` with something of the row says from when on, or until when, the row counts:
//!
//! ```text
//! ts > now() - INTERVAL '1 hour'    ⇔  now() < ts + 1 h      until
//! ts <= now()                       ⇔  now() >= ts           from
//! now() - ts < INTERVAL '1 hour'    ⇔  now() < ts + 1 h      until
//! ```
//!
//! `now()` is a placeholder while the plan is optimised: nothing folds it, and conditions with it are pushed down like any
//! other.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef, ScalarValue};
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Aggregate, BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};

use super::Lowering;
use crate::error::{Error, Result};
use crate::plan::{Limit, Properties, StreamNode, StreamPlan, TimeLimit};

const NOW: &str = "now()";

/// True for a call of `now()` in any of its spellings.
pub(super) fn is_now_call(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.func.name() == "now" && call.args.is_empty())
}

fn is_now(expr: &Expr) -> bool {
    matches!(expr, Expr::Placeholder(placeholder) if placeholder.id == NOW)
}

pub(super) fn has_now(expr: &Expr) -> bool {
    expr.exists(|inner| Ok(is_now(inner))).unwrap_or(false)
}

/// 0A000 for `now()` where it is not compared in WHERE.
pub(super) fn refuse_now() -> Error {
    Error::unsupported(
        "function now() in a maintained view other than in a comparison in WHERE",
        "compare it with a time of the row: WHERE ts > now() - INTERVAL '1 hour'; or use it in the query that reads the view",
    )
}

/// The plan with a placeholder for each `now()`.
pub(super) fn with_placeholders(plan: LogicalPlan) -> Result<LogicalPlan> {
    let replaced = plan.transform_down_with_subqueries(|node| {
        let schema = node.schema().clone();
        let inputs: Vec<_> = node.inputs().into_iter().map(|input| input.schema().clone()).collect();
        node.map_expressions(|expr| {
            expr.transform_up(|inner| {
                if !is_now_call(&inner) {
                    return Ok(Transformed::no(inner));
                }
                let schema = inputs.first().unwrap_or(&schema);
                let (_, field) = inner.to_field(schema.as_ref())?;
                Ok(Transformed::yes(Expr::Placeholder(Placeholder::new_with_field(NOW.to_string(), Some(field)))))
            })
        })
    })?;
    // The schemas name columns after their expressions.
    Ok(if replaced.transformed { replaced.data.recompute_schema()? } else { replaced.data })
}

impl Lowering<'_> {
    /// The input's rows while the conditions hold, all of which compare `now()`.
    pub(super) fn temporal(&self, input: StreamPlan, conditions: &[&Expr], schema: &DFSchema) -> Result<StreamPlan> {
        let limits = self.time_limits(&input, conditions, schema)?;
        let (schema, key) = (input.schema.clone(), input.properties.key.clone());
        let properties = Properties { key, ..Properties::default() };
        let node = StreamNode::Temporal { input: Box::new(input), limits, marks: false };
        Ok(StreamPlan { node, schema, properties })
    }

    /// `FILTER (WHERE …)` that compares `now()`: the input with a mark for each of them behind its columns, and the
    /// calls with the mark in the condition's place.
    pub(super) fn with_marks(&self, input: StreamPlan, aggregate: &Aggregate) -> Result<Marked> {
        let mut marked =
            Marked { plan: input, schema: aggregate.input.schema().clone(), calls: aggregate.aggr_expr.clone() };
        for call in &mut marked.calls {
            let Expr::AggregateFunction(mut function) = call.clone().unalias_nested().data else { continue };
            let Some(filter) = function.params.filter.clone().filter(|filter| has_now(filter)) else { continue };
            let (moving, fixed): (Vec<&Expr>, Vec<&Expr>) =
                split_conjunction(&filter).into_iter().partition(|conjunct| has_now(conjunct));
            let limits = self.time_limits(&marked.plan, &moving, &marked.schema)?;
            let name = format!("in_time_{}", marked.schema.fields().len());
            let field = Arc::new(Field::new(&name, DataType::Boolean, false));
            let fields = marked.plan.schema.fields().iter().cloned().chain([field.clone()]);
            let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            let properties = Properties { key: marked.plan.properties.key.clone(), ..Properties::default() };
            let node = StreamNode::Temporal { input: Box::new(marked.plan), limits, marks: true };
            marked.plan = StreamPlan { node, schema, properties };
            let qualified = marked.schema.iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone()));
            let fields = qualified.chain([(None, field)]).collect();
            marked.schema = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
            let mark = Expr::Column(Column::new_unqualified(name));
            function.params.filter = conjunction(fixed.into_iter().cloned().chain([mark])).map(Box::new);
            *call = Expr::AggregateFunction(function);
        }
        Ok(marked)
    }

    fn time_limits(&self, input: &StreamPlan, conditions: &[&Expr], schema: &DFSchema) -> Result<Vec<TimeLimit>> {
        let mut limits = vec![];
        for condition in conditions {
            let (op, instant) = solved(condition)?;
            let instant = Expr::Cast(datafusion::logical_expr::Cast::new(
                Box::new(instant),
                DataType::Timestamp(TimeUnit::Microsecond, None),
            ));
            let expr = super::renamed(self.state.create_physical_expr(instant, schema)?, &input.schema);
            let (limit, is_inclusive) = match op {
                Operator::Lt => (Limit::Until, false),
                Operator::LtEq => (Limit::Until, true),
                Operator::Gt => (Limit::From, false),
                Operator::GtEq => (Limit::From, true),
                _ => return Err(refuse_now()),
            };
            limits.push(TimeLimit { expr, limit, is_inclusive });
        }
        Ok(limits)
    }
}

/// The input of an aggregate with marks.
pub(super) struct Marked {
    pub plan: StreamPlan,
    pub schema: DFSchemaRef,
    pub calls: Vec<Expr>,
}

/// The condition as `now() op instant`.
fn solved(condition: &Expr) -> Result<(Operator, Expr)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return Err(refuse_now()) };
    if let Some(solved) = of_difference(left, *op, right) {
        return Ok(solved);
    }
    let (op, with_now, other) = match (has_now(left), has_now(right)) {
        (true, false) => (*op, left, right),
        (false, true) => (op.swap().ok_or_else(refuse_now)?, right, left),
        _ => return Err(refuse_now()),
    };
    isolated(with_now, op, other.as_ref().clone())
}

/// `expr(now()) op other` with all but `now()` on the right.
fn isolated(expr: &Expr, op: Operator, other: Expr) -> Result<(Operator, Expr)> {
    match expr {
        _ if is_now(expr) => Ok((op, other)),
        // Among instants a cast keeps the time; a date would cut it off.
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(..)) => {
            isolated(&cast.expr, op, other)
        }
        Expr::Alias(alias) => isolated(&alias.expr, op, other),
        Expr::BinaryExpr(BinaryExpr { left, op: sign @ (Operator::Plus | Operator::Minus), right })
            if has_now(left) && is_fixed(right) =>
        {
            let back = if *sign == Operator::Plus { Operator::Minus } else { Operator::Plus };
            isolated(left, op, moved(other, back, right))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) if has_now(right) && is_fixed(left) => {
            isolated(right, op, moved(other, Operator::Minus, left))
        }
        _ => Err(refuse_now()),
    }
}

fn moved(instant: Expr, op: Operator, span: &Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr { left: Box::new(instant), op, right: Box::new(span.clone()) })
}

/// `compare(now() - ts, span) op 0`, as comparisons of intervals are bound.
fn of_difference(left: &Expr, op: Operator, right: &Expr) -> Option<(Operator, Expr)> {
    let Expr::ScalarFunction(compare) = left else { return None };
    if compare.func.name() != "hw_interval_compare" || !matches!(right, Expr::Literal(value, _) if is_zero(value)) {
        return None;
    }
    let [difference, span] = compare.args.as_slice() else { return None };
    let (op, difference, span) = match (has_now(difference), has_now(span)) {
        (true, false) => (op, difference, span),
        (false, true) => (op.swap()?, span, difference),
        _ => return None,
    };
    let Expr::ScalarFunction(ScalarFunction { func, args }) = difference else { return None };
    let ([from, to], "hw_timestamp_minus", true) = (args.as_slice(), func.name(), is_fixed(span)) else { return None };
    let through_cast = |expr: &Expr| match expr {
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(..)) => is_now(&cast.expr),
        other => is_now(other),
    };
    if through_cast(from) && !has_now(to) {
        return Some((op, moved(to.clone(), Operator::Plus, span)));
    }
    (through_cast(to) && !has_now(from)).then_some((op.swap()?, moved(from.clone(), Operator::Minus, span)))
}

fn is_zero(value: &ScalarValue) -> bool {
    matches!(value, ScalarValue::Int32(Some(0)) | ScalarValue::Int64(Some(0)))
}

/// A span that is the same whenever it is added: without months.
fn is_fixed(span: &Expr) -> bool {
    match span {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(span)), _) => span.months == 0,
        Expr::Literal(ScalarValue::DurationMicrosecond(Some(_)) | ScalarValue::DurationNanosecond(Some(_)), _) => true,
        Expr::ScalarFunction(call) if call.func.name() == "hw_interval_scale" => {
            call.args.first().is_some_and(is_fixed) && call.args.iter().all(|arg| !has_now(arg))
        }
        _ => false,
    }
}
