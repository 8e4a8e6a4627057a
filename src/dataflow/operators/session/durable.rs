//! Sessions on disk: the rows, each with the time that it reaches back to. What is shown of them follows.
//!
//! A session goes when its last row is over, so its rows do not go by their own time: they are taken back one by one.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::{PREFIX_LENGTH, SessionOperator, reach_of};
use crate::dataflow::row_order::add_up;
use crate::dataflow::{Durable, EpochContext};
use crate::error::Result;
use crate::state::checkpoint::{Part, PartChange, PartKind, Spread};
use crate::types::Delta;

/// Keys of rows that came or went since the state was last saved, where that is recorded.
#[derive(Default)]
pub struct RowLog {
    rows: Option<Vec<(Box<[u8]>, i64)>>,
}

impl RowLog {
    pub fn is_on(&self) -> bool {
        self.rows.is_some()
    }

    pub fn push(&mut self, key: &[u8], weight: i64) {
        if let Some(rows) = &mut self.rows
            && weight != 0
        {
            rows.push((key.into(), weight));
        }
    }
}

impl Durable for SessionOperator {
    fn parts(&self) -> Vec<Part> {
        let width = self.schema.fields().len() - 2;
        let reach = Arc::new(Field::new("$reach", DataType::Int64, false));
        let fields: Vec<_> = self.schema.fields()[..width].iter().cloned().chain([reach]).collect();
        let spread = Spread::By(self.partition.clone());
        vec![Part {
            schema: Arc::new(Schema::new(fields)),
            kind: PartKind::Sum,
            time_column: None,
            spread,
            key: vec![],
        }]
    }

    fn record(&mut self) {
        self.log.rows = Some(vec![]);
    }

    fn take_changes(&mut self) -> Result<Vec<PartChange>> {
        let rows = self.log.rows.as_mut().map(std::mem::take).unwrap_or_default();
        if rows.is_empty() {
            return Ok(vec![PartChange::default()]);
        }
        let mut columns =
            self.converter.convert_rows(rows.iter().map(|(key, _)| self.parser.parse(&key[PREFIX_LENGTH..])))?;
        let reached: ArrayRef = Arc::new(rows.iter().map(|(key, _)| Some(reach_of(key))).collect::<Int64Array>());
        columns.push(reached);
        let batch = RecordBatch::try_new(self.parts().remove(0).schema, columns)?;
        let delta = Delta::new(batch, rows.into_iter().map(|(_, weight)| weight).collect::<Vec<_>>());
        Ok(vec![PartChange { deltas: vec![delta], below: None }])
    }

    fn restore(&mut self, parts: Vec<Vec<Delta>>, _: &mut EpochContext) -> Result<()> {
        let mut changes = vec![];
        for delta in parts.into_iter().flatten() {
            let reached = delta.column(delta.batch().num_columns() - 1).as_primitive::<Int64Type>().clone();
            self.key_rows(&delta, &mut changes, |row, _| reached.value(row))?;
        }
        add_up(&mut changes);
        self.advance(&changes);
        Ok(())
    }
}
