//! The wire under attack: conversations that are nearly right, clients that say nothing, that read nothing, and very many.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Server, TestResult, env_number, eventually, message, one, query, seed, startup};

async fn connect(server: &Server) -> TestResult<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await?;
    stream.write_all(&startup()).await?;
    Ok(stream)
}

/// Resident memory of a process without pages of files, in bytes.
fn anonymous_bytes(pid: u32) -> TestResult<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon in /proc/PID/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

const STATEMENTS: &[&str] = &[
    "SELECT $1::int + 1",
    "SELECT * FROM t WHERE k = $1 AND v = $2",
    "INSERT INTO t VALUES ($1, $2)",
    "COPY t FROM STDIN",
    "COPY t TO STDOUT (FORMAT binary)",
    "BEGIN",
    "ROLLBACK",
    "SELECT 1 / 0",
    "SELEC",
    "",
    "DECLARE c CURSOR FOR SELECT * FROM t",
    "FETCH 2 FROM c",
    "SET statement_timeout = '1s'",
    "SELECT a.i FROM generate_series(1, 300) AS a(i)",
];

/// A message as a driver would send it, of a conversation that need not make sense.
fn sensible(random: &mut StdRng) -> Vec<u8> {
    let name = ["", "a", "b"][random.random_range(0..3)];
    let sql = STATEMENTS[random.random_range(0..STATEMENTS.len())];
    let terminated =
        |texts: &[&str]| texts.iter().flat_map(|text| [text.as_bytes(), b"\0"].concat()).collect::<Vec<u8>>();
    let counted = |count: usize, each: &[u8]| [&(count as u16).to_be_bytes()[..], &each.repeat(count)].concat();
    match random.random_range(0..11) {
        0 => query(sql),
        1 | 2 => message(
            b'P',
            &[terminated(&[name, sql]), counted(random.random_range(0..3), &23u32.to_be_bytes())].concat(),
        ),
        3 | 4 => {
            let parameter = [&4u32.to_be_bytes()[..], &7u32.to_be_bytes()].concat();
            let formats = counted(random.random_range(0..3), &[0, random.random_range(0..2)]);
            let parameters = counted(random.random_range(0..3), &parameter);
            let results = counted(random.random_range(0..2), &[0, random.random_range(0..2)]);
            message(b'B', &[terminated(&[name, name]), formats, parameters, results].concat())
        }
        5 => message(b'D', &[&[b"SP"[random.random_range(0..2)]][..], &terminated(&[name])].concat()),
        6 | 7 => message(b'E', &[terminated(&[name]), random.random_range(0..4u32).to_be_bytes().to_vec()].concat()),
        8 => message(b'C', &[&[b"SP"[random.random_range(0..2)]][..], &terminated(&[name])].concat()),
        9 => message(b"HcfS"[random.random_range(0..4)], if random.random_bool(0.5) { b"" } else { b"no\0" }),
        _ => message(b'd', b"1\t2\n"),
    }
}

/// Makes it wrong in one place: a byte, its length, its end, another kind.
fn spoil(bytes: &mut Vec<u8>, random: &mut StdRng) {
    let at = random.random_range(0..bytes.len());
    match random.random_range(0..5) {
        0 => bytes[at] ^= 1 << random.random_range(0..8),
        1 => bytes.truncate(at),
        2 => {
            let length = [0, 3, 4, 5, 1 << 16, 1 << 30, u32::MAX][random.random_range(0..7)];
            let end = bytes.len().min(5);
            bytes[1.min(end)..end].copy_from_slice(&u32::to_be_bytes(length)[..end.saturating_sub(1)]);
        }
        3 => bytes[0] = random.random(),
        _ => bytes.insert(at, random.random()),
    }
}

