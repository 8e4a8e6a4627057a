//! New names in stored text: a view keeps the SELECT that its author wrote, so when a relation that it reads gets
//! another name, the name is replaced where the text names the relation, and nowhere else.
//!
//! ```text
//! t renamed to u:            SELECT t.a FROM t       ──▶  SELECT t.a FROM u AS t
//! column a renamed to b:     SELECT a FROM t AS x    ──▶  SELECT a FROM t AS x (a, …)
//! ```
//! The alias lets everything else in the text stay as it is. Names that WITH defines are no relations and are left alone.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Query, TableAlias, TableFactor, Visit, Visitor,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Tokenizer};

use super::Name;
use super::parser::{as_of_arrival, fold, fold_name, respell};
use super::text::Text;
use crate::catalog::functions::quote_identifier;
use crate::catalog::{QualifiedName, SCHEMA};
use crate::error::{Error, Result, SqlState};

/// A relation as a stored query shall name it from now on.
#[derive(Clone, Debug)]
pub struct Renamed {
    pub name: QualifiedName,
    /// The columns under the names that the query knows; `None`: they are called so anyway.
    pub columns: Option<Vec<String>>,
}

/// The query's text under the new names; `renamed` says what became of a relation that the text names. 0A000 where the
/// text does not leave room for the change. The caller still has to bind the result: what it says is not known here.
pub fn rename_relations(text: &str, renamed: &dyn Fn(&Name) -> Option<Renamed>) -> Result<String> {
    let source = Text::new(text);
    let unreadable = |e: String| Error::new(SqlState::DATA_CORRUPTED, format!("unreadable stored query: {e}"));
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location();
    let tokens = respell(tokens.map_err(|e| unreadable(e.to_string()))?);
    let query = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(tokens).parse_query();
    let query = query.map_err(|e| unreadable(e.to_string()))?;
    let mut renamer = Renamer { renamed, scopes: vec![], bodies: vec![], defined: defined(&query), edits: vec![] };
    if let ControlFlow::Break(error) = query.visit(&mut renamer) {
        return Err(error);
    }
    let mut edits = renamer.edits;
    edits.sort_by_key(|edit| std::cmp::Reverse((edit.start, edit.end)));
    let mut text = text.to_string();
    for edit in edits {
        let (Some(start), Some(end)) = (source.bytes_before(edit.start), source.bytes_before(edit.end)) else {
            return Err(Error::internal("a name without a place in its text"));
        };
        text.replace_range(start..end, &edit.text);
    }
    Ok(text)
}

/// `CREATE SOURCE [IF NOT EXISTS] name …` with another name in it.
pub fn rename_created(text: &str, name: &QualifiedName) -> Result<String> {
    let unreadable = |e: String| Error::new(SqlState::DATA_CORRUPTED, format!("unreadable stored statement: {e}"));
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location();
    let tokens = tokens.map_err(|e| unreadable(e.to_string()))?;
    let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(tokens);
    // CREATE, and the kind.
    parser.next_token();
    parser.next_token();
    let _ = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let old = parser.parse_object_name(false).map_err(|e| unreadable(e.to_string()))?;
    let source = Text::new(text);
    let span = place(&old).and_then(|(start, end)| Some((source.bytes_before(start)?, source.bytes_before(end)?)));
    let (start, end) = span.ok_or_else(|| unreadable("it has no name".into()))?;
    let mut text = text.to_string();
    let plain = quote_identifier(&name.name);
    let spelled = match name.schema == SCHEMA {
        true => plain,
        false => format!("{}.{plain}", quote_identifier(&name.schema)),
    };
    text.replace_range(start..end, &spelled);
    Ok(text)
}

/// What replaces the text between two places.
struct Edit {
    start: Location,
    end: Location,
    text: String,
}

/// The names that one WITH defines, and how many of them can be seen from where the visitor stands.
struct Scope {
    names: Vec<String>,
    visible: usize,
}

struct Renamer<'a> {
    renamed: &'a dyn Fn(&Name) -> Option<Renamed>,
    scopes: Vec<Scope>,
    /// Queries that stand inside a WITH: where they are, whose scope they belong to, how many names they see of it.
    bodies: Vec<(*const Query, usize, usize)>,
    /// Every name that any WITH defines: a new name among them has to be written with its schema.
    defined: Vec<String>,
    edits: Vec<Edit>,
}

