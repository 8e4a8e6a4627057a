//! Dates, times, timestamps and intervals as Postgres reads them (DateStyle ISO, MDY).
//!
//! Text is cut into tokens, each token says what it is (a date, a time, a zone, a month's name …), and the parts are put
//! together at the end. Words that need a clock (`now`, `today`) are refused: a type knows no clock.

use chrono::{DateTime, MappedLocalTime, Offset, TimeZone};
use chrono_tz::Tz;

use super::datetime::{DAY_US, HOUR_US, MINUTE_US, SECOND_US, days_from_civil, days_in_month};
use super::number_input::shown;
use crate::error::{Error, Result, SqlState};

/// What a text said, not yet put together.
#[derive(Default)]
struct Parts {
    /// Year, month, day as written; the year may have two digits.
    date: Option<(i64, u32, u32)>,
    /// From a month's name with numbers around it.
    month: Option<u32>,
    numbers: Vec<String>,
    time_us: Option<i64>,
    half_day: Option<HalfDay>,
    zone: Option<Zone>,
    before_christ: bool,
    is_epoch: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum HalfDay {
    Am,
    Pm,
}

#[derive(Clone, Copy)]
enum Zone {
    /// Seconds ahead of UTC.
    Offset(i32),
    Named(Tz),
}

/// Why a text is no date or time.
enum Fault {
    Syntax,
    Range,
    Own(Error),
}

type Parsed<T> = Result<T, Fault>;

fn told(fault: Fault, type_name: &str, text: &str) -> Error {
    match fault {
        Fault::Syntax => Error::new(
            SqlState::INVALID_DATETIME_FORMAT,
            format!("invalid input syntax for type {type_name}: \"{}\"", shown(text)),
        ),
        Fault::Range => Error::new(
            SqlState::DATETIME_FIELD_OVERFLOW,
            format!("date/time field value out of range: \"{}\"", shown(text)),
        ),
        Fault::Own(error) => error,
    }
}

/// Days since 1970-01-01.
pub(super) fn parse_date(text: &str) -> Result<i32> {
    let parse = || {
        let parts = scan(text)?;
        days(&parts).and_then(|days| i32::try_from(days).map_err(|_| Fault::Range))
    };
    parse().map_err(|fault| told(fault, "date", text))
}

/// Microseconds since midnight.
pub(super) fn parse_time(text: &str) -> Result<i64> {
    let parse = || time(&scan(text)?)?.ok_or(Fault::Syntax);
    parse().map_err(|fault| told(fault, "time", text))
}

/// Microseconds since 1970-01-01 00:00; a zone in the text is read and ignored, as Postgres does.
pub(super) fn parse_timestamp(text: &str) -> Result<i64> {
    let parse = || local(&scan(text)?);
    parse().map_err(|fault| told(fault, "timestamp", text))
}

/// Microseconds since 1970-01-01 UTC; without a zone in the text, it is a time in `session_zone`.
pub(super) fn parse_timestamptz(text: &str, session_zone: Tz) -> Result<i64> {
    let parse = || {
        let parts = scan(text)?;
        let local_us = local(&parts)?;
        if parts.is_epoch {
            return Ok(local_us);
        }
        let offset_s = match parts.zone.unwrap_or(Zone::Named(session_zone)) {
            Zone::Offset(offset_s) => offset_s,
            Zone::Named(zone) => offset_of_local(zone, local_us),
        };
        local_us.checked_sub(offset_s as i64 * SECOND_US).ok_or(Fault::Range)
    };
    parse().map_err(|fault| told(fault, "timestamp with time zone", text))
}

/// Seconds ahead of UTC at a local time: in a gap the offset before it counts, in an overlap the one after it.
pub fn offset_of_local(zone: Tz, local_us: i64) -> i32 {
    let Some(local) = DateTime::from_timestamp(local_us.div_euclid(SECOND_US), 0) else { return 0 };
    let local = local.naive_utc();
    let east = |offset: <Tz as TimeZone>::Offset| offset.fix().local_minus_utc();
    match zone.offset_from_local_datetime(&local) {
        MappedLocalTime::Single(offset) => east(offset),
        MappedLocalTime::Ambiguous(one, other) => east(one).min(east(other)),
        MappedLocalTime::None => {
            let before = local.checked_sub_signed(chrono::TimeDelta::hours(3));
            before.and_then(|before| zone.offset_from_local_datetime(&before).latest()).map_or(0, east)
        }
    }
}

fn local(parts: &Parts) -> Parsed<i64> {
    if parts.is_epoch {
        return Ok(0);
    }
    let time_us = time(parts)?.unwrap_or(0);
    days(parts)?.checked_mul(DAY_US).and_then(|us| us.checked_add(time_us)).ok_or(Fault::Range)
}

fn time(parts: &Parts) -> Parsed<Option<i64>> {
    let Some(time_us) = parts.time_us else {
        return if parts.half_day.is_some() { Err(Fault::Syntax) } else { Ok(None) };
    };
    let Some(half_day) = parts.half_day else { return Ok(Some(time_us)) };
    let hour = time_us / HOUR_US;
    if !(1..=12).contains(&hour) {
        return Err(Fault::Range);
    }
    let base = time_us - hour * HOUR_US;
    Ok(Some(base + (hour % 12 + if half_day == HalfDay::Pm { 12 } else { 0 }) * HOUR_US))
}

fn days(parts: &Parts) -> Parsed<i64> {
    if parts.is_epoch {
        return Ok(0);
    }
    let (year, month, day) = match (parts.date, parts.month) {
        (Some(date), None) if parts.numbers.is_empty() => date,
        (None, Some(month)) => {
            // `January 8, 1999`, `8 Jan 1999`, `1999 Jan 8`: three digits or more make a year.
            let [first, second] = parts.numbers.as_slice() else { return Err(Fault::Syntax) };
            let (year, day) = if first.len() >= 3 { (first, second) } else { (second, first) };
            (full_year(year)?, month, day.parse().map_err(|_| Fault::Syntax)?)
        }
        _ => return Err(Fault::Syntax),
    };
    let year = match (parts.before_christ, year) {
        (_, 0) => return Err(Fault::Range),
        (true, year) => 1 - year,
        (false, year) => year,
    };
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) || year.abs() > 5_874_897 {
        return Err(Fault::Range);
    }
    Ok(days_from_civil(year, month, day))
}

