//! INSERT, UPDATE and DELETE as queries for the rows to change.

mod conflict;
mod insert;
mod returning;

use datafusion::common::{Column as PlanColumn, DFSchema};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};
use sqlparser::ast::{self, Ident, SelectItem, TableFactor};

pub use conflict::DoUpdate;
pub use returning::over_rows;

use super::provider::Provider;
use super::{Bound, BoundDml, DmlAction, DmlTarget, RelationResolver, Shape, assign, postgres};
use crate::catalog::Column;
use crate::error::{Error, Result, SqlState};
use crate::sql::parser::{fold, fold_name};
use crate::sql::text::Text;
use crate::sql::{Dml, Name, errors, parser};
use crate::types::PgType;

/// What binding one statement needs at every step.
pub(super) struct Binding<'a> {
    state: &'a SessionState,
    resolver: &'a dyn RelationResolver,
    source: &'a Text,
    hints: &'a [Option<PgType>],
    table: Name,
    target: DmlTarget,
}

pub(super) fn bind(
    state: &SessionState,
    resolver: &dyn RelationResolver,
    dml: &Dml,
    table: &dyn Fn(&Name) -> Result<DmlTarget>,
    hints: &[Option<PgType>],
) -> Result<BoundDml> {
    let start = |name: &ast::ObjectName| -> Result<Binding<'_>> {
        let table_name = fold_name(name)?;
        let target = table(&table_name)?;
        Ok(Binding { state, resolver, source: &dml.source, hints, table: table_name, target })
    };
    match dml.ast.as_ref() {
        ast::Statement::Insert(insert) => {
            let ast::TableObject::TableName(name) = &insert.table else {
                return Err(Error::new(SqlState::SYNTAX_ERROR, "INSERT takes a table"));
            };
            start(name)?.insert(insert)
        }
        ast::Statement::Update(update) => {
            let (name, alias) = plain_table(&update.table)?;
            start(name)?.update(update, alias)
        }
        ast::Statement::Delete(delete) => {
            let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
            let [from] = from.as_slice() else {
                return Err(
                    Error::new(SqlState::SYNTAX_ERROR, "DELETE takes one table").with_hint("add others with USING")
                );
            };
            let (name, alias) = plain_table(from)?;
            start(name)?.delete(delete, alias)
        }
        _ => Err(Error::internal("not a data-modifying statement")),
    }
}

/// A table's name and alias; nothing else can be written to.
fn plain_table(table: &ast::TableWithJoins) -> Result<(&ast::ObjectName, Option<&Ident>)> {
    match &table.relation {
        TableFactor::Table { name, alias, args: None, .. } if table.joins.is_empty() => {
            Ok((name, alias.as_ref().map(|alias| &alias.name)))
        }
        other => Err(Error::new(SqlState::SYNTAX_ERROR, format!("cannot write to {other}")).with_hint("name a table")),
    }
}

/// New values by column, and the parameter types that they tell.
type Assigned = (Vec<Option<ast::Expr>>, Vec<Option<PgType>>);

