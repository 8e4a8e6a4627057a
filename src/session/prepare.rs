//! Binding statements once, and again when what they were bound to has changed.

use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::common::ParamValues;
use datafusion::common::ScalarValue;
use datafusion::common::metadata::{FieldMetadata, ScalarAndMetadata};
use datafusion::logical_expr::LogicalPlan;
use parking_lot::Mutex;

use super::resolver::Resolver;
use super::{Session, TransactionStatus, explain, show};
use crate::catalog::Catalog;
use crate::error::{Error, Result, SqlState};
use crate::sql::bind::{Bound, bind_dml, bind_query};
use crate::sql::{BoundDml, Query, Statement, StatementKind};
use crate::types::PgType;

/// A statement that was parsed and bound once, with the types of its parameters and of its result.
pub struct Prepared {
    pub parameters: Vec<PgType>,
    /// `None` if it returns no rows.
    pub fields: Option<Vec<FieldRef>>,
    pub(super) statement: Arc<Statement>,
    /// What it was bound to last.
    plan: Mutex<(Versions, Plan)>,
}

/// What a bound plan depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Versions {
    catalog: u64,
    settings: u64,
}

#[derive(Clone)]
pub(super) enum Plan {
    Query(Arc<Bound>),
    Dml(Arc<BoundDml>),
    /// What is looked up when it is executed.
    Late,
}

impl Session {
    /// Binds a statement. `parameter_types` are the client's hints (`None`: infer).
    pub async fn prepare(&mut self, statement: Statement, parameter_types: &[Option<PgType>]) -> Result<Prepared> {
        let result = self.prepare_now(statement, parameter_types);
        if result.is_err() {
            self.fail_transaction();
        }
        result
    }

    fn prepare_now(&mut self, statement: Statement, parameter_types: &[Option<PgType>]) -> Result<Prepared> {
        self.require_not_failed(&statement.kind)?;
        self.refresh_state();
        let catalog = self.shared.catalog();
        let versions = self.versions(&catalog);
        let plan = self.bind(catalog, &statement.kind, parameter_types)?;
        let parameters = match &plan {
            Plan::Query(bound) => bound.parameters.clone(),
            Plan::Dml(dml) => dml.bound.parameters.clone(),
            Plan::Late => vec![],
        };
        let fields = self.fields(&statement.kind, &plan)?;
        Ok(Prepared { parameters, fields, statement: Arc::new(statement), plan: Mutex::new((versions, plan)) })
    }

    fn versions(&self, catalog: &Catalog) -> Versions {
        Versions { catalog: catalog.version, settings: self.state_version }
    }

