//! Calls of aggregate functions as Postgres understands them: what it refuses, and in which order DISTINCT hands its
//! values on.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result as PlanResult, ScalarValue};
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, Sort};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, Projection};

use crate::error::{Error, SqlState};
use crate::types::PgType;

pub(super) fn as_postgres(mut call: AggregateFunction, schema: &DFSchema) -> PlanResult<Transformed<Expr>> {
    let params = &mut call.params;
    let name = call.func.name().to_string();
    let mut transformed = false;
    match name.as_str() {
        "count" if params.args.len() > 1 => return Err(does_not_exist(&name, &params.args, schema).into()),
        // Pairs of which neither is NULL.
        "regr_count" => {
            call.func = count_udaf();
            transformed = true;
        }
        // It takes a bigint literal only.
        "nth_value" => {
            if let Some(Expr::Literal(value @ ScalarValue::Int32(Some(_)), _)) = params.args.get_mut(1) {
                *value = value.cast_to(&datafusion::arrow::datatypes::DataType::Int64)?;
                transformed = true;
            }
        }
        _ => {}
    }
    if params.distinct {
        if call.func.supports_within_group_clause() && !params.order_by.is_empty() {
            return Err(Error::new(SqlState::SYNTAX_ERROR, "cannot use DISTINCT with WITHIN GROUP").into());
        }
        if params.order_by.iter().any(|sort| !params.args.contains(&sort.expr)) {
            let message = "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list";
            return Err(Error::new(SqlState("42P10"), message).into());
        }
        // Postgres sorts to find what is distinct, so that is the order in which values come.
        if params.order_by.is_empty() && matches!(name.as_str(), "array_agg" | "string_agg") {
            params.order_by = vec![Sort::new(params.args[0].clone(), true, false)];
            transformed = true;
        }
    }
    let expr = Expr::AggregateFunction(call);
    Ok(if transformed { Transformed::yes(expr) } else { Transformed::no(expr) })
}

/// Grouping sets over columns only: other expressions become columns of the input, under the names that the planner gave
/// them, so that rules may rewrite them without losing those names.
pub(super) fn plain_grouping_sets(plan: LogicalPlan) -> PlanResult<Transformed<LogicalPlan>> {
    let LogicalPlan::Aggregate(aggregate) = plan else { return Ok(Transformed::no(plan)) };
    let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() else {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    };
    let is_computed = |expr: &&Expr| !matches!(expr, Expr::Column(_));
    let computed: Vec<Expr> = sets.distinct_expr().into_iter().filter(is_computed).cloned().collect();
    if computed.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let column_of = |expr: &Expr| Expr::Column(Column::new_unqualified(expr.schema_name().to_string()));
    let replaced = |expr: Expr| {
        let name = match &expr {
            // Its name goes with it.
            Expr::AggregateFunction(_) => Some(expr.schema_name().to_string()),
            _ => None,
        };
        let replaced = expr.transform_down(|inner| match computed.contains(&inner) {
            true => Ok(Transformed::new(column_of(&inner), true, TreeNodeRecursion::Jump)),
            false => Ok(Transformed::no(inner)),
        })?;
        PlanResult::Ok(match name {
            Some(name) if replaced.transformed => replaced.data.alias(name),
            _ => replaced.data,
        })
    };
    let columns = aggregate.input.schema().columns().into_iter().map(Expr::Column);
    let named = computed.iter().map(|expr| expr.clone().alias(expr.schema_name().to_string()));
    let input = Projection::try_new(columns.chain(named).collect(), aggregate.input.clone())?;
    let groups = aggregate.group_expr.iter().cloned().map(replaced).collect::<PlanResult<_>>()?;
    let calls = aggregate.aggr_expr.iter().cloned().map(replaced).collect::<PlanResult<_>>()?;
    let input = Arc::new(LogicalPlan::Projection(input));
    Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(input, groups, calls)?)))
}

/// 42883, as Postgres says it.
fn does_not_exist(name: &str, args: &[Expr], schema: &DFSchema) -> Error {
    let type_name = |arg: &Expr| arg.to_field(schema).map_or("unknown".into(), |(_, field)| PgType::of(&field).name());
    let types: Vec<String> = args.iter().map(type_name).collect();
    Error::new(SqlState::UNDEFINED_FUNCTION, format!("function {name}({}) does not exist", types.join(", ")))
        .with_hint("no function matches the given name and argument types. You might need to add explicit type casts")
}
