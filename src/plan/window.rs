//! Which windows a time falls into. One definition for maintained views and ad-hoc queries alike.
//!
//! Windows start at `offset + n · slide` for every whole n, also before 1970, and are `[start, start + k · step)` for
//! k = 1 … size ÷ step: one for each start where the step is the size, as it is of all but CUMULATE.

use super::Window;

impl Window {
    pub fn size_us(&self) -> i64 {
        match *self {
            Window::Tumble { size_us, .. } | Window::Hop { size_us, .. } | Window::Cumulate { size_us, .. } => size_us,
        }
    }

    /// From one start to the next.
    pub fn slide_us(&self) -> i64 {
        match *self {
            Window::Tumble { size_us, .. } | Window::Cumulate { size_us, .. } => size_us,
            Window::Hop { slide_us, .. } => slide_us,
        }
    }

    /// From one end to the next, of windows that start together.
    fn step_us(&self) -> i64 {
        match *self {
            Window::Tumble { size_us, .. } | Window::Hop { size_us, .. } => size_us,
            Window::Cumulate { step_us, .. } => step_us,
        }
    }

    pub fn offset_us(&self) -> i64 {
        match *self {
            Window::Tumble { offset_us, .. } | Window::Hop { offset_us, .. } | Window::Cumulate { offset_us, .. } => {
                offset_us
            }
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
        self.bounds(time_us).next().unwrap_or_else(|| {
            let start = self.last_start(time_us).saturating_add(self.slide_us());
            (start, start.saturating_add(self.size_us()))
        })
    }

    /// Start and end of all windows that hold `time_us`, earliest start first, then earliest end.
    pub fn bounds(&self, time_us: i64) -> impl Iterator<Item = (i64, i64)> + use<> {
        let (step, size) = (self.step_us(), self.size_us());
        self.starts(time_us).flat_map(move |start| {
            let first = time_us.saturating_sub(start) / step + 1;
            (first..=size / step).map(move |k| (start, start.saturating_add(k.saturating_mul(step))))
        })
    }

    /// Each start once.
    fn starts(&self, time_us: i64) -> impl Iterator<Item = i64> + use<> {
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
        window.bounds(time_us).map(|(start, _)| start).collect()
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

    #[test]
    fn cumulating_windows_grow_from_one_start() {
        let bounds = |window: Window, time_us| window.bounds(time_us).collect::<Vec<_>>();
        let window = Window::Cumulate { step_us: 5, size_us: 15, offset_us: 0 };
        assert_eq!(bounds(window, 0), [(0, 5), (0, 10), (0, 15)]);
        assert_eq!(bounds(window, 4), [(0, 5), (0, 10), (0, 15)]);
        assert_eq!(bounds(window, 5), [(0, 10), (0, 15)]);
        assert_eq!(bounds(window, 14), [(0, 15)]);
        assert_eq!(bounds(window, 15), [(15, 20), (15, 25), (15, 30)]);
        assert_eq!(bounds(window, -1), [(-15, 0)]);
        let shifted = Window::Cumulate { step_us: 5, size_us: 15, offset_us: 2 };
        assert_eq!(bounds(shifted, 1), [(-13, 2)]);
        let whole = Window::Cumulate { step_us: 15, size_us: 15, offset_us: 2 };
        assert_eq!(bounds(whole, 3), [(2, 17)]);
        // At the ends of time there is nothing to overflow.
        for window in [window, shifted, Window::Hop { slide_us: 5, size_us: 12, offset_us: 3 }] {
            assert!(window.bounds(i64::MAX).all(|(start, end)| start <= end && end == i64::MAX));
            assert!(window.bounds(i64::MIN).all(|(start, end)| start == i64::MIN && start < end));
        }
    }
}
