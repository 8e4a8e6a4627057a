//! Binding: a parsed query and the relations it names become a DataFusion logical plan.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, TableSource};

use super::{Dml, Name, Query};
use crate::error::Result;
use crate::types::{PgType, RelationId};

/// Looks up the relations that a query names. The session implements it over one catalog and one world.
pub trait RelationResolver: Send + Sync {
    /// `None`: there is no such relation. `schema` is `None` for an unqualified name (then user relations come before
    /// those of `pg_catalog`).
    fn resolve(&self, schema: Option<&str>, name: &str) -> Result<Option<ResolvedRelation>>;

    /// Value of a setting for `current_setting`, and of `current_user`, `current_database` … by lower-case name.
    fn session_value(&self, name: &str) -> Option<String>;
}

#[derive(Clone)]
pub enum ResolvedRelation {
    /// Something with rows. `id` is `None` for system relations, which cannot be maintained from.
    Rows { id: Option<RelationId>, source: Arc<dyn TableSource>, properties: RelationProperties },
    /// A plain view: its query is bound in place.
    View { columns: Vec<String>, query: Query },
}

/// What a scan of the relation can promise to a stream plan.
#[derive(Clone, Debug, Default)]
pub struct RelationProperties {
    pub append_only: bool,
    pub key: Option<Vec<usize>>,
    /// Watermarked column and its delay.
    pub time: Option<crate::plan::TimeColumn>,
}

/// A bound query.
pub struct Bound {
    pub plan: LogicalPlan,
    /// Relations it reads, each once, views expanded.
    pub relations: Vec<RelationId>,
    /// Names read directly (a view counts, what is inside it does not): the new object's dependencies.
    pub depends_on: Vec<Name>,
    /// Types of `$1` …, inferred where `hints` had none; an undetermined one is text.
    pub parameters: Vec<PgType>,
}

/// Binds a query. `state` holds functions and options; `hints` the client's parameter types.
pub fn bind_query(
    state: &SessionState,
    resolver: &dyn RelationResolver,
    query: &Query,
    hints: &[Option<PgType>],
) -> Result<Bound> {
    let _ = (state, resolver, query, hints);
    unimplemented!()
}

/// A bound INSERT, UPDATE or DELETE: a query whose rows say what to change.
pub struct BoundDml {
    pub table: Name,
    pub table_id: RelationId,
    pub action: DmlAction,
    pub bound: Bound,
    /// RETURNING: expressions over the table's columns (the new row; for DELETE the old one).
    pub returning: Option<LogicalPlan>,
}

pub enum DmlAction {
    /// The query yields full new rows in the table's column order, defaults filled in, types cast.
    Insert { on_conflict: OnConflict },
    /// The query yields the old row's columns, then the new row's columns.
    Update,
    /// The query yields the old row's columns.
    Delete,
}

pub enum OnConflict {
    Error,
    /// `columns`: the conflict target (must be the primary key), empty for any.
    DoNothing,
    /// `DO UPDATE SET …`: `update` is a plan over a relation `excluded_and_old` whose columns are the old row's, then the
    /// proposed row's; it yields the new row, and leaves out rows its WHERE refuses.
    DoUpdate {
        assignments: DoUpdate,
    },
}

/// Physical form of DO UPDATE, to be evaluated by the session over (old columns ‖ excluded columns) batches.
pub struct DoUpdate {
    /// One for each table column.
    pub new_row: Vec<Arc<dyn datafusion::physical_expr::PhysicalExpr>>,
    pub condition: Option<Arc<dyn datafusion::physical_expr::PhysicalExpr>>,
    /// old ‖ excluded.
    pub input_schema: SchemaRef,
}

pub fn bind_dml(
    state: &SessionState,
    resolver: &dyn RelationResolver,
    dml: &Dml,
    table: &dyn Fn(&Name) -> Result<DmlTarget>,
    hints: &[Option<PgType>],
) -> Result<BoundDml> {
    let _ = (state, resolver, dml, table, hints);
    unimplemented!()
}

/// What binding a DML statement needs to know of its table. The lookup fails with 42P01, or 42809 for a view or source.
pub struct DmlTarget {
    pub id: RelationId,
    pub columns: Vec<crate::catalog::Column>,
    pub primary_key: Vec<usize>,
}
