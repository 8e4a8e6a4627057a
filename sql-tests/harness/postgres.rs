//! PostgreSQL itself, where it is installed: the reference that the scripts' expected results are checked against.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::TestResult;

/// A PostgreSQL server in a directory of its own, reachable over loopback. Stopped on drop.
pub struct Postgres {
    bin: PathBuf,
    port: u16,
    dir: tempfile::TempDir,
    /// PostgreSQL refuses to run as root; then it runs as the user `postgres`.
    runs_as_postgres: bool,
}

impl Postgres {
    /// `None` if it is not installed.
    pub fn start() -> TestResult<Option<Postgres>> {
        let Some(bin) = bin() else { return Ok(None) };
        let id = Command::new("id").arg("-u").output()?;
        let runs_as_postgres = String::from_utf8_lossy(&id.stdout).trim() == "0";
        let dir = tempfile::tempdir()?;
        if runs_as_postgres {
            run(Command::new("chown").arg("postgres").arg(dir.path()))?;
        }
        // Free now; PostgreSQL has no way to pick one itself.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let postgres = Postgres { bin, port, dir, runs_as_postgres };
        let data = postgres.dir.path().join("data");
        run(postgres
            .command("initdb")
            .args(["-A", "trust", "-U", "root", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(&data))?;
        let options = format!("-p {port} -k '' -h 127.0.0.1 -c fsync=off -c timezone=UTC");
        run(postgres
            .command("pg_ctl")
            .args(["-w", "-o", &options, "-l"])
            .arg(postgres.dir.path().join("log"))
            .args(["-D".as_ref(), data.as_os_str(), "start".as_ref()]))?;
        Ok(Some(postgres))
    }

    /// The address of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://root@127.0.0.1:{}/{database}", self.port)
    }

    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        if !self.runs_as_postgres {
            return Command::new(program);
        }
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Best effort: a test that fails before the start has nothing to stop.
        let data = self.dir.path().join("data");
        let _ = run(self.command("pg_ctl").args(["-m", "immediate", "-D"]).arg(data).arg("stop"));
    }
}

/// Where initdb and pg_ctl are: on the path, or where Debian puts them.
fn bin() -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|e| e.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(debian).find(|dir| dir.join("initdb").is_file() && dir.join("pg_ctl").is_file())
}

fn run(command: &mut Command) -> TestResult {
    let output = command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if output.success() { Ok(()) } else { Err(format!("{command:?}: {output}").into()) }
}
