//! JSON, one object a record.
//!
//! Keys are column names, exactly or but for the case of ASCII letters (an exact one wins); of the same key twice, the
//! last counts. Missing keys are NULL, unknown ones are passed over. A string is read as text of the column's type, so
//! `"12.5"` fits a numeric column; a number fits a timestamp as epoch milliseconds; a text column takes anything as it
//! is written; `json` and `jsonb` keep the value's text. What is no object, or does not fit, is a bad record.

use arrow::datatypes::SchemaRef;
use hashbrown::HashMap;

use super::columns;
use super::scan;
use super::{Decoded, Decoder, Faults, Raw, Texts};
use crate::error::Result;
use crate::types::{BadRecord, Records};

pub struct JsonDecoder {
    /// The projected columns.
    schema: SchemaRef,
    keys: Keys,
}

impl JsonDecoder {
    pub fn new(schema: &SchemaRef, projection: &[usize]) -> Result<JsonDecoder> {
        let schema = std::sync::Arc::new(schema.project(projection)?);
        let keys = Keys::new(schema.fields().iter().map(|field| field.name().clone()).collect());
        Ok(JsonDecoder { schema, keys })
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, partition: &str, records: &Records) -> Result<Decoded> {
        let texts = Texts::new(records);
        let mut cells: Vec<Vec<Raw<'_>>> = vec![vec![]; self.schema.fields().len()];
        for column in &mut cells {
            column.resize(records.len(), Raw::Null);
        }
        let mut faults = Faults::default();
        // Whether the cell of a column came from a key with exactly its name, in this record.
        let mut is_exact = vec![false; cells.len()];
        for row in 0..records.len() {
            let text = match texts.get(row) {
                Ok(text) => text,
                Err(reason) => {
                    faults.add(row, reason);
                    continue;
                }
            };
            is_exact.fill(false);
            let (keys, mut member_index) = (&mut self.keys, 0);
            let wanted = |key: &str| {
                let (column, exact) = keys.find(key, member_index)?;
                member_index += 1;
                if is_exact[column] && !exact {
                    return None;
                }
                is_exact[column] = exact;
                Some(column)
            };
            if let Err(error) = scan::object(text, wanted, |column, value| cells[column][row] = value) {
                let reason = match scan::any(text) {
                    Ok(_) if !text.trim_start().starts_with('{') => {
                        format!("expected a JSON object, found {}", kind(text))
                    }
                    _ => format!("invalid JSON: {error}"),
                };
                faults.add(row, reason);
                cells.iter_mut().for_each(|column| column[row] = Raw::Null);
            }
        }
        let batch = columns::batch(&self.schema, &cells, records.len(), &mut faults)?;
        let bad = |(row, reason)| BadRecord::new(partition, records.positions[row], reason, records.get(row));
        Ok(Decoded { batch, bad_records: faults.0.into_iter().map(bad).collect() })
    }
}

fn kind(text: &str) -> &'static str {
    match text.trim_start().as_bytes().first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// Finds columns by key. Records of a stream mostly have their keys in the same order, so the place of a key among its
/// record's wanted keys says which column it likely is.
struct Keys {
    names: Vec<String>,
    by_name: HashMap<String, usize, foldhash::fast::FixedState>,
    by_lower_name: HashMap<String, usize, foldhash::fast::FixedState>,
    /// The column that was found at each place.
    hints: Vec<usize>,
}

impl Keys {
    fn new(names: Vec<String>) -> Keys {
        let by_name = names.iter().cloned().enumerate().map(|(index, name)| (name, index)).collect();
        // Of columns that differ in case alone, the first takes the keys that equal neither.
        let by_lower_name =
            names.iter().enumerate().rev().map(|(index, name)| (name.to_ascii_lowercase(), index)).collect();
        Keys { hints: (0..names.len()).collect(), names, by_name, by_lower_name }
    }

