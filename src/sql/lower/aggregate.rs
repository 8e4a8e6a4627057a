//! GROUP BY and DISTINCT.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array, new_null_array};
use datafusion::arrow::compute::{SortOptions, cast};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::expr::{self, AggregateFunction, NullTreatment, Sort};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::{Column as PhysicalColumn, Literal};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};

use super::{Lowering, column_index, project, refuse, time};
use crate::error::{Error, Result, SqlState};
use crate::plan::{AggregateCall, AggregateKind, Fold, GroupingSet, OrderColumn, Properties, StreamNode, StreamPlan};
use crate::types::moments::Statistic;

/// Columns that an aggregate reads, projected out of its input where they are more than columns of it.
struct Arguments {
    exprs: Vec<(Expr, Arc<dyn PhysicalExpr>)>,
}

impl Lowering<'_> {
    pub(super) fn aggregate(&self, aggregate: &Aggregate) -> Result<StreamPlan> {
        let marked = self.with_marks(self.node(&aggregate.input)?, aggregate)?;
        let (input, input_schema) = (marked.plan, marked.schema.as_ref());
        let mut arguments = Arguments { exprs: vec![] };
        let mut argument = |expr: &Expr| -> Result<usize> {
            let expr = expr.clone().unalias();
            if let Some(at) = arguments.exprs.iter().position(|(known, _)| *known == expr) {
                return Ok(at);
            }
            let physical = self.physical(&expr, input_schema)?;
            arguments.exprs.push((expr, physical));
            Ok(arguments.exprs.len() - 1)
        };
        let grouping = match aggregate.group_expr.as_slice() {
            [Expr::GroupingSet(sets)] => Some(grouping_sets(sets)?),
            _ => None,
        };
        let key_exprs = match &aggregate.group_expr[..] {
            [Expr::GroupingSet(sets)] => sets.distinct_expr(),
            exprs => exprs.iter().collect(),
        };
        let mut keys = key_exprs.into_iter().map(&mut argument).collect::<Result<Vec<usize>>>()?;
        // A set's number is a key too.
        let key_count = keys.len() + usize::from(grouping.is_some());
        let mut calls = vec![];
        for (index, expr) in marked.calls.iter().enumerate() {
            let Expr::AggregateFunction(function) = expr.clone().unalias_nested().data else {
                return Err(Error::internal(format!("{expr} is no aggregate")));
            };
            let field = aggregate.schema.field(key_count + index);
            calls.push(self.call(&function, field, input_schema, &mut argument)?);
        }

        let shown = input.schema.fields().len();
        let sources: Option<Vec<usize>> = arguments.exprs.iter().map(|(_, physical)| column_index(physical)).collect();
        let input = match sources {
            // All are columns already.
            Some(sources) => {
                rearrange(&sources, &mut keys, &mut calls);
                input
            }
            // Late rows are shown whole.
            None if self.late.borrow().is_some() => {
                let exprs: Vec<&Expr> = arguments.exprs.iter().map(|(expr, _)| expr).collect();
                let (input, places) = self.with_columns(input, &exprs, input_schema)?;
                rearrange(&places, &mut keys, &mut calls);
                input
            }
            None => {
                let fields = arguments
                    .exprs
                    .iter()
                    .map(|(expr, _)| {
                        let (_, field) = expr.to_field(input_schema)?;
                        Ok(field.as_ref().clone().with_name(readable(expr)))
                    })
                    .collect::<Result<Vec<Field>>>()?;
                let exprs = arguments.exprs.into_iter().map(|(_, physical)| physical).collect();
                project(input, exprs, Arc::new(Schema::new(fields)))
            }
        };
        if grouping.is_none()
            && let Some(plan) = self.sliced(&input, &keys, &calls)?
        {
            return Ok(StreamPlan { schema: aggregated_schema(aggregate, &calls, keys.len()), ..plan });
        }
        let (input, keys, always) = match grouping {
            Some(sets) => expanded(input, keys, sets, &mut calls, &aggregate.schema)?,
            None => (input, keys, None),
        };
        let shown = shown.min(input.schema.fields().len());
        let (input, closing) = self.on_time_showing(input, &keys, shown)?;
        let properties = Properties {
            // DISTINCT of what only grows only grows.
            append_only: calls.is_empty() && !keys.is_empty() && input.properties.append_only,
            key: Some((0..keys.len()).collect()),
            times: time::of_keys(&input.properties, &keys, closing.as_ref()),
            arrival: None,
        };
        let schema = aggregated_schema(aggregate, &calls, keys.len());
        let node = StreamNode::Aggregate { input: Box::new(input), keys, calls, always, closing };
        Ok(StreamPlan { node, schema, properties })
    }
}

