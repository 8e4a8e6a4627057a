//! CREATE SOURCE: everything that can be wrong with connector, format and watermark is said now, and where reading starts
//! is made concrete, so that every view over the source sees the same rows.

use std::time::Duration;

use arrow::datatypes::SchemaRef;

use super::shape::require_distinct;
use super::table::columns;
use super::{Session, require_free};
use crate::catalog::{Column, GeneratedColumn, Object, ObjectKind, SourceDefinition, WatermarkDefinition};
use crate::error::{Error, Result, SqlState};
use crate::runtime::check_source;
use crate::serve::SourceTable;
use crate::session::limits::Limits;
use crate::session::shared::{arrival, schema_of, source_spec};
use crate::sql::CreateSource;
use crate::types::{PgType, Position};

/// How long the outside system may take to say where reading starts.
const START_TIMEOUT: Duration = Duration::from_secs(15);

impl Session {
    pub(super) async fn create_source(
        &mut self,
        create: &CreateSource,
        text: &str,
        limits: &mut Limits,
    ) -> Result<&'static str> {
        const TAG: &str = "CREATE SOURCE";
        let Some(name) = self.new_name(&create.name, create.if_not_exists)? else { return Ok(TAG) };
        if let Some(column) = create.columns.iter().find(|c| c.default.is_some()) {
            return Err(Error::unsupported(
                format!("DEFAULT of column \"{}\" in a source", column.name),
                "use coalesce in a view over the source",
            ));
        }
        require_distinct(create.columns.iter().map(|c| c.name.as_str()))?;
        let mut definition = SourceDefinition {
            is_paused: false,
            options: create.options.clone(),
            format: create.format.clone(),
            encode: create.encode.clone(),
            encode_options: create.encode_options.clone(),
            watermark: None,
            generated: generated(create),
            start: Position::default(),
        };
        let columns = self.source_columns(create, &definition)?;
        definition.watermark = watermark(create, &columns)?;
        let mut kind = ObjectKind::Source(definition);
        arrival::plan(&self.state, &columns, &mut kind)?;
        let ObjectKind::Source(mut definition) = kind else { return Err(Error::internal("a source is no source")) };
        definition.start = limits.guard(start(schema_of(&columns), definition.clone())).await?;

        let (shared, text) = (self.shared.clone(), text.to_string());
        let created = self.shared.uninterrupted(async move {
            let _lock = shared.ddl.lock().await;
            let mut catalog = shared.catalog().as_ref().clone();
            require_free(&shared, &catalog, &name)?;
            let id = catalog.allocate_id();
            let kind = ObjectKind::Source(definition);
            let object = catalog.insert(Object {
                id,
                name,
                kind,
                columns,
                definition: text,
                depends_on: vec![],
                indexes: vec![],
            })?;
            let spec = source_spec(&object).ok_or_else(|| Error::internal("a source is no source"))?;
            shared.runtime.create_source(spec).await?;
            match shared.publish(catalog).await {
                Ok(()) => Ok(()),
                Err(error) => {
                    // The source was never seen; the first error is the one to tell.
                    let _ = shared.runtime.drop_relations(vec![id]).await;
                    Err(error)
                }
            }
        });
        match created.await {
            Ok(()) => Ok(TAG),
            Err(error) => self.skip_existing(error, create.if_not_exists).map(|()| TAG),
        }
    }

    /// The declared columns, or the connector's own. Says whether they and the format fit the connector at all.
    fn source_columns(&self, create: &CreateSource, definition: &SourceDefinition) -> Result<Vec<Column>> {
        let mut columns = columns(&create.columns, &[]);
        let native = SourceTable::connect(definition, &schema_of(&columns))?.native_schema();
        if columns.is_empty() {
            let Some(native) = &native else {
                return Err(Error::new(SqlState::INVALID_TABLE_DEFINITION, "a source needs columns")
                    .with_hint("this connector does not know its columns: list them after the name"));
            };
            let column = |field: &arrow::datatypes::FieldRef| Column {
                name: field.name().clone(),
                pg_type: PgType::of(field),
                nullable: field.is_nullable(),
                default: None,
            };
            columns = native.fields().iter().map(column).collect();
        } else if !(0..columns.len()).any(|column| !definition.is_generated(column)) {
            return Err(Error::new(SqlState::INVALID_TABLE_DEFINITION, "a source needs a column that is read")
                .with_hint("list the columns of its records beside the generated ones"));
        }
        match definition.encode.as_str() {
            "NATIVE" | "PARQUET" if native.is_some() => {}
            "PARQUET" => {}
            "NATIVE" => {
                return Err(Error::new(SqlState::INVALID_TABLE_DEFINITION, "a source of bytes needs a format")
                    .with_hint("add FORMAT PLAIN ENCODE JSON or FORMAT PLAIN ENCODE CSV"));
            }
            encode if native.is_some() => {
                return Err(Error::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("this connector makes rows itself: ENCODE {encode} does not apply"),
                )
                .with_hint("leave FORMAT … ENCODE … out"));
            }
            _ => {}
        }
        Ok(columns)
    }
}

