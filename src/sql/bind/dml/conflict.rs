//! ON CONFLICT.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column as PlanColumn, DFSchema, DFSchemaRef, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::physical_expr::PhysicalExpr;
use sqlparser::ast::{self, Ident};

use super::super::parameters::cast_types;
use super::super::{OnConflict, PARAMETER_COUNT_MAX, assign};
use super::Binding;
use crate::error::{Error, Result, SqlState};
use crate::sql::checked;
use crate::sql::parser::{fold, fold_name};
use crate::types::PgType;

/// DO UPDATE, to be evaluated over (old columns ‖ excluded columns) batches.
#[derive(Clone)]
pub struct DoUpdate {
    /// One for each table column.
    pub new_row: Vec<Arc<dyn PhysicalExpr>>,
    /// Rows for which it is not true stay as they are.
    pub condition: Option<Arc<dyn PhysicalExpr>>,
    /// old ‖ excluded.
    pub input_schema: SchemaRef,
    logical: Logical,
}

#[derive(Clone)]
struct Logical {
    new_row: Vec<Expr>,
    condition: Option<Expr>,
    schema: DFSchemaRef,
}

impl DoUpdate {
    /// The same with values in the place of `$1` …. Without parameters there is no need to call it; before it is
    /// called, parameters are NULL.
    pub fn with_parameters(&self, state: &SessionState, values: &[ScalarValue]) -> Result<DoUpdate> {
        DoUpdate::build(state, self.logical.clone(), values)
    }

