//! Which windows a time falls into. One definition for maintained views and ad-hoc queries alike.
//!
//! Windows start at `offset + n · slide` for every whole n, also before 1970; each holds `[start, start + size)`.

use super::Window;

impl Window {
    pub fn size_us(&self) -> i64 {
        match *self {
            Window::Tumble { size_us, .. } | Window::Hop { size_us, .. } => size_us,
        }
    }

    pub fn slide_us(&self) -> i64 {
        match *self {
            Window::Tumble { size_us, .. } => size_us,
            Window::Hop { slide_us, .. } => slide_us,
        }
    }

    pub fn offset_us(&self) -> i64 {
        match *self {
            Window::Tumble { offset_us, .. } | Window::Hop { offset_us, .. } => offset_us,
        }
    }

    /// Start of the last window that has begun at `time_us`. It may end before (HOP with gaps). Saturates at the ends
    /// of time.
    pub fn last_start(&self, time_us: i64) -> i64 {
        match time_us.checked_sub(self.offset_us()) {
            Some(since_us) => time_us.saturating_sub(since_us.rem_euclid(self.slide_us())),
            None => {
                let since_us = i128::from(time_us) - i128::from(self.offset_us());
                time_us.saturating_sub(since_us.rem_euclid(i128::from(self.slide_us())) as i64)
            }
        }
    }

    /// Start and end of the first window that holds `time_us` or, where windows leave gaps, that begins after it: no later
    /// time is in an earlier one.
    pub fn first(&self, time_us: i64) -> (i64, i64) {
        let start =
            self.starts(time_us).next().unwrap_or_else(|| self.last_start(time_us).saturating_add(self.slide_us()));
        (start, start.saturating_add(self.size_us()))
    }

    /// Starts of all windows that hold `time_us`, earliest first.
    pub fn starts(&self, time_us: i64) -> impl Iterator<Item = i64> + use<> {
        let (last, slide, size) = (self.last_start(time_us), self.slide_us(), self.size_us());
        // How many slides back the window still reaches `time_us`: start > time − size.
        let reach = (i128::from(last) - (i128::from(time_us) - i128::from(size))) as i64;
        let count = if reach <= 0 { 0 } else { (reach - 1) / slide + 1 };
        (0..count).rev().map(move |back| last.saturating_sub(back.saturating_mul(slide)))
    }
}

#[cfg(test)]
mod tests {
    use super::Window;

    fn starts(window: Window, time_us: i64) -> Vec<i64> {
        window.starts(time_us).collect()
    }

    #[test]
    fn a_tumbling_window_holds_its_start_and_not_its_end() {
        let window = Window::Tumble { size_us: 10, offset_us: 0 };
        assert_eq!(starts(window, 0), [0]);
        assert_eq!(starts(window, 9), [0]);
        assert_eq!(starts(window, 10), [10]);
        assert_eq!(starts(window, -1), [-10]);
        assert_eq!(starts(window, -10), [-10]);
    }

    #[test]
    fn an_offset_shifts_every_window() {
        let window = Window::Tumble { size_us: 10, offset_us: 3 };
        assert_eq!(starts(window, 2), [-7]);
        assert_eq!(starts(window, 3), [3]);
        let window = Window::Tumble { size_us: 10, offset_us: -13 };
        assert_eq!(starts(window, 0), [-3]);
    }

    #[test]
    fn hops_overlap_or_leave_gaps() {
        let window = Window::Hop { slide_us: 5, size_us: 12, offset_us: 0 };
        assert_eq!(starts(window, 11), [0, 5, 10]);
        assert_eq!(starts(window, 12), [5, 10]);
        assert_eq!(starts(window, -1), [-10, -5]);
        let gaps = Window::Hop { slide_us: 10, size_us: 4, offset_us: 0 };
        assert_eq!(starts(gaps, 3), [0]);
        assert_eq!(starts(gaps, 4), [] as [i64; 0]);
    }
}
