//! Segments as files: `segments/<number>.segment`, blocks one after the other, each behind its length and checksum.
//!
//! A file is written once, from its beginning to its end, and synced with its directory before anything refers to it.
//! What a crash leaves of an unfinished one is referred to by nobody.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use memmap2::MmapOptions;
use parking_lot::Mutex;

use super::{Block, HeldBlock, SegmentWriter};
use crate::error::{Error, Result, SqlState};

pub struct SegmentFiles {
    dir: PathBuf,
    /// Held while they are copied: none is removed.
    copying: Mutex<()>,
    /// Those that were read last: a lookup reads many small blocks.
    open: Mutex<HashMap<u64, Arc<File>>>,
}

/// Files that are kept open for reading.
const OPEN_FILE_COUNT_MAX: usize = 64;

const EXTENSION: &str = "segment";
/// CRC-32 of the block and its length, both little-endian.
const HEADER_LENGTH: usize = 4 + 8;
/// Blocks begin at multiples of this, so that what is in them can be used where it lies.
const ALIGNMENT: u64 = 64;

impl SegmentFiles {
    /// Makes the directory if it is not there.
    pub fn open(dir: PathBuf) -> Result<SegmentFiles> {
        std::fs::create_dir_all(&dir).map_err(|e| trouble(&dir, &e))?;
        Ok(SegmentFiles::read_only(dir))
    }

    /// Those of a directory that must not be written to.
    pub fn read_only(dir: PathBuf) -> SegmentFiles {
        SegmentFiles { dir, copying: Mutex::new(()), open: Mutex::default() }
    }

    /// Copies all of them to `target`. What `first` does comes before, and nothing is removed in between.
    pub fn copy_after(&self, target: &Path, first: impl FnOnce() -> Result<()>) -> Result<()> {
        let _none_is_removed = self.copying.lock();
        first()?;
        std::fs::create_dir_all(target).map_err(|e| trouble(target, &e))?;
        for (number, _) in self.list()? {
            let from = self.path(number);
            let to = target.join(from.file_name().unwrap_or_default());
            std::fs::copy(&from, &to).map_err(|e| trouble(&to, &e))?;
        }
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:016x}.{EXTENSION}"))
    }

    pub fn create(&self, number: u64) -> Result<Box<dyn SegmentWriter + '_>> {
        let path = self.path(number);
        self.open.lock().remove(&number);
        let file = File::create(&path).map_err(|e| trouble(&path, &e))?;
        Ok(Box::new(Writer { dir: &self.dir, path, number, offset: 0, file: BufWriter::with_capacity(1 << 20, file) }))
    }

    pub fn read(&self, block: Block) -> Result<Vec<u8>> {
        let (file, header) = self.header(block)?;
        let mut bytes = vec![0; self.length(block)?];
        self.read_at(&file, block, &mut bytes, block.offset + HEADER_LENGTH as u64)?;
        match is_behind(&header, &bytes) {
            true => Ok(bytes),
            false => Err(self.damaged(block, DIFFERENT)),
        }
    }

    /// The same in pages of the file, to be checked when it is read.
    pub fn hold(&self, block: Block) -> Result<MappedBlock> {
        let (file, header) = self.header(block)?;
        let (start, length) = (block.offset + HEADER_LENGTH as u64, self.length(block)?);
        let path = self.path(block.segment);
        if file.metadata().map_err(|e| trouble(&path, &e))?.len() < start + block.length {
            return Err(self.damaged(block, "is cut off"));
        }
        // SAFETY: a segment is written once, before anybody reads it, and its directory belongs to this process.
        let mapped = unsafe { MmapOptions::new().offset(start).len(length).map(&*file) };
        let bytes = Bytes::from_owner(mapped.map_err(|e| trouble(&path, &e))?);
        Ok(MappedBlock { bytes, header, damage: self.damaged(block, DIFFERENT) })
    }

    fn damaged(&self, block: Block, why: &str) -> Error {
        let place = format!("block at {} of {}", block.offset, self.path(block.segment).display());
        Error::new(SqlState::DATA_CORRUPTED, format!("{place} {why}"))
    }

    fn length(&self, block: Block) -> Result<usize> {
        usize::try_from(block.length).map_err(|_| self.damaged(block, "is too long"))
    }

    /// The file that it lies in, and what stands before it there.
    fn header(&self, block: Block) -> Result<(Arc<File>, [u8; HEADER_LENGTH])> {
        let file = self.opened(block.segment).map_err(|e| match e.kind() {
            ErrorKind::NotFound => self.damaged(block, "is missing: there is no such file"),
            _ => trouble(&self.path(block.segment), &e),
        })?;
        let mut header = [0; HEADER_LENGTH];
        self.read_at(&file, block, &mut header, block.offset)?;
        if header[4..] != block.length.to_le_bytes() {
            return Err(self.damaged(block, "is not the one that was written there"));
        }
        Ok((file, header))
    }

    fn read_at(&self, file: &File, block: Block, bytes: &mut [u8], offset: u64) -> Result<()> {
        match file.read_exact_at(bytes, offset) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Err(self.damaged(block, "is cut off")),
            other => other.map_err(|e| trouble(&self.path(block.segment), &e)),
        }
    }

    fn opened(&self, number: u64) -> std::io::Result<Arc<File>> {
        if let Some(file) = self.open.lock().get(&number) {
            return Ok(file.clone());
        }
        let file = Arc::new(File::open(self.path(number))?);
        let mut open = self.open.lock();
        if open.len() >= OPEN_FILE_COUNT_MAX {
            open.clear();
        }
        open.insert(number, file.clone());
        Ok(file)
    }

    pub fn list(&self) -> Result<Vec<(u64, u64)>> {
        let mut segments = vec![];
        for entry in std::fs::read_dir(&self.dir).map_err(|e| trouble(&self.dir, &e))? {
            let path = entry.map_err(|e| trouble(&self.dir, &e))?.path();
            let is_segment = path.extension().is_some_and(|extension| extension == EXTENSION);
            let stem = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| is_segment);
            let number = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok());
            // One that is removed meanwhile has no length, and is not there any more.
            segments.extend(number.and_then(|number| Some((number, path.metadata().ok()?.len()))));
        }
        segments.sort_unstable();
        Ok(segments)
    }

    pub fn remove(&self, number: u64) -> Result<()> {
        let path = self.path(number);
        let _none_is_copied = self.copying.lock();
        self.open.lock().remove(&number);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(trouble(&path, &e)),
            _ => Ok(()),
        }
    }
}

