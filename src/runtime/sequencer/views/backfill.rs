//! Letting views catch up. It needs no pause: Z-sets add up in any order, so a new view is fed its inputs' snapshot piece by
//! piece, and from its first epoch on also every new delta. Meanwhile it may hold rows of negative weight; nobody sees
//! them, since it is published only when all pieces are in.
//!
//! A view that goes on from a checkpoint is fed what came after it. What a join looks up is fed to none; but of a relation that
//! is newer than such a view, the view sees what it has been fed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::View;
use crate::dataflow::Arranged;
use crate::dataflow::fragment::FragmentGraph;
use crate::error::{Error, Result, SqlState};
use crate::runtime::sequencer::Sequencer;
use crate::runtime::sequencer::quota::Feed;
use crate::runtime::sequencer::sources::{Catchup, More};
use crate::runtime::worker::{Piece, RelationDelta};
use crate::state::Snapshot;
use crate::types::{Delta, RelationId};

pub enum Backfill {
    /// Runs of a table or view, as they were when the view was made, or what came after its checkpoint.
    Rows { relation: RelationId, columns: Arc<[usize]>, pieces: VecDeque<Delta>, is_new: bool },
    /// What a source had already been read, read again.
    Source(Box<Catchup>),
}

impl View {
    /// Its passes over what sources had delivered before it.
    pub fn catchups(&mut self) -> impl Iterator<Item = &mut Catchup> {
        self.backfills.iter_mut().filter_map(|backfill| match backfill {
            Backfill::Source(catchup) => Some(catchup.as_mut()),
            Backfill::Rows { .. } => None,
        })
    }

    /// What it has yet to be fed of relations whose arrangements it looks into.
    fn yet_to_feed(&self) -> HashMap<RelationId, Vec<Delta>> {
        let mut unfed: HashMap<RelationId, Vec<Delta>> = HashMap::new();
        for backfill in &self.backfills {
            if let Backfill::Rows { relation, pieces, is_new: true, .. } = backfill
                && self.graph.arranged().any(|arranged| arranged == *relation)
            {
                unfed.entry(*relation).or_default().extend(pieces.iter().cloned());
            }
        }
        unfed
    }
}

impl Sequencer {
    /// What a new view has yet to be fed: its inputs as they are, or what came after its checkpoint.
    pub(super) fn backfills(&mut self, graph: &FragmentGraph, is_restored: bool) -> Result<Vec<Backfill>> {
        let mut wanted: HashMap<RelationId, Vec<usize>> = HashMap::new();
        // What is looked up is all there, but for what came after the checkpoint: that has yet to be met.
        let inputs = graph.relation_inputs().filter(|(.., only_changes)| is_restored || !only_changes);
        for (relation, columns, _) in inputs {
            let all = wanted.entry(relation).or_default();
            all.extend(columns);
            all.sort_unstable();
            all.dedup();
        }
        let mut backfills = vec![];
        for (relation, columns) in wanted {
            if is_restored && !self.sources.contains_key(&relation) {
                let (columns, pieces) = self.since_checkpoint(relation)?;
                if !pieces.is_empty() {
                    backfills.push(Backfill::Rows { relation, columns, pieces, is_new: true });
                }
            } else if let Some(snapshot) = self.arranged(relation)? {
                let width = snapshot.schema().fields().len();
                let pieces = pieces(&snapshot)?;
                if !pieces.is_empty() {
                    let columns = (0..width).collect();
                    backfills.push(Backfill::Rows { relation, columns, pieces, is_new: false });
                }
            } else if let Some(catchup) = self.attach_source(relation, &columns, is_restored)? {
                backfills.push(Backfill::Source(Box::new(catchup)));
            }
        }
        Ok(backfills)
    }

    /// What a table or view has changed by since the checkpoint that this start goes on from.
    fn since_checkpoint(&self, relation: RelationId) -> Result<(Arc<[usize]>, VecDeque<Delta>)> {
        if let Some(table) = self.tables.get(&relation) {
            return Ok((table.columns.clone(), cut(table.since_checkpoint.iter().cloned())));
        }
        let Some(view) = self.views.get(&relation) else {
            return Err(Error::new(SqlState::UNDEFINED_TABLE, format!("relation {} is not there", relation.0)));
        };
        let width = view.layout().map_or(0, |layout| layout.schema.fields().len());
        Ok(((0..width).collect(), cut(view.unsaved.iter().cloned())))
    }

    /// The rows of a table or view at this moment; `None` for a source.
    fn arranged(&self, relation: RelationId) -> Result<Option<Snapshot>> {
        if let Some(table) = self.tables.get(&relation) {
            return Ok(Some(table.snapshot()));
        }
        if let Some(view) = self.views.get(&relation) {
            if let Some(error) = &view.failure {
                return Err(Error::new(
                    SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("a view that it reads has failed: {error}"),
                ));
            }
            return Ok(view.snapshot());
        }
        Ok(None)
    }

