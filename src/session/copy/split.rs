//! Text and CSV into records and fields, whatever pieces they come in.
//!
//! Text: a backslash protects the byte after it, also a delimiter or a line break; `\.` ends the data. CSV (RFC 4180 with
//! Postgres' choices): a quoted field may hold line breaks, and is never NULL.

use std::borrow::Cow;

use super::import::bad_format;
use crate::error::{Error, Result, SqlState};
use crate::sql::{CopyFormat, CopyOptions};

/// `None`: NULL.
pub type Field<'a> = Option<Cow<'a, str>>;

/// Called with each record's line number (from 1) and fields.
type Sink<'a> = &'a mut dyn FnMut(u64, &[Field]) -> Result<()>;

pub struct TextSplit {
    options: CopyOptions,
    /// Bytes of a record that is not complete.
    pending: Vec<u8>,
    /// How far they were searched for its end: a record of many pieces is searched once.
    scan: Scan,
    /// Records so far.
    line: u64,
    header_pending: bool,
    /// `\.` was read.
    ended: bool,
}

/// A search for a record's end, which goes on where it stopped.
#[derive(Default)]
struct Scan {
    /// Behind the end if that is a backslash, whose other half is still to come.
    at: usize,
    is_quoted: bool,
}

impl TextSplit {
    pub fn new(options: CopyOptions) -> TextSplit {
        let header_pending = options.header;
        TextSplit { options, pending: vec![], scan: Scan::default(), line: 0, header_pending, ended: false }
    }

