//! Replies to bytes, gathered in one buffer and written in pieces of about 64 KiB.

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::encode::Format;
use crate::error::Error;
use crate::session::{Notice, TransactionStatus};
use crate::types::PgType;

/// Beyond this the buffer is written before more is added.
const FLUSH_BYTES: usize = 64 << 10;

/// Protocol 3.0, as NegotiateProtocolVersion names it.
const NEWEST_PROTOCOL: i32 = 3 << 16;

/// A column as RowDescription tells it.
pub(super) struct ColumnHead<'a> {
    pub name: &'a str,
    pub pg_type: PgType,
    pub format: Format,
}

pub(super) struct Outbox<W> {
    io: W,
    buffer: BytesMut,
    /// Bytes of `buffer` that are complete messages; the rest is being written, or a panic left it behind.
    sealed: usize,
}

impl<W: AsyncWrite + Unpin> Outbox<W> {
    pub fn new(io: W) -> Outbox<W> {
        Outbox { io, buffer: BytesMut::with_capacity(FLUSH_BYTES + (8 << 10)), sealed: 0 }
    }

    /// Where encoders write messages; call [`Outbox::seal`] behind each.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// All that is in the buffer now is complete messages.
    pub fn seal(&mut self) {
        self.sealed = self.buffer.len();
    }

    /// Forgets a message that was begun and not ended.
    pub fn drop_unsealed(&mut self) {
        self.buffer.truncate(self.sealed);
    }

    /// Writes all that is gathered. Abandoning it loses nothing.
    pub async fn flush(&mut self) -> std::io::Result<()> {
        while self.buffer.has_remaining() {
            let written = self.io.write_buf(&mut self.buffer).await?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            self.sealed = self.sealed.saturating_sub(written);
        }
        self.io.flush().await
    }

    pub fn is_full(&self) -> bool {
        self.buffer.len() >= FLUSH_BYTES
    }

    pub async fn flush_if_full(&mut self) -> std::io::Result<()> {
        if self.is_full() {
            self.flush().await?;
        }
        Ok(())
    }

    /// Flushes and says that nothing more comes.
    pub async fn close(&mut self) {
        // The client may be gone already: then there is nobody to tell.
        let _ = self.flush().await;
        let _ = self.io.shutdown().await;
    }

    fn message(&mut self, kind: u8, body: impl FnOnce(&mut BytesMut)) {
        self.buffer.put_u8(kind);
        let start = self.buffer.len();
        self.buffer.put_i32(0);
        body(&mut self.buffer);
        let length = (self.buffer.len() - start) as i32;
        self.buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
        self.seal();
    }

    pub fn authentication_ok(&mut self) {
        self.message(b'R', |b| b.put_i32(0));
    }

    /// The mechanisms by which the client may prove who it is.
    pub fn authentication_sasl(&mut self, mechanisms: &[&str]) {
        self.message(b'R', |b| {
            b.put_i32(10);
            mechanisms.iter().for_each(|name| put_text(b, name));
            b.put_u8(0);
        });
    }

    pub fn authentication_sasl_continue(&mut self, data: &[u8]) {
        self.message(b'R', |b| {
            b.put_i32(11);
            b.put_slice(data);
        });
    }

    pub fn authentication_sasl_final(&mut self, data: &[u8]) {
        self.message(b'R', |b| {
            b.put_i32(12);
            b.put_slice(data);
        });
    }

    pub fn negotiate_protocol_version(&mut self, unknown_options: &[String]) {
        self.message(b'v', |b| {
            b.put_i32(NEWEST_PROTOCOL);
            b.put_i32(unknown_options.len() as i32);
            unknown_options.iter().for_each(|name| put_text(b, name));
        });
    }

    pub fn parameter_status(&mut self, name: &str, value: &str) {
        self.message(b'S', |b| {
            put_text(b, name);
            put_text(b, value);
        });
    }

    pub fn backend_key_data(&mut self, (pid, secret): (i32, i32)) {
        self.message(b'K', |b| {
            b.put_i32(pid);
            b.put_i32(secret);
        });
    }

    pub fn ready_for_query(&mut self, status: TransactionStatus) {
        let letter = match status {
            TransactionStatus::Idle => b'I',
            TransactionStatus::Open => b'T',
            TransactionStatus::Failed => b'E',
        };
        self.message(b'Z', |b| b.put_u8(letter));
    }

