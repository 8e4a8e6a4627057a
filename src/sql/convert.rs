//! Conversions with Postgres' rules and words: text input (`invalid input syntax for type integer: "x"`), rounding and
//! range checks of numbers, lengths of `varchar(n)`, well-formed `uuid` and `json`.
//!
//! What Arrow's cast does as Postgres would stays a plain cast, which the optimiser understands.

mod nested;
mod text;

use std::sync::Arc;

use chrono_tz::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, StringArray, StringBuilder};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Decimal128Type, DecimalType, FieldRef, Float32Type, Float64Type};
use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::{Error, Result, SqlState};
use crate::types::PgType;
use crate::types::text_input::zone_named;
use crate::types::text_output::{TextColumn, TextStyle};

/// True if a plain cast would not do what Postgres does.
pub(super) fn is_special(from: &PgType, from_arrow: &DataType, to: &PgType) -> bool {
    if *from_arrow == DataType::Null {
        return false;
    }
    let from_text = is_text(from);
    // Arrow prints these otherwise.
    let prints = matches!(
        from,
        PgType::Float4
            | PgType::Float8
            | PgType::Numeric(None)
            | PgType::Bytea
            | PgType::Time
            | PgType::Timestamp
            | PgType::Timestamptz
            | PgType::Interval
            | PgType::Array(_)
            | PgType::Record(_)
    );
    match to {
        PgType::Text | PgType::Varchar(None) | PgType::Bpchar(None) if prints => true,
        PgType::Varchar(Some(_))
        | PgType::Bpchar(Some(_))
        | PgType::Uuid
        | PgType::Json
        | PgType::Jsonb
        | PgType::Name => from != to,
        PgType::Int2 | PgType::Int4 | PgType::Int8 => {
            from_text
                || matches!(from, PgType::Float4 | PgType::Float8 | PgType::Numeric(_))
                || matches!((from, to), (PgType::Int8, PgType::Int4 | PgType::Int2) | (PgType::Int4, PgType::Int2))
        }
        // Rounded once.
        PgType::Float4 | PgType::Float8 => from_text || matches!(from, PgType::Numeric(_)),
        PgType::Bool
        | PgType::Numeric(_)
        | PgType::Date
        | PgType::Time
        | PgType::Timestamp
        | PgType::Timestamptz
        | PgType::Interval
        | PgType::Bytea
        | PgType::Oid => from_text,
        PgType::Array(_) | PgType::Record(_) => from_text || nested::is_nested(from, to),
        _ => false,
    }
}

pub(super) fn is_text(pg_type: &PgType) -> bool {
    matches!(
        pg_type,
        PgType::Text | PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name | PgType::Char | PgType::Unknown
    )
}

/// `expr::target`: strings that are too long are cut.
pub(super) fn explicit(expr: Expr, target: PgType) -> Expr {
    ScalarUDF::new_from_impl(Convert::new(target, false)).call(vec![expr])
}

/// The value of `expr` as a column of type `target` stores it: strings that are too long are an error (22001).
pub(super) fn assignment(expr: Expr, target: PgType) -> Expr {
    ScalarUDF::new_from_impl(Convert::new(target, true)).call(vec![expr])
}

