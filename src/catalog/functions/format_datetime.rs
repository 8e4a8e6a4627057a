//! `to_char` of times, and `to_timestamp` and `to_date` from text, by Postgres' templates (`YYYY-MM-DD HH24:MI:SS.MS`).
//!
//! A template is cut into fields and literal text once per call; a field has a prefix `FM` (no padding) and a suffix `TH`.

use arrow::datatypes::IntervalMonthDayNano;

use super::datetime::{DAY_US, date_of, iso_week, out_of_range, to_instant, to_local};
use super::scalar::{Function, Kernel, Type, function, overload};
use crate::error::{Error, Result, SqlState};
use crate::types::datetime::{civil_from_days, days_from_civil, utc_offset_s};

use Type::{Float8, Interval, Numeric, Text, Timestamp, Timestamptz};

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        "to_char",
        &[
            overload(
                &[Timestamp, Text],
                Kernel::Text(|row| Ok(Some(print(&Moment::of(row.timestamp(0)), row.text(1))?))),
            ),
            overload(
                &[Timestamptz, Text],
                Kernel::Text(|row| {
                    let instant = row.timestamp(0);
                    let mut moment = Moment::of(to_local(instant, row.zone));
                    moment.offset_s = Some(utc_offset_s(row.zone, instant).into());
                    moment.zone = zone_name(row.zone, instant);
                    Ok(Some(print(&moment, row.text(1))?))
                }),
            ),
            overload(
                &[Interval, Text],
                Kernel::Text(|row| Ok(Some(print(&Moment::of_interval(row.interval(0)), row.text(1))?))),
            ),
            overload(
                &[Float8, Text],
                Kernel::Text(|row| super::format_number::of_float(row.float(0), row.text(1)).map(Some)),
            ),
            overload(
                &[Numeric, Text],
                Kernel::Text(|row| super::format_number::of_decimal(row.numeric(0), row.text(1)).map(Some)),
            ),
        ],
    ),
    function(
        "to_timestamp",
        &[
            overload(
                &[Float8],
                Kernel::Timestamptz(|row| {
                    let us = (row.float(0) * 1e6).round();
                    if us.abs() < 9.2e18 { Ok(Some(us as i64)) } else { Err(out_of_range()) }
                }),
            ),
            overload(
                &[Text, Text],
                Kernel::Timestamptz(|row| {
                    let parsed = read(row.text(0), row.text(1))?;
                    Ok(Some(match parsed.offset_s {
                        Some(offset) => parsed.local_us()?.checked_sub(offset * 1_000_000).ok_or_else(out_of_range)?,
                        None => to_instant(parsed.local_us()?, row.zone),
                    }))
                }),
            ),
        ],
    ),
    function(
        "to_date",
        &[overload(
            &[Text, Text],
            Kernel::Date(|row| {
                i32::try_from(read(row.text(0), row.text(1))?.days()?).map(Some).map_err(|_| out_of_range())
            }),
        )],
    ),
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const ROMAN: [&str; 12] = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];

/// What a template can ask of a time or of an interval.
struct Moment {
    year: i64,
    month: u32,
    day: i64,
    hour: i64,
    /// Of the hour, with its sign.
    minute: i64,
    us: i64,
    /// Since 1970; `None` for an interval.
    days: Option<i64>,
    offset_s: Option<i64>,
    zone: String,
}

impl Moment {
    fn of(local_us: i64) -> Moment {
        let (days, time) = (local_us.div_euclid(DAY_US), local_us.rem_euclid(DAY_US));
        let (year, month, day) = civil_from_days(days);
        Moment {
            year,
            month,
            day: day.into(),
            hour: time / 3_600_000_000,
            minute: time / 60_000_000 % 60,
            us: time % 60_000_000,
            days: Some(days),
            offset_s: None,
            zone: String::new(),
        }
    }

