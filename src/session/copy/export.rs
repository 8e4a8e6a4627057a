//! COPY TO: batches of a query as text, CSV or binary. Each item of the stream is one row, or the header.

use arrow::array::RecordBatch;
use arrow::datatypes::FieldRef;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream;

use super::binary::{HEADER_REST, SIGNATURE, TRAILER};
use super::select_text;
use crate::catalog::ObjectKind;
use crate::error::{Error, Result, SqlState};
use crate::session::limits::{Busy, Limits};
use crate::session::{Outcome, Session};
use crate::sql::{CopyFormat, CopyOptions, CopySubject, Query, StatementKind};
use crate::types::PgType;
use crate::types::binary_output::BinaryColumn;
use crate::types::text_output::{TextColumn, TextStyle};

impl Session {
    pub(super) async fn copy_out(
        &mut self,
        subject: &CopySubject,
        options: &CopyOptions,
        mut limits: Limits,
        busy: Busy,
    ) -> Result<Outcome> {
        let rows = match subject {
            CopySubject::Subscribe(subscribe) => limits.guard(self.start_subscription(subscribe)).await?,
            subject => {
                let query = self.copied_query(subject)?;
                let bound = self.bind_query(&query, &[])?;
                if !bound.parameters.is_empty() {
                    return Err(Error::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $1"));
                }
                limits.guard(self.start_query(&bound, &[])).await?
            }
        };
        let rows = limits.watch(rows, busy);
        let fields: Vec<FieldRef> = rows.schema().fields().iter().cloned().collect();
        let types: Vec<PgType> = fields.iter().map(|field| PgType::of(field)).collect();
        let encoder = Encoder { types, options: options.clone(), style: self.text_style() };
        let (head, tail) = (encoder.head(&fields), encoder.tail());
        let extra_line_count = head.iter().len() as u64 + tail.iter().len() as u64;
        let body = rows.flat_map(move |batch| {
            let lines = batch.map_err(Error::from).and_then(|batch| encoder.lines(&batch));
            match lines {
                Ok(lines) => stream::iter(lines.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => stream::iter(vec![Err(error)]),
            }
        });
        let lines = stream::iter(head.map(Ok)).chain(body).chain(stream::iter(tail.map(Ok))).boxed();
        let binary = options.format == CopyFormat::Binary;
        Ok(Outcome::CopyOut { column_count: fields.len(), binary, extra_line_count, lines })
    }

    /// A table is copied as a query over it.
    fn copied_query(&self, subject: &CopySubject) -> Result<Query> {
        let (name, columns) = match subject {
            CopySubject::Query(query) => return Ok(query.clone()),
            CopySubject::Subscribe(_) => return Err(Error::internal("a subscription is no query")),
            CopySubject::Table { name, columns } => (name, columns),
        };
        let catalog = self.shared.catalog();
        if let Some(object) = self.resolver(catalog).find(name.schema.as_deref(), &name.name)
            && matches!(object.kind, ObjectKind::View)
        {
            return Err(Error::new(
                SqlState::WRONG_OBJECT_TYPE,
                format!("cannot copy from view \"{}\"", object.name.name),
            )
            .with_hint("Try the COPY (SELECT ...) TO variant."));
        }
        let statements = crate::sql::parser::parse(&select_text(name, columns))?;
        match statements.into_iter().map(|s| s.kind).next() {
            Some(StatementKind::Query(query)) => Ok(query),
            _ => Err(Error::internal("COPY of a table is no query")),
        }
    }
}

struct Encoder {
    types: Vec<PgType>,
    options: CopyOptions,
    style: TextStyle,
}

impl Encoder {
    fn head(&self, fields: &[FieldRef]) -> Option<Bytes> {
        match self.options.format {
            CopyFormat::Binary => Some(Bytes::from([SIGNATURE, &HEADER_REST].concat())),
            _ if self.options.header => {
                let mut line = BytesMut::new();
                for (index, field) in fields.iter().enumerate() {
                    if index > 0 {
                        line.put_u8(self.options.delimiter);
                    }
                    self.put_field(field.name().as_bytes(), &mut line);
                }
                line.put_u8(b'\n');
                Some(line.freeze())
            }
            _ => None,
        }
    }

    fn tail(&self) -> Option<Bytes> {
        (self.options.format == CopyFormat::Binary).then(|| Bytes::from_static(&TRAILER))
    }

    fn lines(&self, batch: &RecordBatch) -> Result<Vec<Bytes>> {
        if self.options.format == CopyFormat::Binary { self.binary_rows(batch) } else { self.text_lines(batch) }
    }

    fn text_lines(&self, batch: &RecordBatch) -> Result<Vec<Bytes>> {
        let columns = batch.columns().iter().zip(&self.types);
        let columns =
            columns.map(|(array, pg_type)| TextColumn::new(array, pg_type, &self.style)).collect::<Result<Vec<_>>>()?;
        // One buffer for the batch; each line is a slice of it.
        let (mut out, mut value, mut ends) = (BytesMut::new(), BytesMut::new(), vec![]);
        for row in 0..batch.num_rows() {
            for (index, column) in columns.iter().enumerate() {
                if index > 0 {
                    out.put_u8(self.options.delimiter);
                }
                if column.is_null(row) {
                    out.put_slice(self.options.null.as_bytes());
                    continue;
                }
                value.clear();
                column.put(row, &mut value);
                self.put_field(&value, &mut out);
            }
            out.put_u8(b'\n');
            ends.push(out.len());
        }
        Ok(cut(out.freeze(), &ends))
    }

    fn binary_rows(&self, batch: &RecordBatch) -> Result<Vec<Bytes>> {
        let columns = batch.columns().iter().zip(&self.types);
        let columns = columns.map(|(array, pg_type)| BinaryColumn::new(array, pg_type)).collect::<Result<Vec<_>>>()?;
        let field_count = i16::try_from(columns.len())
            .map_err(|_| Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "too many columns for a binary COPY"))?;
        let (mut out, mut ends) = (BytesMut::new(), vec![]);
        for row in 0..batch.num_rows() {
            out.put_i16(field_count);
            for column in &columns {
                if column.is_null(row) {
                    out.put_i32(-1);
                    continue;
                }
                let at = out.len();
                out.put_i32(0);
                column.put(row, &mut out);
                let length = i32::try_from(out.len() - at - 4)
                    .map_err(|_| Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "a value is longer than 2 GiB"))?;
                out[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
            ends.push(out.len());
        }
        Ok(cut(out.freeze(), &ends))
    }

    fn put_field(&self, value: &[u8], out: &mut BytesMut) {
        match self.options.format {
            CopyFormat::Csv => self.put_csv(value, out),
            _ => self.put_text(value, out),
        }
    }

    fn put_text(&self, value: &[u8], out: &mut BytesMut) {
        for &byte in value {
            match byte {
                0x08 => out.put_slice(b"\\b"),
                0x0c => out.put_slice(b"\\f"),
                b'\n' => out.put_slice(b"\\n"),
                b'\r' => out.put_slice(b"\\r"),
                b'\t' => out.put_slice(b"\\t"),
                0x0b => out.put_slice(b"\\v"),
                b'\\' => out.put_slice(b"\\\\"),
                byte if byte == self.options.delimiter => out.put_slice(&[b'\\', byte]),
                byte => out.put_u8(byte),
            }
        }
    }

    /// Quoted where it could be taken for something else: NULL, a delimiter, a line break, the end of data.
    fn put_csv(&self, value: &[u8], out: &mut BytesMut) {
        let CopyOptions { quote, escape, delimiter, null, .. } = &self.options;
        let special = |b: &u8| b == quote || b == delimiter || *b == b'\n' || *b == b'\r';
        if value != null.as_bytes() && value != b"\\." && !value.iter().any(special) {
            return out.put_slice(value);
        }
        out.put_u8(*quote);
        for &byte in value {
            if byte == *quote || byte == *escape {
                out.put_u8(*escape);
            }
            out.put_u8(byte);
        }
        out.put_u8(*quote);
    }
}

fn cut(bytes: Bytes, ends: &[usize]) -> Vec<Bytes> {
    let mut start = 0;
    ends.iter().map(|&end| bytes.slice(std::mem::replace(&mut start, end)..end)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, StringArray};

    use super::*;

    fn lines(format: CopyFormat, delimiter: u8, null: &str) -> Result<String> {
        let options = CopyOptions { format, delimiter, null: null.into(), header: true, quote: b'"', escape: b'"' };
        let encoder = Encoder { types: vec![PgType::Int4, PgType::Text], options, style: TextStyle::default() };
        let ids: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a\t\"b\","), Some(""), None]));
        let batch = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)])?;
        let fields: Vec<FieldRef> = batch.schema().fields().iter().cloned().collect();
        let all = encoder.head(&fields).into_iter().chain(encoder.lines(&batch)?);
        Ok(all.map(|line| String::from_utf8_lossy(&line).into_owned()).collect())
    }

    #[test]
    fn text_escapes_and_csv_quotes() -> Result<()> {
        assert_eq!(lines(CopyFormat::Text, b'\t', "\\N")?, "id\tname\n1\ta\\t\"b\",\n\\N\t\n3\t\\N\n");
        assert_eq!(lines(CopyFormat::Csv, b',', "")?, "id,name\n1,\"a\t\"\"b\"\",\"\n,\"\"\n3,\n");
        Ok(())
    }
}
