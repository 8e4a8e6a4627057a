//! Point queries: `SELECT columns FROM relation WHERE key = value`, answered by one lookup.
//!
//! Planning such a query costs many times what finding its row does, so it is recognised in the bound plan and neither
//! optimised nor handed to a query thread. Anything more goes the way of all queries.
//!
//! ```text
//! [Limit ─] Projection of columns ─ Filter: key columns = values or $n ─ [alias ─] scan   ──▶   snapshot.lookup
//! ```

use std::any::Any;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, Projection, TableScan};

use super::access::key_batch;
use super::snapshot_table::SnapshotTable;
use crate::error::Result;
use crate::state::World;
use crate::types::RelationId;

pub struct PointQuery {
    table: Arc<dyn TableProvider>,
    /// Columns of the relation, as they come out.
    columns: Vec<usize>,
    /// Columns of the relation with the value of each; none is there twice.
    key: Vec<(usize, Value)>,
    row_count_max: Option<usize>,
}

enum Value {
    Literal(ScalarValue),
    /// `$n`, counted from 0.
    Parameter(usize),
}

impl PointQuery {
    /// `None` if the plan is more, or less, than that.
    pub fn of(plan: &LogicalPlan) -> Option<PointQuery> {
        let (plan, row_count_max) = match plan {
            LogicalPlan::Limit(limit) if limit.skip.is_none() => match limit.fetch.as_deref() {
                Some(Expr::Literal(ScalarValue::Int64(Some(count)), _)) => {
                    (limit.input.as_ref(), Some(usize::try_from(*count).ok()?))
                }
                _ => return None,
            },
            plan => (plan, None),
        };
        let LogicalPlan::Projection(Projection { expr, input, .. }) = plan else { return None };
        let LogicalPlan::Filter(filter) = input.as_ref() else { return None };
        let scan = scan(&filter.input)?;
        let table = source_as_provider(&scan.source).ok()?;
        let is_read_now = snapshot_table(&table)?.instant.is_none();
        if !is_read_now || !scan.filters.is_empty() || scan.fetch.is_some() {
            return None;
        }
        let place = |column: &Column| {
            let place = filter.input.schema().index_of_column(column).ok()?;
            scan.projection.as_ref().map_or(Some(place), |columns| columns.get(place).copied())
        };
        let columns = expr.iter().map(|expr| place(plain_column(expr)?)).collect::<Option<Vec<_>>>()?;
        let mut key: Vec<(usize, Value)> = vec![];
        for condition in split_conjunction(&filter.predicate) {
            let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
            let (column, value) = match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), value) | (value, Expr::Column(column)) => (place(column)?, constant(value)?),
                _ => return None,
            };
            if key.iter().any(|(known, _)| *known == column) {
                return None;
            }
            key.push((column, value));
        }
        Some(PointQuery { table, columns, key, row_count_max })
    }

    pub fn relation(&self) -> Option<RelationId> {
        snapshot_table(&self.table).map(|table| table.id)
    }

    /// The rows, of the relation's own types; `None` if it has another key, or is not there. `parameters` are the values of
    /// `$1` ….
    pub fn answer(&self, world: &World, parameters: &[ScalarValue]) -> Result<Option<RecordBatch>> {
        let Some(table) = snapshot_table(&self.table) else { return Ok(None) };
        let Some(snapshot) = world.snapshots.get(&table.id) else { return Ok(None) };
        let key = snapshot.key().unwrap_or_default();
        if key.is_empty() || key.len() != self.key.len() {
            return Ok(None);
        }
        let mut row: Vec<ScalarValue> = vec![];
        for column in key {
            let field = table.schema.field(*column);
            let value = self.key.iter().find(|(own, _)| own == column).map(|(_, value)| value);
            let value = match value {
                Some(Value::Literal(value)) => Some(value),
                Some(Value::Parameter(number)) => parameters.get(*number),
                None => None,
            };
            // 0.0 equals −0.0, and a key does not know that.
            match value {
                Some(value) if value.data_type() == *field.data_type() && !field.data_type().is_floating() => {
                    if value.is_null() {
                        return Ok(Some(RecordBatch::new_empty(self.schema(table))));
                    }
                    row.push(value.clone());
                }
                _ => return Ok(None),
            }
        }
        let found = snapshot.lookup(&key_batch(&table.schema, key, &[row])?)?;
        let row_count = found.num_rows().min(self.row_count_max.unwrap_or(usize::MAX));
        let columns = self.columns.iter().map(|&column| found.column(column).slice(0, row_count)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(row_count));
        Ok(Some(RecordBatch::try_new_with_options(self.schema(table), columns, &options)?))
    }

    fn schema(&self, table: &SnapshotTable) -> SchemaRef {
        let fields: Vec<_> = self.columns.iter().map(|&column| table.schema.fields()[column].clone()).collect();
        Arc::new(Schema::new(fields))
    }
}

fn snapshot_table(table: &Arc<dyn TableProvider>) -> Option<&SnapshotTable> {
    let any: &dyn Any = table.as_ref();
    any.downcast_ref::<SnapshotTable>()
}

fn scan(plan: &LogicalPlan) -> Option<&TableScan> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(scan),
        LogicalPlan::SubqueryAlias(alias) => scan(&alias.input),
        _ => None,
    }
}

fn plain_column(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => plain_column(&alias.expr),
        _ => None,
    }
}

fn constant(expr: &Expr) -> Option<Value> {
    match expr {
        Expr::Literal(value, _) => Some(Value::Literal(value.clone())),
        Expr::Placeholder(Placeholder { id, .. }) => {
            Some(Value::Parameter(id.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)?))
        }
        _ => None,
    }
}
