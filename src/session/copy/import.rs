//! COPY FROM, piece by piece: the splitter cuts records into fields, each field goes through its type's input function.

use arrow::array::ArrayRef;
use chrono_tz::Tz;

use super::binary::BinarySplit;
use super::rows::Rows;
use super::split::{Field, TextSplit};
use crate::error::{Error, Result, SqlState};
use crate::session::dml::Target;
use crate::sql::{CopyFormat, CopyOptions};

pub struct Import {
    target: Target,
    /// For each field of a record, the table's column.
    columns: Vec<usize>,
    split: Split,
    rows: Rows,
    /// What came in so far; held until the end, so it has a bound.
    bytes: usize,
    bytes_max: usize,
    /// After an error all that follows is passed over.
    failed: bool,
}

enum Split {
    Text(TextSplit),
    Binary(BinarySplit),
}

/// All rows of a COPY, by column of the table; `None`: to be filled with the column's default.
pub struct Imported {
    pub target: Target,
    pub columns: Vec<Option<ArrayRef>>,
    pub row_count: usize,
}

impl Import {
    pub fn new(target: Target, columns: Vec<usize>, options: CopyOptions, zone: Tz, bytes_max: usize) -> Import {
        let types = columns.iter().map(|&column| target.columns[column].pg_type.clone()).collect();
        let split = match options.format {
            CopyFormat::Binary => Split::Binary(BinarySplit::default()),
            CopyFormat::Text | CopyFormat::Csv => Split::Text(TextSplit::new(options)),
        };
        Import { target, columns, split, rows: Rows::new(types, zone), bytes: 0, bytes_max, failed: false }
    }

    pub fn feed(&mut self, data: &[u8]) -> Result<()> {
        if self.failed {
            return Ok(());
        }
        self.bytes += data.len();
        let result = if self.bytes > self.bytes_max {
            Err(Error::new(SqlState::OUT_OF_MEMORY, "out of memory")
                .with_detail(format!("one COPY can hold {} bytes", self.bytes_max))
                .with_hint("split the input into several COPYs, or raise query_memory_bytes"))
        } else {
            self.take(data)
        };
        self.failed = result.is_err();
        result
    }

    fn take(&mut self, data: &[u8]) -> Result<()> {
        let Import { target, columns, split, rows, .. } = self;
        match split {
            Split::Text(split) => split.feed(data, &mut |line, fields| text_row(target, columns, rows, line, fields)),
            Split::Binary(split) => split.feed(data, &mut |row, fields| binary_row(target, columns, rows, row, fields)),
        }
    }

    /// Ends the input. 22P04 if it stops in the middle of a record.
    pub fn finish(mut self) -> Result<Imported> {
        if self.failed {
            return Err(Error::internal("a COPY that failed was ended as if it had not"));
        }
        let Import { target, columns, split, rows, .. } = &mut self;
        match split {
            Split::Text(split) => split.finish(&mut |line, fields| text_row(target, columns, rows, line, fields))?,
            Split::Binary(split) => split.finish()?,
        }
        let row_count = self.rows.row_count();
        let mut by_column: Vec<Option<ArrayRef>> = vec![None; self.target.columns.len()];
        for (array, &column) in self.rows.finish()?.into_iter().zip(&self.columns) {
            by_column[column] = Some(array);
        }
        Ok(Imported { target: self.target, columns: by_column, row_count })
    }
}

/// `line` counts from 1.
fn text_row(target: &Target, columns: &[usize], rows: &mut Rows, line: u64, fields: &[Field]) -> Result<()> {
    let place = || format!("COPY {}, line {line}", target.name);
    if fields.len() > columns.len() {
        return Err(bad_format("extra data after last expected column").with_detail(place()));
    }
    for (index, &column) in columns.iter().enumerate() {
        let name = &target.columns[column].name;
        let Some(field) = fields.get(index) else {
            return Err(bad_format(format!("missing data for column \"{name}\"")).with_detail(place()));
        };
        rows.push_text(index, field.as_deref()).map_err(|error| {
            let shown = field.as_deref().unwrap_or("null");
            error.with_detail(format!("{}, column {name}: \"{shown}\"", place()))
        })?;
    }
    rows.end_row()
}

