//! Arrays compared and counted as Postgres does it; what keeps its argument's type is in [`super::arrays`].

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use super::scalar::{Function, Kernel, Row, Type, function, overload};
use crate::error::Result;

use Type::{Any, Array as List, Int4};

pub(super) const FUNCTIONS: &[Function] = &[
    function("array_length", &[overload(&[List, Int4], Kernel::Int4(|row| Ok(length(&row.list(0), row.int(1)))))]),
    function("cardinality", &[overload(&[List], Kernel::Int4(|row| Ok(Some(items(&row.list(0)) as i32))))]),
    function(
        "array_ndims",
        &[overload(
            &[List],
            Kernel::Int4(|row| {
                let dimensions = sizes(&row.list(0)).len() as i32;
                Ok((dimensions > 0).then_some(dimensions))
            }),
        )],
    ),
    function(
        "array_dims",
        &[overload(
            &[List],
            Kernel::Text(|row| {
                let sizes = sizes(&row.list(0));
                let shown: String = sizes.iter().map(|size| format!("[1:{size}]")).collect();
                Ok((!shown.is_empty()).then_some(shown))
            }),
        )],
    ),
    function(
        "hw_array_overlaps",
        &[overload(
            &[List, List],
            Kernel::Bool(|row| {
                let (left, right) = (values(&row.list(0))?, values(&row.list(1))?);
                Ok(Some(left.iter().any(|value| !value.is_null() && right.contains(value))))
            }),
        )],
    ),
    function(
        "hw_array_contains",
        &[overload(
            &[List, List],
            Kernel::Bool(|row| {
                let (left, right) = (values(&row.list(0))?, values(&row.list(1))?);
                Ok(Some(right.iter().all(|value| !value.is_null() && left.contains(value))))
            }),
        )],
    ),
    function("num_nulls", &[overload(&[], Kernel::Int4(|row| Ok(Some(nulls(row))))).variadic(Any).lenient()]),
    function(
        "num_nonnulls",
        &[overload(&[], Kernel::Int4(|row| Ok(Some(row.len() as i32 - nulls(row))))).variadic(Any).lenient()],
    ),
];

fn nulls(row: &Row<'_>) -> i32 {
    (0..row.len()).filter(|index| row.is_null(*index)).count() as i32
}

/// Sizes by dimension; none for an empty array.
fn sizes(list: &ArrayRef) -> Vec<usize> {
    if list.is_empty() {
        return vec![];
    }
    let mut sizes = vec![list.len()];
    if let DataType::List(_) = list.data_type()
        && list.is_valid(0)
    {
        sizes.extend(self::sizes(&list.as_list::<i32>().value(0)));
    }
    sizes
}

fn length(list: &ArrayRef, dimension: i64) -> Option<i32> {
    let at = usize::try_from(dimension).ok()?.checked_sub(1)?;
    sizes(list).get(at).map(|size| *size as i32)
}

fn items(list: &ArrayRef) -> usize {
    match list.data_type() {
        DataType::List(_) => {
            let nested = list.as_list::<i32>();
            (0..nested.len()).filter(|at| nested.is_valid(*at)).map(|at| items(&nested.value(at))).sum()
        }
        _ => list.len(),
    }
}

/// All items, of all dimensions; numbers in one type, so that those of two arrays compare.
fn values(list: &ArrayRef) -> Result<Vec<ScalarValue>> {
    if let DataType::List(_) = list.data_type() {
        let nested = list.as_list::<i32>();
        let inner = (0..nested.len()).filter(|at| nested.is_valid(*at)).map(|at| values(&nested.value(at)));
        return Ok(inner.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect());
    }
    let list = if list.data_type().is_integer() { arrow::compute::cast(list, &DataType::Int64)? } else { list.clone() };
    (0..list.len()).map(|at| Ok(ScalarValue::try_from_array(&list, at)?)).collect()
}
