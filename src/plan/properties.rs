//! What is known of an operator's output without looking at the data.
//!
//! *Append-only*: no delta ever retracts; the base of every fast path. *Key*: columns that no two rows of the
//! (consolidated) relation share. *Time column*: a column with a watermark, and how far the watermark trails it.

/// Derived bottom-up when the plan is lowered; a property that is not proved is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    pub append_only: bool,
    /// Output column indices, ascending. `Some(vec![])`: at most one row.
    pub key: Option<Vec<usize>>,
    pub time: Option<TimeColumn>,
}

/// A column whose values will not be older than the watermark. `delay_us` is what `WATERMARK FOR` subtracts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeColumn {
    pub column: usize,
    pub delay_us: i64,
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
        let time = self.time.and_then(|t| Some(TimeColumn { column: find(t.column)?, ..t }));
        Properties { append_only: self.append_only, key, time }
    }
}
