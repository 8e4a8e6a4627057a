//! `FROM t, f(t.x) AS u`: rows that are made out of the row beside them need no join.
//!
//! A subquery over nothing is a chain of projections, filters and unnests above one row without columns. Beside t it is
//! the same chain above t, with t's columns handed through, and what it said of t's row (an outer reference) is a
//! column:
//!
//! ```text
//! t ⋈ lateral (π e (υ l (π f(outer t.x) as l (1 row))))   =   π t.*, e (υ l (π t.*, f(t.x) as l (t)))
//! ```
//! `LEFT JOIN LATERAL … ON true` keeps a row whose lists are empty, with NULLs, which is what unnest can do itself.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, JoinType, NullHandling, Result, ScalarValue};
use datafusion::logical_expr::{
    BinaryExpr, Expr, Filter, Join, LogicalPlan, Operator, Projection, SubqueryAlias, Unnest, Volatility,
};

/// Rewrites every join whose right side is such a chain. A lateral subquery that stands alone in FROM sees no more than
/// the query that it is in: it is that query's own.
pub(super) fn flatten(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::Join(_) | LogicalPlan::Subquery(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if !found {
        return Ok(plan);
    }
    Ok(plan
        .transform_up_with_subqueries(|node| match node {
            LogicalPlan::Join(join) => match flatten_join(&join)? {
                Some(flat) => Ok(Transformed::yes(flat)),
                None => Ok(Transformed::no(LogicalPlan::Join(join))),
            },
            // It may be a side of a join.
            LogicalPlan::SubqueryAlias(_) | LogicalPlan::Subquery(_) => Ok(Transformed::no(node)),
            other => other.map_children(alone),
        })?
        .data)
}

/// What a subquery is that stands alone in FROM.
fn alone(child: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    match child {
        LogicalPlan::Subquery(subquery) => Ok(Transformed::yes(Arc::unwrap_or_clone(subquery.subquery))),
        LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. })
            if matches!(input.as_ref(), LogicalPlan::Subquery(_)) =>
        {
            let inner = alone(Arc::unwrap_or_clone(input))?.data;
            Ok(Transformed::yes(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(inner), alias)?)))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn flatten_join(join: &Join) -> Result<Option<LogicalPlan>> {
    let condition = condition(join);
    let keeps_left = match join.join_type {
        JoinType::Inner => false,
        // The condition would have to fail for all rows of one before it is padded.
        JoinType::Left if condition.is_none() => true,
        _ => return Ok(None),
    };
    let mut chain = Chain::default();
    if !chain.look(&join.right)? || (keeps_left && !chain.pads_with_nulls) {
        return Ok(None);
    }
    let left_schema = join.left.schema().clone();
    // Names of their own, so that nothing in the chain can mean one of them by accident.
    let mut left_names: Vec<String> = vec![];
    for field in left_schema.fields() {
        let mut name = format!("{}′", field.name());
        while left_names.contains(&name) {
            name.push('′');
        }
        left_names.push(name);
    }
    let renamed = left_schema.columns().into_iter().zip(&left_names);
    let renamed = renamed.map(|(column, name)| Expr::Column(column).alias(name.as_str())).collect();
    let base = match left_names.is_empty() {
        true => join.left.as_ref().clone(),
        false => LogicalPlan::Projection(Projection::try_new(renamed, join.left.clone())?),
    };
    let above = Above { base, left_schema: &left_schema, left_names: &left_names, keeps_left };
    let (plan, right) = above.rebuild(&join.right)?;
    let names_left = left_schema.iter().zip(&left_names).map(|((qualifier, field), name)| {
        Expr::Column(Column::new_unqualified(name)).alias_qualified(qualifier.cloned(), field.name())
    });
    let names_right = right.into_iter().map(|(column, actual)| match column == actual {
        true => Expr::Column(actual),
        false => Expr::Column(actual).alias_qualified(column.relation, column.name),
    });
    let outputs = names_left.chain(names_right).collect();
    let plan = LogicalPlan::Projection(Projection::try_new(outputs, Arc::new(plan))?);
    Ok(Some(match condition {
        Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?),
        None => plan,
    }))
}

/// What the join asks of a pair; `None` where that is nothing.
fn condition(join: &Join) -> Option<Expr> {
    let equal = |(left, right): &(Expr, Expr)| {
        Expr::BinaryExpr(BinaryExpr::new(Box::new(left.clone()), Operator::Eq, Box::new(right.clone())))
    };
    let is_true = |expr: &Expr| matches!(expr, Expr::Literal(ScalarValue::Boolean(Some(true)), _));
    let all = join.on.iter().map(equal).chain(join.filter.clone().filter(|filter| !is_true(filter)));
    all.reduce(|a, b| Expr::BinaryExpr(BinaryExpr::new(Box::new(a), Operator::And, Box::new(b))))
}

/// What is known of the right side.
#[derive(Default)]
struct Chain {
    unnests: usize,
    /// A row without elements comes out as a row of NULLs if unnest keeps it.
    pads_with_nulls: bool,
}

impl Chain {
    /// True if the plan is a chain over one row without columns.
    fn look(&mut self, plan: &LogicalPlan) -> Result<bool> {
        self.pads_with_nulls = true;
        let found = self.walk(plan)?;
        self.pads_with_nulls &= self.unnests == 1;
        Ok(found)
    }

