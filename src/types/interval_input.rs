//! Intervals as Postgres reads them: `1 year 2 mons 3 days 04:05:06.7`, `@ 5 min ago`, `P1Y2M3DT4H5M6.7S`, `1-2`.
//!
//! A fraction of a large unit spills into smaller ones as in Postgres: months are 30 days, days 24 hours.

use super::datetime::{DAY_US, HOUR_US, MINUTE_US, SECOND_US};
use super::datetime_input::fraction_us;
use super::number_input::shown;
use crate::error::{Error, Result, SqlState};

/// Months, days and microseconds.
#[derive(Default, Clone, Copy, PartialEq, Debug)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub time_us: i64,
}

/// A number as written: its sign apart, so that `-0.5` and `-0:30` keep it.
#[derive(Clone, Copy)]
struct Number<'a> {
    is_negative: bool,
    whole: i64,
    /// Digits behind the point.
    fraction: &'a str,
}

impl Number<'_> {
    fn sign(&self) -> i64 {
        if self.is_negative { -1 } else { 1 }
    }

    /// Signed, between −1 and 1.
    fn fraction_value(&self) -> f64 {
        let magnitude: f64 = format!("0.{}", self.fraction).parse().unwrap_or(0.0);
        magnitude * self.sign() as f64
    }
}

enum Fault {
    Syntax,
    Range,
}

#[derive(Default)]
struct Sum {
    months: i64,
    days: i64,
    time_us: i64,
}

/// 22007 for bad syntax, 22008 (`22015` in Postgres' own words) for what does not fit.
pub fn parse_interval(text: &str) -> Result<Interval> {
    let finished = read(text.trim()).and_then(|sum| {
        let time_ns_fits = sum.time_us.checked_mul(1000).is_some();
        match (i32::try_from(sum.months), i32::try_from(sum.days)) {
            (Ok(months), Ok(days)) if time_ns_fits => Ok(Interval { months, days, time_us: sum.time_us }),
            _ => Err(Fault::Range),
        }
    });
    finished.map_err(|fault| match fault {
        Fault::Syntax => Error::new(
            SqlState::INVALID_DATETIME_FORMAT,
            format!("invalid input syntax for type interval: \"{}\"", shown(text)),
        ),
        Fault::Range => {
            Error::new(SqlState("22015"), format!("interval field value out of range: \"{}\"", shown(text)))
        }
    })
}

fn read(text: &str) -> Result<Sum, Fault> {
    if let Some(designators) = text.strip_prefix(['P', 'p']) {
        return read_iso(designators);
    }
    let mut sum = Sum::default();
    let mut pending: Option<Number> = None;
    let mut parts = 0;
    let mut ago = false;
    for word in text.split_ascii_whitespace() {
        if word == "@" || ago {
            if ago {
                return Err(Fault::Syntax);
            }
            continue;
        }
        if word.eq_ignore_ascii_case("ago") {
            ago = true;
            continue;
        }
        parts += 1;
        let first = word.as_bytes()[0];
        if first.is_ascii_alphabetic() {
            add(&mut sum, pending.take().ok_or(Fault::Syntax)?, word)?;
            continue;
        }
        if let Some(days) = pending.take() {
            // `3 04:05:06`: the bare number counts days.
            if !word.contains(':') {
                return Err(Fault::Syntax);
            }
            add(&mut sum, days, "day")?;
        }
        if word.contains(':') {
            add_clock(&mut sum, word)?;
            continue;
        }
        let (number, rest) = read_number(word)?;
        match rest.as_bytes().first() {
            None => pending = Some(number),
            Some(b'-') if number.fraction.is_empty() => {
                let months: i64 = rest[1..].parse().ok().filter(|m| (0..12).contains(m)).ok_or(Fault::Syntax)?;
                let total = number.whole.checked_mul(12).and_then(|m| m.checked_add(months)).ok_or(Fault::Range)?;
                sum.months = sum.months.checked_add(number.sign() * total).ok_or(Fault::Range)?;
            }
            Some(b) if b.is_ascii_alphabetic() => add_runs(&mut sum, number, rest)?,
            Some(_) => return Err(Fault::Syntax),
        }
    }
    if let Some(seconds) = pending {
        add(&mut sum, seconds, "second")?;
    }
    if parts == 0 {
        return Err(Fault::Syntax);
    }
    if ago {
        sum.months = sum.months.checked_neg().ok_or(Fault::Range)?;
        sum.days = sum.days.checked_neg().ok_or(Fault::Range)?;
        sum.time_us = sum.time_us.checked_neg().ok_or(Fault::Range)?;
    }
    Ok(sum)
}