    fn of_interval(value: IntervalMonthDayNano) -> Moment {
        let us = value.nanoseconds / 1_000;
        Moment {
            year: (value.months / 12).into(),
            month: (value.months % 12).unsigned_abs(),
            day: value.days.into(),
            hour: us / 3_600_000_000,
            minute: us / 60_000_000 % 60,
            us: us % 60_000_000,
            days: None,
            offset_s: None,
            zone: String::new(),
        }
    }

    fn second(&self) -> i64 {
        self.us / 1_000_000
    }

    fn fraction_us(&self) -> i64 {
        (self.us % 1_000_000).abs()
    }
}

fn zone_name(zone: chrono_tz::Tz, instant_us: i64) -> String {
    use chrono::TimeZone;
    match chrono::DateTime::from_timestamp_micros(instant_us) {
        Some(instant) => zone.from_utc_datetime(&instant.naive_utc()).format("%Z").to_string(),
        None => zone.name().to_string(),
    }
}

#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Field { name: &'static str, fill: bool, ordinal: Option<bool>, written: &'a str },
    Literal(String),
}

/// Longer names come before those that they begin with.
const FIELDS: &[&str] = &[
    "SSSSS", "SSSS", "MONTH", "Month", "month", "Y,YYY", "HH24", "HH12", "YYYY", "IYYY", "A.D.", "B.C.", "a.d.",
    "b.c.", "A.M.", "P.M.", "a.m.", "p.m.", "IDDD", "DDD", "DAY", "Day", "day", "MON", "Mon", "mon", "YYY", "IYY",
    "TZH", "TZM", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "HH", "MI", "SS", "MS", "US", "MM", "DD", "DY", "Dy", "dy",
    "YY", "IY", "IW", "WW", "CC", "RM", "rm", "TZ", "tz", "OF", "AM", "PM", "am", "pm", "AD", "BC", "ad", "bc", "ID",
    "W", "D", "J", "Q", "Y", "I",
];

