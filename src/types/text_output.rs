//! Arrow columns as Postgres' text output functions print them: psql, text results, COPY TO.
//!
//! ```text
//! column ──TextColumn::new (once per batch)──▶ TextColumn ──put(row)──▶ bytes of one value
//! ```
//!
//! Making a [`TextColumn`] casts and downcasts; [`TextColumn::put`] only writes. Arrays and records that need quotes
//! are the one place where a value is copied.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, PrimitiveArray, StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType, UInt32Type,
};
use bytes::{BufMut, BytesMut};
use chrono_tz::Tz;

use super::PgType;
use super::canonical::{canonical, item_type};
use super::datetime::{put_date, put_interval, put_time, put_timestamp, put_timestamptz};
use super::number::{DecimalDigits, put_float4, put_float8, put_integer, put_unsigned};
use crate::error::{Error, Result};

/// Says the name of an object of `regclass`, `regproc` or `regnamespace` by its OID, quoted where needed.
pub type RegNames = Arc<dyn Fn(&PgType, u32) -> Option<String> + Send + Sync>;

/// What a session sets about printing.
#[derive(Clone)]
pub struct TextStyle {
    pub time_zone: Tz,
    /// Without it, and for objects that it does not know, the number is printed.
    pub reg_names: Option<RegNames>,
}

impl Default for TextStyle {
    fn default() -> TextStyle {
        TextStyle { time_zone: Tz::UTC, reg_names: None }
    }
}

impl std::fmt::Debug for TextStyle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextStyle").field("time_zone", &self.time_zone).finish_non_exhaustive()
    }
}

/// One column of one batch, ready to print.
pub struct TextColumn {
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    Null,
    Bool(BooleanArray),
    Int2(PrimitiveArray<Int16Type>),
    Int4(PrimitiveArray<Int32Type>),
    Int8(PrimitiveArray<Int64Type>),
    Float4(PrimitiveArray<Float32Type>),
    Float8(PrimitiveArray<Float64Type>),
    Decimal128 {
        array: Decimal128Array,
        scale: i8,
        trim: bool,
    },
    Decimal256 {
        array: Decimal256Array,
        scale: i8,
        trim: bool,
    },
    Text(StringArray),
    Bytea(BinaryArray),
    Date(PrimitiveArray<Date32Type>),
    Time(PrimitiveArray<Time64MicrosecondType>),
    Timestamp(PrimitiveArray<TimestampMicrosecondType>),
    Timestamptz(PrimitiveArray<TimestampMicrosecondType>, Tz),
    Interval(PrimitiveArray<IntervalMonthDayNanoType>),
    Oid(PrimitiveArray<UInt32Type>),
    Reg(PrimitiveArray<UInt32Type>, PgType, Option<RegNames>),
    Array {
        offsets: OffsetBuffer<i32>,
        items: Box<TextColumn>,
        quoting: Quoting,
    },
    /// int2vector, oidvector: items between blanks.
    Vector {
        offsets: OffsetBuffer<i32>,
        items: Box<TextColumn>,
    },
    Record(Vec<TextColumn>),
}

/// How the items of an array are protected.
#[derive(Clone, Copy, PartialEq)]
enum Quoting {
    /// Numbers and the like never need quotes, nested arrays never have them.
    Never,
    AsNeeded,
}

