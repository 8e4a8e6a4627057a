//! Parameters of Bind to values, in text or binary.
//!
//! Binary values are as the `*_recv` functions of Postgres read them; what is too short, too long or out of range is
//! 22P03 (08P01 where Postgres says so is not told apart), text goes through [`crate::types::text_input`].

use arrow::datatypes::IntervalMonthDayNano;
use chrono_tz::Tz;
use datafusion::common::ScalarValue;

use super::encode::{EPOCH_DAYS, EPOCH_US, Format};
use super::message::utf8;
use crate::error::{Error, Result, SqlState};
use crate::types::text_input::{decimal_from_digits, list_of, normal_jsonb, null_of, parse_text, struct_of};
use crate::types::{NUMERIC_DEFAULT, PgType};

/// Dimensions that an array may have, as in Postgres.
const DIMENSION_COUNT_MAX: i32 = 6;

/// One parameter; `None` is NULL. `number` counts from 1, for messages.
pub(super) fn decode(
    bytes: Option<&[u8]>,
    pg_type: &PgType,
    format: Format,
    number: usize,
    zone: Tz,
) -> Result<ScalarValue> {
    let Some(bytes) = bytes else { return null_of(pg_type) };
    match format {
        Format::Text => parse_text(no_zero(utf8(bytes)?)?, pg_type, zone),
        Format::Binary => {
            let mut reader = Reader { bytes, number };
            let value = reader.value(pg_type, zone)?;
            if reader.bytes.is_empty() { Ok(value) } else { Err(reader.bad()) }
        }
    }
}

/// Postgres' text has no zero bytes.
fn no_zero(text: &str) -> Result<&str> {
    if text.contains('\0') {
        return Err(Error::new(SqlState("22021"), "invalid byte sequence for encoding \"UTF8\": 0x00"));
    }
    Ok(text)
}

struct Reader<'a> {
    bytes: &'a [u8],
    number: usize,
}

