//! CREATE TABLE, with columns or AS a query.

use arrow::array::RecordBatch;

use super::options::table_retention_us;
use super::shape::{require_distinct, shape};
use super::{Session, require_free};
use crate::catalog::{Column, Object, ObjectKind, QualifiedName};
use crate::error::{Error, Result, SqlState};
use crate::runtime::TableWrite;
use crate::session::dml::Target;
use crate::session::limits::Limits;
use crate::session::shared::table_spec;
use crate::sql::{ColumnDefinition, CreateTable, StatementKind};
use crate::types::{Delta, PgType};

impl Session {
    pub(super) async fn create_table(
        &mut self,
        create: &CreateTable,
        text: &str,
        limits: &mut Limits,
    ) -> Result<&'static str> {
        let tag = if create.query.is_some() { "SELECT" } else { "CREATE TABLE" };
        let Some(name) = self.new_name(&create.name, create.if_not_exists)? else { return Ok(tag) };
        let (columns, rows) = match &create.query {
            None => {
                for column in &create.columns {
                    self.check_default(column)?;
                }
                (columns(&create.columns, &create.primary_key), vec![])
            }
            Some(query) => {
                let names: Vec<String> = create.columns.iter().map(|c| c.name.clone()).collect();
                let (bound, columns) = shape(self.bind_query(query, &[])?, &names)?;
                self.wait_until_readable(&bound.relations).await?;
                let read = self.read_point_of(&bound).await?;
                (columns, limits.guard(self.collect(&read, bound.plan)).await?)
            }
        };
        require_distinct(columns.iter().map(|c| c.name.as_str()))?;
        if let Some(column) = create.columns.iter().find(|column| column.generated.is_some()) {
            let what = format!("generated column \"{}\" of a table", column.name);
            return Err(Error::unsupported(what, "compute it in a view over the table"));
        }
        let mut kind = ObjectKind::Table {
            primary_key: create.primary_key.clone(),
            append_only: create.append_only,
            watermark: create.watermark.as_ref().map(super::source::watermark_definition),
            retention_us: table_retention_us(&create.options)?,
        };
        crate::session::shared::arrival::plan(&self.state, &columns, &mut kind)?;
        let created = self.add_table(name, columns, kind, text.to_string(), rows).await;
        match created {
            Ok(()) => Ok(tag),
            Err(error) => self.skip_existing(error, create.if_not_exists).map(|()| tag),
        }
    }

    async fn add_table(
        &self,
        name: QualifiedName,
        columns: Vec<Column>,
        kind: ObjectKind,
        definition: String,
        rows: Vec<RecordBatch>,
    ) -> Result<()> {
        let shared = self.shared.clone();
        let change = async move {
            let _lock = shared.ddl.lock().await;
            let mut catalog = shared.catalog().as_ref().clone();
            require_free(&shared, &catalog, &name)?;
            let id = catalog.allocate_id();
            let object =
                catalog.insert(Object { id, name, kind, columns, definition, depends_on: vec![], indexes: vec![] })?;
            let spec = table_spec(&object).ok_or_else(|| Error::internal("a table is no table"))?;
            let target = Target::of(&catalog, id)?;
            shared.runtime.create_table(spec).await?;
            let filled = async {
                shared.keep_history(&object).await?;
                let rows = target.concat(&rows)?;
                if rows.num_rows() > 0 {
                    let delta = Delta::insert(target.admit(rows)?);
                    shared.runtime.write(vec![TableWrite { table: id, delta }]).await?;
                }
                shared.publish(catalog).await
            };
            match filled.await {
                Ok(()) => Ok(()),
                Err(error) => {
                    // The table was never seen; the first error is the one to tell.
                    let _ = shared.runtime.drop_relations(vec![id]).await;
                    Err(error)
                }
            }
        };
        self.shared.uninterrupted(change).await
    }

    /// A DEFAULT that could never be evaluated is refused now, not at the first INSERT.
    fn check_default(&self, column: &ColumnDefinition) -> Result<()> {
        let Some(default) = &column.default else { return Ok(()) };
        let statements = crate::sql::parser::parse(&format!("SELECT ({default})"))?;
        let Some(StatementKind::Query(query)) = statements.into_iter().map(|s| s.kind).next() else {
            return Err(Error::internal("a DEFAULT is no expression"));
        };
        let bound = self.bind_query(&query, &[]).map_err(|error| Error { position: None, ..error })?;
        if !bound.relations.is_empty() || bound.plan.schema().fields().len() != 1 {
            return Err(Error::unsupported("a subquery in DEFAULT", "use an expression over literals and functions"));
        }
        if !bound.functions.is_empty() {
            let hint = "write its expression out: a default outlives the functions that are there now";
            return Err(Error::unsupported("a SQL function in DEFAULT", hint));
        }
        let (given, wanted) = (PgType::of(bound.plan.schema().field(0)), &column.pg_type);
        let castable =
            matches!(given, PgType::Unknown) || arrow::compute::can_cast_types(&given.arrow(), &wanted.arrow());
        if !castable {
            return Err(Error::new(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "column \"{}\" is of type {} but default expression is of type {}",
                    column.name,
                    wanted.name(),
                    given.name()
                ),
            )
            .with_hint("You will need to rewrite or cast the expression."));
        }
        Ok(())
    }
}

pub(super) fn columns(definitions: &[ColumnDefinition], primary_key: &[usize]) -> Vec<Column> {
    let column = |(index, c): (usize, &ColumnDefinition)| Column {
        name: c.name.clone(),
        pg_type: c.pg_type.clone(),
        nullable: c.nullable && !primary_key.contains(&index),
        default: c.default.clone(),
    };
    definitions.iter().enumerate().map(column).collect()
}
