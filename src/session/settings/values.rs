//! How the text of a SET becomes the value that is kept and shown.

use chrono_tz::Tz;

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Text,
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    Enum(&'static [&'static str]),
    /// A Boolean that has one possible value here.
    Only(&'static str),
    Time(Unit),
    Encoding,
    DateStyle,
    TimeZone,
    /// Only the server sets it.
    Internal,
}

/// What a number without a unit means.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    Milliseconds,
}

/// `Err`: a hint at what it takes; may be empty.
pub fn normalise(kind: Kind, default: &str, value: &str) -> Result<String, String> {
    match kind {
        Kind::Text | Kind::Internal => Ok(value.to_string()),
        Kind::Bool => bool(value).map(on_off).ok_or_else(|| "it takes on or off".to_string()),
        Kind::Only(only) => match bool(value).map(on_off) {
            Some(read) if read == only => Ok(read),
            _ => Err(format!("only {only} is supported")),
        },
        Kind::Integer { min, max } => match value.trim().parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number.to_string()),
            _ => Err(format!("it takes a whole number from {min} to {max}")),
        },
        Kind::Enum(known) => known
            .iter()
            .find(|k| k.eq_ignore_ascii_case(value.trim()))
            .map(|k| k.to_string())
            .ok_or_else(|| format!("Available values: {}.", known.join(", "))),
        Kind::Time(Unit::Milliseconds) => milliseconds(value).map(show_milliseconds).ok_or_else(|| {
            "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\".".into()
        }),
        Kind::Encoding => {
            let plain: String = unquote(value).chars().filter(char::is_ascii_alphanumeric).collect();
            match plain.to_ascii_lowercase().as_str() {
                "utf8" | "unicode" => Ok("UTF8".to_string()),
                _ => Err("only UTF8 is supported".to_string()),
            }
        }
        Kind::DateStyle => date_style(default, value)
            .ok_or_else(|| "dates are printed in style ISO; the order is MDY, DMY or YMD".to_string()),
        Kind::TimeZone => time_zone_name(value).ok_or_else(String::new),
    }
}

fn unquote(value: &str) -> &str {
    value.trim().trim_matches(|c| c == '\'' || c == '"')
}

/// As Postgres reads a Boolean: a unique prefix will do.
fn bool(value: &str) -> Option<bool> {
    let value = unquote(value).to_ascii_lowercase();
    match value.as_str() {
        "" => None,
        "on" | "1" => Some(true),
        "of" | "off" | "0" => Some(false),
        v if "true".starts_with(v) || "yes".starts_with(v) => Some(true),
        v if "false".starts_with(v) || "no".starts_with(v) => Some(false),
        _ => None,
    }
}

fn on_off(value: bool) -> String {
    if value { "on" } else { "off" }.to_string()
}

/// `90000`, `90s`, `1.5 min`; up to Postgres' limit of 2³¹−1 ms.
pub fn milliseconds(value: &str) -> Option<u64> {
    let value = unquote(value);
    let split = value.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(value.len());
    let (number, unit) = value.split_at(split);
    let factor = match unit.trim() {
        "" | "ms" => 1.0,
        "us" => 0.001,
        "s" => 1e3,
        "min" => 60e3,
        "h" => 3600e3,
        "d" => 86400e3,
        _ => return None,
    };
    let ms = number.parse::<f64>().ok()? * factor;
    (ms <= i32::MAX as f64).then_some(ms.round() as u64)
}

/// In the largest whole unit, as SHOW does.
fn show_milliseconds(ms: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)];
    match UNITS.iter().find(|(_, size)| ms > 0 && ms.is_multiple_of(*size)) {
        Some((unit, size)) => format!("{}{unit}", ms / size),
        None if ms == 0 => "0".to_string(),
        None => format!("{ms}ms"),
    }
}

/// `ISO, MDY`: the order that is not said stays as `default` has it.
fn date_style(default: &str, value: &str) -> Option<String> {
    let (style, mut order) = default.split_once(", ")?;
    for word in unquote(value).split(',') {
        match word.trim().to_ascii_lowercase().as_str() {
            "" | "iso" | "default" => {}
            "ymd" => order = "YMD",
            "dmy" | "euro" | "european" => order = "DMY",
            "mdy" | "us" | "noneuro" | "noneuropean" => order = "MDY",
            _ => return None,
        }
    }
    Some(format!("{style}, {order}"))
}

/// The canonical name of a zone: an IANA name in any case, `UTC`, or a whole-hour offset.
fn time_zone_name(value: &str) -> Option<String> {
    let value = unquote(value);
    match value.to_ascii_lowercase().as_str() {
        "default" | "local" => return Some("UTC".to_string()),
        "utc" | "z" | "zulu" => return Some("UTC".to_string()),
        _ => {}
    }
    parse_time_zone(value).map(|zone| match zone {
        Tz::Etc__UTC => "Etc/UTC".to_string(),
        zone => zone.name().to_string(),
    })
}

/// `None` if there is no such zone. A number is hours east of Greenwich; `<+02>-02` and its kin are not read.
pub fn parse_time_zone(value: &str) -> Option<Tz> {
    let value = unquote(value);
    if let Some(zone) = chrono_tz::TZ_VARIANTS.iter().find(|zone| zone.name().eq_ignore_ascii_case(value)) {
        return Some(*zone);
    }
    let hours = offset_hours(value)?;
    // POSIX names count west of Greenwich as positive.
    let name = match hours {
        0 => "Etc/GMT".to_string(),
        east if east > 0 => format!("Etc/GMT-{east}"),
        west => format!("Etc/GMT+{}", -west),
    };
    name.parse().ok()
}

/// `2`, `+02`, `-03:00`: whole hours east.
fn offset_hours(value: &str) -> Option<i32> {
    let (hours, minutes) = value.split_once(':').unwrap_or((value, "00"));
    let zero = !minutes.is_empty() && minutes.bytes().all(|b| b == b'0');
    let hours: i32 = hours.parse().ok()?;
    (zero && (-12..=14).contains(&hours)).then_some(hours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_zones_by_name_and_offset() {
        assert_eq!(time_zone_name("europe/berlin").as_deref(), Some("Europe/Berlin"));
        assert_eq!(time_zone_name("'utc'").as_deref(), Some("UTC"));
        assert_eq!(parse_time_zone("+02"), Some(Tz::Etc__GMTMinus2));
        assert_eq!(parse_time_zone("-3:00"), Some(Tz::Etc__GMTPlus3));
        assert_eq!(parse_time_zone("+05:30"), None);
        assert_eq!(time_zone_name("Mars/Olympus"), None);
    }

    #[test]
    fn spans_are_shown_in_their_largest_unit() {
        let show = |text| milliseconds(text).map(show_milliseconds);
        assert_eq!(show("90000").as_deref(), Some("90s"));
        assert_eq!(show("1.5 min").as_deref(), Some("90s"));
        assert_eq!(show("0").as_deref(), Some("0"));
        assert_eq!(show("1d").as_deref(), Some("1d"));
        assert_eq!(show("3 weeks"), None);
        assert_eq!(show("99999999999"), None);
    }

    #[test]
    fn booleans_by_unique_prefix() {
        assert_eq!(bool("t"), Some(true));
        assert_eq!(bool("OFF"), Some(false));
        assert_eq!(bool("o"), None);
        assert_eq!(bool(""), None);
    }
}