/// `1d12h`: units and numbers without blanks; `rest` starts with a letter.
fn add_runs<'a>(sum: &mut Sum, mut number: Number<'a>, mut rest: &'a str) -> Result<(), Fault> {
    loop {
        let end = rest.bytes().position(|b| !b.is_ascii_alphabetic()).unwrap_or(rest.len());
        add(sum, number, &rest[..end])?;
        if end == rest.len() {
            return Ok(());
        }
        (number, rest) = read_number(&rest[end..])?;
        if !rest.as_bytes().first().is_some_and(|b| b.is_ascii_alphabetic()) {
            return Err(Fault::Syntax);
        }
    }
}

/// A signed decimal at the start of the word, and what follows it.
fn read_number(word: &str) -> Result<(Number<'_>, &str), Fault> {
    let is_negative = word.starts_with('-');
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let whole_end = unsigned.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(unsigned.len());
    let (whole, mut rest) = unsigned.split_at(whole_end);
    let mut fraction = "";
    if let Some(behind) = rest.strip_prefix('.') {
        let end = behind.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(behind.len());
        (fraction, rest) = behind.split_at(end);
    }
    if whole.is_empty() && fraction.is_empty() {
        return Err(Fault::Syntax);
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| Fault::Range)? };
    Ok((Number { is_negative, whole, fraction }, rest))
}

