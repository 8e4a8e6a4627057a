//! One client's connection, from its first ReadyForQuery to its end: a frame in, its answer out.
//!
//! After an error in the extended protocol everything up to the next Sync is passed over. Replies are gathered and
//! written at ReadyForQuery, Flush, or when 64 KiB are there. While a statement runs, the client is watched: if it has
//! gone, or the session is being terminated, the statement is dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::Trouble;
use super::backend::Backend;
use super::frame::{Frame, FrameReader, violation};
use super::message::Request;
use super::outbox::Outbox;
use super::portal::Portal;
use crate::error::{Error, Result, SqlState};
use crate::session::TransactionStatus;

/// How long rows are gathered for more to come with them.
pub(super) const GATHER_MAX: Duration = Duration::from_millis(5);

/// What Parse made: the empty text, or a statement.
pub(super) enum Parsed<P> {
    Empty,
    Statement(Arc<P>),
}

impl<P> Clone for Parsed<P> {
    fn clone(&self) -> Parsed<P> {
        match self {
            Parsed::Empty => Parsed::Empty,
            Parsed::Statement(prepared) => Parsed::Statement(prepared.clone()),
        }
    }
}

pub(super) struct Connection<'a, R, W, B: Backend> {
    pub session: B,
    pub client: Client<'a, R>,
    pub outbox: &'a mut Outbox<W>,
    /// The statement of Parse without a name, and named ones with an empty text; the others are the session's.
    pub statements: HashMap<String, Parsed<B::Prepared>>,
    pub portals: HashMap<String, Portal<B>>,
    /// After an error in the extended protocol: pass over everything until Sync.
    is_skipping: bool,
}

/// The reading side, and who may end the connection from outside.
pub(super) struct Client<'a, R> {
    pub reader: &'a mut FrameReader<R>,
    terminated: watch::Receiver<bool>,
    shutdown: watch::Receiver<bool>,
}

fn terminated() -> Trouble {
    Trouble::Fatal(Error::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command"))
}

/// Returns when the flag is set; never if nobody can set it any more.
pub(super) async fn raised(flag: &mut watch::Receiver<bool>) {
    if flag.wait_for(|raised| *raised).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl<R: AsyncRead + Unpin> Client<'_, R> {
    /// Does `work` as long as the client is there and the session may go on.
    pub async fn watched<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Trouble> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.reader.watch() => Err(Trouble::Gone),
            () = raised(&mut self.terminated) => Err(terminated()),
        }
    }

    /// The next item of what may take its time, or may come as time goes on: meanwhile the client gets what is gathered.
    /// `is_endless`: there may be no last one.
    pub async fn next_of<S, W>(
        &mut self,
        items: &mut S,
        outbox: &mut Outbox<W>,
        is_endless: bool,
    ) -> Result<Option<S::Item>, Trouble>
    where
        S: Stream + Unpin,
        W: AsyncWrite + Unpin,
    {
        match self.watched(tokio::time::timeout(GATHER_MAX, items.next())).await? {
            Ok(item) => Ok(item),
            Err(_) => {
                self.watched(outbox.flush()).await??;
                if !is_endless {
                    return self.watched(items.next()).await;
                }
                tokio::select! {
                    biased;
                    item = items.next() => Ok(item),
                    () = self.reader.watch_endless() => Err(Trouble::Gone),
                    () = raised(&mut self.terminated) => Err(terminated()),
                }
            }
        }
    }

    /// The next frame; what has arrived already is worked off before a shutdown ends the connection.
    pub async fn frame(&mut self) -> Result<Frame, Trouble> {
        if let Some(frame) = self.reader.buffered()? {
            return Ok(frame);
        }
        tokio::select! {
            biased;
            () = raised(&mut self.shutdown) => Err(terminated()),
            () = raised(&mut self.terminated) => Err(terminated()),
            frame = self.reader.next() => frame,
        }
    }

    /// The kind of the next frame, which stays where it is.
    pub async fn next_kind(&mut self) -> Result<u8, Trouble> {
        if let Some(kind) = self.reader.buffered_kind() {
            return Ok(kind);
        }
        tokio::select! {
            biased;
            () = raised(&mut self.terminated) => Err(terminated()),
            kind = self.reader.next_kind() => kind,
        }
    }
}

