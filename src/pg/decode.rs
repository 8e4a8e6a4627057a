//! Parameters of Bind to values, in text or binary.

use chrono_tz::Tz;
use datafusion::common::ScalarValue;

use super::encode::Format;
use super::message::utf8;
use crate::error::{Error, Result, SqlState};
use crate::types::PgType;
use crate::types::binary_input::decode_binary;
use crate::types::text_input::{null_of, parse_text};

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
        Format::Binary => decode_binary(bytes, pg_type, zone).map_err(|error| match error.code {
            SqlState::INVALID_BINARY_REPRESENTATION => {
                Error { message: format!("{} in bind parameter {number}", error.message), ..error }
            }
            _ => error,
        }),
    }
}

/// Postgres' text has no zero bytes.
fn no_zero(text: &str) -> Result<&str> {
    if text.contains('\0') {
        return Err(Error::new(SqlState("22021"), "invalid byte sequence for encoding \"UTF8\": 0x00"));
    }
    Ok(text)
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
        // 2^31 − 1 arrays without elements are none.
        let hollow = b"\0\0\0\x02\0\0\0\0\0\0\0\x17\x7f\xff\xff\xff\0\0\0\x01\0\0\0\0\0\0\0\x01";
        assert_eq!(bad(hollow, &array(array(PgType::Int4))), Ok(()));
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
