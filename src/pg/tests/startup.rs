//! From the first byte to the first ReadyForQuery, and all the ways not to get there.

use std::sync::atomic::Ordering;

use super::*;

const SSL: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSS: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

#[tokio::test]
async fn a_session_starts() {
    let mut wire = Wire::open();
    wire.send(&startup(3 << 16, "user root")).await;
    assert_eq!(wire.until_ready().await, ["R 0", "S server_version=15.0", "S client_encoding=UTF8", "K 7", "Z I"]);
    wire.send(&frame(b'X', b"")).await;
    assert!(wire.until_closed().await.is_empty());
}

#[tokio::test]
async fn encryption_is_declined_in_either_order() {
    for order in [[SSL, GSS], [GSS, SSL]] {
        let mut wire = Wire::open();
        for request in order {
            wire.send(&request).await;
            let mut answer = [0];
            wire.stream.read_exact(&mut answer).await.expect("one byte");
            assert_eq!(&answer, b"N");
        }
        wire.send(&startup(3 << 16, "user root")).await;
        assert_eq!(wire.until_ready().await.last().map(String::as_str), Some("Z I"));
    }
}

#[tokio::test]
async fn nothing_may_be_smuggled_behind_ssl_request() {
    let mut wire = Wire::open();
    wire.send(&body(&[&SSL, &startup(3 << 16, "user root")])).await;
    assert_eq!(wire.until_closed().await, ["E FATAL 08P01 received unencrypted data after SSL request"]);
    // Twice the same request is no start-up either.
    let mut wire = Wire::open();
    wire.send(&SSL).await;
    let mut answer = [0];
    wire.stream.read_exact(&mut answer).await.expect("one byte");
    wire.send(&SSL).await;
    assert!(wire.until_closed().await[0].starts_with("E FATAL 0A000 unsupported frontend protocol"));
}

#[tokio::test]
async fn a_newer_minor_version_is_negotiated_down() {
    let mut wire = Wire::open();
    wire.send(&startup((3 << 16) + 2, "user root _pq_.gift x")).await;
    let answers = wire.until_ready().await;
    assert_eq!(&answers[..2], ["v 0x30000 1", "R 0"]);
}

#[tokio::test]
async fn refusals_are_fatal() {
    for (packet, told) in [
        (startup(3 << 16, "user root database shop"), "E FATAL 3D000 database \"shop\" does not exist"),
        (startup(3 << 16, "database dev"), "E FATAL 28000 no PostgreSQL user name specified in startup packet"),
        (startup(2 << 16, "user root"), "E FATAL 0A000 unsupported frontend protocol 2.0: server supports 3.0 to 3.0"),
        (
            b"\0\0\0\x0d\0\x03\0\0user\0".to_vec(),
            "E FATAL 08P01 invalid startup packet layout: expected terminator as last byte",
        ),
    ] {
        let mut wire = Wire::open();
        wire.send(&packet).await;
        assert_eq!(wire.until_closed().await, [told]);
    }
}

#[tokio::test]
async fn what_is_no_postgres_gets_no_answer() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\0\x01\0\x01\xfc", b"\0\0\0\0", b"\xff\xff\xff\xff"]
    {
        let mut wire = Wire::open();
        wire.send(bytes).await;
        assert!(wire.until_closed().await.is_empty());
    }
}

#[tokio::test]
async fn a_cancel_request_reaches_the_registry() {
    let mut wire = Wire::open();
    wire.send(&body(&[&16u32.to_be_bytes(), &80_877_102u32.to_be_bytes(), &7u32.to_be_bytes(), &77u32.to_be_bytes()]))
        .await;
    assert!(wire.until_closed().await.is_empty());
    assert_eq!(wire.host.0.cancelled.load(Ordering::SeqCst), 1);
}
