//! A text file, cut into records at line breaks.
//!
//! ```text
//! taken by earlier chunks │ buffer: whole records … │ an unfinished one │ not read yet
//!                 offset ─┘                 scan.at ──────────────────▶┘
//! ```
//!
//! A carriage return before the line break and a byte order mark at the beginning are no part of a record; empty lines
//! are no records. A record above [`RECORD_BYTES_MAX`] is read past, and told as a bad record when its end is found.

use std::io::Read;
use std::path::PathBuf;

use super::file::{Compression, failure, open_at, shrunk};
use super::reader::Step;
use crate::connectors::{Chunk, Framing, Payload, RECORD_BYTES_MAX};
use crate::error::Result;
use crate::types::{BadRecord, Records};

const READ_BYTES: usize = 1 << 20;
const CHUNK_BYTES_MAX: usize = 1 << 20;
const CHUNK_RECORD_COUNT_MAX: usize = 8192;

pub struct LineFile {
    partition: String,
    path: PathBuf,
    compression: Compression,
    is_following: bool,
    until: Option<u64>,
    stream: Option<Box<dyn Read + Send>>,
    /// What was read and not yet taken; it begins at `offset` of the decompressed file.
    buffer: Vec<u8>,
    offset: u64,
    scan: Scan,
    is_header_due: bool,
    /// The record in progress is too long; its first bytes were thrown away.
    oversized: Option<BadRecord>,
    /// The file's length on disk when it was last opened (compressed) or read to its end (plain).
    disk_bytes: u64,
}

impl LineFile {
    pub fn new(
        partition: String,
        path: PathBuf,
        compression: Compression,
        framing: Framing,
        is_following: bool,
        from: u64,
        until: Option<u64>,
    ) -> LineFile {
        let is_header_due = from == 0 && matches!(framing, Framing::QuotedLines { header: true, .. });
        let scan = Scan::new(framing);
        LineFile {
            partition,
            path,
            compression,
            is_following,
            until,
            stream: None,
            buffer: vec![],
            offset: from,
            scan,
            is_header_due,
            oversized: None,
            disk_bytes: 0,
        }
    }

    /// After an error the next step tries again from the same place.
    pub fn step(&mut self) -> Result<Step> {
        loop {
            if let Some(chunk) = self.cut() {
                return Ok(Step::Chunk(chunk));
            }
            // Bytes behind `until` show that the record at hand ends behind it.
            let read_end = self.offset + self.buffer.len() as u64;
            if self.until.is_some_and(|until| self.offset >= until || read_end > until) {
                return Ok(Step::End);
            }
            if self.read()? {
                continue;
            }
            if self.is_following {
                return Ok(if self.until.is_some() { Step::End } else { Step::AtEnd });
            }
            // The end of the file ends its last line.
            if self.buffer.is_empty() && self.oversized.is_none() {
                return Ok(Step::End);
            }
            let (mut records, mut bad_records) = (Records::default(), vec![]);
            let length = self.buffer.len();
            self.take_record(0, length, length, &mut records, &mut bad_records);
            return Ok(Step::Chunk(self.chunk(records, bad_records, length)));
        }
    }

    /// Whether there is more to read than when the end was last reached. 58030 if there is less.
    pub fn has_grown(&self) -> Result<bool> {
        let bytes = std::fs::metadata(&self.path).map_err(|e| failure("read", &self.path, e))?.len();
        match self.compression {
            Compression::None if bytes < self.disk_bytes => Err(shrunk(&self.path, self.disk_bytes)),
            _ => Ok(bytes != self.disk_bytes),
        }
    }

    /// Appends to the buffer; `false` at the end of the file.
    fn read(&mut self) -> Result<bool> {
        let at = self.offset + self.buffer.len() as u64;
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                self.disk_bytes = std::fs::metadata(&self.path).map_err(|e| failure("open", &self.path, e))?.len();
                match open_at(&self.path, self.compression, at) {
                    Ok(stream) => self.stream.insert(stream),
                    // A compressed file in the making may break off anywhere.
                    Err(_) if self.is_following && self.compression != Compression::None => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
        };
        let length = self.buffer.len();
        self.buffer.resize(length + READ_BYTES, 0);
        let read = stream.read(&mut self.buffer[length..]);
        self.buffer.truncate(length + read.as_ref().map_or(0, |&n| n));
        match read {
            Ok(0) => {}
            Ok(_) => return Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => return Ok(true),
            Err(e) => {
                self.stream = None;
                let is_cut = e.kind() == std::io::ErrorKind::UnexpectedEof;
                if !(is_cut && self.is_following) {
                    return Err(failure("read", &self.path, e));
                }
            }
        }
        self.stream = None;
        if self.compression == Compression::None {
            self.disk_bytes = at;
        }
        Ok(false)
    }

