//! What an expression says of time, if its columns do: functions that never fall as the time grows follow its watermark.
//!
//! ```text
//! date_trunc('hour', ts): start of the hour of W          floor(extract(epoch FROM ts) / 60): the same of W
//! ```

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column as PhysicalColumn, Literal};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use super::column_index;
use crate::plan::{Mapping, Properties, TimeColumn, Watermark, Window};

/// What an expression over columns with a watermark is known to follow.
pub(super) fn followed(expr: &Arc<dyn PhysicalExpr>, input: &Properties, schema: &SchemaRef) -> Option<TimeColumn> {
    if let Some(column) = column_index(expr) {
        return input.time(column).cloned();
    }
    let any: &dyn Any = expr.as_ref();
    if let Some(cast) = any.downcast_ref::<CastExpr>() {
        // Among instants the time stays; a date would be another unit.
        let is_instant = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..));
        let from = cast.expr().data_type(schema).ok()?;
        if is_instant(cast.cast_type()) && is_instant(&from) {
            return followed(cast.expr(), input, schema);
        }
    }
    fixed(expr, input, schema).or_else(|| mapped(expr, input, schema))
}

/// `date_trunc('hour', ts)` and `date_bin(…)`: windows of a fixed length.
fn fixed(expr: &Arc<dyn PhysicalExpr>, input: &Properties, schema: &SchemaRef) -> Option<TimeColumn> {
    let any: &dyn Any = expr.as_ref();
    let call = any.downcast_ref::<ScalarFunctionExpr>()?;
    let (window, argument) = match (call.name(), call.args()) {
        ("date_trunc", [unit, time]) => (truncation(&text(unit)?)?, time),
        ("date_bin", [stride, time]) => (bins(stride, None)?, time),
        ("date_bin", [stride, time, origin]) => (bins(stride, Some(origin))?, time),
        _ => return None,
    };
    let time = followed(argument, input, schema)?;
    Some(TimeColumn { watermark: Watermark::Start(Box::new(time.watermark.clone()), window), ..time })
}

/// Units of a fixed length, on the time line of UTC.
fn truncation(unit: &str) -> Option<Window> {
    const DAY_US: i64 = 86_400_000_000;
    let (size_us, offset_us) = match unit.to_ascii_lowercase().as_str() {
        "millisecond" | "milliseconds" => (1_000, 0),
        "second" => (1_000_000, 0),
        "minute" => (60_000_000, 0),
        "hour" => (3_600_000_000, 0),
        "day" => (DAY_US, 0),
        // Weeks begin on Mondays; 1970 began on a Thursday.
        "week" => (7 * DAY_US, 4 * DAY_US),
        _ => return None,
    };
    Some(Window::Tumble { size_us, offset_us })
}

fn bins(stride: &Arc<dyn PhysicalExpr>, origin: Option<&Arc<dyn PhysicalExpr>>) -> Option<Window> {
    let ScalarValue::IntervalMonthDayNano(Some(stride)) = literal(stride)? else { return None };
    let size_us = i64::from(stride.days) * 86_400_000_000 + stride.nanoseconds / 1_000;
    let offset_us = match origin.map(literal) {
        None => 0,
        Some(Some(ScalarValue::TimestampMicrosecond(Some(us), _))) => us,
        Some(Some(ScalarValue::TimestampNanosecond(Some(ns), _))) if ns % 1_000 == 0 => ns / 1_000,
        _ => return None,
    };
    (stride.months == 0 && size_us > 0 && stride.nanoseconds % 1_000 == 0)
        .then_some(Window::Tumble { size_us, offset_us })
}

fn literal(expr: &Arc<dyn PhysicalExpr>) -> Option<ScalarValue> {
    let any: &dyn Any = expr.as_ref();
    any.downcast_ref::<Literal>().map(|literal| literal.value().clone())
}

fn text(expr: &Arc<dyn PhysicalExpr>) -> Option<String> {
    match literal(expr)? {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => text,
        _ => None,
    }
}

/// Any function that never falls.
fn mapped(expr: &Arc<dyn PhysicalExpr>, input: &Properties, schema: &SchemaRef) -> Option<TimeColumn> {
    let columns = collect_columns(expr);
    let mut columns = columns.iter().map(PhysicalColumn::index);
    let (Some(column), None) = (columns.next(), columns.next()) else { return None };
    let time = input.time(column)?;
    let has_steps = has_steps(expr, schema)?;
    if !is_ordered(&expr.data_type(schema).ok()?) {
        return None;
    }
    let alone = expr.clone().transform_up(|expr| match column_index(&expr) {
        Some(_) => {
            let time: Arc<dyn PhysicalExpr> = Arc::new(PhysicalColumn::new("time", 0));
            Ok(Transformed::yes(time))
        }
        None => Ok(Transformed::no(expr)),
    });
    let mapping = Mapping { expr: alone.ok()?.data, data_type: schema.field(column).data_type().clone(), has_steps };
    Some(TimeColumn { watermark: Watermark::Mapped(Box::new(time.watermark.clone()), mapping), ..time.clone() })
}

