//! Types as Postgres has them, where the planner's differ: `1` is an `integer`, `1.5::int` is rounded, and casts know
//! `uuid`, `jsonb` and `varchar(3)`.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result as PlanResult, ScalarValue};
use datafusion::logical_expr::expr::{Cast, ScalarFunction, WindowFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::type_coercion::binary::type_union_coercion;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Union, Values,
    WindowFunctionDefinition, binary_expr,
};

use crate::catalog::functions::scale_of_field;
use crate::sql::compat::DISTINCTIVE;
use crate::sql::{convert, operators};
use crate::types::PgType;
use crate::types::text_input::parse_text;

/// Rewrites every expression of a freshly planned query.
pub(super) fn as_postgres(plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    // The work table of a recursive query has the types that it was planned with.
    let recursive = plan.exists(|node| Ok(matches!(node, LogicalPlan::RecursiveQuery(_))))?;
    let plan = plan.transform_up_with_subqueries(super::aggregates::plain_grouping_sets)?.data;
    Ok(plan.transform_up_with_subqueries(|node| rewrite_node(node, !recursive))?.data)
}

/// Rewrites one expression over `schema`.
pub(super) fn expression(expr: Expr, schema: &DFSchema) -> PlanResult<Expr> {
    Ok(rewrite_expr(expr, schema, true)?.data)
}

fn rewrite_node(plan: LogicalPlan, narrow: bool) -> PlanResult<Transformed<LogicalPlan>> {
    match plan {
        // LIMIT counts in bigint.
        LogicalPlan::Limit(_) => Ok(Transformed::no(plan)),
        LogicalPlan::Values(Values { values, schema }) => {
            let empty = DFSchema::empty();
            let rewrite = |expr| rewrite_expr(expr, &empty, narrow).map(|t| t.data);
            let values = values
                .into_iter()
                .map(|row| row.into_iter().map(rewrite).collect::<PlanResult<Vec<_>>>())
                .collect::<PlanResult<Vec<_>>>()?;
            let rebuilt = LogicalPlanBuilder::values(values)?.build()?;
            let same_names = rebuilt.schema().fields().iter().zip(schema.fields()).all(|(a, b)| a.name() == b.name());
            debug_assert!(same_names, "columns of VALUES are column1, column2 …");
            Ok(Transformed::yes(rebuilt))
        }
        LogicalPlan::Union(union) => {
            // The inputs' types may have changed; the union's follow.
            let inputs = super::floats::unified_inputs(union.inputs)?;
            Ok(Transformed::yes(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)))
        }
        plan => {
            let mut schema = merge_schema(&plan.inputs());
            if let LogicalPlan::TableScan(scan) = &plan {
                schema.merge(&scan.projected_schema);
            }
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let rewritten = rewrite_expr(expr, &schema, narrow)?;
                Ok(if rewritten.transformed { rewritten.update_data(|expr| name.restore(expr)) } else { rewritten })
            })?
            .transform_data(|plan| plan.recompute_schema().map(Transformed::yes))
        }
    }
}

