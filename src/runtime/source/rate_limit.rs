//! How many rows a reader may give at a moment, where its source is limited to so many a second: a bucket of tokens that
//! fills at the rate and holds no more than a tenth of a second's worth, so that rows come evenly and what was not used
//! is not made up for. Pure: time comes in as `now`.

use std::num::NonZeroU64;
use std::time::Duration;

/// What a full bucket lets through at once.
const BURST: Duration = Duration::from_millis(100);
/// Rows that are let through within this time come together.
const GRAIN: Duration = Duration::from_millis(20);

#[derive(Clone, Debug)]
pub struct RateLimit {
    rows_per_s: f64,
    tokens: f64,
    /// When the tokens were counted last.
    at: Option<Duration>,
}

impl RateLimit {
    pub fn new(rows_per_s: NonZeroU64) -> RateLimit {
        RateLimit { rows_per_s: rows_per_s.get() as f64, tokens: 0.0, at: None }
    }

    /// How many rows may be taken now.
    pub fn allowed(&mut self, now: Duration) -> usize {
        let passed = now.saturating_sub(self.at.unwrap_or(now));
        self.at = Some(now);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.rows_per_s).min(self.worth(BURST));
        // A hair less than a row is a row: what was waited for was rounded to nanoseconds.
        (self.tokens + 1e-6) as usize
    }

    /// No more rows than were allowed.
    pub fn take(&mut self, row_count: usize) {
        self.tokens -= row_count as f64;
    }

    /// When, from the last look on, it is worth to look again.
    pub fn wait(&self) -> Duration {
        let missing = self.worth(GRAIN).floor().max(1.0) - self.tokens;
        Duration::from_secs_f64(missing.max(0.0) / self.rows_per_s)
    }

    /// At least one row, or nothing would ever come.
    fn worth(&self, time: Duration) -> f64 {
        (time.as_secs_f64() * self.rows_per_s).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(rows_per_s: u64) -> RateLimit {
        RateLimit::new(NonZeroU64::new(rows_per_s).expect("above zero"))
    }

    /// Takes all that is allowed, as often as is said: how many rows came when.
    fn run(limit: &mut RateLimit, until: Duration) -> Vec<(Duration, usize)> {
        let (mut now, mut taken) = (Duration::ZERO, vec![]);
        while now < until {
            let count = limit.allowed(now);
            limit.take(count);
            taken.push((now, count));
            now += limit.wait();
        }
        taken
    }

    #[test]
    fn rows_come_evenly_and_at_the_rate() {
        for rate in [1, 7, 1000, 1_000_000] {
            let taken = run(&mut limit(rate), Duration::from_secs(10));
            let total: usize = taken.iter().map(|(_, count)| count).sum();
            let wanted = 10 * rate as usize;
            assert!(total <= wanted && total + wanted / 500 + 1 >= wanted, "{total} rows at {rate} a second");
            assert!(taken.iter().all(|(_, count)| *count <= (rate as usize / 50).max(1)), "{rate}: {taken:?}");
            assert!(taken.len() <= 520, "{} looks at {rate} rows a second", taken.len());
        }
    }

    #[test]
    fn what_was_not_used_is_no_burst() {
        let mut limit = limit(1000);
        assert_eq!(limit.allowed(Duration::from_secs(5)), 0);
        assert_eq!(limit.allowed(Duration::from_secs(60)), 100);
        limit.take(100);
        assert_eq!(limit.allowed(Duration::from_millis(60_010)), 10);
        // A clock that stands still gives nothing twice.
        limit.take(10);
        assert_eq!(limit.allowed(Duration::from_millis(60_010)), 0);
        assert_eq!(limit.wait(), Duration::from_millis(20));
    }
}
