//! Operator state that outlives the process.
//!
//! State is Z-sets ([`Part`]s), and only what has changed is saved: mostly the rows that came in, which the operator keeps
//! anyway, so that recording a change costs a reference. Rows that go by event time are not retracted one by one: a part
//! says below which time it is empty.

use super::EpochContext;
use super::residency::Partial;
use crate::error::Result;
use crate::state::checkpoint::{Part, PartChange};
use crate::types::Delta;

/// # Contract
/// - A new operator that [`Durable::restore`] has given the sums of all changes behaves as the one that recorded them.
/// - Changes are recorded from [`Durable::record`] on; it is called before the first step and after [`Durable::restore`], or
///   not at all.
pub trait Durable {
    /// The Z-sets that the state consists of.
    fn parts(&self) -> Vec<Part>;

    fn record(&mut self);

    /// What has changed since the last call, one for each part.
    fn take_changes(&mut self) -> Result<Vec<PartChange>>;

    /// Takes over what was saved: `parts[i]` adds up to part `i`. Comes instead of a first step; nothing comes out.
    fn restore(&mut self, parts: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<()>;

    /// `None`: all of its state is in memory.
    fn partial(&mut self) -> Option<&mut dyn Partial> {
        None
    }
}

/// Adds what has changed of `old` to what was saved of it; `new` goes on from there.
#[cfg(test)]
pub fn hand_over(old: &mut dyn Durable, saved: &mut [Vec<Delta>], new: &mut dyn Durable) -> Result<()> {
    let mut sums = vec![];
    for ((part, change), saved) in new.parts().iter().zip(old.take_changes()?).zip(saved) {
        saved.extend(change.deltas);
        *saved = vec![part.kind.merge(&part.schema, saved)?];
        sums.push(saved.clone());
    }
    new.restore(sums, &mut EpochContext::new(crate::types::Epoch(0), false, 0))?;
    new.record();
    Ok(())
}

/// The changes of one part, where they are recorded.
#[derive(Default)]
pub struct ChangeLog {
    deltas: Option<Vec<Delta>>,
}

impl ChangeLog {
    pub fn start(&mut self) {
        self.deltas = Some(vec![]);
    }

    pub fn is_on(&self) -> bool {
        self.deltas.is_some()
    }

    /// Notes a change; whoever makes it asks [`ChangeLog::is_on`] first, if it costs anything.
    pub fn push(&mut self, delta: &Delta) {
        if let Some(deltas) = &mut self.deltas
            && !delta.is_empty()
        {
            deltas.push(delta.clone());
        }
    }

    pub fn take(&mut self) -> Vec<Delta> {
        self.deltas.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