impl TextColumn {
    /// `pg_type` is what the client is told; the array is cast to it. XX000 if that cannot be.
    pub fn new(array: &ArrayRef, pg_type: &PgType, style: &TextStyle) -> Result<TextColumn> {
        let array = canonical(array, pg_type)?;
        let nulls = array.logical_nulls();
        let values = match pg_type {
            _ if *array.data_type() == DataType::Null => Values::Null,
            PgType::Bool => Values::Bool(array.as_boolean().clone()),
            PgType::Int2 => Values::Int2(array.as_primitive().clone()),
            PgType::Int4 => Values::Int4(array.as_primitive().clone()),
            PgType::Int8 => Values::Int8(array.as_primitive().clone()),
            PgType::Float4 => Values::Float4(array.as_primitive().clone()),
            PgType::Float8 => Values::Float8(array.as_primitive().clone()),
            PgType::Numeric(declared) => {
                let trim = declared.is_none();
                match array.data_type() {
                    DataType::Decimal128(_, scale) => Values::Decimal128 {
                        array: array.as_primitive::<Decimal128Type>().clone(),
                        scale: *scale,
                        trim,
                    },
                    DataType::Decimal256(_, scale) => Values::Decimal256 {
                        array: array.as_primitive::<Decimal256Type>().clone(),
                        scale: *scale,
                        trim,
                    },
                    other => return Err(Error::internal(format!("numeric carried by {other}"))),
                }
            }
            PgType::Text
            | PgType::Varchar(_)
            | PgType::Bpchar(_)
            | PgType::Char
            | PgType::Name
            | PgType::Uuid
            | PgType::Json
            | PgType::Jsonb
            | PgType::Unknown
            | PgType::Void => Values::Text(array.as_string().clone()),
            PgType::Bytea => Values::Bytea(array.as_binary().clone()),
            PgType::Date => Values::Date(array.as_primitive().clone()),
            PgType::Time => Values::Time(array.as_primitive().clone()),
            PgType::Timestamp => Values::Timestamp(array.as_primitive().clone()),
            PgType::Timestamptz => Values::Timestamptz(array.as_primitive().clone(), style.time_zone),
            PgType::Interval => Values::Interval(array.as_primitive().clone()),
            PgType::Oid => Values::Oid(array.as_primitive().clone()),
            PgType::Regclass | PgType::Regtype | PgType::Regproc | PgType::Regnamespace => {
                Values::Reg(array.as_primitive().clone(), pg_type.clone(), style.reg_names.clone())
            }
            PgType::Int2vector | PgType::Oidvector | PgType::Array(_) => {
                let list = array.as_list::<i32>();
                let item = item_type(&array, pg_type);
                let items = Box::new(TextColumn::new(list.values(), &item, style)?);
                let offsets = list.offsets().clone();
                match pg_type {
                    PgType::Array(_) => Values::Array { offsets, items, quoting: quoting(&item) },
                    _ => Values::Vector { offsets, items },
                }
            }
            PgType::Record(fields) => {
                let columns = array.as_struct().columns().iter().zip(fields);
                Values::Record(
                    columns.map(|(column, (_, t))| TextColumn::new(column, t, style)).collect::<Result<_>>()?,
                )
            }
        };
        Ok(TextColumn { nulls, values })
    }

    pub fn is_null(&self, row: usize) -> bool {
        matches!(self.values, Values::Null) || self.nulls.as_ref().is_some_and(|n| n.is_null(row))
    }

    /// Appends the text of a value that is not NULL; of NULL, nothing of meaning.
    pub fn put(&self, row: usize, out: &mut BytesMut) {
        match &self.values {
            Values::Null => {}
            Values::Bool(array) => out.put_u8(if array.value(row) { b't' } else { b'f' }),
            Values::Int2(array) => put_integer(out, array.value(row) as i64),
            Values::Int4(array) => put_integer(out, array.value(row) as i64),
            Values::Int8(array) => put_integer(out, array.value(row)),
            Values::Float4(array) => put_float4(out, array.value(row)),
            Values::Float8(array) => put_float8(out, array.value(row)),
            Values::Decimal128 { array, scale, trim } => {
                DecimalDigits::of_i128(array.value(row)).put(out, *scale, *trim)
            }
            Values::Decimal256 { array, scale, trim } => {
                DecimalDigits::of_i256(array.value(row)).put(out, *scale, *trim)
            }
            Values::Text(array) => out.put_slice(array.value(row).as_bytes()),
            Values::Bytea(array) => put_hex(out, array.value(row)),
            Values::Date(array) => put_date(out, array.value(row)),
            Values::Time(array) => put_time(out, array.value(row)),
            Values::Timestamp(array) => put_timestamp(out, array.value(row)),
            Values::Timestamptz(array, zone) => put_timestamptz(out, array.value(row), *zone),
            Values::Interval(array) => {
                let IntervalMonthDayNano { months, days, nanoseconds } = array.value(row);
                put_interval(out, months, days, nanoseconds / 1000);
            }
            Values::Oid(array) => put_unsigned(out, array.value(row) as u64),
            Values::Reg(array, pg_type, names) => put_reg(out, array.value(row), pg_type, names.as_ref()),
            Values::Array { offsets, items, quoting } => put_array(out, items, range(offsets, row), *quoting),
            Values::Vector { offsets, items } => {
                for item in range(offsets, row) {
                    if item != offsets[row] as usize {
                        out.put_u8(b' ');
                    }
                    items.put(item, out);
                }
            }
            Values::Record(columns) => put_record(out, columns, row),
        }
    }
}

