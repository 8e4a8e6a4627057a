//! A view from its checkpoint: its operators with their state, and its contents, read on the caller's thread, so that
//! epochs go on meanwhile.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};

use super::{Saved, SavedState};
use crate::dataflow::EpochContext;
use crate::dataflow::fragment::{Fragment, FragmentGraph, SavedParts};
use crate::dataflow::partition::Partitioning;
use crate::error::Result;
use crate::plan::StreamPlan;
use crate::plan::identity::identity;
use crate::runtime::status::ViewErrorCount;
use crate::state::arrangement::hash_rows;
use crate::state::checkpoint::record::{self, ViewRecord};
use crate::state::checkpoint::{Collection, KeyLookup, Part, PartChange, PartKind, Place, Spread, StateChanges};
use crate::state::{Arrangement, Layout, MemoryAccount, Snapshot, Store};
use crate::types::{Delta, Epoch, RelationId};

/// Layouts of operator state change with this number: state of another is not read.
const STATE_VERSION: u32 = 2;

/// A view as it was at the last checkpoint.
pub struct Restored {
    pub record: Arc<ViewRecord>,
    /// For each worker, its share of each fragment.
    pub fragments: Vec<Vec<Fragment>>,
    /// `None` for a sink.
    pub arrangement: Option<Arrangement>,
    pub errors: Vec<ViewErrorCount>,
    /// All of its state, if that is spread among other workers than before: it has to be saved anew.
    pub spread_anew: Option<StateChanges>,
}

impl Restored {
    /// Of its contents.
    pub fn snapshot(&self) -> Option<Snapshot> {
        self.arrangement.as_ref().map(|arrangement| arrangement.snapshot())
    }
}

/// What state is made by: another plan, or another way of spreading rows among workers, could not read it. It says nothing
/// of names, which may change.
pub fn fingerprint(plan: &StreamPlan) -> Result<String> {
    let mut text = format!("state {STATE_VERSION}, hashes {:x}", probe()?);
    for (relation, columns) in plan.relations() {
        let _ = write!(text, "\nreads {} {columns:?}", relation.0);
    }
    let _ = write!(text, "\n{}", identity(plan));
    Ok(text)
}

/// Differs if rows are hashed differently.
fn probe() -> Result<u64> {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), None]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("seven"), Some("")]));
    Ok(hash_rows(&[numbers, texts], 2)?.into_iter().fold(0, u64::wrapping_add))
}

/// `None`: it was not saved, or by another plan, so it has to be computed again. XX001 if its state cannot be read.
pub fn prepare(
    saved: &Saved,
    store: &dyn Store,
    state: &SavedState,
    id: RelationId,
    plan: &StreamPlan,
    layout: Option<&Layout>,
    worker_count: usize,
) -> Result<Option<Restored>> {
    let Some(record) = saved.views.get(&id).filter(|record| record.is_complete) else { return Ok(None) };
    if record.fingerprint != fingerprint(plan)? {
        tracing::info!("the plan of view {} has changed: it is computed again", id.0);
        return Ok(None);
    }
    let graph = FragmentGraph::build(plan, worker_count);
    let mut parts = Parts {
        record,
        store,
        state,
        view: id,
        worker: 0,
        worker_count,
        can_be_spread: true,
        shares: HashMap::new(),
        all: vec![],
    };
    let mut fragments = vec![];
    for worker in 0..worker_count {
        let mut context = EpochContext::new(Epoch(saved.engine.epoch), false, worker);
        let mut own = vec![];
        parts.worker = worker;
        for spec in &graph.fragments {
            let mut fragment = Fragment::build(spec)?;
            fragment.restore(&mut context, &mut parts)?;
            own.push(fragment);
        }
        fragments.push(own);
    }
    if !parts.can_be_spread {
        tracing::info!("view {} cannot be spread among {worker_count} workers: it is computed again", id.0);
        return Ok(None);
    }
    let arrangement = match layout {
        None => None,
        Some(layout) => {
            let place = contents_place(plan.preorder().len());
            let contents = parts.collection(place);
            if record.worker_count == worker_count {
                Some(arranged(layout, contents, store, state)?)
            } else {
                let rows = contents.map_or_else(|| Ok(vec![]), |own| own.read(store))?;
                let mut arrangement = Arrangement::new(layout.clone());
                arrangement.append_all(&rows)?;
                parts.all.push((place, contents_part(layout), PartChange { deltas: rows, below: None }));
                Some(arrangement)
            }
        }
    };
    let errors = match store.get(&record::view_errors_key(id))? {
        Some(bytes) => record::read("a view's errors", &bytes)?,
        None => vec![],
    };
    let spread_anew = (record.worker_count != worker_count).then_some(parts.all);
    Ok(Some(Restored { record: record.clone(), fragments, arrangement, errors, spread_anew }))
}

/// Where a view's own rows are kept: behind its last operator.
pub fn contents_place(operator_count: usize) -> Place {
    Place { worker: 0, operator: operator_count, part: 0 }
}

