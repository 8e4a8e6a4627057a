//! Where `numeric` meets a float, the float's type is the common one, as in Postgres: DataFusion would make a decimal of
//! the float, which need not fit. And `real + integer` is double precision.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Decimal128Type, DecimalType};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, Result as PlanResult, ScalarValue};
use datafusion::logical_expr::expr::{Between, InList, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Case, Expr, ExprSchemable, LogicalPlan, Operator, Projection};

use crate::sql::convert;
use crate::types::PgType;

/// Functions whose arguments have one type, which is the result's.
const ONE_TYPE: &[&str] = &["coalesce", "greatest", "least", "nullif", "nvl"];

/// The type that numbers of these types meet in; `None` if there is no float and no numeric among them.
pub(super) fn common<'a>(types: impl Iterator<Item = &'a DataType>) -> Option<DataType> {
    let (mut float, mut has_numeric) = (None, false);
    for data_type in types {
        match data_type {
            DataType::Float64 => float = Some(DataType::Float64),
            DataType::Float32 => float = float.or(Some(DataType::Float32)),
            DataType::Decimal128(..) => has_numeric = true,
            _ => {}
        }
    }
    float.filter(|_| has_numeric)
}

/// The expression, with casts where it mixes the two; what is below it is done already.
pub(super) fn unified(expr: Expr, schema: &DFSchema) -> PlanResult<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_of_numbers(op) => {
            // The operators of different numbers are those of double precision.
            let target = DataType::Float64;
            let meets = common_of([left.as_ref(), right.as_ref()], schema).is_some()
                || is_arithmetic(op) && has_real_and_integer(&left, &right, schema);
            if !meets {
                return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })));
            }
            let side = |side: Box<Expr>| cast(*side, &target, schema).map(Box::new);
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr { left: side(left)?, op, right: side(right)? })))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let Some(target) = common_of(list.iter().chain([expr.as_ref()]), schema).map(|_| DataType::Float64) else {
                return Ok(Transformed::no(Expr::InList(InList { expr, list, negated })));
            };
            let expr = Box::new(cast(*expr, &target, schema)?);
            let list = list.into_iter().map(|item| cast(item, &target, schema)).collect::<PlanResult<_>>()?;
            Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let all = [expr.as_ref(), low.as_ref(), high.as_ref()];
            let Some(target) = common_of(all, schema).map(|_| DataType::Float64) else {
                return Ok(Transformed::no(Expr::Between(Between { expr, negated, low, high })));
            };
            let part = |part: Box<Expr>| cast(*part, &target, schema).map(Box::new);
            let (expr, low, high) = (part(expr)?, part(low)?, part(high)?);
            Ok(Transformed::yes(Expr::Between(Between { expr, negated, low, high })))
        }
        Expr::InSubquery(mut in_subquery) => {
            let theirs = in_subquery.subquery.subquery.schema().field(0).data_type().clone();
            let types = [in_subquery.expr.get_type(schema)?, theirs];
            let Some(target) = common(types.iter()).map(|_| DataType::Float64) else {
                return Ok(Transformed::no(Expr::InSubquery(in_subquery)));
            };
            in_subquery.expr = Box::new(cast(*in_subquery.expr, &target, schema)?);
            in_subquery.subquery.subquery = with_types(in_subquery.subquery.subquery, &[Some(target)])?;
            Ok(Transformed::yes(Expr::InSubquery(in_subquery)))
        }
        Expr::Case(mut case) => {
            let results = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
            let mut changed = false;
            if let Some(target) = common_of(results.chain(case.else_expr.as_deref()), schema) {
                for result in case.when_then_expr.iter_mut().map(|(_, then)| then).chain(&mut case.else_expr) {
                    **result = cast(std::mem::take(result.as_mut()), &target, schema)?;
                }
                changed = true;
            }
            changed |= unify_operand(&mut case, schema)?;
            let case = Expr::Case(case);
            Ok(if changed { Transformed::yes(case) } else { Transformed::no(case) })
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if ONE_TYPE.contains(&func.name()) => {
            let Some(target) = common_of(&args, schema) else {
                return Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args })));
            };
            let args = args.into_iter().map(|arg| cast(arg, &target, schema)).collect::<PlanResult<_>>()?;
            Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args })))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// `CASE x WHEN y …` compares x with each y.