fn binary_row(target: &Target, columns: &[usize], rows: &mut Rows, row: u64, fields: &[Option<&[u8]>]) -> Result<()> {
    let place = || format!("COPY {}, line {row}", target.name);
    if fields.len() != columns.len() {
        let message = format!("row field count is {}, expected {}", fields.len(), columns.len());
        return Err(bad_format(message).with_detail(place()));
    }
    for (index, (field, &column)) in fields.iter().zip(columns).enumerate() {
        let at = |error: Error| error.with_detail(format!("{}, column {}", place(), target.columns[column].name));
        rows.push_binary(index, *field).map_err(at)?;
    }
    rows.end_row()
}

/// 22P04.
pub fn bad_format(message: impl Into<String>) -> Error {
    Error::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::dml::test_table;

    fn import(format: CopyFormat, delimiter: u8, null: &str, header: bool) -> Import {
        let options = CopyOptions { format, delimiter, null: null.into(), header, quote: b'"', escape: b'"' };
        Import::new(test_table(), vec![0, 1], options, Tz::UTC, 1 << 20)
    }

    fn rows(mut import: Import, pieces: &[&str]) -> Result<Vec<String>> {
        for piece in pieces {
            import.feed(piece.as_bytes())?;
        }
        let imported = import.finish()?;
        let columns: Vec<ArrayRef> = imported.columns.into_iter().flatten().collect();
        let shown = |column: &ArrayRef, row: usize| {
            arrow::util::display::array_value_to_string(column, row).map_err(Error::from)
        };
        (0..imported.row_count)
            .map(|row| Ok(format!("{}|{}", shown(&columns[0], row)?, shown(&columns[1], row)?)))
            .collect()
    }

    #[test]
    fn text_with_escapes_over_several_pieces() -> Result<()> {
        let pieces = ["1\ta\\tb", "\n2\t\\N\n3\tx\\", "\ny\n4\t\\x41\\101\\\\\n\\.\n"];
        let import = import(CopyFormat::Text, b'\t', "\\N", false);
        assert_eq!(rows(import, &pieces)?, ["1|a\tb", "2|", "3|x\ny", "4|AA\\"]);
        Ok(())
    }

    #[test]
    fn csv_with_quotes_header_and_nulls() -> Result<()> {
        let pieces = ["id,name\r\n1,\"a,\"\"b", "\"\"\n c\"\r\n2,\r\n3,\"\"\r\n4,last"];
        let import = import(CopyFormat::Csv, b',', "", true);
        assert_eq!(rows(import, &pieces)?, ["1|a,\"b\"\n c", "2|", "3|", "4|last"]);
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let text = || import(CopyFormat::Text, b'\t', "\\N", false);
        let error = rows(text(), &["1\ta\n2\tb\tc\n"]).expect_err("three fields");
        assert_eq!(error.message, "extra data after last expected column");
        assert_eq!(error.detail.as_deref(), Some("COPY t, line 2"));
        let error = rows(text(), &["1\n"]).expect_err("one field");
        assert_eq!(error.message, "missing data for column \"name\"");
        let error = rows(text(), &["1\ta\nx\tb\n"]).expect_err("no integer");
        assert_eq!(error.code, SqlState::INVALID_TEXT_REPRESENTATION);
        assert_eq!(error.detail.as_deref(), Some("COPY t, line 2, column id: \"x\""));
        let error = rows(import(CopyFormat::Csv, b',', "", false), &["1,\"a\n"]).expect_err("an open quote");
        assert_eq!(error.message, "unterminated CSV quoted field");
    }
}
