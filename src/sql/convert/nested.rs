//! Arrays and composite values: item by item, and field by field in their order, whatever the fields are called.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use datafusion::arrow::datatypes::DataType;

use super::{Conversion, convert, is_special, is_text, plain_cast};
use crate::error::{Error, Result, SqlState};
use crate::types::PgType;

/// True if the conversion goes through the parts of a value.
pub(super) fn is_nested(from: &PgType, to: &PgType) -> bool {
    match (from, to) {
        (PgType::Record(_), PgType::Record(_)) => from != to,
        (PgType::Array(from), PgType::Array(to)) => is_special(from, &from.arrow(), to) || is_nested(from, to),
        _ => false,
    }
}

pub(super) fn from_list(array: &ArrayRef, item: &PgType, how: Conversion) -> Result<ArrayRef> {
    let list = array.as_list::<i32>();
    let values = part(list.values(), item, how)?;
    let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
    Ok(Arc::new(ListArray::try_new(item.field("item", true), offsets, values, nulls)?))
}

/// 42846 if the numbers of fields differ.
pub(super) fn from_record(array: &ArrayRef, fields: &[(String, PgType)], how: Conversion) -> Result<ArrayRef> {
    let record = array.as_struct();
    if record.num_columns() != fields.len() {
        let detail = match record.num_columns() < fields.len() {
            true => "Input has too few columns.",
            false => "Input has too many columns.",
        };
        return Err(Error::new(SqlState::CANNOT_COERCE, "cannot cast type record").with_detail(detail));
    }
    let target = PgType::Record(fields.to_vec()).arrow();
    let (DataType::Struct(target), false) = (&target, fields.is_empty()) else { return Ok(array.clone()) };
    let parts = record.columns().iter().zip(fields).map(|(column, (_, pg_type))| part(column, pg_type, how));
    let parts = parts.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new(target.clone(), parts, record.nulls().cloned())?))
}

/// A part is converted as a value of its own would be.
fn part(array: &ArrayRef, target: &PgType, how: Conversion) -> Result<ArrayRef> {
    let from = PgType::of_arrow(array.data_type());
    let prints = is_text(target) && !is_text(&from);
    if *array.data_type() != DataType::Null && (prints || is_special(&from, array.data_type(), target)) {
        return convert(array, target, how);
    }
    if *array.data_type() == target.arrow() { Ok(array.clone()) } else { plain_cast(array, &target.arrow()) }
}