fn rewrite_expr(expr: Expr, schema: &DFSchema, narrow: bool) -> PlanResult<Transformed<Expr>> {
    expr.transform_up(|expr| {
        match expr {
            Expr::Literal(ScalarValue::Int64(Some(value)), metadata) if narrow => match i32::try_from(value) {
                Ok(value) => Ok(Transformed::yes(Expr::Literal(ScalarValue::Int32(Some(value)), metadata))),
                Err(_) => Ok(Transformed::no(Expr::Literal(ScalarValue::Int64(Some(value)), metadata))),
            },
            Expr::Cast(cast) => {
                let Ok(source) = cast.expr.to_field(schema).map(|(_, field)| field) else {
                    return Ok(Transformed::no(Expr::Cast(cast)));
                };
                let target = PgType::of(&cast.field);
                let from = PgType::of(&source);
                if from == PgType::Jsonb
                    && let Some(value) = operators::jsonb_value(cast.expr.as_ref().clone(), &target)
                {
                    return rewrite_expr(Expr::Cast(Cast::new_from_field(Box::new(value), cast.field)), schema, narrow)
                        .map(|inner| Transformed::yes(inner.data));
                }
                // Timestamps of other units and the like are not ours.
                let is_ours = *cast.field.data_type() == target.arrow();
                let unplanned = matches!(*cast.expr, Expr::Placeholder(_));
                if !is_ours || unplanned || !convert::is_special(&from, source.data_type(), &target) {
                    return Ok(Transformed::no(Expr::Cast(cast)));
                }
                // Not a function of a constant: some functions take a literal only, such as the width of date_bin.
                if let (PgType::Interval, Expr::Literal(ScalarValue::Utf8(Some(text)), metadata)) =
                    (&target, cast.expr.as_ref())
                {
                    let interval = parse_text(text, &target, chrono_tz::UTC)?;
                    return Ok(Transformed::yes(Expr::Literal(interval, metadata.clone())));
                }
                Ok(Transformed::yes(convert::explicit(*cast.expr, target)))
            }
            Expr::BinaryExpr(binary) => {
                let expr = date_arithmetic(binary, schema)?;
                let expr = expr.transform_data(|expr| super::literals::typed(expr, schema))?;
                expr.transform_data(|expr| super::floats::unified(expr, schema))
            }
            Expr::AggregateFunction(call) => super::aggregates::as_postgres(call, schema),
            Expr::WindowFunction(call) => default_of_neighbour(*call, schema),
            Expr::ScalarFunction(mut call) if call.func.name() == DISTINCTIVE && !call.args.is_empty() => {
                Ok(Transformed::yes(call.args.swap_remove(0)))
            }
            Expr::ScalarFunction(call) => {
                let scale = scale_of(&call, schema);
                let call = Expr::ScalarFunction(call);
                Ok(match scale {
                    Some(scale) => {
                        let field = PgType::Numeric(Some((38, scale))).field("cast", true);
                        Transformed::yes(Expr::Cast(Cast::new_from_field(Box::new(call), field)))
                    }
                    None => return super::floats::unified(call, schema),
                })
            }
            other => {
                let expr = super::literals::typed(other, schema)?;
                expr.transform_data(|expr| super::floats::unified(expr, schema))
            }
        }
    })
}

/// `lag(x, n, d)` has the common type of x and d, where the planner gives it that of x.
fn default_of_neighbour(mut call: WindowFunction, schema: &DFSchema) -> PlanResult<Transformed<Expr>> {
    let is_neighbour = matches!(&call.fun, WindowFunctionDefinition::WindowUDF(function)
        if matches!(function.name(), "lag" | "lead"));
    if is_neighbour && let [value, _, default] = call.params.args.as_mut_slice() {
        let (own, others) = (value.get_type(schema)?, default.get_type(schema)?);
        let common = type_union_coercion(&own, &others).filter(|_| !own.is_null() && !others.is_null());
        let common = common.map(|common| match (&own, &others, &common) {
            (DataType::Decimal128(_, left), DataType::Decimal128(_, right), _) if left == right => common,
            (_, _, DataType::Decimal128(..)) => PgType::Numeric(None).arrow(),
            _ => common,
        });
        if let (Some(common), Expr::Literal(literal, _)) = (common, &mut *default)
            && (common != own || common != others)
        {
            *literal = literal.cast_to(&common)?;
            let target = PgType::of_arrow(&common);
            let is_bare = common == PgType::Numeric(None).arrow();
            let field = if is_bare { PgType::Numeric(None) } else { target }.field("cast", true);
            *value = match *field.data_type() == common {
                true => Expr::Cast(Cast::new_from_field(Box::new(std::mem::take(value)), field)),
                false => std::mem::take(value).cast_to(&common, schema)?,
            };
            return Ok(Transformed::yes(Expr::from(call)));
        }
    }
    Ok(Transformed::no(Expr::from(call)))
}

