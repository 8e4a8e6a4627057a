//! RETURNING: a select list over the rows that were changed.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::Transformed;
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, TableSource};
use sqlparser::ast::{Ident, SelectItem};

use super::super::{RelationProperties, RelationResolver, ResolvedRelation, Shape};
use super::Binding;
use crate::error::Result;
use crate::sql::names;
use crate::types::PgType;

impl Binding<'_> {
    /// The plan over the changed rows, and the types of all parameters so far.
    pub(super) fn returning(
        &self,
        items: &[SelectItem],
        alias: Option<&Ident>,
        hints: &[Option<PgType>],
    ) -> Result<(LogicalPlan, Vec<PgType>)> {
        let fields = self.target.columns.iter().map(|column| column.pg_type.field(&column.name, column.nullable));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let qualifier = self.qualifier(alias);
        let resolver = ChangedRows { name: qualifier.value.clone(), schema, others: self.resolver };
        let mut query = crate::sql::parser::parse_query(&format!("SELECT 1 FROM {qualifier}"))?.ast;
        if let sqlparser::ast::SetExpr::Select(select) = query.body.as_mut() {
            select.projection = items.to_vec();
            names::name_select(select);
        }
        let bound = super::super::bind_ast(self.state, &resolver, query, self.source, hints, Shape::Result)?;
        Ok((bound.plan, bound.parameters))
    }
}

/// Resolves the statement's table to the rows it changed.
struct ChangedRows<'a> {
    name: String,
    schema: SchemaRef,
    others: &'a dyn RelationResolver,
}

impl RelationResolver for ChangedRows<'_> {
    fn has_functions(&self) -> bool {
        self.others.has_functions()
    }

    fn functions(&self, schema: Option<&str>, name: &str) -> Vec<Arc<crate::catalog::Function>> {
        self.others.functions(schema, name)
    }

    fn resolve(&self, schema: Option<&str>, name: &str) -> Result<Option<ResolvedRelation>> {
        if schema.is_none() && name == self.name {
            let source = Arc::new(ChangedRowsSource(self.schema.clone()));
            let properties = RelationProperties::default();
            return Ok(Some(ResolvedRelation::Rows { id: None, source, properties, indexes: vec![] }));
        }
        self.others.resolve(schema, name)
    }

    fn session_value(&self, name: &str) -> Option<String> {
        self.others.session_value(name)
    }
}

/// Stands for the changed rows until they are there.
struct ChangedRowsSource(SchemaRef);

impl TableSource for ChangedRowsSource {
    fn schema(&self) -> SchemaRef {
        self.0.clone()
    }
}

/// A RETURNING plan over these rows: batches of the table's columns.
pub fn over_rows(plan: &LogicalPlan, rows: Vec<RecordBatch>) -> Result<LogicalPlan> {
    let replaced = plan.clone().transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = &node else { return Ok(Transformed::no(node)) };
        let source: &dyn Any = scan.source.as_ref();
        let Some(ChangedRowsSource(schema)) = source.downcast_ref::<ChangedRowsSource>() else {
            return Ok(Transformed::no(node));
        };
        let batches = rows
            .iter()
            .map(|batch| Ok(RecordBatch::try_new(schema.clone(), batch.columns().to_vec())?))
            .collect::<datafusion::common::Result<Vec<_>>>()?;
        let table = MemTable::try_new(schema.clone(), vec![batches])?;
        let source = provider_as_source(Arc::new(table));
        let scan = LogicalPlanBuilder::scan(scan.table_name.clone(), source, scan.projection.clone())?.build()?;
        Ok(Transformed::yes(scan))
    })?;
    Ok(replaced.data)
}
