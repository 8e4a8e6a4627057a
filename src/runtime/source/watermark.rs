//! A source's watermark: for each partition the largest that its rows have told by the declared expression (most often
//! their time less a delay); for the source the least of its partitions (Akidau et al., *The Dataflow Model*, PVLDB 8(12), 2015). Partitions that are idle are left
//! out, and it never goes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};

/// Driven by the events of a source in their order; knows no clock.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct SourceWatermark {
    partitions: BTreeMap<String, Partition>,
    /// Microseconds since 1970.
    current_us: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
struct Partition {
    #[serde(default)]
    told_max_us: Option<i64>,
    is_idle: bool,
}

impl SourceWatermark {
    /// `resumed_us`: the watermark that was committed before, if any.
    pub fn new(resumed_us: Option<i64>) -> SourceWatermark {
        SourceWatermark { partitions: BTreeMap::new(), current_us: resumed_us }
    }

    /// A partition that has yielded nothing yet holds the watermark back, until it does or is idle.
    pub fn add_partition(&mut self, partition: &str) {
        if !self.partitions.contains_key(partition) {
            self.partitions.insert(partition.to_string(), Partition::default());
        }
    }

    /// The watermark just before each row of the partition's next batch came, as [`SourceWatermark::observe`] would have
    /// it after the rows before; `None` while there is none. `told`: what each row tells. Changes nothing.
    pub fn before_each(&self, partition: &str, told: impl Iterator<Item = Option<i64>>) -> Vec<Option<i64>> {
        let own = self.partitions.get(partition).copied().unwrap_or_default();
        let others = self.active().filter(|(name, _)| *name != partition).map(|(_, track)| track.told_max_us);
        // `None` is the least of all: a partition that has told nothing yet.
        let others: Option<Option<i64>> = others.min();
        let mut own_max_us = own.told_max_us;
        let mut current_us = self.current_us;
        let before = told.map(|told| {
            let before = current_us;
            own_max_us = own_max_us.max(told);
            let least = others.map_or(own_max_us, |others| others.min(own_max_us));
            current_us = current_us.max(least);
            before
        });
        before.collect()
    }

    /// A batch of the partition, with the largest watermark that a row of it tells. A batch without rows says nothing.
    pub fn observe(&mut self, partition: &str, row_count: usize, told_max_us: Option<i64>) {
        if row_count == 0 {
            return;
        }
        self.add_partition(partition);
        if let Some(track) = self.partitions.get_mut(partition) {
            track.is_idle = false;
            track.told_max_us = track.told_max_us.max(told_max_us);
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
        self.active().min_by_key(|(_, track)| track.told_max_us).map(|(name, _)| name.as_str())
    }

    fn active(&self) -> impl Iterator<Item = (&String, &Partition)> {
        self.partitions.iter().filter(|(_, track)| !track.is_idle)
    }

    fn advance(&mut self) {
        // Where all are idle there is no least, and the watermark stays.
        let least = self.active().map(|(_, track)| track.told_max_us).min().flatten();
        self.current_us = self.current_us.max(least);
    }
}

/// What a batch's rows, which tell these watermarks, are told of their arrival: the watermark before each, and the
/// wall-clock time, in microseconds.
pub fn arrival_columns(
    watermark: Option<&SourceWatermark>,
    partition: &str,
    told: &Int64Array,
    now_us: i64,
) -> [ArrayRef; 2] {
    let watermarks: Int64Array = match watermark {
        Some(watermark) => watermark.before_each(partition, told.iter()).into(),
        None => Int64Array::new_null(told.len()),
    };
    [Arc::new(watermarks), Arc::new(Int64Array::from_value(now_us, told.len()))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_told_what_a_batch_of_its_own_would_have_been() {
        let mut whole = SourceWatermark::new(None);
        whole.add_partition("1");
        whole.observe("1", 1, Some(55));
        let told = [Some(45), None, Some(65), Some(35), Some(85)];
        let before = whole.before_each("0", told.iter().copied());
        let mut single = whole.clone();
        let one_by_one: Vec<Option<i64>> = told
            .iter()
            .map(|told| {
                let before = single.current_us();
                single.observe("0", 1, *told);
                before
            })
            .collect();
        assert_eq!(before, one_by_one);
        assert_eq!(before, [Some(55), Some(55), Some(55), Some(55), Some(55)]);
        assert_eq!(whole.current_us(), Some(55));
    }

    #[test]
    fn the_slowest_partition_decides() {
        let mut watermark = SourceWatermark::new(None);
        watermark.add_partition("0");
        watermark.add_partition("1");
        watermark.observe("0", 1, Some(100));
        assert_eq!((watermark.current_us(), watermark.held_back_by()), (None, Some("1")));
        watermark.observe("1", 1, Some(50));
        assert_eq!((watermark.current_us(), watermark.held_back_by()), (Some(50), Some("1")));
        watermark.observe("1", 1, Some(200));
        assert_eq!((watermark.current_us(), watermark.held_back_by()), (Some(100), Some("0")));
    }

    #[test]
    fn it_never_goes_back() {
        let mut watermark = SourceWatermark::new(Some(80));
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
        let mut watermark = SourceWatermark::new(None);
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
        let mut watermark = SourceWatermark::new(None);
        watermark.observe("0", 3, None);
        assert_eq!((watermark.current_us(), watermark.held_back_by()), (None, Some("0")));
        watermark.observe("0", 3, Some(7));
        watermark.observe("0", 3, None);
        watermark.observe("1", 0, None);
        assert_eq!(watermark.current_us(), Some(7));
        let mut early = SourceWatermark::new(None);
        early.observe("0", 1, Some(i64::MIN));
        assert_eq!(early.current_us(), Some(i64::MIN));
    }
}
