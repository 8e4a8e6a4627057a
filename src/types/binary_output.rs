//! Arrow columns in Postgres' binary formats (the `*_send` functions).
//!
//! Times count from 2000-01-01, numerics are groups of four decimal digits, arrays carry their dimensions, uuids their
//! sixteen bytes, jsonb a version byte.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, Decimal256Array, PrimitiveArray, StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType, UInt32Type,
};
use bytes::{BufMut, BytesMut};

use super::PgType;
use super::canonical::{canonical, item_type};
use super::number::DecimalDigits;
use crate::error::{Error, Result, SqlState};

/// Postgres' day 0, 2000-01-01, in days since 1970-01-01.
pub const EPOCH_DAYS: i32 = 10_957;
/// The same instant in microseconds.
pub const EPOCH_US: i64 = 946_684_800_000_000;

/// One column of one batch, ready to be written in binary.
pub struct BinaryColumn {
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
    Decimal128 { array: Decimal128Array, scale: i8, trim: bool },
    Decimal256 { array: Decimal256Array, scale: i8, trim: bool },
    Text(StringArray),
    Jsonb(StringArray),
    Uuid(StringArray),
    Bytea(BinaryArray),
    Date(PrimitiveArray<Date32Type>),
    Time(PrimitiveArray<Time64MicrosecondType>),
    Timestamp(PrimitiveArray<TimestampMicrosecondType>),
    Interval(PrimitiveArray<IntervalMonthDayNanoType>),
    Oid(PrimitiveArray<UInt32Type>),
    Array(ArrayColumn),
    Record(Vec<(u32, BinaryColumn)>),
}

/// A list, each level of nesting a dimension, down to the elements.
struct ArrayColumn {
    levels: Vec<Level>,
    elements: Box<BinaryColumn>,
    element_oid: u32,
    /// 1, but 0 for int2vector and oidvector.
    lower_bound: i32,
}

struct Level {
    offsets: OffsetBuffer<i32>,
    nulls: Option<NullBuffer>,
}

impl BinaryColumn {
    /// XX000 if the array cannot be what `pg_type` says, 22P03 for a uuid that is none, 2202E for arrays whose inner
    /// arrays differ in length.
    pub fn new(array: &ArrayRef, pg_type: &PgType) -> Result<BinaryColumn> {
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
            | PgType::Json
            | PgType::Unknown
            | PgType::Void => Values::Text(array.as_string().clone()),
            PgType::Jsonb => Values::Jsonb(array.as_string().clone()),
            PgType::Uuid => Values::Uuid(checked_uuids(array.as_string())?.clone()),
            PgType::Bytea => Values::Bytea(array.as_binary().clone()),
            PgType::Date => Values::Date(array.as_primitive().clone()),
            PgType::Time => Values::Time(array.as_primitive().clone()),
            PgType::Timestamp | PgType::Timestamptz => Values::Timestamp(array.as_primitive().clone()),
            PgType::Interval => Values::Interval(array.as_primitive().clone()),
            PgType::Oid | PgType::Regclass | PgType::Regtype | PgType::Regproc | PgType::Regnamespace => {
                Values::Oid(array.as_primitive().clone())
            }
            PgType::Array(_) | PgType::Int2vector | PgType::Oidvector => {
                Values::Array(ArrayColumn::new(&array, pg_type)?)
            }
            PgType::Record(fields) => {
                let members = array.as_struct().columns().iter().zip(fields);
                let members = members.map(|(column, (_, t))| Ok((t.oid(), BinaryColumn::new(column, t)?)));
                Values::Record(members.collect::<Result<_>>()?)
            }
        };
        Ok(BinaryColumn { nulls, values })
    }

    pub fn is_null(&self, row: usize) -> bool {
        matches!(self.values, Values::Null) || self.nulls.as_ref().is_some_and(|n| n.is_null(row))
    }

    /// Appends a value that is not NULL, without its length.
    pub fn put(&self, row: usize, out: &mut BytesMut) {
        match &self.values {
            Values::Null => {}
            Values::Bool(array) => out.put_u8(u8::from(array.value(row))),
            Values::Int2(array) => out.put_i16(array.value(row)),
            Values::Int4(array) => out.put_i32(array.value(row)),
            Values::Int8(array) => out.put_i64(array.value(row)),
            Values::Float4(array) => out.put_f32(array.value(row)),
            Values::Float8(array) => out.put_f64(array.value(row)),
            Values::Decimal128 { array, scale, trim } => {
                put_numeric(out, &DecimalDigits::of_i128(array.value(row)), *scale, *trim)
            }
            Values::Decimal256 { array, scale, trim } => {
                put_numeric(out, &DecimalDigits::of_i256(array.value(row)), *scale, *trim)
            }
            Values::Text(array) => out.put_slice(array.value(row).as_bytes()),
            Values::Jsonb(array) => {
                out.put_u8(1);
                out.put_slice(array.value(row).as_bytes());
            }
            Values::Uuid(array) => out.put_slice(&uuid_bytes(array.value(row)).unwrap_or_default()),
            Values::Bytea(array) => out.put_slice(array.value(row)),
            Values::Date(array) => out.put_i32(array.value(row).saturating_sub(EPOCH_DAYS)),
            Values::Time(array) => out.put_i64(array.value(row)),
            Values::Timestamp(array) => out.put_i64(array.value(row).saturating_sub(EPOCH_US)),
            Values::Interval(array) => {
                let interval = array.value(row);
                out.put_i64(interval.nanoseconds / 1000);
                out.put_i32(interval.days);
                out.put_i32(interval.months);
            }
            Values::Oid(array) => out.put_u32(array.value(row)),
            Values::Array(array) => array.put(row, out),
            Values::Record(members) => {
                out.put_i32(members.len() as i32);
                for (oid, member) in members {
                    out.put_u32(*oid);
                    put_sized(out, member, row);
                }
            }
        }
    }
}

