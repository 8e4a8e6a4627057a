//! Dates, times and intervals, counted as Postgres counts them.

use arrow::datatypes::IntervalMonthDayNano;
use chrono_tz::Tz;

use super::invalid;
use super::scalar::{Decimal, Function, Kernel, Row, Type, function, overload};
use crate::error::{Error, Result, SqlState};
use crate::types::datetime::{civil_from_days, days_from_civil, days_in_month, utc_offset_s};
use crate::types::datetime_input::{offset_of_local, zone_named};

use Type::{Date, Float8, Int4, Interval, Text, Time, Timestamp, Timestamptz};

pub(super) const DAY_US: i64 = 86_400_000_000;

/// 22008.
pub(super) fn out_of_range() -> Error {
    Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "timestamp out of range")
}

/// The clock on the wall in the zone.
pub(super) fn to_local(instant_us: i64, zone: Tz) -> i64 {
    instant_us.saturating_add(i64::from(utc_offset_s(zone, instant_us)) * 1_000_000)
}

/// The instant at which the clock on the wall shows this.
pub(super) fn to_instant(local_us: i64, zone: Tz) -> i64 {
    local_us.saturating_sub(i64::from(offset_of_local(zone, local_us)) * 1_000_000)
}

/// Months by the calendar (31 January + 1 month is the last of February), then days on the wall clock, then time.
pub(super) fn add_interval(instant_us: i64, step: IntervalMonthDayNano, zone: Tz) -> Result<i64> {
    let time_us = step.nanoseconds / 1_000;
    if step.months == 0 && step.days == 0 {
        return instant_us.checked_add(time_us).ok_or_else(out_of_range);
    }
    let local = to_local(instant_us, zone);
    let (mut days, time) = (local.div_euclid(DAY_US), local.rem_euclid(DAY_US));
    if step.months != 0 {
        let (year, month, day) = civil_from_days(days);
        let months = year * 12 + i64::from(month) - 1 + i64::from(step.months);
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) as u32 + 1);
        days = days_from_civil(year, month, day.min(days_in_month(year, month)));
    }
    days += i64::from(step.days);
    let local = days.checked_mul(DAY_US).and_then(|us| us.checked_add(time)).ok_or_else(out_of_range)?;
    to_instant(local, zone).checked_add(time_us).ok_or_else(out_of_range)
}

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        "age",
        &[
            overload(
                &[Timestamp, Timestamp],
                Kernel::Interval(|row| Ok(Some(age(row.timestamp(0), row.timestamp(1))))),
            ),
            overload(
                &[Timestamptz, Timestamptz],
                Kernel::Interval(|row| {
                    Ok(Some(age(to_local(row.timestamp(0), row.zone), to_local(row.timestamp(1), row.zone))))
                }),
            ),
        ],
    ),
    function(
        "hw_extract",
        &[
            overload(&[Text, Timestamp], Kernel::Numeric(|row| field_of_timestamp(row, None))),
            overload(&[Text, Timestamptz], Kernel::Numeric(|row| field_of_timestamp(row, Some(row.zone)))),
            overload(&[Text, Date], Kernel::Numeric(field_of_date)),
            overload(&[Text, Time], Kernel::Numeric(field_of_time)),
            overload(&[Text, Interval], Kernel::Numeric(field_of_interval)),
        ],
    ),
    function(
        "date_part",
        &[
            overload(&[Text, Timestamp], Kernel::Float8(|row| as_float(field_of_timestamp(row, None)))),
            overload(&[Text, Timestamptz], Kernel::Float8(|row| as_float(field_of_timestamp(row, Some(row.zone))))),
            overload(&[Text, Date], Kernel::Float8(|row| as_float(field_of_date(row)))),
            overload(&[Text, Time], Kernel::Float8(|row| as_float(field_of_time(row)))),
            overload(&[Text, Interval], Kernel::Float8(|row| as_float(field_of_interval(row)))),
        ],
    ),
    function(
        "date_trunc",
        &[
            overload(&[Text, Timestamp], Kernel::Timestamp(|row| truncate(row.text(0), row.timestamp(1)).map(Some))),
            overload(&[Text, Timestamptz], Kernel::Timestamptz(|row| truncate_in(row, row.zone))),
            overload(&[Text, Timestamptz, Text], Kernel::Timestamptz(|row| truncate_in(row, zone(row.text(2))?))),
            overload(&[Text, Interval], Kernel::Interval(truncate_interval)),
        ],
    ),
    function(
        "timezone",
        &[
            overload(
                &[Text, Timestamp],
                Kernel::Timestamptz(|row| Ok(Some(to_instant(row.timestamp(1), zone(row.text(0))?)))),
            ),
            overload(
                &[Text, Timestamptz],
                Kernel::Timestamp(|row| Ok(Some(to_local(row.timestamp(1), zone(row.text(0))?)))),
            ),
        ],
    ),
    function(
        "make_date",
        &[overload(
            &[Int4, Int4, Int4],
            Kernel::Date(|row| date_of(row.int(0), row.int(1), row.int(2)).map(|days| Some(days as i32))),
        )],
    ),
    function(
        "make_time",
        &[overload(&[Int4, Int4, Float8], Kernel::Time(|row| time_of(row.int(0), row.int(1), row.float(2)).map(Some)))],
    ),
    function(
        "make_timestamp",
        &[overload(&[Int4, Int4, Int4, Int4, Int4, Float8], Kernel::Timestamp(|row| timestamp_of(row).map(Some)))],
    ),
    function(
        "make_timestamptz",
        &[
            overload(
                &[Int4, Int4, Int4, Int4, Int4, Float8],
                Kernel::Timestamptz(|row| Ok(Some(to_instant(timestamp_of(row)?, row.zone)))),
            ),
            overload(
                &[Int4, Int4, Int4, Int4, Int4, Float8, Text],
                Kernel::Timestamptz(|row| Ok(Some(to_instant(timestamp_of(row)?, zone(row.text(6))?)))),
            ),
        ],
    ),
    function(
        "make_interval",
        &[overload(&[Int4, Int4, Int4, Int4, Int4, Int4, Float8], Kernel::Interval(make_interval)).optional(7)],
    ),
    function(
        "justify_days",
        &[overload(
            &[Interval],
            Kernel::Interval(|row| {
                let value = row.interval(0);
                let (months, days) = balance(value.months.into(), value.days.into(), 30);
                interval(months, days, i128::from(value.nanoseconds)).map(Some)
            }),
        )],
    ),
    function(
        "justify_hours",
        &[overload(
            &[Interval],
            Kernel::Interval(|row| {
                let value = row.interval(0);
                let (days, time) = balance(value.days.into(), value.nanoseconds.into(), DAY_NS);
                interval(value.months.into(), days, time).map(Some)
            }),
        )],
    ),
    function(
        "justify_interval",
        &[overload(
            &[Interval],
            Kernel::Interval(|row| {
                let value = row.interval(0);
                // All of one sign in the end: as a whole first, then taken apart.
                let total =
                    (i128::from(value.months) * 30 + i128::from(value.days)) * DAY_NS + i128::from(value.nanoseconds);
                let (days, time) = (total / DAY_NS, total % DAY_NS);
                interval(days / 30, days % 30, time).map(Some)
            }),
        )],
    ),
    function(
        "isfinite",
        &[
            overload(&[Date], Kernel::Bool(|_| Ok(Some(true)))),
            overload(&[Timestamp], Kernel::Bool(|_| Ok(Some(true)))),
            overload(&[Timestamptz], Kernel::Bool(|_| Ok(Some(true)))),
            overload(&[Interval], Kernel::Bool(|_| Ok(Some(true)))),
        ],
    ),
    function(
        "hw_overlaps",
        &[
            overload(&[Timestamp, Timestamp, Timestamp, Timestamp], Kernel::Bool(overlaps)).lenient(),
            overload(&[Timestamptz, Timestamptz, Timestamptz, Timestamptz], Kernel::Bool(overlaps)).lenient(),
            overload(&[Time, Time, Time, Time], Kernel::Bool(overlaps)).lenient(),
        ],
    ),
    function(
        "hw_interval_compare",
        &[overload(
            &[Interval, Interval],
            Kernel::Int4(|row| Ok(Some(span(row.interval(0)).cmp(&span(row.interval(1))) as i32))),
        )],
    ),
    function(
        "hw_interval_scale",
        &[overload(&[Interval, Float8], Kernel::Interval(|row| scaled(row.interval(0), row.float(1)).map(Some)))],
    ),
    function(
        "hw_interval_divide",
        &[overload(
            &[Interval, Float8],
            Kernel::Interval(|row| {
                let divisor = row.float(1);
                if divisor == 0.0 {
                    return Err(Error::new(SqlState::DIVISION_BY_ZERO, "division by zero"));
                }
                scaled(row.interval(0), 1.0 / divisor).map(Some)
            }),
        )],
    ),
    function(
        "hw_timestamp_minus",
        &[
            overload(&[Timestamp, Timestamp], Kernel::Interval(|row| between(row).map(Some))),
            overload(&[Timestamptz, Timestamptz], Kernel::Interval(|row| between(row).map(Some))),
        ],
    ),
    function(
        "hw_date_plus_time",
        &[overload(&[Date, Time], Kernel::Timestamp(|row| at_time(row.date(0).into(), row.time(1)).map(Some)))],
    ),
];

