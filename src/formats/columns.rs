//! Cells to columns: one typed loop for each column. A cell that does not fit its column becomes a fault of its row,
//! with a NULL in its place until the row is taken out.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanArray, BooleanBuilder, ListArray, NullBufferBuilder,
    PrimitiveArray, RecordBatch, RecordBatchOptions, StringBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::filter;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Fields, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, SchemaRef, Time64MicrosecondType, TimestampMicrosecondType, UInt32Type,
};

use super::input::{self, Input, Misfit};
use super::scan;
use super::{Faults, Raw};
use crate::error::{Error, Result, SqlState};
use crate::types::PgType;

/// 0A000 if a column has a type that no text can be read into.
pub fn check(schema: &SchemaRef) -> Result<()> {
    fn is_readable(data_type: &DataType) -> bool {
        match data_type {
            DataType::List(item) => is_readable(item.data_type()),
            DataType::Struct(fields) => fields.iter().all(|field| is_readable(field.data_type())),
            plain => *plain == PgType::of_arrow(plain).arrow() && !matches!(PgType::of_arrow(plain), PgType::Record(_)),
        }
    }
    match schema.fields().iter().find(|field| !is_readable(field.data_type())) {
        None => Ok(()),
        Some(field) => Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("column \"{}\" of type {} cannot be decoded", field.name(), PgType::of(field).name()),
        )),
    }
}