impl<'a, R, W, B> Connection<'a, R, W, B>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    B: Backend,
{
    pub fn new(
        session: B,
        reader: &'a mut FrameReader<R>,
        outbox: &'a mut Outbox<W>,
        shutdown: watch::Receiver<bool>,
    ) -> Connection<'a, R, W, B> {
        let client = Client { reader, terminated: session.terminated(), shutdown };
        Connection { session, client, outbox, statements: HashMap::new(), portals: HashMap::new(), is_skipping: false }
    }

    /// Until the client says goodbye. What is returned ends the connection.
    pub async fn run(&mut self) -> Result<(), Trouble> {
        loop {
            let frame = self.client.frame().await?;
            let kind = frame.kind;
            let outcome = match Request::read(frame) {
                Ok(Request::Terminate) => return Ok(()),
                Ok(request) => self.answer(request).await,
                Err(trouble) => Err(trouble),
            };
            let error = match outcome {
                Ok(()) => continue,
                Err(Trouble::Report(error)) => error,
                Err(trouble) => return Err(trouble),
            };
            // COPY's own messages outside a COPY are what a client still sent when it failed.
            if self.is_skipping || matches!(kind, b'd' | b'c' | b'f') {
                continue;
            }
            self.session.fail_transaction();
            self.send_notices();
            self.outbox.error("ERROR", &error);
            match kind {
                b'Q' | b'F' | b'S' => {
                    // It has failed: this rolls it back.
                    self.client.watched(self.session.end_implicit()).await??;
                    self.end_statement().await?;
                }
                _ => {
                    self.is_skipping = true;
                    // Drivers that send Flush instead of Sync wait for the error before they send Sync.
                    self.flush_watched().await?;
                }
            }
        }
    }

    async fn answer(&mut self, request: Request) -> Result<(), Trouble> {
        match request {
            Request::Sync => {
                self.is_skipping = false;
                self.client.watched(self.session.end_implicit()).await??;
                return self.end_statement().await;
            }
            Request::CopyData(_) | Request::CopyDone | Request::CopyFail(_) | Request::Terminate => return Ok(()),
            Request::Password => return Err(violation("unexpected password message")),
            _ if self.is_skipping => return Ok(()),
            Request::Query(text) => {
                self.simple_query(&text).await?;
                return self.end_statement().await;
            }
            Request::Parse { name, text, parameter_oids } => self.parse(name, &text, &parameter_oids).await?,
            Request::Bind(bind) => self.bind(bind)?,
            Request::DescribeStatement(name) => self.describe_statement(&name)?,
            Request::DescribePortal(name) => self.describe_portal(&name)?,
            Request::Execute { portal, row_limit } => self.execute(&portal, row_limit).await?,
            Request::CloseStatement(name) => self.close_statement(&name),
            Request::ClosePortal(name) => self.close_portal(&name).await?,
            Request::Flush => self.outbox.flush().await?,
            Request::FunctionCall => {
                return Err(Error::unsupported("the function call message", "use SELECT function(…)").into());
            }
        }
        Ok(self.outbox.flush_if_full().await?)
    }

    /// ReadyForQuery, and what changed since the last one. Portals live as long as their transaction.
    async fn end_statement(&mut self) -> Result<(), Trouble> {
        self.drop_dead_portals();
        self.send_notices();
        for (name, value) in self.session.take_parameter_changes() {
            self.outbox.parameter_status(&name, &value);
        }
        self.outbox.ready_for_query(self.session.transaction_status());
        self.flush_watched().await
    }

    pub fn drop_dead_portals(&mut self) {
        if self.session.transaction_status() == TransactionStatus::Idle {
            self.portals.clear();
        }
    }

    pub fn send_notices(&mut self) {
        for notice in self.session.take_notices() {
            self.outbox.notice(&notice);
        }
    }

    /// A client that does not read what it asked for blocks only itself, until it goes or is terminated.
    pub async fn flush_watched(&mut self) -> Result<(), Trouble> {
        Ok(self.client.watched(self.outbox.flush()).await??)
    }
}