const DAY_NS: i128 = 86_400_000_000_000;

/// 22023 for a name that no zone has.
pub(super) fn zone(name: &str) -> Result<Tz> {
    zone_named(name).ok_or_else(|| invalid(format!("time zone \"{name}\" not recognized")))
}

fn interval(months: i128, days: i128, nanoseconds: i128) -> Result<IntervalMonthDayNano> {
    let out_of_range = || Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "interval out of range");
    Ok(IntervalMonthDayNano::new(
        i32::try_from(months).map_err(|_| out_of_range())?,
        i32::try_from(days).map_err(|_| out_of_range())?,
        i64::try_from(nanoseconds).map_err(|_| out_of_range())?,
    ))
}

/// Moves whole units from the smaller part to the larger, and makes their signs agree.
fn balance(large: i128, small: i128, unit: i128) -> (i128, i128) {
    let (large, small) = (large + small / unit, small % unit);
    match (large > 0 && small < 0, large < 0 && small > 0) {
        (true, _) => (large - 1, small + unit),
        (_, true) => (large + 1, small - unit),
        _ => (large, small),
    }
}

/// A month is 30 days, a day 24 hours, where intervals are compared.
fn span(value: IntervalMonthDayNano) -> i128 {
    (i128::from(value.months) * 30 + i128::from(value.days)) * DAY_NS + i128::from(value.nanoseconds)
}

