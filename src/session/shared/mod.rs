//! What all sessions share.
//!
//! ```text
//!            ┌─ catalog: an immutable value, swapped when a statement changes it ── persistence (Store)
//! Shared ────┼─ runtime: tables, sources, maintained views
//!            ├─ engine: threads and memory for queries
//!            ├─ builds: views that cannot be read yet
//!            └─ registry: who is connected
//! ```

pub mod arrival;
pub mod builds;
mod persistence;
mod recovery;
pub mod registry;
pub mod subscribers;
mod system;

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SessionState;
use parking_lot::{Mutex, RwLock};

pub use persistence::load as load_catalog;
pub use system::SystemReader;

use crate::catalog::functions::{AdvisoryLocks, aggregates};
use crate::catalog::{Catalog, Column, Index, KEY_BYTES, Object, ObjectKind, SourceDefinition};
use crate::config::Config;
use crate::connectors::{RATE_LIMIT, rate_limit};
use crate::error::{Error, Result};
use crate::plan::{StreamPlan, growth};
use crate::runtime::{IndexSpec, Runtime, SourceSpec, TableSpec};
use crate::serve::{QueryEngine, SourceTable};
use crate::session::admission::with_first_password;
use crate::sql::{Query, StatementKind};
use crate::state::{Memory, Store};
use crate::types::RelationId;
use builds::Builds;
use registry::Registry;
use subscribers::Subscribers;

/// What all sessions share: catalog, runtime, query engine, the registry of running sessions.
pub struct Shared {
    pub(in crate::session) config: Config,
    pub(in crate::session) runtime: Runtime,
    pub(in crate::session) engine: QueryEngine,
    pub(in crate::session) builds: Arc<Builds>,
    pub(in crate::session) registry: Registry,
    pub(in crate::session) subscribers: Arc<Subscribers>,
    pub(in crate::session) locks: AdvisoryLocks,
    /// Held while the catalog changes; never while a view is built.
    pub(in crate::session) ddl: tokio::sync::Mutex<()>,
    pub(in crate::session) started_us: i64,
    /// Makes up passwords for roles that have none.
    pub(in crate::session) secret: [u8; KEY_BYTES],
    store: Arc<dyn Store>,
    catalog: RwLock<Arc<Catalog>>,
    /// Functions and options of every session, before its own are added.
    base_state: SessionState,
    /// Parsed definitions of plain views, valid for as long as the object is the same.
    view_queries: Mutex<HashMap<RelationId, (Arc<Object>, Query)>>,
}

/// Partitions of a query: more threads for one make the others wait.
const QUERY_PARTITION_COUNT: usize = 2;
const BATCH_ROW_COUNT: usize = 8192;

impl Shared {
    /// Reads the catalog, starts the runtime and re-creates sources; materialized views follow in the background, so
    /// that the server answers at once. XX001 if the catalog cannot be read.
    pub fn open(config: &Config, store: Arc<dyn Store>) -> Result<Arc<Shared>> {
        let mut catalog = persistence::load(store.as_ref())?;
        if let Some(with_password) = with_first_password(&catalog, config)? {
            persistence::save(store.as_ref(), &catalog, &with_password)?;
            catalog = with_password;
        }
        let secret = persistence::secret(store.as_ref())?;
        let thread_count = std::thread::available_parallelism().map_or(2, |n| n.get()).max(2);
        let memory = Arc::new(Memory::new(config.memory_limit_bytes));
        let engine = QueryEngine::new(thread_count, config.query_memory_bytes_max, memory.clone())?;
        let base_state = base_state(&engine);
        arrival::plan_all(&base_state, &mut catalog)?;
        let tables = catalog.objects().filter_map(|object| table_spec(object)).collect();
        let views: Vec<RelationId> = recovery::maintained(&catalog).map(|view| view.id).collect();
        let (every, held_bytes_max) = (config.checkpoint_interval, config.subscriber_memory_bytes_max);
        let worker_count = config.worker_count;
        let runtime = Runtime::start(worker_count, store.clone(), tables, &views, every, held_bytes_max, memory)?;
        let shared = Arc::new(Shared {
            config: config.clone(),
            runtime,
            base_state,
            engine,
            builds: Arc::default(),
            registry: Registry::default(),
            subscribers: Arc::default(),
            locks: AdvisoryLocks::default(),
            ddl: tokio::sync::Mutex::new(()),
            started_us: registry::now_us(),
            secret,
            store,
            catalog: RwLock::new(Arc::new(catalog)),
            view_queries: Mutex::default(),
        });
        recovery::start(&shared)?;
        Ok(shared)
    }

    /// Ends what sessions are executing, then sources, views and workers. The listener must have been closed before.
    pub async fn shutdown(&self) {
        const PATIENCE: Duration = Duration::from_secs(5);
        self.registry.terminate_all();
        // A change of the catalog under way is short; let it become durable.
        let _ = tokio::time::timeout(PATIENCE, self.ddl.lock()).await;
        if tokio::time::timeout(PATIENCE, self.runtime.shutdown()).await.is_err() {
            tracing::warn!("an epoch under way was abandoned");
        }
    }

