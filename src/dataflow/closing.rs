//! Which groups are over: those whose time, one of the keys, is older than its watermark. A group is whatever a
//! [`KeyIndex`] numbers: of an aggregate, a partition of a top-n, a key of a join.

use std::collections::BTreeMap;

use arrow::array::Array;

use super::EpochContext;
use super::event_time::times_us;
use super::key_index::KeyIndex;
use crate::error::Result;
use crate::plan::TimeColumn;

pub struct Closing {
    time: TimeColumn,
    /// Which of the keys is the time.
    key: usize,
    /// Groups that came up since the last look.
    pub opened: Vec<u32>,
    /// Groups by their time in microseconds. A number may stand where it once was, if it was given back meanwhile.
    by_time: BTreeMap<i64, Vec<u32>>,
    group_count: usize,
    /// Groups of older times are gone.
    below: Option<i64>,
}

impl Closing {
    /// Panics if the time is of no key.
    pub fn new(time: TimeColumn, keys: &[usize]) -> Closing {
        let key = keys.iter().position(|&key| key == time.column).expect("groups close by one of their keys");
        Closing { time, key, opened: vec![], by_time: BTreeMap::new(), group_count: 0, below: None }
    }

    /// Which of the keys is the time.
    pub fn key(&self) -> usize {
        self.key
    }

    /// Groups of older times have been let go.
    pub fn below(&self) -> Option<i64> {
        self.below
    }

    pub fn memory_bytes(&self) -> usize {
        self.group_count * size_of::<u32>() + self.by_time.len() * 40
    }

    /// Groups that are not in memory any more need not be told when they are over.
    pub fn forget_others(&mut self, is_live: impl Fn(u32) -> bool) {
        self.opened.retain(|&group| is_live(group));
        for groups in self.by_time.values_mut() {
            groups.retain(|&group| is_live(group));
        }
        self.by_time.retain(|_, groups| !groups.is_empty());
        self.group_count = self.by_time.values().map(Vec::len).sum();
    }

    /// The groups that are over, each once; `None` if there are none. `is_live` tells numbers in use from free ones.
    pub fn take_over(
        &mut self,
        context: &EpochContext,
        index: &KeyIndex,
        is_live: impl Fn(u32) -> bool,
    ) -> Result<Option<Vec<u32>>> {
        self.file(index, &is_live)?;
        let Some(bound) = self.time.closed_at(&context.watermarks) else {
            return Ok(None);
        };
        self.below = self.below.max(Some(bound));
        if self.by_time.first_key_value().is_none_or(|(time, _)| *time >= bound) {
            return Ok(None);
        }
        let open = self.by_time.split_off(&bound);
        let mut over = vec![];
        for (time, groups) in std::mem::replace(&mut self.by_time, open) {
            self.group_count -= groups.len();
            let groups: Vec<u32> = groups.into_iter().filter(|&group| is_live(group)).collect();
            let times = self.times(index, &groups)?;
            over.extend(groups.into_iter().zip(times).filter(|(_, own)| *own == Some(time)).map(|(group, _)| group));
        }
        // A number that was given back and taken again for the same window stands there twice.
        over.sort_unstable();
        over.dedup();
        Ok(Some(over))
    }

    /// Puts new groups to their time.
    fn file(&mut self, index: &KeyIndex, is_live: &impl Fn(u32) -> bool) -> Result<()> {
        let opened: Vec<u32> = self.opened.drain(..).filter(|&group| is_live(group)).collect();
        if opened.is_empty() {
            return Ok(());
        }
        let times = self.times(index, &opened)?;
        for (group, time) in opened.into_iter().zip(times) {
            // Without a time a group has no end.
            if let Some(time) = time {
                self.by_time.entry(time).or_default().push(group);
                self.group_count += 1;
            }
        }
        Ok(())
    }

    fn times(&self, index: &KeyIndex, groups: &[u32]) -> Result<Vec<Option<i64>>> {
        let columns = index.columns(groups)?;
        let times = times_us(&columns[self.key])?;
        Ok((0..times.len()).map(|row| times.is_valid(row).then(|| times.value(row))).collect())
    }
}
