//! A join on disk: the rows of each side by their key, or the keys where only they count. Match counts follow from both sides,
//! unless rows go by their time, or are looked up: what a row has met may not be here, so its count is kept with it.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::{JoinOperator, Side};
use crate::dataflow::{Durable, EpochContext, Partial};
use crate::error::Result;
use crate::state::checkpoint::{Part, PartChange, PartKind, Spread, can_hash};
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
            let key = match side.keeps().rows {
                true => side.key_columns.clone(),
                false => (0..side.key_columns.len()).collect(),
            };
            // Without a key one side's rows are on every worker.
            let spread = if key.is_empty() { Spread::Fixed } else { Spread::By(key.clone()) };
            Part { schema, kind: PartKind::Sum, time_column, spread, key }
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
        self.residency.handed_over();
        Ok(self.sides.iter_mut().map(change).collect())
    }

    fn restore(&mut self, parts: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<()> {
        self.residency.begin_restored();
        for (own, deltas) in parts.into_iter().enumerate() {
            for rows in deltas {
                let numbers = self.number(&self.saved_key(own, &rows), rows.row_count(), &mut vec![])?;
                self.adopt(own, &rows, &numbers, context)?;
            }
        }
        Ok(())
    }

    fn partial(&mut self) -> Option<&mut dyn Partial> {
        let Side { key_columns, .. } = &self.sides[0];
        let schema = self.sides[0].schema();
        let can_be = !key_columns.is_empty() && key_columns.iter().all(|&key| can_hash(schema.field(key).data_type()));
        can_be.then_some(self)
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

    /// Takes saved rows of one side in, of which those of the left come first; `numbers` are their keys'. They have been met.
    pub(super) fn adopt(
        &mut self,
        own: usize,
        rows: &Delta,
        numbers: &[u32],
        context: &mut EpochContext,
    ) -> Result<()> {
        self.sides[own].add_to_totals(rows, numbers);
        if self.saves_matches(own) {
            let width = rows.batch().num_columns() - 1;
            let matches = rows.column(width).as_primitive::<Int64Type>().clone();
            let rows = rows.project(&(0..width).collect::<Vec<_>>())?;
            return self.sides[own].add(&rows, numbers, Some(matches.values()));
        }
        if self.counts_each_row() && !self.saves_any_matches() {
            let counts = self.meet_by_row(rows, numbers, own, &mut vec![], context)?;
            let counts = counts.filter(|_| self.join_type.watched()[own]);
            return self.sides[own].add(rows, numbers, counts.as_deref());
        }
        self.sides[own].add(rows, numbers, None)
    }
}
