//! The only wiring: data directory, engine, listener; start-up and shutdown.
//!
//! ```text
//! bind ─▶ open the store ─▶ open what sessions share (catalog, runtime) ─▶ accept ─▶ SIGTERM ─▶ close, wait, flush
//! ```
//!
//! The address is taken first: a port in use is told at once, and clients that come during recovery wait in the
//! listener's queue instead of being refused.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::catalog::{DATABASE, USER};
use crate::config::Config;
use crate::error::{Error, Result, SqlState};
use crate::pg::listener::{self, Remaining, Terms};
use crate::pg::transport::Tls;
use crate::serve::STACK_BYTES;
use crate::session::Shared;
use crate::state::Store;
use crate::state::store::RocksStore;

/// How long running statements may go on after SIGTERM.
const DRAIN_DURATION_MAX: Duration = Duration::from_secs(5);
/// How long their connections then have to say goodbye.
const FAREWELL_DURATION_MAX: Duration = Duration::from_secs(1);

/// A server that accepts connections.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    tls: Option<Arc<Tls>>,
    shutdown: watch::Sender<bool>,
    accepting: JoinHandle<Remaining>,
}

impl Server {
    /// Opens `config.data_dir` and listens on `config.listen`. Fails if the port is taken or the directory is not usable.
    pub async fn start(config: Config) -> Result<Server> {
        let tls = config.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
        let listener = listener::bind(config.listen).await?;
        let address = listener
            .local_addr()
            .map_err(|e| Error::new(SqlState::IO_ERROR, format!("could not tell the address of the listener: {e}")))?;
        let terms = Terms {
            connection_count_max: config.connection_count_max,
            startup_duration_max: config.authentication_timeout,
            tls: tls.clone(),
        };
        // Recovery reads from disk.
        let opening = tokio::task::spawn_blocking(move || {
            let store: Arc<dyn Store> = Arc::new(RocksStore::open(&config.data_dir)?);
            Shared::open(&config, store)
        });
        let shared = opening.await.map_err(|e| Error::internal(format!("opening the server failed: {e}")))??;
        let (shutdown, shutdown_raised) = watch::channel(false);
        let accepting = tokio::spawn(listener::serve(listener, shared.clone(), terms, shutdown_raised));
        Ok(Server { address, shared, tls, shutdown, accepting })
    }

    /// Where it listens; the port is the real one, also if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads the certificate again; if that fails, the one that is there stays.
    fn reload(&self) {
        match self.tls.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => tracing::info!("SIGHUP: the certificate was read again"),
            Some(Err(error)) => tracing::error!(%error, "SIGHUP: the certificate stays what it was"),
            None => tracing::info!("SIGHUP: there is no certificate to read again"),
        }
    }

    /// Accepts nobody any more, ends idle connections (57P01), waits for running statements, then ends those too.
    pub async fn stop(self) -> Result<()> {
        self.shutdown.send_replace(true);
        let mut remaining =
            self.accepting.await.map_err(|e| Error::internal(format!("the accept loop failed: {e}")))?;
        let all_ended = remaining.wait(DRAIN_DURATION_MAX).await;
        self.shared.shutdown().await;
        if !all_ended && !remaining.wait(FAREWELL_DURATION_MAX).await {
            tracing::warn!("statements that did not end were abandoned");
        }
        Ok(())
    }
}

/// Runs a server until SIGTERM or SIGINT.
pub fn serve(config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("session")
        .thread_stack_size(STACK_BYTES)
        .build()
        .map_err(|e| Error::internal(format!("could not start threads: {e}")))?;
    let outcome = runtime.block_on(async {
        // Before anything is open, so that no signal is missed.
        let (mut terminate, mut interrupt) = (listen_to(SignalKind::terminate())?, listen_to(SignalKind::interrupt())?);
        let mut hang_up = listen_to(SignalKind::hangup())?;
        let server = Server::start(config).await?;
        announce(server.address());
        loop {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
                _ = interrupt.recv() => tracing::info!("SIGINT: shutting down"),
                _ = hang_up.recv() => {
                    server.reload();
                    continue;
                }
            }
            break;
        }
        server.stop().await
    });
    // A computation that does not yield must not hold the process.
    runtime.shutdown_timeout(FAREWELL_DURATION_MAX);
    outcome
}

fn listen_to(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(|e| Error::internal(format!("could not listen to signals: {e}")))
}

fn announce(address: SocketAddr) {
    let (host, port) = (address.ip(), address.port());
    let mut out = std::io::stdout().lock();
    // Whoever closed our standard output does not want to know.
    let _ = writeln!(out, "listening on {address}\n  psql -h {host} -p {port} -U {USER} {DATABASE}");
    let _ = out.flush();
}
