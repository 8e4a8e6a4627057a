//! The dialect: text to statements, statements to plans.
//!
//! 1. [`parser`] reads a [`Statement`]: Postgres' grammar, plus `CREATE SOURCE … WATERMARK FOR`, `EMIT`, windows.
//! 2. [`bind`] turns a query into a DataFusion logical plan: names are looked up through a [`RelationResolver`],
//!    `TUMBLE` and its like become window nodes, types and column names become Postgres'. The planning environment comes
//!    from [`dialect_state`].
//! 3. [`decorrelate`] makes subqueries joins: for views always, for ad-hoc queries where DataFusion cannot.
//! 4. [`lower`] turns the optimised logical plan of a view into a [`crate::plan::StreamPlan`], or says by name what
//!    cannot be maintained yet.
//!
//! [`as_of`] says how a relation as of an instant is named on its way through them.
//!
//! Only this room names the parser.

mod arrival;
pub mod as_of;
mod asof;
pub mod bind;
mod checked;
mod compat;
mod convert;
mod decorrelate;
mod errors;
mod framed;
mod hidden_constants;
mod kept_apart;
mod kept_offsets;
pub mod lower;
mod names;
mod operators;
pub mod parser;
pub mod rename;
mod row_expression;
mod sorted_inputs;
mod state;
mod statement;
mod text;
mod types;
mod window;
pub mod with_option;

#[cfg(test)]
mod testing;

pub use bind::{BoundDml, RelationResolver, ResolvedRelation};
pub use errors::with_place_of_constant;
pub use row_expression::row_expression;
pub use state::dialect_state;
pub use statement::*;
