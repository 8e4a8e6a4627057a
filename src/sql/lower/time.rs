//! Event time: which columns follow a watermark, where late rows are taken out, when state can go.
//!
//! An operator that keeps state by a window's column (GROUP BY `window_end`) keeps it until the watermark says that the
//! window is over. From then on rows of that window are late: they are taken out just below the operator, so that
//! what it shows of a window stays as it was when the window closed. Whether a row is late depends on the watermark when
//! the row itself arrived, which travels beside it from the scan ([`Lowering::with_arrival`]); so it does not matter which
//! rows came in one epoch.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::expressions::{CastExpr, Column as PhysicalColumn};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::{Lowering, column_index, copy, sliced};
use crate::error::{Error, Result};
use crate::plan::{
    Arrival, JoinClosing, JoinKeys, JoinType, Late, LateRows, Properties, StreamNode, StreamPlan, TimeColumn,
    UnnestColumn, Watermark, Window, least,
};
use crate::types::RelationId;

impl Lowering<'_> {
    /// The input without late rows, and the column by which state goes: one of `keys` (columns of the input), if one of
    /// them tells of windows.
    pub(super) fn on_time(&self, input: StreamPlan, keys: &[usize]) -> Result<(StreamPlan, Option<TimeColumn>)> {
        let width = input.schema.fields().len();
        self.on_time_showing(input, keys, width)
    }

    /// As [`Lowering::on_time`]; of late rows that are kept, the first `shown` columns are.
    pub(super) fn on_time_showing(
        &self,
        input: StreamPlan,
        keys: &[usize],
        shown: usize,
    ) -> Result<(StreamPlan, Option<TimeColumn>)> {
        match closing(&input.properties, keys) {
            None => Ok((input, None)),
            Some(time) => {
                let (input, time) = self.without_late(input, time, shown)?;
                Ok((input, Some(time)))
            }
        }
    }

    /// The input without rows that are late by `time`, a column of it; of late rows that are kept, the first `shown`
    /// columns are.
    pub(super) fn without_late(
        &self,
        input: StreamPlan,
        time: TimeColumn,
        shown: usize,
    ) -> Result<(StreamPlan, TimeColumn)> {
        if time.is_kept {
            return Ok((input, time));
        }
        let time = TimeColumn { lateness_us: self.options.allowed_lateness_us, is_kept: true, ..time };
        let width = input.schema.fields().len();
        let (schema, properties) = (input.schema.clone(), kept(&input.properties, &time));
        let (input, arrival) = self.arriving(input, &time)?;
        self.keep_late(&input, &time, arrival, &schema.project(&(0..shown).collect::<Vec<_>>())?);
        let late = Late { time: time.clone(), arrival, rows: LateRows::Drop };
        let node = StreamNode::Late { input: Box::new(input), late, width };
        Ok((StreamPlan { node, schema, properties }, time))
    }

    /// As [`Lowering::on_time`], for sessions: a row is late if the session that it would be alone is over. Sessions go by
    /// the time of their last row. The arrival of the rows stays behind their columns, where it is known.
    pub(super) fn on_time_for_sessions(
        &self,
        input: StreamPlan,
        time_column: usize,
        gap_us: i64,
    ) -> Result<(StreamPlan, Option<TimeColumn>, Option<Arrival>)> {
        let Some(time) = input.properties.time(time_column).cloned() else { return Ok((input, None, None)) };
        // t + gap ≤ w, in whole microseconds: t < w − (gap − 1).
        let time = TimeColumn { watermark: Watermark::Delayed(Box::new(time.watermark), gap_us - 1), ..time };
        if time.is_kept {
            return Ok((input, Some(time), None));
        }
        let time = TimeColumn { lateness_us: self.options.allowed_lateness_us, is_kept: true, ..time };
        let schema = input.schema.clone();
        let (input, arrival) = self.arriving(input, &time)?;
        self.keep_late(&input, &time, arrival, &schema);
        let (schema, width) = (input.schema.clone(), input.schema.fields().len());
        let properties = Properties { times: vec![time.clone()], ..input.properties.clone() };
        let late = Late { time: time.clone(), arrival, rows: LateRows::Drop };
        let node = StreamNode::Late { input: Box::new(input), late, width };
        Ok((StreamPlan { node, schema, properties }, Some(time), arrival))
    }

    /// Where late rows are asked for: those that are taken out here, with these columns.
    fn keep_late(&self, input: &StreamPlan, time: &TimeColumn, arrival: Option<Arrival>, shown: &Schema) {
        if let Some(found) = self.late.borrow_mut().as_mut() {
            let late = only_late(input, time, arrival, shown);
            if !found.contains(&late) {
                found.push(late);
            }
        }
    }

    /// The input with the arrival of each row behind its columns, if it is known.
    pub(super) fn arriving(&self, input: StreamPlan, time: &TimeColumn) -> Result<(StreamPlan, Option<Arrival>)> {
        let column = input.schema.fields().len();
        let relations = time.watermark.relations();
        let is_uniform = time.watermark.is_uniform();
        let Some(&relation) = relations.first().filter(|_| is_uniform) else { return Ok((input, None)) };
        Ok(match self.with_arrival(&input, &relations)? {
            Some(input) => (input, Some(Arrival { column, relation })),
            None => (input, None),
        })
    }

    /// The plan with two more columns: when the row arrived that the plan's row was made of, the watermark of its relation,
    /// one of `relations`, and the wall-clock time. `None` where a row is made of many, or of none.
    pub(super) fn with_arrival(&self, plan: &StreamPlan, relations: &[RelationId]) -> Result<Option<StreamPlan>> {
        let width = plan.schema.fields().len();
        let Some(&relation) = relations.first() else { return Ok(None) };
        Ok(match &plan.node {
            StreamNode::Scan { relation: scanned, name, columns } => {
                let known = self.arrivals.borrow().get(scanned).copied();
                let Some(arrival) = known.filter(|arrival| relations.contains(&arrival.relation)) else {
                    return Ok(None);
                };
                let mut columns = columns.clone();
                columns.extend([arrival.column, arrival.column + 1]);
                let node = StreamNode::Scan { relation: *scanned, name: name.clone(), columns };
                Some(widened(plan, node, relation))
            }
            StreamNode::Filter { input, predicate } => self.with_arrival(input, relations)?.map(|input| {
                let predicate = predicate.clone();
                widened(plan, StreamNode::Filter { input: Box::new(input), predicate }, relation)
            }),
            StreamNode::Project { input, exprs } => self.with_arrival(input, relations)?.map(|below| {
                let first = input.schema.fields().len();
                let passed = [first, first + 1].map(|column| copy(&below.schema, column));
                let exprs = exprs.iter().cloned().chain(passed).collect();
                widened(plan, StreamNode::Project { input: Box::new(below), exprs }, relation)
            }),
            StreamNode::Unnest { input, columns, empty } => self.with_arrival(input, relations)?.map(|below| {
                let first = input.schema.fields().len();
                let passed = [first, first + 1].map(UnnestColumn::Copy);
                let columns = columns.iter().copied().chain(passed).collect();
                widened(plan, StreamNode::Unnest { input: Box::new(below), columns, empty: *empty }, relation)
            }),
            StreamNode::Window { input, time_column, window } => self.with_arrival(input, relations)?.map(|below| {
                let node = StreamNode::Window { input: Box::new(below), time_column: *time_column, window: *window };
                moved_back(plan, node, input.schema.fields().len(), relation)
            }),
            // Each input's rows come from its own.
            StreamNode::Union { inputs } => {
                let own = |input: &StreamPlan| -> Vec<RelationId> {
                    let followed = input.properties.times.iter().flat_map(|time| time.watermark.relations());
                    let followed: Vec<RelationId> = followed.collect();
                    relations.iter().copied().filter(|relation| followed.contains(relation)).collect()
                };
                let wide = inputs.iter().map(|input| self.with_arrival(input, &own(input)));
                let inputs: Option<Vec<StreamPlan>> = wide.collect::<Result<_>>()?;
                inputs.map(|inputs| widened(plan, StreamNode::Union { inputs }, relation))
            }
            // A row of two has two.
            StreamNode::Join { .. } if relations.len() > 1 => None,
            StreamNode::Join { left, right, join_type, keys, residual, closing, arranged } => {
                let left_width = left.schema.fields().len();
                let shows_right = !matches!(join_type, JoinType::Semi | JoinType::Anti | JoinType::Mark);
                let node = |left, right, residual| StreamNode::Join {
                    left: Box::new(left),
                    right: Box::new(right),
                    join_type: *join_type,
                    keys: keys.clone(),
                    residual,
                    closing: closing.clone(),
                    arranged: *arranged,
                };
                if let Some(wide) = self.with_arrival(left, relations)? {
                    let residual = residual.clone().map(|residual| shifted(residual, left_width)).transpose()?;
                    let node = node(wide, right.as_ref().clone(), residual);
                    return Ok(Some(moved_back(plan, node, left_width, relation)));
                }
                if !shows_right {
                    return Ok(None);
                }
                let wide = self.with_arrival(right, relations)?;
                wide.map(|wide| widened(plan, node(left.as_ref().clone(), wide, residual.clone()), relation))
            }
            StreamNode::Lookup { left, right, keys, residual, keeps_unmatched } => {
                let left_width = left.schema.fields().len();
                let Some(wide) = self.with_arrival(left, relations)? else { return Ok(None) };
                let node = StreamNode::Lookup {
                    left: Box::new(wide),
                    right: right.clone(),
                    keys: keys.clone(),
                    residual: residual.clone().map(|residual| shifted(residual, left_width)).transpose()?,
                    keeps_unmatched: *keeps_unmatched,
                };
                Some(moved_back(plan, node, left_width, relation))
            }
            // What takes out late rows may know their arrival already.
            StreamNode::Late { input, late, width } if late.rows == LateRows::Drop => {
                let input = match late.arrival {
                    Some(arrival) if arrival.column == *width && relations.contains(&arrival.relation) => {
                        Some(input.as_ref().clone())
                    }
                    Some(_) => None,
                    None => self.with_arrival(input, relations)?,
                };
                input.map(|input| {
                    let node = StreamNode::Late { input: Box::new(input), late: late.clone(), width: width + 2 };
                    widened(plan, node, relation)
                })
            }
            // One row of many, or of another time.
            _ => {
                debug_assert!(width > 0 || plan.properties.times.is_empty());
                None
            }
        })
    }
}

