//! CREATE VIEW, CREATE MATERIALIZED VIEW, CREATE SINK: a query that is kept, and for the latter two maintained.
//!
//! Building a maintained view reads all that its inputs hold, which may take long. Meanwhile only its name is reserved;
//! it enters the catalog when it has caught up, so a crash before that leaves nothing behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::execution::SessionState;
use parking_lot::Mutex;

use super::options::{require_effect, view_options};
use super::shape::shape;
use super::{Session, late, replace, require_free};
use crate::catalog::system::OWNER_OID;
use crate::catalog::{Catalog, Column, Object, ObjectKind, QualifiedName, SCHEMA, USER, ViewOptions};
use crate::error::{Error, Result, SqlState};
use crate::plan::{StreamPlan, growth};
use crate::runtime::ViewSpec;
use crate::session::context::SessionContext;
use crate::session::limits::Limits;
use crate::session::resolver::Resolver;
use crate::session::settings::Settings;
use crate::session::shared::Shared;
use crate::session::shared::builds::{Reservation, ReservationGuard};
use crate::session::shared::registry::Entry;
use crate::session::{Notice, Outcome};
use crate::sql::bind::{Bound, bind_query};
use crate::sql::lower::{lower, lower_late, lower_view};
use crate::sql::{CreateMaterializedView, Name, Query};
use crate::state::checkpoint::can_hash;
use crate::types::{PgType, RelationId};

/// What a maintained view or sink is before it runs.
pub(super) struct Maintained {
    pub object: Object,
    pub plan: StreamPlan,
    pub reservation: ReservationGuard,
}