/// Fractions of months become days, fractions of days time.
fn scaled(value: IntervalMonthDayNano, factor: f64) -> Result<IntervalMonthDayNano> {
    let months = f64::from(value.months) * factor;
    let days = f64::from(value.days) * factor;
    // Microseconds, so that a fraction that floats cannot hold does not show.
    let day_rest = (months.fract() * 30.0 * 1e6).round() / 1e6;
    let whole_days = days.trunc() + day_rest.trunc();
    let rest_us = ((days.fract() + day_rest.fract()) * DAY_US as f64).round();
    let time_us = (value.nanoseconds as f64 / 1e3 * factor).round() + rest_us;
    interval(months.trunc() as i128, whole_days as i128, time_us as i128 * 1_000)
}

fn between(row: &Row<'_>) -> Result<IntervalMonthDayNano> {
    let us = row.timestamp(0).checked_sub(row.timestamp(1)).ok_or_else(out_of_range)?;
    interval(0, (us / DAY_US).into(), i128::from(us % DAY_US) * 1_000)
}

struct Local {
    year: i64,
    month: u32,
    day: u32,
    /// Since midnight.
    time_us: i64,
    /// Since 1970.
    days: i64,
}

fn local(us: i64) -> Local {
    on_day(us.div_euclid(DAY_US), us.rem_euclid(DAY_US))
}

