//! `WITH (…)` options, taken one by one, so that what nobody took can be named.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result, SqlState};

/// Lower-case keys to values as written.
#[derive(Debug, Clone)]
pub struct Options {
    values: BTreeMap<String, String>,
    known: RefCell<BTreeSet<String>>,
    /// Prefixes under which any key is taken (`properties.`).
    prefixes: RefCell<BTreeSet<String>>,
}

impl Options {
    pub fn new(values: BTreeMap<String, String>) -> Options {
        Options { values, known: RefCell::default(), prefixes: RefCell::default() }
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.known.borrow_mut().insert(key.to_string());
        self.values.get(key).map(String::as_str)
    }

    /// 22023 if it is missing.
    pub fn require(&self, key: &str) -> Result<&str> {
        self.get(key).ok_or_else(|| {
            Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("option \"{key}\" is missing"))
                .with_hint(format!("add it to WITH ({key} = '…')"))
        })
    }

    /// 22023 if the value cannot be read as a `T`; `what` says what was expected ("a whole number").
    pub fn parse<T: std::str::FromStr>(&self, key: &str, what: &str) -> Result<Option<T>> {
        let Some(text) = self.get(key) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(invalid(key, text, &format!("it takes {what}"))),
        }
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        let Some(text) = self.get(key) else { return Ok(None) };
        match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "on" | "yes" | "1" => Ok(Some(true)),
            "false" | "f" | "off" | "no" | "0" => Ok(Some(false)),
            _ => Err(invalid(key, text, "it takes true or false")),
        }
    }

    /// All keys under `prefix`, without it.
    pub fn under(&self, prefix: &str) -> BTreeMap<String, String> {
        self.prefixes.borrow_mut().insert(prefix.to_string());
        let rest = |key: &String| key.strip_prefix(prefix).map(str::to_string);
        self.values.iter().filter_map(|(key, value)| Some((rest(key)?, value.clone()))).collect()
    }

    /// 22023 naming the first key that was never asked for, with the known ones in the hint. Call it when all were.
    pub fn finish(&self) -> Result<()> {
        let (known, prefixes) = (self.known.borrow(), self.prefixes.borrow());
        let is_known = |key: &String| known.contains(key) || prefixes.iter().any(|p| key.starts_with(p.as_str()));
        match self.values.keys().find(|key| !is_known(key)) {
            None => Ok(()),
            Some(stranger) => {
                let mut list: Vec<String> = known.iter().cloned().collect();
                list.extend(prefixes.iter().map(|p| format!("{p}*")));
                Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("unknown option \"{stranger}\""))
                    .with_hint(format!("known options: {}", list.join(", "))))
            }
        }
    }
}

/// 22023 for a value that an option cannot take.
pub fn invalid(key: &str, value: &str, hint: &str) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("invalid value \"{value}\" for option \"{key}\""))
        .with_hint(hint)
}
