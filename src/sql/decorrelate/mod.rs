//! Subqueries to joins: every `EXISTS`, `IN`, `ANY`, scalar subquery and LATERAL becomes a join of the query with the
//! subquery, after Neumann and Kemper, *Unnesting Arbitrary Queries*, BTW 2015.
//!
//! | subquery | join | value |
//! |---|---|---|
//! | `WHERE EXISTS (…)`, `WHERE x IN (…)` | semi | – |
//! | `WHERE NOT EXISTS (…)` | anti | – |
//! | `WHERE x NOT IN (…)` | anti on x = y; anti on a NULL y; anti of a NULL x on any row | – |
//! | `EXISTS`, `IN`, `ANY`, `ALL` elsewhere | mark, the latter three with another for NULL | the marks |
//! | `(SELECT x …)` | left | the column, or what the subquery yields over nothing |
//! | `LATERAL (…)` | inner, left | – |
//!
//! A subquery that names columns of the query around it is *dependent*: [`dependent`] makes it a plain query that also
//! yields, for each of its rows, the values of those columns that it belongs to; the join then equates them.
//!
//! For views this runs after types are settled and before the optimiser, which turns filters over cross joins into joins.
//! In ad-hoc queries it is the optimiser's first rule ([`DecorrelateSubqueries`]), for what DataFusion's own rules cannot do.

mod asof;
mod dependent;

use std::cell::Cell;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinConstraint, JoinType, NullEquality, Result as PlanResult, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Filter, Join, LogicalPlan, LogicalPlanBuilder, Operator, Projection, Subquery, binary_expr,
    lit, not, when,
};

use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::error::{Error, SqlState};

/// The plan of a view without any subquery expression. 0A000 for one that cannot be made a join.
pub(super) fn decorrelate(plan: LogicalPlan, functions: &dyn FunctionRegistry) -> PlanResult<LogicalPlan> {
    Decorrelator::new(functions, true).node(plan)
}

/// [`decorrelate`] for ad-hoc queries that need it.
#[derive(Debug, Default)]
pub(super) struct DecorrelateSubqueries;

