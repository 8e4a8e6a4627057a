//! The waist of the house: rows (a [`Delta`]), time (an [`Epoch`]), and the names of types and relations.
//!
//! Everything above speaks in these words. Nothing here knows a clock, a thread, a socket or a file.

mod delta;
mod epoch;
mod pg_type;
mod record;

pub mod binary_input;
pub mod binary_output;
pub mod text_input;
pub mod text_output;
pub mod times;

pub mod canonical;
pub mod datetime;
pub mod datetime_input;
mod exact_number;
mod exact_sum;
mod fixed_point;
mod interval_input;
mod json_input;
pub mod json_scan;
pub mod moments;
pub mod number;
mod number_input;
pub mod power;
pub mod quotient;
pub mod summary;
mod wide;

pub use delta::Delta;
pub use epoch::{Epoch, Moment};
pub use exact_number::ExactNumber;
pub use exact_sum::ExactSum;
pub use json_input::{check_json, jsonb_text, normal_jsonb};
pub use pg_type::{NUMERIC_DEFAULT, PG_TYPE_KEY, PgType};
pub use record::{BadRecord, Position, Records, RowError};

/// Names a relation (table, source, view) for as long as the data directory lives; never used again after a drop.
/// It is the relation's OID in `pg_class`, so it starts at [`RelationId::FIRST`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RelationId(pub u32);

impl RelationId {
    /// Postgres gives user objects OIDs from 16384 on.
    pub const FIRST: RelationId = RelationId(16384);

    /// From here on: what lives no longer than the session that made it, and is neither in the catalog nor on disk.
    pub const FIRST_TEMPORARY: RelationId = RelationId(1 << 31);

    pub fn is_temporary(self) -> bool {
        self >= RelationId::FIRST_TEMPORARY
    }
}
