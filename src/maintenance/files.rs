//! A backup is a data directory with a list of its files, their lengths and checksums.

use std::path::Path;

use crate::error::{Error, Result, SqlState};
use crate::state::store::{BackupList, make_empty};

/// Makes a data directory from a backup. `directory` must be empty or not there. XX001 if a file is not what it was when
/// the backup was made; then nothing is left behind.
pub fn restore(backup: &Path, directory: &Path) -> Result<usize> {
    let list = BackupList::read(backup)?;
    let trouble = |path: &Path, e: std::io::Error| {
        Error::new(SqlState::IO_ERROR, format!("could not use {}: {e}", path.display()))
    };
    make_empty(directory)?;
    let copied = list.files().try_for_each(|file| {
        let to = directory.join(&file.path);
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(|e| trouble(parent, e))?;
        }
        let bytes = list.read_file(backup, file)?;
        std::fs::write(&to, bytes).and_then(|()| std::fs::File::open(&to)?.sync_all()).map_err(|e| trouble(&to, e))
    });
    if let Err(error) = copied {
        // Half of it would be taken for a data directory.
        let _ = std::fs::remove_dir_all(directory);
        return Err(error);
    }
    Ok(list.files().count())
}