/// The late rows alone: the schema's columns and the arrival.
fn only_late(input: &StreamPlan, time: &TimeColumn, arrival: Option<Arrival>, schema: &Schema) -> StreamPlan {
    let width = schema.fields().len();
    let late = Late { time: time.clone(), arrival, rows: LateRows::Only };
    let fields: Vec<Arc<Field>> = schema.fields().iter().cloned().chain(arrival_fields()).collect();
    let properties = Properties { append_only: input.properties.append_only, ..Properties::default() };
    let node = StreamNode::Late { input: Box::new(input.clone()), late, width };
    StreamPlan { node, schema: Arc::new(Schema::new(fields)), properties }
}

pub(super) const ARRIVAL_COLUMNS: [&str; 2] = ["watermark_at_arrival", "arrived_at"];

fn arrival_fields() -> [Arc<Field>; 2] {
    ARRIVAL_COLUMNS.map(|name| Arc::new(Field::new(name, DataType::Int64, true)))
}

/// The plan's schema with the arrival behind it.
fn arriving_schema(plan: &StreamPlan) -> Arc<Schema> {
    let fields: Vec<Arc<Field>> = plan.schema.fields().iter().cloned().chain(arrival_fields()).collect();
    Arc::new(Schema::new_with_metadata(fields, plan.schema.metadata().clone()))
}

