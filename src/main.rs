//! `highwater`: flags, logging, and a call into the server.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use highwater::config::{Config, ConfigFile, Method};
use highwater::error::{Error, Result, SqlState};
use highwater::maintenance::Finding;
use tracing_subscriber::EnvFilter;

/// One allocator for us and for what we link.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A SQL streaming database: sources in, maintained views out, Postgres on the wire.
#[derive(Parser)]
#[command(name = "highwater", version, about)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a server until it is interrupted
    Serve(Flags),
    /// Write all that a running server holds to a directory
    Backup {
        /// Directory on the server's machine, empty or not there yet
        directory: PathBuf,
        /// Address of the server
        #[arg(long, value_name = "HOST:PORT", default_value = highwater::config::LISTEN_DEFAULT)]
        server: String,
    },
    /// Make a data directory from a backup
    Restore {
        /// Directory of the backup
        backup: PathBuf,
        /// Directory to make, empty or not there yet
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
    /// Read all of a data directory whose server is stopped, and say what is wrong with it
    Check {
        /// Data directory or backup
        directory: PathBuf,
    },
    /// Replay a month of flights into live views, and show them moving
    Demo(highwater::demo::Options),
}

#[derive(Args)]
struct Flags {
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:4566]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Directory of all durable data, made if it does not exist [default: highwater-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Threads that maintain views [default: one for each core]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Connections at a time [default: 1000]
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// Milliseconds between two checkpoints of views; 0: none, a start computes them again [default: 1000]
    #[arg(long, value_name = "MS")]
    checkpoint_interval_ms: Option<u64>,
    /// Memory that operators, relations and queries may use, for instance 1GiB: beyond it state of operators that is on
    /// disk is let go [default: none]
    #[arg(long, value_name = "BYTES")]
    memory_limit: Option<String>,
    /// How clients prove who they are; for finer rules take [[auth]] in the file [default: trust on a loopback address,
    /// none elsewhere: the server does not start]
    #[arg(long, value_name = "trust|scram", value_parser = method)]
    auth: Option<Method>,
    /// File whose first line becomes the password of the role root, if it has none yet; or the variable HIGHWATER_PASSWORD
    #[arg(long, value_name = "FILE")]
    superuser_password_file: Option<PathBuf>,
    /// The server's certificate and those that lead to its authority, PEM; SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Refuse connections that are not encrypted
    #[arg(long)]
    tls_required: bool,
    /// TOML file with the same settings (listen, data_dir, …), query_memory_bytes, subscriber_memory_bytes, authentication_timeout_ms
    /// and rules [[auth]]; flags win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Flags {
    fn file(&self) -> Result<ConfigFile> {
        self.config.as_deref().map_or_else(|| Ok(ConfigFile::default()), ConfigFile::read)
    }

    fn overrides(self) -> ConfigFile {
        ConfigFile {
            listen: self.listen,
            data_dir: self.data_dir,
            workers: self.workers,
            max_connections: self.max_connections,
            checkpoint_interval_ms: self.checkpoint_interval_ms,
            memory_limit: self.memory_limit,
            auth_method: self.auth,
            superuser_password_file: self.superuser_password_file,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            tls_required: self.tls_required.then_some(true),
            ..ConfigFile::default()
        }
    }
}

fn method(text: &str) -> std::result::Result<Method, String> {
    match text {
        "trust" => Ok(Method::Trust),
        "scram" => Ok(Method::Scram),
        _ => Err("known methods: trust, scram".to_string()),
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Serve(flags) => {
            let file = flags.file()?;
            highwater::server::serve(Config::resolve(flags.overrides(), file)?)
        }
        Command::Backup { directory, server } => highwater::maintenance::backup(&server, &directory),
        Command::Restore { backup, data_dir } => {
            let count = highwater::maintenance::restore(&backup, &data_dir)?;
            println!("{count} files, each as it was when the backup was made");
            Ok(())
        }
        Command::Check { directory } => check(&directory),
        Command::Demo(options) => highwater::demo::run(options),
    }
}

fn check(directory: &Path) -> Result<()> {
    let findings = highwater::maintenance::check(directory)?;
    let mut damage_count = 0;
    for finding in findings {
        match finding {
            Finding::Count(text) => println!("{text}"),
            Finding::Leftover(text) => println!("left over: {text}"),
            Finding::Damage(text) => {
                damage_count += 1;
                println!("DAMAGED: {text}");
            }
        }
    }
    match damage_count {
        0 => Ok(()),
        count => Err(Error::new(SqlState::DATA_CORRUPTED, format!("{count} places are damaged"))
            .with_hint("start from a backup; what can be read of tables can be copied out with COPY")),
    }
}

fn main() -> ! {
    let program = Program::parse();
    let filter = EnvFilter::try_from_env("HIGHWATER_LOG").unwrap_or_else(|_| EnvFilter::new("warn,highwater=info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(program.command) {
        Ok(()) => highwater::exit::at_once(0),
        Err(error) => {
            eprintln!("highwater: {error}");
            if let Some(hint) = &error.hint {
                eprintln!("hint: {hint}");
            }
            highwater::exit::at_once(1)
        }
    }
}