    pub(super) fn resolver(&self, catalog: Arc<Catalog>) -> Resolver<'_> {
        Resolver::new(&self.shared, catalog, self.context.settings.lock().clone())
    }

    pub(super) fn bind_query(&self, query: &Query, hints: &[Option<PgType>]) -> Result<Bound> {
        bind_query(&self.state, &self.resolver(self.shared.catalog()), query, hints)
    }

    fn bind(&self, catalog: Arc<Catalog>, kind: &StatementKind, hints: &[Option<PgType>]) -> Result<Plan> {
        let resolver = self.resolver(catalog);
        Ok(match kind {
            StatementKind::Query(query) | StatementKind::Declare { query, .. } => {
                Plan::Query(Arc::new(bind_query(&self.state, &resolver, query, hints)?))
            }
            StatementKind::Dml(dml) => {
                let target = |name: &_| resolver.dml_target(name);
                Plan::Dml(Arc::new(bind_dml(&self.state, &resolver, dml, &target, hints)?))
            }
            _ => Plan::Late,
        })
    }

    /// The columns of the result.
    fn fields(&self, kind: &StatementKind, plan: &Plan) -> Result<Option<Vec<FieldRef>>> {
        let of_plan = |plan: &LogicalPlan| plan.schema().fields().iter().cloned().collect::<Vec<_>>();
        Ok(match (kind, plan) {
            (StatementKind::Query(_), Plan::Query(bound)) => Some(of_plan(&bound.plan)),
            (StatementKind::Dml(_), Plan::Dml(dml)) => dml.returning.as_ref().map(of_plan),
            (StatementKind::Explain { .. } | StatementKind::ExplainView { .. }, _) => Some(explain::fields()),
            (StatementKind::Show(show), _) => Some(show::fields(show)),
            (StatementKind::Fetch { name, move_only: false, .. }, _) => Some(self.cursor(name)?.fields()),
            (StatementKind::Subscribe(subscribe), _) => Some(self.subscribe_fields(subscribe)?),
            (StatementKind::Execute { name, .. }, _) => self.statement(name)?.fields.clone(),
            _ => None,
        })
    }

    /// The plan to execute now; bound again if relations or settings have changed since. 0A000 if that gives other
    /// columns than the client was told.
    pub(super) fn current_plan(&mut self, prepared: &Prepared) -> Result<Plan> {
        self.refresh_state();
        let catalog = self.shared.catalog();
        let versions = self.versions(&catalog);
        let mut bound = prepared.plan.lock();
        if bound.0 != versions && !matches!(bound.1, Plan::Late) {
            let hints: Vec<Option<PgType>> = prepared.parameters.iter().cloned().map(Some).collect();
            let plan = self.bind(catalog, &prepared.statement.kind, &hints)?;
            let types = |fields: &Option<Vec<FieldRef>>| -> Option<Vec<PgType>> {
                fields.as_ref().map(|fields| fields.iter().map(|field| PgType::of(field)).collect())
            };
            if types(&self.fields(&prepared.statement.kind, &plan)?) != types(&prepared.fields) {
                return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, "cached plan must not change result type"));
            }
            *bound = (versions, plan);
        }
        Ok(bound.1.clone())
    }

    /// 25P02 for anything but the end of a failed transaction.
    pub(super) fn require_not_failed(&self, kind: &StatementKind) -> Result<()> {
        let ends_it = matches!(
            kind,
            StatementKind::Commit
                | StatementKind::Rollback
                | StatementKind::RollbackToSavepoint { .. }
                | StatementKind::Empty
        );
        if self.transaction.status() == TransactionStatus::Failed && !ends_it {
            return Err(Error::new(
                SqlState::IN_FAILED_SQL_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }
}

/// The values in the types of their parameters. 08P01 if their number is wrong, 22P02 or 22003 if one does not fit.
pub(super) fn fit_parameters(types: &[PgType], values: &[ScalarValue]) -> Result<Vec<ScalarValue>> {
    if types.len() != values.len() {
        return Err(Error::new(
            SqlState::PROTOCOL_VIOLATION,
            format!("the statement has {} parameters, but {} values were given", types.len(), values.len()),
        ));
    }
    let fit = |(pg_type, value): (&PgType, &ScalarValue)| {
        let arrow = pg_type.arrow();
        Ok(if value.data_type() == arrow { value.clone() } else { value.cast_to(&arrow)? })
    };
    types.iter().zip(values).map(fit).collect()
}

/// The plan with values in place of `$1` …; errors as for [`fit_parameters`].
pub(super) fn with_parameters(plan: &LogicalPlan, types: &[PgType], values: &[ScalarValue]) -> Result<LogicalPlan> {
    let values = fit_parameters(types, values)?;
    if values.is_empty() {
        return Ok(plan.clone());
    }
    let with_metadata = |(pg_type, value): (&PgType, ScalarValue)| {
        let metadata = FieldMetadata::from(pg_type.field("", true).metadata());
        ScalarAndMetadata::new(value, (!metadata.is_empty()).then_some(metadata))
    };
    let values = ParamValues::List(types.iter().zip(values).map(with_metadata).collect());
    Ok(plan.clone().replace_params_with_values(&values)?)
}