/// The plan with another node that has the arrival behind its columns.
fn widened(plan: &StreamPlan, node: StreamNode, relation: RelationId) -> StreamPlan {
    let arrival = Some(Arrival { column: plan.schema.fields().len(), relation });
    StreamPlan { node, schema: arriving_schema(plan), properties: Properties { arrival, ..plan.properties.clone() } }
}

/// As [`widened`], of a node that has the arrival at `place`: it is moved behind the others.
fn moved_back(plan: &StreamPlan, node: StreamNode, place: usize, relation: RelationId) -> StreamPlan {
    let width = plan.schema.fields().len();
    let mut fields: Vec<Arc<Field>> = plan.schema.fields().iter().cloned().collect();
    fields.splice(place..place, arrival_fields());
    let schema = Arc::new(Schema::new(fields));
    let order: Vec<usize> = (0..place).chain(place + 2..width + 2).chain([place, place + 1]).collect();
    let sources: Vec<Option<usize>> = (0..width + 2).map(|column| order.iter().position(|&at| at == column)).collect();
    let exprs = order.iter().map(|&column| copy(&schema, column)).collect();
    // Where the node's columns stand in the plan says what is known of them.
    let known = plan.properties.project(&sources);
    let inner = StreamPlan { node, schema, properties: known };
    widened(plan, StreamNode::Project { input: Box::new(inner), exprs }, relation)
}