impl<'a> Reader<'a> {
    fn bad(&self) -> Error {
        Error::new(
            SqlState::INVALID_BINARY_REPRESENTATION,
            format!("incorrect binary data format in bind parameter {}", self.number),
        )
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or_else(|| self.bad())?;
        self.bytes = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| self.bad())
    }

    fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    fn value(&mut self, pg_type: &PgType, zone: Tz) -> Result<ScalarValue> {
        Ok(match pg_type {
            PgType::Bool => ScalarValue::Boolean(Some(self.fixed::<1>()?[0] != 0)),
            PgType::Int2 => ScalarValue::Int16(Some(self.i16()?)),
            PgType::Int4 => ScalarValue::Int32(Some(self.i32()?)),
            PgType::Int8 => ScalarValue::Int64(Some(self.i64()?)),
            PgType::Float4 => ScalarValue::Float32(Some(f32::from_be_bytes(self.fixed()?))),
            PgType::Float8 => ScalarValue::Float64(Some(f64::from_be_bytes(self.fixed()?))),
            PgType::Numeric(declared) => self.numeric(*declared)?,
            PgType::Bytea => ScalarValue::Binary(Some(self.rest().to_vec())),
            PgType::Date => {
                let days = self.i32()?;
                self.finite(days as i64, i32::MIN as i64, i32::MAX as i64)?;
                ScalarValue::Date32(Some(days.checked_add(EPOCH_DAYS).ok_or_else(|| out_of_range("date"))?))
            }
            PgType::Time => {
                let time_us = self.i64()?;
                if !(0..=86_400_000_000).contains(&time_us) {
                    return Err(out_of_range("time"));
                }
                ScalarValue::Time64Microsecond(Some(time_us))
            }
            PgType::Timestamp => ScalarValue::TimestampMicrosecond(Some(self.timestamp()?), None),
            PgType::Timestamptz => ScalarValue::TimestampMicrosecond(Some(self.timestamp()?), Some("UTC".into())),
            PgType::Interval => {
                let (time_us, days, months) = (self.i64()?, self.i32()?, self.i32()?);
                let time_ns = time_us.checked_mul(1000).ok_or_else(|| out_of_range("interval"))?;
                ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(months, days, time_ns)))
            }
            PgType::Uuid => {
                let bytes: [u8; 16] = self.fixed()?;
                ScalarValue::Utf8(Some(uuid::Uuid::from_bytes(bytes).to_string()))
            }
            PgType::Jsonb => {
                if self.fixed::<1>()?[0] != 1 {
                    return Err(self.bad());
                }
                ScalarValue::Utf8(Some(normal_jsonb(utf8(self.rest())?)?))
            }
            PgType::Oid | PgType::Regclass | PgType::Regtype | PgType::Regproc | PgType::Regnamespace => {
                ScalarValue::UInt32(Some(self.i32()? as u32))
            }
            // The binary form of text is the text.
            PgType::Text
            | PgType::Varchar(_)
            | PgType::Bpchar(_)
            | PgType::Char
            | PgType::Name
            | PgType::Json
            | PgType::Unknown
            | PgType::Void => parse_text(no_zero(utf8(self.rest())?)?, pg_type, zone)?,
            PgType::Array(item) => self.array(item, zone)?,
            PgType::Int2vector => self.array(&PgType::Int2, zone)?,
            PgType::Oidvector => self.array(&PgType::Oid, zone)?,
            PgType::Record(fields) => self.record(fields, zone)?,
        })
    }

    /// Postgres keeps its infinities at the ends of the range.
    fn finite(&self, value: i64, least: i64, greatest: i64) -> Result<()> {
        if value == least || value == greatest {
            return Err(Error::unsupported("infinity as a date or time", "use NULL or a far date"));
        }
        Ok(())
    }

    fn timestamp(&mut self) -> Result<i64> {
        let since_2000_us = self.i64()?;
        self.finite(since_2000_us, i64::MIN, i64::MAX)?;
        since_2000_us.checked_add(EPOCH_US).ok_or_else(|| out_of_range("timestamp"))
    }

    fn numeric(&mut self, declared: Option<(u8, i8)>) -> Result<ScalarValue> {
        let (count, weight) = (self.i16()?, self.i16()?);
        let (sign, digits_behind_point) = (self.i16()? as u16, self.i16()?);
        if matches!(sign, 0xc000 | 0xd000 | 0xf000) {
            return Err(Error::unsupported("numeric NaN or infinity", "use double precision for it"));
        }
        if count < 0 || !matches!(sign, 0 | 0x4000) || digits_behind_point & !0x3fff != 0 {
            return Err(self.bad());
        }
        let mut digits = Vec::with_capacity((count as usize * 4).min(self.bytes.len() * 2));
        for _ in 0..count {
            let group = self.i16()?;
            if !(0..10_000).contains(&group) {
                return Err(self.bad());
            }
            digits.extend([group / 1000, group / 100 % 10, group / 10 % 10, group % 10].map(|d| d as u8));
        }
        let (precision, scale) = declared.unwrap_or(NUMERIC_DEFAULT);
        let point = (weight as i64 + 1) * 4;
        let unscaled =
            decimal_from_digits(digits.into_iter(), point, sign == 0x4000, (precision, scale), declared.is_some())?;
        Ok(ScalarValue::Decimal128(Some(unscaled), precision, scale))
    }

    fn array(&mut self, item: &PgType, zone: Tz) -> Result<ScalarValue> {
        let (dimensions, _has_null, element_oid) = (self.i32()?, self.i32()?, self.i32()? as u32);
        if !(0..=DIMENSION_COUNT_MAX).contains(&dimensions) {
            return Err(self.bad());
        }
        let mut element = item;
        while let PgType::Array(inner) = element {
            element = inner;
        }
        let sent = PgType::from_oid(element_oid);
        if let Some(sent) = sent.filter(|sent| sent.oid() != element.oid() && !are_both_text(sent, element)) {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "binary data has array element type {element_oid} ({}) instead of expected {} ({})",
                    sent.name(),
                    element.oid(),
                    element.name()
                ),
            ));
        }
        if dimensions == 0 {
            return list_of(vec![], item);
        }
        let mut lengths = vec![];
        let mut total = 1usize;
        for _ in 0..dimensions {
            let length = usize::try_from(self.i32()?).map_err(|_| self.bad())?;
            let _lower_bound = self.i32()?;
            total = total.checked_mul(length).ok_or_else(|| self.bad())?;
            lengths.push(length);
        }
        // Each element has at least its length.
        if total.checked_mul(4).is_none_or(|least| least > self.bytes.len()) {
            return Err(self.bad());
        }
        self.dimension(&lengths, item, zone)
    }

    fn dimension(&mut self, lengths: &[usize], item: &PgType, zone: Tz) -> Result<ScalarValue> {
        match (lengths, item) {
            ([length], _) => {
                let items = (0..*length).map(|_| self.sized(item, zone)).collect::<Result<Vec<_>>>()?;
                list_of(items, item)
            }
            ([length, inner @ ..], PgType::Array(inner_item)) => {
                let items =
                    (0..*length).map(|_| self.dimension(inner, inner_item, zone)).collect::<Result<Vec<_>>>()?;
                list_of(items, item)
            }
            _ => Err(Error::unsupported(
                "an array of more than one dimension as a parameter",
                "send arrays of one dimension",
            )),
        }
    }

    /// Length and value; −1 is NULL.
    fn sized(&mut self, pg_type: &PgType, zone: Tz) -> Result<ScalarValue> {
        let length = self.i32()?;
        if length == -1 {
            return null_of(pg_type);
        }
        let length = usize::try_from(length).map_err(|_| self.bad())?;
        let mut inner = Reader { bytes: self.take(length)?, number: self.number };
        let value = inner.value(pg_type, zone)?;
        if inner.bytes.is_empty() { Ok(value) } else { Err(self.bad()) }
    }

    fn record(&mut self, fields: &[(String, PgType)], zone: Tz) -> Result<ScalarValue> {
        if self.i32()? as usize != fields.len() {
            return Err(self.bad());
        }
        let mut members = vec![];
        for (_, pg_type) in fields {
            let _oid = self.i32()?;
            members.push(self.sized(pg_type, zone)?);
        }
        struct_of(members, fields)
    }
}

