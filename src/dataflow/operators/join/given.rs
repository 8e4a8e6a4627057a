//! What each left row of a lookup gave when it came, to be taken back when it goes.
//!
//! One side of rows, chained by the left row: for each step in which a left row came, one row that says how many copies of
//! it came then, and the rows that they gave, all together. Of equal left rows the one that came last goes first.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::max;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatchOptions;

use super::side::{Keeps, Side};
use crate::dataflow::key_index::KeyIndex;
use crate::error::Result;
use crate::types::Delta;

pub struct Given {
    /// Of whole left rows.
    left_rows: KeyIndex,
    left_width: usize,
    /// The output's columns, the number of the step, and whether it is a row of the output or the left row itself.
    rows: Side,
    output: SchemaRef,
    step: i64,
}

impl Given {
    /// An error if a type of the left input has no equality.
    pub fn new(left: &SchemaRef, output: &SchemaRef) -> Result<Given> {
        let mut fields: Vec<Arc<Field>> = output.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("step", DataType::Int64, false)));
        fields.push(Arc::new(Field::new("is_output", DataType::Boolean, false)));
        let types = left.fields().iter().map(|field| field.data_type().clone()).collect();
        let left_width = left.fields().len();
        let keeps = Keeps { rows: true, key_totals: false };
        let rows = Side::new(Arc::new(Schema::new(fields)), (0..left_width).collect(), keeps);
        Ok(Given { left_rows: KeyIndex::of_rows(types)?, left_width, rows, output: output.clone(), step: 0 })
    }

    /// Takes note of left rows, each named once, and of all that they gave.
    pub fn remember(&mut self, left: &Delta, outputs: &[Delta]) -> Result<()> {
        self.step += 1;
        let padding = self.output.fields().iter().skip(self.left_width);
        let padding = padding.map(|field| new_null_array(field.data_type(), left.row_count()));
        let columns = left.batch().columns().iter().cloned().chain(padding).collect();
        self.add(columns, left, false)?;
        outputs.iter().try_for_each(|delta| self.add(delta.batch().columns().to_vec(), delta, true))
    }

    fn add(&mut self, mut columns: Vec<ArrayRef>, delta: &Delta, is_output: bool) -> Result<()> {
        let row_count = delta.row_count();
        columns.push(Arc::new(Int64Array::from(vec![self.step; row_count])));
        columns.push(Arc::new(BooleanArray::from(vec![is_output; row_count])));
        let batch = RecordBatch::try_new(self.rows.schema().clone(), columns)?;
        let numbers = self.left_rows.intern(&batch.columns()[..self.left_width], row_count)?;
        self.rows.make_room(self.left_rows.capacity());
        let weights: Vec<i64> = (0..row_count).map(|row| delta.weight(row)).collect();
        let rows = Delta::new(batch, weights);
        self.rows.record(&rows)?;
        self.rows.add(&rows, &numbers, None)
    }

    /// What the left rows of negative weight, each named once, take back; and those of them that never came.
    pub fn take_back(&mut self, left: &Delta) -> Result<(Vec<Delta>, Delta)> {
        let numbers = self.left_rows.intern(left.batch().columns(), left.row_count())?;
        self.rows.make_room(self.left_rows.capacity());
        let places = |number: u32| self.rows.chain(number).map(|(place, _)| place);
        let candidates: Vec<u32> = numbers.iter().flat_map(|&number| places(number)).collect();
        let width = self.output.fields().len();
        let marks = self.rows.gather_columns(&[width, width + 1], &candidates)?;
        let (steps, is_output) = (marks[0].as_primitive::<Int64Type>(), marks[1].as_boolean());

        let mut gone = Gone::default();
        let mut missing = vec![0; left.row_count()];
        let mut first = 0;
        for (row, &number) in numbers.iter().enumerate() {
            let count = places(number).count();
            let mut own: Vec<usize> = (first..first + count).collect();
            first += count;
            own.sort_unstable_by_key(|&at| std::cmp::Reverse((steps.value(at), !is_output.value(at))));
            let mut wanted = -left.weight(row);
            // The left row comes first in its step.
            for of_step in own.chunk_by(|&a, &b| steps.value(a) == steps.value(b)) {
                let copies = self.rows.weight(candidates[of_step[0]]);
                let taken = wanted.min(copies);
                for &at in of_step.iter().filter(|_| taken > 0) {
                    let weight = self.rows.weight(candidates[at]);
                    gone.push(candidates[at], number, weight / copies * taken, is_output.value(at));
                }
                wanted -= taken;
            }
            missing[row] = wanted;
        }
        let output = self.forget(gone, numbers)?;
        let rest = UInt32Array::from_iter_values((0..left.row_count() as u32).filter(|&row| missing[row as usize] > 0));
        let weights: Vec<i64> = rest.values().iter().map(|&row| -missing[row as usize]).collect();
        Ok((output, Delta::new(left.take(&rest)?.into_batch(), weights)))
    }

    fn forget(&mut self, gone: Gone, mut numbers: Vec<u32>) -> Result<Vec<Delta>> {
        let columns = self.rows.gather(&gone.places)?;
        let options = RecordBatchOptions::new().with_row_count(Some(gone.places.len()));
        let batch = RecordBatch::try_new_with_options(self.rows.schema().clone(), columns, &options)?;
        let gone_rows = Delta::new(batch, gone.weights);
        self.rows.record(&gone_rows)?;
        self.rows.add(&gone_rows, &gone.numbers, None)?;
        self.rows.compact()?;
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|&number| self.rows.is_empty(number));
        self.left_rows.remove(&numbers);
        let shown = gone_rows.filter(&BooleanArray::from(gone.is_output))?;
        let (columns, _) = shown.batch().columns().split_at(self.output.fields().len());
        let options = RecordBatchOptions::new().with_row_count(Some(shown.row_count()));
        let batch = RecordBatch::try_new_with_options(self.output.clone(), columns.to_vec(), &options)?;
        Ok(vec![shown.with_batch(batch)])
    }

    /// Takes saved rows over.
    pub fn restore(&mut self, deltas: Vec<Delta>) -> Result<()> {
        for delta in deltas {
            let steps = delta.column(self.output.fields().len()).as_primitive::<Int64Type>();
            self.step = max(steps).unwrap_or(0).max(self.step);
            let numbers = self.left_rows.intern(&delta.batch().columns()[..self.left_width], delta.row_count())?;
            self.rows.make_room(self.left_rows.capacity());
            self.rows.add(&delta, &numbers, None)?;
        }
        Ok(())
    }

    pub fn rows(&self) -> &Side {
        &self.rows
    }

    pub fn rows_mut(&mut self) -> &mut Side {
        &mut self.rows
    }

    pub fn row_count(&self) -> usize {
        self.rows.row_count()
    }

    pub fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes() + self.left_rows.memory_bytes()
    }
}

/// Rows to be taken out.
#[derive(Default)]
struct Gone {
    places: Vec<u32>,
    numbers: Vec<u32>,
    weights: Vec<i64>,
    is_output: Vec<bool>,
}

impl Gone {
    fn push(&mut self, place: u32, number: u32, weight: i64, is_output: bool) {
        self.places.push(place);
        self.numbers.push(number);
        self.weights.push(-weight);
        self.is_output.push(is_output);
    }
}
