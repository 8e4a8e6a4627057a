//! `hw_catalog.history`, `hw_catalog.subscriptions` and `hw_catalog.epoch`: how far back each relation can be read, what that
//! costs, and who follows what.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, IntervalMonthDayNanoArray, TimestampMicrosecondArray};
use arrow::datatypes::IntervalMonthDayNano;

use super::{SystemReader, count, text};
use crate::catalog::{Object, ObjectKind};
use crate::serve::past;
use crate::types::Moment;

/// A row for each table and materialized view that can be read.
pub fn history(reader: &SystemReader) -> Vec<ArrayRef> {
    let world = &reader.world;
    let has_rows = |o: &&Arc<Object>| matches!(o.kind, ObjectKind::Table { .. } | ObjectKind::MaterializedView { .. });
    let is_read = |o: &&Arc<Object>| world.snapshots.contains_key(&o.id);
    let objects: Vec<&Arc<Object>> = reader.catalog.objects().filter(has_rows).filter(is_read).collect();
    let since: Vec<Moment> = objects.iter().map(|o| past::since(world, o.id)).collect();
    let sizes: Vec<_> = objects.iter().map(|o| world.histories.get(&o.id).map(|history| history.size())).collect();
    let retention = objects.iter().map(|o| Some(IntervalMonthDayNano::new(0, 0, o.retention_us() * 1000)));
    let size = |pick: fn(&crate::state::history::HistorySize) -> usize| {
        count(sizes.iter().map(|size| size.as_ref().map_or(0, pick) as u64).collect::<Vec<_>>())
    };
    vec![
        text(objects.iter().map(|o| Some(o.name.to_string()))),
        text(objects.iter().map(|o| Some(o.kind_name()))),
        Arc::new(retention.collect::<IntervalMonthDayNanoArray>()),
        count(since.iter().map(|moment| moment.epoch.0).collect::<Vec<_>>()),
        instants(since.iter().map(|moment| moment.at_us)),
        count(objects.iter().map(|_| world.epoch.0).collect::<Vec<_>>()),
        instants(objects.iter().map(|_| world.at_us)),
        size(|size| size.row_count),
        size(|size| size.bytes),
        size(|size| size.subscriber_count),
    ]
}

/// A row for each subscription that is open, with the epoch up to which it has taken all changes.
pub fn subscriptions(reader: &SystemReader) -> Vec<ArrayRef> {
    let all = reader.shared.subscribers.all();
    vec![
        Arc::new(all.iter().map(|subscriber| Some(subscriber.pid)).collect::<Int32Array>()),
        text(all.iter().map(|subscriber| Some(subscriber.subject.as_str()))),
        count(all.iter().map(|subscriber| subscriber.epoch()).collect::<Vec<_>>()),
        instants(all.iter().map(|subscriber| subscriber.started_us)),
    ]
}

/// The epoch that the statement reads, and the newest that a start would go on from.
pub fn epoch(reader: &SystemReader) -> Vec<ArrayRef> {
    let checkpoint = reader.shared.runtime.checkpoint_epoch().map(|epoch| epoch.0 as i64);
    vec![
        count([reader.world.epoch.0]),
        instants([reader.world.at_us].into_iter()),
        Arc::new(Int64Array::from(vec![checkpoint])),
    ]
}

fn instants(us: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(us.map(Some).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}
