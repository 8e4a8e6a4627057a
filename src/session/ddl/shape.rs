//! The columns of a query that is kept: each gets the name the client chose and the Arrow type that its Postgres type is
//! carried in, so that what a view holds is what the catalog says.

use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlanBuilder};

use crate::catalog::Column;
use crate::error::{Error, Result, SqlState};
use crate::sql::bind::Bound;
use crate::types::PgType;

/// `names` rename the first columns; the others keep their own. 42601 for too many, 42701 for a name used twice.
pub fn shape(mut bound: Bound, names: &[String]) -> Result<(Bound, Vec<Column>)> {
    let schema = bound.plan.schema().clone();
    if names.len() > schema.fields().len() {
        return Err(Error::new(SqlState::SYNTAX_ERROR, "CREATE VIEW specifies more column names than columns"));
    }
    let (mut columns, mut exprs, mut changed): (Vec<Column>, Vec<Expr>, bool) = (vec![], vec![], false);
    for (index, (qualifier, field)) in schema.iter().enumerate() {
        let pg_type = match PgType::of(field) {
            // As for `SELECT NULL AS x` in Postgres.
            PgType::Unknown => PgType::Text,
            known => known,
        };
        let name = names.get(index).unwrap_or(field.name()).clone();
        if columns.iter().any(|column| column.name == name) {
            return Err(Error::new(SqlState::DUPLICATE_COLUMN, format!("column \"{name}\" specified more than once"))
                .with_hint("give one of them another name with AS"));
        }
        let column = Expr::from((qualifier, field));
        let arrow = pg_type.arrow();
        let same = *field.data_type() == arrow;
        changed |= !same || name != *field.name();
        let expr = if same { column } else { column.cast_to(&arrow, &schema)? };
        exprs.push(expr.alias(name.clone()));
        columns.push(Column { name, pg_type, nullable: true, default: None });
    }
    if changed {
        bound.plan = LogicalPlanBuilder::from(bound.plan).project(exprs)?.build()?;
    }
    Ok((bound, columns))
}

/// 42701 if two columns of a definition have one name.
pub fn require_distinct<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::new(SqlState::DUPLICATE_COLUMN, format!("column \"{name}\" specified more than once")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{cast, col, lit};

    use super::*;

    fn bound() -> Result<Bound> {
        let plan = LogicalPlanBuilder::values(vec![vec![lit(1_i64), lit("x")]])?
            .project(vec![
                col("column1").alias("a"),
                cast(col("column2"), arrow::datatypes::DataType::Utf8View).alias("b"),
            ])?
            .build()?;
        Ok(Bound {
            plan,
            relations: vec![],
            depends_on: vec![],
            functions: vec![],
            parameters: vec![],
            instants: vec![],
        })
    }

    #[test]
    fn columns_get_their_names_and_canonical_types() -> Result<()> {
        let (bound, columns) = shape(bound()?, &["x".to_string()])?;
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["x", "b"]);
        assert_eq!(columns[1].pg_type, PgType::Text);
        assert_eq!(*bound.plan.schema().field(1).data_type(), arrow::datatypes::DataType::Utf8);
        Ok(())
    }

    #[test]
    fn names_are_checked() -> Result<()> {
        let names = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(shape(bound()?, &names(&["b"])).err().map(|e| e.code), Some(SqlState::DUPLICATE_COLUMN));
        assert_eq!(shape(bound()?, &names(&["x", "y", "z"])).err().map(|e| e.code), Some(SqlState::SYNTAX_ERROR));
        Ok(())
    }
}