impl Binding<'_> {
    /// By name; 42703 if the table has no such column.
    fn column_index(&self, ident: &Ident) -> Result<usize> {
        let name = fold(ident);
        self.target.columns.iter().position(|column| column.name == name).ok_or_else(|| {
            let message = format!("column \"{name}\" of relation \"{}\" does not exist", self.table.name);
            let position = self.source.position(ident.span.start);
            Error { position, ..Error::new(SqlState::UNDEFINED_COLUMN, message) }
        })
    }

    /// The column's DEFAULT, or NULL.
    fn default(&self, column: &Column) -> Result<ast::Expr> {
        match &column.default {
            Some(text) => parser::parse_expression(text),
            None => Ok(ast::Expr::value(ast::Value::Null)),
        }
    }

    fn explain(&self, error: datafusion::common::DataFusionError) -> Error {
        errors::explain(error, self.source)
    }

    /// `alias` or the table's own name, to qualify its columns with.
    fn qualifier(&self, alias: Option<&Ident>) -> Ident {
        Ident::with_quote('"', alias.map_or_else(|| self.table.name.clone(), fold))
    }

    /// `SELECT … FROM …` with this select list, FROM and WHERE.
    fn select(
        &self,
        projection: Vec<SelectItem>,
        from: Vec<ast::TableWithJoins>,
        selection: Option<ast::Expr>,
    ) -> Result<Box<ast::Query>> {
        let mut query = parser::parse_query("SELECT 1")?.ast;
        let ast::SetExpr::Select(select) = query.body.as_mut() else {
            return Err(Error::internal("SELECT is no SELECT"));
        };
        (select.projection, select.from, select.selection) = (projection, from, selection);
        Ok(query)
    }

    fn update(self, update: &ast::Update, alias: Option<&Ident>) -> Result<BoundDml> {
        if !update.order_by.is_empty() || update.limit.is_some() {
            return Err(Error::unsupported("UPDATE … ORDER BY or LIMIT", "choose the rows with WHERE"));
        }
        let (assigned, hints) = self.assignments(&update.assignments)?;
        let qualifier = self.qualifier(alias);
        let old = |column: &Column| {
            ast::Expr::CompoundIdentifier(vec![qualifier.clone(), Ident::with_quote('"', &column.name)])
        };
        let named = |expr, name: String| SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', name) };
        let mut items: Vec<SelectItem> =
            self.target.columns.iter().enumerate().map(|(i, c)| named(old(c), format!("old {i}"))).collect();
        for (index, column) in self.target.columns.iter().enumerate() {
            let expr = assigned[index].clone().unwrap_or_else(|| old(column));
            items.push(named(expr, format!("new {index}")));
        }
        let mut from = vec![update.table.clone()];
        match &update.from {
            Some(ast::UpdateTableFromKind::BeforeSet(more) | ast::UpdateTableFromKind::AfterSet(more)) => {
                from.extend(more.clone());
            }
            None => {}
        }
        let query = self.select(items, from, update.selection.clone())?;
        let mut bound = super::bind_ast(self.state, self.resolver, query, self.source, &hints, Shape::Inner)?;
        let width = self.target.columns.len();
        bound.plan = self.assign_columns(bound.plan, |position| position.checked_sub(width))?;
        self.finish(DmlAction::Update, bound, update.returning.as_deref(), alias)
    }

    fn delete(self, delete: &ast::Delete, alias: Option<&Ident>) -> Result<BoundDml> {
        if !delete.order_by.is_empty() || delete.limit.is_some() || !delete.tables.is_empty() {
            return Err(Error::unsupported("DELETE … ORDER BY or LIMIT", "choose the rows with WHERE"));
        }
        let qualifier = self.qualifier(alias);
        let items = self
            .target
            .columns
            .iter()
            .map(|column| {
                let name = Ident::with_quote('"', &column.name);
                let expr = ast::Expr::CompoundIdentifier(vec![qualifier.clone(), name.clone()]);
                SelectItem::ExprWithAlias { expr, alias: name }
            })
            .collect();
        let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
        let mut from = from.clone();
        from.extend(delete.using.iter().flatten().cloned());
        let query = self.select(items, from, delete.selection.clone())?;
        let bound = super::bind_ast(self.state, self.resolver, query, self.source, self.hints, Shape::Inner)?;
        self.finish(DmlAction::Delete, bound, delete.returning.as_deref(), alias)
    }

    /// SET's expressions by column, DEFAULT spelled out, and the parameter types that they tell.
    fn assignments(&self, list: &[ast::Assignment]) -> Result<Assigned> {
        let mut assigned: Vec<Option<ast::Expr>> = vec![None; self.target.columns.len()];
        let mut hints = self.hints.to_vec();
        let mut set = |name: &ast::ObjectName, value: &ast::Expr| -> Result<()> {
            // A qualified target would be a field of a composite.
            let [part] = name.0.as_slice() else {
                return Err(Error::unsupported(format!("assignment to {name}"), "assign the whole column"));
            };
            let Some(ident) = part.as_ident() else {
                return Err(Error::unsupported(format!("assignment to {name}"), "name a column"));
            };
            let index = self.column_index(ident)?;
            let column = &self.target.columns[index];
            hint_parameter(&mut hints, value, &column.pg_type);
            let value = if is_default(value) { self.default(column)? } else { value.clone() };
            if assigned[index].replace(value).is_some() {
                let message = format!("multiple assignments to same column \"{}\"", fold(ident));
                return Err(Error::new(SqlState::SYNTAX_ERROR, message));
            }
            Ok(())
        };
        for assignment in list {
            match (&assignment.target, &assignment.value) {
                (ast::AssignmentTarget::ColumnName(name), value) => set(name, value)?,
                (ast::AssignmentTarget::Tuple(names), ast::Expr::Tuple(values)) if names.len() == values.len() => {
                    names.iter().zip(values).try_for_each(|(name, value)| set(name, value))?;
                }
                (ast::AssignmentTarget::Tuple(names), ast::Expr::Nested(value)) if names.len() == 1 => {
                    set(&names[0], value)?
                }
                (ast::AssignmentTarget::Tuple(_), ast::Expr::Tuple(_)) => {
                    return Err(Error::new(
                        SqlState::SYNTAX_ERROR,
                        "number of columns does not match number of values",
                    ));
                }
                _ => return Err(Error::unsupported("SET (…) = (SELECT …)", "take UPDATE … FROM")),
            }
        }
        Ok((assigned, hints))
    }

    /// A projection that stores output `position` in the table's column `column_of(position)`; others stay.
    fn assign_columns(&self, plan: LogicalPlan, column_of: impl Fn(usize) -> Option<usize>) -> Result<LogicalPlan> {
        let schema = plan.schema().clone();
        let literals = literal_outputs(&plan);
        let exprs = schema.iter().enumerate().map(|(position, (qualifier, field))| {
            let mut expr = Expr::Column(PlanColumn::from((qualifier, field)));
            let Some(column) = column_of(position).map(|index| &self.target.columns[index]) else {
                return Ok(expr.alias(field.name()));
            };
            // A bare string or NULL takes the column's type.
            if let Some(literal) = literals.get(position).and_then(|literal| literal.clone()) {
                expr = literal;
            }
            Ok(assign::assign(expr, &schema, column)?.alias(field.name()))
        });
        let exprs = exprs.collect::<datafusion::common::Result<Vec<_>>>().map_err(|e| self.explain(e))?;
        let projection = Projection::try_new(exprs, std::sync::Arc::new(plan)).map_err(|e| self.explain(e))?;
        Ok(LogicalPlan::Projection(projection))
    }

    fn finish(
        self,
        action: DmlAction,
        mut bound: Bound,
        returning: Option<&[SelectItem]>,
        alias: Option<&Ident>,
    ) -> Result<BoundDml> {
        let returning = match returning {
            None => None,
            Some(items) => {
                let hints: Vec<Option<PgType>> = bound.parameters.iter().cloned().map(Some).collect();
                let (plan, parameters) = self.returning(items, alias, &hints)?;
                if parameters.len() > bound.parameters.len() {
                    bound.parameters = parameters;
                }
                Some(plan)
            }
        };
        Ok(BoundDml { table_id: self.target.id, table: self.table, action, bound, returning })
    }

    fn provider(&self) -> Provider<'_> {
        Provider::new(self.state, self.resolver)
    }

    /// An expression over `schema` with Postgres' types.
    fn expression(&self, expr: &ast::Expr, schema: &DFSchema, hints: &[Option<PgType>]) -> Result<Expr> {
        let planned = self.provider().expression(expr.clone(), schema, hints);
        planned.and_then(|expr| postgres::expression(expr, schema)).map_err(|e| self.explain(e))
    }
}

/// Constants that the top projection puts out, by position.
fn literal_outputs(plan: &LogicalPlan) -> Vec<Option<Expr>> {
    let LogicalPlan::Projection(projection) = plan else { return vec![] };
    let literal = |expr: &Expr| match expr.clone().unalias() {
        literal @ Expr::Literal(..) => Some(literal),
        _ => None,
    };
    projection.expr.iter().map(literal).collect()
}

/// The word DEFAULT in the place of a value.
fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

/// A parameter that is a column's whole value has the column's type, unless the client said otherwise.
fn hint_parameter(hints: &mut Vec<Option<PgType>>, value: &ast::Expr, pg_type: &PgType) {
    let ast::Expr::Value(value) = value else { return };
    let ast::Value::Placeholder(name) = &value.value else { return };
    let Some(number) = name.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok()) else { return };
    if !(1..=super::PARAMETER_COUNT_MAX).contains(&number) {
        return;
    }
    if hints.len() < number {
        hints.resize(number, None);
    }
    hints[number - 1].get_or_insert_with(|| pg_type.clone());
}
