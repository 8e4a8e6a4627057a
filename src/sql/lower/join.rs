//! Joins of every kind: equalities become keys, the rest a residual condition.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, JoinType as LogicalJoinType, NullEquality};
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Join, LogicalPlan, LogicalPlanBuilder, Operator, Projection, binary_expr, lit,
};

use super::time::{of_join, tells_of_windows};
use super::{Lowering, band, project, side_by_side};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;

use crate::error::{Error, Result};
use crate::plan::{JoinClosing, JoinKeys, JoinType, Properties, StreamNode, StreamPlan, TimeColumn, Watermark, least};
use crate::sql::arrival::looked_up;

impl Lowering<'_> {
    pub(super) fn join(&self, join: &Join) -> Result<StreamPlan> {
        if join.null_aware {
            return Err(Error::internal("NOT IN was to be spelled out before"));
        }
        let condition = Condition::of(join)?;
        if !condition.equalities.iter().all(|equality| equality.is_of_columns()) {
            return self.node(&with_key_columns(join, condition)?);
        }
        let keys = condition.keys(join)?;
        if let Some(right) = looked_up(&join.right)? {
            return self.lookup(join, &right, keys, condition.rest);
        }
        let (left, right) = (self.node(&join.left)?, self.node(&join.right)?);
        let (join_type, is_swapped) = stream_type(join.join_type);
        let (left, right, keys) = match is_swapped {
            false => (left, right, keys),
            true => (right, left, JoinKeys { left: keys.right, right: keys.left, ..keys }),
        };
        let (first, second) = if is_swapped { (&join.right, &join.left) } else { (&join.left, &join.right) };
        let (left, right, closing) = match self.of_windows(left, right, &keys)? {
            (left, right, None) => {
                self.near_in_time(left, right, &condition.rest, [first.schema(), second.schema()])?
            }
            closed => closed,
        };
        let band = if keys.is_empty() { band::find(&condition.rest, first.schema(), second.schema()) } else { None };
        let residual = match conjunction(condition.rest) {
            None => None,
            Some(rest) => Some(self.physical(&rest, &first.schema().join(second.schema())?)?),
        };
        let schema = side_by_side(&join.schema);
        if let (Some(band), Some(residual)) = (band, &residual)
            && let Some([left, right]) = band.buckets(left.clone(), right.clone(), join_type)
        {
            return Ok(bucket_join([left, right], join_type, residual.clone(), closing, schema));
        }
        let properties = join_properties(&left, &right, join_type, &keys, closing.as_ref());
        let (arranged, keys) = match closing {
            None => self.arranged([&left, &right], join_type, keys),
            // Rows whose time is over are let go, which is less than the relation has.
            Some(_) => (None, keys),
        };
        let (left, right) = (Box::new(left), Box::new(right));
        let node = StreamNode::Join { left, right, join_type, keys, residual, closing, arranged };
        Ok(StreamPlan { node, schema, properties })
    }

    /// Inputs that meet by a window of both: without late rows, and the time by which both sides' rows go.
    fn of_windows(&self, left: StreamPlan, right: StreamPlan, keys: &JoinKeys) -> Result<Closed> {
        let Some((left_column, right_column)) = window_pair(&left.properties, &right.properties, keys) else {
            return Ok((left, right, None));
        };
        let (left, left_time) = self.on_time(left, &[left_column])?;
        let (right, right_time) = self.on_time(right, &[right_column])?;
        let (Some(left_time), Some(right_time)) = (left_time, right_time) else { return Ok((left, right, None)) };
        let time = both(&left_time, left_time.watermark.clone(), &right_time, right_time.watermark.clone());
        Ok((left, right, Some(JoinClosing::Keys(time))))
    }

    /// Inputs whose rows match only near each other in time, `lo ≤ left − right ≤ hi`, or bounded on one side: without the
    /// rows that come too late to meet what was let go. Right rows to come are at W(right) or after it, so left rows
    /// before W(right) + lo go, and right rows before W(left) − hi. Without a bound, or the watermark, that side's stay.
    fn near_in_time(
        &self,
        left: StreamPlan,
        right: StreamPlan,
        conditions: &[Expr],
        schemas: [&DFSchema; 2],
    ) -> Result<Closed> {
        let instant = |plan: &StreamPlan, column: usize| {
            let is_instant = matches!(plan.schema.field(column).data_type(), DataType::Timestamp(..));
            is_instant.then(|| plan.properties.time(column).cloned()).flatten()
        };
        // What only grows takes nothing back of what has gone; of others, nothing older than their watermark changes.
        let may_go = |plan: &StreamPlan, own: usize| plan.properties.append_only || instant(plan, own).is_some();
        let [lowers, uppers] = band::bounds(conditions, schemas[0], schemas[1]);
        let lower = lowers.into_iter().filter(|((l, r), _)| instant(&right, *r).is_some() && may_go(&left, *l));
        let upper = uppers.into_iter().filter(|((l, r), _)| instant(&left, *l).is_some() && may_go(&right, *r));
        let (lower, upper) = (lower.max_by_key(|(_, lo)| *lo), upper.min_by_key(|(_, hi)| *hi));
        if lower.is_none() && upper.is_none() {
            return Ok((left, right, None));
        }
        // Of the times of an input: that by which the other one's rows go, and its own, if it takes rows back.
        let on_time = |mut plan: StreamPlan, wanted: [Option<usize>; 2]| {
            let width = plan.schema.fields().len();
            for column in wanted.into_iter().flatten() {
                if let Some(time) = instant(&plan, column) {
                    plan = self.without_late(plan, time, width)?.0;
                }
            }
            Ok::<StreamPlan, Error>(plan)
        };
        let takes_back = |plan: &StreamPlan| !plan.properties.append_only;
        let (of_left, of_right) = (lower.map(|((l, _), _)| l), upper.map(|((_, r), _)| r));
        let left_own = of_left.filter(|_| takes_back(&left));
        let right_own = of_right.filter(|_| takes_back(&right));
        let left = on_time(left, [upper.map(|((l, _), _)| l), left_own])?;
        let right = on_time(right, [lower.map(|((_, r), _)| r), right_own])?;
        let closing = |own: &StreamPlan, column: usize, other: &StreamPlan, other_column: usize, delay_us: i64| {
            let other = instant(other, other_column)?;
            let delayed = match delay_us {
                0 => other.watermark.clone(),
                _ => Watermark::Delayed(Box::new(other.watermark.clone()), delay_us),
            };
            Some(match instant(own, column) {
                // What a side has not let through yet may take rows back, too.
                Some(own) => both(&own, own.watermark.clone(), &other, delayed),
                None => TimeColumn { column, watermark: delayed, is_kept: true, ..other },
            })
        };
        let of_left = lower.and_then(|((l, r), lo)| closing(&left, l, &right, r, lo.saturating_neg()));
        let of_right = upper.and_then(|((l, r), hi)| closing(&right, r, &left, l, hi));
        Ok((left, right, Some(JoinClosing::Rows([of_left, of_right]))))
    }
}

