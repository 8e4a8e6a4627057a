//! DROP: RESTRICT says who depends on it, CASCADE takes them along and says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Session;
use crate::catalog::{Catalog, Object, ObjectKind};
use crate::error::{Error, Result, SqlState};
use crate::session::resolver::undefined;
use crate::session::shared::Shared;
use crate::sql::{DropKind, Name};
use crate::types::RelationId;

impl Session {
    pub(super) async fn drop_objects(
        &mut self,
        kind: DropKind,
        names: &[Name],
        if_exists: bool,
        cascade: bool,
    ) -> Result<&'static str> {
        let (_, tag) = describe(kind);
        let catalog = self.shared.catalog();
        let (mut ids, mut schemas) = (vec![], vec![]);
        for name in names {
            let missing = if kind == DropKind::Schema {
                if catalog.has_schema(&name.name) {
                    schemas.push(name.name.clone());
                    continue;
                }
                Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{}\" does not exist", name.name))
            } else {
                let found = self.resolver(catalog.clone()).find(name.schema.as_deref(), &name.name).cloned();
                match found {
                    Some(object) => {
                        require_kind(&object, kind)?;
                        ids.push(object.id);
                        continue;
                    }
                    None => undefined(name, describe(kind).0),
                }
            };
            if !if_exists {
                return Err(missing);
            }
            self.notice(SqlState("00000"), format!("{}, skipping", missing.message));
        }
        let shared = self.shared.clone();
        let (dropped, notice) =
            self.shared.uninterrupted(async move { drop_together(&shared, ids, schemas, cascade).await }).await?;
        if let Some(notice) = notice {
            self.notices.push(super::super::Notice { severity: "NOTICE", error: notice });
        }
        self.transaction.forget(&dropped);
        Ok(tag)
    }
}

/// What went, and what to tell of those that were not named.
pub(super) async fn drop_together(
    shared: &Arc<Shared>,
    ids: Vec<RelationId>,
    schemas: Vec<String>,
    cascade: bool,
) -> Result<(Vec<RelationId>, Option<Error>)> {
    let _lock = shared.ddl.lock().await;
    let mut catalog = shared.catalog().as_ref().clone();
    let plan = DropPlan::new(&catalog, ids, &schemas);
    plan.require_owners(&catalog)?;
    if !cascade {
        plan.require_no_others(&catalog, &schemas)?;
    }
    for id in &plan.order {
        if let Some(reader) = shared.builds.reserved_reader(*id) {
            let name = catalog.get(*id).map_or_else(String::new, |o| describe_object(o));
            let message = format!("cannot drop {name} because \"{reader}\" is being built on it");
            return Err(
                Error::new(SqlState("55006"), message).with_hint("cancel the statement that builds it, or wait")
            );
        }
    }
    if let Some(schema) = schemas.iter().find(|schema| shared.builds.is_schema_reserved(schema)) {
        let message = format!("cannot drop schema {schema} because a view is being built in it");
        return Err(Error::new(SqlState("55006"), message).with_hint("cancel the statement that builds it, or wait"));
    }
    let notice = plan.notice(&catalog);
    let mut running = vec![];
    for id in &plan.order {
        let Some(object) = catalog.remove(*id) else { continue };
        // A plain view runs nowhere; one that is being rebuilt is dropped by its rebuild, one that failed never ran.
        if !matches!(object.kind, ObjectKind::View) && shared.builds.state(*id).is_none() {
            running.push(*id);
        }
    }
    for schema in &schemas {
        catalog.drop_schema(schema)?;
    }
    shared.publish(catalog).await?;
    plan.order.iter().for_each(|id| shared.builds.forget(*id));
    if !running.is_empty() {
        shared.runtime.drop_relations(running).await?;
    }
    Ok((plan.order, notice))
}

struct DropPlan {
    /// Dependents before what they read.
    order: Vec<RelationId>,
    /// Those of `order` that were not named.
    others: Vec<RelationId>,
}

impl DropPlan {
    fn new(catalog: &Catalog, ids: Vec<RelationId>, schemas: &[String]) -> DropPlan {
        let named: BTreeSet<RelationId> = ids.into_iter().collect();
        let in_schemas = catalog.objects().filter(|o| schemas.contains(&o.name.schema)).map(|o| o.id);
        let roots: BTreeSet<RelationId> = named.iter().copied().chain(in_schemas).collect();
        let mut order: Vec<RelationId> = vec![];
        for root in roots {
            for id in catalog.drop_order(root) {
                if !order.contains(&id) {
                    order.push(id);
                }
            }
        }
        // Late rows go with their view as if they had been named with it.
        let is_named = |id: &RelationId| {
            let owner = catalog.get(*id).and_then(|object| late_rows_of(object));
            named.contains(id) || owner.is_some_and(|owner| named.contains(&owner))
        };
        let others = order.iter().copied().filter(|id| !is_named(id)).collect();
        DropPlan { order, others }
    }

    /// 2BP01 if late rows were to go and their view to stay.
    fn require_owners(&self, catalog: &Catalog) -> Result<()> {
        for object in self.order.iter().filter_map(|id| catalog.get(*id)) {
            if let Some(owner) = late_rows_of(object).filter(|owner| !self.order.contains(owner)) {
                let owner = catalog.get(owner).map_or_else(String::new, |owner| describe_object(owner));
                let message = format!("cannot drop {} because {owner} requires it", describe_object(object));
                return Err(Error::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
                    .with_hint(format!("You can drop {owner} instead.")));
            }
        }
        Ok(())
    }

