//! A lookup as of arrival: O = Σₑ ΔAₑ ⋈ Bₑ, where Bₑ is the right input as it is with epoch e. Unlike a join it has no term
//! ΔB: what becomes of the right side later does not reach the rows that were given out, so the sum depends on which rows
//! came together (a processing-time temporal join of Flink and RisingWave).
//!
//! While the inputs do not add up yet to what they are, left rows wait: a row that is there when the view is made meets the
//! whole right side, not the pieces of it that happen to have come.
//!
//! A left row that is retracted takes back what it gave, whatever the right side says now ([`Given`]). If the left side never
//! retracts, nothing is kept of it.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::not;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatchOptions;
use datafusion::physical_expr::PhysicalExpr;

use super::given::Given;
use super::residual::Residual;
use super::side::{Keeps, Side};
use super::{Output, PAIR_COUNT, Pairs, split_null_keys, take_columns};
use crate::dataflow::durable::ChangeLog;
use crate::dataflow::key_index::KeyIndex;
use crate::dataflow::{Durable, EpochContext, Operator, StateSize};
use crate::error::Result;
use crate::plan::JoinKeys;
use crate::state::checkpoint::{Part, PartChange, PartKind, Spread};
use crate::types::Delta;

pub struct LookupOperator {
    /// The key columns of the left input.
    left_keys: Vec<usize>,
    null_equals_null: Vec<bool>,
    /// Those of the right rows.
    keys: KeyIndex,
    right: Side,
    residual: Option<Residual>,
    keeps_unmatched: bool,
    /// Left rows that came while the inputs were catching up, or that were taken back before they came.
    waiting: Vec<Delta>,
    waiting_log: ChangeLog,
    /// `None`: no left row is ever retracted.
    given: Option<Given>,
    left_schema: SchemaRef,
    /// The left input's columns, then the right's.
    schema: SchemaRef,
}

impl LookupOperator {
    /// `inputs` are the schemas of left and right; key columns have equal types pair by pair. Without keys every pair is
    /// a candidate. `residual` is over the left input's columns, then the right's.
    pub fn new(
        inputs: [SchemaRef; 2],
        keys: &JoinKeys,
        residual: Option<&Arc<dyn PhysicalExpr>>,
        keeps_unmatched: bool,
        schema: SchemaRef,
    ) -> Result<LookupOperator> {
        let residual = residual.map(|r| Residual::new(r.clone(), [&inputs[0], &inputs[1]])).transpose()?;
        let types = keys.right.iter().map(|&column| inputs[1].field(column).data_type().clone()).collect();
        let [left_schema, right] = inputs;
        Ok(LookupOperator {
            left_keys: keys.left.clone(),
            null_equals_null: keys.null_equals_null.clone(),
            keys: KeyIndex::new(types)?,
            right: Side::new(right, keys.right.clone(), Keeps { rows: true, key_totals: false }),
            residual,
            keeps_unmatched,
            waiting: vec![],
            waiting_log: ChangeLog::default(),
            given: None,
            left_schema,
            schema,
        })
    }

    /// Remembers what each left row gave. 0A000 if left rows cannot be told apart.
    pub fn with_retractions(mut self) -> Result<LookupOperator> {
        self.given = Some(Given::new(&self.left_schema, &self.schema)?);
        Ok(self)
    }

    fn take_right(&mut self, delta: &Delta) -> Result<()> {
        let (delta, _) = split_null_keys(delta, &self.right.key_columns, &self.null_equals_null)?;
        if delta.is_empty() {
            return Ok(());
        }
        let key: Vec<_> = self.right.key_columns.iter().map(|&column| delta.column(column).clone()).collect();
        let numbers = self.keys.intern(&key, delta.row_count())?;
        self.right.make_room(self.keys.capacity());
        self.right.record(&delta)?;
        self.right.add(&delta, &numbers, None)?;
        if delta.has_retractions() {
            self.forget_keys(numbers);
        }
        Ok(())
    }