/// The node's columns, calls under their readable names.
fn aggregated_schema(aggregate: &Aggregate, calls: &[AggregateCall], key_count: usize) -> Arc<Schema> {
    let named = |(index, field): (usize, &Arc<Field>)| match index.checked_sub(key_count) {
        Some(call) => field.as_ref().clone().with_name(&calls[call].name),
        None => field.as_ref().clone(),
    };
    Arc::new(Schema::new(aggregate.schema.fields().iter().enumerate().map(named).collect::<Vec<_>>()))
}

/// The sets in the order in which they were written, as DataFusion numbers them (`Aggregate::INTERNAL_GROUPING_ID`).
fn grouping_sets(sets: &expr::GroupingSet) -> Result<Vec<GroupingSet>> {
    let keys = sets.distinct_expr();
    let kept_of = |exprs: &[Expr]| keys.iter().map(|key| exprs.contains(key)).collect::<Vec<bool>>();
    let all: Vec<Vec<bool>> = match sets {
        expr::GroupingSet::GroupingSets(sets) => sets.iter().map(|set| kept_of(set)).collect(),
        expr::GroupingSet::Rollup(exprs) => (0..=exprs.len()).rev().map(|length| kept_of(&exprs[..length])).collect(),
        expr::GroupingSet::Cube(exprs) if exprs.len() <= CUBE_KEY_COUNT_MAX => (0..1usize << exprs.len())
            .map(|left_out| {
                let kept = exprs.iter().enumerate().filter(|(index, _)| left_out & (1 << index) == 0);
                kept_of(&kept.map(|(_, expr)| expr.clone()).collect::<Vec<_>>())
            })
            .collect(),
        expr::GroupingSet::Cube(_) => {
            let message = format!("CUBE is limited to {CUBE_KEY_COUNT_MAX} elements");
            return Err(Error::new(SqlState("54011"), message));
        }
    };
    let number = |(index, kept): (usize, &Vec<bool>)| {
        let left_out = kept.iter().fold(0u64, |id, is_kept| (id << 1) | u64::from(!is_kept));
        let twin = all[..index].iter().filter(|other| *other == kept).count() as u64;
        GroupingSet { kept: kept.clone(), id: left_out | (twin << kept.len()) }
    };
    Ok(all.iter().enumerate().map(number).collect())
}

/// As in Postgres.
const CUBE_KEY_COUNT_MAX: usize = 12;

/// An input that has each row once for each set, with the keys in it and those that are there over an empty input too.
/// The calls read its columns then.
fn expanded(
    input: StreamPlan,
    keys: Vec<usize>,
    sets: Vec<GroupingSet>,
    calls: &mut [AggregateCall],
    schema: &DFSchema,
) -> Result<(StreamPlan, Vec<usize>, Option<RecordBatch>)> {
    let key_count = keys.len() + 1;
    let mut columns = vec![];
    let mut moved = |column: &mut usize| {
        let place = columns.iter().position(|known| known == column).unwrap_or_else(|| {
            columns.push(*column);
            columns.len() - 1
        });
        *column = key_count + place;
    };
    for call in calls {
        call.arguments.iter_mut().for_each(&mut moved);
        call.order.iter_mut().for_each(|order| moved(&mut order.column));
        call.filter.iter_mut().for_each(&mut moved);
    }
    let key_fields: Vec<Field> = schema.fields()[..key_count].iter().map(|field| field.as_ref().clone()).collect();
    let passed = columns.iter().map(|&column| input.schema.field(column).clone());
    let expanded = Arc::new(Schema::new(key_fields.iter().cloned().chain(passed).collect::<Vec<_>>()));

    let empty: Vec<u64> = sets.iter().filter(|set| !set.kept.contains(&true)).map(|set| set.id).collect();
    let always = if empty.is_empty() {
        None
    } else {
        let ids: ArrayRef = Arc::new(UInt64Array::from(empty));
        let nulls = key_fields[..keys.len()].iter().map(|field| new_null_array(field.data_type(), ids.len()));
        let ids = cast(&ids, key_fields[keys.len()].data_type())?;
        let columns = nulls.chain([ids]).collect();
        Some(RecordBatch::try_new(Arc::new(Schema::new(key_fields)), columns)?)
    };
    let properties = Properties { append_only: input.properties.append_only, ..Properties::default() };
    let node = StreamNode::Expand { input: Box::new(input), keys, sets, columns };
    Ok((StreamPlan { node, schema: expanded, properties }, (0..key_count).collect(), always))
}

