//! psql's transcripts: `psql/*.sql` run by the real psql, compared with what stands in the `.out` beside each.
//!
//! PostgreSQL must say the same, where it is installed, of all but those whose name begins with `ours`; and it makes the
//! expected transcripts of those (`HW_MAKE_EXPECTED=1`).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Postgres, Server, TestResult, has, home, skip};

/// Other versions ask and print otherwise.
const PSQL_VERSION: &str = "(PostgreSQL) 15.";

#[test]
fn psql_transcripts() -> TestResult {
    if !has("psql") {
        return skip("psql_transcripts", "psql is not installed");
    }
    let version = Command::new("psql").arg("--version").output()?;
    if !String::from_utf8_lossy(&version.stdout).contains(PSQL_VERSION) {
        return skip("psql_transcripts", "psql is not that of PostgreSQL 15");
    }
    let mut failures = vec![];
    for script in scripts()? {
        let server = Server::start(1)?;
        let said = transcript(&script, &server.url())?;
        let expected = script.with_extension("out");
        if makes_expected() {
            // PostgreSQL makes the others.
            if is_ours(&script) {
                std::fs::write(&expected, &said)?;
            }
            continue;
        }
        compare(&script, "Highwater", &std::fs::read_to_string(&expected)?, &said, &mut failures);
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

#[test]
fn psql_transcripts_of_postgres() -> TestResult {
    let Some(postgres) = Postgres::start()? else {
        return skip("psql_transcripts_of_postgres", "initdb and pg_ctl are not installed");
    };
    let mut failures = vec![];
    for (number, script) in scripts()?.into_iter().filter(|script| !is_ours(script)).enumerate() {
        let database = format!("transcript_{number}");
        let create = format!("CREATE DATABASE {database}");
        super::run(Command::new("psql").args(["-X", "-q", "-d", &postgres.url("postgres"), "-c", &create]))?;
        let said = transcript(&script, &postgres.url(&database))?;
        let expected = script.with_extension("out");
        if makes_expected() {
            std::fs::write(&expected, &said)?;
            continue;
        }
        compare(&script, "PostgreSQL", &std::fs::read_to_string(&expected)?, &said, &mut failures);
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

/// Whether the expected files are to be made anew.
pub fn makes_expected() -> bool {
    std::env::var_os("HW_MAKE_EXPECTED").is_some()
}

fn is_ours(script: &Path) -> bool {
    script.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ours"))
}

fn scripts() -> TestResult<Vec<PathBuf>> {
    let files = std::fs::read_dir(home().join("clients/psql"))?;
    let mut scripts: Vec<PathBuf> = files.map(|file| file.map(|file| file.path())).collect::<Result<_, _>>()?;
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    scripts.sort();
    Ok(scripts)
}

/// Commands and answers in the order in which a person would see them; times left out.
fn transcript(script: &Path, url: &str) -> TestResult<String> {
    let dir = script.parent().ok_or("a script is in a directory")?;
    let name = script.file_name().ok_or("a script has a name")?;
    let both = "exec psql -X -a -d \"$1\" -f \"$2\" 2>&1";
    let mut command = Command::new("sh");
    command.args(["-c", both, "sh", url]).arg(name).current_dir(dir);
    command.env("PGTZ", "UTC").env("PSQL_PAGER", "").env("LC_ALL", "C.UTF-8").stdin(std::process::Stdio::null());
    let said = String::from_utf8(command.output()?.stdout)?;
    Ok(said.lines().map(|line| timeless(line) + "\n").collect())
}

/// `Time: 1.234 ms` and the date above each answer of `\watch` without the time.
fn timeless(line: &str) -> String {
    match line.split_once(" (every ") {
        Some((_, interval)) => format!("… (every {interval}"),
        None if line.starts_with("Time: ") => "Time: …".to_string(),
        None => line.to_string(),
    }
}

fn compare(script: &Path, server: &str, expected: &str, said: &str, failures: &mut Vec<String>) {
    if let Some(difference) = first_difference(expected, said) {
        failures.push(format!("{} on {server}: {difference}", script.display()));
    }
}

/// The first line that differs, with a few before it.
pub fn first_difference(expected: &str, found: &str) -> Option<String> {
    let (expected, found): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let at = (0..expected.len().max(found.len())).find(|&line| expected.get(line) != found.get(line))?;
    let before = expected[at.saturating_sub(6).min(expected.len())..at.min(expected.len())].join("\n  ");
    let shown = |lines: &[&str]| lines.iter().skip(at).take(4).copied().collect::<Vec<_>>().join("\n  ");
    Some(format!("line {}\n  {before}\nexpected\n  {}\nfound\n  {}", at + 1, shown(&expected), shown(&found)))
}
