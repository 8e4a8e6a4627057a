//! System time: which number the next epoch has, and at which instant it is committed. Neither is ever used twice: what
//! was given to a client before a restart must not mean something else after it.
//!
//! Numbers are reserved on disk by the thousand, so that an epoch needs no write of its own; a start goes on behind
//! what was reserved. Instants follow the wall clock and never go back, however it is set.

use std::sync::Arc;

use crate::error::{Error, Result, SqlState};
use crate::state::{Store, StoreBatch};
use crate::types::{Epoch, Moment};

pub struct Clock {
    store: Arc<dyn Store>,
    /// Epochs from here on have not been used, by what is on disk.
    reserved: Epoch,
    /// The instant that is on disk beside it.
    saved_us: i64,
    /// No epoch may be committed at this instant or before it.
    passed_us: i64,
}

const KEY: &[u8] = b"e/clock";
/// Epochs that one reservation lasts for.
const RESERVED_COUNT: u64 = 1 << 16;
/// How far the instant on disk may be behind. Only a wall clock that was set back while the server was down, after
/// a crash, can show the difference.
const SAVE_EVERY_US: i64 = 10_000_000;

impl Clock {
    /// The clock, and the first epoch to come. `last`: the newest epoch of which anything is on disk.
    pub fn open(store: Arc<dyn Store>, last: Epoch) -> Result<(Clock, Epoch)> {
        let (reserved, saved_us) = match store.get(KEY)? {
            None => (Epoch(0), 0),
            Some(bytes) => read(&bytes)?,
        };
        // Nothing is ever read as of epoch 0: it stands for whatever was before all that is known.
        let first = last.next().max(reserved).max(Epoch(2));
        let mut clock = Clock { store, reserved: first, saved_us, passed_us: saved_us };
        clock.save(Epoch(first.0 + RESERVED_COUNT), clock.now_us())?;
        Ok((clock, first))
    }

    /// The wall clock, or just after the last epoch if that is later.
    pub fn now_us(&self) -> i64 {
        super::clock_us().max(self.passed_us + 1)
    }

    /// An epoch was committed.
    pub fn committed(&mut self, at: Moment) {
        self.pass(at.at_us);
        let is_due = at.epoch.0 + RESERVED_COUNT / 2 > self.reserved.0 || at.at_us - self.saved_us > SAVE_EVERY_US;
        if is_due && let Err(error) = self.save(Epoch(at.epoch.0 + RESERVED_COUNT), at.at_us) {
            // Half of the numbers is still there; it is tried again with the next epoch.
            tracing::error!("could not reserve epochs: {error}");
        }
    }

    /// Later epochs are committed after this instant.
    pub fn pass(&mut self, instant_us: i64) {
        self.passed_us = self.passed_us.max(instant_us);
    }

    /// The server ends in good order: nothing that is reserved was used from `next` on.
    pub fn stop(&mut self, next: Epoch) {
        if let Err(error) = self.save(next, self.passed_us) {
            tracing::warn!("could not note the last epoch: {error}");
        }
    }

    fn save(&mut self, reserved: Epoch, instant_us: i64) -> Result<()> {
        let mut batch = StoreBatch::default();
        batch.put(KEY, [reserved.0.to_be_bytes(), instant_us.to_be_bytes()].concat());
        self.store.commit(batch)?;
        (self.reserved, self.saved_us) = (reserved, instant_us);
        Ok(())
    }
}

fn read(bytes: &[u8]) -> Result<(Epoch, i64)> {
    let damaged = || Error::new(SqlState::DATA_CORRUPTED, "unreadable record of the last epoch");
    let (epoch, instant) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    let instant = instant.try_into().map_err(|_| damaged())?;
    Ok((Epoch(u64::from_be_bytes(*epoch)), i64::from_be_bytes(instant)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::store::MemoryStore;

    #[test]
    fn no_epoch_and_no_instant_comes_twice() -> Result<()> {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let (mut clock, first) = Clock::open(store.clone(), Epoch(7))?;
        assert_eq!(first, Epoch(8));
        let ahead_us = clock.now_us() + 60_000_000;
        clock.committed(Moment { epoch: first, at_us: ahead_us });
        assert!(clock.now_us() > ahead_us);
        // Killed, with a wall clock that has gone back a minute.
        let (mut clock, second) = Clock::open(store.clone(), Epoch(7))?;
        assert!(second > first && clock.now_us() > ahead_us);
        // Ended in good order: no numbers are left out.
        clock.stop(second.next());
        let (_, third) = Clock::open(store, Epoch(7))?;
        assert_eq!(third, second.next());
        Ok(())
    }
}
