//! What a start re-creates: sources at once, then materialized views and sinks in the order of their ids, each as soon as
//! what it reads is there. A view that no longer plans is shown as failed and stops nobody else.

use std::sync::Arc;

use super::builds::Build;
use super::{Shared, index_specs, source_spec};
use crate::catalog::{Catalog, Object, ObjectKind};
use crate::error::{Error, Result};
use crate::runtime::ViewSpec;
use crate::session::ddl::plan_stored_view;
use crate::types::RelationId;

/// The views that a start makes again.
pub fn maintained(catalog: &Catalog) -> impl Iterator<Item = &Arc<Object>> {
    catalog.objects().filter(|o| matches!(o.kind, ObjectKind::MaterializedView { .. } | ObjectKind::Sink))
}

pub fn start(shared: &Arc<Shared>) -> Result<()> {
    let catalog = shared.catalog();
    let sources: Vec<_> = catalog.objects().filter_map(|object| source_spec(object)).collect();
    let runtime = shared.runtime.clone();
    shared.engine.block_on(async move {
        for source in sources {
            let name = source.name.clone();
            if let Err(error) = runtime.create_source(source).await {
                // Views over it fail with a reason of their own; the server must still start.
                tracing::error!(source = name, %error, "a source could not be re-created");
            }
        }
    })?;
    let (keeping, tables) = (shared.clone(), catalog.clone());
    shared.engine.block_on(async move {
        for table in tables.objects().filter(|object| matches!(object.kind, ObjectKind::Table { .. })) {
            if let Err(error) = keeping.keep_history(table).await {
                tracing::error!(table = %table.name, %error, "a table keeps no history");
            }
        }
    })?;
    catalog.objects().for_each(|object| build_indexes(shared, object));
    let views: Vec<Arc<Object>> = maintained(&catalog).cloned().collect();
    for view in &views {
        shared.builds.start_rebuild(view.id);
    }
    let shared = shared.clone();
    shared.engine.handle().clone().spawn(async move {
        for view in views {
            rebuild(&shared, view);
        }
    });
    Ok(())
}

/// Plans now, since later views want to know this one's properties; runs when what it reads is ready.
fn rebuild(shared: &Arc<Shared>, view: Arc<Object>) {
    let plan = match plan_stored_view(shared, shared.catalog(), &view) {
        Ok(plan) => plan,
        Err(error) => return fail(shared, &view, error),
    };
    shared.note_plan(view.id, &plan);
    let (inputs, shared) = (plan.relations().into_keys().collect::<Vec<RelationId>>(), shared.clone());
    let discard = matches!(view.kind, ObjectKind::Sink);
    let spec = ViewSpec { id: view.id, name: view.name.to_string(), plan, discard, indexes: index_specs(&view) };
    shared.engine.handle().clone().spawn(async move {
        let outcome = async {
            for input in inputs {
                let name = shared.catalog().get(input).map_or_else(String::new, |o| o.name.to_string());
                shared.builds.wait(input, &name, None).await?;
            }
            shared.runtime.create_view(spec).await?;
            shared.keep_history(shared.catalog().get(view.id).unwrap_or(&view)).await
        };
        match outcome.await {
            // Dropped meanwhile: then the runtime must not keep it.
            Ok(()) if shared.catalog().get(view.id).is_none() => {
                if let Err(error) = shared.runtime.drop_relations(vec![view.id]).await {
                    tracing::warn!(view = %view.name, %error, "a view that was dropped while it was rebuilt stays");
                }
            }
            Ok(()) => {
                shared.builds.finish_rebuild(view.id, Build::Ready);
                build_indexes(&shared, &view);
            }
            Err(error) => fail(&shared, &view, error),
        }
    });
}

/// Indexes are made by whoever first looks something up; here that is nobody who waits.
fn build_indexes(shared: &Shared, object: &Object) {
    let Some(snapshot) = shared.runtime.world().snapshots.get(&object.id).cloned() else { return };
    let (indexes, name) = (object.indexes.clone(), object.name.clone());
    if indexes.is_empty() {
        return;
    }
    shared.engine.handle().spawn_blocking(move || {
        for index in indexes {
            if let Err(error) = snapshot.build_index(&index.columns) {
                tracing::error!(relation = %name, index = index.name, %error, "an index could not be built");
            }
        }
    });
}

fn fail(shared: &Shared, view: &Object, error: Error) {
    tracing::error!(view = %view.name, %error, "a view could not be re-created");
    shared.runtime.give_up_view(view.id);
    shared.builds.finish_rebuild(view.id, Build::Failed(error));
}
