//! The real program as a child process, on a free port and a directory of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

use super::TestResult;

/// How long a server may take to say that it listens. Far above the promise, because test machines are slow.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How many lines of the log a failed test shows.
const LOG_LINES_SHOWN: usize = 60;

/// A connection whose driver runs in the background.
/// The configuration, in the server's directory.
const CONFIG: &str = "highwater.toml";

pub type Client = tokio_postgres::Client;

/// A running server. Dropping it kills the process and removes its directory; if the test is failing, the end of the
/// log is printed first.
pub struct Server {
    child: Child,
    port: u16,
    workers: usize,
    /// Further flags of the program.
    flags: Vec<String>,
    /// Holds `data/` and `log`.
    dir: tempfile::TempDir,
}

impl Server {
    pub fn start(workers: usize) -> TestResult<Server> {
        Server::start_with(workers, &[])
    }

    /// With further flags, for this start and those after it.
    pub fn start_with(workers: usize, flags: &[&str]) -> TestResult<Server> {
        Server::start_in(tempfile::tempdir()?, workers, flags)
    }

    /// With a configuration file of this content.
    pub fn start_configured(workers: usize, config: &str) -> TestResult<Server> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join(CONFIG), config)?;
        Server::start_in(dir, workers, &[])
    }

    fn start_in(dir: tempfile::TempDir, workers: usize, flags: &[&str]) -> TestResult<Server> {
        let flags = flags.iter().map(|flag| flag.to_string()).collect::<Vec<_>>();
        let (child, port) = launch(dir.path(), workers, 0, &flags)?;
        Ok(Server { child, port, workers, flags, dir })
    }

    /// On a data directory that is there already, and stays.
    pub fn start_on(data: &Path, workers: usize) -> TestResult<Server> {
        let (dir, flags) = (tempfile::tempdir()?, vec![]);
        std::os::unix::fs::symlink(data, dir.path().join("data"))?;
        let (child, port) = launch(dir.path(), workers, 0, &flags)?;
        Ok(Server { child, port, workers, flags, dir })
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `postgresql://…` for clients outside.
    pub fn url(&self) -> String {
        format!("postgresql://root@127.0.0.1:{}/dev", self.port)
    }

    /// A directory that lives as long as the server, for input files.
    pub fn scratch(&self) -> TestResult<PathBuf> {
        let scratch = self.dir.path().join("scratch");
        std::fs::create_dir_all(&scratch)?;
        Ok(scratch)
    }

    /// SIGKILL: no goodbye, nothing flushed.
    pub fn kill(&mut self) -> TestResult {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and how the process ended; an error if it has not after 20 seconds.
    pub fn terminate(&mut self) -> TestResult<ExitStatus> {
        let status = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        if !status.success() {
            return Err("kill -TERM failed".into());
        }
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > Duration::from_secs(20) {
                return Err("the server did not end within 20 s of SIGTERM".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts again on the same directory and port after [`Server::kill`] or [`Server::terminate`], with another number of
    /// workers if given. Returns how long it took until the server listened.
    pub fn start_again(&mut self, workers: Option<usize>) -> TestResult<Duration> {
        let start = Instant::now();
        self.workers = workers.unwrap_or(self.workers);
        let (child, port) = launch(self.dir.path(), self.workers, self.port, &self.flags)?;
        (self.child, self.port) = (child, port);
        Ok(start.elapsed())
    }

    /// Whether the process still runs.
    pub fn is_alive(&mut self) -> TestResult<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    pub async fn connect(&self) -> TestResult<Client> {
        Ok(connect(&self.url()).await?)
    }

    /// Everything the server has logged so far.
    pub fn log(&self) -> TestResult<String> {
        Ok(std::fs::read_to_string(self.dir.path().join("log"))?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The child may have ended already; then there is nothing to kill or to wait for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Ok(log) = self.log()
        {
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- the server's log, last {} lines ---\n{}", shown.len(), shown.join("\n"));
        }
    }
}

/// Opens a connection and drives it in the background until either side closes it.
pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        // An error here is the server going away; whoever uses the client sees it.
        let _ = connection.await;
    });
    Ok(client)
}

/// Starts the program and waits for `listening on HOST:PORT` on its standard output.
fn launch(dir: &Path, workers: usize, port: u16, flags: &[String]) -> TestResult<(Child, u16)> {
    let log = File::options().create(true).append(true).open(dir.join("log"))?;
    // Another build of the program: a release, an older one.
    let program = std::env::var_os("HW_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_highwater").into());
    let config = dir.join(CONFIG);
    let configured: Vec<PathBuf> = if config.exists() { vec!["--config".into(), config] } else { vec![] };
    let mut child = Command::new(program)
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--workers", &workers.to_string()])
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(flags)
        .args(configured)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    let stdout = child.stdout.take().ok_or("the child's output was asked for")?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Read to the end, so that the server never blocks on a full pipe.
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                if let Some(address) = line.trim().strip_prefix("listening on ") {
                    let port = address.rsplit(':').next().ok_or("no port in the address")?.parse()?;
                    return Ok((child, port));
                }
            }
            Err(_) => {
                // Either it ended or it hangs; in both cases it must not stay behind.
                let _ = child.kill();
                let status = child.wait()?;
                let log = std::fs::read_to_string(dir.join("log"))?;
                return Err(format!("the server did not start ({status}):\n{log}").into());
            }
        }
    }
}