fn pieces(template: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (vec![], template);
    let literal = |pieces: &mut Vec<Piece<'_>>, text: &str| match pieces.last_mut() {
        Some(Piece::Literal(before)) => before.push_str(text),
        _ => pieces.push(Piece::Literal(text.to_string())),
    };
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            // Quoted text, in which a backslash protects a quote.
            let mut inner = String::new();
            let mut chars = rest[1..].char_indices();
            let mut end = rest.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        end = at + 2;
                        break;
                    }
                    '\\' => inner.extend(chars.next().map(|(_, c)| c)),
                    c => inner.push(c),
                }
            }
            literal(&mut pieces, &inner);
            rest = &rest[end..];
            continue;
        }
        let (mut after, mut fill) = (rest, true);
        while let Some(prefixed) = ["FM", "fm", "FX", "fx", "TM", "tm"].iter().find_map(|p| after.strip_prefix(*p)) {
            fill &= !after[..2].eq_ignore_ascii_case("fm");
            after = prefixed;
        }
        // Numbers may be asked for in small letters too.
        let found = FIELDS.iter().find(|name| {
            after.starts_with(**name)
                || (name.bytes().all(|byte| !byte.is_ascii_lowercase())
                    && !has_cases(name)
                    && after.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
        });
        match found {
            Some(name) => {
                let written = &after[..name.len()];
                after = &after[name.len()..];
                let ordinal = match after.get(..2) {
                    Some("TH") => Some(true),
                    Some("th") => Some(false),
                    _ => None,
                };
                if ordinal.is_some() {
                    after = &after[2..];
                }
                pieces.push(Piece::Field { name, fill, ordinal, written });
                rest = after;
            }
            None if first == '\\' && rest[1..].starts_with('"') => {
                literal(&mut pieces, "\"");
                rest = &rest[2..];
            }
            None => {
                literal(&mut pieces, &rest[..first.len_utf8()]);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    pieces
}

/// Names whose letters say how the word is to be written.
fn has_cases(name: &str) -> bool {
    matches!(
        name,
        "MONTH" | "MON" | "DAY" | "DY" | "RM" | "TZ" | "AM" | "PM" | "AD" | "BC" | "A.M." | "P.M." | "A.D." | "B.C."
    )
}

fn print(moment: &Moment, template: &str) -> Result<String> {
    let mut out = String::with_capacity(template.len() + 8);
    for piece in pieces(template) {
        match piece {
            Piece::Literal(text) => out.push_str(&text),
            Piece::Field { name, fill, ordinal, .. } => {
                let text = field(moment, name, fill)?;
                out.push_str(&text);
                if let Some(upper) = ordinal {
                    let suffix = ordinal_suffix(&text);
                    out.push_str(&if upper { suffix.to_uppercase() } else { suffix.to_string() });
                }
            }
        }
    }
    Ok(out)
}

pub(super) fn ordinal_suffix(number: &str) -> &'static str {
    let digits = number.trim();
    let (last, tens) = (digits.bytes().next_back(), digits.bytes().rev().nth(1));
    match (last, tens) {
        (_, Some(b'1')) => "th",
        (Some(b'1'), _) => "st",
        (Some(b'2'), _) => "nd",
        (Some(b'3'), _) => "rd",
        _ => "th",
    }
}

fn field(moment: &Moment, name: &str, fill: bool) -> Result<String> {
    let no_date = || {
        Error::new(SqlState::INVALID_DATETIME_FORMAT, "invalid format specification for an interval value")
            .with_hint("intervals are not tied to specific calendar dates")
    };
    let padded = |value: i64, width: usize| {
        // The sign does not count.
        let width = if value < 0 { width + 1 } else { width };
        if fill { format!("{value:0width$}") } else { value.to_string() }
    };
    let word = |text: String, width: usize| if fill { format!("{text:<width$}") } else { text };
    let days = || moment.days.ok_or_else(no_date);
    let shown_year = if moment.year <= 0 && moment.days.is_some() { 1 - moment.year } else { moment.year };
    let month_name = || -> Result<&'static str> {
        days()?;
        Ok(MONTHS[moment.month as usize - 1])
    };
    let day_name = || -> Result<&'static str> { Ok(DAYS[(days()? + 4).rem_euclid(7) as usize]) };
    let hour12 = |hour: i64| if hour % 12 == 0 { 12 } else { hour % 12 };
    let is_pm = moment.hour.rem_euclid(24) >= 12;
    Ok(match name {
        "HH24" => padded(moment.hour, 2),
        "HH12" | "HH" if moment.days.is_none() => {
            padded(moment.hour % 12 + if moment.hour % 12 == 0 { 12 } else { 0 }, 2)
        }
        "HH12" | "HH" => padded(hour12(moment.hour), 2),
        "MI" => padded(moment.minute, 2),
        "SS" => padded(moment.second(), 2),
        "MS" => format!("{:03}", moment.fraction_us() / 1_000),
        "US" => format!("{:06}", moment.fraction_us()),
        "FF1" => format!("{:01}", moment.fraction_us() / 100_000),
        "FF2" => format!("{:02}", moment.fraction_us() / 10_000),
        "FF3" => format!("{:03}", moment.fraction_us() / 1_000),
        "FF4" => format!("{:04}", moment.fraction_us() / 100),
        "FF5" => format!("{:05}", moment.fraction_us() / 10),
        "FF6" => format!("{:06}", moment.fraction_us()),
        "SSSS" | "SSSSS" => (moment.hour * 3600 + moment.minute * 60 + moment.second()).to_string(),
        "AM" | "PM" => if is_pm { "PM" } else { "AM" }.to_string(),
        "am" | "pm" => if is_pm { "pm" } else { "am" }.to_string(),
        "A.M." | "P.M." => if is_pm { "P.M." } else { "A.M." }.to_string(),
        "a.m." | "p.m." => if is_pm { "p.m." } else { "a.m." }.to_string(),
        "Y,YYY" => format!("{},{:03}", shown_year / 1000, shown_year % 1000),
        "YYYY" => padded(shown_year, 4),
        "YYY" => padded(shown_year % 1000, 3),
        "YY" => padded(shown_year % 100, 2),
        "Y" => padded(shown_year % 10, 1),
        "IYYY" => padded(iso_week(days()?).0, 4),
        "IYY" => padded(iso_week(days()?).0 % 1000, 3),
        "IY" => padded(iso_week(days()?).0 % 100, 2),
        "I" => padded(iso_week(days()?).0 % 10, 1),
        "BC" | "AD" => if moment.year <= 0 { "BC" } else { "AD" }.to_string(),
        "bc" | "ad" => if moment.year <= 0 { "bc" } else { "ad" }.to_string(),
        "B.C." | "A.D." => if moment.year <= 0 { "B.C." } else { "A.D." }.to_string(),
        "b.c." | "a.d." => if moment.year <= 0 { "b.c." } else { "a.d." }.to_string(),
        "MONTH" => word(month_name()?.to_uppercase(), 9),
        "Month" => word(month_name()?.to_string(), 9),
        "month" => word(month_name()?.to_lowercase(), 9),
        "MON" => month_name()?[..3].to_uppercase(),
        "Mon" => month_name()?[..3].to_string(),
        "mon" => month_name()?[..3].to_lowercase(),
        "MM" => padded(moment.month.into(), 2),
        "DAY" => word(day_name()?.to_uppercase(), 9),
        "Day" => word(day_name()?.to_string(), 9),
        "day" => word(day_name()?.to_lowercase(), 9),
        "DY" => day_name()?[..3].to_uppercase(),
        "Dy" => day_name()?[..3].to_string(),
        "dy" => day_name()?[..3].to_lowercase(),
        "DDD" => padded(days()? - days_from_civil(moment.year, 1, 1) + 1, 3),
        "IDDD" => {
            let (_, week) = iso_week(days()?);
            padded((week - 1) * 7 + (days()? + 3).rem_euclid(7) + 1, 3)
        }
        "DD" => padded(moment.day, 2),
        "D" => ((days()? + 4).rem_euclid(7) + 1).to_string(),
        "ID" => ((days()? + 3).rem_euclid(7) + 1).to_string(),
        "W" => ((moment.day - 1) / 7 + 1).to_string(),
        "WW" => padded((days()? - days_from_civil(moment.year, 1, 1)) / 7 + 1, 2),
        "IW" => padded(iso_week(days()?).1, 2),
        "CC" => padded(if moment.year > 0 { (moment.year + 99) / 100 } else { -((99 - (moment.year - 1)) / 100) }, 2),
        "J" => (days()? + 2_440_588).to_string(),
        "Q" => {
            days()?;
            ((moment.month - 1) / 3 + 1).to_string()
        }
        "RM" | "rm" => {
            let roman = match moment.month {
                0 => "",
                month => ROMAN[month as usize - 1],
            };
            let roman = if name == "rm" { roman.to_lowercase() } else { roman.to_string() };
            word(roman, 4)
        }
        "TZ" => moment.zone.to_uppercase(),
        "tz" => moment.zone.to_lowercase(),
        "TZH" => format!("{}{:02}", sign(moment), moment.offset_s.unwrap_or(0).abs() / 3600),
        "TZM" => format!("{:02}", moment.offset_s.unwrap_or(0).abs() / 60 % 60),
        "OF" => {
            let offset = moment.offset_s.unwrap_or(0).abs();
            let minutes = offset / 60 % 60;
            let rest = if minutes == 0 { String::new() } else { format!(":{minutes:02}") };
            format!("{}{:02}{rest}", sign(moment), offset / 3600)
        }
        other => return Err(Error::internal(format!("template field {other}"))),
    })
}

