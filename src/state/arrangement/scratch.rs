//! Where rows lie that memory has no room for: in files without a name, which are mapped, so that the system reads what is
//! looked at and lets go of what is not. They are gone with the process: what outlives it lies elsewhere.

use std::fmt;
use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use bytes::Bytes;

use super::chunk_file::{read_columns, read_rows, write_columns, write_rows};
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
        if chunk.is_mapped() || chunk.stored_bytes() < BYTES_MIN {
            return chunk;
        }
        self.put_away(layout, &chunk).unwrap_or_else(|error| {
            tracing::warn!("rows that should go to disk stay in memory: {error}");
            chunk
        })
    }

    fn put_away(&self, layout: &Layout, chunk: &Chunk) -> Result<Chunk> {
        let file = write_rows(chunk.rows()?, self.create()?)?;
        let bytes = map(file)?;
        let length = bytes.len();
        Ok(Chunk::mapped(read_rows(bytes, Some(&layout.schema))?, length))
    }

    /// The same columns in a file of so many bytes.
    pub(super) fn write(&self, columns: Vec<ArrayRef>) -> Result<(RecordBatch, usize)> {
        let row_count = columns.first().map_or(0, |column| column.len());
        let named = columns.into_iter().enumerate().map(|(at, column)| (at.to_string(), column));
        let bytes = map(write_columns(named.collect(), row_count, self.create()?)?)?;
        let length = bytes.len();
        Ok((read_columns(bytes)?, length))
    }

    fn create(&self) -> Result<BufWriter<File>> {
        Ok(BufWriter::with_capacity(1 << 20, self.store.scratch_file()?))
    }
}

fn map(file: BufWriter<File>) -> Result<Bytes> {
    let trouble =
        |error: &std::io::Error| Error::new(SqlState::IO_ERROR, format!("could not write rows to disk: {error}"));
    let file = file.into_inner().map_err(|error| trouble(error.error()))?;
    // SAFETY: the file has no name and nobody else's handle, so it does not change while it is mapped.
    let mapped = unsafe { memmap2::Mmap::map(&file) };
    Ok(Bytes::from_owner(mapped.map_err(|error| trouble(&error))?))
}
