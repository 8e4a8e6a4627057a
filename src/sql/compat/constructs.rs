//! Constructs with a syntax of their own as calls of functions: `SIMILAR TO`, `AT TIME ZONE`, `OVERLAPS`, `TRIM`, `@ x`,
//! `BETWEEN SYMMETRIC`, a default of `lag` that is no constant,
//! `make_interval(days => 1)`, open slices, `LIKE ANY (ARRAY[…])`.

use sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, DataType, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, ObjectName, Subscript, TrimWhereField, UnaryOperator, Value,
    helpers::attached_token::AttachedToken,
};

use super::build::{call, cast, folded, function_name, is_constant, list, plain_arguments, take, text};
use crate::sql::parser::SYMMETRIC;

/// Gives back whether it knew the expression.
pub(super) fn rewrite_expr(expr: &mut Expr) -> bool {
    match expr {
        Expr::UnaryOp { op, expr: inner } => {
            let function = match op {
                UnaryOperator::PGAbs => "abs",
                UnaryOperator::PGSquareRoot => "sqrt",
                UnaryOperator::PGCubeRoot => "cbrt",
                UnaryOperator::BitwiseNot => "hw_bit_not",
                _ => return false,
            };
            *expr = call(function, vec![take(inner)]);
        }
        Expr::AtTimeZone { timestamp, time_zone } => {
            *expr = call("timezone", vec![take(time_zone), take(timestamp)]);
        }
        Expr::SimilarTo { negated, expr: value, pattern, escape_char } => {
            let escape = match escape_char.as_ref().map(|escape| &escape.value) {
                Some(Value::SingleQuotedString(escape)) => escape.clone(),
                _ => "\\".to_string(),
            };
            let similar = call("hw_similar", vec![take(value), take(pattern), text(escape)]);
            *expr = if *negated { not(similar) } else { similar };
        }
        Expr::BinaryOp { op: BinaryOperator::Overlaps, left, right } => {
            let (Expr::Tuple(left), Expr::Tuple(right)) = (left.as_mut(), right.as_mut()) else { return false };
            let ([a, b], [c, d]) = (left.as_mut_slice(), right.as_mut_slice()) else { return false };
            let arguments = [span(a, b), span(c, d)].into_iter().flatten().collect();
            *expr = call("hw_overlaps", arguments);
        }
        Expr::Trim { trim_where, trim_what, expr: value, trim_characters } => {
            let function = match trim_where {
                Some(TrimWhereField::Leading) => "ltrim",
                Some(TrimWhereField::Trailing) => "rtrim",
                _ => "btrim",
            };
            let mut arguments = vec![take(value)];
            arguments.extend(trim_what.as_mut().map(|what| take(what)));
            arguments.extend(trim_characters.take().into_iter().flatten());
            *expr = call(function, arguments);
        }
        Expr::Between { negated, expr: value, low, high } => {
            let Expr::Function(mark) = low.as_mut() else { return false };
            if function_name(&mark.name).as_deref() != Some(SYMMETRIC) {
                return false;
            }
            let FunctionArguments::List(arguments) = &mark.args else { return false };
            let Some(low) = plain_arguments(&arguments.args).and_then(|mut low| low.pop()) else { return false };
            let (value, high) = (take(value), take(high));
            let between = |low: &Expr, high: &Expr| Expr::Between {
                expr: Box::new(value.clone()),
                negated: false,
                low: Box::new(low.clone()),
                high: Box::new(high.clone()),
            };
            let either = Expr::Nested(Box::new(or(between(&low, &high), between(&high, &low))));
            *expr = if *negated { not(either) } else { either };
        }
        // `extract('year' FROM x)`.
        Expr::Extract { field: DateTimeField::Custom(name), .. } if name.quote_style.is_some() => {
            name.quote_style = None;
            return false;
        }
        Expr::Like { any: true, negated, expr: value, pattern, .. } => {
            return any_pattern(*negated, value, pattern, false).is_some_and(|any| {
                *expr = any;
                true
            });
        }
        Expr::ILike { any: true, negated, expr: value, pattern, .. } => {
            return any_pattern(*negated, value, pattern, true).is_some_and(|any| {
                *expr = any;
                true
            });
        }
        Expr::Function(function) => match with_default(function) {
            Some(chosen) => *expr = chosen,
            None => return rewrite_function(function),
        },
        Expr::CompoundFieldAccess { access_chain, .. } => {
            // A slice that is open at an end goes as far as an array can.
            let number = |text: &str| Expr::Value(Value::Number(text.into(), false).into());
            for access in access_chain {
                if let AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, .. }) = access {
                    lower_bound.get_or_insert_with(|| number("1"));
                    upper_bound.get_or_insert_with(|| number("2147483647"));
                }
            }
            return false;
        }
        _ => return false,
    }
    true
}

fn or(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Or, right: Box::new(right) }
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr) }
}

