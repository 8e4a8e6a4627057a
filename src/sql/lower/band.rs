//! Band joins: `a.x BETWEEN b.y - c AND b.y + d` as an equality of buckets.
//!
//! The axis is cut into buckets as wide as the band. A row of one side lies in one bucket; a row of the other side goes to
//! every bucket that its band touches, two or three. Two rows that match then meet in exactly one bucket, that of the
//! former, so a hash join on the bucket finds each pair once, and what is left of the condition tests few pairs. (The
//! replicated side must not be shown by itself: a copy would be.)

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as PhysicalColumn;

use super::{column_index, project};
use crate::plan::{JoinType, Properties, StreamNode, StreamPlan, Window};

/// Every matching pair has `lo ≤ left[left_column] − right[right_column] ≤ hi`, in the columns' unit.
pub(super) struct Band {
    left_column: usize,
    right_column: usize,
    lo: i64,
    hi: i64,
}

/// The narrowest band that the conditions give for a pair of columns, if it is bounded on both sides.
pub(super) fn find(conditions: &[Expr], left: &DFSchema, right: &DFSchema) -> Option<Band> {
    let bounds: Vec<Bound> = conditions.iter().filter_map(|condition| bound(condition, left, right)).collect();
    let bands = bounds.iter().map(|first| {
        let same = bounds.iter().filter(|other| other.columns == first.columns);
        let lo = same.clone().filter_map(|bound| bound.lo).max()?;
        let hi = same.filter_map(|bound| bound.hi).min()?;
        let width = hi.checked_sub(lo)?;
        (width >= 0).then_some(Band { left_column: first.columns.0, right_column: first.columns.1, lo, hi })
    });
    bands.flatten().min_by_key(|band| band.hi - band.lo)
}

/// Pairs of columns with a lower bound of left − right, and pairs with an upper one.
pub(super) fn bounds(conditions: &[Expr], left: &DFSchema, right: &DFSchema) -> [Vec<((usize, usize), i64)>; 2] {
    let bounds = conditions.iter().filter_map(|condition| bound(condition, left, right));
    let bounds: Vec<Bound> = bounds.collect();
    let of = |side: fn(&Bound) -> Option<i64>| {
        bounds.iter().filter_map(|bound| Some((bound.columns, side(bound)?))).collect::<Vec<_>>()
    };
    [of(|bound| bound.lo), of(|bound| bound.hi)]
}

impl Band {
    /// Both inputs with their bucket as the last column, in place of `left` and `right`. `None` for a join that shows both
    /// sides by themselves.
    pub(super) fn buckets(&self, left: StreamPlan, right: StreamPlan, join_type: JoinType) -> Option<[StreamPlan; 2]> {
        let width = self.hi.checked_sub(self.lo)?.checked_add(1)?;
        // A row at t meets those of the other side from t + reach.0 to t + reach.1.
        let (replicates_left, reach) = match join_type.watched() {
            [true, true] => return None,
            [false, true] => (true, (-self.hi, -self.lo)),
            _ => (false, (self.lo, self.hi)),
        };
        let one = Window::Tumble { size_us: width, offset_us: 0 };
        // Buckets [s, s + width) that touch [t + lo, t + hi]: s − hi ≤ t < s − hi + (hi − lo + width).
        let size_us = (reach.1 - reach.0).checked_add(width)?;
        let many = Window::Hop { slide_us: width, size_us, offset_us: reach.1.checked_neg()? };
        let (left_window, right_window) = if replicates_left { (many, one) } else { (one, many) };
        let shift = |replicated: bool| if replicated { reach.1 } else { 0 };
        Some([
            bucketed(left, self.left_column, left_window, shift(replicates_left))?,
            bucketed(right, self.right_column, right_window, shift(!replicates_left))?,
        ])
    }
}

