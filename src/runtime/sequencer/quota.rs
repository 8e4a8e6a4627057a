//! How many rows each feed of an epoch may give to it, so that the epoch is short: a feed is a source, or what one view
//! catches up on. Where the views above a feed are slow, it gives few rows at a time, and the others, whose epochs
//! these are too, are not held up for long. Pure: what steps took comes in as numbers.
//!
//! ```text
//! step of an epoch, as long as it took
//!   └─ shared out among its views, by the time of each
//!        └─ shared out among the feeds below the view, by their rows  ──▶  Quota::observe: more rows next time, or fewer
//! ```
//!
//! A quota follows the root of what is wanted over what was measured: that settles without swinging where time grows
//! with the rows, and also where it grows with their square (a join of the epoch's rows with each other). A step may cost something
//! however few rows there are; fewer rows are no remedy for that, so the quota stays where rows cost as much as that.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::EPOCH_ROW_COUNT_MAX;
use crate::types::RelationId;

/// How long the steps of an epoch should take together, in microseconds.
const EPOCH_US: f64 = 80_000.0;
/// With so many rows a feed begins, until it is known what they cost.
const FIRST_ROW_COUNT: usize = 128;
/// So many times as many rows at most are given next.
const GROWTH_MAX: f64 = 16.0;
/// A difference in rows by this factor tells what a step costs without them.
const TELLING: f64 = 1.25;

/// Where rows of an epoch come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feed {
    /// A source or table.
    Relation(RelationId),
    /// What is there for one view alone.
    Backfill(RelationId),
}

/// What one epoch's views took and were given.
#[derive(Default)]
pub struct Measured {
    /// In dependency order: time, and the feeds from which rows came to the view, directly or through other views.
    pub views: Vec<(f64, BTreeSet<Feed>)>,
    pub row_counts: BTreeMap<Feed, usize>,
    /// From the first view's start until all is taken in.
    pub step_us: f64,
}

#[derive(Default)]
pub struct Quotas {
    /// Of feeds that have been measured.
    feeds: HashMap<Feed, Quota>,
}

impl Quotas {
    pub fn row_count_max(&self, feed: Feed) -> usize {
        self.feeds.get(&feed).map_or(FIRST_ROW_COUNT, |quota| quota.row_count_max)
    }

    /// There is another view: what rows cost has to be found out again.
    pub fn begin_again(&mut self) {
        for quota in self.feeds.values_mut() {
            quota.row_count_max = quota.row_count_max.min(FIRST_ROW_COUNT);
        }
    }

    pub fn forget(&mut self, id: RelationId) {
        self.feeds.remove(&Feed::Relation(id));
        self.feeds.remove(&Feed::Backfill(id));
    }

    /// A view has caught up.
    pub fn forget_backfill(&mut self, view: RelationId) {
        self.feeds.remove(&Feed::Backfill(view));
    }

    /// Feeds share the time of an epoch: what others leave, but no less than an equal share.
    pub fn observe(&mut self, measured: &Measured) {
        let times = measured.feed_times();
        let total_us: f64 = times.values().sum();
        let equal_us = EPOCH_US / times.len().max(1) as f64;
        for (feed, time_us) in times {
            let wanted_us = equal_us.max(EPOCH_US - (total_us - time_us));
            self.feeds.entry(feed).or_insert_with(Quota::new).observe(measured.row_counts[&feed], time_us, wanted_us);
        }
    }
}

impl Measured {
    fn feed_times(&self) -> BTreeMap<Feed, f64> {
        let views_us: f64 = self.views.iter().map(|(time_us, _)| time_us).sum();
        let mut times = BTreeMap::new();
        for (time_us, feeds) in &self.views {
            let row_counts = || feeds.iter().filter_map(|feed| self.row_counts.get_key_value(feed));
            let row_count: usize = row_counts().map(|(_, count)| count).sum();
            for (feed, count) in row_counts().filter(|(_, count)| **count > 0) {
                let share = *count as f64 / row_count as f64;
                *times.entry(*feed).or_insert(0.0) += time_us / views_us.max(1.0) * self.step_us * share;
            }
        }
        times
    }
}