/// Both inputs of a join, and by what times it lets go of their rows.
type Closed = (StreamPlan, StreamPlan, Option<JoinClosing>);

/// A time of one side that waits for both watermarks.
fn both(own: &TimeColumn, own_watermark: Watermark, other: &TimeColumn, other_watermark: Watermark) -> TimeColumn {
    let lateness_us = own.lateness_us.max(other.lateness_us);
    TimeColumn { watermark: least(&own_watermark, &other_watermark), lateness_us, is_kept: true, ..own.clone() }
}

/// The columns of a pair of keys that tell of windows, best of their ends.
fn window_pair(left: &Properties, right: &Properties, keys: &JoinKeys) -> Option<(usize, usize)> {
    let pairs = keys.left.iter().copied().zip(keys.right.iter().copied());
    let is_end = |properties: &Properties, column: usize| {
        properties.time(column).map(|time| matches!(time.watermark, Watermark::End(..)))
    };
    let of_windows = pairs.filter(|&(l, r)| tells_of_windows(left, l) && tells_of_windows(right, r));
    of_windows.min_by_key(|&(l, r)| (is_end(left, l), is_end(right, r)) != (Some(true), Some(true)))
}

/// A join on the buckets, the last columns of both inputs, which are then taken off.
fn bucket_join(
    [left, right]: [StreamPlan; 2],
    join_type: JoinType,
    residual: Arc<dyn PhysicalExpr>,
    closing: Option<JoinClosing>,
    schema: SchemaRef,
) -> StreamPlan {
    let (left_width, right_width) = (left.schema.fields().len() - 1, right.schema.fields().len() - 1);
    let keys = JoinKeys { left: vec![left_width], right: vec![right_width], null_equals_null: vec![false] };
    let properties = join_properties(&left, &right, join_type, &keys, closing.as_ref());
    // Where the columns of `schema` stand in the joined rows.
    let mut places: Vec<usize> = (0..left_width).collect();
    let joined: Vec<Field> = match join_type {
        JoinType::Semi | JoinType::Anti => left.schema.fields().iter().map(|f| f.as_ref().clone()).collect(),
        JoinType::Mark => {
            places.push(left_width + 1);
            let mark = schema.field(schema.fields().len() - 1).clone();
            left.schema.fields().iter().map(|f| f.as_ref().clone()).chain([mark]).collect()
        }
        _ => {
            places.extend((0..right_width).map(|column| left_width + 1 + column));
            let fields = left.schema.fields().iter().chain(right.schema.fields());
            fields.map(|field| field.as_ref().clone().with_nullable(true)).collect()
        }
    };
    let joined = Arc::new(Schema::new(joined));
    let residual = Some(band::shifted(residual, left_width, 1));
    let (left, right) = (Box::new(left), Box::new(right));
    let node = StreamNode::Join { left, right, join_type, keys, residual, closing, arranged: None };
    let plan = StreamPlan { node, schema: joined.clone(), properties };
    let copy =
        |&place: &usize| Arc::new(PhysicalColumn::new(joined.field(place).name(), place)) as Arc<dyn PhysicalExpr>;
    project(plan, places.iter().map(copy).collect(), schema)
}

