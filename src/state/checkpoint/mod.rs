//! Checkpoints: the state of an epoch, as it lies on disk.
//!
//! All state is Z-sets. Those of an operator are its [`Part`]s; a view's contents are one more. On disk a part is a
//! [`Collection`]: a list of runs, of which each holds what changed between two checkpoints, so that a checkpoint costs as
//! much as has changed. Runs are added up in the background ([`Collection::due`]), so that there are never many. A run
//! is some blocks of segments, and where the part names a key, it is ordered by the key's hash, so that single keys can
//! be looked up ([`SavedKeys`]) and runs are added up block by block. Those of a view's contents are chunks of its arrangement. What a checkpoint wrote counts from the moment at which its records are committed,
//! which is one batch of the store.
//!
//! | key | value |
//! |---|---|
//! | `k/engine` | [`record::EngineRecord`]: the epoch, how far each source was read, watermarks |
//! | `k/view/<id>` | [`record::ViewRecord`]: what the view's state was made by, and its collections |
//! | `k/view-errors/<id>` | the rows for which the view fails |
//! | `k/source-error/<id>/<number>` | one record that could not be decoded |

mod arranged_run;
mod collection;
mod filter;
mod key_hash;
mod keyed_merge;
mod keyed_run;
mod lookup;
pub mod record;

pub use collection::{Collection, Place, Run};
pub use key_hash::{can_hash, key_hashes};
pub use lookup::{KeyLookup, SavedKeys, Version};

use arrow::array::{Array, BooleanArray, UInt32Array};
use arrow::compute::{SortOptions, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};

use crate::error::Result;
use crate::types::Delta;
use crate::types::times::times_us;

/// A Z-set that belongs to the state of an operator, as it is kept on disk.
#[derive(Clone, Debug)]
pub struct Part {
    pub schema: SchemaRef,
    pub kind: PartKind,
    /// The column of the time by which rows go, where they do by themselves.
    pub time_column: Option<usize>,
    pub spread: Spread,
    /// The columns by which single rows are looked up; empty: they are only read as a whole.
    pub key: Vec<usize>,
}

/// On which worker a part's rows belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Where the hash of these columns says; without any, on the first.
    By(Vec<usize>),
    /// Nothing depends on it.
    Anywhere,
    /// Every worker has all of it.
    Everywhere,
    /// Where they were: they cannot be spread among another number of workers.
    Fixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum PartKind {
    /// Changes add up.
    Sum,
    /// The rows of a relation: changes add up, and runs are kept as its arrangement holds them, by the hash of the part's
    /// key, or without one as they came; then no row is ever taken back.
    Arranged,
    /// The first so many columns name a row; the last change of it counts. A negative weight takes it away.
    Latest { key_width: usize },
}

/// What has become of a part since it was last saved.
#[derive(Clone, Debug, Default)]
pub struct PartChange {
    /// In their order.
    pub deltas: Vec<Delta>,
    /// Rows that are older, in microseconds since 1970, are gone, those that were saved before among them.
    pub below: Option<i64>,
}

/// Changes of parts, each with where it belongs.
pub type StateChanges = Vec<(Place, Part, PartChange)>;

impl PartKind {
    /// Several changes as one.
    pub fn merge(self, schema: &SchemaRef, deltas: &[Delta]) -> Result<Delta> {
        let all = Delta::concat(schema, deltas)?;
        match self {
            // Nothing to cancel: equal rows may stand beside each other.
            PartKind::Sum | PartKind::Arranged if !all.has_retractions() => Ok(all),
            PartKind::Sum | PartKind::Arranged => Ok(all.consolidate()?),
            PartKind::Latest { key_width } => latest(&all, key_width),
        }
    }

    /// What is left where nothing lies below.
    pub fn settle(self, delta: Delta) -> Result<Delta> {
        match self {
            PartKind::Sum | PartKind::Arranged => Ok(delta),
            PartKind::Latest { .. } => {
                let is_there: BooleanArray = (0..delta.row_count()).map(|row| Some(delta.weight(row) > 0)).collect();
                Ok(if delta.has_retractions() { delta.filter(&is_there)? } else { delta })
            }
        }
    }
}

/// The last change of each key.
fn latest(delta: &Delta, key_width: usize) -> Result<Delta> {
    if key_width == 0 {
        return Ok(delta.slice(delta.row_count().saturating_sub(1), delta.row_count().min(1)));
    }
    let keys = &delta.batch().columns()[..key_width];
    let fields = keys.iter().map(|c| SortField::new_with_options(c.data_type().clone(), SortOptions::default()));
    let rows = RowConverter::new(fields.collect())?.convert_columns(keys)?;
    let mut last: hashbrown::HashMap<&[u8], u32, foldhash::fast::FixedState> =
        hashbrown::HashMap::with_capacity_and_hasher(delta.row_count(), Default::default());
    for row in 0..delta.row_count() {
        last.insert(rows.row(row).data(), row as u32);
    }
    if last.len() == delta.row_count() {
        return Ok(delta.clone());
    }
    let mut kept: Vec<u32> = last.into_values().collect();
    kept.sort_unstable();
    let weights: Vec<i64> = kept.iter().map(|&row| delta.weight(row as usize)).collect();
    let batch = take_record_batch(delta.batch(), &UInt32Array::from(kept))?;
    Ok(if weights.iter().all(|&weight| weight == 1) { Delta::insert(batch) } else { Delta::new(batch, weights) })
}

/// The rows that are not older than `below`; those without a time stay.
fn not_below(delta: Delta, time_column: usize, below: i64) -> Result<Delta> {
    let column = delta.column(time_column);
    let times = times_us(column)?;
    let stays = |row: usize| times.is_null(row) || times.value(row) >= below;
    if (0..times.len()).all(stays) {
        return Ok(delta);
    }
    let mask: BooleanArray = (0..times.len()).map(|row| Some(stays(row))).collect();
    Ok(delta.filter(&mask)?)
}

#[cfg(test)]
mod tests;
