//! Floats that are equal, as Postgres compares them, in one form: −0 is 0, and there is one NaN.
//!
//! Keys of groups, joins and partitions are compared by their bytes, so they are brought to it first.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float32Array, Float64Array};
use arrow::datatypes::{DataType, Float32Type, Float64Type};

/// The column with equal floats alike.
pub fn canonical(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float64 => {
            let floats = column.as_primitive::<Float64Type>();
            let one = floats.unary::<_, Float64Type>(|v| if v.is_nan() { f64::NAN } else { v + 0.0 });
            Arc::new(one as Float64Array)
        }
        DataType::Float32 => {
            let floats = column.as_primitive::<Float32Type>();
            let one = floats.unary::<_, Float32Type>(|v| if v.is_nan() { f32::NAN } else { v + 0.0 });
            Arc::new(one as Float32Array)
        }
        _ => column.clone(),
    }
}