    /// 2BP01 naming who depends on what.
    fn require_no_others(&self, catalog: &Catalog, schemas: &[String]) -> Result<()> {
        if self.others.is_empty() {
            return Ok(());
        }
        let mut details: Vec<String> = vec![];
        let mut subject = None;
        for other in self.others.iter().rev().filter_map(|id| catalog.get(*id)) {
            if schemas.contains(&other.name.schema) {
                let schema = format!("schema {}", other.name.schema);
                details.push(format!("{} depends on {schema}", describe_object(other)));
                subject.get_or_insert(schema);
            }
            for read in other.depends_on.iter().filter(|id| self.order.contains(id)).filter_map(|id| catalog.get(*id)) {
                details.push(format!("{} depends on {}", describe_object(other), describe_object(read)));
                if !self.others.contains(&read.id) {
                    subject.get_or_insert(describe_object(read));
                }
            }
        }
        let subject = subject.unwrap_or_else(|| "it".to_string());
        Err(Error::new(
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            format!("cannot drop {subject} because other objects depend on it"),
        )
        .with_detail(details.join("\n"))
        .with_hint("Use DROP ... CASCADE to drop the dependent objects too."))
    }

    fn notice(&self, catalog: &Catalog) -> Option<Error> {
        let gone: Vec<String> = self
            .others
            .iter()
            .rev()
            .filter_map(|id| catalog.get(*id))
            .map(|object| format!("drop cascades to {}", describe_object(object)))
            .collect();
        let message = |text: String| Error::new(SqlState("00000"), text);
        match gone.as_slice() {
            [] => None,
            [only] => Some(message(only.clone())),
            many => {
                Some(message(format!("drop cascades to {} other objects", many.len())).with_detail(many.join("\n")))
            }
        }
    }
}

/// The view whose late rows the object holds.
fn late_rows_of(object: &Object) -> Option<RelationId> {
    match &object.kind {
        ObjectKind::MaterializedView { late_rows_of, .. } => *late_rows_of,
        _ => None,
    }
}

fn describe_object(object: &Object) -> String {
    format!("{} {}", object.kind_name(), object.name)
}

/// What messages call it, and the command tag.
fn describe(kind: DropKind) -> (&'static str, &'static str) {
    match kind {
        DropKind::Table => ("table", "DROP TABLE"),
        DropKind::Source => ("source", "DROP SOURCE"),
        DropKind::View => ("view", "DROP VIEW"),
        DropKind::MaterializedView => ("materialized view", "DROP MATERIALIZED VIEW"),
        DropKind::Sink => ("sink", "DROP SINK"),
        DropKind::Schema => ("schema", "DROP SCHEMA"),
        DropKind::Index => ("index", "DROP INDEX"),
    }
}

/// 42809 with the right command in the hint.
pub(super) fn require_kind(object: &Object, kind: DropKind) -> Result<()> {
    let wanted = describe(kind).0;
    let actual = object.kind_name();
    if actual == wanted {
        return Ok(());
    }
    Err(Error::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{}\" is not a {wanted}", object.name.name))
        .with_hint(format!("Use DROP {} to remove a {actual}.", actual.to_uppercase())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::QualifiedName;

    fn catalog() -> Result<(Catalog, [RelationId; 3])> {
        let mut catalog = Catalog::default();
        let mut add = |name: &str, kind, depends_on| -> Result<RelationId> {
            let id = catalog.allocate_id();
            let name = QualifiedName { schema: "public".into(), name: name.into() };
            catalog.insert(Object {
                id,
                name,
                kind,
                columns: vec![],
                definition: String::new(),
                depends_on,
                indexes: vec![],
            })?;
            Ok(id)
        };
        let t = add("t", ObjectKind::table(vec![]), vec![])?;
        let v = add("v", ObjectKind::View, vec![t])?;
        let m = add("m", ObjectKind::maintained(None, crate::catalog::ViewOptions::default()), vec![v])?;
        Ok((catalog, [t, v, m]))
    }

    #[test]
    fn restrict_names_all_dependents() -> Result<()> {
        let (catalog, [t, v, m]) = catalog()?;
        let error = DropPlan::new(&catalog, vec![t], &[]).require_no_others(&catalog, &[]).expect_err("v reads t");
        assert_eq!(error.message, "cannot drop table t because other objects depend on it");
        assert_eq!(error.detail.as_deref(), Some("view v depends on table t\nmaterialized view m depends on view v"));
        assert_eq!(error.hint.as_deref(), Some("Use DROP ... CASCADE to drop the dependent objects too."));
        DropPlan::new(&catalog, vec![t, v, m], &[]).require_no_others(&catalog, &[])
    }

    #[test]
    fn cascade_tells_what_went_along() -> Result<()> {
        let (catalog, [t, v, m]) = catalog()?;
        let plan = DropPlan::new(&catalog, vec![t], &[]);
        assert_eq!(plan.order, [m, v, t]);
        let notice = plan.notice(&catalog).expect("two went along");
        assert_eq!(notice.message, "drop cascades to 2 other objects");
        assert_eq!(notice.detail.as_deref(), Some("drop cascades to view v\ndrop cascades to materialized view m"));
        let notice = DropPlan::new(&catalog, vec![v], &[]).notice(&catalog).expect("one went along");
        assert_eq!(notice.message, "drop cascades to materialized view m");
        Ok(())
    }

    #[test]
    fn the_wrong_kind_gets_the_right_command() -> Result<()> {
        let (catalog, [_, v, _]) = catalog()?;
        let view = catalog.get(v).expect("it was added");
        let error = require_kind(view, DropKind::Table).expect_err("a view is no table");
        assert_eq!(error.message, "\"v\" is not a table");
        assert_eq!(error.hint.as_deref(), Some("Use DROP VIEW to remove a view."));
        Ok(())
    }
}
