//! ΔU(A) = U(ΔA): a row comes out once for each position of its lists; linear, keeps nothing.
//!
//! Several lists go side by side to the end of the longest; a shorter one is NULL from its end on, as in Postgres'
//! `unnest(a, b)`. A row whose lists are all empty or NULL falls out, unless it is kept with NULLs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{cast, nullif, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatchOptions;

use super::only;
use crate::dataflow::{Durable, EpochContext, Operator};
use crate::error::{Error, Result};
use crate::plan::{EmptyLists, UnnestColumn};
use crate::types::Delta;

/// Rows that leave in one delta: a long list must not make a batch of any size.
const ROW_COUNT_MAX: usize = 1 << 16;

pub struct UnnestOperator {
    columns: Vec<UnnestColumn>,
    /// Input columns that hold lists, ascending, each once.
    lists: Vec<usize>,
    empty: EmptyLists,
    schema: SchemaRef,
}

impl UnnestOperator {
    /// 0A000 if a list is of a kind that only ad-hoc queries know.
    pub fn new(
        input: &SchemaRef,
        columns: Vec<UnnestColumn>,
        empty: EmptyLists,
        schema: SchemaRef,
    ) -> Result<UnnestOperator> {
        assert_eq!(columns.len(), schema.fields().len(), "one field for each column");
        let element = |column: &UnnestColumn| match column {
            UnnestColumn::Element(list) => Some(*list),
            _ => None,
        };
        let mut lists: Vec<usize> = columns.iter().filter_map(element).collect();
        lists.sort_unstable();
        lists.dedup();
        for &list in &lists {
            let data_type = input.field(list).data_type();
            let known = matches!(
                data_type,
                DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) | DataType::Null
            );
            if !known {
                return Err(Error::unsupported(format!("unnest of {data_type} in a maintained view"), "take an array"));
            }
        }
        Ok(UnnestOperator { columns, lists, empty, schema })
    }

    fn expand(&self, delta: &Delta, output: &mut Vec<Delta>) -> Result<()> {
        let lists: Vec<ListArray> =
            self.lists.iter().map(|&column| as_list(delta.column(column))).collect::<Result<_>>()?;
        let mut positions = Positions::new(lists.len());
        for row in 0..delta.row_count() {
            let length = self.length(&lists, row);
            let mut start = 0;
            while start < length {
                let end = length.min(start + ROW_COUNT_MAX - positions.rows.len());
                positions.append(&lists, row, start, end);
                start = end;
                if positions.rows.len() == ROW_COUNT_MAX {
                    output.push(self.emit(
                        delta,
                        &lists,
                        std::mem::replace(&mut positions, Positions::new(lists.len())),
                    )?);
                }
            }
        }
        if !positions.rows.is_empty() {
            output.push(self.emit(delta, &lists, positions)?);
        }
        Ok(())
    }

    /// How many times the row comes out.
    fn length(&self, lists: &[ListArray], row: usize) -> usize {
        // Only records are taken apart: every row comes out once.
        if lists.is_empty() {
            return 1;
        }
        let longest = lists.iter().map(|list| length(list, row)).max().unwrap_or(0);
        let kept = match self.empty {
            EmptyLists::Drop => false,
            EmptyLists::KeepNull => lists.iter().any(|list| list.is_null(row)),
            EmptyLists::Keep => true,
        };
        if kept { longest.max(1) } else { longest }
    }

    fn emit(&self, delta: &Delta, lists: &[ListArray], positions: Positions) -> Result<Delta> {
        let Positions { rows, elements } = positions;
        let row_count = rows.len();
        let weights = delta.weights().map(|weights| rows.iter().map(|&row| weights[row as usize]).collect::<Vec<_>>());
        let rows = UInt32Array::from(rows);
        let elements: Vec<UInt32Array> = elements.into_iter().map(UInt32Array::from).collect();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter().zip(self.schema.fields()) {
            let array = match *column {
                UnnestColumn::Copy(column) => take(delta.column(column), &rows, None)?,
                UnnestColumn::Element(column) => {
                    let at = self.lists.binary_search(&column).expect("every unnested column is among the lists");
                    take(lists[at].values(), &elements[at], None)?
                }
                UnnestColumn::Field(column, field) => take(&part(delta.column(column), field)?, &rows, None)?,
            };
            let fits = array.data_type() == field.data_type();
            arrays.push(match array.data_type() {
                DataType::Null => new_null_array(field.data_type(), row_count),
                _ if fits => array,
                _ => cast(&array, field.data_type())?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(row_count));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)?;
        Ok(match weights {
            Some(weights) => Delta::new(batch, weights),
            None => Delta::insert(batch),
        })
    }
}

impl Operator for UnnestOperator {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, _: &mut EpochContext) -> Result<Vec<Delta>> {
        let mut output = vec![];
        for delta in only(inputs) {
            self.expand(&delta, &mut output)?;
        }
        Ok(output)
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        None
    }
}

/// Which row and which element of each list an output row is made of.
struct Positions {
    rows: Vec<u32>,
    /// By list; `None` past its end.
    elements: Vec<Vec<Option<u32>>>,
}

impl Positions {
    fn new(list_count: usize) -> Positions {
        Positions { rows: vec![], elements: vec![vec![]; list_count] }
    }

    /// Positions `[start, end)` of the row's lists.
    fn append(&mut self, lists: &[ListArray], row: usize, start: usize, end: usize) {
        self.rows.resize(self.rows.len() + end - start, row as u32);
        for (list, elements) in lists.iter().zip(&mut self.elements) {
            let first = list.value_offsets()[row] as usize;
            let length = length(list, row);
            elements.extend((start..end).map(|at| (at < length).then_some((first + at) as u32)));
        }
    }
}

fn length(list: &ListArray, row: usize) -> usize {
    if list.is_null(row) { 0 } else { list.value_length(row) as usize }
}

/// `unnest(NULL)` has a column of no type.
fn as_list(array: &ArrayRef) -> Result<ListArray> {
    let item = match array.data_type() {
        DataType::List(_) => return Ok(array.as_list::<i32>().clone()),
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item.clone(),
        _ => Arc::new(arrow::datatypes::Field::new("item", DataType::Null, true)),
    };
    Ok(cast(array, &DataType::List(item))?.as_list::<i32>().clone())
}

/// A field of a record, NULL where the record is.
fn part(record: &ArrayRef, field: usize) -> Result<ArrayRef> {
    let record = record.as_struct();
    let column = record.column(field);
    match record.nulls() {
        None => Ok(column.clone()),
        Some(_) => Ok(nullif(column, &arrow::compute::is_null(record)?)?),
    }
}

#[cfg(test)]
mod tests;
