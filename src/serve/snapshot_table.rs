//! A table or materialized view as DataFusion sees it: all rows of its snapshot, or only those under the keys that an
//! equality names. The filter stays above the scan; the lookup merely narrows what it has to see.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::ReadPoint;
use crate::error::{Error, Result};
use crate::types::RelationId;

/// Beyond this many keys a scan of everything is no worse than looking them up.
const LOOKUP_KEY_COUNT_MAX: usize = 1024;

/// Binds late: the rows come from the [`ReadPoint`] of the statement that scans it.
#[derive(Debug)]
pub struct SnapshotTable {
    pub id: RelationId,
    pub name: String,
    pub schema: SchemaRef,
}

#[async_trait]
impl TableProvider for SnapshotTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| match alternatives(filter) {
                Some(_) => TableProviderFilterPushDown::Inexact,
                None => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let snapshot = ReadPoint::of(state)?.snapshot(self.id, &self.name)?;
        let keys = match snapshot.key() {
            Some(key) => lookup_keys(&self.schema, key, filters)?,
            None => None,
        };
        let batches = match keys {
            Some(keys) => vec![snapshot.lookup(&keys)?],
            None => snapshot.rows()?.as_ref().clone(),
        };
        let batches = batches.into_iter().map(|batch| conform(batch, &self.schema)).collect::<Result<Vec<_>>>()?;
        Ok(MemorySourceConfig::try_new_exec(&[batches], self.schema.clone(), projection.cloned())?)
    }
}

/// The columns under the schema that the plan was made for; the metadata of a running view may say less.
fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?)
}

/// One row for each key that the filters allow, if they pin down every key column.
fn lookup_keys(schema: &SchemaRef, key: &[usize], filters: &[Expr]) -> Result<Option<RecordBatch>> {
    if key.is_empty() || filters.is_empty() {
        return Ok(None);
    }
    let mut values: Vec<Vec<ScalarValue>> = vec![];
    for &column in key {
        let field = schema.field(column);
        let found = filters.iter().filter_map(alternatives).find(|(name, literals)| {
            name.name == *field.name() && literals.iter().all(|l| l.data_type() == *field.data_type() && !l.is_null())
        });
        match found {
            // 0.0 equals −0.0, and a key does not know that.
            Some((_, literals)) if !matches!(field.data_type(), DataType::Float32 | DataType::Float64) => {
                values.push(literals)
            }
            _ => return Ok(None),
        }
    }
    if values.iter().map(Vec::len).product::<usize>() > LOOKUP_KEY_COUNT_MAX {
        return Ok(None);
    }
    let mut rows: Vec<Vec<ScalarValue>> = vec![vec![]];
    for literals in values {
        rows = rows
            .into_iter()
            .flat_map(|row| literals.iter().map(move |l| [row.as_slice(), std::slice::from_ref(l)].concat()))
            .collect();
    }
    let columns: Vec<ArrayRef> = (0..key.len())
        .map(|index| ScalarValue::iter_to_array(rows.iter().map(|row| row[index].clone())).map_err(Error::from))
        .collect::<Result<_>>()?;
    let fields: Vec<_> = key.iter().map(|&column| schema.fields()[column].clone()).collect();
    Ok(Some(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?))
}

/// `c = 1`, `1 = c`, `c IN (1, 2)` and ORs of these over one column: the column and the distinct values it may have.
fn alternatives(filter: &Expr) -> Option<(&Column, Vec<ScalarValue>)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column)) => {
                Some((column, vec![value.clone()]))
            }
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let (column, mut values) = alternatives(left)?;
            let (other, more) = alternatives(right)?;
            let same = column == other;
            values.extend(more.into_iter().filter(|value| !values.contains(value)).collect::<Vec<_>>());
            same.then_some((column, values))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let Expr::Column(column) = expr.as_ref() else { return None };
            let mut values: Vec<ScalarValue> = vec![];
            for item in list {
                let Expr::Literal(value, _) = item else { return None };
                if !values.contains(value) {
                    values.push(value.clone());
                }
            }
            Some((column, values))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Field, Int32Type};
    use datafusion::logical_expr::{col, lit};

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int32, false), Field::new("n", DataType::Utf8, true)]))
    }

    #[test]
    fn equality_on_the_key_becomes_a_lookup() -> Result<()> {
        let filter = col("id").eq(lit(7)).or(lit(9).eq(col("id"))).or(col("id").eq(lit(7)));
        let keys = lookup_keys(&schema(), &[0], &[filter])?.expect("the key is pinned down");
        assert_eq!(keys.column(0).as_primitive::<Int32Type>().values(), &[7, 9]);
        Ok(())
    }

    #[test]
    fn other_filters_scan() -> Result<()> {
        assert!(lookup_keys(&schema(), &[0], &[col("n").eq(lit("x"))])?.is_none());
        assert!(lookup_keys(&schema(), &[0], &[col("id").gt(lit(7))])?.is_none());
        // Another type than the column's: the filter above decides, not the key's bytes.
        assert!(lookup_keys(&schema(), &[0], &[col("id").eq(lit(7_i64))])?.is_none());
        assert!(lookup_keys(&schema(), &[0], &[col("id").eq(lit(ScalarValue::Int32(None)))])?.is_none());
        assert!(lookup_keys(&schema(), &[], &[col("id").eq(lit(7))])?.is_none());
        Ok(())
    }

    #[test]
    fn a_composite_key_needs_all_its_columns() -> Result<()> {
        let both = [col("id").in_list(vec![lit(1), lit(2)], false), col("n").eq(lit("x"))];
        assert_eq!(lookup_keys(&schema(), &[0, 1], &both)?.expect("both columns are pinned").num_rows(), 2);
        assert!(lookup_keys(&schema(), &[0, 1], &both[..1])?.is_none());
        Ok(())
    }
}
