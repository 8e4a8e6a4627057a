//! `sum` that refuses to overflow, 22003 `bigint out of range`, where DataFusion's wraps around; and `avg`.
//!
//! Integers are added as decimals of 38 digits, which 2⁶³ rows of the largest bigint do not exceed; only the result has to
//! fit, so the order of the rows does not matter. Floats are added exactly ([`super::exact`]). Everything else is
//! DataFusion's.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef};
use datafusion::common::{Result as PlanResult, ScalarValue};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};

use super::exact::{self, Measure};
use crate::error::{Error, SqlState};

/// Takes the place of DataFusion's `sum`.
pub(in crate::sql) fn checked_sum() -> Arc<AggregateUDF> {
    let inner = sum_udaf();
    Arc::new(AggregateUDF::new_from_impl(CheckedSum { signature: inner.signature().clone(), inner }))
}

/// What integers are added up as.
const WIDE: DataType = DataType::Decimal128(38, 0);

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum {
    inner: Arc<AggregateUDF>,
    signature: Signature,
}

impl CheckedSum {
    /// Calls the inner function as if the argument were wide already.
    fn wide<T>(&self, args: AccumulatorArgs<'_>, call: impl FnOnce(AccumulatorArgs<'_>) -> T) -> T {
        let expr_fields: Vec<FieldRef> =
            args.expr_fields.iter().map(|field| Arc::new(field.as_ref().clone().with_data_type(WIDE))).collect();
        let return_field = Arc::new(args.return_field.as_ref().clone().with_data_type(WIDE));
        call(AccumulatorArgs { return_field, expr_fields: &expr_fields, ..args })
    }
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> PlanResult<DataType> {
        self.inner.return_type(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> PlanResult<Box<dyn Accumulator>> {
        match args.return_type() {
            DataType::Int64 => Ok(Box::new(Narrowed(self.wide(args, |args| self.inner.accumulator(args))?))),
            DataType::Float64 => Ok(exact::accumulator(Measure::Sum, args.is_distinct)),
            _ => self.inner.accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> PlanResult<Vec<FieldRef>> {
        match args.return_type() {
            DataType::Int64 => {
                let return_field = Arc::new(Field::new(args.name, WIDE, true));
                self.inner.state_fields(StateFieldsArgs { return_field, ..args })
            }
            DataType::Float64 => Ok(exact::state_fields(args.name)),
            _ => self.inner.state_fields(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        match args.return_type() {
            DataType::Float64 => !args.is_distinct,
            _ => self.inner.groups_accumulator_supported(args),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> PlanResult<Box<dyn GroupsAccumulator>> {
        match args.return_type() {
            DataType::Int64 => {
                Ok(Box::new(NarrowedGroups(self.wide(args, |args| self.inner.create_groups_accumulator(args))?)))
            }
            DataType::Float64 => Ok(exact::groups_accumulator(Measure::Sum)),
            _ => self.inner.create_groups_accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> PlanResult<Box<dyn Accumulator>> {
        match args.return_type() {
            // A sliding sum of distinct values is there for bigint alone.
            DataType::Int64 if !args.is_distinct => {
                Ok(Box::new(Narrowed(self.wide(args, |args| self.inner.create_sliding_accumulator(args))?)))
            }
            DataType::Float64 if !args.is_distinct => Ok(exact::accumulator(Measure::Sum, false)),
            _ => self.inner.create_sliding_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// Takes the place of DataFusion's `avg`.
pub(in crate::sql) fn exact_average() -> Arc<AggregateUDF> {
    let inner = avg_udaf();
    Arc::new(AggregateUDF::new_from_impl(ExactAverage { signature: inner.signature().clone(), inner }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactAverage {
    inner: Arc<AggregateUDF>,
    signature: Signature,
}

/// True for an average of floats; decimals are DataFusion's.
fn is_float(argument: Option<&FieldRef>) -> bool {
    argument.is_some_and(|field| field.data_type().is_floating())
}

impl AggregateUDFImpl for ExactAverage {
    fn name(&self) -> &str {
        "avg"
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> PlanResult<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> PlanResult<DataType> {
        self.inner.return_type(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> PlanResult<Box<dyn Accumulator>> {
        if !is_float(args.expr_fields.first()) {
            return self.inner.accumulator(args);
        }
        Ok(exact::accumulator(Measure::Average, args.is_distinct))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> PlanResult<Vec<FieldRef>> {
        if !is_float(args.input_fields.first()) {
            self.inner.state_fields(args)
        } else {
            Ok(exact::state_fields(args.name))
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        if !is_float(args.expr_fields.first()) {
            return self.inner.groups_accumulator_supported(args);
        }
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> PlanResult<Box<dyn GroupsAccumulator>> {
        if !is_float(args.expr_fields.first()) {
            return self.inner.create_groups_accumulator(args);
        }
        Ok(exact::groups_accumulator(Measure::Average))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> PlanResult<Box<dyn Accumulator>> {
        if !is_float(args.expr_fields.first()) || args.is_distinct {
            return self.inner.create_sliding_accumulator(args);
        }
        Ok(exact::accumulator(Measure::Average, false))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn widened(values: &[ArrayRef]) -> PlanResult<Vec<ArrayRef>> {
    Ok(values.iter().map(|array| cast(array, &WIDE)).collect::<Result<_, _>>()?)
}

fn narrow(sum: i128) -> PlanResult<i64> {
    Ok(i64::try_from(sum).map_err(|_| Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range"))?)
}

/// One group: wide inside, a bigint outside.
#[derive(Debug)]
struct Narrowed(Box<dyn Accumulator>);

impl Accumulator for Narrowed {
    fn update_batch(&mut self, values: &[ArrayRef]) -> PlanResult<()> {
        self.0.update_batch(&widened(values)?)
    }

    fn evaluate(&mut self) -> PlanResult<ScalarValue> {
        match self.0.evaluate()? {
            ScalarValue::Decimal128(sum, ..) => Ok(ScalarValue::Int64(sum.map(narrow).transpose()?)),
            other => other.cast_to(&DataType::Int64),
        }
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> PlanResult<Vec<ScalarValue>> {
        self.0.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> PlanResult<()> {
        self.0.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> PlanResult<()> {
        self.0.retract_batch(&widened(values)?)
    }

    fn supports_retract_batch(&self) -> bool {
        self.0.supports_retract_batch()
    }
}

/// Many groups at once.
struct NarrowedGroups(Box<dyn GroupsAccumulator>);

impl GroupsAccumulator for NarrowedGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> PlanResult<()> {
        self.0.update_batch(&widened(values)?, group_indices, filter, group_count)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> PlanResult<ArrayRef> {
        let sums = self.0.evaluate(emit_to)?;
        let sums = sums.as_primitive::<Decimal128Type>();
        let narrowed = sums.iter().map(|sum| sum.map(narrow).transpose()).collect::<PlanResult<Int64Array>>()?;
        Ok(Arc::new(narrowed))
    }

    fn state(&mut self, emit_to: EmitTo) -> PlanResult<Vec<ArrayRef>> {
        self.0.state(emit_to)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], group_count: usize) -> PlanResult<()> {
        self.0.merge_batch(values, group_indices, group_count)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> PlanResult<Vec<ArrayRef>> {
        self.0.convert_to_state(&widened(values)?, filter)
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
