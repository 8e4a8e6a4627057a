//! Reads all that a data directory holds, and says what is wrong with it. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::Schema;

use crate::error::Result;
use crate::session::load_catalog;
use crate::state::Store;
use crate::state::checkpoint::record::{self, EngineRecord, ViewRecord};
use crate::state::codec::decode_delta;
use crate::state::store::RocksStore;
use crate::types::{Delta, RelationId};

/// What was found, in the order in which it was looked at.
#[derive(Debug)]
pub enum Finding {
    /// How much there is of something.
    Count(String),
    /// What takes room and is of no use; the next start removes it.
    Leftover(String),
    /// What a server would refuse, or answer wrongly from.
    Damage(String),
}

/// Fails if the directory cannot be opened at all; what is wrong inside of it is among the findings.
pub fn check(directory: &Path) -> Result<Vec<Finding>> {
    let store = RocksStore::open_read_only(directory)?;
    let mut findings = vec![];
    let tables = check_catalog(&store, &mut findings);
    check_tables(&store, tables.as_ref(), &mut findings);
    check_checkpoint(&store, &mut findings);
    Ok(findings)
}

/// Returns the ids of the catalog's objects.
fn check_catalog(store: &dyn Store, findings: &mut Vec<Finding>) -> Option<BTreeSet<RelationId>> {
    match load_catalog(store) {
        Ok(catalog) => {
            let ids: BTreeSet<RelationId> = catalog.objects().map(|object| object.id).collect();
            findings.push(Finding::Count(format!("catalog: {} objects", ids.len())));
            Some(ids)
        }
        Err(error) => {
            findings.push(Finding::Damage(format!("catalog: {error}")));
            None
        }
    }
}

/// The rows of each table must add up to rows that are there.
fn check_tables(store: &dyn Store, objects: Option<&BTreeSet<RelationId>>, findings: &mut Vec<Finding>) {
    let mut tables: BTreeMap<RelationId, Vec<Delta>> = BTreeMap::new();
    let scanned = store.scan(b"t", &mut |key, value| {
        let Some((id, epoch)) = key[1..].split_first_chunk::<4>().filter(|(_, epoch)| epoch.len() == 8) else {
            findings.push(Finding::Damage(format!("tables: a key of {} bytes", key.len())));
            return Ok(());
        };
        let id = RelationId(u32::from_be_bytes(*id));
        match decode_delta(value) {
            Ok(delta) => tables.entry(id).or_default().push(delta),
            Err(error) => findings.push(Finding::Damage(format!("table {}, epoch {epoch:?}: {error}", id.0))),
        }
        Ok(())
    });
    if let Err(error) = scanned {
        findings.push(Finding::Damage(format!("tables: {error}")));
    }
    for (id, deltas) in tables {
        if objects.is_some_and(|objects| !objects.contains(&id)) {
            findings.push(Finding::Leftover(format!("table {}: was dropped", id.0)));
            continue;
        }
        match sum(&deltas) {
            Ok(rows) if rows.has_retractions() => {
                findings.push(Finding::Damage(format!("table {}: rows are taken back that are not there", id.0)));
            }
            Ok(rows) => findings.push(Finding::Count(format!(
                "table {}: {} rows in {} deltas",
                id.0,
                rows.row_count(),
                deltas.len()
            ))),
            Err(error) => findings.push(Finding::Damage(format!("table {}: {error}", id.0))),
        }
    }
}

fn sum(deltas: &[Delta]) -> Result<Delta> {
    // Older deltas may lack columns that a table has got since.
    let widest = deltas.iter().max_by_key(|delta| delta.batch().num_columns());
    let Some(widest) = widest else {
        return Ok(Delta::insert(arrow::array::RecordBatch::new_empty(Arc::new(Schema::empty()))));
    };
    Ok(Delta::concat(&widest.schema(), deltas)?.consolidate()?)
}

/// Every block of every view's state must be what was written, and a view's rows must be rows that are there.
fn check_checkpoint(store: &dyn Store, findings: &mut Vec<Finding>) {
    match store
        .get(record::ENGINE_KEY)
        .and_then(|bytes| bytes.map(|bytes| record::read::<EngineRecord>("the engine", &bytes)).transpose())
    {
        Ok(Some(engine)) => findings.push(Finding::Count(format!(
            "checkpoint: epoch {}, {} sources",
            engine.epoch,
            engine.sources.len()
        ))),
        Ok(None) => findings.push(Finding::Count("checkpoint: none".into())),
        Err(error) => findings.push(Finding::Damage(format!("checkpoint: {error}"))),
    }
    let mut live = BTreeMap::new();
    let mut views: Vec<(u32, ViewRecord)> = vec![];
    let scanned = store.scan(record::VIEWS_PREFIX, &mut |key, bytes| {
        let id = key[record::VIEWS_PREFIX.len()..].try_into().map_or(0, u32::from_be_bytes);
        match record::read::<ViewRecord>("a view", bytes) {
            Ok(view) => views.push((id, view)),
            Err(error) => findings.push(Finding::Damage(format!("view {id}: {error}"))),
        }
        Ok(())
    });
    if let Err(error) = scanned {
        findings.push(Finding::Damage(format!("checkpoint: {error}")));
    }
    for (id, view) in views {
        let (mut row_count, mut damage_count) = (0, 0);
        for collection in &view.collections {
            collection.count_bytes(&mut live);
            match collection.read(store) {
                Ok(rows) => row_count += rows.iter().map(Delta::row_count).sum::<usize>(),
                Err(error) => {
                    damage_count += 1;
                    findings.push(Finding::Damage(format!("view {id}, {:?}: {error}", collection.place)));
                }
            }
        }
        if damage_count == 0 {
            let state = if view.is_complete { "complete" } else { "not complete: it will be computed again" };
            findings.push(Finding::Count(format!(
                "view {id}: {row_count} rows of state in {} collections, {state}",
                view.collections.len()
            )));
        }
    }
    match store.segments() {
        Ok(segments) => {
            let unused: Vec<_> = segments.iter().filter(|(number, _)| !live.contains_key(number)).collect();
            let bytes: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
            findings.push(Finding::Count(format!("segments: {} of {bytes} bytes", segments.len())));
            if !unused.is_empty() {
                let bytes: u64 = unused.iter().map(|(_, bytes)| bytes).sum();
                findings.push(Finding::Leftover(format!("{} segments of {bytes} bytes", unused.len())));
            }
        }
        Err(error) => findings.push(Finding::Damage(format!("segments: {error}"))),
    }
}
