//! CREATE OR REPLACE MATERIALIZED VIEW: the new view, and everything maintained above the old one, is built beside what
//! is there; then all of it changes places in one step of the catalog.
//!
//! ```text
//! names:      v, above_v ──────────────────────▶ v, above_v
//! dataflows:  17 ◀── 18   readers go on here     25 ◀── 26   caught up at the same epoch
//! ```
//! A new dataflow has a new id, so ids still ascend from what is read to what reads it. The step is one record batch of
//! the store: a crash leaves the whole old or the whole new. A reader that had bound an old id binds again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::late;
use super::options::{require_effect, view_options};
use super::shape::shape;
use super::view::{check_stored_view, dependencies, plan_stored_view, require_no_parameters, require_present};
use super::{Session, require_free};
use crate::catalog::{Catalog, Column, Index, Object, ObjectKind};
use crate::error::{Error, Result, SqlState};
use crate::plan::StreamPlan;
use crate::runtime::ViewSpec;
use crate::session::limits::Limits;
use crate::session::resolver::Resolver;
use crate::session::shared::builds::{Reservation, ReservationGuard};
use crate::session::shared::{Shared, index_specs};
use crate::sql::bind::bind_query;
use crate::sql::lower::{lower_late, lower_view};
use crate::sql::{CreateMaterializedView, Name};
use crate::types::RelationId;

/// What OR REPLACE would replace. 42809 if it is no materialized view.
pub(super) fn replaced(resolver: &Resolver<'_>, name: &Name) -> Result<Option<Arc<Object>>> {
    let qualified = resolver.creation_name(name)?;
    let Some(old) = resolver.find(Some(&qualified.schema), &qualified.name) else { return Ok(None) };
    match old.kind {
        ObjectKind::MaterializedView { .. } => Ok(Some(old.clone())),
        _ => {
            let message = format!("\"{}\" is not a materialized view", old.name.name);
            Err(Error::new(SqlState::WRONG_OBJECT_TYPE, message))
        }
    }
}

/// One object that is replaced, and what takes its place.
struct Successor {
    /// `None`: it comes with another one.
    old: Option<Arc<Object>>,
    new: Object,
    /// `None` for a plain view: it runs nowhere and keeps its id.
    plan: Option<StreamPlan>,
}

/// In dependency order: the view itself first.
struct Succession {
    successors: Vec<Successor>,
    /// Late rows that are no longer kept.
    gone: Vec<Arc<Object>>,
    reservations: Vec<ReservationGuard>,
}

impl Session {
    pub(super) async fn replace_materialized_view(
        &mut self,
        old: Arc<Object>,
        create: &CreateMaterializedView,
        limits: &mut Limits,
    ) -> Result<()> {
        let succession = self.plan_succession(old, create).await?;
        if let Successor { new, plan: Some(plan), .. } = &succession.successors[0] {
            self.notice_state(new, plan);
        }
        let running = succession.successors.iter().filter_map(|s| Some((&s.new, s.plan.as_ref()?)));
        let specs: Vec<ViewSpec> = running
            .map(|(new, plan)| ViewSpec {
                id: new.id,
                name: new.name.to_string(),
                plan: plan.clone(),
                discard: matches!(new.kind, ObjectKind::Sink),
                indexes: index_specs(new),
            })
            .collect();
        let ids: Vec<RelationId> = specs.iter().map(|spec| spec.id).collect();
        let mut built = Ok(());
        let running_object =
            |id: RelationId| succession.successors.iter().map(|successor| &successor.new).find(|new| new.id == id);
        for spec in specs {
            let id = spec.id;
            built = limits.guard(self.shared.runtime.create_view(spec)).await;
            if let (Ok(()), Some(new)) = (&built, running_object(id)) {
                built = self.shared.keep_history(new).await;
            }
            if built.is_err() {
                break;
            }
        }
        let shared = self.shared.clone();
        self.shared
            .uninterrupted(async move {
                let entered = match built {
                    Ok(()) => enter(&shared, succession).await,
                    Err(error) => Err(error),
                };
                if entered.is_err() {
                    ids.iter().for_each(|id| shared.builds.forget(*id));
                    // Nobody has seen them; the first error is the one to tell.
                    let _ = shared.runtime.drop_relations(ids.into_iter().rev().collect()).await;
                }
                entered
            })
            .await
    }