/// The rows that have no fault, as a batch of `schema`. `columns` holds `row_count` cells for each of its fields;
/// `faults` may already hold rows and gets those that are found here.
pub fn batch(
    schema: &SchemaRef,
    columns: &[Vec<Raw<'_>>],
    row_count: usize,
    faults: &mut Faults,
) -> Result<RecordBatch> {
    let mut arrays = Vec::with_capacity(columns.len());
    for (field, cells) in schema.fields().iter().zip(columns) {
        arrays.push(column(field, field.name(), cells, faults)?);
    }
    let mut kept_count = row_count;
    if !faults.0.is_empty() {
        let keep: BooleanArray = (0..row_count).map(|row| Some(!faults.0.contains_key(&row))).collect();
        kept_count = keep.true_count();
        for array in &mut arrays {
            *array = filter(array, &keep)?;
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(kept_count));
    Ok(RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?)
}

/// `path` names the column in reasons: `price`, `items[2].price`.
fn column(field: &Field, path: &str, cells: &[Raw<'_>], faults: &mut Faults) -> Result<ArrayRef> {
    if !field.is_nullable() {
        for (row, _) in cells.iter().enumerate().filter(|(_, cell)| **cell == Raw::Null) {
            faults.add(row, format!("column \"{path}\": missing or null in a column declared NOT NULL"));
        }
    }
    let mut teller = Teller { path, pg_type: PgType::of(field), faults };
    Ok(match (field.data_type(), &teller.pg_type) {
        (DataType::List(item), _) => return list(item, path, cells, &mut teller),
        (DataType::Struct(fields), _) => return structure(fields, path, cells, &mut teller),
        (DataType::Boolean, _) => boolean(cells, &mut teller),
        (DataType::Int16, _) => primitive::<Int16Type>(cells, &mut teller, |c| narrow(integer(c)?)),
        (DataType::Int32, _) => primitive::<Int32Type>(cells, &mut teller, |c| narrow(integer(c)?)),
        (DataType::Int64, _) => primitive::<Int64Type>(cells, &mut teller, integer),
        (DataType::UInt32, _) => primitive::<UInt32Type>(cells, &mut teller, |c| narrow(integer(c)?)),
        (DataType::Float64, _) => primitive::<Float64Type>(cells, &mut teller, |c| input::float(number(c)?)),
        (DataType::Float32, _) => primitive::<Float32Type>(cells, &mut teller, |c| {
            let wide = input::float(number(c)?)?;
            let value = wide as f32;
            if value.is_infinite() && wide.is_finite() { Err(Misfit::OutOfRange) } else { Ok(value) }
        }),
        (DataType::Decimal128(precision, scale), _) => {
            let (precision, scale) = (*precision, *scale);
            let read = |c: &Raw<'_>| input::decimal(number(c)?, precision, scale);
            let array = primitive_array::<Decimal128Type>(cells, &mut teller, read);
            Arc::new(array.with_precision_and_scale(precision, scale)?)
        }
        (DataType::Date32, _) => primitive::<Date32Type>(cells, &mut teller, |c| input::date(text(c)?)),
        (DataType::Time64(_), _) => primitive::<Time64MicrosecondType>(cells, &mut teller, |c| input::time(text(c)?)),
        (DataType::Timestamp(_, zone), _) => {
            let zone = zone.clone();
            let array = primitive_array::<TimestampMicrosecondType>(cells, &mut teller, |cell| match cell {
                Raw::Number(millis) => input::timestamp_of_millis(millis),
                other => input::timestamp(text(other)?),
            });
            Arc::new(array.with_timezone_opt(zone))
        }
        (DataType::Interval(_), _) => {
            primitive::<IntervalMonthDayNanoType>(cells, &mut teller, |c| input::interval(text(c)?))
        }
        (DataType::Binary, _) => {
            let mut builder = BinaryBuilder::new();
            for (row, cell) in cells.iter().enumerate() {
                builder.append_option(teller.take(row, cell, |c| input::bytea(text(c)?)));
            }
            Arc::new(builder.finish())
        }
        (DataType::Utf8, PgType::Uuid) => strings(cells, &mut teller, |c| input::uuid(text(c)?).map(Cow::Owned)),
        (DataType::Utf8, PgType::Json | PgType::Jsonb) => strings(cells, &mut teller, json),
        (DataType::Utf8, PgType::Varchar(Some(limit))) => {
            let limit = *limit as usize;
            strings(cells, &mut teller, move |c| fitting(as_written(c)?, limit, "character varying"))
        }
        (DataType::Utf8, PgType::Bpchar(length)) => {
            let limit = length.unwrap_or(1) as usize;
            strings(cells, &mut teller, move |c| {
                let fitting = fitting(as_written(c)?, limit, "character")?;
                let missing = limit - fitting.chars().count();
                Ok(if missing == 0 { fitting } else { Cow::Owned(fitting.into_owned() + &" ".repeat(missing)) })
            })
        }
        (DataType::Utf8, _) => strings(cells, &mut teller, as_written),
        (other, _) => return Err(Error::internal(format!("no decoding for {other}, which the check refuses"))),
    })
}

/// Tells what is wrong with a cell of one column.
struct Teller<'f> {
    path: &'f str,
    pg_type: PgType,
    faults: &'f mut Faults,
}

impl Teller<'_> {
    /// The value of a cell, or `None` and perhaps a fault.
    #[inline]
    fn take<'c, 'r, T>(
        &mut self,
        row: usize,
        cell: &'c Raw<'r>,
        read: impl FnOnce(&'c Raw<'r>) -> Input<T>,
    ) -> Option<T> {
        match cell {
            Raw::Null => None,
            cell => match read(cell) {
                Ok(value) => Some(value),
                Err(misfit) => {
                    self.tell(row, cell, misfit);
                    None
                }
            },
        }
    }

    #[cold]
    fn tell(&mut self, row: usize, cell: &Raw<'_>, misfit: Misfit) {
        let (path, expected) = (self.path, self.pg_type.name());
        self.faults.add(
            row,
            match misfit {
                Misfit::Syntax => format!("column \"{path}\": expected {expected}, found {}", shown(cell)),
                Misfit::OutOfRange => format!("column \"{path}\": {} is out of range for {expected}", shown(cell)),
                Misfit::Because(reason) => format!("column \"{path}\": {reason}"),
            },
        );
    }
}

/// A cell for a reason, cut to a readable length.
fn shown(cell: &Raw<'_>) -> String {
    const CHARS_MAX: usize = 40;
    let cut = |text: &str| match text.char_indices().nth(CHARS_MAX) {
        None => text.to_string(),
        Some((end, _)) => format!("{}…", &text[..end]),
    };
    match cell {
        Raw::Null => "null".into(),
        Raw::Text(text) => format!("string \"{}\"", cut(text)),
        Raw::Number(text) => format!("number {}", cut(text)),
        Raw::Bool(value) => format!("{value}"),
        Raw::Nested(text) if text.starts_with('{') => format!("object {}", cut(text)),
        Raw::Nested(text) => format!("array {}", cut(text)),
    }
}

fn text<'c>(cell: &'c Raw<'_>) -> Input<&'c str> {
    match cell {
        Raw::Text(text) => Ok(text),
        _ => Err(Misfit::Syntax),
    }
}

fn number<'c>(cell: &'c Raw<'_>) -> Input<&'c str> {
    match cell {
        Raw::Number(text) => Ok(text),
        other => text(other),
    }
}

#[inline]
fn integer(cell: &Raw<'_>) -> Input<i64> {
    match cell {
        Raw::Number(text) => input::integer(text, true),
        other => input::integer(text(other)?, false),
    }
}

fn narrow<T: TryFrom<i64>>(value: i64) -> Input<T> {
    T::try_from(value).map_err(|_| Misfit::OutOfRange)
}

/// A text column takes any value: strings by their content, others as they are written.
fn as_written<'c>(cell: &'c Raw<'_>) -> Input<Cow<'c, str>> {
    Ok(Cow::Borrowed(match cell {
        Raw::Text(text) if text.as_bytes().contains(&0) => {
            return Err(Misfit::Because("text may not contain a NUL character".into()));
        }
        Raw::Text(text) | Raw::Nested(text) => text,
        Raw::Number(text) => text,
        Raw::Bool(value) => {
            if *value {
                "true"
            } else {
                "false"
            }
        }
        Raw::Null => return Err(Misfit::Syntax),
    }))
}

/// A JSON column takes any JSON value; what comes as text is a JSON string.
fn json<'c>(cell: &'c Raw<'_>) -> Input<Cow<'c, str>> {
    match cell {
        Raw::Text(text) => Ok(Cow::Owned(serde_json::Value::from(text.as_ref()).to_string())),
        other => as_written(other),
    }
}

/// Postgres takes a text that is too long only for its trailing blanks.
fn fitting<'c>(text: Cow<'c, str>, limit: usize, type_name: &str) -> Input<Cow<'c, str>> {
    match text.char_indices().nth(limit) {
        None => Ok(text),
        Some((end, _)) if text[end..].bytes().all(|b| b == b' ') => Ok(Cow::Owned(text[..end].to_string())),
        Some(_) => Err(Misfit::Because(format!("value too long for type {type_name}({limit})"))),
    }
}

