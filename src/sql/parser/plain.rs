//! Queries as the planner takes them: FETCH FIRST as LIMIT, windows by name spelled out; what it would pass over is
//! refused.

use sqlparser::ast::{self, Ident, ObjectName, VisitorMut};

use crate::error::{Error, Result, SqlState};
use crate::sql::compat;

#[derive(Default)]
pub(super) struct PlainQueries {
    pub refused: Option<Error>,
    /// A reserved word where a relation's name should be.
    pub reserved: Option<Ident>,
}

impl VisitorMut for PlainQueries {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> std::ops::ControlFlow<()> {
        if let Err(error) = plain(query) {
            self.refused = Some(error);
            return std::ops::ControlFlow::Break(());
        }
        std::ops::ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut ast::TableFactor) -> std::ops::ControlFlow<()> {
        super::system_time::keep_name(factor);
        std::ops::ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> std::ops::ControlFlow<()> {
        let first = relation.0.first().and_then(|part| part.as_ident());
        match first.filter(|ident| is_reserved(ident)) {
            Some(ident) => {
                self.reserved = Some(ident.clone());
                std::ops::ControlFlow::Break(())
            }
            None => std::ops::ControlFlow::Continue(()),
        }
    }
}

/// Postgres' reserved words, which the grammar takes for a relation's name: `SELECT FROM WHERE`. Those that are values
/// (`current_date`) are left out.
fn is_reserved(ident: &Ident) -> bool {
    const RESERVED: &[&str] = &[
        "ALL",
        "ANALYSE",
        "ANALYZE",
        "AND",
        "ANY",
        "ARRAY",
        "AS",
        "ASC",
        "ASYMMETRIC",
        "BOTH",
        "CASE",
        "CAST",
        "CHECK",
        "COLLATE",
        "COLUMN",
        "CONSTRAINT",
        "CREATE",
        "DEFAULT",
        "DEFERRABLE",
        "DESC",
        "DISTINCT",
        "DO",
        "ELSE",
        "END",
        "EXCEPT",
        "FALSE",
        "FETCH",
        "FOR",
        "FOREIGN",
        "FROM",
        "GRANT",
        "GROUP",
        "HAVING",
        "IN",
        "INITIALLY",
        "INTERSECT",
        "INTO",
        "LATERAL",
        "LEADING",
        "LIMIT",
        "NOT",
        "NULL",
        "OFFSET",
        "ON",
        "ONLY",
        "OR",
        "ORDER",
        "PLACING",
        "PRIMARY",
        "REFERENCES",
        "RETURNING",
        "SELECT",
        "SOME",
        "SYMMETRIC",
        "TABLE",
        "THEN",
        "TO",
        "TRAILING",
        "TRUE",
        "UNION",
        "UNIQUE",
        "USING",
        "VARIADIC",
        "WHEN",
        "WHERE",
        "WINDOW",
        "WITH",
    ];
    ident.quote_style.is_none() && RESERVED.iter().any(|word| ident.value.eq_ignore_ascii_case(word))
}

/// `LIMIT hw_with_ties(n)` is how FETCH FIRST n ROWS WITH TIES passes through the planner.
pub(in crate::sql) const WITH_TIES: &str = "hw_with_ties";

fn with_ties(count: ast::Expr) -> ast::Expr {
    ast::Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![ast::Ident::new(WITH_TIES)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(count))],
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

fn plain(query: &mut ast::Query) -> Result<()> {
    if let Some(fetch) = query.fetch.take() {
        if fetch.percent {
            return Err(Error::unsupported("FETCH FIRST … PERCENT", "write the number of rows"));
        }
        let one = ast::Expr::value(ast::Value::Number("1".into(), false));
        let count = fetch.quantity.unwrap_or(one);
        let limit = Some(if fetch.with_ties { with_ties(count) } else { count });
        query.limit_clause = Some(match query.limit_clause.take() {
            Some(ast::LimitClause::LimitOffset { limit: None, offset, limit_by }) => {
                ast::LimitClause::LimitOffset { limit, offset, limit_by }
            }
            None => ast::LimitClause::LimitOffset { limit, offset: None, limit_by: vec![] },
            Some(_) => return Err(Error::new(SqlState::SYNTAX_ERROR, "multiple LIMIT clauses not allowed")),
        });
    }
    plain_body(&mut query.body)?;
    compat::spell_out_windows(query)
}

fn plain_body(body: &mut ast::SetExpr) -> Result<()> {
    match body {
        ast::SetExpr::Select(select) if select.into.is_some() => {
            Err(Error::unsupported("SELECT INTO", "write CREATE TABLE … AS SELECT …"))
        }
        ast::SetExpr::Select(select) if select.from.iter().flat_map(|from| &from.joins).any(merges_in_time) => {
            Err(Error::unsupported("ASOF JOIN with USING", "write ON with equalities of qualified columns"))
        }
        ast::SetExpr::Insert(_) | ast::SetExpr::Update(_) | ast::SetExpr::Delete(_) | ast::SetExpr::Merge(_) => {
            Err(Error::unsupported(
                "a data-modifying statement in WITH",
                "run it on its own, with RETURNING if rows are needed",
            ))
        }
        ast::SetExpr::SetOperation { left, right, .. } => {
            plain_body(left)?;
            plain_body(right)
        }
        _ => Ok(()),
    }
}

/// An ASOF join is spelled out as a subquery that names the columns of both sides.
fn merges_in_time(join: &ast::Join) -> bool {
    use ast::{JoinConstraint, JoinOperator};
    let JoinOperator::AsOf { constraint, .. } = &join.join_operator else { return false };
    matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural)
}
