//! ORDER BY … LIMIT.
//!
//! A maintained relation has no order of its own; an order only says which rows are the first. A limit without one
//! takes the rows that come first by value, so that it is a function of the rows all the same.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::{Expr, FetchType, Limit, LogicalPlan, SkipType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;

use super::{Lowering, column_index, project, time};
use crate::error::{Error, Result};
use crate::plan::{Properties, SortColumn, StreamNode, StreamPlan, Ties, TopN};

impl Lowering<'_> {
    pub(super) fn limit(&self, limit: &Limit) -> Result<StreamPlan> {
        let top = top_of(limit)?;
        if has_order(&limit.input) { self.first(&limit.input, top) } else { self.first_of(&limit.input, &[], top) }
    }

    /// The first rows of a plan that says an order somewhere below.
    fn first(&self, plan: &LogicalPlan, top: TopN) -> Result<StreamPlan> {
        match plan {
            LogicalPlan::Projection(projection) => {
                let input = self.first(&projection.input, top)?;
                let exprs = self.physical_all(&projection.expr, projection.input.schema())?;
                Ok(project(input, exprs, projection.schema.inner().clone()))
            }
            LogicalPlan::SubqueryAlias(alias) => self.first(&alias.input, top),
            // The first of the first.
            LogicalPlan::Limit(inner) => {
                let inner_top = top_of(inner)?;
                let rest = inner_top.limit.map(|limit| limit.saturating_sub(top.offset));
                let limit = match (rest, top.limit) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (one, other) => one.or(other),
                };
                let offset = inner_top.offset.saturating_add(top.offset);
                self.first(&inner.input, TopN { offset, limit, ties: Ties::Cut })
            }
            LogicalPlan::Sort(sort) => {
                let limit = match (sort.fetch, top.limit) {
                    (Some(fetch), Some(limit)) => Some(limit.min((fetch as u64).saturating_sub(top.offset))),
                    (Some(fetch), None) => Some((fetch as u64).saturating_sub(top.offset)),
                    (None, limit) => limit,
                };
                self.first_of(&sort.input, &sort.expr, TopN { limit, ..top })
            }
            other => self.first_of(other, &[], top),
        }
    }

    fn first_of(&self, input: &LogicalPlan, order: &[SortExpr], top: TopN) -> Result<StreamPlan> {
        let plan = self.node(input)?;
        self.top_n(plan, input.schema(), &[], order, top)
    }

    /// The first rows of each partition; the columns stay.
    pub(super) fn top_n(
        &self,
        input: StreamPlan,
        schema: &DFSchema,
        partition: &[Expr],
        order: &[SortExpr],
        top: TopN,
    ) -> Result<StreamPlan> {
        let shown = input.schema.clone();
        let width = shown.fields().len();
        let exprs: Vec<&Expr> = partition.iter().chain(order.iter().map(|sort| &sort.expr)).collect();
        let (input, columns) = self.with_columns(input, &exprs, schema)?;
        let (partition, sorted) = columns.split_at(partition.len());
        let order = sort_columns(order, sorted);
        let is_one = top.limit == Some(1) && top.ties == Ties::Cut;
        let key = if is_one { Some(partition.to_vec()) } else { input.properties.key.clone() };
        let (input, closing) = self.on_time_showing(input, partition, width)?;
        let times = time::of_partitions(&input, partition, closing.as_ref());
        let properties = Properties { append_only: false, key, times, arrival: None };
        let schema = input.schema.clone();
        let node = StreamNode::TopN { input: Box::new(input), partition: partition.to_vec(), order, top, closing };
        Ok(first_columns(StreamPlan { node, schema, properties }, shown))
    }

    /// The plan with these expressions among its columns, behind its own where they are none of them yet; and where each
    /// is.
    pub(super) fn with_columns(
        &self,
        input: StreamPlan,
        exprs: &[&Expr],
        schema: &DFSchema,
    ) -> Result<(StreamPlan, Vec<usize>)> {
        let mut columns = vec![];
        let mut added: Vec<(Arc<dyn PhysicalExpr>, Field)> = vec![];
        let width = input.schema.fields().len();
        for expr in exprs {
            let physical = self.physical(expr, schema)?;
            columns.push(match column_index(&physical) {
                Some(column) => column,
                None => match added.iter().position(|(other, _)| other.as_ref() == physical.as_ref()) {
                    Some(at) => width + at,
                    None => {
                        let field = physical.return_field(&input.schema)?.as_ref().clone();
                        let field = field.with_name(super::aggregate::readable(expr));
                        added.push((physical, field));
                        width + added.len() - 1
                    }
                },
            });
        }
        if added.is_empty() {
            return Ok((input, columns));
        }
        let own = input.schema.fields().iter().enumerate();
        let mut all: Vec<Arc<dyn PhysicalExpr>> =
            own.map(|(index, field)| Arc::new(PhysicalColumn::new(field.name(), index)) as _).collect();
        let mut fields: Vec<Arc<Field>> = input.schema.fields().iter().cloned().collect();
        for (expr, field) in added {
            all.push(expr);
            fields.push(Arc::new(field));
        }
        Ok((project(input, all, Arc::new(Schema::new(fields))), columns))
    }
}

/// Takes off columns that were added behind those of `schema`.
pub(super) fn first_columns(plan: StreamPlan, schema: datafusion::arrow::datatypes::SchemaRef) -> StreamPlan {
    if plan.schema.fields().len() == schema.fields().len() {
        return plan;
    }
    let columns = schema.fields().iter().enumerate();
    let exprs = columns.map(|(index, field)| Arc::new(PhysicalColumn::new(field.name(), index)) as _).collect();
    project(plan, exprs, schema)
}

pub(super) fn sort_columns(order: &[SortExpr], columns: &[usize]) -> Vec<SortColumn> {
    let column = |(sort, &column): (&SortExpr, &usize)| SortColumn {
        column,
        options: SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first },
    };
    order.iter().zip(columns).map(column).collect()
}

fn top_of(limit: &Limit) -> Result<TopN> {
    let refuse = || {
        let hint = "write the number itself";
        Error::unsupported("LIMIT and OFFSET that are not constant in a maintained view", hint)
    };
    let SkipType::Literal(offset) = limit.get_skip_type()? else { return Err(refuse()) };
    let FetchType::Literal(fetch) = limit.get_fetch_type()? else { return Err(refuse()) };
    Ok(TopN { offset: offset as u64, limit: fetch.map(|fetch| fetch as u64), ties: Ties::Cut })
}

fn has_order(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => has_order(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => has_order(&alias.input),
        LogicalPlan::Limit(limit) => has_order(&limit.input),
        LogicalPlan::Sort(_) => true,
        _ => false,
    }
}
