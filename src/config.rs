//! Settings of a server, from flags and a TOML file; flags win.

mod access;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use access::{Access, Method, RuleText, TlsFiles};

use crate::error::{Error, Result, SqlState};

/// The port RisingWave's users know.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:4566";

#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    /// Threads that run dataflows.
    pub worker_count: usize,
    /// Connections beyond this are refused with 53300.
    pub connection_count_max: usize,
    /// Memory that ad-hoc queries may use together, in bytes.
    pub query_memory_bytes_max: usize,
    /// How often the state of views is saved; `None`: never, a start computes them again.
    pub checkpoint_interval: Option<Duration>,
    /// Changes that are kept for one subscriber that does not take them, in bytes. One that is further behind is ended
    /// with 53400.
    pub subscriber_memory_bytes_max: usize,
    /// Beyond it operators let go of state that is on disk, too; `None`: all of it is kept.
    pub memory_limit_bytes: Option<u64>,
    pub access: Access,
    pub tls: Option<TlsFiles>,
    /// For the role that is there from the start, if it has none yet.
    pub superuser_password: Option<Password>,
    /// From a client's first byte to its session.
    pub authentication_timeout: Duration,
}

/// Read from a file or the environment; never printed.
#[derive(Clone)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

impl Password {
    /// The first line of a file. F0000 if it cannot be read or is empty.
    pub fn read(path: &Path) -> Result<Password> {
        let failed = |why: String| Error::new(SqlState::CONFIG_FILE_ERROR, format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| failed(format!("could not read the password: {e}")))?;
        match text.lines().next().filter(|line| !line.is_empty()) {
            Some(line) => Ok(Password(line.to_string())),
            None => Err(failed("the first line is to be the password, and is empty".into())),
        }
    }
}

/// The file's shape: every key optional, unknown keys refused.
#[derive(serde::Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    pub listen: Option<String>,
    pub data_dir: Option<PathBuf>,
    pub workers: Option<usize>,
    pub max_connections: Option<usize>,
    pub query_memory_bytes: Option<usize>,
    /// 0: never.
    pub checkpoint_interval_ms: Option<u64>,
    pub subscriber_memory_bytes: Option<usize>,
    /// A number of bytes with a unit, for instance `1GiB`.
    pub memory_limit: Option<String>,
    /// For everybody; beside it rules make no difference.
    #[serde(skip)]
    pub auth_method: Option<Method>,
    #[serde(default)]
    pub auth: Vec<RuleText>,
    /// PEM files: the server's certificate with those that lead to its authority, and its key.
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub tls_required: Option<bool>,
    /// Its first line is the password.
    pub superuser_password_file: Option<PathBuf>,
    pub authentication_timeout_ms: Option<u64>,
}

impl ConfigFile {
    pub fn read(path: &Path) -> Result<ConfigFile> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::new(SqlState::CONFIG_FILE_ERROR, format!("could not read {}: {e}", path.display())))?;
        toml::from_str(&text).map_err(|e| {
            Error::new(SqlState::CONFIG_FILE_ERROR, format!("{}: {}", path.display(), e.message())).with_hint(
                "known keys: listen, data_dir, workers, max_connections, query_memory_bytes, subscriber_memory_bytes, \
                 checkpoint_interval_ms, memory_limit, tls_cert, tls_key, tls_required, superuser_password_file, \
                 authentication_timeout_ms, and [[auth]] with address, role, database, tls, method",
            )
        })
    }
}