#[inline]
fn primitive_array<T: ArrowPrimitiveType>(
    cells: &[Raw<'_>],
    teller: &mut Teller<'_>,
    read: impl Fn(&Raw<'_>) -> Input<T::Native>,
) -> PrimitiveArray<T> {
    let mut values = Vec::with_capacity(cells.len());
    let mut nulls = NullBufferBuilder::new(cells.len());
    for (row, cell) in cells.iter().enumerate() {
        let value = teller.take(row, cell, &read);
        nulls.append(value.is_some());
        values.push(value.unwrap_or_default());
    }
    PrimitiveArray::new(values.into(), nulls.finish())
}

fn primitive<T: ArrowPrimitiveType>(
    cells: &[Raw<'_>],
    teller: &mut Teller<'_>,
    read: impl Fn(&Raw<'_>) -> Input<T::Native>,
) -> ArrayRef {
    Arc::new(primitive_array::<T>(cells, teller, read))
}

fn boolean(cells: &[Raw<'_>], teller: &mut Teller<'_>) -> ArrayRef {
    let mut builder = BooleanBuilder::with_capacity(cells.len());
    for (row, cell) in cells.iter().enumerate() {
        builder.append_option(teller.take(row, cell, |cell| match cell {
            Raw::Bool(value) => Ok(*value),
            other => input::boolean(text(other)?),
        }));
    }
    Arc::new(builder.finish())
}

fn strings(
    cells: &[Raw<'_>],
    teller: &mut Teller<'_>,
    read: impl for<'c, 'r> Fn(&'c Raw<'r>) -> Input<Cow<'c, str>>,
) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(cells.len(), cells.len() * 16);
    for (row, cell) in cells.iter().enumerate() {
        builder.append_option(teller.take(row, cell, &read));
    }
    Arc::new(builder.finish())
}

/// JSON arrays, and in texts also Postgres array literals.
fn list(item: &Arc<Field>, path: &str, cells: &[Raw<'_>], teller: &mut Teller<'_>) -> Result<ArrayRef> {
    let (mut lengths, mut nulls) = (Vec::with_capacity(cells.len()), NullBufferBuilder::new(cells.len()));
    let (mut elements, mut rows): (Vec<Raw<'_>>, Vec<usize>) = (vec![], vec![]);
    for (row, cell) in cells.iter().enumerate() {
        let found = teller.take(row, cell, |cell| {
            let mut found = vec![];
            match cell {
                Raw::Nested(text) if text.starts_with('[') => {
                    scan::array(text, |element| found.push(element)).map_err(|_| Misfit::Syntax)?;
                }
                Raw::Text(text) if text.trim_start().starts_with('[') => {
                    let own = |error| Misfit::Because(format!("invalid JSON: {error}"));
                    scan::array(text, |element| found.push(element)).map_err(own)?;
                }
                Raw::Text(text) => {
                    let texts = input::array_literal(text)?;
                    found.extend(texts.into_iter().map(|t| t.map_or(Raw::Null, |t| Raw::Text(t.into()))));
                }
                _ => return Err(Misfit::Syntax),
            }
            Ok(found)
        });
        nulls.append(found.is_some());
        let found = found.unwrap_or_default();
        lengths.push(found.len());
        rows.resize(rows.len() + found.len(), row);
        elements.extend(found);
    }
    let mut inner_faults = Faults::default();
    let values = column(item, &format!("{path}[]"), &elements, &mut inner_faults)?;
    for (element, reason) in inner_faults.0 {
        teller.faults.add(rows[element], reason);
    }
    // Faulty elements are NULL until their row is taken out, whatever the item's field says.
    let item = Arc::new(item.as_ref().clone().with_nullable(true));
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, nulls.finish())?))
}

/// JSON objects, in texts too.
fn structure(fields: &Fields, path: &str, cells: &[Raw<'_>], teller: &mut Teller<'_>) -> Result<ArrayRef> {
    let mut nulls = NullBufferBuilder::new(cells.len());
    let mut members: Vec<Vec<Raw<'_>>> = vec![vec![Raw::Null; cells.len()]; fields.len()];
    for (row, cell) in cells.iter().enumerate() {
        let is_there = teller.take(row, cell, |cell| {
            let text: &str = match cell {
                Raw::Nested(text) if text.starts_with('{') => text,
                Raw::Text(text) if text.trim_start().starts_with('{') => text,
                _ => return Err(Misfit::Syntax),
            };
            let wanted = |key: &str| fields.iter().position(|field| field.name() == key);
            scan::object(text, wanted, |field, value| members[field][row] = value)
                .map_err(|error| Misfit::Because(format!("invalid JSON: {error}")))
        });
        nulls.append(is_there.is_some());
    }
    let mut arrays = Vec::with_capacity(fields.len());
    for (field, cells) in fields.iter().zip(&members) {
        // A field of a struct is nullable wherever the struct is.
        let field = field.as_ref().clone().with_nullable(true);
        arrays.push(column(&field, &format!("{path}.{}", field.name()), cells, teller.faults)?);
    }
    Ok(Arc::new(StructArray::try_new(fields.clone(), arrays, nulls.finish())?))
}
