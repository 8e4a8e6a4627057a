//! DISTINCT ON as a row number, and subqueries in ORDER BY and in window functions as columns below: forms in which the
//! planner's checks, ad-hoc queries and maintained views alike can take them.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as PlanResult};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    Distinct, DistinctOn, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, Projection, WindowFunctionDefinition,
    lit,
};

use super::postgres::has_subquery;

/// Rewrites a freshly planned query.
pub(super) fn rewrite(plan: LogicalPlan, functions: &dyn FunctionRegistry) -> PlanResult<LogicalPlan> {
    let numbered = |node| match node {
        LogicalPlan::Distinct(Distinct::On(distinct)) => Ok(Transformed::yes(first_of_each(distinct, functions)?)),
        other => Ok(Transformed::no(other)),
    };
    let plan = plan.transform_up_with_subqueries(numbered).data()?;
    plan.transform_up_with_subqueries(computed_below).data()
}

/// `SELECT DISTINCT ON (k) … ORDER BY k, o` is the row whose `row_number() OVER (PARTITION BY k ORDER BY k, o)` is 1;
/// in this form the optimiser knows it.
fn first_of_each(distinct: DistinctOn, functions: &dyn FunctionRegistry) -> PlanResult<LogicalPlan> {
    let DistinctOn { on_expr, select_expr, sort_expr, input, schema } = distinct;
    let number = WindowFunction::new(WindowFunctionDefinition::WindowUDF(functions.udwf("row_number")?), vec![]);
    // Subqueries among the keys are computed once, for the number, for the order and for what is shown.
    let keys = on_expr.iter().chain(sort_expr.iter().flatten().map(|sort| &sort.expr));
    let (input, computed) = compute_any(input.as_ref().clone(), keys)?;
    let sort = sort_expr.unwrap_or_default().into_iter().map(|sort| {
        let expr = computed.place(sort.expr.clone())?;
        Ok(sort.with_expr(expr))
    });
    let sort = sort.collect::<PlanResult<Vec<_>>>()?;
    let on = on_expr.into_iter().map(|expr| computed.place(expr)).collect::<PlanResult<Vec<_>>>()?;
    let number = Expr::from(number).partition_by(on);
    // Of an order without columns the builder knows nothing.
    let number = if sort.is_empty() { number } else { number.order_by(sort.clone()) };
    let number = number.build()?.alias(FIRST);
    let select = select_expr.into_iter().zip(schema.iter()).map(|(expr, (qualifier, field))| {
        Ok(computed.place(expr.unalias())?.alias_qualified(qualifier.cloned(), field.name()))
    });
    let select = select.collect::<PlanResult<Vec<_>>>()?;
    let first = Expr::Column(Column::new_unqualified(FIRST)).eq(lit(1_u64));
    let mut plan = LogicalPlanBuilder::from(input).window(vec![number])?.filter(first)?;
    if !sort.is_empty() {
        // What comes out is in this order, which a LIMIT above means too.
        plan = plan.sort(sort)?;
    }
    plan.project(select)?.build()
}

const FIRST: &str = "hw_first";

/// The subqueries of ORDER BY and of window functions become columns of what is sorted.
fn computed_below(node: LogicalPlan) -> PlanResult<Transformed<LogicalPlan>> {
    let input = match &node {
        LogicalPlan::Sort(sort) => sort.input.clone(),
        LogicalPlan::Window(window) => window.input.clone(),
        _ => return Ok(Transformed::no(node)),
    };
    let exprs = node.expressions();
    let mut any = false;
    for expr in &exprs {
        any |= has_subquery(expr)?;
    }
    if !any {
        return Ok(Transformed::no(node));
    }
    let columns: Vec<Expr> = node.schema().columns().into_iter().map(Expr::Column).collect();
    let keys: Vec<Expr> = match &node {
        LogicalPlan::Window(_) => exprs.iter().map(parts_of_call).collect::<PlanResult<Vec<_>>>()?.concat(),
        _ => exprs.clone(),
    };
    let (input, computed) = compute(input.as_ref().clone(), keys.iter())?;
    let names = match &node {
        LogicalPlan::Window(_) => NamePreserver::new_for_projection(),
        other => NamePreserver::new(other),
    };
    let exprs = exprs.into_iter().map(|expr| {
        let name = names.save(&expr);
        Ok(name.restore(computed.place(expr)?))
    });
    let mut exprs = exprs.collect::<PlanResult<Vec<_>>>()?;
    if matches!(node, LogicalPlan::Sort(_)) {
        exprs.iter_mut().for_each(|expr| *expr = std::mem::take(expr).unalias());
    }
    let plan = node.with_new_exprs(exprs, vec![input])?.recompute_schema()?;
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?)))
}

/// What a call is computed from: the call itself is not.
fn parts_of_call(expr: &Expr) -> PlanResult<Vec<Expr>> {
    let mut parts = vec![];
    expr.apply(|expr| match expr {
        Expr::WindowFunction(call) => {
            let params = &call.params;
            parts.extend(params.args.iter().chain(&params.partition_by).cloned());
            parts.extend(params.order_by.iter().map(|sort| sort.expr.clone()));
            parts.extend(params.filter.iter().map(|filter| filter.as_ref().clone()));
            Ok(TreeNodeRecursion::Stop)
        }
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    Ok(parts)
}

/// Expressions with the columns that hold them.
struct Computed(Vec<(Expr, Expr)>);

impl Computed {
    /// The expression over the columns.
    fn place(&self, expr: Expr) -> PlanResult<Expr> {
        if self.0.is_empty() {
            return Ok(expr);
        }
        let placed = expr.transform_down(|expr| match self.0.iter().find(|(computed, _)| *computed == expr) {
            Some((_, column)) => Ok(Transformed::new(column.clone(), true, TreeNodeRecursion::Jump)),
            None => Ok(Transformed::no(expr)),
        })?;
        Ok(placed.data)
    }
}

/// Subqueries among `exprs` as columns of `input`.
fn compute_any<'a>(
    input: LogicalPlan,
    exprs: impl Iterator<Item = &'a Expr> + Clone,
) -> PlanResult<(LogicalPlan, Computed)> {
    for expr in exprs.clone() {
        if has_subquery(expr)? {
            return compute(input, exprs);
        }
    }
    Ok((input, Computed(vec![])))
}

/// `input` with a column more for each of `exprs` that holds a subquery. It may depend on columns that a select list leaves
/// out, so it is computed beside the list.
fn compute<'a>(input: LogicalPlan, exprs: impl Iterator<Item = &'a Expr>) -> PlanResult<(LogicalPlan, Computed)> {
    let mut computed: Vec<(Expr, Expr)> = vec![];
    let shown: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let (mut columns, input) = match input {
        LogicalPlan::Projection(list) => (list.expr, Arc::unwrap_or_clone(list.input)),
        other => (shown.clone(), other),
    };
    let listed = columns.clone();
    for expr in exprs {
        if has_subquery(expr)? && !computed.iter().any(|(other, _)| other == expr) {
            let name = format!("hw_key{}", computed.len() + 1);
            let below = expr.clone().transform_up(|expr| match shown.iter().position(|column| *column == expr) {
                Some(at) => Ok(Transformed::yes(listed[at].clone().unalias())),
                None => Ok(Transformed::no(expr)),
            })?;
            columns.push(below.data.alias(&name));
            computed.push((expr.clone(), Expr::Column(Column::new_unqualified(name))));
        }
    }
    let plan = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(input))?);
    Ok((plan, Computed(computed)))
}