fn generated(create: &CreateSource) -> Vec<GeneratedColumn> {
    let columns = create.columns.iter().enumerate();
    let generated = columns.filter_map(|(column, definition)| Some((column, definition.generated.clone()?)));
    generated.map(|(column, expression)| GeneratedColumn { column, expression, planned: None }).collect()
}

/// 42804 unless it is over a point in time.
fn watermark(create: &CreateSource, columns: &[Column]) -> Result<Option<WatermarkDefinition>> {
    let Some(watermark) = &create.watermark else { return Ok(None) };
    let column = columns.get(watermark.column).ok_or_else(|| {
        Error::new(SqlState::UNDEFINED_COLUMN, "the watermark's column does not exist")
            .with_hint("list the source's columns, the watermark's among them")
    })?;
    if !matches!(column.pg_type, PgType::Timestamp | PgType::Timestamptz | PgType::Int8) {
        return Err(Error::new(
            SqlState::DATATYPE_MISMATCH,
            format!(
                "a watermark needs a timestamp, but column \"{}\" is of type {}",
                column.name,
                column.pg_type.name()
            ),
        )
        .with_hint("declare the column as timestamp or timestamptz, or as a bigint of milliseconds since 1970"));
    }
    Ok(Some(watermark_definition(watermark)))
}

pub(super) fn watermark_definition(watermark: &crate::sql::Watermark) -> WatermarkDefinition {
    WatermarkDefinition {
        column: watermark.column,
        expression: watermark.expression.clone(),
        delay_us: watermark.delay_us,
        planned: None,
    }
}

/// Checks options, format and columns, and asks the outside system, on a thread that may wait. 08006 if it does not answer
/// in time.
async fn start(schema: SchemaRef, definition: SourceDefinition) -> Result<Position> {
    let asked = tokio::task::spawn_blocking(move || check_source(&schema, &definition));
    match tokio::time::timeout(START_TIMEOUT, asked).await {
        Ok(Ok(position)) => position,
        Ok(Err(error)) => Err(Error::internal(format!("asking for the source's start failed: {error}"))),
        Err(_) => Err(Error::new(
            SqlState::CONNECTION_FAILURE,
            format!("the source did not say where to start within {} s", START_TIMEOUT.as_secs()),
        )
        .with_hint("check the connector's address, and try again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Name, Watermark};

    #[test]
    fn a_watermark_is_over_a_timestamp() {
        let create = CreateSource {
            name: Name { schema: None, name: "s".into() },
            if_not_exists: false,
            columns: vec![],
            watermark: Some(Watermark { column: 0, expression: "a".into(), delay_us: Some(0) }),
            options: Default::default(),
            format: "PLAIN".into(),
            encode: "JSON".into(),
            encode_options: Default::default(),
        };
        let column = |pg_type| Column { name: "a".into(), pg_type, nullable: true, default: None };
        let error = watermark(&create, &[column(PgType::Text)]).expect_err("text is no time");
        assert_eq!(error.code, SqlState::DATATYPE_MISMATCH);
        assert!(watermark(&create, &[column(PgType::Timestamptz)]).is_ok_and(|w| w.is_some()));
        assert!(watermark(&create, &[]).is_err());
    }
}