impl OptimizerRule for DecorrelateSubqueries {
    fn name(&self) -> &str {
        "decorrelate_subqueries"
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> PlanResult<Transformed<LogicalPlan>> {
        match config.function_registry() {
            Some(functions) if needs_joins(&plan)? => {
                Ok(Transformed::yes(Decorrelator::new(functions, false).node(plan)?))
            }
            _ => Ok(Transformed::no(plan)),
        }
    }
}

/// True if a subquery depends on the query around it, or stands where DataFusion runs none: it takes scalar ones
/// anywhere, and IN and EXISTS as a whole condition.
fn needs_joins(plan: &LogicalPlan) -> PlanResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::Subquery(_));
        let whole = match node {
            LogicalPlan::Filter(filter) => split_conjunction(&filter.predicate),
            _ => vec![],
        };
        node.apply_expressions(|root| {
            root.apply(|expr| {
                let is_whole = || whole.iter().any(|condition| std::ptr::eq(*condition, expr));
                found |= match expr {
                    Expr::ScalarSubquery(subquery) => !subquery.outer_ref_columns.is_empty(),
                    Expr::Exists(Exists { subquery, .. }) | Expr::InSubquery(InSubquery { subquery, .. }) => {
                        !subquery.outer_ref_columns.is_empty() || !is_whole()
                    }
                    Expr::SetComparison(_) => true,
                    _ => false,
                };
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

struct Decorrelator<'a> {
    functions: &'a dyn FunctionRegistry,
    /// Subqueries so far: their columns are qualified with `__s1`, `__s2` …
    count: Cell<usize>,
    /// How many subqueries the plan at hand is inside of.
    depth: Cell<usize>,
    /// There is an operator for [`crate::sql::asof`].
    is_maintained: bool,
}

/// A subquery joined to the query around it.
struct Joined {
    plan: LogicalPlan,
    /// The subquery's columns, as the joined plan can name them. Semi, anti, mark: none.
    values: Vec<Expr>,
    /// Mark joins: whether there is a match.
    mark: Option<Expr>,
}

impl Decorrelator<'_> {
    fn new(functions: &dyn FunctionRegistry, is_maintained: bool) -> Decorrelator<'_> {
        Decorrelator { functions, count: Cell::new(0), depth: Cell::new(0), is_maintained }
    }

    fn fresh(&self) -> String {
        self.count.set(self.count.get() + 1);
        format!("__s{}", self.count.get())
    }

    fn node(&self, plan: LogicalPlan) -> PlanResult<LogicalPlan> {
        let is_subquery = matches!(plan, LogicalPlan::Subquery(_));
        self.depth.set(self.depth.get() + usize::from(is_subquery));
        let plan = plan.map_children(|child| Ok(Transformed::yes(self.node(child)?)))?.data;
        self.depth.set(self.depth.get() - usize::from(is_subquery));
        match plan {
            LogicalPlan::Filter(filter) if has_subquery(&filter.predicate)? => self.filter(filter),
            LogicalPlan::Join(join) => self.join(join),
            plan if holds_subquery(&plan)? => self.expressions(plan),
            plan => Ok(plan),
        }
    }

    /// Conditions one by one: plain ones first, for they make the joins smaller.
    fn filter(&self, filter: Filter) -> PlanResult<LogicalPlan> {
        let columns = filter.input.schema().columns();
        let mut plan = Arc::unwrap_or_clone(filter.input);
        let (mut plain, mut others) = (vec![], vec![]);
        for condition in split_conjunction_owned(filter.predicate) {
            if has_subquery(&condition)? { others.push(condition) } else { plain.push(condition) }
        }
        if let Some(condition) = conjunction(plain) {
            plan = LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?);
        }
        for condition in others {
            plan = self.condition(plan, condition)?;
        }
        only(plan, columns)
    }

    /// Keeps the rows of `plan` for which the condition is true.
    fn condition(&self, plan: LogicalPlan, condition: Expr) -> PlanResult<LogicalPlan> {
        match condition {
            Expr::Not(inner) => match *inner {
                Expr::Exists(Exists { subquery, negated }) => {
                    self.condition(plan, Expr::Exists(Exists { subquery, negated: !negated }))
                }
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    self.condition(plan, Expr::InSubquery(InSubquery { expr, subquery, negated: !negated }))
                }
                inner => self.computed_condition(plan, not(inner)),
            },
            Expr::Exists(Exists { subquery, negated }) => {
                let join_type = if negated { JoinType::LeftAnti } else { JoinType::LeftSemi };
                let inner = self.inner(&subquery)?;
                match self.depend_by_filter(&plan, &inner, join_type)? {
                    Some(joined) => Ok(joined),
                    None => Ok(self.depend(plan, inner, join_type, |_| Ok(None))?.plan),
                }
            }
            Expr::InSubquery(InSubquery { expr, subquery, negated }) if !has_subquery(&expr)? => {
                let inner = self.inner(&subquery)?;
                if !negated {
                    let equal = |columns: &[Expr]| Ok(Some(expr.as_ref().clone().eq(columns[0].clone())));
                    return Ok(self.depend(plan, inner, JoinType::LeftSemi, equal)?.plan);
                }
                self.not_in(plan, &expr, inner)
            }
            other => self.computed_condition(plan, other),
        }
    }

    fn computed_condition(&self, mut plan: LogicalPlan, condition: Expr) -> PlanResult<LogicalPlan> {
        let condition = self.replace(condition, &mut plan)?;
        Ok(LogicalPlan::Filter(Filter::try_new(condition, Arc::new(plan))?))
    }

    /// `x NOT IN (SELECT y …)` is true if no y equals x, no y is NULL, and x is not NULL unless there is no y at all.
    fn not_in(&self, plan: LogicalPlan, expr: &Expr, inner: LogicalPlan) -> PlanResult<LogicalPlan> {
        let equal = |columns: &[Expr]| Ok(Some(expr.clone().eq(columns[0].clone())));
        let mut plan = self.depend(plan, inner.clone(), JoinType::LeftAnti, equal)?.plan;
        if let Some(nulls) = self.null_rows(&inner)? {
            plan = self.depend(plan, nulls, JoinType::LeftAnti, |_| Ok(None))?.plan;
        }
        if expr.nullable(plan.schema())? {
            let (any, condition) = (any_row(inner)?, null_meets_any(expr)?);
            plan = self.depend(plan, any, JoinType::LeftAnti, |columns| Ok(Some(condition(columns))))?.plan;
        }
        Ok(plan)
    }

    /// The rows of a one-column query that are NULL; `None` if there can be none.
    fn null_rows(&self, inner: &LogicalPlan) -> PlanResult<Option<LogicalPlan>> {
        let (qualifier, field) = inner.schema().qualified_field(0);
        if !field.is_nullable() {
            return Ok(None);
        }
        let is_null = Expr::Column(Column::from((qualifier, field))).is_null();
        Ok(Some(LogicalPlan::Filter(Filter::try_new(is_null, Arc::new(inner.clone()))?)))
    }

    /// Any other operator: the subqueries of its expressions become columns of its input.
    fn expressions(&self, plan: LogicalPlan) -> PlanResult<LogicalPlan> {
        let inputs = plan.inputs();
        let [input] = inputs.as_slice() else {
            return Err(unsupported("a subquery in this place", "write it as a subquery in FROM and join with it"));
        };
        let (mut input, columns) = ((*input).clone(), plan.schema().columns());
        let names = NamePreserver::new_for_projection();
        let mut exprs = vec![];
        for expr in plan.expressions() {
            let saved = names.save(&expr);
            let replaced = self.replace(expr.clone(), &mut input)?;
            exprs.push(if replaced == expr { expr } else { saved.restore(replaced) });
        }
        let passes_columns = matches!(plan, LogicalPlan::Sort(_) | LogicalPlan::Limit(_) | LogicalPlan::Window(_));
        if matches!(plan, LogicalPlan::Sort(_)) {
            exprs.iter_mut().for_each(|expr| *expr = expr.clone().unalias());
        }
        let plan = plan.with_new_exprs(exprs, vec![input])?.recompute_schema()?;
        if passes_columns { only(plan, columns) } else { Ok(plan) }
    }

    /// The expression with a column or a formula of marks in place of each subquery, which is joined to `plan`.
    fn replace(&self, expr: Expr, plan: &mut LogicalPlan) -> PlanResult<Expr> {
        let replaced = expr.transform_up(|expr| {
            let value = match expr {
                Expr::ScalarSubquery(subquery) => self.scalar(&subquery, plan)?,
                Expr::Exists(Exists { subquery, negated }) => {
                    let mark = self.mark(plan, self.inner(&subquery)?, |_| Ok(None))?;
                    if negated { not(mark) } else { mark }
                }
                Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                    let found = self.marks_in(plan, &expr, self.inner(&subquery)?)?;
                    if negated { not(found) } else { found }
                }
                Expr::SetComparison(comparison) => self.marks_of_comparison(plan, comparison)?,
                other => return Ok(Transformed::no(other)),
            };
            Ok(Transformed::yes(value))
        })?;
        Ok(replaced.data)
    }

    /// The value of `(SELECT x …)`: NULL without a row; with several, `hw_one` fails for the outer row.
    fn scalar(&self, subquery: &Subquery, plan: &mut LogicalPlan) -> PlanResult<Expr> {
        let inner = self.inner(subquery)?;
        let single = has_one_row(&inner);
        let inner = if single { inner } else { self.single_value(inner)? };
        let joined = self.depend(std::mem::take(plan), inner, JoinType::Left, |_| Ok(None))?;
        *plan = joined.plan;
        let value = joined.values.into_iter().next().expect("a scalar subquery has one column");
        if single {
            return Ok(value);
        }
        Ok(self.functions.udf("hw_one")?.call(vec![value]))
    }

    /// The one value of a query together with how many there are, as one row.
    fn single_value(&self, inner: LogicalPlan) -> PlanResult<LogicalPlan> {
        let function = self.functions.udaf("hw_single_value")?;
        let column = Expr::Column(Column::from(inner.schema().qualified_field(0)));
        let value = function.call(vec![column]).alias("value");
        LogicalPlanBuilder::from(inner).aggregate(Vec::<Expr>::new(), vec![value])?.build()
    }

    fn mark(
        &self,
        plan: &mut LogicalPlan,
        inner: LogicalPlan,
        condition: impl FnOnce(&[Expr]) -> PlanResult<Option<Expr>>,
    ) -> PlanResult<Expr> {
        let joined = self.depend(std::mem::take(plan), inner, JoinType::LeftMark, condition)?;
        *plan = joined.plan;
        Ok(joined.mark.expect("a mark join has a mark"))
    }

    /// `x IN (SELECT y …)` as a value: true, or NULL where a NULL makes it unknown, or false.
    fn marks_in(&self, plan: &mut LogicalPlan, expr: &Expr, inner: LogicalPlan) -> PlanResult<Expr> {
        let is_nullable = expr.nullable(plan.schema())?;
        let found = self.mark(plan, inner.clone(), |columns| Ok(Some(expr.clone().eq(columns[0].clone()))))?;
        let mut unknown = vec![];
        if let Some(nulls) = self.null_rows(&inner)? {
            unknown.push(self.mark(plan, nulls, |_| Ok(None))?);
        }
        if is_nullable {
            let (any, condition) = (any_row(inner)?, null_meets_any(expr)?);
            unknown.push(self.mark(plan, any, |columns| Ok(Some(condition(columns))))?);
        }
        match unknown.into_iter().reduce(Expr::or) {
            None => Ok(found),
            Some(unknown) => three_valued(found, unknown),
        }
    }

    /// `x op ANY (SELECT y …)`; ALL is "not ANY of the opposite".
    fn marks_of_comparison(&self, plan: &mut LogicalPlan, comparison: SetComparison) -> PlanResult<Expr> {
        let SetComparison { expr, subquery, op, quantifier } = comparison;
        let inner = self.inner(&subquery)?;
        let (op, is_all) = match quantifier {
            SetQuantifier::Any => (op, false),
            SetQuantifier::All => match op.negate() {
                Some(op) => (op, true),
                None => return Err(unsupported("this operator with ALL (SELECT …)", "write it with NOT … ANY")),
            },
        };
        if op == Operator::Eq {
            let found = self.marks_in(plan, &expr, inner)?;
            return Ok(if is_all { not(found) } else { found });
        }
        let compare = |columns: &[Expr]| binary_expr(expr.as_ref().clone(), op, columns[0].clone());
        let found = self.mark(plan, inner.clone(), |columns| Ok(Some(compare(columns))))?;
        let unknown = self.mark(plan, inner, |columns| Ok(Some(compare(columns).is_null())))?;
        let found = three_valued(found, unknown)?;
        Ok(if is_all { not(found) } else { found })
    }

    /// LATERAL, and subqueries in a join's condition.
    fn join(&self, join: Join) -> PlanResult<LogicalPlan> {
        if let Some(subquery) = lateral(&join.right) {
            return self.lateral(&join, subquery);
        }
        // The planner does not see a LATERAL that names the left side in its own subqueries alone. Only outside of all
        // subqueries is it sure that they name nothing else.
        if self.depth.get() == 0 && names_outer(&join.right, join.left.schema())? {
            return self.lateral(&join, &join.right);
        }
        let in_condition = join.filter.as_ref().map(has_subquery).transpose()?.unwrap_or(false);
        if !in_condition {
            return Ok(LogicalPlan::Join(join));
        }
        if join.join_type != JoinType::Inner {
            return Err(unsupported(
                "a subquery in the condition of an outer join",
                "put it into a subquery in FROM that computes it for each row, and join with that",
            ));
        }
        let condition = join.filter.clone().unwrap_or_else(|| lit(true));
        let pairs = LogicalPlan::Join(Join { filter: None, ..join });
        self.filter(Filter::try_new(condition, Arc::new(pairs))?)
    }

    fn lateral(&self, join: &Join, subquery: &LogicalPlan) -> PlanResult<LogicalPlan> {
        if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
            return Err(unsupported("LATERAL on this kind of join", "only inner and left joins take LATERAL"));
        }
        let left = join.left.as_ref().clone();
        let columns = join.schema.columns();
        let mut condition: Vec<Expr> = join.on.iter().map(|(l, r)| l.clone().eq(r.clone())).collect();
        condition.extend(join.filter.clone());
        let condition = conjunction(condition).filter(|condition| *condition != lit(true));
        // What the subquery's columns are called outside.
        let names: Vec<Column> = columns[left.schema().fields().len()..].to_vec();
        let respelled = |condition: &Expr, values: &[Expr]| {
            condition
                .clone()
                .transform_up(|expr| match &expr {
                    Expr::Column(column) => match names.iter().position(|name| name == column) {
                        Some(at) => Ok(Transformed::yes(values[at].clone())),
                        None => Ok(Transformed::no(expr)),
                    },
                    _ => Ok(Transformed::no(expr)),
                })
                .map(|respelled| respelled.data)
        };
        let is_left = join.join_type == JoinType::Left;
        if self.is_maintained
            && !(is_left && condition.is_some())
            && let Some(plan) = self.asof(join, subquery, &names)?
        {
            return match condition {
                Some(condition) => self.filter(Filter::try_new(condition, Arc::new(plan))?),
                None => Ok(plan),
            };
        }
        let on = condition.clone().filter(|_| is_left);
        let joined = self.depend(left.clone(), subquery.clone(), join.join_type, |values| {
            on.as_ref().map(|condition| respelled(condition, values)).transpose()
        })?;
        let mut exprs: Vec<Expr> = left.schema().columns().into_iter().map(Expr::Column).collect();
        for (value, name) in joined.values.iter().zip(&names) {
            exprs.push(value.clone().alias_qualified(name.relation.clone(), &name.name));
        }
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(joined.plan))?);
        match condition.filter(|_| !is_left) {
            Some(condition) => self.filter(Filter::try_new(condition, Arc::new(plan))?),
            None => Ok(plan),
        }
    }

    /// A subquery's own plan, its subqueries made joins.
    fn inner(&self, subquery: &Subquery) -> PlanResult<LogicalPlan> {
        self.depth.set(self.depth.get() + 1);
        let plan = self.node(subquery.subquery.as_ref().clone());
        self.depth.set(self.depth.get() - 1);
        plan
    }
}

