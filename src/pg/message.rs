//! Frames to requests. Every count is checked against the bytes that are there before anything is allocated for it.

use bytes::{Buf, Bytes};

use super::Trouble;
use super::frame::{Frame, violation};
use crate::error::{Error, SqlState};

/// What a client asks for.
#[derive(Debug)]
pub(super) enum Request {
    Query(String),
    Parse { name: String, text: String, parameter_oids: Vec<u32> },
    Bind(Bind),
    DescribeStatement(String),
    DescribePortal(String),
    Execute { portal: String, row_limit: usize },
    CloseStatement(String),
    ClosePortal(String),
    Sync,
    Flush,
    Terminate,
    CopyData(Bytes),
    CopyDone,
    CopyFail(String),
    FunctionCall,
    Password,
}

#[derive(Debug)]
pub(super) struct Bind {
    pub portal: String,
    pub statement: String,
    /// 0 text, 1 binary: none (all text), one for all, or one each.
    pub parameter_formats: Vec<i16>,
    /// `None`: NULL.
    pub parameters: Vec<Option<Bytes>>,
    pub result_formats: Vec<i16>,
}

/// Reads a body from its front.
pub(super) struct Body(pub Bytes);

fn malformed() -> Trouble {
    violation("invalid message format")
}

impl Body {
    fn take(&mut self, length: usize) -> Result<Bytes, Trouble> {
        if self.0.len() < length { Err(malformed()) } else { Ok(self.0.split_to(length)) }
    }

    fn u8(&mut self) -> Result<u8, Trouble> {
        Ok(self.take(1)?[0])
    }

    pub fn i16(&mut self) -> Result<i16, Trouble> {
        Ok(self.take(2)?.get_i16())
    }

    pub fn i32(&mut self) -> Result<i32, Trouble> {
        Ok(self.take(4)?.get_i32())
    }

    /// A count of things of at least `bytes_each`: no more than can be there.
    fn count(&mut self, bytes_each: usize) -> Result<usize, Trouble> {
        // Postgres reads counts as signed; with more than 32,767 it writes them unsigned.
        let count = self.i16()? as u16 as usize;
        if count * bytes_each > self.0.len() { Err(malformed()) } else { Ok(count) }
    }

    /// Text up to a zero byte. 22021 (the connection goes on) if it is no UTF-8.
    pub fn text(&mut self) -> Result<String, Trouble> {
        let end = self.0.iter().position(|&b| b == 0).ok_or_else(malformed)?;
        let text = utf8(&self.0[..end])?.to_string();
        self.0.advance(end + 1);
        Ok(text)
    }

    pub fn end(&self) -> Result<(), Trouble> {
        if self.0.is_empty() { Ok(()) } else { Err(malformed()) }
    }
}

/// 22021 names the first bytes that are no UTF-8.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let bad = &bytes[at..(at + error.error_len().unwrap_or(bytes.len() - at)).min(at + 4)];
        let shown: Vec<String> = bad.iter().map(|b| format!("0x{b:02x}")).collect();
        Error::new(SqlState("22021"), format!("invalid byte sequence for encoding \"UTF8\": {}", shown.join(" ")))
    })
}

