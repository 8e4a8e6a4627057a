//! A run of a relation's own rows, as its arrangement holds them: chunks, in the order of the arrangement's hash or, in a log,
//! as they came. A start takes them over without reading them; each is read when it is first looked at.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use super::collection::RunSummary;
use crate::error::Result;
use crate::state::arrangement::{self, Chunk, ChunkSummary, Layout, RowSource, Rows, read_rows, write_rows};
use crate::state::store::{Block, HeldBlock, SegmentWriter, Store};

/// One chunk, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedChunk {
    pub block: Block,
    rows: ChunkSummary,
}

/// The sum of some runs of a relation, in one segment.
pub fn write_arranged(
    layout: &Layout,
    runs: &[Arc<arrangement::Run>],
    summary: &mut RunSummary,
    segment: &mut dyn SegmentWriter,
) -> Result<Vec<SavedChunk>> {
    let mut saved = vec![];
    arrangement::Run::merge_each(layout, runs, &mut |chunk| {
        let rows = chunk.rows()?;
        summary.add(&rows.delta(), None)?;
        saved.push(SavedChunk { block: segment.append(&write_rows(rows, vec![])?)?, rows: chunk.summary() });
        Ok(())
    })?;
    Ok(saved)
}

impl SavedChunk {
    /// Not before it is looked at.
    pub fn open(&self, store: &dyn Store, schema: &SchemaRef) -> Result<Chunk> {
        let source = SavedRows { block: store.hold_block(self.block)?, schema: schema.clone() };
        Ok(Chunk::at_rest(self.rows.clone(), self.block.length as usize, Box::new(source)))
    }

    /// The same at once, for a merge; the columns' names are their numbers.
    pub fn load(&self, store: &dyn Store) -> Result<Chunk> {
        Ok(Chunk::mapped(self.read(store)?, self.block.length as usize))
    }

    /// At once. The columns' names are their numbers.
    pub fn read(&self, store: &dyn Store) -> Result<Rows> {
        read_rows(store.hold_block(self.block)?.read()?, None)
    }
}

struct SavedRows {
    block: Box<dyn HeldBlock>,
    schema: SchemaRef,
}

impl RowSource for SavedRows {
    fn read(&self) -> Result<Rows> {
        read_rows(self.block.read()?, Some(&self.schema))
    }
}
