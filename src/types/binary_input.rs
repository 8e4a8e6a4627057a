//! Binary values as the `*_recv` functions of Postgres read them: parameters in binary format, binary COPY.
//!
//! What is too short, too long or out of range is 22P03 (dates and times: 22008).

use arrow::datatypes::IntervalMonthDayNano;
use chrono_tz::Tz;
use datafusion::common::ScalarValue;

use super::binary_output::{EPOCH_DAYS, EPOCH_US};
use super::text_input::{decimal_from_digits, list_of, normal_jsonb, null_of, parse_text, struct_of};
use super::{NUMERIC_DEFAULT, PgType};
use crate::error::{Error, Result, SqlState};

/// Dimensions that an array may have, as in Postgres.
const DIMENSION_COUNT_MAX: i32 = 6;

/// Reads one value that is not NULL, from all of `bytes`. `zone` as for [`parse_text`].
pub fn decode_binary(bytes: &[u8], pg_type: &PgType, zone: Tz) -> Result<ScalarValue> {
    let mut reader = Reader { bytes };
    let value = reader.value(pg_type, zone)?;
    if reader.bytes.is_empty() { Ok(value) } else { Err(reader.bad()) }
}

/// 22021 for what is no text.
fn text(bytes: &[u8]) -> Result<&str> {
    let invalid =
        |what: &str| Error::new(SqlState("22021"), format!("invalid byte sequence for encoding \"UTF8\"{what}"));
    let text = std::str::from_utf8(bytes).map_err(|_| invalid(""))?;
    if text.contains('\0') { Err(invalid(": 0x00")) } else { Ok(text) }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bad(&self) -> Error {
        Error::new(SqlState::INVALID_BINARY_REPRESENTATION, "incorrect binary data format")
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
                ScalarValue::Utf8(Some(normal_jsonb(text(self.rest())?)?))
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
            | PgType::Void => parse_text(text(self.rest())?, pg_type, zone)?,
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
        // A dimension without length empties all others, however long they claim to be.
        if total == 0 {
            return list_of(vec![], item);
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
        let mut inner = Reader { bytes: self.take(length)? };
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
