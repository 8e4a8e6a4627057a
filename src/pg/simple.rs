//! The simple protocol: one text, its statements answered in order, up to the first error.

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
        for statement in statements {
            let prepared = self.client.watched(self.session.prepare(statement, &[])).await??;
            if !B::parameters(&prepared).is_empty() {
                return Err(Error::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $1").into());
            }
            let answer = self.client.watched(self.session.execute(&prepared, vec![])).await??;
            self.send_notices();
            match answer {
                Answer::Rows { schema, stream, tag, counted } => {
                    let fields = B::fields(&prepared).unwrap_or(schema.fields());
                    let style = self.session.text_style();
                    let formats = vec![Format::Text; fields.len()];
                    let mut rows = RowSource::new(stream, fields, formats, style, tag, counted);
                    rows.describe(self.outbox);
                    let sent = rows.pump(&mut self.client, self.outbox, 0).await?;
                    self.send_notices();
                    self.outbox.command_complete(&rows.tag(sent.row_count));
                }
                answer => self.answer_without_rows(answer).await?,
            }
            self.drop_dead_portals();
            self.outbox.flush_if_full().await?;
        }
        Ok(())
    }

    /// All that a statement can do but rows.
    pub(super) async fn answer_without_rows(&mut self, answer: Answer<B::Copy>) -> Result<(), Trouble> {
        match answer {
            Answer::Done { tag } => self.outbox.command_complete(&tag),
            Answer::Empty => self.outbox.empty_query(),
            Answer::CopyIn { column_count, binary, copy } => self.copy_in(column_count, binary, copy).await?,
            Answer::CopyOut { column_count, binary, lines } => self.copy_out(column_count, binary, lines).await?,
            Answer::Rows { .. } => return Err(Error::internal("rows where none were expected").into()),
        }
        Ok(())
    }
}
