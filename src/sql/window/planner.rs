//! Reading `TUMBLE(…)` and `HOP(…)` in FROM, in the spelling of RisingWave (`TUMBLE(rel, ts, size)`) and of Flink
//! (`TABLE(TUMBLE(TABLE rel, DESCRIPTOR(ts), size))`, also with named arguments).

use std::sync::Arc;

use datafusion::common::{ExprSchema, Result as PlanResult, ScalarValue};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan};
use sqlparser::ast::{self, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, TableFactor};

use super::{WINDOW_END, WINDOW_START, WindowNode};
use crate::error::{Error, Result, SqlState};
use crate::plan::Window;
use crate::sql::parser::fold;
use crate::types::PgType;
use crate::types::text_input::parse_text;

#[derive(Debug)]
pub(in crate::sql) struct WindowPlanner;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Function {
    Tumble,
    Hop,
}

impl Function {
    /// `None` if the name is none of a window function; 0A000 for those that are not there yet.
    fn named(name: &ObjectName) -> Result<Option<Function>> {
        let [part] = name.0.as_slice() else { return Ok(None) };
        match part.as_ident().map(fold).as_deref() {
            Some("tumble") => Ok(Some(Function::Tumble)),
            Some("hop") => Ok(Some(Function::Hop)),
            Some(other @ ("cumulate" | "session")) => Err(Error::unsupported(
                format!("window function {}", other.to_ascii_uppercase()),
                "known window functions: TUMBLE, HOP",
            )),
            _ => Ok(None),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Function::Tumble => "TUMBLE",
            Function::Hop => "HOP",
        }
    }

    /// Parameters in the order of positional arguments.
    fn parameters(self) -> &'static [&'static str] {
        match self {
            Function::Tumble => &["data", "timecol", "size", "offset"],
            Function::Hop => &["data", "timecol", "slide", "size", "offset"],
        }
    }

    fn usage(self) -> String {
        match self {
            Function::Tumble => "write TUMBLE(relation, time_column, INTERVAL '1 minute' [, offset])".to_string(),
            Function::Hop => {
                "write HOP(relation, time_column, INTERVAL '1 minute' /* slide */, INTERVAL '5 minutes' /* size */ \
                 [, offset])"
                    .to_string()
            }
        }
    }
}

impl RelationPlanner for WindowPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        let (function, args, alias) = match &relation {
            TableFactor::Table { name, args: Some(args), alias, .. } => (Function::named(name)?, &args.args, alias),
            TableFactor::Function { name, args, alias, .. } => (Function::named(name)?, args, alias),
            TableFactor::TableFunction { expr: ast::Expr::Function(call), alias } => match &call.args {
                FunctionArguments::List(list) => (Function::named(&call.name)?, &list.args, alias),
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
    let mut arguments = arguments(function, args)?;
    let mut take =
        |name: &str| function.parameters().iter().position(|p| *p == name).and_then(|at| arguments[at].take());
    let missing = |name: &str| {
        let message = format!("{} needs the argument {name}", function.name());
        Error::new(SqlState::UNDEFINED_FUNCTION, message).with_hint(function.usage())
    };
    let data = take("data").ok_or_else(|| missing("data"))?;
    let time = take("timecol").ok_or_else(|| missing("timecol"))?;
    let (size, slide, offset) = (take("size"), take("slide"), take("offset"));

    let input = context.plan(relation(function, data)?)?;
    let time = match context.sql_to_expr(descriptor(time), input.schema())? {
        Expr::Column(column) => column,
        _ => {
            let message = format!("the time column of {} must be a column of the relation", function.name());
            return Err(Error::new(SqlState::DATATYPE_MISMATCH, message).with_hint(function.usage()).into());
        }
    };
    let field = input.schema().field_from_column(&time)?;
    let pg_type = PgType::of(field);
    if !matches!(pg_type, PgType::Timestamp | PgType::Timestamptz) || *field.data_type() != pg_type.arrow() {
        let message = format!("column \"{}\" is of type {}, not a timestamp", time.name, pg_type.name());
        let hint = "cast it in a subquery: TUMBLE((SELECT …, ts::timestamp AS ts FROM …), ts, …)";
        return Err(Error::new(SqlState::DATATYPE_MISMATCH, message).with_hint(hint).into());
    }
    for name in [WINDOW_START, WINDOW_END] {
        if input.schema().has_column_with_unqualified_name(name) {
            let message = format!("the relation of {} has a column \"{name}\" already", function.name());
            return Err(Error::new(SqlState::DUPLICATE_COLUMN, message).with_hint("rename it in a subquery").into());
        }
    }

    let size_us = positive("size", span_us(size.ok_or_else(|| missing("size"))?, context)?)?;
    let offset_us = offset.map_or(Ok(0), |offset| span_us(offset, context))?;
    let window = match function {
        Function::Tumble => Window::Tumble { size_us, offset_us },
        Function::Hop => {
            let slide_us = positive("slide", span_us(slide.ok_or_else(|| missing("slide"))?, context)?)?;
            if size_us / slide_us > WINDOW_COUNT_MAX {
                let message = format!("each row would be in {} windows", size_us / slide_us);
                return Err(Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message)
                    .with_hint(format!("at most {WINDOW_COUNT_MAX}; make the slide longer or the size shorter"))
                    .into());
            }
            Window::Hop { slide_us, size_us, offset_us }
        }
    };
    let node = Arc::new(WindowNode::try_new(input, time, window)?);
    Ok(LogicalPlan::Extension(Extension { node }))
}