/// A block in pages of its file. The file stays for as long as this does.
pub struct MappedBlock {
    bytes: Bytes,
    header: [u8; HEADER_LENGTH],
    damage: Error,
}

const DIFFERENT: &str = "is damaged: its checksum does not match";

impl HeldBlock for MappedBlock {
    fn read(&self) -> Result<Bytes> {
        if is_behind(&self.header, &self.bytes) { Ok(self.bytes.clone()) } else { Err(self.damage.clone()) }
    }
}

/// The checksum is of these bytes.
fn is_behind(header: &[u8; HEADER_LENGTH], bytes: &[u8]) -> bool {
    header[..4] == crc32fast::hash(bytes).to_le_bytes()
}

struct Writer<'a> {
    dir: &'a Path,
    path: PathBuf,
    number: u64,
    offset: u64,
    file: BufWriter<File>,
}

impl SegmentWriter for Writer<'_> {
    fn append(&mut self, block: &[u8]) -> Result<Block> {
        let length = block.len() as u64;
        let padding = (ALIGNMENT - (self.offset + HEADER_LENGTH as u64) % ALIGNMENT) % ALIGNMENT;
        let mut header = [0; HEADER_LENGTH];
        header[..4].copy_from_slice(&crc32fast::hash(block).to_le_bytes());
        header[4..].copy_from_slice(&length.to_le_bytes());
        let written = self.file.write_all(&[0; ALIGNMENT as usize][..padding as usize]);
        let written = written.and_then(|()| self.file.write_all(&header)).and_then(|()| self.file.write_all(block));
        written.map_err(|e| trouble(&self.path, &e))?;
        let address = Block { segment: self.number, offset: self.offset + padding, length };
        self.offset += padding + HEADER_LENGTH as u64 + length;
        Ok(address)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|e| trouble(&self.path, &e))?;
        // Its name has to last, too.
        File::open(self.dir).and_then(|dir| dir.sync_all()).map_err(|e| trouble(self.dir, &e))
    }
}

pub(super) fn trouble(path: &Path, error: &std::io::Error) -> Error {
    if error.kind() == ErrorKind::StorageFull {
        return Error::new(SqlState::DISK_FULL, format!("could not write {}: no space left on device", path.display()));
    }
    Error::new(SqlState::IO_ERROR, format!("could not use {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_as_they_were_written_or_refused() -> Result<()> {
        let dir = tempfile::tempdir().map_err(|e| Error::internal(e.to_string()))?;
        let files = SegmentFiles::open(dir.path().join("segments"))?;
        let mut writer = files.create(7)?;
        let (first, second) = (writer.append(b"first")?, writer.append(&[9; 70_000])?);
        writer.finish()?;
        assert_eq!((first.offset, second.offset), (64 - 12, 2 * 64 - 12));
        assert_eq!(files.list()?, [(7, 2 * 64 + 70_000)]);
        assert_eq!((files.read(first)?.as_slice(), files.read(second)?.len()), (&b"first"[..], 70_000));
        assert_eq!((files.hold(first)?.read()?.as_ref(), files.hold(second)?.read()?.len()), (&b"first"[..], 70_000));
        // What is held outlives its segment.
        let mut writer = files.create(8)?;
        let third = writer.append(&[7; 5000])?;
        writer.finish()?;
        let held = files.hold(third)?;
        files.remove(8)?;
        assert_eq!(held.read()?.as_ref(), [7; 5000]);

        let path = files.path(7);
        let bytes = std::fs::read(&path).map_err(|e| trouble(&path, &e))?;
        let write = |bytes: &[u8]| std::fs::write(&path, bytes).map_err(|e| trouble(&path, &e));
        // A bit that fell over, an end that is missing, a place where no block begins, a file that is gone.
        let mut flipped = bytes.clone();
        flipped[ALIGNMENT as usize + 2] ^= 1;
        write(&flipped)?;
        assert_eq!(files.read(first).map_err(|e| e.code), Err(SqlState::DATA_CORRUPTED));
        let read = |block: Block| files.hold(block).and_then(|held| held.read()).map_err(|e| e.code);
        assert_eq!(read(first), Err(SqlState::DATA_CORRUPTED));
        write(&bytes[..bytes.len() - 1])?;
        assert_eq!(files.read(second).map_err(|e| e.code), Err(SqlState::DATA_CORRUPTED));
        assert_eq!(read(second), Err(SqlState::DATA_CORRUPTED));
        let elsewhere = Block { offset: first.offset + 1, ..first };
        assert_eq!(files.read(elsewhere).map_err(|e| e.code), Err(SqlState::DATA_CORRUPTED));
        files.remove(7)?;
        files.remove(7)?;
        assert_eq!(files.read(first).map_err(|e| e.code), Err(SqlState::DATA_CORRUPTED));
        Ok(())
    }
}
