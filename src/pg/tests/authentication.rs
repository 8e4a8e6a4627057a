//! Ways to prove who one is, and all the ways not to. `ann` has the password `pencil`, `nobody` is not there.

use tokio_postgres::NoTls;
use tokio_postgres::config::ChannelBinding;

use super::*;

const SSL: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// As far as `AuthenticationSASL`.
async fn asked(user: &str) -> Wire {
    let mut wire = Wire::open();
    wire.send(&startup(3 << 16, &format!("user {user}"))).await;
    assert_eq!(wire.answer().await.as_deref(), Some("R 10"));
    wire
}

fn first(mechanism: &str, message: &str) -> Vec<u8> {
    let length = (message.len() as u32).to_be_bytes();
    frame(b'p', &[mechanism.as_bytes(), b"\0", &length, message.as_bytes()].concat())
}

async fn connect(user: &str, password: &str, binding: ChannelBinding) -> Result<(), String> {
    let mut config = tokio_postgres::Config::new();
    config.user(user).dbname("dev").password(password).channel_binding(binding);
    match config.connect_raw(Wire::open().stream, NoTls).await {
        Ok((client, connection)) => {
            tokio::spawn(connection);
            client.simple_query("rows 1").await.map(drop).map_err(|e| e.to_string())
        }
        Err(error) => Err(match error.as_db_error() {
            Some(told) => format!("{} {} {}", told.severity(), told.code().code(), told.message()),
            None => error.to_string(),
        }),
    }
}

#[tokio::test]
async fn the_right_password_and_no_other() {
    assert_eq!(connect("ann", "pencil", ChannelBinding::Prefer).await, Ok(()));
    let refused = |user| Err(format!("FATAL 28P01 password authentication failed for user \"{user}\""));
    for password in ["pencils", "", "PENCIL", " pencil"] {
        assert_eq!(connect("ann", password, ChannelBinding::Prefer).await, refused("ann"), "{password:?}");
    }
    // It is asked as if it were there, and hears the same.
    for password in ["pencil", "x"] {
        assert_eq!(connect("nobody", password, ChannelBinding::Prefer).await, refused("nobody"), "{password:?}");
    }
    // Without encryption there is nothing to bind to: a client that insists does not send its proof.
    assert!(connect("ann", "pencil", ChannelBinding::Require).await.is_err());
}

#[tokio::test]
async fn nothing_but_an_answer_is_read_before_the_proof() {
    for request in [query("rows 1"), sync(), parse("", "rows 1"), frame(b'd', b"x"), frame(b'~', b"")] {
        let mut wire = asked("ann").await;
        wire.send(&request).await;
        let answers = wire.until_closed().await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert!(answers[0].starts_with("E FATAL 08P01"), "{answers:?}");
    }
    // Nor after a failure: nothing that was sent behind it is answered.
    let mut wire = asked("ann").await;
    let nonsense = first("SCRAM-SHA-256", "n,,n=,r=");
    wire.send(&[nonsense, query("rows 1")].concat()).await;
    assert_eq!(wire.until_closed().await, ["E FATAL 08P01 malformed SCRAM message"]);
    let mut wire = asked("ann").await;
    wire.send(&first("SCRAM-SHA-256", "n,,n=,r=abc")).await;
    assert_eq!(wire.answer().await.as_deref(), Some("R 11"));
    let no_proof = frame(b'p', b"c=biws,r=abc,p=AAAA");
    wire.send(&[no_proof, query("rows 1"), query("rows 1")].concat()).await;
    assert_eq!(wire.until_closed().await, ["E FATAL 08P01 invalid SCRAM response"]);
}

#[tokio::test]
async fn answers_that_lie_about_themselves() {
    let large = first("SCRAM-SHA-256", &format!("n,,n=,r={}", "x".repeat(9000)));
    for (answer, told) in [
        (frame(b'p', b"SCRAM-SHA-256\0\0\0\0\x09n,,"), "E FATAL 08P01 malformed SASL response"),
        (frame(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff"), "E FATAL 08P01 malformed SASL response"),
        (frame(b'p', b"pencil\0"), "E FATAL 08P01"),
        (frame(b'p', b""), "E FATAL 08P01"),
        (frame(b'p', b"\xff\0\0\0\0\0"), "E FATAL 22021"),
        (first("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=x"), "E FATAL 08P01 client selected an invalid"),
        (first("SCRAM-SHA-1", "n,,n=,r=x"), "E FATAL 08P01 client selected an invalid"),
        (large[..5].to_vec(), "E FATAL 08P01 invalid message length"),
        (b"p\x7f\xff\xff\xff".to_vec(), "E FATAL 08P01 invalid message length"),
        (b"Q\x0f\xff\xff\xff".to_vec(), "E FATAL 08P01 expected SASL response"),
    ] {
        let mut wire = asked("ann").await;
        wire.send(&answer).await;
        let answers = wire.until_closed().await;
        assert!(answers.len() == 1 && answers[0].starts_with(told), "{answers:?} instead of {told}");
    }
    // A client that goes to ask its user for the password says nothing more.
    for end in [frame(b'X', b""), vec![]] {
        let mut wire = asked("ann").await;
        wire.send(&end).await;
        wire.stream.shutdown().await.expect("it can be closed");
        assert!(wire.until_closed().await.is_empty());
    }
}

/// Whatever bytes come, a session that was not proved does not begin.
#[tokio::test]
async fn garbage_opens_nothing() {
    use rand::{Rng, SeedableRng};
    let seed: u64 = rand::rng().random();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    for _ in 0..300 {
        let mut wire = asked("ann").await;
        let mut bytes = first("SCRAM-SHA-256", "n,,n=ann,r=rOprNGfwEbeRWgbNEkqO");
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..3) {
                0 => bytes[at] = random.random(),
                1 => bytes.truncate(at),
                _ => bytes.insert(at, random.random()),
            }
            bytes.push(b'x');
        }
        bytes.extend(frame(b'p', b"c=biws,r=rOprNGfwEbeRWgbNEkqO,p=AAAA"));
        bytes.extend(query("rows 1"));
        // It may have hung up before it has read all.
        let _ = wire.stream.write_all(&bytes).await;
        let _ = wire.stream.shutdown().await;
        let answers = wire.until_closed().await;
        let began = answers.iter().any(|answer| answer == "R 0" || answer.starts_with('Z') || answer.starts_with('D'));
        assert!(!began, "{bytes:?} gave {answers:?}");
    }
}

