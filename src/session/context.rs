//! The session as its SQL functions see it: `current_setting`, `set_config`, `pg_backend_pid`, `pg_cancel_backend` ….

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::settings::Settings;
use super::shared::Shared;
use super::shared::registry::Entry;
use crate::catalog::functions::{AdvisoryLocks, FunctionContext};
use crate::catalog::{Catalog, DATABASE, Object};
use crate::error::Result;

/// What a session shares with the functions that it registered.
pub struct SessionContext {
    pub shared: Arc<Shared>,
    pub settings: Mutex<Settings>,
    pub entry: Arc<Entry>,
    pub user: String,
    /// The epoch that the statement under way reads.
    pub epoch: AtomicU64,
}

impl FunctionContext for SessionContext {
    fn catalog(&self) -> Arc<Catalog> {
        self.shared.catalog()
    }

    fn database(&self) -> String {
        DATABASE.to_string()
    }

    fn user(&self) -> String {
        self.user.clone()
    }

    fn pid(&self) -> i32 {
        self.entry.pid
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.settings.lock().get(name)
    }

    fn set_setting(&self, name: &str, value: &str, local: bool) -> Result<String> {
        let mut settings = self.settings.lock();
        settings.set(name, Some(value), local)?;
        settings.show(name)
    }

    fn version(&self) -> String {
        let server = self.settings.lock().get("server_version").unwrap_or_default();
        format!("PostgreSQL {server} on {}, 64-bit", std::env::consts::ARCH)
    }

    fn cancel_backend(&self, pid: i32) -> bool {
        self.shared.registry.cancel_backend(pid)
    }

    fn terminate_backend(&self, pid: i32) -> bool {
        self.shared.registry.terminate_backend(pid)
    }

    fn relation_bytes(&self, relation: &Object) -> i64 {
        let state_bytes = || {
            let statuses = self.shared.runtime.view_statuses();
            statuses.into_iter().find(|s| s.id == relation.id).map(|s| s.state_bytes as i64)
        };
        let table_bytes = || {
            let world = self.shared.runtime.world();
            let snapshot = world.snapshots.get(&relation.id)?;
            let width: i64 = relation.columns.iter().map(|c| i64::from(c.pg_type.length().max(16))).sum();
            Some(snapshot.row_count_max() as i64 * width)
        };
        state_bytes().or_else(table_bytes).unwrap_or(0)
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    fn locks(&self) -> &AdvisoryLocks {
        &self.shared.locks
    }

    fn client_address(&self) -> Option<String> {
        self.entry.activity().client_address
    }

    fn start_time_us(&self) -> i64 {
        self.shared.started_us
    }
}