fn on_day(days: i64, time_us: i64) -> Local {
    let (year, month, day) = civil_from_days(days);
    Local { year, month, day, time_us, days }
}

/// In years, months, days and time, as people count: a borrowed month has the days of the earlier date's month.
fn age(later: i64, earlier: i64) -> IntervalMonthDayNano {
    if later < earlier {
        let age = age(earlier, later);
        return IntervalMonthDayNano::new(-age.months, -age.days, -age.nanoseconds);
    }
    let (a, b) = (local(later), local(earlier));
    let mut months = (a.year - b.year) * 12 + i64::from(a.month) - i64::from(b.month);
    let mut days = i64::from(a.day) - i64::from(b.day);
    let mut time_us = a.time_us - b.time_us;
    if time_us < 0 {
        time_us += DAY_US;
        days -= 1;
    }
    if days < 0 {
        days += i64::from(days_in_month(b.year, b.month));
        months -= 1;
    }
    IntervalMonthDayNano::new(months as i32, days as i32, time_us * 1_000)
}

fn as_float(value: Result<Option<Decimal>>) -> Result<Option<f64>> {
    Ok(value?.map(Decimal::to_f64))
}

fn unknown_unit(unit: &str, pg_type: &str) -> Error {
    invalid(format!("unit \"{unit}\" not recognized for type {pg_type}"))
}

fn unsupported_unit(unit: &str, pg_type: &str) -> Error {
    Error::new(SqlState::FEATURE_NOT_SUPPORTED, format!("unit \"{unit}\" not supported for type {pg_type}"))
}

/// One word for each unit.
fn unit_of(name: &str) -> Option<&'static str> {
    Some(match name.trim().to_ascii_lowercase().as_str() {
        "us" | "usec" | "usecs" | "usecond" | "useconds" | "microsecond" | "microseconds" | "microsecon" => {
            "microseconds"
        }
        "ms" | "msec" | "msecs" | "msecond" | "mseconds" | "millisecond" | "milliseconds" | "millisecon" => {
            "milliseconds"
        }
        "s" | "sec" | "secs" | "second" | "seconds" => "second",
        "m" | "min" | "mins" | "minute" | "minutes" => "minute",
        "h" | "hr" | "hrs" | "hour" | "hours" => "hour",
        "d" | "day" | "days" => "day",
        "w" | "week" | "weeks" => "week",
        "mon" | "mons" | "month" | "months" => "month",
        "qtr" | "quarter" => "quarter",
        "y" | "yr" | "yrs" | "year" | "years" => "year",
        "dec" | "decs" | "decade" | "decades" => "decade",
        "c" | "cent" | "century" | "centuries" => "century",
        "mil" | "mils" | "millennium" | "millennia" => "millennium",
        "dow" => "dow",
        "isodow" => "isodow",
        "doy" => "doy",
        "isoyear" => "isoyear",
        "julian" | "jd" | "j" => "julian",
        "epoch" => "epoch",
        "timezone" => "timezone",
        "timezone_h" | "timezone_hour" => "timezone_hour",
        "timezone_m" | "timezone_minute" => "timezone_minute",
        _ => return None,
    })
}

