//! A Parquet file: the projected columns by name, cast to their declared types. Offsets count rows.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options, filter_record_batch, is_null};
use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::file::{failure, shrunk};
use super::reader::Step;
use crate::connectors::{Chunk, Payload};
use crate::error::{Error, Result, SqlState};
use crate::types::{BadRecord, PgType};

const BATCH_ROW_COUNT: usize = 8192;

/// 42703 for a declared column that the file does not have, 42804 for one that cannot become the declared type,
/// 58030 for what is no Parquet file.
pub fn check(path: &Path, schema: &Schema) -> Result<()> {
    let builder = builder(path)?;
    schema.fields().iter().try_for_each(|field| find(path, builder.schema(), field).map(drop))
}

pub fn row_count(path: &Path) -> Result<u64> {
    Ok(rows_of(&builder(path)?))
}

fn rows_of(builder: &ParquetRecordBatchReaderBuilder<File>) -> u64 {
    builder.metadata().file_metadata().num_rows().max(0) as u64
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(|e| failure("open", path, e))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unreadable(path, e))?;
    Ok(builder.with_batch_size(BATCH_ROW_COUNT))
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> Error {
    let message = format!("could not read \"{}\" as parquet", path.display());
    Error::new(SqlState::IO_ERROR, message).with_detail(error.to_string())
}

/// The file's column of a declared one: of its name, or but for the case of ASCII letters.
fn find(path: &Path, file: &Schema, field: &arrow::datatypes::Field) -> Result<usize> {
    let exact = file.index_of(field.name()).ok();
    let similar = || file.fields().iter().position(|f| f.name().eq_ignore_ascii_case(field.name()));
    let Some(index) = exact.or_else(similar) else {
        let names: Vec<&str> = file.fields().iter().map(|f| f.name().as_str()).collect();
        let message = format!("column \"{}\" does not exist in \"{}\"", field.name(), path.display());
        return Err(
            Error::new(SqlState::UNDEFINED_COLUMN, message).with_hint(format!("its columns: {}", names.join(", ")))
        );
    };
    let found = file.field(index).data_type();
    if can_cast_types(found, field.data_type()) {
        return Ok(index);
    }
    let declared = PgType::of(field).name();
    let message = format!("column \"{}\" of \"{}\" cannot be read as {declared}", field.name(), path.display());
    Err(Error::new(SqlState::DATATYPE_MISMATCH, message).with_hint(format!("the file has it as {found}")))
}

pub struct ParquetFile {
    partition: String,
    path: PathBuf,
    /// The projected columns.
    schema: SchemaRef,
    is_following: bool,
    /// The next row.
    offset: u64,
    until: Option<u64>,
    open: Option<Open>,
}

struct Open {
    reader: ParquetRecordBatchReader,
    /// For each projected column, its place in the reader's batches.
    places: Vec<usize>,
}

impl ParquetFile {
    pub fn new(
        partition: String,
        path: PathBuf,
        schema: SchemaRef,
        is_following: bool,
        from: u64,
        until: Option<u64>,
    ) -> ParquetFile {
        ParquetFile { partition, path, schema, is_following, offset: from, until, open: None }
    }

    pub fn step(&mut self) -> Result<Step> {
        if self.until.is_some_and(|until| self.offset >= until) {
            return Ok(Step::End);
        }
        if self.open.is_none() {
            match self.open() {
                Ok(Some(open)) => self.open = Some(open),
                Ok(None) => return Ok(Step::End),
                // Its writer is not done with it.
                Err(error) if self.is_following && error.code == SqlState::IO_ERROR => return Ok(Step::AtEnd),
                Err(error) => return Err(error),
            }
        }
        let Some(open) = &mut self.open else { return Ok(Step::End) };
        let batch = match open.reader.next() {
            Some(Ok(batch)) => batch,
            Some(Err(error)) => {
                self.open = None;
                return Err(unreadable(&self.path, error));
            }
            None => return Ok(Step::End),
        };
        let columns: Vec<ArrayRef> = open.places.iter().map(|&place| batch.column(place).clone()).collect();
        let first_row = self.offset;
        let (rows, bad_records) = fit(&self.partition, first_row, &self.schema, &columns, batch.num_rows())?;
        self.offset += batch.num_rows() as u64;
        Ok(Step::Chunk(Chunk {
            partition: self.partition.clone(),
            payload: Payload::Rows(rows),
            bad_records,
            next_offset: self.offset,
            positions: None,
        }))
    }

