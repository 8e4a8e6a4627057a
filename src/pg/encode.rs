//! Arrow batches to DataRow messages.
//!
//! A [`RowEncoder`] is made once per batch: it casts and downcasts each column; then rows are written one after another
//! into one buffer, without an allocation per value.

use arrow::array::RecordBatch;
use bytes::{BufMut, BytesMut};

use crate::error::{Error, Result, SqlState};
use crate::types::PgType;
use crate::types::binary_output::BinaryColumn;
use crate::types::text_output::{TextColumn, TextStyle};

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Format {
    Text,
    Binary,
}

impl Format {
    pub fn code(self) -> i16 {
        match self {
            Format::Text => 0,
            Format::Binary => 1,
        }
    }

    /// 22023 for anything but 0 and 1.
    pub fn of_code(code: i16) -> Result<Format> {
        match code {
            0 => Ok(Format::Text),
            1 => Ok(Format::Binary),
            other => Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("unsupported format code: {other}"))),
        }
    }
}

/// Bytes of a DataRow; the protocol's lengths are signed 32-bit numbers.
const ROW_BYTES_MAX: usize = 1 << 30;

enum Column {
    Text(TextColumn),
    Binary(BinaryColumn),
}

/// One batch, ready to be written row by row.
pub(super) struct RowEncoder {
    columns: Vec<Column>,
    pub row_count: usize,
}

impl RowEncoder {
    /// `types` are what the client was told, `formats` one for each column. XX000 if the batch does not fit them.
    pub fn new(batch: &RecordBatch, types: &[PgType], formats: &[Format], style: &TextStyle) -> Result<RowEncoder> {
        if batch.num_columns() != types.len() || types.len() != formats.len() {
            return Err(Error::internal(format!(
                "a result of {} columns was announced with {}",
                batch.num_columns(),
                types.len()
            )));
        }
        let columns = batch.columns().iter().zip(types).zip(formats).map(|((array, pg_type), format)| {
            Ok(match format {
                Format::Text => Column::Text(TextColumn::new(array, pg_type, style)?),
                Format::Binary => Column::Binary(BinaryColumn::new(array, pg_type)?),
            })
        });
        Ok(RowEncoder { columns: columns.collect::<Result<_>>()?, row_count: batch.num_rows() })
    }

    /// Appends one DataRow message. 54000 if it would be too long to be told; then nothing is appended.
    pub fn put_row(&self, row: usize, out: &mut BytesMut) -> Result<()> {
        let start = out.len();
        out.put_u8(b'D');
        out.put_i32(0);
        out.put_i16(self.columns.len() as i16);
        for column in &self.columns {
            let is_null = match column {
                Column::Text(column) => column.is_null(row),
                Column::Binary(column) => column.is_null(row),
            };
            if is_null {
                out.put_i32(-1);
                continue;
            }
            let at = out.len();
            out.put_i32(0);
            match column {
                Column::Text(column) => column.put(row, out),
                Column::Binary(column) => column.put(row, out),
            }
            if out.len() - start > ROW_BYTES_MAX {
                out.truncate(start);
                return Err(Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "result row is longer than 1 GiB"));
            }
            patch_length(out, at, out.len() - at - 4);
        }
        patch_length(out, start + 1, out.len() - start - 1);
        Ok(())
    }
}

fn patch_length(out: &mut BytesMut, at: usize, length: usize) {
    out[at..at + 4].copy_from_slice(&(length as i32).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int32Array, StringViewArray};
    use std::sync::Arc;

    #[test]
    fn rows_on_the_wire() -> Result<()> {
        let ids: ArrayRef = Arc::new(Int32Array::from(vec![Some(258), None]));
        let names: ArrayRef = Arc::new(StringViewArray::from(vec!["é", ""]));
        let batch = RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)])?;
        let types = [PgType::Int4, PgType::Text];
        let encoder = RowEncoder::new(&batch, &types, &[Format::Binary, Format::Text], &TextStyle::default())?;
        let mut out = BytesMut::new();
        encoder.put_row(0, &mut out)?;
        assert_eq!(&out[..], b"D\0\0\0\x14\0\x02\0\0\0\x04\0\0\x01\x02\0\0\0\x02\xc3\xa9");
        out.clear();
        encoder.put_row(1, &mut out)?;
        assert_eq!(&out[..], b"D\0\0\0\x0e\0\x02\xff\xff\xff\xff\0\0\0\0");
        assert!(RowEncoder::new(&batch, &types[..1], &[Format::Text], &TextStyle::default()).is_err());
        Ok(())
    }
}