/// A join's residual once the left side has two columns more.
fn shifted(residual: Arc<dyn PhysicalExpr>, left_width: usize) -> Result<Arc<dyn PhysicalExpr>> {
    let moved = residual.transform_up(|expr| match column_index(&expr) {
        Some(index) if index >= left_width => {
            let any: &dyn Any = expr.as_ref();
            let name = any.downcast_ref::<PhysicalColumn>().map_or("", |column| column.name());
            let moved: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new(name, index + 2));
            Ok(Transformed::yes(moved))
        }
        _ => Ok(Transformed::no(expr)),
    });
    Ok(moved.map_err(Error::from)?.data)
}

/// The column by which state can go: of windows, best their end.
fn closing(properties: &Properties, keys: &[usize]) -> Option<TimeColumn> {
    let of = |is_wanted: fn(&Watermark) -> bool| {
        let mut times = keys.iter().filter_map(|&key| properties.time(key));
        times.find(|time| is_wanted(&time.watermark)).cloned()
    };
    of(|watermark| matches!(watermark, Watermark::End(..) | Watermark::SessionEnd(..))).or_else(|| of(is_of_windows))
}

pub(super) fn tells_of_windows(properties: &Properties, column: usize) -> bool {
    properties.time(column).is_some_and(|time| is_of_windows(&time.watermark))
}

fn is_of_windows(watermark: &Watermark) -> bool {
    match watermark {
        Watermark::Start(..) | Watermark::End(..) | Watermark::SessionEnd(..) => true,
        Watermark::Least(all) => all.iter().all(is_of_windows),
        Watermark::Delayed(inner, _) => is_of_windows(inner),
        Watermark::Mapped(_, mapping) => mapping.has_steps,
        Watermark::Relation(_) => false,
    }
}

/// What is known where rows that are late by `time` have been taken out.
fn kept(properties: &Properties, time: &TimeColumn) -> Properties {
    let same = |other: &TimeColumn| other.column == time.column || other.watermark.is_of_same_windows(&time.watermark);
    let times = properties.times.iter().map(|other| match same(other) {
        true => TimeColumn { lateness_us: time.lateness_us, is_kept: true, ..other.clone() },
        false => other.clone(),
    });
    Properties { times: times.collect(), arrival: None, ..properties.clone() }
}