    /// Keys without rows give their numbers back.
    fn forget_keys(&mut self, mut numbers: Vec<u32>) {
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|&number| self.right.is_empty(number));
        self.keys.remove(&numbers);
    }

    /// The rows' matches as they are now. All weights of `delta` are positive.
    fn look_up(&mut self, delta: &Delta, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let mut output = vec![];
        let (delta, keyless) = split_null_keys(delta, &self.left_keys, &self.null_equals_null)?;
        if let Some(keyless) = keyless.filter(|_| self.keeps_unmatched) {
            let all: Vec<u32> = (0..keyless.row_count() as u32).collect();
            self.put_unmatched(&keyless, &all, &mut output)?;
        }
        if delta.is_empty() {
            return Ok(output);
        }
        let key: Vec<_> = self.left_keys.iter().map(|&column| delta.column(column).clone()).collect();
        let numbers = self.keys.intern(&key, delta.row_count())?;
        self.right.make_room(self.keys.capacity());
        let mut is_matched = vec![false; delta.row_count()];
        let mut pairs = Pairs::default();
        for (row, &number) in numbers.iter().enumerate() {
            for (place, weight) in self.right.chain(number).filter(|(_, weight)| *weight > 0) {
                pairs.push(row as u32, place, delta.weight(row) * weight);
            }
            if pairs.len() >= PAIR_COUNT {
                self.put_pairs(&delta, &std::mem::take(&mut pairs), &mut is_matched, &mut output, context)?;
            }
        }
        self.put_pairs(&delta, &pairs, &mut is_matched, &mut output, context)?;
        if self.keeps_unmatched {
            let unmatched: Vec<u32> = (0..delta.row_count() as u32).filter(|&row| !is_matched[row as usize]).collect();
            self.put_unmatched(&delta, &unmatched, &mut output)?;
        }
        self.forget_keys(numbers);
        Ok(output)
    }

    /// Those of the pairs that the residual holds for.
    fn put_pairs(
        &self,
        delta: &Delta,
        pairs: &Pairs,
        is_matched: &mut [bool],
        output: &mut Output,
        context: &mut EpochContext,
    ) -> Result<()> {
        if pairs.len() == 0 {
            return Ok(());
        }
        let passing;
        let pairs = match &self.residual {
            None => pairs,
            Some(residual) => {
                passing = pairs.filter(&residual.mask(delta, 0, pairs, &self.right, context)?);
                &passing
            }
        };
        pairs.rows.iter().for_each(|&row| is_matched[row as usize] = true);
        if pairs.len() == 0 {
            return Ok(());
        }
        let columns = [take_columns(delta.batch(), &pairs.rows)?, self.right.gather(&pairs.places)?].concat();
        self.put(columns, pairs.weights.clone(), output)
    }

    /// Rows beside NULLs.
    fn put_unmatched(&self, delta: &Delta, rows: &[u32], output: &mut Output) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let padding = self.right.schema().fields().iter().map(|field| new_null_array(field.data_type(), rows.len()));
        let padding: Vec<ArrayRef> = padding.collect();
        let weights = rows.iter().map(|&row| delta.weight(row as usize)).collect();
        self.put([take_columns(delta.batch(), rows)?, padding].concat(), weights, output)
    }

    fn put(&self, columns: Vec<ArrayRef>, weights: Vec<i64>, output: &mut Output) -> Result<()> {
        let options = RecordBatchOptions::new().with_row_count(Some(weights.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let all_new = weights.iter().all(|&weight| weight == 1);
        output.push(if all_new { Delta::insert(batch) } else { Delta::new(batch, weights) });
        Ok(())
    }

    fn wait(&mut self, deltas: impl IntoIterator<Item = Delta>) {
        for delta in deltas.into_iter().filter(|delta| !delta.is_empty()) {
            self.waiting_log.push(&delta);
            self.waiting.push(delta);
        }
    }

    /// What left rows give that come, and take back that go.
    fn advance(&mut self, deltas: Vec<Delta>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let Some(mut given) = self.given.take() else {
            let outputs = deltas.iter().map(|delta| self.look_up(delta, context));
            return Ok(outputs.collect::<Result<Vec<_>>>()?.concat());
        };
        // A row that comes and goes in one step was never there.
        let delta = Delta::concat(&self.left_schema, &deltas)?.consolidate()?;
        let is_new: BooleanArray = (0..delta.row_count()).map(|row| Some(delta.weight(row) > 0)).collect();
        let (gone, new) = (delta.filter(&not(&is_new)?)?, delta.filter(&is_new)?);
        let mut output = vec![];
        if !gone.is_empty() {
            let (taken_back, early) = given.take_back(&gone)?;
            output.extend(taken_back);
            self.wait([early]);
        }
        if !new.is_empty() {
            let found = self.look_up(&new, context)?;
            given.remember(&new, &found)?;
            output.extend(found);
        }
        self.given = Some(given);
        Ok(output)
    }
}

impl Operator for LookupOperator {
    fn step(&mut self, mut inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        for delta in std::mem::take(&mut inputs[1]) {
            self.take_right(&delta)?;
        }
        self.right.compact()?;
        let left = std::mem::take(&mut inputs[0]);
        if context.is_catching_up {
            self.wait(left);
            return Ok(vec![]);
        }
        let mut deltas = std::mem::take(&mut self.waiting);
        if self.waiting_log.is_on() {
            deltas.iter().for_each(|delta| self.waiting_log.push(&delta.negate()));
        }
        deltas.extend(left);
        if deltas.is_empty() { Ok(vec![]) } else { self.advance(deltas, context) }
    }

    /// The end of catching up may come without rows.
    fn follows_time(&self) -> bool {
        true
    }

    fn state_size(&self) -> StateSize {
        let waiting = self.waiting.iter().map(|delta| delta.row_count()).sum::<usize>();
        let waiting_bytes = self.waiting.iter().map(|delta| delta.batch().get_array_memory_size()).sum::<usize>();
        let (given, given_bytes) =
            self.given.as_ref().map_or((0, 0), |given| (given.row_count(), given.memory_bytes()));
        let bytes = self.right.memory_bytes() + self.keys.memory_bytes() + given_bytes + waiting_bytes;
        StateSize { row_count: (self.right.row_count() + given + waiting) as u64, bytes: bytes as u64 }
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        Some(self)
    }
}

/// The right rows, the left rows that wait, and what left rows gave.
impl Durable for LookupOperator {
    fn parts(&self) -> Vec<Part> {
        let part = |schema: &SchemaRef, spread: Spread| Part {
            schema: schema.clone(),
            kind: PartKind::Sum,
            time_column: None,
            spread,
            key: vec![],
        };
        // Without keys, right rows are on every worker, and left rows where their hash says.
        let is_keyed = !self.left_keys.is_empty();
        let right = if is_keyed { Spread::By(self.right.key_columns.clone()) } else { Spread::Fixed };
        let left = if is_keyed { self.left_keys.clone() } else { (0..self.left_schema.fields().len()).collect() };
        let mut parts = vec![part(self.right.schema(), right), part(&self.left_schema, Spread::By(left.clone()))];
        parts.extend(self.given.as_ref().map(|given| part(given.rows().schema(), Spread::By(left))));
        parts
    }

    fn record(&mut self) {
        self.right.log.start();
        self.waiting_log.start();
        if let Some(given) = &mut self.given {
            given.rows_mut().log.start();
        }
    }

    fn take_changes(&mut self) -> Result<Vec<PartChange>> {
        let mut deltas = vec![self.right.log.take(), self.waiting_log.take()];
        deltas.extend(self.given.as_mut().map(|given| given.rows_mut().log.take()));
        Ok(deltas.into_iter().map(|deltas| PartChange { deltas, below: None }).collect())
    }

    fn restore(&mut self, parts: Vec<Vec<Delta>>, _: &mut EpochContext) -> Result<()> {
        let mut parts = parts.into_iter();
        for delta in parts.next().into_iter().flatten() {
            self.take_right(&delta)?;
        }
        self.waiting = parts.next().unwrap_or_default();
        match &mut self.given {
            Some(given) => given.restore(parts.next().unwrap_or_default()),
            None => Ok(()),
        }
    }
}
