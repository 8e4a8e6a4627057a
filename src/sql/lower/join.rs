//! Inner equi-joins.

use std::sync::Arc;

use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, Projection};

use super::{Lowering, refuse, side_by_side};
use crate::error::{Error, Result};
use crate::plan::{Properties, StreamNode, StreamPlan};

impl Lowering<'_> {
    pub(super) fn join(&self, join: &Join) -> Result<StreamPlan> {
        if join.join_type != JoinType::Inner {
            return Err(refuse::join(join.join_type));
        }
        if join.on.is_empty() {
            return Err(Error::unsupported(
                "a join without an equality condition",
                "join on at least one equality between the two sides: ON a.x = b.y AND …",
            ));
        }
        if join.null_equality != NullEquality::NullEqualsNothing {
            return Err(Error::unsupported(
                "a join in which NULL equals NULL (INTERSECT, IS NOT DISTINCT FROM)",
                "join with =, or replace NULL with coalesce first",
            ));
        }
        let is_column = |expr: &Expr| matches!(expr, Expr::Column(_));
        if !join.on.iter().all(|(left, right)| is_column(left) && is_column(right)) {
            return self.node(&with_key_columns(join)?);
        }
        let (left, right) = (self.node(&join.left)?, self.node(&join.right)?);
        let index = |plan: &LogicalPlan, expr: &Expr| match expr {
            Expr::Column(column) => Ok(plan.schema().index_of_column(column)?),
            other => Err(Error::internal(format!("join key {other} is no column"))),
        };
        let left_keys = join.on.iter().map(|(l, _)| index(&join.left, l)).collect::<Result<Vec<_>>>()?;
        let right_keys = join.on.iter().map(|(_, r)| index(&join.right, r)).collect::<Result<Vec<_>>>()?;
        let residual = join.filter.as_ref().map(|filter| self.physical(filter, &join.schema)).transpose()?;
        let properties = join_properties(&left, &right, &left_keys, &right_keys);
        Ok(StreamPlan {
            node: StreamNode::Join { left: Box::new(left), right: Box::new(right), left_keys, right_keys, residual },
            schema: side_by_side(&join.schema),
            properties,
        })
    }
}

/// A pair of rows is known by both rows' keys, or by one side's alone if the other has at most one match for it.
/// There is no time column: a row of one side may meet a much older one of the other.
fn join_properties(left: &StreamPlan, right: &StreamPlan, left_keys: &[usize], right_keys: &[usize]) -> Properties {
    let width = left.schema.fields().len();
    let unique =
        |key: &Option<Vec<usize>>, on: &[usize]| key.as_ref().is_some_and(|key| key.iter().all(|c| on.contains(c)));
    let shifted = |key: &Vec<usize>| key.iter().map(|column| column + width).collect::<Vec<_>>();
    let key = match (&left.properties.key, &right.properties.key) {
        (Some(l), _) if unique(&right.properties.key, right_keys) => Some(l.clone()),
        (_, Some(r)) if unique(&left.properties.key, left_keys) => Some(shifted(r)),
        (Some(l), Some(r)) => Some(l.iter().copied().chain(shifted(r)).collect()),
        _ => None,
    };
    Properties { append_only: left.properties.append_only && right.properties.append_only, key, time: None }
}

/// The join with its key expressions as columns of the inputs, and a projection that takes them off again.
fn with_key_columns(join: &Join) -> Result<LogicalPlan> {
    let side = |input: &LogicalPlan, keys: Vec<&Expr>, prefix: &str| -> Result<(LogicalPlan, Vec<Expr>)> {
        let mut exprs: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
        let mut columns = vec![];
        for (number, key) in keys.into_iter().enumerate() {
            if let Expr::Column(column) = key {
                columns.push(Expr::Column(column.clone()));
                continue;
            }
            let name = format!("{prefix}{number}");
            exprs.push(key.clone().alias(&name));
            columns.push(Expr::Column(Column::new_unqualified(name)));
        }
        Ok((LogicalPlanBuilder::from(input.clone()).project(exprs)?.build()?, columns))
    };
    let (left, left_keys) = side(&join.left, join.on.iter().map(|(l, _)| l).collect(), "left_key_")?;
    let (right, right_keys) = side(&join.right, join.on.iter().map(|(_, r)| r).collect(), "right_key_")?;
    let keyed = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        left_keys.into_iter().zip(right_keys).collect(),
        join.filter.clone(),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?;
    let columns = join.schema.columns().into_iter().map(Expr::Column).collect();
    let plan = Projection::try_new(columns, Arc::new(LogicalPlan::Join(keyed)))?;
    Ok(LogicalPlan::Projection(plan))
}
