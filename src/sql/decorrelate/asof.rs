//! `LATERAL (SELECT … FROM b WHERE b.k = a.k AND b.t <= a.t ORDER BY b.t DESC LIMIT 1)`: the nearest row, which needs no pairs.
//!
//! What is asked of the subquery: it takes one row, first by the time that its one inequality compares with the outer row,
//! in the direction in which that row is the nearest; it names the outer row in that inequality and in equalities, and
//! nowhere else.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, Result as PlanResult, TableReference};
use datafusion::logical_expr::expr::{Cast, Sort as SortExpr};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Extension, FetchType, Filter, Join, JoinType, LogicalPlan, Operator, Projection,
    SkipType,
};

use super::Decorrelator;
use crate::sql::asof::{AsofCondition, AsofNode};

impl Decorrelator<'_> {
    /// The left side's columns and the subquery's, the latter under `names`. `None` for other subqueries.
    pub(super) fn asof(
        &self,
        join: &Join,
        subquery: &LogicalPlan,
        names: &[Column],
    ) -> PlanResult<Option<LogicalPlan>> {
        let left = join.left.as_ref();
        let Some(first) = First::of(subquery)? else { return Ok(None) };
        let Some(condition) = Condition::of(first.conditions, left.schema(), first.base.schema())? else {
            return Ok(None);
        };
        let Some((time, is_back, is_strict)) = condition.time else { return Ok(None) };
        let schema = first.base.schema();
        let is_first = first.order.first().is_some_and(|sort| {
            sort.asc != is_back && (sort.expr == time.1 || is_widened(&time.1, &sort.expr, schema))
        });
        if !is_first {
            return Ok(None);
        }
        let relation = TableReference::bare(self.fresh());
        let mut right = Columns::new(&relation, "c");
        // What tells rows of one time apart: all that was sorted.
        first.sorted.into_iter().for_each(|expr| drop(right.place(expr)));
        let values: Vec<Column> = first.outputs.into_iter().map(|expr| right.place(expr)).collect();
        let mut outer = Columns::new(&relation, "l");
        let mut keys = vec![];
        for (l, r) in condition.keys {
            keys.push((outer.place(l), right.place(r)));
        }
        let options = |sort: &SortExpr| SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        let left_time = outer.place(time.0);
        let mut order = vec![(right.place(time.1), options(&first.order[0]))];
        for sort in &first.order[1..] {
            order.push((right.place(sort.expr.clone()), options(sort)));
        }

        let base = match conjunction(condition.own) {
            None => first.base,
            Some(own) => LogicalPlan::Filter(Filter::try_new(own, Arc::new(first.base))?),
        };
        let right = LogicalPlan::Projection(Projection::try_new(right.exprs(), Arc::new(base))?);
        let left_columns: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
        let wide = match outer.exprs() {
            computed if computed.is_empty() => left.clone(),
            computed => {
                let all = left_columns.iter().cloned().chain(computed).collect();
                LogicalPlan::Projection(Projection::try_new(all, join.left.clone())?)
            }
        };
        let is_ordered = |plan: &LogicalPlan| {
            let fields = plan.schema().fields().iter().map(|field| SortField::new(field.data_type().clone()));
            RowConverter::supports_fields(&fields.collect::<Vec<_>>())
        };
        if !is_ordered(&wide) || !is_ordered(&right) {
            return Ok(None);
        }
        let keeps_unmatched = join.join_type == JoinType::Left;
        let node =
            AsofNode::try_new(wide, right, AsofCondition { keys, left_time, order, is_strict, keeps_unmatched })?;
        let joined = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        let shown = values.into_iter().zip(names);
        let shown = shown.map(|(value, name)| Expr::Column(value).alias_qualified(name.relation.clone(), &name.name));
        let exprs = left_columns.into_iter().chain(shown).collect();
        Ok(Some(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(joined))?)))
    }
}