    fn walk(&mut self, plan: &LogicalPlan) -> Result<bool> {
        match plan {
            LogicalPlan::EmptyRelation(empty) => Ok(empty.produce_one_row && empty.schema.fields().is_empty()),
            LogicalPlan::Subquery(subquery) => self.walk(&subquery.subquery),
            LogicalPlan::SubqueryAlias(alias) => self.walk(&alias.input),
            LogicalPlan::Filter(filter) => {
                self.pads_with_nulls = false;
                Ok(is_plain(&filter.predicate)? && self.walk(&filter.input)?)
            }
            LogicalPlan::Projection(projection) => {
                // Above the unnest; below it, expressions make the lists.
                if self.unnests == 0 && has_unnest(&projection.input)? {
                    self.pads_with_nulls &= projection.expr.iter().all(is_null_of_null);
                }
                for expr in &projection.expr {
                    if !is_plain(expr)? {
                        return Ok(false);
                    }
                }
                self.walk(&projection.input)
            }
            LogicalPlan::Unnest(unnest) => {
                self.unnests += 1;
                self.walk(&unnest.input)
            }
            _ => Ok(false),
        }
    }
}

fn has_unnest(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Unnest(_))))
}

/// A value of the row alone, the same each time it is asked for.
fn is_plain(expr: &Expr) -> Result<bool> {
    let other = expr.exists(|inner| {
        Ok(match inner {
            Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Volatile,
            Expr::ScalarSubquery(_)
            | Expr::InSubquery(_)
            | Expr::Exists(_)
            | Expr::SetComparison(_)
            | Expr::AggregateFunction(_)
            | Expr::WindowFunction(_) => true,
            _ => false,
        })
    })?;
    Ok(!other)
}

/// NULL where the element is.
fn is_null_of_null(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Alias(alias) => is_null_of_null(&alias.expr),
        Expr::Cast(cast) => is_null_of_null(&cast.expr),
        Expr::ScalarFunction(call) if call.func.name() == "get_field" => call.args.first().is_some_and(is_null_of_null),
        _ => false,
    }
}

/// Puts a chain above the left side.
struct Above<'a> {
    /// The left side, its columns named `left_names`.
    base: LogicalPlan,
    left_schema: &'a DFSchemaRef,
    left_names: &'a [String],
    keeps_left: bool,
}

/// The right columns: as the chain's expressions call them, and as they are called above the left side, where a
/// qualified and an unqualified column of one name would be in each other's way.
type Right = Vec<(Column, Column)>;

impl Above<'_> {
    /// The plan with the left columns in front.
    fn rebuild(&self, plan: &LogicalPlan) -> Result<(LogicalPlan, Right)> {
        match plan {
            LogicalPlan::Subquery(subquery) => self.rebuild(&subquery.subquery),
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, schema, .. }) => {
                let (below, right) = self.rebuild(input)?;
                let actual = right.into_iter().map(|(_, actual)| actual);
                Ok((below, schema.columns().into_iter().zip(actual).collect()))
            }
            LogicalPlan::Projection(projection) => {
                let (below, right) = self.rebuild(&projection.input)?;
                let mut exprs: Vec<Expr> =
                    self.left_names.iter().map(|name| Expr::Column(Column::new_unqualified(name))).collect();
                let mut outputs: Right = vec![];
                for (expr, column) in projection.expr.iter().zip(projection.schema.columns()) {
                    let expr = self.inner(expr.clone(), &right)?.unalias_nested().data;
                    // The lists below an unnest are found by their names.
                    let taken = outputs.iter().any(|(_, actual)| actual.name == column.name);
                    let name =
                        if taken { format!("{}\u{1}{}", column.name, outputs.len()) } else { column.name.clone() };
                    let actual = Column::new_unqualified(name);
                    exprs.push(if expr == Expr::Column(actual.clone()) { expr } else { expr.alias(&actual.name) });
                    outputs.push((column, actual));
                }
                Ok((LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(below))?), outputs))
            }
            LogicalPlan::Filter(filter) => {
                let (below, right) = self.rebuild(&filter.input)?;
                let predicate = self.inner(filter.predicate.clone(), &right)?;
                Ok((LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(below))?), right))
            }
            LogicalPlan::Unnest(unnest) => {
                let (below, _) = self.rebuild(&unnest.input)?;
                let mut options = unnest.options.clone();
                if self.keeps_left {
                    options.null_handling = NullHandling::PreserveAndExpandEmpty;
                }
                let above = Unnest::try_new(Arc::new(below), unnest.exec_columns.clone(), options)?;
                let right = unnest.schema.columns().into_iter().map(|column| (column.clone(), column)).collect();
                Ok((LogicalPlan::Unnest(above), right))
            }
            _ => Ok((self.base.clone(), vec![])),
        }
    }

    /// Columns as they are called here. Outer references to the left side become its columns; those to what lies
    /// further out stay.
    fn inner(&self, expr: Expr, right: &Right) -> Result<Expr> {
        Ok(expr
            .transform_up(|inner| {
                let here = match &inner {
                    Expr::OuterReferenceColumn(_, column) => {
                        let index = self.left_schema.maybe_index_of_column(column);
                        index.map(|index| Column::new_unqualified(&self.left_names[index]))
                    }
                    Expr::Column(column) => {
                        right.iter().find(|(logical, _)| logical == column).map(|(_, actual)| actual.clone())
                    }
                    _ => None,
                };
                Ok(here.map_or(Transformed::no(inner), |column| Transformed::yes(Expr::Column(column))))
            })?
            .data)
    }
}
