//! Reading a relation as it was, and saying how far back that goes.

use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;

use crate::error::{Error, Result, SqlState};
use crate::state::{Snapshot, World};
use crate::types::datetime::put_timestamptz;
use crate::types::{Epoch, Moment, RelationId};

/// A point in the past, as a client named it.
#[derive(Clone, Copy, Debug)]
pub struct Then {
    pub epoch: Epoch,
    /// Absent: it was named by its epoch.
    pub instant_us: Option<i64>,
}

impl fmt::Display for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.instant_us {
            Some(us) => f.write_str(&instant_text(us)),
            None => write!(f, "epoch {}", self.epoch),
        }
    }
}

/// The oldest moment at which the relation can be read in this world: now, if it keeps nothing.
pub fn since(world: &World, id: RelationId) -> Moment {
    world.histories.get(&id).map_or_else(|| world.moment(), |history| history.since())
}

/// 55000 if it has no rows to read, 72000 if it is not known any more what they were.
pub fn read(world: &World, id: RelationId, name: &str, then: Then) -> Result<Arc<Snapshot>> {
    let Some(now) = world.snapshots.get(&id) else {
        let message = format!("relation \"{name}\" cannot be read yet");
        return Err(Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
            .with_hint("it is being built; ask hw_catalog.views how far it is"));
    };
    if then.epoch > world.epoch {
        return Err(in_the_future(then, world.moment()));
    }
    if then.epoch == world.epoch {
        return Ok(now.clone());
    }
    let snapshot = match world.histories.get(&id) {
        Some(history) => history.as_of(now, world.epoch, then.epoch)?,
        None => None,
    };
    snapshot.ok_or_else(|| out_of_reach(world, id, name, then))
}

/// 72000, as PostgreSQL calls a snapshot whose rows are gone.
pub fn out_of_reach(world: &World, id: RelationId, name: &str, then: Then) -> Error {
    let told = |moment: Moment| format!("{} ({})", moment.epoch, instant_text(moment.at_us));
    let (since, upper) = (since(world, id), world.moment());
    let detail = match since == upper {
        true => format!("It can be read at epoch {} only.", told(upper)),
        false => format!("It can be read from epoch {} to epoch {}.", told(since), told(upper)),
    };
    Error::new(SqlState::SNAPSHOT_TOO_OLD, format!("relation \"{name}\" cannot be read as of {then}"))
        .with_detail(detail)
        .with_hint(
            "what it was is kept from the moment when it was given a retention: ALTER … SET (retention = '1 hour')",
        )
}

/// 22023.
pub fn in_the_future(then: Then, upper: Moment) -> Error {
    let detail = format!("The newest epoch that can be read is {} ({}).", upper.epoch, instant_text(upper.at_us));
    Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("{then} is in the future")).with_detail(detail)
}

pub fn instant_text(at_us: i64) -> String {
    let mut text = BytesMut::new();
    put_timestamptz(&mut text, at_us, chrono_tz::UTC);
    String::from_utf8_lossy(&text).into_owned()
}