/// A year as written: two digits mean 1970 to 2069.
fn full_year(digits: &str) -> Parsed<i64> {
    let year: i64 = digits.parse().map_err(|_| Fault::Range)?;
    Ok(match (digits.len(), year) {
        (1 | 2, 0..=69) => year + 2000,
        (1 | 2, _) => year + 1900,
        _ => year,
    })
}

fn scan(text: &str) -> Parsed<Parts> {
    let mut parts = Parts::default();
    let mut seen = false;
    for word in text.split(|c: char| c.is_ascii_whitespace() || c == ',').filter(|w| !w.is_empty()) {
        seen = true;
        // ISO 8601 puts a T between date and time.
        let bytes = word.as_bytes();
        let split = bytes.iter().position(|b| matches!(b, b'T' | b't')).filter(|&at| {
            at > 0 && bytes[at - 1].is_ascii_digit() && bytes.get(at + 1).is_some_and(|b| b.is_ascii_digit())
        });
        match split {
            Some(at) => {
                scan_word(&word[..at], &mut parts)?;
                scan_time(&word[at + 1..], &mut parts)?;
            }
            None => scan_word(word, &mut parts)?,
        }
    }
    if seen { Ok(parts) } else { Err(Fault::Syntax) }
}

fn scan_word(word: &str, parts: &mut Parts) -> Parsed<()> {
    let first = word.as_bytes()[0];
    if first == b'+' || first == b'-' {
        return if parts.time_us.is_some() { scan_offset(word, parts) } else { Err(Fault::Syntax) };
    }
    if first.is_ascii_digit() {
        if word.contains(':') {
            return scan_time(word, parts);
        }
        if word.contains(['-', '/', '.']) {
            return scan_date(word, parts);
        }
        if !word.bytes().all(|b| b.is_ascii_digit()) {
            return scan_number_and_word(word, parts);
        }
        if word.len() == 8 && parts.date.is_none() && parts.month.is_none() {
            return set_date(parts, &word[..4], &word[4..6], &word[6..8]);
        }
        if matches!(word.len(), 4 | 6) && parts.date.is_some() && parts.time_us.is_none() {
            let second = if word.len() == 6 { &word[4..6] } else { "0" };
            return set_time(parts, &word[..2], &word[2..4], second, "");
        }
        if parts.numbers.len() >= 2 {
            return Err(Fault::Syntax);
        }
        parts.numbers.push(word.to_string());
        return Ok(());
    }
    scan_name(word, parts)
}

