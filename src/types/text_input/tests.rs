//! What goes in comes out: text is read by the input functions and printed by the output functions.

use bytes::BytesMut;

use super::*;
use crate::types::text_output::{TextColumn, TextStyle};

fn round(text: &str, pg_type: &PgType) -> Result<String, (String, String)> {
    let told = |e: Error| (e.code.0.to_string(), e.message);
    let value = parse_text(text, pg_type, Tz::UTC).map_err(told)?;
    assert_eq!(value.data_type(), pg_type.arrow(), "{text}");
    let array = value.to_array().map_err(|e| told(e.into()))?;
    let column = TextColumn::new(&array, pg_type, &TextStyle::default()).map_err(told)?;
    let mut out = BytesMut::new();
    column.put(0, &mut out);
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn array(item: PgType) -> PgType {
    PgType::Array(Box::new(item))
}

#[test]
fn values_as_postgres_prints_them() {
    for (pg_type, text, printed) in [
        (PgType::Bool, " YES ", "t"),
        (PgType::Bool, "of", "f"),
        (PgType::Int2, "-32768", "-32768"),
        (PgType::Int8, "9223372036854775807", "9223372036854775807"),
        (PgType::Float8, "1e20", "1e+20"),
        (PgType::Numeric(None), "1.50", "1.5"),
        (PgType::Numeric(Some((10, 2))), "1.5", "1.50"),
        (PgType::Varchar(Some(3)), "abc  ", "abc"),
        (PgType::Bpchar(Some(5)), "äb", "äb   "),
        (PgType::Bytea, "\\xDEad beef", "\\xdeadbeef"),
        (PgType::Bytea, "a\\\\\\001", "\\x615c01"),
        (PgType::Uuid, "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        (PgType::Jsonb, "{\"b\":1,\"a\":[true]}", "{\"a\": [true], \"b\": 1}"),
        (PgType::Json, "{\"b\":1}", "{\"b\":1}"),
        (PgType::Timestamptz, "2024-01-01 00:00:00+01", "2023-12-31 23:00:00+00"),
        (PgType::Interval, "1 day 2 hours", "1 day 02:00:00"),
        (PgType::Oidvector, "1 2 3", "1 2 3"),
        (PgType::Regtype, "23", "integer"),
        (array(PgType::Int4), "{1, NULL ,3}", "{1,NULL,3}"),
        (array(PgType::Int4), "{\"1\",\"2\"}", "{1,2}"),
        (array(PgType::Int4), "[0:1]={1,2}", "{1,2}"),
        (array(PgType::Int4), "{}", "{}"),
        (array(PgType::Text), r#"{"a b","null",c d,"\"q\\"}"#, r#"{"a b","null","c d","\"q\\"}"#),
        (array(PgType::Timestamp), r#"{"2024-01-01 00:00:00"}"#, r#"{"2024-01-01 00:00:00"}"#),
        (array(array(PgType::Int4)), "{{1,2},{3,4}}", "{{1,2},{3,4}}"),
        (
            PgType::Record(vec![("a".into(), PgType::Int4), ("b".into(), PgType::Text), ("c".into(), PgType::Text)]),
            r#"(1,"a ""b",)"#,
            r#"(1,"a ""b",)"#,
        ),
    ] {
        assert_eq!(round(text, &pg_type), Ok(printed.to_string()), "{text}");
    }
}

#[test]
fn bad_values_are_told_in_postgres_words() {
    for (pg_type, text, code, message) in [
        (PgType::Int4, "abc", "22P02", "invalid input syntax for type integer: \"abc\""),
        (PgType::Int4, "2147483648", "22003", "value \"2147483648\" is out of range for type integer"),
        (PgType::Bool, "o", "22P02", "invalid input syntax for type boolean: \"o\""),
        (PgType::Uuid, "a0eebc99-", "22P02", "invalid input syntax for type uuid: \"a0eebc99-\""),
        (PgType::Varchar(Some(2)), "abc", "22001", "value too long for type character varying(2)"),
        (PgType::Bytea, "\\xabc", "22023", "invalid hexadecimal data: odd number of digits"),
        (PgType::Bytea, "\\xzz", "22023", "invalid hexadecimal digit: \"z\""),
        (PgType::Bytea, "\\9", "22P02", "invalid input syntax for type bytea"),
        (PgType::Json, "{", "22P02", "invalid input syntax for type json"),
        (PgType::Date, "x", "22007", "invalid input syntax for type date: \"x\""),
        (array(PgType::Int4), "{1", "22P02", "malformed array literal: \"{1\""),
        (array(PgType::Int4), "1", "22P02", "malformed array literal: \"1\""),
        (array(PgType::Int4), "{1,}", "22P02", "malformed array literal: \"{1,}\""),
        (array(PgType::Int4), "{1}x", "22P02", "malformed array literal: \"{1}x\""),
        (array(PgType::Int4), "{{1}}", "0A000", "an array of more than one dimension as input is not supported"),
        (PgType::Record(vec![("a".into(), PgType::Int4)]), "(1,2)", "22P02", "malformed record literal: \"(1,2)\""),
    ] {
        assert_eq!(round(text, &pg_type), Err((code.to_string(), message.to_string())), "{text}");
    }
}

/// Random text never panics, whatever the type.
#[test]
fn garbage_is_an_error() {
    use rand::{Rng, SeedableRng};
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let alphabet: Vec<char> = "0123456789-+:./eE TtZzP{}[]()\",\\xabcdnsmin oéß\u{0}ago".chars().collect();
    let types = [
        PgType::Bool,
        PgType::Int4,
        PgType::Float8,
        PgType::Numeric(Some((10, 2))),
        PgType::Numeric(None),
        PgType::Varchar(Some(3)),
        PgType::Bytea,
        PgType::Date,
        PgType::Time,
        PgType::Timestamp,
        PgType::Timestamptz,
        PgType::Interval,
        PgType::Uuid,
        PgType::Jsonb,
        PgType::Oid,
        PgType::Int2vector,
        array(PgType::Text),
        array(array(PgType::Date)),
        PgType::Record(vec![("a".into(), PgType::Int4), ("b".into(), PgType::Text)]),
    ];
    for _ in 0..20_000 {
        let length = random.random_range(0..24);
        let text: String = (0..length).map(|_| alphabet[random.random_range(0..alphabet.len())]).collect();
        for pg_type in &types {
            let _ = parse_text(&text, pg_type, Tz::Europe__Berlin);
        }
    }
}