/// `[-]hours:minutes[:seconds[.fraction]]`; two fields with a fraction are minutes and seconds.
fn add_clock(sum: &mut Sum, word: &str) -> Result<(), Fault> {
    let is_negative = word.starts_with('-');
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    let (clock, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let fields: Vec<i64> = clock
        .split(':')
        .map(|f| match !f.is_empty() && f.bytes().all(|b| b.is_ascii_digit()) {
            true => f.parse().map_err(|_| Fault::Range),
            false => Err(Fault::Syntax),
        })
        .collect::<Result<_, _>>()?;
    let (hours, minutes, seconds) = match (fields.as_slice(), fraction.is_empty()) {
        ([minutes, seconds], false) => (0, *minutes, *seconds),
        ([hours, minutes], true) => (*hours, *minutes, 0),
        ([hours, minutes, seconds], _) => (*hours, *minutes, *seconds),
        _ => return Err(Fault::Syntax),
    };
    if minutes > 59 || seconds > 60 {
        return Err(Fault::Range);
    }
    let rest = minutes * MINUTE_US + seconds * SECOND_US + fraction_us(fraction).ok_or(Fault::Syntax)?;
    let time_us = hours.checked_mul(HOUR_US).and_then(|us| us.checked_add(rest)).ok_or(Fault::Range)?;
    let signed = if is_negative { -time_us } else { time_us };
    sum.time_us = sum.time_us.checked_add(signed).ok_or(Fault::Range)?;
    Ok(())
}

fn add(sum: &mut Sum, number: Number, unit: &str) -> Result<(), Fault> {
    let mut unit = unit.to_ascii_lowercase();
    if unit.len() > 3 && unit.ends_with('s') {
        unit.pop();
    }
    let months = match unit.as_str() {
        "millennium" | "millennia" | "mil" => 12_000,
        "century" | "centurie" | "c" | "cent" => 1200,
        "decade" | "dec" | "decs" => 120,
        "year" | "y" | "yr" | "yrs" => 12,
        "mon" | "month" | "mons" => 1,
        _ => 0,
    };
    let signed = number.sign() * number.whole;
    if months != 0 {
        sum.months = checked_sum(sum.months, signed, months)?;
        if months > 1 {
            sum.months += (number.fraction_value() * months as f64).round() as i64;
        } else {
            add_fraction_days(sum, number.fraction_value() * 30.0)?;
        }
        return Ok(());
    }
    let unit_us = match unit.as_str() {
        "week" | "w" => {
            sum.days = checked_sum(sum.days, signed, 7)?;
            return add_fraction_days(sum, number.fraction_value() * 7.0);
        }
        "day" | "d" => {
            sum.days = checked_sum(sum.days, signed, 1)?;
            return add_fraction_days(sum, number.fraction_value());
        }
        "hour" | "h" | "hr" | "hrs" => HOUR_US,
        "minute" | "m" | "min" => MINUTE_US,
        "second" | "s" | "sec" => {
            let us = number.sign() * fraction_us(number.fraction).ok_or(Fault::Syntax)?;
            sum.time_us = checked_sum(sum.time_us, signed, SECOND_US)?.checked_add(us).ok_or(Fault::Range)?;
            return Ok(());
        }
        "millisecond" | "ms" | "msec" | "msecond" => 1000,
        "microsecond" | "us" | "usec" | "usecond" => 1,
        _ => return Err(Fault::Syntax),
    };
    let fraction = (number.fraction_value() * unit_us as f64).round() as i64;
    sum.time_us = checked_sum(sum.time_us, signed, unit_us)?.checked_add(fraction).ok_or(Fault::Range)?;
    Ok(())
}

fn checked_sum(sum: i64, count: i64, unit: i64) -> Result<i64, Fault> {
    count.checked_mul(unit).and_then(|value| sum.checked_add(value)).ok_or(Fault::Range)
}

/// Whole days go to the days, the rest to the time.
fn add_fraction_days(sum: &mut Sum, days: f64) -> Result<(), Fault> {
    sum.days = sum.days.checked_add(days.trunc() as i64).ok_or(Fault::Range)?;
    let time_us = (days.fract() * DAY_US as f64).round() as i64;
    sum.time_us = sum.time_us.checked_add(time_us).ok_or(Fault::Range)?;
    Ok(())
}

/// `1Y2M3DT4H5M6.7S`, behind the P.
fn read_iso(text: &str) -> Result<Sum, Fault> {
    let mut sum = Sum::default();
    let (mut rest, mut in_time, mut parts) = (text, false, 0);
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix(['T', 't']) {
            if in_time {
                return Err(Fault::Syntax);
            }
            (rest, in_time) = (behind, true);
            continue;
        }
        let (number, behind) = read_number(rest)?;
        let letter = behind.chars().next().ok_or(Fault::Syntax)?.to_ascii_uppercase();
        let unit = match (letter, in_time) {
            ('Y', false) => "year",
            ('M', false) => "mon",
            ('W', false) => "week",
            ('D', false) => "day",
            ('H', true) => "hour",
            ('M', true) => "minute",
            ('S', true) => "second",
            _ => return Err(Fault::Syntax),
        };
        add(&mut sum, number, unit)?;
        rest = &behind[1..];
        parts += 1;
    }
    if parts == 0 { Err(Fault::Syntax) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        let clock = 4 * HOUR_US + 5 * MINUTE_US + 6_700_000;
        for (text, months, days, time_us) in [
            ("1 year 2 mons 3 days 04:05:06.7", 14, 3, clock),
            ("P1Y2M3DT4H5M6.7S", 14, 3, clock),
            ("1-2", 14, 0, 0),
            ("-1-2", -14, 0, 0),
            ("3 04:05:06.7", 0, 3, clock),
            ("-3 days -04:05:06.7", 0, -3, -clock),
            ("@ 5 minutes ago", 0, 0, -5 * MINUTE_US),
            ("1.5 days", 0, 1, 12 * HOUR_US),
            ("1.5 months", 1, 15, 0),
            ("1.5 years", 18, 0, 0),
            ("2 weeks", 0, 14, 0),
            ("5", 0, 0, 5 * SECOND_US),
            ("0.000001", 0, 0, 1),
            ("1d12h", 0, 1, 12 * HOUR_US),
            ("1 hour 30 min", 0, 0, 90 * MINUTE_US),
            ("-0.5 s", 0, 0, -500_000),
            ("10 ms", 0, 0, 10_000),
            ("1 century", 1200, 0, 0),
            ("100:00:00", 0, 0, 100 * HOUR_US),
        ] {
            let read = parse_interval(text).map_err(|e| e.message);
            assert_eq!(read, Ok(Interval { months, days, time_us }), "{text}");
        }
        for (text, code) in [
            ("", "22007"),
            ("abc", "22007"),
            ("1 fortnight", "22007"),
            ("1 2 3", "22007"),
            ("P", "22007"),
            ("1 day ago ago", "22007"),
            ("99999999999 years", "22015"),
            ("99999999999999999999 s", "22015"),
            ("9223372036854775807 s", "22015"),
            ("9223372036854 s", "22015"),
            ("01:60", "22015"),
        ] {
            assert_eq!(parse_interval(text).map_err(|e| e.code.0), Err(code), "{text}");
        }
    }
}
