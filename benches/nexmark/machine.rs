//! What a figure must name: the machine, the build; and what the kernel knows of a process.

use std::process::Command;
use std::time::Duration;

use super::TestResult;

/// The machine and the build in one paragraph.
pub fn describe() -> TestResult<String> {
    let cpu_info = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let cores = std::thread::available_parallelism()?;
    let memory = field("/proc/meminfo", "MemTotal:")? >> 30;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let rustc = output("rustc", &["--version"]);
    let commit = output("git", &["describe", "--always", "--dirty"]);
    let binary = std::fs::metadata(env!("CARGO_BIN_EXE_highwater"))?.len() >> 20;
    Ok(format!(
        "{cores} cores of {}, {memory} GB, Linux {}; commit {commit}, {rustc}, program {binary} MB (not stripped)",
        model.trim_start_matches([' ', '\t', ':']),
        kernel.trim()
    ))
}

fn output(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_string(),
        Err(_) => "unknown".to_string(),
    }
}

/// The most memory that the process has had resident so far.
pub fn peak_bytes(pid: u32) -> TestResult<u64> {
    field(&format!("/proc/{pid}/status"), "VmHWM:")
}

pub fn resident_bytes(pid: u32) -> TestResult<u64> {
    field(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// CPU time that the process has used.
pub fn cpu(pid: u32) -> TestResult<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may hold blanks; the fields after its closing parenthesis do not.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| -> TestResult<u64> { Ok(fields.get(index).ok_or("a short /proc/PID/stat")?.parse()?) };
    // A tick is 10 ms on every Linux of today.
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

/// A figure in kB of a file under /proc, in bytes.
fn field(path: &str, name: &str) -> TestResult<u64> {
    let text = std::fs::read_to_string(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("no {name} in {path}"))?;
    Ok(line.split_whitespace().next().ok_or("an empty field")?.parse::<u64>()? * 1024)
}
