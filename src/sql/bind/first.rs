//! `FETCH FIRST n ROWS WITH TIES`, `INTERSECT ALL` and `EXCEPT ALL`, which DataFusion does not plan, or plans wrongly:
//! both are said with window functions, for ad-hoc queries and maintained views alike.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNodeRecursion};
use datafusion::common::{Column, JoinConstraint, JoinType, NullEquality, Result as PlanResult};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::type_coercion::binary::type_union_coercion;
use datafusion::logical_expr::{
    Distinct, Expr, ExprFunctionExt, ExprSchemable, Join, Limit, LogicalPlan, LogicalPlanBuilder, Sort,
    WindowFunctionDefinition, lit,
};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, SqlState};
use crate::sql::parser::WITH_TIES;

/// Rewrites a freshly planned query.
pub(super) fn rewrite(plan: LogicalPlan, functions: &dyn FunctionRegistry) -> PlanResult<LogicalPlan> {
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Limit(limit) => match ties(&limit) {
            Some(count) => Ok(Transformed::yes(with_ties(&limit.input, &count, limit.skip.as_deref(), functions)?)),
            None => Ok(Transformed::no(LogicalPlan::Limit(limit))),
        },
        LogicalPlan::Join(join) if is_multiset_operation(&join) => Ok(Transformed::yes(numbered(join, functions)?)),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

/// The parser writes `LIMIT hw_with_ties(n)`.
fn ties(limit: &Limit) -> Option<Expr> {
    match limit.fetch.as_deref()? {
        Expr::ScalarFunction(call) if call.func.name() == WITH_TIES => call.args.first().cloned(),
        _ => None,
    }
}

const RANK: &str = "hw_rank";
const NUMBER: &str = "hw_number";

/// The rows whose rank is at most n, counted from behind the offset.
fn with_ties(
    plan: &LogicalPlan,
    count: &Expr,
    skip: Option<&Expr>,
    functions: &dyn FunctionRegistry,
) -> PlanResult<LogicalPlan> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let input = with_ties(&projection.input, count, skip, functions)?;
            LogicalPlanBuilder::from(input).project(projection.expr.clone())?.build()
        }
        LogicalPlan::Sort(sort) => {
            let columns: Vec<Expr> = sort.input.schema().columns().into_iter().map(Expr::Column).collect();
            let ranked = |name: &str, alias: &str| -> PlanResult<Expr> {
                let function = WindowFunction::new(WindowFunctionDefinition::WindowUDF(functions.udwf(name)?), vec![]);
                Ok(Expr::from(function).order_by(sort.expr.clone()).build()?.alias(alias))
            };
            let column = |name: &str| Expr::Column(Column::new_unqualified(name));
            let mut calls = vec![ranked("rank", RANK)?];
            let mut last = number(count)?;
            let mut condition = None;
            if let Some(skip) = skip {
                calls.push(ranked("row_number", NUMBER)?);
                let skip = number(skip)?;
                condition = Some(column(NUMBER).gt(lit(skip)));
                last = last.saturating_add(skip);
            }
            let first = column(RANK).lt_eq(lit(last));
            let condition = condition.map_or(first.clone(), |behind| first.and(behind));
            let input = LogicalPlanBuilder::from(sort.input.as_ref().clone())
                .window(calls)?
                .filter(condition)?
                .project(columns)?
                .build()?;
            Ok(LogicalPlan::Sort(Sort { expr: sort.expr.clone(), input: Arc::new(input), fetch: None }))
        }
        _ => {
            let message = "WITH TIES cannot be specified without ORDER BY clause";
            Err(Error::new(SqlState::SYNTAX_ERROR, message).into())
        }
    }
}

/// A count that is written out; NULL is as good as none.
fn number(expr: &Expr) -> PlanResult<u64> {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(count)), _) if *count < 0 => {
            Err(Error::new(SqlState("2201W"), "LIMIT must not be negative").into())
        }
        Expr::Literal(ScalarValue::Int64(Some(count)), _) => Ok(count.unsigned_abs()),
        _ => {
            Err(Error::unsupported("FETCH FIRST … WITH TIES of a count that is not a constant", "write the number")
                .into())
        }
    }
}

