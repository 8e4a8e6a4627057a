//! Settings of a server, from flags and a TOML file; flags win.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
}

impl ConfigFile {
    pub fn read(path: &Path) -> Result<ConfigFile> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::new(SqlState::CONFIG_FILE_ERROR, format!("could not read {}: {e}", path.display())))?;
        toml::from_str(&text).map_err(|e| {
            Error::new(SqlState::CONFIG_FILE_ERROR, format!("{}: {}", path.display(), e.message())).with_hint(
                "known keys: listen, data_dir, workers, max_connections, query_memory_bytes, subscriber_memory_bytes, \
                 checkpoint_interval_ms",
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
        if !listen.ip().is_loopback() {
            return Err(Error::new(SqlState::CONFIG_FILE_ERROR, format!("refusing to listen on {listen}")).with_hint(
                "there is no authentication yet, so only loopback addresses are served; forward a port to reach it",
            ));
        }
        let worker_count = overrides.workers.or(file.workers).unwrap_or_else(cores);
        if !(1..=WORKER_COUNT_MAX).contains(&worker_count) {
            return Err(Error::new(
                SqlState::CONFIG_FILE_ERROR,
                format!("workers must be between 1 and {WORKER_COUNT_MAX}, not {worker_count}"),
            ));
        }
        Ok(Config {
            listen,
            data_dir: overrides.data_dir.or(file.data_dir).unwrap_or_else(|| "highwater-data".into()),
            worker_count,
            connection_count_max: overrides.max_connections.or(file.max_connections).unwrap_or(1000),
            query_memory_bytes_max: overrides.query_memory_bytes.or(file.query_memory_bytes).unwrap_or(2 << 30),
            checkpoint_interval: match overrides.checkpoint_interval_ms.or(file.checkpoint_interval_ms) {
                Some(0) => None,
                Some(interval_ms) => Some(Duration::from_millis(interval_ms)),
                None => Some(CHECKPOINT_INTERVAL),
            },
            subscriber_memory_bytes_max: overrides
                .subscriber_memory_bytes
                .or(file.subscriber_memory_bytes)
                .unwrap_or(64 << 20),
        })
    }
}

const WORKER_COUNT_MAX: usize = 256;
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}
