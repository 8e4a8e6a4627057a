//! `(SELECT … FROM u WHERE u.x = b.x) FROM t AS b`, where u has a column b: PostgreSQL takes `b.x` for the relation's
//! column, the planner for a field of u's. Such a relation gets a name that no column has.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableAlias,
    TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

use super::natural::{Names, called};
use crate::sql::names;
use crate::sql::parser::fold;

/// Gives the relations of `query` that a column inside of it would hide another name.
pub(super) fn rename_hidden(query: &mut Query, names: &Names<'_>) {
    let mut relations = vec![];
    selects(&query.body, &mut |select| relations.extend(factors(select).iter().filter_map(|factor| called(factor))));
    relations.sort();
    relations.dedup();
    for relation in relations {
        let mut walk = Walk { relation: &relation, names, scopes: vec![], is_hidden: false, renames: None };
        let _ = query.visit(&mut walk);
        if walk.is_hidden {
            let name = Ident::with_quote('"', names::hidden(&relation));
            let mut walk = Walk { relation: &relation, names, scopes: vec![], is_hidden: false, renames: Some(name) };
            let _ = query.visit(&mut walk);
        }
    }
}

/// A query on the way to an expression.
struct Scope {
    /// It has a relation of the name itself.
    declares: bool,
    relations: Vec<TableFactor>,
}

struct Walk<'a> {
    relation: &'a str,
    names: &'a Names<'a>,
    scopes: Vec<Scope>,
    is_hidden: bool,
    /// `None`: only looks.
    renames: Option<Ident>,
}

impl Walk<'_> {
    /// The relation is that of the query that was begun with.
    fn is_ours(&self) -> bool {
        !self.scopes.iter().skip(1).any(|scope| scope.declares)
    }

    /// A query on the way has a relation with a column of the name.
    fn is_hidden_here(&self) -> bool {
        let mut relations = self.scopes.iter().skip(1).flat_map(|scope| &scope.relations);
        relations.any(|factor| {
            self.names.of_factor(factor).is_some_and(|columns| columns.iter().any(|column| column == self.relation))
        })
    }

    fn is_relation(&self, ident: &Ident) -> bool {
        fold(ident) == self.relation && self.is_ours()
    }
}

impl VisitorMut for Walk<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let mut relations = vec![];
        selects(&query.body, &mut |select| relations.extend(factors(select).into_iter().cloned()));
        let declares = relations.iter().any(|factor| called(factor).as_deref() == Some(self.relation));
        self.scopes.push(Scope { declares, relations });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let Some(new) = self.renames.clone() else { return ControlFlow::Continue(()) };
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item
                && name.0.len() == 1
                && name.0[0].as_ident().is_some_and(|ident| self.is_relation(ident))
            {
                *name = ObjectName::from(vec![new.clone()]);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let Some(new) = self.renames.clone().filter(|_| self.scopes.len() == 1) else {
            return ControlFlow::Continue(());
        };
        if called(factor).as_deref() != Some(self.relation) {
            return ControlFlow::Continue(());
        }
        if let TableFactor::Table { alias, .. } | TableFactor::Derived { alias, .. } = factor {
            match alias {
                Some(alias) => alias.name = new,
                None => *alias = Some(TableAlias { explicit: true, name: new, columns: vec![], at: None }),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::CompoundIdentifier(idents) = expr else { return ControlFlow::Continue(()) };
        if idents.len() < 2 || !self.is_relation(&idents[0]) {
            return ControlFlow::Continue(());
        }
        match &self.renames {
            Some(new) => idents[0] = new.clone(),
            None => self.is_hidden = self.is_hidden || self.is_hidden_here(),
        }
        ControlFlow::Continue(())
    }
}

/// The SELECTs of a query's body.
fn selects<'a>(body: &'a SetExpr, each: &mut dyn FnMut(&'a Select)) {
    match body {
        SetExpr::Select(select) => each(select),
        SetExpr::SetOperation { left, right, .. } => {
            selects(left, each);
            selects(right, each);
        }
        _ => {}
    }
}

fn factors(select: &Select) -> Vec<&TableFactor> {
    fn add<'a>(from: &'a TableWithJoins, all: &mut Vec<&'a TableFactor>) {
        for factor in std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)) {
            match factor {
                TableFactor::NestedJoin { table_with_joins, .. } => add(table_with_joins, all),
                other => all.push(other),
            }
        }
    }
    let mut all = vec![];
    select.from.iter().for_each(|from| add(from, &mut all));
    all
}
