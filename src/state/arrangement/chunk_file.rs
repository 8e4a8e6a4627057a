//! A chunk as bytes: an Arrow IPC file of one batch, whose last columns are the hashes and the weights.
//!
//! Buffers are aligned and not compressed, so that they are used where they lie: a file that is mapped costs no memory but
//! what is looked at.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::buffer::Buffer;
use arrow::datatypes::{Field, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::root_as_footer;
use arrow::ipc::writer::FileWriter;
use bytes::Bytes;

use super::chunk::Rows;
use crate::error::{Error, Result, SqlState};

const HASH: &str = "$hash";
const WEIGHT: &str = "$weight";

/// Returns the writer.
pub fn write_rows<W: Write>(rows: &Rows, to: W) -> Result<W> {
    let mut columns: Vec<(String, ArrayRef)> = vec![];
    columns.extend(rows.batch.columns().iter().enumerate().map(|(at, column)| (at.to_string(), column.clone())));
    if !rows.hashes.is_empty() {
        columns.push((HASH.to_string(), Arc::new(UInt64Array::new(rows.hashes.clone(), None))));
    }
    if let Some(weights) = &rows.weights {
        columns.push((WEIGHT.to_string(), Arc::new(Int64Array::new(weights.clone(), None))));
    }
    write_columns(columns, rows.batch.num_rows(), to)
}

pub fn write_columns<W: Write>(columns: Vec<(String, ArrayRef)>, row_count: usize, to: W) -> Result<W> {
    let field = |(name, column): &(String, ArrayRef)| Field::new(name, column.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let options = RecordBatchOptions::new().with_row_count(Some(row_count));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
    let mut writer = FileWriter::try_new(to, &schema)?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

/// The rows of a relation, which go on using the bytes. XX001 if they are not of this schema; without one, the columns' names
/// are their numbers.
pub fn read_rows(bytes: Bytes, schema: Option<&SchemaRef>) -> Result<Rows> {
    let batch = read_columns(bytes)?;
    let (written, columns) = (batch.schema(), batch.columns());
    let extra = |name: &str| written.fields().iter().position(|field| field.name() == name);
    let count = [extra(HASH), extra(WEIGHT)].into_iter().flatten().min().unwrap_or(columns.len());
    let schema = schema.cloned().unwrap_or_else(|| Arc::new(Schema::new(written.fields()[..count].to_vec())));
    let row_count = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let own = RecordBatch::try_new_with_options(schema, columns[..count].to_vec(), &row_count);
    let own = own.map_err(|error| odd(&error.to_string()))?;
    let hashes = match extra(HASH).map(|at| columns[at].as_primitive_opt::<UInt64Type>()) {
        None => Default::default(),
        Some(hashes) => hashes.ok_or_else(|| odd("odd hashes"))?.values().clone(),
    };
    let weights = match extra(WEIGHT).map(|at| columns[at].as_primitive_opt::<Int64Type>()) {
        None => None,
        Some(weights) => Some(weights.ok_or_else(|| odd("odd weights"))?.values().clone()),
    };
    Ok(Rows { batch: own, weights, hashes })
}

/// The one batch of an IPC file.
pub fn read_columns(bytes: Bytes) -> Result<RecordBatch> {
    let cut_off = || odd("it is cut off");
    let buffer = Buffer::from(bytes);
    let trailer = buffer.len().checked_sub(10).ok_or_else(cut_off)?;
    let footer_length = buffer[trailer..].try_into().map_err(|_| cut_off())?;
    let footer_length = read_footer_length(footer_length).map_err(|error| odd(&error.to_string()))?;
    let footer = root_as_footer(&buffer[trailer.checked_sub(footer_length).ok_or_else(cut_off)?..trailer]);
    let footer = footer.map_err(|error| odd(&error.to_string()))?;
    let schema = Arc::new(fb_to_schema(footer.schema().ok_or_else(|| odd("it has no schema"))?));
    let block = footer.recordBatches().and_then(|blocks| blocks.iter().next()).ok_or_else(|| odd("no batch"))?;
    let (offset, length) = (block.offset() as usize, block.bodyLength() as usize + block.metaDataLength() as usize);
    if offset.checked_add(length).is_none_or(|end| end > trailer) {
        return Err(cut_off());
    }
    let rows =
        FileDecoder::new(schema, footer.version()).read_record_batch(block, &buffer.slice_with_length(offset, length));
    rows.map_err(|error| odd(&error.to_string()))?.ok_or_else(|| odd("no batch"))
}

fn odd(why: &str) -> Error {
    Error::new(SqlState::DATA_CORRUPTED, format!("unreadable rows of a relation: {why}"))
}
