//! Window functions over frames that DataFusion cannot evaluate become calls of [`Framed`]. Types are settled by then.

use std::sync::Arc;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::common::tree_node::{Transformed, TransformedResult};
use datafusion::common::{DFSchema, Result as PlanResult, ScalarValue};
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, Window, WindowFrame, WindowFunctionDefinition, WindowUDF,
};

use crate::sql::framed::{Exclude, Framed, aggregate};
use crate::sql::parser::EXCLUDE;

pub(super) fn rewrite(plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Window(window) => rewrite_window(window),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

fn rewrite_window(window: Window) -> PlanResult<Transformed<LogicalPlan>> {
    let names = NamePreserver::new_for_projection();
    let schema = window.input.schema();
    let mut any = false;
    let mut exprs = Vec::with_capacity(window.window_expr.len());
    for expr in &window.window_expr {
        let replaced = match expr {
            Expr::WindowFunction(call) => replace(call, schema)?,
            Expr::Alias(alias) => match alias.expr.as_ref() {
                Expr::WindowFunction(call) => replace(call, schema)?,
                _ => None,
            },
            _ => None,
        };
        any |= replaced.is_some();
        exprs.push(replaced.map_or(expr.clone(), |call| names.save(expr).restore(call)));
    }
    match any {
        true => Ok(Transformed::yes(LogicalPlan::Window(Window::try_new(exprs, window.input)?))),
        false => Ok(Transformed::no(LogicalPlan::Window(window))),
    }
}

/// `None`: the call stays as it is.
fn replace(call: &WindowFunction, schema: &DFSchema) -> PlanResult<Option<Expr>> {
    let (mut exclude, mut partition_by) = (None, vec![]);
    for expr in &call.params.partition_by {
        match excluded(expr) {
            Some(excluded) => exclude = Some(excluded),
            None => partition_by.push(expr.clone()),
        }
    }
    let plain =
        WindowFunction { fun: call.fun.clone(), params: WindowFunctionParams { partition_by, ..call.params.clone() } };
    let is_framed = match &call.fun {
        WindowFunctionDefinition::AggregateUDF(_) => {
            exclude.is_some_and(|exclude| exclude != Exclude::Nothing) || !slides(call, schema)?
        }
        WindowFunctionDefinition::WindowUDF(function) => {
            let looks_at_frame = matches!(function.name(), "first_value" | "last_value" | "nth_value");
            looks_at_frame && exclude.is_some_and(|exclude| exclude != Exclude::Nothing)
        }
    };
    if !is_framed {
        return Ok(exclude.map(|_| Expr::from(plain)));
    }
    let framed = Framed::new(&plain, exclude.unwrap_or(Exclude::Nothing));
    let WindowFunctionParams { mut args, filter, .. } = plain.params.clone();
    args.extend(filter.map(|filter| *filter));
    let function = WindowFunctionDefinition::WindowUDF(Arc::new(WindowUDF::from(framed)));
    let params = WindowFunctionParams { args, filter: None, distinct: false, ..plain.params };
    Ok(Some(Expr::from(WindowFunction { fun: function, params })))
}

/// The parser's mark among the PARTITION BY columns.
fn excluded(expr: &Expr) -> Option<Exclude> {
    let Expr::ScalarFunction(call) = expr else { return None };
    match call.args.as_slice() {
        [Expr::Literal(ScalarValue::Utf8(Some(text)), _)] if call.func.name() == EXCLUDE => Exclude::of(text),
        _ => None,
    }
}

/// True if the aggregate can follow the frame: its start stays, or values that fall behind it can be taken back.
fn slides(call: &WindowFunction, schema: &DFSchema) -> PlanResult<bool> {
    let WindowFunctionDefinition::AggregateUDF(function) = &call.fun else { return Ok(true) };
    let frame: &WindowFrame = &call.params.window_frame;
    if frame.is_ever_expanding() {
        return Ok(true);
    }
    let arguments = call.params.args.iter().map(|arg| {
        let field: FieldRef = arg.to_field(schema)?.1;
        let literal = match arg {
            Expr::Literal(value, _) => Some(value.clone()),
            _ => None,
        };
        Ok((field, literal))
    });
    let arguments = arguments.collect::<PlanResult<Vec<_>>>()?;
    let ignore_nulls = call.params.null_treatment == Some(datafusion::logical_expr::expr::NullTreatment::IgnoreNulls);
    let aggregate = aggregate(function, &arguments, call.params.distinct, ignore_nulls)?;
    // The error says that it cannot.
    Ok(aggregate.create_sliding_accumulator().is_ok_and(|accumulator| accumulator.supports_retract_batch()))
}
