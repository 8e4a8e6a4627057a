//! A source's watermark: for each partition the largest event time seen, less the declared delay; for the source the
//! least of its partitions (Akidau et al., *The Dataflow Model*, PVLDB 8(12), 2015). Partitions that are idle are left
//! out, and it never goes back.

use std::collections::BTreeMap;

/// Driven by the events of a source in their order; knows no clock.
#[derive(Clone, Debug)]
pub struct SourceWatermark {
    delay_us: i64,
    partitions: BTreeMap<String, Partition>,
    /// Microseconds since 1970.
    current_us: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Partition {
    event_time_max_us: Option<i64>,
    is_idle: bool,
}

impl SourceWatermark {
    /// `resumed_us`: the watermark that was committed before, if any.
    pub fn new(delay_us: i64, resumed_us: Option<i64>) -> SourceWatermark {
        SourceWatermark { delay_us, partitions: BTreeMap::new(), current_us: resumed_us }
    }

    /// A partition that has yielded nothing yet holds the watermark back, until it does or is idle.
    pub fn add_partition(&mut self, partition: &str) {
        if !self.partitions.contains_key(partition) {
            self.partitions.insert(partition.to_string(), Partition::default());
        }
    }

    /// A batch of the partition, with the largest event time in it. A batch without rows says nothing.
    pub fn observe(&mut self, partition: &str, row_count: usize, event_time_max_us: Option<i64>) {
        if row_count == 0 {
            return;
        }
        self.add_partition(partition);
        if let Some(track) = self.partitions.get_mut(partition) {
            track.is_idle = false;
            track.event_time_max_us = track.event_time_max_us.max(event_time_max_us);
        }
        self.advance();
    }

    /// The partition no longer holds the watermark back, until its next row.
    pub fn set_idle(&mut self, partition: &str) {
        self.add_partition(partition);
        if let Some(track) = self.partitions.get_mut(partition) {
            track.is_idle = true;
        }
        self.advance();
    }

    /// Microseconds since 1970; `None` until every partition that is not idle has told a time.
    pub fn current_us(&self) -> Option<i64> {
        self.current_us
    }

    /// The partition whose next time the watermark waits for.
    pub fn held_back_by(&self) -> Option<&str> {
        // `None` (nothing seen) is the least of all.
        self.active().min_by_key(|(_, track)| track.event_time_max_us).map(|(name, _)| name.as_str())
    }

    fn active(&self) -> impl Iterator<Item = (&String, &Partition)> {
        self.partitions.iter().filter(|(_, track)| !track.is_idle)
    }

    fn advance(&mut self) {
        // Where all are idle there is no least, and the watermark stays.
        let least = self.active().map(|(_, track)| track.event_time_max_us).min().flatten();
        self.current_us = self.current_us.max(least.map(|us| us.saturating_sub(self.delay_us)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_partition_decides() {
        let mut watermark = SourceWatermark::new(5, None);
        watermark.add_partition("0");
        watermark.add_partition("1");
        watermark.observe("0", 1, Some(100));
        assert_eq!((watermark.current_us(), watermark.held_back_by()), (None, Some("1")));
        watermark.observe("1", 1, Some(50));
        assert_eq!((watermark.current_us(), watermark.held_back_by()), (Some(45), Some("1")));
        watermark.observe("1", 1, Some(200));
        assert_eq!((watermark.current_us(), watermark.held_back_by()), (Some(95), Some("0")));
    }

    #[test]
    fn it_never_goes_back() {
        let mut watermark = SourceWatermark::new(0, Some(80));
        watermark.observe("0", 1, Some(10));
        assert_eq!(watermark.current_us(), Some(80));
        watermark.observe("0", 1, Some(100));
        watermark.observe("0", 1, Some(60));
        watermark.add_partition("1");
        watermark.observe("1", 1, Some(70));
        assert_eq!((watermark.current_us(), watermark.held_back_by()), (Some(100), Some("1")));
    }

    #[test]
    fn idle_partitions_are_left_out_until_their_next_row() {
        let mut watermark = SourceWatermark::new(0, None);
        watermark.add_partition("1");
        watermark.observe("0", 1, Some(100));
        watermark.set_idle("1");
        assert_eq!(watermark.current_us(), Some(100));
        watermark.set_idle("0");
        assert_eq!((watermark.current_us(), watermark.held_back_by()), (Some(100), None));
        watermark.observe("1", 1, Some(120));
        assert_eq!(watermark.current_us(), Some(120));
        watermark.observe("0", 1, Some(110));
        assert_eq!((watermark.current_us(), watermark.held_back_by()), (Some(120), Some("0")));
    }

    #[test]
    fn null_times_and_empty_batches_say_nothing() {
        let mut watermark = SourceWatermark::new(0, None);
        watermark.observe("0", 3, None);
        assert_eq!((watermark.current_us(), watermark.held_back_by()), (None, Some("0")));
        watermark.observe("0", 3, Some(7));
        watermark.observe("0", 3, None);
        watermark.observe("1", 0, None);
        assert_eq!(watermark.current_us(), Some(7));
        let mut early = SourceWatermark::new(i64::MAX, None);
        early.observe("0", 1, Some(i64::MIN));
        assert_eq!(early.current_us(), Some(i64::MIN));
    }
}