/// How many digits behind the point Postgres prints of a function's numeric result, where its name or a literal tells.
fn scale_of(call: &ScalarFunction, schema: &DFSchema) -> Option<i8> {
    let literal = |index: usize| match call.args.get(index)? {
        Expr::Literal(literal, _) => Some(literal),
        _ => None,
    };
    let (_, field) = Expr::ScalarFunction(call.clone()).to_field(schema).ok()?;
    if PgType::of(&field) != PgType::Numeric(None) {
        return None;
    }
    match (call.func.name(), call.args.len()) {
        ("round" | "trunc" | "ceil" | "ceiling" | "floor" | "sign", 1) | ("div", 2) | ("factorial", 1) => Some(0),
        ("round" | "trunc", 2) => match literal(1)? {
            ScalarValue::Int64(Some(places)) => i8::try_from(*places).ok().filter(|places| (0..=16).contains(places)),
            ScalarValue::Int32(Some(places)) => i8::try_from(*places).ok().filter(|places| (0..=16).contains(places)),
            _ => None,
        },
        ("hw_extract", 2) => match literal(0)? {
            ScalarValue::Utf8(Some(unit)) => {
                let is_date = call.args[1].get_type(schema).ok()? == DataType::Date32;
                scale_of_field(unit, is_date)
            }
            _ => None,
        },
        _ => None,
    }
}

/// `date ± interval` is a timestamp, `date ± integer` a date, `date - date` an integer.
fn date_arithmetic(binary: BinaryExpr, schema: &DFSchema) -> PlanResult<Transformed<Expr>> {
    let BinaryExpr { left, op, right } = binary;
    let kind = |expr: &Expr| expr.get_type(schema).unwrap_or(DataType::Null);
    let cast = |expr: Expr, to: DataType| Expr::Cast(Cast::new(Box::new(expr), to));
    let plain = |left: Box<Expr>, right: Box<Expr>| Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }));
    if !matches!(op, Operator::Plus | Operator::Minus) {
        return Ok(plain(left, right));
    }
    let timestamp = PgType::Timestamp.arrow();
    let days = |expr: Expr| cast(expr, DataType::Int32);
    let minus = op == Operator::Minus;
    let expr = match (kind(&left), kind(&right)) {
        (DataType::Date32, DataType::Interval(_)) => binary_expr(cast(*left, timestamp), op, *right),
        (DataType::Interval(_), DataType::Date32) if !minus => binary_expr(*left, op, cast(*right, timestamp)),
        (DataType::Date32, DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            cast(binary_expr(days(*left), op, days(*right)), DataType::Date32)
        }
        (DataType::Int16 | DataType::Int32 | DataType::Int64, DataType::Date32) if !minus => {
            cast(binary_expr(days(*left), op, days(*right)), DataType::Date32)
        }
        (DataType::Date32, DataType::Date32) if minus => binary_expr(days(*left), op, days(*right)),
        _ => return Ok(plain(left, right)),
    };
    Ok(Transformed::yes(expr))
}

/// True if the expression holds a subquery.
pub(super) fn has_subquery(expr: &Expr) -> PlanResult<bool> {
    let mut found = false;
    expr.apply(|expr| {
        found |=
            matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// The type of an expression as Postgres would name it; NULL and bare strings are unknown.
pub(super) fn expression_type(expr: &Expr, schema: &DFSchema) -> PlanResult<PgType> {
    let inner = match expr {
        Expr::Alias(alias) => alias.expr.as_ref(),
        other => other,
    };
    if let Expr::Literal(ScalarValue::Utf8(_) | ScalarValue::Null, None) = inner {
        return Ok(PgType::Unknown);
    }
    let (_, field) = expr.to_field(schema)?;
    if *field.data_type() == DataType::UInt64 {
        return Ok(PgType::Int8);
    }
    Ok(PgType::of(&field))
}
