//! NATURAL JOIN as JOIN … USING, and whose column a merged one is: what the spelling of a query does not tell, the catalog
//! does. Runs on the tree, before it is planned.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableAliasColumnDef, TableFactor, TableWithJoins, Value,
    VisitMut, VisitorMut,
};

use super::{RelationResolver, ResolvedRelation, aliases};
use crate::error::{Error, Result};
use crate::sql::compat::{constraint_of, merge_columns, shared_columns};
use crate::sql::names;
use crate::sql::parser::{fold, fold_name};

/// How many views and subqueries are looked through for a column's name.
const DEPTH_MAX: usize = 32;

/// Spells out the joins of a tree that merge columns, and renames what columns would hide ([`aliases`]). 0A000 for a NATURAL RIGHT or FULL JOIN of a relation whose columns
/// are not known.
pub(super) fn spell_out<T: VisitMut>(tree: &mut T, resolver: &dyn RelationResolver) -> Result<()> {
    let mut joins = Joins { names: Names { resolver, with: vec![], depth: 0 }, error: None };
    let _ = tree.visit(&mut joins);
    joins.error.map_or(Ok(()), Err)
}

struct Joins<'a> {
    names: Names<'a>,
    error: Option<Error>,
}

impl VisitorMut for Joins<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.names.complete_with(query);
        self.names.enter(query);
        aliases::rename_hidden(query, &self.names);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.names.with.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let names_some = match factor {
            TableFactor::Table { alias: Some(alias), args: None, .. }
            | TableFactor::Derived { alias: Some(alias), .. } => !alias.columns.is_empty(),
            _ => false,
        };
        let all = if names_some { self.names.of_factor(factor) } else { None };
        if let TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } = factor
        {
            complete(alias, all);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if !select.from.iter().flat_map(|from| &from.joins).any(merges) {
            return ControlFlow::Continue(());
        }
        for from in &mut select.from {
            if let Err(error) = self.natural(from) {
                self.error = Some(error);
                return ControlFlow::Break(());
            }
        }
        let names = &self.names;
        merge_columns(select, &|factor| names.of_factor(factor));
        ControlFlow::Continue(())
    }
}

impl Joins<'_> {
    /// The columns that both sides have become those of USING.
    fn natural(&self, from: &mut TableWithJoins) -> Result<()> {
        let mut left = self.names.of_factor(&from.relation);
        for join in &mut from.joins {
            let right = self.names.of_factor(&join.relation);
            let needs_columns = !matches!(
                join.join_operator,
                JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::Left(_) | JoinOperator::LeftOuter(_)
            );
            let merged = match constraint_of(&mut join.join_operator) {
                Some(constraint @ JoinConstraint::Natural) => match (&left, &right) {
                    (Some(left), Some(right)) => {
                        let shared: Vec<String> = left.iter().filter(|name| right.contains(name)).cloned().collect();
                        *constraint = using(&shared);
                        shared
                    }
                    _ if needs_columns => {
                        let hint = "name the columns with USING";
                        return Err(Error::unsupported("NATURAL RIGHT and NATURAL FULL JOIN of such a relation", hint));
                    }
                    _ => vec![],
                },
                _ => shared_columns(join).unwrap_or_default().iter().map(fold).collect(),
            };
            left = joined(left, right, &merged);
        }
        Ok(())
    }
}

fn using(columns: &[String]) -> JoinConstraint {
    if columns.is_empty() {
        return JoinConstraint::On(Expr::Value(Value::Boolean(true).into()));
    }
    let names = columns.iter().map(|name| ObjectName::from(vec![Ident::with_quote('"', name)]));
    JoinConstraint::Using(names.collect())
}

fn merges(join: &Join) -> bool {
    let mut operator = join.join_operator.clone();
    matches!(constraint_of(&mut operator), Some(JoinConstraint::Natural | JoinConstraint::Using(_)))
}

/// The columns of a join: the merged ones, the rest of the left, the rest of the right.
fn joined(left: Option<Vec<String>>, right: Option<Vec<String>>, merged: &[String]) -> Option<Vec<String>> {
    let rest = |side: Vec<String>| side.into_iter().filter(|name| !merged.contains(name));
    let (left, right) = (left?, right?);
    Some(merged.iter().cloned().chain(rest(left)).chain(rest(right)).collect())
}

/// What the columns of relations are called.
pub(super) struct Names<'a> {
    resolver: &'a dyn RelationResolver,
    /// WITH queries by name, those of the query around first.
    with: Vec<Vec<(String, TableAlias, Query)>>,
    depth: usize,
}

