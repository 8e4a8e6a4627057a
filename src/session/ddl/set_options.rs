//! ALTER … SET (…) and RESET (…): for how long it is known what a table or view was, how fast a source is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Session;
use super::alter::table_definition;
use super::options::retention_us;
use crate::catalog::{Object, ObjectKind};
use crate::connectors::{RATE_LIMIT, rate_limit};
use crate::error::{Error, Result, SqlState};
use crate::sql::with_option::with_option;
use crate::types::RelationId;

impl Session {
    /// 22023 for an option or value that is not known, 0A000 for a relation that keeps no rows of its own.
    pub(super) async fn set_options(
        &mut self,
        object: &Arc<Object>,
        options: &BTreeMap<String, Option<String>>,
    ) -> Result<()> {
        if matches!(object.kind, ObjectKind::Source(_)) && !options.contains_key("retention") {
            return self.limit_source(object.id, options).await;
        }
        if let Some(stranger) = options.keys().find(|name| *name != "retention") {
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("unknown option \"{stranger}\""))
                .with_hint("known options: retention"));
        }
        let given = options.get("retention").cloned().flatten();
        let us = given.map_or(Ok(0), |value| retention_us(&value))?;
        if !matches!(object.kind, ObjectKind::Table { .. } | ObjectKind::MaterializedView { .. }) {
            return Err(Error::unsupported(
                format!("retention of a {}", object.kind_name()),
                "it keeps no rows; set it for a table, or for a materialized view over it",
            ));
        }
        let (shared, id) = (self.shared.clone(), object.id);
        let change = async move {
            let _lock = shared.ddl.lock().await;
            let mut catalog = shared.catalog().as_ref().clone();
            let gone = || Error::new(SqlState::UNDEFINED_TABLE, "the relation was dropped meanwhile");
            let mut object = catalog.get(id).ok_or_else(gone)?.as_ref().clone();
            match &mut object.kind {
                ObjectKind::Table { retention_us, .. } => {
                    *retention_us = us;
                    object.definition = table_definition(&object);
                }
                ObjectKind::MaterializedView { options, .. } => options.retention_us = us,
                _ => return Err(gone()),
            }
            catalog.update(vec![object])?;
            shared.publish(catalog).await?;
            match shared.runtime.set_retention(id, us).await {
                // It is being built again, and takes the new retention when it is there.
                Err(error) if error.code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE => Ok(()),
                set => set,
            }
        };
        self.shared.uninterrupted(change).await
    }

    /// Survives a restart, as the source's other options do. 22023 for an option or value that is not known.
    async fn limit_source(&mut self, id: RelationId, options: &BTreeMap<String, Option<String>>) -> Result<()> {
        if let Some(stranger) = options.keys().find(|name| *name != RATE_LIMIT) {
            let message = format!("option \"{stranger}\" of a source cannot be changed");
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
                .with_hint(format!("{RATE_LIMIT} can; for another one, create a second source and swap the two")));
        }
        let given = options.get(RATE_LIMIT).cloned().flatten();
        let rows_per_s = given.as_deref().map_or(Ok(None), rate_limit)?;
        let shared = self.shared.clone();
        let change = async move {
            let _lock = shared.ddl.lock().await;
            let mut after = shared.catalog().as_ref().clone();
            let gone = || Error::new(SqlState::UNDEFINED_TABLE, "the source was dropped meanwhile");
            let mut object = after.get(id).ok_or_else(gone)?.as_ref().clone();
            let ObjectKind::Source(definition) = &mut object.kind else { return Err(gone()) };
            match &given {
                Some(value) => definition.options.insert(RATE_LIMIT.to_string(), value.clone()),
                None => definition.options.remove(RATE_LIMIT),
            };
            object.definition = with_option(&object.definition, RATE_LIMIT, given.as_deref())?;
            after.update(vec![object])?;
            shared.publish(after).await?;
            shared.runtime.limit_source(id, rows_per_s).await
        };
        self.shared.uninterrupted(change).await
    }
}
