//! Reading `TUMBLE(…)`, `HOP(…)`, `CUMULATE(…)` and `SESSION(…)` in FROM, in the spelling of RisingWave
//! (`TUMBLE(rel, ts, size)`) and of Flink (`TABLE(TUMBLE(TABLE rel, DESCRIPTOR(ts), size))`, also with named arguments).

use std::sync::Arc;

use datafusion::common::{Column, DFSchema, ExprSchema, Result as PlanResult};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan};
use sqlparser::ast::{self, FunctionArg, FunctionArguments, TableFactor};

use super::arguments::{Arguments, Function, descriptor, positive, relation, span_us};
use super::{SessionNode, WINDOW_END, WINDOW_START, WindowNode};
use crate::error::{Error, Result, SqlState};
use crate::plan::Window;
use crate::types::PgType;

#[derive(Debug)]
pub(in crate::sql) struct WindowPlanner;

impl RelationPlanner for WindowPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        let (function, args, alias) = match &relation {
            TableFactor::Table { name, args: Some(args), alias, .. } => (Function::named(name), &args.args, alias),
            TableFactor::Function { name, args, alias, .. } => (Function::named(name), args, alias),
            TableFactor::TableFunction { expr: ast::Expr::Function(call), alias } => match &call.args {
                FunctionArguments::List(list) => (Function::named(&call.name), &list.args, alias),
                _ => (None, &vec![], alias),
            },
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let Some(function) = function else { return Ok(RelationPlanning::Original(Box::new(relation))) };
        let plan = plan_window(function, args, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias.clone()))))
    }
}

fn plan_window(
    function: Function,
    args: &[FunctionArg],
    context: &mut dyn RelationPlannerContext,
) -> PlanResult<LogicalPlan> {
    let mut arguments = Arguments::read(function, args)?;
    let input = context.plan(relation(function, arguments.needed("data")?)?)?;
    let time = arguments.needed("timecol")?;
    let time = time_column(function, context.sql_to_expr(descriptor(time), input.schema())?, input.schema())?;
    for name in [WINDOW_START, WINDOW_END] {
        if input.schema().has_column_with_unqualified_name(name) {
            let message = format!("the relation of {} has a column \"{name}\" already", function.name());
            return Err(Error::new(SqlState::DUPLICATE_COLUMN, message).with_hint("rename it in a subquery").into());
        }
    }
    if function == Function::Session {
        let mut partition = vec![];
        for expr in std::mem::take(&mut arguments.partition) {
            let Expr::Column(column) = context.sql_to_expr(expr, input.schema())? else {
                let message = "PARTITION BY of SESSION takes columns of the relation";
                let hint = "compute it in a subquery: SESSION((SELECT …, lower(name) AS k FROM …) PARTITION BY k, …)";
                return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message).with_hint(hint).into());
            };
            if !partition.contains(&column) {
                partition.push(column);
            }
        }
        let gap_us = positive("gap", span_us(arguments.needed("gap")?, context)?)?;
        let node = Arc::new(SessionNode::try_new(input, partition, time, gap_us)?);
        return Ok(LogicalPlan::Extension(Extension { node }));
    }
    let window = window(function, &mut arguments, context)?;
    let node = Arc::new(WindowNode::try_new(input, time, window)?);
    Ok(LogicalPlan::Extension(Extension { node }))
}

/// 42804 unless it is a column that holds times.
fn time_column(function: Function, expr: Expr, schema: &DFSchema) -> PlanResult<Column> {
    let Expr::Column(time) = expr else {
        let message = format!("the time column of {} must be a column of the relation", function.name());
        return Err(Error::new(SqlState::DATATYPE_MISMATCH, message).with_hint(function.usage()).into());
    };
    let field = schema.field_from_column(&time)?;
    let pg_type = PgType::of(field);
    if !matches!(pg_type, PgType::Timestamp | PgType::Timestamptz | PgType::Int8)
        || *field.data_type() != pg_type.arrow()
    {
        let message = format!("column \"{}\" is of type {}, not a timestamp", time.name, pg_type.name());
        let hint = format!("cast it in a subquery: {}((SELECT …, ts::timestamp AS ts FROM …), ts, …)", function.name());
        return Err(Error::new(SqlState::DATATYPE_MISMATCH, message).with_hint(hint).into());
    }
    Ok(time)
}

/// Windows that do not depend on the rows.
fn window(
    function: Function,
    arguments: &mut Arguments,
    context: &mut dyn RelationPlannerContext,
) -> PlanResult<Window> {
    let size_us = positive("size", span_us(arguments.needed("size")?, context)?)?;
    let offset_us = arguments.optional("offset").map_or(Ok(0), |offset| span_us(offset, context))?;
    match function {
        Function::Tumble => Ok(Window::Tumble { size_us, offset_us }),
        Function::Hop => {
            let slide_us = positive("slide", span_us(arguments.needed("slide")?, context)?)?;
            check_count(size_us / slide_us, "make the slide longer or the size shorter")?;
            Ok(Window::Hop { slide_us, size_us, offset_us })
        }
        Function::Cumulate => {
            let step_us = positive("step", span_us(arguments.needed("step")?, context)?)?;
            if size_us % step_us != 0 {
                let message = "the size of CUMULATE must be a multiple of its step";
                return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message).with_hint(function.usage()).into());
            }
            check_count(size_us / step_us, "make the step longer or the size shorter")?;
            Ok(Window::Cumulate { step_us, size_us, offset_us })
        }
        Function::Session => Err(Error::internal("the windows of SESSION depend on the rows").into()),
    }
}

/// How many windows of one HOP or CUMULATE may hold a row.
const WINDOW_COUNT_MAX: i64 = 10_000;

fn check_count(window_count: i64, hint: &str) -> Result<()> {
    if window_count <= WINDOW_COUNT_MAX {
        return Ok(());
    }
    let message = format!("each row would be in {window_count} windows");
    Err(Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message).with_hint(format!("at most {WINDOW_COUNT_MAX}; {hint}")))
}
