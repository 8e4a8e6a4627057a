//! Views under construction: those that are being created (their names are taken, but nobody else sees them), and those
//! that a restart re-creates (they are in the catalog, but cannot be read yet).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::catalog::QualifiedName;
use crate::error::{Error, Result, SqlState};
use crate::plan::Properties;
use crate::types::RelationId;

/// How long a SELECT waits for a view that is still being built.
pub const WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub enum Build {
    Running,
    Ready,
    /// It will not become readable without being created again.
    Failed(Error),
}

/// A CREATE under way: the name and what it reads stay as they are until it is done.
#[derive(Clone, Debug)]
pub struct Reservation {
    pub name: QualifiedName,
    pub depends_on: Vec<RelationId>,
}

#[derive(Default)]
pub struct Builds {
    rebuilding: Mutex<HashMap<RelationId, watch::Sender<Build>>>,
    reserved: Mutex<HashMap<RelationId, Reservation>>,
    /// What the planner proved of each running view.
    properties: Mutex<HashMap<RelationId, Properties>>,
    /// Views whose rows become ever more.
    growing: Mutex<HashSet<RelationId>>,
}

impl Builds {
    pub fn start_rebuild(&self, id: RelationId) {
        self.rebuilding.lock().insert(id, watch::Sender::new(Build::Running));
    }

    pub fn finish_rebuild(&self, id: RelationId, outcome: Build) {
        let mut rebuilding = self.rebuilding.lock();
        if let Some(sender) = rebuilding.get(&id) {
            let failed = matches!(outcome, Build::Failed(_));
            sender.send_replace(outcome);
            if !failed {
                rebuilding.remove(&id);
            }
        }
    }

    pub fn forget(&self, id: RelationId) {
        self.rebuilding.lock().remove(&id);
        self.properties.lock().remove(&id);
        self.growing.lock().remove(&id);
    }

    /// `None`: ready.
    pub fn state(&self, id: RelationId) -> Option<Build> {
        self.rebuilding.lock().get(&id).map(|sender| sender.borrow().clone())
    }

    /// Waits for a view that a restart is re-creating. 55000 if it takes longer than `timeout`, or has failed.
    pub async fn wait(&self, id: RelationId, name: &str, timeout: Option<Duration>) -> Result<()> {
        let Some(mut receiver) = self.rebuilding.lock().get(&id).map(watch::Sender::subscribe) else { return Ok(()) };
        let done = receiver.wait_for(|build| !matches!(build, Build::Running));
        let outcome = match timeout {
            Some(timeout) => match tokio::time::timeout(timeout, done).await {
                Ok(outcome) => outcome,
                Err(_) => return Err(still_building(name)),
            },
            None => done.await,
        };
        match outcome.map(|build| build.clone()) {
            Ok(Build::Failed(reason)) => Err(Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("materialized view \"{name}\" could not be started"),
            )
            .with_detail(reason.to_string())
            .with_hint("drop it and create it again")),
            // The sender goes away when the view is ready, or dropped: then the lookup tells.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Takes a name until the guard is dropped.
    pub fn reserve(self: &std::sync::Arc<Self>, id: RelationId, reservation: Reservation) -> ReservationGuard {
        self.reserved.lock().insert(id, reservation);
        ReservationGuard { builds: self.clone(), id }
    }

    pub fn is_reserved(&self, name: &QualifiedName) -> bool {
        self.reserved.lock().values().any(|r| r.name == *name)
    }

    /// The name of something under construction that reads `id`.
    pub fn reserved_reader(&self, id: RelationId) -> Option<QualifiedName> {
        self.reserved.lock().values().find(|r| r.depends_on.contains(&id)).map(|r| r.name.clone())
    }

    /// True if something is being created in this schema.
    pub fn is_schema_reserved(&self, schema: &str) -> bool {
        self.reserved.lock().values().any(|r| r.name.schema == schema)
    }

    pub fn set_growing(&self, id: RelationId) {
        self.growing.lock().insert(id);
    }

    pub fn is_growing(&self, id: RelationId) -> bool {
        self.growing.lock().contains(&id)
    }

    pub fn set_properties(&self, id: RelationId, properties: Properties) {
        self.properties.lock().insert(id, properties);
    }

    pub fn properties(&self, id: RelationId) -> Option<Properties> {
        self.properties.lock().get(&id).cloned()
    }
}

pub fn still_building(name: &str) -> Error {
    Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, format!("materialized view \"{name}\" is still being built"))
        .with_hint("ask hw_catalog.views how far it is, and try again")
}

pub struct ReservationGuard {
    builds: std::sync::Arc<Builds>,
    id: RelationId,
}

impl Drop for ReservationGuard {
    fn drop(&mut self) {
        self.builds.reserved.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_reader_waits_for_a_rebuild_and_hears_of_its_failure() -> Result<()> {
        let builds = Arc::new(Builds::default());
        let id = RelationId::FIRST;
        builds.wait(id, "v", None).await?;
        builds.start_rebuild(id);
        let error = builds.wait(id, "v", Some(Duration::from_millis(1))).await.expect_err("it is running");
        assert_eq!(error.message, "materialized view \"v\" is still being built");
        builds.finish_rebuild(id, Build::Failed(Error::internal("no")));
        let error = builds.wait(id, "v", None).await.expect_err("it failed");
        assert_eq!(error.code, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
        builds.forget(id);
        builds.wait(id, "v", None).await
    }

    #[test]
    fn a_reserved_name_is_free_again_when_its_guard_goes() {
        let builds = Arc::new(Builds::default());
        let name = QualifiedName { schema: "public".into(), name: "v".into() };
        let reservation = Reservation { name: name.clone(), depends_on: vec![RelationId(7)] };
        let guard = builds.reserve(RelationId(8), reservation);
        assert!(builds.is_reserved(&name) && builds.reserved_reader(RelationId(7)).is_some());
        drop(guard);
        assert!(!builds.is_reserved(&name) && builds.reserved_reader(RelationId(7)).is_none());
    }
}
