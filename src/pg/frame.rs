//! Bytes to frames: one byte of kind, four of length, a body. Lengths are checked before anything is believed.
//!
//! Reading can be abandoned at any point (`select!`): what has arrived stays in the buffer. While a query runs,
//! [`FrameReader::watch`] reads ahead, which is how a client that went away is noticed.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Trouble;
use crate::error::{Error, SqlState};

/// Bytes of a Query, Parse, Bind, or CopyData.
const LARGE_BODY_BYTES_MAX: usize = 256 << 20;
/// Bytes of any other message.
const SMALL_BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a start-up packet, as in Postgres.
const STARTUP_BYTES_MAX: usize = 10_000;
/// Bytes taken from the socket at a time.
const READ_BYTES: usize = 16 << 10;
/// Bytes read ahead while a query runs; a client that pipelines more waits, and its departure is noticed later.
const READ_AHEAD_BYTES_MAX: usize = 1 << 20;

/// A message of the client, complete.
pub(super) struct Frame {
    pub kind: u8,
    pub body: Bytes,
}

pub(super) struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    is_closed: bool,
}

pub(super) fn violation(message: impl Into<String>) -> Trouble {
    Trouble::Fatal(Error::new(SqlState::PROTOCOL_VIOLATION, message))
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(io: R) -> FrameReader<R> {
        FrameReader { io, buffer: BytesMut::new(), is_closed: false }
    }

    /// The stream itself; call it when nothing is buffered.
    pub fn io(&mut self) -> &mut R {
        &mut self.io
    }

    /// With another stream that goes on where this one is.
    pub fn map_io<S, T>(self, map: impl FnOnce(R) -> (S, T)) -> (FrameReader<S>, T) {
        let (io, rest) = map(self.io);
        (FrameReader { io, buffer: self.buffer, is_closed: self.is_closed }, rest)
    }

    pub fn into_io(self) -> R {
        self.io
    }

    pub fn has_buffered(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The body of a packet that has no kind: what a client says before its session. A length that no start-up packet
    /// has is not Postgres at all; such a client is left without an answer.
    pub async fn startup_packet(&mut self) -> Result<Bytes, Trouble> {
        loop {
            if self.buffer.len() >= 4 {
                let length = i32::from_be_bytes(self.buffer[..4].try_into().expect("four bytes")) as i64;
                if !(8..=STARTUP_BYTES_MAX as i64).contains(&length) {
                    return Err(Trouble::Gone);
                }
                let length = length as usize;
                if self.buffer.len() >= length {
                    self.buffer.advance(4);
                    return Ok(self.buffer.split_to(length - 4).freeze());
                }
            }
            self.fill(READ_BYTES).await?;
        }
    }

    /// The body of a password message; anything else is a violation as soon as its first byte is there, and nothing is
    /// gathered for it.
    pub async fn password_message(&mut self, bytes_max: usize) -> Result<Bytes, Trouble> {
        loop {
            match self.header()? {
                Some((b'X', _)) => return Err(Trouble::Gone),
                Some((b'p', length)) if length > bytes_max => return Err(violation("invalid message length")),
                Some((b'p', _)) => {}
                Some((kind, _)) => {
                    return Err(violation(format!("expected SASL response, got message type {kind}")));
                }
                None => {}
            }
            if let Some(frame) = self.buffered()? {
                return Ok(frame.body);
            }
            self.fill(READ_BYTES).await?;
        }
    }

    /// A frame that has arrived in full, if there is one.
    pub fn buffered(&mut self) -> Result<Option<Frame>, Trouble> {
        let Some((kind, length)) = self.header()? else { return Ok(None) };
        if self.buffer.len() < 1 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some(Frame { kind, body: self.buffer.split_to(length - 4).freeze() }))
    }

    /// The kind of the frame at the front, of which at least that has arrived.
    pub fn buffered_kind(&self) -> Option<u8> {
        self.buffer.first().copied()
    }

    /// Waits for the next frame's first byte, and takes nothing.
    pub async fn next_kind(&mut self) -> Result<u8, Trouble> {
        loop {
            if let Some(kind) = self.buffered_kind() {
                return Ok(kind);
            }
            self.fill(READ_BYTES).await?;
        }
    }

    /// Kind and length (its own four bytes included) of the frame at the front.
    fn header(&self) -> Result<Option<(u8, usize)>, Trouble> {
        let Some(&kind) = self.buffer.first() else { return Ok(None) };
        let limit = match kind {
            b'Q' | b'P' | b'B' | b'd' => LARGE_BODY_BYTES_MAX,
            b'C' | b'D' | b'E' | b'F' | b'H' | b'S' | b'X' | b'c' | b'f' | b'p' => SMALL_BODY_BYTES_MAX,
            _ => return Err(violation(format!("invalid frontend message type {kind}"))),
        };
        if self.buffer.len() < 5 {
            return Ok(None);
        }
        let length = i32::from_be_bytes(self.buffer[1..5].try_into().expect("four bytes"));
        match usize::try_from(length) {
            Ok(length) if (4..=limit + 4).contains(&length) => Ok(Some((kind, length))),
            _ => Err(violation("invalid message length")),
        }
    }

    pub async fn next(&mut self) -> Result<Frame, Trouble> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            let missing = self.header()?.map_or(READ_BYTES, |(_, length)| length + 1 - self.buffer.len());
            self.fill(missing.clamp(READ_BYTES, READ_AHEAD_BYTES_MAX)).await?;
        }
    }

    /// Reads once. The buffer grows with what arrives, not with what a header promises.
    async fn fill(&mut self, reserve_bytes: usize) -> Result<(), Trouble> {
        if self.is_closed {
            return Err(Trouble::Gone);
        }
        self.buffer.reserve(reserve_bytes);
        match self.io.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => {
                self.is_closed = true;
                Err(Trouble::Gone)
            }
            Ok(_) => Ok(()),
        }
    }

    /// Returns when the client has gone and left nothing that is worth doing. Otherwise it never returns: drop it.
    pub async fn watch(&mut self) {
        while !self.is_closed && self.buffer.len() < READ_AHEAD_BYTES_MAX {
            // What was wrong is found again by `buffered`.
            let _ = self.fill(READ_BYTES).await;
        }
        let is_waiting = self.is_closed && matches!(self.buffer.first(), None | Some(b'X'));
        if !is_waiting {
            std::future::pending::<()>().await;
        }
    }

    /// As [`FrameReader::watch`], while something without an end is done: what a Sync behind it would commit is not worth
    /// waiting for, since it is never reached.
    pub async fn watch_endless(&mut self) {
        while !self.is_closed && self.buffer.len() < READ_AHEAD_BYTES_MAX {
            let _ = self.fill(READ_BYTES).await;
        }
        if !self.is_closed || !has_only_ends(&self.buffer) {
            std::future::pending::<()>().await;
        }
    }
}

