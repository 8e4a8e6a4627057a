//! The files of the demo, compiled into the program so that it needs nothing beside itself, and the directory that they
//! are written to. Where they come from: sql-tests/data/README.md.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, SqlState};

const FILES: &[(&str, &[u8])] = &[
    ("flights-2013-01.csv.gz", include_bytes!("../../sql-tests/data/flights-2013-01.csv.gz")),
    ("weather-2013-01.csv.gz", include_bytes!("../../sql-tests/data/weather-2013-01.csv.gz")),
    ("airlines.csv", include_bytes!("../../sql-tests/data/airlines.csv")),
    ("airports.csv.gz", include_bytes!("../../sql-tests/data/airports.csv.gz")),
    ("planes.csv.gz", include_bytes!("../../sql-tests/data/planes.csv.gz")),
];

/// Where the demo keeps its files. A temporary one goes when this is dropped.
pub struct Directory {
    path: PathBuf,
    is_temporary: bool,
}

impl Directory {
    /// `None`: a new one under the system's temporary directory.
    pub fn open(path: Option<&Path>) -> Result<Directory> {
        if let Some(path) = path {
            std::fs::create_dir_all(path).map_err(|e| failure("create", path, &e))?;
            let path = path.canonicalize().map_err(|e| failure("find", path, &e))?;
            return Ok(Directory { path, is_temporary: false });
        }
        let parent = std::env::temp_dir();
        for attempt in 0.. {
            let path = parent.join(format!("highwater-demo-{}-{attempt}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Directory { path, is_temporary: true }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 100 => {}
                Err(error) => return Err(failure("create", &path, &error)),
            }
        }
        unreachable!("the loop ends by a return")
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn write_files(&self) -> Result<()> {
        for (name, bytes) in FILES {
            let path = self.path.join(name);
            std::fs::write(&path, bytes).map_err(|e| failure("write", &path, &e))?;
        }
        Ok(())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.is_temporary {
            // Whatever cannot be removed is the system's to clean up.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn failure(what: &str, path: &Path, error: &std::io::Error) -> Error {
    let code = if error.kind() == ErrorKind::StorageFull { SqlState::DISK_FULL } else { SqlState::IO_ERROR };
    Error::new(code, format!("could not {what} {}: {error}", path.display()))
        .with_hint("name another directory with --dir")
}
