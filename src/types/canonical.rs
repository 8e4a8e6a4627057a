//! One Arrow shape for each Postgres type, so that encoders know few shapes.
//!
//! Queries give what is handy for them: string views, dictionaries, other units of time. [`canonical`] casts a column
//! once per batch to the array that [`PgType::arrow`] names; decimals keep their own precision.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::PgType;
use crate::error::Result;

/// The column as `pg_type` carries it: Utf8 for all that is text, Decimal128 or Decimal256 for numeric, List for arrays
/// (the items are not looked into), microseconds for times. A Null array stays. XX000 if the two do not fit.
pub fn canonical(array: &ArrayRef, pg_type: &PgType) -> Result<ArrayRef> {
    let target = match (array.data_type(), pg_type) {
        (DataType::Null, _) => return Ok(array.clone()),
        (DataType::Dictionary(_, value), _) => return canonical(&cast(array, value)?, pg_type),
        (DataType::RunEndEncoded(_, values), _) => return canonical(&cast(array, values.data_type())?, pg_type),
        (DataType::Decimal128(..) | DataType::Decimal256(..), PgType::Numeric(_)) => return Ok(array.clone()),
        (DataType::Decimal32(p, s) | DataType::Decimal64(p, s), PgType::Numeric(_)) => DataType::Decimal128(*p, *s),
        (from, PgType::Numeric(_)) if from.is_integer() => DataType::Decimal128(20, 0),
        // The zone of an instant only says how to show it.
        (DataType::Timestamp(TimeUnit::Microsecond, _), PgType::Timestamp | PgType::Timestamptz) => {
            return Ok(array.clone());
        }
        (DataType::Timestamp(_, zone), PgType::Timestamp | PgType::Timestamptz) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        (DataType::Duration(_), PgType::Interval) => {
            let nanoseconds = cast(array, &DataType::Duration(TimeUnit::Nanosecond))?;
            return cast(&nanoseconds, &DataType::Interval(IntervalUnit::MonthDayNano));
        }
        (DataType::List(_), PgType::Array(_) | PgType::Int2vector | PgType::Oidvector) => return Ok(array.clone()),
        (
            DataType::LargeList(item)
            | DataType::FixedSizeList(item, _)
            | DataType::ListView(item)
            | DataType::LargeListView(item),
            PgType::Array(_) | PgType::Int2vector | PgType::Oidvector,
        ) => DataType::List(item.clone()),
        (DataType::Struct(_), PgType::Record(_)) => return Ok(array.clone()),
        (DataType::Utf8, _) if pg_type.arrow() == DataType::Utf8 => return Ok(array.clone()),
        (DataType::Utf8View | DataType::LargeUtf8, _) if pg_type.arrow() == DataType::Utf8 => DataType::Utf8,
        // Maps, unions: as Arrow shows them.
        (_, _) if pg_type.arrow() == DataType::Utf8 => return formatted(array),
        _ => pg_type.arrow(),
    };
    if *array.data_type() == target { Ok(array.clone()) } else { cast(array, &target) }
}

fn cast(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, format_options: FormatOptions::default() };
    Ok(cast_with_options(array, target, &options)?)
}

fn formatted(array: &ArrayRef) -> Result<ArrayRef> {
    if array.data_type().is_binary() {
        return cast(array, &DataType::Utf8);
    }
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options)?;
    let mut builder = StringBuilder::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            builder.append_null();
        } else {
            builder.append_value(formatter.value(row).try_to_string()?);
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// The items of a list column, with the type that they have in Postgres.
pub fn item_type(array: &ArrayRef, pg_type: &PgType) -> PgType {
    let nested = matches!(array.as_list::<i32>().value_type(), DataType::List(_));
    match pg_type {
        PgType::Int2vector => PgType::Int2,
        PgType::Oidvector => PgType::Oid,
        // An array of arrays is one array type with more dimensions: the item is the same type again.
        PgType::Array(item) if nested && !matches!(**item, PgType::Array(_)) => pg_type.clone(),
        PgType::Array(item) => (**item).clone(),
        other => other.clone(),
    }
}
