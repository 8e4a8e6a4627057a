//! Changes of consecutive epochs, in one batch: what a history is made of.

use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::types::{Delta, Epoch, Moment};

/// Rows of one epoch stand together, epochs in their order; none is empty.
#[derive(Clone, Debug)]
pub struct Changes {
    pub delta: Delta,
    /// Each epoch that changed something, with where its rows end.
    ends: Vec<(Moment, usize)>,
}

impl Changes {
    /// Panics if there are no rows.
    pub fn of_epoch(at: Moment, delta: Delta) -> Changes {
        assert!(!delta.is_empty(), "an epoch without changes is not kept");
        Changes { ends: vec![(at, delta.row_count())], delta }
    }

    pub fn last_epoch(&self) -> Epoch {
        self.ends.last().expect("changes have an epoch").0.epoch
    }

    /// Each epoch with its rows.
    pub fn epochs(&self) -> impl Iterator<Item = (Moment, std::ops::Range<usize>)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        starts.zip(&self.ends).map(|(start, (at, end))| (*at, start..*end))
    }

    /// Those after `after`, up to `through`; `None` if there are none.
    pub fn between(&self, after: Epoch, through: Epoch) -> Option<Changes> {
        let first = self.ends.partition_point(|(at, _)| at.epoch <= after);
        let last = self.ends.partition_point(|(at, _)| at.epoch <= through);
        if first >= last {
            return None;
        }
        if (first, last) == (0, self.ends.len()) {
            return Some(self.clone());
        }
        let start = first.checked_sub(1).map_or(0, |before| self.ends[before].1);
        let ends: Vec<(Moment, usize)> = self.ends[first..last].iter().map(|(at, end)| (*at, end - start)).collect();
        let row_count = ends[ends.len() - 1].1;
        Some(Changes { delta: self.delta.slice(start, row_count), ends })
    }

    pub fn followed_by(&self, next: &Changes, schema: &SchemaRef) -> Result<Changes> {
        let row_count = self.delta.row_count();
        let later = next.ends.iter().map(|(at, end)| (*at, end + row_count));
        Ok(Changes {
            delta: Delta::concat(schema, &[self.delta.clone(), next.delta.clone()])?,
            ends: self.ends.iter().copied().chain(later).collect(),
        })
    }

    pub fn memory_bytes(&self) -> usize {
        self.delta.batch().get_array_memory_size()
            + self.delta.weights().map_or(0, |weights| weights.len() * size_of::<i64>())
            + self.ends.capacity() * size_of::<(Moment, usize)>()
    }
}
