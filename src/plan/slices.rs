//! Slices: spans of time that no window's bound falls into, so that every window is made of whole ones.

use super::{Arrival, TimeColumn, Window};

/// Windows that overlap, and how rows fall into the slices that they are made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Slices {
    /// A column of the input; rows without a time are in no window.
    pub time_column: usize,
    /// [`Window::Hop`], without gaps.
    pub window: Window,
    /// Of `window_end`, which is not in the input. Slices none of whose windows is open are let go.
    pub closing: Option<TimeColumn>,
    /// Rows can be late: for windows that were over when they arrived.
    pub takes_late: bool,
    /// Where a row's own arrival stands in the input. `None`: a row arrives with its epoch.
    pub arrival: Option<Arrival>,
    /// A window is shown when it is over, not before.
    pub on_close: bool,
}

impl Slices {
    /// The longest span that slides and sizes are multiples of.
    pub fn length_us(&self) -> i64 {
        gcd(self.window.slide_us(), self.window.size_us())
    }

    /// Start of the slice that the time is in.
    pub fn start(&self, time_us: i64) -> i64 {
        Window::Tumble { size_us: self.length_us(), offset_us: self.window.offset_us() }.last_start(time_us)
    }

    /// Ends of the first and the last window that the slice of this start is in.
    pub fn ends(&self, start_us: i64) -> (i64, i64) {
        let (size_us, slide_us) = (self.window.size_us(), self.window.slide_us());
        let last = self.window.last_start(start_us).saturating_add(size_us);
        // As many slides back as still end after the slice has begun.
        let back = (last.saturating_sub(start_us) - 1) / slide_us;
        (last - back * slide_us, last)
    }

    /// The windows' ends as windows are shown: by the watermark itself, whatever lateness is allowed. `None`: at once.
    pub fn shown_when_over(&self) -> Option<TimeColumn> {
        let closing = self.closing.as_ref().filter(|_| self.on_close)?;
        Some(TimeColumn { lateness_us: 0, ..closing.clone() })
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_in_the_windows_that_hold_its_times() {
        for (slide_us, size_us, offset_us) in [(5, 10, 0), (4, 10, 3), (3, 10, -1), (1, 7, 0), (6, 9, 2), (10, 10, 5)] {
            let window = Window::Hop { slide_us, size_us, offset_us };
            let slices =
                Slices { time_column: 0, window, closing: None, takes_late: false, arrival: None, on_close: false };
            for time in -40..40 {
                let start = slices.start(time);
                assert!(start <= time && time < start + slices.length_us());
                let ends: Vec<i64> = window.bounds(time).map(|(_, end)| end).collect();
                assert_eq!(slices.ends(start), (ends[0], ends[ends.len() - 1]), "{window:?} at {time}");
            }
        }
    }
}
