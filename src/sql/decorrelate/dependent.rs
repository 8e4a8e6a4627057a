//! Dependent joins: L ⋈ S(l), where the subquery S names columns l of L.
//!
//! With D, the distinct values of those columns in L, L ⋈ S(l) = L ⋈_{l = d} (D ⋈ S(d)), and the join with D is pushed down
//! through S until nothing below names l:
//!
//! ```text
//! D ⋈ σ(S) = σ(D ⋈ S)                 D ⋈ γ_k(S) = γ_{d,k}(D ⋈ S), padded with D ⟕ for k = ()
//! D ⋈ (S ⋈ T) = (D ⋈ S) ⋈_d (D ⋈ T)    D ⋈ top_n(S) = top_n by d (D ⋈ S)
//! ```
//! Where S filters by equalities `x = l` for every l, the x themselves serve as d and D is not needed at all: what belongs
//! to no row of L finds no partner. An aggregate without keys has a row even over nothing; that row's constants are
//! carried upwards as the *default* and filled in by the last join, so that D need not be joined for it either.

mod push;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, RecordBatch, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, JoinType, Result as PlanResult, ScalarValue, TableReference};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Between, BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Projection,
    binary_expr, lit, when,
};
use datafusion::physical_expr::create_physical_expr;

use super::{Decorrelator, Joined, plain_join};

impl Decorrelator<'_> {
    /// Joins the subquery `inner` to `left`. `condition` is given the subquery's columns, in order.
    pub(super) fn depend(
        &self,
        left: LogicalPlan,
        inner: LogicalPlan,
        join_type: JoinType,
        condition: impl FnOnce(&[Expr]) -> PlanResult<Option<Expr>>,
    ) -> PlanResult<Joined> {
        let relation = TableReference::bare(self.fresh());
        let own = |name: &str| Expr::Column(Column::new(Some(relation.clone()), name));
        let columns = inner.schema().columns();
        let named = |index: usize| format!("c{index}");
        let values: Vec<Expr> = (0..columns.len()).map(|index| own(&named(index))).collect();
        let condition = condition(&values)?;

        let correlation = Correlation::new(self, &left, outer_columns(&inner, left.schema())?);
        let mut pushed = if correlation.columns.is_empty() {
            Pushed { plan: inner, may_be_null: false, default: None }
        } else {
            correlation.push(inner)?
        };
        // The default row can be filled in after the join, if that shows the subquery's columns of every row of L.
        let shows_values = matches!(join_type, JoinType::Left | JoinType::Inner);
        if !shows_values || condition.is_some() {
            pushed = correlation.with_default(pushed)?;
        }

        // The subquery under a name of its own, with a column that tells whether there was a row.
        let mut exprs: Vec<Expr> = vec![];
        for (index, column) in columns.iter().enumerate() {
            exprs.push(Expr::Column(column.clone()).alias_qualified(Some(relation.clone()), named(index)));
        }
        for name in correlation.names() {
            exprs.push(Expr::Column(Column::new_unqualified(&name)).alias_qualified(Some(relation.clone()), name));
        }
        if pushed.default.is_some() {
            exprs.push(lit(true).alias_qualified(Some(relation.clone()), PRESENT));
        }
        let right = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(pushed.plan))?);
        let mut conditions = vec![];
        for (column, name) in correlation.columns.iter().zip(correlation.names()) {
            let is_nullable = left.schema().field_from_column(column)?.is_nullable();
            let op = if pushed.may_be_null && is_nullable { Operator::IsNotDistinctFrom } else { Operator::Eq };
            conditions.push(binary_expr(correlation.outer_value(column), op, own(&name)));
        }
        conditions.extend(condition);
        // Each row of L has its row of S, if only the default.
        let join_type = if pushed.default.is_some() { JoinType::Left } else { join_type };
        let plan = plain_join(left, right, join_type, conjunction(conditions))?;
        let values = match &pushed.default {
            _ if !shows_values => vec![],
            None => values,
            Some(defaults) => {
                let filled = values.into_iter().zip(defaults).map(|(value, default)| {
                    if default.is_null() {
                        return Ok(value);
                    }
                    when(own(PRESENT).is_null(), lit(default.clone())).otherwise(value)
                });
                filled.collect::<PlanResult<Vec<_>>>()?
            }
        };
        let mark = (join_type == JoinType::LeftMark).then(|| own("mark"));
        Ok(Joined { plan, values, mark })
    }
}