/// INTERSECT and EXCEPT are planned as semi and anti joins in which NULL equals NULL. Those of distinct rows are right;
/// ALL must count. (Other joins of this kind come up only when the plan is optimised.)
fn is_multiset_operation(join: &Join) -> bool {
    is_set_operation(join) && !matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)))
}

fn is_set_operation(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
}

/// INTERSECT and EXCEPT of columns of different types: both sides get the type that UNION would give them. Literals must
/// have their types by then.
pub(super) fn common_types(plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    let differs = |node: &LogicalPlan| match node {
        LogicalPlan::Join(join) if is_set_operation(join) => {
            let (left, right) = (join.left.schema().fields().iter(), join.right.schema().fields());
            left.zip(right).any(|(left, right)| left.data_type() != right.data_type())
        }
        _ => false,
    };
    let mut any = false;
    plan.apply_with_subqueries(|node| {
        any |= differs(node);
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !any {
        return Ok(plan);
    }
    plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if is_set_operation(&join) => {
            let types: Vec<DataType> = join
                .left
                .schema()
                .fields()
                .iter()
                .zip(join.right.schema().fields())
                .map(|(l, r)| {
                    let (l, r) = (l.data_type(), r.data_type());
                    super::floats::common([l, r].into_iter()).or_else(|| type_union_coercion(l, r)).unwrap_or(l.clone())
                })
                .collect();
            let left = match Arc::unwrap_or_clone(join.left) {
                LogicalPlan::Distinct(Distinct::All(input)) => {
                    LogicalPlanBuilder::from(cast(Arc::unwrap_or_clone(input), &types)?).distinct()?.build()?
                }
                other => cast(other, &types)?,
            };
            let right = cast(Arc::unwrap_or_clone(join.right), &types)?;
            let joined = Join::try_new(
                Arc::new(left),
                Arc::new(right),
                join.on,
                join.filter,
                join.join_type,
                join.join_constraint,
                join.null_equality,
                join.null_aware,
            )?;
            Ok(Transformed::yes(LogicalPlan::Join(joined)))
        }
        LogicalPlan::TableScan(_) => Ok(Transformed::no(node)),
        other => Ok(Transformed::yes(other.recompute_schema()?)),
    })
    .data()
}

fn cast(input: LogicalPlan, types: &[DataType]) -> PlanResult<LogicalPlan> {
    let schema = input.schema().clone();
    if schema.fields().iter().zip(types).all(|(field, data_type)| field.data_type() == data_type) {
        return Ok(input);
    }
    let columns = schema.iter().zip(types).map(|((qualifier, field), data_type)| {
        let column = Expr::Column(Column::from((qualifier, field)));
        if field.data_type() == data_type {
            return Ok(column);
        }
        Ok(column.cast_to(data_type, &schema)?.alias_qualified(qualifier.cloned(), field.name()))
    });
    let columns = columns.collect::<PlanResult<Vec<_>>>()?;
    LogicalPlanBuilder::from(input).project(columns)?.build()
}

/// Numbers equal rows on both sides: the third of the left meets the third of the right.
fn numbered(join: Join, functions: &dyn FunctionRegistry) -> PlanResult<LogicalPlan> {
    let number = |input: &LogicalPlan, name: &str| -> PlanResult<LogicalPlan> {
        let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        let function = WindowFunction::new(WindowFunctionDefinition::WindowUDF(functions.udwf("row_number")?), vec![]);
        let call = Expr::from(function).partition_by(columns).build()?.alias(name);
        LogicalPlanBuilder::from(input.clone()).window(vec![call])?.build()
    };
    const LEFT: &str = "hw_left_number";
    const RIGHT: &str = "hw_right_number";
    let columns: Vec<Expr> = join.left.schema().columns().into_iter().map(Expr::Column).collect();
    let (left, right) = (number(&join.left, LEFT)?, number(&join.right, RIGHT)?);
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    let mut on = join.on;
    on.push((column(LEFT), column(RIGHT)));
    let counted = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        join.filter,
        join.join_type,
        JoinConstraint::On,
        NullEquality::NullEqualsNull,
        false,
    )?;
    LogicalPlanBuilder::from(LogicalPlan::Join(counted)).project(columns)?.build()
}
