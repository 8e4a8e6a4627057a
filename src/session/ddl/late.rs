//! `<view>_late`: the rows that a view took out because they came too late, as a relation of their own.
//!
//! It is a maintained view too, over what the view reads: whether a row is late depends on nothing but the row and the
//! watermark when it came, so both say the same of each row. It comes and goes with its view.

use super::Session;
use super::view::{Maintained, dependencies};
use crate::catalog::{Column, Object, ObjectKind, QualifiedName, ViewOptions};
use crate::error::Result;
use crate::plan::StreamPlan;
use crate::session::limits::Limits;
use crate::session::shared::builds::Reservation;
use crate::sql::CreateMaterializedView;
use crate::sql::lower::lower_late;
use crate::types::{PgType, RelationId};

/// What the relation of a view's late rows is called.
pub fn name_of(view: &QualifiedName) -> QualifiedName {
    QualifiedName { schema: view.schema.clone(), name: format!("{}_late", view.name) }
}

/// Whether the object holds the late rows of the view.
pub(super) fn is_of(object: &Object, view: RelationId) -> bool {
    matches!(object.kind, ObjectKind::MaterializedView { late_rows_of: Some(owner), .. } if owner == view)
}

/// The late rows of a view, to be kept.
pub(super) struct Kept {
    pub view_id: RelationId,
    pub id: RelationId,
    pub name: QualifiedName,
    /// What the view reads.
    pub depends_on: Vec<RelationId>,
    pub options: ViewOptions,
}

impl Kept {
    pub fn object(self, plan: &StreamPlan, definition: String) -> Object {
        let column = |field: &arrow::datatypes::FieldRef| Column {
            name: field.name().clone(),
            pg_type: PgType::of(field),
            nullable: true,
            default: None,
        };
        let Kept { view_id, id, name, mut depends_on, options } = self;
        depends_on.push(view_id);
        let key = plan.properties.key.clone();
        Object {
            id,
            name,
            kind: ObjectKind::MaterializedView { key, options, late_rows_of: Some(view_id) },
            columns: plan.schema.fields().iter().map(column).collect(),
            definition,
            depends_on,
            indexes: vec![],
        }
    }
}

impl Session {
    /// Adds the late rows' relation to a view that has just been built; without it the view goes again.
    pub(super) async fn keep_late_rows(
        &self,
        view: &Object,
        create: &CreateMaterializedView,
        limits: &mut Limits,
    ) -> Result<()> {
        let kept = match self.plan_late_rows(view, create).await {
            Ok(maintained) => self.build(maintained, limits).await,
            Err(error) => Err(error),
        };
        if kept.is_err() {
            let shared = self.shared.clone();
            let ids = vec![view.id];
            // The first error is the one to tell.
            let _ = self
                .shared
                .uninterrupted(async move { super::drop::drop_together(&shared, ids, vec![], false).await })
                .await;
        }
        kept
    }

    async fn plan_late_rows(&self, view: &Object, create: &CreateMaterializedView) -> Result<Maintained> {
        let _lock = self.shared.ddl.lock().await;
        let mut catalog = self.shared.catalog().as_ref().clone();
        let name = name_of(&view.name);
        super::require_free(&self.shared, &catalog, &name)?;
        let resolver = self.resolver(std::sync::Arc::new(catalog.clone()));
        let bound = crate::sql::bind::bind_query(&self.state, &resolver, &create.query, &[])?;
        let ObjectKind::MaterializedView { options, .. } = &view.kind else {
            return Err(crate::error::Error::internal("late rows of something that is no view"));
        };
        let plan = lower_late(&self.state, &resolver, &bound, options)?;
        let kept = Kept {
            view_id: view.id,
            id: catalog.allocate_id(),
            name: name.clone(),
            depends_on: dependencies(&resolver, &bound)?,
            options: options.clone(),
        };
        let object = kept.object(&plan, create.query_text.clone());
        let read = object.depends_on.iter().chain(&bound.relations).copied().collect();
        let reservation = self.shared.builds.reserve(object.id, Reservation { name, depends_on: read });
        drop(resolver);
        // Only the next id has changed: nobody else may get this one.
        self.shared.publish(catalog).await?;
        Ok(Maintained { object, plan, reservation })
    }
}
