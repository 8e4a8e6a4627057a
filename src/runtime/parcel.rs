//! What travels between fragments: a delta and the worker it is for.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::state::codec::{decode_delta, encode_delta};
use crate::types::Delta;

/// Threads of one process hand parcels over as they are; only between processes are they written out.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub worker: usize,
    pub delta: Delta,
}

impl Serialize for Parcel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = encode_delta(&self.delta).map_err(serde::ser::Error::custom)?;
        (self.worker, bytes).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Parcel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Parcel, D::Error> {
        let (worker, bytes) = <(usize, Vec<u8>)>::deserialize(deserializer)?;
        let delta = decode_delta(&bytes).map_err(serde::de::Error::custom)?;
        Ok(Parcel { worker, delta })
    }
}
