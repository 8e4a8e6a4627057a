//! dbt as its users run it: the project in dbt-highwater/examples/flights, with dbt-postgres and with dbt-highwater.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::{run, says};
use crate::harness::{Server, TestResult, cache_dir, has, home, skip};

const DBT_VERSION: &str = "1.11.16";

/// `None`: it could not be installed, and the test has said so. dbt comes from its registry once; the adapter is
/// installed again each time, without the network.
fn python(test: &str) -> TestResult<Option<PathBuf>> {
    let venv = cache_dir()?.join(format!("dbt-{DBT_VERSION}"));
    let python = venv.join("bin/python");
    let imports = "import dbt.cli.main, dbt.adapters.postgres, hatchling, psycopg2, sqlalchemy";
    if !python.is_file() || run(Command::new(&python).args(["-c", imports])).is_err() {
        if !has("python3") {
            return skip(test, "python3 is not installed").map(|()| None);
        }
        let install = || -> TestResult {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
            let dbt = format!("dbt-core=={DBT_VERSION}");
            let packages = [&dbt, "dbt-postgres>=1.10,<1.12", "hatchling", "psycopg2-binary", "sqlalchemy>=2,<3"];
            run(Command::new(&python).args(["-m", "pip", "install", "-q"]).args(packages))?;
            Ok(())
        };
        if let Err(error) = install() {
            return skip(test, &format!("dbt could not be installed: {error}")).map(|()| None);
        }
    }
    Ok(Some(python))
}

fn adapter() -> PathBuf {
    home().join("../dbt-highwater")
}

/// Both adapters on one server, one after the other.
#[test]
fn dbt() -> TestResult {
    let Some(python) = python("dbt")? else { return Ok(()) };
    let pip = ["-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--force-reinstall"];
    run(Command::new(&python).args(pip).arg(adapter()))?;
    let server = Server::start(2)?;
    let scratch = server.scratch()?;
    for target in ["postgres", "highwater"] {
        let out = run(Command::new(&python)
            .arg(home().join("clients/flights_dbt.py"))
            .args([target, &server.port().to_string()])
            .args([&adapter().join("examples/flights"), &home().join("data"), &scratch as &PathBuf])
            .current_dir::<&Path>(&scratch))?;
        says(&out, &["ok, "])?;
        println!("{target}: {}", out.lines().last().unwrap_or_default());
    }
    Ok(())
}

/// Superset's way to tables and charts; its libraries come with dbt's environment.
#[test]
fn superset() -> TestResult {
    let Some(python) = python("superset")? else { return Ok(()) };
    let server = Server::start(1)?;
    says(&run(Command::new(python).arg(home().join("clients/superset_session.py")).arg(server.url()))?, &["ok"])
}