/// How many windows of one HOP may hold a row.
const WINDOW_COUNT_MAX: i64 = 10_000;

/// Arguments by parameter.
fn arguments(function: Function, args: &[FunctionArg]) -> Result<Vec<Option<ast::Expr>>> {
    let parameters = function.parameters();
    let mut arguments = vec![None; parameters.len()];
    let wrong = |what: String| Error::new(SqlState::UNDEFINED_FUNCTION, what).with_hint(function.usage());
    for (position, arg) in args.iter().enumerate() {
        let (name, value) = match arg {
            FunctionArg::Unnamed(value) => (None, value),
            FunctionArg::Named { name, arg, .. } => (Some(fold(name)), arg),
            FunctionArg::ExprNamed { name: ast::Expr::Identifier(name), arg, .. } => (Some(fold(name)), arg),
            FunctionArg::ExprNamed { name, .. } => return Err(wrong(format!("{name} is no argument name"))),
        };
        let at = match &name {
            None if position < parameters.len() => position,
            None => return Err(wrong(format!("too many arguments for {}", function.name()))),
            Some(name) => parameters
                .iter()
                .position(|parameter| parameter == name)
                .ok_or_else(|| wrong(format!("{} has no argument {name}", function.name())))?,
        };
        let FunctionArgExpr::Expr(value) = value else {
            return Err(wrong(format!("invalid argument {value} of {}", function.name())));
        };
        if arguments[at].replace(value.clone()).is_some() {
            return Err(wrong(format!("argument {} of {} is given twice", parameters[at], function.name())));
        }
    }
    Ok(arguments)
}

/// A relation's name, a subquery, or another window function, as something to select from.
fn relation(function: Function, data: ast::Expr) -> Result<TableFactor> {
    let table = |name: ObjectName| TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    };
    match data {
        ast::Expr::Identifier(ident) => Ok(table(ObjectName::from(vec![ident]))),
        ast::Expr::CompoundIdentifier(idents) => Ok(table(ObjectName::from(idents))),
        ast::Expr::Subquery(subquery) => {
            Ok(TableFactor::Derived { lateral: false, subquery, alias: None, sample: None })
        }
        ast::Expr::Nested(inner) => relation(function, *inner),
        expr @ ast::Expr::Function(_) => Ok(TableFactor::TableFunction { expr, alias: None }),
        other => Err(Error::new(SqlState::SYNTAX_ERROR, format!("{} takes a relation, not {other}", function.name()))
            .with_hint(function.usage())),
    }
}

/// `DESCRIPTOR(ts)` is `ts`.
fn descriptor(expr: ast::Expr) -> ast::Expr {
    let ast::Expr::Function(call) = &expr else { return expr };
    if !call.name.to_string().eq_ignore_ascii_case("descriptor") {
        return expr;
    }
    match &call.args {
        FunctionArguments::List(list) => match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Expr(column))] => column.clone(),
            _ => expr,
        },
        _ => expr,
    }
}

/// A constant interval, in microseconds. A day counts 24 hours; months are refused, having no fixed length.
fn span_us(expr: ast::Expr, context: &mut dyn RelationPlannerContext) -> PlanResult<i64> {
    let text = expr.to_string();
    let bad = |hint: &str| {
        let message = format!("a window takes a constant interval, not {text}");
        Error::new(SqlState::INVALID_PARAMETER_VALUE, message).with_hint(hint)
    };
    let schema = datafusion::common::DFSchema::empty();
    let mut planned = context.sql_to_expr(expr, &schema)?;
    if let Expr::Cast(cast) = &planned
        && PgType::of(&cast.field) == PgType::Interval
        && let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = cast.expr.as_ref()
    {
        planned = Expr::Literal(parse_text(text, &PgType::Interval, chrono_tz::UTC)?, None);
    }
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) = planned else {
        return Err(bad("write INTERVAL '1 minute'").into());
    };
    if interval.months != 0 {
        return Err(Error::unsupported("a window in months", "a month has no fixed length; give days").into());
    }
    i64::from(interval.days)
        .checked_mul(86_400_000_000)
        .and_then(|us| us.checked_add(interval.nanoseconds / 1000))
        .filter(|_| interval.nanoseconds % 1000 == 0)
        .ok_or_else(|| bad("windows are measured in whole microseconds").into())
}

fn positive(what: &str, span_us: i64) -> Result<i64> {
    if span_us > 0 {
        return Ok(span_us);
    }
    Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("the {what} of a window must be positive")))
}