/// What an operator's keys tell of time, where late rows have been taken out: key `i` comes out as column `i`.
pub(super) fn of_keys(input: &Properties, keys: &[usize], closing: Option<&TimeColumn>) -> Vec<TimeColumn> {
    if closing.is_none() {
        return vec![];
    }
    let of = |(column, key): (usize, &usize)| {
        let time = input.time(*key).filter(|time| time.is_kept)?;
        Some(TimeColumn { column, ..time.clone() })
    };
    keys.iter().enumerate().filter_map(of).collect()
}

/// What is known of time where partitions whose time is over are let go: of their columns, and of those that these are
/// the windows of. A partition's change may show any of its rows anew, but none of a partition that is over.
pub(super) fn of_partitions(input: &StreamPlan, partition: &[usize], closing: Option<&TimeColumn>) -> Vec<TimeColumn> {
    if closing.is_none() {
        return vec![];
    }
    let mut times: Vec<TimeColumn> = vec![];
    let kept = |column: &usize| input.properties.time(*column).filter(|time| time.is_kept);
    for time in partition.iter().filter_map(kept) {
        let counted = counted_by(input, time.column).into_iter().filter(|column| !partition.contains(column));
        let all: Vec<usize> = counted.chain([time.column]).collect();
        for column in all {
            if times.iter().all(|other| other.column != column) {
                times.push(TimeColumn { column, ..time.clone() });
            }
        }
    }
    times.sort_unstable_by_key(|time| time.column);
    times
}

/// Columns whose windows' starts are in `column`, as `date_trunc('hour', ts)` beside `ts`: they are never before it.
fn counted_by(plan: &StreamPlan, column: usize) -> Vec<usize> {
    match &plan.node {
        StreamNode::Late { input, .. } => counted_by(input, column),
        StreamNode::Project { exprs, .. } => {
            let Some(argument) = truncated(&exprs[column]) else { return vec![] };
            let copies = |(_, expr): &(usize, &Arc<dyn PhysicalExpr>)| column_index(expr) == Some(argument);
            exprs.iter().enumerate().filter(copies).map(|(column, _)| column).collect()
        }
        _ => vec![],
    }
}

/// The column that `date_trunc` or `date_bin` is of.
fn truncated(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    let any: &dyn Any = expr.as_ref();
    if let Some(cast) = any.downcast_ref::<CastExpr>() {
        return truncated(cast.expr());
    }
    let call = any.downcast_ref::<ScalarFunctionExpr>()?;
    let time = call.args().get(1).filter(|_| matches!(call.name(), "date_trunc" | "date_bin"))?;
    column_index(time)
}

/// The time columns of a window's output: its input's, and the bounds if the windows' times have a watermark.
pub(super) fn of_windows(input: &Properties, width: usize, time_column: usize, window: Window) -> Vec<TimeColumn> {
    let mut times = input.times.clone();
    if let Some(time) = input.time(time_column) {
        let inner = Box::new(time.watermark.clone());
        let bounds = [Watermark::Start(inner.clone(), window), Watermark::End(inner, window)];
        for (place, watermark) in bounds.into_iter().enumerate() {
            times.push(TimeColumn { column: width + place, watermark, ..time.clone() });
        }
    }
    times
}

/// The time column of sessions: their end, which is `column`. Where rows are taken back from a session, what is left of it may
/// have ended long ago.
pub(super) fn of_sessions(
    input: &Properties,
    time_column: usize,
    closing: Option<&TimeColumn>,
    column: usize,
) -> Vec<TimeColumn> {
    let (Some(time), Some(closing)) = (input.time(time_column), closing) else { return vec![] };
    let watermark = Watermark::SessionEnd(Box::new(time.watermark.clone()));
    vec![TimeColumn { column, watermark, is_kept: input.append_only, ..closing.clone() }]
}

/// Columns of equal name and place in all inputs: the least of what they promise.
pub(super) fn of_union(inputs: &[StreamPlan]) -> Vec<TimeColumn> {
    let Some((first, rest)) = inputs.split_first() else { return vec![] };
    let of = |time: &TimeColumn| {
        rest.iter().try_fold(time.clone(), |all, input| {
            let other = input.properties.time(time.column)?;
            Some(TimeColumn {
                column: time.column,
                watermark: least(&all.watermark, &other.watermark),
                lateness_us: all.lateness_us.max(other.lateness_us),
                is_kept: all.is_kept && other.is_kept,
            })
        })
    };
    first.properties.times.iter().filter_map(of).collect()
}

