//! Before a session: which protocol, which user, or a request to cancel.
//!
//! ```text
//! open: SSLRequest, GSSENCRequest ──▶ (handshake, open again) ──▶ start: StartupMessage ──▶ authentication ──▶ session
//! ```
//!
//! SSLRequest and GSSENCRequest may come in either order, each once; the second is always declined, the first if there is
//! no certificate. Bytes that a client sent behind them without waiting for the answer are not carried over
//! (CVE-2021-23214): such a connection ends.

use std::net::SocketAddr;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::Trouble;
use super::authentication::authenticate;
use super::backend::{Backend, Host};
use super::frame::{FrameReader, violation};
use super::message::Body;
use super::outbox::Outbox;
use super::transport::{Secured, Transport};
use crate::catalog::DATABASE;
use crate::error::{Error, SqlState};

const SSL_REQUEST: i32 = 80_877_103;
const GSSENC_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;

/// What the client of a new connection wants.
enum Wish {
    Session { parameters: Vec<(String, String)>, minor_version: i32, unknown_options: Vec<String> },
    Cancel { pid: i32, secret: i32 },
}

/// What follows the requests for encryption.
pub(super) enum Opening {
    /// We have agreed to a handshake.
    Handshake,
    /// The packet that says what the client wants.
    Packet(Bytes),
}

/// Answers requests for encryption. `can_encrypt`: by a handshake; else they are declined, and refused if the connection
/// is encrypted already (`is_secured`).
pub(super) async fn open<T: Transport>(
    reader: &mut FrameReader<T>,
    can_encrypt: bool,
    is_secured: bool,
) -> Result<Opening, Trouble> {
    let (mut ssl_asked, mut gss_asked) = (is_secured, false);
    loop {
        let packet = reader.startup_packet().await?;
        match Body(packet.clone()).i32()? {
            SSL_REQUEST if !ssl_asked => {
                ssl_asked = true;
                answer(reader, if can_encrypt { b'S' } else { b'N' }, "SSL").await?;
                if can_encrypt {
                    return Ok(Opening::Handshake);
                }
            }
            GSSENC_REQUEST if !gss_asked => {
                gss_asked = true;
                answer(reader, b'N', "GSSAPI encryption").await?;
            }
            _ => return Ok(Opening::Packet(packet)),
        }
    }
}

async fn answer<T: Transport>(reader: &mut FrameReader<T>, byte: u8, what: &str) -> Result<(), Trouble> {
    if reader.has_buffered() {
        return Err(violation(format!("received unencrypted data after {what} request")));
    }
    reader.io().write_all(&[byte]).await?;
    Ok(reader.io().flush().await?)
}

/// Leads a connection to its session; `None` if there will be none and all is said.
pub(super) async fn start<R, W, H>(
    packet: Bytes,
    reader: &mut FrameReader<R>,
    outbox: &mut Outbox<W>,
    host: &H,
    client: Option<SocketAddr>,
    secured: Option<&Secured>,
) -> Result<Option<H::Backend>, Trouble>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    H: Host,
{
    let (parameters, minor_version, unknown_options) = match read_wish(packet)? {
        Wish::Cancel { pid, secret } => {
            host.cancel(pid, secret);
            return Ok(None);
        }
        Wish::Session { parameters, minor_version, unknown_options } => (parameters, minor_version, unknown_options),
    };
    let parameter = |name: &str| {
        let given = parameters.iter().find(|(known, _)| known == name);
        given.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    };
    let Some(user) = parameter("user") else {
        return Err(Trouble::Fatal(Error::new(
            SqlState::INVALID_AUTHORIZATION,
            "no PostgreSQL user name specified in startup packet",
        )));
    };
    if minor_version > 0 || !unknown_options.is_empty() {
        outbox.negotiate_protocol_version(&unknown_options);
    }
    let database = parameter("database").unwrap_or(DATABASE);
    let admission = host.admission(user, database, client, secured.is_some()).map_err(Trouble::Fatal)?;
    authenticate(reader, outbox, user, &admission, secured).await?;
    let mut session = host.start(&parameters, client).map_err(Trouble::Fatal)?;
    outbox.authentication_ok();
    for (name, value) in session.take_parameter_changes() {
        outbox.parameter_status(&name, &value);
    }
    outbox.backend_key_data(session.backend_key());
    for notice in session.take_notices() {
        outbox.notice(&notice);
    }
    outbox.ready_for_query(session.transaction_status());
    outbox.flush().await?;
    Ok(Some(session))
}

fn read_wish(packet: Bytes) -> Result<Wish, Trouble> {
    let mut body = Body(packet);
    match body.i32()? {
        CANCEL_REQUEST => Ok(Wish::Cancel { pid: body.i32()?, secret: body.i32()? }),
        version if version >> 16 == 3 => read_startup(body.0, version & 0xffff),
        version => Err(Trouble::Fatal(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!(
                "unsupported frontend protocol {}.{}: server supports 3.0 to 3.0",
                (version as u32) >> 16,
                version & 0xffff
            ),
        ))),
    }
}

/// Pairs of names and values up to an empty name. Names that start with `_pq_.` are protocol options; we have none.
fn read_startup(body: Bytes, minor_version: i32) -> Result<Wish, Trouble> {
    let invalid = || violation("invalid startup packet layout: expected terminator as last byte");
    let mut body = Body(body);
    let (mut parameters, mut unknown_options) = (vec![], vec![]);
    loop {
        if !body.0.has_remaining() {
            return Err(invalid());
        }
        // Text that is no UTF-8 cannot go on here.
        let mut text = || {
            body.text().map_err(|trouble| match trouble {
                Trouble::Report(error) => Trouble::Fatal(error),
                _ => invalid(),
            })
        };
        let name = text()?;
        if name.is_empty() {
            break;
        }
        let value = text()?;
        if name.starts_with("_pq_.") {
            unknown_options.push(name);
        } else {
            parameters.push((name, value));
        }
    }
    if body.0.has_remaining() {
        return Err(invalid());
    }
    Ok(Wish::Session { parameters, minor_version, unknown_options })
}
