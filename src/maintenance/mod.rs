//! What is done to a data directory from outside of a server: [`check()`] reads all of it, [`restore`] makes one from a
//! backup, [`backup`] asks a running server for one.

mod check;
mod files;

use std::path::Path;

use tokio_postgres::NoTls;

use crate::catalog::{DATABASE, USER};
use crate::error::{Error, Result, SqlState};

pub use check::{Finding, check};
pub use files::restore;

/// With the password in the variable PGPASSWORD, if the server wants one: has the server at `address` (`HOST:PORT`) write a backup into `directory`, which must be empty or not there.
pub fn backup(address: &str, directory: &Path) -> Result<()> {
    let unreachable = |e: String| Error::new(SqlState::CONNECTION_FAILURE, format!("could not back up: {e}"));
    // The server may stand elsewhere in the file system.
    let directory = std::path::absolute(directory).map_err(|e| unreachable(e.to_string()))?;
    let Some((host, port)) = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) else {
        return Err(Error::new(SqlState::CONFIG_FILE_ERROR, format!("invalid address \"{address}\""))
            .with_hint("write it as HOST:PORT, for instance 127.0.0.1:4566"));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| unreachable(e.to_string()))?.block_on(async {
        let mut config = tokio_postgres::Config::new();
        config.host(host).port(port).user(USER).dbname(DATABASE).application_name("highwater backup");
        if let Some(password) = std::env::var_os("PGPASSWORD") {
            config.password(password.as_encoded_bytes());
        }
        let (client, connection) = config.connect(NoTls).await.map_err(|e| unreachable(e.to_string()))?;
        tokio::spawn(connection);
        let path = directory.display().to_string().replace('\'', "''");
        client.batch_execute(&format!("BACKUP TO '{path}'")).await.map_err(|e| match e.as_db_error() {
            Some(refused) => {
                let error = Error::new(SqlState::IO_ERROR, refused.message());
                refused.hint().map_or(error.clone(), |hint| error.with_hint(hint))
            }
            None => unreachable(e.to_string()),
        })
    })
}