    pub fn feed(&mut self, data: &[u8], sink: Sink) -> Result<()> {
        let (mut bytes, mut scan) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.scan));
        bytes.extend_from_slice(data);
        let mut start = 0;
        while let Some(length) = self.record_end(&bytes[start..], &mut scan) {
            scan = Scan::default();
            let record = &bytes[start..start + length];
            start += length + 1;
            self.record(record, sink)?;
        }
        bytes.drain(..start);
        (self.pending, self.scan) = (bytes, scan);
        Ok(())
    }

    pub fn finish(&mut self, sink: Sink) -> Result<()> {
        let rest = std::mem::take(&mut self.pending);
        if rest.is_empty() || self.ended {
            return Ok(());
        }
        if self.options.format == CopyFormat::Csv && self.inside_quotes(&rest) {
            return Err(bad_format("unterminated CSV quoted field"));
        }
        self.record(&rest, sink)
    }

    /// Bytes before the line break that ends the first record.
    fn record_end(&self, bytes: &[u8], scan: &mut Scan) -> Option<usize> {
        while scan.at < bytes.len() {
            let byte = bytes[scan.at];
            match self.options.format {
                CopyFormat::Csv => {
                    let escape = self.options.escape;
                    if scan.is_quoted && byte == escape && escape != self.options.quote {
                        scan.at += 1;
                    } else if byte == self.options.quote {
                        scan.is_quoted = !scan.is_quoted;
                    } else if byte == b'\n' && !scan.is_quoted {
                        return Some(scan.at);
                    }
                }
                _ if byte == b'\\' => scan.at += 1,
                _ if byte == b'\n' => return Some(scan.at),
                _ => {}
            }
            scan.at += 1;
        }
        None
    }

    fn inside_quotes(&self, bytes: &[u8]) -> bool {
        let mut closed = bytes.to_vec();
        closed.push(b'\n');
        self.record_end(&closed, &mut Scan::default()).is_none()
    }

    fn record(&mut self, record: &[u8], sink: Sink) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        self.line += 1;
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        if record == b"\\." {
            self.ended = true;
            return Ok(());
        }
        if std::mem::take(&mut self.header_pending) {
            return Ok(());
        }
        let text = std::str::from_utf8(record).map_err(|e| {
            Error::new(SqlState("22021"), "invalid byte sequence for encoding \"UTF8\"").with_detail(format!(
                "line {}, byte {}",
                self.line,
                e.valid_up_to() + 1
            ))
        })?;
        if text.contains('\0') {
            return Err(Error::new(SqlState("22021"), "invalid byte sequence for encoding \"UTF8\": 0x00")
                .with_detail(format!("line {}", self.line)));
        }
        let fields = match self.options.format {
            CopyFormat::Csv => self.csv_fields(text)?,
            _ => self.text_fields(text),
        };
        sink(self.line, &fields)
    }

    fn text_fields<'a>(&self, text: &'a str) -> Vec<Field<'a>> {
        let bytes = text.as_bytes();
        let (mut fields, mut start, mut at) = (vec![], 0, 0);
        while at <= bytes.len() {
            if at == bytes.len() || bytes[at] == self.options.delimiter {
                let raw = &text[start..at];
                fields.push((raw != self.options.null).then(|| unescape(raw)));
                start = at + 1;
            } else if bytes[at] == b'\\' && at + 1 < bytes.len() {
                at += 1;
            }
            at += 1;
        }
        fields
    }

    fn csv_fields<'a>(&self, text: &'a str) -> Result<Vec<Field<'a>>> {
        let CopyOptions { quote, escape, delimiter, null, .. } = &self.options;
        let bytes = text.as_bytes();
        let (mut fields, mut at) = (vec![], 0);
        loop {
            let (start, mut content, mut was_quoted) = (at, None::<Vec<u8>>, false);
            while at < bytes.len() && bytes[at] != *delimiter {
                if bytes[at] != *quote {
                    if let Some(content) = &mut content {
                        content.push(bytes[at]);
                    }
                    at += 1;
                    continue;
                }
                // Postgres lets a quoted part start anywhere in a field.
                was_quoted = true;
                let content = content.get_or_insert_with(|| bytes[start..at].to_vec());
                at += 1;
                loop {
                    match bytes.get(at) {
                        None => return Err(bad_format("unterminated CSV quoted field")),
                        Some(byte)
                            if byte == escape && bytes.get(at + 1).is_some_and(|b| b == quote || b == escape) =>
                        {
                            content.push(bytes[at + 1]);
                            at += 2;
                        }
                        Some(byte) if byte == quote => {
                            at += 1;
                            break;
                        }
                        Some(byte) => {
                            content.push(*byte);
                            at += 1;
                        }
                    }
                }
            }
            let field = match content {
                None => Cow::Borrowed(&text[start..at]),
                // Quotes, escapes and delimiters are single ASCII bytes: what is left of UTF-8 without them is UTF-8.
                Some(content) => Cow::Owned(String::from_utf8_lossy(&content).into_owned()),
            };
            fields.push((was_quoted || *field != **null).then_some(field));
            if at >= bytes.len() {
                return Ok(fields);
            }
            at += 1;
        }
    }
}

/// `\t`, `\n`, `\x41`, `\101` and their kin; any other character after a backslash stands for itself.
fn unescape(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let bytes = raw.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let byte = bytes[at];
        at += 1;
        let Some(&next) = bytes.get(at).filter(|_| byte == b'\\') else {
            out.push(byte);
            continue;
        };
        at += 1;
        match next {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(0x0b),
            b'0'..=b'7' => {
                let (value, digits) = number(&bytes[at - 1..], 8, 3);
                out.push(value);
                at += digits - 1;
            }
            b'x' => {
                let (value, digits) = number(&bytes[at..], 16, 2);
                out.push(if digits == 0 { b'x' } else { value });
                at += digits;
            }
            other => out.push(other),
        }
    }
    // Only bytes written as numbers can break UTF-8; they are replaced then.
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// The byte that the first digits write, and how many they are.
fn number(bytes: &[u8], radix: u32, digits_max: usize) -> (u8, usize) {
    let digits = bytes.iter().take(digits_max).map_while(|&b| (b as char).to_digit(radix));
    digits.fold((0, 0), |(value, count), digit| ((value as u32 * radix + digit) as u8, count + 1))
}
