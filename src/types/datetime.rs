//! Dates, times and intervals as Postgres prints them (DateStyle ISO, IntervalStyle postgres).
//!
//! Counts of days and microseconds since 1970-01-01 go in, ASCII comes out; nothing is allocated. The calendar is the
//! proleptic Gregorian one; the arithmetic is Howard Hinnant's *chrono-Compatible Low-Level Date Algorithms*.

use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;

use super::number::put_integer;

pub const DAY_US: i64 = 86_400_000_000;
pub const HOUR_US: i64 = 3_600_000_000;
pub const MINUTE_US: i64 = 60_000_000;
pub const SECOND_US: i64 = 1_000_000;

/// Days since 1970-01-01 of a date; year 0 is 1 BC.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month as i64 + 9) % 12) + 2) / 5 + day as i64 - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// (year, month, day) of a count of days since 1970-01-01; year 0 is 1 BC.
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days in a month; `month` is 1 to 12.
pub fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Seconds that local time is ahead of UTC at an instant. Beyond chrono's years (±262,000) the zone counts as UTC.
pub fn utc_offset_s(zone: Tz, instant_us: i64) -> i32 {
    if zone == Tz::UTC || zone == Tz::Etc__UTC {
        return 0;
    }
    match DateTime::from_timestamp(instant_us.div_euclid(SECOND_US), 0) {
        Some(instant) => zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc(),
        None => 0,
    }
}

fn put_two(out: &mut BytesMut, value: u32) {
    out.put_slice(&[b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]);
}

/// Year (at least four digits), month, day; returns true if the era must follow.
fn put_civil(out: &mut BytesMut, days: i64) -> bool {
    let (year, month, day) = civil_from_days(days);
    let before_christ = year <= 0;
    let shown = if before_christ { 1 - year } else { year };
    for limit in [1000, 100, 10] {
        if shown < limit {
            out.put_u8(b'0');
        }
    }
    put_integer(out, shown);
    out.put_u8(b'-');
    put_two(out, month);
    out.put_u8(b'-');
    put_two(out, day);
    before_christ
}

/// `2024-02-29`, `0044-03-15 BC`.
pub fn put_date(out: &mut BytesMut, days: i32) {
    if put_civil(out, days as i64) {
        out.put_slice(b" BC");
    }
}

