//! Binding: a parsed query and the relations it names become a DataFusion logical plan.
//!
//! Select lists have the column names that Postgres would give them already ([`super::names`]).
//!
//! 1. [`natural`]: joins that merge columns are spelled out. [`provider`]: DataFusion plans the tree; relations come from the [`RelationResolver`], views are bound in place.
//! 2. [`lateral`]: functions over the row beside them become unnests above it. [`first`], [`distinct`]: FETCH … WITH TIES,
//!    INTERSECT ALL, EXCEPT ALL and DISTINCT ON are said with window functions.
//! 3. [`postgres`]: integer literals become `integer`, casts to types that Arrow does not tell apart become functions;
//!    then types are settled (UNION, CASE), so that the result's are known before it runs; [`frames`] picks the window
//!    functions that we evaluate ourselves.
//! 4. [`dml`]: INSERT, UPDATE and DELETE are queries for the rows to change.

mod aggregates;
mod aliases;
mod assign;
mod distinct;
mod dml;
mod first;
mod floats;
mod frames;
mod inline;
mod lateral;
mod literals;
mod marks;
mod natural;
mod parameters;
mod postgres;
mod provider;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, ParamValues, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Projection, TableSource};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use sqlparser::ast;

pub use dml::{DoUpdate, over_rows};
pub use inline::{body_relations, body_types, require_row_wise};
use provider::Provider;
pub(super) use provider::name_of;

use super::text::Text;
use super::{Dml, Name, Query, errors, names};
use crate::catalog::Function;
use crate::error::{Error, Result, SqlState};
use crate::types::{PgType, RelationId};

/// Looks up the relations that a query names. The session implements it over one catalog and one world.
pub trait RelationResolver: Send + Sync {
    /// `None`: there is no such relation. `schema` is `None` for an unqualified name (then user relations come before
    /// those of `pg_catalog`).
    fn resolve(&self, schema: Option<&str>, name: &str) -> Result<Option<ResolvedRelation>>;

    /// Value of a setting for `current_setting`, and of `current_user`, `current_database` … by lower-case name.
    fn session_value(&self, name: &str) -> Option<String>;

    /// False: no call has to be looked up.
    fn has_functions(&self) -> bool {
        false
    }

    /// The SQL functions of this name, whatever they take.
    fn functions(&self, _schema: Option<&str>, _name: &str) -> Vec<Arc<Function>> {
        vec![]
    }
}

#[derive(Clone)]
pub enum ResolvedRelation {
    /// Something with rows. `id` is `None` for system relations, which cannot be maintained from.
    Rows {
        id: Option<RelationId>,
        source: Arc<dyn TableSource>,
        properties: RelationProperties,
        /// Columns of each index.
        indexes: Vec<Vec<usize>>,
    },
    /// A plain view: its query is bound in place.
    View { columns: Vec<String>, query: Query },
}

/// What a scan of the relation can promise to a stream plan. Arrival columns stand behind the relation's own.
pub type RelationProperties = crate::plan::Properties;

/// A bound query.
pub struct Bound {
    pub plan: LogicalPlan,
    /// Relations it reads, each once, views expanded.
    pub relations: Vec<RelationId>,
    /// Names read directly (a view counts, what is inside it does not): the new object's dependencies.
    pub depends_on: Vec<Name>,
    /// SQL functions that it calls, also through each other; not those inside of views.
    pub functions: Vec<RelationId>,
    /// Types of `$1` …, inferred where `hints` had none; an undetermined one is text.
    pub parameters: Vec<PgType>,
    /// Expressions of the instants that it reads relations at ([`super::as_of`]), each once.
    pub instants: Vec<String>,
}

impl Bound {
    /// 0A000 if the query reads the past: `what` stands for longer than an instant of it can be read.
    pub fn require_no_instants(&self, what: &str) -> Result<()> {
        if self.instants.is_empty() {
            return Ok(());
        }
        let hint = "put it into the query that reads it; a view is read as of an instant as a table is";
        Err(Error::unsupported(format!("FOR SYSTEM_TIME AS OF in {what}"), hint))
    }
}

