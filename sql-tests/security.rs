//! Who may come in and what they may do, tested for what must not work: passwords, roles, rules, TLS.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tokio_postgres::{Config, NoTls};

use crate::harness::{Client, Server, TestResult, eventually, has, one, skip};

/// Of the role root, in every test here; it must never be seen anywhere.
const ROOT_PASSWORD: &str = "correct horse battery";

/// For the server to hear a signal.
const LIMIT: Duration = Duration::from_secs(20);

/// A server that asks everybody for a password.
fn locked(flags: &[&str]) -> TestResult<(Server, tempfile::TempDir)> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("password");
    std::fs::write(&file, format!("{ROOT_PASSWORD}\n"))?;
    let file = file.display().to_string();
    let flags = [&["--auth", "scram", "--superuser-password-file", &file], flags].concat();
    Ok((Server::start_with(1, &flags)?, directory))
}

fn config(server: &Server, role: &str, password: &str) -> Config {
    let mut config = Config::new();
    config.host("127.0.0.1").port(server.port()).user(role).dbname("dev").password(password);
    config
}

/// A session, or `28P01 password authentication failed for user "x"`.
async fn enter(config: &Config) -> Result<Client, String> {
    match config.connect(NoTls).await {
        Ok((client, connection)) => {
            tokio::spawn(connection);
            Ok(client)
        }
        Err(error) => Err(told(&error)),
    }
}

fn told(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |e| format!("{} {}", e.code().code(), e.message()))
}

async fn login(server: &Server, role: &str, password: &str) -> Result<Client, String> {
    enter(&config(server, role, password)).await
}

/// What the statement is refused with.
async fn refusal(client: &Client, statement: &str) -> String {
    match client.batch_execute(statement).await {
        Ok(()) => format!("{statement} was not refused"),
        Err(error) => told(&error),
    }
}