impl Session {
    pub(super) async fn create_view(
        &mut self,
        name: &Name,
        names: &[String],
        query: &Query,
        query_text: &str,
        or_replace: bool,
    ) -> Result<&'static str> {
        let (bound, columns) = shape(self.bind_query(query, &[])?, names)?;
        require_no_parameters(&bound)?;
        bound.require_no_instants("the query of a view")?;
        let catalog = self.shared.catalog();
        let resolver = self.resolver(catalog.clone());
        let (qualified, depends_on) = (resolver.creation_name(name)?, dependencies(&resolver, &bound)?);
        let (shared, definition) = (self.shared.clone(), query_text.to_string());
        let change = async move {
            let _lock = shared.ddl.lock().await;
            let mut catalog = shared.catalog().as_ref().clone();
            let old = catalog.find(Some(&qualified.schema), &qualified.name).cloned();
            let id = match old.filter(|_| or_replace) {
                Some(old) => {
                    require_replaceable(&shared, &catalog, &old, &columns, &depends_on)?;
                    catalog.remove(old.id);
                    old.id
                }
                None => {
                    require_free(&shared, &catalog, &qualified)?;
                    catalog.allocate_id()
                }
            };
            require_present(&catalog, &depends_on)?;
            catalog.insert(Object {
                id,
                name: qualified,
                kind: ObjectKind::View,
                columns,
                definition,
                depends_on,
                indexes: vec![],
            })?;
            shared.publish(catalog).await
        };
        drop(resolver);
        self.shared.uninterrupted(change).await?;
        Ok("CREATE VIEW")
    }

    /// REFRESH MATERIALIZED VIEW: when it returns the view is fresh, as it is at all times once it is built.
    pub(in crate::session) async fn refresh(&mut self, name: &Name) -> Result<Outcome> {
        self.require_writable("REFRESH MATERIALIZED VIEW")?;
        let catalog = self.shared.catalog();
        let object = self.resolver(catalog.clone()).require(name)?.clone();
        if !matches!(object.kind, ObjectKind::MaterializedView { .. }) {
            let message = format!("\"{}\" is not a materialized view", object.name.name);
            return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, message));
        }
        self.wait_until_readable(&[object.id]).await?;
        self.notice(SqlState("00000"), format!("materialized view \"{}\" is always fresh", object.name.name));
        Ok(Outcome::Done { tag: "REFRESH MATERIALIZED VIEW".into() })
    }

    pub(super) async fn create_materialized_view(
        &mut self,
        create: &CreateMaterializedView,
        limits: &mut Limits,
    ) -> Result<&'static str> {
        const TAG: &str = "CREATE MATERIALIZED VIEW";
        let options = view_options(create)?;
        if create.or_replace
            && let Some(old) = replace::replaced(&self.resolver(self.shared.catalog()), &create.name)?
        {
            return self.replace_materialized_view(old, create, limits).await.map(|()| TAG);
        }
        let Some(name) = self.new_name(&create.name, create.if_not_exists)? else { return Ok(TAG) };
        if options.keeps_late_rows {
            require_free(&self.shared, &self.shared.catalog(), &late::name_of(&name))?;
        }
        let kept = options.clone();
        let kind = |plan: &StreamPlan| ObjectKind::maintained(plan.properties.key.clone(), kept.clone());
        let (query, text) = (&create.query, &create.query_text);
        let planned = self.plan_maintained(name, &create.columns, query, text, Some(&options), kind).await;
        match planned {
            Ok(maintained) => {
                require_effect(&options, &maintained.plan)?;
                self.notice_state(&maintained.object, &maintained.plan);
                let view = maintained.object.clone();
                self.build(maintained, limits).await?;
                if options.keeps_late_rows {
                    self.keep_late_rows(&view, create, limits).await?;
                }
                Ok(TAG)
            }
            Err(error) => self.skip_existing(error, create.if_not_exists).map(|()| TAG),
        }
    }

    pub(super) async fn create_sink(
        &mut self,
        name: &Name,
        if_not_exists: bool,
        query: &Query,
        query_text: &str,
        options: &BTreeMap<String, String>,
        limits: &mut Limits,
    ) -> Result<&'static str> {
        const TAG: &str = "CREATE SINK";
        check_sink_options(options)?;
        let Some(name) = self.new_name(name, if_not_exists)? else { return Ok(TAG) };
        match self.plan_maintained(name, &[], query, query_text, None, |_| ObjectKind::Sink).await {
            Ok(maintained) => {
                self.notice_state(&maintained.object, &maintained.plan);
                self.build(maintained, limits).await.map(|()| TAG)
            }
            Err(error) => self.skip_existing(error, if_not_exists).map(|()| TAG),
        }
    }

    /// A NOTICE that names the operators whose state nothing bounds, and where memory is limited another that names those whose state
    /// cannot go.
    pub(super) fn notice_state(&mut self, object: &Object, plan: &StreamPlan) {
        if self.shared.config.memory_limit_bytes.is_some() {
            let kept = growth::kept_in_memory(plan, &can_hash);
            if !kept.is_empty() {
                let message = format!("not all state of {} \"{}\" can go to disk", object.kind_name(), object.name);
                let notice = Error::new(SqlState("00000"), message)
                    .with_detail(kept.join("\n"))
                    .with_hint("it counts against the memory limit; hw_catalog.memory tells how much is held");
                self.notices.push(Notice { severity: "NOTICE", error: notice });
            }
        }
        let unbounded = growth::unbounded(plan, &|id| self.shared.grows(id));
        if unbounded.is_empty() {
            return;
        }
        let message = format!("the state of {} \"{}\" grows without bound", object.kind_name(), object.name);
        let notice = Error::new(SqlState("00000"), message).with_detail(unbounded.join("\n")).with_hint(
            "it reads a source that never ends; hw_catalog.view_operators tells how much each operator holds",
        );
        self.notices.push(Notice { severity: "NOTICE", error: notice });
    }

    /// Binds and lowers the query, and reserves the name. `options` are of a view, which others can read.
    async fn plan_maintained(
        &self,
        name: QualifiedName,
        names: &[String],
        query: &Query,
        query_text: &str,
        options: Option<&ViewOptions>,
        kind: impl Fn(&StreamPlan) -> ObjectKind,
    ) -> Result<Maintained> {
        let read = self.bind_query(query, &[])?.relations;
        self.wait_until_readable(&read).await?;
        let _lock = self.shared.ddl.lock().await;
        let mut catalog = self.shared.catalog().as_ref().clone();
        require_free(&self.shared, &catalog, &name)?;
        let resolver = self.resolver(Arc::new(catalog.clone()));
        let (bound, columns) = shape(bind_query(&self.state, &resolver, query, &[])?, names)?;
        require_no_parameters(&bound)?;
        let plan = match options {
            Some(options) => lower_view(&self.state, &resolver, &bound, options)?,
            None => lower(&self.state, &resolver, &bound)?,
        };
        let depends_on = dependencies(&resolver, &bound)?;
        let id = catalog.allocate_id();
        let object = Object {
            id,
            name: name.clone(),
            kind: kind(&plan),
            columns,
            definition: query_text.to_string(),
            depends_on,
            indexes: vec![],
        };
        // What is read through plain views must not go away either.
        let read = object.depends_on.iter().chain(&bound.relations).copied().collect();
        let reservation = self.shared.builds.reserve(id, Reservation { name, depends_on: read });
        drop(resolver);
        // Only the next id has changed: nobody else may get this one.
        self.shared.publish(catalog).await?;
        Ok(Maintained { object, plan, reservation })
    }

    /// Returns when the view has caught up and is in the catalog. A cancel abandons it.
    pub(super) async fn build(&self, maintained: Maintained, limits: &mut Limits) -> Result<()> {
        let Maintained { object, plan, reservation } = maintained;
        let (id, shared) = (object.id, self.shared.clone());
        shared.note_plan(id, &plan);
        let discard = matches!(object.kind, ObjectKind::Sink);
        let spec = ViewSpec { id, name: object.name.to_string(), plan, discard, indexes: vec![] };
        let running = async {
            shared.runtime.create_view(spec).await?;
            shared.keep_history(&object).await
        };
        if let Err(error) = limits.guard(running).await {
            shared.builds.forget(id);
            // If it runs already, nobody has seen it; the first error is the one to tell.
            let _ = shared.runtime.drop_relations(vec![id]).await;
            return Err(error);
        }
        let entered = self.shared.uninterrupted(async move {
            let _reservation = reservation;
            let _lock = shared.ddl.lock().await;
            let mut catalog = shared.catalog().as_ref().clone();
            let inserted = require_present(&catalog, &object.depends_on).and_then(|()| catalog.insert(object));
            let published = match inserted {
                Ok(_) => shared.publish(catalog).await,
                Err(error) => Err(error),
            };
            if published.is_err() {
                shared.builds.forget(id);
                // Nobody has seen it; the first error is the one to tell.
                let _ = shared.runtime.drop_relations(vec![id]).await;
            }
            published
        });
        entered.await
    }
}

