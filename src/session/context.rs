//! The session as its SQL functions see it: `current_setting`, `set_config`, `pg_backend_pid`, `pg_cancel_backend` ….

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::settings::{NO_ROLE, Settings};
use super::shared::Shared;
use super::shared::registry::Entry;
use crate::catalog::functions::{AdvisoryLocks, FunctionContext};
use crate::catalog::{Catalog, DATABASE, Object, Role};
use crate::error::{Error, Result, SqlState};

/// What a session shares with the functions that it registered.
pub struct SessionContext {
    pub shared: Arc<Shared>,
    pub settings: Mutex<Settings>,
    pub entry: Arc<Entry>,
    /// Who connected, whoever it has become since.
    pub user: String,
    /// Its role: another one may be called so by now.
    pub user_oid: u32,
    /// The epoch that the statement under way reads.
    pub epoch: AtomicU64,
}

impl SessionContext {
    /// As `session_user` says it.
    pub fn session_user(&self) -> String {
        self.settings.lock().session_user().to_string()
    }

    /// As `current_user` says it.
    pub fn current_user(&self) -> String {
        self.settings.lock().current_user().to_string()
    }

    /// Whether it may do now what only superusers may.
    pub fn is_superuser(&self) -> bool {
        self.has_superuser(&self.current_user())
    }

    fn has_superuser(&self, name: &str) -> bool {
        self.shared.catalog().find_role(name).is_some_and(|role| role.is_superuser && self.is_meant(role))
    }

    /// False for a role that took over the name of the one that connected.
    fn is_meant(&self, role: &Role) -> bool {
        role.name != self.user || role.oid == self.user_oid
    }

    /// Whether this role is `current_user`.
    pub fn is_current(&self, role: &Role) -> bool {
        role.name == self.current_user() && self.is_meant(role)
    }

    /// SET, for everybody who sets: who the session is may be changed only to whom it may be. 42501, 22023, and the
    /// errors of [`Settings::set`].
    pub fn set(&self, name: &str, value: Option<&str>, local: bool) -> Result<()> {
        match (name.to_ascii_lowercase().as_str(), value) {
            ("role", Some(role)) => self.require_becoming(role, &self.session_user(), "role")?,
            ("session_authorization", Some(role)) => {
                self.require_becoming(role, &self.user, "session authorization")?;
            }
            _ => {}
        }
        self.settings.lock().set(name, value, local)
    }

    /// A superuser may become everybody, others only themselves.
    pub fn require_becoming(&self, role: &str, user: &str, what: &str) -> Result<()> {
        let catalog = self.shared.catalog();
        if what == "role" && role == NO_ROLE {
            return Ok(());
        }
        if catalog.find_role(role).is_none() {
            let message = format!("role \"{role}\" does not exist");
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        if role != user && !self.has_superuser(user) {
            let message = match what {
                "role" => format!("permission denied to set role \"{role}\""),
                _ => "permission denied to set session authorization".to_string(),
            };
            return Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, message));
        }
        Ok(())
    }

    /// Whether this session may end what the one with this pid does. 42501 if it is another role's.
    fn require_own(&self, pid: i32, what: &str) -> Result<()> {
        let Some(owner) = self.shared.registry.user_of(pid) else { return Ok(()) };
        if owner == self.current_user() || self.is_superuser() {
            return Ok(());
        }
        let message = format!("must be a member of the role whose {what}");
        Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, message))
    }
}

impl FunctionContext for SessionContext {
    fn catalog(&self) -> Arc<Catalog> {
        self.shared.catalog()
    }

    fn database(&self) -> String {
        DATABASE.to_string()
    }

    fn user(&self) -> String {
        self.current_user()
    }

    fn session_user(&self) -> String {
        SessionContext::session_user(self)
    }

    fn pid(&self) -> i32 {
        self.entry.pid
    }

    fn setting(&self, name: &str) -> Option<String> {
        self.settings.lock().get(name)
    }

    fn set_setting(&self, name: &str, value: &str, local: bool) -> Result<String> {
        self.set(name, Some(value), local)?;
        self.settings.lock().show(name)
    }

    fn version(&self) -> String {
        let server = self.settings.lock().get("server_version").unwrap_or_default();
        format!("PostgreSQL {server} on {}, 64-bit", std::env::consts::ARCH)
    }

    fn cancel_backend(&self, pid: i32) -> Result<bool> {
        self.require_own(pid, "query is being canceled")?;
        Ok(self.shared.registry.cancel_backend(pid))
    }

    fn terminate_backend(&self, pid: i32) -> Result<bool> {
        self.require_own(pid, "process is being terminated")?;
        Ok(self.shared.registry.terminate_backend(pid))
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
