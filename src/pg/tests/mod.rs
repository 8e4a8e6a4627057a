//! The protocol over an in-memory stream, against a double of the session.
//!
//! [`Wire`] speaks raw frames and shows answers as one line each: `C SELECT 3`, `Z I`, `E ERROR 22012 division by zero`.

mod authentication;
mod clients;
mod double;
mod extended;
mod simple;
mod startup;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

use super::listener::{Terms, converse};
use super::transport::Tls;
use double::DoubleHost;

/// Longer than any answer takes; a test that waits for it has failed.
const ANSWER_DURATION_MAX: Duration = Duration::from_secs(10);

struct Wire {
    stream: DuplexStream,
    host: DoubleHost,
    shutdown: watch::Sender<bool>,
    arrived: BytesMut,
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

fn query(text: &str) -> Vec<u8> {
    frame(b'Q', &[text.as_bytes(), b"\0"].concat())
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    frame(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

/// Without parameters, results as text.
fn bind(portal: &str, statement: &str) -> Vec<u8> {
    frame(b'B', format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes())
}

fn execute(portal: &str, row_limit: u8) -> Vec<u8> {
    frame(b'E', &[portal.as_bytes(), &[0, 0, 0, 0, row_limit]].concat())
}

fn describe(target: char, name: &str) -> Vec<u8> {
    frame(b'D', format!("{target}{name}\0").as_bytes())
}

fn close(target: char, name: &str) -> Vec<u8> {
    frame(b'C', format!("{target}{name}\0").as_bytes())
}

fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

fn startup(version: u32, parameters: &str) -> Vec<u8> {
    let body = [&version.to_be_bytes()[..], parameters.replace(' ', "\0").as_bytes(), b"\0\0"].concat();
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

fn terms(tls: Option<Arc<Tls>>) -> Terms {
    Terms { connection_count_max: 10, startup_duration_max: ANSWER_DURATION_MAX, tls }
}

impl Wire {
    /// A connection on which nothing was said.
    fn open() -> Wire {
        Wire::open_under(terms(None))
    }

    fn open_under(terms: Terms) -> Wire {
        let (stream, server) = tokio::io::duplex(1 << 20);
        let host = DoubleHost::default();
        let (shutdown, raised) = watch::channel(false);
        tokio::spawn(converse(server, host.clone(), None, terms, raised));
        Wire { stream, host, shutdown, arrived: BytesMut::new() }
    }

    /// A session that is ready.
    async fn session() -> Wire {
        let mut wire = Wire::open();
        wire.send(&startup(3 << 16, "user root database dev")).await;
        assert_eq!(wire.until_ready().await.last().map(String::as_str), Some("Z I"));
        wire
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the server reads");
    }

    async fn ask(&mut self, requests: &[Vec<u8>]) -> Vec<String> {
        self.send(&requests.concat()).await;
        self.until_ready().await
    }

    /// One answer; `None` when the server has hung up.
    async fn answer(&mut self) -> Option<String> {
        loop {
            if self.arrived.len() >= 5 {
                let length = u32::from_be_bytes(self.arrived[1..5].try_into().expect("four bytes")) as usize;
                if self.arrived.len() > length {
                    let kind = self.arrived[0];
                    self.arrived.advance(5);
                    return Some(shown(kind, self.arrived.split_to(length - 4).freeze()));
                }
            }
            let read = tokio::time::timeout(ANSWER_DURATION_MAX, self.stream.read_buf(&mut self.arrived));
            if read.await.expect("an answer in time").expect("a readable stream") == 0 {
                assert!(self.arrived.is_empty(), "half a message: {:?}", self.arrived);
                return None;
            }
        }
    }

    async fn until_ready(&mut self) -> Vec<String> {
        let mut answers = vec![];
        while let Some(answer) = self.answer().await {
            let is_ready = answer.starts_with("Z ");
            answers.push(answer);
            if is_ready {
                break;
            }
        }
        answers
    }

    /// All answers until the server hangs up.
    async fn until_closed(&mut self) -> Vec<String> {
        let mut answers = vec![];
        while let Some(answer) = self.answer().await {
            answers.push(answer);
        }
        answers
    }
}

fn text(body: &mut Bytes) -> String {
    let end = body.iter().position(|&b| b == 0).unwrap_or(body.len());
    let text = String::from_utf8_lossy(&body.split_to(end)).into_owned();
    if body.has_remaining() {
        body.advance(1);
    }
    text
}

/// A message as one line.
fn shown(kind: u8, mut body: Bytes) -> String {
    let detail = match kind {
        b'E' | b'N' => {
            let mut fields = vec![];
            while body.has_remaining() {
                let letter = body.get_u8();
                let value = text(&mut body);
                if matches!(letter, b'S' | b'C' | b'M') {
                    fields.push(value);
                }
            }
            fields.join(" ")
        }
        b'Z' => (body.get_u8() as char).to_string(),
        b'C' => text(&mut body),
        b'S' => [text(&mut body), text(&mut body)].join("="),
        b'R' | b'K' => body.get_i32().to_string(),
        b'T' => {
            let count = body.get_i16();
            let column = |_| {
                let name = text(&mut body);
                body.advance(6);
                let oid = body.get_u32();
                body.advance(6);
                format!("{name}:{oid}:{}", body.get_i16())
            };
            (0..count).map(column).collect::<Vec<_>>().join(",")
        }
        b't' => {
            let count = body.get_i16();
            (0..count).map(|_| body.get_u32().to_string()).collect::<Vec<_>>().join(",")
        }
        b'D' => {
            let count = body.get_i16();
            let value = |_| match body.get_i32() {
                -1 => "~".to_string(),
                length => String::from_utf8_lossy(&body.split_to(length as usize)).into_owned(),
            };
            (0..count).map(value).collect::<Vec<_>>().join(",")
        }
        b'v' => format!("{:#x} {}", body.get_i32(), body.get_i32()),
        b'd' => String::from_utf8_lossy(&body).trim_end().to_string(),
        b'G' | b'H' => format!("{} {}", body.get_u8(), body.get_i16()),
        _ => String::new(),
    };
    format!("{} {detail}", kind as char).trim_end().to_string()
}

/// A message with fields of numbers.
fn body(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = BytesMut::new();
    parts.iter().for_each(|part| out.put_slice(part));
    out.to_vec()
}
