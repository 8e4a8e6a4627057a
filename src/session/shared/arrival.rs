//! What a source or table computes of a row where it arrives: its generated columns, and what it tells of the watermark.
//! The expressions are kept as text and planned when the object is made, and again when the catalog is read.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::execution::SessionState;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column as PhysicalColumn, cast};
use datafusion::physical_expr::utils::collect_columns;

use crate::catalog::{Catalog, Column, GeneratedColumn, Object, ObjectKind, WatermarkDefinition};
use crate::error::{Error, Result, SqlState};
use crate::sql::row_expression;
use crate::types::PgType;

/// Plans what the objects of a catalog that was just read compute. What can no longer be planned is told and left out.
pub fn plan_all(state: &SessionState, catalog: &mut Catalog) -> Result<()> {
    let objects: Vec<Arc<Object>> = catalog.objects().cloned().collect();
    for object in objects {
        let mut planned = object.as_ref().clone();
        match plan(state, &planned.columns, &mut planned.kind) {
            Ok(false) => {}
            Ok(true) => {
                catalog.remove(object.id);
                catalog.insert(planned)?;
            }
            Err(error) => tracing::error!(relation = %object.name, %error, "an expression can no longer be planned"),
        }
    }
    Ok(())
}

/// Plans what rows of these columns are given where they arrive; true if there is anything.
pub fn plan(state: &SessionState, columns: &[Column], kind: &mut ObjectKind) -> Result<bool> {
    let schema = super::schema_of(columns);
    match kind {
        ObjectKind::Source(definition) => {
            let computed: Vec<usize> = definition.generated.iter().map(|generated| generated.column).collect();
            for generated in &mut definition.generated {
                if generated.is_proctime() {
                    proctime(&columns[generated.column])?;
                    continue;
                }
                generated.planned = Some(generated_column(state, generated, &computed, columns, &schema)?);
            }
            let is_told = definition.watermark.as_mut().map_or(Ok(false), |told| watermark(state, told, &schema))?;
            Ok(is_told || !computed.is_empty())
        }
        ObjectKind::Table { watermark: Some(told), .. } => watermark(state, told, &schema),
        _ => Ok(false),
    }
}

/// 42804 for another type than an instant's.
fn proctime(column: &Column) -> Result<()> {
    if matches!(column.pg_type, PgType::Timestamptz | PgType::Timestamp) {
        return Ok(());
    }
    let message =
        format!("column \"{}\" is of type {} but PROCTIME() is an instant", column.name, column.pg_type.name());
    Err(Error::new(SqlState::DATATYPE_MISMATCH, message).with_hint("declare the column as timestamptz"))
}

/// 42P17 if it reads another generated column, 42804 if it is of another type.
fn generated_column(
    state: &SessionState,
    generated: &GeneratedColumn,
    computed: &[usize],
    columns: &[Column],
    schema: &SchemaRef,
) -> Result<Arc<dyn PhysicalExpr>> {
    let expr = row_expression(state, &generated.expression, schema)?;
    if let Some(other) = collect_columns(&expr).iter().find(|column| computed.contains(&column.index())) {
        let message = format!("cannot use generated column \"{}\" in column generation expression", other.name());
        return Err(Error::new(SqlState("42P17"), message)
            .with_detail("A generated column cannot reference another generated column."));
    }
    let column = &columns[generated.column];
    let (given, wanted) = (expr.return_field(schema)?, &column.pg_type);
    let given = PgType::of(given.as_ref());
    if given.arrow() == wanted.arrow() {
        return Ok(expr);
    }
    if !is_assignable(&given, wanted) {
        let message = format!(
            "column \"{}\" is of type {} but generation expression is of type {}",
            column.name,
            wanted.name(),
            given.name()
        );
        return Err(Error::new(SqlState::DATATYPE_MISMATCH, message)
            .with_hint("You will need to rewrite or cast the expression."));
    }
    Ok(cast(expr, schema, wanted.arrow())?)
}

/// Among numbers, and among times; between instants with and without a zone, the zone is UTC.
fn is_assignable(given: &PgType, wanted: &PgType) -> bool {
    let (given, wanted) = (given.arrow(), wanted.arrow());
    let is_time = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..) | DataType::Date32);
    (given.is_numeric() && wanted.is_numeric()) || (is_time(&given) && matches!(wanted, DataType::Timestamp(..)))
}

/// 0A000 if it reads more than the time column, 42804 if it is no time. True if it is more than a delay.
fn watermark(state: &SessionState, definition: &mut WatermarkDefinition, schema: &SchemaRef) -> Result<bool> {
    if definition.delay_us.is_some() {
        return Ok(false);
    }
    let expr = row_expression(state, &definition.expression, schema)?;
    let name = schema.field(definition.column).name();
    if let Some(other) = collect_columns(&expr).iter().find(|column| column.index() != definition.column) {
        let hint = "compute the time in a column of its own, GENERATED ALWAYS AS (…) STORED, and take that";
        let what = format!("a watermark for \"{name}\" that reads column \"{}\"", other.name());
        return Err(Error::unsupported(what, hint));
    }
    let (given, time) = (expr.data_type(schema)?, schema.field(definition.column).data_type());
    let is_time = matches!(given, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
    let is_number = given == DataType::Int64 && *time == DataType::Int64;
    if !is_time && !is_number {
        let given = PgType::of(expr.return_field(schema)?.as_ref());
        let message = format!("a watermark is a time, but \"{}\" is of type {}", definition.expression, given.name());
        let hint = match time {
            DataType::Int64 => format!("write {name} - 5000 or to_timestamp({name} / 1000.0) - INTERVAL '5 seconds'"),
            _ => format!("write {name} - INTERVAL '5 seconds'"),
        };
        return Err(Error::new(SqlState::DATATYPE_MISMATCH, message).with_hint(hint));
    }
    // It is given the time column alone.
    let alone = expr.transform_up(|expr| {
        let any: &dyn Any = expr.as_ref();
        Ok(match any.downcast_ref::<PhysicalColumn>() {
            Some(column) => Transformed::yes(Arc::new(PhysicalColumn::new(column.name(), 0)) as Arc<dyn PhysicalExpr>),
            None => Transformed::no(expr),
        })
    });
    definition.planned = Some(alone?.data);
    Ok(true)
}
