//! COPY's sub-protocol: rows in pieces of any size, in or out.
//!
//! A piece from the client may end in the middle of a row; the session puts them together. When a COPY fails, the
//! client may still be sending: the connection's loop passes over what comes.

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Trouble;
use super::backend::Backend;
use super::connection::Connection;
use super::encode::Format;
use super::message::Request;
use crate::error::{Error, Result, SqlState};

fn format(binary: bool) -> Format {
    if binary { Format::Binary } else { Format::Text }
}

impl<R, W, B> Connection<'_, R, W, B>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    B: Backend,
{
    /// The command tag.
    pub(super) async fn copy_in(
        &mut self,
        column_count: usize,
        binary: bool,
        copy: B::Copy,
    ) -> Result<String, Trouble> {
        self.outbox.copy_in_response(column_count, format(binary));
        self.flush_watched().await?;
        let mut copy = copy;
        loop {
            match self.copy_step(&mut copy).await {
                Ok(false) => {}
                Ok(true) => break,
                Err(trouble) => {
                    self.session.copy_fail(copy);
                    return Err(trouble);
                }
            }
        }
        Ok(self.client.watched(self.session.copy_done(copy)).await??)
    }

    /// One message; true when the client has sent all.
    async fn copy_step(&mut self, copy: &mut B::Copy) -> Result<bool, Trouble> {
        let frame = self.client.frame().await?;
        let kind = frame.kind;
        match Request::read(frame)? {
            Request::CopyData(data) => {
                self.client.watched(self.session.copy_in(copy, &data)).await??;
                Ok(false)
            }
            Request::CopyDone => Ok(true),
            // Postgres lets these pass, for clients that pipeline.
            Request::Flush | Request::Sync => Ok(false),
            Request::CopyFail(reason) => {
                Err(Error::new(SqlState::QUERY_CANCELED, format!("COPY from stdin failed: {reason}")).into())
            }
            Request::Terminate => Err(Trouble::Gone),
            _ => Err(Error::new(
                SqlState::PROTOCOL_VIOLATION,
                format!("unexpected message type 0x{kind:02X} during COPY from stdin"),
            )
            .into()),
        }
    }

    /// Each item of `lines` is one CopyData message; all but `extra_line_count` are rows.
    pub(super) async fn copy_out(
        &mut self,
        column_count: usize,
        binary: bool,
        extra_line_count: u64,
        mut lines: BoxStream<'static, Result<Bytes>>,
    ) -> Result<String, Trouble> {
        self.outbox.copy_out_response(column_count, format(binary));
        let mut line_count = 0u64;
        while let Some(line) = self.client.next_of(&mut lines, self.outbox, true).await? {
            self.outbox.copy_data(&line?);
            line_count += 1;
            if self.outbox.is_full() {
                self.flush_watched().await?;
            }
        }
        self.outbox.copy_done();
        Ok(format!("COPY {}", line_count.saturating_sub(extra_line_count)))
    }
}
