//! Before a session: which protocol, which user, or a request to cancel.
//!
//! SSLRequest and GSSENCRequest may come in either order, each once, and are declined. Bytes that a client sent behind
//! SSLRequest without waiting for the answer are not carried over (CVE-2021-23214): such a connection ends.

use std::net::SocketAddr;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Trouble;
use super::backend::{Backend, Host};
use super::frame::{FrameReader, violation};
use super::message::Body;
use super::outbox::Outbox;
use crate::error::{Error, SqlState};

const SSL_REQUEST: i32 = 80_877_103;
const GSSENC_REQUEST: i32 = 80_877_104;
const CANCEL_REQUEST: i32 = 80_877_102;

/// What the client of a new connection wants.
enum Wish {
    Session { parameters: Vec<(String, String)>, minor_version: i32, unknown_options: Vec<String> },
    Cancel { pid: i32, secret: i32 },
}

/// Leads a connection to its session; `None` if there will be none and all is said.
pub(super) async fn start<R, W, H>(
    reader: &mut FrameReader<R>,
    outbox: &mut Outbox<W>,
    host: &H,
    client: Option<SocketAddr>,
) -> Result<Option<H::Backend>, Trouble>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    H: Host,
{
    let (parameters, minor_version, unknown_options) = match negotiate(reader, outbox).await? {
        Wish::Cancel { pid, secret } => {
            host.cancel(pid, secret);
            return Ok(None);
        }
        Wish::Session { parameters, minor_version, unknown_options } => (parameters, minor_version, unknown_options),
    };
    let user = parameters.iter().find(|(name, _)| name == "user").map(|(_, value)| value.as_str());
    if user.is_none_or(str::is_empty) {
        return Err(Trouble::Fatal(Error::new(
            SqlState::INVALID_AUTHORIZATION,
            "no PostgreSQL user name specified in startup packet",
        )));
    }
    if minor_version > 0 || !unknown_options.is_empty() {
        outbox.negotiate_protocol_version(&unknown_options);
    }
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

async fn negotiate<R, W>(reader: &mut FrameReader<R>, outbox: &mut Outbox<W>) -> Result<Wish, Trouble>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (mut ssl_asked, mut gss_asked) = (false, false);
    loop {
        let mut body = Body(reader.startup_packet().await?);
        match body.i32()? {
            SSL_REQUEST if !ssl_asked => {
                ssl_asked = true;
                decline(reader, outbox, "SSL").await?;
            }
            GSSENC_REQUEST if !gss_asked => {
                gss_asked = true;
                decline(reader, outbox, "GSSAPI encryption").await?;
            }
            CANCEL_REQUEST => return Ok(Wish::Cancel { pid: body.i32()?, secret: body.i32()? }),
            version if version >> 16 == 3 => return read_startup(body.0, version & 0xffff),
            version => {
                return Err(Trouble::Fatal(Error::new(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!(
                        "unsupported frontend protocol {}.{}: server supports 3.0 to 3.0",
                        (version as u32) >> 16,
                        version & 0xffff
                    ),
                )));
            }
        }
    }
}

async fn decline<R, W>(reader: &FrameReader<R>, outbox: &mut Outbox<W>, what: &str) -> Result<(), Trouble>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if reader.has_buffered() {
        return Err(violation(format!("received unencrypted data after {what} request")));
    }
    outbox.raw(b'N');
    Ok(outbox.flush().await?)
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
