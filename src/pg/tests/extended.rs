//! Parse, Bind, Describe, Execute, Close, Sync: names, limits, errors, pipelines.

use super::*;

#[tokio::test]
async fn a_statement_runs_through_all_messages() {
    let mut wire = Wire::session().await;
    let asked = [parse("s", "rows 2"), describe('S', "s"), bind("", "s"), describe('P', ""), execute("", 0), sync()];
    assert_eq!(wire.ask(&asked).await, ["1", "t", "T n:23:0", "2", "T n:23:0", "D 0", "D 1", "C SELECT 2", "Z I"]);
    let asked = [parse("", "set tz"), bind("", ""), describe('P', ""), execute("", 1), sync()];
    assert_eq!(wire.ask(&asked).await, ["1", "2", "n", "C SET", "S TimeZone=Europe/Berlin", "Z I"]);
    let asked = [parse("", ""), bind("", ""), describe('S', ""), execute("", 0), sync()];
    assert_eq!(wire.ask(&asked).await, ["1", "2", "t", "n", "I", "Z I"]);
}

#[tokio::test]
async fn parameters_and_results_in_both_formats() {
    let mut wire = Wire::session().await;
    let text_in_binary_out = frame(b'B', b"\0\0\0\0\0\x01\0\0\0\x0216\0\x01\0\x01");
    let asked = [parse("", "param"), text_in_binary_out, describe('P', ""), execute("", 0), sync()];
    assert_eq!(wire.ask(&asked).await, ["1", "2", "T p:23:1", "D \0\0\0\x10", "C SELECT 1", "Z I"]);
    let binary_in_text_out = frame(b'B', b"\0\0\0\x01\0\x01\0\x01\0\0\0\x04\0\0\0\x10\0\0");
    let asked = [parse("", "param"), binary_in_text_out, execute("", 0), sync()];
    assert_eq!(wire.ask(&asked).await, ["1", "2", "D 16", "C SELECT 1", "Z I"]);
    // The client's type wins: int2[] from psycopg.
    let array = frame(b'P', b"\0param\0\0\x01\0\0\x03\xed");
    let values = frame(b'B', b"\0\0\0\0\0\x01\0\0\0\x06{1, 2}\0\0");
    let asked = [array, values, describe('S', ""), execute("", 0), sync()];
    assert_eq!(wire.ask(&asked).await, ["1", "2", "t 1005", "T p:1005:0", "D {1,2}", "C SELECT 1", "Z I"]);
    // A length that points behind the message is no value.
    wire.send(&frame(b'B', b"\0\0\0\0\0\x01\0\0\0\x09{1,2}\0\0")).await;
    assert_eq!(wire.until_closed().await, ["E FATAL 08P01 invalid message format"]);
}

#[tokio::test]
async fn bad_binds_are_told() {
    let mut wire = Wire::session().await;
    assert_eq!(wire.ask(&[parse("p", "param"), sync()]).await, ["1", "Z I"]);
    for (body, told) in [
        (
            &b"\0p\0\0\0\0\0\0\0"[..],
            "E ERROR 08P01 bind message supplies 0 parameters, but prepared statement \"p\" requires 1",
        ),
        (
            b"\0p\0\0\x02\0\0\0\0\0\x01\0\0\0\x011\0\0",
            "E ERROR 08P01 bind message has 2 parameter formats but 1 parameters",
        ),
        (
            b"\0p\0\0\0\0\x01\0\0\0\x011\0\x02\0\0\0\0",
            "E ERROR 08P01 bind message has 2 result formats but query has 1 columns",
        ),
        (b"\0p\0\0\0\0\x01\0\0\0\x011\0\x01\0\x07", "E ERROR 22023 unsupported format code: 7"),
        (b"\0p\0\0\0\0\x01\0\0\0\x03abc\0\0", "E ERROR 22P02 invalid input syntax for type integer: \"abc\""),
        (b"\0p\0\0\x01\0\x01\0\x01\0\0\0\x011\0\0", "E ERROR 22P03 incorrect binary data format in bind parameter 1"),
        (b"\0nope\0\0\0\0\0\0\0", "E ERROR 26000 prepared statement \"nope\" does not exist"),
        (b"\0\0\0\0\0\0\0\0", "E ERROR 26000 unnamed prepared statement does not exist"),
    ] {
        assert_eq!(wire.ask(&[frame(b'B', body), execute("", 0), sync()]).await, [told, "Z I"]);
    }
}

