//! CSV, one record a row (RFC 4180, with the choices of Postgres `COPY`).
//!
//! An unquoted field that equals `null_string` (default: empty) is NULL, a quoted one never is. The header, if there
//! is one, is the framing's to pass over: no record comes from it. Arrays are Postgres literals or JSON, structs JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;

use super::columns;
use super::scan;
use super::{Decoded, Decoder, Faults, Raw, Texts};
use crate::error::{Error, Result, SqlState};
use crate::types::{BadRecord, PgType, Records};

/// `header` and `without_header` (RisingWave's) are the framing's; they are known here.
pub const OPTIONS: &[&str] = &["header", "without_header", "delimiter", "quote", "escape", "null_string"];

pub struct CsvDecoder {
    /// The projected columns.
    schema: SchemaRef,
    /// For each field of a record, its place among the projected columns.
    places: Vec<Option<usize>>,
    /// Projected columns whose texts are JSON.
    json_columns: Vec<usize>,
    dialect: Dialect,
}

struct Dialect {
    delimiter: u8,
    quote: u8,
    /// Equal to `quote` where a doubled quote stands for one.
    escape: u8,
    null_string: String,
}

impl CsvDecoder {
    pub fn new(options: &BTreeMap<String, String>, schema: &SchemaRef, projection: &[usize]) -> Result<CsvDecoder> {
        let quote = one_byte(options, "quote", b'"')?;
        let dialect = Dialect {
            delimiter: one_byte(options, "delimiter", b',')?,
            quote,
            escape: one_byte(options, "escape", quote)?,
            null_string: options.get("null_string").cloned().unwrap_or_default(),
        };
        if dialect.delimiter == dialect.quote {
            let message = "CSV delimiter and quote must differ";
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        let mut places = vec![None; schema.fields().len()];
        for (place, &column) in projection.iter().enumerate() {
            places[column] = Some(place);
        }
        let schema = std::sync::Arc::new(schema.project(projection)?);
        let is_json = |&column: &usize| matches!(PgType::of(schema.field(column)), PgType::Json | PgType::Jsonb);
        let json_columns = (0..projection.len()).filter(is_json).collect();
        Ok(CsvDecoder { schema, places, json_columns, dialect })
    }
}

/// 22023 unless it is one byte, or `\t` or `tab` for a tab.
fn one_byte(options: &BTreeMap<String, String>, key: &str, default: u8) -> Result<u8> {
    match options.get(key).map(String::as_str) {
        None => Ok(default),
        Some("\\t" | "tab") => Ok(b'\t'),
        Some(text) => match text.as_bytes() {
            &[byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Ok(byte),
            _ => Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("CSV {key} must be a single one-byte character"),
            )
            .with_hint(format!("found \"{text}\""))),
        },
    }
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, partition: &str, records: &Records) -> Result<Decoded> {
        let texts = Texts::new(records);
        let mut cells: Vec<Vec<Raw<'_>>> = vec![vec![Raw::Null; records.len()]; self.schema.fields().len()];
        let mut faults = Faults::default();
        let field_count = self.places.len();
        for row in 0..records.len() {
            let text = match texts.get(row) {
                Ok(text) => text,
                Err(reason) => {
                    faults.add(row, reason);
                    continue;
                }
            };
            let fields = split(text, &self.dialect, |index, field| {
                if let Some(Some(place)) = self.places.get(index) {
                    cells[*place][row] = field;
                }
            });
            let reason = match fields {
                Ok(count) if count == field_count => continue,
                Ok(count) => format!("expected {field_count} fields, found {count}"),
                Err(reason) => reason,
            };
            faults.add(row, reason);
            cells.iter_mut().for_each(|column| column[row] = Raw::Null);
        }
        for &column in &self.json_columns {
            for (row, cell) in cells[column].iter_mut().enumerate() {
                if let Raw::Text(text) = cell {
                    match scan::any(text) {
                        Ok(_) => *cell = Raw::Nested(std::mem::take(text)),
                        Err(error) => {
                            let name = self.schema.field(column).name();
                            faults.add(row, format!("column \"{name}\": invalid JSON: {error}"));
                        }
                    }
                }
            }
        }
        let batch = columns::batch(&self.schema, &cells, records.len(), &mut faults)?;
        let bad = |(row, reason)| BadRecord::new(partition, records.positions[row], reason, records.get(row));
        Ok(Decoded { batch, bad_records: faults.0.into_iter().map(bad).collect() })
    }
}

