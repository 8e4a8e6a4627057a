//! Δ(A ⋈ B) = ΔA ⋈ B + A' ⋈ ΔB with A' = A + ΔA: each side keeps its rows, chained by key.
//!
//! Both sides share one index from key to number; a side is a [`RowStore`] and, for each key number, a chain of row
//! numbers. A delta row walks the other side's chain; the matches of a whole delta are gathered column by column. A
//! retraction finds its row in its own chain and takes weight off it. NULL keys match nothing and are not kept.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;

use super::FilterOperator;
use crate::dataflow::key_index::KeyIndex;
use crate::dataflow::row_store::RowStore;
use crate::dataflow::{EpochContext, Operator, StateSize};
use crate::error::Result;
use crate::types::Delta;

pub struct JoinOperator {
    keys: KeyIndex,
    left: Side,
    right: Side,
    /// The left input's columns, then the right's.
    schema: SchemaRef,
    residual: Option<FilterOperator>,
}

/// The rows of one input.
struct Side {
    key_columns: Vec<usize>,
    rows: RowStore,
    /// By row number: how often the row is there. Zero: taken back, unlinked. Negative: taken back before it came.
    weights: Vec<i64>,
    /// By row number: the next row of the same key.
    next: Vec<u32>,
    /// By key number: the first row.
    heads: Vec<u32>,
    dead_row_count: usize,
}

const END: u32 = u32::MAX;

/// Matches are put out in batches of about this many rows.
const OUTPUT_ROW_COUNT: usize = 64 * 1024;

impl JoinOperator {
    /// `schemas` are the inputs'; the key columns have equal types pair by pair.
    pub fn new(
        schemas: [SchemaRef; 2],
        left_keys: Vec<usize>,
        right_keys: Vec<usize>,
        residual: Option<Arc<dyn PhysicalExpr>>,
        schema: SchemaRef,
    ) -> Result<JoinOperator> {
        let types = left_keys.iter().map(|&column| schemas[0].field(column).data_type().clone()).collect();
        let [left, right] = schemas;
        Ok(JoinOperator {
            keys: KeyIndex::new(types)?,
            left: Side::new(left, left_keys),
            right: Side::new(right, right_keys),
            schema,
            residual: residual.map(FilterOperator::new),
        })
    }

    /// Joins `delta` with the other side as it is, then adds it to its own.
    fn advance(&mut self, delta: &Delta, is_left: bool, output: &mut Vec<Delta>) -> Result<()> {
        let (own, other) = if is_left { (&mut self.left, &mut self.right) } else { (&mut self.right, &mut self.left) };
        let delta = &without_null_keys(delta, &own.key_columns)?;
        if delta.is_empty() {
            return Ok(());
        }
        let key: Vec<_> = own.key_columns.iter().map(|&column| delta.column(column).clone()).collect();
        let numbers = self.keys.intern(&key, delta.row_count())?;
        own.heads.resize(self.keys.capacity(), END);
        other.heads.resize(self.keys.capacity(), END);

        let (mut rows, mut matches, mut weights) = (vec![], vec![], vec![]);
        for (row, &number) in numbers.iter().enumerate() {
            let mut place = other.heads[number as usize];
            while place != END {
                rows.push(row as u32);
                matches.push(place);
                weights.push(delta.weight(row) * other.weights[place as usize]);
                place = other.next[place as usize];
            }
            if rows.len() >= OUTPUT_ROW_COUNT {
                output.push(join_rows(&self.schema, delta, &rows, other, &matches, &weights, is_left)?);
                (rows, matches, weights) = (vec![], vec![], vec![]);
            }
        }
        if !rows.is_empty() {
            output.push(join_rows(&self.schema, delta, &rows, other, &matches, &weights, is_left)?);
        }
        own.add(delta, &numbers)?;
        if delta.has_retractions() {
            self.forget_keys(numbers);
        }
        Ok(())
    }

    /// Keys without rows on either side give their numbers back.
    fn forget_keys(&mut self, mut numbers: Vec<u32>) {
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|&n| self.left.heads[n as usize] == END && self.right.heads[n as usize] == END);
        self.keys.remove(&numbers);
    }
}

impl Operator for JoinOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        let mut output = vec![];
        for (side, deltas) in inputs.into_iter().enumerate() {
            for delta in deltas {
                self.advance(&delta, side == 0, &mut output)?;
            }
        }
        self.left.compact()?;
        self.right.compact()?;
        match &mut self.residual {
            Some(residual) => residual.step(vec![output], context),
            None => Ok(output),
        }
    }

    fn state_size(&self) -> StateSize {
        let sides = [&self.left, &self.right];
        StateSize {
            row_count: sides.iter().map(|side| (side.weights.len() - side.dead_row_count) as u64).sum(),
            bytes: self.keys.memory_bytes() as u64 + sides.iter().map(|side| side.memory_bytes() as u64).sum::<u64>(),
        }
    }
}

impl Side {
    fn new(schema: SchemaRef, key_columns: Vec<usize>) -> Side {
        Side {
            key_columns,
            rows: RowStore::new(schema),
            weights: vec![],
            next: vec![],
            heads: vec![],
            dead_row_count: 0,
        }
    }

    fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes() + self.weights.len() * 8 + self.next.len() * 4 + self.heads.len() * 4
    }

    /// `numbers` are the key numbers of the delta's rows.
    fn add(&mut self, delta: &Delta, numbers: &[u32]) -> Result<()> {
        if !delta.has_retractions() {
            let first = self.rows.append(delta.batch().clone())?;
            for (row, &number) in numbers.iter().enumerate() {
                self.link(first + row as u32, number, delta.weight(row));
            }
            return Ok(());
        }
        // Insertions first, so that a row that comes and goes within one delta is found.
        let (mut inserted, mut rest): (Vec<u32>, Vec<u32>) = (vec![], vec![]);
        (0..delta.row_count() as u32).for_each(|row| match delta.weight(row as usize) {
            0 => {}
            weight if weight > 0 => inserted.push(row),
            _ => rest.push(row),
        });
        self.append_rows(delta, numbers, &inserted)?;
        let mut unmatched = vec![];
        let mut matcher = self.rows.matcher(delta.batch());
        for row in rest {
            let number = numbers[row as usize];
            let mut remaining = delta.weight(row as usize);
            let (mut previous, mut place) = (END, self.heads[number as usize]);
            while place != END && remaining < 0 {
                let following = self.next[place as usize];
                if self.weights[place as usize] > 0 && matcher.equal(row as usize, place)? {
                    let taken = self.weights[place as usize].min(-remaining);
                    self.weights[place as usize] -= taken;
                    remaining += taken;
                    if self.weights[place as usize] == 0 {
                        self.dead_row_count += 1;
                        match previous {
                            END => self.heads[number as usize] = following,
                            previous => self.next[previous as usize] = following,
                        }
                        place = following;
                        continue;
                    }
                }
                previous = place;
                place = following;
            }
            if remaining < 0 {
                unmatched.push((row, remaining));
            }
        }
        // Backfill may take back what it has yet to bring: keep the debt as a row of negative weight.
        let rows: Vec<u32> = unmatched.iter().map(|&(row, _)| row).collect();
        let weights: Vec<i64> = unmatched.iter().map(|&(_, weight)| weight).collect();
        let debt = Delta::new(delta.take(&UInt32Array::from(rows.clone()))?.into_batch(), weights);
        let debt_numbers: Vec<u32> = rows.iter().map(|&row| numbers[row as usize]).collect();
        let all: Vec<u32> = (0..rows.len() as u32).collect();
        self.append_rows(&debt, &debt_numbers, &all)
    }

    fn append_rows(&mut self, delta: &Delta, numbers: &[u32], rows: &[u32]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let chosen = delta.take(&UInt32Array::from(rows.to_vec()))?;
        let first = self.rows.append(chosen.into_batch())?;
        for (place, &row) in rows.iter().enumerate() {
            self.link(first + place as u32, numbers[row as usize], delta.weight(row as usize));
        }
        Ok(())
    }

    /// Puts the newest row at the head of its chain.
    fn link(&mut self, row: u32, number: u32, weight: i64) {
        debug_assert_eq!(row as usize, self.weights.len(), "rows are linked in the order of their numbers");
        self.weights.push(weight);
        self.next.push(self.heads[number as usize]);
        self.heads[number as usize] = row;
    }

    /// Rebuilds the rows once most of them are dead. Chains keep their keys' numbers.
    fn compact(&mut self) -> Result<()> {
        const DEAD_ROW_COUNT_MIN: usize = 4096;
        if self.dead_row_count < DEAD_ROW_COUNT_MIN || self.dead_row_count * 2 < self.weights.len() {
            return Ok(());
        }
        let live: Vec<u32> = (0..self.weights.len() as u32).filter(|&row| self.weights[row as usize] != 0).collect();
        let mut moved = vec![END; self.weights.len()];
        for (place, &row) in live.iter().enumerate() {
            moved[row as usize] = place as u32;
        }
        let target = |row: u32| if row == END { END } else { moved[row as usize] };
        let next = live.iter().map(|&row| target(self.next[row as usize])).collect();
        let weights = live.iter().map(|&row| self.weights[row as usize]).collect();
        let columns = self.rows.gather(&live)?;
        let mut rows = RowStore::new(self.rows.schema().clone());
        rows.append(RecordBatch::try_new(self.rows.schema().clone(), columns)?)?;
        self.heads.iter_mut().for_each(|head| *head = target(*head));
        (self.rows, self.next, self.weights, self.dead_row_count) = (rows, next, weights, 0);
        Ok(())
    }
}

/// The joined rows: `rows` of the delta beside `matches` of the other side.
fn join_rows(
    schema: &SchemaRef,
    delta: &Delta,
    rows: &[u32],
    other: &Side,
    matches: &[u32],
    weights: &[i64],
    is_left: bool,
) -> Result<Delta> {
    let rows = UInt32Array::from(rows.to_vec());
    let own: Vec<_> = delta.batch().columns().iter().map(|c| take(c, &rows, None)).collect::<Result<_, _>>()?;
    let theirs = other.rows.gather(matches)?;
    let columns = if is_left { [own, theirs].concat() } else { [theirs, own].concat() };
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    Ok(if weights.iter().all(|&w| w == 1) { Delta::insert(batch) } else { Delta::new(batch, weights.to_vec()) })
}

fn without_null_keys(delta: &Delta, key_columns: &[usize]) -> Result<Delta> {
    let nullable = key_columns.iter().filter(|&&column| delta.column(column).null_count() > 0);
    let mut delta = delta.clone();
    for &column in nullable {
        let present: BooleanArray = arrow::compute::is_not_null(delta.column(column))?;
        delta = delta.filter(&present)?;
    }
    Ok(delta)
}
