//! `sum`, `avg`, variance, correlation and regression with Postgres' types, in the place of DataFusion's: over a
//! [`Summary`], as maintained views have it, so that both give the same digits, whatever the order of the rows and however
//! they are spread over threads.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result as PlanResult, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};

use super::one::One;
use crate::error::Error;
use crate::types::PgType;
use crate::types::moments::Statistic;
use crate::types::summary::{
    Decimals, FloatStatistic, Floats, Integers, Intervals, Measure, Results, Spread, Summary, result_type,
};

/// All of them.
pub(in crate::sql) fn aggregates() -> impl Iterator<Item = Arc<AggregateUDF>> {
    const SUM: (Measure, &str, &[&str]) = (Measure::Sum, "sum", &[]);
    const AVERAGE: (Measure, &str, &[&str]) = (Measure::Average, "avg", &["mean"]);
    let spreads = Statistic::ALL.iter().map(|&(statistic, name, aliases)| (Measure::Spread(statistic), name, aliases));
    [SUM, AVERAGE].into_iter().chain(spreads).map(|(measure, name, aliases)| {
        Arc::new(AggregateUDF::new_from_impl(Exact {
            measure,
            name,
            aliases: aliases.iter().map(|alias| alias.to_string()).collect(),
            signature: Signature::user_defined(Volatility::Immutable),
        }))
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Exact {
    measure: Measure,
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
}

/// A call with the summary that its argument's type asks for.
macro_rules! with_summary {
    ($exact:expr, $argument:expr, |$summary:ident| $body:expr) => {{
        let (measure, argument): (Measure, &DataType) = ($exact.measure, $argument);
        if let Measure::Spread(statistic) = measure {
            match Spread::new(statistic, argument) {
                Some($summary) => $body,
                None => {
                    let $summary = FloatStatistic(statistic);
                    $body
                }
            }
        } else if let Some($summary) = Integers::new(measure, argument) {
            $body
        } else if let Some($summary) = Decimals::new(measure, argument) {
            $body
        } else if let Some($summary) = Floats::new(measure, argument) {
            $body
        } else if let (Some($summary), DataType::Interval(_)) = (Intervals::new(measure), argument) {
            $body
        } else {
            return Err($exact.does_not_exist(std::slice::from_ref(argument)));
        }
    }};
}

impl Exact {
    fn argument_count(&self) -> usize {
        if let Measure::Spread(statistic) = self.measure { statistic.argument_count() } else { 1 }
    }

    fn does_not_exist(&self, given: &[DataType]) -> datafusion::common::DataFusionError {
        let types: Vec<String> = given.iter().map(|given| PgType::of_arrow(given).name()).collect();
        // Worded as DataFusion words it, so that it gets 42883.
        let refused: PlanResult<()> =
            plan_err!("No function matches the given name and argument types '{}({})'. ", self.name, types.join(", "));
        refused.expect_err("made as an error")
    }

    /// What an argument is taken as.
    fn coerced(&self, given: &DataType) -> Option<DataType> {
        let coerced = match given {
            DataType::Int8 | DataType::UInt8 | DataType::UInt16 => DataType::Int32,
            // Row numbers and the like.
            DataType::UInt32 | DataType::UInt64 => DataType::Int64,
            DataType::Null | DataType::Float16 => DataType::Float64,
            DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
                DataType::Decimal128(*precision, *scale)
            }
            DataType::Duration(_) => PgType::Interval.arrow(),
            other => other.clone(),
        };
        let is_pair = self.argument_count() == 2;
        result_type(if is_pair { Measure::Sum } else { self.measure }, &coerced)?;
        match (is_pair, &coerced) {
            (true, DataType::Interval(_)) => None,
            (true, _) => Some(DataType::Float64),
            _ => Some(coerced),
        }
    }
}

fn argument(fields: &[FieldRef]) -> PlanResult<&DataType> {
    match fields.first() {
        Some(field) => Ok(field.data_type()),
        None => Err(Error::internal("an aggregate of nothing").into()),
    }
}

impl AggregateUDFImpl for Exact {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> PlanResult<Vec<DataType>> {
        let coerced: Option<Vec<DataType>> = given.iter().map(|given| self.coerced(given)).collect();
        match coerced {
            Some(coerced) if coerced.len() == self.argument_count() => Ok(coerced),
            _ => Err(self.does_not_exist(given)),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> PlanResult<DataType> {
        let result = arguments.first().and_then(|argument| result_type(self.measure, argument));
        result.ok_or_else(|| self.does_not_exist(arguments))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> PlanResult<Box<dyn Accumulator>> {
        let distinct = args.is_distinct;
        with_summary!(self, argument(args.expr_fields)?, |summary| Ok(Box::new(One::new(summary, distinct))))
    }

    /// The state is one column of bytes.
    fn state_fields(&self, args: StateFieldsArgs<'_>) -> PlanResult<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[exact]", args.name), DataType::Binary, true))])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> PlanResult<Box<dyn GroupsAccumulator>> {
        with_summary!(self, argument(args.expr_fields)?, |summary| Ok(Box::new(Many { summary, states: vec![] })))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The results, or the first that its type cannot hold.
pub(super) fn all_of(results: Results) -> PlanResult<ArrayRef> {
    match results.failed.into_iter().next() {
        Some((_, error)) => Err(error.into()),
        None => Ok(results.values),
    }
}

/// Rows none of whose arguments is NULL; `None`: all.
pub(super) fn present(arguments: &[ArrayRef]) -> Option<NullBuffer> {
    arguments.iter().fold(None, |nulls, argument| NullBuffer::union(nulls.as_ref(), argument.logical_nulls().as_ref()))
}

pub(super) fn damaged() -> Error {
    Error::internal("the state of an exact aggregate is damaged")
}

/// Many groups at once.
struct Many<S: Summary> {
    summary: S,
    states: Vec<S::State>,
}

impl<S: Summary> Many<S> {
    fn make_room(&mut self, group_count: usize) {
        self.states.resize_with(group_count, || self.summary.start());
    }
}

/// Each state as bytes.
fn written<S: Summary>(states: impl Iterator<Item = S::State>) -> ArrayRef {
    let (mut builder, mut bytes) = (BinaryBuilder::new(), vec![]);
    for state in states {
        bytes.clear();
        S::write(&state, &mut bytes);
        builder.append_value(&bytes);
    }
    Arc::new(builder.finish())
}

/// Calls `each` with the rows that count.
fn for_each_row(arguments: &[ArrayRef], filter: Option<&BooleanArray>, mut each: impl FnMut(usize)) {
    let count = arguments.first().map_or(0, |argument| argument.len());
    let passes = |row: usize| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
    match (present(arguments), filter) {
        (None, None) => (0..count).for_each(each),
        (None, Some(_)) => (0..count).filter(|&row| passes(row)).for_each(each),
        (Some(nulls), _) => nulls.valid_indices().filter(|&row| passes(row)).for_each(&mut each),
    }
}

impl<S: Summary> GroupsAccumulator for Many<S> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> PlanResult<()> {
        self.make_room(group_count);
        let columns = self.summary.columns(values)?;
        for_each_row(values, filter, |row| {
            S::add(&mut self.states[group_indices[row]], S::value(&columns, row), 1);
        });
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> PlanResult<ArrayRef> {
        let states = emit_to.take_needed(&mut self.states);
        all_of(self.summary.results(states.iter())?)
    }

    fn state(&mut self, emit_to: EmitTo) -> PlanResult<Vec<ArrayRef>> {
        Ok(vec![written::<S>(emit_to.take_needed(&mut self.states).into_iter())])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], group_count: usize) -> PlanResult<()> {
        self.make_room(group_count);
        for (bytes, &group) in values[0].as_binary::<i32>().iter().zip(group_indices) {
            if let Some(bytes) = bytes {
                let state = self.summary.read(bytes).ok_or_else(damaged)?;
                S::merge(&mut self.states[group], &state);
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> PlanResult<Vec<ArrayRef>> {
        let columns = self.summary.columns(values)?;
        let mut states = vec![self.summary.start(); values[0].len()];
        for_each_row(values, filter, |row| S::add(&mut states[row], S::value(&columns, row), 1));
        Ok(vec![written::<S>(states.into_iter())])
    }

    fn size(&self) -> usize {
        self.states.capacity() * size_of::<S::State>() + self.states.iter().map(S::heap_bytes).sum::<usize>()
    }
}
