//! RocksDB behind the [`Store`] trait, and the data directory's format marker.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, Direction, IteratorMode, Options, ReadOptions, WriteBatch, WriteOptions};

use super::segments::SegmentFiles;
use super::{BackupList, Block, EachPair, HeldBlock, SegmentWriter, Store, StoreBatch, make_empty};
use crate::error::{Error, Result, SqlState};

/// Written into every new directory; a newer number is refused. Format 1 had no checkpoints: a program that knows only
/// it would change tables behind them. Format 2 knew no runs that are ordered by key; those that it has are read, and are
/// ordered when they are added up. Format 3 knew no runs of a relation that are kept as its arrangement holds them. A
/// directory is of the newest format from the moment it is opened here.
const FORMAT_VERSION: u32 = 4;
const FORMATS_READ: std::ops::RangeInclusive<u32> = 1..=FORMAT_VERSION;
const FORMAT_FILE: &str = "HIGHWATER_FORMAT";

/// One data directory, open in one process.
pub struct RocksStore {
    db: DB,
    segments: SegmentFiles,
    /// Where files without a name are made.
    dir: PathBuf,
}

impl RocksStore {
    /// Opens or creates the directory. Fails if it is in use (55000), newer than this program or damaged (XX001), or
    /// cannot be written (58030).
    pub fn open(dir: &Path) -> Result<RocksStore> {
        std::fs::create_dir_all(dir).map_err(|e| io_error(dir, &e.to_string()))?;
        check_format(dir)?;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(rocksdb::DBCompressionType::Lz4);
        options.set_write_buffer_size(16 << 20);
        options.set_keep_log_file_num(4);
        options.set_max_open_files(256);
        let db = DB::open(&options, dir.join("store")).map_err(|e| match e.kind() {
            rocksdb::ErrorKind::Corruption => {
                Error::new(SqlState::DATA_CORRUPTED, format!("data directory {} is damaged: {e}", dir.display()))
            }
            _ if e.to_string().contains("lock") => Error::new(
                SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("data directory {} is in use by another process", dir.display()),
            )
            .with_detail(e.to_string()),
            _ => io_error(dir, e.as_ref()),
        })?;
        let segments = SegmentFiles::open(dir.join("segments"))?;
        // Only now: a directory that cannot be opened stays what it was.
        write_format(dir)?;
        Ok(RocksStore { db, segments, dir: dir.to_path_buf() })
    }
}

impl RocksStore {
    /// For reading alone: every commit fails. Fails if the directory is newer than this program or damaged (XX001), or
    /// cannot be read (58030).
    pub fn open_read_only(dir: &Path) -> Result<RocksStore> {
        if !dir.join(FORMAT_FILE).exists() {
            let message = format!("{} is no data directory: it has no {FORMAT_FILE}", dir.display());
            return Err(Error::new(SqlState::DATA_CORRUPTED, message));
        }
        check_format(dir)?;
        let db = DB::open_for_read_only(&Options::default(), dir.join("store"), false).map_err(rocks_error)?;
        Ok(RocksStore { db, segments: SegmentFiles::read_only(dir.join("segments")), dir: dir.to_path_buf() })
    }
}

fn check_format(dir: &Path) -> Result<()> {
    let marker = dir.join(FORMAT_FILE);
    match std::fs::read_to_string(&marker) {
        Ok(text) => match text.trim().parse::<u32>() {
            Ok(known) if FORMATS_READ.contains(&known) => Ok(()),
            Ok(newer) if newer > FORMAT_VERSION => Err(Error::new(
                SqlState::DATA_CORRUPTED,
                format!("data directory {} has format {newer}, this program reads {FORMAT_VERSION}", dir.display()),
            )
            .with_hint("start it with a newer highwater")),
            _ => Err(Error::new(SqlState::DATA_CORRUPTED, format!("{} is damaged", marker.display()))),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let occupied = std::fs::read_dir(dir).map_err(|e| io_error(dir, &e.to_string()))?.next().is_some();
            if occupied {
                return Err(Error::new(
                    SqlState::DATA_CORRUPTED,
                    format!("{} is not empty and is no data directory: it has no {FORMAT_FILE}", dir.display()),
                )
                .with_hint("name an empty or new directory with --data-dir"));
            }
            write_format(dir)
        }
        Err(e) => Err(io_error(dir, &e.to_string())),
    }
}