    /// The whole records of the buffer, up to a chunk of them.
    fn cut(&mut self) -> Option<Chunk> {
        let (mut records, mut bad_records, mut start) = (Records::default(), vec![], 0);
        while records.len() < CHUNK_RECORD_COUNT_MAX && start < CHUNK_BYTES_MAX {
            let Some(end) = self.scan.record_end(&self.buffer) else { break };
            if self.until.is_some_and(|until| self.offset + end as u64 > until) {
                self.scan.at = end;
                break;
            }
            // Without its line break.
            self.take_record(start, end - 1, end, &mut records, &mut bad_records);
            start = end;
        }
        if start == 0 {
            if self.buffer.len() > RECORD_BYTES_MAX {
                self.give_up_record();
            }
            return None;
        }
        Some(self.chunk(records, bad_records, start))
    }

    fn take_record(
        &mut self,
        start: usize,
        text_end: usize,
        end: usize,
        records: &mut Records,
        bad_records: &mut Vec<BadRecord>,
    ) {
        if let Some(bad_record) = self.oversized.take() {
            bad_records.push(bad_record);
            return;
        }
        let position = self.offset + start as u64;
        let mut text = &self.buffer[start..text_end];
        if position == 0 {
            text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        }
        // At the end of a file a carriage return alone ends no line, but it is no field either.
        text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            return;
        }
        if std::mem::take(&mut self.is_header_due) {
            return;
        }
        if end - start > RECORD_BYTES_MAX {
            bad_records.push(oversized(&self.partition, position, text));
            return;
        }
        records.push(text, position);
    }

    /// Takes the first `length` bytes off the buffer.
    fn chunk(&mut self, records: Records, bad_records: Vec<BadRecord>, length: usize) -> Chunk {
        self.buffer.drain(..length);
        self.offset += length as u64;
        self.scan.at = self.scan.at.saturating_sub(length);
        if self.buffer.is_empty() && self.buffer.capacity() > 8 * READ_BYTES {
            self.buffer = vec![];
        }
        Chunk {
            partition: self.partition.clone(),
            payload: Payload::Records(records),
            bad_records,
            next_offset: self.offset,
            positions: None,
        }
    }

    fn give_up_record(&mut self) {
        if self.oversized.is_none() {
            self.oversized = Some(oversized(&self.partition, self.offset, &self.buffer));
        }
        self.offset += self.buffer.len() as u64;
        self.buffer = vec![];
        self.scan.at = 0;
    }
}

fn oversized(partition: &str, position: u64, bytes: &[u8]) -> BadRecord {
    let reason = format!("record is longer than {} MiB", RECORD_BYTES_MAX >> 20);
    BadRecord::new(partition, position, reason, bytes)
}

/// Finds the ends of records, over as many buffers as it takes.
struct Scan {
    /// Bytes of the buffer that were looked at.
    at: usize,
    quoting: Option<Quoting>,
}

struct Quoting {
    delimiter: u8,
    quote: u8,
    escape: u8,
    place: Place,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    FieldStart,
    Plain,
    Quoted,
    /// Behind an escape byte inside quotes.
    Escaped,
    /// Behind a quote inside quotes: the field's end, or the first half of a doubled one.
    QuoteSeen,
}

impl Scan {
    fn new(framing: Framing) -> Scan {
        let quoting = match framing {
            Framing::QuotedLines { delimiter, quote, escape, .. } => {
                Some(Quoting { delimiter, quote, escape, place: Place::FieldStart })
            }
            Framing::Lines | Framing::Parquet => None,
        };
        Scan { at: 0, quoting }
    }

    /// The next record's end, behind its line break; `None` if the buffer has none.
    fn record_end(&mut self, buffer: &[u8]) -> Option<usize> {
        let rest = &buffer[self.at..];
        let found = match &mut self.quoting {
            None => rest.iter().position(|&byte| byte == b'\n'),
            Some(quoting) => rest.iter().position(|&byte| quoting.ends_record(byte)),
        };
        self.at = found.map_or(buffer.len(), |found| self.at + found + 1);
        found.map(|_| self.at)
    }
}

impl Quoting {
    #[inline]
    fn ends_record(&mut self, byte: u8) -> bool {
        use Place::*;
        self.place = match self.place {
            Quoted if byte == self.escape && self.escape != self.quote => Escaped,
            Quoted if byte == self.quote => QuoteSeen,
            Quoted | Escaped => Quoted,
            QuoteSeen if byte == self.quote => Quoted,
            FieldStart if byte == self.quote => Quoted,
            _ if byte == b'\n' => {
                self.place = FieldStart;
                return true;
            }
            _ if byte == self.delimiter => FieldStart,
            _ => Plain,
        };
        false
    }
}