/// ISO 8601: the week's Thursday says which year it belongs to.
pub(super) fn iso_week(days: i64) -> (i64, i64) {
    let thursday = days - (days + 3).rem_euclid(7) + 3;
    let (year, _, _) = civil_from_days(thursday);
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

/// 2440588 is 1 January 1970.
const JULIAN_OF_1970: i64 = 2_440_588;

fn century(year: i64) -> i64 {
    if year > 0 { (year + 99) / 100 } else { -((99 - (year - 1)) / 100) }
}

fn millennium(year: i64) -> i64 {
    if year > 0 { (year + 999) / 1000 } else { -((999 - (year - 1)) / 1000) }
}

/// A field that the date alone tells.
fn field_of_day(unit: &str, at: &Local) -> Option<i64> {
    // There is no year 0: 1 BC comes before 1.
    let shown_year = |year: i64| if year > 0 { year } else { year - 1 };
    Some(match unit {
        "day" => at.day.into(),
        "month" => at.month.into(),
        "quarter" => i64::from((at.month - 1) / 3 + 1),
        "year" => shown_year(at.year),
        "decade" => at.year.div_euclid(10),
        "century" => century(at.year),
        "millennium" => millennium(at.year),
        "week" => iso_week(at.days).1,
        "isoyear" => shown_year(iso_week(at.days).0),
        "dow" => (at.days + 4).rem_euclid(7),
        "isodow" => (at.days + 3).rem_euclid(7) + 1,
        "doy" => at.days - days_from_civil(at.year, 1, 1) + 1,
        _ => return None,
    })
}

/// How many digits behind the point `extract` gives of a field; `None`: as many as the value has.
pub fn scale_of_field(name: &str, is_date: bool) -> Option<i8> {
    match unit_of(name) {
        Some("epoch" | "julian") if is_date => Some(0),
        Some("epoch" | "second") => Some(6),
        Some("milliseconds") => Some(3),
        Some("julian") => None,
        _ => Some(0),
    }
}

/// A field that the time of day alone tells, with the digits that Postgres gives it.
fn field_of_clock(unit: &str, time_us: i64) -> Option<Decimal> {
    let (minute_us, hour_us) = (60_000_000, 3_600_000_000);
    Some(match unit {
        "microseconds" => Decimal::new((time_us % minute_us).into(), 0),
        "milliseconds" => Decimal::new((time_us % minute_us).into(), 3),
        "second" => Decimal::new((time_us % minute_us).into(), 6),
        "minute" => Decimal::new((time_us % hour_us / minute_us).into(), 0),
        "hour" => Decimal::new((time_us / hour_us).into(), 0),
        _ => return None,
    })
}

/// With a zone, the timestamp is an instant.
fn field_of_timestamp(row: &Row<'_>, zone: Option<Tz>) -> Result<Option<Decimal>> {
    let pg_type = if zone.is_some() { "timestamp with time zone" } else { "timestamp without time zone" };
    let unit = unit_of(row.text(0)).ok_or_else(|| unknown_unit(row.text(0), pg_type))?;
    let us = row.timestamp(1);
    let at = local(zone.map_or(us, |zone| to_local(us, zone)));
    let whole = |value: i64| Decimal::new(value.into(), 0);
    if let Some(value) = field_of_day(unit, &at) {
        return Ok(Some(whole(value)));
    }
    if let Some(value) = field_of_clock(unit, at.time_us) {
        return Ok(Some(value));
    }
    Ok(Some(match (unit, zone) {
        ("epoch", _) => Decimal::new(us.into(), 6),
        ("julian", _) => {
            let day = i128::from(at.days + JULIAN_OF_1970) * 10_000_000_000;
            let part = i128::from(at.time_us) * 10_000_000_000 / i128::from(DAY_US);
            Decimal::new(day + part, 10)
        }
        ("timezone", Some(zone)) => whole(utc_offset_s(zone, us).into()),
        ("timezone_hour", Some(zone)) => whole(i64::from(utc_offset_s(zone, us)) / 3600),
        ("timezone_minute", Some(zone)) => whole(i64::from(utc_offset_s(zone, us)) / 60 % 60),
        _ => return Err(unsupported_unit(row.text(0), pg_type)),
    }))
}

fn field_of_date(row: &Row<'_>) -> Result<Option<Decimal>> {
    let unit = unit_of(row.text(0)).ok_or_else(|| unknown_unit(row.text(0), "date"))?;
    let days = i64::from(row.date(1));
    if let Some(value) = field_of_day(unit, &on_day(days, 0)) {
        return Ok(Some(Decimal::new(value.into(), 0)));
    }
    match unit {
        "epoch" => Ok(Some(Decimal::new(i128::from(days) * 86_400, 0))),
        "julian" => Ok(Some(Decimal::new((days + JULIAN_OF_1970).into(), 0))),
        _ => Err(unsupported_unit(row.text(0), "date")),
    }
}

fn field_of_time(row: &Row<'_>) -> Result<Option<Decimal>> {
    let pg_type = "time without time zone";
    let unit = unit_of(row.text(0)).ok_or_else(|| unknown_unit(row.text(0), pg_type))?;
    match (field_of_clock(unit, row.time(1)), unit) {
        (Some(value), _) => Ok(Some(value)),
        (None, "epoch") => Ok(Some(Decimal::new(row.time(1).into(), 6))),
        _ => Err(unsupported_unit(row.text(0), pg_type)),
    }
}

fn field_of_interval(row: &Row<'_>) -> Result<Option<Decimal>> {
    let unit = unit_of(row.text(0)).ok_or_else(|| unknown_unit(row.text(0), "interval"))?;
    let value = row.interval(1);
    let (years, months, us) = (value.months / 12, value.months % 12, value.nanoseconds / 1_000);
    let whole = |value: i32| Decimal::new(value.into(), 0);
    if let Some(field) = field_of_clock(unit, us) {
        return Ok(Some(field));
    }
    Ok(Some(match unit {
        "day" => whole(value.days),
        "month" => whole(months),
        "quarter" => whole(months / 3 + 1),
        "year" => whole(years),
        "decade" => whole(years / 10),
        "century" => whole(years / 100),
        "millennium" => whole(years / 1000),
        // A year is 365.25 days here.
        "epoch" => {
            let days = i128::from(years) * 1461 / 4 * 86_400_000_000
                + i128::from(years) * 1461 % 4 * 21_600_000_000
                + (i128::from(months) * 30 + i128::from(value.days)) * i128::from(DAY_US);
            Decimal::new(days + i128::from(us), 6)
        }
        _ => return Err(unsupported_unit(row.text(0), "interval")),
    }))
}

fn truncate(unit_name: &str, us: i64) -> Result<i64> {
    let pg_type = "timestamp without time zone";
    let unit = unit_of(unit_name).ok_or_else(|| unknown_unit(unit_name, pg_type))?;
    let at = local(us);
    let down_to = |unit_us: i64| us.checked_sub(us.rem_euclid(unit_us)).ok_or_else(out_of_range);
    let midnight = |days: i64| days.checked_mul(DAY_US).ok_or_else(out_of_range);
    let first_of = |year: i64, month: u32| midnight(days_from_civil(year, month, 1));
    match unit {
        "microseconds" => Ok(us),
        "milliseconds" => down_to(1_000),
        "second" => down_to(1_000_000),
        "minute" => down_to(60_000_000),
        "hour" => down_to(3_600_000_000),
        "day" => midnight(at.days),
        "week" => midnight(at.days - (at.days + 3).rem_euclid(7)),
        "month" => first_of(at.year, at.month),
        "quarter" => first_of(at.year, (at.month - 1) / 3 * 3 + 1),
        "year" => first_of(at.year, 1),
        "decade" => first_of(at.year.div_euclid(10) * 10, 1),
        "century" => first_of((century(at.year) - 1) * 100 + 1, 1),
        "millennium" => first_of((millennium(at.year) - 1) * 1000 + 1, 1),
        _ => Err(unsupported_unit(unit_name, pg_type)),
    }
}

/// Below the day the zone's offset stays what it is; from the day on it is that of the new time.
fn truncate_in(row: &Row<'_>, zone: Tz) -> Result<Option<i64>> {
    let us = row.timestamp(1);
    let local = to_local(us, zone);
    let truncated = truncate(row.text(0), local)?;
    let keeps_offset =
        matches!(unit_of(row.text(0)), Some("microseconds" | "milliseconds" | "second" | "minute" | "hour"));
    Ok(Some(if keeps_offset { truncated - (local - us) } else { to_instant(truncated, zone) }))
}

fn truncate_interval(row: &Row<'_>) -> Result<Option<IntervalMonthDayNano>> {
    let unit = unit_of(row.text(0)).ok_or_else(|| unknown_unit(row.text(0), "interval"))?;
    let value = row.interval(1);
    let IntervalMonthDayNano { months, days, nanoseconds: ns } = value;
    let by_time = |unit_us: i64| IntervalMonthDayNano::new(months, days, ns - ns % (unit_us * 1_000));
    let by_month = |unit: i32| IntervalMonthDayNano::new(months - months % unit, 0, 0);
    Ok(Some(match unit {
        "microseconds" => by_time(1),
        "milliseconds" => by_time(1_000),
        "second" => by_time(1_000_000),
        "minute" => by_time(60_000_000),
        "hour" => by_time(3_600_000_000),
        "day" => IntervalMonthDayNano::new(months, days, 0),
        "month" => by_month(1),
        "quarter" => by_month(3),
        "year" => by_month(12),
        "decade" => by_month(120),
        "century" => by_month(1_200),
        "millennium" => by_month(12_000),
        _ => return Err(unsupported_unit(row.text(0), "interval")),
    }))
}

/// 22008 for a day that no calendar has.
pub(super) fn date_of(year: i64, month: i64, day: i64) -> Result<i64> {
    let wrong = || {
        let message = format!("date field value out of range: {year}-{month:02}-{day:02}");
        Error::new(SqlState::DATETIME_FIELD_OVERFLOW, message)
    };
    // Year −1 is 1 BC.
    let astronomical = if year < 0 { year + 1 } else { year };
    let known = year != 0 && (1..=12).contains(&month) && year.abs() < 300_000;
    if !known || day < 1 || day > i64::from(days_in_month(astronomical, month as u32)) {
        return Err(wrong());
    }
    Ok(days_from_civil(astronomical, month as u32, day as u32))
}

fn time_of(hour: i64, minute: i64, second: f64) -> Result<i64> {
    let us = (hour * 60 + minute) * 60_000_000 + (second * 1e6).round() as i64;
    let known = (0..=24).contains(&hour) && (0..60).contains(&minute) && (0.0..=60.0).contains(&second);
    if !known || us > DAY_US {
        let message = format!("time field value out of range: {hour}:{minute:02}:{second:02}");
        return Err(Error::new(SqlState::DATETIME_FIELD_OVERFLOW, message));
    }
    Ok(us)
}

/// 22008 where a timestamp does not reach.
fn at_time(days: i64, time_us: i64) -> Result<i64> {
    days.checked_mul(DAY_US).and_then(|us| us.checked_add(time_us)).ok_or_else(out_of_range)
}

fn timestamp_of(row: &Row<'_>) -> Result<i64> {
    let days = date_of(row.int(0), row.int(1), row.int(2))?;
    at_time(days, time_of(row.int(3), row.int(4), row.float(5))?)
}

fn make_interval(row: &Row<'_>) -> Result<Option<IntervalMonthDayNano>> {
    let at = |index: usize| i128::from(if index < row.len() { row.int(index) } else { 0 });
    let seconds = if row.len() > 6 { row.float(6) } else { 0.0 };
    let time_us = (at(4) * 60 + at(5)) * 60_000_000 + (seconds * 1e6).round() as i128;
    interval(at(0) * 12 + at(1), at(2) * 7 + at(3), time_us * 1_000).map(Some)
}

/// SQL's `(s, e) OVERLAPS (s, e)`: spans are half open, and an empty one is a point.
fn overlaps(row: &Row<'_>) -> Result<Option<bool>> {
    let at = |index: usize| {
        let (column, _) = row.column(index);
        let is_time = matches!(column.data_type(), arrow::datatypes::DataType::Time64(_));
        (!row.is_null(index)).then(|| if is_time { row.time(index) } else { row.timestamp(index) })
    };
    let ordered = |start: Option<i64>, end: Option<i64>| match (start, end) {
        (Some(start), Some(end)) => Some((start.min(end), start.max(end))),
        _ => None,
    };
    let (Some(a), Some(b)) = (ordered(at(0), at(1)), ordered(at(2), at(3))) else { return Ok(None) };
    let (a, b) = if a.0 <= b.0 { (a, b) } else { (b, a) };
    Ok(Some(a.0 == b.0 || b.0 < a.1))
}
