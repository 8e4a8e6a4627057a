//! An expression over the columns of one relation's row, planned on its own: of a generated column, of a watermark.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use super::bind::{RelationProperties, RelationResolver, ResolvedRelation, bind_query};
use super::{lower, parser};
use crate::error::{Error, Result};
use crate::plan::{StreamNode, StreamPlan};
use crate::types::RelationId;

/// `columns` are those of the row. Names, types and functions are found as in a query; what is not a function of the row
/// alone is refused with 0A000.
pub fn row_expression(state: &SessionState, text: &str, columns: &SchemaRef) -> Result<Arc<dyn PhysicalExpr>> {
    let query = parser::parse_query(&format!("SELECT ({text}) FROM {ROW}"))?;
    let row = Row(columns.clone());
    // A position would be that in the query around it.
    let unplaced = |error: Error| Error { position: None, ..error };
    let bound = bind_query(state, &row, &query, &[]).map_err(unplaced)?;
    let plan = lower::lower(state, &row, &bound).map_err(unplaced)?;
    let only = |exprs: &[Arc<dyn PhysicalExpr>]| match exprs {
        [expr] => Some(expr.clone()),
        _ => None,
    };
    let found = match &plan.node {
        StreamNode::Scan { columns, .. } => match columns[..] {
            [column] => Some((Arc::new(Column::new("column", 0)) as Arc<dyn PhysicalExpr>, vec![column])),
            _ => None,
        },
        StreamNode::Project { input, exprs } => scanned(input).zip(only(exprs)).map(|(columns, expr)| (expr, columns)),
        _ => None,
    };
    let Some((expr, scanned)) = found else {
        let hint = "take functions and operators over the columns of the row";
        return Err(Error::unsupported(format!("the expression {text} over more than one row"), hint));
    };
    let moved = expr.transform_up(|expr| {
        let any: &dyn Any = expr.as_ref();
        let Some(column) = any.downcast_ref::<Column>() else { return Ok(Transformed::no(expr)) };
        let index = scanned[column.index()];
        let moved: Arc<dyn PhysicalExpr> = Arc::new(Column::new(columns.field(index).name(), index));
        Ok(Transformed::yes(moved))
    });
    Ok(moved.map_err(Error::from)?.data)
}

fn scanned(plan: &StreamPlan) -> Option<Vec<usize>> {
    match &plan.node {
        StreamNode::Scan { columns, .. } => Some(columns.clone()),
        _ => None,
    }
}

/// What the row is called inside.
const ROW: &str = "the_row";

struct Row(SchemaRef);

impl RelationResolver for Row {
    fn resolve(&self, schema: Option<&str>, name: &str) -> Result<Option<ResolvedRelation>> {
        if schema.is_some() || name != ROW {
            return Ok(None);
        }
        let source = provider_as_source(Arc::new(EmptyTable::new(self.0.clone())));
        let (id, properties) = (Some(RelationId::FIRST), RelationProperties::default());
        Ok(Some(ResolvedRelation::Rows { id, source, properties, indexes: vec![] }))
    }

    fn session_value(&self, _: &str) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use datafusion::arrow::datatypes::Schema;

    use super::*;
    use crate::sql::dialect_state;
    use crate::types::PgType;

    fn planned(text: &str) -> Result<Arc<dyn PhysicalExpr>> {
        let fields = [PgType::Text.field("a", true), PgType::Int8.field("ms", true)];
        row_expression(&dialect_state().build(), text, &Arc::new(Schema::new(fields.to_vec())))
    }

    #[test]
    fn it_reads_columns_of_the_row() -> Result<()> {
        let expr = planned("to_timestamp(ms / 1000.0) - INTERVAL '5 seconds'")?;
        let columns = [Arc::new(Int64Array::from(vec![None])) as ArrayRef, Arc::new(Int64Array::from(vec![65_000]))];
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().zip(["a", "ms"]).map(|(column, name)| (name, column, true)),
        )?;
        let value = expr.evaluate(&batch)?.into_array(1)?;
        assert_eq!(crate::dataflow::event_time::times_us(&value)?.value(0), 60_000_000);
        Ok(())
    }

    #[test]
    fn what_is_more_than_the_row_is_refused() {
        let code = |text: &str| planned(text).err().map(|error| error.code.0);
        assert_eq!(code("max(ms)"), Some("0A000"));
        assert_eq!(code("(SELECT ms)"), Some("0A000"));
        assert_eq!(code("(SELECT count(*) FROM t)"), Some("42P01"));
        assert_eq!(code("nothing"), Some("42703"));
        assert_eq!(code("now() - INTERVAL '1 minute'"), Some("0A000"));
        assert_eq!(code("row_number() OVER ()"), Some("0A000"));
        assert_eq!(code("unnest(ARRAY[1, 2])"), Some("0A000"));
    }
}
