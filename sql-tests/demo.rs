//! `highwater demo` as it is shipped: the whole month at once, and the views against sums that the data itself gives.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::TestResult;

const LIMIT: Duration = Duration::from_secs(120);

/// Runs it and returns its output.
fn demo(flags: &[&str]) -> TestResult<String> {
    let dir = tempfile::tempdir()?;
    let mut child = Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(["demo", "--listen", "127.0.0.1:0", "--workers", "2", "--dir"])
        .arg(dir.path())
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let start = Instant::now();
    let (mut out, mut err) = (child.stdout.take().ok_or("asked for")?, child.stderr.take().ok_or("asked for")?);
    let out = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).map(|_| text)
    });
    let err = std::thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).map(|_| text)
    });
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > LIMIT {
            child.kill()?;
            break child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let out = out.join().map_err(|_| "the reader panicked")??;
    let err = err.join().map_err(|_| "the reader panicked")??;
    if !status.success() {
        return Err(format!("highwater demo {flags:?}: {status} after {:?}\n{out}\n{err}", start.elapsed()).into());
    }
    Ok(out)
}

#[test]
fn the_whole_month_at_once() -> TestResult {
    let page = demo(&["--once"])?;
    println!("{page}");
    for expected in [
        "27004 of 27004 flights",
        "psql -h 127.0.0.1 -p ",
        // 521 flights were cancelled: counted from the file itself.
        "EWR         238\n",
        "JFK         100\n",
        "LGA         183\n",
        "United Air Lines Inc.",
        "planes_as_they_are: 3299",
    ] {
        assert!(page.contains(expected), "the page does not say: {expected}");
    }
    Ok(())
}

#[test]
fn a_line_a_second_without_a_terminal() -> TestResult {
    let lines = demo(&["--speed", "86400", "--exit-after", "4"])?;
    let progress = lines.lines().filter(|line| line.contains("of 27004 flights")).count();
    assert!(progress >= 2, "too few lines of progress:\n{lines}");
    assert!(!lines.contains('\x1b'), "escape sequences where there is no terminal");
    Ok(())
}
