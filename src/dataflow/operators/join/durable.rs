//! A join on disk: the rows of each side, or their keys where only the keys count. Match counts follow from both sides,
//! unless rows go by their time, or are looked up: what a row has met may not be here, so its count is kept with it.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::{JoinOperator, Side};
use crate::dataflow::{Durable, EpochContext};
use crate::error::Result;
use crate::state::checkpoint::{Part, PartChange, PartKind, Spread};
use crate::types::Delta;

fn schema_with_matches(schema: &Schema) -> Arc<Schema> {
    let matches = Arc::new(Field::new("$matches", DataType::Int64, false));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain([matches]).collect::<Vec<_>>()))
}

/// Rows with the weight of their matches behind them.
pub fn with_matches(rows: &Delta, matches: &[i64]) -> Result<Delta> {
    let matches: ArrayRef = Arc::new(Int64Array::from(matches.to_vec()));
    let columns = rows.batch().columns().iter().cloned().chain([matches]).collect();
    Ok(rows.with_batch(RecordBatch::try_new(schema_with_matches(&rows.schema()), columns)?))
}

impl Durable for JoinOperator {
    fn parts(&self) -> Vec<Part> {
        let part = |own: usize| {
            let side: &Side = &self.sides[own];
            let fields = side.schema().fields();
            let keys = Schema::new(side.key_columns.iter().map(|&key| fields[key].clone()).collect::<Vec<_>>());
            let key = self.closing.as_ref().map(|closing| closing.key());
            let (schema, time_column) = match side.keeps().rows {
                true => (
                    match self.saves_matches(own) {
                        true => schema_with_matches(side.schema()),
                        false => side.schema().clone(),
                    },
                    key.map(|key| side.key_columns[key]).or(side.expiry().map(|expiry| expiry.column())),
                ),
                false => (Arc::new(keys), key),
            };
            let spread = match (side.key_columns.is_empty(), side.keeps().rows) {
                // One side's rows are on every worker.
                (true, _) => Spread::Fixed,
                (false, true) => Spread::By(side.key_columns.clone()),
                (false, false) => Spread::By((0..side.key_columns.len()).collect()),
            };
            Part { schema, kind: PartKind::Sum, time_column, spread, key: vec![] }
        };
        [0, 1].map(part).into()
    }

    fn record(&mut self) {
        self.sides.iter_mut().for_each(|side| side.log.start());
    }

    fn take_changes(&mut self) -> Result<Vec<PartChange>> {
        let closed = self.closing.as_ref().and_then(|closing| closing.below());
        let change = |side: &mut Side| {
            let expired = side.expiry().and_then(|expiry| expiry.below());
            PartChange { deltas: side.log.take(), below: closed.or(expired) }
        };
        Ok(self.sides.iter_mut().map(change).collect())
    }

    fn restore(&mut self, parts: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<()> {
        let counts_each_row = self.counts_each_row() && !self.saves_any_matches();
        for (own, deltas) in parts.into_iter().enumerate() {
            for delta in deltas {
                if counts_each_row {
                    self.advance(&delta, own, &mut vec![], context)?;
                } else {
                    self.adopt(&delta, own)?;
                }
            }
        }
        Ok(())
    }
}

impl JoinOperator {
    /// Whether the rows of a side are saved with their match counts.
    pub(super) fn saves_matches(&self, side: usize) -> bool {
        self.saves_any_matches() && self.join_type.watched()[side]
    }

    fn saves_any_matches(&self) -> bool {
        let meets_again = self.arranged.is_none() && !self.sides.iter().any(|side| side.expires());
        self.counts_each_row() && !meets_again
    }

    /// Rows of one key differ in their match counts.
    fn counts_each_row(&self) -> bool {
        self.residual.is_some() && self.join_type.watched().contains(&true)
    }

    /// Takes saved rows of one side in. They have been met.
    fn adopt(&mut self, delta: &Delta, own: usize) -> Result<()> {
        if !self.sides[own].keeps().rows {
            let numbers = self.number(delta.batch().columns(), delta.row_count())?;
            self.sides[own].add_to_totals(delta, &numbers);
            return Ok(());
        }
        if !self.saves_matches(own) {
            return self.add(delta, own, None).map(|_| ());
        }
        let width = delta.batch().num_columns() - 1;
        let matches = delta.column(width).as_primitive::<Int64Type>().clone();
        let rows = delta.project(&(0..width).collect::<Vec<_>>())?;
        self.add(&rows, own, Some(matches.values())).map(|_| ())
    }
}