impl Decorrelator<'_> {
    /// `EXISTS (SELECT … FROM S WHERE p)`, where p alone names columns of L and not all by equalities: L ⋉_p S needs no D.
    /// `None` for other subqueries; and where p tells of no place to look for partners (an equality, or bounds from both
    /// sides), for then the values of D, each once, are fewer to compare with all of S than the rows of L.
    pub(super) fn depend_by_filter(
        &self,
        left: &LogicalPlan,
        inner: &LogicalPlan,
        join_type: JoinType,
    ) -> PlanResult<Option<LogicalPlan>> {
        // What is selected does not matter, but must not be a subquery's row by itself.
        let mut plan = inner;
        while let LogicalPlan::Projection(projection) = plan {
            plan = &projection.input;
        }
        let LogicalPlan::Filter(filter) = plan else { return Ok(None) };
        let correlation = Correlation::new(self, left, outer_columns(inner, left.schema())?);
        let has_subquery = super::has_subquery(&filter.predicate)?;
        if has_subquery || correlation.columns.is_empty() || correlation.depends(&filter.input)? {
            return Ok(None);
        }
        let mut bound_count = 0;
        for condition in split_conjunction_owned(filter.predicate.clone()) {
            if correlation.names_outer(&condition)? {
                bound_count += bounds(&condition);
            }
        }
        if bound_count < 2 || correlation.equated(filter)?.is_some() {
            return Ok(None);
        }
        let relation = TableReference::bare(self.fresh());
        let named = |index: usize| Column::new(Some(relation.clone()), format!("c{index}"));
        let schema = filter.input.schema();
        let columns =
            schema.columns().into_iter().enumerate().map(|(index, column)| {
                Expr::Column(column).alias_qualified(Some(relation.clone()), format!("c{index}"))
            });
        let right = Projection::try_new(columns.collect(), filter.input.clone())?;
        let condition = filter.predicate.clone().transform_up(|expr| {
            if let Some(index) = correlation.is_outer(&expr) {
                return Ok(Transformed::yes(correlation.outer_value(&correlation.columns[index])));
            }
            match &expr {
                Expr::Column(column) => Ok(Transformed::yes(Expr::Column(named(schema.index_of_column(column)?)))),
                _ => Ok(Transformed::no(expr)),
            }
        })?;
        let conditions = Some(condition.data);
        Ok(Some(plain_join(left.clone(), LogicalPlan::Projection(right), join_type, conditions)?))
    }
}

/// How many bounds a condition is: an equality is one from below and one from above.
fn bounds(condition: &Expr) -> usize {
    match condition {
        Expr::BinaryExpr(BinaryExpr { op: Operator::Eq, .. }) | Expr::Between(Between { negated: false, .. }) => 2,
        Expr::BinaryExpr(BinaryExpr { op: Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq, .. }) => 1,
        _ => 0,
    }
}

/// The column that is true for rows of the subquery and NULL where there was none.
const PRESENT: &str = "present";

/// The columns of `schema` that the subquery names, each once, and of which type it takes them to be: types may have been
/// settled after the subquery was planned.
fn outer_columns(inner: &LogicalPlan, schema: &DFSchema) -> PlanResult<Vec<(Column, DataType)>> {
    let mut columns: Vec<(Column, DataType)> = vec![];
    each_expression(inner, &mut |expr| {
        if let Expr::OuterReferenceColumn(field, column) = expr
            && schema.index_of_column(column).is_ok()
            && !columns.iter().any(|(known, _)| known == column)
        {
            columns.push((column.clone(), field.data_type().clone()));
        }
    })?;
    Ok(columns)
}

