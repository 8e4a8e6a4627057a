//! Portals: a statement with its parameters, and how far its rows were read.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::FieldRef;
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Trouble;
use super::backend::Backend;
use super::connection::{Client, GATHER_MAX, Parsed};
use super::encode::{Format, RowEncoder};
use super::outbox::{ColumnHead, Outbox};
use crate::error::Error;
use crate::types::PgType;
use crate::types::text_output::TextStyle;

pub(super) struct Portal<B: Backend> {
    pub statement: Parsed<B::Prepared>,
    pub parameters: Vec<ScalarValue>,
    pub formats: Vec<Format>,
    pub state: PortalState,
}

pub(super) enum PortalState {
    Bound,
    /// Some rows were sent.
    Suspended(Box<RowSource>),
    /// All rows were sent; asked again, there are none.
    Exhausted(Box<RowSource>),
    /// A statement without rows was run; it cannot be run again.
    Finished,
}

/// Rows of a running query, and the batch that is being sent.
pub(super) struct RowSource {
    stream: SendableRecordBatchStream,
    names: Vec<String>,
    types: Arc<Vec<PgType>>,
    formats: Vec<Format>,
    style: TextStyle,
    tag: &'static str,
    counted: bool,
    current: Option<(RowEncoder, usize)>,
}

pub(super) struct Sent {
    pub row_count: u64,
    pub is_exhausted: bool,
}

impl RowSource {
    pub fn new(
        stream: SendableRecordBatchStream,
        fields: &[FieldRef],
        formats: Vec<Format>,
        style: TextStyle,
        tag: &'static str,
        counted: bool,
    ) -> RowSource {
        RowSource {
            stream,
            names: fields.iter().map(|f| f.name().clone()).collect(),
            types: Arc::new(fields.iter().map(|f| PgType::of(f)).collect()),
            formats,
            style,
            tag,
            counted,
            current: None,
        }
    }

    /// RowDescription.
    pub fn describe<W: AsyncWrite + Unpin>(&self, outbox: &mut Outbox<W>) {
        let columns = self.names.iter().zip(self.types.iter()).zip(&self.formats);
        outbox.row_description(columns.map(|((name, pg_type), format)| ColumnHead {
            name,
            pg_type: pg_type.clone(),
            format: *format,
        }));
    }

    /// Of CommandComplete: `SELECT 3`, `SHOW`.
    pub fn tag(&self, row_count: u64) -> String {
        if self.counted { format!("{} {row_count}", self.tag) } else { self.tag.to_string() }
    }

    /// Sends up to `row_limit` rows, 0 meaning all. A limit that is met exactly counts as not exhausted, as in Postgres; so
    /// does one that is not met because the next rows of a subscription have not come yet: the client may ask again.
    pub async fn pump<R, W>(
        &mut self,
        client: &mut Client<'_, R>,
        outbox: &mut Outbox<W>,
        row_limit: usize,
    ) -> Result<Sent, Trouble>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let limit = if row_limit == 0 { u64::MAX } else { row_limit as u64 };
        // What follows a relation, and what reads a cursor over that.
        let is_endless = matches!(self.tag, "SUBSCRIBE" | "FETCH");
        let mut row_count = 0;
        while row_count < limit {
            let Some((encoder, row)) = &mut self.current else {
                if self.tag == "SUBSCRIBE" && row_limit > 0 && row_count > 0 {
                    match client.watched(tokio::time::timeout(GATHER_MAX, self.stream.next())).await? {
                        Err(_) => return Ok(Sent { row_count, is_exhausted: false }),
                        Ok(None) => return Ok(Sent { row_count, is_exhausted: true }),
                        Ok(Some(batch)) => self.current = Some((self.encoder(&batch.map_err(Error::from)?)?, 0)),
                    }
                    continue;
                }
                match client.next_of(&mut self.stream, outbox, is_endless).await? {
                    None => return Ok(Sent { row_count, is_exhausted: true }),
                    Some(batch) => self.current = Some((self.encoder(&batch.map_err(Error::from)?)?, 0)),
                }
                continue;
            };
            while *row < encoder.row_count && row_count < limit {
                encoder.put_row(*row, outbox.buffer())?;
                outbox.seal();
                *row += 1;
                row_count += 1;
                if outbox.is_full() {
                    client.watched(outbox.flush()).await??;
                }
            }
            if *row == encoder.row_count {
                self.current = None;
            }
        }
        Ok(Sent { row_count, is_exhausted: false })
    }

    fn encoder(&self, batch: &RecordBatch) -> Result<RowEncoder, Error> {
        RowEncoder::new(batch, &self.types, &self.formats, &self.style)
    }
}