    /// Plans the view and all that is maintained above it over a catalog in which they have new ids; reserves them.
    async fn plan_succession(&self, old: Arc<Object>, create: &CreateMaterializedView) -> Result<Succession> {
        let read = self.bind_query(&create.query, &[])?.relations;
        self.wait_until_readable(&read).await?;
        let shared = &self.shared;
        let _lock = shared.ddl.lock().await;
        let mut catalog = shared.catalog().as_ref().clone();
        let old = match catalog.get(old.id) {
            Some(now) if Arc::ptr_eq(now, &old) && !shared.builds.is_reserved(&old.name) => old,
            _ => return Err(changed_meanwhile(&old)),
        };
        let resolver = self.resolver(Arc::new(catalog.clone()));
        let (bound, columns) = shape(bind_query(&self.state, &resolver, &create.query, &[])?, &create.columns)?;
        require_no_parameters(&bound)?;
        let depends_on = dependencies(&resolver, &bound)?;
        let mut above: Vec<Arc<Object>> = above(&catalog, &old);
        let itself = above.iter().chain([&old]).find(|object| depends_on.contains(&object.id));
        if itself.is_some() || bound.relations.contains(&old.id) {
            let message = format!("materialized view \"{}\" would read itself", old.name);
            return Err(Error::new(SqlState::INVALID_TABLE_DEFINITION, message));
        }
        if let Some(reader) = shared.builds.reserved_reader(old.id) {
            let message = format!("cannot replace \"{}\" because \"{reader}\" is being built on it", old.name);
            return Err(
                Error::new(SqlState("55006"), message).with_hint("cancel the statement that builds it, or wait")
            );
        }
        let options = view_options(create)?;
        // The late rows of the old view, which the new one's take the place of.
        let is_late = |object: &Arc<Object>| late::is_of(object, old.id);
        let old_late = above.iter().find(|object| is_late(object)).cloned();
        above.retain(|object| !is_late(object));
        require_same_columns(&old, &columns, &above)?;
        let indexes = kept_indexes(&old, &columns)?;
        let plan = lower_view(&self.state, &resolver, &bound, &options)?;
        require_effect(&options, &plan)?;
        let late_plan = match options.keeps_late_rows {
            true => Some(lower_late(&self.state, &resolver, &bound, &options)?),
            false => None,
        };
        drop(resolver);
        let gone: Vec<Arc<Object>> = old_late.iter().filter(|_| late_plan.is_none()).cloned().collect();
        for late in &gone {
            let readers = self::above(&catalog, late);
            if !readers.is_empty() {
                require_same_columns(late, &[], &readers)?;
            }
        }

        let read = depends_on.iter().chain(&bound.relations).copied();
        let held = read.chain([old.id]).chain(old_late.iter().map(|late| late.id));
        let held = held.chain(above.iter().flat_map(|o| o.depends_on.iter().copied().chain([o.id])));
        let held: Vec<RelationId> = held.collect();
        let new = Object {
            id: catalog.allocate_id(),
            name: old.name.clone(),
            kind: ObjectKind::maintained(plan.properties.key.clone(), options.clone()),
            columns,
            definition: create.query_text.clone(),
            depends_on,
            indexes,
        };
        let view_id = new.id;
        let late_depends_on = new.depends_on.clone();
        let mut next = catalog.clone();
        let mut ids = BTreeMap::from([(old.id, new.id)]);
        let mut successors = vec![];
        shared.note_plan(new.id, &plan);
        next.remove(old.id);
        next.insert(new.clone())?;
        successors.push(Successor { old: Some(old.clone()), new, plan: Some(plan) });
        for late in &gone {
            next.remove(late.id);
        }
        let mut reservations = vec![];
        if let Some(plan) = late_plan {
            let id = catalog.allocate_id();
            let view = late::Kept { view_id, id, name: late::name_of(&old.name), depends_on: late_depends_on, options };
            let new = view.object(&plan, create.query_text.clone());
            match &old_late {
                Some(old_late) => {
                    require_same_columns(old_late, &new.columns, &self::above(&catalog, old_late))?;
                    next.remove(old_late.id);
                    ids.insert(old_late.id, id);
                }
                None => {
                    require_free(shared, &catalog, &new.name)?;
                    let reserved = Reservation { name: new.name.clone(), depends_on: held.clone() };
                    reservations.push(shared.builds.reserve(id, reserved));
                }
            }
            shared.note_plan(id, &plan);
            next.insert(new.clone())?;
            successors.push(Successor { old: old_late, new, plan: Some(plan) });
        }
        for reader in above {
            let planned = succeed(shared, &mut catalog, &mut next, &mut ids, &reader);
            match planned {
                Ok(successor) => successors.push(successor),
                Err(error) => {
                    ids.values().for_each(|id| shared.builds.forget(*id));
                    return Err(unable_to_follow(&old, &reader, error));
                }
            }
        }
        let reserved = Reservation { name: old.name.clone(), depends_on: held };
        reservations.push(shared.builds.reserve(successors[0].new.id, reserved));
        // Only the next id has changed: nobody else may get these.
        shared.publish(catalog).await?;
        Ok(Succession { successors, gone, reservations })
    }
}

