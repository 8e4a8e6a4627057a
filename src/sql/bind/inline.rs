//! SQL functions are expanded where they are called, before the query is planned: what runs, also in a maintained view,
//! is a query without them.
//!
//! ```text
//! twice(a int) = a * 2          SELECT twice(x)       ──▶  SELECT CAST((CAST(x AS int) * 2) AS int)
//! price(k int) = SELECT p …     SELECT price(t.k)     ──▶  SELECT (SELECT p FROM prices WHERE id = CAST(t.k AS int))
//! rows_of(k int) → TABLE …      FROM rows_of(1) AS r  ──▶  FROM (SELECT …) AS r
//! ```
//! Names keep their meaning: relations of a body are looked up without the caller's WITH, and an argument that is a
//! column moves into a body that reads relations only with its relation's name before it.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNode;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Query, Select, SelectItem, SetExpr,
    TableAlias, TableFactor, VisitMut, VisitorMut,
};

use super::RelationResolver;
use crate::catalog::functions::quote_identifier;
use crate::catalog::{Function, Returns, SCHEMA};
use crate::error::{Error, Result, SqlState};
use crate::sql::Name;
use crate::sql::parser::{fold, fold_name, parse_query};
use crate::types::{PgType, RelationId};

/// How deep functions may call functions.
const CALL_DEPTH_MAX: usize = 16;
/// Stands for the place of an argument; no client can type it.
const PLACE: &str = "\u{1}place";

/// Expands all calls in a query or expression; `used` gets the ids of the functions.
pub(super) fn expand<T: VisitMut>(
    tree: &mut T,
    resolver: &dyn RelationResolver,
    used: &RefCell<Vec<RelationId>>,
) -> Result<()> {
    if !resolver.has_functions() {
        return Ok(());
    }
    expand_at(tree, resolver, used, 0)
}

fn expand_at<T: VisitMut>(
    tree: &mut T,
    resolver: &dyn RelationResolver,
    used: &RefCell<Vec<RelationId>>,
    depth: usize,
) -> Result<()> {
    let mut inliner = Inliner { resolver, used, depth, sources: vec![] };
    match tree.visit(&mut inliner) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Inliner<'a> {
    resolver: &'a dyn RelationResolver,
    used: &'a RefCell<Vec<RelationId>>,
    depth: usize,
    /// For each SELECT around: what its one relation is called there; `None` if there is not just one.
    sources: Vec<Option<Ident>>,
}