/// Length and value, −1 for NULL.
fn put_sized(out: &mut BytesMut, column: &BinaryColumn, row: usize) {
    if column.is_null(row) {
        return out.put_i32(-1);
    }
    let at = out.len();
    out.put_i32(0);
    column.put(row, out);
    let length = (out.len() - at - 4) as i32;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

impl ArrayColumn {
    fn new(array: &ArrayRef, pg_type: &PgType) -> Result<ArrayColumn> {
        let mut levels = vec![];
        let (mut array, mut item) = (array.clone(), pg_type.clone());
        while let (DataType::List(_), PgType::Array(_) | PgType::Int2vector | PgType::Oidvector) =
            (array.data_type(), &item)
        {
            let list = array.as_list::<i32>();
            levels.push(Level { offsets: list.offsets().clone(), nulls: list.nulls().cloned() });
            item = item_type(&array, &item);
            let values = list.values().clone();
            array = canonical(&values, &item)?;
        }
        let column = ArrayColumn {
            levels,
            elements: Box::new(BinaryColumn::new(&array, &item)?),
            element_oid: item.oid(),
            lower_bound: i32::from(matches!(pg_type, PgType::Array(_))),
        };
        let rows = column.levels[0].offsets.len() - 1;
        for row in (0..rows).filter(|_| column.levels.len() > 1) {
            column.check_rectangular(row)?;
        }
        Ok(column)
    }

    /// The elements of a row, and its length in each dimension. Inner arrays are taken to be as long as the first.
    fn shape(&self, row: usize) -> (std::ops::Range<usize>, Vec<usize>) {
        let mut range = row..row + 1;
        let mut lengths = vec![];
        for level in &self.levels {
            let inner = level.offsets[range.start] as usize..level.offsets[range.end] as usize;
            lengths.push(if range.is_empty() { 0 } else { inner.len() / range.len() });
            range = inner;
        }
        (range, lengths)
    }

    fn check_rectangular(&self, row: usize) -> Result<()> {
        let mut range = row..row + 1;
        for level in &self.levels {
            let is_null = |r: usize| range.len() > 1 && level.nulls.as_ref().is_some_and(|n| n.is_null(r));
            let length = |r: usize| level.offsets[r + 1] - level.offsets[r];
            if range.clone().any(|r| is_null(r) || length(r) != length(range.start)) {
                return Err(Error::new(
                    SqlState("2202E"),
                    "multidimensional arrays must have sub-arrays with matching dimensions",
                ));
            }
            range = level.offsets[range.start] as usize..level.offsets[range.end] as usize;
        }
        Ok(())
    }

    fn put(&self, row: usize, out: &mut BytesMut) {
        let (elements, lengths) = self.shape(row);
        let has_null = elements.clone().any(|element| self.elements.is_null(element));
        out.put_i32(if elements.is_empty() { 0 } else { lengths.len() as i32 });
        out.put_i32(i32::from(has_null));
        out.put_u32(self.element_oid);
        if elements.is_empty() {
            return;
        }
        for length in lengths {
            out.put_i32(length as i32);
            out.put_i32(self.lower_bound);
        }
        for element in elements {
            put_sized(out, &self.elements, element);
        }
    }
}

/// Count of groups, weight of the first, sign, digits behind the point, then the groups of four digits.
fn put_numeric(out: &mut BytesMut, number: &DecimalDigits, scale: i8, trim: bool) {
    let digits = number.digits();
    let shown_scale = if trim { number.trimmed_scale(scale) } else { scale.max(0) };
    // Digits before the point; with a negative scale, zeros stand behind them.
    let whole = digits.len() as i32 - scale as i32;
    let weight = (whole + 3).div_euclid(4) - 1;
    // How far into its group of four the first digit stands.
    let lead = (weight + 1) * 4 - whole;
    let at = out.len();
    out.put_slice(&[0; 8]);
    let (mut count, mut last_nonzero) = (0i16, 0i16);
    let mut index = -lead;
    while index < digits.len() as i32 {
        let group = (0..4).fold(0u16, |group, place| {
            let digit = usize::try_from(index + place).ok().and_then(|i| digits.get(i)).map_or(0, |d| d - b'0');
            group * 10 + digit as u16
        });
        out.put_u16(group);
        count += 1;
        if group != 0 {
            last_nonzero = count;
        }
        index += 4;
    }
    out.truncate(at + 8 + last_nonzero as usize * 2);
    let weight = if last_nonzero == 0 { 0 } else { weight as i16 };
    let sign: u16 = if number.is_negative && last_nonzero > 0 { 0x4000 } else { 0 };
    out[at..at + 2].copy_from_slice(&last_nonzero.to_be_bytes());
    out[at + 2..at + 4].copy_from_slice(&weight.to_be_bytes());
    out[at + 4..at + 6].copy_from_slice(&sign.to_be_bytes());
    out[at + 6..at + 8].copy_from_slice(&(shown_scale as i16).to_be_bytes());
}

fn checked_uuids(array: &StringArray) -> Result<&StringArray> {
    match array.iter().flatten().find(|text| uuid_bytes(text).is_none()) {
        None => Ok(array),
        Some(bad) => Err(Error::new(
            SqlState::INVALID_TEXT_REPRESENTATION,
            format!("invalid input syntax for type uuid: \"{bad}\""),
        )),
    }
}

/// The sixteen bytes of a uuid's text.
fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut count = 0;
    for digit in text.bytes().filter(|&b| b != b'-') {
        let value = (digit as char).to_digit(16)? as u8;
        *bytes.get_mut(count / 2)? |= if count % 2 == 0 { value << 4 } else { value };
        count += 1;
    }
    (count == 32).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::text_input::parse_text;
    use chrono_tz::Tz;

    fn bytes(text: &str, pg_type: &PgType) -> Vec<u8> {
        let value = parse_text(text, pg_type, Tz::UTC).expect("good text");
        let array = value.to_array().expect("an array of one");
        let column = BinaryColumn::new(&array, pg_type).expect("a column that can be written");
        let mut out = BytesMut::new();
        column.put(0, &mut out);
        out.to_vec()
    }

    /// Taken from PostgreSQL 15's numeric_send.
    #[test]
    fn numerics() {
        for (text, scale, expected) in [
            ("0", 0, &[0, 0, 0, 0][..]),
            ("0.00", 2, &[0, 0, 0, 2]),
            ("1", 0, &[1, 0, 0, 0, 1]),
            ("-1.5", 1, &[2, 0, 0x4000, 1, 1, 5000]),
            ("12345.678", 3, &[3, 1, 0, 3, 1, 2345, 6780]),
            ("10000", 0, &[1, 1, 0, 0, 1]),
            ("0.0001", 4, &[1, 0xffff, 0, 4, 1]),
            ("0.00001", 5, &[1, 0xfffe, 0, 5, 1000]),
            ("100000000.01", 2, &[4, 2, 0, 2, 1, 0, 0, 100]),
        ] {
            let expected: Vec<u8> = expected.iter().flat_map(|v: &u16| v.to_be_bytes()).collect();
            assert_eq!(bytes(text, &PgType::Numeric(Some((20, scale)))), expected, "{text}");
        }
        let unconstrained: Vec<u8> = [2u16, 0, 0, 1, 1, 5000].iter().flat_map(|v| v.to_be_bytes()).collect();
        assert_eq!(bytes("1.50", &PgType::Numeric(None)), unconstrained);
    }

    #[test]
    fn scalars() {
        assert_eq!(bytes("t", &PgType::Bool), [1]);
        assert_eq!(bytes("-2", &PgType::Int2), [0xff, 0xfe]);
        assert_eq!(bytes("1.5", &PgType::Float8), 1.5f64.to_be_bytes());
        assert_eq!(bytes("{\"a\":1}", &PgType::Jsonb), b"\x01{\"a\": 1}");
        assert_eq!(bytes("2000-01-02", &PgType::Date), [0, 0, 0, 1]);
        assert_eq!(bytes("2000-01-01 00:00:00.000001", &PgType::Timestamp), 1i64.to_be_bytes());
        assert_eq!(bytes("1999-12-31 23:59:59.999999+00", &PgType::Timestamptz), (-1i64).to_be_bytes());
        let interval = [&1_000_000i64.to_be_bytes()[..], &2i32.to_be_bytes(), &3i32.to_be_bytes()].concat();
        assert_eq!(bytes("3 mons 2 days 1 s", &PgType::Interval), interval);
        let uuid = bytes("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", &PgType::Uuid);
        assert_eq!((uuid.len(), &uuid[..3]), (16, &[0xa0, 0xee, 0xbc][..]));
    }

    #[test]
    fn arrays_and_records() {
        let words = |words: &[i32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_be_bytes()).collect() };
        let ints = PgType::Array(Box::new(PgType::Int4));
        assert_eq!(bytes("{7,NULL}", &ints), words(&[1, 1, 23, 2, 1, 4, 7, -1]));
        assert_eq!(bytes("{}", &ints), words(&[0, 0, 23]));
        let matrix = PgType::Array(Box::new(ints));
        assert_eq!(bytes("{{1,2},{3,4}}", &matrix), words(&[2, 0, 23, 2, 1, 2, 1, 4, 1, 4, 2, 4, 3, 4, 4]));
        assert_eq!(bytes("1 2", &PgType::Oidvector), words(&[1, 0, 26, 2, 0, 4, 1, 4, 2]));
        let ragged = parse_text("{{1,2},{3}}", &matrix, Tz::UTC).expect("text may be ragged");
        let array = ragged.to_array().expect("an array of one");
        assert_eq!(BinaryColumn::new(&array, &matrix).err().map(|e| e.code.0), Some("2202E"));
        let record = PgType::Record(vec![("a".into(), PgType::Int4), ("b".into(), PgType::Text)]);
        assert_eq!(bytes("(1,)", &record), words(&[2, 23, 4, 1, 25, -1]));
    }
}
