//! GROUP BY and DISTINCT.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable};
use datafusion::physical_expr::PhysicalExpr;

use super::{Lowering, column_index, project, refuse};
use crate::error::{Error, Result};
use crate::plan::{AggregateCall, AggregateKind, Properties, StreamNode, StreamPlan};

/// Columns that an aggregate reads, projected out of its input where they are more than columns of it.
struct Arguments {
    exprs: Vec<(Expr, Arc<dyn PhysicalExpr>)>,
}

impl Lowering<'_> {
    pub(super) fn aggregate(&self, aggregate: &Aggregate) -> Result<StreamPlan> {
        let input_schema = aggregate.input.schema();
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
        let mut keys = vec![];
        for expr in &aggregate.group_expr {
            if matches!(expr, Expr::GroupingSet(_)) {
                return Err(Error::unsupported(
                    "GROUPING SETS, ROLLUP and CUBE in a maintained view",
                    "write one GROUP BY for each, with UNION ALL",
                ));
            }
            keys.push(argument(expr)?);
        }
        let mut calls = vec![];
        for (index, expr) in aggregate.aggr_expr.iter().enumerate() {
            let Expr::AggregateFunction(function) = expr.clone().unalias_nested().data else {
                return Err(Error::internal(format!("{expr} is no aggregate")));
            };
            let field = aggregate.schema.field(keys.len() + index);
            calls.push(call(&function, field, &mut argument)?);
        }

        let input = self.node(&aggregate.input)?;
        let sources: Option<Vec<usize>> = arguments.exprs.iter().map(|(_, physical)| column_index(physical)).collect();
        let input = match sources {
            // All are columns already.
            Some(sources) => {
                keys.iter_mut().for_each(|key| *key = sources[*key]);
                for call in &mut calls {
                    call.argument = call.argument.map(|at| sources[at]);
                    call.filter = call.filter.map(|at| sources[at]);
                }
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
        let properties = Properties {
            // DISTINCT of what only grows only grows.
            append_only: calls.is_empty() && !keys.is_empty() && input.properties.append_only,
            key: Some((0..keys.len()).collect()),
            time: None,
        };
        // Calls under their readable names.
        let named = |(index, field): (usize, &Arc<Field>)| match index.checked_sub(keys.len()) {
            Some(call) => field.as_ref().clone().with_name(&calls[call].name),
            None => field.as_ref().clone(),
        };
        let schema = Arc::new(Schema::new(aggregate.schema.fields().iter().enumerate().map(named).collect::<Vec<_>>()));
        Ok(StreamPlan { node: StreamNode::Aggregate { input: Box::new(input), keys, calls }, schema, properties })
    }
}

/// DISTINCT over all columns.
pub(super) fn distinct(input: StreamPlan) -> StreamPlan {
    let keys: Vec<usize> = (0..input.schema.fields().len()).collect();
    let properties = Properties { append_only: input.properties.append_only, key: Some(keys.clone()), time: None };
    let schema = input.schema.clone();
    StreamPlan { node: StreamNode::Aggregate { input: Box::new(input), keys, calls: vec![] }, schema, properties }
}

fn call(
    function: &AggregateFunction,
    field: &Field,
    argument: &mut impl FnMut(&Expr) -> Result<usize>,
) -> Result<AggregateCall> {
    let kind = match function.func.name() {
        "count" => AggregateKind::Count,
        "sum" => AggregateKind::Sum,
        "avg" => AggregateKind::Avg,
        "min" => AggregateKind::Min,
        "max" => AggregateKind::Max,
        other => return Err(refuse::aggregate(other)),
    };
    let params = &function.params;
    let column = match params.args.as_slice() {
        // count(*) counts a constant.
        [Expr::Literal(value, _)] if kind == AggregateKind::Count && !value.is_null() => None,
        [] if kind == AggregateKind::Count => None,
        [one] => Some(argument(one)?),
        _ => {
            let what = format!("{} of several arguments", function.func.name());
            return Err(Error::unsupported(what, "combine them into one expression"));
        }
    };
    if matches!(kind, AggregateKind::Sum | AggregateKind::Avg) && !is_number(field.data_type()) {
        let what = format!("{} of type {}", function.func.name(), crate::types::PgType::of(field).name());
        return Err(Error::unsupported(what, "numbers can be added up; extract(epoch from …) makes one of a time"));
    }
    let filter = params.filter.as_deref().map(&mut *argument).transpose()?;
    // The least of distinct values is the least of all.
    let distinct = params.distinct && !matches!(kind, AggregateKind::Min | AggregateKind::Max);
    if distinct && column.is_none() {
        return Err(Error::unsupported("count(DISTINCT constant)", "count something that varies"));
    }
    Ok(AggregateCall {
        kind,
        argument: column,
        filter,
        distinct,
        data_type: field.data_type().clone(),
        name: call_name(function, column.is_none()),
    })
}

/// `count(DISTINCT a) FILTER (WHERE …)`.
fn call_name(function: &AggregateFunction, of_rows: bool) -> String {
    let params = &function.params;
    let args: Vec<String> = if of_rows { vec!["*".into()] } else { params.args.iter().map(readable).collect() };
    let distinct = if params.distinct { "DISTINCT " } else { "" };
    let filter = params.filter.as_deref().map_or(String::new(), |expr| format!(" FILTER (WHERE {})", readable(expr)));
    format!("{}({distinct}{}){filter}", function.func.name(), args.join(", "))
}

/// An expression as EXPLAIN shows it, its columns without their relation.
fn readable(expr: &Expr) -> String {
    let bare = expr.clone().transform_up(|expr| match expr {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
        // Conversions that the planner put in say nothing.
        Expr::Cast(cast) => Ok(Transformed::yes(*cast.expr)),
        other => Ok(Transformed::no(other)),
    });
    bare.map_or_else(|_| expr.to_string(), |bare| bare.data.human_display().to_string())
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_floating() || matches!(data_type, DataType::Decimal128(..))
}