    fn build(state: &SessionState, logical: Logical, values: &[ScalarValue]) -> Result<DoUpdate> {
        let physical = |expr: &Expr| -> Result<Arc<dyn PhysicalExpr>> {
            let filled = expr.clone().transform_up(|expr| match expr {
                Expr::Placeholder(placeholder) => {
                    let number = placeholder.id.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
                    let value = number.and_then(|n| values.get(n.wrapping_sub(1))).cloned();
                    let value = match (value, &placeholder.field) {
                        (Some(value), _) => value,
                        (None, Some(field)) => ScalarValue::try_new_null(field.data_type())?,
                        (None, None) => ScalarValue::Utf8(None),
                    };
                    Ok(Transformed::yes(Expr::Literal(value, None)))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(state.create_physical_expr(checked::checked(filled.data, &logical.schema, state)?, &logical.schema)?)
        };
        Ok(DoUpdate {
            new_row: logical.new_row.iter().map(physical).collect::<Result<_>>()?,
            condition: logical.condition.as_ref().map(physical).transpose()?,
            input_schema: logical.schema.inner().clone(),
            logical,
        })
    }
}

impl Binding<'_> {
    pub(super) fn on_conflict(
        &self,
        conflict: &ast::OnConflict,
        alias: Option<&Ident>,
        parameters: &mut Vec<PgType>,
    ) -> Result<OnConflict> {
        self.check_conflict_target(conflict)?;
        let ast::OnConflictAction::DoUpdate(update) = &conflict.action else { return Ok(OnConflict::DoNothing) };
        if conflict.conflict_target.is_none() {
            let message = "ON CONFLICT DO UPDATE requires inference specification or constraint name";
            return Err(Error::new(SqlState::SYNTAX_ERROR, message).with_hint("for example, ON CONFLICT (column_name)"));
        }
        let old = self.qualifier(alias).value;
        let fields = |qualifier: &str| {
            let qualifier = datafusion::common::TableReference::bare(qualifier);
            let field = |column: &crate::catalog::Column| column.pg_type.field(&column.name, column.nullable);
            self.target.columns.iter().map(|column| (Some(qualifier.clone()), field(column))).collect::<Vec<_>>()
        };
        let mut both = fields(&old);
        both.extend(fields("excluded"));
        let schema = DFSchema::new_with_metadata(both, Default::default()).map_err(|e| self.explain(e))?;
        // A bare name is the old row's column, not ambiguous with the proposed one's.
        let old_schema = DFSchema::new_with_metadata(fields(&old), Default::default()).map_err(|e| self.explain(e))?;

        let (assigned, mut hints) = self.assignments(&update.assignments)?;
        for (index, known) in parameters.iter().enumerate() {
            if hints.len() <= index {
                hints.resize(index + 1, None);
            }
            hints[index].get_or_insert_with(|| known.clone());
        }
        let casts = cast_types(std::slice::from_ref(update));
        let plan = |expr: &ast::Expr, hints: &[Option<PgType>]| {
            let qualified = qualify(expr.clone(), &old, &old_schema);
            self.expression(&qualified, &schema, hints)
        };
        let mut logical = Logical { new_row: vec![], condition: None, schema: Arc::new(schema.clone()) };
        for pass in 0..2 {
            logical.new_row.clear();
            for (index, column) in self.target.columns.iter().enumerate() {
                logical.new_row.push(match &assigned[index] {
                    None => Expr::Column(PlanColumn::new(Some(old.as_str()), &column.name)),
                    Some(expr) => assign::assign(plan(expr, &hints)?, &schema, column).map_err(|e| self.explain(e))?,
                });
            }
            logical.condition = update.selection.as_ref().map(|expr| plan(expr, &hints)).transpose()?;
            if let Some(condition) = &logical.condition {
                let pg_type = condition.get_type(&schema).map(|t| PgType::of_arrow(&t)).map_err(|e| self.explain(e))?;
                if !matches!(pg_type, PgType::Bool | PgType::Unknown) {
                    let message = format!("argument of WHERE must be type boolean, not type {}", pg_type.name());
                    return Err(Error::new(SqlState::DATATYPE_MISMATCH, message));
                }
            }
            if pass == 0 {
                self.infer_parameters(&logical, &mut hints)?;
                for (index, hint) in hints.iter_mut().enumerate() {
                    *hint = hint.take().or_else(|| casts.get(&(index + 1)).cloned());
                }
            }
        }
        parameters.clear();
        parameters.extend(hints.into_iter().map(|hint| hint.unwrap_or(PgType::Text)));
        Ok(OnConflict::DoUpdate { assignments: DoUpdate::build(self.state, logical, &[])? })
    }

    /// Fills in what the planner inferred of parameters that nobody gave a type.
    fn infer_parameters(&self, logical: &Logical, hints: &mut Vec<Option<PgType>>) -> Result<()> {
        for expr in logical.new_row.iter().chain(&logical.condition) {
            let inferred = expr.clone().infer_placeholder_types(&logical.schema).map_err(|e| self.explain(e))?;
            let mut found = vec![];
            inferred
                .0
                .apply(|expr| {
                    if let Expr::Placeholder(placeholder) = expr {
                        found.push((placeholder.id.clone(), placeholder.field.clone()));
                    }
                    Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
                })
                .map_err(|e| self.explain(e))?;
            for (id, field) in found {
                let number = id.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
                let Some(number) = number.filter(|n| (1..=PARAMETER_COUNT_MAX).contains(n)) else {
                    return Err(Error::new(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter {id}")));
                };
                if hints.len() < number {
                    hints.resize(number, None);
                }
                if let (None, Some(field)) = (&hints[number - 1], field) {
                    hints[number - 1] = Some(PgType::of(&field));
                }
            }
        }
        Ok(())
    }

    /// The conflict target must be the primary key.
    fn check_conflict_target(&self, conflict: &ast::OnConflict) -> Result<()> {
        let no_match = || {
            Error::new(
                SqlState("42P10"),
                "there is no unique or exclusion constraint matching the ON CONFLICT specification",
            )
            .with_hint("the conflict target is the table's primary key")
        };
        match &conflict.conflict_target {
            None if self.target.has_unique_index && matches!(conflict.action, ast::OnConflictAction::DoNothing) => {
                Err(Error::unsupported(
                    "ON CONFLICT DO NOTHING over a unique index",
                    "name the primary key: ON CONFLICT (…) DO NOTHING",
                ))
            }
            None => Ok(()),
            Some(ast::ConflictTarget::Columns(columns)) => {
                let mut indices = columns.iter().map(|c| self.column_index(c)).collect::<Result<Vec<_>>>()?;
                indices.sort_unstable();
                indices.dedup();
                if indices.is_empty() || indices != self.target.primary_key { Err(no_match()) } else { Ok(()) }
            }
            Some(ast::ConflictTarget::OnConstraint(name)) => {
                let name = fold_name(name)?.name;
                if self.target.primary_key.is_empty() || name != format!("{}_pkey", self.table.name) {
                    let message = format!("constraint \"{name}\" for table \"{}\" does not exist", self.table.name);
                    return Err(Error::new(SqlState::UNDEFINED_OBJECT, message));
                }
                Ok(())
            }
        }
    }
}

/// Bare column names of the table get its qualifier.
fn qualify(mut expr: ast::Expr, old: &str, schema: &DFSchema) -> ast::Expr {
    let _ = ast::visit_expressions_mut(&mut expr, |expr| {
        if let ast::Expr::Identifier(ident) = expr
            && schema.has_column_with_unqualified_name(&fold(ident))
        {
            let qualifier = Ident::with_quote('"', old);
            *expr = ast::Expr::CompoundIdentifier(vec![qualifier, ident.clone()]);
        }
        std::ops::ControlFlow::<()>::Continue(())
    });
    expr
}