/// Binds a query. `state` holds functions and options; `hints` the client's parameter types.
pub fn bind_query(
    state: &SessionState,
    resolver: &dyn RelationResolver,
    query: &Query,
    hints: &[Option<PgType>],
) -> Result<Bound> {
    bind_ast(state, resolver, query.ast.clone(), &query.source, hints, Shape::Result)
}

/// As [`bind_query`], with all relations that do not name an instant of their own read at one.
pub fn bind_query_at(
    state: &SessionState,
    resolver: &dyn RelationResolver,
    query: &Query,
    instant: &str,
) -> Result<Bound> {
    bind_ast(state, &At { resolver, instant }, query.ast.clone(), &query.source, &[], Shape::Result)
}

/// Looks relations up as of an instant.
struct At<'a> {
    resolver: &'a dyn RelationResolver,
    instant: &'a str,
}

impl RelationResolver for At<'_> {
    fn resolve(&self, schema: Option<&str>, name: &str) -> Result<Option<ResolvedRelation>> {
        match super::as_of::split(name) {
            (name, None) => self.resolver.resolve(schema, &super::as_of::name_at(name, Some(self.instant))),
            _ => self.resolver.resolve(schema, name),
        }
    }

    fn session_value(&self, name: &str) -> Option<String> {
        self.resolver.session_value(name)
    }

    fn has_functions(&self) -> bool {
        self.resolver.has_functions()
    }

    fn functions(&self, schema: Option<&str>, name: &str) -> Vec<Arc<Function>> {
        self.resolver.functions(schema, name)
    }
}

/// What becomes of the bound plan's columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A client or a view sees them: names without suffix, types that a Postgres type carries.
    Result,
    /// Left as planned.
    Inner,
}

/// Binds a query whose columns are named already. Binds twice where parameter types were inferred, so that everything
/// above a parameter knows its type.
pub(super) fn bind_ast(
    state: &SessionState,
    resolver: &dyn RelationResolver,
    ast: Box<ast::Query>,
    source: &Text,
    hints: &[Option<PgType>],
    shape: Shape,
) -> Result<Bound> {
    let hints = &parameters::with_form(&ast, hints, |trial| Provider::new(state, resolver).plan(trial, hints));
    let provider = Provider::new(state, resolver);
    let plan = provider.plan(ast.clone(), hints).map_err(|e| errors::explain(e, source))?;
    let parameters = parameter_types(&plan, hints, || parameters::cast_types(std::slice::from_ref(ast.as_ref())))?;
    let given = hints.iter().flatten().count();
    let (provider, plan) = if given < parameters.len() {
        let all: Vec<Option<PgType>> = parameters.iter().cloned().map(Some).collect();
        let provider = Provider::new(state, resolver);
        let plan = provider.plan(ast, &all).map_err(|e| errors::explain(e, source))?;
        (provider, plan)
    } else {
        (provider, plan)
    };
    let plan = lateral::flatten(plan)
        .and_then(|plan| first::rewrite(plan, state))
        .and_then(|plan| distinct::rewrite(plan, state))
        .and_then(postgres::as_postgres)
        .and_then(first::common_types)
        .and_then(|plan| TypeCoercion::new().analyze(plan, state.config_options()))
        .and_then(frames::rewrite)
        .map_err(|e| errors::explain(e, source))?;
    let plan = match shape {
        Shape::Result => result_columns(plan).map_err(|e| errors::explain(e, source))?,
        Shape::Inner => plan,
    };
    let (relations, depends_on) = provider.reads(&plan)?;
    let (functions, instants) = (provider.functions(), provider.instants());
    Ok(Bound { plan, relations, depends_on, functions, parameters, instants })
}

/// Puts values in for `$1` …; there must be one for each parameter, of its type.
pub fn with_parameters(plan: LogicalPlan, values: Vec<ScalarValue>) -> Result<LogicalPlan> {
    if values.is_empty() {
        return Ok(plan);
    }
    Ok(plan.with_param_values(ParamValues::from(values))?)
}

