//! Postgres spellings that DataFusion lacks, rewritten into ones that mean the same.
//!
//! [`rewrite`] runs on every parsed statement, before binding. It changes the tree only where the new form has the
//! old form's meaning; what it does not know it leaves, and binding says what is wrong with it.
//!
//! | file | what |
//! |---|---|
//! | [`casts`] | `'t'::regclass`, `x::oid`, `::pg_catalog.text`, `'{1,2}'::int[]` |
//! | [`calls`] | `pg_catalog.f()`, `OPERATOR(pg_catalog.~)`, `COLLATE` |
//! | [`aggregates`] | `every`, `json_agg` and the like; `ROLLUP ((a, b), c)` |
//! | [`constructs`] | `SIMILAR TO`, `AT TIME ZONE`, `OVERLAPS`, `TRIM`, `BETWEEN SYMMETRIC`, open slices, as calls of functions |
//! | [`sets`] | functions that return sets, in SELECT and in FROM |
//! | [`subqueries`], [`correlate`] | `(SELECT x …)` → one value or 21000; `ARRAY(SELECT …)`; `= ANY('{…}')` |
//! | [`quantified`] | `= ANY (array)`, `< ALL (array)`, when the query is planned |
//! | [`precedence`] | `a IS DISTINCT FROM b AND c` |
//! | [`asof`] | `ASOF JOIN` |
//! | [`using`] | the merged columns of `JOIN … USING` |
//! | [`windows`] | `OVER w`, `OVER (w ORDER BY …)` |
//! | [`empty_frames`] | `ROWS BETWEEN 1 PRECEDING AND 2 PRECEDING` |
//! | [`same_names`] | `max(a), max(a::text)` |
//! | [`branches`] | `SELECT 1 AS x, 2 AS y EXCEPT SELECT a.id, b.id …` |
//! | [`knowledge`] | what follows from the catalog: relations that are always empty, columns that have one value |
//!
//! Select lists are named first ([`super::names`]), by what the client wrote.
//!
//! The functions whose names begin with `hw_` are those of [`crate::catalog::functions`].

mod aggregates;
mod asof;
mod branches;
mod build;
mod calls;
mod casts;
#[cfg(test)]
mod clients_test;
mod constructs;
mod correlate;
mod empty_frames;
mod knowledge;
mod precedence;
mod quantified;
mod same_names;
mod sets;
mod subqueries;
mod using;
mod windows;

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, NamedWindowDefinition, NamedWindowExpr, ObjectName, Query, Select, SelectItem, SetExpr, Statement,
    TableFactor, VisitMut, VisitorMut, WindowType,
};

pub(in crate::sql) use quantified::spell_out as spell_out_quantified;
pub(in crate::sql) use same_names::DISTINCTIVE;
pub(in crate::sql) use using::{constraint_of, merge_columns, shared_columns};
pub(in crate::sql) use windows::spell_out as spell_out_windows;

use super::{arrival, names};
use crate::catalog::DATABASE;

/// Rewrites one statement in place.
pub fn rewrite(statement: &mut Statement) {
    let _: ControlFlow<()> = statement.visit(&mut Rewriter::default());
    if let Statement::Query(query) = statement {
        print_references(&mut query.body);
    }
}

