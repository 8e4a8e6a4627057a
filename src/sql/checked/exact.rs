//! `sum` and `avg` of floats, variance, correlation and regression from exact sums, so that a query and a maintained view
//! give the same digits, whatever the order of the rows and however they are spread over threads.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::types::{NativeType, logical_float64};
use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Coercion, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
    TypeSignatureClass, Volatility,
};

use crate::error::Error;
use crate::types::ExactSum;
use crate::types::moments::{Moments, Statistic};

/// The statistics, in the place of DataFusion's.
pub(in crate::sql) fn statistics() -> impl Iterator<Item = Arc<AggregateUDF>> {
    let float = || {
        let numbers = vec![TypeSignatureClass::Numeric];
        Coercion::new_implicit(TypeSignatureClass::Native(logical_float64()), numbers, NativeType::Float64)
    };
    Statistic::ALL.iter().map(move |&(statistic, name, aliases)| {
        let arguments = (0..statistic.argument_count()).map(|_| float()).collect();
        Arc::new(AggregateUDF::new_from_impl(ExactStatistic {
            statistic,
            name,
            aliases: aliases.iter().map(|alias| alias.to_string()).collect(),
            signature: Signature::coercible(arguments, Volatility::Immutable),
        }))
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactStatistic {
    statistic: Statistic,
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
}

impl AggregateUDFImpl for ExactStatistic {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> PlanResult<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> PlanResult<Box<dyn Accumulator>> {
        Ok(accumulator(Measure::Statistic(self.statistic), args.is_distinct))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> PlanResult<Vec<FieldRef>> {
        Ok(state_fields(args.name))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs<'_>) -> PlanResult<Box<dyn GroupsAccumulator>> {
        Ok(groups_accumulator(Measure::Statistic(self.statistic)))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// What is made of the values.
#[derive(Clone, Copy, Debug)]
pub(super) enum Measure {
    Sum,
    Average,
    Statistic(Statistic),
}

pub(super) fn accumulator(measure: Measure, is_distinct: bool) -> Box<dyn Accumulator> {
    Box::new(One { measure, state: measure.start(), seen: is_distinct.then(HashSet::new) })
}

pub(super) fn groups_accumulator(measure: Measure) -> Box<dyn GroupsAccumulator> {
    Box::new(Many { measure, states: vec![] })
}

/// The state is one column of bytes.
pub(super) fn state_fields(name: &str) -> Vec<FieldRef> {
    vec![Arc::new(Field::new(format!("{name}[exact]"), DataType::Binary, true))]
}

impl Measure {
    fn start(self) -> State {
        match self {
            Measure::Sum | Measure::Average => State::Total(0, ExactSum::default()),
            Measure::Statistic(statistic) => State::Moments(Moments::new(statistic)),
        }
    }

    fn value(self, state: &State) -> Option<f64> {
        match (self, state) {
            (_, State::Moments(moments)) => moments.value(),
            (_, State::Total(0, _)) => None,
            (Measure::Average, State::Total(count, sum)) => Some(sum.value() / *count as f64),
            (_, State::Total(_, sum)) => Some(sum.value()),
        }
    }

    fn read(self, mut bytes: &[u8]) -> PlanResult<State> {
        let read = match self {
            Measure::Statistic(statistic) => Moments::read(statistic, bytes).map(State::Moments),
            Measure::Sum | Measure::Average => bytes.split_first_chunk().and_then(|(count, rest)| {
                bytes = rest;
                Some(State::Total(i64::from_le_bytes(*count), ExactSum::read(&mut bytes)?))
            }),
        };
        Ok(read.ok_or_else(|| Error::internal("the state of an exact sum is damaged"))?)
    }
}

#[derive(Clone, Debug)]
enum State {
    /// Values and their sum.
    Total(i64, ExactSum),
    Moments(Moments),
}

impl State {
    fn add(&mut self, x: f64, y: f64, weight: i64) {
        match self {
            State::Total(count, sum) => {
                *count += weight;
                sum.add(x, weight);
            }
            State::Moments(moments) => moments.add(x, y, weight),
        }
    }

    fn merge(&mut self, other: &State) {
        match (self, other) {
            (State::Total(count, sum), State::Total(other_count, other)) => {
                *count += other_count;
                sum.merge(other);
            }
            (State::Moments(moments), State::Moments(other)) => moments.merge(other),
            _ => unreachable!("states of one measure are of one kind"),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![];
        match self {
            State::Total(count, sum) => {
                bytes.extend(count.to_le_bytes());
                sum.write(&mut bytes);
            }
            State::Moments(moments) => moments.write(&mut bytes),
        }
        bytes
    }

    fn memory_bytes(&self) -> usize {
        match self {
            State::Total(_, sum) => size_of::<i64>() + sum.memory_bytes(),
            State::Moments(moments) => moments.memory_bytes(),
        }
    }
}

/// The arguments, of which the last is X, and the first Y where there are two.
struct Pairs {
    x: Float64Array,
    y: Float64Array,
}

impl Pairs {
    fn of(values: &[ArrayRef]) -> PlanResult<Pairs> {
        let floats = |array: &ArrayRef| -> PlanResult<Float64Array> {
            Ok(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
        };
        Ok(Pairs { x: floats(&values[values.len() - 1])?, y: floats(&values[0])? })
    }

    fn get(&self, row: usize) -> Option<(f64, f64)> {
        (self.x.is_valid(row) && self.y.is_valid(row)).then(|| (self.x.value(row), self.y.value(row)))
    }
}

/// One group.
#[derive(Debug)]
struct One {
    measure: Measure,
    state: State,
    /// For DISTINCT: the pairs that were added, as bits.
    seen: Option<HashSet<(u64, u64)>>,
}

impl One {
    fn add(&mut self, (x, y): (f64, f64), weight: i64) {
        if let Some(seen) = &mut self.seen {
            // Zero has one sign and NaN one form.
            let bits = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() };
            if !seen.insert((bits(x), bits(y))) {
                return;
            }
        }
        self.state.add(x, y, weight);
    }
}

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> PlanResult<()> {
        let pairs = Pairs::of(values)?;
        (0..pairs.x.len()).filter_map(|row| pairs.get(row)).for_each(|pair| self.add(pair, 1));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> PlanResult<()> {
        let pairs = Pairs::of(values)?;
        (0..pairs.x.len()).filter_map(|row| pairs.get(row)).for_each(|pair| self.add(pair, -1));
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        self.seen.is_none()
    }

    fn evaluate(&mut self) -> PlanResult<ScalarValue> {
        Ok(ScalarValue::Float64(self.measure.value(&self.state)))
    }

    fn size(&self) -> usize {
        self.state.memory_bytes() + self.seen.as_ref().map_or(0, |seen| seen.capacity() * 17)
    }

    fn state(&mut self) -> PlanResult<Vec<ScalarValue>> {
        let bytes = match &self.seen {
            None => self.state.bytes(),
            Some(seen) => seen.iter().flat_map(|(x, y)| [x.to_le_bytes(), y.to_le_bytes()]).flatten().collect(),
        };
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> PlanResult<()> {
        for bytes in states[0].as_binary::<i32>().iter().flatten() {
            if self.seen.is_none() {
                self.state.merge(&self.measure.read(bytes)?);
                continue;
            }
            let (words, _) = bytes.as_chunks::<8>();
            let (pairs, _) = words.as_chunks::<2>();
            for [x, y] in pairs {
                let float = |word: &[u8; 8]| f64::from_bits(u64::from_le_bytes(*word));
                self.add((float(x), float(y)), 1);
            }
        }
        Ok(())
    }
}

/// Many groups at once.
struct Many {
    measure: Measure,
    states: Vec<State>,
}

impl Many {
    fn make_room(&mut self, group_count: usize) {
        self.states.resize_with(group_count, || self.measure.start());
    }
}

impl GroupsAccumulator for Many {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> PlanResult<()> {
        self.make_room(group_count);
        let pairs = Pairs::of(values)?;
        let counts = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        for (row, &group) in group_indices.iter().enumerate() {
            if let Some((x, y)) = pairs.get(row)
                && counts(row)
            {
                self.states[group].add(x, y, 1);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> PlanResult<ArrayRef> {
        let states = emit_to.take_needed(&mut self.states);
        let values: Float64Array = states.iter().map(|state| self.measure.value(state)).collect();
        Ok(Arc::new(values))
    }

    fn state(&mut self, emit_to: EmitTo) -> PlanResult<Vec<ArrayRef>> {
        let states = emit_to.take_needed(&mut self.states);
        Ok(vec![Arc::new(BinaryArray::from_iter_values(states.iter().map(State::bytes)))])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], group_count: usize) -> PlanResult<()> {
        self.make_room(group_count);
        for (bytes, &group) in values[0].as_binary::<i32>().iter().zip(group_indices) {
            if let Some(bytes) = bytes {
                self.states[group].merge(&self.measure.read(bytes)?);
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> PlanResult<Vec<ArrayRef>> {
        let pairs = Pairs::of(values)?;
        let counts = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let states = (0..pairs.x.len()).map(|row| {
            let mut state = self.measure.start();
            if let Some((x, y)) = pairs.get(row)
                && counts(row)
            {
                state.add(x, y, 1);
            }
            state.bytes()
        });
        Ok(vec![Arc::new(BinaryArray::from_iter_values(states))])
    }

    fn size(&self) -> usize {
        self.states.capacity() * size_of::<State>() + self.states.iter().map(State::memory_bytes).sum::<usize>()
    }
}
