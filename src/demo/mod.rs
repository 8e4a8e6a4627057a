//! `highwater demo`: a month of real flights, replayed into maintained views while you watch.
//!
//! ```text
//! dataset: the files, out of the program ──▶ a directory
//! server:  the same that `highwater serve` starts
//! views:   CREATE SOURCE …, CREATE MATERIALIZED VIEW … by an ordinary Postgres client
//! watch:   asks what the views say, twice a second ──▶ screen
//! ```
//!
//! The flights arrive in the order in which planes really left, with the scheduled departure as event time; so a delayed
//! flight is truly out of order.

mod dataset;
mod screen;
mod views;
mod watch;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Config, ConfigFile};
use crate::error::{Error, Result, SqlState};
use crate::server::Server;
use screen::Screen;
use watch::Watch;

/// Seconds of 2013 in each second, unless told otherwise: the month takes six minutes.
const SPEED_DEFAULT: f64 = 7200.0;

/// Flags of `highwater demo`.
#[derive(clap::Args, Debug, Clone)]
pub struct Options {
    /// Directory for the data; by default a temporary one that is removed at the end
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Seconds of 2013 that pass in each second; 0: as fast as the rows are taken
    #[arg(long, default_value_t = SPEED_DEFAULT)]
    pub speed: f64,
    /// Address to listen on [default: 127.0.0.1:4566]
    #[arg(long)]
    pub listen: Option<String>,
    /// Threads that run dataflows [default: one for each core]
    #[arg(long)]
    pub workers: Option<usize>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub exit_after: Option<f64>,
    /// Replay as fast as possible, show the views once when all flights are in, and end
    #[arg(long)]
    pub once: bool,
}

/// Runs the demo until Ctrl-C, `--exit-after` or `--once` ends it. 22023 for a flag that makes no sense, 58030 if the
/// directory cannot be written, and whatever starting a server can say.
pub fn run(options: Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::internal(format!("could not start threads: {e}")))?;
    runtime.block_on(demonstrate(options))
}

async fn demonstrate(options: Options) -> Result<()> {
    let speed = if options.once { 0.0 } else { options.speed };
    if !(speed.is_finite() && speed >= 0.0) {
        return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("invalid speed {speed}"))
            .with_hint("write it as seconds of 2013 in each second: 3600 replays an hour a second"));
    }
    let exit_after = match options.exit_after.map(Duration::try_from_secs_f64) {
        None => None,
        Some(Ok(limit)) => Some(limit),
        Some(Err(_)) => {
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, "--exit-after takes seconds, not negative"));
        }
    };
    let directory = dataset::Directory::open(options.dir.as_deref())?;
    directory.write_files()?;

    let flags = ConfigFile {
        listen: options.listen.clone(),
        data_dir: Some(directory.path().join("data")),
        workers: options.workers,
        ..ConfigFile::default()
    };
    let server = Server::start(Config::resolve(flags, ConfigFile::default())?).await?;
    let result = show(server.address(), &directory, speed, exit_after, options.once).await;
    // What the demo itself ran into matters more than how the server ended.
    result.and(server.stop().await)
}

/// Creates everything, then shows it moving until something says stop.
async fn show(
    address: SocketAddr,
    directory: &dataset::Directory,
    speed: f64,
    exit_after: Option<Duration>,
    once: bool,
) -> Result<()> {
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let client = watch::connect(address).await?;
    println!("listening on {address}");
    println!("creating sources and views over {}", directory.path().display());
    tokio::select! {
        created = views::create(&client, directory.path(), speed) => created?,
        _ = &mut interrupted => return Ok(()),
    }

    let mut watch = Watch::start(client, watch::connect(address).await?).await?;
    if once {
        loop {
            let view = watch.look().await?;
            if view.is_finished() {
                print!("{}", screen::whole(&view, address));
                return Ok(());
            }
            tokio::select! {
                _ = tokio::time::sleep(Duration::from_millis(100)) => {}
                _ = &mut interrupted => return Ok(()),
            }
        }
    }
    let mut screen = Screen::new(std::io::stdout().is_terminal(), address);
    let deadline = exit_after.map(|limit| tokio::time::Instant::now() + limit);
    loop {
        screen.draw(&watch.look().await?)?;
        let pause = tokio::time::sleep(screen.pause());
        tokio::select! {
            _ = pause => {}
            _ = &mut interrupted => break,
        }
        if deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline) {
            break;
        }
    }
    screen.close()
}
