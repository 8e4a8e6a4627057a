//! What the demo shows: a page refreshed in place on a terminal, a line a second elsewhere.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::watch::{Picture, Section};
use crate::error::{Error, Result, SqlState};

/// Flights in the sample, for the progress bar.
const FLIGHT_COUNT: u64 = 27_004;
const BAR_WIDTH: usize = 40;

/// Back to the top left corner; each line then clears its own rest, so that nothing flickers.
const HOME: &str = "\x1b[H";
const CLEAR_SCREEN: &str = "\x1b[2J\x1b[H";
const CLEAR_LINE_END: &str = "\x1b[K\n";
const CLEAR_BELOW: &str = "\x1b[J";

pub struct Screen {
    is_terminal: bool,
    address: SocketAddr,
    is_first: bool,
}

impl Screen {
    pub fn new(is_terminal: bool, address: SocketAddr) -> Screen {
        Screen { is_terminal, address, is_first: true }
    }

    /// Time between two pictures.
    pub fn pause(&self) -> Duration {
        if self.is_terminal { Duration::from_millis(500) } else { Duration::from_secs(1) }
    }

    /// 58030 if standard output is gone.
    pub fn draw(&mut self, picture: &Picture) -> Result<()> {
        let text = if self.is_terminal {
            let start = if self.is_first { CLEAR_SCREEN } else { HOME };
            format!("{start}{}{CLEAR_BELOW}", whole(picture, self.address).replace('\n', CLEAR_LINE_END))
        } else {
            let connect = if self.is_first { format!("{}\n", connect_line(self.address)) } else { String::new() };
            format!("{connect}{}\n", status_line(picture))
        };
        self.is_first = false;
        write(&text)
    }

    pub fn close(&self) -> Result<()> {
        write("\n")
    }
}

/// Everything, on one page.
pub fn whole(picture: &Picture, address: SocketAddr) -> String {
    let row_count = picture.flights.as_ref().map_or(0, |flights| flights.row_count);
    let filled = (row_count.min(FLIGHT_COUNT) as usize * BAR_WIDTH) / FLIGHT_COUNT as usize;
    let bar = format!("[{}{}]", "#".repeat(filled), ".".repeat(BAR_WIDTH - filled));
    let mut page = format!(
        "Flights that left New York City in January 2013, in the order in which they left\n{bar} {}\n{}\n",
        status_line(picture),
        connect_line(address)
    );
    for section in &picture.sections {
        page.push('\n');
        page.push_str(&table(section));
    }
    page.push_str("\nrecords that could not be read (SELECT * FROM hw_catalog.source_errors)\n");
    for row in &picture.bad_records {
        let part = |index: usize| row.get(index).and_then(Option::as_deref).unwrap_or("");
        page.push_str(&format!("  {}: {}, for instance: {}\n", part(0), part(1), part(2)));
    }
    page
}

fn status_line(picture: &Picture) -> String {
    let freshness_ms = picture.freshness.as_secs_f64() * 1e3;
    match &picture.flights {
        None => "no flights yet".to_string(),
        Some(flights) => format!(
            "{} of {FLIGHT_COUNT} flights, {:.0} rows/s, {}, watermark {}, a write is visible after {freshness_ms:.1} ms",
            flights.row_count,
            picture.rows_per_s,
            flights.state,
            flights.watermark.as_deref().unwrap_or("unknown"),
        ),
    }
}

fn connect_line(address: SocketAddr) -> String {
    let (host, port) = (address.ip(), address.port());
    format!("psql -h {host} -p {port} -U root dev     try \\dm, SELECT * FROM worst_routes; Ctrl-C ends the demo")
}

/// Columns as wide as their widest value, numbers to the right.
fn table(section: &Section) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_string());
    let rows: Vec<Vec<String>> = section.rows.iter().map(|row| row.iter().map(shown).collect()).collect();
    let mut widths: Vec<usize> = section.columns.iter().map(|name| name.chars().count()).collect();
    for row in &rows {
        for (width, value) in widths.iter_mut().zip(row) {
            *width = (*width).max(value.chars().count());
        }
    }
    let header = section.columns.iter().map(|name| name.to_string()).collect();
    let mut text = format!("{}\n", section.title);
    for row in std::iter::once(&header).chain(&rows) {
        let mut line = String::from(" ");
        for ((value, width), column) in row.iter().zip(&widths).zip(0..) {
            let is_number = rows.first().is_some_and(|first| is_number(&first[column]));
            if is_number {
                line.push_str(&format!(" {value:>width$}"));
            } else {
                line.push_str(&format!(" {value:<width$}"));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok()
}

fn write(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Error::new(SqlState::IO_ERROR, format!("could not write to standard output: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let some = |text: &str| Some(text.to_string());
        let section = Section {
            title: "planes",
            columns: &["name", "n"],
            rows: vec![vec![some("a"), some("5")], vec![some("bcdef"), some("1234")], vec![None, some("7")]],
        };
        assert_eq!(table(&section), "planes\n  name     n\n  a        5\n  bcdef 1234\n  –        7\n");
    }
}
