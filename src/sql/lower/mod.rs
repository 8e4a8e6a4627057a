//! A view's logical plan to its stream plan.
//!
//! ```text
//! bound plan ──[`refuse`]──▶ analyse ──[`super::decorrelate`]──▶ optimise (an explicit list of rules) ──[`Lowering`]──▶ StreamPlan
//! ```
//! A lowered operator has the columns of its logical node, in order. Expressions that operators take as column indices
//! (join keys, group keys, arguments) are projected into columns first.

mod aggregate;
mod arranged;
mod asof;
mod band;
mod follow;
mod join;
mod late;
mod lookup;
mod order;
mod over;
mod refuse;
mod sliced;
mod temporal;
mod time;
mod unnest;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, TableProviderFilterPushDown, TableScan, Values};
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column as PhysicalColumn, Literal};
use datafusion::physical_expr::utils::collect_columns;

use super::arrival::{self, ArrivalNode};
use super::asof::{AsofNode, PushFilterToLeft};
use super::bind::{Bound, RelationResolver, ResolvedRelation, name_of};
use super::decorrelate::decorrelate;
use super::kept_apart;
use super::window::{SessionNode, WindowNode};
use crate::catalog::{QualifiedName, ViewOptions};
use crate::error::{Error, Result, SqlState};
use crate::plan::{Arrival, Properties, StreamNode, StreamPlan, TimeColumn, Window};
use crate::types::RelationId;

/// Optimises with an explicit list of rules (those that fold `now()` or evaluate scalar subqueries once would be wrong
/// here) and lowers. 0A000 names the construct that cannot be maintained yet.
pub fn lower(state: &SessionState, resolver: &dyn RelationResolver, bound: &Bound) -> Result<StreamPlan> {
    Lowering::new(state, resolver, &ViewOptions::default()).query(bound)
}

/// As [`lower`], of a view that others may read: where its rows may be late, they tell of their arrival.
pub fn lower_view(
    state: &SessionState,
    resolver: &dyn RelationResolver,
    bound: &Bound,
    options: &ViewOptions,
) -> Result<StreamPlan> {
    let lowering = Lowering::new(state, resolver, options);
    let plan = lowering.query(bound)?;
    if options.emit_on_window_close {
        return time::held(plan);
    }
    // Whoever reads the view in windows asks which rows are late.
    let arrives = plan.properties.times.iter().find(|time| !time.is_kept).filter(|time| time.watermark.is_uniform());
    if let Some(time) = arrives
        && let Some(arriving) = lowering.with_arrival(&plan, &time.watermark.relations())?
    {
        return Ok(arriving);
    }
    Ok(plan)
}

/// The rows that the view of `bound` takes out because they are late; of several places where it does, those of all. 0A000
/// unless there is one.
pub fn lower_late(
    state: &SessionState,
    resolver: &dyn RelationResolver,
    bound: &Bound,
    options: &ViewOptions,
) -> Result<StreamPlan> {
    let mut lowering = Lowering::new(state, resolver, options);
    lowering.late = RefCell::new(Some(vec![]));
    lowering.query(bound)?;
    late::late_rows(lowering.late.into_inner().unwrap_or_default(), options)
}

fn optimized(state: &SessionState, bound: &Bound, prunes: bool) -> Result<LogicalPlan> {
    refuse::duplicate_columns(&bound.plan)?;
    refuse::constructs(&bound.plan)?;
    let plan = temporal::with_placeholders(bound.plan.clone())?;
    let analyzed = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
    let flat = decorrelate(analyzed, state)?;
    let mut rules = rules();
    rules.retain(|rule| prunes || rule.name() != "optimize_projections");
    Ok(Optimizer::with_rules(rules).optimize(flat, state, |_, _| {})?)
}

