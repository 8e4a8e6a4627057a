//! Deltas as bytes: an Arrow IPC stream whose last column holds the weights.
//!
//! The IPC format is stable across arrow releases, which a row codec of our own making would first have to become.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use crate::error::{Error, Result, SqlState};
use crate::types::{Delta, NUMERIC_DEFAULT, PG_TYPE_KEY};

const WEIGHT: &str = "$weight";

pub fn encode_delta(delta: &Delta) -> Result<Vec<u8>> {
    let batch = delta.batch();
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(WEIGHT, DataType::Int64, false)));
    let schema = Arc::new(Schema::new(fields));
    let weights: Int64Array = (0..delta.row_count()).map(|row| delta.weight(row)).collect::<Vec<_>>().into();
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(weights));
    let mut bytes = vec![];
    let mut writer = StreamWriter::try_new(&mut bytes, &schema)?;
    writer.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

/// XX001 if the bytes are not a delta.
pub fn decode_delta(bytes: &[u8]) -> Result<Delta> {
    let damaged = |why: String| Error::new(SqlState::DATA_CORRUPTED, format!("unreadable table data: {why}"));
    let mut reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(|e| damaged(e.to_string()))?;
    let batch = match reader.next() {
        Some(batch) => batch.map_err(|e| damaged(e.to_string()))?,
        None => return Err(damaged("no batch".into())),
    };
    let last = batch.num_columns().checked_sub(1).filter(|&last| batch.schema().field(last).name() == WEIGHT);
    let Some(last) = last else { return Err(damaged("no weights".into())) };
    let weights = batch.column(last).as_primitive_opt::<Int64Type>().ok_or_else(|| damaged("odd weights".into()))?;
    let rows = as_carried(batch.project(&(0..last).collect::<Vec<_>>())?)?;
    Ok(if weights.values().iter().all(|&w| w == 1) {
        Delta::insert(rows)
    } else {
        Delta::new(rows, weights.values().clone())
    })
}

/// Numbers of `numeric` that were written when it was carried with ten digits behind the point (their fields say
/// `numeric`, which they no longer do) as it is carried now. 22003 if one has more digits before the point.
fn as_carried(rows: RecordBatch) -> Result<RecordBatch> {
    let schema = rows.schema();
    let fields: Vec<FieldRef> = schema.fields().iter().map(carried).collect();
    if fields.iter().zip(schema.fields()).all(|(now, then)| now.data_type() == then.data_type()) {
        return Ok(rows);
    }
    let strict = CastOptions { safe: false, ..Default::default() };
    let columns = rows.columns().iter().zip(&fields);
    let columns = columns.map(|(column, field)| cast_with_options(column, field.data_type(), &strict));
    let columns = columns.collect::<std::result::Result<Vec<ArrayRef>, _>>()?;
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn carried(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Decimal128(..) if field.metadata().get(PG_TYPE_KEY).is_some_and(|name| name == "numeric") => {
            DataType::Decimal128(NUMERIC_DEFAULT.0, NUMERIC_DEFAULT.1)
        }
        DataType::List(item) => DataType::List(carried(item)),
        DataType::Struct(parts) => DataType::Struct(parts.iter().map(carried).collect()),
        _ => return field.clone(),
    };
    if data_type == *field.data_type() {
        return field.clone();
    }
    let mut metadata = field.metadata().clone();
    metadata.retain(|key, value| key != PG_TYPE_KEY || value != "numeric");
    Arc::new(field.as_ref().clone().with_data_type(data_type).with_metadata(metadata))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::array::Decimal128Array;

    use super::*;

    #[test]
    fn numbers_of_before_are_read_with_more_digits() -> Result<()> {
        let metadata = HashMap::from([(PG_TYPE_KEY.to_string(), "numeric".to_string())]);
        let fields = vec![
            Field::new("old", DataType::Decimal128(38, 10), true).with_metadata(metadata),
            Field::new("declared", DataType::Decimal128(38, 10), true),
        ];
        let numbers: ArrayRef = Arc::new(Decimal128Array::from(vec![15_000_000_000]).with_precision_and_scale(38, 10)?);
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![numbers.clone(), numbers.clone()])?;
        let read = decode_delta(&encode_delta(&Delta::insert(rows))?)?;
        let upgraded = read.column(0).as_primitive::<arrow::datatypes::Decimal128Type>();
        assert_eq!((upgraded.scale(), upgraded.value(0)), (16, 15_000_000_000_000_000));
        assert_eq!(read.column(1), &numbers);
        assert!(read.batch().schema().field(0).metadata().is_empty());
        Ok(())
    }
}
