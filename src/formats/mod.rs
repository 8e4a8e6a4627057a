//! Bytes to rows. A decoder turns the records of a chunk into a batch of the source's columns; a record that cannot be
//! decoded becomes a [`BadRecord`] and never disturbs its neighbours.
//!
//! ```text
//!            json: scan ─┐
//! Records ──▶            ├─ Raw cells, column by column ─▶ columns: one typed loop a column ─▶ RecordBatch
//!            csv: split ─┘             (input: the text syntax of one value)                 └▶ BadRecord
//! ```
//!
//! Both formats only cut records into [`Raw`] cells; what a cell means for a type is said once, in [`columns`] and
//! [`input`], so that `"12"` in JSON and `12` in CSV are the same number.

mod csv;
mod json;

mod columns;
mod input;
mod scan;

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result, SqlState};
use crate::types::{BadRecord, Records};

pub trait Decoder: Send {
    /// Rows come in the order of their records; the projected columns only.
    fn decode(&mut self, partition: &str, records: &Records) -> Result<Decoded>;
}

#[derive(Debug)]
pub struct Decoded {
    pub batch: RecordBatch,
    /// In the order of their records: the rows are the records that are not named here.
    pub bad_records: Vec<BadRecord>,
}

/// `encode`: JSON or CSV; `schema`: all columns of the source; `projection`: those to decode, ascending (the others are
/// still checked to be well-formed as far as the format's framing needs). Unknown options: 22023, named, with the
/// known ones in the hint.
pub fn decoder(
    encode: &str,
    options: &BTreeMap<String, String>,
    schema: &SchemaRef,
    projection: &[usize],
) -> Result<Box<dyn Decoder>> {
    columns::check(schema)?;
    match encode.to_ascii_uppercase().as_str() {
        "JSON" => {
            check_known(options, &[])?;
            Ok(Box::new(json::JsonDecoder::new(schema, projection)?))
        }
        "CSV" => {
            check_known(options, csv::OPTIONS)?;
            Ok(Box::new(csv::CsvDecoder::new(options, schema, projection)?))
        }
        other => Err(Error::unsupported(format!("ENCODE {other}"), "known encodings: JSON, CSV, PARQUET")),
    }
}

fn check_known(options: &BTreeMap<String, String>, known: &[&str]) -> Result<()> {
    match options.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(stranger) => {
            let hint = match known {
                [] => "this encoding takes no options".to_string(),
                _ => format!("known options: {}", known.join(", ")),
            };
            let message = format!("unknown encode option \"{stranger}\"");
            Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message).with_hint(hint))
        }
    }
}

/// The records of a chunk as text, each checked to be UTF-8 on its own (two broken neighbours may join to valid text).
struct Texts<'a> {
    records: &'a Records,
    /// The whole buffer, if it is valid as a whole.
    whole: Option<&'a str>,
}

impl<'a> Texts<'a> {
    fn new(records: &'a Records) -> Texts<'a> {
        Texts { records, whole: std::str::from_utf8(&records.bytes).ok() }
    }

    /// `Err` with the reason.
    fn get(&self, index: usize) -> Result<&'a str, String> {
        let start = if index == 0 { 0 } else { self.records.ends[index - 1] };
        if let Some(text) = self.whole.and_then(|whole| whole.get(start..self.records.ends[index])) {
            return Ok(text);
        }
        std::str::from_utf8(self.records.get(index))
            .map_err(|e| format!("invalid UTF-8 at byte {}", e.valid_up_to() + 1))
    }
}

/// One cell before its column's type is known.
#[derive(Clone, Debug, Default, PartialEq)]
enum Raw<'a> {
    /// Missing, JSON null, or the CSV null string.
    #[default]
    Null,
    /// Text in the input syntax of the column's type: a CSV field, a JSON string without its quotes and escapes.
    Text(std::borrow::Cow<'a, str>),
    /// A JSON number as it is written.
    Number(&'a str),
    Bool(bool),
    /// A JSON array or object (in CSV: any JSON value) as it is written, checked to be well-formed.
    Nested(std::borrow::Cow<'a, str>),
}

/// What is wrong with which row; the first trouble of a row is the one that is told.
#[derive(Debug, Default)]
struct Faults(BTreeMap<usize, String>);

impl Faults {
    fn add(&mut self, row: usize, reason: String) {
        self.0.entry(row).or_insert(reason);
    }
}
