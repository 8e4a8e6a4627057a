//! The simple protocol, COPY, and the ends of connections.

use std::sync::atomic::Ordering;

use super::*;

#[tokio::test]
async fn statements_are_answered_in_order_up_to_the_first_error() {
    let mut wire = Wire::session().await;
    assert_eq!(
        wire.ask(&[query("rows 2; set tz; fail; rows 1")]).await,
        [
            "T n:23:0",
            "D 0",
            "D 1",
            "C SELECT 2",
            "C SET",
            "E ERROR 22012 division by zero",
            "S TimeZone=Europe/Berlin",
            "Z I"
        ]
    );
    assert_eq!(wire.ask(&[query(" ; ")]).await, ["I", "Z I"]);
    assert_eq!(wire.ask(&[query("rows 1; syntax")]).await[0], "E ERROR 42601 syntax error at or near \"syntax\"");
    assert_eq!(wire.ask(&[query("notice")]).await, ["N NOTICE 00000 take note", "C DO", "Z I"]);
    assert_eq!(wire.ask(&[query("param")]).await[0], "E ERROR 42P02 there is no parameter $1");
    assert_eq!(wire.ask(&[query("failrows 1")]).await, ["T n:23:0", "D 0", "E ERROR 22012 division by zero", "Z I"]);
}

#[tokio::test]
async fn an_error_fails_the_transaction() {
    let mut wire = Wire::session().await;
    assert_eq!(wire.ask(&[query("begin")]).await, ["C BEGIN", "Z T"]);
    assert_eq!(wire.ask(&[query("fail")]).await, ["E ERROR 22012 division by zero", "Z E"]);
    assert_eq!(wire.ask(&[query("rows 1")]).await, ["E ERROR 25P02 current transaction is aborted", "Z E"]);
    assert_eq!(wire.ask(&[query("rollback")]).await, ["C ROLLBACK", "Z I"]);
}

#[tokio::test]
async fn many_rows_go_in_pieces() {
    let mut wire = Wire::session().await;
    let answers = wire.ask(&[query("rows 20000")]).await;
    assert_eq!(answers.len(), 20_003);
    assert_eq!(&answers[20_000..], ["D 19999", "C SELECT 20000", "Z I"]);
}

#[tokio::test]
async fn copy_in_and_out() {
    let mut wire = Wire::session().await;
    wire.send(&query("copyin")).await;
    assert_eq!(wire.answer().await.as_deref(), Some("G 0 2"));
    let pieces = [frame(b'd', b"1\t2\n3"), frame(b'H', b""), frame(b'd', b"\t4\n"), frame(b'c', b"")];
    assert_eq!(wire.ask(&pieces).await, ["C COPY 2", "Z I"]);
    assert_eq!(
        wire.ask(&[query("copyout 2; rows 0")]).await,
        ["H 0 1", "d 0", "d 1", "c", "C COPY 2", "T n:23:0", "C SELECT 0", "Z I"]
    );
}

#[tokio::test]
async fn a_copy_that_fails_lets_the_rest_pass() {
    let mut wire = Wire::session().await;
    wire.send(&query("copyin")).await;
    assert_eq!(wire.answer().await.as_deref(), Some("G 0 2"));
    let pieces = [frame(b'd', b"!\n"), frame(b'd', b"1\n"), frame(b'c', b""), query("rows 0")];
    assert_eq!(wire.ask(&pieces).await, ["E ERROR 22P04 extra data after last expected column", "Z I"]);
    assert_eq!(wire.until_ready().await, ["T n:23:0", "C SELECT 0", "Z I"]);
    wire.send(&query("copyin")).await;
    assert_eq!(wire.answer().await.as_deref(), Some("G 0 2"));
    assert_eq!(wire.ask(&[frame(b'f', b"no more\0")]).await, ["E ERROR 57014 COPY from stdin failed: no more", "Z I"]);
    wire.send(&query("copyin")).await;
    assert_eq!(wire.answer().await.as_deref(), Some("G 0 2"));
    assert_eq!(
        wire.ask(&[query("rows 1")]).await,
        ["E ERROR 08P01 unexpected message type 0x51 during COPY from stdin", "Z I"]
    );
}

#[tokio::test]
async fn nonsense_is_fatal() {
    for (bytes, told) in [
        (frame(b'~', b""), "E FATAL 08P01 invalid frontend message type 126"),
        (b"Q\0\0\0\x01".to_vec(), "E FATAL 08P01 invalid message length"),
        (frame(b'Q', b"rows 1"), "E FATAL 08P01 invalid message format"),
        (frame(b'p', b"secret\0"), "E FATAL 08P01 unexpected password message"),
        (frame(b'D', b"Zx\0"), "E FATAL 08P01 invalid DESCRIBE message subtype 90"),
    ] {
        let mut wire = Wire::session().await;
        wire.send(&bytes).await;
        assert_eq!(wire.until_closed().await, [told]);
    }
    let mut wire = Wire::session().await;
    assert_eq!(
        wire.ask(&[frame(b'Q', b"\xff\0")]).await,
        ["E ERROR 22021 invalid byte sequence for encoding \"UTF8\": 0xff", "Z I"]
    );
    assert!(wire.ask(&[frame(b'F', b"")]).await[0].starts_with("E ERROR 0A000"));
}

#[tokio::test]
async fn a_panic_ends_one_connection() {
    let mut wire = Wire::session().await;
    wire.send(&query("panic")).await;
    assert_eq!(wire.until_closed().await, ["E FATAL XX000 internal error"]);
}

#[tokio::test]
async fn a_query_ends_with_its_client() {
    let wire = Wire::session().await;
    let Wire { mut stream, host, shutdown, .. } = wire;
    stream.write_all(&query("sleep")).await.expect("the server reads");
    drop(stream);
    tokio::time::timeout(ANSWER_DURATION_MAX, async {
        while host.0.dropped.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the query is dropped");
    drop(shutdown);
}

#[tokio::test]
async fn shutdown_and_termination_say_goodbye() {
    const TOLD: &str = "E FATAL 57P01 terminating connection due to administrator command";
    let mut wire = Wire::session().await;
    wire.shutdown.send_replace(true);
    assert_eq!(wire.until_closed().await, [TOLD]);
    // A running query is not ended by a shutdown, but by a termination.
    let mut wire = Wire::session().await;
    wire.send(&query("sleep")).await;
    wire.shutdown.send_replace(true);
    wire.host.0.terminate.send_replace(true);
    assert_eq!(wire.until_closed().await, [TOLD]);
}