impl Request {
    /// FATAL 08P01 for a body that is not what its kind says.
    pub fn read(frame: Frame) -> Result<Request, Trouble> {
        let mut body = Body(frame.body);
        let request = match frame.kind {
            b'Q' => Request::Query(body.text()?),
            b'P' => {
                let (name, text) = (body.text()?, body.text()?);
                let count = body.count(4)?;
                let parameter_oids = (0..count).map(|_| Ok(body.i32()? as u32)).collect::<Result<_, Trouble>>()?;
                Request::Parse { name, text, parameter_oids }
            }
            b'B' => Request::Bind(read_bind(&mut body)?),
            b'D' | b'C' => {
                let (target, name) = (body.u8()?, body.text()?);
                match (frame.kind, target) {
                    (b'D', b'S') => Request::DescribeStatement(name),
                    (b'D', b'P') => Request::DescribePortal(name),
                    (b'C', b'S') => Request::CloseStatement(name),
                    (b'C', b'P') => Request::ClosePortal(name),
                    (b'D', _) => return Err(violation(format!("invalid DESCRIBE message subtype {target}"))),
                    _ => return Err(violation(format!("invalid CLOSE message subtype {target}"))),
                }
            }
            b'E' => {
                let portal = body.text()?;
                Request::Execute { portal, row_limit: usize::try_from(body.i32()?).unwrap_or(0) }
            }
            b'S' => Request::Sync,
            b'H' => Request::Flush,
            b'X' => return Ok(Request::Terminate),
            b'd' => return Ok(Request::CopyData(body.0)),
            b'c' => Request::CopyDone,
            b'f' => Request::CopyFail(body.text()?),
            b'F' => return Ok(Request::FunctionCall),
            b'p' => return Ok(Request::Password),
            kind => return Err(violation(format!("invalid frontend message type {kind}"))),
        };
        body.end()?;
        Ok(request)
    }
}

fn read_bind(body: &mut Body) -> Result<Bind, Trouble> {
    let (portal, statement) = (body.text()?, body.text()?);
    let parameter_formats = read_formats(body)?;
    let count = body.count(4)?;
    let mut parameters = Vec::with_capacity(count);
    for _ in 0..count {
        parameters.push(match body.i32()? {
            -1 => None,
            length => Some(body.take(usize::try_from(length).map_err(|_| malformed())?)?),
        });
    }
    let result_formats = read_formats(body)?;
    Ok(Bind { portal, statement, parameter_formats, parameters, result_formats })
}

fn read_formats(body: &mut Body) -> Result<Vec<i16>, Trouble> {
    let count = body.count(2)?;
    (0..count).map(|_| body.i16()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: u8, body: &'static [u8]) -> Result<Request, Trouble> {
        Request::read(Frame { kind, body: Bytes::from_static(body) })
    }

    #[test]
    fn requests() {
        assert!(matches!(read(b'Q', b"SELECT 1\0"), Ok(Request::Query(text)) if text == "SELECT 1"));
        let Ok(Request::Parse { name, text, parameter_oids }) = read(b'P', b"s\0SELECT $1\0\0\x01\0\0\0\x17") else {
            panic!("a good Parse")
        };
        assert_eq!((name.as_str(), text.as_str(), parameter_oids), ("s", "SELECT $1", vec![23]));
        let Ok(Request::Bind(bind)) = read(b'B', b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\x01")
        else {
            panic!("a good Bind")
        };
        assert_eq!((bind.portal.as_str(), bind.statement.as_str()), ("p", "s"));
        assert_eq!(bind.parameters, [Some(Bytes::from_static(b"ab")), None]);
        assert_eq!((bind.parameter_formats, bind.result_formats), (vec![1], vec![1]));
        assert!(matches!(read(b'E', b"\0\xff\xff\xff\xff"), Ok(Request::Execute { row_limit: 0, .. })));
    }

    #[test]
    fn bodies_that_lie() {
        for (kind, body) in [
            (b'Q', &b"SELECT 1"[..]),
            (b'Q', b"SELECT 1\0more\0"),
            (b'P', b"\0SELECT 1\0\x7f\xff"),
            (b'P', b"\0SELECT 1\0\xff\xff\0\0\0\0"),
            (b'B', b"\0\0\x7f\xff\0\0"),
            (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\x00ab\0\0"),
            (b'B', b"\0\0\0\0\0\x01\0\0\0\x09ab\0\0"),
            (b'D', b"Zx\0"),
            (b'E', b"x\0\0\0"),
            (b'S', b"x"),
            (b'~', b""),
        ] {
            let trouble = read(kind, body).expect_err("a lie");
            assert!(matches!(trouble, Trouble::Fatal(e) if e.code == SqlState::PROTOCOL_VIOLATION), "{body:?}");
        }
        let trouble = read(b'Q', b"\xff\0").expect_err("no UTF-8");
        let Trouble::Report(error) = trouble else { panic!("the connection goes on") };
        assert_eq!(error.message, "invalid byte sequence for encoding \"UTF8\": 0xff");
    }
}