/// Keys and calls over columns that stand elsewhere now.
fn rearrange(places: &[usize], keys: &mut [usize], calls: &mut [AggregateCall]) {
    keys.iter_mut().for_each(|key| *key = places[*key]);
    for call in calls {
        call.arguments.iter_mut().for_each(|at| *at = places[*at]);
        call.order.iter_mut().for_each(|order| order.column = places[order.column]);
        call.filter = call.filter.map(|at| places[at]);
    }
}

impl Lowering<'_> {
    /// DISTINCT over all columns.
    pub(super) fn distinct(&self, input: StreamPlan) -> Result<StreamPlan> {
        let keys: Vec<usize> = (0..input.schema.fields().len()).collect();
        let (input, closing) = self.on_time(input, &keys)?;
        let properties = Properties {
            append_only: input.properties.append_only,
            key: Some(keys.clone()),
            times: time::of_keys(&input.properties, &keys, closing.as_ref()),
            arrival: None,
        };
        let schema = input.schema.clone();
        let node = StreamNode::Aggregate { input: Box::new(input), keys, calls: vec![], always: None, closing };
        Ok(StreamPlan { node, schema, properties })
    }

    fn call(
        &self,
        function: &AggregateFunction,
        field: &Field,
        input_schema: &DFSchema,
        argument: &mut impl FnMut(&Expr) -> Result<usize>,
    ) -> Result<AggregateCall> {
        let params = &function.params;
        let data_type = field.data_type().clone();
        let Some(kind) = special(function.func.name(), field) else {
            let general = self.general(function, field.name(), input_schema)?;
            let columns = params.args.iter().zip(&general.is_constant).filter(|(_, is_constant)| !**is_constant);
            let arguments = columns.map(|(arg, _)| argument(arg)).collect::<Result<Vec<_>>>()?;
            let order = params.order_by.iter().map(|sort| {
                let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
                Ok(OrderColumn { column: argument(&sort.expr)?, options })
            });
            let order: Vec<OrderColumn> = order.collect::<Result<_>>()?;
            let filter = params.filter.as_deref().map(&mut *argument).transpose()?;
            let kind = AggregateKind::General(Arc::new(general.function));
            let (distinct, name) = (params.distinct, call_name(function, false));
            if distinct && !order.iter().all(|order| arguments.contains(&order.column)) {
                return Err(refuse::distinct_order());
            }
            return Ok(AggregateCall { kind, arguments, order, filter, distinct, data_type, name });
        };
        let arguments = match params.args.as_slice() {
            // count(*) counts a constant.
            [Expr::Literal(value, _)] if kind == AggregateKind::Count && !value.is_null() && !params.distinct => vec![],
            args => args.iter().map(&mut *argument).collect::<Result<Vec<_>>>()?,
        };
        let filter = params.filter.as_deref().map(&mut *argument).transpose()?;
        // The least of distinct values is the least of all.
        let distinct = params.distinct && !matches!(kind, AggregateKind::Min | AggregateKind::Max);
        let name = call_name(function, arguments.is_empty());
        Ok(AggregateCall { kind, arguments, order: vec![], filter, distinct, data_type, name })
    }

    /// The function over its non-constant parameters as columns 0, 1, ….
    fn general(&self, function: &AggregateFunction, name: &str, input_schema: &DFSchema) -> Result<General> {
        let params = &function.params;
        let (mut fields, mut parameters, mut is_constant) = (vec![], vec![], vec![]);
        let physical = params.args.iter().map(|arg| self.physical(arg, input_schema)).collect::<Result<Vec<_>>>()?;
        let is_literal = |physical: &Arc<dyn PhysicalExpr>| {
            let expr: &dyn Any = physical.as_ref();
            expr.is::<Literal>()
        };
        // `string_agg('x', ',')` keeps its rows, too, and rows are made of columns.
        let is_all_constant = physical.iter().all(is_literal);
        for (at, (arg, physical)) in params.args.iter().zip(physical).enumerate() {
            let is_constant_here = is_literal(&physical) && (at > 0 || !is_all_constant && !params.distinct);
            is_constant.push(is_constant_here);
            parameters.push(if is_constant_here {
                physical
            } else {
                let (_, field) = arg.to_field(input_schema)?;
                let name = format!("p{}", fields.len());
                fields.push(field.as_ref().clone().with_name(&name));
                Arc::new(PhysicalColumn::new(&name, fields.len() - 1)) as Arc<dyn PhysicalExpr>
            });
        }
        // An ordered-set function wants to know which way its first parameter is sorted; others just take rows in order.
        let order = match (function.func.supports_within_group_clause(), params.order_by.first(), parameters.first()) {
            (true, Some(sort), Some(first)) => vec![PhysicalSortExpr {
                expr: first.clone(),
                options: SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first },
            }],
            _ => vec![],
        };
        let ignores_nulls = params.null_treatment == Some(NullTreatment::IgnoreNulls);
        let function = AggregateExprBuilder::new(function.func.clone(), parameters)
            .schema(Arc::new(Schema::new(fields)))
            .alias(name)
            .order_by(order)
            .with_ignore_nulls(ignores_nulls)
            .build()?;
        // Says now what cannot be evaluated at all.
        function.create_accumulator()?;
        Ok(General { function, is_constant })
    }
}