/// Calls `field` with the place and content of each field; how many there were, or what is wrong.
fn split<'a>(text: &'a str, dialect: &Dialect, mut field: impl FnMut(usize, Raw<'a>)) -> Result<usize, String> {
    let bytes = text.as_bytes();
    let (mut at, mut index) = (0, 0);
    loop {
        if bytes.get(at) == Some(&dialect.quote) {
            let (content, end) = quoted(text, at, dialect)?;
            field(index, Raw::Text(content));
            at = end;
            if at < bytes.len() && bytes[at] != dialect.delimiter {
                return Err(format!("text after a closing quote at column {}", at + 1));
            }
        } else {
            let end = bytes[at..].iter().position(|&b| b == dialect.delimiter).map_or(bytes.len(), |n| at + n);
            let content = &text[at..end];
            let is_null = content == dialect.null_string;
            field(index, if is_null { Raw::Null } else { Raw::Text(Cow::Borrowed(content)) });
            at = end;
        }
        index += 1;
        if at == bytes.len() {
            return Ok(index);
        }
        at += 1;
    }
}

/// The content of the quoted field that opens at `start`, and where it ends.
fn quoted<'a>(text: &'a str, start: usize, dialect: &Dialect) -> Result<(Cow<'a, str>, usize), String> {
    let bytes = text.as_bytes();
    let (mut at, mut run) = (start + 1, start + 1);
    let mut content = Cow::Borrowed("");
    loop {
        let Some(&byte) = bytes.get(at) else {
            return Err(format!("a quoted field does not end; it opens at column {}", start + 1));
        };
        let next = bytes.get(at + 1).copied();
        if byte == dialect.escape && next.is_some_and(|b| b == dialect.quote || b == dialect.escape) {
            content += &text[run..at];
            // The escaped byte opens the next run.
            run = at + 1;
            at += 2;
        } else if byte == dialect.quote {
            let rest = &text[run..at];
            let content = if content.is_empty() { Cow::Borrowed(rest) } else { content + rest };
            return Ok((content, at + 1));
        } else {
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray, RecordBatch};
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, Schema};

    use super::super::decoder;
    use super::*;

    fn decode(
        options: &[(&str, &str)],
        columns: &[(&str, PgType)],
        projection: &[usize],
        lines: &[&str],
    ) -> (Vec<String>, Vec<(u64, String)>) {
        let fields: Vec<_> = columns.iter().map(|(name, t)| t.field(name, true)).collect();
        let options = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut records = Records::default();
        for (index, line) in lines.iter().enumerate() {
            records.push(line.as_bytes(), index as u64);
        }
        let schema = Arc::new(Schema::new(fields));
        let mut decoder = decoder("CSV", &options, &schema, projection).expect("a decoder");
        let decoded = decoder.decode("f", &records).expect("decoded");
        (rows(&decoded.batch), decoded.bad_records.into_iter().map(|b| (b.position, b.reason)).collect())
    }

    fn rows(batch: &RecordBatch) -> Vec<String> {
        let texts: Vec<_> = batch.columns().iter().map(|c| cast(c, &DataType::Utf8).expect("castable")).collect();
        let cell = |column: &Arc<dyn Array>, row: usize| match column.is_null(row) {
            true => "∅".to_string(),
            false => column.as_string::<i32>().value(row).to_string(),
        };
        (0..batch.num_rows()).map(|row| texts.iter().map(|c| cell(c, row)).collect::<Vec<_>>().join("|")).collect()
    }

    #[test]
    fn fields_nulls_and_quotes() {
        let columns = [("a", PgType::Int4), ("b", PgType::Text), ("t", PgType::Timestamptz)];
        let lines = [
            "1,x,2013-01-01T05:00:00Z",
            "NA,\"NA\",NA",
            "-7,\"a \"\"b\"\", c\nd\",2013-01-01 05:00:00+01",
            "3,,NA",
            "4,z",
            "5,\"z,NA",
            "6,\"z\"y,NA",
            "x,y,NA",
            "99999999999,y,NA",
            "8,é,soon",
        ];
        let (rows, bad) = decode(&[("null_string", "NA"), ("header", "true")], &columns, &[0, 1, 2], &lines);
        assert_eq!(rows, ["1|x|2013-01-01T05:00:00Z", "∅|NA|∅", "-7|a \"b\", c\nd|2013-01-01T04:00:00Z", "3||∅"]);
        let expected = [
            (4, "expected 3 fields, found 2"),
            (5, "a quoted field does not end; it opens at column 3"),
            (6, "text after a closing quote at column 6"),
            (7, "column \"a\": expected integer, found string \"x\""),
            (8, "column \"a\": string \"99999999999\" is out of range for integer"),
            (9, "column \"t\": expected timestamp with time zone, found string \"soon\""),
        ];
        assert_eq!(bad, expected.map(|(position, reason)| (position, reason.to_string())));
    }

    #[test]
    fn only_projected_columns_are_read() {
        let columns = [("a", PgType::Int4), ("b", PgType::Int4), ("c", PgType::Int4)];
        let (rows, bad) = decode(&[("delimiter", "|")], &columns, &[2], &["x|1|2", "1||"]);
        assert_eq!((rows, bad), (vec!["2".to_string(), "∅".to_string()], vec![]));
    }

    #[test]
    fn other_quotes_and_escapes() {
        let options = [("delimiter", "\\t"), ("quote", "'"), ("escape", "\\")];
        let columns = [("a", PgType::Text), ("b", PgType::Text)];
        let (rows, bad) = decode(&options, &columns, &[0, 1], &["'it\\'s'\t'\\\\'", "''\t"]);
        assert_eq!((rows, bad), (vec!["it's|\\".to_string(), "|∅".to_string()], vec![]));
    }

    #[test]
    fn json_and_nul() {
        let columns = [("a", PgType::Jsonb), ("b", PgType::Text)];
        let lines = ["\"{\"\"k\"\":\"\"v\"\"}\",x", "\"\"\"s\"\"\",x", "{,x", "1,a\0b"];
        let (rows, bad) = decode(&[], &columns, &[0, 1], &lines);
        assert_eq!(rows, ["{\"k\":\"v\"}|x", "\"s\"|x"]);
        let expected = [
            (2, "column \"a\": invalid JSON: expected a key in double quotes, found the end at column 2"),
            (3, "column \"b\": text may not contain a NUL character"),
        ];
        assert_eq!(bad, expected.map(|(position, reason)| (position, reason.to_string())));
    }

    #[test]
    fn options_are_checked() {
        let schema: SchemaRef = Arc::new(Schema::empty());
        let refuse = |key: &str, value: &str| {
            let options = BTreeMap::from([(key.to_string(), value.to_string())]);
            decoder("CSV", &options, &schema, &[]).err().expect("it is refused")
        };
        assert_eq!(refuse("delimeter", ";").message, "unknown encode option \"delimeter\"");
        assert_eq!(refuse("delimiter", "::").message, "CSV delimiter must be a single one-byte character");
        assert_eq!(refuse("quote", ",").message, "CSV delimiter and quote must differ");
        assert_eq!(decoder("AVRO", &BTreeMap::new(), &schema, &[]).err().expect("refused").code.0, "0A000");
    }
}