#[tokio::test]
async fn names_are_kept_apart() {
    let mut wire = Wire::session().await;
    let asked = [parse("s", "rows 1"), parse("s", "rows 2"), sync()];
    assert_eq!(wire.ask(&asked).await, ["1", "E ERROR 42P05 prepared statement \"s\" already exists", "Z I"]);
    let asked =
        [parse("", "rows 1"), parse("", "rows 2"), bind("", ""), bind("", ""), bind("c", ""), bind("c", ""), sync()];
    assert_eq!(wire.ask(&asked).await, ["1", "1", "2", "2", "2", "E ERROR 42P03 cursor \"c\" already exists", "Z I"]);
    // Closing frees the name; closing nothing is no error.
    let asked = [close('S', "s"), close('S', "s"), parse("s", "rows 0"), close('P', "none"), sync()];
    assert_eq!(wire.ask(&asked).await, ["3", "3", "1", "3", "Z I"]);
    let asked = [execute("c", 0), sync()];
    assert_eq!(wire.ask(&asked).await, ["E ERROR 34000 portal \"c\" does not exist", "Z I"]);
    let asked = [parse("", "rows 1; rows 1"), sync()];
    let told = "E ERROR 42601 cannot insert multiple commands into a prepared statement";
    assert_eq!(wire.ask(&asked).await, [told, "Z I"]);
    let asked = [frame(b'P', b"\0param\0\0\x01\0\0\xff\xff"), sync()];
    assert_eq!(wire.ask(&asked).await, ["E ERROR 42704 type with OID 65535 does not exist", "Z I"]);
}

#[tokio::test]
async fn a_portal_is_read_in_pieces() {
    let mut wire = Wire::session().await;
    wire.ask(&[query("begin")]).await;
    let asked = [parse("", "rows 5"), bind("c", ""), execute("c", 2), execute("c", 2), sync()];
    assert_eq!(wire.ask(&asked).await, ["1", "2", "D 0", "D 1", "s", "D 2", "D 3", "s", "Z T"]);
    // It outlives Sync inside a transaction, and a limit met exactly is not the end.
    assert_eq!(wire.ask(&[execute("c", 1), sync()]).await, ["D 4", "s", "Z T"]);
    assert_eq!(wire.ask(&[execute("c", 1), sync()]).await, ["C SELECT 0", "Z T"]);
    assert_eq!(wire.ask(&[execute("c", 1), sync()]).await, ["C SELECT 0", "Z T"]);
    wire.ask(&[query("commit")]).await;
    assert_eq!(wire.ask(&[execute("c", 1), sync()]).await, ["E ERROR 34000 portal \"c\" does not exist", "Z I"]);
    // A statement without rows runs once.
    let asked = [parse("", "set tz"), bind("", ""), execute("", 0), execute("", 0), sync()];
    assert_eq!(wire.ask(&asked).await[3], "E ERROR 55000 portal \"\" cannot be run");
}

#[tokio::test]
async fn an_error_skips_to_sync() {
    let mut wire = Wire::session().await;
    let asked = [
        parse("", "fail"),
        bind("", ""),
        execute("", 0),
        parse("x", "rows 1"),
        query("rows 1"),
        frame(b'd', b"1"),
        sync(),
        parse("x", "rows 1"),
        sync(),
    ];
    assert_eq!(wire.ask(&asked).await, ["1", "2", "E ERROR 22012 division by zero", "Z I"]);
    assert_eq!(wire.until_ready().await, ["1", "Z I"]);
}

