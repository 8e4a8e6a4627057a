//! `hw_one((SELECT hw_single_value(x) …))`: the value of the one row there is; NULL for none; 21000 for more than one.
//!
//! `(SELECT x FROM …)` as an expression means exactly this, and DataFusion takes a correlated one only when it is
//! aggregated; `sql::compat` writes it so. A decorrelated subquery aggregates every group there is, also those that no
//! outer row asks for. So the aggregate only counts, and the function around the subquery, which sees what outer rows
//! ask for, complains.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::error::{Error, SqlState};

/// The first value and the number of rows.
fn counted(value: &Field) -> DataType {
    let value = Arc::new(value.clone().with_name("value").with_nullable(true));
    DataType::Struct(Fields::from(vec![value, Arc::new(Field::new("row_count", DataType::UInt64, true))]))
}

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
        Ok(counted(&Field::new("value", arguments[0].clone(), true)))
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), counted(&arguments[0]), true)))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let DataType::Struct(fields) = args.return_field.data_type() else {
            return exec_err!("hw_single_value returns a value and a count");
        };
        Ok(Box::new(Single {
            row_count: 0,
            value: ScalarValue::try_from(fields[0].data_type())?,
            fields: fields.clone(),
        }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        match args.return_field.data_type() {
            DataType::Struct(fields) => Ok(fields.iter().cloned().collect()),
            _ => exec_err!("hw_single_value returns a value and a count"),
        }
    }
}

#[derive(Debug)]
struct Single {
    row_count: u64,
    /// Of the first row.
    value: ScalarValue,
    fields: Fields,
}

impl Accumulator for Single {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if self.row_count == 0 && !values[0].is_empty() {
            self.value = ScalarValue::try_from_array(&values[0], 0)?;
        }
        self.row_count += values[0].len() as u64;
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.row_count == 0 {
            return ScalarValue::try_from(&DataType::Struct(self.fields.clone()));
        }
        let columns = vec![self.value.to_array()?, ScalarValue::UInt64(Some(self.row_count)).to_array()?];
        let row = arrow::array::StructArray::try_new(self.fields.clone(), columns, None)?;
        Ok(ScalarValue::Struct(Arc::new(row)))
    }

    fn size(&self) -> usize {
        size_of::<Single>() + self.value.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::UInt64(Some(self.row_count))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let counts = states[1].as_primitive::<UInt64Type>();
        for (index, count) in counts.iter().enumerate() {
            let count = count.unwrap_or(0);
            if self.row_count == 0 && count > 0 {
                self.value = ScalarValue::try_from_array(&states[0], index)?;
            }
            self.row_count += count;
        }
        Ok(())
    }
}

/// Takes the value out of what [`SingleValue`] found, and refuses more than one row.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct One {
    signature: Signature,
}

impl Default for One {
    fn default() -> One {
        One { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for One {
    fn name(&self) -> &str {
        "hw_one"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match &arguments[0] {
            DataType::Struct(fields) if fields.len() == 2 => Ok(fields[0].data_type().clone()),
            _ => plan_err!("no function matches the given name and argument types: hw_one"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields[0].data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                Ok(Arc::new(fields[0].as_ref().clone().with_name(self.name()).with_nullable(true)))
            }
            _ => plan_err!("no function matches the given name and argument types: hw_one"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = args.args[0].to_array(args.number_rows)?;
        let Some(rows) = array.as_struct_opt() else { return exec_err!("hw_one takes a value and a count") };
        let counts = rows.column(1).as_primitive::<UInt64Type>();
        if (0..rows.len()).any(|row| rows.is_valid(row) && counts.is_valid(row) && counts.value(row) > 1) {
            let error = Error::new(
                SqlState::CARDINALITY_VIOLATION,
                "more than one row returned by a subquery used as an expression",
            );
            return Err(error.into());
        }
        // A NULL pair has a NULL value, whatever lies under it.
        let values = arrow::compute::nullif(rows.column(0), &arrow::compute::is_null(rows)?)?;
        Ok(ColumnarValue::Array(values))
    }
}