    /// The catalog as it is now.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().clone()
    }

    /// Makes a changed catalog durable, then current. Call it with the `ddl` lock held.
    pub(in crate::session) async fn publish(&self, mut after: Catalog) -> Result<()> {
        after.forget_comments_of_the_gone();
        let (before, after, store) = (self.catalog(), Arc::new(after), self.store.clone());
        let saved = after.clone();
        tokio::task::spawn_blocking(move || persistence::save(store.as_ref(), &before, &saved))
            .await
            .map_err(|e| Error::internal(format!("saving the catalog failed: {e}")))??;
        self.view_queries.lock().retain(|id, (object, _)| after.get(*id).is_some_and(|now| Arc::ptr_eq(now, object)));
        *self.catalog.write() = after;
        Ok(())
    }

    /// All that is durable at this moment, to a directory.
    pub(in crate::session) async fn backup(&self, directory: PathBuf) -> Result<()> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || store.backup(&directory))
            .await
            .map_err(|e| Error::internal(format!("the backup failed: {e}")))?
    }

    /// Lets a relation that has just begun to run keep what it was, if it shall.
    pub(in crate::session) async fn keep_history(&self, object: &Object) -> Result<()> {
        match object.retention_us() {
            0 => Ok(()),
            us => self.runtime.set_retention(object.id, us).await,
        }
    }

    pub(in crate::session) fn base_state(&self) -> &SessionState {
        &self.base_state
    }

    /// The parsed definition of a view.
    pub(in crate::session) fn view_query(&self, object: &Arc<Object>) -> Result<Query> {
        let mut queries = self.view_queries.lock();
        if let Some((known, query)) = queries.get(&object.id)
            && Arc::ptr_eq(known, object)
        {
            return Ok(query.clone());
        }
        let query = parse_definition(object)?;
        queries.insert(object.id, (object.clone(), query.clone()));
        Ok(query)
    }

    /// Keeps what the planner proved of a view that is about to run.
    pub(in crate::session) fn note_plan(&self, id: RelationId, plan: &StreamPlan) {
        self.builds.set_properties(id, plan.properties.clone());
        if growth::grows(plan, &|read| self.grows(read)) {
            self.builds.set_growing(id);
        }
    }

    /// True if the relation's rows become ever more: an endless source, or a view that follows one.
    pub(in crate::session) fn grows(&self, id: RelationId) -> bool {
        if self.builds.is_growing(id) {
            return true;
        }
        let catalog = self.catalog();
        let Some(object) = catalog.get(id) else { return false };
        let ObjectKind::Source(definition) = &object.kind else { return false };
        SourceTable::connect(definition, &object.schema()).is_ok_and(|connector| connector.is_endless())
    }

    /// Runs a change to its end even if the client goes away in the middle of it.
    pub(in crate::session) async fn uninterrupted<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let task = self.engine.handle().spawn(change);
        task.await.map_err(|e| Error::internal(format!("a change ended abnormally: {e}")))?
    }
}

/// The SELECT of a stored view. XX000 if it is none, which the CREATE made sure of.
fn parse_definition(object: &Object) -> Result<Query> {
    let statements = crate::sql::parser::parse(&object.definition)?;
    match statements.into_iter().map(|s| s.kind).next() {
        Some(StatementKind::Query(query)) => Ok(query),
        _ => Err(Error::internal(format!("the definition of \"{}\" is no query", object.name))),
    }
}

/// Functions and options that do not depend on the session.
fn base_state(engine: &QueryEngine) -> SessionState {
    let mut builder = crate::sql::dialect_state();
    let config = builder.config().take().unwrap_or_default();
    let config = config
        .with_target_partitions(QUERY_PARTITION_COUNT)
        .with_batch_size(BATCH_ROW_COUNT)
        .with_create_default_catalog_and_schema(false);
    let mut state = builder.with_config(config).with_runtime_env(engine.environment().clone()).build();
    for function in aggregates() {
        if let Err(error) = datafusion::execution::FunctionRegistry::register_udaf(&mut state, function) {
            tracing::error!(%error, "an aggregate function could not be registered");
        }
    }
    state
}

pub(in crate::session) fn schema_of(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|c| c.pg_type.field(&c.name, c.nullable)).collect::<Vec<_>>()))
}

pub(in crate::session) fn table_spec(object: &Object) -> Option<TableSpec> {
    let ObjectKind::Table { primary_key, watermark, .. } = &object.kind else { return None };
    Some(TableSpec {
        id: object.id,
        name: object.name.to_string(),
        schema: object.schema(),
        primary_key: primary_key.clone(),
        watermark: watermark.clone(),
        indexes: index_specs(object),
    })
}

pub(in crate::session) fn index_specs(object: &Object) -> Vec<IndexSpec> {
    let spec =
        |index: &Index| IndexSpec { name: index.name.clone(), columns: index.columns.clone(), unique: index.unique };
    object.indexes.iter().map(spec).collect()
}

pub(in crate::session) fn source_spec(object: &Object) -> Option<SourceSpec> {
    let ObjectKind::Source(definition) = &object.kind else { return None };
    Some(SourceSpec {
        id: object.id,
        name: object.name.to_string(),
        schema: object.schema(),
        is_paused: definition.is_paused,
        rows_per_s: rows_per_s(definition),
        definition: definition.clone(),
    })
}

/// To how many rows a second the source is limited, if it is.
pub(in crate::session) fn rows_per_s(definition: &SourceDefinition) -> Option<NonZeroU64> {
    // What was not valid was refused when it was set.
    definition.options.get(RATE_LIMIT).and_then(|text| rate_limit(text).ok().flatten())
}
