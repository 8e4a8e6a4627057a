//! INSERT: full rows in the table's column order.

use std::sync::Arc;

use datafusion::common::{Column as PlanColumn, DFSchema};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Projection};
use sqlparser::ast::{self, Ident};

use super::super::parameters::cast_types;
use super::super::{Bound, BoundDml, DmlAction, OnConflict, Shape, assign, parameter_types, postgres};
use super::{Binding, hint_parameter, is_default, literal_outputs};
use crate::error::{Error, Result, SqlState};
use crate::sql::parser::fold;

impl Binding<'_> {
    pub(super) fn insert(self, insert: &ast::Insert) -> Result<BoundDml> {
        if insert.or.is_some()
            || insert.ignore
            || insert.overwrite
            || insert.replace_into
            || insert.partitioned.is_some()
        {
            return Err(Error::new(SqlState::SYNTAX_ERROR, "syntax error in INSERT"));
        }
        let alias: Option<&Ident> = insert.table_alias.as_ref().map(|alias| &alias.alias);
        let given = self.insert_columns(&insert.columns)?;
        let mut bound = match &insert.source {
            None => self.insert_rows(&[vec![]], &[], true)?,
            Some(query) => match query.body.as_ref() {
                ast::SetExpr::Values(values) if is_plain(query) => {
                    let rows: Vec<Vec<ast::Expr>> = values.rows.iter().map(|row| row.content.clone()).collect();
                    self.insert_rows(&rows, &given, insert.columns.is_empty())?
                }
                _ => self.insert_query(query, &given, insert.columns.is_empty())?,
            },
        };
        let on_conflict = match &insert.on {
            None => OnConflict::Error,
            Some(ast::OnInsert::OnConflict(conflict)) => self.on_conflict(conflict, alias, &mut bound.parameters)?,
            Some(_) => return Err(Error::unsupported("ON DUPLICATE KEY", "write ON CONFLICT (…) DO UPDATE")),
        };
        self.finish(DmlAction::Insert { on_conflict }, bound, insert.returning.as_deref(), alias)
    }

    /// Target columns, by index: those that were listed, or all.
    fn insert_columns(&self, list: &[ast::ObjectName]) -> Result<Vec<usize>> {
        if list.is_empty() {
            return Ok((0..self.target.columns.len()).collect());
        }
        let mut columns = vec![];
        for name in list {
            let [part] = name.0.as_slice() else {
                return Err(Error::unsupported(format!("INSERT into {name}"), "name a column"));
            };
            let Some(ident) = part.as_ident() else {
                return Err(Error::unsupported(format!("INSERT into {name}"), "name a column"));
            };
            let index = self.column_index(ident)?;
            if columns.contains(&index) {
                let message = format!("column \"{}\" specified more than once", fold(ident));
                return Err(Error::new(SqlState::DUPLICATE_COLUMN, message));
            }
            columns.push(index);
        }
        Ok(columns)
    }

    fn check_width(&self, width: usize, given: &[usize], short_is_fine: bool) -> Result<()> {
        if width > given.len() {
            return Err(Error::new(SqlState::SYNTAX_ERROR, "INSERT has more expressions than target columns"));
        }
        if width < given.len() && !short_is_fine {
            return Err(Error::new(SqlState::SYNTAX_ERROR, "INSERT has more target columns than expressions"));
        }
        Ok(())
    }

    /// VALUES: each cell takes its column's type on its own.
    fn insert_rows(&self, rows: &[Vec<ast::Expr>], given: &[usize], short_is_fine: bool) -> Result<Bound> {
        let mut hints = self.hints.to_vec();
        let width = rows.first().map_or(0, Vec::len);
        for row in rows {
            if row.len() != width {
                return Err(Error::new(SqlState::SYNTAX_ERROR, "VALUES lists must all be the same length"));
            }
            self.check_width(row.len(), given, short_is_fine || rows == [vec![]])?;
            for (cell, &index) in row.iter().zip(given) {
                hint_parameter(&mut hints, cell, &self.target.columns[index].pg_type);
            }
        }
        let empty = DFSchema::empty();
        let columns = &self.target.columns;
        let defaults = columns
            .iter()
            .map(|column| self.cell(&self.default(column)?, column, &empty, &[]))
            .collect::<Result<Vec<Expr>>>()?;
        let bind_all = |hints: &[Option<crate::types::PgType>]| -> Result<LogicalPlan> {
            let mut values = Vec::with_capacity(rows.len());
            for row in rows {
                let mut cells = defaults.clone();
                for (cell, &index) in row.iter().zip(given) {
                    if !is_default(cell) {
                        cells[index] = self.cell(cell, &columns[index], &empty, hints)?;
                    }
                }
                values.push(cells);
            }
            let plan =
                LogicalPlanBuilder::values(values).and_then(LogicalPlanBuilder::build).map_err(|e| self.explain(e))?;
            self.named(plan)
        };
        let plan = bind_all(&hints)?;
        let parameters = parameter_types(&plan, &hints, || cast_types(rows))?;
        let all: Vec<_> = parameters.iter().cloned().map(Some).collect();
        let plan = if all == hints { plan } else { bind_all(&all)? };
        Ok(Bound { plan, relations: vec![], depends_on: vec![], functions: vec![], parameters, instants: vec![] })
    }

    fn cell(
        &self,
        cell: &ast::Expr,
        column: &crate::catalog::Column,
        empty: &DFSchema,
        hints: &[Option<crate::types::PgType>],
    ) -> Result<Expr> {
        let expr = self.expression(cell, empty, hints)?;
        if postgres::has_subquery(&expr).map_err(|e| self.explain(e))? {
            return Err(Error::unsupported("a subquery in VALUES", "write INSERT … SELECT"));
        }
        assign::assign(expr, empty, column).map_err(|e| self.explain(e))
    }

    /// The plan's columns under the table's names.
    fn named(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        let schema = plan.schema().clone();
        let exprs = schema
            .iter()
            .zip(&self.target.columns)
            .map(|((qualifier, field), column)| Expr::Column(PlanColumn::from((qualifier, field))).alias(&column.name))
            .collect();
        let projection = Projection::try_new(exprs, Arc::new(plan)).map_err(|e| self.explain(e))?;
        Ok(LogicalPlan::Projection(projection))
    }

    fn insert_query(&self, query: &ast::Query, given: &[usize], short_is_fine: bool) -> Result<Bound> {
        let ast = Box::new(query.clone());
        let mut hints = self.hints.to_vec();
        if let ast::SetExpr::Select(select) = ast.body.as_ref() {
            for (item, &index) in select.projection.iter().zip(given) {
                if let ast::SelectItem::ExprWithAlias { expr, .. } | ast::SelectItem::UnnamedExpr(expr) = item {
                    hint_parameter(&mut hints, expr, &self.target.columns[index].pg_type);
                }
            }
        }
        let mut bound = super::super::bind_ast(self.state, self.resolver, ast, self.source, &hints, Shape::Inner)?;
        let schema = bound.plan.schema().clone();
        self.check_width(schema.fields().len(), given, short_is_fine)?;
        let literals = literal_outputs(&bound.plan);
        let empty = DFSchema::empty();
        let mut exprs = vec![];
        for (index, column) in self.target.columns.iter().enumerate() {
            let position = given.iter().position(|&target| target == index).filter(|&p| p < schema.fields().len());
            let expr = match position {
                None => self.cell(&self.default(column)?, column, &empty, &[])?,
                Some(position) => {
                    let value = match literals.get(position).and_then(|literal| literal.clone()) {
                        Some(literal) => literal,
                        None => Expr::Column(PlanColumn::from(schema.qualified_field(position))),
                    };
                    assign::assign(value, &schema, column).map_err(|e| self.explain(e))?
                }
            };
            exprs.push(expr.alias(&column.name));
        }
        let projection = Projection::try_new(exprs, Arc::new(bound.plan)).map_err(|e| self.explain(e))?;
        bound.plan = LogicalPlan::Projection(projection);
        Ok(bound)
    }
}

/// A VALUES list without ORDER BY, LIMIT or WITH.
fn is_plain(query: &ast::Query) -> bool {
    query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none()
}