/// The input with the start of the bucket, moved by `shift`, behind its columns.
fn bucketed(input: StreamPlan, column: usize, window: Window, shift: i64) -> Option<StreamPlan> {
    use datafusion::physical_expr::expressions::{BinaryExpr, lit};
    let width = input.schema.fields().len();
    let mut fields: Vec<Field> = input.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    let bound = |name: &str| Field::new(name, DataType::Int64, true);
    let outputs: Vec<Field> = fields.iter().cloned().chain([bound("bucket"), bound("bucket_end")]).collect();
    fields.push(bound("bucket"));
    let outputs = Arc::new(Schema::new(outputs));
    // Copies have the same key.
    let key = input.properties.key.clone().filter(|_| matches!(window, Window::Tumble { .. }));
    let properties = Properties { append_only: input.properties.append_only, key, ..Properties::default() };
    let node = StreamNode::Buckets { input: Box::new(input), column, window };
    let plan = StreamPlan { node, schema: outputs.clone(), properties };
    let copy =
        |index: usize| Arc::new(PhysicalColumn::new(outputs.field(index).name(), index)) as Arc<dyn PhysicalExpr>;
    let mut exprs: Vec<_> = (0..width).map(copy).collect();
    exprs.push(match shift {
        0 => copy(width),
        _ => Arc::new(BinaryExpr::new(copy(width), Operator::Plus, lit(shift))),
    });
    Some(project(plan, exprs, Arc::new(Schema::new(fields))))
}

/// The expression over two inputs that have got `added` columns behind the first `width` ones.
pub(super) fn shifted(expr: Arc<dyn PhysicalExpr>, width: usize, added: usize) -> Arc<dyn PhysicalExpr> {
    let original = expr.clone();
    let moved = expr.transform_up(|inner| match column_index(&inner) {
        Some(index) if index >= width => {
            let any: &dyn std::any::Any = inner.as_ref();
            let name = any.downcast_ref::<PhysicalColumn>().map_or("", |column| column.name());
            Ok(Transformed::yes(Arc::new(PhysicalColumn::new(name, index + added)) as Arc<dyn PhysicalExpr>))
        }
        _ => Ok(Transformed::no(inner)),
    });
    moved.map_or(original, |moved| moved.data)
}

/// A bound on left column − right column.
struct Bound {
    columns: (usize, usize),
    lo: Option<i64>,
    hi: Option<i64>,
}

/// `l + c op r + d`, either way round. Strict comparisons count as the others: the condition itself is still tested.
fn bound(condition: &Expr, left: &DFSchema, right: &DFSchema) -> Option<Bound> {
    let Expr::BinaryExpr(BinaryExpr { left: a, op, right: b }) = condition else { return None };
    let is_less = match op {
        Operator::Lt | Operator::LtEq => true,
        Operator::Gt | Operator::GtEq => false,
        _ => return None,
    };
    let (l, r, is_less) = match (linear(a, left), linear(b, right)) {
        (Some(l), Some(r)) => (l, r, is_less),
        _ => (linear(b, left)?, linear(a, right)?, !is_less),
    };
    // l.column + l.offset ≤ r.column + r.offset: l.column − r.column ≤ r.offset − l.offset.
    let difference = r.1.checked_sub(l.1)?;
    let (lo, hi) = if is_less { (None, Some(difference)) } else { (Some(difference), None) };
    let same_type = left.field(l.0).data_type() == right.field(r.0).data_type();
    same_type.then_some(Bound { columns: (l.0, r.0), lo, hi })
}

/// A column of the schema plus a constant, in the column's unit.
fn linear(expr: &Expr, schema: &DFSchema) -> Option<(usize, i64)> {
    let (column, offset) = match expr {
        Expr::Column(_) => (expr, 0),
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Plus | Operator::Minus), right }) => {
            let offset = constant(right)?;
            (left.as_ref(), if *op == Operator::Plus { offset } else { offset.checked_neg()? })
        }
        // Integer arithmetic that refuses to overflow.
        Expr::ScalarFunction(call) if matches!(call.func.name(), "int_add" | "int_subtract") => {
            let [column, other] = call.args.as_slice() else { return None };
            let offset = constant(other)?;
            (column, if call.func.name() == "int_add" { offset } else { offset.checked_neg()? })
        }
        _ => return None,
    };
    let Expr::Column(column) = column else { return None };
    let index = schema.index_of_column(column).ok()?;
    let is_axis = matches!(
        schema.field(index).data_type(),
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Timestamp(TimeUnit::Microsecond, _)
    );
    is_axis.then_some((index, offset))
}

/// A whole number, or an interval of days and less in microseconds.
fn constant(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    match value {
        ScalarValue::Int16(Some(value)) => Some(i64::from(*value)),
        ScalarValue::Int32(Some(value)) => Some(i64::from(*value)),
        ScalarValue::Int64(Some(value)) => Some(*value),
        ScalarValue::IntervalMonthDayNano(Some(value)) if value.months == 0 => {
            let days = i64::from(value.days).checked_mul(86_400_000_000)?;
            (value.nanoseconds % 1000 == 0).then(|| days.checked_add(value.nanoseconds / 1000)).flatten()
        }
        _ => None,
    }
}