fn range(offsets: &OffsetBuffer<i32>, row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

fn quoting(item: &PgType) -> Quoting {
    match item {
        PgType::Bool
        | PgType::Int2
        | PgType::Int4
        | PgType::Int8
        | PgType::Float4
        | PgType::Float8
        | PgType::Numeric(_)
        | PgType::Date
        | PgType::Time
        | PgType::Uuid
        | PgType::Oid
        | PgType::Array(_) => Quoting::Never,
        _ => Quoting::AsNeeded,
    }
}

fn put_hex(out: &mut BytesMut, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + bytes.len() * 2);
    out.put_slice(b"\\x");
    for byte in bytes {
        out.put_slice(&[DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]);
    }
}

fn put_reg(out: &mut BytesMut, oid: u32, pg_type: &PgType, names: Option<&RegNames>) {
    if oid == 0 {
        return out.put_u8(b'-');
    }
    let name = names.and_then(|names| names(pg_type, oid)).or_else(|| match (pg_type, oid) {
        (PgType::Regtype, _) => PgType::from_oid(oid).map(|t| t.name()),
        (PgType::Regnamespace, 11) => Some("pg_catalog".to_string()),
        (PgType::Regnamespace, 2200) => Some("public".to_string()),
        _ => None,
    });
    match name {
        Some(name) => out.put_slice(name.as_bytes()),
        None => put_unsigned(out, oid as u64),
    }
}

