//! `hw_single_value`: the value of the one row there is; NULL for none; 21000 for more than one.
//!
//! `(SELECT x FROM …)` as an expression means exactly this, and DataFusion takes a correlated one only when it is
//! aggregated. So `sql::compat` writes `(SELECT hw_single_value(x) FROM …)`.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use crate::error::{Error, SqlState};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SingleValue {
    signature: Signature,
}

impl Default for SingleValue {
    fn default() -> SingleValue {
        SingleValue { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for SingleValue {
    fn name(&self) -> &str {
        "hw_single_value"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        Ok(Arc::new(arguments[0].as_ref().clone().with_name(self.name()).with_nullable(true)))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Single { row_count: 0, value: ScalarValue::try_from(args.return_field.data_type())? }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![
            Arc::new(Field::new("row_count", DataType::UInt64, false)),
            Arc::new(args.return_field.as_ref().clone().with_name("value")),
        ])
    }
}

#[derive(Debug)]
struct Single {
    row_count: u64,
    value: ScalarValue,
}

impl Single {
    fn take(&mut self, row_count: u64, value: ScalarValue) -> Result<()> {
        self.row_count += row_count;
        if self.row_count > 1 {
            let error = Error::new(
                SqlState::CARDINALITY_VIOLATION,
                "more than one row returned by a subquery used as an expression",
            );
            return Err(error.into());
        }
        if row_count == 1 {
            self.value = value;
        }
        Ok(())
    }
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match values[0].len() {
            0 => Ok(()),
            count => self.take(count as u64, ScalarValue::try_from_array(&values[0], 0)?),
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn size(&self) -> usize {
        size_of::<Single>() + self.value.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::UInt64(Some(self.row_count)), self.value.clone()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for index in 0..states[0].len() {
            if let ScalarValue::UInt64(Some(count)) = ScalarValue::try_from_array(&states[0], index)? {
                self.take(count, ScalarValue::try_from_array(&states[1], index)?)?;
            }
        }
        Ok(())
    }
}
