//! Fields into columns, a chunk of rows at a time.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_empty_array};
use arrow::compute::concat;
use arrow::datatypes::Schema;
use chrono_tz::Tz;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};

use crate::error::{Error, Result};
use crate::session::Session;
use crate::session::dml::Target;
use crate::sql::StatementKind;
use crate::types::PgType;
use crate::types::binary_input::decode_binary;
use crate::types::text_input::{null_of, parse_text};

/// Rows that are kept as single values before they become arrays.
const CHUNK_ROW_COUNT: usize = 8192;

pub struct Rows {
    types: Vec<PgType>,
    zone: Tz,
    values: Vec<Vec<ScalarValue>>,
    chunks: Vec<Vec<ArrayRef>>,
    row_count: usize,
}

impl Rows {
    pub fn new(types: Vec<PgType>, zone: Tz) -> Rows {
        let (values, chunks) = (vec![vec![]; types.len()], vec![vec![]; types.len()]);
        Rows { types, zone, values, chunks, row_count: 0 }
    }

    pub fn push_text(&mut self, column: usize, field: Option<&str>) -> Result<()> {
        let pg_type = &self.types[column];
        let value = match field {
            Some(text) => parse_text(text, pg_type, self.zone)?,
            None => null_of(pg_type)?,
        };
        self.values[column].push(value);
        Ok(())
    }

    pub fn push_binary(&mut self, column: usize, field: Option<&[u8]>) -> Result<()> {
        let pg_type = &self.types[column];
        let value = match field {
            Some(bytes) => decode_binary(bytes, pg_type, self.zone)?,
            None => null_of(pg_type)?,
        };
        self.values[column].push(value);
        Ok(())
    }

    pub fn end_row(&mut self) -> Result<()> {
        self.row_count += 1;
        if self.row_count.is_multiple_of(CHUNK_ROW_COUNT) { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        for (values, chunks) in self.values.iter_mut().zip(&mut self.chunks) {
            if !values.is_empty() {
                chunks.push(ScalarValue::iter_to_array(values.drain(..))?);
            }
        }
        Ok(())
    }

    pub fn row_count(&self) -> usize {
        self.row_count
    }

    /// One array for each column.
    pub fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.flush()?;
        let column = |(chunks, pg_type): (&Vec<ArrayRef>, &PgType)| {
            if chunks.is_empty() {
                return Ok(new_empty_array(&pg_type.arrow()));
            }
            Ok(concat(&chunks.iter().map(|chunk| chunk.as_ref()).collect::<Vec<_>>())?)
        };
        self.chunks.iter().zip(&self.types).map(column).collect()
    }
}

/// The columns of a table as one batch; NULLs are checked later.
pub fn batch(target: &Target, columns: Vec<ArrayRef>, row_count: usize) -> Result<RecordBatch> {
    let fields = target.schema.fields().iter().zip(&columns);
    let field = |(field, array): (&arrow::datatypes::FieldRef, &ArrayRef)| {
        field.as_ref().clone().with_nullable(true).with_data_type(array.data_type().clone())
    };
    let schema = Arc::new(Schema::new(fields.map(field).collect::<Vec<_>>()));
    let options = RecordBatchOptions::new().with_row_count(Some(row_count));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

impl Session {
    /// `row_count` values of a column that the input leaves out: its DEFAULT, evaluated for each row, or NULL.
    pub(super) async fn default_values(&self, target: &Target, column: usize, row_count: usize) -> Result<ArrayRef> {
        let definition = &target.columns[column];
        let Some(default) = definition.default.as_ref().filter(|_| row_count > 0) else {
            return Ok(null_of(&definition.pg_type)?.to_array_of_size(row_count)?);
        };
        let statements = crate::sql::parser::parse(&format!("SELECT ({default})"))?;
        let Some(StatementKind::Query(query)) = statements.into_iter().map(|s| s.kind).next() else {
            return Err(Error::internal("a DEFAULT is no expression"));
        };
        let plan = for_each_row(self.bind_query(&query, &[])?.plan, row_count)?;
        let batches = self.collect(&self.read_point()?, plan).await?;
        let arrays: Vec<ArrayRef> = batches.iter().map(|batch| batch.column(0).clone()).collect();
        let values = concat(&arrays.iter().map(|array| array.as_ref()).collect::<Vec<_>>())?;
        let strict = arrow::compute::CastOptions { safe: false, ..Default::default() };
        Ok(arrow::compute::cast_with_options(&values, &definition.pg_type.arrow(), &strict)?)
    }
}

/// A SELECT without FROM, over as many rows.
fn for_each_row(plan: LogicalPlan, row_count: usize) -> Result<LogicalPlan> {
    let numbers: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(0..row_count as i64));
    let rows = RecordBatch::try_from_iter([("row", numbers)])?;
    let table = provider_as_source(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?));
    let replaced = plan.transform_up(|node| match node {
        LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => {
            Ok(Transformed::yes(LogicalPlanBuilder::scan("rows", table.clone(), None)?.build()?))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(replaced.data)
}