/// Through a second file, so that the marker is never there in part, not after a power cut either.
fn write_format(dir: &Path) -> Result<()> {
    let (marker, text) = (dir.join(FORMAT_FILE), format!("{FORMAT_VERSION}\n"));
    if std::fs::read_to_string(&marker).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let next = dir.join(format!("{FORMAT_FILE}.next"));
    let write = || {
        let mut file = File::create(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&next, &marker)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| io_error(dir, &e.to_string()))
}

fn io_error(dir: &Path, reason: &str) -> Error {
    let (code, hint) = if reason.contains("No space left") {
        (
            SqlState::DISK_FULL,
            "make room on its disk and start again: a start has to write, and loses nothing where it cannot",
        )
    } else {
        (SqlState::IO_ERROR, "a start needs a directory that it can write to; what is in it stays as it is")
    };
    Error::new(code, format!("could not use data directory {}: {reason}", dir.display())).with_hint(hint)
}

fn rocks_error(error: rocksdb::Error) -> Error {
    let reason = error.to_string();
    if reason.contains("No space left") {
        Error::new(SqlState::DISK_FULL, "could not write: no space left on device")
    } else if error.kind() == rocksdb::ErrorKind::Corruption {
        Error::new(SqlState::DATA_CORRUPTED, reason)
    } else {
        Error::new(SqlState::IO_ERROR, reason)
    }
}

impl Store for RocksStore {
    fn commit(&self, batch: StoreBatch) -> Result<()> {
        let mut write = WriteBatch::default();
        for (key, value) in batch.operations {
            match value {
                Some(value) => write.put(key, value),
                None => write.delete(key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db.write_opt(write, &options).map_err(rocks_error)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.db.get(key).map_err(rocks_error)
    }

    fn scan(&self, prefix: &[u8], each: &mut EachPair<'_>) -> Result<()> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        for pair in self.db.iterator_opt(IteratorMode::From(prefix, Direction::Forward), options) {
            let (key, value) = pair.map_err(rocks_error)?;
            if !key.starts_with(prefix) {
                break;
            }
            each(&key, &value)?;
        }
        Ok(())
    }

    fn create_segment(&self, number: u64) -> Result<Box<dyn SegmentWriter + '_>> {
        self.segments.create(number)
    }

    fn read_block(&self, block: Block) -> Result<Vec<u8>> {
        self.segments.read(block)
    }

    fn segments(&self) -> Result<Vec<(u64, u64)>> {
        self.segments.list()
    }

    fn hold_block(&self, block: Block) -> Result<Box<dyn HeldBlock>> {
        Ok(Box::new(self.segments.hold(block)?))
    }

    fn scratch_file(&self) -> Result<File> {
        tempfile::tempfile_in(&self.dir).map_err(|e| io_error(&self.dir, &e.to_string()))
    }

    fn remove_segment(&self, number: u64) -> Result<()> {
        self.segments.remove(number)
    }

    fn memory_bytes(&self) -> u64 {
        const PARTS: [&str; 3] =
            ["rocksdb.cur-size-all-mem-tables", "rocksdb.estimate-table-readers-mem", "rocksdb.block-cache-usage"];
        PARTS.iter().filter_map(|part| self.db.property_int_value(*part).ok().flatten()).sum()
    }

    fn backup(&self, directory: &Path) -> Result<()> {
        make_empty(directory)?;
        self.segments.copy_after(&directory.join("segments"), || {
            let checkpoint = Checkpoint::new(&self.db).map_err(rocks_error)?;
            checkpoint.create_checkpoint(directory.join("store")).map_err(rocks_error)
        })?;
        write_format(directory)?;
        BackupList::write(directory).map_err(|e| io_error(directory, &e.to_string()))
    }
}