/// Their binary forms are the same.
fn are_both_text(sent: &PgType, item: &PgType) -> bool {
    let is_text = |t: &PgType| matches!(t, PgType::Text | PgType::Varchar(_) | PgType::Bpchar(_) | PgType::Name);
    is_text(sent) && is_text(item)
}

fn out_of_range(type_name: &str) -> Error {
    Error::new(SqlState::DATETIME_FIELD_OVERFLOW, format!("{type_name} out of range"))
}

#[cfg(test)]
mod tests {
    use super::super::encode::RowEncoder;
    use super::*;
    use crate::types::text_output::TextStyle;
    use arrow::array::RecordBatch;
    use bytes::BytesMut;
    use rand::{Rng, SeedableRng};

    fn array(item: PgType) -> PgType {
        PgType::Array(Box::new(item))
    }

    fn samples() -> Vec<(PgType, &'static str)> {
        vec![
            (PgType::Bool, "t"),
            (PgType::Int2, "-5"),
            (PgType::Int8, "9223372036854775807"),
            (PgType::Float4, "1.5"),
            (PgType::Numeric(None), "-12345.678"),
            (PgType::Numeric(Some((20, 4))), "100000.0001"),
            (PgType::Numeric(Some((38, 0))), "99999999999999999999999999999999999999"),
            (PgType::Text, "é"),
            (PgType::Bytea, "\\x00ff"),
            (PgType::Date, "2024-02-29"),
            (PgType::Time, "24:00:00"),
            (PgType::Timestamp, "0044-03-15 12:00:00 BC"),
            (PgType::Timestamptz, "2024-02-29 12:00:00.5+00"),
            (PgType::Interval, "-1 year 3 days -4:05:06.7"),
            (PgType::Uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            (PgType::Jsonb, "{\"a\": [1]}"),
            (PgType::Oid, "4294967295"),
            (PgType::Int2vector, "1 2"),
            (array(PgType::Text), "{a,NULL,\"\"}"),
            (array(array(PgType::Int4)), "{{1,2},{3,4}}"),
            (array(PgType::Int4), "{}"),
            (PgType::Record(vec![("a".into(), PgType::Int4), ("b".into(), PgType::Text)]), "(1,)"),
        ]
    }

    /// The value bytes of a DataRow with one column.
    fn binary(value: &ScalarValue, pg_type: &PgType) -> Vec<u8> {
        let column = value.to_array().expect("an array of one");
        let batch = RecordBatch::try_from_iter_with_nullable([("v", column, true)]).expect("a batch");
        let encoder = RowEncoder::new(&batch, std::slice::from_ref(pg_type), &[Format::Binary], &TextStyle::default());
        let mut out = BytesMut::new();
        encoder.and_then(|e| e.put_row(0, &mut out)).expect("a row");
        out[11..].to_vec()
    }

    #[test]
    fn what_was_written_is_read_again() {
        for (pg_type, text) in samples() {
            let value = parse_text(text, &pg_type, Tz::UTC).expect("good text");
            let bytes = binary(&value, &pg_type);
            let read = decode(Some(&bytes), &pg_type, Format::Binary, 1, Tz::UTC).map_err(|e| e.message);
            assert_eq!(read, Ok(value), "{text}");
        }
    }

    #[test]
    fn bad_binary_is_told() {
        let bad = |bytes: &[u8], pg_type: &PgType| {
            decode(Some(bytes), pg_type, Format::Binary, 3, Tz::UTC).map(|_| ()).map_err(|e| (e.code.0, e.message))
        };
        let told = ("22P03", "incorrect binary data format in bind parameter 3".to_string());
        assert_eq!(bad(b"\0\0", &PgType::Int4), Err(told.clone()));
        assert_eq!(bad(b"\0\0\0\0\0", &PgType::Int4), Err(told.clone()));
        assert_eq!(bad(b"\0\0\0\x01\0\0\0\0\0\0\0\x17\x7f\xff\xff\xff\0\0\0\x01", &array(PgType::Int4)), Err(told));
        assert_eq!(bad(b"\xff", &PgType::Text).map_err(|(code, _)| code), Err("22021"));
        assert_eq!(bad(&i64::MAX.to_be_bytes(), &PgType::Timestamp).map_err(|(code, _)| code), Err("0A000"));
        let null = decode(None, &PgType::Int4, Format::Binary, 1, Tz::UTC).map_err(|e| e.message);
        assert_eq!(null, Ok(ScalarValue::Int32(None)));
    }

    #[test]
    fn garbage_never_panics() {
        let seed: u64 = rand::rng().random();
        println!("seed {seed}");
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        for (pg_type, text) in samples() {
            let good = binary(&parse_text(text, &pg_type, Tz::UTC).expect("good text"), &pg_type);
            for _ in 0..2000 {
                let mut bytes = good.clone();
                for _ in 0..random.random_range(1..4) {
                    if !bytes.is_empty() {
                        let at = random.random_range(0..bytes.len());
                        bytes[at] = random.random();
                    }
                }
                bytes.truncate(random.random_range(0..=bytes.len()));
                let _ = decode(Some(&bytes), &pg_type, Format::Binary, 1, Tz::UTC);
            }
        }
    }
}
