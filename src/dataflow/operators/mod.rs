//! The incremental operators, one file each, headed by its law over Z-sets (Budiu et al., *DBSP*, PVLDB 16(7), 2023).

mod aggregate;
mod asof;
mod expand;
mod filter;
mod hold;
mod join;
mod late;
mod over_window;
mod project;
mod session;
mod temporal;
mod top_n;
mod union;
mod unnest;
mod values;
mod window;

pub use aggregate::{AggregateOperator, CombineOperator, SlicedAggregateOperator, combines};
pub use asof::AsofOperator;
pub use expand::ExpandOperator;
pub use filter::FilterOperator;
pub use hold::HoldOperator;
pub use join::{JoinOperator, LookupOperator};
pub use late::LateOperator;
pub use over_window::OverWindowOperator;
pub use project::ProjectOperator;
pub use session::SessionOperator;
pub use temporal::TemporalOperator;
pub use top_n::TopNOperator;
pub use union::UnionOperator;
pub use unnest::UnnestOperator;
pub use values::ValuesOperator;
pub use window::{Keyless, WindowOperator};

use crate::types::Delta;

/// The deltas of an operator with one input.
fn only(inputs: Vec<Vec<Delta>>) -> Vec<Delta> {
    inputs.into_iter().next().unwrap_or_default()
}
