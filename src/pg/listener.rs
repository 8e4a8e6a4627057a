//! The accept loop: one task for each connection, under a bound; a panic ends its own connection alone.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::Trouble;
use super::backend::Host;
use super::connection::{Connection, raised};
use super::frame::FrameReader;
use super::outbox::Outbox;
use super::startup::{self, Opening};
use super::transport::{Secured, Tls, Transport};
use crate::error::{Error, Result, SqlState};

/// For the last words to a client that does not read.
const CLOSE_DURATION_MAX: Duration = Duration::from_secs(2);
/// Sockets beyond the sessions: cancel requests, start-ups, and those that hear "too many clients".
const SPARE_CONNECTION_COUNT: usize = 64;
/// After the system refused a connection (no file descriptors): not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds the address; port 0 takes any free one. 55000 with a hint if it is taken.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let told = Error::new(
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("could not listen on {address}: {}", error.to_string().to_lowercase()),
        );
        match error.kind() {
            std::io::ErrorKind::AddrInUse => told.with_hint(format!(
                "is another server running on port {}? stop it, or choose another address with --listen",
                address.port()
            )),
            _ => told.with_hint("choose another address with --listen"),
        }
    })
}

/// Connections that are still there after the listener closed.
pub struct Remaining(JoinSet<()>);

impl Remaining {
    /// Waits for them up to `patience`; true if all have ended.
    pub async fn wait(&mut self, patience: Duration) -> bool {
        tokio::time::timeout(patience, async { while self.0.join_next().await.is_some() {} }).await.is_ok()
    }
}

/// How connections come to their sessions.
#[derive(Clone)]
pub struct Terms {
    pub connection_count_max: usize,
    /// From the first byte to the first ReadyForQuery.
    pub startup_duration_max: Duration,
    /// `None`: connections are not encrypted.
    pub tls: Option<Arc<Tls>>,
}

/// Accepts until `shutdown` becomes true. Connections that wait for their client's next word then end with 57P01.
pub async fn serve(
    listener: TcpListener,
    shared: Arc<crate::session::Shared>,
    terms: Terms,
    shutdown: watch::Receiver<bool>,
) -> Remaining {
    accept(listener, shared, terms, shutdown).await
}

pub(super) async fn accept<H: Host>(
    listener: TcpListener,
    host: H,
    terms: Terms,
    shutdown: watch::Receiver<bool>,
) -> Remaining {
    let mut connections = JoinSet::new();
    let mut closing = shutdown.clone();
    loop {
        tokio::select! {
            biased;
            () = raised(&mut closing) => return Remaining(connections),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= terms.connection_count_max + SPARE_CONNECTION_COUNT => {
                    tracing::warn!(connections = connections.len(), "a connection was dropped: too many are open");
                }
                Ok((stream, client)) => {
                    connections.spawn(tcp(stream, host.clone(), client, terms.clone(), shutdown.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn tcp<H: Host>(stream: TcpStream, host: H, client: SocketAddr, terms: Terms, shutdown: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%client, %error, "could not set TCP_NODELAY");
    }
    converse(stream, host, Some(client), terms, shutdown).await;
}

/// One connection, from its first byte to its last.
pub(super) async fn converse<T: Transport, H: Host>(
    stream: T,
    host: H,
    client: Option<SocketAddr>,
    terms: Terms,
    shutdown: watch::Receiver<bool>,
) {
    let deadline = Instant::now() + terms.startup_duration_max;
    let mut talk = Talk { host, client, secured: None, deadline, shutdown };
    let mut reader = FrameReader::new(stream);
    let opened = talk.by_deadline(startup::open(&mut reader, terms.tls.is_some(), false)).await;
    let (Ok(Opening::Handshake), Some(tls)) = (&opened, &terms.tls) else {
        return talk.carry_on(reader, opened).await;
    };
    // A handshake that fails has told the client why.
    let Ok(Ok((stream, secured))) = timeout_at(deadline, tls.accept(reader.into_io())).await else { return };
    talk.secured = Some(secured);
    let mut reader = FrameReader::new(stream);
    let opened = talk.by_deadline(startup::open(&mut reader, false, true)).await;
    talk.carry_on(reader, opened).await;
}

/// A connection that is open.
struct Talk<H> {
    host: H,
    client: Option<SocketAddr>,
    secured: Option<Secured>,
    /// When its session has to have begun.
    deadline: Instant,
    shutdown: watch::Receiver<bool>,
}

impl<H: Host> Talk<H> {
    /// Who is too slow is left without an answer.
    async fn by_deadline<V>(&mut self, step: impl Future<Output = Result<V, Trouble>>) -> Result<V, Trouble> {
        tokio::select! {
            biased;
            done = timeout_at(self.deadline, step) => done.unwrap_or(Err(Trouble::Gone)),
            () = raised(&mut self.shutdown) => Err(Trouble::Fatal(Error::new(
                SqlState::CANNOT_CONNECT_NOW,
                "the database system is shutting down",
            ))),
        }
    }

    async fn carry_on<T: Transport>(self, reader: FrameReader<T>, opened: Result<Opening, Trouble>) {
        let client = self.client;
        let (mut reader, writer) = reader.map_io(T::halves);
        let mut outbox = Outbox::new(writer);
        let run = async {
            match opened? {
                Opening::Packet(packet) => self.run(packet, &mut reader, &mut outbox).await,
                Opening::Handshake => Err(Trouble::Gone),
            }
        };
        let last_words = match AssertUnwindSafe(run).catch_unwind().await {
            Ok(Ok(()) | Err(Trouble::Gone)) => None,
            Ok(Err(Trouble::Fatal(error) | Trouble::Report(error))) => Some(error),
            Err(panic) => {
                let reason = panic.downcast_ref::<String>().map(String::as_str);
                let reason = reason.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
                tracing::error!(?client, reason, "a connection ended by an internal error");
                outbox.drop_unsealed();
                Some(Error::internal("internal error").with_detail(reason.to_string()))
            }
        };
        if let Some(error) = &last_words {
            outbox.error("FATAL", error);
        }
        // A client that does not read its last words does without.
        let _ = tokio::time::timeout(CLOSE_DURATION_MAX, outbox.close()).await;
    }

    async fn run<R, W>(
        mut self,
        packet: Bytes,
        reader: &mut FrameReader<R>,
        outbox: &mut Outbox<W>,
    ) -> Result<(), Trouble>
    where
        R: AsyncRead + Unpin + Send,
        W: AsyncWrite + Unpin + Send,
    {
        let (host, secured) = (self.host.clone(), self.secured.clone());
        let start = startup::start(packet, reader, outbox, &host, self.client, secured.as_ref());
        match self.by_deadline(start).await? {
            Some(session) => Connection::new(session, reader, outbox, self.shutdown).run().await,
            None => Ok(()),
        }
    }
}
