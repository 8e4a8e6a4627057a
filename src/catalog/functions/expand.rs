//! Functions whose result type follows from their argument: `information_schema._pg_expandarray` and the array that is
//! empty rather than NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StructArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::kernels::zip;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// `hw_expand_array(array)`: a list of `(x, n)`, element and position from 1. `sql::compat` unnests it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ExpandArray {
    signature: Signature,
}

impl Default for ExpandArray {
    fn default() -> ExpandArray {
        ExpandArray { signature: Signature::any(1, Volatility::Immutable) }
    }
}

fn pair_fields(element: &DataType) -> Fields {
    Fields::from(vec![Field::new("x", element.clone(), true), Field::new("n", DataType::Int32, true)])
}

impl ScalarUDFImpl for ExpandArray {
    fn name(&self) -> &str {
        "hw_expand_array"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::List(item)] => Ok(DataType::new_list(DataType::Struct(pair_fields(item.data_type())), true)),
            _ => plan_err!("no function matches the given name and argument types: _pg_expandarray"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = args.args[0].to_array(args.number_rows)?;
        let Some(list) = array.as_list_opt::<i32>() else { return exec_err!("_pg_expandarray expects an array") };
        let DataType::List(item) = args.return_type() else { return exec_err!("_pg_expandarray returns an array") };
        let (first, last) = match (list.offsets().first(), list.offsets().last()) {
            (Some(first), Some(last)) => (*first as usize, *last as usize),
            _ => (0, 0),
        };
        let elements = list.values().slice(first, last - first);
        let positions = Int32Array::from_iter_values(list.offsets().windows(2).flat_map(|w| 1..=(w[1] - w[0])));
        let pairs = StructArray::try_new(
            pair_fields(elements.data_type()),
            vec![elements, Arc::new(positions) as ArrayRef],
            None,
        )?;
        let offsets = OffsetBuffer::from_lengths(list.offsets().windows(2).map(|w| (w[1] - w[0]) as usize));
        let expanded = ListArray::try_new(item.clone(), offsets, Arc::new(pairs), list.nulls().cloned())?;
        Ok(ColumnarValue::Array(Arc::new(expanded)))
    }
}

/// `hw_array_or_empty(array)`: what `ARRAY(SELECT …)` gives where `array_agg` over no rows gives NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ArrayOrEmpty {
    signature: Signature,
}

impl Default for ArrayOrEmpty {
    fn default() -> ArrayOrEmpty {
        ArrayOrEmpty { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ArrayOrEmpty {
    fn name(&self) -> &str {
        "hw_array_or_empty"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = args.args[0].to_array(args.number_rows)?;
        let DataType::List(item) = array.data_type() else { return Ok(ColumnarValue::Array(array)) };
        if array.null_count() == 0 {
            return Ok(ColumnarValue::Array(array));
        }
        let empty: ArrayRef = Arc::new(ListArray::try_new(
            item.clone(),
            OffsetBuffer::from_lengths([0]),
            new_empty_array(item.data_type()),
            None,
        )?);
        let mask = arrow::compute::is_not_null(&array)?;
        let empty = ScalarValue::try_from_array(&empty, 0)?.to_scalar()?;
        Ok(ColumnarValue::Array(zip::zip(&mask, &array, &empty)?))
    }
}