impl Renamer<'_> {
    fn lookup(&self, name: &ObjectName) -> Option<Renamed> {
        let folded = fold_name(name).ok()?;
        let is_defined = folded.schema.is_none()
            && self.scopes.iter().any(|scope| scope.names[..scope.visible].contains(&folded.name));
        if is_defined { None } else { (self.renamed)(&folded) }
    }

    fn spelled(&self, name: &QualifiedName) -> String {
        let plain = quote_identifier(&name.name);
        match name.schema == SCHEMA && !self.defined.contains(&name.name) {
            true => plain,
            false => format!("{}.{plain}", quote_identifier(&name.schema)),
        }
    }

    /// `FROM t [AS x [(a, b)]]`; `alias_at` is where an alias goes, if not behind the name.
    fn relation(
        &mut self,
        name: &ObjectName,
        alias: Option<&TableAlias>,
        alias_at: Option<Location>,
    ) -> ControlFlow<Error> {
        let Some(renamed) = self.lookup(name) else { return ControlFlow::Continue(()) };
        let Some((start, end)) = place(name) else { return ControlFlow::Continue(()) };
        let mut text = self.spelled(&renamed.name);
        let columns = |columns: &[String]| {
            let columns: Vec<String> = columns.iter().map(|column| quote_identifier(column)).collect();
            format!(" ({})", columns.join(", "))
        };
        match (alias, &renamed.columns) {
            (None, _) => {
                let old = name.0.last().and_then(|part| part.as_ident()).map(fold).unwrap_or_default();
                let mut called = String::new();
                if old != renamed.name.name || renamed.columns.is_some() {
                    called = format!(" AS {}", quote_identifier(&old));
                }
                called.extend(renamed.columns.as_deref().map(columns));
                match alias_at {
                    Some(at) => self.edits.push(Edit { start: at, end: at, text: called }),
                    None => text.push_str(&called),
                }
            }
            (Some(alias), Some(known)) if alias.columns.is_empty() => {
                let end = alias.name.span.end;
                self.edits.push(Edit { start: end, end, text: columns(known) });
            }
            (Some(alias), Some(known)) if alias.columns.len() < known.len() => {
                return ControlFlow::Break(Error::unsupported(
                    format!("a column list for \"{}\" that leaves columns out", alias.name),
                    "create the view again with a name for every column, or without the list",
                ));
            }
            (Some(_), _) => {}
        }
        self.edits.push(Edit { start, end, text });
        ControlFlow::Continue(())
    }

    /// `TUMBLE(t, …)`, `HOP(DATA => t, …)`: a name without an alias. What else is given are columns and constants.
    fn argument(&mut self, args: &[FunctionArg]) -> ControlFlow<Error> {
        let data = args.iter().enumerate().find_map(|(at, arg)| match arg {
            FunctionArg::Unnamed(arg) => (at == 0).then_some(arg),
            FunctionArg::Named { name, arg, .. } => (fold(name) == "data").then_some(arg),
            FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => (fold(name) == "data").then_some(arg),
            FunctionArg::ExprNamed { .. } => None,
        });
        let Some(arg) = data else { return ControlFlow::Continue(()) };
        let idents: Vec<Ident> = match arg {
            FunctionArgExpr::Expr(Expr::Identifier(ident)) => vec![ident.clone()],
            FunctionArgExpr::Expr(Expr::CompoundIdentifier(idents)) => idents.clone(),
            _ => return ControlFlow::Continue(()),
        };
        let name = ObjectName::from(idents);
        let (Some(renamed), Some((start, end))) = (self.lookup(&name), place(&name)) else {
            return ControlFlow::Continue(());
        };
        if renamed.columns.is_some() {
            return ControlFlow::Break(Error::unsupported(
                format!("renaming a column of \"{name}\" under a window function that a stored query names"),
                "drop the view over it, rename the column and create the view again",
            ));
        }
        self.edits.push(Edit { start, end, text: self.spelled(&renamed.name) });
        ControlFlow::Continue(())
    }
}