fn each_expression(plan: &LogicalPlan, visit: &mut impl FnMut(&Expr)) -> PlanResult<()> {
    plan.apply(|node| {
        node.apply_expressions(|root| {
            root.apply(|expr| {
                visit(expr);
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

/// The columns of L that a subquery depends on, and where their values come from.
struct Correlation {
    columns: Vec<Column>,
    /// Their types in L are others than the subquery's: which ones it needs.
    casts: HashMap<Column, DataType>,
    /// Qualifies D's columns: `d0`, `d1` … of this subquery.
    prefix: String,
    domain: LogicalPlan,
    domain_may_be_null: bool,
}

/// A subquery that yields, beside its columns, the values of the outer columns that each row belongs to.
struct Pushed {
    plan: LogicalPlan,
    /// Some of those values may be NULL.
    may_be_null: bool,
    /// The one row of the subquery for values that do not appear.
    default: Option<Vec<ScalarValue>>,
}

impl Correlation {
    fn new(decorrelator: &Decorrelator, left: &LogicalPlan, columns: Vec<(Column, DataType)>) -> Correlation {
        let differs = |(column, data_type): &&(Column, DataType)| {
            left.schema().field_from_column(column).is_ok_and(|field| field.data_type() != data_type)
        };
        let casts = columns.iter().filter(differs).cloned().collect();
        let columns: Vec<Column> = columns.into_iter().map(|(column, _)| column).collect();
        let prefix = format!("{}_d", decorrelator.fresh());
        let domain_may_be_null =
            columns.iter().any(|column| left.schema().field_from_column(column).is_ok_and(|field| field.is_nullable()));
        Correlation { columns, casts, prefix, domain: left.clone(), domain_may_be_null }
    }

    /// The column in L, of the type that the subquery takes it to be.
    fn outer_value(&self, column: &Column) -> Expr {
        let value = Expr::Column(column.clone());
        match self.casts.get(column) {
            Some(data_type) => Expr::Cast(Cast::new(Box::new(value), data_type.clone())),
            None => value,
        }
    }

    fn name(&self, index: usize) -> String {
        format!("{}{index}", self.prefix)
    }

    fn names(&self) -> Vec<String> {
        (0..self.columns.len()).map(|index| self.name(index)).collect()
    }

    fn own_columns(&self) -> Vec<Expr> {
        self.names().into_iter().map(|name| Expr::Column(Column::new_unqualified(name))).collect()
    }

    /// D: the distinct values of the outer columns, under these names.
    fn domain(&self, names: &[String]) -> PlanResult<LogicalPlan> {
        let named = self.columns.iter().zip(names).map(|(column, name)| self.outer_value(column).alias(name));
        LogicalPlanBuilder::from(self.domain.clone()).project(named)?.distinct()?.build()
    }

    fn is_outer(&self, expr: &Expr) -> Option<usize> {
        match expr {
            Expr::OuterReferenceColumn(_, column) => self.columns.iter().position(|own| own == column),
            _ => None,
        }
    }

    fn names_outer(&self, expr: &Expr) -> PlanResult<bool> {
        expr.exists(|expr| Ok(self.is_outer(expr).is_some()))
    }

    fn depends(&self, plan: &LogicalPlan) -> PlanResult<bool> {
        let mut found = false;
        each_expression(plan, &mut |expr| found |= self.is_outer(expr).is_some())?;
        Ok(found)
    }

    /// The expression with D's columns for the outer ones.
    fn over_domain(&self, expr: Expr) -> PlanResult<Expr> {
        let replaced = expr.transform_up(|expr| match self.is_outer(&expr) {
            Some(index) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(self.name(index))))),
            None => Ok(Transformed::no(expr)),
        })?;
        Ok(replaced.data)
    }

    /// Expressions of a node whose output columns keep their names.
    fn all_over_domain(&self, plan: &LogicalPlan, exprs: Vec<Expr>) -> PlanResult<Vec<Expr>> {
        let names = NamePreserver::new(plan);
        let replace = |expr: Expr| {
            if !self.names_outer(&expr)? {
                return Ok(expr);
            }
            let saved = names.save(&expr);
            Ok(saved.restore(self.over_domain(expr)?))
        };
        exprs.into_iter().map(replace).collect()
    }

    /// Pushed, with the default row made a row.
    fn push_whole(&self, plan: LogicalPlan) -> PlanResult<Pushed> {
        let pushed = self.push(plan)?;
        self.with_default(pushed)
    }

    fn over_all(&self, plan: LogicalPlan) -> Pushed {
        Pushed { plan, may_be_null: self.domain_may_be_null, default: None }
    }

    /// D ⟕ S: where S has no row for a value of D, the default row stands in.
    fn with_default(&self, pushed: Pushed) -> PlanResult<Pushed> {
        let Some(default) = pushed.default else { return Ok(pushed) };
        let schema = pushed.plan.schema().clone();
        let outer_names: Vec<String> = self.names().iter().map(|name| format!("{name}_all")).collect();
        let present = format!("{}_{PRESENT}", self.prefix);
        let right = LogicalPlanBuilder::from(pushed.plan)
            .project(
                schema.columns().into_iter().map(Expr::Column).chain([lit(true).alias(&present)]).collect::<Vec<_>>(),
            )?
            .build()?;
        let equal = outer_names.iter().zip(self.own_columns()).map(|(outer, own)| {
            let op = if pushed.may_be_null { Operator::IsNotDistinctFrom } else { Operator::Eq };
            binary_expr(Expr::Column(Column::new_unqualified(outer)), op, own)
        });
        let condition = conjunction(equal);
        let joined = plain_join(self.domain(&outer_names)?, right, JoinType::Left, condition)?;
        let mut defaults = default.into_iter();
        let own = self.names();
        let mut exprs = vec![];
        for (qualifier, field) in schema.iter() {
            let column = Expr::Column(Column::from((qualifier, field)));
            if let Some(index) = own.iter().position(|name| qualifier.is_none() && name == field.name()) {
                exprs.push(Expr::Column(Column::new_unqualified(&outer_names[index])).alias(field.name()));
                continue;
            }
            let default = defaults.next().unwrap_or(ScalarValue::Null);
            if default.is_null() {
                exprs.push(column);
                continue;
            }
            let missing = Expr::Column(Column::new_unqualified(&present)).is_null();
            let filled = when(missing, lit(default)).otherwise(column)?;
            exprs.push(filled.alias_qualified(qualifier.cloned(), field.name()));
        }
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(joined))?);
        Ok(self.over_all(plan))
    }

    fn filter(&self, filter: Filter) -> PlanResult<Pushed> {
        if !self.depends(&filter.input)?
            && let Some(pushed) = self.equated(&filter)?
        {
            return Ok(pushed);
        }
        let mut pushed = self.push(Arc::unwrap_or_clone(filter.input))?;
        if let Some(default) = &pushed.default {
            // Is the default row among the kept ones? If that depends on the outer row, it must be a row.
            match self.over_default(&pushed, default, std::slice::from_ref(&filter.predicate))? {
                Some(values) if values[0] == ScalarValue::Boolean(Some(true)) => {}
                Some(_) => pushed.default = None,
                None => pushed = self.with_default(pushed)?,
            }
        }
        let predicate = self.over_domain(filter.predicate)?;
        let plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(pushed.plan))?);
        Ok(Pushed { plan, ..pushed })
    }

    /// A filter that equates each outer column with an expression over its input: these expressions are D's values.
    fn equated(&self, filter: &Filter) -> PlanResult<Option<Pushed>> {
        let schema = filter.input.schema();
        let mut values: Vec<Option<Expr>> = vec![None; self.columns.len()];
        let mut rest = vec![];
        for condition in split_conjunction_owned(filter.predicate.clone()) {
            if let Some((index, value)) = self.equality(&condition, schema)?
                && values[index].is_none()
            {
                values[index] = Some(value);
            } else {
                rest.push(condition);
            }
        }
        let Some(values) = values.into_iter().collect::<Option<Vec<Expr>>>() else { return Ok(None) };
        let mut conditions = vec![];
        for condition in rest {
            let replaced = condition.transform_up(|expr| match self.is_outer(&expr) {
                Some(index) => Ok(Transformed::yes(values[index].clone())),
                None => Ok(Transformed::no(expr)),
            })?;
            conditions.push(replaced.data);
        }
        conditions.extend(values.iter().map(|value| value.clone().is_not_null()));
        let input = filter.input.as_ref().clone();
        let mut exprs: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        let filtered = match conjunction(conditions) {
            Some(condition) => LogicalPlan::Filter(Filter::try_new(condition, Arc::new(input))?),
            None => input,
        };
        exprs.extend(values.into_iter().enumerate().map(|(index, value)| value.alias(self.name(index))));
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(filtered))?);
        Ok(Some(Pushed { plan, may_be_null: false, default: None }))
    }

    /// `x = l` or `l = x` with x free of outer columns and of l's type: which l, and x.
    fn equality(&self, condition: &Expr, schema: &DFSchema) -> PlanResult<Option<(usize, Expr)>> {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return Ok(None) };
        for (outer, inner) in [(left, right), (right, left)] {
            let Some(index) = self.is_outer(outer) else { continue };
            let Expr::OuterReferenceColumn(field, _) = outer.as_ref() else { continue };
            let free = !inner.exists(|expr| Ok(matches!(expr, Expr::OuterReferenceColumn(..))))?;
            if free && inner.get_type(schema)? == *field.data_type() {
                return Ok(Some((index, inner.as_ref().clone())));
            }
        }
        Ok(None)
    }

    fn projection(&self, projection: Projection) -> PlanResult<Pushed> {
        let mut pushed = self.push(projection.input.as_ref().clone())?;
        let mut default = None;
        if let Some(values) = &pushed.default {
            default = self.over_default(&pushed, values, &projection.expr)?;
            if default.is_none() {
                pushed = self.with_default(pushed)?;
            }
        }
        let original = LogicalPlan::Projection(projection.clone());
        let mut exprs = self.all_over_domain(&original, projection.expr)?;
        exprs.extend(self.own_columns());
        let plan = LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(pushed.plan))?);
        Ok(Pushed { plan, may_be_null: pushed.may_be_null, default })
    }

    /// What the expressions are over the default row; `None` if they name outer columns or fail.
    fn over_default(
        &self,
        pushed: &Pushed,
        default: &[ScalarValue],
        exprs: &[Expr],
    ) -> PlanResult<Option<Vec<ScalarValue>>> {
        let own = self.names();
        let columns = pushed
            .plan
            .schema()
            .iter()
            .filter(|(qualifier, field)| !(qualifier.is_none() && own.contains(field.name())));
        let row: HashMap<Column, ScalarValue> = columns.map(Column::from).zip(default.iter().cloned()).collect();
        let mut values = vec![];
        for expr in exprs {
            if self.names_outer(expr)? {
                return Ok(None);
            }
            let constant = expr.clone().unalias().transform_up(|expr| match &expr {
                Expr::Column(column) => match row.get(column) {
                    Some(value) => Ok(Transformed::yes(lit(value.clone()))),
                    None => Ok(Transformed::no(expr)),
                },
                _ => Ok(Transformed::no(expr)),
            })?;
            match self.constant(&constant.data) {
                Some(value) => values.push(value),
                None => return Ok(None),
            }
        }
        Ok(Some(values))
    }

    fn constant(&self, expr: &Expr) -> Option<ScalarValue> {
        let (properties, context) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let physical = create_physical_expr(expr, &DFSchema::empty(), &properties, &context).ok()?;
        // A column that nothing reads: some kernels count rows by their columns.
        let schema = Schema::new(vec![Field::new("none", DataType::Null, true)]);
        let row = RecordBatch::try_new(Arc::new(schema), vec![new_null_array(&DataType::Null, 1)]).ok()?;
        let value = physical.evaluate(&row).ok()?.into_array(1).ok()?;
        (value.len() == 1).then(|| ScalarValue::try_from_array(&value, 0).ok()).flatten()
    }
}
