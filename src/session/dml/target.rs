//! The table that a statement writes to, and the rules that its rows must keep: types, NOT NULL, PRIMARY KEY.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::SchemaRef;
use bytes::BytesMut;

use crate::catalog::{Catalog, Column, ObjectKind};
use crate::error::{Error, Result, SqlState};
use crate::types::text_output::{TextColumn, TextStyle};
use crate::types::{PgType, RelationId};

pub struct Target {
    pub id: RelationId,
    /// Without its schema, as messages name it.
    pub name: String,
    pub columns: Vec<Column>,
    pub schema: SchemaRef,
    /// Column indices; empty: none.
    pub primary_key: Vec<usize>,
    pub append_only: bool,
}

impl Target {
    /// 42P01 if it was dropped meanwhile.
    pub fn of(catalog: &Catalog, id: RelationId) -> Result<Target> {
        let object = catalog
            .get(id)
            .ok_or_else(|| Error::new(SqlState::UNDEFINED_TABLE, format!("the table with OID {} was dropped", id.0)))?;
        let ObjectKind::Table { primary_key, append_only, .. } = &object.kind else {
            return Err(Error::internal(format!("\"{}\" is written to and is no table", object.name)));
        };
        Ok(Target {
            id,
            name: object.name.name.clone(),
            columns: object.columns.clone(),
            schema: object.schema(),
            primary_key: primary_key.clone(),
            append_only: *append_only,
        })
    }

    /// 0A000 for a statement that takes rows back, of a table that only grows.
    pub fn require_changeable(&self, statement: &str) -> Result<()> {
        if !self.append_only {
            return Ok(());
        }
        let message = format!("{statement} on the append-only table \"{}\"", self.name);
        Err(Error::unsupported(message, "its rows are for ever; drop the table, or create one without APPEND ONLY"))
    }

    /// All rows as one batch of the table's types.
    pub fn concat(&self, batches: &[RecordBatch]) -> Result<RecordBatch> {
        let conformed: Vec<RecordBatch> =
            batches.iter().map(|batch| self.conform(batch.clone())).collect::<Result<_>>()?;
        Ok(concat_batches(&self.nullable_schema(), &conformed)?)
    }

    /// The rows in the table's own types. Nullability is checked apart, since it has an error of its own.
    pub fn conform(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if batch.num_columns() != self.columns.len() {
            return Err(Error::internal(format!(
                "{} columns for the {} of \"{}\"",
                batch.num_columns(),
                self.columns.len(),
                self.name
            )));
        }
        let columns: Vec<ArrayRef> = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(array, field)| {
                if array.data_type() == field.data_type() {
                    return Ok(array.clone());
                }
                let strict = CastOptions { safe: false, ..CastOptions::default() };
                Ok(cast_with_options(array, field.data_type(), &strict)?)
            })
            .collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.nullable_schema(), columns, &options)?)
    }

    fn nullable_schema(&self) -> SchemaRef {
        let fields = self.schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
    }

    /// The checked rows under the table's own schema.
    pub fn admit(&self, batch: RecordBatch) -> Result<RecordBatch> {
        self.check_not_null(&batch)?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), batch.columns().to_vec(), &options)?)
    }

    /// 23502 for the first row that has a NULL where none may be.
    pub fn check_not_null(&self, batch: &RecordBatch) -> Result<()> {
        let strict = self.columns.iter().enumerate().filter(|(_, column)| !column.nullable);
        for (index, column) in strict {
            let array = batch.column(index);
            if array.null_count() == 0 {
                continue;
            }
            let row = (0..array.len()).find(|&row| array.is_null(row)).unwrap_or(0);
            let all: Vec<usize> = (0..self.columns.len()).collect();
            return Err(Error::new(
                SqlState::NOT_NULL_VIOLATION,
                format!(
                    "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                    column.name, self.name
                ),
            )
            .with_detail(format!("Failing row contains ({}).", self.texts(batch, row, &all)?)));
        }
        Ok(())
    }

    /// 23505 for this row of `batch`.
    pub fn duplicate_key(&self, batch: &RecordBatch, row: usize) -> Error {
        let names: Vec<&str> = self.primary_key.iter().map(|&column| self.columns[column].name.as_str()).collect();
        let message = format!("duplicate key value violates unique constraint \"{}_pkey\"", self.name);
        let error = Error::new(SqlState::UNIQUE_VIOLATION, message);
        match self.texts(batch, row, &self.primary_key) {
            Ok(values) => error.with_detail(format!("Key ({})=({values}) already exists.", names.join(", "))),
            Err(_) => error,
        }
    }

    fn texts(&self, batch: &RecordBatch, row: usize, columns: &[usize]) -> Result<String> {
        let mut values = vec![];
        for &column in columns {
            let pg_type = PgType::of(self.schema.field(column));
            let text = TextColumn::new(&batch.column(column).slice(row, 1), &pg_type, &TextStyle::default())?;
            if text.is_null(0) {
                values.push("null".to_string());
                continue;
            }
            let mut out = BytesMut::new();
            text.put(0, &mut out);
            values.push(String::from_utf8_lossy(&out).into_owned());
        }
        Ok(values.join(", "))
    }
}

#[cfg(test)]
pub mod tests {
    use arrow::array::{Int32Array, StringArray};

    use super::*;

    /// `t (id int PRIMARY KEY, name text)`.
    pub fn table() -> Target {
        let column = |name: &str, pg_type, nullable| Column { name: name.into(), pg_type, nullable, default: None };
        let columns = vec![column("id", PgType::Int4, false), column("name", PgType::Text, true)];
        let fields: Vec<_> = columns.iter().map(|c| c.pg_type.field(&c.name, c.nullable)).collect();
        Target {
            id: RelationId::FIRST,
            name: "t".into(),
            columns,
            schema: Arc::new(arrow::datatypes::Schema::new(fields)),
            primary_key: vec![0],
            append_only: false,
        }
    }

    pub fn rows(target: &Target, rows: &[(Option<i32>, &str)]) -> RecordBatch {
        let ids: Int32Array = rows.iter().map(|(id, _)| *id).collect();
        let names: StringArray = rows.iter().map(|(_, name)| Some(*name)).collect();
        RecordBatch::try_new(target.nullable_schema(), vec![Arc::new(ids), Arc::new(names)]).expect("two columns")
    }

    #[test]
    fn a_null_is_refused_in_postgres_words() {
        let target = table();
        let error = target.check_not_null(&rows(&target, &[(Some(1), "a"), (None, "b")])).expect_err("a NULL id");
        assert_eq!(error.code, SqlState::NOT_NULL_VIOLATION);
        assert_eq!(error.message, "null value in column \"id\" of relation \"t\" violates not-null constraint");
        assert_eq!(error.detail.as_deref(), Some("Failing row contains (null, b)."));
    }

    #[test]
    fn a_duplicate_names_its_key() {
        let target = table();
        let error = target.duplicate_key(&rows(&target, &[(Some(1), "a")]), 0);
        assert_eq!(error.message, "duplicate key value violates unique constraint \"t_pkey\"");
        assert_eq!(error.detail.as_deref(), Some("Key (id)=(1) already exists."));
    }
}
