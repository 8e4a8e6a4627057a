//! The simple protocol: one text, its statements answered in order, up to the first error.
//!
//! Several statements in one text are one transaction, unless they say BEGIN and COMMIT themselves. The last one hears
//! that it is done when all of it is committed.

use tokio::io::{AsyncRead, AsyncWrite};

use super::Trouble;
use super::backend::{Answer, Backend};
use super::connection::Connection;
use super::encode::Format;
use super::portal::RowSource;
use crate::error::{Error, SqlState};

impl<R, W, B> Connection<'_, R, W, B>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    B: Backend,
{
    pub(super) async fn simple_query(&mut self, text: &str) -> Result<(), Trouble> {
        self.statements.remove("");
        self.portals.remove("");
        let statements = self.session.parse(text)?;
        if statements.is_empty() {
            self.outbox.empty_query();
            return Ok(());
        }
        let is_single = statements.len() == 1;
        let mut statements = statements.into_iter().peekable();
        while let Some(statement) = statements.next() {
            if !is_single {
                self.session.begin_implicit();
            }
            let prepared = self.client.watched(self.session.prepare(statement, &[])).await??;
            if !B::parameters(&prepared).is_empty() {
                return Err(Error::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $1").into());
            }
            let answer = self.client.watched(self.session.execute(&prepared, vec![])).await??;
            self.send_notices();
            let tag = match answer {
                Answer::Rows { schema, stream, tag, counted } => {
                    let fields = B::fields(&prepared).unwrap_or(schema.fields());
                    let style = self.session.text_style();
                    let formats = vec![Format::Text; fields.len()];
                    let mut rows = RowSource::new(stream, fields, formats, style, tag, counted);
                    rows.describe(self.outbox);
                    let sent = rows.pump(&mut self.client, self.outbox, 0).await?;
                    Some(rows.tag(sent.row_count))
                }
                answer => self.answer_without_rows(answer).await?,
            };
            if statements.peek().is_none() {
                self.client.watched(self.session.end_implicit()).await??;
            }
            self.complete(tag);
            self.drop_dead_portals();
            self.outbox.flush_if_full().await?;
        }
        Ok(())
    }

    /// All that a statement can do but rows. The command tag; `None` for the empty query.
    pub(super) async fn answer_without_rows(&mut self, answer: Answer<B::Copy>) -> Result<Option<String>, Trouble> {
        Ok(match answer {
            Answer::Done { tag } => Some(tag),
            Answer::Empty => None,
            Answer::CopyIn { column_count, binary, copy } => Some(self.copy_in(column_count, binary, copy).await?),
            Answer::CopyOut { column_count, binary, extra_line_count, lines } => {
                Some(self.copy_out(column_count, binary, extra_line_count, lines).await?)
            }
            Answer::Rows { .. } => return Err(Error::internal("rows where none were expected").into()),
        })
    }

    /// Notices, then the tag.
    pub(super) fn complete(&mut self, tag: Option<String>) {
        self.send_notices();
        match tag {
            Some(tag) => self.outbox.command_complete(&tag),
            None => self.outbox.empty_query(),
        }
    }
}