impl Names<'_> {
    fn enter(&mut self, query: &Query) {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.with
            .push(tables.map(|cte| (fold(&cte.alias.name), cte.alias.clone(), cte.query.as_ref().clone())).collect());
    }

    /// Names all columns of the WITH queries whose first ones have a name.
    fn complete_with(&self, query: &mut Query) {
        if !query.with.iter().flat_map(|with| &with.cte_tables).any(|cte| !cte.alias.columns.is_empty()) {
            return;
        }
        let mut inside = Names { resolver: self.resolver, with: self.with.clone(), depth: self.depth + 1 };
        inside.enter(query);
        for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            if !cte.alias.columns.is_empty() {
                let name = ObjectName::from(vec![cte.alias.name.clone()]);
                let all = inside.of_relation(&name);
                complete(&mut cte.alias, all);
            }
        }
    }

    pub fn of_factor(&self, factor: &TableFactor) -> Option<Vec<String>> {
        let (columns, alias) = match factor {
            TableFactor::Table { name, alias, args: None, .. } => (self.of_relation(name)?, alias),
            TableFactor::Derived { subquery, alias, .. } => (self.of_query(subquery)?, alias),
            _ => return None,
        };
        Some(renamed(columns, alias.as_ref()))
    }

    fn of_relation(&self, name: &ObjectName) -> Option<Vec<String>> {
        let name = fold_name(name).ok()?;
        for (level, with) in self.with.iter().enumerate().rev().filter(|_| name.schema.is_none()) {
            if let Some(at) = with.iter().position(|(with, ..)| *with == name.name) {
                let (_, alias, query) = &with[at];
                // It sees those before it.
                let mut before = self.with[..level].to_vec();
                before.push(with[..at].to_vec());
                let inside = Names { resolver: self.resolver, with: before, depth: self.depth + 1 };
                return Some(renamed(inside.of_query(query)?, Some(alias)));
            }
        }
        match self.resolver.resolve(name.schema.as_deref(), &name.name).ok()?? {
            ResolvedRelation::Rows { source, .. } => {
                Some(source.schema().fields().iter().map(|field| field.name().clone()).collect())
            }
            ResolvedRelation::View { columns, query } if columns.is_empty() => {
                let inside = Names { resolver: self.resolver, with: vec![], depth: self.depth + 1 };
                inside.of_query(&query.ast)
            }
            ResolvedRelation::View { columns, .. } => Some(columns),
        }
    }

    fn of_query(&self, query: &Query) -> Option<Vec<String>> {
        if self.depth >= DEPTH_MAX {
            return None;
        }
        let mut inside = Names { resolver: self.resolver, with: self.with.clone(), depth: self.depth + 1 };
        inside.enter(query);
        inside.of_body(&query.body)
    }

    fn of_body(&self, body: &SetExpr) -> Option<Vec<String>> {
        match body {
            SetExpr::Select(select) => self.of_select(select),
            SetExpr::Query(query) => self.of_query(query),
            SetExpr::SetOperation { left, .. } => self.of_body(left),
            SetExpr::Values(values) => {
                let width = values.rows.first()?.len();
                Some((1..=width).map(|number| format!("column{number}")).collect())
            }
            _ => None,
        }
    }

    fn of_select(&self, select: &Select) -> Option<Vec<String>> {
        let mut columns = vec![];
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => columns.push(names::public(&fold(alias)).to_string()),
                SelectItem::UnnamedExpr(Expr::Identifier(ident)) => columns.push(fold(ident)),
                SelectItem::UnnamedExpr(Expr::CompoundIdentifier(idents)) => columns.push(fold(idents.last()?)),
                SelectItem::Wildcard(options) if options.opt_exclude.is_none() => {
                    for from in &select.from {
                        columns.extend(self.of_joins(from)?);
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    let name = fold(name.0.last()?.as_ident()?);
                    let factors = select.from.iter().flat_map(|from| {
                        std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation))
                    });
                    let factor = factors.into_iter().find(|factor| called(factor).as_ref() == Some(&name))?;
                    let left_out = match &options.opt_exclude {
                        Some(sqlparser::ast::ExcludeSelectItem::Multiple(names)) => {
                            names.iter().filter_map(|name| name.0.last()?.as_ident().map(fold)).collect()
                        }
                        Some(_) => return None,
                        None => vec![],
                    };
                    columns.extend(self.of_factor(factor)?.into_iter().filter(|name| !left_out.contains(name)));
                }
                _ => return None,
            }
        }
        Some(columns)
    }

    fn of_joins(&self, from: &TableWithJoins) -> Option<Vec<String>> {
        let mut left = self.of_factor(&from.relation)?;
        for join in &from.joins {
            let right = self.of_factor(&join.relation)?;
            let mut operator = join.join_operator.clone();
            let merged: Vec<String> = match constraint_of(&mut operator) {
                Some(JoinConstraint::Natural) => left.iter().filter(|name| right.contains(name)).cloned().collect(),
                _ => shared_columns(&mut join.clone()).unwrap_or_default().iter().map(fold).collect(),
            };
            left = joined(Some(left), Some(right), &merged)?;
        }
        Some(left)
    }
}

/// `t AS x (a, b)` names the first columns; the planner wants all of them named.
fn complete(alias: &mut TableAlias, all: Option<Vec<String>>) {
    let Some(all) = all.filter(|all| !alias.columns.is_empty() && all.len() > alias.columns.len()) else { return };
    let rest = all[alias.columns.len()..].iter().map(|name| Ident::with_quote('"', name));
    alias.columns.extend(rest.map(|name| TableAliasColumnDef { name, data_type: None }).collect::<Vec<_>>());
}

/// The name that a relation goes by.
pub(super) fn called(factor: &TableFactor) -> Option<String> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(fold(&alias.name))
        }
        TableFactor::Table { name, .. } => name.0.last()?.as_ident().map(fold),
        _ => None,
    }
}

/// An alias may rename the first columns.
fn renamed(mut columns: Vec<String>, alias: Option<&TableAlias>) -> Vec<String> {
    for (column, new) in columns.iter_mut().zip(alias.iter().flat_map(|alias| &alias.columns)) {
        *column = fold(&new.name);
    }
    columns
}
