//! Text to values: what Postgres calls a type's input function ([`parse_text`]), over columns.
//!
//! An explicit cast to `varchar(n)` cuts what is too long, where an assignment refuses it.

use std::sync::Arc;

use chrono_tz::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray};
use datafusion::common::ScalarValue;

use super::{Conversion, map_text};
use crate::error::Result;
use crate::types::PgType;
use crate::types::text_input::{fit_bpchar, fit_varchar, null_of, parse_text};

pub(super) fn from_text(strings: &StringArray, target: &PgType, how: Conversion) -> Result<ArrayRef> {
    match target {
        PgType::Varchar(limit) => map_text(strings, |text| fit_varchar(cut(text, *limit, how), *limit)),
        PgType::Bpchar(limit) => map_text(strings, |text| fit_bpchar(cut(text, *limit, how), *limit)),
        PgType::Array(item) if !how.strict && is_cut(item) => {
            let texts = parsed(strings, &PgType::Array(Box::new(PgType::Text)), how.zone)?;
            let texts = texts.as_list::<i32>();
            let items = from_text(texts.values().as_string::<i32>(), item, how)?;
            let (offsets, nulls) = (texts.offsets().clone(), texts.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(item.field("item", true), offsets, items, nulls)?))
        }
        _ if super::is_text(target) && !matches!(target, PgType::Name | PgType::Char) => Ok(Arc::new(strings.clone())),
        _ => parsed(strings, target, how.zone),
    }
}

fn is_cut(pg_type: &PgType) -> bool {
    matches!(pg_type, PgType::Varchar(Some(_)) | PgType::Bpchar(Some(_)))
}

/// The first `limit` characters, if that is what the conversion does with long strings.
fn cut(text: &str, limit: Option<u32>, how: Conversion) -> &str {
    let end = limit.filter(|_| !how.strict).and_then(|limit| text.char_indices().nth(limit as usize));
    end.map_or(text, |(end, _)| &text[..end])
}

/// Each text through the type's input function.
fn parsed(strings: &StringArray, target: &PgType, zone: Tz) -> Result<ArrayRef> {
    if strings.is_empty() {
        return Ok(datafusion::arrow::array::new_empty_array(&target.arrow()));
    }
    let null = null_of(target)?;
    let values = strings.iter().map(|text| text.map_or(Ok(null.clone()), |text| parse_text(text, target, zone)));
    let values = values.collect::<Result<Vec<ScalarValue>>>()?;
    Ok(ScalarValue::iter_to_array(values)?)
}