    /// `None` if no rows are left.
    fn open(&self) -> Result<Option<Open>> {
        let builder = builder(&self.path)?;
        let row_count = rows_of(&builder);
        if row_count < self.offset {
            return Err(shrunk(&self.path, self.offset));
        }
        let end = self.until.map_or(row_count, |until| until.min(row_count));
        if self.offset >= end {
            return Ok(None);
        }
        let file_columns: Vec<usize> =
            self.schema.fields().iter().map(|f| find(&self.path, builder.schema(), f)).collect::<Result<_>>()?;
        // Batches hold the wanted columns in the order of the file.
        let mut wanted = file_columns.clone();
        wanted.sort_unstable();
        wanted.dedup();
        let place = |column: &usize| wanted.binary_search(column).expect("every column was put in");
        let places = file_columns.iter().map(place).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted.iter().copied());
        let reader = builder
            .with_projection(mask)
            .with_offset(self.offset as usize)
            .with_limit((end - self.offset) as usize)
            .build()
            .map_err(|e| unreadable(&self.path, e))?;
        Ok(Some(Open { reader, places }))
    }
}

/// The rows that fit the declared types; the others are bad records.
fn fit(
    partition: &str,
    first_row: u64,
    schema: &SchemaRef,
    columns: &[ArrayRef],
    row_count: usize,
) -> Result<(RecordBatch, Vec<BadRecord>)> {
    let mut bad: std::collections::BTreeMap<usize, String> = Default::default();
    let mut arrays = Vec::with_capacity(columns.len());
    for (field, column) in schema.fields().iter().zip(columns) {
        let strict = CastOptions { safe: false, ..Default::default() };
        let array = match cast_with_options(column, field.data_type(), &strict) {
            Ok(array) => array,
            // Some value does not fit: a lenient cast makes it NULL, which tells which.
            Err(error) => {
                let array = cast_with_options(column, field.data_type(), &CastOptions::default())
                    .map_err(|_| Error::from(error))?;
                for row in (0..row_count).filter(|&row| array.is_null(row) && !column.is_null(row)) {
                    let shown = arrow::util::display::array_value_to_string(column, row).unwrap_or_default();
                    let (name, expected) = (field.name(), PgType::of(field).name());
                    bad.entry(row)
                        .or_insert_with(|| format!("column \"{name}\": {shown} is out of range for {expected}"));
                }
                array
            }
        };
        if !field.is_nullable() && array.null_count() > 0 {
            for row in (0..row_count).filter(|&row| array.is_null(row)) {
                let name = field.name();
                bad.entry(row).or_insert_with(|| format!("column \"{name}\": null in a column declared NOT NULL"));
            }
        }
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(row_count));
    if bad.is_empty() {
        return Ok((RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?, vec![]));
    }
    // Nullable while the bad rows are still in it.
    let fields: Vec<_> = schema.fields().iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true))).collect();
    let all = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
    let keep: BooleanArray = (0..row_count).map(|row| Some(!bad.contains_key(&row))).collect();
    let kept = filter_record_batch(&all, &keep)?;
    debug_assert!(
        kept.columns()
            .iter()
            .zip(schema.fields())
            .all(|(c, f)| f.is_nullable() || is_null(c).is_ok_and(|n| n.true_count() == 0))
    );
    let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
    let rows = RecordBatch::try_new_with_options(schema.clone(), kept.columns().to_vec(), &options)?;
    let payload = |row: usize| {
        let cell = |column: &ArrayRef| arrow::util::display::array_value_to_string(column, row).unwrap_or_default();
        columns.iter().map(cell).collect::<Vec<_>>().join(",")
    };
    let bad_records = bad
        .into_iter()
        .map(|(row, reason)| BadRecord::new(partition, first_row + row as u64, reason, payload(row).as_bytes()));
    Ok((rows, bad_records.collect()))
}