    /// The column, and whether its name is exactly the key.
    #[inline]
    fn find(&mut self, key: &str, place: usize) -> Option<(usize, bool)> {
        if let Some(&hint) = self.hints.get(place)
            && self.names[hint] == key
        {
            return Some((hint, true));
        }
        if let Some(&column) = self.by_name.get(key) {
            if let Some(hint) = self.hints.get_mut(place) {
                *hint = column;
            }
            return Some((column, true));
        }
        if key.bytes().any(|b| b.is_ascii_uppercase()) || self.names.iter().any(|n| n.eq_ignore_ascii_case(key)) {
            return Some((*self.by_lower_name.get(&key.to_ascii_lowercase())?, false));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::RecordBatch;
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::util::pretty::pretty_format_batches;

    use super::super::decoder;
    use super::*;
    use crate::types::PgType;

    fn schema(columns: &[(&str, PgType)]) -> SchemaRef {
        Arc::new(Schema::new(columns.iter().map(|(name, t)| t.field(name, true)).collect::<Vec<_>>()))
    }

    fn decode(schema: &SchemaRef, lines: &[&[u8]]) -> (Vec<String>, Vec<(u64, String)>) {
        let mut records = Records::default();
        for (index, line) in lines.iter().enumerate() {
            records.push(line, 100 + index as u64);
        }
        let projection: Vec<usize> = (0..schema.fields().len()).collect();
        let mut decoder = decoder("JSON", &BTreeMap::new(), schema, &projection).expect("a decoder");
        let decoded = decoder.decode("0", &records).expect("decoded");
        let bad = decoded.bad_records.into_iter().map(|bad| (bad.position, bad.reason)).collect();
        (rows(&decoded.batch), bad)
    }

    /// Each row as `a|b|c`.
    fn rows(batch: &RecordBatch) -> Vec<String> {
        let table = pretty_format_batches(std::slice::from_ref(batch)).expect("printable").to_string();
        let row = |line: &str| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            cells.join("|")
        };
        table.lines().skip(3).filter(|line| line.starts_with('|')).map(row).collect()
    }

    #[test]
    fn good_records_become_rows() {
        let schema = schema(&[
            ("id", PgType::Int8),
            ("name", PgType::Text),
            ("price", PgType::Numeric(Some((20, 4)))),
            ("at", PgType::Timestamp),
            ("ok", PgType::Bool),
            ("doc", PgType::Jsonb),
        ]);
        let (rows, bad) = decode(
            &schema,
            &[
                br#"{"id":1,"name":"a","price":12.5,"at":"2024-01-01T00:00:00Z","ok":true,"doc":{"x":[1,2]}}"#,
                br#" { "doc" : "s" , "id" : "2", "NAME":"b","price":"1234567890123456.7891","at":1704067200500, "zzz":[{}] } "#,
                br#"{}"#,
                br#"{"id":1,"id":3,"name":{"a":1},"ok":"f","Id":9}"#,
            ],
        );
        assert_eq!(bad, []);
        assert_eq!(
            rows,
            [
                r#"1|a|12.5000|2024-01-01T00:00:00|true|{"x":[1,2]}"#,
                r#"2|b|1234567890123456.7891|2024-01-01T00:00:00.500||"s""#,
                "|||||",
                r#"3|{"a":1}|||false|"#,
            ]
        );
    }

    #[test]
    fn bad_records_do_not_disturb_their_neighbours() {
        let schema = schema(&[("id", PgType::Int8), ("f", PgType::Float8), ("t", PgType::Text)]);
        let (rows, bad) = decode(
            &schema,
            &[
                br#"{"id":1}"#,
                b"{\"id\":2,\"t\":\"\xc3",
                b"\xa9\"}",
                br#"{"id":"abc"}"#,
                br#"{"id":99999999999999999999}"#,
                br#"{"f":1e999}"#,
                br#"[1]"#,
                b"",
                b"{\"t\":\"\0\"}",
                br#"{"t":"\ud800"}"#,
                br#"{"t":"\u0000"}"#,
                br#"{"id":1.5}"#,
                br#"{"id":4"#,
                br#"{"id":5}{"id":6}"#,
                br#"{"id":true}"#,
                br#"null"#,
                br#"{"id":7,"other":"\ud800"}"#,
            ],
        );
        assert_eq!(rows, ["1||", "7||"]);
        let expected = [
            (101, "invalid UTF-8 at byte 14"),
            (102, "invalid UTF-8 at byte 1"),
            (103, "column \"id\": expected bigint, found string \"abc\""),
            (104, "column \"id\": number 99999999999999999999 is out of range for bigint"),
            (105, "column \"f\": number 1e999 is out of range for double precision"),
            (106, "expected a JSON object, found an array"),
            (107, "invalid JSON: expected an object, found the end at column 1"),
            (108, "invalid JSON: a control character must be escaped at column 7"),
            (109, "invalid JSON: a lone surrogate at column 7"),
            (110, "invalid JSON: text may not contain \\u0000 at column 7"),
            (111, "column \"id\": expected bigint, found number 1.5"),
            (112, "invalid JSON: expected \",\" or \"}\", found the end at column 8"),
            (113, "invalid JSON: expected the end, found '{' at column 9"),
            (114, "column \"id\": expected bigint, found true"),
            (115, "expected a JSON object, found null"),
        ];
        assert_eq!(bad, expected.map(|(position, reason)| (position, reason.to_string())));
    }

    #[test]
    fn a_missing_value_of_a_not_null_column_is_bad() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        let (rows, bad) = decode(&schema, &[br#"{"id":1}"#, br#"{}"#, br#"{"id":null}"#]);
        assert_eq!(rows, ["1"]);
        let reason = "column \"id\": missing or null in a column declared NOT NULL".to_string();
        assert_eq!(bad, [(101, reason.clone()), (102, reason)]);
    }

    #[test]
    fn arrays_and_structs_nest() {
        let item =
            PgType::Record(vec![("a".into(), PgType::Int4), ("b".into(), PgType::Array(Box::new(PgType::Text)))]);
        let schema = schema(&[("xs", PgType::Array(Box::new(PgType::Int8))), ("s", item)]);
        let (rows, bad) = decode(
            &schema,
            &[
                br#"{"xs":[1,null,"3"],"s":{"a":1,"b":["x","y"]}}"#,
                br#"{"xs":[],"s":{"b":null}}"#,
                br#"{"xs":[1,"x"]}"#,
                br#"{"xs":{"a":1}}"#,
                br#"{"s":{"a":[]}}"#,
                br#"{"xs":"{7,8}","s":null}"#,
            ],
        );
        assert_eq!(rows, ["[1, , 3]|{a: 1, b: [x, y]}", "[]|{a: , b: }", "[7, 8]|"]);
        let expected = [
            (102, "column \"xs[]\": expected bigint, found string \"x\""),
            (103, "column \"xs\": expected bigint[], found object {\"a\":1}"),
            (104, "column \"s.a\": expected integer, found array []"),
        ];
        assert_eq!(bad, expected.map(|(position, reason)| (position, reason.to_string())));
    }

    #[test]
    fn a_hundred_megabytes_and_a_hundred_thousand_levels() {
        let schema = schema(&[("t", PgType::Text), ("doc", PgType::Json)]);
        let long = format!("{{\"t\":\"{}\"}}", "x".repeat(100 << 20));
        let deep = format!("{{\"doc\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let mut records = Records::default();
        records.push(long.as_bytes(), 0);
        records.push(deep.as_bytes(), 1);
        records.push(&long.as_bytes()[..50 << 20], 2);
        let mut decoder = decoder("json", &BTreeMap::new(), &schema, &[0, 1]).expect("a decoder");
        let decoded = decoder.decode("0", &records).expect("decoded");
        assert_eq!((decoded.batch.num_rows(), decoded.bad_records.len()), (2, 1));
        assert!(decoded.bad_records[0].payload.len() <= BadRecord::PAYLOAD_BYTES_MAX);
    }

    #[test]
    fn no_columns_are_enough_to_count() {
        let schema = schema(&[("id", PgType::Int8)]);
        let mut records = Records::default();
        records.push(b"{\"id\":1}", 0);
        records.push(b"{", 1);
        let mut decoder = decoder("JSON", &BTreeMap::new(), &schema, &[]).expect("a decoder");
        let decoded = decoder.decode("0", &records).expect("decoded");
        assert_eq!((decoded.batch.num_rows(), decoded.bad_records.len()), (1, 1));
    }

    /// By hand: `cargo test --release --lib -- --ignored records_per_second --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn records_per_second() {
        let columns = [
            ("id", PgType::Int8),
            ("url", PgType::Text),
            ("price", PgType::Numeric(Some((18, 2)))),
            ("ts", PgType::Timestamptz),
        ];
        let schema = schema(&columns);
        let (mut json, mut csv) = (Records::default(), Records::default());
        for n in 0..8192u64 {
            let url = format!("https://example.org/page/{n}?query=1");
            let text = format!(
                r#"{{"id":{n},"url":"{url}","price":{n}.25,"ts":"2024-01-01T00:00:00.123Z","agent":"unused field"}}"#
            );
            json.push(text.as_bytes(), n);
            csv.push(format!("{n},{url},{n}.25,2024-01-01 00:00:00.123").as_bytes(), n);
        }
        for (encode, records) in [("JSON", &json), ("CSV", &csv)] {
            let mut decoder = decoder(encode, &BTreeMap::new(), &schema, &[0, 1, 2, 3]).expect("a decoder");
            let start = std::time::Instant::now();
            for _ in 0..100 {
                assert!(decoder.decode("0", records).expect("decoded").bad_records.is_empty());
            }
            let rate = 819_200.0 / start.elapsed().as_secs_f64() / 1e6;
            println!("{encode}: {rate:.2} M records/s, {} bytes each", records.bytes.len() / 8192);
        }
    }
}
