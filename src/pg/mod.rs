//! Postgres on the wire: protocol 3.0, its start-up, both query protocols, COPY, and the encodings of values.
//!
//! ```text
//! listener: accept, count, catch panics, shut down
//!    └─▶ startup: SSLRequest, GSSENCRequest, CancelRequest, StartupMessage ─▶ session
//!          ├─ transport      TCP, or TLS over it
//!          ├─ authentication the client proves who it is: scram
//!          └─▶ connection: one frame in, its answer out
//!                ├─ simple     Query: several statements, each answered in order
//!                ├─ extended   Parse, Bind, Describe, Execute, Close; errors skip to Sync
//!                │    └─ portal    a statement with its parameters, and how far its rows were read
//!                └─ copy       COPY FROM STDIN, COPY TO STDOUT
//! frame: bytes to frames, under limits      message: frames to requests      outbox: replies to bytes
//! encode: Arrow columns to values, text or binary      decode: parameters to values
//! ```
//!
//! Hostile bytes are the normal case: every length and count is checked before it is believed, a frame that makes no
//! sense ends the connection with FATAL 08P01, and a panic ends one connection, never the server. All that is known of
//! SQL is in the session, seen here through [`backend::Backend`].

mod authentication;
mod backend;
mod certificate;
mod connection;
mod copy;
mod decode;
mod encode;
mod extended;
mod frame;
pub mod listener;
mod message;
mod outbox;
mod portal;
mod scram;
mod simple;
mod startup;
pub mod transport;

#[cfg(test)]
mod tests;

use crate::error::Error;

/// Why a request was not answered in full.
#[derive(Debug)]
enum Trouble {
    /// Tell the client; the connection goes on.
    Report(Error),
    /// Tell the client, then close.
    Fatal(Error),
    /// Nobody is there to be told.
    Gone,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Report(error)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(_: std::io::Error) -> Trouble {
        Trouble::Gone
    }
}
