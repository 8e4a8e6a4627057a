//! `hw_catalog.watermarks` and `hw_catalog.late_rows`: how far event time has come, what holds it back, what came too
//! late.

use std::sync::Arc;

use arrow::array::{ArrayRef, IntervalMonthDayNanoArray, TimestampMicrosecondArray};
use arrow::datatypes::IntervalMonthDayNano;

use super::{SystemReader, count, text};
use crate::catalog::{Object, ObjectKind};
use crate::plan::{TimeColumn, Watermark, Watermarks};
use crate::types::{PgType, RelationId};

struct Row {
    relation: String,
    kind: &'static str,
    column: String,
    watermark_us: Option<i64>,
    lateness_us: Option<i64>,
    held_back_by: Option<String>,
}

/// A row for each column that follows a watermark: of sources and tables the declared one, of views what follows from it.
pub fn watermarks(reader: &SystemReader) -> Vec<ArrayRef> {
    let watermarks = reader.shared.runtime.watermarks();
    let partitions = reader.shared.runtime.source_statuses();
    let mut rows = vec![];
    for object in reader.catalog.objects() {
        let declared = match &object.kind {
            ObjectKind::Source(definition) => definition.watermark.as_ref(),
            ObjectKind::Table { watermark, .. } => watermark.as_ref(),
            ObjectKind::MaterializedView { .. } => {
                rows.extend(of_view(reader, object, &watermarks));
                continue;
            }
            _ => None,
        };
        let Some(declared) = declared else { continue };
        let status = partitions.iter().find(|status| status.id == object.id);
        // The end of time says nothing of how far the rows have come.
        let seen = status.and_then(|status| status.watermark_us);
        let partition = status.and_then(|status| status.watermark_partition.as_ref());
        rows.push(Row {
            relation: object.name.to_string(),
            kind: object.kind_name(),
            column: object.columns[declared.column].name.clone(),
            watermark_us: watermarks.get(&object.id).copied().filter(|us| *us < i64::MAX).or(seen),
            lateness_us: None,
            held_back_by: partition.map(|partition| format!("partition {partition}")),
        });
    }
    let instants: TimestampMicrosecondArray = rows.iter().map(|row| row.watermark_us).collect();
    let span = |us: i64| IntervalMonthDayNano::new(0, 0, us.saturating_mul(1_000));
    vec![
        text(rows.iter().map(|row| Some(&row.relation))),
        text(rows.iter().map(|row| Some(row.kind))),
        text(rows.iter().map(|row| Some(&row.column))),
        Arc::new(instants.with_timezone("UTC")),
        Arc::new(rows.iter().map(|row| row.lateness_us.map(span)).collect::<IntervalMonthDayNanoArray>()),
        text(rows.iter().map(|row| row.held_back_by.as_ref())),
    ]
}

fn of_view(reader: &SystemReader, object: &Object, watermarks: &Watermarks) -> Vec<Row> {
    let Some(properties) = reader.shared.builds.properties(object.id) else { return vec![] };
    let of = |relation: RelationId| watermarks.get(&relation).copied();
    let row = |time: &crate::plan::TimeColumn| {
        // The relation that has come least far; one that has told nothing has come nowhere.
        let slowest = time.watermark.relations().into_iter().min_by_key(|relation| of(*relation));
        Some(Row {
            relation: object.name.to_string(),
            kind: object.kind_name(),
            column: object.columns.get(time.column)?.name.clone(),
            watermark_us: time.closed_below(&of).filter(|us| *us < i64::MAX / 2 && is_instant(object, time)),
            lateness_us: (time.lateness_us > 0).then_some(time.lateness_us),
            held_back_by: slowest.and_then(|relation| reader.name_of(relation)),
        })
    };
    properties.times.iter().filter_map(row).collect()
}

/// Numbers that count something else than milliseconds, as `floor(extract(epoch FROM ts) / 60)` does, are no instants.
fn is_instant(object: &Object, time: &TimeColumn) -> bool {
    let is_time = |pg_type: &PgType| matches!(pg_type, PgType::Timestamp | PgType::Timestamptz | PgType::Date);
    let is_counted = matches!(time.watermark, Watermark::Mapped(..));
    object.columns.get(time.column).is_some_and(|column| is_time(&column.pg_type) || !is_counted)
}

/// A row for each view and each relation whose rows it took out as too late.
pub fn late_rows(reader: &SystemReader) -> Vec<ArrayRef> {
    let mut rows: Vec<(String, Option<String>, u64)> = vec![];
    for status in reader.shared.runtime.view_statuses() {
        let Some(view) = reader.name_of(status.id) else { continue };
        let counts = status.late_row_counts.iter();
        rows.extend(counts.map(|(relation, count)| (view.clone(), reader.name_of(*relation), *count)));
    }
    vec![
        text(rows.iter().map(|(view, ..)| Some(view))),
        text(rows.iter().map(|(_, relation, _)| relation.as_ref())),
        count(rows.iter().map(|(.., count)| *count)),
    ]
}
