//! Settings as clients SET and SHOW them.
//!
//! - [`definitions`]: which there are, what they default to, what they take.
//! - [`values`]: how a value is read and normalised (22023).
//!
//! A [`Settings`] belongs to one session. SET LOCAL and a SET in a transaction that rolls back are undone from copies
//! that the transaction keeps.

mod definitions;
mod values;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

pub use definitions::{DEFINITIONS, Definition};
pub use values::parse_time_zone;

use crate::error::{Error, Result, SqlState};

/// The value of `role` that says: nobody but the session's user.
pub const NO_ROLE: &str = "none";
const SESSION_USER: &str = "session_authorization";
const ROLE: &str = "role";

#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What start-up parameters set: RESET goes back to these.
    start_up: BTreeMap<&'static str, String>,
    session: BTreeMap<&'static str, String>,
    /// SET LOCAL: until the transaction ends.
    local: BTreeMap<&'static str, String>,
    /// Names with a dot belong to applications; lower case.
    custom: BTreeMap<String, String>,
    /// Goes up with every change: bound plans may have read a setting.
    pub version: u64,
}

impl Settings {
    /// `parameters` are those of the start-up packet; `user` and `database` are not settings. FATAL errors as for SET.
    pub fn start(parameters: &[(String, String)], user: &str) -> Result<Settings> {
        let mut settings = Settings::default();
        settings.start_up.insert("session_authorization", user.to_string());
        for (name, value) in parameters {
            match name.as_str() {
                "user" | "database" | "replication" => {}
                "options" => {
                    for (name, value) in parse_options(value)? {
                        settings.start_with(&name, &value)?;
                    }
                }
                // Protocol extensions, negotiated by the wire.
                name if name.starts_with("_pq_.") => {}
                name => settings.start_with(name, value)?,
            }
        }
        Ok(settings)
    }

    fn start_with(&mut self, name: &str, value: &str) -> Result<()> {
        if name.eq_ignore_ascii_case(SESSION_USER) {
            let message = format!("parameter \"{SESSION_USER}\" cannot be set at the start of a session");
            return Err(Error::new(SqlState("55P02"), message));
        }
        match find(name) {
            Some(definition) => {
                let value = definition.read(value)?;
                self.start_up.insert(definition.name, value);
            }
            None => self.set_custom(name, value)?,
        }
        Ok(())
    }

    /// `SET name = value`; `None`: DEFAULT. 42704 for an unknown name, 22023 for a bad value, 55P02 for one that cannot
    /// be changed.
    pub fn set(&mut self, name: &str, value: Option<&str>, local: bool) -> Result<()> {
        let Some(definition) = find(name) else {
            match value {
                Some(value) => self.set_custom(name, value)?,
                None => {
                    self.custom.remove(&name.to_ascii_lowercase());
                }
            }
            self.version += 1;
            return Ok(());
        };
        let read = match value {
            Some(value) => Some(definition.read(value)?),
            None => {
                definition.writable()?;
                None
            }
        };
        let into = if local { &mut self.local } else { &mut self.session };
        match read {
            Some(read) => {
                into.insert(definition.name, read);
            }
            None if local => {
                let value = self.start_up.get(definition.name).cloned();
                self.local.insert(definition.name, value.unwrap_or_else(|| definition.default.to_string()));
            }
            None => {
                into.remove(definition.name);
            }
        }
        if !local {
            self.local.remove(definition.name);
        }
        // Who the session's user is decides anew what it may become.
        if definition.name == SESSION_USER {
            [&mut self.session, &mut self.local].iter_mut().for_each(|set| drop(set.remove(ROLE)));
        }
        self.version += 1;
        Ok(())
    }

    fn set_custom(&mut self, name: &str, value: &str) -> Result<()> {
        if !name.contains('.') {
            return Err(unknown(name));
        }
        self.custom.insert(name.to_ascii_lowercase(), value.to_string());
        Ok(())
    }

    /// All but who the session is, as in Postgres.
    pub fn reset_all(&mut self) {
        self.session.retain(|name, _| matches!(*name, SESSION_USER | ROLE));
        self.local.retain(|name, _| matches!(*name, SESSION_USER | ROLE));
        self.custom.clear();
        self.version += 1;
    }