/// `HW_FUZZ_SECONDS` for longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations_that_are_nearly_right() -> TestResult {
    let (seed, seconds) = (seed()?, env_number("HW_FUZZ_SECONDS")?.unwrap_or(8));
    println!("seed: HW_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Server::start(1)?;
    let client = server.connect().await?;
    client.batch_execute("CREATE TABLE t (k int, v int); INSERT INTO t VALUES (1, 2), (3, 4)").await?;
    let started = Instant::now();
    let (mut conversation_count, mut answered_count) = (0, 0);
    while started.elapsed() < Duration::from_secs(seconds) {
        let mut bytes = vec![];
        for _ in 0..random.random_range(1..12) {
            let mut own = sensible(&mut random);
            if random.random_bool(0.15) {
                spoil(&mut own, &mut random);
            }
            bytes.extend(own);
        }
        bytes.extend(message(b'S', b""));
        bytes.extend(message(b'X', b""));
        let mut stream = connect(&server).await?;
        // In pieces, now and then: a message may come in any number of them.
        for piece in bytes.chunks(if random.random_bool(0.2) { 7 } else { usize::MAX }) {
            if stream.write_all(piece).await.is_err() {
                break;
            }
        }
        // The server hangs up at the end of what it understands, or waits for the rest of what it was promised.
        let mut answer = vec![];
        let _ = tokio::time::timeout(Duration::from_millis(200), stream.read_to_end(&mut answer)).await;
        conversation_count += 1;
        answered_count += usize::from(answer.contains(&b'Z'));
        assert!(answer.starts_with(b"R"), "the start-up was not answered");
        assert!(server.is_alive()?, "the server died of {bytes:?}");
    }
    assert!(answered_count * 2 > conversation_count, "{answered_count} of {conversation_count} got to a prompt");
    assert_eq!(one(&client, "SELECT count(*) > 1 FROM t").await?, "t");
    assert!(!server.log()?.contains("panicked"), "something panicked:\n{}", server.log()?);
    let bytes = anonymous_bytes(server.pid())?;
    assert!(bytes < 600 << 20, "{bytes} bytes are held after {conversation_count} conversations");
    Ok(())
}

/// They ask for much more than they take, and wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read() -> TestResult {
    let mut server = Server::start(1)?;
    let client = server.connect().await?;
    one(&client, "SELECT count(*) FROM generate_series(1, 100000)").await?;
    let before = anonymous_bytes(server.pid())?;
    let ask = query("SELECT repeat('x', 1000) FROM generate_series(1, 10000000)");
    let mut silent = vec![];
    for _ in 0..20 {
        let mut stream = connect(&server).await?;
        // Their next questions are there before the first is answered.
        stream.write_all(&ask.repeat(5)).await?;
        silent.push(stream);
    }
    // Each answer is 10 GB; of it a few batches of 8 MB wait for each client.
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let bytes = anonymous_bytes(server.pid())?;
        assert!(bytes < before + silent.len() as u64 * (45 << 20), "{bytes} bytes are held, {before} before");
        assert_eq!(one(&client, "SELECT 41 + 1").await?, "42");
    }
    drop(silent);
    assert!(server.is_alive()?);
    Ok(())
}

/// A thousand that connect, of which some say nothing, some half of something: whoever comes last is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections() -> TestResult {
    let mut server = Server::start_with(1, &["--max-connections", "1200"])?;
    let first = server.connect().await?;
    let before = anonymous_bytes(server.pid())?;
    let mut streams = vec![];
    for number in 0..1000 {
        let mut stream = connect(&server).await?;
        match number % 4 {
            0 => {}
            1 => stream.write_all(b"Q\0\0").await?,
            2 => stream.write_all(&query("SELECT 1")).await?,
            _ => stream.write_all(&message(b'P', b"a\0SELECT $1::int\0\0\0")).await?,
        }
        streams.push(stream);
    }
    let all = "SELECT count(*) FROM pg_stat_activity";
    eventually("a thousand sessions", Duration::from_secs(30), async || {
        let count: i64 = one(&first, all).await?.parse()?;
        Ok((count > 1000).then_some(()))
    })
    .await?;
    let last = server.connect().await?;
    assert_eq!(one(&last, "SELECT 41 + 1").await?, "42");
    let bytes = anonymous_bytes(server.pid())?;
    assert!(bytes < before + (300 << 20), "{bytes} bytes are held, {before} before");
    drop(streams);
    eventually("their sessions to end", Duration::from_secs(30), async || {
        let count: i64 = one(&first, all).await?.parse()?;
        Ok((count < 10).then_some(()))
    })
    .await?;
    assert!(server.is_alive()? && !server.log()?.contains("panicked"));
    Ok(())
}
