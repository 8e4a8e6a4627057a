//! `connector = 'files'`: a file, a directory, or a pattern (`*`, `?`, `**`), read once or followed.
//!
//! ```text
//! partition = a file's path relative to the directory (or to the part of the pattern before its first wildcard)
//! offset    = bytes of the decompressed file behind the last whole record taken; for Parquet, rows
//! ```
//!
//! Files are read one after another in the order of their names. `follow = 'true'` goes on: new files are found, appended
//! lines are read once their line break is there. Otherwise the end of a file ends its last line too.
//!
//! Options: `path`, `follow`, `compression` (gzip, zstd, none; by default the extension tells).

mod file;
mod lines;
mod listing;
mod parquet;
mod reader;

use std::path::PathBuf;

use arrow::datatypes::SchemaRef;

use super::options::invalid;
use super::{Connector, Framing, Options, Reader};
use crate::error::{Error, Result, SqlState};
use crate::types::Position;
use file::{Compression, failure};
use listing::{Listed, list};

#[derive(Clone, Debug)]
pub struct FilesConnector {
    path: String,
    is_following: bool,
    /// `None`: each file's extension tells.
    compression: Option<Compression>,
    framing: Framing,
    /// The declared columns.
    schema: SchemaRef,
}

impl FilesConnector {
    pub fn new(options: &Options, schema: &SchemaRef, framing: Framing) -> Result<FilesConnector> {
        let path = options.require("path")?.to_string();
        if path.is_empty() || path.contains('\0') {
            return Err(invalid("path", &path, "it takes the path of a file or directory on the server"));
        }
        let compression = match options.get("compression") {
            None => None,
            Some(name) => Some(match name.to_ascii_lowercase().as_str() {
                "none" => Compression::None,
                "gzip" | "gz" => Compression::Gzip,
                "zstd" | "zst" => Compression::Zstd,
                _ => return Err(invalid("compression", name, "it takes gzip, zstd or none")),
            }),
        };
        let is_following = options.bool("follow")?.unwrap_or(false);
        Ok(FilesConnector { path, is_following, compression, framing, schema: schema.clone() })
    }

    fn compression_of(&self, path: &std::path::Path) -> Compression {
        self.compression.unwrap_or_else(|| Compression::by_extension(path))
    }

    /// 58030 if nothing is there.
    fn list(&self) -> Result<Vec<Listed>> {
        let files = list(&self.path)?;
        if files.is_empty() && !self.is_following {
            let message = format!("no file matches \"{}\"", self.path);
            return Err(Error::new(SqlState::IO_ERROR, message)
                .with_hint("the path is looked up on the server, relative to its working directory"));
        }
        Ok(files)
    }
}

impl Connector for FilesConnector {
    fn start(&self) -> Result<Position> {
        let files = self.list()?;
        for Listed { path, .. } in &files {
            match self.framing {
                Framing::Parquet => match parquet::check(path, &self.schema) {
                    // While a file is followed, its writer may not be done with it.
                    Err(error) if self.is_following && error.code == SqlState::IO_ERROR => {}
                    other => other?,
                },
                _ => drop(std::fs::File::open(path).map_err(|e| failure("open", path, e))?),
            }
        }
        Ok(Position(files.into_iter().map(|file| (file.partition, 0)).collect()))
    }

    /// A compressed file's length is not known before it is read: its end is `u64::MAX`.
    fn end(&self) -> Result<Option<Position>> {
        let end = |Listed { partition, path }: Listed| {
            let offset = match (self.framing, self.compression_of(&path)) {
                (Framing::Parquet, _) => parquet::row_count(&path)?,
                (_, Compression::None) => std::fs::metadata(&path).map_err(|e| failure("read", &path, e))?.len(),
                _ => u64::MAX,
            };
            Ok((partition, offset))
        };
        Ok(Some(Position(self.list()?.into_iter().map(end).collect::<Result<_>>()?)))
    }

    fn is_endless(&self) -> bool {
        self.is_following
    }

    fn open(&self, from: &Position, until: Option<&Position>, projection: &[usize]) -> Result<Box<dyn Reader>> {
        Ok(Box::new(reader::FilesReader::new(self.clone(), from, until, projection)?))
    }
}

/// Where a file lies, for messages.
fn shown(path: &std::path::Path) -> std::path::Display<'_> {
    path.display()
}

/// A path of a partition that is gone.
fn gone(partition: &str, directory: &str) -> Error {
    let path = PathBuf::from(directory);
    Error::new(
        SqlState::IO_ERROR,
        format!("file \"{partition}\" under \"{}\" is gone before it was read", shown(&path)),
    )
    .with_hint("put it back, or drop the source and create it again")
}

#[cfg(test)]
mod tests;