#[tokio::test]
async fn who_is_too_slow_is_let_go() {
    for said in [vec![], startup(3 << 16, "user ann"), startup(3 << 16, "user ann")[..9].to_vec()] {
        let mut wire = Wire::open_under(Terms { startup_duration_max: Duration::from_millis(100), ..terms(None) });
        wire.send(&said).await;
        let mut answered = vec![];
        let closed = tokio::time::timeout(ANSWER_DURATION_MAX, wire.stream.read_to_end(&mut answered));
        closed.await.expect("the server hangs up").expect("a readable stream");
        assert!(!answered.contains(&b'Z'));
    }
}

mod tls {
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::*;
    use crate::config::TlsFiles;

    /// A server's certificate for localhost, and a client that knows it.
    fn certificate() -> (Arc<Tls>, TlsConnector) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let parameters = rcgen::CertificateParams::new(vec!["localhost".to_string()]).expect("a name");
        let own = parameters.self_signed(&key).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        let (certificate, key_file) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        std::fs::write(&certificate, own.pem()).expect("a file");
        std::fs::write(&key_file, key.serialize_pem()).expect("a file");
        let tls = Tls::load(&TlsFiles { certificate, key: key_file, is_required: false }).expect("a pair");
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(tls), TlsConnector::from(Arc::new(config)))
    }

    #[tokio::test]
    async fn all_that_follows_the_handshake_is_inside_of_it() {
        let (tls, connector) = certificate();
        let mut wire = Wire::open_under(terms(Some(tls)));
        wire.send(&SSL).await;
        let mut answer = [0];
        wire.stream.read_exact(&mut answer).await.expect("one byte");
        assert_eq!(&answer, b"S");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = connector.connect(name, wire.stream).await.expect("a handshake");
        // Asked again inside, it is not SSL twice.
        stream.write_all(&startup(3 << 16, "user ann")).await.expect("it is read");
        let mut told = vec![0; 9];
        stream.read_exact(&mut told).await.expect("an answer");
        assert_eq!(told, [b'R', 0, 0, 0, 42, 0, 0, 0, 10]);
        let mut mechanisms = vec![0; 34];
        stream.read_exact(&mut mechanisms).await.expect("its rest");
        assert_eq!(mechanisms, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
        // A client that was told that there is no channel binding was lied to.
        let message = "y,,n=,r=abc";
        stream.write_all(&first("SCRAM-SHA-256", message)).await.expect("it is read");
        let mut refused = vec![];
        let _ = stream.read_to_end(&mut refused).await;
        let refused = String::from_utf8_lossy(&refused).into_owned();
        assert!(refused.contains("C28000\0MSCRAM channel binding negotiation error"), "{refused}");
    }

    #[tokio::test]
    async fn bytes_behind_the_request_are_not_carried_over() {
        let (tls, _) = certificate();
        let mut wire = Wire::open_under(terms(Some(tls)));
        wire.send(&[&SSL[..], &startup(3 << 16, "user root")].concat()).await;
        assert_eq!(wire.until_closed().await, ["E FATAL 08P01 received unencrypted data after SSL request"]);
    }

    #[tokio::test]
    async fn a_handshake_that_is_none_ends_the_connection() {
        let (tls, _) = certificate();
        let mut wire = Wire::open_under(terms(Some(tls)));
        wire.send(&SSL).await;
        let mut answer = [0];
        wire.stream.read_exact(&mut answer).await.expect("one byte");
        wire.send(&startup(3 << 16, "user root")).await;
        let mut rest = vec![];
        let _ = wire.stream.read_to_end(&mut rest).await;
        assert!(!rest.contains(&b'Z') && !rest.starts_with(b"R"), "no session in clear: {rest:?}");
    }
}