impl Inliner<'_> {
    /// The function of a call, if it is one of SQL.
    fn find(&self, name: &ObjectName, count: usize) -> Result<Option<Arc<Function>>> {
        let Ok(name) = fold_name(name) else { return Ok(None) };
        let known = self.resolver.functions(name.schema.as_deref(), &name.name);
        if let Some(function) = known.iter().find(|function| function.takes(count)) {
            return Ok(Some(function.clone()));
        }
        if known.is_empty() {
            return Ok(None);
        }
        let signatures: Vec<String> = known.iter().map(|function| function.signature()).collect();
        let message = format!("function {} with {count} arguments does not exist", name.name);
        Err(Error::new(SqlState::UNDEFINED_FUNCTION, message).with_hint(format!("known: {}", signatures.join("; "))))
    }

    fn call(&self, expr: &mut Expr) -> Result<()> {
        let Expr::Function(call) = expr else { return Ok(()) };
        let FunctionArguments::List(list) = &call.args else { return Ok(()) };
        let Some(function) = self.find(&call.name, list.args.len())? else { return Ok(()) };
        let is_plain = call.over.is_none()
            && call.filter.is_none()
            && call.within_group.is_empty()
            && list.clauses.is_empty()
            && list.duplicate_treatment.is_none();
        if !is_plain {
            let message = format!("{} is not an aggregate or window function", function.name);
            return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
        let Returns::Value(pg_type) = &function.returns else {
            return Err(Error::unsupported(
                format!("function {}, which returns rows, in an expression", function.name),
                format!("call it in FROM: SELECT … FROM {}(…)", function.name),
            ));
        };
        let arguments = self.arguments(&function, &list.args)?;
        let body = parse_query(&function.body)?;
        let text = match lone_expression(&body.ast) {
            true => format!("SELECT CAST(\"{PLACE}\" AS {})", pg_type.name()),
            false => format!("SELECT CAST(({}) AS {})", function.body, pg_type.name()),
        };
        let mut value = first_expression(&text)?;
        if lone_expression(&body.ast) {
            let inner = body_expression(*body.ast)?;
            replace(&mut value, &|found| is_place(found).then(|| Expr::Nested(Box::new(inner.clone()))))?;
        }
        let mut value = self.with_arguments(value, &function, &arguments)?;
        if function.strict && !arguments.is_empty() {
            value = when_not_null(value, &arguments)?;
        }
        *expr = Expr::Nested(Box::new(self.finish(value, &function)?));
        Ok(())
    }

    fn from(&self, factor: &mut TableFactor) -> Result<()> {
        let TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. } = factor else { return Ok(()) };
        let Some(function) = self.find(name, args.args.len())? else { return Ok(()) };
        if *with_ordinality {
            return Err(Error::unsupported("WITH ORDINALITY of a SQL function", "number the rows with row_number()"));
        }
        let columns = match &function.returns {
            Returns::Value(pg_type) | Returns::SetOf(pg_type) => vec![(function.name.name.clone(), pg_type.clone())],
            Returns::Table(columns) => columns.clone(),
        };
        let names: Vec<String> = columns.iter().map(|(name, _)| quote_identifier(name)).collect();
        let casts: Vec<String> = columns
            .iter()
            .zip(&names)
            .map(|((_, pg_type), name)| format!("CAST(q.{name} AS {}) AS {name}", pg_type.name()))
            .collect();
        let body = function.body.trim();
        let text = format!("SELECT {} FROM ({body}) AS q ({})", casts.join(", "), names.join(", "));
        let arguments = self.arguments(&function, &args.args)?;
        let query = parse_query(&text)?;
        let query = self.with_arguments(*query.ast, &function, &arguments)?;
        if function.strict && !arguments.is_empty() {
            return Err(Error::unsupported("STRICT with rows in FROM", "filter for NULL in the function's body"));
        }
        let query = self.finish(query, &function)?;
        let alias = alias.take().unwrap_or_else(|| TableAlias {
            explicit: true,
            name: Ident::with_quote('"', &function.name.name),
            columns: vec![],
            at: None,
        });
        let lateral = arguments.iter().any(has_columns);
        *factor = TableFactor::Derived { lateral, subquery: Box::new(query), alias: Some(alias), sample: None };
        Ok(())
    }

    /// The arguments in the order of the function's, defaults filled in, each cast to its type.
    fn arguments(&self, function: &Function, given: &[FunctionArg]) -> Result<Vec<Expr>> {
        let mut values: Vec<Option<Expr>> = vec![None; function.arguments.len()];
        for (position, argument) in given.iter().enumerate() {
            let (place, arg) = match argument {
                FunctionArg::Unnamed(arg) => (Some(position), arg),
                FunctionArg::Named { name, arg, .. } => {
                    let name = Some(fold(name));
                    (function.arguments.iter().position(|argument| argument.name == name), arg)
                }
                FunctionArg::ExprNamed { name, arg, .. } => {
                    let name = match name {
                        Expr::Identifier(name) => Some(fold(name)),
                        _ => None,
                    };
                    let known = |argument: &crate::catalog::Argument| argument.name.is_some() && argument.name == name;
                    (function.arguments.iter().position(known), arg)
                }
            };
            let (Some(slot), FunctionArgExpr::Expr(value)) = (place.and_then(|place| values.get_mut(place)), arg)
            else {
                let message = format!("function {} does not take argument {argument}", function.signature());
                return Err(Error::new(SqlState::UNDEFINED_FUNCTION, message));
            };
            *slot = Some(value.clone());
        }
        let filled = values.into_iter().zip(&function.arguments).map(|(value, argument)| {
            let value = match (value, &argument.default) {
                (Some(value), _) => value,
                (None, Some(default)) => first_expression(&format!("SELECT ({default})"))?,
                (None, None) => {
                    let message = format!("function {} misses an argument", function.signature());
                    return Err(Error::new(SqlState::UNDEFINED_FUNCTION, message));
                }
            };
            let mut cast = first_expression(&format!("SELECT CAST(\"{PLACE}\" AS {})", argument.pg_type.name()))?;
            replace(&mut cast, &|found| is_place(found).then(|| value.clone()))?;
            Ok(cast)
        });
        filled.collect()
    }

    /// A body with arguments in the place of parameters.
    fn with_arguments<T: VisitMut + Clone>(&self, mut body: T, function: &Function, arguments: &[Expr]) -> Result<T> {
        let names = relation_names(&mut body);
        let mut arguments = arguments.to_vec();
        if !names.is_empty() {
            for argument in &mut arguments {
                self.qualify(argument, function)?;
            }
            let suffix = arguments.iter().any(has_columns).then(|| format!("@{}", function.name.name));
            own_relations(&mut body, self.resolver, names, suffix)?;
        }
        replace(&mut body, &|found| {
            let place = match found {
                Expr::Identifier(ident) => {
                    let name = fold(ident);
                    function.arguments.iter().position(|argument| argument.name.as_ref() == Some(&name))
                }
                Expr::CompoundIdentifier(idents) => match idents.as_slice() {
                    [first, second] if fold(first) == function.name.name => {
                        let name = fold(second);
                        function.arguments.iter().position(|argument| argument.name.as_ref() == Some(&name))
                    }
                    _ => None,
                },
                Expr::Value(value) => match &value.value {
                    ast::Value::Placeholder(text) => {
                        text.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok()?.checked_sub(1))
                    }
                    _ => None,
                },
                _ => None,
            };
            arguments.get(place?).cloned()
        })?;
        Ok(body)
    }

    /// Columns of the caller get their relation's name, so that they mean the same inside of a body with relations of
    /// its own. 0A000 where that cannot be told.
    fn qualify(&self, argument: &mut Expr, function: &Function) -> Result<()> {
        if !has_columns(argument) {
            return Ok(());
        }
        if has_subquery(argument) {
            return Err(Error::unsupported(
                format!("a subquery as an argument of function {}, which reads relations itself", function.name),
                "compute it in a subquery in FROM, and give its column",
            ));
        }
        if let Some(source) = self.sources.last().cloned().flatten() {
            return replace(argument, &|found| match found {
                Expr::Identifier(ident) => Some(Expr::CompoundIdentifier(vec![source.clone(), ident.clone()])),
                _ => None,
            });
        }
        let bare = ast::visit_expressions(argument, |expr| match expr {
            Expr::Identifier(ident) => ControlFlow::Break(fold(ident)),
            _ => ControlFlow::Continue(()),
        });
        match bare {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(column) => Err(Error::unsupported(
                format!("column \"{column}\" as an argument of function {}", function.name),
                "the function reads relations: write the column's relation before it, as in t.a",
            )),
        }
    }

    /// Notes the function, and expands what its body calls.
    fn finish<T: VisitMut>(&self, mut body: T, function: &Function) -> Result<T> {
        if self.depth == CALL_DEPTH_MAX {
            return Err(Error::new(SqlState("54001"), "stack depth limit exceeded").with_hint(format!(
                "functions may call each other {CALL_DEPTH_MAX} deep; {} does not end",
                function.name
            )));
        }
        let mut used = self.used.borrow_mut();
        if !used.contains(&function.id) {
            used.push(function.id);
        }
        drop(used);
        expand_at(&mut body, self.resolver, self.used, self.depth + 1)?;
        Ok(body)
    }
}