/// `04:05PM`, `8th` is not Postgres; `05am` and `12Z` are words of a number and a name.
fn scan_number_and_word(word: &str, parts: &mut Parts) -> Parsed<()> {
    let at = word.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(word.len());
    let (number, rest) = word.split_at(at);
    match rest.to_ascii_lowercase().as_str() {
        "am" | "pm" if parts.time_us.is_none() => {
            set_time(parts, number, "0", "0", "")?;
            scan_name(rest, parts)
        }
        _ if number.len() == 8 => {
            scan_word(number, parts)?;
            scan_word(rest, parts)
        }
        _ => Err(Fault::Syntax),
    }
}

fn scan_date(word: &str, parts: &mut Parts) -> Parsed<()> {
    let separator = word.bytes().find(|b| matches!(b, b'-' | b'/' | b'.')).ok_or(Fault::Syntax)? as char;
    let fields: Vec<&str> = word.split(separator).collect();
    match fields.as_slice() {
        [first, second, third] => {
            if let Some(month) = month_of(second) {
                // 08-Jan-1999, 1999-Jan-08
                parts.numbers.extend([first.to_string(), third.to_string()]);
                return set_month(parts, month);
            }
            if first.len() >= 3 { set_date(parts, first, second, third) } else { set_date(parts, third, first, second) }
        }
        [year, day_of_year] if separator != '/' && year.len() == 4 && day_of_year.len() == 3 => {
            let year: i64 = year.parse().map_err(|_| Fault::Syntax)?;
            let day: i64 = day_of_year.parse().map_err(|_| Fault::Syntax)?;
            let (_, month, day) = super::datetime::civil_from_days(days_from_civil(year, 1, 1) + day - 1);
            parts.date = Some((year, month, day));
            Ok(())
        }
        _ => Err(Fault::Syntax),
    }
}

fn set_date(parts: &mut Parts, year: &str, month: &str, day: &str) -> Parsed<()> {
    let fields = [year, month, day];
    if parts.date.is_some() || fields.iter().any(|f| f.is_empty() || !f.bytes().all(|b| b.is_ascii_digit())) {
        return Err(Fault::Syntax);
    }
    let month = month.parse().map_err(|_| Fault::Range)?;
    parts.date = Some((full_year(year)?, month, day.parse().map_err(|_| Fault::Range)?));
    Ok(())
}

fn set_month(parts: &mut Parts, month: u32) -> Parsed<()> {
    if parts.month.replace(month).is_some() { Err(Fault::Syntax) } else { Ok(()) }
}

