//! What carries the messages: a TCP connection, or TLS over one.
//!
//! The certificate is read at the start and on SIGHUP; connections that are there keep theirs.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use super::certificate::endpoint_hash;
use crate::config::TlsFiles;
use crate::error::{Error, Result, SqlState};

/// Bytes in both directions, which can be read and written at the same time.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    type Reader: AsyncRead + Unpin + Send;
    type Writer: AsyncWrite + Unpin + Send;

    fn halves(self) -> (Self::Reader, Self::Writer);
}

impl Transport for TcpStream {
    type Reader = OwnedReadHalf;
    type Writer = OwnedWriteHalf;

    fn halves(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        self.into_split()
    }
}

impl<T: Transport> Transport for TlsStream<T> {
    type Reader = ReadHalf<Self>;
    type Writer = WriteHalf<Self>;

    fn halves(self) -> (ReadHalf<Self>, WriteHalf<Self>) {
        tokio::io::split(self)
    }
}

#[cfg(test)]
impl Transport for tokio::io::DuplexStream {
    type Reader = ReadHalf<Self>;
    type Writer = WriteHalf<Self>;

    fn halves(self) -> (ReadHalf<Self>, WriteHalf<Self>) {
        tokio::io::split(self)
    }
}

/// What is known of an encrypted connection.
#[derive(Clone)]
pub(super) struct Secured {
    /// The hash of our certificate that `tls-server-end-point` binds to; `None` where the standard defines none.
    pub endpoint: Option<Arc<[u8]>>,
}

/// The server's certificate.
pub struct Tls {
    files: TlsFiles,
    loaded: RwLock<Loaded>,
}

#[derive(Clone)]
struct Loaded {
    acceptor: TlsAcceptor,
    secured: Secured,
}

impl Tls {
    /// F0000 if the files cannot be read, or the key is not the certificate's.
    pub fn load(files: &TlsFiles) -> Result<Tls> {
        Ok(Tls { files: files.clone(), loaded: RwLock::new(Loaded::read(files)?) })
    }

    /// Reads the files again; what was wrong with them leaves all as it was.
    pub fn reload(&self) -> Result<()> {
        let loaded = Loaded::read(&self.files)?;
        *self.loaded.write() = loaded;
        Ok(())
    }

    /// The handshake.
    pub(super) async fn accept<T: Transport>(&self, stream: T) -> std::io::Result<(TlsStream<T>, Secured)> {
        let Loaded { acceptor, secured } = self.loaded.read().clone();
        Ok((acceptor.accept(stream).await?, secured))
    }
}

impl Loaded {
    fn read(files: &TlsFiles) -> Result<Loaded> {
        let failed = |path: &std::path::Path, why: String| {
            Error::new(SqlState::CONFIG_FILE_ERROR, format!("{}: {why}", path.display()))
        };
        let chain = CertificateDer::pem_file_iter(&files.certificate)
            .and_then(|certificates| certificates.collect::<std::result::Result<Vec<_>, _>>())
            .map_err(|e| failed(&files.certificate, format!("could not read the certificate: {e}")))?;
        let Some(own) = chain.first() else {
            return Err(failed(&files.certificate, "there is no certificate in it".into()));
        };
        let endpoint = endpoint_hash(own).map(Arc::from);
        // What is wrong with a key is not told together with what is in it.
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|_| failed(&files.key, "could not read the key".into()))?;
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|e| failed(&files.certificate, format!("could not be used with {}: {e}", files.key.display())))?;
        Ok(Loaded { acceptor: TlsAcceptor::from(Arc::new(config)), secured: Secured { endpoint } })
    }
}