async fn reason(server: &Server, role: &str, password: &str) -> String {
    login(server, role, password).await.err().unwrap_or_else(|| "it came in".to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_let_in_and_keep_out_also_after_a_restart() -> TestResult {
    let (mut server, _directory) = locked(&[])?;
    let root = login(&server, "root", ROOT_PASSWORD).await?;
    root.batch_execute(
        "CREATE ROLE ann LOGIN PASSWORD 'pencil-7731';
         CREATE USER \"Bea Z\" PASSWORD 'pencil-7731' CONNECTION LIMIT 1;
         CREATE ROLE group_only PASSWORD 'pencil-7731';
         CREATE USER old PASSWORD 'pencil-7731' VALID UNTIL '2020-01-01 00:00:00+00';
         CREATE USER young PASSWORD 'pencil-7731' VALID UNTIL '2999-01-01';
         CREATE USER silent;
         CREATE USER emptied PASSWORD '';
         CREATE USER gone PASSWORD 'pencil-7731';
         DROP USER gone;
         CREATE USER sasl PASSWORD 'I\u{ad}X';",
    )
    .await?;
    for round in ["before", "after a kill", "after a stop"] {
        let failed = |role: &str| format!("28P01 password authentication failed for user \"{role}\"");
        for role in ["ann", "young"] {
            let client = login(&server, role, "pencil-7731").await?;
            assert_eq!(one(&client, "SELECT current_user || ' ' || session_user").await?, format!("{role} {role}"));
        }
        // SASLprep takes a soft hyphen for nothing.
        login(&server, "sasl", "IX").await?;
        for (role, password) in [
            ("ann", "pencil-7732"),
            ("ann", ""),
            ("root", "pencil-7731"),
            ("old", "pencil-7731"),
            ("silent", ""),
            ("silent", "x"),
            ("emptied", ""),
            ("gone", "pencil-7731"),
            ("nobody", "pencil-7731"),
            ("ANN", "pencil-7731"),
        ] {
            let reason = reason(&server, role, password).await;
            // tokio-postgres itself refuses to send an empty password.
            assert!(reason == failed(role) || password.is_empty(), "{round}: {role} {password:?}: {reason}");
        }
        let no_login = "28000 role \"group_only\" is not permitted to log in";
        assert_eq!(reason(&server, "group_only", "pencil-7731").await, no_login, "{round}");
        // Only who proved to be the role hears why it may not.
        assert_eq!(reason(&server, "group_only", "x").await, failed("group_only"), "{round}");
        let first = login(&server, "Bea Z", "pencil-7731").await?;
        let limit = "53300 too many connections for role \"Bea Z\"";
        assert_eq!(reason(&server, "Bea Z", "pencil-7731").await, limit, "{round}");
        drop(first);
        match round {
            "before" => server.kill()?,
            "after a kill" => drop(server.terminate()?),
            _ => break,
        }
        server.start_again(None)?;
    }
    let root = login(&server, "root", ROOT_PASSWORD).await?;
    root.batch_execute("ALTER ROLE old VALID UNTIL 'infinity'; ALTER ROLE ann PASSWORD NULL; ALTER ROLE young NOLOGIN")
        .await?;
    login(&server, "old", "pencil-7731").await?;
    assert!(reason(&server, "ann", "pencil-7731").await.starts_with("28P01"));
    assert!(reason(&server, "young", "pencil-7731").await.starts_with("28000"));
    // The other password of the next start is not used: root has one.
    assert!(reason(&server, "root", "").await != "it came in");
    for secret in ["pencil-7731", ROOT_PASSWORD] {
        assert!(!server.log()?.contains(secret), "a password is in the log");
        assert!(!holds(&server.data(), secret.as_bytes())?, "a password is in the data directory");
    }
    Ok(())
}

/// Whether any file below the directory has these bytes.
fn holds(directory: &Path, needle: &[u8]) -> TestResult<bool> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let found = match path.is_dir() {
            true => holds(&path, needle)?,
            false => std::fs::read(&path)?.windows(needle.len()).any(|window| window == needle),
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_superusers_manage_roles() -> TestResult {
    let (server, directory) = locked(&[])?;
    let root = login(&server, "root", ROOT_PASSWORD).await?;
    root.batch_execute(
        "CREATE USER ann PASSWORD 'pencil-7731';
         CREATE USER bea PASSWORD 'pencil-7731';
         CREATE USER sue PASSWORD 'pencil-7731' SUPERUSER;",
    )
    .await?;
    let ann = login(&server, "ann", "pencil-7731").await?;
    for (statement, refused) in [
        ("CREATE ROLE x", "42501 permission denied to create role"),
        ("CREATE USER x SUPERUSER", "42501 permission denied to create role"),
        ("ALTER ROLE ann SUPERUSER", "42501 permission denied"),
        ("ALTER ROLE ann PASSWORD 'a' SUPERUSER", "42501 permission denied"),
        ("ALTER ROLE ann CONNECTION LIMIT 5", "42501 permission denied"),
        ("ALTER ROLE ann VALID UNTIL 'infinity'", "42501 permission denied"),
        ("ALTER ROLE ann RENAME TO x", "42501 permission denied"),
        ("ALTER ROLE bea PASSWORD 'mine'", "42501 permission denied"),
        ("ALTER ROLE root PASSWORD 'mine'", "42501 permission denied"),
        ("DROP ROLE bea", "42501 permission denied to drop role"),
        ("DROP ROLE IF EXISTS nobody", "42501 permission denied to drop role"),
        ("SET ROLE root", "42501 permission denied to set role \"root\""),
        ("SET role = 'root'", "42501 permission denied to set role \"root\""),
        ("BEGIN; SET LOCAL ROLE root", "42501 permission denied to set role \"root\""),
        ("ROLLBACK; SELECT set_config('role', 'root', false)", "42501 permission denied to set role \"root\""),
        ("SET SESSION AUTHORIZATION root", "42501 permission denied to set session authorization"),
        ("SET session_authorization = 'bea'", "42501 permission denied to set session authorization"),
        (
            "SELECT set_config('session_authorization', 'root', true)",
            "42501 permission denied to set session authorization",
        ),
        ("SET ROLE nobody", "22023 role \"nobody\" does not exist"),
        ("SET is_superuser = on", "55P02 parameter \"is_superuser\" cannot be changed"),
        ("BACKUP TO '/tmp/never-made'", "42501 permission denied to back up the server"),
        ("GRANT SELECT ON t TO ann", "0A000 GRANT is not supported"),
    ] {
        assert_eq!(refusal(&ann, statement).await, refused, "{statement}");
    }
    // Nor by what it says when it connects.
    let mut options = config(&server, "ann", "pencil-7731");
    options.options("-c role=root");
    assert_eq!(enter(&options).await.err().as_deref(), Some("42501 permission denied to set role \"root\""));
    options.options("-c session_authorization=root");
    assert!(enter(&options).await.err().is_some_and(|told| told.starts_with("55P02")));
    // What others have and do is theirs.
    let pid = one(&root, "SELECT pg_backend_pid()").await?;
    for (function, what) in
        [("pg_cancel_backend", "query is being canceled"), ("pg_terminate_backend", "process is being terminated")]
    {
        let refused = refusal(&ann, &format!("SELECT {function}({pid})")).await;
        assert_eq!(refused, format!("42501 must be a member of the role whose {what}"));
    }
    let seen = format!("SELECT query FROM pg_stat_activity WHERE pid = {pid}");
    assert_eq!(one(&ann, &seen).await?, "<insufficient privilege>");
    let verifiers = "SELECT count(*) FROM pg_authid WHERE rolpassword LIKE 'SCRAM-SHA-256$4096:%'";
    assert_eq!((one(&root, verifiers).await?, one(&ann, verifiers).await?), ("4".into(), "0".into()));
    let shadows = "SELECT count(*) FROM pg_shadow WHERE passwd IS NOT NULL";
    assert_eq!((one(&root, shadows).await?, one(&ann, shadows).await?), ("4".into(), "0".into()));
    assert_eq!(one(&ann, "SHOW is_superuser").await?, "off");
    // Its own password it may change, and do everything else.
    ann.batch_execute("ALTER USER CURRENT_USER PASSWORD 'another-7731'; CREATE TABLE t (id int PRIMARY KEY)").await?;
    assert!(reason(&server, "ann", "pencil-7731").await.starts_with("28P01"));
    login(&server, "ann", "another-7731").await?;
    // A superuser becomes another, and is no superuser as long as it is.
    let sue = login(&server, "sue", "pencil-7731").await?;
    sue.batch_execute("SET ROLE ann").await?;
    let who = "SELECT current_user || ' ' || session_user || ' ' || current_setting('is_superuser')";
    assert_eq!(one(&sue, who).await?, "ann sue off");
    assert_eq!(refusal(&sue, "CREATE ROLE x").await, "42501 permission denied to create role");
    sue.batch_execute("RESET ALL").await?;
    assert_eq!(one(&sue, who).await?, "ann sue off", "RESET ALL does not change who it is");
    sue.batch_execute("RESET ROLE").await?;
    assert_eq!(one(&sue, who).await?, "sue sue on");
    sue.batch_execute("BEGIN; SET ROLE ann; ROLLBACK").await?;
    assert_eq!(one(&sue, who).await?, "sue sue on");
    sue.batch_execute("SET ROLE ann; SET SESSION AUTHORIZATION bea").await?;
    assert_eq!(one(&sue, who).await?, "bea bea off");
    assert_eq!(refusal(&sue, "SET ROLE ann").await, "42501 permission denied to set role \"ann\"");
    sue.batch_execute("DISCARD ALL").await?;
    assert_eq!(one(&sue, who).await?, "sue sue on");
    // It counts what it is now, not what it was when it connected.
    root.batch_execute("ALTER ROLE sue NOSUPERUSER").await?;
    assert_eq!(refusal(&sue, "CREATE ROLE x").await, "42501 permission denied to create role");
    for (statement, refused) in [
        ("DROP ROLE root", "55006 current user cannot be dropped"),
        ("ALTER ROLE root NOSUPERUSER", "42501 the role root has to stay a superuser"),
        ("CREATE ROLE ann", "42710 role \"ann\" already exists"),
        ("ALTER ROLE bea RENAME TO ann", "42710 role \"ann\" already exists"),
        ("ALTER ROLE nobody LOGIN", "42704 role \"nobody\" does not exist"),
        ("DROP ROLE bea, nobody", "42704 role \"nobody\" does not exist"),
        ("CREATE ROLE public", "42939 role name \"public\" is reserved"),
        ("CREATE ROLE pg_x", "42939 role name \"pg_x\" is reserved"),
        ("CREATE ROLE x LOGIN NOLOGIN", "42601 conflicting or redundant options"),
        ("CREATE ROLE x PASSWORD pencil", "42601 syntax error at or near \"pencil\""),
        ("CREATE ROLE x VALID UNTIL 'soon'", "22007 invalid input syntax for type timestamp with time zone: \"soon\""),
        ("CREATE ROLE x CONNECTION LIMIT -2", "22023 invalid connection limit: -2"),
        ("CREATE ROLE x CREATEROLE", "0A000 the role option CREATEROLE is not supported"),
        ("CREATE ROLE x IN ROLE ann", "0A000 membership in a role is not supported"),
        ("CREATE ROLE x PASSWORD 'md55d41402abc4b2a76b9719d911017c592'", "0A000 an MD5 password is not supported"),
    ] {
        assert_eq!(refusal(&root, statement).await, refused, "{statement}");
    }
    assert_eq!(one(&root, "SELECT count(*) FROM pg_roles WHERE rolname = 'bea'").await?, "1", "all or none is dropped");
    // A verifier is taken as it is; psql's \password sends one.
    let verifier = one(&root, "SELECT rolpassword FROM pg_authid WHERE rolname = 'bea'").await?;
    root.batch_execute(&format!("CREATE USER copy PASSWORD '{verifier}'")).await?;
    login(&server, "copy", "pencil-7731").await?;
    // Who takes over a name does not lend its rights to the sessions of the one before.
    let before = login(&server, "copy", "pencil-7731").await?;
    root.batch_execute("DROP ROLE copy; CREATE USER copy SUPERUSER PASSWORD 'new-7731'").await?;
    assert_eq!(refusal(&before, "CREATE ROLE x").await, "42501 permission denied to create role");
    assert_eq!(refusal(&before, "ALTER ROLE copy PASSWORD 'mine'").await, "42501 permission denied");
    assert_eq!(refusal(&before, "SET ROLE root").await, "42501 permission denied to set role \"root\"");
    assert_eq!(one(&before, "SHOW is_superuser").await?, "off");
    assert_eq!(one(&before, verifiers).await?, "0");
    login(&server, "copy", "new-7731").await?;
    // A password on its way is not shown to others.
    let message = "ALTER ROLE bea PASSWORD 'shown-7731'";
    root.batch_execute(message).await?;
    let shown = format!("SELECT query FROM pg_stat_activity WHERE pid = {pid}");
    root.batch_execute("ALTER ROLE sue SUPERUSER").await?;
    assert_eq!(one(&sue, &shown).await?, "ALTER ROLE sue SUPERUSER");
    root.batch_execute(message).await?;
    assert_eq!(one(&sue, &shown).await?, "ALTER ROLE <hidden>");
    // A backup has the roles.
    let backup = directory.path().join("backup");
    let made = program()
        .args(["backup", "--server", &format!("127.0.0.1:{}", server.port())])
        .arg(&backup)
        .env("PGPASSWORD", ROOT_PASSWORD)
        .output()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let restored = directory.path().join("restored");
    let made = program().arg("restore").arg(&backup).arg("--data-dir").arg(&restored).output()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let second = Server::start_on(&restored, 1)?;
    let client = second.connect().await?;
    assert_eq!(one(&client, "SELECT count(*) FROM pg_roles").await?, "5");
    Ok(())
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.stdin(Stdio::null()).env_remove("HIGHWATER_PASSWORD");
    command
}

/// What a server says that does not start.
fn start_refused(arguments: &[&str]) -> TestResult<String> {
    let directory = tempfile::tempdir()?;
    let output =
        program().arg("serve").arg("--data-dir").arg(directory.path().join("data")).args(arguments).output()?;
    assert!(!output.status.success(), "{arguments:?} started");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_server_does_not_start_open_to_others() -> TestResult {
    for arguments in
        [&["--listen", "0.0.0.0:0"][..], &["--listen", "0.0.0.0:0", "--auth", "trust"], &["--listen", "[::]:0"]]
    {
        let said = start_refused(arguments)?;
        assert!(said.contains("refusing to listen on") && said.contains("hint: "), "{arguments:?}: {said}");
    }
    let directory = tempfile::tempdir()?;
    let file = |text: &str| -> TestResult<String> {
        let path = directory.path().join("highwater.toml");
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let trusting = file("listen = \"0.0.0.0:0\"\n[[auth]]\naddress = \"10.0.0.0/8\"\nmethod = \"trust\"")?;
    assert!(start_refused(&["--config", &trusting])?.contains("refusing to listen on"));
    let unknown = file("[[auth]]\nmethod = \"md5\"")?;
    assert!(start_refused(&["--config", &unknown])?.contains("hint: known keys"));
    let misspelt = file("[[auth]]\nmethod = \"scram\"\nuser = \"ann\"")?;
    assert!(start_refused(&["--config", &misspelt])?.contains("unknown field `user`"));
    assert!(start_refused(&["--tls-required"])?.contains("TLS needs a certificate and its key"));
    assert!(start_refused(&["--tls-cert", "x.pem"])?.contains("TLS needs a certificate and its key"));
    assert!(start_refused(&["--tls-cert", "x.pem", "--tls-key", "y.pem"])?.contains("could not read the certificate"));
    assert!(start_refused(&["--superuser-password-file", "nowhere"])?.contains("could not read the password"));
    assert!(start_refused(&["--auth", "md5"])?.contains("known methods: trust, scram"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_rule_that_matches_decides() -> TestResult {
    let rules = r#"
        [[auth]]
        role = "root"
        method = "trust"
        [[auth]]
        role = ["barred"]
        method = "reject"
        [[auth]]
        role = "encrypted"
        tls = true
        method = "scram"
        [[auth]]
        address = "127.0.0.0/8"
        role = ["ann", "barred"]
        method = "scram"
    "#;
    let server = Server::start_configured(1, rules)?;
    let root = server.connect().await?;
    for role in ["ann", "barred", "encrypted", "bea"] {
        root.batch_execute(&format!("CREATE USER {role} PASSWORD 'pencil-7731'")).await?;
    }
    login(&server, "ann", "pencil-7731").await?;
    assert!(reason(&server, "ann", "x").await.starts_with("28P01"));
    let place = |role: &str| format!("for host \"127.0.0.1\", user \"{role}\", database \"dev\", no encryption");
    for role in ["bea", "encrypted", "nobody"] {
        assert_eq!(reason(&server, role, "pencil-7731").await, format!("28000 no pg_hba.conf entry {}", place(role)));
    }
    let rejected = format!("28000 pg_hba.conf rejects connection {}", place("barred"));
    assert_eq!(reason(&server, "barred", "pencil-7731").await, rejected);
    Ok(())
}

/// An authority, and a certificate for localhost that it has signed.
struct Authority {
    directory: tempfile::TempDir,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> TestResult<Authority> {
        let (directory, key) = (tempfile::tempdir()?, rcgen::KeyPair::generate()?);
        let mut parameters = rcgen::CertificateParams::new(vec![])?;
        // Two of the same name would pass for one that has signed itself.
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        std::fs::write(directory.path().join("root.pem"), parameters.self_signed(&key)?.pem())?;
        let authority = Authority { directory, issuer: rcgen::Issuer::new(parameters, key) };
        authority.sign("localhost")?;
        Ok(authority)
    }

    /// Writes the server's certificate, in the place of the one before.
    fn sign(&self, host: &str) -> TestResult {
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(vec![host.to_string()])?.signed_by(&key, &self.issuer)?;
        std::fs::write(self.directory.path().join("server.pem"), certificate.pem())?;
        std::fs::write(self.directory.path().join("server.key"), key.serialize_pem())?;
        Ok(())
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }
}

/// psql over TCP to localhost; what it was asked, on one line.
fn psql(server: &Server, conninfo: &str, password: &str, query: &str) -> TestResult<Output> {
    let conninfo = format!("host=localhost hostaddr=127.0.0.1 port={} dbname=dev {conninfo}", server.port());
    Ok(Command::new("psql")
        .args(["-X", "-w", "-A", "-t", "-c", query, &conninfo])
        .env("PGPASSWORD", password)
        .stdin(Stdio::null())
        .output()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_over_tls() -> TestResult {
    if !has("psql") {
        return skip("psql_over_tls", "psql is not installed");
    }
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let files = [authority.file("server.pem"), authority.file("server.key")];
    let (server, _directory) = locked(&["--tls-cert", &files[0], "--tls-key", &files[1], "--tls-required"])?;
    let root = authority.file("root.pem");
    let full = format!("user=root sslmode=verify-full sslrootcert={root}");
    let ask = |conninfo: &str, password: &str| -> TestResult<String> {
        let output = psql(&server, conninfo, password, "SELECT 40 + 2")?;
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_string());
        assert_eq!(output.status.success(), out == "42", "{out} {err}");
        Ok(if err.is_empty() { out } else { err })
    };
    for more in ["", "channel_binding=require", "channel_binding=disable", "ssl_min_protocol_version=TLSv1.3"] {
        assert_eq!(ask(&format!("{full} {more}"), ROOT_PASSWORD)?, "42", "{more}");
    }
    let versions = "ssl_min_protocol_version=TLSv1.2 ssl_max_protocol_version=TLSv1.2";
    assert_eq!(ask(&format!("{full} {versions}"), ROOT_PASSWORD)?, "42");
    for (conninfo, password, expected) in [
        (full.clone(), "wrong", "password authentication failed for user \"root\""),
        (format!("{full} channel_binding=require"), "wrong", "password authentication failed for user \"root\""),
        ("user=root sslmode=disable".into(), ROOT_PASSWORD, "no pg_hba.conf entry for host \"127.0.0.1\""),
        (
            format!("user=root sslmode=verify-full sslrootcert={}", stranger.file("root.pem")),
            ROOT_PASSWORD,
            "SSL error",
        ),
        (
            format!("{full} ssl_min_protocol_version=TLSv1.1 ssl_max_protocol_version=TLSv1.1"),
            ROOT_PASSWORD,
            "SSL error",
        ),
    ] {
        let said = ask(&conninfo, password)?;
        assert!(said.contains(expected), "{conninfo}: {said}");
    }
    // More than one TLS record.
    let large = psql(&server, &full, ROOT_PASSWORD, "SELECT length(repeat('x', 3000000)), repeat('y', 300000)")?;
    let large = String::from_utf8_lossy(&large.stdout).into_owned();
    assert!(large.starts_with("3000000|yyyy") && large.len() > 300_000);
    let sum = psql(&server, &full, ROOT_PASSWORD, "SELECT sum(n) FROM generate_series(1, 200000) AS s(n)")?;
    assert_eq!(String::from_utf8_lossy(&sum.stdout).trim(), "20000100000");
    // Another certificate, for another host: new connections see it at once.
    authority.sign("elsewhere.example")?;
    let hangup = Command::new("kill").args(["-HUP", &server.pid().to_string()]).status()?;
    assert!(hangup.success());
    let said = eventually("another certificate", LIMIT, async || {
        Ok(Some(ask(&full, ROOT_PASSWORD)?).filter(|said| said != "42"))
    })
    .await?;
    assert!(said.contains("does not match host name \"localhost\""), "{said}");
    // Files that make no sense change nothing.
    std::fs::write(authority.file("server.key"), "no key")?;
    assert!(Command::new("kill").args(["-HUP", &server.pid().to_string()]).status()?.success());
    eventually("a complaint about the key", LIMIT, async || {
        Ok(server.log()?.contains("the certificate stays what it was").then_some(()))
    })
    .await?;
    assert!(ask(&full, ROOT_PASSWORD)?.contains("does not match host name \"localhost\""));
    assert_eq!(ask(&full.replace("verify-full", "verify-ca"), ROOT_PASSWORD)?, "42");
    Ok(())
}
