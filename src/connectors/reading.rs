//! `WITH` options that any source takes, whatever its connector: how fast it is replayed or read at most, and when a
//! silent partition no longer holds the watermark back.

use std::num::NonZeroU64;
use std::time::Duration;

use arrow::datatypes::{DataType, Schema};

use super::Options;
use super::options::invalid;
use crate::error::{Error, Result, SqlState};

/// Silence after which a partition is left out of the watermark.
const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// `None`: as fast as the rows are taken.
    pub replay: Option<Replay>,
    /// `watermark.idle.timeout`; `None` (`'none'`): a silent partition holds the watermark back for ever.
    pub idle_timeout: Option<Duration>,
    /// `watermark.max.ahead`: a row whose time is further ahead of the clock on the wall is no row, but an error, and
    /// moves no watermark. `None`: any time is taken.
    pub ahead_max: Option<Duration>,
    /// [`RATE_LIMIT`]: so many rows a second go into epochs; `None`: as many as can be.
    pub rate_limit: Option<NonZeroU64>,
}

/// The option that limits a source to so many rows a second; it can be changed later.
pub const RATE_LIMIT: &str = "source_rate_limit";

/// Rows a second; `None` for `'none'`. 22023 for anything else than a whole number above 0.
pub fn rate_limit(text: &str) -> Result<Option<NonZeroU64>> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        invalid(RATE_LIMIT, text, "it takes a whole number of rows a second above 0; 'none' for as many as there are")
    })
}

/// A pace for what was recorded before.
#[derive(Clone, Debug, PartialEq)]
pub enum Replay {
    /// `replay.time_column` and `replay.speed`: so many seconds of the column's time in each second. The first row sets
    /// the clock; a row that is older than what has passed comes at once.
    EventTime { column: usize, speed: f64 },
    /// `replay.rate`: so many rows a second.
    Rate { rows_per_s: f64 },
}

impl Reading {
    /// 22023, 42703 or 42804 if the options do not fit each other or the columns.
    pub fn parse(options: &Options, schema: &Schema) -> Result<Reading> {
        let positive = |key: &str| {
            let value = options.parse::<f64>(key, "a number")?;
            match value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                Some(value) => Err(invalid(key, &value.to_string(), "it takes a number above 0")),
                None => Ok(value),
            }
        };
        let (rate, speed) = (positive("replay.rate")?, positive("replay.speed")?);
        let replay = match (options.get("replay.time_column"), rate) {
            (Some(_), Some(_)) => {
                let message = "replay.rate and replay.time_column exclude each other";
                return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
            (Some(name), None) => {
                Some(Replay::EventTime { column: time_column(schema, name)?, speed: speed.unwrap_or(1.0) })
            }
            (None, _) if speed.is_some() => {
                let message = "replay.speed needs replay.time_column";
                return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
            (None, rate) => rate.map(|rows_per_s| Replay::Rate { rows_per_s }),
        };
        let key = "watermark.idle.timeout";
        let idle_timeout = match options.get(key) {
            None => Some(IDLE_TIMEOUT_DEFAULT),
            Some(text) if text.eq_ignore_ascii_case("none") => None,
            Some(text) => Some(duration(text).ok_or_else(|| {
                invalid(key, text, "write it as '30 seconds', '500 ms' or '2 minutes'; 'none' to wait for ever")
            })?),
        };
        let key = "watermark.max.ahead";
        let ahead_max = match options.get(key) {
            None => None,
            Some(text) => Some(
                duration(text).ok_or_else(|| invalid(key, text, "write it as '1 hour', '30 seconds' or '500 ms'"))?,
            ),
        };
        let rate_limit = options.get(RATE_LIMIT).map_or(Ok(None), rate_limit)?;
        Ok(Reading { replay, idle_timeout, ahead_max, rate_limit })
    }
}

fn time_column(schema: &Schema, name: &str) -> Result<usize> {
    let Some((column, field)) = schema.column_with_name(name) else {
        return Err(Error::new(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"))
            .with_hint("replay.time_column names a column of the source"));
    };
    match field.data_type() {
        DataType::Timestamp(..) => Ok(column),
        _ => Err(Error::new(SqlState::DATATYPE_MISMATCH, format!("column \"{name}\" is no timestamp"))
            .with_hint("replay.time_column takes a timestamp or timestamptz column")),
    }
}

/// A number and a unit; seconds without one.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_start = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_start);
    let unit_s = match unit.trim().to_ascii_lowercase().as_str() {
        "ms" | "millisecond" | "milliseconds" => 0.001,
        "" | "s" | "sec" | "second" | "seconds" => 1.0,
        "min" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit_s).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::types::PgType;

    fn parse(options: &[(&str, &str)]) -> Result<Reading> {
        let schema = Schema::new(vec![PgType::Timestamptz.field("ts", true), PgType::Text.field("t", true)]);
        let values: BTreeMap<_, _> = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Reading::parse(&Options::new(values), &schema)
    }

    #[test]
    fn options_fit_each_other() {
        let reading = parse(&[("replay.time_column", "ts"), ("replay.speed", "3600")]).expect("valid");
        assert_eq!(reading.replay, Some(Replay::EventTime { column: 0, speed: 3600.0 }));
        assert_eq!(reading.idle_timeout, Some(Duration::from_secs(30)));
        assert_eq!(parse(&[("replay.rate", "10")]).expect("valid").replay, Some(Replay::Rate { rows_per_s: 10.0 }));
        let timeout = |text| parse(&[("watermark.idle.timeout", text)]).map(|reading| reading.idle_timeout);
        assert_eq!(timeout("500 ms").expect("valid"), Some(Duration::from_millis(500)));
        assert_eq!(timeout("none").expect("valid"), None);
        let code = |options: &[(&str, &str)]| parse(options).expect_err("refused").code.0;
        assert_eq!(code(&[("watermark.idle.timeout", "soon")]), "22023");
        let ahead = |text| parse(&[("watermark.max.ahead", text)]).map(|reading| reading.ahead_max);
        assert_eq!(ahead("2 minutes").expect("valid"), Some(Duration::from_secs(120)));
        assert_eq!(code(&[("watermark.max.ahead", "far")]), "22023");
        let limit = |text| parse(&[(RATE_LIMIT, text)]).map(|reading| reading.rate_limit);
        assert_eq!(limit("1000").expect("valid"), NonZeroU64::new(1000));
        assert_eq!(limit("None").expect("valid"), None);
        for text in ["0", "-1", "1.5", "fast", "", "99999999999999999999"] {
            assert_eq!(limit(text).expect_err("refused").code.0, "22023", "{text}");
        }
        assert_eq!(code(&[("replay.speed", "2")]), "22023");
        assert_eq!(code(&[("replay.rate", "-1")]), "22023");
        assert_eq!(code(&[("replay.rate", "1"), ("replay.time_column", "ts")]), "22023");
        assert_eq!(code(&[("replay.time_column", "x")]), "42703");
        assert_eq!(code(&[("replay.time_column", "t")]), "42804");
    }
}