fn sign(moment: &Moment) -> char {
    if moment.offset_s.unwrap_or(0) < 0 { '-' } else { '+' }
}

/// What was read.
#[derive(Default)]
struct Parsed {
    year: Option<i64>,
    bc: bool,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    julian: Option<i64>,
    iso_year: Option<i64>,
    iso_week: Option<i64>,
    iso_day: Option<i64>,
    hour: i64,
    pm: Option<bool>,
    is_12: bool,
    minute: i64,
    second: i64,
    us: i64,
    seconds_of_day: Option<i64>,
    offset_s: Option<i64>,
    offset_sign: i64,
}

impl Parsed {
    fn days(&self) -> Result<i64> {
        if let Some(julian) = self.julian {
            return Ok(julian - 2_440_588);
        }
        if let (Some(year), Some(week)) = (self.iso_year, self.iso_week) {
            date_of(year, 1, 4)?;
            let fourth = days_from_civil(year, 1, 4);
            let monday = fourth - (fourth + 3).rem_euclid(7);
            return Ok(monday + (week - 1) * 7 + self.iso_day.unwrap_or(1) - 1);
        }
        let year = match (self.year, self.bc) {
            (Some(year), true) => -year,
            (Some(year), false) => year,
            // No year is 1 BC, as in Postgres.
            (None, _) => -1,
        };
        if let Some(day) = self.day_of_year {
            return Ok(date_of(year, 1, 1)? + day - 1);
        }
        date_of(year, self.month.unwrap_or(1), self.day.unwrap_or(1))
    }

