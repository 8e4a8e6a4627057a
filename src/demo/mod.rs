//! The demo: a month of flights replayed into views that move in the terminal.

use crate::config::ConfigFile;
use crate::error::{Error, Result};

/// Runs until interrupted. `overrides` are the flags that were given, `file` what the configuration file says.
pub fn run(overrides: ConfigFile, file: ConfigFile) -> Result<()> {
    let _ = (overrides, file);
    Err(Error::unsupported("the demo", "use highwater serve"))
}