/// A row of a join changes when either of its rows does. Columns that are equal on both sides follow the least of both
/// watermarks; others too, if the other side has one, but rows may come that break it: an old row meets a new one.
pub(super) fn of_join(
    left: &StreamPlan,
    right: &StreamPlan,
    join_type: JoinType,
    keys: &JoinKeys,
    closing: Option<&JoinClosing>,
) -> Vec<TimeColumn> {
    let width = left.schema.fields().len();
    let (shows_left, shows_right) = match join_type {
        JoinType::Inner => (true, true),
        JoinType::Left => (true, false),
        JoinType::Right => (false, true),
        JoinType::Full => (false, false),
        JoinType::Semi | JoinType::Anti | JoinType::Mark => (true, false),
    };
    // A row changes while the other side may still bring a match for it, and is let go then.
    let near = |side: usize| match closing {
        Some(JoinClosing::Rows(times)) => times[side].as_ref(),
        _ => None,
    };
    // Of a side without a watermark older rows may always come.
    let keeps = |plan: &StreamPlan, time: &TimeColumn| plan.properties.time(time.column).is_some_and(|own| own.is_kept);
    let near = |side: usize, plan: &StreamPlan| near(side).filter(|time| keeps(plan, time));
    let mut times = vec![];
    let mut side = |own: &StreamPlan,
                    own_keys: &[usize],
                    other: &StreamPlan,
                    other_keys: &[usize],
                    offset: usize,
                    near: Option<&TimeColumn>| {
        times.extend(near.map(|time| TimeColumn { column: time.column + offset, ..time.clone() }));
        let is_near = |time: &TimeColumn| near.is_some_and(|near| near.column == time.column);
        for time in own.properties.times.iter().filter(|time| !is_near(time)) {
            let pair = own_keys.iter().position(|&key| key == time.column);
            let pair = pair.and_then(|at| other.properties.time(other_keys[at]));
            times.push(match pair {
                Some(pair) => TimeColumn {
                    column: time.column + offset,
                    watermark: least(&time.watermark, &pair.watermark),
                    lateness_us: time.lateness_us.max(pair.lateness_us),
                    is_kept: time.is_kept && pair.is_kept,
                },
                None => TimeColumn { column: time.column + offset, is_kept: false, ..time.clone() },
            });
        }
    };
    if shows_left {
        side(left, &keys.left, right, &keys.right, 0, near(0, left));
    }
    if shows_right {
        side(right, &keys.right, left, &keys.left, width, near(1, right));
    }
    times
}

/// The view's last step for EMIT ON WINDOW CLOSE. 0A000 if nothing in it tells when a row is final.
pub(super) fn held(plan: StreamPlan) -> Result<StreamPlan> {
    let all: Vec<usize> = (0..plan.schema.fields().len()).collect();
    let time = closing(&plan.properties, &all).filter(|time| time.is_kept).ok_or_else(|| {
        Error::unsupported(
            "EMIT ON WINDOW CLOSE for a query whose result tells of no window",
            "group by window_start and window_end of a window over a column with a watermark, and select window_end",
        )
    })?;
    let (schema, properties) = (plan.schema.clone(), plan.properties.clone());
    // It only grows if no change of a closed window is let through, and every row is of one.
    let is_end = matches!(time.watermark, Watermark::End(..) | Watermark::SessionEnd(..));
    let append_only = time.lateness_us == 0 && is_end;
    let plan = sliced::shown_on_close(plan, time.column);
    let node = StreamNode::Hold { input: Box::new(plan), time };
    Ok(StreamPlan { node, schema, properties: Properties { append_only, ..properties } })
}
