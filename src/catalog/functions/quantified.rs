//! `x op ANY (array)`: `hw_any_eq(x, array)` and its kin, one for each comparison; ALL is the opposite of ANY of the opposite.
//!
//! The planner's own form knows only elements of the very type that they are compared with. Here both sides are brought to
//! the type that they meet in, as in a plain comparison, and NULLs count as in SQL: true if an element fits, else NULL if one
//! is NULL, else false.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Float32Array, Float64Array, UInt32Array};
use arrow::compute::kernels::cmp;
use arrow::compute::take;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::error::ArrowError;
use datafusion::common::{Result as DfResult, exec_err, plan_err};
use datafusion::logical_expr::type_coercion::binary::comparison_coercion;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

type Compare = fn(&ArrayRef, &ArrayRef) -> Result<BooleanArray, ArrowError>;

/// Name, operator, and the comparison of `x` with the elements.
const COMPARISONS: &[(&str, &str, Compare)] = &[
    ("hw_any_eq", "=", |x, items| cmp::eq(x, items)),
    ("hw_any_ne", "<>", |x, items| cmp::neq(x, items)),
    ("hw_any_lt", "<", |x, items| cmp::lt(x, items)),
    ("hw_any_le", "<=", |x, items| cmp::lt_eq(x, items)),
    ("hw_any_gt", ">", |x, items| cmp::gt(x, items)),
    ("hw_any_ge", ">=", |x, items| cmp::gt_eq(x, items)),
];

pub(super) fn functions() -> impl Iterator<Item = Arc<ScalarUDF>> {
    (0..COMPARISONS.len()).map(|index| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Any { index, signature }))
    })
}

/// `=` of `hw_any_eq`.
pub fn operator_of(function: &str) -> Option<&'static str> {
    COMPARISONS.iter().find(|(name, ..)| *name == function).map(|(_, operator, _)| *operator)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Any {
    /// In [`COMPARISONS`].
    index: usize,
    signature: Signature,
}

impl ScalarUDFImpl for Any {
    fn name(&self) -> &str {
        COMPARISONS[self.index].0
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let [x, array] = given else { return exec_err!("a quantified comparison has two sides") };
        let item = match array {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => item.data_type(),
            DataType::Null => x,
            // `sql::errors` says which of the two it is.
            _ => return plan_err!("not an array"),
        };
        match common_type(x, item) {
            Some(common) => Ok(vec![common.clone(), DataType::new_list(common, true)]),
            None => plan_err!("not comparable"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let [x, lists] = args.args.as_slice() else { return exec_err!("a quantified comparison has two sides") };
        let all_scalar = [x, lists].iter().all(|side| matches!(side, ColumnarValue::Scalar(_)));
        let row_count = if all_scalar { 1 } else { args.number_rows };
        let (x, lists) = (x.to_array(row_count)?, lists.to_array(row_count)?);
        let Some(lists) = lists.as_list_opt::<i32>() else { return exec_err!("ANY expects an array") };
        // Each row's x beside each of its elements.
        let offsets = lists.offsets();
        let (first, last) = (offsets[0] as usize, offsets[row_count] as usize);
        let rows: UInt32Array =
            (0..row_count).flat_map(|row| (offsets[row]..offsets[row + 1]).map(move |_| row as u32)).collect();
        let x_beside = zero_is_one(take(&x, &rows, None)?);
        let items = zero_is_one(lists.values().slice(first, last - first));
        let fits = (COMPARISONS[self.index].2)(&x_beside, &items)?;
        let mut found = BooleanBuilder::with_capacity(row_count);
        for row in 0..row_count {
            let (start, end) = (offsets[row] as usize - first, offsets[row + 1] as usize - first);
            found.append_option(match (lists.is_null(row), start == end) {
                (true, _) => None,
                (false, true) => Some(false),
                _ if (start..end).any(|at| fits.is_valid(at) && fits.value(at)) => Some(true),
                _ if (start..end).any(|at| fits.is_null(at)) => None,
                _ => Some(false),
            });
        }
        let found: ArrayRef = Arc::new(found.finish());
        Ok(if all_scalar {
            ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&found, 0)?)
        } else {
            ColumnarValue::Array(found)
        })
    }
}

/// What both sides are brought to. A text is compared with texts alone; where `numeric` meets a float, the float's type counts.
fn common_type(x: &DataType, item: &DataType) -> Option<DataType> {
    use DataType::{Decimal128, Float32, Float64, Null};
    let is_text = |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    match (x, item) {
        (Null, other) | (other, Null) => Some(other.clone()),
        (x, item) if x == item => Some(x.clone()),
        (x, item) if is_text(x) != is_text(item) => None,
        (Decimal128(..), Float32 | Float64) | (Float32 | Float64, Decimal128(..)) => Some(Float64),
        (x, item) => comparison_coercion(x, item),
    }
}

/// Arrow tells −0 from 0; SQL does not.
fn zero_is_one(values: ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::Float64 => {
            let values: Float64Array = values.as_primitive::<Float64Type>().unary(|v| v + 0.0);
            Arc::new(values)
        }
        DataType::Float32 => {
            let values: Float32Array = values.as_primitive::<Float32Type>().unary(|v| v + 0.0);
            Arc::new(values)
        }
        _ => values,
    }
}
