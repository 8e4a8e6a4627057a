//! Functions of values alone, the same in every session: [`Function`] is a name with overloads, each a kernel that is
//! called row by row over typed columns.
//!
//! ```text
//! arguments ──choose (exact types first, then what converts)──▶ overload ──cast──▶ columns ──kernel(row)──▶ column
//! ```
//! A quoted literal and a text column have one type here, so text is taken for anything, as Postgres takes a literal.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, IntervalMonthDayNanoArray, ListArray, ListBuilder, StringArray, StringBuilder, StructArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Fields, Float64Type, Int32Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType,
};
use chrono_tz::Tz;
use datafusion::common::{Result as DfResult, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::{Error, Result, SqlState};
use crate::types::text_input::{parse_text, zone_named};
use crate::types::{NUMERIC_DEFAULT, PgType, check_json, normal_jsonb};

/// What a kernel takes in one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
    Bool,
    Int4,
    Int8,
    Float8,
    /// With whatever scale it comes.
    Numeric,
    Text,
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Json,
    Jsonb,
    TextArray,
    /// Any array, as it is.
    Array,
    /// As it comes.
    Any,
}

/// An array of texts.
pub(super) type Texts = Vec<Option<String>>;

/// How a value is made; the variant is the result's type. `None` is NULL.
pub(super) enum Kernel {
    Bool(fn(&Row<'_>) -> Result<Option<bool>>),
    Int4(fn(&Row<'_>) -> Result<Option<i32>>),
    Int8(fn(&Row<'_>) -> Result<Option<i64>>),
    Float8(fn(&Row<'_>) -> Result<Option<f64>>),
    Numeric(fn(&Row<'_>) -> Result<Option<Decimal>>),
    Text(fn(&Row<'_>) -> Result<Option<String>>),
    Json(fn(&Row<'_>) -> Result<Option<String>>),
    Jsonb(fn(&Row<'_>) -> Result<Option<String>>),
    Bytea(fn(&Row<'_>) -> Result<Option<Vec<u8>>>),
    Date(fn(&Row<'_>) -> Result<Option<i32>>),
    Time(fn(&Row<'_>) -> Result<Option<i64>>),
    Timestamp(fn(&Row<'_>) -> Result<Option<i64>>),
    Timestamptz(fn(&Row<'_>) -> Result<Option<i64>>),
    Interval(fn(&Row<'_>) -> Result<Option<IntervalMonthDayNano>>),
    TextArray(fn(&Row<'_>) -> Result<Option<Texts>>),
    /// A list of records of texts: pushes the fields of one after the other.
    Records(&'static [(&'static str, PgType)], fn(&Row<'_>, &mut Vec<Option<String>>) -> Result<()>),
    /// A list of records with one field, an array of texts.
    TextArrays(fn(&Row<'_>, &mut Vec<Texts>) -> Result<()>),
}

/// A number of `numeric`: digits and how many of them are behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    pub digits: i128,
    pub scale: i8,
}

pub(super) struct Overload {
    pub arguments: &'static [Type],
    /// How many of the arguments, from the end, may be left out.
    optional: usize,
    /// What may follow any number of times.
    variadic: Option<Type>,
    /// NULL in, NULL out.
    strict: bool,
    pub kernel: Kernel,
}

pub(super) const fn overload(arguments: &'static [Type], kernel: Kernel) -> Overload {
    Overload { arguments, optional: 0, variadic: None, strict: true, kernel }
}

impl Overload {
    pub(super) const fn optional(mut self, count: usize) -> Overload {
        self.optional = count;
        self
    }

    pub(super) const fn variadic(mut self, rest: Type) -> Overload {
        self.variadic = Some(rest);
        self
    }

    /// The kernel is called for NULLs too.
    pub(super) const fn lenient(mut self) -> Overload {
        self.strict = false;
        self
    }

    fn declared(&self, index: usize) -> Option<Type> {
        self.arguments.get(index).copied().or(self.variadic)
    }

    fn takes(&self, count: usize) -> bool {
        let least = self.arguments.len() - self.optional;
        count >= least && (count <= self.arguments.len() || self.variadic.is_some())
    }

    /// How far the given types are from the declared ones; `None` if they do not convert.
    fn distance(&self, given: &[DataType]) -> Option<usize> {
        if !self.takes(given.len()) {
            return None;
        }
        given.iter().enumerate().map(|(index, given)| distance(given, self.declared(index)?)).sum()
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_integer(data_type: &DataType) -> bool {
    data_type.is_integer()
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..)
    )
}

/// 0 for the same type, more for each step of an implicit conversion.
fn distance(given: &DataType, wanted: Type) -> Option<usize> {
    if *given == DataType::Null {
        return Some(1);
    }
    let list = matches!(given, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..));
    let same = match wanted {
        Type::Any => return Some(2),
        Type::Array => list || *given == DataType::Null,
        Type::Bool => *given == DataType::Boolean,
        Type::Int4 => matches!(given, DataType::Int32 | DataType::Int16 | DataType::Int8),
        Type::Int8 => matches!(given, DataType::Int64 | DataType::UInt32 | DataType::UInt64),
        Type::Float8 => matches!(given, DataType::Float64 | DataType::Float32),
        Type::Numeric => is_decimal(given),
        Type::Text | Type::Json | Type::Jsonb => is_text(given),
        Type::Bytea => matches!(given, DataType::Binary | DataType::LargeBinary | DataType::BinaryView),
        Type::Date => *given == DataType::Date32,
        Type::Time => matches!(given, DataType::Time64(_)),
        Type::Timestamp => matches!(given, DataType::Timestamp(_, None)),
        Type::Timestamptz => matches!(given, DataType::Timestamp(_, Some(_))),
        Type::Interval => matches!(given, DataType::Interval(_) | DataType::Duration(_)),
        Type::TextArray => match given {
            DataType::List(item) => is_text(item.data_type()) || *item.data_type() == DataType::Null,
            _ => false,
        },
    };
    if same {
        return Some(0);
    }
    match (given, wanted) {
        // Integer literals are bigint before they are looked at closely.
        (DataType::Int64, Type::Int4) => Some(1),
        (given, Type::Int8) if is_integer(given) => Some(1),
        // Floats are preferred to numeric.
        (given, Type::Float8) if is_integer(given) => Some(2),
        (given, Type::Numeric) if is_integer(given) => Some(3),
        (given, Type::Float8) if is_decimal(given) => Some(1),
        (DataType::Date32, Type::Timestamptz) => Some(1),
        (DataType::Date32, Type::Timestamp) => Some(2),
        (DataType::Timestamp(_, None), Type::Timestamptz) => Some(3),
        (given, wanted) if is_text(given) && wanted != Type::Array => Some(4),
        _ => None,
    }
}

/// One function, whoever calls it.
pub(super) struct Function {
    pub name: &'static str,
    pub overloads: &'static [Overload],
    volatility: Volatility,
}

pub(super) const fn function(name: &'static str, overloads: &'static [Overload]) -> Function {
    Function { name, overloads, volatility: Volatility::Immutable }
}

impl Function {
    fn choose(&self, given: &[DataType]) -> Option<&'static Overload> {
        let ranked = self.overloads.iter().filter_map(|overload| Some((overload.distance(given)?, overload)));
        ranked.min_by_key(|(distance, _)| *distance).map(|(_, overload)| overload)
    }

    pub(super) fn listed(&self) -> impl Iterator<Item = super::Listed> + '_ {
        self.overloads.iter().map(|overload| super::Listed {
            name: self.name,
            arguments: overload.arguments.iter().map(|argument| argument.oid()).collect(),
            returns: PgType::of(&overload.kernel.field("")).oid(),
            strict: overload.strict,
            volatility: match self.volatility {
                Volatility::Immutable => 'i',
                Volatility::Stable => 's',
                Volatility::Volatile => 'v',
            },
        })
    }
}

impl Type {
    fn oid(self) -> u32 {
        match self {
            Type::Bool => PgType::Bool.oid(),
            Type::Int4 => PgType::Int4.oid(),
            Type::Int8 => PgType::Int8.oid(),
            Type::Float8 => PgType::Float8.oid(),
            Type::Numeric => PgType::Numeric(None).oid(),
            Type::Text => PgType::Text.oid(),
            Type::Bytea => PgType::Bytea.oid(),
            Type::Date => PgType::Date.oid(),
            Type::Time => PgType::Time.oid(),
            Type::Timestamp => PgType::Timestamp.oid(),
            Type::Timestamptz => PgType::Timestamptz.oid(),
            Type::Interval => PgType::Interval.oid(),
            Type::Json => PgType::Json.oid(),
            Type::Jsonb => PgType::Jsonb.oid(),
            Type::TextArray => PgType::Array(Box::new(PgType::Text)).oid(),
            // anyarray and "any"
            Type::Array => 2277,
            Type::Any => 2276,
        }
    }

    /// The column's type that the kernel sees, for an argument of this type.
    fn arrow(self, given: &DataType) -> DataType {
        match self {
            Type::Bool => DataType::Boolean,
            Type::Int4 => DataType::Int32,
            Type::Int8 => DataType::Int64,
            Type::Float8 => DataType::Float64,
            Type::Numeric => match given {
                DataType::Decimal128(_, scale) => DataType::Decimal128(38, *scale),
                given if is_integer(given) => DataType::Decimal128(38, 0),
                _ => DataType::Decimal128(NUMERIC_DEFAULT.0, NUMERIC_DEFAULT.1),
            },
            Type::Text | Type::Json | Type::Jsonb => DataType::Utf8,
            Type::Bytea => DataType::Binary,
            Type::Date => DataType::Date32,
            Type::Time => PgType::Time.arrow(),
            Type::Timestamp => PgType::Timestamp.arrow(),
            Type::Timestamptz => PgType::Timestamptz.arrow(),
            Type::Interval => PgType::Interval.arrow(),
            Type::TextArray => PgType::Array(Box::new(PgType::Text)).arrow(),
            Type::Array | Type::Any => match given {
                DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
                DataType::LargeList(item) | DataType::FixedSizeList(item, _) => DataType::List(item.clone()),
                other => other.clone(),
            },
        }
    }

    /// The type whose input function reads a quoted literal.
    fn of_text(self) -> Option<PgType> {
        Some(match self {
            Type::Bool => PgType::Bool,
            Type::Int4 => PgType::Int4,
            Type::Int8 => PgType::Int8,
            Type::Float8 => PgType::Float8,
            Type::Numeric => PgType::Numeric(None),
            Type::Bytea => PgType::Bytea,
            Type::Date => PgType::Date,
            Type::Time => PgType::Time,
            Type::Timestamp => PgType::Timestamp,
            Type::Timestamptz => PgType::Timestamptz,
            Type::Interval => PgType::Interval,
            Type::TextArray => PgType::Array(Box::new(PgType::Text)),
            Type::Text | Type::Json | Type::Jsonb | Type::Array | Type::Any => return None,
        })
    }
}

/// One row of the arguments.
pub(super) struct Row<'a> {
    columns: &'a [ArrayRef],
    fields: &'a [FieldRef],
    row: usize,
    /// The session's.
    pub zone: Tz,
}

impl<'a> Row<'a> {
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// A constant is a column of one row.
    pub fn column(&self, index: usize) -> (&'a ArrayRef, usize) {
        let column = &self.columns[index];
        (column, if column.len() == 1 { 0 } else { self.row })
    }

    pub fn is_null(&self, index: usize) -> bool {
        match self.columns.get(index) {
            None => true,
            Some(column) if *column.data_type() == DataType::Null => true,
            Some(_) => {
                let (column, row) = self.column(index);
                column.is_null(row)
            }
        }
    }

    /// What the argument is in Postgres.
    pub fn pg_type(&self, index: usize) -> PgType {
        self.fields.get(index).map_or(PgType::Unknown, |field| PgType::of(field))
    }

    pub fn text(&self, index: usize) -> &'a str {
        let (column, row) = self.column(index);
        column.as_string::<i32>().value(row)
    }

    /// An argument that may be left out or NULL.
    pub fn text_or<'b>(&self, index: usize, default: &'b str) -> &'b str
    where
        'a: 'b,
    {
        if self.is_null(index) { default } else { self.text(index) }
    }

    pub fn bool(&self, index: usize) -> bool {
        let (column, row) = self.column(index);
        column.as_boolean().value(row)
    }

    /// An argument of Int4 or Int8.
    pub fn int(&self, index: usize) -> i64 {
        let (column, row) = self.column(index);
        match column.data_type() {
            DataType::Int32 => column.as_primitive::<Int32Type>().value(row).into(),
            _ => column.as_primitive::<Int64Type>().value(row),
        }
    }

    pub fn int_or(&self, index: usize, default: i64) -> i64 {
        if self.is_null(index) { default } else { self.int(index) }
    }

    pub fn float(&self, index: usize) -> f64 {
        let (column, row) = self.column(index);
        column.as_primitive::<Float64Type>().value(row)
    }

    pub fn numeric(&self, index: usize) -> Decimal {
        let (column, row) = self.column(index);
        let scale = match column.data_type() {
            DataType::Decimal128(_, scale) => *scale,
            _ => 0,
        };
        Decimal { digits: column.as_primitive::<Decimal128Type>().value(row), scale }
    }

    pub fn bytes(&self, index: usize) -> &'a [u8] {
        let (column, row) = self.column(index);
        column.as_binary::<i32>().value(row)
    }

    pub fn date(&self, index: usize) -> i32 {
        let (column, row) = self.column(index);
        column.as_primitive::<Date32Type>().value(row)
    }

    pub fn time(&self, index: usize) -> i64 {
        let (column, row) = self.column(index);
        column.as_primitive::<Time64MicrosecondType>().value(row)
    }

    /// Microseconds since 1970, with or without a zone.
    pub fn timestamp(&self, index: usize) -> i64 {
        let (column, row) = self.column(index);
        column.as_primitive::<TimestampMicrosecondType>().value(row)
    }

    pub fn interval(&self, index: usize) -> IntervalMonthDayNano {
        let (column, row) = self.column(index);
        column.as_primitive::<IntervalMonthDayNanoType>().value(row)
    }

    /// The items of an array.
    pub fn list(&self, index: usize) -> ArrayRef {
        let (column, row) = self.column(index);
        column.as_list::<i32>().value(row)
    }

    pub fn texts(&self, index: usize) -> Vec<Option<String>> {
        self.list(index).as_string::<i32>().iter().map(|item| item.map(str::to_string)).collect()
    }

    /// The value as Postgres prints it; `None` for NULL.
    pub fn printed(&self, index: usize) -> Result<Option<String>> {
        if self.is_null(index) {
            return Ok(None);
        }
        let (column, row) = self.column(index);
        if let Some(strings) = column.as_string_opt::<i32>() {
            return Ok(Some(strings.value(row).to_string()));
        }
        let style = crate::types::text_output::TextStyle { time_zone: self.zone, reg_names: None };
        let printed = crate::types::text_output::TextColumn::new(&column.slice(row, 1), &self.pg_type(index), &style)?;
        let mut out = bytes::BytesMut::new();
        printed.put(0, &mut out);
        Ok(Some(String::from_utf8_lossy(&out).into_owned()))
    }

    pub fn scalar(&self, index: usize) -> Result<ScalarValue> {
        let (column, row) = self.column(index);
        Ok(ScalarValue::try_from_array(column, row)?)
    }
}

impl Kernel {
    fn field(&self, name: &str) -> FieldRef {
        let pg_type = match self {
            Kernel::Bool(_) => PgType::Bool,
            Kernel::Int4(_) => PgType::Int4,
            Kernel::Int8(_) => PgType::Int8,
            Kernel::Float8(_) => PgType::Float8,
            Kernel::Numeric(_) => PgType::Numeric(None),
            Kernel::Text(_) => PgType::Text,
            Kernel::Json(_) => PgType::Json,
            Kernel::Jsonb(_) => PgType::Jsonb,
            Kernel::Bytea(_) => PgType::Bytea,
            Kernel::Date(_) => PgType::Date,
            Kernel::Time(_) => PgType::Time,
            Kernel::Timestamp(_) => PgType::Timestamp,
            Kernel::Timestamptz(_) => PgType::Timestamptz,
            Kernel::Interval(_) => PgType::Interval,
            Kernel::TextArray(_) => PgType::Array(Box::new(PgType::Text)),
            Kernel::Records(fields, _) => {
                let fields = fields.iter().map(|(name, pg_type)| (name.to_string(), pg_type.clone()));
                PgType::Array(Box::new(PgType::Record(fields.collect())))
            }
            Kernel::TextArrays(_) => {
                let texts = PgType::Array(Box::new(PgType::Text));
                PgType::Array(Box::new(PgType::Record(vec![("value".to_string(), texts)])))
            }
        };
        pg_type.field(name, true)
    }

    /// The column of all rows' values.
    fn run(&self, rows: &Rows<'_>) -> Result<ArrayRef> {
        Ok(match self {
            Kernel::Bool(f) => Arc::new(BooleanArray::from(rows.values(f)?)),
            Kernel::Int4(f) => Arc::new(Int32Array::from(rows.values(f)?)),
            Kernel::Int8(f) => Arc::new(Int64Array::from(rows.values(f)?)),
            Kernel::Float8(f) => Arc::new(Float64Array::from(rows.values(f)?)),
            Kernel::Numeric(f) => {
                let (precision, scale) = NUMERIC_DEFAULT;
                let digits = rows.values(|row| f(row)?.map(stored).transpose())?;
                Arc::new(Decimal128Array::from(digits).with_precision_and_scale(precision, scale)?)
            }
            Kernel::Text(f) | Kernel::Json(f) | Kernel::Jsonb(f) => {
                let mut builder = StringBuilder::with_capacity(rows.count, rows.count * 16);
                for row in 0..rows.count {
                    builder.append_option(rows.value(row, f)?);
                }
                Arc::new(builder.finish())
            }
            Kernel::Bytea(f) => {
                let values = rows.values(f)?;
                Arc::new(BinaryArray::from_iter(values))
            }
            Kernel::Date(f) => Arc::new(Date32Array::from(rows.values(f)?)),
            Kernel::Time(f) => Arc::new(Time64MicrosecondArray::from(rows.values(f)?)),
            Kernel::Timestamp(f) => Arc::new(TimestampMicrosecondArray::from(rows.values(f)?)),
            Kernel::Timestamptz(f) => Arc::new(TimestampMicrosecondArray::from(rows.values(f)?).with_timezone("UTC")),
            Kernel::Interval(f) => Arc::new(IntervalMonthDayNanoArray::from(rows.values(f)?)),
            Kernel::TextArray(f) => {
                let mut builder = ListBuilder::new(StringBuilder::new()).with_field(PgType::Text.field("item", true));
                for row in 0..rows.count {
                    match rows.value(row, f)? {
                        Some(items) => builder.append_value(items),
                        None => builder.append_null(),
                    }
                }
                Arc::new(builder.finish())
            }
            Kernel::Records(fields, f) => {
                let (mut cells, mut lengths, mut valid) = (vec![], vec![], vec![]);
                for row in 0..rows.count {
                    let before = cells.len();
                    let known = rows.value(row, |row| f(row, &mut cells).map(Some))?;
                    lengths.push((cells.len() - before) / fields.len());
                    valid.push(known.is_some());
                }
                let column = |at: usize| -> ArrayRef {
                    Arc::new(cells.iter().skip(at).step_by(fields.len()).map(Option::as_deref).collect::<StringArray>())
                };
                records(&self.field(""), (0..fields.len()).map(column).collect(), lengths, valid)?
            }
            Kernel::TextArrays(f) => {
                let (mut arrays, mut lengths, mut valid) = (vec![], vec![], vec![]);
                for row in 0..rows.count {
                    let before = arrays.len();
                    let known = rows.value(row, |row| f(row, &mut arrays).map(Some))?;
                    lengths.push(arrays.len() - before);
                    valid.push(known.is_some());
                }
                let mut builder = ListBuilder::new(StringBuilder::new()).with_field(PgType::Text.field("item", true));
                arrays.into_iter().for_each(|items| builder.append_value(items));
                records(&self.field(""), vec![Arc::new(builder.finish())], lengths, valid)?
            }
        })
    }
}

/// A list of records out of their columns.
pub(super) fn records(list: &Field, columns: Vec<ArrayRef>, lengths: Vec<usize>, valid: Vec<bool>) -> Result<ArrayRef> {
    let DataType::List(item) = list.data_type() else { return Err(Error::internal("a list of records")) };
    let DataType::Struct(fields) = item.data_type() else { return Err(Error::internal("a list of records")) };
    let fields: Fields = fields.clone();
    let values = StructArray::try_new(fields, columns, None)?;
    let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
    Ok(Arc::new(ListArray::try_new(item.clone(), OffsetBuffer::from_lengths(lengths), Arc::new(values), nulls)?))
}

/// The digits at the scale that `numeric` is kept with, rounded half away from zero; 22003 if they do not fit.
fn stored(value: Decimal) -> Result<i128> {
    let overflow = || Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format");
    let scaled = value.rescale(NUMERIC_DEFAULT.1).ok_or_else(overflow)?.digits;
    if scaled.unsigned_abs() >= 10u128.pow(38) { Err(overflow()) } else { Ok(scaled) }
}

impl Decimal {
    pub fn new(digits: i128, scale: i8) -> Decimal {
        Decimal { digits, scale }
    }

    /// At another scale, rounded half away from zero; `None` on overflow.
    pub fn rescale(self, scale: i8) -> Option<Decimal> {
        if self.digits == 0 {
            return Some(Decimal { digits: 0, scale });
        }
        let digits = match i32::from(scale) - i32::from(self.scale) {
            0 => self.digits,
            up @ 1.. => self.digits.checked_mul(10i128.checked_pow(up as u32)?)?,
            down => match 10i128.checked_pow(down.unsigned_abs()) {
                Some(unit) => {
                    let (whole, rest) = (self.digits / unit, (self.digits % unit).unsigned_abs());
                    whole + if rest >= unit.unsigned_abs() - rest { self.digits.signum() } else { 0 }
                }
                None => 0,
            },
        };
        Some(Decimal { digits, scale })
    }

    pub fn to_f64(self) -> f64 {
        self.to_string().parse().unwrap_or(f64::NAN)
    }
}

/// All its digits, also zeros at the end.
impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scale = self.scale.max(0) as usize;
        let digits = format!("{:0>width$}", self.digits.unsigned_abs(), width = scale + 1);
        let (whole, rest) = digits.split_at(digits.len() - scale);
        let sign = if self.digits < 0 { "-" } else { "" };
        if rest.is_empty() { write!(f, "{sign}{whole}") } else { write!(f, "{sign}{whole}.{rest}") }
    }
}

/// The arguments of one call, row after row.
struct Rows<'a> {
    columns: &'a [ArrayRef],
    fields: &'a [FieldRef],
    count: usize,
    zone: Tz,
    strict: bool,
}

impl Rows<'_> {
    fn value<T>(&self, row: usize, mut f: impl FnMut(&Row<'_>) -> Result<Option<T>>) -> Result<Option<T>> {
        let row = Row { columns: self.columns, fields: self.fields, row, zone: self.zone };
        if self.strict && (0..row.len()).any(|index| row.is_null(index)) {
            return Ok(None);
        }
        f(&row)
    }

    fn values<T>(&self, mut f: impl FnMut(&Row<'_>) -> Result<Option<T>>) -> Result<Vec<Option<T>>> {
        (0..self.count).map(|row| self.value(row, &mut f)).collect()
    }
}

/// A [`Function`] as DataFusion calls it.
pub(super) struct ScalarFunction {
    function: &'static Function,
    signature: Signature,
}

impl ScalarFunction {
    pub(super) fn udf(function: &'static Function) -> Arc<ScalarUDF> {
        let signature = Signature::user_defined(function.volatility);
        Arc::new(ScalarUDF::new_from_impl(ScalarFunction { function, signature }))
    }

    fn overload(&self, given: &[DataType]) -> DfResult<&'static Overload> {
        match self.function.choose(given) {
            Some(overload) => Ok(overload),
            // Worded as DataFusion words it, so that it gets 42883.
            None => plan_err!(
                "No function matches the given name and argument types '{}({})'. ",
                public_name(self.function.name),
                given.iter().map(|t| PgType::of_arrow(t).name()).collect::<Vec<_>>().join(", ")
            ),
        }
    }
}

/// The name that people called it by.
fn public_name(name: &str) -> String {
    match name {
        "hw_extract" => "extract".to_string(),
        "hw_similar" => "similar_to_escape".to_string(),
        "hw_regexp_split" => "regexp_split_to_table".to_string(),
        "hw_string_split" => "string_to_table".to_string(),
        _ => {
            name.trim_start_matches("hw_").replace("_elements", "_array_elements").replace("_records", "_to_recordset")
        }
    }
}

impl std::fmt::Debug for ScalarFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.function.name)
    }
}

impl PartialEq for ScalarFunction {
    fn eq(&self, other: &ScalarFunction) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for ScalarFunction {}

impl std::hash::Hash for ScalarFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for ScalarFunction {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        Ok(self.overload(given)?.kernel.field(self.function.name).data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let given: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(self.overload(&given)?.kernel.field(self.function.name))
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let overload = self.overload(given)?;
        let coerced = given.iter().enumerate().map(|(index, given)| {
            let wanted = overload.declared(index).unwrap_or(Type::Any);
            // What the input functions read stays text till then: they know more than Arrow's cast.
            if is_text(given) && wanted.of_text().is_some() { given.clone() } else { wanted.arrow(given) }
        });
        Ok(coerced.collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let given: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let overload = self.overload(&given)?;
        let zone = args.config_options.execution.time_zone.as_deref().and_then(zone_named).unwrap_or(Tz::UTC);
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let columns = args.args.iter().enumerate().map(|(index, arg)| {
            let array = match arg {
                ColumnarValue::Array(array) => array.clone(),
                ColumnarValue::Scalar(scalar) => scalar.to_array()?,
            };
            let wanted = overload.declared(index).unwrap_or(Type::Any);
            prepared(array, wanted, args.arg_fields.get(index), zone)
        });
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let count = if is_constant { 1 } else { args.number_rows };
        let rows = Rows { columns: &columns, fields: &args.arg_fields, count, zone, strict: overload.strict };
        let result = overload.kernel.run(&rows)?;
        if !is_constant {
            return Ok(ColumnarValue::Array(result));
        }
        // A list keeps the metadata of its parts only as it is.
        Ok(ColumnarValue::Scalar(match result.data_type() {
            DataType::List(_) => ScalarValue::List(Arc::new(result.as_list::<i32>().clone())),
            _ => ScalarValue::try_from_array(&result, 0)?,
        }))
    }
}

/// An argument as its kernel wants it: text read as the type it stands for, json well-formed, jsonb in normal form.
fn prepared(array: ArrayRef, wanted: Type, field: Option<&FieldRef>, zone: Tz) -> Result<ArrayRef> {
    if *array.data_type() == DataType::Null {
        return Ok(array);
    }
    if is_text(array.data_type()) {
        let array =
            if *array.data_type() == DataType::Utf8 { array } else { arrow::compute::cast(&array, &DataType::Utf8)? };
        let strings = array.as_string::<i32>();
        let given = field.map_or(PgType::Text, |field| PgType::of(field));
        return match wanted {
            Type::Json if !matches!(given, PgType::Json | PgType::Jsonb) => {
                strings.iter().flatten().try_for_each(check_json)?;
                Ok(array)
            }
            Type::Jsonb if given != PgType::Jsonb => {
                let normal = strings.iter().map(|text| text.map(normal_jsonb).transpose());
                Ok(Arc::new(normal.collect::<Result<StringArray>>()?))
            }
            wanted => match wanted.of_text() {
                Some(pg_type) => {
                    let null = crate::types::text_input::null_of(&pg_type)?;
                    let values =
                        strings.iter().map(|text| text.map_or(Ok(null.clone()), |t| parse_text(t, &pg_type, zone)));
                    let values = values.collect::<Result<Vec<ScalarValue>>>()?;
                    if values.is_empty() {
                        return Ok(arrow::array::new_empty_array(&pg_type.arrow()));
                    }
                    Ok(ScalarValue::iter_to_array(values)?)
                }
                None => Ok(array),
            },
        };
    }
    let target = wanted.arrow(array.data_type());
    if *array.data_type() == target { Ok(array) } else { Ok(arrow::compute::cast(&array, &target)?) }
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    #[test]
    fn decimals_round_half_away_from_zero() {
        let at = |digits, scale, to| Decimal::new(digits, scale).rescale(to).map(|value| value.to_string());
        assert_eq!(at(12345, 3, 2).as_deref(), Some("12.35"));
        assert_eq!(at(-12345, 3, 2).as_deref(), Some("-12.35"));
        assert_eq!(at(12344, 3, 2).as_deref(), Some("12.34"));
        assert_eq!(at(5, 0, 3).as_deref(), Some("5.000"));
        assert_eq!(at(-5, 2, 2).as_deref(), Some("-0.05"));
        assert_eq!(at(0, 0, 38).as_deref(), Some("0.00000000000000000000000000000000000000"));
        assert_eq!(at(i128::MAX, 0, 1), None);
        assert_eq!(Decimal::new(49, 0).rescale(-2).map(|value| value.digits), Some(0));
        assert_eq!(Decimal::new(50, 0).rescale(-2).map(|value| value.digits), Some(1));
    }
}
