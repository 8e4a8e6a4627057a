//! `generate_series` and `generate_subscripts` as lists of records with the field `value`.
//!
//! Whole numbers stay of their type; `numeric` counts in its own digits; times step by intervals, in the session's zone
//! where they are instants.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Int32Array, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Fields, Int32Type, Int64Type, IntervalMonthDayNanoType,
    TimestampMicrosecondType,
};
use chrono_tz::Tz;
use datafusion::common::{Result as DfResult, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::scalar::records;
use crate::error::{Error, Result, SqlState};
use crate::types::text_input::zone_named;
use crate::types::{NUMERIC_DEFAULT, PgType};

/// Elements that one call may give: a list is in memory as a whole.
const LENGTH_MAX: usize = 20_000_000;

pub(super) fn function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Series { signature: Signature::user_defined(Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Series {
    signature: Signature,
}

impl Series {
    /// The type of the elements.
    fn element(given: &[DataType]) -> DfResult<DataType> {
        let refused = || {
            plan_err!(
                "No function matches the given name and argument types 'generate_series({})'. ",
                given.iter().map(|t| PgType::of_arrow(t).name()).collect::<Vec<_>>().join(", ")
            )
        };
        if !(2..=3).contains(&given.len()) {
            return refused();
        }
        let is_text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::Null);
        let is_time = |t: &DataType| matches!(t, DataType::Timestamp(..) | DataType::Date32);
        let ends = &given[..2];
        if ends.iter().any(is_time) && ends.iter().all(|t| is_time(t) || is_text(t)) {
            let step_fits = given.get(2).is_some_and(|t| matches!(t, DataType::Interval(_)) || is_text(t));
            let plain = ends.iter().all(|t| matches!(t, DataType::Timestamp(_, None)) || is_text(t));
            return match (step_fits, plain) {
                (true, true) => Ok(PgType::Timestamp.arrow()),
                // Dates are instants here: Postgres prefers them.
                (true, false) => Ok(PgType::Timestamptz.arrow()),
                _ => refused(),
            };
        }
        if given.iter().all(|t| t.is_integer() || is_text(t)) {
            let wide = given.iter().any(|t| matches!(t, DataType::Int64 | DataType::UInt64 | DataType::UInt32));
            return Ok(if wide { DataType::Int64 } else { DataType::Int32 });
        }
        let is_number = |t: &DataType| t.is_integer() || matches!(t, DataType::Decimal128(..)) || is_text(t);
        if given.iter().all(is_number) { Ok(PgType::Numeric(None).arrow()) } else { refused() }
    }
}

impl ScalarUDFImpl for Series {
    fn name(&self) -> &str {
        "hw_series"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let element = Series::element(given)?;
        let step = match element {
            DataType::Timestamp(..) => PgType::Interval.arrow(),
            _ => element.clone(),
        };
        Ok(given.iter().enumerate().map(|(index, _)| if index == 2 { step.clone() } else { element.clone() }).collect())
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        Ok(list_field(&Series::element(given)?).data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let given: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(list_field(&Series::element(&given)?))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let columns = args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<DfResult<Vec<_>>>()?;
        let zone = args.config_options.execution.time_zone.as_deref().and_then(zone_named).unwrap_or(Tz::UTC);
        Ok(ColumnarValue::Array(series(&columns, &args.return_field, zone)?))
    }
}

fn list_field(element: &DataType) -> FieldRef {
    let value = match element {
        DataType::Decimal128(..) => PgType::Numeric(None).field("value", true),
        other => Arc::new(Field::new("value", other.clone(), true)),
    };
    let item = Field::new("item", DataType::Struct(Fields::from(vec![value])), true);
    Arc::new(Field::new("hw_series", DataType::List(Arc::new(item)), true))
}

fn series(columns: &[ArrayRef], list: &Field, zone: Tz) -> Result<ArrayRef> {
    let row_count = columns[0].len();
    let is_null = |row: usize| columns.iter().any(|column| column.is_null(row));
    let mut lengths = Vec::with_capacity(row_count);
    let values: ArrayRef = match columns[0].data_type() {
        DataType::Int32 => {
            let at = |column: usize, row| columns[column].as_primitive::<Int32Type>().value(row);
            let mut values: Vec<i32> = vec![];
            for row in 0..row_count {
                let before = values.len();
                if !is_null(row) {
                    let step = if columns.len() > 2 { at(2, row) } else { 1 };
                    count(at(0, row).into(), at(1, row).into(), step.into(), |value| push(&mut values, value as i32))?;
                }
                lengths.push(values.len() - before);
            }
            Arc::new(Int32Array::from(values))
        }
        DataType::Int64 => {
            let at = |column: usize, row| columns[column].as_primitive::<Int64Type>().value(row);
            let mut values: Vec<i64> = vec![];
            for row in 0..row_count {
                let before = values.len();
                if !is_null(row) {
                    let step = if columns.len() > 2 { at(2, row) } else { 1 };
                    count(at(0, row).into(), at(1, row).into(), step.into(), |value| push(&mut values, value as i64))?;
                }
                lengths.push(values.len() - before);
            }
            Arc::new(Int64Array::from(values))
        }
        DataType::Decimal128(precision, scale) => {
            let at = |column: usize, row| columns[column].as_primitive::<Decimal128Type>().value(row);
            let one = 10i128.pow(NUMERIC_DEFAULT.1 as u32);
            let mut values: Vec<i128> = vec![];
            for row in 0..row_count {
                let before = values.len();
                if !is_null(row) {
                    let step = if columns.len() > 2 { at(2, row) } else { one };
                    count(at(0, row), at(1, row), step, |value| push(&mut values, value))?;
                }
                lengths.push(values.len() - before);
            }
            Arc::new(Decimal128Array::from(values).with_precision_and_scale(*precision, *scale)?)
        }
        _ => {
            let instants = matches!(columns[0].data_type(), DataType::Timestamp(_, Some(_)));
            let zone = if instants { zone } else { Tz::UTC };
            let at = |column: usize, row| columns[column].as_primitive::<TimestampMicrosecondType>().value(row);
            let mut values: Vec<i64> = vec![];
            for row in 0..row_count {
                let before = values.len();
                if !is_null(row) {
                    let step = columns[2].as_primitive::<IntervalMonthDayNanoType>().value(row);
                    let (start, stop) = (at(0, row), at(1, row));
                    // As a whole, a month is 30 days of 24 hours.
                    let size = (i128::from(step.months) * 30 + i128::from(step.days)) * 86_400_000_000
                        + i128::from(step.nanoseconds / 1_000);
                    if size == 0 {
                        return Err(no_step());
                    }
                    let mut value = start;
                    while if size > 0 { value <= stop } else { value >= stop } {
                        push(&mut values, value)?;
                        let next = super::datetime::add_interval(value, step, zone)?;
                        if next == value {
                            return Err(no_step());
                        }
                        value = next;
                    }
                }
                lengths.push(values.len() - before);
            }
            let array = TimestampMicrosecondArray::from(values);
            Arc::new(if instants { array.with_timezone("UTC") } else { array })
        }
    };
    records(list, vec![values], lengths, vec![true; row_count])
}

fn no_step() -> Error {
    super::invalid("step size cannot equal zero")
}

fn push<T>(values: &mut Vec<T>, value: T) -> Result<()> {
    if values.len() == LENGTH_MAX {
        let message = format!("generate_series would give more than {LENGTH_MAX} rows at a time");
        return Err(Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, message));
    }
    values.push(value);
    Ok(())
}

fn count(start: i128, stop: i128, step: i128, mut push: impl FnMut(i128) -> Result<()>) -> Result<()> {
    if step == 0 {
        return Err(no_step());
    }
    let mut value = start;
    while if step > 0 { value <= stop } else { value >= stop } {
        push(value)?;
        value += step;
    }
    Ok(())
}
