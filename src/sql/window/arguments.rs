//! The arguments of a window function, by name or by place, and what they may be.

use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::planner::RelationPlannerContext;
use sqlparser::ast::{self, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, TableFactor};

use crate::error::{Error, Result, SqlState};
use crate::sql::names::plain_table;
use crate::sql::parser::{PARTITION_BY, fold};
use crate::types::PgType;
use crate::types::text_input::parse_text;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

impl Function {
    /// `None` if the name is none of a window function.
    pub fn named(name: &ObjectName) -> Option<Function> {
        let [part] = name.0.as_slice() else { return None };
        match part.as_ident().map(fold).as_deref() {
            Some("tumble") => Some(Function::Tumble),
            Some("hop") => Some(Function::Hop),
            Some("cumulate") => Some(Function::Cumulate),
            Some("session") => Some(Function::Session),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Function::Tumble => "TUMBLE",
            Function::Hop => "HOP",
            Function::Cumulate => "CUMULATE",
            Function::Session => "SESSION",
        }
    }

    /// Parameters in the order of positional arguments: the relation, its time column, spans of time.
    fn parameters(self) -> &'static [&'static str] {
        match self {
            Function::Tumble => &["data", "timecol", "size", "offset"],
            Function::Hop => &["data", "timecol", "slide", "size", "offset"],
            Function::Cumulate => &["data", "timecol", "step", "size", "offset"],
            Function::Session => &["data", "timecol", "gap"],
        }
    }

    pub fn usage(self) -> &'static str {
        match self {
            Function::Tumble => "write TUMBLE(relation, time_column, INTERVAL '1 minute' [, offset])",
            Function::Hop => {
                "write HOP(relation, time_column, INTERVAL '1 minute' /* slide */, INTERVAL '5 minutes' /* size */ \
                 [, offset])"
            }
            Function::Cumulate => {
                "write CUMULATE(relation, time_column, INTERVAL '1 minute' /* step */, INTERVAL '1 hour' /* size */ \
                 [, offset])"
            }
            Function::Session => {
                "write SESSION(relation [PARTITION BY column, …], time_column, INTERVAL '5 minutes' /* gap */)"
            }
        }
    }
}

pub(super) struct Arguments {
    function: Function,
    /// One for each parameter.
    values: Vec<Option<ast::Expr>>,
    /// The columns of PARTITION BY.
    pub partition: Vec<ast::Expr>,
}

impl Arguments {
    pub fn read(function: Function, args: &[FunctionArg]) -> Result<Arguments> {
        let wrong = |what: String| Error::new(SqlState::UNDEFINED_FUNCTION, what).with_hint(function.usage());
        let mut given = vec![];
        for arg in args {
            let (name, value) = match arg {
                FunctionArg::Unnamed(value) => (None, value),
                FunctionArg::Named { name, arg, .. } => (Some(fold(name)), arg),
                FunctionArg::ExprNamed { name: ast::Expr::Identifier(name), arg, .. } => (Some(fold(name)), arg),
                FunctionArg::ExprNamed { name, .. } => return Err(wrong(format!("{name} is no argument name"))),
            };
            let FunctionArgExpr::Expr(value) = value else {
                return Err(wrong(format!("invalid argument {value} of {}", function.name())));
            };
            given.push((name, value.clone()));
        }
        let partition = if function == Function::Session { take_partition(&mut given)? } else { vec![] };
        let parameters = function.parameters();
        let mut values = vec![None; parameters.len()];
        for (position, (name, value)) in given.into_iter().enumerate() {
            let at = match &name {
                None if position < parameters.len() => position,
                None => return Err(wrong(format!("too many arguments for {}", function.name()))),
                Some(name) => parameters
                    .iter()
                    .position(|parameter| parameter == name)
                    .ok_or_else(|| wrong(format!("{} has no argument {name}", function.name())))?,
            };
            if values[at].replace(value).is_some() {
                return Err(wrong(format!("argument {} of {} is given twice", parameters[at], function.name())));
            }
        }
        Ok(Arguments { function, values, partition })
    }

    pub fn optional(&mut self, name: &str) -> Option<ast::Expr> {
        let at = self.function.parameters().iter().position(|parameter| *parameter == name)?;
        self.values[at].take()
    }

    pub fn needed(&mut self, name: &str) -> Result<ast::Expr> {
        self.optional(name).ok_or_else(|| {
            let message = format!("{} needs the argument {name}", self.function.name());
            Error::new(SqlState::UNDEFINED_FUNCTION, message).with_hint(self.function.usage())
        })
    }
}

/// Takes the columns of `SESSION(rel PARTITION BY a, b, ts, gap)` out of the arguments. The parser has made an argument of
/// that name of the first one; the others follow without a name, up to those that are still missing: the time column
/// and the gap, unless they are given by name.
fn take_partition(given: &mut Vec<(Option<String>, ast::Expr)>) -> Result<Vec<ast::Expr>> {
    let Some(at) = given.iter().position(|(name, _)| name.as_deref() == Some(PARTITION_BY)) else { return Ok(vec![]) };
    let is_data = |(name, _): &(Option<String>, ast::Expr)| name.as_deref().is_none_or(|name| name == "data");
    let named_count = given.iter().filter(|(name, _)| matches!(name.as_deref(), Some("timecol" | "gap"))).count();
    let after = &given[at + 1..];
    let unnamed_count = after.iter().position(|(name, _)| name.is_some()).unwrap_or(after.len());
    let others = (unnamed_count + named_count).checked_sub(2);
    let (true, Some(others)) = (at > 0 && is_data(&given[at - 1]), others) else {
        let message = "PARTITION BY of SESSION stands behind the relation, and before the time column and the gap";
        return Err(Error::new(SqlState::SYNTAX_ERROR, message).with_hint(Function::Session.usage()));
    };
    let mut columns = vec![];
    for (_, expr) in given.drain(at..=at + others) {
        match expr {
            ast::Expr::Tuple(exprs) => columns.extend(exprs),
            ast::Expr::Nested(expr) => columns.push(*expr),
            expr => columns.push(expr),
        }
    }
    Ok(columns)
}

/// A relation's name, a subquery, or another window function, as something to select from.
pub(super) fn relation(function: Function, data: ast::Expr) -> Result<TableFactor> {
    match data {
        ast::Expr::Identifier(ident) => Ok(plain_table(ObjectName::from(vec![ident]))),
        ast::Expr::CompoundIdentifier(idents) => Ok(plain_table(ObjectName::from(idents))),
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
pub(super) fn descriptor(expr: ast::Expr) -> ast::Expr {
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
pub(super) fn span_us(expr: ast::Expr, context: &mut dyn RelationPlannerContext) -> PlanResult<i64> {
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

pub(super) fn positive(what: &str, span_us: i64) -> Result<i64> {
    if span_us > 0 {
        return Ok(span_us);
    }
    Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("the {what} of a window must be positive")))
}