#[tokio::test]
async fn flush_shows_answers_without_ending_the_pipeline() {
    let mut wire = Wire::session().await;
    wire.send(&[parse("", "rows 1"), describe('S', ""), frame(b'H', b"")].concat()).await;
    assert_eq!(wire.answer().await.as_deref(), Some("1"));
    assert_eq!(wire.answer().await.as_deref(), Some("t"));
    assert_eq!(wire.answer().await.as_deref(), Some("T n:23:0"));
    assert_eq!(wire.ask(&[bind("", ""), execute("", 0), sync()]).await, ["2", "D 0", "C SELECT 1", "Z I"]);
    // An error is told at once: asyncpg waits for it before it sends Sync.
    wire.send(&[parse("", "syntax"), describe('S', ""), frame(b'H', b"")].concat()).await;
    assert_eq!(wire.answer().await.as_deref(), Some("E ERROR 42601 syntax error at or near \"syntax\""));
    assert_eq!(wire.ask(&[sync()]).await, ["Z I"]);
}

#[tokio::test]
async fn a_declared_cursor_is_a_portal() {
    let mut wire = Wire::session().await;
    let asked = [describe('P', "srv"), execute("srv", 0), close('P', "srv"), sync()];
    assert_eq!(wire.ask(&asked).await, ["T n:23:0", "D 1", "D 2", "C SELECT 2", "3", "Z I"]);
    assert_eq!(
        wire.ask(&[parse("", "rows 1"), bind("srv", ""), sync()]).await[1],
        "E ERROR 42P03 cursor \"srv\" already exists"
    );
}

#[tokio::test]
async fn copy_in_the_extended_protocol() {
    let mut wire = Wire::session().await;
    // tokio-postgres sends a Sync before the data, and one behind.
    wire.send(&[parse("", "copyin"), bind("", ""), execute("", 0), sync()].concat()).await;
    assert_eq!(wire.answer().await.as_deref(), Some("1"));
    assert_eq!(wire.answer().await.as_deref(), Some("2"));
    assert_eq!(wire.answer().await.as_deref(), Some("G 0 2"));
    assert_eq!(wire.ask(&[frame(b'd', b"1\n"), frame(b'c', b""), sync()]).await, ["C COPY 1", "Z I"]);
    wire.send(&[parse("", "copyin"), bind("", ""), execute("", 0)].concat()).await;
    let asked = [frame(b'd', b"!"), frame(b'd', b"2"), frame(b'c', b""), sync()];
    assert_eq!(
        wire.ask(&asked).await,
        ["1", "2", "G 0 2", "E ERROR 22P04 extra data after last expected column", "Z I"]
    );
}

#[tokio::test]
async fn what_runs_up_to_sync_is_one_transaction() {
    let mut wire = Wire::session().await;
    let blocks = |wire: &Wire| wire.host.0.implicit_blocks.load(std::sync::atomic::Ordering::SeqCst);
    // One statement stands for itself.
    assert_eq!(wire.ask(&[parse("", "set tz"), bind("", ""), execute("", 0), sync()]).await[2], "C SET");
    assert_eq!(blocks(&wire), 0);
    // Portals that were bound before are there after another one ran.
    let asked = [parse("s", "notice"), bind("a", "s"), bind("b", "s"), execute("a", 0), execute("b", 0), sync()];
    let note = "N NOTICE 00000 take note";
    assert_eq!(wire.ask(&asked).await, ["1", "2", "2", note, "C DO", note, "C DO", "Z I"]);
    assert_eq!(blocks(&wire), 1);
    let asked = [parse("", "fail"), bind("", "s"), execute("", 0), bind("", ""), execute("", 0), sync()];
    assert_eq!(wire.ask(&asked).await.last().map(String::as_str), Some("Z I"));
    assert_eq!(blocks(&wire), 2);
    // Also the statements of one simple message, but not a single one.
    assert_eq!(wire.ask(&[query("notice; notice")]).await.len(), 5);
    assert_eq!(blocks(&wire), 3);
    assert_eq!(wire.ask(&[query("notice")]).await, [note, "C DO", "Z I"]);
    assert_eq!(blocks(&wire), 3);
}