/// `04:05`, `04:05:06.7`, with a zone or AM/PM right behind.
fn scan_time(word: &str, parts: &mut Parts) -> Parsed<()> {
    let end = word.bytes().position(|b| !b.is_ascii_digit() && !matches!(b, b':' | b'.')).unwrap_or(word.len());
    let (clock, rest) = word.split_at(end);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let fields: Vec<&str> = clock.split(':').collect();
    match fields.as_slice() {
        [hour, minute] => set_time(parts, hour, minute, "0", fraction)?,
        [hour, minute, second] => set_time(parts, hour, minute, second, fraction)?,
        // 040506, 0405, 04
        [digits] if digits.len() == 6 => set_time(parts, &digits[..2], &digits[2..4], &digits[4..], fraction)?,
        [digits] if digits.len() == 4 => set_time(parts, &digits[..2], &digits[2..], "0", fraction)?,
        [digits] if digits.len() <= 2 => set_time(parts, digits, "0", "0", fraction)?,
        _ => return Err(Fault::Syntax),
    }
    match rest.as_bytes().first() {
        None => Ok(()),
        Some(b'+' | b'-') => scan_offset(rest, parts),
        Some(_) => scan_name(rest, parts),
    }
}

fn set_time(parts: &mut Parts, hour: &str, minute: &str, second: &str, fraction: &str) -> Parsed<()> {
    if parts.time_us.is_some() || [hour, minute, second].iter().any(|f| f.is_empty()) {
        return Err(Fault::Syntax);
    }
    let number = |field: &str| match field.bytes().all(|b| b.is_ascii_digit()) {
        true => field.parse::<i64>().map_err(|_| Fault::Range),
        false => Err(Fault::Syntax),
    };
    let (hour, minute, second) = (number(hour)?, number(minute)?, number(second)?);
    let us = fraction_us(fraction).ok_or(Fault::Syntax)?;
    if hour > 24 || minute > 59 || second > 60 {
        return Err(Fault::Range);
    }
    let time_us = hour * HOUR_US + minute * MINUTE_US + second * SECOND_US + us;
    if time_us > DAY_US {
        return Err(Fault::Range);
    }
    parts.time_us = Some(time_us);
    Ok(())
}

/// Microseconds of the digits behind a point, rounded; `None` if they are no digits.
pub(super) fn fraction_us(digits: &str) -> Option<i64> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digit = |index: usize| digits.as_bytes().get(index).map_or(0, |b| (b - b'0') as i64);
    let whole = (0..6).fold(0, |value, index| value * 10 + digit(index));
    Some(whole + i64::from(digit(6) >= 5))
}

/// `+01`, `-0830`, `+05:30`, `+00:19:32`.
fn scan_offset(word: &str, parts: &mut Parts) -> Parsed<()> {
    if !word.is_ascii() {
        return Err(Fault::Syntax);
    }
    let (sign, digits) = word.split_at(1);
    let padded;
    let fields: Vec<&str> = match (digits.contains(':'), digits.len()) {
        (true, _) => digits.split(':').collect(),
        (false, 3) => {
            padded = format!("0{digits}");
            vec![&padded[..2], &padded[2..]]
        }
        (false, 4) => vec![&digits[..2], &digits[2..]],
        (false, 6) => vec![&digits[..2], &digits[2..4], &digits[4..]],
        (false, 1 | 2) => vec![digits],
        _ => return Err(Fault::Syntax),
    };
    let mut offset_s = 0;
    for (index, field) in fields.iter().enumerate() {
        if index > 2 || field.is_empty() || !field.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Fault::Syntax);
        }
        let value: i32 = field.parse().map_err(|_| Fault::Range)?;
        if value > 59 || (index == 0 && value > 15) {
            return Err(Fault::Own(Error::new(
                SqlState("22009"),
                format!("time zone displacement out of range: \"{word}\""),
            )));
        }
        offset_s += value * [3600, 60, 1][index];
    }
    set_zone(parts, Zone::Offset(if sign == "-" { -offset_s } else { offset_s }))
}

fn set_zone(parts: &mut Parts, zone: Zone) -> Parsed<()> {
    if parts.zone.replace(zone).is_some() { Err(Fault::Syntax) } else { Ok(()) }
}