/// A join's condition, cut into equalities between the two sides and the rest.
struct Condition {
    equalities: Vec<Equality>,
    rest: Vec<Expr>,
}

struct Equality {
    left: Expr,
    right: Expr,
    null_equals_null: bool,
}

impl Equality {
    fn is_of_columns(&self) -> bool {
        matches!((&self.left, &self.right), (Expr::Column(_), Expr::Column(_)))
    }
}

impl Condition {
    /// The equalities, which must be of columns.
    fn keys(&self, join: &Join) -> Result<JoinKeys> {
        let index = |plan: &LogicalPlan, expr: &Expr| match expr {
            Expr::Column(column) => Ok(plan.schema().index_of_column(column)?),
            other => Err(Error::internal(format!("join key {other} is no column"))),
        };
        let mut keys = JoinKeys::default();
        for equality in &self.equalities {
            keys.left.push(index(&join.left, &equality.left)?);
            keys.right.push(index(&join.right, &equality.right)?);
            keys.null_equals_null.push(equality.null_equals_null);
        }
        Ok(keys)
    }

    /// The optimiser mixes `=` and `IS NOT DISTINCT FROM` up, so the equalities are looked for here.
    fn of(join: &Join) -> Result<Condition> {
        let null_equals_null = join.null_equality == NullEquality::NullEqualsNull;
        let keys = join.on.iter().cloned();
        let mut equalities: Vec<Equality> =
            keys.map(|(left, right)| Equality { left, right, null_equals_null }).collect();
        let mut rest = vec![];
        for condition in join.filter.iter().flat_map(|filter| split_conjunction_owned(filter.clone())) {
            match equality(condition, join.left.schema(), join.right.schema())? {
                Ok(equality) => equalities.push(equality),
                Err(condition) => rest.push(condition),
            }
        }
        rest.retain(|condition| *condition != lit(true));
        Ok(Condition { equalities, rest })
    }
}

/// The condition as an equality between a left and a right expression of one type, or as it was.
fn equality(condition: Expr, left: &DFSchema, right: &DFSchema) -> Result<Result<Equality, Expr>> {
    let Expr::BinaryExpr(BinaryExpr { left: a, op, right: b }) = &condition else { return Ok(Err(condition)) };
    let null_equals_null = match op {
        Operator::Eq => false,
        Operator::IsNotDistinctFrom => true,
        _ => return Ok(Err(condition)),
    };
    let is_of = |expr: &Expr, schema: &DFSchema| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|column| schema.index_of_column(column).is_ok())
    };
    let (l, r) = match (is_of(a, left) && is_of(b, right), is_of(b, left) && is_of(a, right)) {
        (true, _) => (a, b),
        (_, true) => (b, a),
        _ => return Ok(Err(condition)),
    };
    if l.get_type(left)? != r.get_type(right)? {
        return Ok(Err(condition));
    }
    Ok(Ok(Equality { left: l.as_ref().clone(), right: r.as_ref().clone(), null_equals_null }))
}