/// What takes the place of one reader, over the catalog to come; `ids` says who has followed whom so far.
fn succeed(
    shared: &Arc<Shared>,
    catalog: &mut Catalog,
    next: &mut Catalog,
    ids: &mut BTreeMap<RelationId, RelationId>,
    reader: &Arc<Object>,
) -> Result<Successor> {
    let mut new = reader.as_ref().clone();
    new.depends_on.iter_mut().for_each(|id| *id = ids.get(id).copied().unwrap_or(*id));
    next.remove(reader.id);
    if matches!(reader.kind, ObjectKind::View) {
        let new_object = next.insert(new.clone())?;
        check_stored_view(shared, Arc::new(next.clone()), &new_object)?;
        return Ok(Successor { old: Some(reader.clone()), new, plan: None });
    }
    let plan = plan_stored_view(shared, Arc::new(next.clone()), reader)?;
    new.id = catalog.allocate_id();
    if let ObjectKind::MaterializedView { key, late_rows_of, .. } = &mut new.kind {
        *key = plan.properties.key.clone();
        *late_rows_of = late_rows_of.map(|id| ids.get(&id).copied().unwrap_or(id));
    }
    ids.insert(reader.id, new.id);
    shared.note_plan(new.id, &plan);
    next.insert(new.clone())?;
    Ok(Successor { old: Some(reader.clone()), new, plan: Some(plan) })
}

