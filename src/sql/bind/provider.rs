//! What the planner asks for while it plans: relations by name, functions, types.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::catalog::TableFunctionArgs;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, DFSchema, Result as PlanResult, TableReference};
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource, TableType, WindowUDF,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use sqlparser::ast;

use super::{RelationResolver, ResolvedRelation, inline, names};
use crate::error::{Error, Result, SqlState};
use crate::sql::types::PgTypePlanner;
use crate::sql::{Name, Query, as_of};
use crate::types::{PgType, RelationId};

pub(super) struct Provider<'a> {
    state: &'a SessionState,
    resolver: &'a dyn RelationResolver,
    /// Views that are being bound, outermost first.
    views: RefCell<Vec<Name>>,
    /// Relations with rows that were asked for, by the name that their scans carry.
    scanned: RefCell<BTreeMap<String, Option<RelationId>>>,
    /// Names that the query itself reads, in order of appearance, with whether they are views.
    direct: RefCell<Vec<(Name, bool)>>,
    /// SQL functions that the query itself calls.
    functions: RefCell<Vec<RelationId>>,
    /// The instants of the views that are being bound, outermost first: what a view reads is read at its instant.
    view_instants: RefCell<Vec<Option<String>>>,
    /// All instants that rows are read at.
    instants: RefCell<BTreeSet<String>>,
}

/// How many views may stand on top of each other.
const VIEW_DEPTH_MAX: usize = 32;

impl<'a> Provider<'a> {
    pub fn new(state: &'a SessionState, resolver: &'a dyn RelationResolver) -> Provider<'a> {
        Provider {
            state,
            resolver,
            views: Default::default(),
            scanned: Default::default(),
            direct: Default::default(),
            functions: Default::default(),
            view_instants: Default::default(),
            instants: Default::default(),
        }
    }

    /// Plans a query; `hints` are the types of `$1` ….
    pub fn plan(&self, mut query: Box<ast::Query>, hints: &[Option<PgType>]) -> PlanResult<LogicalPlan> {
        self.expand(query.as_mut())?;
        super::natural::spell_out(query.as_mut(), self.resolver)?;
        let fields = hints.iter().map(|hint| hint.as_ref().map(|t| t.field("", true))).collect();
        let mut context = PlannerContext::new().with_prepare_param_data_types(fields);
        SqlToRel::new(self).sql_statement_to_plan_with_context(ast::Statement::Query(query), &mut context)
    }

    /// An expression over the columns of `schema`.
    pub fn expression(&self, mut expr: ast::Expr, schema: &DFSchema, hints: &[Option<PgType>]) -> PlanResult<Expr> {
        self.expand(&mut expr)?;
        super::natural::spell_out(&mut expr, self.resolver)?;
        let fields = hints.iter().map(|hint| hint.as_ref().map(|t| t.field("", true))).collect();
        let mut context = PlannerContext::new().with_prepare_param_data_types(fields);
        SqlToRel::new(self).sql_to_expr(expr, schema, &mut context)
    }

    /// Ids of the SQL functions that the query calls.
    pub fn functions(&self) -> Vec<RelationId> {
        self.functions.borrow().clone()
    }

    pub fn instants(&self) -> Vec<String> {
        self.instants.borrow().iter().cloned().collect()
    }

    /// Puts bodies in the place of calls of SQL functions, and calls in that of quantified comparisons. Functions inside of a
    /// view are the view's.
    fn expand<T: ast::VisitMut>(&self, tree: &mut T) -> Result<()> {
        let inside = RefCell::default();
        let used = if self.views.borrow().is_empty() { &self.functions } else { &inside };
        inline::expand(tree, self.resolver, used)?;
        crate::sql::compat::spell_out_quantified(tree);
        Ok(())
    }

    /// Ids of the relations that the plan scans, and the names that the query reads directly. A name that only looked
    /// like a relation because a WITH query of that name exists is left out.
    pub fn reads(&self, plan: &LogicalPlan) -> Result<(Vec<RelationId>, Vec<Name>)> {
        let mut scans: Vec<String> = vec![];
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                scans.push(scan.table_name.to_string());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        let scanned = self.scanned.borrow();
        let mut relations: Vec<RelationId> =
            scans.iter().filter_map(|name| scanned.get(name).copied().flatten()).collect();
        relations.sort_unstable();
        relations.dedup();
        let is_read = |(name, is_view): &&(Name, bool)| *is_view || scans.contains(&reference(name).to_string());
        let depends_on = self.direct.borrow().iter().filter(is_read).map(|(name, _)| name.clone()).collect();
        Ok((relations, depends_on))
    }

    fn relation(&self, name: Name) -> Result<Arc<dyn TableSource>> {
        let (relation, instant) = as_of::split(&name.name);
        let around = || self.view_instants.borrow().last().cloned().flatten();
        let instant = instant.map(str::to_string).or_else(around);
        let looked_up = as_of::name_at(relation, instant.as_deref());
        let resolved = self.resolver.resolve(name.schema.as_deref(), &looked_up)?;
        let at_top = self.views.borrow().is_empty();
        let note = |is_view: bool| {
            let mut direct = self.direct.borrow_mut();
            if at_top && !direct.iter().any(|(other, _)| *other == name) {
                direct.push((name.clone(), is_view));
            }
        };
        match resolved {
            None => {
                let shown = match &name.schema {
                    Some(schema) => format!("{schema}.{relation}"),
                    None => relation.to_string(),
                };
                Err(Error::new(SqlState::UNDEFINED_TABLE, format!("relation \"{shown}\" does not exist")))
            }
            Some(ResolvedRelation::Rows { id, source, .. }) => {
                note(false);
                self.instants.borrow_mut().extend(instant);
                self.scanned.borrow_mut().insert(reference(&name).to_string(), id);
                Ok(source)
            }
            Some(ResolvedRelation::View { columns, query }) => {
                note(true);
                self.view_instants.borrow_mut().push(instant);
                let planned = self.view(name, &columns, &query);
                self.view_instants.borrow_mut().pop();
                planned
            }
        }
    }

    /// Binds a view's query, its columns renamed.
    fn view(&self, name: Name, columns: &[String], query: &Query) -> Result<Arc<dyn TableSource>> {
        if self.views.borrow().contains(&name) {
            let message = format!("infinite recursion detected in view \"{}\"", name.name);
            return Err(Error::new(SqlState("42P17"), message));
        }
        if self.views.borrow().len() == VIEW_DEPTH_MAX {
            let message = format!("more than {VIEW_DEPTH_MAX} views stand on top of each other");
            return Err(Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
        }
        self.views.borrow_mut().push(name);
        let planned = self.view_plan(columns, query);
        self.views.borrow_mut().pop();
        let plan = planned.map_err(|error| {
            // A position inside the view's text means nothing in the query's.
            Error { position: None, ..crate::sql::errors::explain(error, &query.source) }
        })?;
        Ok(Arc::new(ViewSource { schema: Arc::new(plan.schema().as_arrow().clone()), plan }))
    }

    fn view_plan(&self, columns: &[String], query: &Query) -> PlanResult<LogicalPlan> {
        let plan = self.plan(query.ast.clone(), &[])?;
        let schema = plan.schema().clone();
        let named = schema.iter().enumerate().map(|(index, (qualifier, field))| {
            let name = columns.get(index).map_or_else(|| names::public(field.name()), String::as_str);
            Expr::Column(Column::from((qualifier, field))).alias(name)
        });
        LogicalPlanBuilder::from(plan).project(named)?.build()
    }
}

