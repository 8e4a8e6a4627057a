//! min and max. Over an append-only input the best value so far is enough; otherwise each group keeps its values with
//! their weights, in order, so that the next best is there when the best is taken back.
//!
//! Values are kept as machine words where the type's order is that of a word (floats through their total order, with
//! NaN greatest), else as arrow rows, whose byte order is the value order.

use std::any::Any;
use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::row::{RowConverter, SortField};

use super::{Accumulator, Evaluated, same};
use crate::dataflow::key_index::is_word;
use crate::error::Result;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Least,
    Greatest,
}

pub fn extreme(data_type: &DataType, side: Side, append_only: bool) -> Result<Box<dyn Accumulator>> {
    if is_word(data_type) || matches!(data_type, DataType::Float32 | DataType::Float64) {
        return Ok(keeper(Words { data_type: data_type.clone() }, side, append_only));
    }
    let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
    Ok(keeper(Bytes { converter, data_type: data_type.clone() }, side, append_only))
}

fn keeper<C: Codec + 'static>(codec: C, side: Side, append_only: bool) -> Box<dyn Accumulator> {
    if append_only {
        Box::new(Best { codec, side, best: vec![] })
    } else {
        Box::new(Ordered { codec, side, values: vec![], value_count: 0 })
    }
}

/// Values as something ordered.
trait Codec: Send {
    type Value: Ord + Clone + Send;
    fn encode(&self, column: &ArrayRef) -> Result<Vec<Self::Value>>;
    fn decode(&self, values: Vec<Option<Self::Value>>) -> Result<ArrayRef>;
    fn value_bytes(&self) -> usize;
    fn data_type(&self) -> &DataType;
}

struct Words {
    data_type: DataType,
}