/// The plan of a maintained view or sink that is in the catalog, over that catalog.
pub fn plan_stored_view(shared: &Arc<Shared>, catalog: Arc<Catalog>, object: &Arc<Object>) -> Result<StreamPlan> {
    let kind = &object.kind;
    bind_stored_view(shared, catalog, object, |state, resolver, bound| match kind {
        ObjectKind::MaterializedView { options, late_rows_of: Some(_), .. } => {
            let plan = lower_late(state, resolver, &bound, options)?;
            require_same_types(object, &plan.schema.fields().iter().map(|f| PgType::of(f)).collect::<Vec<_>>())?;
            Ok(plan)
        }
        ObjectKind::MaterializedView { options, .. } => lower_view(state, resolver, &bound, options),
        _ => lower(state, resolver, &bound),
    })
}

/// Fails if a stored query no longer means what it did when it was created.
pub(super) fn check_stored_view(shared: &Arc<Shared>, catalog: Arc<Catalog>, object: &Arc<Object>) -> Result<()> {
    match object.kind {
        ObjectKind::MaterializedView { .. } | ObjectKind::Sink => plan_stored_view(shared, catalog, object).map(|_| ()),
        _ => bind_stored_view(shared, catalog, object, |_, _, _| Ok(())),
    }
}

fn bind_stored_view<T>(
    shared: &Arc<Shared>,
    catalog: Arc<Catalog>,
    object: &Arc<Object>,
    then: impl FnOnce(&SessionState, &Resolver<'_>, Bound) -> Result<T>,
) -> Result<T> {
    let settings = Settings::start(&[], USER)?;
    let context = Arc::new(SessionContext {
        shared: shared.clone(),
        settings: Mutex::new(settings.clone()),
        entry: Arc::new(Entry::internal()),
        user: USER.to_string(),
        user_oid: OWNER_OID,
        epoch: Default::default(),
    });
    let state = crate::session::session_state(shared, &context);
    let resolver = Resolver::new(shared, catalog, settings).before(object.id);
    let bound = bind_query(&state, &resolver, &shared.view_query(object)?, &[])?;
    if matches!(object.kind, ObjectKind::MaterializedView { late_rows_of: Some(_), .. }) {
        return then(&state, &resolver, bound);
    }
    let names: Vec<String> = object.columns.iter().map(|c| c.name.clone()).collect();
    let (bound, columns) = shape(bound, &names)?;
    require_same_types(object, &columns.into_iter().map(|column| column.pg_type).collect::<Vec<_>>())?;
    then(&state, &resolver, bound)
}

/// 55000 if a stored view would have other columns than it was created with.
fn require_same_types(object: &Object, now: &[PgType]) -> Result<()> {
    if now.iter().eq(object.columns.iter().map(|column| &column.pg_type)) {
        return Ok(());
    }
    let message = format!("the columns of \"{}\" are not what they were when it was created", object.name);
    Err(Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message))
}

