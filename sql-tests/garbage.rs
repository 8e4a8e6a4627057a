//! Bytes that are no Postgres: the server answers or hangs up, stays up, and serves everybody else.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Server, TestResult, eventually, message, one, query, seed, startup};

/// Sends `bytes`, and reads until the server hangs up or is quiet for a moment.
async fn send(server: &Server, bytes: &[u8]) -> TestResult<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await?;
    // The server may hang up while we still write; that is an answer too.
    let _ = stream.write_all(bytes).await;
    Ok(read_until_quiet(&mut stream).await)
}

async fn read_until_quiet(stream: &mut TcpStream) -> Vec<u8> {
    let (mut answer, mut buffer) = (vec![], [0; 4096]);
    while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_millis(150), stream.read(&mut buffer)).await {
        if n == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..n]);
    }
    answer
}

async fn still_serves(server: &mut Server) -> TestResult {
    assert!(server.is_alive()?, "the server died:\n{}", server.log()?);
    let client = server.connect().await?;
    assert_eq!(one(&client, "SELECT 41 + 1").await?, "42");
    assert!(!server.log()?.contains("panicked"), "something panicked:\n{}", server.log()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_before_a_session() -> TestResult {
    let mut server = Server::start(1)?;
    let huge = [&0x7fff_ffff_u32.to_be_bytes()[..], b"\0\x03\0\0user"].concat();
    let unknown_version = [&9u32.to_be_bytes()[..], b"\0\x09\0\0\0"].concat();
    let unterminated = [&17u32.to_be_bytes()[..], b"\0\x03\0\0user\0root\0"].concat();
    let ssl_then_more = [&8u32.to_be_bytes()[..], &80877103u32.to_be_bytes(), &startup()].concat();
    let cases: [(&str, &[u8]); 12] = [
        ("nothing", b""),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("TLS without asking", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("zero length", b"\0\0\0\0"),
        ("length below its own size", b"\0\0\0\x03abc"),
        ("negative length", b"\xff\xff\xff\xff\0\x03\0\0"),
        ("huge length", &huge),
        ("unknown version", &unknown_version),
        ("unterminated parameters", &unterminated),
        ("bytes behind SSLRequest", &ssl_then_more),
        ("half a start-up", &startup()[..9]),
        ("text", b"hello, is there anybody?\n\n\n\n\n\n\n"),
    ];
    for (what, bytes) in cases {
        let answer = send(&server, bytes).await?;
        println!("{what}: {} bytes in answer", answer.len());
        still_serves(&mut server).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_inside_a_session() -> TestResult {
    let mut server = Server::start(1)?;
    let parse_many_types = [&b"\0SELECT 1\0"[..], b"\x7f\xff"].concat();
    let bind_many_formats = [&b"\0\0"[..], b"\x7f\xff\0\0"].concat();
    let bind_bad_length = [&b"\0\0"[..], b"\0\0\0\x01\xff\xff\xff\x00ab\0\0"].concat();
    let cases: [(&str, Vec<u8>); 14] = [
        ("unknown message", message(b'~', b"abc")),
        ("query without an end", message(b'Q', b"SELECT 1")),
        ("query that is no UTF-8", message(b'Q', b"SELECT '\xff\xfe'\0")),
        ("query with a zero byte inside", message(b'Q', b"SELECT 1\0; SELECT 2\0")),
        ("huge length", [&b"Q"[..], &0x7fff_ffffu32.to_be_bytes(), b"SELECT"].concat()),
        ("length below its own size", b"Q\0\0\0\x01".to_vec()),
        ("negative length", b"Q\xff\xff\xff\xf0abc".to_vec()),
        ("Parse with more types than bytes", message(b'P', &parse_many_types)),
        ("Bind with more formats than bytes", message(b'B', &bind_many_formats)),
        ("Bind with a wrong length", message(b'B', &bind_bad_length)),
        ("Execute of no portal", message(b'E', b"nowhere\0\0\0\0\0")),
        ("Describe of neither", message(b'D', b"Zx\0")),
        ("CopyData outside a copy", message(b'd', b"1\t2\n")),
        ("a password that nobody asked for", message(b'p', b"secret\0")),
    ];
    for (what, bytes) in cases {
        let answer = send(&server, &[startup(), bytes, message(b'S', b"")].concat()).await?;
        println!("{what}: {} bytes in answer", answer.len());
        assert!(answer.starts_with(b"R"), "{what}: the start-up itself was not answered");
        still_serves(&mut server).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes() -> TestResult {
    let seed = seed()?;
    println!("seed: HW_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Server::start(1)?;
    for _ in 0..40 {
        let length = random.random_range(0..400);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
        // Half of them come behind a good start-up, with a good message kind and a length that fits.
        if random.random_bool(0.5) {
            let kind = b"QPBEDCSHFdcfXp"[random.random_range(0..14)];
            bytes = [startup(), message(kind, &bytes)].concat();
        }
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await?;
        let _ = stream.write_all(&bytes).await;
        if random.random_bool(0.3) {
            read_until_quiet(&mut stream).await;
        }
    }
    still_serves(&mut server).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_go_away() -> TestResult {
    let mut server = Server::start(1)?;
    let client = server.connect().await?;
    client.batch_execute("CREATE TABLE t (a int)").await?;
    // In the middle of an answer, of a copy, of a transaction.
    for sql in [
        "SELECT a.i FROM generate_series(1, 3000) AS a(i), generate_series(1, 3000) AS b(i)",
        "COPY t FROM STDIN",
        "BEGIN; INSERT INTO t VALUES (1)",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await?;
        stream.write_all(&[startup(), query(sql)].concat()).await?;
        let mut some = [0; 512];
        stream.read_exact(&mut some[..64]).await?;
        drop(stream);
        still_serves(&mut server).await?;
    }
    assert_eq!(one(&client, "SELECT count(*) FROM t").await?, "0");
    // The long query ends with its client; its cores are free again.
    let pid = server.pid();
    eventually("the abandoned query to end", Duration::from_secs(20), async || {
        let before = cpu_ticks(pid)?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok((cpu_ticks(pid)? - before < 15).then_some(()))
    })
    .await
}

/// CPU time of a process in ticks of 10 ms.
fn cpu_ticks(pid: u32) -> TestResult<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold blanks; the fields after its closing parenthesis do not.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let tick = |index: usize| -> TestResult<u64> { Ok(fields.get(index).ok_or("a short /proc/PID/stat")?.parse()?) };
    Ok(tick(11)? + tick(12)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_and_deep_statements() -> TestResult {
    let mut server = Server::start(1)?;
    let client = server.connect().await?;
    // Each is refused or answered; none takes the server with it.
    let deep = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    let wide = format!("SELECT 1{}", " + 1".repeat(20_000));
    let long = format!("SELECT length('{}')", "x".repeat(8 << 20));
    let nested = format!("{}SELECT 1{}", "SELECT * FROM (".repeat(500), ") AS t".repeat(500));
    for sql in [deep, wide, long, nested] {
        match client.simple_query(&sql).await {
            Ok(_) => println!("answered: {} …", &sql[..30]),
            Err(error) => println!("refused: {} …: {:?}", &sql[..30], error.code()),
        }
        still_serves(&mut server).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections() -> TestResult {
    let mut server = Server::start(1)?;
    let mut clients = vec![];
    for _ in 0..200 {
        clients.push(server.connect().await?);
    }
    for client in &clients {
        assert_eq!(one(client, "SELECT 1").await?, "1");
    }
    still_serves(&mut server).await
}
