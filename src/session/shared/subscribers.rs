//! Who subscribes to what, and how far each has come: for `hw_catalog.subscriptions`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::registry::now_us;
use crate::types::Epoch;

#[derive(Default)]
pub struct Subscribers {
    /// By the order in which they came.
    open: Mutex<(u64, BTreeMap<u64, Subscriber>)>,
}

#[derive(Clone)]
pub struct Subscriber {
    pub pid: i32,
    /// A relation's name, or a query.
    pub subject: String,
    pub started_us: i64,
    place: Arc<AtomicU64>,
}

impl Subscriber {
    /// All changes up to this epoch have been taken.
    pub fn epoch(&self) -> u64 {
        self.place.load(Ordering::Relaxed)
    }
}

impl Subscribers {
    pub fn register(self: &Arc<Self>, pid: i32, subject: String, from: Epoch) -> Registered {
        let place = Arc::new(AtomicU64::new(from.0));
        let subscriber = Subscriber { pid, subject, started_us: now_us(), place: place.clone() };
        let mut open = self.open.lock();
        let number = open.0;
        open.0 += 1;
        open.1.insert(number, subscriber);
        Registered { subscribers: self.clone(), number, place }
    }

    pub fn all(&self) -> Vec<Subscriber> {
        self.open.lock().1.values().cloned().collect()
    }
}

/// Shown until it is dropped.
pub struct Registered {
    subscribers: Arc<Subscribers>,
    number: u64,
    place: Arc<AtomicU64>,
}

impl Registered {
    pub fn place(&self) -> Arc<AtomicU64> {
        self.place.clone()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.subscribers.open.lock().1.remove(&self.number);
    }
}