fn put_array(out: &mut BytesMut, items: &TextColumn, range: std::ops::Range<usize>, quoting: Quoting) {
    out.put_u8(b'{');
    for item in range.clone() {
        if item != range.start {
            out.put_u8(b',');
        }
        if items.is_null(item) {
            out.put_slice(b"NULL");
            continue;
        }
        let start = out.len();
        items.put(item, out);
        if quoting == Quoting::AsNeeded && array_item_needs_quotes(&out[start..]) {
            let plain = out.split_off(start);
            out.put_u8(b'"');
            for &byte in plain.iter() {
                if matches!(byte, b'"' | b'\\') {
                    out.put_u8(b'\\');
                }
                out.put_u8(byte);
            }
            out.put_u8(b'"');
        }
    }
    out.put_u8(b'}');
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

fn array_item_needs_quotes(text: &[u8]) -> bool {
    text.is_empty()
        || text.eq_ignore_ascii_case(b"null")
        || text.iter().any(|&b| is_space(b) || matches!(b, b'"' | b'\\' | b'{' | b'}' | b','))
}

fn put_record(out: &mut BytesMut, columns: &[TextColumn], row: usize) {
    out.put_u8(b'(');
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        if column.is_null(row) {
            continue;
        }
        let start = out.len();
        column.put(row, out);
        let text = &out[start..];
        if text.is_empty() || text.iter().any(|&b| is_space(b) || matches!(b, b'"' | b'\\' | b'(' | b')' | b',')) {
            let plain = out.split_off(start);
            out.put_u8(b'"');
            for &byte in plain.iter() {
                if matches!(byte, b'"' | b'\\') {
                    out.put_u8(byte);
                }
                out.put_u8(byte);
            }
            out.put_u8(b'"');
        }
    }
    out.put_u8(b')');
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        DictionaryArray, Int32Array, ListArray, StringViewArray, StructArray, TimestampMillisecondArray, UInt64Array,
    };
    use arrow::datatypes::{Field, Fields, Int32Type as I32};

    fn all(array: ArrayRef, pg_type: &PgType) -> Vec<String> {
        let column = TextColumn::new(&array, pg_type, &TextStyle::default()).expect("a column that can be printed");
        (0..array.len())
            .map(|row| {
                if column.is_null(row) {
                    return "~".to_string();
                }
                let mut out = BytesMut::new();
                column.put(row, &mut out);
                String::from_utf8_lossy(&out).into_owned()
            })
            .collect()
    }

    fn natural(array: ArrayRef) -> Vec<String> {
        let pg_type = PgType::of_arrow(array.data_type());
        all(array, &pg_type)
    }

    #[test]
    fn scalars() {
        assert_eq!(natural(Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))), ["t", "f", "~"]);
        assert_eq!(natural(Arc::new(UInt64Array::from(vec![u64::MAX]))), ["18446744073709551615"]);
        assert_eq!(natural(Arc::new(StringViewArray::from(vec!["a", "b"]))), ["a", "b"]);
        assert_eq!(natural(Arc::new(BinaryArray::from_vec(vec![b"\x00\xff"]))), ["\\x00ff"]);
        assert_eq!(natural(Arc::new(TimestampMillisecondArray::from(vec![1500]))), ["1970-01-01 00:00:01.5"]);
        let dictionary: DictionaryArray<I32> = vec![Some("x"), None, Some("x")].into_iter().collect();
        assert_eq!(natural(Arc::new(dictionary)), ["x", "~", "x"]);
        let decimal = Decimal128Array::from(vec![15_000_000_000]).with_precision_and_scale(38, 10).expect("fits");
        assert_eq!(all(Arc::new(decimal.clone()), &PgType::Numeric(None)), ["1.5"]);
        assert_eq!(all(Arc::new(decimal), &PgType::Numeric(Some((38, 10)))), ["1.5000000000"]);
        assert_eq!(all(Arc::new(arrow::array::NullArray::new(1)), &PgType::Unknown), ["~"]);
        assert_eq!(all(Arc::new(Int32Array::from(vec![7])), &PgType::Int8), ["7"]);
        assert_eq!(
            all(Arc::new(arrow::array::UInt32Array::from(vec![23, 0, 99999])), &PgType::Regtype),
            ["integer", "-", "99999"]
        );
    }

    #[test]
    fn arrays() {
        let ints =
            ListArray::from_iter_primitive::<I32, _, _>(vec![Some(vec![Some(1), None, Some(3)]), Some(vec![]), None]);
        assert_eq!(natural(Arc::new(ints.clone())), ["{1,NULL,3}", "{}", "~"]);
        assert_eq!(all(Arc::new(ints.slice(0, 2)), &PgType::Array(Box::new(PgType::Int4))), ["{1,NULL,3}", "{}"]);
        let texts: ArrayRef =
            Arc::new(StringArray::from(vec!["a b", "", "null", "q\"", "back\\", "plain", "x,y", "é"]));
        let list = ListArray::new(
            Arc::new(Field::new("item", DataType::Utf8, true)),
            OffsetBuffer::from_lengths([8]),
            texts,
            None,
        );
        assert_eq!(natural(Arc::new(list)), [r#"{"a b","","null","q\"","back\\",plain,"x,y",é}"#]);
        let nested = ListArray::new(
            Arc::new(Field::new("item", ints.data_type().clone(), true)),
            OffsetBuffer::from_lengths([2]),
            Arc::new(ints.slice(0, 2)),
            None,
        );
        assert_eq!(natural(Arc::new(nested)), ["{{1,NULL,3},{}}"]);
        let vector = ListArray::from_iter_primitive::<Int16Type, _, _>(vec![Some(vec![Some(1), Some(2)])]);
        assert_eq!(all(Arc::new(vector), &PgType::Int2vector), ["1 2"]);
    }

    #[test]
    fn records() {
        let fields = Fields::from(vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b", DataType::Utf8, true),
            Field::new("c", DataType::Utf8, true),
        ]);
        let record = StructArray::new(
            fields,
            vec![
                Arc::new(Int32Array::from(vec![1, 2])),
                Arc::new(StringArray::from(vec!["a b", "q\"x\\"])),
                Arc::new(StringArray::from(vec![None, Some("")])),
            ],
            None,
        );
        assert_eq!(natural(Arc::new(record)), [r#"(1,"a b",)"#, r#"(2,"q""x\\","")"#]);
    }
}