    fn local_us(&self) -> Result<i64> {
        let seconds = match self.seconds_of_day {
            Some(seconds) => seconds,
            None => {
                let hour = match (self.is_12 || self.pm.is_some(), self.pm) {
                    (true, _) if !(1..=12).contains(&self.hour) => {
                        let message = format!("hour \"{}\" is invalid for the 12-hour clock", self.hour);
                        return Err(Error::new(SqlState::INVALID_DATETIME_FORMAT, message)
                            .with_hint("use the 24-hour clock, or give an hour between 1 and 12"));
                    }
                    (_, Some(true)) => self.hour % 12 + 12,
                    (true, _) => self.hour % 12,
                    _ => self.hour,
                };
                if !(0..=24).contains(&hour) || !(0..60).contains(&self.minute) || !(0..60).contains(&self.second) {
                    return Err(Error::new(SqlState::DATETIME_FIELD_OVERFLOW, "date/time field value out of range"));
                }
                (hour * 60 + self.minute) * 60 + self.second
            }
        };
        let days = self.days()?.checked_mul(DAY_US).ok_or_else(out_of_range)?;
        days.checked_add(seconds * 1_000_000 + self.us).ok_or_else(out_of_range)
    }
}

/// Reads text by a template. Blanks in the text are skipped; a separator matches any other.
fn read(text: &str, template: &str) -> Result<Parsed> {
    let mut parsed = Parsed { offset_sign: 1, ..Parsed::default() };
    let mut rest = text.trim_start();
    let pieces = pieces(template);
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Literal(literal) => {
                for c in literal.chars() {
                    let next = rest.chars().next();
                    if c.is_whitespace() || c.is_ascii_punctuation() {
                        if let Some(next) = next.filter(|next| {
                            next.is_whitespace()
                                || (next.is_ascii_punctuation() && !matches!(next, '+' | '-'))
                                || *next == c
                        }) {
                            rest = &rest[next.len_utf8()..];
                        }
                    } else if let Some(next) = next {
                        rest = &rest[next.len_utf8()..];
                    }
                }
            }
            Piece::Field { name, ordinal, written, fill } => {
                rest = rest.trim_start();
                if rest.is_empty() {
                    break;
                }
                // Fields that touch are as wide as they are written; others go on while there are digits.
                let touches = matches!(pieces.get(index + 1), Some(Piece::Field { name, .. }) if is_digits(name));
                rest = take(rest, name, written, touches && *fill, &mut parsed)?;
                if ordinal.is_some() {
                    rest = rest.get(2..).unwrap_or("");
                }
            }
        }
    }
    Ok(parsed)
}

