//! WITH (…) and EMIT of a materialized view: how it treats event time. WITH (…) of a table. Retention of both.

use std::collections::BTreeMap;

use datafusion::common::ScalarValue;

use crate::catalog::ViewOptions;
use crate::error::{Error, Result, SqlState};
use crate::plan::{LateRows, StreamNode, StreamPlan};
use crate::sql::CreateMaterializedView;
use crate::types::PgType;
use crate::types::text_input::parse_text;

/// 22023 for an option or a value that is not known.
pub fn view_options(create: &CreateMaterializedView) -> Result<ViewOptions> {
    let mut options = ViewOptions { emit_on_window_close: create.emit_on_window_close, ..ViewOptions::default() };
    let wrong =
        |message: String, hint: &str| Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message).with_hint(hint));
    let given: &BTreeMap<String, String> = &create.options;
    for (name, value) in given {
        match name.as_str() {
            "allowed_lateness" => {
                let hint = "write a span of fixed length, as in allowed_lateness = '5 minutes'";
                match fixed_us(value) {
                    Some(us) if us >= 0 => options.allowed_lateness_us = us,
                    _ => return wrong(format!("invalid value for option \"allowed_lateness\": \"{value}\""), hint),
                }
            }
            "late_rows" => match value.to_ascii_lowercase().as_str() {
                "drop" => {}
                "keep" => options.keeps_late_rows = true,
                _ => {
                    let message = format!("invalid value for option \"late_rows\": \"{value}\"");
                    return wrong(message, "drop (counted in hw_catalog.late_rows) or keep (readable as <view>_late)");
                }
            },
            "late_rows_retention" => match fixed_us(value) {
                Some(us) if us > 0 => options.late_rows_retention_us = Some(us),
                _ => {
                    let message = format!("invalid value for option \"late_rows_retention\": \"{value}\"");
                    return wrong(message, "write a span of fixed length, as in late_rows_retention = '1 day'");
                }
            },
            "retention" => options.retention_us = retention_us(value)?,
            _ => {
                let hint = "known options: allowed_lateness, late_rows, late_rows_retention, retention";
                return wrong(format!("unknown option \"{name}\""), hint);
            }
        }
    }
    if options.late_rows_retention_us.is_some() && !options.keeps_late_rows {
        let hint = "add late_rows = 'keep': rows that are dropped are not kept for any time";
        return wrong("option \"late_rows_retention\" needs late_rows = 'keep'".to_string(), hint);
    }
    Ok(options)
}

/// The retention of a table. 22023 for an option or a value that is not known.
pub fn table_retention_us(options: &BTreeMap<String, String>) -> Result<i64> {
    if let Some(stranger) = options.keys().find(|name| *name != "retention") {
        let message = format!("unknown option \"{stranger}\"");
        return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message).with_hint("known options: retention"));
    }
    options.get("retention").map_or(Ok(0), |value| retention_us(value))
}

/// 22023 if it is no span of time.
pub fn retention_us(value: &str) -> Result<i64> {
    match fixed_us(value) {
        Some(us) if us >= 0 => Ok(us),
        _ => {
            let message = format!("invalid value for option \"retention\": \"{value}\"");
            Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message)
                .with_hint("write a span of fixed length, as in retention = '1 hour'; '0' keeps nothing"))
        }
    }
}

/// An interval without months, in microseconds.
pub fn fixed_us(text: &str) -> Option<i64> {
    match parse_text(text, &PgType::Interval, chrono_tz::UTC).ok()? {
        ScalarValue::IntervalMonthDayNano(Some(span)) if span.months == 0 => {
            Some(i64::from(span.days) * 86_400_000_000 + span.nanoseconds / 1_000)
        }
        _ => None,
    }
}

/// 22023 if the options would have no effect: no row of the plan can be late.
pub fn require_effect(options: &ViewOptions, plan: &StreamPlan) -> Result<()> {
    let takes_out = |part: &&StreamPlan| match &part.node {
        StreamNode::Late { late, .. } => late.rows == LateRows::Drop,
        StreamNode::SlicedAggregate { slices, .. } => slices.takes_late,
        _ => false,
    };
    let has_effect = plan.preorder().iter().any(takes_out);
    if has_effect || (options.allowed_lateness_us == 0 && !options.keeps_late_rows) {
        return Ok(());
    }
    let option = if options.keeps_late_rows { "late_rows" } else { "allowed_lateness" };
    let message = format!("option \"{option}\" has no effect: no row can be late for this query");
    Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message).with_hint(
        "it takes groups by a window (window_start, window_end, date_trunc) over a column with a WATERMARK that \
         late rows can still reach",
    ))
}
