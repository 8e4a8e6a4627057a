//! The columns that a reader of a source makes: some are read, the others are computed from these where a row arrives
//! (`GENERATED ALWAYS AS … STORED`).

use std::any::Any;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;

use super::Failed;
use super::event_time::times_of;
use super::expression::values_or_null;
use crate::catalog::SourceDefinition;
use crate::error::{Error, Result};

/// Which columns are read, and how the wanted ones are made of them.
pub struct SourceColumns {
    /// Of those columns that can be read ([`SourceDefinition::read_schema`]): what connector and decoder make, ascending.
    pub read: Vec<usize>,
    /// Over the columns that are read; `None`: the instant of the row's arrival.
    generated: Vec<Generated>,
    /// The source's columns in the order in which [`SourceColumns::complete`] has them.
    columns: Vec<usize>,
}

type Generated = (Arc<Field>, Option<Arc<dyn PhysicalExpr>>);

impl SourceColumns {
    /// `schema`: all columns of the source.
    pub fn new(
        schema: &SchemaRef,
        definition: &SourceDefinition,
        wanted: impl IntoIterator<Item = usize>,
    ) -> Result<SourceColumns> {
        let (computed, mut read): (Vec<usize>, Vec<usize>) =
            wanted.into_iter().partition(|&column| definition.is_generated(column));
        let computed = definition.generated.iter().filter(|generated| computed.contains(&generated.column));
        let planned = computed.map(|generated| match &generated.planned {
            None if !generated.is_proctime() => Err(Error::internal("a generated column was not planned")),
            expr => Ok((generated.column, expr.as_ref())),
        });
        let planned: Vec<(usize, Option<&Arc<dyn PhysicalExpr>>)> = planned.collect::<Result<_>>()?;
        for expr in planned.iter().filter_map(|(_, expr)| *expr) {
            read.extend(collect_columns(expr).iter().map(|column| column.index()));
        }
        read.sort_unstable();
        read.dedup();
        let generated = planned
            .iter()
            .map(|(column, expr)| {
                let expr = expr.map(|expr| over(&read, expr.clone())).transpose()?;
                Ok((schema.fields()[*column].clone(), expr))
            })
            .collect::<Result<_>>()?;
        let columns = read.iter().copied().chain(planned.iter().map(|(column, _)| *column)).collect();
        let before = |column: usize| (0..column).filter(|&column| !definition.is_generated(column)).count();
        Ok(SourceColumns { read: read.into_iter().map(before).collect(), generated, columns })
    }

    /// Whether [`SourceColumns::complete`] wants to know when rows arrived.
    pub fn takes_arrival(&self) -> bool {
        self.generated.iter().any(|(_, expr)| expr.is_none())
    }

    /// Where a wanted column stands.
    pub fn place(&self, column: usize) -> usize {
        self.columns.iter().position(|&known| known == column).expect("every wanted column is made")
    }

    /// The rows with the computed columns behind those that were read, by the instants at which they arrived (microseconds);
    /// also the rows for which one fails, and why: each once.
    pub fn complete(&self, rows: RecordBatch, arrived_us: Option<Int64Array>) -> Result<(RecordBatch, Failed)> {
        if self.generated.is_empty() {
            return Ok((rows, vec![]));
        }
        let mut fields: Vec<Arc<Field>> = rows.schema().fields().iter().cloned().collect();
        let (mut columns, mut failed) = (rows.columns().to_vec(), vec![]);
        for (field, expr) in &self.generated {
            let (values, failures) = match (expr, &arrived_us) {
                (Some(expr), _) => values_or_null(expr, &rows)?,
                (None, Some(arrived_us)) => (times_of(arrived_us.clone(), field.data_type())?, vec![]),
                (None, None) => return Err(Error::internal("nobody tells when the rows arrived")),
            };
            fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
            columns.push(values);
            failed.extend(failures);
        }
        failed.sort_by_key(|(row, _)| *row);
        failed.dedup_by_key(|(row, _)| *row);
        Ok((RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?, failed))
    }
}

/// The expression over the columns that are read.
fn over(read: &[usize], expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let moved = expr.transform_up(|expr| {
        let any: &dyn Any = expr.as_ref();
        let Some(column) = any.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
        let place = read.binary_search(&column.index()).expect("every column of the expression is read");
        let moved: Arc<dyn PhysicalExpr> = Arc::new(Column::new(column.name(), place));
        Ok(Transformed::yes(moved))
    });
    Ok(moved?.data)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray};
    use arrow::datatypes::{DataType, Int64Type};
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{binary, lit};

    use super::*;
    use crate::catalog::GeneratedColumn;
    use crate::types::Position;

    #[test]
    fn what_is_computed_of_columns_has_them_read_and_failing_rows_are_told() -> Result<()> {
        // a, b GENERATED AS 12 / c, c
        let fields = ["a", "b", "c"].map(|name| Field::new(name, DataType::Int64, true));
        let schema: SchemaRef = Arc::new(Schema::new(fields.to_vec()));
        let expr = binary(lit(12_i64), Operator::Divide, Arc::new(Column::new("c", 2)), &schema)?;
        let definition = SourceDefinition {
            options: Default::default(),
            format: "PLAIN".into(),
            encode: "JSON".into(),
            encode_options: Default::default(),
            watermark: None,
            is_paused: false,
            generated: vec![GeneratedColumn { column: 1, expression: "12 / c".into(), planned: Some(expr) }],
            start: Position::default(),
        };
        assert_eq!(SourceColumns::new(&schema, &definition, [0])?.read, [0]);
        let columns = SourceColumns::new(&schema, &definition, [1])?;
        assert_eq!(columns.read, [1], "c is the second column that can be read");
        let c: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), Some(0), None, Some(4), Some(0)]));
        let read = RecordBatch::try_new(Arc::new(schema.project(&[2])?), vec![c])?;
        let (rows, failed) = columns.complete(read, None)?;
        let b: Vec<Option<i64>> = rows.column(columns.place(1)).as_primitive::<Int64Type>().iter().collect();
        assert_eq!(b, [Some(4), None, None, Some(3), None]);
        assert_eq!(failed.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 4]);
        Ok(())
    }
}