/// The parts of a view's operators, for as many workers as there are now.
struct Parts<'a> {
    record: &'a ViewRecord,
    store: &'a dyn Store,
    state: &'a SavedState,
    view: RelationId,
    /// Whose parts are asked for.
    worker: usize,
    worker_count: usize,
    can_be_spread: bool,
    /// By operator and part: what each worker has yet to take of what is spread anew.
    shares: HashMap<(usize, usize), Vec<Vec<Delta>>>,
    /// What was read for other workers than it was saved by.
    all: StateChanges,
}

impl Parts<'_> {
    fn collection(&self, place: Place) -> Option<&Collection> {
        self.record.collections.iter().find(|collection| collection.place == place)
    }

    /// The places of an operator's parts.
    fn places(&self, operator: usize, part_count: usize) -> impl Iterator<Item = Place> + use<> {
        let worker = self.worker;
        (0..part_count).map(move |part| Place { worker, operator, part })
    }
}

impl SavedParts for Parts<'_> {
    fn open(&mut self, operator: usize, part_count: usize) -> (Vec<Arc<dyn KeyLookup>>, MemoryAccount) {
        // What is spread anew is in the next checkpoint as a whole; until then there is nothing.
        let is_spread_anew = self.record.worker_count != self.worker_count;
        let saved = |place| self.collection(place).filter(|_| !is_spread_anew);
        let places = self.places(operator, part_count);
        (places.map(|place| self.state.open(self.view, place, saved(place))).collect(), self.state.account())
    }

    fn can_be_looked_up(&self, operator: usize, part_count: usize) -> bool {
        self.record.worker_count == self.worker_count
            && self
                .places(operator, part_count)
                .all(|place| self.collection(place).is_none_or(|collection| collection.is_ordered()))
    }

    fn read(&mut self, operator: usize, part: usize, spec: &Part) -> Result<Vec<Delta>> {
        let (place, part) = (Place { worker: self.worker, operator, part }, spec);
        let all = |place: Place| self.collection(place).map_or_else(|| Ok(vec![]), |own| own.read(self.store));
        if self.record.worker_count == self.worker_count {
            return all(place);
        }
        let key = (place.operator, place.part);
        if !self.shares.contains_key(&key) {
            let saved = (0..self.record.worker_count).map(|worker| all(Place { worker, ..place }));
            let saved = saved.collect::<Result<Vec<_>>>()?.concat();
            self.can_be_spread &= part.spread != Spread::Fixed || saved.is_empty();
            self.shares.insert(key, shares(saved, &part.spread, self.worker_count)?);
        }
        let own = self.shares.get_mut(&key).map(|shares| std::mem::take(&mut shares[place.worker])).unwrap_or_default();
        self.all.push((place, part.clone(), PartChange { deltas: own.clone(), below: None }));
        Ok(own)
    }
}

/// The rows of all workers, as so many others have them.
fn shares(rows: Vec<Delta>, spread: &Spread, worker_count: usize) -> Result<Vec<Vec<Delta>>> {
    let mut shares = vec![vec![]; worker_count];
    match spread {
        Spread::By(columns) => {
            let way = Partitioning::Hash(columns.clone());
            for delta in rows {
                for (share, own) in shares.iter_mut().zip(way.split(delta, 0, worker_count)?) {
                    share.push(own);
                }
            }
        }
        Spread::Everywhere => shares.fill(rows),
        Spread::Anywhere => shares[0] = rows,
        Spread::Fixed => {}
    }
    Ok(shares)
}

/// A view's own rows, as a part of its state.
pub fn contents_part(layout: &Layout) -> Part {
    let schema = layout.schema.clone();
    // Rows without columns have no hash.
    let kind = if schema.fields().is_empty() { PartKind::Sum } else { PartKind::Arranged };
    let key = if layout.indexed && kind == PartKind::Arranged { layout.key.clone() } else { vec![] };
    Part { schema, kind, time_column: None, spread: Spread::Anywhere, key }
}

/// A view's rows, as the last checkpoint has them: taken over as they are, or read, of which no more is in memory at once than
/// there is room for.
fn arranged(
    layout: &Layout,
    contents: Option<&Collection>,
    store: &dyn Store,
    state: &SavedState,
) -> Result<Arrangement> {
    let mut arrangement = Arrangement::new(layout.clone());
    let Some(contents) = contents else { return Ok(arrangement) };
    if let Some(runs) = contents.arranged(layout, store)? {
        return Ok(Arrangement::of(layout.clone(), runs));
    }
    let (mut rows, mut bytes) = (vec![], 0);
    contents.each(store, &mut |delta| {
        bytes += delta.batch().get_array_memory_size();
        rows.push(delta);
        if state.is_short_with(bytes + arrangement.memory_bytes()) {
            arrangement.append_all(&std::mem::take(&mut rows))?;
            bytes = 0;
        }
        Ok(())
    })?;
    arrangement.append_all(&rows)?;
    Ok(arrangement)
}
