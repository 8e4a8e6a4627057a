//! Who is connected and what they are doing: for `pg_stat_activity`, and for cancel requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::catalog::system::Activity;
use crate::error::{Error, Result, SqlState};
use crate::session::TransactionStatus;

#[derive(Default)]
pub struct Registry {
    entries: Mutex<HashMap<i32, Arc<Entry>>>,
    last_pid: AtomicI32,
}

/// Cancels whatever the session is executing (57014). Held by the registry under (pid, secret key).
#[derive(Clone, Debug)]
pub struct CancelHandle(watch::Sender<u64>);

impl CancelHandle {
    /// A session that executes nothing does not hear it.
    pub fn cancel(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// Hears every cancel from now on.
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

pub struct Entry {
    pub pid: i32,
    pub secret: i32,
    pub cancel: CancelHandle,
    /// Becomes true when the session has to end (57P01).
    pub terminate: watch::Sender<bool>,
    activity: Mutex<Activity>,
}

impl Registry {
    /// 53300 if `count_max` sessions are there already, or `user_count_max` of this user's.
    pub fn register(
        &self,
        user: &str,
        database: &str,
        count_max: usize,
        user_count_max: Option<u32>,
    ) -> Result<Arc<Entry>> {
        let mut entries = self.entries.lock();
        if let Some(limit) = user_count_max
            && entries.values().filter(|entry| entry.activity.lock().user == user).count() >= limit as usize
        {
            let message = format!("too many connections for role \"{user}\"");
            return Err(Error::new(SqlState::TOO_MANY_CONNECTIONS, message));
        }
        if entries.len() >= count_max {
            return Err(Error::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already"));
        }
        let pid = loop {
            let pid = self.last_pid.fetch_add(1, Ordering::Relaxed).wrapping_add(1) & i32::MAX;
            if pid != 0 && !entries.contains_key(&pid) {
                break pid;
            }
        };
        let now = now_us();
        let activity = Activity {
            pid,
            user: user.to_string(),
            database: database.to_string(),
            backend_start_us: now,
            state_change_us: Some(now),
            state: "idle".to_string(),
            ..Activity::default()
        };
        let entry = Arc::new(Entry::new(pid, activity));
        entries.insert(pid, entry.clone());
        Ok(entry)
    }

    pub fn unregister(&self, pid: i32) {
        self.entries.lock().remove(&pid);
    }

    /// Cancels the session with this key, if there is one.
    pub fn cancel(&self, pid: i32, secret: i32) {
        if let Some(entry) = self.entries.lock().get(&pid).filter(|entry| entry.secret == secret) {
            entry.cancel.cancel();
        }
    }

    /// `pg_cancel_backend`: false if there is no such session.
    pub fn cancel_backend(&self, pid: i32) -> bool {
        self.entries.lock().get(&pid).map(|entry| entry.cancel.cancel()).is_some()
    }

    /// `pg_terminate_backend`: false if there is no such session.
    pub fn terminate_backend(&self, pid: i32) -> bool {
        self.entries.lock().get(&pid).map(|entry| entry.end_session()).is_some()
    }

    /// Whose session it is.
    pub fn user_of(&self, pid: i32) -> Option<String> {
        self.entries.lock().get(&pid).map(|entry| entry.activity.lock().user.clone())
    }

    pub fn terminate_all(&self) {
        self.entries.lock().values().for_each(|entry| entry.end_session());
    }

    /// By pid.
    pub fn activities(&self) -> Vec<Activity> {
        let mut list: Vec<Activity> = self.entries.lock().values().map(|e| e.activity.lock().clone()).collect();
        list.sort_by_key(|activity| activity.pid);
        list
    }
}

impl Entry {
    /// Of nobody: for what the server does by itself.
    pub fn internal() -> Entry {
        Entry::new(0, Activity::default())
    }

    fn new(pid: i32, activity: Activity) -> Entry {
        let [a, b, c, d, ..] = *uuid::Uuid::new_v4().as_bytes();
        Entry {
            pid,
            secret: i32::from_be_bytes([a, b, c, d]),
            cancel: CancelHandle(watch::Sender::new(0)),
            terminate: watch::Sender::new(false),
            activity: Mutex::new(activity),
        }
    }

    fn end_session(&self) {
        self.terminate.send_replace(true);
        self.cancel.cancel();
    }

    pub fn activity(&self) -> Activity {
        self.activity.lock().clone()
    }

    pub fn set_client(&self, address: String, port: u16) {
        let mut activity = self.activity.lock();
        activity.client_address = Some(address);
        activity.client_port = Some(port.into());
    }

    pub fn set_application_name(&self, name: &str) {
        self.activity.lock().application_name = name.to_string();
    }

    pub fn begin(&self, query: &str) {
        let now = now_us();
        let mut activity = self.activity.lock();
        activity.query.clear();
        activity.query.push_str(cut(query));
        activity.query_start_us = Some(now);
        activity.transaction_start_us.get_or_insert(now);
        activity.state_change_us = Some(now);
        activity.state = "active".to_string();
    }

    pub fn end(&self, status: TransactionStatus) {
        let mut activity = self.activity.lock();
        activity.state_change_us = Some(now_us());
        activity.state = match status {
            TransactionStatus::Idle => "idle",
            TransactionStatus::Open => "idle in transaction",
            TransactionStatus::Failed => "idle in transaction (aborted)",
        }
        .to_string();
        if status == TransactionStatus::Idle {
            activity.transaction_start_us = None;
        }
    }
}

/// As `track_activity_query_size` cuts it.
fn cut(query: &str) -> &str {
    const QUERY_BYTES_MAX: usize = 1024;
    &query[..query.floor_char_boundary(QUERY_BYTES_MAX)]
}

pub fn now_us() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_needs_the_key_and_somebody_who_listens() -> Result<()> {
        let registry = Registry::default();
        let entry = registry.register("root", "dev", 2, None)?;
        registry.cancel(entry.pid, entry.secret);
        let listener = entry.cancel.listen();
        assert!(!listener.has_changed().expect("the sender lives"), "what was cancelled while idle is forgotten");
        registry.cancel(entry.pid, entry.secret ^ 1);
        assert!(!listener.has_changed().expect("the sender lives"));
        registry.cancel(entry.pid, entry.secret);
        assert!(listener.has_changed().expect("the sender lives"));
        Ok(())
    }

    #[test]
    fn one_client_too_many() -> Result<()> {
        let registry = Registry::default();
        let first = registry.register("root", "dev", 1, None)?;
        assert_eq!(
            registry.register("root", "dev", 1, None).err().map(|e| e.code),
            Some(SqlState::TOO_MANY_CONNECTIONS)
        );
        registry.unregister(first.pid);
        registry.register("root", "dev", 9, Some(1))?;
        let error = registry.register("root", "dev", 9, Some(1)).err().expect("the role has its limit");
        assert_eq!(error.message, "too many connections for role \"root\"");
        registry.register("ann", "dev", 9, Some(1))?;
        Ok(())
    }

    #[test]
    fn long_queries_are_cut_between_characters() {
        assert_eq!(cut(&"ä".repeat(600)).len(), 1024);
        assert_eq!(cut(&format!("x{}", "ä".repeat(600))).len(), 1023);
    }
}
