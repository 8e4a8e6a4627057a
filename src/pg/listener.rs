//! The accept loop: one task for each connection, under a bound; a panic ends its own connection alone.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Trouble;
use super::backend::Host;
use super::connection::{Connection, raised};
use super::frame::FrameReader;
use super::outbox::Outbox;
use super::startup;
use crate::error::{Error, Result, SqlState};

/// From the first byte to the first ReadyForQuery.
const STARTUP_DURATION_MAX: Duration = Duration::from_secs(60);
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

/// Accepts until `shutdown` becomes true. Connections that wait for their client's next word then end with 57P01.
pub async fn serve(
    listener: TcpListener,
    shared: std::sync::Arc<crate::session::Shared>,
    connection_count_max: usize,
    shutdown: watch::Receiver<bool>,
) -> Remaining {
    accept(listener, shared, connection_count_max, shutdown).await
}

pub(super) async fn accept<H: Host>(
    listener: TcpListener,
    host: H,
    connection_count_max: usize,
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
                Ok(_) if connections.len() >= connection_count_max + SPARE_CONNECTION_COUNT => {
                    tracing::warn!(connections = connections.len(), "a connection was dropped: too many are open");
                }
                Ok((stream, client)) => {
                    connections.spawn(tcp(stream, host.clone(), client, shutdown.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn tcp<H: Host>(stream: TcpStream, host: H, client: SocketAddr, shutdown: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%client, %error, "could not set TCP_NODELAY");
    }
    let (reader, writer) = stream.into_split();
    converse(reader, writer, host, Some(client), shutdown).await;
}

/// One connection, from its first byte to its last.
pub(super) async fn converse<R, W, H>(
    reader: R,
    writer: W,
    host: H,
    client: Option<SocketAddr>,
    shutdown: watch::Receiver<bool>,
) where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    H: Host,
{
    let (mut reader, mut outbox) = (FrameReader::new(reader), Outbox::new(writer));
    let talk = talk(&mut reader, &mut outbox, host, client, shutdown);
    let last_words = match AssertUnwindSafe(talk).catch_unwind().await {
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

async fn talk<R, W, H>(
    reader: &mut FrameReader<R>,
    outbox: &mut Outbox<W>,
    host: H,
    client: Option<SocketAddr>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), Trouble>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    H: Host,
{
    let started = {
        let start = tokio::time::timeout(STARTUP_DURATION_MAX, startup::start(reader, outbox, &host, client));
        tokio::select! {
            biased;
            started = start => started.unwrap_or(Err(Trouble::Gone))?,
            () = raised(&mut shutdown) => {
                return Err(Trouble::Fatal(Error::new(
                    SqlState::CANNOT_CONNECT_NOW,
                    "the database system is shutting down",
                )));
            }
        }
    };
    match started {
        Some(session) => Connection::new(session, reader, outbox, shutdown).run().await,
        None => Ok(()),
    }
}