/// Joins that show the right side alone are those that show the left, with the sides changed.
fn stream_type(join_type: LogicalJoinType) -> (JoinType, bool) {
    match join_type {
        LogicalJoinType::Inner => (JoinType::Inner, false),
        LogicalJoinType::Left => (JoinType::Left, false),
        LogicalJoinType::Right => (JoinType::Right, false),
        LogicalJoinType::Full => (JoinType::Full, false),
        LogicalJoinType::LeftSemi => (JoinType::Semi, false),
        LogicalJoinType::LeftAnti => (JoinType::Anti, false),
        LogicalJoinType::LeftMark => (JoinType::Mark, false),
        LogicalJoinType::RightSemi => (JoinType::Semi, true),
        LogicalJoinType::RightAnti => (JoinType::Anti, true),
        LogicalJoinType::RightMark => (JoinType::Mark, true),
    }
}

/// A pair of rows is known by both rows' keys, or by one side's alone if the other has at most one match for it and no
/// row comes out padded.
fn join_properties(
    left: &StreamPlan,
    right: &StreamPlan,
    join_type: JoinType,
    on: &JoinKeys,
    closing: Option<&JoinClosing>,
) -> Properties {
    let width = left.schema.fields().len();
    let unique =
        |key: &Option<Vec<usize>>, on: &[usize]| key.as_ref().is_some_and(|key| key.iter().all(|c| on.contains(c)));
    let shifted = |key: &Vec<usize>| key.iter().map(|column| column + width).collect::<Vec<_>>();
    let (left_key, right_key) = (&left.properties.key, &right.properties.key);
    // One match at most for each row of the other side.
    let (one_left, one_right) = (unique(left_key, &on.left), unique(right_key, &on.right));
    let key = match (join_type, left_key, right_key) {
        (JoinType::Semi | JoinType::Anti | JoinType::Mark, left_key, _) => left_key.clone(),
        // Rows without a match of either side could look alike.
        (JoinType::Full, ..) => None,
        (JoinType::Inner | JoinType::Left, Some(l), _) if one_right => Some(l.clone()),
        (JoinType::Inner | JoinType::Right, _, Some(r)) if one_left => Some(shifted(r)),
        (_, Some(l), Some(r)) => Some(l.iter().copied().chain(shifted(r)).collect()),
        _ => None,
    };
    let inputs_only_grow = left.properties.append_only && right.properties.append_only;
    let append_only = inputs_only_grow && matches!(join_type, JoinType::Inner | JoinType::Semi);
    Properties { append_only, key, times: of_join(left, right, join_type, on, closing), arrival: None }
}

/// The join with its key expressions as columns of the inputs, and a projection that takes them off again.
fn with_key_columns(join: &Join, condition: Condition) -> Result<LogicalPlan> {
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
    let equalities = &condition.equalities;
    let (left, left_keys) = side(&join.left, equalities.iter().map(|e| &e.left).collect(), "left_key_")?;
    let (right, right_keys) = side(&join.right, equalities.iter().map(|e| &e.right).collect(), "right_key_")?;
    let keys = left_keys.into_iter().zip(right_keys).zip(equalities).map(|((left, right), equality)| {
        let op = if equality.null_equals_null { Operator::IsNotDistinctFrom } else { Operator::Eq };
        binary_expr(left, op, right)
    });
    let filter = conjunction(keys.chain(condition.rest));
    let keyed = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        vec![],
        filter,
        join.join_type,
        join.join_constraint,
        NullEquality::NullEqualsNothing,
        false,
    )?;
    let columns = join.schema.columns().into_iter().map(Expr::Column).collect();
    let plan = Projection::try_new(columns, Arc::new(LogicalPlan::Join(keyed)))?;
    Ok(LogicalPlan::Projection(plan))
}
