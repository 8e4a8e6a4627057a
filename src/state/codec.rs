//! Deltas as bytes: an Arrow IPC stream whose last column holds the weights.
//!
//! The IPC format is stable across arrow releases, which a row codec of our own making would first have to become.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use crate::error::{Error, Result, SqlState};
use crate::types::Delta;

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
    let rows = batch.project(&(0..last).collect::<Vec<_>>())?;
    Ok(if weights.values().iter().all(|&w| w == 1) {
        Delta::insert(rows)
    } else {
        Delta::new(rows, weights.values().clone())
    })
}
