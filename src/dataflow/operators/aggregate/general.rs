//! Any aggregate function: each group keeps its rows with their weights, in order; a group that changes is evaluated
//! anew by the function itself.
//!
//! Rows are kept as arrow rows of (ORDER BY columns, arguments), so that byte order is the order in which the function
//! sees them. Rows that ORDER BY does not tell apart follow each other by value: the result is a function of the multiset,
//! whatever way its rows came. A change costs as much as its group is long; but of `first_value` and `last_value` over rows that
//! are never taken back, the one row that counts is all that is kept.

use std::any::Any;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array, new_empty_array, new_null_array};
use arrow::compute::{SortOptions, cast, concat, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{Column, Literal};

use super::{Accumulator, Evaluated};
use crate::error::{Error, Result};
use crate::plan::{AggregateCall, End};

/// How arguments that no ORDER BY names are sorted: as Postgres sorts by default.
const BY_VALUE: SortOptions = SortOptions { descending: false, nulls_first: false };

/// Rows that are handed to the function at a time.
const CHUNK_ROW_COUNT: usize = 8192;

pub struct General {
    function: Arc<AggregateFunctionExpr>,
    parameters: Vec<Parameter>,
    converter: RowConverter,
    /// For each column of a kept row: which of the columns given to `update` it is.
    sources: Vec<usize>,
    distinct: bool,
    /// The only row of a group that counts, now and ever.
    only: Option<End>,
    /// Rows whose first argument is NULL do not count.
    ignores_nulls: bool,
    data_type: DataType,
    groups: Vec<BTreeMap<Box<[u8]>, i64>>,
    row_count: usize,
    row_bytes: usize,
}

/// What the function is given.
enum Parameter {
    /// A column of the kept row.
    Column(usize),
    Constant(ScalarValue),
}

impl General {
    pub fn new(
        function: Arc<AggregateFunctionExpr>,
        call: &AggregateCall,
        input: &SchemaRef,
        append_only: bool,
    ) -> Result<General> {
        let arguments = call.arguments.len();
        let given: Vec<usize> = call.arguments.iter().copied().chain(call.order.iter().map(|o| o.column)).collect();
        let order = call.order.iter().enumerate().map(|(index, order)| (arguments + index, order.options));
        // A column is kept once, where it decides most.
        let mut kept: Vec<(usize, SortOptions)> = vec![];
        for (source, options) in order.chain((0..arguments).map(|index| (index, BY_VALUE))) {
            if !kept.iter().any(|(known, _)| given[*known] == given[source]) {
                kept.push((source, options));
            }
        }
        let fields = kept.iter().map(|(source, options)| {
            let data_type = input.field(given[*source]).data_type().clone();
            SortField::new_with_options(data_type, *options)
        });
        let converter = RowConverter::new(fields.collect())?;
        let parameters = function
            .expressions()
            .iter()
            .map(|expr| {
                let expr: &dyn Any = expr.as_ref();
                if let Some(constant) = expr.downcast_ref::<Literal>() {
                    return Ok(Parameter::Constant(constant.value().clone()));
                }
                let column = expr.downcast_ref::<Column>().and_then(|c| call.arguments.get(c.index()));
                let place = column.and_then(|c| kept.iter().position(|(source, _)| given[*source] == *c));
                place.map(Parameter::Column).ok_or_else(|| Error::internal("an aggregate's parameter is no column"))
            })
            .collect::<Result<_>>()?;
        let only = call.kind.end().filter(|_| append_only);
        Ok(General {
            only,
            ignores_nulls: only.is_some() && function.ignore_nulls() && !call.arguments.is_empty(),
            function,
            parameters,
            converter,
            sources: kept.into_iter().map(|(source, _)| source).collect(),
            distinct: call.distinct,
            data_type: call.data_type.clone(),
            groups: vec![],
            row_count: 0,
            row_bytes: 0,
        })
    }

    /// Lets go of the rows that no other can make count any more.
    fn keep_only(&mut self, group: u32, end: End) {
        let rows = &mut self.groups[group as usize];
        while rows.len() > 1 {
            let gone = match end {
                End::First => rows.pop_last(),
                End::Last => rows.pop_first(),
            };
            let Some((row, _)) = gone else { break };
            self.row_count -= 1;
            self.row_bytes -= row.len();
        }
    }

    /// The function's value over one group's rows.
    fn value(&self, rows: &BTreeMap<Box<[u8]>, i64>) -> Result<ArrayRef> {
        let mut accumulator = self.function.create_accumulator()?;
        let parser = self.converter.parser();
        // Rows taken back before they came do not count.
        let mut present = rows.iter().filter(|(_, weight)| **weight > 0);
        let times_of = |weight: i64| if self.distinct { 1 } else { weight };
        let mut next = present.next().map(|(row, weight)| (row, times_of(*weight)));
        while next.is_some() {
            let (mut chunk, mut places, mut repeated) = (vec![], vec![], false);
            while let Some((row, times)) = next
                && places.len() < CHUNK_ROW_COUNT
            {
                let fitting = times.min((CHUNK_ROW_COUNT - places.len()) as i64);
                repeated |= fitting > 1;
                places.resize(places.len() + fitting as usize, chunk.len() as u32);
                chunk.push(parser.parse(row));
                next = match times - fitting {
                    0 => present.next().map(|(row, weight)| (row, times_of(*weight))),
                    rest => Some((row, rest)),
                };
            }
            let mut columns = self.converter.convert_rows(chunk)?;
            if repeated {
                let places = UInt32Array::from(places.clone());
                columns = columns.iter().map(|column| take(column, &places, None)).collect::<Result<_, _>>()?;
            }
            let values = self.parameters.iter().map(|parameter| match parameter {
                Parameter::Column(column) => Ok(columns[*column].clone()),
                Parameter::Constant(value) => Ok(value.to_array_of_size(places.len())?),
            });
            accumulator.update_batch(&values.collect::<Result<Vec<_>>>()?)?;
        }
        let value = accumulator.evaluate()?.to_array()?;
        if *value.data_type() == self.data_type { Ok(value) } else { Ok(cast(&value, &self.data_type)?) }
    }
}

impl Accumulator for General {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn resize(&mut self, group_count: usize) {
        self.groups.resize_with(group_count, BTreeMap::new);
    }

    fn update(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[i64]>) -> Result<()> {
        let columns: Vec<ArrayRef> = self.sources.iter().map(|&source| arguments[source].clone()).collect();
        let rows = self.converter.convert_columns(&columns)?;
        for (row, &group) in groups.iter().enumerate() {
            let weight = weights.map_or(1, |w| w[row]);
            if weight == 0 || (self.ignores_nulls && arguments[0].is_null(row)) {
                continue;
            }
            let data = rows.row(row);
            match self.groups[group as usize].entry(data.data().into()) {
                Entry::Vacant(vacant) => {
                    self.row_count += 1;
                    self.row_bytes += data.data().len();
                    vacant.insert(weight);
                }
                Entry::Occupied(mut found) => {
                    *found.get_mut() += weight;
                    if *found.get() == 0 {
                        self.row_count -= 1;
                        self.row_bytes -= data.data().len();
                        found.remove();
                    }
                }
            }
            if let Some(end) = self.only {
                self.keep_only(group, end);
            }
        }
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<Evaluated> {
        let (mut values, mut failed) = (Vec::with_capacity(groups.len()), vec![]);
        for (place, &group) in groups.iter().enumerate() {
            values.push(self.value(&self.groups[group as usize]).unwrap_or_else(|error| {
                failed.push((place, error));
                new_null_array(&self.data_type, 1)
            }));
        }
        let arrays: Vec<&dyn Array> = values.iter().map(|value| value.as_ref()).collect();
        let values = if arrays.is_empty() { new_empty_array(&self.data_type) } else { concat(&arrays)? };
        Ok(Evaluated { values, failed })
    }

    fn is_empty(&self, group: u32) -> bool {
        self.groups[group as usize].is_empty()
    }

    fn clear(&mut self, group: u32) {
        let rows = std::mem::take(&mut self.groups[group as usize]);
        self.row_count -= rows.len();
        self.row_bytes -= rows.keys().map(|row| row.len()).sum::<usize>();
    }

    fn memory_bytes(&self) -> usize {
        // A fat pointer and a weight for each row, in tree nodes that are about two thirds full.
        self.groups.len() * size_of::<BTreeMap<Box<[u8]>, i64>>() + self.row_count * 36 + self.row_bytes
    }

    fn row_count(&self) -> usize {
        self.row_count
    }
}