    /// ERROR or FATAL.
    pub fn error(&mut self, severity: &str, error: &Error) {
        self.message(b'E', |b| put_report(b, severity, error));
    }

    pub fn notice(&mut self, notice: &Notice) {
        self.message(b'N', |b| put_report(b, notice.severity, &notice.error));
    }

    pub fn command_complete(&mut self, tag: &str) {
        self.message(b'C', |b| put_text(b, tag));
    }

    pub fn row_description<'a>(&mut self, columns: impl ExactSizeIterator<Item = ColumnHead<'a>>) {
        self.message(b'T', |b| {
            b.put_i16(columns.len() as i16);
            for ColumnHead { name, pg_type, format } in columns {
                put_text(b, name);
                // Table and column number: results do not know where they come from.
                b.put_i32(0);
                b.put_i16(0);
                // Postgres tells unknown literals as text.
                let told = if pg_type == PgType::Unknown { PgType::Text } else { pg_type };
                b.put_u32(told.oid());
                b.put_i16(told.length());
                b.put_i32(told.modifier());
                b.put_i16(format.code());
            }
        });
    }

    pub fn parameter_description(&mut self, types: &[PgType]) {
        self.message(b't', |b| {
            b.put_i16(types.len() as i16);
            for pg_type in types {
                b.put_u32(if *pg_type == PgType::Unknown { PgType::Text.oid() } else { pg_type.oid() });
            }
        });
    }

    pub fn parse_complete(&mut self) {
        self.message(b'1', |_| {});
    }

    pub fn bind_complete(&mut self) {
        self.message(b'2', |_| {});
    }

    pub fn close_complete(&mut self) {
        self.message(b'3', |_| {});
    }

    pub fn no_data(&mut self) {
        self.message(b'n', |_| {});
    }

    pub fn portal_suspended(&mut self) {
        self.message(b's', |_| {});
    }

    pub fn empty_query(&mut self) {
        self.message(b'I', |_| {});
    }

    pub fn copy_in_response(&mut self, column_count: usize, format: Format) {
        self.message(b'G', |b| put_copy_response(b, column_count, format));
    }

    pub fn copy_out_response(&mut self, column_count: usize, format: Format) {
        self.message(b'H', |b| put_copy_response(b, column_count, format));
    }

    pub fn copy_data(&mut self, data: &[u8]) {
        self.message(b'd', |b| b.put_slice(data));
    }

    pub fn copy_done(&mut self) {
        self.message(b'c', |_| {});
    }
}

/// A zero byte inside would end the text early, and all that follows would be misread.
fn put_text(b: &mut BytesMut, text: &str) {
    let end = text.bytes().position(|byte| byte == 0).unwrap_or(text.len());
    b.put_slice(&text.as_bytes()[..end]);
    b.put_u8(0);
}

fn put_copy_response(b: &mut BytesMut, column_count: usize, format: Format) {
    b.put_u8(format.code() as u8);
    b.put_i16(column_count as i16);
    (0..column_count).for_each(|_| b.put_i16(format.code()));
}

fn put_report(b: &mut BytesMut, severity: &str, error: &Error) {
    let position = error.position.map(|p| p.to_string());
    let fields = [
        (b'S', Some(severity)),
        (b'V', Some(severity)),
        (b'C', Some(error.code.0)),
        (b'M', Some(error.message.as_str())),
        (b'D', error.detail.as_deref()),
        (b'H', error.hint.as_deref()),
        (b'P', position.as_deref()),
    ];
    for (letter, text) in fields {
        if let Some(text) = text {
            b.put_u8(letter);
            put_text(b, text);
        }
    }
    b.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SqlState;

    #[test]
    fn an_error_on_the_wire() {
        let mut outbox = Outbox::new(vec![]);
        outbox.error("ERROR", &Error::new(SqlState::SYNTAX_ERROR, "a\0b").with_position(7));
        assert_eq!(&outbox.buffer[..], b"E\0\0\0\x20SERROR\0VERROR\0C42601\0Ma\0P7\0\0");
        outbox.buffer.clear();
        outbox.ready_for_query(TransactionStatus::Failed);
        assert_eq!(&outbox.buffer[..], b"Z\0\0\0\x05E");
    }
}
