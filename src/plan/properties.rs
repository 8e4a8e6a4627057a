//! What is known of an operator's output without looking at the data.
//!
//! *Append-only*: no delta ever retracts; the base of every fast path. *Key*: columns that no two rows of the
//! (consolidated) relation share. *Time columns*: those that follow a watermark.

use super::TimeColumn;
use crate::types::RelationId;

/// Derived bottom-up when the plan is lowered; a property that is not proved is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    pub append_only: bool,
    /// Output column indices, ascending. `Some(vec![])`: at most one row.
    pub key: Option<Vec<usize>>,
    pub times: Vec<TimeColumn>,
    /// Columns that tell of each row when it came; not part of what users see.
    pub arrival: Option<Arrival>,
}

/// Where the watermark that a relation had just before a row arrived stands (microseconds, `Int64`, NULL for none), and
/// beside it, in the next column, the wall-clock time of its arrival (microseconds, `Int64`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub column: usize,
    pub relation: RelationId,
}

impl Properties {
    /// The properties after columns were rearranged: `outputs[i]` is the input column that output `i` copies, if any.
    /// A key survives if all its columns do.
    pub fn project(&self, outputs: &[Option<usize>]) -> Properties {
        let find = |column: usize| outputs.iter().position(|&source| source == Some(column));
        let key = self.key.as_ref().and_then(|key| {
            let mut moved: Vec<usize> = key.iter().map(|&column| find(column)).collect::<Option<_>>()?;
            moved.sort_unstable();
            Some(moved)
        });
        let mut times = vec![];
        for (output, source) in outputs.iter().enumerate() {
            let known = self.times.iter().filter(|time| Some(time.column) == *source);
            times.extend(known.map(|time| TimeColumn { column: output, ..time.clone() }));
        }
        let arrival = self.arrival.and_then(|arrival| {
            let column = find(arrival.column)?;
            (find(arrival.column + 1) == Some(column + 1)).then_some(Arrival { column, ..arrival })
        });
        Properties { append_only: self.append_only, key, times, arrival }
    }

    pub fn time(&self, column: usize) -> Option<&TimeColumn> {
        self.times.iter().find(|time| time.column == column)
    }
}