/// Values whose order [`crate::types::times::times_us`] keeps.
fn is_ordered(data_type: &DataType) -> bool {
    let is_signed = data_type.is_signed_integer() || data_type.is_floating();
    is_signed || matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Decimal128(..))
}

/// `None` unless the expression never falls as its one column grows; true if it stands still over spans.
fn has_steps(expr: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> Option<bool> {
    if column_index(expr).is_some() {
        return Some(false);
    }
    let any: &dyn Any = expr.as_ref();
    if let Some(cast) = any.downcast_ref::<CastExpr>() {
        let (from, to) = (cast.expr().data_type(schema).ok()?, cast.cast_type());
        let is_known = is_ordered(&from) && is_ordered(to);
        return is_known.then_some(has_steps(cast.expr(), schema)? || is_coarser(&from, to));
    }
    if let Some(binary) = any.downcast_ref::<BinaryExpr>() {
        let (left, right) = (binary.left(), binary.right());
        return match binary.op() {
            Operator::Plus if is_span(left) => has_steps(right, schema),
            Operator::Minus if is_rest(left, right) => has_steps(left, schema).map(|_| true),
            Operator::Plus | Operator::Minus if is_span(right) => has_steps(left, schema),
            Operator::Multiply if is_positive(left) => has_steps(right, schema),
            Operator::Multiply if is_positive(right) => has_steps(left, schema),
            Operator::Divide if is_positive(right) => {
                Some(has_steps(left, schema)? || expr.data_type(schema).ok()?.is_integer())
            }
            _ => None,
        };
    }
    let call = any.downcast_ref::<ScalarFunctionExpr>()?;
    match (call.name(), call.args()) {
        ("floor" | "ceil" | "trunc" | "round", [of]) => has_steps(of, schema).map(|_| true),
        // Without a zone of its own: its days have 24 hours, and its hours come once.
        ("date_trunc", [unit, of]) => {
            text(unit)?;
            has_steps(of, schema).map(|_| true)
        }
        ("date_bin", [stride, of]) => {
            literal(stride)?;
            has_steps(of, schema).map(|_| true)
        }
        ("hw_extract" | "date_part", [field, of]) => match text(field)?.to_ascii_lowercase().as_str() {
            "epoch" => has_steps(of, schema),
            "year" | "decade" | "century" | "millennium" | "isoyear" => has_steps(of, schema).map(|_| true),
            _ => None,
        },
        ("to_timestamp", [of]) => has_steps(of, schema),
        // A cast between numbers that rounds.
        ("convert", [of]) => {
            let (from, to) = (of.data_type(schema).ok()?, expr.data_type(schema).ok()?);
            let is_known = from.is_numeric() && to.is_numeric() && is_ordered(&from) && is_ordered(&to);
            is_known.then_some(has_steps(of, schema)? || is_coarser(&from, &to))
        }
        ("int_add", [left, right]) if is_span(left) => has_steps(right, schema),
        ("int_subtract", [left, right]) if is_rest(left, right) => has_steps(left, schema).map(|_| true),
        ("int_add" | "int_subtract", [left, right]) if is_span(right) => has_steps(left, schema),
        ("int_multiply" | "hw_numeric_multiply", [left, right]) if is_positive(left) => has_steps(right, schema),
        ("int_multiply" | "hw_numeric_multiply" | "hw_numeric_divide", [left, right]) if is_positive(right) => {
            has_steps(left, schema)
        }
        _ => None,
    }
}

fn is_coarser(from: &DataType, to: &DataType) -> bool {
    let has_fractions = from.is_floating() || matches!(from, DataType::Decimal128(_, scale) if *scale > 0);
    (has_fractions && to.is_integer()) || (matches!(from, DataType::Timestamp(..)) && *to == DataType::Date32)
}

/// What can be added to a time, or to the number that it is: months have no fixed length.
fn is_span(expr: &Arc<dyn PhysicalExpr>) -> bool {
    match literal(expr) {
        Some(ScalarValue::IntervalMonthDayNano(Some(span))) => span.months == 0,
        Some(value) => !value.is_null() && value.data_type().is_numeric(),
        None => false,
    }
}

/// `ms % 60000`, of `ms - ms % 60000`.
fn is_rest(of: &Arc<dyn PhysicalExpr>, expr: &Arc<dyn PhysicalExpr>) -> bool {
    let any: &dyn Any = expr.as_ref();
    any.downcast_ref::<BinaryExpr>().is_some_and(|rest| {
        *rest.op() == Operator::Modulo && rest.left().as_ref() == of.as_ref() && is_positive(rest.right())
    })
}

fn is_positive(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let Some(value) = literal(expr).filter(|value| value.data_type().is_numeric()) else { return false };
    matches!(value.cast_to(&DataType::Float64), Ok(ScalarValue::Float64(Some(number))) if number > 0.0)
}
