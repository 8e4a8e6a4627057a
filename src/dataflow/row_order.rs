//! Rows as bytes whose order is ORDER BY's, and back.
//!
//! The bytes are the ORDER BY columns and then the whole row, as arrow rows. So peers (rows that are equal in ORDER BY)
//! have an order too, that of their values: what depends on it, such as `row_number()`, is a function of the rows, and
//! not of the way they came.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatchOptions;
use arrow::row::{RowConverter, RowParser, SortField};

use super::floats::canonical;
use super::key_index::KeyIndex;
use crate::error::{Error, Result};
use crate::plan::SortColumn;
use crate::types::Delta;

pub struct RowOrder {
    schema: SchemaRef,
    columns: Vec<SortColumn>,
    sort: RowConverter,
    whole: RowConverter,
    parser: RowParser,
}

/// One row's change in its partition.
pub struct Change {
    pub partition: u32,
    pub key: Vec<u8>,
    pub sort_length: usize,
    pub weight: i64,
}

impl RowOrder {
    /// 0A000 if a column's type has no order.
    pub fn new(schema: SchemaRef, columns: Vec<SortColumn>) -> Result<RowOrder> {
        let fields: Vec<SortField> = columns
            .iter()
            .map(|column| SortField::new_with_options(schema.field(column.column).data_type().clone(), column.options))
            .collect();
        let all: Vec<SortField> = schema.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
        if !RowConverter::supports_fields(&fields) || !RowConverter::supports_fields(&all) {
            return Err(Error::unsupported("keeping rows of this type in order", "cast the column to text"));
        }
        let whole = RowConverter::new(all)?;
        let parser = whole.parser();
        Ok(RowOrder { schema, columns, sort: RowConverter::new(fields)?, whole, parser })
    }

    pub fn columns(&self) -> &[SortColumn] {
        &self.columns
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The changes that the deltas come to: ascending by partition and key, each once. Those that come to zero are among
    /// them, so that every partition that got a number is named.
    pub fn changes(&self, deltas: &[Delta], partition: &[usize], index: &mut KeyIndex) -> Result<Vec<Change>> {
        let mut changes: Vec<Change> = vec![];
        for delta in deltas {
            let key: Vec<ArrayRef> = partition.iter().map(|&column| delta.column(column).clone()).collect();
            let numbers = index.intern(&key, delta.row_count())?;
            let sorted: Vec<ArrayRef> = self.columns.iter().map(|sort| canonical(delta.column(sort.column))).collect();
            let sorts = if sorted.is_empty() { None } else { Some(self.sort.convert_columns(&sorted)?) };
            let rows = match delta.batch().num_columns() {
                0 => None,
                _ => Some(self.whole.convert_columns(delta.batch().columns())?),
            };
            for (row, &partition) in numbers.iter().enumerate() {
                let mut key = vec![];
                key.extend(sorts.iter().flat_map(|rows| rows.row(row).data()));
                let sort_length = key.len();
                key.extend(rows.iter().flat_map(|rows| rows.row(row).data()));
                changes.push(Change { partition, key, sort_length, weight: delta.weight(row) });
            }
        }
        add_up(&mut changes);
        Ok(changes)
    }

    /// The rows as columns again.
    pub fn batch<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<RecordBatch> {
        if self.schema.fields().is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(rows.count()));
            return Ok(RecordBatch::try_new_with_options(self.schema.clone(), vec![], &options)?);
        }
        let columns = self.whole.convert_rows(rows.map(|row| self.parser.parse(row)))?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// The ORDER BY bytes of one row with these values.
    pub fn sort_key(&self, values: &[ArrayRef]) -> Result<Vec<u8>> {
        let values: Vec<ArrayRef> = values.iter().map(canonical).collect();
        Ok(self.sort.convert_columns(&values)?.row(0).data().to_vec())
    }
}

/// Each row once, ascending by partition and key.
pub fn add_up(changes: &mut Vec<Change>) {
    changes.sort_unstable_by(|a, b| (a.partition, &a.key).cmp(&(b.partition, &b.key)));
    changes.dedup_by(|later, first| {
        let same = later.partition == first.partition && later.key == first.key;
        if same {
            first.weight += later.weight;
        }
        same
    });
}