struct General {
    function: AggregateFunctionExpr,
    /// For each of the call's arguments.
    is_constant: Vec<bool>,
}

/// Functions with an incremental form of their own, for result types that it has.
fn special(name: &str, field: &Field) -> Option<AggregateKind> {
    let is_word = field.data_type().is_signed_integer();
    Some(match name {
        "count" => AggregateKind::Count,
        "sum" => AggregateKind::Sum,
        "avg" => AggregateKind::Avg,
        "min" => AggregateKind::Min,
        "max" => AggregateKind::Max,
        "regr_count" => AggregateKind::Count,
        "bool_and" => AggregateKind::Bits(Fold::And),
        "bool_or" => AggregateKind::Bits(Fold::Or),
        "bit_and" if is_word => AggregateKind::Bits(Fold::And),
        "bit_or" if is_word => AggregateKind::Bits(Fold::Or),
        "bit_xor" if is_word => AggregateKind::Bits(Fold::Xor),
        other => AggregateKind::Statistic(Statistic::of_name(other)?),
    })
}

/// `count(DISTINCT a) FILTER (WHERE …)`.
fn call_name(function: &AggregateFunction, of_rows: bool) -> String {
    let params = &function.params;
    let args: Vec<String> = if of_rows { vec!["*".into()] } else { params.args.iter().map(readable).collect() };
    let distinct = if params.distinct { "DISTINCT " } else { "" };
    let filter = params.filter.as_deref().map_or(String::new(), |expr| format!(" FILTER (WHERE {})", readable(expr)));
    let sorts: Vec<String> = params.order_by.iter().map(sort_text).collect();
    let (name, sorts) = (function.func.name(), sorts.join(", "));
    if function.func.supports_within_group_clause() && !params.order_by.is_empty() {
        // The first argument is what is ordered.
        return format!("{name}({distinct}{}) WITHIN GROUP (ORDER BY {sorts}){filter}", args[1..].join(", "));
    }
    let order = if sorts.is_empty() { String::new() } else { format!(" ORDER BY {sorts}") };
    format!("{name}({distinct}{}{order}){filter}", args.join(", "))
}

/// `a DESC NULLS LAST`; what Postgres takes by default is left out.
fn sort_text(sort: &Sort) -> String {
    let direction = if sort.asc { "" } else { " DESC" };
    let nulls = match (sort.asc, sort.nulls_first) {
        (true, true) => " NULLS FIRST",
        (false, false) => " NULLS LAST",
        _ => "",
    };
    format!("{}{direction}{nulls}", readable(&sort.expr))
}

/// An expression as EXPLAIN shows it, its columns without their relation.
pub(super) fn readable(expr: &Expr) -> String {
    let bare = expr.clone().transform_up(|expr| match expr {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
        // Conversions that the planner put in say nothing.
        Expr::Cast(cast) => Ok(Transformed::yes(*cast.expr)),
        other => Ok(Transformed::no(other)),
    });
    bare.map_or_else(|_| expr.to_string(), |bare| bare.data.human_display().to_string())
}
