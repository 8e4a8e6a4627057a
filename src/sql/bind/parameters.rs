//! What a statement's text says of its parameters' types: `$1::int4` takes an integer, as in Postgres.

use std::collections::HashMap;
use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Value, Visit, Visitor};

use crate::sql::types::pg_type;
use crate::types::PgType;

/// The types that parameters are cast to, by number; the first cast counts.
pub(super) fn cast_types(nodes: &[impl Visit]) -> HashMap<usize, PgType> {
    struct Casts(HashMap<usize, PgType>);
    impl Visitor for Casts {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            // A type that does not exist is told by the planner.
            if let Expr::Cast { expr, data_type, .. } = expr
                && let Some(number) = parameter_number(expr)
                && let Ok(pg_type) = pg_type(data_type)
            {
                self.0.entry(number).or_insert(pg_type);
            }
            ControlFlow::Continue(())
        }
    }
    let mut casts = Casts(HashMap::new());
    for node in nodes {
        // Nothing breaks it off.
        let _ = node.visit(&mut casts);
    }
    casts.0
}

/// `$3` and `($3)` are 3.
fn parameter_number(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Nested(inner) => parameter_number(inner),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) => name.strip_prefix('$')?.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}