    /// The session is again who connected.
    pub fn reset_identity(&mut self) {
        [SESSION_USER, ROLE].iter().for_each(|name| drop((self.session.remove(name), self.local.remove(name))));
        self.version += 1;
    }

    pub fn session_user(&self) -> &str {
        self.known(SESSION_USER)
    }

    pub fn current_user(&self) -> &str {
        match self.known(ROLE) {
            NO_ROLE => self.session_user(),
            role => role,
        }
    }

    /// What `is_superuser` shows.
    pub fn show_superuser(&mut self, is_superuser: bool) {
        self.start_up.insert("is_superuser", if is_superuser { "on" } else { "off" }.to_string());
    }

    /// Ends the transaction: what was SET LOCAL is gone.
    pub fn end_transaction(&mut self) {
        if !self.local.is_empty() {
            self.local.clear();
            self.version += 1;
        }
    }

    /// Takes back what was set since `earlier` was copied.
    pub fn restore(&mut self, earlier: Settings) {
        let version = self.version + 1;
        *self = Settings { version, ..earlier };
    }

    /// The value in force. 42704 for an unknown name.
    pub fn show(&self, name: &str) -> Result<String> {
        self.get(name).ok_or_else(|| unknown(name))
    }

    pub fn get(&self, name: &str) -> Option<String> {
        match find(name) {
            Some(definition) => Some(self.value(definition).to_string()),
            None => self.custom.get(&name.to_ascii_lowercase()).cloned(),
        }
    }

    fn value(&self, definition: &Definition) -> &str {
        let name = definition.name;
        let set = self.local.get(name).or_else(|| self.session.get(name)).or_else(|| self.start_up.get(name));
        set.map_or(definition.default, String::as_str)
    }

    fn known(&self, name: &'static str) -> &str {
        self.value(find(name).expect("the name is one of DEFINITIONS"))
    }

    /// Name as canonically spelled, value, description; in order.
    pub fn all(&self) -> Vec<(&'static str, String, &'static str)> {
        DEFINITIONS.iter().map(|d| (d.name, self.value(d).to_string(), d.description)).collect()
    }

    /// What Postgres reports by itself: the thirteen of ParameterStatus.
    pub fn reported(&self) -> Vec<(String, String)> {
        let reported = DEFINITIONS.iter().filter(|d| d.reported);
        reported.map(|d| (d.name.to_string(), self.value(d).to_string())).collect()
    }

    pub fn time_zone(&self) -> chrono_tz::Tz {
        parse_time_zone(self.known("TimeZone")).unwrap_or(chrono_tz::UTC)
    }

    /// `None`: no limit.
    pub fn statement_timeout(&self) -> Option<Duration> {
        let ms: u64 = values::milliseconds(self.known("statement_timeout")).unwrap_or(0);
        (ms > 0).then(|| Duration::from_millis(ms))
    }

    pub fn application_name(&self) -> &str {
        self.known("application_name")
    }

    pub fn default_transaction_read_only(&self) -> bool {
        self.known("default_transaction_read_only") == "on"
    }

    pub fn transaction_read_only(&self) -> bool {
        self.known("transaction_read_only") == "on"
    }

    /// True if a transaction reads one epoch from its first statement to its end.
    pub fn holds_epoch(&self) -> bool {
        matches!(self.known("transaction_isolation"), "repeatable read" | "serializable")
    }

    /// Schemas in which unqualified names are looked up, without `pg_catalog`, which always is.
    pub fn search_path(&self) -> Vec<String> {
        let user = self.current_user().to_string();
        let mut path: Vec<String> = vec![];
        for part in self.known("search_path").split(',') {
            let part = part.trim();
            let name = match part.strip_prefix('"').and_then(|p| p.strip_suffix('"')) {
                Some("$user") => user.clone(),
                Some(quoted) => quoted.replace("\"\"", "\""),
                None => part.trim_matches('\'').to_string(),
            };
            if !name.is_empty() && name != "pg_catalog" && !path.contains(&name) {
                path.push(name);
            }
        }
        path
    }
}

/// As Postgres spells it, if it is a setting of Postgres.
pub fn canonical_name(name: &str) -> &str {
    find(name).map_or(name, |definition| definition.name)
}

fn find(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.iter().find(|d| d.name.eq_ignore_ascii_case(name))
}

