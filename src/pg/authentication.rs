//! The messages by which a client proves who it is. Until it has, nothing but answers of this exchange is read, each
//! under a small bound, and every failure is FATAL.

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Trouble;
use super::frame::{FrameReader, violation};
use super::message::Body;
use super::outbox::Outbox;
use super::scram::Scram;
use super::transport::Secured;
use crate::error::{Error, SqlState};
use crate::session::Admission;

/// Bytes of one answer: names of mechanisms, nonces and proofs are short.
const ANSWER_BYTES_MAX: usize = 8 << 10;

/// Returns when the client has proved to be `role`. FATAL 28P01 if it cannot, whatever the reason; 08P01, 28000 and 0A000
/// as Postgres has them for messages that do not fit.
pub(super) async fn authenticate<R, W>(
    reader: &mut FrameReader<R>,
    outbox: &mut Outbox<W>,
    role: &str,
    admission: &Admission,
    secured: Option<&Secured>,
) -> Result<(), Trouble>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Admission::Scram { verifier, is_mock } = admission else { return Ok(()) };
    let endpoint = secured.and_then(|secured| secured.endpoint.as_deref());
    let scram = Scram { verifier, is_mock: *is_mock, endpoint };
    outbox.authentication_sasl(&scram.mechanisms());
    outbox.flush().await?;

    let mut first = Body(reader.password_message(ANSWER_BYTES_MAX).await?);
    let mechanism = first.text().map_err(fatal)?;
    let length = first.i32()?;
    if usize::try_from(length).ok() != Some(first.0.remaining()) {
        return Err(violation("malformed SASL response: its length is not that of the message"));
    }
    let begun = scram.begin(&mechanism, &first.0).map_err(Trouble::Fatal)?;
    outbox.authentication_sasl_continue(begun.server_first.as_bytes());
    outbox.flush().await?;

    let last = reader.password_message(ANSWER_BYTES_MAX).await?;
    let Some(answer) = scram.finish(&begun, &last).map_err(Trouble::Fatal)? else {
        let message = format!("password authentication failed for user \"{role}\"");
        return Err(Trouble::Fatal(Error::new(SqlState::INVALID_PASSWORD, message)));
    };
    outbox.authentication_sasl_final(answer.as_bytes());
    Ok(())
}

/// There is no session yet that could go on.
fn fatal(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Report(error) => Trouble::Fatal(error),
        trouble => trouble,
    }
}
