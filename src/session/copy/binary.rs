//! COPY's binary format: a signature, tuples of counted fields, a trailer of −1.

use super::import::bad_format;
use crate::error::Result;

pub const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// No flags, no header extension.
pub const HEADER_REST: [u8; 8] = [0; 8];
pub const TRAILER: [u8; 2] = (-1i16).to_be_bytes();
/// A field of Postgres is shorter than 1 GiB.
const FIELD_BYTES_MAX: i32 = 1 << 30;

#[derive(Default)]
pub struct BinarySplit {
    pending: Vec<u8>,
    state: State,
    row: u64,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Header,
    Tuples,
    Ended,
}

/// Called with each tuple's number (from 1) and fields; `None`: NULL.
type Sink<'a> = &'a mut dyn FnMut(u64, &[Option<&[u8]>]) -> Result<()>;

impl BinarySplit {
    pub fn feed(&mut self, data: &[u8], sink: Sink) -> Result<()> {
        let mut bytes = std::mem::take(&mut self.pending);
        bytes.extend_from_slice(data);
        let mut at = 0;
        if self.state == State::Header {
            match header(&bytes)? {
                Some(length) => at = length,
                None => {
                    self.pending = bytes;
                    return Ok(());
                }
            }
            self.state = State::Tuples;
        }
        while self.state == State::Tuples {
            let mut cursor = Cursor { bytes: &bytes, at };
            match cursor.tuple()? {
                Tuple::Incomplete => break,
                Tuple::Trailer => self.state = State::Ended,
                Tuple::Fields(fields) => {
                    self.row += 1;
                    sink(self.row, &fields)?;
                }
            }
            at = cursor.at;
        }
        if self.state == State::Ended && at < bytes.len() {
            return Err(bad_format("received copy data after EOF marker"));
        }
        bytes.drain(..at);
        self.pending = bytes;
        Ok(())
    }

    pub fn finish(&mut self) -> Result<()> {
        match self.state {
            State::Header => Err(bad_format("COPY file signature not recognized")),
            State::Tuples if !self.pending.is_empty() => Err(bad_format("unexpected EOF in COPY data")),
            // A client may leave the trailer out.
            State::Tuples | State::Ended => Ok(()),
        }
    }
}

/// Its length; `None` if more is needed.
fn header(bytes: &[u8]) -> Result<Option<usize>> {
    let compared = bytes.len().min(SIGNATURE.len());
    if bytes[..compared] != SIGNATURE[..compared] {
        return Err(bad_format("COPY file signature not recognized"));
    }
    let fixed = SIGNATURE.len() + HEADER_REST.len();
    let Some(rest) = bytes.get(SIGNATURE.len()..fixed) else { return Ok(None) };
    let number = |at: usize| u32::from_be_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
    // The upper half of the flags is critical.
    if number(0) & 0xffff_0000 != 0 {
        return Err(bad_format("unrecognized critical flags in COPY file header"));
    }
    let length = fixed + number(4) as usize;
    Ok((bytes.len() >= length).then_some(length))
}

enum Tuple<'a> {
    Incomplete,
    Trailer,
    Fields(Vec<Option<&'a [u8]>>),
}

/// Moves on only over whole tuples.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn tuple(&mut self) -> Result<Tuple<'a>> {
        let mut at = self.at;
        let Some(count) = take(self.bytes, &mut at, 2) else { return Ok(Tuple::Incomplete) };
        let count = i16::from_be_bytes([count[0], count[1]]);
        if count == -1 {
            self.at = at;
            return Ok(Tuple::Trailer);
        }
        let count = usize::try_from(count).map_err(|_| bad_format("a negative field count in COPY data"))?;
        let mut fields = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(length) = take(self.bytes, &mut at, 4) else { return Ok(Tuple::Incomplete) };
            let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            if length == -1 {
                fields.push(None);
                continue;
            }
            if !(0..FIELD_BYTES_MAX).contains(&length) {
                return Err(bad_format("invalid field size"));
            }
            let Some(field) = take(self.bytes, &mut at, length as usize) else { return Ok(Tuple::Incomplete) };
            fields.push(Some(field));
        }
        self.at = at;
        Ok(Tuple::Fields(fields))
    }
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, length: usize) -> Option<&'a [u8]> {
    let taken = bytes.get(*at..*at + length)?;
    *at += length;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut bytes = [SIGNATURE, &HEADER_REST].concat();
        bytes.extend_from_slice(&2i16.to_be_bytes());
        bytes.extend_from_slice(&1i32.to_be_bytes());
        bytes.push(b'x');
        bytes.extend_from_slice(&(-1i32).to_be_bytes());
        bytes.extend_from_slice(&TRAILER);
        bytes
    }

    #[test]
    fn tuples_come_whole_whatever_the_pieces() -> Result<()> {
        for piece in [1, 7, 1000] {
            let (mut split, mut tuples) = (BinarySplit::default(), vec![]);
            for piece in stream().chunks(piece) {
                split.feed(piece, &mut |row, fields| {
                    tuples.push((row, fields.iter().map(|f| f.map(<[u8]>::to_vec)).collect::<Vec<_>>()));
                    Ok(())
                })?;
            }
            split.finish()?;
            assert_eq!(tuples, [(1, vec![Some(b"x".to_vec()), None])]);
        }
        Ok(())
    }

    #[test]
    fn what_is_no_copy_data_is_refused() {
        let feed = |bytes: &[u8]| BinarySplit::default().feed(bytes, &mut |_, _| Ok(())).err().map(|e| e.message);
        assert_eq!(feed(b"1\t2\n").as_deref(), Some("COPY file signature not recognized"));
        let mut trailing = stream();
        trailing.push(0);
        assert_eq!(feed(&trailing).as_deref(), Some("received copy data after EOF marker"));
    }
}
