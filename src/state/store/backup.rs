//! What a backup consists of: a list of files with their lengths and checksums, written last, so that one that was cut
//! short is none.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::segments::trouble;
use crate::error::{Error, Result, SqlState};

const LIST_FILE: &str = "HIGHWATER_BACKUP";

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct BackupList {
    files: Vec<BackupFile>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct BackupFile {
    /// Within the directory.
    pub path: PathBuf,
    length: u64,
    checksum: u32,
}

/// Makes the directory, if it is not there. 42710 if there is anything in it.
pub fn make_empty(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).map_err(|e| trouble(directory, &e))?;
    if std::fs::read_dir(directory).map_err(|e| trouble(directory, &e))?.next().is_some() {
        return Err(Error::new(SqlState::DUPLICATE_OBJECT, format!("{} is not empty", directory.display()))
            .with_hint("name an empty or new directory"));
    }
    Ok(())
}

impl BackupList {
    /// XX001 if there is none.
    pub fn read(backup: &Path) -> Result<BackupList> {
        let damaged = |e: String| {
            let message = format!("{} is no backup: {e}", backup.display());
            Error::new(SqlState::DATA_CORRUPTED, message).with_hint("a backup has a file HIGHWATER_BACKUP")
        };
        let bytes = std::fs::read(backup.join(LIST_FILE)).map_err(|e| damaged(e.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))
    }

    pub fn files(&self) -> impl Iterator<Item = &BackupFile> {
        self.files.iter()
    }

    /// XX001 if the file is not what it was when the backup was made.
    pub fn read_file(&self, backup: &Path, file: &BackupFile) -> Result<Vec<u8>> {
        let path = backup.join(&file.path);
        let damaged = |why: &str| Error::new(SqlState::DATA_CORRUPTED, format!("{} {why}", path.display()));
        let bytes = std::fs::read(&path).map_err(|e| damaged(&format!("cannot be read: {e}")))?;
        if bytes.len() as u64 != file.length || crc32fast::hash(&bytes) != file.checksum {
            return Err(damaged("is not what it was when the backup was made"));
        }
        Ok(bytes)
    }

    /// Lists all that is in `backup` and makes it durable.
    pub(super) fn write(backup: &Path) -> std::io::Result<()> {
        let mut list = BackupList::default();
        let mut rest = vec![backup.to_path_buf()];
        while let Some(dir) = rest.pop() {
            for entry in std::fs::read_dir(&dir)? {
                let path = entry?.path();
                if path.is_dir() {
                    rest.push(path);
                    continue;
                }
                let bytes = std::fs::read(&path)?;
                File::open(&path)?.sync_all()?;
                let inner = path.strip_prefix(backup).map_err(std::io::Error::other)?.to_path_buf();
                let (length, checksum) = (bytes.len() as u64, crc32fast::hash(&bytes));
                list.files.push(BackupFile { path: inner, length, checksum });
            }
            File::open(&dir)?.sync_all()?;
        }
        list.files.sort_by(|a, b| a.path.cmp(&b.path));
        let path = backup.join(LIST_FILE);
        std::fs::write(&path, serde_json::to_vec_pretty(&list)?)?;
        File::open(&path)?.sync_all()?;
        File::open(backup)?.sync_all()
    }
}