/// How a conversion treats values.
#[derive(Clone, Copy)]
struct Conversion {
    /// Lengths are checked instead of cut to.
    strict: bool,
    /// The session's, for timestamps that name none.
    zone: Tz,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Convert {
    target: PgType,
    /// Lengths are checked instead of cut to.
    strict: bool,
    signature: Signature,
}

impl Convert {
    fn new(target: PgType, strict: bool) -> Convert {
        Convert { target, strict, signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Convert {
    fn name(&self) -> &str {
        "convert"
    }

    fn schema_name(&self, args: &[Expr]) -> PlanResult<String> {
        let arg = args.first().map(|arg| arg.schema_name().to_string()).unwrap_or_default();
        let how = if self.strict { "assign" } else { "cast" };
        Ok(format!("{how}({arg} as {})", self.target.name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> PlanResult<DataType> {
        Ok(self.target.arrow())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> PlanResult<FieldRef> {
        Ok(self.target.field(self.name(), args.arg_fields.iter().any(|field| field.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> PlanResult<ColumnarValue> {
        let zone = match &args.config_options.execution.time_zone {
            Some(name) => zone_named(name).unwrap_or(Tz::UTC),
            None => Tz::UTC,
        };
        let how = Conversion { strict: self.strict, zone };
        let from = args.arg_fields.first().map_or(PgType::Unknown, |field| PgType::of(field));
        let convert = |array: &ArrayRef| match is_text(&self.target) && !is_text(&from) && from != PgType::Unknown {
            true => text::from_text(printed(array, &from, zone)?.as_string::<i32>(), &self.target, how),
            false => convert(array, &self.target, how),
        };
        match &args.args[0] {
            ColumnarValue::Array(array) => Ok(ColumnarValue::Array(convert(array)?)),
            ColumnarValue::Scalar(scalar) => {
                let converted = convert(&scalar.to_array()?)?;
                // A list or a record keeps the metadata of its parts only as it is.
                Ok(ColumnarValue::Scalar(match converted.data_type() {
                    DataType::List(_) => ScalarValue::List(Arc::new(converted.as_list::<i32>().clone())),
                    DataType::Struct(_) => ScalarValue::Struct(Arc::new(converted.as_struct().clone())),
                    _ => ScalarValue::try_from_array(&converted, 0)?,
                }))
            }
        }
    }
}

/// Each value as Postgres prints it.
fn printed(array: &ArrayRef, from: &PgType, zone: Tz) -> Result<ArrayRef> {
    let style = TextStyle { time_zone: zone, reg_names: None };
    let column = TextColumn::new(array, from, &style)?;
    let mut out = bytes::BytesMut::new();
    let mut strings = StringBuilder::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            strings.append_null();
            continue;
        }
        out.clear();
        column.put(row, &mut out);
        strings.append_value(String::from_utf8_lossy(&out));
    }
    Ok(Arc::new(strings.finish()))
}

/// The array as a column of the type stores it.
#[cfg(test)]
pub(super) fn stored(array: &ArrayRef, target: &PgType) -> Result<ArrayRef> {
    convert(array, target, Conversion { strict: true, zone: Tz::UTC })
}

/// The array as the target type; the first value that does not fit is an error.
fn convert(array: &ArrayRef, target: &PgType, how: Conversion) -> Result<ArrayRef> {
    match (array.data_type(), target) {
        (DataType::List(_), PgType::Array(item)) => return nested::from_list(array, item, how),
        (DataType::Struct(_), PgType::Record(fields)) => return nested::from_record(array, fields, how),
        _ => {}
    }
    match array.data_type() {
        DataType::Utf8 => text::from_text(array.as_string::<i32>(), target, how),
        DataType::LargeUtf8 | DataType::Utf8View => {
            let plain = plain_cast(array, &DataType::Utf8)?;
            text::from_text(plain.as_string::<i32>(), target, how)
        }
        _ if is_text(target) || matches!(target, PgType::Uuid | PgType::Json | PgType::Jsonb) => {
            let printed = plain_cast(array, &DataType::Utf8)?;
            text::from_text(printed.as_string::<i32>(), target, how)
        }
        _ => number(array, target),
    }
}

fn plain_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(cast_with_options(array, to, &CastOptions { safe: false, ..Default::default() })?)
}

/// Numbers to integers: numeric rounds half away from zero, floats half to even; out of range is 22003.
fn number(array: &ArrayRef, target: &PgType) -> Result<ArrayRef> {
    if let (DataType::Decimal128(precision, scale), PgType::Float4 | PgType::Float8) = (array.data_type(), target) {
        return nearest_floats(array.as_primitive(), *precision, *scale, target);
    }
    let rounded: ArrayRef = match array.data_type() {
        DataType::Float32 | DataType::Float64 => {
            let floats = plain_cast(array, &DataType::Float64)?;
            let floats = floats.as_primitive::<Float64Type>();
            Arc::new(floats.iter().map(|v| v.map(f64::round_ties_even)).collect::<Float64Array>())
        }
        DataType::Decimal128(precision, scale) if *scale > 0 => {
            let unit = 10i128.pow(*scale as u32);
            let decimals = array.as_primitive::<Decimal128Type>();
            let rounded = decimals.unary::<_, Decimal128Type>(|v| {
                let (whole, rest) = (v / unit, (v % unit).abs());
                (whole + if rest * 2 >= unit { v.signum() } else { 0 }) * unit
            });
            Arc::new(rounded.with_precision_and_scale(*precision, *scale)?)
        }
        _ => array.clone(),
    };
    let cast = cast_with_options(&rounded, &target.arrow(), &CastOptions { safe: true, ..Default::default() })?;
    if cast.null_count() > array.null_count() {
        let message = format!("{} out of range", target.name());
        return Err(Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message));
    }
    Ok(cast)
}

/// The floats next to the decimals; Arrow's cast rounds twice.
fn nearest_floats(decimals: &Decimal128Array, precision: u8, scale: i8, target: &PgType) -> Result<ArrayRef> {
    // Both are floats exactly, so that the quotient is rounded once.
    const EXACT_DIGITS_MAX: u128 = 1 << 53;
    let unit = u32::try_from(scale).ok().filter(|scale| *scale <= 22).map(|scale| 10f64.powi(scale as i32));
    let text = |digits: i128| Decimal128Type::format_decimal(digits, precision, scale);
    Ok(match target {
        PgType::Float4 => {
            let nearest = |digits: i128| text(digits).parse().unwrap_or(f32::NAN);
            Arc::new(decimals.unary::<_, Float32Type>(nearest))
        }
        _ => {
            let nearest = |digits: i128| match unit {
                Some(unit) if digits.unsigned_abs() <= EXACT_DIGITS_MAX => digits as f64 / unit,
                _ => text(digits).parse().unwrap_or(f64::NAN),
            };
            Arc::new(decimals.unary::<_, Float64Type>(nearest))
        }
    })
}

/// Strings, each through `f`.
fn map_text(strings: &StringArray, mut f: impl FnMut(&str) -> Result<String>) -> Result<ArrayRef> {
    let mapped = strings.iter().map(|text| text.map(&mut f).transpose()).collect::<Result<StringArray>>()?;
    Ok(Arc::new(mapped))
}
