//! The hash by which keyed runs are ordered. It is written to disk, so it is our own and never changes: each column's
//! value as 64-bit words (NULL as a word of its own), folded one after the other by the finalizer of SplitMix64 (Steele, Lea
//! and Flood, 2014). What is equal as a key has the same hash: −0 and 0, and every NaN.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, IntervalMonthDayNanoType, IntervalUnit, UInt64Type,
};

use crate::error::Result;

const SEED: u64 = 0x6b65_7965_6420_7275;
const NULL: u64 = 0x4e55_4c4c_4e55_4c4c;

/// True for types whose values have such a hash.
pub fn can_hash(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_floating()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Date32
                | DataType::Date64
                | DataType::Time32(_)
                | DataType::Time64(_)
                | DataType::Timestamp(_, _)
                | DataType::Utf8
                | DataType::Binary
                | DataType::FixedSizeBinary(_)
                | DataType::Decimal128(_, _)
                | DataType::Interval(IntervalUnit::MonthDayNano)
        )
}

/// One for each row. Panics on a type that [`can_hash`] denies.
pub fn key_hashes(columns: &[ArrayRef], row_count: usize) -> Result<Vec<u64>> {
    let mut hashes = vec![SEED; row_count];
    for column in columns {
        fold_column(&mut hashes, column)?;
    }
    Ok(hashes)
}

fn fold_column(hashes: &mut [u64], column: &ArrayRef) -> Result<()> {
    match column.data_type() {
        DataType::UInt64 => {
            let words = column.as_primitive::<UInt64Type>().values();
            fold(hashes, column, |hash, row| mix(hash ^ words[row]));
        }
        floating if floating.is_floating() => {
            let floats = cast(column, &DataType::Float64)?;
            let floats = floats.as_primitive::<Float64Type>().values();
            let bits = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() };
            fold(hashes, column, |hash, row| mix(hash ^ bits(floats[row])));
        }
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            fold(hashes, column, |hash, row| fold_bytes(hash, texts.value(row).as_bytes()));
        }
        DataType::Binary => {
            let bytes = column.as_binary::<i32>();
            fold(hashes, column, |hash, row| fold_bytes(hash, bytes.value(row)));
        }
        DataType::FixedSizeBinary(_) => {
            let bytes = column.as_fixed_size_binary();
            fold(hashes, column, |hash, row| fold_bytes(hash, bytes.value(row)));
        }
        DataType::Decimal128(_, _) => {
            let numbers = column.as_primitive::<Decimal128Type>().values();
            let words = |number: i128| (number as u64, (number >> 64) as u64);
            fold(hashes, column, |hash, row| {
                let (low, high) = words(numbers[row]);
                mix(mix(hash ^ low) ^ high)
            });
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let intervals = column.as_primitive::<IntervalMonthDayNanoType>().values();
            fold(hashes, column, |hash, row| {
                let interval = intervals[row];
                let days = (interval.months as u32 as u64) << 32 | u64::from(interval.days as u32);
                mix(mix(hash ^ days) ^ interval.nanoseconds as u64)
            });
        }
        other => {
            assert!(can_hash(other), "a key of type {other} has no hash");
            let words = cast(column, &DataType::Int64)?;
            let words = words.as_primitive::<Int64Type>().values();
            fold(hashes, column, |hash, row| mix(hash ^ words[row] as u64));
        }
    }
    Ok(())
}

fn fold(hashes: &mut [u64], column: &ArrayRef, value: impl Fn(u64, usize) -> u64) {
    if column.null_count() == 0 {
        hashes.iter_mut().enumerate().for_each(|(row, hash)| *hash = value(*hash, row));
        return;
    }
    for (row, hash) in hashes.iter_mut().enumerate() {
        // Twice, so that NULL is no other value's word.
        *hash = if column.is_null(row) { mix(mix(*hash ^ NULL)) } else { value(*hash, row) };
    }
}

/// Eight bytes at a time, little-endian, the last padded with zeros; then their number.
fn fold_bytes(mut hash: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = mix(hash ^ u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(mix(hash ^ u64::from_le_bytes(last)) ^ bytes.len() as u64)
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray};

    use super::*;

    /// What lies on disk is ordered by these: a change of the function would make it unreadable.
    #[test]
    fn hashes_stay_what_they_were() -> Result<()> {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(7), None]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some(""), Some("a longer text"), None]));
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN), None]));
        let hashes = key_hashes(&[numbers, texts, floats], 3)?;
        assert_eq!(hashes, [13697658720461733255, 13323088452095013996, 3338109145823576190]);
        Ok(())
    }

    #[test]
    fn equal_keys_have_equal_hashes() -> Result<()> {
        let other_nan = f64::from_bits(f64::NAN.to_bits() | 1 << 63);
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, other_nan, 1.0]));
        let hashes = key_hashes(&[floats], 5)?;
        assert!(hashes[0] == hashes[1] && hashes[2] == hashes[3] && hashes[0] != hashes[4]);
        let sliced: ArrayRef = Arc::new(Int32Array::from(vec![Some(9), Some(5), None]).slice(1, 2));
        let plain: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), None]));
        assert_eq!(key_hashes(&[sliced], 2)?, key_hashes(&[plain], 2)?);
        Ok(())
    }
}