/// A subquery that takes one row. All expressions are over `base`.
struct First {
    outputs: Vec<Expr>,
    /// The columns of what is sorted.
    sorted: Vec<Expr>,
    order: Vec<SortExpr>,
    conditions: Vec<Expr>,
    base: LogicalPlan,
}

impl First {
    fn of(subquery: &LogicalPlan) -> PlanResult<Option<First>> {
        let columns = |plan: &LogicalPlan| plan.schema().columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
        let mut outputs = columns(subquery);
        let mut plan = subquery;
        let mut is_limited = false;
        let sort = loop {
            match plan {
                LogicalPlan::Limit(limit) if !is_limited => {
                    let one = matches!(limit.get_skip_type()?, SkipType::Literal(0))
                        && matches!(limit.get_fetch_type()?, FetchType::Literal(Some(1)));
                    if !one {
                        return Ok(None);
                    }
                    // A limit's columns are its input's.
                    (is_limited, plan) = (true, &limit.input);
                }
                LogicalPlan::Sort(sort) if is_limited && sort.fetch.is_none_or(|fetch| fetch > 0) => break sort,
                LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => plan = below(plan, &mut outputs)?,
                _ => return Ok(None),
            }
        };
        plan = &sort.input;
        // All of them go down together.
        let mut exprs = outputs;
        let output_count = exprs.len();
        exprs.extend(columns(plan));
        let sorted_count = exprs.len() - output_count;
        exprs.extend(sort.expr.iter().map(|sort| sort.expr.clone()));
        let order_count = sort.expr.len();
        loop {
            match plan {
                LogicalPlan::Filter(filter) => {
                    exprs.extend(split_conjunction_owned(filter.predicate.clone()));
                    plan = &filter.input;
                }
                LogicalPlan::Projection(_) | LogicalPlan::SubqueryAlias(_) => plan = below(plan, &mut exprs)?,
                _ => break,
            }
        }
        let conditions = exprs.split_off(output_count + sorted_count + order_count);
        if exprs.iter().map(names_outer).collect::<PlanResult<Vec<_>>>()?.contains(&true) || holds_outer(plan)? {
            return Ok(None);
        }
        let order = exprs.split_off(output_count + sorted_count).into_iter().zip(&sort.expr);
        let order = order.map(|(expr, sort)| SortExpr { expr, ..sort.clone() }).collect();
        let sorted = exprs.split_off(output_count);
        Ok(Some(First { outputs: exprs, sorted, order, conditions, base: plan.clone() }))
    }
}

/// The input of a projection or an alias, the expressions made to be over it.
fn below<'a>(plan: &'a LogicalPlan, exprs: &mut [Expr]) -> PlanResult<&'a LogicalPlan> {
    let input = plan.inputs()[0];
    let behind: Vec<Expr> = match plan {
        LogicalPlan::Projection(projection) => projection.expr.iter().map(|expr| expr.clone().unalias()).collect(),
        _ => input.schema().columns().into_iter().map(Expr::Column).collect(),
    };
    for expr in exprs {
        let replaced = std::mem::take(expr).transform_up(|expr| match &expr {
            Expr::Column(column) => Ok(Transformed::yes(behind[plan.schema().index_of_column(column)?].clone())),
            _ => Ok(Transformed::no(expr)),
        })?;
        *expr = replaced.data;
    }
    Ok(input)
}

/// A subquery's condition: what names the outer row, and the rest.
struct Condition {
    /// Of the outer row, of the subquery's.
    keys: Vec<(Expr, Expr)>,
    /// The times, whether the subquery's lies before, and whether it must differ.
    time: Option<((Expr, Expr), bool, bool)>,
    own: Vec<Expr>,
}

