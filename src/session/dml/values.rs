//! The short way of `INSERT … VALUES`: rows of literals and casts are evaluated on the spot, without optimiser, physical
//! plan or another thread. A small insert is mostly this.
//!
//! Only expressions that mean the same before and after type coercion are taken; the rest goes the long way.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, Volatility};
use datafusion::physical_expr::create_physical_expr;

use crate::error::Result;

/// The rows of a plan that is nothing but values and projections over them; `None` if it is more. Errors are those of
/// the expressions. `props` holds the session's options, which functions may ask for.
pub fn literal_rows(plan: &LogicalPlan, props: &ExecutionProps) -> Result<Option<RecordBatch>> {
    match plan {
        LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => Ok(Some(one_row()?)),
        LogicalPlan::Values(values) => {
            let row_count = values.values.len();
            let fields = values.schema.fields();
            let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::with_capacity(row_count); fields.len()];
            let (empty, one) = (DFSchema::empty(), one_row()?);
            for row in &values.values {
                for ((expr, column), field) in row.iter().zip(&mut columns).zip(fields) {
                    let value = match expr {
                        Expr::Literal(value, _) => value.clone(),
                        expr if is_plain(expr, &empty) => {
                            ScalarValue::try_from_array(&evaluate(expr, &empty, &one, props)?, 0)?
                        }
                        _ => return Ok(None),
                    };
                    let same = value.data_type() == *field.data_type();
                    column.push(if same { value } else { value.cast_to(field.data_type())? });
                }
            }
            let columns = columns.into_iter().map(ScalarValue::iter_to_array).collect::<Result<Vec<_>, _>>()?;
            batch(fields.iter().cloned(), columns, row_count).map(Some)
        }
        LogicalPlan::SubqueryAlias(alias) => literal_rows(&alias.input, props),
        LogicalPlan::Projection(projection) => {
            let schema = projection.input.schema();
            if !projection.expr.iter().all(|expr| is_plain(expr, schema)) {
                return Ok(None);
            }
            let Some(input) = literal_rows(&projection.input, props)? else { return Ok(None) };
            let evaluated = projection.expr.iter().map(|expr| evaluate(expr, schema, &input, props));
            let columns = evaluated.collect::<Result<Vec<_>>>()?;
            batch(projection.schema.fields().iter().cloned(), columns, input.num_rows()).map(Some)
        }
        _ => Ok(None),
    }
}

/// True for what needs no coercion and gives the same value whenever it is asked.
fn is_plain(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Literal(..) | Expr::Column(_) => true,
        Expr::Alias(alias) => is_plain(&alias.expr, schema),
        Expr::Negative(inner) => matches!(inner.as_ref(), Expr::Literal(..)),
        Expr::Cast(Cast { expr, .. }) => is_plain(expr, schema),
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            let types = || args.iter().map(|arg| arg.get_type(schema)).collect::<Result<Vec<_>, _>>().ok();
            func.signature().volatility == Volatility::Immutable
                && args.iter().all(|arg| is_plain(arg, schema))
                && types().is_some_and(|types| coerced(func, &types).is_some_and(|coerced| coerced == types))
        }
        _ => false,
    }
}

/// The argument types that the function would be called with.
fn coerced(
    func: &datafusion::logical_expr::ScalarUDF,
    types: &[arrow::datatypes::DataType],
) -> Option<Vec<arrow::datatypes::DataType>> {
    let fields: Vec<FieldRef> =
        types.iter().map(|t| Arc::new(arrow::datatypes::Field::new("", t.clone(), true))).collect();
    let coerced = datafusion::logical_expr::type_coercion::functions::fields_with_udf(&fields, func).ok()?;
    Some(coerced.iter().map(|field| field.data_type().clone()).collect())
}

fn evaluate(expr: &Expr, schema: &DFSchema, input: &RecordBatch, props: &ExecutionProps) -> Result<ArrayRef> {
    let physical = create_physical_expr(expr, schema, props, &PhysicalPlanningContext::default())?;
    Ok(physical.evaluate(input)?.into_array(input.num_rows())?)
}

fn one_row() -> Result<RecordBatch> {
    batch(std::iter::empty(), vec![], 1)
}

fn batch(fields: impl Iterator<Item = FieldRef>, columns: Vec<ArrayRef>, row_count: usize) -> Result<RecordBatch> {
    // What an expression yields is what counts; the plan's own nullability may promise more than a literal keeps.
    let field = |(field, array): (FieldRef, &ArrayRef)| {
        field.as_ref().clone().with_data_type(array.data_type().clone()).with_nullable(true)
    };
    let schema = Arc::new(Schema::new(fields.zip(&columns).map(field).collect::<Vec<_>>()));
    let options = RecordBatchOptions::new().with_row_count(Some(row_count));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Int32Type};
    use datafusion::logical_expr::{LogicalPlanBuilder, cast, col, lit};

    use super::*;

    #[test]
    fn literals_and_casts_go_the_short_way() -> Result<()> {
        let plan = LogicalPlanBuilder::values(vec![vec![lit(1_i64), lit("2")], vec![lit(3_i64), lit("4")]])?
            .project(vec![cast(col("column2"), DataType::Int32).alias("b"), col("column1")])?
            .build()?;
        let rows = literal_rows(&plan, &ExecutionProps::new())?.expect("nothing but literals and casts");
        assert_eq!(rows.column(0).as_primitive::<Int32Type>().values(), &[2, 4]);
        Ok(())
    }

    #[test]
    fn what_needs_coercion_goes_the_long_way() -> Result<()> {
        let plan = LogicalPlanBuilder::values(vec![vec![lit(1_i64) + lit(2_i32)]])?.build()?;
        assert!(literal_rows(&plan, &ExecutionProps::new())?.is_none());
        Ok(())
    }

    #[test]
    fn a_bad_cast_is_an_error() -> Result<()> {
        let plan = LogicalPlanBuilder::values(vec![vec![lit("x")]])?
            .project(vec![cast(col("column1"), DataType::Int32)])?
            .build()?;
        assert_eq!(literal_rows(&plan, &ExecutionProps::new()).err().map(|e| e.code.0), Some("22P02"));
        Ok(())
    }
}