/// Maps the bits of a float to an integer of the same order, and back.
fn total_order(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

impl Codec for Words {
    type Value = i64;

    fn encode(&self, column: &ArrayRef) -> Result<Vec<i64>> {
        if self.data_type.is_floating() {
            let floats = cast(column, &DataType::Float64)?;
            let canonical = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
            let words = floats.as_primitive::<Float64Type>().values().iter();
            return Ok(words.map(|&value| total_order(canonical(value).to_bits() as i64)).collect());
        }
        Ok(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().values().to_vec())
    }

    fn decode(&self, values: Vec<Option<i64>>) -> Result<ArrayRef> {
        if self.data_type.is_floating() {
            let floats: Float64Array =
                values.into_iter().map(|word| Some(f64::from_bits(total_order(word?) as u64))).collect();
            return Ok(cast(&floats, &self.data_type)?);
        }
        Ok(cast(&Int64Array::from(values), &self.data_type)?)
    }

    fn value_bytes(&self) -> usize {
        size_of::<i64>()
    }

    fn data_type(&self) -> &DataType {
        &self.data_type
    }
}

struct Bytes {
    converter: RowConverter,
    data_type: DataType,
}

impl Codec for Bytes {
    type Value = Box<[u8]>;

    fn encode(&self, column: &ArrayRef) -> Result<Vec<Box<[u8]>>> {
        let rows = self.converter.convert_columns(std::slice::from_ref(column))?;
        Ok(rows.iter().map(|row| row.data().into()).collect())
    }

    fn decode(&self, values: Vec<Option<Box<[u8]>>>) -> Result<ArrayRef> {
        let parser = self.converter.parser();
        // A missing value is the row that encodes NULL.
        let null = self.converter.convert_columns(&[arrow::array::new_null_array(&self.data_type, 1)])?;
        let null: Box<[u8]> = null.row(0).data().into();
        let rows = values.iter().map(|value| parser.parse(value.as_deref().unwrap_or(&null)));
        let mut columns = self.converter.convert_rows(rows)?;
        Ok(columns.remove(0))
    }

    fn value_bytes(&self) -> usize {
        32
    }

    fn data_type(&self) -> &DataType {
        &self.data_type
    }
}

/// Append-only: the best value of each group.
struct Best<C: Codec> {
    codec: C,
    side: Side,
    best: Vec<Option<C::Value>>,
}

impl<C: Codec> Best<C> {
    fn see(&mut self, group: u32, value: C::Value) {
        let best = &mut self.best[group as usize];
        let better = match (&*best, self.side) {
            (None, _) => true,
            (Some(best), Side::Least) => value < *best,
            (Some(best), Side::Greatest) => value > *best,
        };
        if better {
            *best = Some(value);
        }
    }
}

impl<C: Codec + 'static> Accumulator for Best<C> {
    fn merge_from(&mut self, into: u32, from: &dyn Accumulator, group: u32) {
        if let Some(value) = &same::<Best<C>>(from).best[group as usize] {
            self.see(into, value.clone());
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn resize(&mut self, group_count: usize) {
        self.best.resize(group_count, None);
    }

    fn update(&mut self, groups: &[u32], arguments: &[ArrayRef], _: Option<&[i64]>) -> Result<()> {
        let values = self.codec.encode(&arguments[0])?;
        groups.iter().zip(values).for_each(|(&group, value)| self.see(group, value));
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<Evaluated> {
        let values = groups.iter().map(|&group| self.best[group as usize].clone()).collect();
        Ok(Evaluated::from(self.codec.decode(values)?))
    }

    fn is_empty(&self, group: u32) -> bool {
        self.best[group as usize].is_none()
    }

    fn clear(&mut self, group: u32) {
        self.best[group as usize] = None;
    }

    fn memory_bytes(&self) -> usize {
        self.best.len() * (self.codec.value_bytes() + 8)
    }

    fn saved_type(&self) -> Option<DataType> {
        Some(self.codec.data_type().clone())
    }

    fn save(&self, groups: &[u32]) -> Result<ArrayRef> {
        self.codec.decode(groups.iter().map(|&group| self.best[group as usize].clone()).collect())
    }

    fn merge(&mut self, groups: &[u32], saved: &ArrayRef) -> Result<()> {
        let values = self.codec.encode(saved)?;
        for (row, (&group, value)) in groups.iter().zip(values).enumerate() {
            if saved.is_valid(row) {
                self.see(group, value);
            }
        }
        Ok(())
    }
}

/// All values of each group with their weights.
struct Ordered<C: Codec> {
    codec: C,
    side: Side,
    values: Vec<BTreeMap<C::Value, i64>>,
    value_count: usize,
}

impl<C: Codec + 'static> Accumulator for Ordered<C> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn resize(&mut self, group_count: usize) {
        self.values.resize_with(group_count, BTreeMap::new);
    }

    fn update(&mut self, groups: &[u32], arguments: &[ArrayRef], weights: Option<&[i64]>) -> Result<()> {
        let values = self.codec.encode(&arguments[0])?;
        for (row, (&group, value)) in groups.iter().zip(values).enumerate() {
            let values = &mut self.values[group as usize];
            match values.entry(value) {
                std::collections::btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(weights.map_or(1, |w| w[row]));
                    self.value_count += 1;
                }
                std::collections::btree_map::Entry::Occupied(mut found) => {
                    *found.get_mut() += weights.map_or(1, |w| w[row]);
                    if *found.get() == 0 {
                        found.remove();
                        self.value_count -= 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn evaluate(&self, groups: &[u32]) -> Result<Evaluated> {
        let best = |values: &BTreeMap<C::Value, i64>| {
            // Values taken back before they came do not count.
            let mut present = values.iter().filter(|(_, weight)| **weight > 0).map(|(value, _)| value.clone());
            match self.side {
                Side::Least => present.next(),
                Side::Greatest => present.next_back(),
            }
        };
        let values = groups.iter().map(|&group| best(&self.values[group as usize])).collect();
        Ok(Evaluated::from(self.codec.decode(values)?))
    }

    fn is_empty(&self, group: u32) -> bool {
        self.values[group as usize].is_empty()
    }

    fn clear(&mut self, group: u32) {
        self.value_count -= self.values[group as usize].len();
        self.values[group as usize].clear();
    }

    fn memory_bytes(&self) -> usize {
        self.values.len() * size_of::<BTreeMap<C::Value, i64>>() + self.value_count * (self.codec.value_bytes() + 16)
    }
}