impl VisitorMut for Inliner<'_> {
    type Break = Error;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        self.sources.push(lone_source(select));
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<Error> {
        self.sources.pop();
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match self.call(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        match self.from(factor) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// Puts what `with` gives in the place of expressions, innermost first; what was put in is not looked at again.
fn replace<T: VisitMut>(tree: &mut T, with: &dyn Fn(&Expr) -> Option<Expr>) -> Result<()> {
    struct Replacer<'a>(&'a dyn Fn(&Expr) -> Option<Expr>);
    impl VisitorMut for Replacer<'_> {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Some(other) = (self.0)(expr) {
                *expr = other;
            }
            ControlFlow::Continue(())
        }
    }
    match tree.visit(&mut Replacer(with)) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::internal("a replacement ended early")),
    }
}

fn is_place(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.value == PLACE)
}

fn has_columns(expr: &Expr) -> bool {
    let found = ast::visit_expressions(expr, |expr| match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    found.is_break()
}

fn has_subquery(expr: &Expr) -> bool {
    struct Found;
    impl ast::Visitor for Found {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    ast::Visit::visit(expr, &mut Found).is_break()
}

/// The expression of a query that selects one.
fn first_expression(text: &str) -> Result<Expr> {
    body_expression(*parse_query(text)?.ast)
}

fn body_expression(query: Query) -> Result<Expr> {
    let not_one = || Error::internal("a query of one expression has none");
    let SetExpr::Select(select) = *query.body else { return Err(not_one()) };
    match select.projection.into_iter().next() {
        Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => Ok(expr),
        _ => Err(not_one()),
    }
}

/// True for `SELECT expression` and nothing else.
fn lone_expression(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    let is_expression =
        matches!(select.projection.as_slice(), [SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }]);
    query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && is_expression
        && select.from.is_empty()
        && select.selection.is_none()
        && select.having.is_none()
        && select.distinct.is_none()
        && matches!(&select.group_by, ast::GroupByExpr::Expressions(keys, _) if keys.is_empty())
}

/// What a SELECT's relation is called in it, if it reads just one.
fn lone_source(select: &Select) -> Option<Ident> {
    let [from] = select.from.as_slice() else { return None };
    if !from.joins.is_empty() {
        return None;
    }
    match &from.relation {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::TableFunction { alias: Some(alias), .. } => Some(alias.name.clone()),
        TableFactor::Table { name, args: None, .. } => name.0.last()?.as_ident().cloned(),
        _ => None,
    }
}

/// What the relations in a body are called there: by alias, or by their own name.
fn relation_names<T: VisitMut>(body: &mut T) -> Vec<String> {
    struct Names(Vec<String>);
    impl VisitorMut for Names {
        type Break = ();

        fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
            let alias = match factor {
                TableFactor::Table { alias, .. }
                | TableFactor::Derived { alias, .. }
                | TableFactor::TableFunction { alias, .. } => alias.as_ref(),
                _ => None,
            };
            let alias = alias.map(|alias| fold(&alias.name));
            match (alias, &*factor) {
                (Some(alias), _) => self.0.push(alias),
                (None, TableFactor::Table { name, .. }) => {
                    self.0.extend(name.0.last().and_then(|part| part.as_ident()).map(fold));
                }
                // Something that has no name that could clash, but columns that could.
                _ => self.0.push(String::new()),
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(vec![]);
    let _ = body.visit(&mut names);
    names.0
}

/// Makes a body's relations its own: unqualified ones of the users get their schema's name, so that no WITH of the caller
/// hides them, and all get `suffix`, if there is one, so that they hide none of the caller's.
fn own_relations<T: VisitMut>(
    body: &mut T,
    resolver: &dyn RelationResolver,
    names: Vec<String>,
    suffix: Option<String>,
) -> Result<()> {
    struct Owner<'a> {
        resolver: &'a dyn RelationResolver,
        names: Vec<String>,
        suffix: Option<String>,
        defined: Vec<String>,
    }
    impl Owner<'_> {
        fn owned(&self, ident: &Ident) -> Ident {
            match &self.suffix {
                Some(suffix) => Ident::with_quote('"', format!("{}{suffix}", fold(ident))),
                None => ident.clone(),
            }
        }

        fn relation(&mut self, factor: &mut TableFactor) -> Result<()> {
            match factor {
                TableFactor::Table { name, args: None, alias, .. } => {
                    let Some(ident) = name.0.last().and_then(|part| part.as_ident()).cloned() else { return Ok(()) };
                    let called = alias.as_ref().map_or(&ident, |alias| &alias.name);
                    let called = self.owned(called);
                    match alias {
                        Some(alias) => alias.name = called,
                        None => *alias = Some(TableAlias { explicit: true, name: called, columns: vec![], at: None }),
                    }
                    let folded = fold(&ident);
                    let is_users = name.0.len() == 1
                        && !self.defined.contains(&folded)
                        && self.resolver.resolve(Some(SCHEMA), &folded)?.is_some();
                    if is_users {
                        *name = ObjectName::from(vec![Ident::new(SCHEMA), ident]);
                    }
                }
                TableFactor::Table { alias: Some(alias), .. }
                | TableFactor::Derived { alias: Some(alias), .. }
                | TableFactor::TableFunction { alias: Some(alias), .. } => alias.name = self.owned(&alias.name),
                _ => {}
            }
            Ok(())
        }
    }
    impl VisitorMut for Owner<'_> {
        type Break = Error;

        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
            let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
            self.defined.extend(ctes.map(|cte| fold(&cte.alias.name)));
            ControlFlow::Continue(())
        }

        fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
            match self.relation(factor) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        }

        fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
            for item in &mut select.projection {
                if let SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), _) = item
                    && let [part] = name.0.as_slice()
                    && let Some(ident) = part.as_ident()
                    && self.names.contains(&fold(ident))
                {
                    *name = ObjectName::from(vec![self.owned(ident)]);
                }
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
            if let Expr::CompoundIdentifier(idents) = expr
                && idents.len() == 2
                && self.names.contains(&fold(&idents[0]))
            {
                idents[0] = self.owned(&idents[0]);
            }
            ControlFlow::Continue(())
        }
    }
    match body.visit(&mut Owner { resolver, names, suffix, defined: vec![] }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// `CASE WHEN a IS NULL OR b IS NULL THEN NULL ELSE value END`.
fn when_not_null(value: Expr, arguments: &[Expr]) -> Result<Expr> {
    let place = |number: usize| format!("\"{PLACE}{number}\"");
    let tests: Vec<String> = (0..arguments.len()).map(|number| format!("{} IS NULL", place(number))).collect();
    let mut guarded =
        first_expression(&format!("SELECT CASE WHEN {} THEN NULL ELSE \"{PLACE}\" END", tests.join(" OR ")))?;
    replace(&mut guarded, &|found| match found {
        Expr::Identifier(ident) if ident.value == PLACE => Some(value.clone()),
        Expr::Identifier(ident) => {
            let number: usize = ident.value.strip_prefix(PLACE)?.parse().ok()?;
            arguments.get(number).cloned()
        }
        _ => None,
    })?;
    Ok(guarded)
}

/// Types of the columns that a body gives, with NULL for every argument.
pub fn body_types(state: &SessionState, resolver: &dyn RelationResolver, function: &Function) -> Result<Vec<PgType>> {
    let query = parse_query(&function.body)?;
    let nulls = function
        .arguments
        .iter()
        .map(|argument| first_expression(&format!("SELECT CAST(NULL AS {})", argument.pg_type.name())));
    let nulls: Vec<Expr> = nulls.collect::<Result<_>>()?;
    let used = RefCell::default();
    let inliner = Inliner { resolver, used: &used, depth: 0, sources: vec![] };
    let body = inliner.with_arguments(*query.ast, function, &nulls)?;
    let bound = super::bind_ast(state, resolver, Box::new(body), &query.source, &[], super::Shape::Result);
    let bound = bound.map_err(|error| Error { position: None, ..error })?;
    if let Some(number) = (!bound.parameters.is_empty()).then_some(bound.parameters.len()) {
        return Err(Error::new(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter ${number}")));
    }
    Ok(bound.plan.schema().fields().iter().map(|field| PgType::of(field)).collect())
}

/// 0A000 for aggregates and window functions in a body that reads nothing: expanded, they would be the caller's.
pub fn require_row_wise(plan: &LogicalPlan) -> Result<()> {
    let found = plan.exists(|node| Ok(matches!(node, LogicalPlan::Aggregate(_) | LogicalPlan::Window(_))))?;
    match found {
        false => Ok(()),
        true => Err(Error::unsupported(
            "an aggregate or window function in the body of a function that reads no relation",
            "call it in the query, over the function's results",
        )),
    }
}

/// The relations that a body names, unqualified or not, those of WITH among them: CREATE FUNCTION looks whether their
/// columns are called like parameters.
pub fn body_relations(body: &str) -> Result<Vec<Name>> {
    struct Relations(Vec<Name>);
    impl VisitorMut for Relations {
        type Break = ();

        fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { name, args: None, .. } = factor {
                self.0.extend(fold_name(name).ok());
            }
            ControlFlow::Continue(())
        }
    }
    let mut query = parse_query(body)?;
    let mut relations = Relations(vec![]);
    let _ = query.ast.visit(&mut relations);
    Ok(relations.0)
}