/// Start and end of a span that may be given by its length.
fn span(start: &mut Expr, end: &mut Expr) -> [Expr; 2] {
    let is_length = match end {
        Expr::Interval(_) => true,
        Expr::Cast { data_type, .. } => matches!(data_type, DataType::Interval { .. }),
        Expr::TypedString(typed) => matches!(typed.data_type, DataType::Interval { .. }),
        _ => false,
    };
    let (start, end) = (take(start), take(end));
    if !is_length {
        return [start, end];
    }
    let sum = Expr::BinaryOp { left: Box::new(start.clone()), op: BinaryOperator::Plus, right: Box::new(end) };
    [start, Expr::Nested(Box::new(sum))]
}

/// `x LIKE ANY (ARRAY[a, b])` is `x LIKE a OR x LIKE b`.
fn any_pattern(negated: bool, value: &Expr, pattern: &Expr, ignore_case: bool) -> Option<Expr> {
    let mut pattern = pattern;
    while let Expr::Nested(inner) = pattern {
        pattern = inner;
    }
    let patterns = match pattern {
        Expr::Array(array) => &array.elem,
        Expr::Tuple(patterns) => patterns,
        _ => return None,
    };
    let like = |pattern: &Expr| {
        let (expr, pattern) = (Box::new(value.clone()), Box::new(pattern.clone()));
        match ignore_case {
            true => Expr::ILike { negated, any: false, expr, pattern, escape_char: None },
            false => Expr::Like { negated, any: false, expr, pattern, escape_char: None },
        }
    };
    let any = patterns.iter().map(like).reduce(or)?;
    Some(Expr::Nested(Box::new(any)))
}

/// `lag(x, n, d)`: the planner takes a default that is a constant. Another one is chosen where there is no such row.
fn with_default(function: &Function) -> Option<Expr> {
    let name = function_name(&function.name)?;
    let FunctionArguments::List(list) = &function.args else { return None };
    let arguments = plain_arguments(&list.args)?;
    let [_, distance, default] = arguments.as_slice() else { return None };
    let ignores_nulls = function.null_treatment.is_some() || !list.clauses.is_empty();
    if !matches!(name.as_str(), "lag" | "lead") || function.over.is_none() || ignores_nulls || is_constant(default) {
        return None;
    }
    let with =
        |arguments: Vec<Expr>| Expr::Function(Function { args: super::build::list(arguments), ..function.clone() });
    let there = with(vec![super::build::boolean(true), distance.clone()]);
    Some(Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions: vec![CaseWhen { condition: Expr::IsNull(Box::new(there)), result: default.clone() }],
        else_result: Some(Box::new(with(arguments[..2].to_vec()))),
    })
}

fn rewrite_function(function: &mut Function) -> bool {
    let Some(name) = function_name(&function.name) else { return false };
    let renamed = match name.as_str() {
        // Postgres means all of them.
        "array_remove" => "array_remove_all",
        "array_replace" => "array_replace_all",
        "trim_array" => return shorter(function),
        "make_interval" => return named_parts(function),
        "age" => return since_midnight(function),
        _ => return false,
    };
    function.name = ObjectName::from(vec![Ident::new(renamed)]);
    // Others may still want to look at it.
    false
}

/// `make_interval(days => 10)` by position.
fn named_parts(function: &mut Function) -> bool {
    const PARTS: [&str; 7] = ["years", "months", "weeks", "days", "hours", "mins", "secs"];
    let FunctionArguments::List(given) = &function.args else { return false };
    let zero = || Expr::Value(Value::Number("0".into(), false).into());
    let mut parts: Vec<Expr> = PARTS.iter().map(|_| zero()).collect();
    for (index, argument) in given.args.iter().enumerate() {
        let (at, value) = match argument {
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
                (PARTS.iter().position(|part| *part == folded(name)), value)
            }
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(value), .. } => {
                (PARTS.iter().position(|part| *part == folded(name)), value)
            }
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => (Some(index), value),
            _ => return false,
        };
        match at.and_then(|at| parts.get_mut(at)) {
            Some(part) => *part = value.clone(),
            None => return false,
        }
    }
    function.args = list(parts);
    false
}

/// `trim_array(a, n)` is a slice.
fn shorter(function: &mut Function) -> bool {
    let FunctionArguments::List(given) = &function.args else { return false };
    let Some(arguments) = plain_arguments(&given.args) else { return false };
    let [array, count] = arguments.as_slice() else { return false };
    let length = Expr::BinaryOp {
        left: Box::new(call("cardinality", vec![array.clone()])),
        op: BinaryOperator::Minus,
        right: Box::new(Expr::Nested(Box::new(count.clone()))),
    };
    let one = Expr::Value(Value::Number("1".into(), false).into());
    function.name = ObjectName::from(vec![Ident::new("array_slice")]);
    function.args = list(vec![array.clone(), one, length]);
    false
}

/// `age(x)` counts from midnight of today.
fn since_midnight(function: &mut Function) -> bool {
    let FunctionArguments::List(given) = &function.args else { return false };
    let Some(arguments) = plain_arguments(&given.args) else { return false };
    if let [since] = arguments.as_slice() {
        let today = cast(call("current_date", vec![]), DataType::Timestamp(None, sqlparser::ast::TimezoneInfo::None));
        function.args = list(vec![today, since.clone()]);
    }
    false
}