/// Types of `$1` … `$n`: the client's where it gave one, else what the plan says, else that of a cast, else text.
fn parameter_types(
    plan: &LogicalPlan,
    hints: &[Option<PgType>],
    casts: impl FnOnce() -> HashMap<usize, PgType>,
) -> Result<Vec<PgType>> {
    let mut inferred: Vec<Option<PgType>> = vec![];
    for (name, field) in plan.get_parameter_fields()? {
        let number = name.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
        let Some(number) = number.filter(|n| (1..=PARAMETER_COUNT_MAX).contains(n)) else {
            return Err(Error::new(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter {name}")));
        };
        if inferred.len() < number {
            inferred.resize(number, None);
        }
        inferred[number - 1] = field.map(|field| PgType::of(&field)).filter(|t| *t != PgType::Unknown);
    }
    inferred.resize(inferred.len().max(hints.len()), None);
    let hint = |index: usize| hints.get(index).cloned().flatten();
    let mut known: Vec<_> = inferred.into_iter().enumerate().map(|(index, t)| hint(index).or(t)).collect();
    if known.contains(&None) {
        for (number, pg_type) in casts() {
            if let Some(unknown @ None) = known.get_mut(number.wrapping_sub(1)) {
                *unknown = Some(pg_type);
            }
        }
    }
    Ok(known.into_iter().map(|t| t.unwrap_or(PgType::Text)).collect())
}

/// The protocol counts parameters in 16 bits.
const PARAMETER_COUNT_MAX: usize = 65_535;

/// A projection on top that gives columns their public names and the Arrow types that carry Postgres types.
fn result_columns(plan: LogicalPlan) -> datafusion::common::Result<LogicalPlan> {
    let schema = plan.schema().clone();
    let mut seen: Vec<&str> = vec![];
    let mut plain = true;
    let mut exprs = vec![];
    for (index, (qualifier, field)) in schema.iter().enumerate() {
        let name = names::public(field.name());
        let target = match PgType::of(field) {
            PgType::Unknown => PgType::Text,
            // Row numbers and the like: Postgres counts in bigint.
            PgType::Numeric(_) if *field.data_type() == DataType::UInt64 => PgType::Int8,
            other => other,
        };
        let column = Expr::Column(Column::from((qualifier, field)));
        let cast = *field.data_type() != target.arrow() && !field.data_type().is_nested();
        let column = if cast { column.cast_to(&target.arrow(), &schema)? } else { column };
        plain &= !cast && name == field.name() && !seen.contains(&name);
        seen.push(name);
        // Equal names differ in their qualifier.
        exprs.push(column.alias_qualified(Some(format!("c{index}")), name));
    }
    if plain {
        return Ok(plan);
    }
    let projection = Projection::try_new(exprs, Arc::new(plan))?;
    Ok(LogicalPlan::Projection(projection))
}

/// A bound INSERT, UPDATE or DELETE: a query whose rows say what to change.
pub struct BoundDml {
    pub table: Name,
    pub table_id: RelationId,
    pub action: DmlAction,
    pub bound: Bound,
    /// RETURNING: a select list over the table's columns (the new row; for DELETE the old one), to be run over the changed
    /// rows by [`over_rows`].
    pub returning: Option<LogicalPlan>,
}

pub enum DmlAction {
    /// The query yields full new rows in the table's column order, defaults filled in, types cast.
    Insert { on_conflict: OnConflict },
    /// The query yields the old row's columns, then the new row's columns. With FROM the same old row may come more than
    /// once; the first counts.
    Update,
    /// The query yields the old row's columns.
    Delete,
}

pub enum OnConflict {
    Error,
    DoNothing,
    /// `DO UPDATE SET …`: expressions over the old row's columns, then the proposed row's.
    DoUpdate {
        assignments: DoUpdate,
    },
}

/// Binds INSERT, UPDATE or DELETE; `table` looks up what is written to.
pub fn bind_dml(
    state: &SessionState,
    resolver: &dyn RelationResolver,
    dml: &Dml,
    table: &dyn Fn(&Name) -> Result<DmlTarget>,
    hints: &[Option<PgType>],
) -> Result<BoundDml> {
    dml::bind(state, resolver, dml, table, hints)
}

/// What binding a DML statement needs to know of its table. The lookup fails with 42P01, or 42809 for a view or source.
pub struct DmlTarget {
    pub id: RelationId,
    pub columns: Vec<crate::catalog::Column>,
    pub primary_key: Vec<usize>,
    pub has_unique_index: bool,
}