fn scan_name(word: &str, parts: &mut Parts) -> Parsed<()> {
    let lower = word.to_ascii_lowercase();
    match lower.as_str() {
        "am" => parts.half_day = Some(HalfDay::Am),
        "pm" => parts.half_day = Some(HalfDay::Pm),
        "bc" => parts.before_christ = true,
        "ad" => {}
        "epoch" => parts.is_epoch = true,
        "infinity" | "-infinity" => {
            return Err(Fault::Own(Error::unsupported("infinity as a date or time", "use NULL or a far date")));
        }
        "now" | "today" | "tomorrow" | "yesterday" | "allballs" => {
            return Err(Fault::Own(Error::unsupported(
                format!("\"{lower}\" as a date or time"),
                "use now(), current_date or current_time",
            )));
        }
        _ => {
            if let Some(month) = month_of(&lower) {
                return set_month(parts, month);
            }
            const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
            if lower.len() >= 3 && WEEKDAYS.iter().any(|day| day.starts_with(&lower)) {
                return Ok(());
            }
            let zone = zone_of(word).ok_or_else(|| match word.contains('/') {
                true => Fault::Own(Error::new(
                    SqlState::INVALID_PARAMETER_VALUE,
                    format!("time zone \"{lower}\" not recognized"),
                )),
                false => Fault::Syntax,
            })?;
            return set_zone(parts, zone);
        }
    }
    Ok(())
}

fn month_of(word: &str) -> Option<u32> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let lower = word.to_ascii_lowercase();
    let is_long_enough = lower.len() >= 3 && lower != "marc";
    let found =
        MONTHS.iter().position(|month| (month.len() == lower.len() || lower.len() == 3) && month.starts_with(&lower));
    match lower.as_str() {
        "sept" => Some(9),
        _ if is_long_enough => found.map(|index| index as u32 + 1),
        _ => None,
    }
}

/// Abbreviations as in Postgres' default set, then the names of the IANA database in any case.
fn zone_of(word: &str) -> Option<Zone> {
    const ABBREVIATIONS: &[(&str, i32)] = &[
        ("z", 0),
        ("zulu", 0),
        ("utc", 0),
        ("gmt", 0),
        ("ut", 0),
        ("est", -5),
        ("edt", -4),
        ("cst", -6),
        ("cdt", -5),
        ("mst", -7),
        ("mdt", -6),
        ("pst", -8),
        ("pdt", -7),
        ("cet", 1),
        ("cest", 2),
        ("eet", 2),
        ("eest", 3),
        ("wet", 0),
        ("west", 1),
        ("bst", 1),
        ("msk", 3),
        ("jst", 9),
        ("kst", 9),
    ];
    if let Some((_, hours)) = ABBREVIATIONS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)) {
        return Some(Zone::Offset(hours * 3600));
    }
    zone_named(word).map(Zone::Named)
}

/// A zone of the IANA database, whatever the case: `Europe/Berlin`, `utc`.
pub fn zone_named(name: &str) -> Option<Tz> {
    name.parse().ok().or_else(|| chrono_tz::TZ_VARIANTS.iter().find(|tz| tz.name().eq_ignore_ascii_case(name)).copied())
}

#[cfg(test)]
mod tests {
    use super::super::datetime::{put_date, put_time, put_timestamp, put_timestamptz};
    use super::*;
    use bytes::BytesMut;