/// As the planner's scans carry the name.
fn reference(name: &Name) -> TableReference {
    match &name.schema {
        Some(schema) => TableReference::partial(schema.as_str(), name.name.as_str()),
        None => TableReference::bare(name.name.as_str()),
    }
}

/// The name that a scan carries.
pub(in crate::sql) fn name_of(reference: &TableReference) -> Name {
    Name { schema: reference.schema().map(str::to_string), name: reference.table().to_string() }
}

impl ContextProvider for Provider<'_> {
    fn get_table_source(&self, name: TableReference) -> PlanResult<Arc<dyn TableSource>> {
        if let TableReference::Full { catalog, .. } = &name
            && catalog.as_ref() != crate::catalog::DATABASE
        {
            let message = format!("cross-database references are not implemented: \"{name}\"");
            return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message).into());
        }
        let full = matches!(name, TableReference::Full { .. });
        let source = self.relation(name_of(&name))?;
        if full {
            // Scans of `dev.public.t` carry all three parts.
            let id = self.scanned.borrow().get(&reference(&name_of(&name)).to_string()).copied();
            if let Some(id) = id {
                self.scanned.borrow_mut().insert(name.to_string(), id);
            }
        }
        Ok(source)
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> PlanResult<Arc<dyn TableSource>> {
        let folded = name.to_ascii_lowercase();
        match self.state.table_functions().get(&folded) {
            Some(function) => {
                let context = SimplifyContext::builder()
                    .with_config_options(Arc::clone(self.state.config_options()))
                    .with_query_execution_start_time(self.state.execution_props().query_execution_start_time)
                    .build();
                let simplifier = ExprSimplifier::new(context);
                let schema = DFSchema::empty();
                let constant = |arg| simplifier.coerce(arg, &schema).and_then(|arg| simplifier.simplify(arg));
                let args = args.into_iter().map(constant).collect::<PlanResult<Vec<_>>>()?;
                let args = TableFunctionArgs::new(&args, self.state);
                Ok(provider_as_source(function.create_table_provider_with_args(args)?))
            }
            None => Err(Error::new(SqlState::UNDEFINED_FUNCTION, format!("function {folded} does not exist"))
                .with_hint("it would have to return rows to stand in FROM")
                .into()),
        }
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> PlanResult<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        self.state.relation_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(PgTypePlanner))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        super::marks::mark(name).or_else(|| self.state.scalar_functions().get(name).cloned())
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn get_variable_field(&self, _: &[String]) -> Option<FieldRef> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// A view's plan, which the planner puts in the place of a scan.
struct ViewSource {
    schema: SchemaRef,
    plan: LogicalPlan,
}

impl TableSource for ViewSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}