struct Quota {
    row_count_max: usize,
    /// What a step seems to cost without any rows.
    fixed_us: f64,
    /// Rows and time of the last step that another can be told from.
    reference: Option<(f64, f64)>,
}

impl Quota {
    fn new() -> Quota {
        Quota { row_count_max: FIRST_ROW_COUNT, fixed_us: 0.0, reference: None }
    }

    fn observe(&mut self, row_count: usize, time_us: f64, wanted_us: f64) {
        if row_count == 0 {
            return;
        }
        let rows = row_count as f64;
        match self.reference {
            Some((others, _)) if rows < others * TELLING && others < rows * TELLING => {}
            Some((others, other_us)) => {
                let row_us = (time_us - other_us) / (rows - others);
                self.fixed_us = (time_us - row_us * rows).clamp(0.0, time_us.min(other_us));
                self.reference = Some((rows, time_us));
            }
            None => self.reference = Some((rows, time_us)),
        }
        self.fixed_us = self.fixed_us.min(time_us);
        let ratio = wanted_us.max(2.0 * self.fixed_us) / time_us.max(1.0);
        let is_used_up = row_count >= self.row_count_max;
        let factor = match ratio {
            // Far too long: at once.
            ratio if ratio < 0.25 => ratio.max(1.0 / 16.0),
            ratio if ratio < 0.9 => ratio.sqrt(),
            ratio if ratio > 1.1 && is_used_up => ratio.sqrt().min(GROWTH_MAX),
            _ => return,
        };
        let wanted = (rows * factor) as usize;
        let wanted = match factor > 1.0 {
            true => wanted.max(row_count + 1),
            // A few rows that took long tell little of many.
            false if !is_used_up => wanted.max(self.row_count_max / 2).min(self.row_count_max),
            false => wanted,
        };
        self.row_count_max = wanted.clamp(1, EPOCH_ROW_COUNT_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Feed = Feed::Relation(RelationId(1));
    const OTHER: Feed = Feed::Relation(RelationId(2));

    /// Epochs of two feeds with a view each that use up what they may give: what they gave, and how long each took.
    fn run(quotas: &mut Quotas, epochs: usize, cost_us: [&dyn Fn(f64) -> f64; 2]) -> Vec<([usize; 2], [f64; 2])> {
        let mut runs = vec![];
        for _ in 0..epochs {
            let rows = [SOURCE, OTHER].map(|feed| quotas.row_count_max(feed));
            let times = [0, 1].map(|feed| cost_us[feed](rows[feed] as f64));
            quotas.observe(&Measured {
                views: vec![(times[0], BTreeSet::from([SOURCE])), (times[1], BTreeSet::from([OTHER]))],
                row_counts: BTreeMap::from([(SOURCE, rows[0]), (OTHER, rows[1])]),
                step_us: times.iter().sum(),
            });
            runs.push((rows, times));
        }
        runs
    }

    #[test]
    fn cheap_rows_come_in_full() {
        let runs = run(&mut Quotas::default(), 10, [&|rows| 0.1 * rows, &|rows| 50.0 + 0.2 * rows]);
        assert!(runs[3..].iter().all(|(rows, _)| *rows == [EPOCH_ROW_COUNT_MAX; 2]), "{runs:?}");
    }

    #[test]
    fn the_slow_gives_few_rows_and_the_quick_all() {
        let costs: [&dyn Fn(f64) -> f64; 4] = [
            &|rows| 500.0 * rows,
            &|rows| 9.0 * rows,
            // Of a join with itself.
            &|rows| 0.02 * rows * rows,
            &|rows| 2_000.0 + 300.0 * rows,
        ];
        for cost in costs {
            let runs = run(&mut Quotas::default(), 30, [cost, &|rows| 0.1 * rows]);
            let late = &runs[10..];
            assert!(late.iter().all(|(rows, _)| rows[1] == EPOCH_ROW_COUNT_MAX), "{runs:?}");
            assert!(late.iter().all(|(_, times)| (50_000.0..95_000.0).contains(&(times[0] + times[1]))), "{runs:?}");
            // It has settled.
            let given: Vec<usize> = late.iter().map(|(rows, _)| rows[0]).collect();
            let (least, most) = (*given.iter().min().expect("some"), *given.iter().max().expect("some"));
            assert!(most - least <= most / 10 + 1, "{given:?}");
        }
    }

    #[test]
    fn two_slow_ones_share_the_time() {
        let runs = run(&mut Quotas::default(), 60, [&|rows| 500.0 * rows, &|rows| 50.0 * rows]);
        for (_, times) in &runs[30..] {
            assert!(times.iter().all(|time| (30_000.0..50_000.0).contains(time)), "{runs:?}");
        }
    }

    #[test]
    fn fewer_rows_are_no_remedy_for_what_a_step_costs_without_them() {
        let runs = run(&mut Quotas::default(), 40, [&|rows| 300_000.0 + rows, &|rows| 0.1 * rows]);
        assert_eq!(runs[39].0, [EPOCH_ROW_COUNT_MAX; 2], "{runs:?}");
    }

    #[test]
    fn costs_that_change_are_followed() {
        let mut quotas = Quotas::default();
        let quick: &dyn Fn(f64) -> f64 = &|rows| 0.1 * rows;
        run(&mut quotas, 10, [quick, quick]);
        let runs = run(&mut quotas, 12, [&|rows| 300.0 * rows, quick]);
        assert!(runs[8..].iter().all(|(_, times)| times[0] < 100_000.0), "{runs:?}");
        let runs = run(&mut quotas, 12, [quick, quick]);
        assert_eq!(runs[11].0, [EPOCH_ROW_COUNT_MAX; 2], "{runs:?}");
        // One long step, for whatever reason, is forgotten soon.
        run(&mut quotas, 1, [&|_| 2_000_000.0, quick]);
        let runs = run(&mut quotas, 8, [quick, quick]);
        assert_eq!(runs[7].0, [EPOCH_ROW_COUNT_MAX; 2], "{runs:?}");
    }

    #[test]
    fn noise_makes_no_waves() {
        let mut quotas = Quotas::default();
        // Half as long again, and half as long, in turn.
        let turn = std::cell::Cell::new(false);
        let noisy = |rows: f64| {
            turn.set(!turn.get());
            100.0 * rows * if turn.get() { 1.4 } else { 0.6 }
        };
        let runs = run(&mut quotas, 60, [&noisy, &|rows| 0.01 * rows]);
        for ([rows, _], _) in &runs[10..] {
            assert!((300..1600).contains(rows), "{runs:?}");
        }
    }

    #[test]
    fn rows_that_trickle_keep_their_quota() {
        let mut quotas = Quotas::default();
        run(&mut quotas, 10, [&|rows| 0.1 * rows, &|rows| 0.1 * rows]);
        for _ in 0..100 {
            quotas.observe(&Measured {
                views: vec![(500.0, BTreeSet::from([SOURCE]))],
                row_counts: BTreeMap::from([(SOURCE, 1)]),
                step_us: 700.0,
            });
        }
        assert_eq!(quotas.row_count_max(SOURCE), EPOCH_ROW_COUNT_MAX);
        // A single row in an epoch that something else held up.
        quotas.observe(&Measured {
            views: vec![(500_000.0, BTreeSet::from([SOURCE]))],
            row_counts: BTreeMap::from([(SOURCE, 1)]),
            step_us: 500_000.0,
        });
        assert_eq!(quotas.row_count_max(SOURCE), EPOCH_ROW_COUNT_MAX / 2);
    }

    #[test]
    fn time_is_shared_out_by_views_and_rows() {
        let times = Measured {
            views: vec![
                (10.0, BTreeSet::from([SOURCE])),
                (30.0, BTreeSet::from([SOURCE, OTHER, Feed::Backfill(RelationId(9))])),
                // Of a view that a time was over for.
                (10.0, BTreeSet::new()),
            ],
            row_counts: BTreeMap::from([(SOURCE, 100), (OTHER, 200)]),
            step_us: 100.0,
        }
        .feed_times();
        assert_eq!(times, BTreeMap::from([(SOURCE, 20.0 + 20.0), (OTHER, 40.0)]));
    }
}
