//! How much memory is in use for what, and how much of it may be.
//!
//! What can be let go (keys of operators, since they are on disk) gives way to what cannot: [`MemoryAccount::allowance`] says how
//! much of its own an operator may keep.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who holds memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Keys of operators that are on disk, too.
    Keys,
    /// Other state of operators.
    Operators,
    /// Rows of tables and views.
    Relations,
    /// What relations were before, for readers of the past and subscribers.
    Histories,
    /// Where saved keys lie.
    Indexes,
    /// Caches and buffers of the store.
    Store,
    /// Queries under way.
    Queries,
}

impl Holder {
    pub const ALL: [Holder; 7] = [
        Holder::Keys,
        Holder::Operators,
        Holder::Relations,
        Holder::Histories,
        Holder::Indexes,
        Holder::Store,
        Holder::Queries,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Holder::Keys => "keys of operators",
            Holder::Operators => "other state of operators",
            Holder::Relations => "tables and views",
            Holder::Histories => "histories",
            Holder::Indexes => "indexes of saved keys",
            Holder::Store => "store",
            Holder::Queries => "queries",
        }
    }
}

#[derive(Debug, Default)]
pub struct Memory {
    /// `None`: as much as there is.
    limit_bytes: Option<u64>,
    used_bytes: [AtomicU64; Holder::ALL.len()],
}

/// Of this many parts of the limit one is left for what nobody counts: code, stacks, rows under way, what the allocator keeps;
/// of a small limit more, up to half of it.
const RESERVE: u64 = 4;
const RESERVE_BYTES_MIN: u64 = 128 << 20;
/// When it is too much, so many parts of what may be used are aimed at, and one is left free.
const GOAL: u64 = 8;
/// However much is held by what cannot be let go, keys may have this part of what may be used.
const KEYS_MIN: u64 = 16;
/// Rows of tables and views may lie in memory until all but keys take this part of what may be used.
const ROWS_PART: u64 = 2;

impl Memory {
    pub fn new(limit_bytes: Option<u64>) -> Memory {
        Memory { limit_bytes, used_bytes: Default::default() }
    }

    pub fn limit_bytes(&self) -> Option<u64> {
        self.limit_bytes
    }

    pub fn used_bytes(&self, holder: Holder) -> u64 {
        self.used_bytes[holder as usize].load(Ordering::Relaxed)
    }

    pub fn set(&self, holder: Holder, bytes: u64) {
        self.used_bytes[holder as usize].store(bytes, Ordering::Relaxed);
    }

    /// With so much more, what cannot be let go leaves too little for keys.
    pub fn is_short_with(&self, bytes: u64) -> bool {
        let Some(usable) = self.usable_bytes() else { return false };
        self.total_bytes().saturating_sub(self.used_bytes(Holder::Keys)) + bytes > usable / ROWS_PART
    }

    /// Of the limit, without what is left for the uncounted.
    fn usable_bytes(&self) -> Option<u64> {
        let limit = self.limit_bytes?;
        Some(limit - (limit / RESERVE).max(RESERVE_BYTES_MIN.min(limit / 2)))
    }

    fn total_bytes(&self) -> u64 {
        self.used_bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }
}

/// What one operator holds on one worker.
pub struct MemoryAccount {
    memory: Arc<Memory>,
    bytes: u64,
}

impl MemoryAccount {
    pub fn new(memory: Arc<Memory>) -> MemoryAccount {
        MemoryAccount { memory, bytes: 0 }
    }

    /// Nothing has to be counted.
    pub fn is_unlimited(&self) -> bool {
        self.memory.limit_bytes.is_none()
    }

    pub fn set(&mut self, bytes: u64) {
        let all = &self.memory.used_bytes[Holder::Keys as usize];
        // Two steps of wrapping arithmetic: in between others see a little too much.
        all.fetch_add(bytes, Ordering::Relaxed);
        all.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }

    /// How many bytes it may hold; `None`: as many as it does.
    pub fn allowance(&self) -> Option<u64> {
        let usable = self.memory.usable_bytes()?;
        let total = self.memory.total_bytes();
        if total <= usable {
            return None;
        }
        let keys = self.memory.used_bytes(Holder::Keys).max(self.bytes).max(1);
        let others = total.saturating_sub(keys);
        let goal = (usable - usable / GOAL).saturating_sub(others).max(usable / KEYS_MIN);
        // Every operator gives the same share.
        (goal < keys).then(|| (u128::from(self.bytes) * u128::from(goal) / u128::from(keys)) as u64)
    }
}

impl Drop for MemoryAccount {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_give_way_to_the_rest_in_proportion() {
        let memory = Arc::new(Memory::new(Some(2400)));
        let (mut one, mut other) = (MemoryAccount::new(memory.clone()), MemoryAccount::new(memory.clone()));
        one.set(300);
        other.set(600);
        assert_eq!((one.allowance(), memory.used_bytes(Holder::Keys)), (None, 900));
        memory.set(Holder::Relations, 450);
        // 1200 may be used and 1050 are aimed at, of which others have 450.
        assert_eq!((one.allowance(), other.allowance()), (Some(200), Some(400)));
        memory.set(Holder::Relations, 5000);
        assert_eq!(other.allowance(), Some(50), "a little is always left");
        drop(other);
        assert_eq!(memory.used_bytes(Holder::Keys), 300);
        assert_eq!(MemoryAccount::new(Arc::new(Memory::new(None))).allowance(), None);
    }
}
