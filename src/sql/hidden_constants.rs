//! Columns that are constant on the padded side of an outer join are not so above it: there they may be NULL. Nor are those
//! that are constant in each branch of a union.
//!
//! DataFusion's physical plans keep them for constants, and leave them out of sort orders:
//! `(SELECT 'b' AS c) q RIGHT JOIN x ON … ORDER BY q.c, x.id` came sorted by `x.id` alone, and so did
//! `SELECT n, 3 AS c … UNION ALL SELECT n, 0 … ORDER BY n, c` by `n`. So such an input is given a projection that hides where the values
//! come from.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, JoinType, Result as PlanResult};
use datafusion::functions::math::random;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Join, LogicalPlan, LogicalPlanBuilder, Operator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Union, Volatility,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// To be the last rule: conditions have been pushed down by then.
#[derive(Debug, Default)]
pub(super) struct HideConstants;

impl OptimizerRule for HideConstants {
    fn name(&self) -> &str {
        "hide_constants"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _: &dyn OptimizerConfig,
    ) -> PlanResult<datafusion::common::tree_node::Transformed<LogicalPlan>> {
        use datafusion::common::tree_node::Transformed;
        let join = match plan {
            LogicalPlan::Join(join) => join,
            LogicalPlan::Union(union) => {
                let mut is_changed = false;
                let inputs = union.inputs.iter().map(|input| {
                    let hidden = hidden(input)?;
                    is_changed |= hidden.is_some();
                    Ok(hidden.unwrap_or_else(|| input.clone()))
                });
                let inputs = inputs.collect::<PlanResult<Vec<_>>>()?;
                let union = LogicalPlan::Union(Union { inputs, schema: union.schema });
                return Ok(if is_changed { Transformed::yes(union) } else { Transformed::no(union) });
            }
            other => return Ok(Transformed::no(other)),
        };
        let (pads_left, pads_right) = match join.join_type {
            JoinType::Left => (false, true),
            JoinType::Right => (true, false),
            JoinType::Full => (true, true),
            _ => return Ok(Transformed::no(LogicalPlan::Join(join))),
        };
        let left = if pads_left { hidden(&join.left)? } else { None };
        let right = if pads_right { hidden(&join.right)? } else { None };
        if left.is_none() && right.is_none() {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let join = Join { left: left.unwrap_or(join.left), right: right.unwrap_or(join.right), ..join };
        Ok(Transformed::yes(LogicalPlan::Join(join)))
    }
}

/// The plan with its constant columns hidden; `None` if it has none.
fn hidden(plan: &Arc<LogicalPlan>) -> PlanResult<Option<Arc<LogicalPlan>>> {
    let constant = constants(plan);
    if constant.is_empty() {
        return Ok(None);
    }
    let hide = Arc::new(ScalarUDF::from(Hide::default()));
    let exprs = plan.schema().columns().into_iter().enumerate().map(|(index, column)| {
        let value = Expr::Column(column.clone());
        if !constant.contains(&index) {
            return value;
        }
        // What is made of constants alone is constant again; a random number is not.
        let args = vec![value, Expr::ScalarFunction(ScalarFunction::new_udf(random(), vec![]))];
        let call = Expr::ScalarFunction(ScalarFunction::new_udf(hide.clone(), args));
        call.alias_qualified(column.relation, column.name)
    });
    let exprs: Vec<Expr> = exprs.collect();
    Ok(Some(Arc::new(LogicalPlanBuilder::from(plan.as_ref().clone()).project(exprs)?.build()?)))
}

/// Columns that have one value in all rows, as far as a physical plan would see it.
fn constants(plan: &LogicalPlan) -> HashSet<usize> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let below = constants(&projection.input);
            let of_input = |column: &Column| projection.input.schema().index_of_column(column).ok();
            let is_constant = |expr: &Expr| {
                let columns = expr.column_refs();
                !expr.is_volatile()
                    && columns.iter().all(|column| of_input(column).is_some_and(|at| below.contains(&at)))
            };
            let exprs = projection.expr.iter().enumerate();
            exprs.filter(|(_, expr)| is_constant(expr)).map(|(index, _)| index).collect()
        }
        LogicalPlan::Filter(filter) => {
            let mut found = constants(&filter.input);
            for condition in split_conjunction(&filter.predicate) {
                let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { continue };
                let sides = [(left, right), (right, left)];
                for (side, _) in sides.into_iter().filter(|(_, other)| other.column_refs().is_empty()) {
                    found.extend(
                        side.column_refs()
                            .into_iter()
                            .filter_map(|column| filter.input.schema().index_of_column(column).ok()),
                    );
                }
            }
            found
        }
        LogicalPlan::SubqueryAlias(alias) => constants(&alias.input),
        LogicalPlan::Sort(sort) => constants(&sort.input),
        LogicalPlan::Limit(limit) => constants(&limit.input),
        LogicalPlan::Distinct(distinct) => match distinct {
            datafusion::logical_expr::Distinct::All(input) => constants(input),
            datafusion::logical_expr::Distinct::On(_) => HashSet::new(),
        },
        LogicalPlan::Window(window) => constants(&window.input),
        LogicalPlan::Aggregate(aggregate) => {
            let below = constants(&aggregate.input);
            let is_constant = |expr: &Expr| {
                let columns = expr.column_refs();
                columns
                    .iter()
                    .all(|column| aggregate.input.schema().index_of_column(column).is_ok_and(|at| below.contains(&at)))
            };
            let keys = aggregate.group_expr.iter().enumerate();
            keys.filter(|(_, key)| !matches!(key, Expr::GroupingSet(_)) && is_constant(key)).map(|(at, _)| at).collect()
        }
        LogicalPlan::Join(join)
            if matches!(join.join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full) =>
        {
            let width = join.left.schema().fields().len();
            let right = constants(&join.right).into_iter().map(|at| at + width);
            constants(&join.left).into_iter().chain(right).collect()
        }
        LogicalPlan::Join(join)
            if matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark) =>
        {
            constants(&join.left)
        }
        _ => HashSet::new(),
    }
}

/// Its first argument.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Hide {
    signature: Signature,
}

impl Default for Hide {
    fn default() -> Hide {
        Hide { signature: Signature::any(2, Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for Hide {
    fn name(&self) -> &str {
        "hw_hide"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> PlanResult<DataType> {
        Ok(arguments[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        Ok(ColumnarValue::Array(args.args[0].to_array(args.number_rows)?))
    }
}