/// `.5`, `.000001`, or nothing.
fn put_fraction(out: &mut BytesMut, microseconds: u32) {
    if microseconds == 0 {
        return;
    }
    let mut digits = [b'0'; 7];
    digits[0] = b'.';
    let mut rest = microseconds;
    for slot in digits[1..].iter_mut().rev() {
        *slot = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let length = digits.iter().rposition(|&d| d != b'0').map_or(0, |last| last + 1);
    out.put_slice(&digits[..length]);
}

/// `04:05:06.7`; microseconds since midnight, up to 24:00:00.
pub fn put_time(out: &mut BytesMut, time_us: i64) {
    put_two(out, (time_us / HOUR_US) as u32);
    out.put_u8(b':');
    put_two(out, (time_us / MINUTE_US % 60) as u32);
    out.put_u8(b':');
    put_two(out, (time_us / SECOND_US % 60) as u32);
    put_fraction(out, (time_us % SECOND_US) as u32);
}

/// `2024-02-29 04:05:06.7`: a timestamp without time zone, in microseconds since 1970-01-01.
pub fn put_timestamp(out: &mut BytesMut, local_us: i64) {
    let before_christ = put_civil(out, local_us.div_euclid(DAY_US));
    out.put_u8(b' ');
    put_time(out, local_us.rem_euclid(DAY_US));
    if before_christ {
        out.put_slice(b" BC");
    }
}

/// `2024-02-29 04:05:06.7+01`: an instant in microseconds since 1970-01-01 UTC, shown in `zone`.
pub fn put_timestamptz(out: &mut BytesMut, instant_us: i64, zone: Tz) {
    let offset_s = utc_offset_s(zone, instant_us);
    let local_us = instant_us.saturating_add(offset_s as i64 * SECOND_US);
    let before_christ = put_civil(out, local_us.div_euclid(DAY_US));
    out.put_u8(b' ');
    put_time(out, local_us.rem_euclid(DAY_US));
    out.put_u8(if offset_s < 0 { b'-' } else { b'+' });
    let offset = offset_s.unsigned_abs();
    put_two(out, offset / 3600);
    if !offset.is_multiple_of(3600) {
        out.put_u8(b':');
        put_two(out, offset / 60 % 60);
    }
    if !offset.is_multiple_of(60) {
        out.put_u8(b':');
        put_two(out, offset % 60);
    }
    if before_christ {
        out.put_slice(b" BC");
    }
}

/// `1 year 2 mons -3 days +04:05:06.7`: after a negative part, positive ones carry a sign.
pub fn put_interval(out: &mut BytesMut, months: i32, days: i32, time_us: i64) {
    let (mut is_first, mut after_negative) = (true, false);
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value == 0 {
            continue;
        }
        if !is_first {
            out.put_u8(b' ');
        }
        if after_negative && value > 0 {
            out.put_u8(b'+');
        }
        put_integer(out, value as i64);
        out.put_u8(b' ');
        out.put_slice(unit.as_bytes());
        if value != 1 {
            out.put_u8(b's');
        }
        after_negative = value < 0;
        is_first = false;
    }
    if time_us == 0 && !is_first {
        return;
    }
    if !is_first {
        out.put_u8(b' ');
    }
    if time_us < 0 {
        out.put_u8(b'-');
    } else if after_negative {
        out.put_u8(b'+');
    }
    let time = time_us.unsigned_abs();
    let hours = time / HOUR_US as u64;
    if hours < 10 {
        out.put_u8(b'0');
    }
    put_integer(out, hours as i64);
    out.put_u8(b':');
    put_two(out, (time / MINUTE_US as u64 % 60) as u32);
    out.put_u8(b':');
    put_two(out, (time / SECOND_US as u64 % 60) as u32);
    put_fraction(out, (time % SECOND_US as u64) as u32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(put: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        put(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn calendar_round_trips() {
        for days in (-1_000_000..1_000_000).step_by(373) {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
            assert!(day <= days_in_month(year, month));
        }
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(days_from_civil(2000, 1, 1), 10_957);
    }

    #[test]
    fn dates_and_times() {
        assert_eq!(shown(|o| put_date(o, 19_782)), "2024-02-29");
        assert_eq!(shown(|o| put_date(o, days_from_civil(-43, 3, 15) as i32)), "0044-03-15 BC");
        assert_eq!(shown(|o| put_date(o, days_from_civil(12024, 3, 15) as i32)), "12024-03-15");
        assert_eq!(shown(|o| put_time(o, 4 * HOUR_US + 5 * MINUTE_US + 6_700_000)), "04:05:06.7");
        assert_eq!(shown(|o| put_time(o, DAY_US)), "24:00:00");
        assert_eq!(shown(|o| put_timestamp(o, -1)), "1969-12-31 23:59:59.999999");
    }

    #[test]
    fn zones() {
        assert_eq!(shown(|o| put_timestamptz(o, 0, Tz::UTC)), "1970-01-01 00:00:00+00");
        assert_eq!(shown(|o| put_timestamptz(o, 0, Tz::America__New_York)), "1969-12-31 19:00:00-05");
        assert_eq!(shown(|o| put_timestamptz(o, 0, Tz::Asia__Kathmandu)), "1970-01-01 05:30:00+05:30");
        let amsterdam_1900 = days_from_civil(1900, 1, 1) * DAY_US;
        assert_eq!(shown(|o| put_timestamptz(o, amsterdam_1900, Tz::Africa__Monrovia)), "1899-12-31 23:16:52-00:43:08");
        assert!(!shown(|o| put_timestamptz(o, i64::MAX, Tz::Europe__Berlin)).is_empty());
        assert!(!shown(|o| put_timestamptz(o, i64::MIN, Tz::Europe__Berlin)).is_empty());
    }

    #[test]
    fn intervals() {
        let us = 4 * HOUR_US + 5 * MINUTE_US + 6_700_000;
        assert_eq!(shown(|o| put_interval(o, 14, 3, us)), "1 year 2 mons 3 days 04:05:06.7");
        assert_eq!(shown(|o| put_interval(o, -14, 3, -us)), "-1 years -2 mons +3 days -04:05:06.7");
        assert_eq!(shown(|o| put_interval(o, 0, -1, us)), "-1 days +04:05:06.7");
        assert_eq!(shown(|o| put_interval(o, 0, 0, 0)), "00:00:00");
        assert_eq!(shown(|o| put_interval(o, 0, 1, 0)), "1 day");
        assert_eq!(shown(|o| put_interval(o, 0, 0, 100 * HOUR_US)), "100:00:00");
        assert!(!shown(|o| put_interval(o, i32::MIN, i32::MIN, i64::MIN)).is_empty());
    }
}