impl Config {
    /// `overrides` are the flags that were given; the rest comes from `file`, then from defaults.
    pub fn resolve(overrides: ConfigFile, file: ConfigFile) -> Result<Config> {
        let listen = overrides.listen.or(file.listen).unwrap_or_else(|| LISTEN_DEFAULT.to_string());
        let listen: SocketAddr = listen.parse().map_err(|_| {
            Error::new(SqlState::CONFIG_FILE_ERROR, format!("invalid listen address \"{listen}\""))
                .with_hint("write it as HOST:PORT with a numeric host, for instance 127.0.0.1:4566")
        })?;
        let access = Access::resolve(overrides.auth_method, file.auth, listen)?;
        let tls = TlsFiles::resolve(
            overrides.tls_cert.or(file.tls_cert),
            overrides.tls_key.or(file.tls_key),
            overrides.tls_required.or(file.tls_required).unwrap_or(false),
        )?;
        let password_file = overrides.superuser_password_file.or(file.superuser_password_file);
        let superuser_password = match password_file {
            Some(path) => Some(Password::read(&path)?),
            None => std::env::var(PASSWORD_VARIABLE).ok().filter(|text| !text.is_empty()).map(Password),
        };
        let worker_count = overrides.workers.or(file.workers).unwrap_or_else(cores);
        if !(1..=WORKER_COUNT_MAX).contains(&worker_count) {
            return Err(Error::new(
                SqlState::CONFIG_FILE_ERROR,
                format!("workers must be between 1 and {WORKER_COUNT_MAX}, not {worker_count}"),
            ));
        }
        let memory_limit = overrides.memory_limit.or(file.memory_limit);
        let memory_limit_bytes = memory_limit.as_deref().map(memory_limit_bytes).transpose()?;
        let query_memory_bytes = overrides.query_memory_bytes.or(file.query_memory_bytes).unwrap_or(2 << 30);
        let query_share =
            memory_limit_bytes.map_or(usize::MAX, |limit| (limit / QUERY_SHARE) as usize).max(QUERY_MEMORY_BYTES_MIN);
        Ok(Config {
            listen,
            data_dir: overrides.data_dir.or(file.data_dir).unwrap_or_else(|| "highwater-data".into()),
            worker_count,
            connection_count_max: overrides.max_connections.or(file.max_connections).unwrap_or(1000),
            query_memory_bytes_max: query_memory_bytes.min(query_share),
            checkpoint_interval: match overrides.checkpoint_interval_ms.or(file.checkpoint_interval_ms) {
                Some(0) => None,
                Some(interval_ms) => Some(Duration::from_millis(interval_ms)),
                None => Some(CHECKPOINT_INTERVAL),
            },
            subscriber_memory_bytes_max: overrides
                .subscriber_memory_bytes
                .or(file.subscriber_memory_bytes)
                .unwrap_or(64 << 20),
            memory_limit_bytes,
            access,
            tls,
            superuser_password,
            authentication_timeout: overrides
                .authentication_timeout_ms
                .or(file.authentication_timeout_ms)
                .map_or(AUTHENTICATION_TIMEOUT, Duration::from_millis),
        })
    }
}

/// Queries may have one of so many parts of the memory.
const QUERY_SHARE: u64 = 4;
/// However little there is: a sort reserves ten megabytes for each of its threads before its first row.
const QUERY_MEMORY_BYTES_MIN: usize = 128 << 20;
const MEMORY_LIMIT_BYTES_MIN: u64 = 1 << 20;

/// Such as `512MB` or `1.5 GiB`. 22023 if it is no such text, or so little that nothing could run.
fn memory_limit_bytes(text: &str) -> Result<u64> {
    let invalid = |why: &str| {
        Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("invalid memory limit \"{text}\"{why}"))
            .with_hint("write a number with a unit, kB, MB, GB, TB, KiB, MiB, GiB or TiB, for instance 1GiB")
    };
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit_bytes: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "b" => 1,
        "kb" => 1000,
        "mb" => 1000 * 1000,
        "gb" => 1000 * 1000 * 1000,
        "tb" => 1000 * 1000 * 1000 * 1000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(invalid("")),
    };
    let number: f64 = number.parse().map_err(|_| invalid(""))?;
    let bytes = (number * unit_bytes as f64) as u64;
    if bytes < MEMORY_LIMIT_BYTES_MIN {
        return Err(invalid(": less than 1MiB"));
    }
    Ok(bytes)
}

const WORKER_COUNT_MAX: usize = 256;
/// Instead of a file.
const PASSWORD_VARIABLE: &str = "HIGHWATER_PASSWORD";
/// As Postgres' `authentication_timeout`.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(60);
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_limit_is_a_number_with_a_unit() {
        let bytes = |text: &str| memory_limit_bytes(text).map_err(|error| error.code);
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        assert_eq!(bytes("1.5 gib"), Ok(3 << 29));
        assert_eq!(bytes("64MB"), Ok(64_000_000));
        for nonsense in ["", "1", "GiB", "-1GiB", "1.2.3GiB", "1 potato", "1023KiB", "1e3GiB", "\u{b2}GiB"] {
            assert_eq!(bytes(nonsense), Err(SqlState::INVALID_PARAMETER_VALUE), "{nonsense}");
        }
        let file = ConfigFile { memory_limit: Some("1GiB".into()), ..ConfigFile::default() };
        let config = Config::resolve(ConfigFile::default(), file).expect("it is one");
        assert_eq!((config.memory_limit_bytes, config.query_memory_bytes_max), (Some(1 << 30), 256 << 20));
    }
}
