//! Two-phase aggregation: γ(ΔA) = γ(⊎ᵢ γᵢ(ΔAᵢ)). Where rows would change worker for their group, each worker first adds up what it
//! has of a delta, and one row for each group travels: the group's key, the sum of its rows' weights, and the state that
//! they make of each call, to be merged on the group's worker.
//!
//! Nothing is kept between steps, so it does not matter where a row's retraction comes by. It pays where a delta has many rows
//! of few groups; other deltas go on as they are. What a delta is, is told by its columns: one of sums has those of the rows,
//! NULL but for the keys, and behind them its own.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::{Accumulator, accumulator, update};
use crate::dataflow::key_index::KeyIndex;
use crate::dataflow::operators::only;
use crate::dataflow::{Durable, EpochContext, Operator};
use crate::error::Result;
use crate::plan::AggregateCall;
use crate::types::Delta;

/// Deltas of fewer rows are not worth it.
const ROW_COUNT_MIN: usize = 256;
/// How many rows a group must have at least, on average.
const GROUP_ROW_COUNT_MIN: usize = 4;
/// So many rows are looked at first.
const SAMPLE_ROW_COUNT: usize = 512;

pub struct CombineOperator {
    keys: Vec<usize>,
    calls: Vec<AggregateCall>,
    accumulators: Vec<Box<dyn Accumulator>>,
    key_types: Vec<DataType>,
    schema: SchemaRef,
}

/// True if the calls' states can be merged.
pub fn combines(calls: &[AggregateCall], append_only: bool) -> bool {
    !calls.is_empty() && calls.iter().all(|call| call.merges(append_only))
}

impl CombineOperator {
    /// For an aggregate whose calls can be [merged](combines).
    pub fn new(
        input: &SchemaRef,
        keys: Vec<usize>,
        calls: Vec<AggregateCall>,
        append_only: bool,
    ) -> Result<CombineOperator> {
        let accumulators =
            calls.iter().map(|call| accumulator(call, input, append_only)).collect::<Result<Vec<_>>>()?;
        let mut fields: Vec<Arc<Field>> = input.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("weight", DataType::Int64, false)));
        let states = accumulators.iter().enumerate();
        fields.extend(states.map(|(number, accumulator)| {
            let saved = accumulator.saved_type().unwrap_or(DataType::Null);
            Arc::new(Field::new(format!("state{number}"), saved, true))
        }));
        let key_types = keys.iter().map(|&key| input.field(key).data_type().clone()).collect();
        Ok(CombineOperator { keys, calls, accumulators, key_types, schema: Arc::new(Schema::new(fields)) })
    }

    /// The groups of a delta, numbered from 0, and those of its rows.
    fn groups(&self, delta: &Delta) -> Result<(KeyIndex, Vec<u32>)> {
        let mut index = KeyIndex::new(self.key_types.clone())?;
        let columns: Vec<ArrayRef> = self.keys.iter().map(|&key| delta.column(key).clone()).collect();
        let groups = index.intern(&columns, delta.row_count())?;
        Ok((index, groups))
    }

    fn pays(group_count: usize, row_count: usize) -> bool {
        group_count * GROUP_ROW_COUNT_MIN <= row_count
    }

    /// The delta's sums, or the delta.
    fn combine(&mut self, delta: Delta) -> Result<Delta> {
        let row_count = delta.row_count();
        if row_count < ROW_COUNT_MIN {
            return Ok(delta);
        }
        if !self.keys.is_empty() && row_count > SAMPLE_ROW_COUNT {
            let (sample, _) = self.groups(&delta.slice(0, SAMPLE_ROW_COUNT))?;
            if !Self::pays(sample.len(), SAMPLE_ROW_COUNT) {
                return Ok(delta);
            }
        }
        let (index, groups) = self.groups(&delta)?;
        let group_count = index.len();
        if !Self::pays(group_count, row_count) {
            return Ok(delta);
        }
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.resize(group_count));
        update(&self.calls, &mut self.accumulators, &delta, &groups, None)?;
        let mut weights = vec![0; group_count];
        for (row, &group) in groups.iter().enumerate() {
            weights[group as usize] += delta.weight(row);
        }
        let all: Vec<u32> = (0..group_count as u32).collect();
        let mut columns: Vec<ArrayRef> =
            delta.batch().columns().iter().map(|column| new_null_array(column.data_type(), group_count)).collect();
        for (&key, column) in self.keys.iter().zip(index.columns(&all)?) {
            columns[key] = column;
        }
        columns.push(Arc::new(Int64Array::from(weights)));
        for accumulator in &mut self.accumulators {
            columns.push(accumulator.save(&all)?);
            accumulator.clear_all(&all)?;
        }
        Ok(Delta::insert(RecordBatch::try_new(self.schema.clone(), columns)?))
    }
}

impl Operator for CombineOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, _: &mut EpochContext) -> Result<Vec<Delta>> {
        only(inputs).into_iter().map(|delta| self.combine(delta)).collect()
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        None
    }
}

/// Sums of some groups: their weights and their states, one column for each call. `None`: it is a delta of rows, which have
/// `width` columns.
pub(super) fn sums(delta: &Delta, width: usize) -> Option<(&[i64], &[ArrayRef])> {
    let (weights, states) = delta.batch().columns().get(width..)?.split_first()?;
    Some((weights.as_primitive::<Int64Type>().values(), states))
}