impl Condition {
    fn of(conditions: Vec<Expr>, outer: &DFSchema, own: &DFSchema) -> PlanResult<Option<Condition>> {
        let mut found = Condition { keys: vec![], time: None, own: vec![] };
        for condition in conditions {
            if !names_outer(&condition)? {
                found.own.push(condition);
                continue;
            }
            let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return Ok(None) };
            let (l, r, op) = match (over_outer(&left, outer)?, over_outer(&right, outer)?) {
                (Some(l), None) => (l, *right, op),
                (None, Some(r)) => match op.swap() {
                    Some(op) => (r, *left, op),
                    None => return Ok(None),
                },
                _ => return Ok(None),
            };
            if names_outer(&r)? || r.column_refs().is_empty() || l.get_type(outer)? != r.get_type(own)? {
                return Ok(None);
            }
            let (is_back, is_strict) = match op {
                Operator::Eq => {
                    found.keys.push((l, r));
                    continue;
                }
                Operator::GtEq => (true, false),
                Operator::Gt => (true, true),
                Operator::LtEq => (false, false),
                Operator::Lt => (false, true),
                _ => return Ok(None),
            };
            if found.time.replace(((l, r), is_back, is_strict)).is_some() {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }
}

/// An expression of outer columns alone, as one of columns; `None` if it has others, or none.
fn over_outer(expr: &Expr, outer: &DFSchema) -> PlanResult<Option<Expr>> {
    if !names_outer(expr)? || !expr.column_refs().is_empty() {
        return Ok(None);
    }
    let mut is_known = true;
    let replaced = expr.clone().transform_up(|expr| {
        let Expr::OuterReferenceColumn(field, column) = &expr else { return Ok(Transformed::no(expr)) };
        let Ok(index) = outer.index_of_column(column) else {
            is_known = false;
            return Ok(Transformed::no(expr));
        };
        let value = Expr::Column(column.clone());
        // The type may have been settled after the subquery was planned.
        Ok(Transformed::yes(match outer.field(index).data_type() == field.data_type() {
            true => value,
            false => Expr::Cast(Cast::new(Box::new(value), field.data_type().clone())),
        }))
    })?;
    Ok(is_known.then_some(replaced.data))
}

/// `wide` is the integer `narrow` in more bits.
fn is_widened(wide: &Expr, narrow: &Expr, schema: &DFSchema) -> bool {
    let Expr::Cast(cast) = wide else { return false };
    let is_integer = |data_type: &DataType| matches!(data_type, DataType::Int16 | DataType::Int32 | DataType::Int64);
    let width = |expr: &Expr| expr.get_type(schema).ok().filter(is_integer).and_then(|t| t.primitive_width());
    cast.expr.as_ref() == narrow && width(wide).zip(width(narrow)).is_some_and(|(wide, narrow)| wide >= narrow)
}

fn names_outer(expr: &Expr) -> PlanResult<bool> {
    expr.exists(|expr| Ok(matches!(expr, Expr::OuterReferenceColumn(..))))
}

fn holds_outer(plan: &LogicalPlan) -> PlanResult<bool> {
    plan.exists(|node| {
        let mut found = false;
        node.apply_expressions(|expr| {
            found |= names_outer(expr)?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(found)
    })
}

/// Expressions as columns of a projection to come; plain columns of the outer side are theirs already.
struct Columns<'a> {
    relation: &'a TableReference,
    prefix: &'static str,
    exprs: Vec<Expr>,
}

impl<'a> Columns<'a> {
    fn new(relation: &'a TableReference, prefix: &'static str) -> Columns<'a> {
        Columns { relation, prefix, exprs: vec![] }
    }

    fn place(&mut self, expr: Expr) -> Column {
        if let (Expr::Column(column), "l") = (&expr, self.prefix) {
            return column.clone();
        }
        let at = self.exprs.iter().position(|known| *known == expr).unwrap_or_else(|| {
            self.exprs.push(expr);
            self.exprs.len() - 1
        });
        Column::new(Some(self.relation.clone()), format!("{}{at}", self.prefix))
    }

    fn exprs(self) -> Vec<Expr> {
        let named = self.exprs.into_iter().enumerate();
        named
            .map(|(at, expr)| expr.alias_qualified(Some(self.relation.clone()), format!("{}{at}", self.prefix)))
            .collect()
    }
}