/// Rules that hold for every epoch alike.
fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    use datafusion::optimizer as rule;
    kept_apart::apart(vec![
        Arc::new(rule::optimize_unions::OptimizeUnions::new()),
        Arc::new(rule::simplify_expressions::SimplifyExpressions::new()),
        Arc::new(rule::replace_distinct_aggregate::ReplaceDistinctWithAggregate::new()),
        Arc::new(rule::eliminate_duplicated_expr::EliminateDuplicatedExpr::new()),
        Arc::new(rule::eliminate_cross_join::EliminateCrossJoin::new()),
        Arc::new(rule::eliminate_outer_join::EliminateOuterJoin::new()),
        Arc::new(rule::push_down_filter::PushDownFilter::new()),
        Arc::new(PushFilterToLeft),
        Arc::new(rule::optimize_projections::OptimizeProjections::new()),
    ])
}

/// The plan with the promised names and types; a projection where they differ.
fn with_schema(plan: StreamPlan, schema: SchemaRef) -> Result<StreamPlan> {
    let differs = |(have, want): (&Arc<_>, &Arc<_>)| -> bool {
        let (have, want): (&datafusion::arrow::datatypes::Field, &datafusion::arrow::datatypes::Field) = (have, want);
        have.name() != want.name() || have.data_type() != want.data_type()
    };
    if plan.schema.fields().len() != schema.fields().len() {
        return Err(Error::internal("a lowered plan lost columns on its way"));
    }
    if !plan.schema.fields().iter().zip(schema.fields()).any(differs) {
        return Ok(StreamPlan { schema, ..plan });
    }
    let exprs = plan
        .schema
        .fields()
        .iter()
        .zip(schema.fields())
        .enumerate()
        .map(|(index, (have, want))| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new(have.name(), index));
            if have.data_type() == want.data_type() {
                return Ok(column);
            }
            let cast = datafusion::physical_expr::expressions::cast(column, &plan.schema, want.data_type().clone())?;
            Ok(cast)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(project(plan, exprs, schema))
}

/// A projection; nothing where it would only repeat its input or give a relation's columns other names, and one where two
/// follow each other.
fn project(input: StreamPlan, exprs: Vec<Arc<dyn PhysicalExpr>>, schema: SchemaRef) -> StreamPlan {
    let sources: Vec<Option<usize>> = exprs.iter().map(column_index).collect();
    let same = sources.len() == input.schema.fields().len()
        && sources.iter().enumerate().all(|(index, source)| *source == Some(index))
        && (is_relation(&input)
            || schema.fields().iter().zip(input.schema.fields()).all(|(a, b)| a.name() == b.name()));
    if same {
        return StreamPlan { schema, ..input };
    }
    let chosen: Option<Vec<usize>> = sources.iter().copied().collect();
    if let (StreamNode::Project { input: below, exprs: inner }, Some(chosen)) = (&input.node, chosen) {
        let exprs = chosen.iter().map(|&column| inner[column].clone()).collect();
        return project(below.as_ref().clone(), exprs, schema);
    }
    // Window functions whose results nobody reads.
    if let StreamNode::OverWindow { input: below, .. } = &input.node {
        let width = below.schema.fields().len();
        if exprs.iter().all(|expr| collect_columns(expr).iter().all(|column| column.index() < width)) {
            return project(below.as_ref().clone(), exprs, schema);
        }
    }
    let exprs: Vec<_> = exprs.into_iter().map(|expr| renamed(expr, &input.schema)).collect();
    let mut properties = input.properties.project(&sources);
    for (column, expr) in exprs.iter().enumerate().filter(|(column, _)| sources[*column].is_none()) {
        let followed = follow::followed(expr, &input.properties, &input.schema);
        properties.times.extend(followed.map(|time| TimeColumn { column, ..time }));
    }
    StreamPlan { node: StreamNode::Project { input: Box::new(input), exprs }, schema, properties }
}

/// Rows as they are there, all of them or some. So a query over a column that was given another name computes what it did.
fn is_relation(plan: &StreamPlan) -> bool {
    match &plan.node {
        StreamNode::Scan { .. } => true,
        StreamNode::Filter { input, .. } => is_relation(input),
        _ => false,
    }
}