    /// The next pieces for the views that catch up. Views whose creator went away are dropped here.
    pub(in crate::runtime::sequencer) fn take_backfills(&mut self) -> HashMap<RelationId, Vec<Piece>> {
        let abandoned: Vec<RelationId> = self
            .views
            .iter()
            .filter(|(_, view)| !view.is_ready && view.reply.as_ref().is_some_and(|reply| reply.is_closed()))
            .map(|(id, _)| *id)
            .collect();
        for id in abandoned {
            self.drop_view(id);
            self.statuses.lock().forget(id);
            self.stop_unread_sources();
        }
        let (mut fed, mut more) = (HashMap::new(), More::WhenTold);
        let now = self.started.elapsed();
        // The end of the checkpoint under way wakes the sequencer.
        let is_held_back = self.checkpoints.holds_catching_up_back();
        for (id, view) in &mut self.views {
            view.unfed = view.yet_to_feed();
            if is_held_back {
                continue;
            }
            let (mut deltas, mut room) = (vec![], self.quotas.row_count_max(Feed::Backfill(*id)));
            let mut failure = None;
            let backfill_count = view.backfills.len();
            view.backfills.retain_mut(|backfill| match backfill {
                Backfill::Rows { relation, columns, pieces, is_new } => {
                    while room > 0 {
                        let Some(mut delta) = pieces.pop_front() else { return false };
                        if delta.row_count() > room {
                            pieces.push_front(delta.slice(room, delta.row_count() - room));
                            delta = delta.slice(0, room);
                        }
                        room -= delta.row_count();
                        let change = RelationDelta { columns: columns.clone(), delta };
                        deltas.push(Piece { relation: *relation, change, is_new: *is_new });
                    }
                    !pieces.is_empty()
                }
                Backfill::Source(catchup) => match catchup.take(room, now) {
                    Ok(taken) => {
                        room -= taken.changes.iter().map(|change| change.delta.row_count()).sum::<usize>();
                        let relation = catchup.source;
                        deltas.extend(taken.changes.into_iter().map(|change| Piece {
                            relation,
                            change,
                            is_new: false,
                        }));
                        more = more.min(taken.more);
                        !taken.is_done
                    }
                    Err(error) => {
                        failure = Some(error);
                        false
                    }
                },
            });
            if let Some(error) = failure {
                view.fail(error);
                self.statuses.lock().set_view(view.status());
            } else if !deltas.is_empty() || view.backfills.len() < backfill_count {
                // It is stepped also where the end of a backfill is all that has come: operators may wait for it.
                fed.insert(*id, deltas);
            }
        }
        self.look_again(more, now);
        fed
    }

    /// What each of these views looks into: relations as they were before the epoch under way, without what the view has yet
    /// to be fed of them.
    pub(in crate::runtime::sequencer) fn looked_into(
        &self,
        views: &[RelationId],
    ) -> HashMap<RelationId, Arc<Arranged>> {
        let world = self.world.borrow();
        let mut all = HashMap::new();
        for view in views.iter().filter_map(|id| self.views.get(id)) {
            let mut own = Arranged::new();
            for relation in view.graph.arranged() {
                // The table itself has this epoch's writes already.
                let snapshot = match self.views.get(&relation) {
                    Some(below) => below.snapshot().map(Arc::new),
                    None => world.snapshots.get(&relation).cloned(),
                };
                let snapshot = snapshot.map(|snapshot| match view.unfed.get(&relation) {
                    Some(unfed) => snapshot.before(unfed).map(Arc::new),
                    None => Ok(snapshot),
                });
                match snapshot {
                    Some(Ok(snapshot)) => {
                        own.insert(relation, snapshot);
                    }
                    // The view fails when it looks.
                    Some(Err(error)) => tracing::error!("relation {} could not be looked into: {error}", relation.0),
                    None => {}
                }
            }
            if !own.is_empty() {
                all.insert(view.id, Arc::new(own));
            }
        }
        all
    }
}

/// A snapshot in pieces that fit an epoch, weights and all.
fn pieces(snapshot: &Snapshot) -> Result<VecDeque<Delta>> {
    Ok(cut(snapshot.deltas().collect::<Result<Vec<_>>>()?.into_iter()))
}

fn cut(deltas: impl Iterator<Item = Delta>) -> VecDeque<Delta> {
    const PIECE_ROW_COUNT: usize = 16 * 1024;
    let cut = |delta: Delta| {
        let row_count = delta.row_count();
        let starts = (0..row_count).step_by(PIECE_ROW_COUNT);
        starts.map(move |start| delta.slice(start, PIECE_ROW_COUNT.min(row_count - start)))
    };
    deltas.flat_map(cut).collect()
}