fn is_digits(name: &str) -> bool {
    !has_cases(&name.to_uppercase()) && !matches!(name, "OF" | "TZH")
}

fn take<'a>(rest: &'a str, name: &str, written: &str, exact: bool, parsed: &mut Parsed) -> Result<&'a str> {
    let wrong = |value: &str| {
        let message = format!("invalid value \"{value}\" for \"{written}\"");
        Error::new(SqlState::INVALID_DATETIME_FORMAT, message)
    };
    let width = match name {
        "YYYY" | "IYYY" | "HH24" | "HH12" if name.ends_with("YYYY") => 4,
        "HH24" | "HH12" => 2,
        "MS" | "FF3" | "DDD" | "YYY" | "IYY" => 3,
        "US" | "FF6" => 6,
        "SSSS" | "SSSSS" => 5,
        "J" => 7,
        "FF1" | "D" | "ID" | "Q" | "W" | "Y" | "I" => 1,
        "FF4" => 4,
        "FF5" => 5,
        "Y,YYY" => 5,
        _ => 2,
    };
    let words = |list: &[&str], length: Option<usize>| {
        list.iter().position(|word| {
            let word = &word[..length.unwrap_or(word.len())];
            rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
        })
    };
    match name {
        "MONTH" | "Month" | "month" => {
            let at = words(&MONTHS, None);
            let (at, length) = match at {
                Some(at) => (at, MONTHS[at].len()),
                None => (words(&MONTHS, Some(3)).ok_or_else(|| wrong(first_word(rest)))?, 3),
            };
            parsed.month = Some(at as i64 + 1);
            return Ok(&rest[length..]);
        }
        "MON" | "Mon" | "mon" => {
            let at = words(&MONTHS, Some(3)).ok_or_else(|| wrong(&rest.chars().take(3).collect::<String>()))?;
            parsed.month = Some(at as i64 + 1);
            return Ok(&rest[3..]);
        }
        "DAY" | "Day" | "day" => {
            let at = words(&DAYS, None).ok_or_else(|| wrong(first_word(rest)))?;
            return Ok(&rest[DAYS[at].len()..]);
        }
        "DY" | "Dy" | "dy" => {
            words(&DAYS, Some(3)).ok_or_else(|| wrong(first_word(rest)))?;
            return Ok(&rest[3..]);
        }
        "RM" | "rm" => {
            let mut order: Vec<usize> = (0..12).collect();
            order.sort_by_key(|at| std::cmp::Reverse(ROMAN[*at].len()));
            let found = order
                .into_iter()
                .find(|at| rest.get(..ROMAN[*at].len()).is_some_and(|start| start.eq_ignore_ascii_case(ROMAN[*at])));
            let at = found.ok_or_else(|| wrong(first_word(rest)))?;
            parsed.month = Some(at as i64 + 1);
            return Ok(&rest[ROMAN[at].len()..]);
        }
        "AM" | "PM" | "am" | "pm" | "A.M." | "P.M." | "a.m." | "p.m." => {
            let known = ["a.m.", "p.m.", "am", "pm"];
            let at = words(&known, None).ok_or_else(|| wrong(first_word(rest)))?;
            parsed.pm = Some(at % 2 == 1);
            return Ok(&rest[known[at].len()..]);
        }
        "AD" | "BC" | "ad" | "bc" | "A.D." | "B.C." | "a.d." | "b.c." => {
            let known = ["a.d.", "b.c.", "ad", "bc"];
            let at = words(&known, None).ok_or_else(|| wrong(first_word(rest)))?;
            parsed.bc = at % 2 == 1;
            return Ok(&rest[known[at].len()..]);
        }
        "TZ" | "tz" => {
            return Err(Error::unsupported(
                format!("formatting field \"{written}\" in to_timestamp"),
                "take TZH and TZM",
            ));
        }
        "TZH" | "OF" => {
            let (sign, digits) = match rest.chars().next() {
                Some('-') => (-1, &rest[1..]),
                Some('+') => (1, &rest[1..]),
                _ => (1, rest),
            };
            let (hours, mut after) = number(digits, 2, false).ok_or_else(|| wrong(first_word(rest)))?;
            parsed.offset_sign = sign;
            let mut offset = hours * 3600;
            if name == "OF"
                && let Some((minutes, rest)) = after.strip_prefix(':').and_then(|rest| number(rest, 2, false))
            {
                offset += minutes * 60;
                after = rest;
            }
            parsed.offset_s = Some(sign * offset);
            return Ok(after);
        }
        _ => {}
    }
    // Fractions are read from the left.
    let whole = !matches!(name, "MS" | "US") && !name.starts_with("FF");
    let greedy = matches!(name, "YYYY" | "IYYY" | "J" | "SSSS" | "SSSSS") && !exact;
    let limit = if greedy { 18 } else { width };
    let cleaned;
    let source = if name == "Y,YYY" {
        cleaned = rest.replacen(',', "", 1);
        cleaned.as_str()
    } else {
        rest
    };
    let (negative, digits) = match source.strip_prefix('-') {
        Some(digits) if whole => (true, digits),
        _ => (false, source),
    };
    let Some((value, after)) = number(digits, limit, !whole) else { return Err(wrong(first_word(rest))) };
    let value = if negative { -value } else { value };
    let length = source.len() - after.len();
    match name {
        "YYYY" | "Y,YYY" => {
            parsed.year = Some(if length - usize::from(negative) <= 2 && name == "YYYY" && length < 4 {
                near(value, length)
            } else {
                value
            })
        }
        "YYY" | "YY" | "Y" => parsed.year = Some(near(value, length)),
        "IYYY" => parsed.iso_year = Some(value),
        "IYY" | "IY" | "I" => parsed.iso_year = Some(near(value, length)),
        "MM" => parsed.month = Some(value),
        "DD" => parsed.day = Some(value),
        "DDD" => parsed.day_of_year = Some(value),
        "J" => parsed.julian = Some(value),
        "IW" => parsed.iso_week = Some(value),
        "ID" => parsed.iso_day = Some(value),
        "HH24" => parsed.hour = value,
        "HH12" | "HH" => (parsed.hour, parsed.is_12) = (value, true),
        "MI" => parsed.minute = value,
        "SS" => parsed.second = value,
        "SSSS" | "SSSSS" => parsed.seconds_of_day = Some(value),
        "MS" | "US" | "FF1" | "FF2" | "FF3" | "FF4" | "FF5" | "FF6" => parsed.us = value,
        "TZM" => parsed.offset_s = Some(parsed.offset_s.unwrap_or(0) + parsed.offset_sign * value * 60),
        _ => {}
    }
    Ok(rest.get(rest.len().saturating_sub(after.len())..).unwrap_or(""))
}

/// A year of fewer digits is the one nearest to 2020.
fn near(value: i64, digits: usize) -> i64 {
    match digits {
        0..=2 if value < 70 => value + 2000,
        0..=2 => value + 1900,
        3 if value < 100 => value + 2000,
        3 if value < 520 => value + 2000,
        3 => value + 1000,
        _ => value,
    }
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or(text)
}

/// Up to `limit` digits; as microseconds, if they stand behind the point.
fn number(text: &str, limit: usize, fraction: bool) -> Option<(i64, &str)> {
    let length = text.bytes().take(limit).take_while(u8::is_ascii_digit).count();
    if length == 0 {
        return None;
    }
    let value: i64 = text[..length].parse().ok()?;
    let value = if fraction { value * 10i64.pow(6 - length.min(6) as u32) } else { value };
    Some((value, &text[length..]))
}
