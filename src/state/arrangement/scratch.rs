//! Where rows lie that memory has no room for: in files without a name, which are mapped, so that the system reads what is
//! looked at and lets go of what is not. They are gone with the process: what outlives it lies elsewhere.
//!
//! A file is an Arrow IPC file of one batch, whose buffers are used where they lie.

use std::fmt;
use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::buffer::Buffer;
use arrow::datatypes::{Field, Int64Type, Schema, UInt64Type};
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::root_as_footer;
use arrow::ipc::writer::FileWriter;
use bytes::Bytes;

use super::{Chunk, Layout};
use crate::error::{Error, Result, SqlState};
use crate::state::{Memory, Store};

pub struct Scratch {
    store: Arc<dyn Store>,
    memory: Arc<Memory>,
}

/// What is shorter than this stays in memory.
const BYTES_MIN: usize = 64 << 10;

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch")
    }
}

impl Scratch {
    pub fn new(store: Arc<dyn Store>, memory: Arc<Memory>) -> Scratch {
        Scratch { store, memory }
    }

    /// Memory is too short for so much more.
    pub fn is_wanted_for(&self, bytes: usize) -> bool {
        self.memory.is_short_with(bytes as u64)
    }

    /// The chunk in a file, if it is long. It stays in memory if that cannot be: the next merge tries again.
    pub(super) fn settle(&self, layout: &Layout, chunk: Chunk) -> Chunk {
        if chunk.stored_bytes() < BYTES_MIN {
            return chunk;
        }
        self.put_away(layout, &chunk).unwrap_or_else(|error| {
            tracing::warn!("rows that should go to disk stay in memory: {error}");
            chunk
        })
    }

    fn put_away(&self, layout: &Layout, chunk: &Chunk) -> Result<Chunk> {
        let column_count = chunk.batch.num_columns();
        let mut columns = chunk.batch.columns().to_vec();
        columns.extend(
            (!chunk.hashes.is_empty()).then(|| Arc::new(UInt64Array::new(chunk.hashes.clone(), None)) as ArrayRef),
        );
        columns.extend(chunk.weights.as_ref().map(|own| Arc::new(Int64Array::new(own.clone(), None)) as ArrayRef));
        let (batch, bytes) = self.write(columns, chunk.row_count())?;
        let mut more = batch.columns()[column_count..].iter();
        let mut next = || more.next().ok_or_else(|| Error::internal("a column was not written"));
        let hashes = match chunk.hashes.is_empty() {
            true => Default::default(),
            false => next()?.as_primitive::<UInt64Type>().values().clone(),
        };
        let weights = match chunk.weights.is_some() {
            true => Some(next()?.as_primitive::<Int64Type>().values().clone()),
            false => None,
        };
        let options = RecordBatchOptions::new().with_row_count(Some(chunk.row_count()));
        let own = batch.columns()[..column_count].to_vec();
        let batch = RecordBatch::try_new_with_options(layout.schema.clone(), own, &options)?;
        Ok(Chunk::mapped(batch, weights, hashes, bytes))
    }

    /// The same columns in a file of so many bytes.
    pub(super) fn write(&self, columns: Vec<ArrayRef>, row_count: usize) -> Result<(RecordBatch, usize)> {
        let fields = columns.iter().enumerate();
        let fields = fields.map(|(at, column)| Field::new(at.to_string(), column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(row_count));
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        let file = BufWriter::with_capacity(1 << 20, self.store.scratch_file()?);
        let mut writer = FileWriter::try_new(file, &batch.schema())?;
        writer.write(&batch)?;
        let file = writer.into_inner()?.into_inner().map_err(|error| trouble(error.error()))?;
        let bytes = map(&file).map_err(|error| trouble(&error))?;
        let length = bytes.len();
        Ok((decode(bytes)?, length))
    }
}

fn trouble(error: &std::io::Error) -> Error {
    Error::new(SqlState::IO_ERROR, format!("could not write rows to disk: {error}"))
}

fn map(file: &File) -> std::io::Result<Bytes> {
    // SAFETY: the file has no name and nobody else's handle, so it does not change while it is mapped.
    Ok(Bytes::from_owner(unsafe { memmap2::Mmap::map(file)? }))
}

/// The one batch of an IPC file, which goes on using its bytes.
fn decode(bytes: Bytes) -> Result<RecordBatch> {
    let odd = || Error::internal("a file of rows is not what was written");
    let buffer = Buffer::from(bytes);
    let trailer = buffer.len().checked_sub(10).ok_or_else(odd)?;
    let footer_length = read_footer_length(buffer[trailer..].try_into().map_err(|_| odd())?)?;
    let footer = root_as_footer(&buffer[trailer.checked_sub(footer_length).ok_or_else(odd)?..trailer]);
    let footer = footer.map_err(|_| odd())?;
    let schema = Arc::new(fb_to_schema(footer.schema().ok_or_else(odd)?));
    let block = footer.recordBatches().and_then(|blocks| blocks.iter().next()).ok_or_else(odd)?;
    let length = block.bodyLength() as usize + block.metaDataLength() as usize;
    let rows = buffer.slice_with_length(block.offset() as usize, length);
    FileDecoder::new(schema, footer.version()).read_record_batch(block, &rows)?.ok_or_else(odd)
}
