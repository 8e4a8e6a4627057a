//! Postgres' messages as bytes, for clients that no driver would be.

/// Protocol 3.0, user root, database dev.
pub fn startup() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0root\0database\0dev\0\0";
    [&(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
}

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// A simple query.
pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}