/// The expression with its columns called as the input calls them; they are found by index either way.
fn renamed(expr: Arc<dyn PhysicalExpr>, input: &Schema) -> Arc<dyn PhysicalExpr> {
    let original = expr.clone();
    let renamed = expr.transform_up(|inner| match column_index(&inner) {
        Some(index) => {
            let column = PhysicalColumn::new(input.field(index).name(), index);
            Ok(Transformed::yes(Arc::new(column) as Arc<dyn PhysicalExpr>))
        }
        None => Ok(Transformed::no(inner)),
    });
    renamed.map_or(original, |renamed| renamed.data)
}

/// The column as it is.
fn copy(schema: &Schema, column: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(PhysicalColumn::new(schema.field(column).name(), column))
}

/// Which column of the input the expression copies.
fn column_index(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    let any: &dyn Any = expr.as_ref();
    any.downcast_ref::<PhysicalColumn>().map(|column| column.index())
}

struct Lowering<'a> {
    state: SessionState,
    resolver: &'a dyn RelationResolver,
    options: &'a ViewOptions,
    /// Of the relations that were scanned.
    arrivals: RefCell<HashMap<RelationId, Arrival>>,
    /// Of the relations that were scanned: columns by which their rows are found, in order, keys first.
    orders: RefCell<HashMap<RelationId, Vec<Vec<usize>>>>,
    /// Where they are asked for: the late rows of each place that takes them out, whole.
    late: RefCell<Option<Vec<StreamPlan>>>,
}