fn plain_join(
    left: LogicalPlan,
    right: LogicalPlan,
    join_type: JoinType,
    condition: Option<Expr>,
) -> PlanResult<LogicalPlan> {
    Ok(LogicalPlan::Join(Join::try_new(
        Arc::new(left),
        Arc::new(right),
        vec![],
        condition,
        join_type,
        JoinConstraint::On,
        NullEquality::NullEqualsNothing,
        false,
    )?))
}

/// True if the plan, whose own subqueries are joins by now, names columns of `schema` as those of a query around it.
fn names_outer(plan: &LogicalPlan, schema: &DFSchema) -> PlanResult<bool> {
    let is_outer =
        |expr: &Expr| matches!(expr, Expr::OuterReferenceColumn(_, column) if schema.index_of_column(column).is_ok());
    plan.exists(|node| {
        let mut found = false;
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| Ok(is_outer(expr)))?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(found)
    })
}

/// The subquery under a LATERAL.
fn lateral(right: &LogicalPlan) -> Option<&LogicalPlan> {
    match right {
        LogicalPlan::Subquery(subquery) => Some(&subquery.subquery),
        LogicalPlan::SubqueryAlias(alias) => match alias.input.as_ref() {
            LogicalPlan::Subquery(subquery) => Some(&subquery.subquery),
            _ => None,
        },
        _ => None,
    }
}