/// True if nothing is asked for any more: these are Sync, Flush, Close, Describe and Terminate.
fn has_only_ends(mut bytes: &[u8]) -> bool {
    while let [kind, ref rest @ ..] = *bytes {
        let length = rest.first_chunk().map_or(0, |length| u32::from_be_bytes(*length) as usize);
        let end = length.saturating_add(1);
        if !matches!(kind, b'S' | b'H' | b'C' | b'D' | b'X') {
            return false;
        }
        match bytes.get(end.max(5)..) {
            Some(rest) => bytes = rest,
            None => return true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_pipeline_asks_for_nothing() {
        assert!(has_only_ends(b""));
        assert!(has_only_ends(b"S\0\0\0\x04C\0\0\0\x07Ss\0"));
        assert!(has_only_ends(b"S\0\0\0\x04X\0\0\0\x04"));
        assert!(!has_only_ends(b"S\0\0\0\x04Q\0\0\0\x08x;\0"));
        assert!(!has_only_ends(b"P\0\0"), "what is not whole may be asked for");
    }
    use rand::{Rng, SeedableRng};

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
    }

    async fn frames(bytes: &[u8]) -> (Vec<(u8, usize)>, Trouble) {
        let mut reader = FrameReader::new(bytes);
        let mut seen = vec![];
        loop {
            match reader.next().await {
                Ok(frame) => seen.push((frame.kind, frame.body.len())),
                Err(trouble) => return (seen, trouble),
            }
        }
    }

    #[test]
    fn frames_and_their_limits() {
        block_on(async {
            let (seen, end) = frames(b"Q\0\0\0\x05\0S\0\0\0\x04").await;
            assert_eq!(seen, [(b'Q', 1), (b'S', 0)]);
            assert!(matches!(end, Trouble::Gone));
            for bad in [&b"Q\0\0\0\x03"[..], b"Q\xff\xff\xff\xff", b"Q\x7f\xff\xff\xff", b"S\x01\0\0\0", b"GET /"] {
                let (seen, end) = frames(bad).await;
                assert!(seen.is_empty());
                assert!(matches!(end, Trouble::Fatal(e) if e.code == SqlState::PROTOCOL_VIOLATION));
            }
        });
    }

    #[test]
    fn a_promise_costs_no_memory() {
        block_on(async {
            let mut reader = FrameReader::new(&b"Q\x10\0\0\0abc"[..]);
            assert!(reader.next().await.is_err());
            assert!(reader.buffer.capacity() <= 2 * READ_AHEAD_BYTES_MAX);
        });
    }

    #[test]
    fn garbage_never_panics() {
        let seed: u64 = rand::rng().random();
        println!("seed {seed}");
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        block_on(async {
            for _ in 0..5000 {
                let mut bytes: Vec<u8> = (0..random.random_range(0..64)).map(|_| random.random()).collect();
                if let [kind, a, b, c, d, ..] = bytes.as_mut_slice()
                    && random.random_bool(0.7)
                {
                    *kind = b"QPBEDCSHFdcfXp"[random.random_range(0..14)];
                    (*a, *b, *c, *d) = (0, 0, 0, random.random_range(0..70));
                }
                let mut reader = FrameReader::new(&bytes[..]);
                while let Ok(frame) = reader.next().await {
                    let _ = super::super::message::Request::read(frame);
                }
                let _ = FrameReader::new(&bytes[..]).startup_packet().await;
            }
        });
    }
}