impl<'a> Lowering<'a> {
    fn new(state: &SessionState, resolver: &'a dyn RelationResolver, options: &'a ViewOptions) -> Lowering<'a> {
        // A view outlives the session that made it: what asks for the session's time zone is told UTC.
        let mut state = state.clone();
        state.config_mut().options_mut().execution.time_zone = Some("UTC".to_string());
        let (arrivals, orders, late) = Default::default();
        Lowering { state, resolver, options, arrivals, orders, late }
    }

    fn query(&self, bound: &Bound) -> Result<StreamPlan> {
        bound.require_no_instants("the query of a maintained view")?;
        let prunes = self.late.borrow().is_none();
        let plan = self.node(&optimized(&self.state, bound, prunes)?)?;
        with_schema(plan, bound.plan.schema().inner().clone())
    }

    fn node(&self, plan: &LogicalPlan) -> Result<StreamPlan> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(projection) => {
                let input = self.node(&projection.input)?;
                let exprs = self.physical_all(&projection.expr, projection.input.schema())?;
                Ok(project(input, exprs, projection.schema.inner().clone()))
            }
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Window(window) => self.over(window),
            // The columns are the same; qualifiers are not of a stream plan.
            LogicalPlan::SubqueryAlias(alias) => self.node(&alias.input),
            // A maintained relation has no order.
            LogicalPlan::Sort(sort) if sort.fetch.is_none() => self.node(&sort.input),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(self.node(input)?),
            LogicalPlan::Union(union) => {
                let inputs = union
                    .inputs
                    .iter()
                    .map(|input| with_schema(self.node(input)?, union.schema.inner().clone()))
                    .collect::<Result<Vec<_>>>()?;
                Ok(union_all(inputs, union.schema.inner().clone()))
            }
            LogicalPlan::Extension(extension) => {
                if ArrivalNode::of(plan).is_some() {
                    return Err(arrival::refuse_place());
                }
                if let Some(node) = AsofNode::of(plan) {
                    return self.asof(node);
                }
                let node: &dyn Any = extension.node.as_any();
                match (node.downcast_ref::<WindowNode>(), node.downcast_ref::<SessionNode>()) {
                    (Some(node), _) => self.window(node),
                    (_, Some(node)) => self.session(node),
                    _ => Err(refuse::node(plan)),
                }
            }
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::EmptyRelation(empty) => {
                let options = RecordBatchOptions::new().with_row_count(Some(usize::from(empty.produce_one_row)));
                let schema = empty.schema.inner().clone();
                let batch = match empty.produce_one_row {
                    true => RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)?,
                    false => RecordBatch::new_empty(schema),
                };
                Ok(constant(batch))
            }
            other => Err(refuse::node(other)),
        }
    }

    fn physical(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        if temporal::has_now(expr) {
            return Err(temporal::refuse_now());
        }
        Ok(self.state.create_physical_expr(expr.clone().unalias(), schema)?)
    }

    fn physical_all(&self, exprs: &[Expr], schema: &DFSchema) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        exprs.iter().map(|expr| self.physical(expr, schema)).collect()
    }

    /// Reads only the needed columns; filters that the source took come back as an operator.
    fn scan(&self, scan: &TableScan) -> Result<StreamPlan> {
        let name = name_of(&scan.table_name);
        let resolved = self.resolver.resolve(name.schema.as_deref(), &name.name)?;
        let (relation, properties, indexes) = match resolved {
            Some(ResolvedRelation::Rows { id: Some(id), properties, indexes, .. }) => (id, properties, indexes),
            Some(ResolvedRelation::Rows { id: None, .. }) => {
                return Err(Error::unsupported(
                    format!("a maintained view over the system relation \"{}\"", name.name),
                    "query it when needed, or create a plain view",
                ));
            }
            _ => {
                let message = format!("relation \"{}\" does not exist", name.name);
                return Err(Error::new(SqlState::UNDEFINED_TABLE, message));
            }
        };
        let source = scan.source.schema();
        let wanted: Vec<usize> = scan.projection.clone().unwrap_or_else(|| (0..source.fields().len()).collect());
        let all = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &source)?;
        // Filters that the source merely looks at stay above the scan; only those that it takes over come back as operators.
        let filters: Vec<&Expr> = scan.filters.iter().collect();
        let support = scan.source.supports_filters_pushdown(&filters)?;
        let is_taken =
            |(_, support): &(&Expr, TableProviderFilterPushDown)| *support == TableProviderFilterPushDown::Exact;
        let filters: Vec<&Expr> = filters.into_iter().zip(support).filter(is_taken).map(|(filter, _)| filter).collect();
        let mut columns = wanted.clone();
        for filter in &filters {
            for column in filter.column_refs() {
                columns.push(all.index_of_column(&Column::new_unqualified(&column.name))?);
            }
        }
        columns.sort_unstable();
        columns.dedup();

        let schema = Arc::new(source.project(&columns)?);
        let scanned = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &schema)?;
        let outputs: Vec<Option<usize>> = columns.iter().copied().map(Some).collect();
        if let Some(arrival) = properties.arrival {
            self.arrivals.borrow_mut().insert(relation, arrival);
        }
        let orders = properties.key.iter().filter(|key| !key.is_empty()).cloned().chain(indexes);
        self.orders.borrow_mut().insert(relation, orders.collect());
        let known = Properties { arrival: None, ..properties };
        let shown = match &name.schema {
            Some(schema) => QualifiedName { schema: schema.clone(), name: name.name }.to_string(),
            None => name.name,
        };
        let mut plan = StreamPlan {
            node: StreamNode::Scan { relation, name: shown, columns: columns.clone() },
            schema,
            properties: known.project(&outputs),
        };
        for filter in filters {
            plan = filtered(plan, self.physical(filter, &scanned)?);
        }
        if columns == wanted {
            return Ok(plan);
        }
        let kept: Vec<Expr> = wanted
            .iter()
            .map(|&column| Expr::Column(Column::from((Some(&scan.table_name), source.field(column)))))
            .collect();
        let exprs = self.physical_all(&kept, &scanned)?;
        Ok(project(plan, exprs, Arc::new(source.project(&wanted)?)))
    }

    fn window(&self, node: &WindowNode) -> Result<StreamPlan> {
        let input = self.node(&node.input)?;
        let time_column = node.time_index()?;
        let schema = datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(node).inner().clone();
        let mut properties = input.properties.clone();
        if let Some(key) = &mut properties.key {
            // A row comes out once for each window: what tells them apart is the start, or the end.
            let width = input.schema.fields().len();
            match node.window {
                Window::Tumble { .. } => {}
                Window::Hop { .. } => key.push(width),
                Window::Cumulate { .. } => key.push(width + 1),
            }
        }
        let window = node.window;
        properties.times = time::of_windows(&input.properties, input.schema.fields().len(), time_column, window);
        Ok(StreamPlan { node: StreamNode::Window { input: Box::new(input), time_column, window }, schema, properties })
    }

    fn session(&self, node: &SessionNode) -> Result<StreamPlan> {
        let input = self.node(&node.input)?;
        let (partition, time_column, gap_us) = (node.partition_indices()?, node.time_index()?, node.gap_us);
        let schema = datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(node).inner().clone();
        let (known, width) = (input.properties.clone(), input.schema.fields().len());
        let (input, closing, arrival) = self.on_time_for_sessions(input, time_column, gap_us)?;
        // A session that grows takes back what its rows showed: of the rows' own times nothing is known any more.
        let times = time::of_sessions(&known, time_column, closing.as_ref(), width + 1);
        let properties = Properties { append_only: false, key: known.key, times, arrival: None };
        let node = StreamNode::Session { input: Box::new(input), partition, time_column, gap_us, closing, arrival };
        Ok(StreamPlan { node, schema, properties })
    }

    fn values(&self, values: &Values) -> Result<StreamPlan> {
        let empty = DFSchema::empty();
        let one_row = RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            vec![],
            &RecordBatchOptions::new().with_row_count(Some(1)),
        )?;
        let mut columns: Vec<Vec<ArrayRef>> = vec![vec![]; values.schema.fields().len()];
        for row in &values.values {
            for (column, expr) in columns.iter_mut().zip(row) {
                column.push(self.physical(expr, &empty)?.evaluate(&one_row)?.into_array(1)?);
            }
        }
        let arrays = columns
            .iter()
            .map(|cells| Ok(concat(&cells.iter().map(|cell| cell.as_ref()).collect::<Vec<_>>())?))
            .collect::<Result<Vec<_>>>()?;
        Ok(constant(RecordBatch::try_new(values.schema.inner().clone(), arrays)?))
    }
}

