//! The join with D, pushed down through the operators of a subquery, one by one.

use std::any::Any;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, JoinType, NullEquality, Result as PlanResult};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{Sort as SortExpr, WindowFunctionParams};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprFunctionExt, Extension, FetchType, Join, Limit, LogicalPlan, LogicalPlanBuilder,
    Operator, Projection, SkipType, Union, Window, binary_expr, lit,
};

use super::super::{only, plain_join, unsupported};
use super::{Correlation, Pushed};
use crate::sql::arrival::ArrivalNode;
use crate::sql::window::SessionNode;

impl Correlation {
    /// D ⋈ the plan: its columns, and the outer columns' values under their names.
    pub(super) fn push(&self, plan: LogicalPlan) -> PlanResult<Pushed> {
        if !self.depends(&plan)? {
            let plan = plain_join(self.domain(&self.names())?, plan, JoinType::Inner, None)?;
            return Ok(self.over_all(plan));
        }
        match plan {
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::SubqueryAlias(alias) => {
                let columns = alias.input.schema().columns();
                let pushed = self.push(Arc::unwrap_or_clone(alias.input))?;
                let mut exprs = vec![];
                for (column, (qualifier, field)) in columns.into_iter().zip(alias.schema.iter()) {
                    exprs.push(Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()));
                }
                exprs.extend(self.own_columns());
                let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(pushed.plan))?);
                Ok(Pushed { plan, ..pushed })
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let pushed = self.push_whole(Arc::unwrap_or_clone(input))?;
                let plan = LogicalPlan::Distinct(Distinct::All(Arc::new(pushed.plan)));
                Ok(Pushed { plan, ..pushed })
            }
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.push(Arc::unwrap_or_clone(sort.input)),
            LogicalPlan::Limit(limit) => {
                let (SkipType::Literal(skip), FetchType::Literal(fetch)) =
                    (limit.get_skip_type()?, limit.get_fetch_type()?)
                else {
                    return Err(unsupported("LIMIT of an expression", "write a number"));
                };
                // The order is said below the select list, when it sorts by what the list leaves out.
                if let LogicalPlan::Projection(projection) = limit.input.as_ref()
                    && matches!(projection.input.as_ref(), LogicalPlan::Sort(_))
                {
                    let Projection { expr, input, .. } = projection.clone();
                    let first = LogicalPlan::Limit(Limit { input, ..limit });
                    return self.push(LogicalPlan::Projection(Projection::try_new(expr, Arc::new(first))?));
                }
                self.limit(Arc::unwrap_or_clone(limit.input), skip, fetch)
            }
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => {
                let mut inputs = vec![];
                let mut may_be_null = false;
                for input in union.inputs {
                    let columns = input.schema().columns();
                    let pushed = self.push_whole(Arc::unwrap_or_clone(input))?;
                    may_be_null |= pushed.may_be_null;
                    let mut exprs: Vec<Expr> = vec![];
                    for (column, (qualifier, field)) in columns.into_iter().zip(union.schema.iter()) {
                        exprs.push(Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()));
                    }
                    exprs.extend(self.own_columns());
                    inputs.push(Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(pushed.plan))?)));
                }
                let plan = LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?);
                Ok(Pushed { plan, may_be_null, default: None })
            }
            LogicalPlan::Unnest(unnest) => {
                let pushed = self.push_whole(Arc::unwrap_or_clone(unnest.input))?;
                let plan = LogicalPlanBuilder::from(pushed.plan)
                    .unnest_columns_with_options(unnest.exec_columns, unnest.options)?
                    .build()?;
                Ok(Pushed { plan, ..pushed })
            }
            LogicalPlan::Extension(extension) => {
                if extension.node.as_any().is::<ArrivalNode>() {
                    let hint = "join with it outside of the subquery";
                    return Err(unsupported("FOR SYSTEM_TIME AS OF PROCTIME() in a correlated subquery", hint));
                }
                let [input] = extension.node.inputs()[..] else {
                    return Err(refused());
                };
                let pushed = self.push_whole(input.clone())?;
                let exprs = extension.node.expressions();
                let mut exprs = exprs.into_iter().map(|expr| self.over_domain(expr)).collect::<PlanResult<Vec<_>>>()?;
                let node: &dyn Any = extension.node.as_any();
                if node.is::<SessionNode>() {
                    // Partitions within each value of D.
                    exprs.extend(self.own_columns());
                }
                let node = extension.node.with_exprs_and_inputs(exprs, vec![pushed.plan])?;
                Ok(Pushed { plan: LogicalPlan::Extension(Extension { node }), ..pushed })
            }
            _ => Err(refused()),
        }
    }

    fn aggregate(&self, aggregate: Aggregate) -> PlanResult<Pushed> {
        if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
            return Err(unsupported(
                "GROUPING SETS in a correlated subquery",
                "write one GROUP BY for each, with UNION ALL",
            ));
        }
        let mut defaults = vec![];
        if aggregate.group_expr.is_empty() {
            for (expr, field) in aggregate.aggr_expr.iter().zip(aggregate.schema.fields()) {
                let Expr::AggregateFunction(function) = expr.clone().unalias_nested().data else {
                    return Err(refused());
                };
                defaults.push(function.func.default_value(field.data_type())?);
            }
        }
        let is_global = aggregate.group_expr.is_empty();
        let original = LogicalPlan::Aggregate(aggregate.clone());
        let pushed = self.push_whole(Arc::unwrap_or_clone(aggregate.input))?;
        let mut keys = self.all_over_domain(&original, aggregate.group_expr)?;
        keys.extend(self.own_columns());
        let calls = self.all_over_domain(&original, aggregate.aggr_expr)?;
        let plan = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(pushed.plan), keys, calls)?);
        // The columns in the order in which the default row has them.
        let mut columns = original.schema().columns();
        columns.extend(self.names().into_iter().map(Column::new_unqualified));
        Ok(Pushed {
            plan: only(plan, columns)?,
            may_be_null: pushed.may_be_null,
            default: is_global.then_some(defaults),
        })
    }

    /// The first rows for each value of D.
    fn limit(&self, input: LogicalPlan, skip: usize, fetch: Option<usize>) -> PlanResult<Pushed> {
        let (input, order) = match input {
            LogicalPlan::Sort(sort) => (Arc::unwrap_or_clone(sort.input), sort.expr),
            other => (other, vec![]),
        };
        let columns = input.schema().columns();
        let pushed = self.push_whole(input)?;
        let mut order: Vec<SortExpr> = order
            .into_iter()
            .map(|sort| Ok(SortExpr { expr: self.over_domain(sort.expr)?, ..sort }))
            .collect::<PlanResult<_>>()?;
        if order.is_empty() {
            order.extend(columns.iter().map(|column| SortExpr::new(Expr::Column(column.clone()), true, false)));
        }
        let number = format!("{}_n", self.prefix);
        let row_number = datafusion::functions_window::row_number::row_number()
            .partition_by(self.own_columns())
            .order_by(order)
            .build()?
            .alias(&number);
        let numbered = LogicalPlanBuilder::from(pushed.plan).window(vec![row_number])?;
        let number = Expr::Column(Column::new_unqualified(&number));
        let mut conditions = vec![];
        if skip > 0 {
            conditions.push(number.clone().gt(lit(skip as u64)));
        }
        if let Some(fetch) = fetch {
            conditions.push(number.lt_eq(lit(skip.saturating_add(fetch) as u64)));
        }
        let kept = match conjunction(conditions) {
            Some(condition) => numbered.filter(condition)?,
            None => numbered,
        };
        let mut all = columns;
        all.extend(self.names().into_iter().map(Column::new_unqualified));
        Ok(Pushed { plan: only(kept.build()?, all)?, ..pushed })
    }

    /// Partitions within each value of D.
    fn window(&self, window: Window) -> PlanResult<Pushed> {
        let original = LogicalPlan::Window(window.clone());
        let pushed = self.push_whole(Arc::unwrap_or_clone(window.input))?;
        let names = NamePreserver::new_for_projection();
        let mut exprs = vec![];
        for expr in self.all_over_domain(&original, window.window_expr)? {
            let saved = names.save(&expr);
            let partitioned = expr.transform_up(|expr| match expr {
                Expr::WindowFunction(mut function) => {
                    let WindowFunctionParams { partition_by, .. } = &mut function.params;
                    partition_by.extend(self.own_columns());
                    Ok(Transformed::yes(Expr::WindowFunction(function)))
                }
                other => Ok(Transformed::no(other)),
            })?;
            exprs.push(saved.restore(partitioned.data));
        }
        let plan = LogicalPlanBuilder::from(pushed.plan).window(exprs)?.build()?;
        Ok(Pushed { plan, ..pushed })
    }

    fn join(&self, join: Join) -> PlanResult<Pushed> {
        let mut condition: Vec<Expr> = vec![];
        for (left, right) in &join.on {
            let op = match join.null_equality {
                NullEquality::NullEqualsNull => Operator::IsNotDistinctFrom,
                _ => Operator::Eq,
            };
            condition.push(binary_expr(left.clone(), op, right.clone()));
        }
        condition.extend(join.filter.clone());
        let mut condition = condition.into_iter().map(|c| self.over_domain(c)).collect::<PlanResult<Vec<_>>>()?;
        let in_condition = match &join.filter {
            Some(filter) => self.names_outer(filter)?,
            None => false,
        };
        let (in_left, in_right) = (self.depends(&join.left)?, self.depends(&join.right)?);
        let columns = join.schema.columns();
        let (left, right) = (Arc::unwrap_or_clone(join.left), Arc::unwrap_or_clone(join.right));
        // Which sides must carry D: a preserved side always, else one of those that depend, or any for the condition.
        let (carry_left, carry_right) = match join.join_type {
            JoinType::Inner => (in_left || (in_condition && !in_right), in_right),
            JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, in_right),
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (in_left, true),
            JoinType::Full => (true, true),
        };
        let mut may_be_null = false;
        let left = if carry_left {
            let pushed = self.push_whole(left)?;
            may_be_null |= pushed.may_be_null;
            pushed.plan
        } else {
            left
        };
        let (mut right, mut second) = (right, vec![]);
        if carry_right {
            let pushed = self.push_whole(right)?;
            may_be_null |= pushed.may_be_null;
            right = pushed.plan;
            if carry_left {
                // Both have D's columns: the right ones get other names, and must equal the left ones.
                let names = self.names();
                second = names.iter().map(|name| format!("{name}_right")).collect();
                let exprs = right.schema().iter().map(|(qualifier, field)| {
                    let column = Expr::Column(Column::from((qualifier, field)));
                    match names.iter().position(|name| qualifier.is_none() && name == field.name()) {
                        Some(index) => column.alias(&second[index]),
                        None => column,
                    }
                });
                let exprs: Vec<Expr> = exprs.collect();
                right = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(right))?);
                for (own, other) in self.own_columns().into_iter().zip(&second) {
                    let op = if may_be_null { Operator::IsNotDistinctFrom } else { Operator::Eq };
                    condition.push(binary_expr(own, op, Expr::Column(Column::new_unqualified(other))));
                }
            }
        }
        let joined = plain_join(left, right, join.join_type, conjunction(condition))?;
        let mut exprs: Vec<Expr> = columns.into_iter().map(Expr::Column).collect();
        match join.join_type {
            JoinType::Full => {
                for (own, other) in self.names().iter().zip(&second) {
                    let own_column = Expr::Column(Column::new_unqualified(own));
                    let other = Expr::Column(Column::new_unqualified(other));
                    exprs.push(datafusion::functions::core::expr_fn::coalesce(vec![own_column, other]).alias(own));
                }
            }
            JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark if carry_left => {
                for (own, other) in self.names().iter().zip(&second) {
                    exprs.push(Expr::Column(Column::new_unqualified(other)).alias(own));
                }
            }
            _ => exprs.extend(self.own_columns()),
        }
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(joined))?);
        Ok(Pushed { plan, may_be_null, default: None })
    }
}

fn refused() -> DataFusionError {
    unsupported("this correlated subquery", "write it as a subquery in FROM and join with it")
}