impl Visitor for Renamer<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        if let Some((_, scope, visible)) = self.bodies.iter().find(|(body, ..)| std::ptr::eq(*body, query)) {
            self.scopes[*scope].visible = *visible;
        }
        let mut names: Vec<String> = vec![];
        if let Some(with) = &query.with {
            let own = self.scopes.len();
            for (index, cte) in with.cte_tables.iter().enumerate() {
                names.push(fold(&cte.alias.name));
                let visible = if with.recursive { with.cte_tables.len() } else { index };
                self.bodies.push((std::ptr::from_ref(cte.query.as_ref()), own, visible));
            }
        }
        self.scopes.push(Scope { visible: names.len(), names });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Error> {
        self.scopes.pop();
        if let Some((_, scope, _)) = self.bodies.iter().find(|(body, ..)| std::ptr::eq(*body, query)) {
            let scope = &mut self.scopes[*scope];
            scope.visible = scope.names.len();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Error> {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => self.relation(name, alias.as_ref(), None),
            TableFactor::Table { alias, args: Some(args), .. } => match as_of_arrival(factor) {
                Some(found) => self.relation(&found.relation, alias.as_ref(), Some(found.end.end)),
                None => self.argument(&args.args),
            },
            TableFactor::TableFunction { expr: Expr::Function(call), .. } => match &call.args {
                sqlparser::ast::FunctionArguments::List(list) => self.argument(&list.args),
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

fn place(name: &ObjectName) -> Option<(Location, Location)> {
    let first = name.0.first()?.as_ident()?.span.start;
    let last = name.0.last()?.as_ident()?.span.end;
    Some((first, last))
}

fn defined(query: &Query) -> Vec<String> {
    struct Defined(Vec<String>);
    impl Visitor for Defined {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
            self.0.extend(ctes.map(|cte| fold(&cte.alias.name)));
            ControlFlow::Continue(())
        }
    }
    let mut defined = Defined(vec![]);
    let _ = query.visit(&mut defined);
    defined.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(text: &str, to: &str, columns: Option<&[&str]>) -> Result<String> {
        let (schema, name) = to.split_once('.').unwrap_or((SCHEMA, to));
        rename_relations(text, &|read| {
            let is_t = read.name == "t" && read.schema.as_deref().is_none_or(|schema| schema == SCHEMA);
            is_t.then(|| Renamed {
                name: QualifiedName { schema: schema.to_string(), name: name.to_string() },
                columns: columns.map(|columns| columns.iter().map(|c| c.to_string()).collect()),
            })
        })
    }

    #[test]
    fn only_names_of_the_relation_change() -> Result<()> {
        let cases = [
            ("SELECT t.a, 't' FROM t WHERE t.b > 1", "SELECT t.a, 't' FROM u AS t WHERE t.b > 1"),
            ("SELECT x.a FROM public.t AS x, s.t", "SELECT x.a FROM u AS x, s.t"),
            ("SELECT (SELECT max(a) FROM t) FROM \"T\"", "SELECT (SELECT max(a) FROM u AS t) FROM \"T\""),
            // The name inside a WITH of the same name is the relation, the one after it is not.
            ("WITH t AS (SELECT * FROM t) SELECT * FROM t", "WITH t AS (SELECT * FROM u AS t) SELECT * FROM t"),
            ("WITH u AS (SELECT 1) SELECT * FROM u, t", "WITH u AS (SELECT 1) SELECT * FROM u, public.u AS t"),
            ("SELECT * FROM TUMBLE(t, ts, INTERVAL '1 h') w", "SELECT * FROM TUMBLE(u, ts, INTERVAL '1 h') w"),
            (
                "SELECT * FROM SESSION(t PARTITION BY t, b, t, INTERVAL '1 h')",
                "SELECT * FROM SESSION(u PARTITION BY t, b, t, INTERVAL '1 h')",
            ),
            (
                "SELECT * FROM TABLE(SESSION(GAP => INTERVAL '1' HOUR, DATA => TABLE t, TIMECOL => DESCRIPTOR(t)))",
                "SELECT * FROM TABLE(SESSION(GAP => INTERVAL '1' HOUR, DATA => TABLE u, TIMECOL => DESCRIPTOR(t)))",
            ),
            ("SELECT 'é', a\nFROM t", "SELECT 'é', a\nFROM u AS t"),
        ];
        for (before, after) in cases {
            assert_eq!(renamed(before, "u", None)?, after);
        }
        assert_eq!(renamed("SELECT a FROM t", "sales.t", None)?, "SELECT a FROM sales.t");
        assert_eq!(renamed("SELECT a FROM t", "U v", None)?, "SELECT a FROM \"U v\" AS t");
        Ok(())
    }

    #[test]
    fn a_statement_gets_another_name() -> Result<()> {
        let name = QualifiedName { schema: SCHEMA.into(), name: "new".into() };
        let text = "CREATE SOURCE IF NOT EXISTS public.old (a int) WITH (path = 'old')";
        assert_eq!(rename_created(text, &name)?, "CREATE SOURCE IF NOT EXISTS new (a int) WITH (path = 'old')");
        Ok(())
    }

    #[test]
    fn columns_keep_the_names_that_the_query_knows() -> Result<()> {
        let known = Some(["a", "b"].as_slice());
        assert_eq!(renamed("SELECT a FROM t", "t", known)?, "SELECT a FROM t AS t (a, b)");
        assert_eq!(renamed("SELECT x.a FROM t x", "t", known)?, "SELECT x.a FROM t x (a, b)");
        assert_eq!(renamed("SELECT p FROM t AS x (p, q)", "t", known)?, "SELECT p FROM t AS x (p, q)");
        assert_eq!(renamed("SELECT p FROM t AS x (p)", "t", known).err().map(|e| e.code), Some(SqlState("0A000")));
        Ok(())
    }
}