fn filtered(input: StreamPlan, predicate: Arc<dyn PhysicalExpr>) -> StreamPlan {
    let (schema, properties) = (input.schema.clone(), input.properties.clone());
    let predicate = renamed(predicate, &schema);
    let any: &dyn Any = predicate.as_ref();
    if any.downcast_ref::<Literal>().is_some_and(|literal| *literal.value() == ScalarValue::Boolean(Some(true))) {
        return input;
    }
    StreamPlan { node: StreamNode::Filter { input: Box::new(input), predicate }, schema, properties }
}

fn constant(batch: RecordBatch) -> StreamPlan {
    let key = if batch.num_rows() <= 1 { Some(vec![]) } else { None };
    let properties = Properties { append_only: true, key, ..Properties::default() };
    StreamPlan { schema: batch.schema(), node: StreamNode::Values { batch }, properties }
}

/// Append-only if all inputs are.
fn union_all(inputs: Vec<StreamPlan>, schema: SchemaRef) -> StreamPlan {
    let properties = Properties {
        append_only: inputs.iter().all(|input| input.properties.append_only),
        key: None,
        times: time::of_union(&inputs),
        arrival: None,
    };
    StreamPlan { node: StreamNode::Union { inputs }, schema, properties }
}

/// Schemas of two inputs next to each other.
fn side_by_side(schema: &DFSchemaRef) -> SchemaRef {
    schema.inner().clone()
}
