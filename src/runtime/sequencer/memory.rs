//! What the engine holds, added up: operators let go of what they can by it.

use super::Sequencer;
use crate::state::memory::Holder;

impl Sequencer {
    /// Tells how much everything holds, except keys of operators, which tell themselves, and queries.
    pub(super) fn account_memory(&self) {
        let state = self.checkpoints.state();
        let memory = state.memory();
        memory.set(Holder::Operators, self.views.values().map(|view| view.fixed_bytes()).sum());
        let views = self.views.values().map(|view| view.memory_bytes());
        let tables = self.tables.values().map(|table| table.memory_bytes());
        memory.set(Holder::Relations, views.chain(tables).sum());
        memory.set(Holder::Histories, self.histories.memory_bytes());
        memory.set(Holder::Indexes, state.memory_bytes());
        memory.set(Holder::Store, self.store.memory_bytes());
    }
}