fn unknown(name: &str) -> Error {
    let known: BTreeSet<&str> = DEFINITIONS.iter().map(|d| d.name).collect();
    let error = Error::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""));
    // A typing mistake: the same letters at the start.
    let close = known.iter().find(|k| k.len() >= 4 && name.len() >= 4 && k.get(..4) == name.get(..4));
    match close {
        Some(close) => error.with_hint(format!("perhaps you meant \"{close}\"")),
        None => error,
    }
}

/// libpq's `options`: `-c name=value`, `-cname=value`, `--name=value`, backslash escapes a space.
fn parse_options(text: &str) -> Result<Vec<(String, String)>> {
    let mut words: Vec<String> = vec![];
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let invalid = |word: &str| {
        Error::new(SqlState::SYNTAX_ERROR, format!("invalid command-line argument for server process: {word}"))
            .with_hint("write options as -c name=value")
    };
    let mut pairs = vec![];
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let assignment = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => words.next().ok_or_else(|| invalid(&word))?,
            Some(rest) => rest.to_string(),
            None => return Err(invalid(&word)),
        };
        let (name, value) = assignment.split_once('=').ok_or_else(|| invalid(&assignment))?;
        pairs.push((name.replace('-', "_"), value.to_string()));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(parameters: &[(&str, &str)]) -> Result<Settings> {
        let parameters: Vec<_> = parameters.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        Settings::start(&parameters, "root")
    }

    #[test]
    fn thirteen_settings_are_reported() -> Result<()> {
        assert_eq!(settings(&[])?.reported().len(), 13);
        Ok(())
    }

    #[test]
    fn every_default_is_a_value_that_can_be_read() {
        for definition in DEFINITIONS {
            assert_eq!(
                definition.normalise(definition.default).as_deref(),
                Ok(definition.default),
                "{}",
                definition.name
            );
        }
    }

    #[test]
    fn start_up_options_are_settings() -> Result<()> {
        let settings = settings(&[
            ("options", r"-c statement_timeout=5min --search_path=a\ b -cTimeZone=Europe/Berlin"),
            ("client_encoding", "'utf-8'"),
            ("application_name", "psql"),
        ])?;
        assert_eq!(settings.show("statement_timeout")?, "5min");
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(300)));
        assert_eq!(settings.show("timezone")?, "Europe/Berlin");
        assert_eq!(settings.show("CLIENT_ENCODING")?, "UTF8");
        assert_eq!(settings.application_name(), "psql");
        Ok(())
    }

    #[test]
    fn set_local_ends_with_the_transaction_and_reset_goes_to_the_start() -> Result<()> {
        let mut settings = settings(&[("DateStyle", "ISO, YMD")])?;
        settings.set("datestyle", Some("dmy"), false)?;
        settings.set("datestyle", Some("ISO"), true)?;
        assert_eq!(settings.show("DateStyle")?, "ISO, MDY");
        assert_eq!(settings.set("datestyle", Some("German"), false).expect_err("not printed").code.0, "22023");
        settings.end_transaction();
        assert_eq!(settings.show("DateStyle")?, "ISO, DMY");
        settings.set("datestyle", None, false)?;
        assert_eq!(settings.show("DateStyle")?, "ISO, YMD");
        Ok(())
    }

    #[test]
    fn strangers_are_refused_and_dotted_names_are_kept() -> Result<()> {
        let mut settings = settings(&[])?;
        let error = settings.set("statement_timeuot", Some("1"), false).expect_err("a typing mistake");
        assert_eq!(error.code, SqlState::UNDEFINED_OBJECT);
        assert_eq!(error.hint.as_deref(), Some("perhaps you meant \"statement_timeout\""));
        settings.set("my.key", Some("v"), false)?;
        assert_eq!(settings.show("My.Key")?, "v");
        assert_eq!(settings.set("TimeZone", Some("Nowhere"), false).expect_err("no zone").code.0, "22023");
        assert_eq!(settings.set("server_version", Some("16"), false).expect_err("read only").code.0, "55P02");
        Ok(())
    }

    #[test]
    fn the_search_path_leaves_out_what_is_always_there() -> Result<()> {
        let mut settings = settings(&[])?;
        assert_eq!(settings.search_path(), ["root", "public"]);
        settings.set("search_path", Some("sales, \"A b\", pg_catalog, sales"), false)?;
        assert_eq!(settings.search_path(), ["sales", "A b"]);
        Ok(())
    }
}