/// Remembers, for everything that is being visited, whether it takes subqueries for relations, not values: a call of a
/// window function, and ANY and ALL.
#[derive(Default)]
struct Rewriter {
    takes_relations: Vec<bool>,
}

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        names::order_by_position(query);
        self.takes_relations.push(false);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.takes_relations.pop();
        same_names::tell_apart(query);
        branches::name_apart(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let scope = knowledge::Scope::of(select);
        arrival::name(select);
        asof::rewrite(select);
        using::rewrite(select);
        sets::name_values(select);
        names::name_select(select);
        knowledge::simplify(select, &scope);
        subqueries::count_existing(select);
        aggregates::list_grouping_sets(&mut select.group_by);
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for NamedWindowDefinition(_, window) in &mut select.named_window {
            if let NamedWindowExpr::WindowSpec(window) = window {
                casts::plain_bounds(window);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        knowledge::drop_empty_subquery(expr);
        subqueries::rewrite_array_before(expr);
        self.takes_relations.push(match expr {
            Expr::Function(function) => is_window_function(&function.name),
            Expr::AnyOp { .. } | Expr::AllOp { .. } => true,
            Expr::Nested(_) => self.takes_relations.last().is_some_and(|inside| *inside),
            _ => false,
        });
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        precedence::rewrite_expr(expr);
        if !constructs::rewrite_expr(expr) {
            calls::rewrite_expr(expr);
            casts::rewrite_expr(expr);
        }
        if let Expr::Function(Function { over: Some(WindowType::WindowSpec(window)), .. }) = expr {
            casts::plain_bounds(window);
            empty_frames::rewrite(expr);
        }
        self.takes_relations.pop();
        if !self.takes_relations.last().is_some_and(|inside| *inside) {
            subqueries::rewrite_expr(expr);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        self.takes_relations.push(match factor {
            TableFactor::Table { name, args: Some(_), .. } => is_window_function(name),
            _ => false,
        });
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        self.takes_relations.pop();
        calls::rewrite_table_factor(factor);
        ControlFlow::Continue(())
    }

    fn post_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        // information_schema and pg_catalog keep their names; only the database before them goes.
        let database = |name: &ObjectName| build::folded_parts(name).is_some_and(|parts| parts[0] == DATABASE);
        if relation.0.len() == 3 && database(relation) {
            relation.0.remove(0);
        }
        ControlFlow::Continue(())
    }
}

fn is_window_function(name: &ObjectName) -> bool {
    build::function_name(name).is_some_and(|name| matches!(name.as_str(), "tumble" | "hop" | "cumulate" | "session"))
}

/// A `reg…` value in the answer itself is read by people: it goes out as the name it stands for.
fn print_references(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                    casts::print_reference(expr);
                }
            }
        }
        SetExpr::Query(query) => print_references(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            print_references(left);
            print_references(right);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    fn rewritten(sql: &str) -> String {
        let mut statement =
            Parser::parse_sql(&PostgreSqlDialect {}, sql).expect("the test's SQL is well formed").remove(0);
        rewrite(&mut statement);
        statement.to_string()
    }

    #[test]
    fn spellings_change_and_meanings_do_not() {
        let cases = [
            (
                "SELECT a FROM t WHERE a OPERATOR(pg_catalog.~) 'x' COLLATE pg_catalog.default",
                "SELECT a FROM t WHERE a ~ 'x'",
            ),
            ("SELECT pg_catalog.version()", "SELECT version() AS version"),
            ("SELECT 'users'::regclass::oid", "SELECT hw_regclass('users')::oid AS oid"),
            ("SELECT c.oid::pg_catalog.regclass FROM c", "SELECT hw_regclass_text(c.oid) AS oid FROM c"),
            ("SELECT a FROM t WHERE b::text = '1'", "SELECT a FROM t WHERE b::TEXT = '1'"),
            ("SELECT a FROM t WHERE a = ANY('{1,2}')", "SELECT a FROM t WHERE a IN ('1', '2')"),
            (
                "SELECT a FROM t WHERE a <> ALL ('{x,\"y z\",NULL}')",
                "SELECT a FROM t WHERE a NOT IN ('x', 'y z', NULL)",
            ),
            (
                "SELECT (SELECT b FROM u WHERE u.a = t.a) AS b FROM t",
                "SELECT hw_one((SELECT hw_single_value(b) FROM u WHERE u.a = t.a)) AS b FROM t",
            ),
            (
                "SELECT (SELECT b FROM u ORDER BY c DESC LIMIT 1) AS b FROM t",
                "SELECT (SELECT first_value(b ORDER BY c DESC) FROM u) AS b FROM t",
            ),
            ("SELECT (SELECT max(b) FROM u) AS b FROM t", "SELECT (SELECT max(b) AS max FROM u) AS b FROM t"),
            (
                "SELECT count(*), 1, 2 FROM t",
                "SELECT count(*) AS count, 1 AS \"?column?\", 2 AS \"?column?\u{1}2\" FROM t",
            ),
            (
                "SELECT window_start FROM TUMBLE(bids, ts, INTERVAL '1 minute') w",
                "SELECT window_start FROM TUMBLE(bids, ts, CAST('1 minute' AS INTERVAL)) w",
            ),
            (
                "SELECT window_start FROM TUMBLE((SELECT ts FROM bids), ts, INTERVAL '1 minute') w",
                "SELECT window_start FROM TUMBLE((SELECT ts FROM bids), ts, CAST('1 minute' AS INTERVAL)) w",
            ),
            ("SELECT INTERVAL '2' HOUR AS i", "SELECT CAST('2 HOUR' AS INTERVAL) AS i"),
            ("SELECT a FROM dev.public.t", "SELECT a FROM public.t"),
            ("SELECT a FROM other.public.t", "SELECT a FROM other.public.t"),
            (
                "SELECT x FROM generate_series(1, 3) x",
                "SELECT x FROM LATERAL (SELECT get_field(hw_row, 'value') AS x FROM (SELECT UNNEST(hw_series(1, 3)) AS hw_row) AS hw_set) x",
            ),
            ("SELECT x FROM generate_series(1, 1000000) x", "SELECT x FROM generate_series(1, 1000000) x (x)"),
            ("SELECT generate_series(1, 3)", "SELECT get_field(UNNEST(hw_series(1, 3)), 'value') AS generate_series"),
            (
                "SELECT e FROM t, jsonb_array_elements(t.j) AS e WHERE e = '1'",
                "SELECT e.value AS e FROM t, LATERAL (SELECT get_field(hw_row, 'value') AS value FROM (SELECT UNNEST(hw_jsonb_elements(t.j)) AS hw_row) AS hw_set) e WHERE e.value = '1'",
            ),
            (
                "SELECT e FROM t, jsonb_array_elements(e) AS e",
                "SELECT e.value AS e FROM t, LATERAL (SELECT get_field(hw_row, 'value') AS value FROM (SELECT UNNEST(hw_jsonb_elements(e)) AS hw_row) AS hw_set) e",
            ),
            (
                "SELECT a, n FROM unnest(x) WITH ORDINALITY AS u(a, n)",
                "SELECT a, n FROM LATERAL (SELECT get_field(hw_row, 'value') AS a, get_field(hw_row, 'ordinality') AS n FROM (SELECT UNNEST(hw_ordinality(hw_elements(x))) AS hw_row) AS hw_set) u",
            ),
            ("SELECT a FROM t WHERE a SIMILAR TO 'x%'", "SELECT a FROM t WHERE hw_similar(a, 'x%', '\\')"),
            ("SELECT ~a AS x FROM t", "SELECT hw_bit_not(a) AS x FROM t"),
            ("SELECT a AT TIME ZONE 'UTC' FROM t", "SELECT timezone('UTC', a) AS timezone FROM t"),
            ("SELECT meta = '{}' AS e FROM t", "SELECT meta = '{}' AS e FROM t"),
            ("SELECT a FROM t WHERE flag = 'f'", "SELECT a FROM t WHERE flag = 'f'"),
        ];
        for (sql, expected) in cases {
            assert_eq!(rewritten(sql), expected, "{sql}");
        }
    }

    #[test]
    fn client_names_lose_their_suffix() {
        assert_eq!(names::public("?column?\u{1}2"), "?column?");
        assert_eq!(names::public("plain"), "plain");
    }
}