/// Everybody changes places: durable first, then visible, then the old dataflows end.
async fn enter(shared: &Arc<Shared>, succession: Succession) -> Result<()> {
    let Succession { successors, gone, reservations } = succession;
    let _lock = shared.ddl.lock().await;
    let olds: Vec<Arc<Object>> = successors.iter().filter_map(|s| s.old.clone()).chain(gone).collect();
    let view = olds[0].clone();
    let mut catalog = shared.catalog().as_ref().clone();
    // In the order of the catalog: dependents behind.
    let now: Vec<RelationId> = above(&catalog, &view).iter().map(|object| object.id).collect();
    let then: Vec<RelationId> = olds[1..].iter().map(|old| old.id).collect();
    let same = olds.iter().all(|old| catalog.get(old.id).is_some_and(|now| Arc::ptr_eq(now, old)));
    drop(reservations);
    let is_read = olds.iter().any(|old| shared.builds.reserved_reader(old.id).is_some());
    if !same || is_read || now.iter().collect::<BTreeSet<_>>() != then.iter().collect::<BTreeSet<_>>() {
        return Err(changed_meanwhile(&view));
    }
    for old in &olds {
        catalog.remove(old.id);
    }
    let is_running =
        |old: &&Arc<Object>| !matches!(old.kind, ObjectKind::View) && shared.builds.state(old.id).is_none();
    let mut running: Vec<RelationId> = olds.iter().filter(is_running).map(|old| old.id).collect();
    running.sort_unstable();
    for successor in successors {
        require_present(&catalog, &successor.new.depends_on)?;
        let new = catalog.insert(successor.new)?;
        if let Some(old) = &successor.old {
            catalog.pass_comments_on(old, &new);
        }
    }
    shared.publish(catalog).await?;
    then.iter().chain([&view.id]).for_each(|id| shared.builds.forget(*id));
    running.reverse();
    shared.runtime.drop_relations(running).await
}

/// The old view's indexes over the new one's columns. 2BP01 if a column of one is gone or has another type.
fn kept_indexes(old: &Object, columns: &[Column]) -> Result<Vec<Index>> {
    let kept = |index: &Index| {
        let place = |&column: &usize| {
            let then = &old.columns[column];
            columns.iter().position(|now| now.name == then.name && now.pg_type == then.pg_type)
        };
        let columns: Option<Vec<usize>> = index.columns.iter().map(place).collect();
        columns.map(|columns| Index { columns, ..index.clone() }).ok_or_else(|| {
            let message = format!("cannot change a column of materialized view {} under an index", old.name);
            Error::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                .with_detail(format!("Index {} needs it.", index.name))
                .with_hint("keep the column, or drop the index first")
        })
    };
    old.indexes.iter().map(kept).collect()
}

/// What reads `view`, directly or not, each after what it reads.
fn above(catalog: &Catalog, view: &Object) -> Vec<Arc<Object>> {
    let mut order = catalog.drop_order(view.id);
    order.pop();
    order.reverse();
    order.into_iter().filter_map(|id| catalog.get(id).cloned()).collect()
}

/// 2BP01 if others read the view and its columns would change.
fn require_same_columns(old: &Object, columns: &[Column], above: &[Arc<Object>]) -> Result<()> {
    let same = |(now, then): (&Column, &Column)| now.name == then.name && now.pg_type == then.pg_type;
    let unchanged = columns.len() == old.columns.len() && columns.iter().zip(&old.columns).all(same);
    if unchanged || above.is_empty() {
        return Ok(());
    }
    let shown = |columns: &[Column]| {
        let columns: Vec<String> = columns.iter().map(|c| format!("{} {}", c.name, c.pg_type.name())).collect();
        columns.join(", ")
    };
    let readers: Vec<String> = above.iter().map(|o| format!("{} {}", o.kind_name(), o.name)).collect();
    let message = format!("cannot change the columns of materialized view {} because others read it", old.name);
    Err(Error::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
        .with_detail(format!(
            "It has ({}) and would have ({}); it is read by {}.",
            shown(&old.columns),
            shown(columns),
            readers.join(", ")
        ))
        .with_hint("keep its columns, or drop what reads it first"))
}

fn unable_to_follow(old: &Object, reader: &Object, reason: Error) -> Error {
    let message =
        format!("cannot replace materialized view {}: {} {} cannot follow", old.name, reader.kind_name(), reader.name);
    Error::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message).with_detail(reason.to_string()).with_hint(format!(
        "drop {} {} first",
        reader.kind_name(),
        reader.name
    ))
}

fn changed_meanwhile(view: &Object) -> Error {
    let message = format!("materialized view \"{}\" or what reads it was changed meanwhile", view.name);
    Error::new(SqlState("55006"), message).with_hint("try again")
}
