//! The ordered-set aggregates of Postgres: `percentile_cont`, `percentile_disc` (of one fraction or of an array of them) and
//! `mode`, `… WITHIN GROUP (ORDER BY x)`. NULLs are left out.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, UInt32Array, make_comparator, new_empty_array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{SortOptions, cast, concat, is_not_null, sort, take};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use crate::error::{Error, SqlState};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pick {
    /// Between the two nearest values, in proportion.
    Continuous,
    /// The first value that at least this share of the values does not exceed.
    Discrete,
    /// The most frequent; of several the first.
    Mode,
}

/// Arguments: what is ordered, then the fraction.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct OrderedSet {
    pick: Pick,
    signature: Signature,
}

impl OrderedSet {
    pub fn new(pick: Pick) -> OrderedSet {
        OrderedSet { pick, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for OrderedSet {
    fn name(&self) -> &str {
        match self.pick {
            Pick::Continuous => "percentile_cont",
            Pick::Discrete => "percentile_disc",
            Pick::Mode => "mode",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let float = DataType::Float64;
        let is_number = |t: &DataType| t.is_numeric() || t.is_null();
        match (self.pick, given) {
            (Pick::Mode, [value]) => Ok(vec![value.clone()]),
            (Pick::Continuous, [value, _]) if !is_number(value) => plan_err!(
                "no function matches the given name and argument types: percentile_cont WITHIN GROUP (ORDER BY {})",
                crate::types::PgType::of_arrow(value).name()
            ),
            (Pick::Continuous | Pick::Discrete, [value, fraction]) => {
                let value = if self.pick == Pick::Continuous { float.clone() } else { value.clone() };
                match fraction {
                    DataType::List(_) => Ok(vec![value, DataType::new_list(float, true)]),
                    _ => Ok(vec![value, float]),
                }
            }
            _ => plan_err!(
                "no function matches the given name and argument types: {} takes WITHIN GROUP (ORDER BY …)",
                self.name()
            ),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let value = arguments[0].clone();
        Ok(match arguments.get(1) {
            Some(DataType::List(_)) => DataType::new_list(value, true),
            _ => value,
        })
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        let item = arguments[0].as_ref().clone().with_nullable(true);
        let field = match arguments.get(1).map(|fraction| fraction.data_type()) {
            Some(DataType::List(_)) => {
                Field::new(self.name(), DataType::List(Arc::new(item.with_name(Field::LIST_FIELD_DEFAULT_NAME))), true)
            }
            _ => item.with_name(self.name()),
        };
        Ok(Arc::new(field))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let options = args.order_bys.first().map(|sort| sort.options);
        Ok(Box::new(Gathered {
            pick: self.pick,
            options: options.unwrap_or(SortOptions { descending: false, nulls_first: false }),
            value_type: args.expr_fields[0].data_type().clone(),
            result_type: args.return_field.data_type().clone(),
            fraction: args.expr_fields.get(1).map(|field| ScalarValue::try_from(field.data_type())).transpose()?,
            values: vec![],
        }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let values =
            Field::new_list("values", Field::new_list_field(args.input_fields[0].data_type().clone(), true), true);
        let fraction = args.input_fields.get(1).map(|field| Field::new("fraction", field.data_type().clone(), true));
        Ok(std::iter::once(values).chain(fraction).map(Arc::new).collect())
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// All values of a group.
#[derive(Debug)]
struct Gathered {
    pick: Pick,
    options: SortOptions,
    value_type: DataType,
    result_type: DataType,
    /// NULL until a row came.
    fraction: Option<ScalarValue>,
    values: Vec<ArrayRef>,
}

impl Gathered {
    fn note_fraction(&mut self, fractions: &ArrayRef) -> Result<()> {
        if let Some(fraction @ ScalarValue::Float64(None)) | Some(fraction @ ScalarValue::List(_)) = &mut self.fraction
            && let Some(row) = (0..fractions.len()).find(|&row| fractions.is_valid(row))
        {
            *fraction = ScalarValue::try_from_array(fractions, row)?;
        }
        Ok(())
    }

    /// Without NULLs, in order.
    fn sorted(&self) -> Result<ArrayRef> {
        let arrays: Vec<&dyn Array> = self.values.iter().map(|values| values.as_ref()).collect();
        let all = if arrays.is_empty() { new_empty_array(&self.value_type) } else { concat(&arrays)? };
        let present = arrow::compute::filter(&all, &is_not_null(&all)?)?;
        if present.len() < 2 { Ok(present) } else { Ok(sort(&present, Some(self.options))?) }
    }

    /// The values at these fractions.
    fn at(&self, sorted: &ArrayRef, fractions: &[Option<f64>]) -> Result<ArrayRef> {
        for fraction in fractions.iter().flatten() {
            if !(0.0..=1.0).contains(fraction) {
                let message = format!("percentile value {fraction} is not between 0 and 1");
                return Err(Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message).into());
            }
        }
        if sorted.is_empty() {
            return Ok(new_null_array(&self.value_type, fractions.len()));
        }
        let last = (sorted.len() - 1) as f64;
        if self.pick == Pick::Discrete {
            let place = |fraction: f64| ((fraction * sorted.len() as f64).ceil() - 1.0).clamp(0.0, last) as u32;
            let places: UInt32Array = fractions.iter().map(|fraction| fraction.map(place)).collect();
            return Ok(take(sorted, &places, None)?);
        }
        let floats = sorted.as_primitive::<Float64Type>();
        let between = |fraction: f64| {
            let place = fraction * last;
            let (low, high) = (floats.value(place.floor() as usize), floats.value(place.ceil() as usize));
            if low == high { low } else { low + (place - place.floor()) * (high - low) }
        };
        let values: arrow::array::Float64Array = fractions.iter().map(|fraction| fraction.map(between)).collect();
        Ok(Arc::new(values))
    }
}

/// The value that is there most often, the first of several.
fn mode(sorted: &ArrayRef) -> Result<ScalarValue> {
    let compare = make_comparator(sorted, sorted, SortOptions::default())?;
    let (mut best, mut best_length, mut start) = (0, 0, 0);
    for row in 1..=sorted.len() {
        if row == sorted.len() || compare(start, row).is_ne() {
            if row - start > best_length {
                (best, best_length) = (start, row - start);
            }
            start = row;
        }
    }
    ScalarValue::try_from_array(sorted, best)
}

impl Accumulator for Gathered {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.values.push(values[0].clone());
        match values.get(1) {
            Some(fractions) => self.note_fraction(fractions),
            None => Ok(()),
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sorted = self.sorted()?;
        match &self.fraction {
            None if sorted.is_empty() => ScalarValue::try_from(&self.result_type),
            None => mode(&sorted),
            Some(ScalarValue::Float64(fraction)) => ScalarValue::try_from_array(&self.at(&sorted, &[*fraction])?, 0),
            Some(ScalarValue::List(list)) if list.is_valid(0) && !sorted.is_empty() => {
                let fractions = cast(&list.value(0), &DataType::Float64)?;
                let fractions: Vec<Option<f64>> = fractions.as_primitive::<Float64Type>().iter().collect();
                let values = self.at(&sorted, &fractions)?;
                let DataType::List(item) = &self.result_type else {
                    return Err(Error::internal("percentiles of an array come in an array").into());
                };
                let offsets = OffsetBuffer::from_lengths([values.len()]);
                Ok(ScalarValue::List(Arc::new(ListArray::try_new(item.clone(), offsets, values, None)?)))
            }
            Some(_) => ScalarValue::try_from(&self.result_type),
        }
    }

    fn size(&self) -> usize {
        size_of::<Gathered>() + self.values.iter().map(|values| values.get_array_memory_size()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sorted = self.sorted()?;
        let item = Arc::new(Field::new_list_field(self.value_type.clone(), true));
        let list = ListArray::try_new(item, OffsetBuffer::from_lengths([sorted.len()]), sorted, None)?;
        Ok(std::iter::once(ScalarValue::List(Arc::new(list))).chain(self.fraction.clone()).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        self.values.extend((0..lists.len()).filter(|&row| lists.is_valid(row)).map(|row| lists.value(row)));
        match states.get(1) {
            Some(fractions) => self.note_fraction(fractions),
            None => Ok(()),
        }
    }
}