/// Ids of what the query names. 0A000 if an unqualified name was found along a search path: a restart reads the
/// definition with the default one.
pub(super) fn dependencies(resolver: &Resolver<'_>, bound: &Bound) -> Result<Vec<RelationId>> {
    let mut ids = bound.functions.clone();
    for name in &bound.depends_on {
        // What is not the users' is the system's, and does not go away.
        let Some(object) = resolver.find(name.schema.as_deref(), &name.name) else { continue };
        if name.schema.is_none() && object.name.schema != SCHEMA {
            return Err(Error::unsupported(
                format!("the unqualified name \"{}\" in a stored query", name.name),
                format!(
                    "write {}.{}, so that it means the same under every search_path",
                    object.name.schema, name.name
                ),
            ));
        }
        if !ids.contains(&object.id) {
            ids.push(object.id);
        }
    }
    Ok(ids)
}

pub fn require_no_parameters(bound: &Bound) -> Result<()> {
    if bound.parameters.is_empty() {
        return Ok(());
    }
    Err(Error::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $1")
        .with_hint("the query of a view cannot have parameters"))
}

/// 42P01 if something was dropped since the query was bound.
pub fn require_present(catalog: &Catalog, ids: &[RelationId]) -> Result<()> {
    match ids.iter().all(|id| catalog.get(*id).is_some() || catalog.function(*id).is_some()) {
        true => Ok(()),
        false => Err(Error::new(SqlState::UNDEFINED_TABLE, "a relation of the query was dropped meanwhile")),
    }
}

/// Postgres' rules for OR REPLACE, and one of ours: nothing that is maintained may read the view.
fn require_replaceable(
    shared: &Shared,
    catalog: &Catalog,
    old: &Object,
    columns: &[Column],
    depends_on: &[RelationId],
) -> Result<()> {
    if !matches!(old.kind, ObjectKind::View) {
        let message = format!("\"{}\" is not a view", old.name.name);
        return Err(Error::new(SqlState::WRONG_OBJECT_TYPE, message));
    }
    let refuse = |message: String| Err(Error::new(SqlState::INVALID_TABLE_DEFINITION, message));
    if columns.len() < old.columns.len() {
        return refuse("cannot drop columns from view".to_string());
    }
    for (now, then) in columns.iter().zip(&old.columns) {
        if now.name != then.name {
            return refuse(format!("cannot change name of view column \"{}\" to \"{}\"", then.name, now.name));
        }
        if now.pg_type != then.pg_type {
            return refuse(format!(
                "cannot change data type of view column \"{}\" from {} to {}",
                now.name,
                then.pg_type.name(),
                now.pg_type.name()
            ));
        }
    }
    let readers = catalog.drop_order(old.id);
    if readers.iter().any(|id| depends_on.contains(id)) {
        return refuse(format!("view \"{}\" would read itself", old.name));
    }
    let maintained = readers
        .iter()
        .filter_map(|id| catalog.get(*id))
        .find(|reader| matches!(reader.kind, ObjectKind::MaterializedView { .. } | ObjectKind::Sink));
    let reader = maintained.map(|reader| reader.name.clone()).or_else(|| shared.builds.reserved_reader(old.id));
    match reader {
        None => Ok(()),
        Some(reader) => Err(Error::unsupported(
            format!("replacing view \"{}\" while \"{reader}\" is maintained over it", old.name),
            format!("drop \"{reader}\" first, or give the new definition another name"),
        )),
    }
}

fn check_sink_options(options: &BTreeMap<String, String>) -> Result<()> {
    if let Some(stranger) = options.keys().find(|key| *key != "connector") {
        return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("unknown option \"{stranger}\""))
            .with_hint("known options: connector"));
    }
    match options.get("connector").map(String::as_str) {
        Some("blackhole") => Ok(()),
        Some(other) => Err(Error::unsupported(
            format!("sink connector \"{other}\""),
            "known sink connectors: blackhole (maintained, counted, sent nowhere)",
        )),
        None => Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, "option \"connector\" is missing")
            .with_hint("add it: WITH (connector = 'blackhole')")),
    }
}