/// One row of a constant for each row of the query: only whether there is any matters.
fn any_row(inner: LogicalPlan) -> PlanResult<LogicalPlan> {
    Ok(LogicalPlan::Projection(Projection::try_new(vec![lit(true).alias("any")], Arc::new(inner))?))
}

/// "x is NULL" as an equality with a column that is true: an x that is not NULL has a NULL key, which meets nothing and
/// costs no state.
fn null_meets_any(expr: &Expr) -> PlanResult<impl Fn(&[Expr]) -> Expr> {
    let key = when(expr.clone().is_null(), lit(true)).otherwise(lit(ScalarValue::Boolean(None)))?;
    Ok(move |columns: &[Expr]| key.clone().eq(columns[0].clone()))
}

fn three_valued(found: Expr, unknown: Expr) -> PlanResult<Expr> {
    when(found, lit(true)).when(unknown, lit(ScalarValue::Boolean(None))).otherwise(lit(false))
}

/// A projection to these columns, if the plan has others.
fn only(plan: LogicalPlan, columns: Vec<Column>) -> PlanResult<LogicalPlan> {
    if plan.schema().columns() == columns {
        return Ok(plan);
    }
    let exprs = columns.into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
}

/// True if the query has one row at most, by its form.
fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Projection(projection) => has_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => has_one_row(&alias.input),
        LogicalPlan::Filter(filter) => has_one_row(&filter.input),
        LogicalPlan::Sort(sort) => sort.fetch == Some(1) || has_one_row(&sort.input),
        LogicalPlan::Limit(limit) => {
            let one = matches!(limit.fetch.as_deref(), Some(Expr::Literal(ScalarValue::Int64(Some(0 | 1)), _)));
            one || has_one_row(&limit.input)
        }
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Values(values) => values.values.len() <= 1,
        _ => false,
    }
}

fn has_subquery(expr: &Expr) -> PlanResult<bool> {
    expr.exists(|expr| {
        Ok(matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_)))
    })
}

fn holds_subquery(plan: &LogicalPlan) -> PlanResult<bool> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found |= has_subquery(expr)?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn unsupported(what: &str, hint: &str) -> datafusion::error::DataFusionError {
    Error::new(SqlState::FEATURE_NOT_SUPPORTED, format!("{what} is not supported")).with_hint(hint).into()
}
