//! When each row of a source was read first. `PROCTIME()` of a row is that instant, and stays it whoever reads the row
//! again: a view that comes later, a reader that was started anew, the server after a restart.
//!
//! ```text
//! partition 0:   rows before 8192 │ before 16384 │ before 20000       one entry for what came in the same millisecond
//!                     12:00:00.100│  12:00:00.113│  12:00:01.020
//! ```
//! On disk: `a/` + source id + partition + 0 + the entry's end → its instant.

use std::collections::BTreeMap;

use arrow::array::Int64Array;
use parking_lot::Mutex;

use crate::error::{Error, Result, SqlState};
use crate::state::{Store, StoreBatch};
use crate::types::RelationId;

#[derive(Debug, Default)]
pub struct ArrivalLog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    partitions: BTreeMap<String, Vec<Entry>>,
    /// What is not on disk yet.
    unsaved: Vec<(String, Entry)>,
}

/// Rows of positions below `end`, down to the end of the entry before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    end: u64,
    instant_us: i64,
}

impl ArrivalLog {
    /// The instants of rows at these positions of the partition, ascending and below `end`; those not met before arrive now.
    pub fn instants_us(&self, partition: &str, positions: &[u64], end: u64, now_us: i64) -> Int64Array {
        let mut state = self.0.lock();
        let State { partitions, unsaved } = &mut *state;
        let entries = partitions.entry(partition.to_string()).or_default();
        let known = entries.last().copied().unwrap_or(Entry { end: 0, instant_us: i64::MIN });
        // Time does not go back, and is counted in milliseconds: so there are not too many entries.
        let now_us = (now_us - now_us.rem_euclid(1_000)).max(known.instant_us);
        if end > known.end {
            let entry = Entry { end, instant_us: now_us };
            match entries.last_mut() {
                Some(last) if last.instant_us == now_us => *last = entry,
                _ => entries.push(entry),
            }
            unsaved.push((partition.to_string(), entry));
        }
        let instant = |position: &u64| {
            let at = entries.partition_point(|entry| entry.end <= *position);
            entries.get(at).map_or(now_us, |entry| entry.instant_us)
        };
        positions.iter().map(|position| Some(instant(position))).collect()
    }

    /// What was saved of a source.
    pub fn load(id: RelationId, store: &dyn Store) -> Result<ArrivalLog> {
        let (prefix, mut state) = (prefix(id), State::default());
        store.scan(&prefix, &mut |key, value| {
            let damaged = || Error::new(SqlState::DATA_CORRUPTED, "unreadable record of a source's arrivals");
            let (partition, end) =
                key.get(prefix.len()..).and_then(|key| key.split_last_chunk::<8>()).ok_or_else(damaged)?;
            let partition = partition.split_last().map(|(_, name)| name.to_vec()).ok_or_else(damaged)?;
            let partition = String::from_utf8(partition).map_err(|_| damaged())?;
            let instant_us = i64::from_be_bytes(value.try_into().map_err(|_| damaged())?);
            let entries = state.partitions.entry(partition).or_default();
            let entry = Entry { end: u64::from_be_bytes(*end), instant_us };
            match entries.last_mut() {
                Some(last) if last.instant_us == instant_us => *last = entry,
                _ => entries.push(entry),
            }
            Ok(())
        })?;
        Ok(ArrivalLog(Mutex::new(state)))
    }

    /// Puts what is new into the batch; returns how much there is, for [`ArrivalLog::saved`].
    pub fn save(&self, id: RelationId, batch: &mut StoreBatch) -> usize {
        let state = self.0.lock();
        for (partition, entry) in &state.unsaved {
            let key = [prefix(id).as_slice(), partition.as_bytes(), &[0], &entry.end.to_be_bytes()].concat();
            batch.put(key, entry.instant_us.to_be_bytes());
        }
        state.unsaved.len()
    }

    /// So much of what was new is on disk.
    pub fn saved(&self, count: usize) {
        self.0.lock().unsaved.drain(..count);
    }

    pub fn delete(id: RelationId, store: &dyn Store, batch: &mut StoreBatch) -> Result<()> {
        store.scan(&prefix(id), &mut |key, _| {
            batch.delete(key);
            Ok(())
        })
    }
}

fn prefix(id: RelationId) -> Vec<u8> {
    [b"a/".as_slice(), &id.0.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::store::MemoryStore;

    #[test]
    fn a_row_keeps_its_instant_however_it_is_read_again() -> Result<()> {
        let log = ArrivalLog::default();
        let read =
            |log: &ArrivalLog, positions: &[u64], end, now| log.instants_us("p", positions, end, now).values().to_vec();
        assert_eq!(read(&log, &[0, 5], 8, 10_500), [10_000; 2]);
        assert_eq!(read(&log, &[8], 9, 10_999), [10_000]);
        assert_eq!(read(&log, &[9, 12], 14, 20_000), [20_000; 2]);
        // Cut elsewhere, later, with rows that are new.
        assert_eq!(read(&log, &[5, 8, 9, 13, 14], 20, 30_000), [10_000, 10_000, 20_000, 20_000, 30_000]);
        // The clock was put back.
        assert_eq!(read(&log, &[20], 21, 5_000), [30_000]);
        let (store, mut batch) = (MemoryStore::default(), StoreBatch::default());
        log.save(RelationId(7), &mut batch);
        store.commit(batch)?;
        let again = ArrivalLog::load(RelationId(7), &store)?;
        assert_eq!(read(&again, &[0, 8, 9, 13, 14, 20], 21, 90_000), [10_000, 10_000, 20_000, 20_000, 30_000, 30_000]);
        assert_eq!(read(&ArrivalLog::load(RelationId(8), &store)?, &[0], 1, 90_000), [90_000]);
        Ok(())
    }
}