    fn printed(put: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        put(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn timestamptz(text: &str, zone: Tz) -> Result<String, &'static str> {
        parse_timestamptz(text, zone).map(|us| printed(|o| put_timestamptz(o, us, Tz::UTC))).map_err(|e| e.code.0)
    }

    #[test]
    fn dates() {
        for (text, date) in [
            ("2024-02-29", "2024-02-29"),
            ("20240229", "2024-02-29"),
            ("2/29/2024", "2024-02-29"),
            ("02-29-24", "2024-02-29"),
            ("January 8, 1999", "1999-01-08"),
            ("8 Jan 1999", "1999-01-08"),
            ("08-Jan-99", "1999-01-08"),
            ("1999-Jan-08", "1999-01-08"),
            ("1999.008", "1999-01-08"),
            ("0044-03-15 BC", "0044-03-15 BC"),
            ("2024-02-29 13:00:00+02", "2024-02-29"),
            ("epoch", "1970-01-01"),
        ] {
            assert_eq!(parse_date(text).map(|d| printed(|o| put_date(o, d))).map_err(|e| e.message), Ok(date.into()));
        }
        for (text, code) in [
            ("2023-02-29", "22008"),
            ("2024-13-01", "22008"),
            ("0000-01-01", "22008"),
            ("", "22007"),
            ("abc", "22007"),
            ("2024-02", "22007"),
            ("infinity", "0A000"),
            ("now", "0A000"),
            ("99999999999-01-01", "22008"),
        ] {
            assert_eq!(parse_date(text).map_err(|e| e.code.0), Err(code), "{text}");
        }
    }

    #[test]
    fn times() {
        for (text, time) in [
            ("04:05", "04:05:00"),
            ("04:05:06.789", "04:05:06.789"),
            ("04:05 PM", "16:05:00"),
            ("12:05am", "00:05:00"),
            ("24:00:00", "24:00:00"),
            ("04:05:06.1234567", "04:05:06.123457"),
            ("04:05:06+02", "04:05:06"),
        ] {
            assert_eq!(parse_time(text).map(|t| printed(|o| put_time(o, t))).map_err(|e| e.message), Ok(time.into()));
        }
        assert_eq!(parse_time("25:00").map_err(|e| e.code.0), Err("22008"));
        assert_eq!(parse_time("4").map_err(|e| e.code.0), Err("22007"));
    }

    #[test]
    fn timestamps() {
        for text in ["2024-02-29 04:05:06.7", "2024-02-29T04:05:06.7", "20240229T040506.7", "2024-02-29 04:05:06.7 UTC"]
        {
            let shown = parse_timestamp(text).map(|us| printed(|o| put_timestamp(o, us)));
            assert_eq!(shown.map_err(|e| e.message), Ok("2024-02-29 04:05:06.7".into()), "{text}");
        }
        assert_eq!(parse_timestamp("2024-02-29").map_err(|e| e.message), Ok(19_782 * DAY_US));
        assert_eq!(parse_timestamp("294277-01-01").map_err(|e| e.code.0), Err("22008"));
    }

    #[test]
    fn instants() {
        let berlin = Tz::Europe__Berlin;
        for (text, utc) in [
            ("2024-02-29 04:05:06Z", "2024-02-29 04:05:06+00"),
            ("2024-02-29T04:05:06+05:30", "2024-02-28 22:35:06+00"),
            ("2024-02-29 04:05:06 -0800", "2024-02-29 12:05:06+00"),
            ("2024-02-29 04:05:06", "2024-02-29 03:05:06+00"),
            ("2024-07-01 04:05:06", "2024-07-01 02:05:06+00"),
            ("2024-07-01 04:05:06 America/New_York", "2024-07-01 08:05:06+00"),
            // The gap of spring, the overlap of autumn.
            ("2024-03-31 02:30:00", "2024-03-31 01:30:00+00"),
            ("2024-10-27 02:30:00", "2024-10-27 01:30:00+00"),
            ("epoch", "1970-01-01 00:00:00+00"),
        ] {
            assert_eq!(timestamptz(text, berlin), Ok(utc.to_string()), "{text}");
        }
        assert_eq!(timestamptz("2024-02-29 04:05:06 Nowhere/Land", berlin), Err("22023"));
        assert_eq!(timestamptz("2024-02-29 04:05:06+99", berlin), Err("22009"));
        assert_eq!(timestamptz("yesterdayish", berlin), Err("22007"));
    }
}