fn unify_operand(case: &mut Case, schema: &DFSchema) -> PlanResult<bool> {
    let Some(operand) = &mut case.expr else { return Ok(false) };
    let compared = case.when_then_expr.iter().map(|(when, _)| when.as_ref());
    let Some(target) = common_of(compared.chain([operand.as_ref()]), schema).map(|_| DataType::Float64) else {
        return Ok(false);
    };
    for compared in case.when_then_expr.iter_mut().map(|(when, _)| when).chain([operand]) {
        **compared = cast(std::mem::take(compared.as_mut()), &target, schema)?;
    }
    Ok(true)
}

fn is_of_numbers(op: Operator) -> bool {
    use Operator::*;
    is_arithmetic(op) || matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn is_arithmetic(op: Operator) -> bool {
    matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide | Operator::Modulo)
}

fn has_real_and_integer(left: &Expr, right: &Expr, schema: &DFSchema) -> bool {
    let types = (left.get_type(schema), right.get_type(schema));
    let is_mixed = |real: &DataType, other: &DataType| *real == DataType::Float32 && other.is_integer();
    matches!(types, (Ok(left), Ok(right)) if is_mixed(&left, &right) || is_mixed(&right, &left))
}

fn common_of<'a>(exprs: impl IntoIterator<Item = &'a Expr>, schema: &DFSchema) -> Option<DataType> {
    let types: Vec<DataType> = exprs.into_iter().filter_map(|expr| expr.get_type(schema).ok()).collect();
    common(types.iter())
}

/// The number as a float, if it is one.
fn cast(expr: Expr, target: &DataType, schema: &DFSchema) -> PlanResult<Expr> {
    let pg_type = PgType::of_arrow(target);
    Ok(match expr.get_type(schema)? {
        DataType::Decimal128(..) => match &expr {
            Expr::Literal(ScalarValue::Decimal128(Some(digits), precision, scale), metadata) => {
                let float: f64 =
                    Decimal128Type::format_decimal(*digits, *precision, *scale).parse().unwrap_or(f64::NAN);
                let value = if *target == DataType::Float32 {
                    ScalarValue::Float32(Some(float as f32))
                } else {
                    ScalarValue::Float64(Some(float))
                };
                Expr::Literal(value, metadata.clone())
            }
            _ => convert::explicit(expr, pg_type),
        },
        DataType::Float32 if *target == DataType::Float64 => expr.cast_to(target, schema)?,
        given if given.is_integer() => expr.cast_to(target, schema)?,
        _ => expr,
    })
}

/// The inputs of a UNION with their columns cast where another input's need it.
pub(super) fn unified_inputs(inputs: Vec<Arc<LogicalPlan>>) -> PlanResult<Vec<Arc<LogicalPlan>>> {
    let width = inputs.iter().map(|input| input.schema().fields().len()).min().unwrap_or(0);
    let targets: Vec<Option<DataType>> =
        (0..width).map(|column| common(inputs.iter().map(|input| input.schema().field(column).data_type()))).collect();
    if targets.iter().all(Option::is_none) {
        return Ok(inputs);
    }
    inputs.into_iter().map(|input| with_types(input, &targets)).collect()
}

/// Columns that have a target are cast to it.
fn with_types(input: Arc<LogicalPlan>, targets: &[Option<DataType>]) -> PlanResult<Arc<LogicalPlan>> {
    let schema = input.schema().clone();
    let column = |(index, (qualifier, field)): (usize, (Option<&_>, &Arc<_>))| {
        let column = Expr::Column(Column::from((qualifier, field)));
        let Some(target) = targets.get(index).cloned().flatten() else { return Ok(column) };
        if *schema.field(index).data_type() == target {
            return Ok(column);
        }
        Ok(cast(column, &target, &schema)?.alias_qualified(qualifier.cloned(), schema.field(index).name()))
    };
    let columns = schema.iter().enumerate().map(column).collect::<PlanResult<Vec<Expr>>>()?;
    Ok(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, input)?)))
}
