//! Assignment: what may be stored in a column without an explicit cast.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::{DFSchema, Result as PlanResult, ScalarValue};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, ExprSchemable};

use super::postgres;
use crate::catalog::Column;
use crate::error::{Error, SqlState};
use crate::sql::convert;
use crate::types::PgType;

/// `expr` as a value of the column. 42804 if Postgres would want a cast; values are checked when they are there
/// (22001, 22003, 22P02).
pub(super) fn assign(expr: Expr, schema: &DFSchema, column: &Column) -> PlanResult<Expr> {
    let target = &column.pg_type;
    let from = postgres::expression_type(&expr, schema)?;
    let arrow = expr.get_type(schema)?;
    let is_null = arrow == DataType::Null || matches!(&expr, Expr::Literal(value, _) if value.is_null());
    if is_null {
        let null = ScalarValue::try_new_null(&target.arrow())?;
        return Ok(Expr::Literal(null, metadata(target)));
    }
    if !is_assignable(&from, target) {
        let message = format!(
            "column \"{}\" is of type {} but expression is of type {}",
            column.name,
            target.name(),
            from.name()
        );
        let hint = "you will need to rewrite or cast the expression";
        return Err(Error::new(SqlState::DATATYPE_MISMATCH, message).with_hint(hint).into());
    }
    if convert::is_special(&from, &arrow, target) || (convert::is_text(target) && !convert::is_text(&from)) {
        return Ok(convert::assignment(expr, target.clone()));
    }
    // VALUES wants all rows of a column to have the same metadata.
    let field = target.field("value", true);
    if arrow == target.arrow() && expr.metadata(schema)? == FieldMetadata::from(field.metadata()) {
        return Ok(expr);
    }
    if let (Expr::Literal(value, _), true) = (&expr, arrow == target.arrow()) {
        return Ok(Expr::Literal(value.clone(), metadata(target)));
    }
    Ok(Expr::Cast(Cast::new_from_field(Box::new(expr), field)))
}

/// What tells the type apart from others with the same Arrow type.
fn metadata(target: &PgType) -> Option<FieldMetadata> {
    let metadata = FieldMetadata::from(target.field("value", true).metadata());
    (!metadata.is_empty()).then_some(metadata)
}

fn is_assignable(from: &PgType, to: &PgType) -> bool {
    use PgType as T;
    let number = |t: &PgType| matches!(t, T::Int2 | T::Int4 | T::Int8 | T::Float4 | T::Float8 | T::Numeric(_));
    let time = |t: &PgType| matches!(t, T::Date | T::Timestamp | T::Timestamptz);
    let reference =
        |t: &PgType| matches!(t, T::Oid | T::Regclass | T::Regtype | T::Regproc | T::Regnamespace | T::Int4 | T::Int8);
    match (from, to) {
        (T::Unknown, _) => true,
        (T::Array(a), T::Array(b)) => is_assignable(a, b),
        (T::Record(a), T::Record(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((_, a), (_, b))| is_assignable(a, b))
        }
        // Everything can be printed.
        (_, to) if convert::is_text(to) => true,
        (T::Json | T::Jsonb, T::Json | T::Jsonb) => true,
        (T::Timestamp | T::Timestamptz | T::Interval, T::Time) => true,
        (T::Time, T::Interval) => true,
        (from, to) => {
            from == to || (number(from) && number(to)) || (time(from) && time(to)) || (reference(from) && reference(to))
        }
    }
}
