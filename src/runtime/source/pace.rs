//! When a recorded row is let through: by its own time, or so many rows a second. Pure: time comes in as `now`.

use std::time::Duration;

use crate::connectors::Replay;

pub enum Pace {
    EventTime {
        speed: f64,
        /// The wall clock and the event time at which replay began.
        start: Option<(Duration, i64)>,
    },
    Rate {
        rows_per_s: f64,
        start: Option<Duration>,
        row_count: u64,
    },
}

impl Pace {
    pub fn new(replay: &Replay) -> Pace {
        match *replay {
            Replay::EventTime { speed, .. } => Pace::EventTime { speed, start: None },
            Replay::Rate { rows_per_s } => Pace::Rate { rows_per_s, start: None, row_count: 0 },
        }
    }

    /// How many of the rows are due, from the first on, and how long it is until the next one.
    /// `time_us`: the time of row i; NULLs are due at once. Rows that are due count as let through.
    pub fn take(
        &mut self,
        row_count: usize,
        time_us: impl Fn(usize) -> Option<i64>,
        now: Duration,
    ) -> (usize, Duration) {
        match self {
            Pace::EventTime { speed, start } => {
                for row in 0..row_count {
                    let Some(us) = time_us(row) else { continue };
                    let (wall, first_us) = *start.get_or_insert((now, us));
                    let ahead_s = us.saturating_sub(first_us).max(0) as f64 / 1e6 / *speed;
                    let due = Duration::try_from_secs_f64(ahead_s).unwrap_or(Duration::MAX).saturating_add(wall);
                    if due > now {
                        return (row, due - now);
                    }
                }
                (row_count, Duration::ZERO)
            }
            Pace::Rate { rows_per_s, start, row_count: taken } => {
                let start = *start.get_or_insert(now);
                let allowed = ((now - start).as_secs_f64() * *rows_per_s) as u64 + 1;
                let count = allowed.saturating_sub(*taken).min(row_count as u64);
                *taken += count;
                if count == row_count as u64 {
                    return (row_count, Duration::ZERO);
                }
                let due = Duration::from_secs_f64(*taken as f64 / *rows_per_s) + start;
                (count as usize, due.saturating_sub(now))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_time_passes_at_its_speed() {
        let mut pace = Pace::new(&Replay::EventTime { column: 0, speed: 60.0 });
        let minute = 60_000_000;
        let times = [Some(0), Some(-minute), None, Some(minute), Some(2 * minute)];
        let at = |row: usize| times[row];
        assert_eq!(pace.take(5, at, Duration::from_secs(10)), (3, Duration::from_secs(1)));
        assert_eq!(pace.take(2, |row| at(row + 3), Duration::from_millis(11_500)), (1, Duration::from_millis(500)));
        assert_eq!(pace.take(1, |row| at(row + 4), Duration::from_secs(12)), (1, Duration::ZERO));
    }

    #[test]
    fn a_far_future_does_not_overflow() {
        let mut pace = Pace::new(&Replay::EventTime { column: 0, speed: 1e-300 });
        let times = [i64::MIN, i64::MAX];
        assert_eq!(pace.take(2, |row| Some(times[row]), Duration::from_secs(1)).0, 1);
    }

    #[test]
    fn rows_pass_at_their_rate() {
        let mut pace = Pace::new(&Replay::Rate { rows_per_s: 100.0 });
        assert_eq!(pace.take(1000, |_| None, Duration::from_secs(5)), (1, Duration::from_millis(10)));
        assert_eq!(pace.take(999, |_| None, Duration::from_secs(6)), (100, Duration::from_millis(10)));
        assert_eq!(pace.take(899, |_| None, Duration::from_secs(600)), (899, Duration::ZERO));
    }
}
