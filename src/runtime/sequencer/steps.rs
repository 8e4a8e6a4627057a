//! One epoch through the workers: each gets its share of the rows, all step the touched views, and what they made is
//! taken in. What it took is told to the quotas of those whose rows these were.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::quota::{Feed, Measured};
use super::{Changes, MEASURE_EVERY, Sequencer};
use crate::dataflow::partition::spread;
use crate::runtime::worker::{Command, Piece, RelationDelta, Step, ViewOutput};
use crate::types::{Epoch, RelationId};

impl Sequencer {
    pub(super) fn step_workers(
        &mut self,
        epoch: Epoch,
        touched: &[RelationId],
        changes: &Changes,
        mut backfills: HashMap<RelationId, Vec<Piece>>,
    ) {
        let (start, mut measured) = (Instant::now(), self.fed(touched, changes, &backfills));
        let worker_count = self.links.len();
        let first_worker = epoch.0 as usize;
        let measure = self.checkpoints.is_measure_due()
            || touched.iter().any(|id| self.views[id].step_count.is_multiple_of(MEASURE_EVERY));
        let catching_up = Arc::new(self.catching_up());
        let arranged = Arc::new(self.looked_into(touched));
        let mut steps: Vec<Step> = (0..worker_count)
            .map(|_| Step {
                epoch,
                views: touched.to_vec(),
                changes: HashMap::new(),
                backfills: HashMap::new(),
                arranged: arranged.clone(),
                watermarks: self.watermarks.clone(),
                now_us: self.now_us,
                catching_up: catching_up.clone(),
                measure,
            })
            .collect();
        for (relation, deltas) in changes {
            for change in deltas {
                for (worker, delta) in spread(&change.delta, worker_count, first_worker) {
                    let part = RelationDelta { columns: change.columns.clone(), delta };
                    steps[worker].changes.entry(*relation).or_default().push(part);
                }
            }
        }
        for (view, pieces) in backfills.drain() {
            for Piece { relation, change, is_new } in pieces {
                for (worker, delta) in spread(&change.delta, worker_count, first_worker) {
                    let change = RelationDelta { columns: change.columns.clone(), delta };
                    steps[worker].backfills.entry(view).or_default().push(Piece { relation, change, is_new });
                }
            }
        }
        for (link, step) in self.links.iter().zip(steps) {
            if link.commands.send(Command::Step(step)).is_err() {
                super::die("worker", "its channel is closed");
            }
        }
        let mut outputs: Vec<ViewOutput> = vec![];
        for link in &self.links {
            match link.results.recv() {
                Ok(Ok(views)) => outputs.extend(views),
                Ok(Err(words)) => super::die("worker", &words),
                Err(_) => super::die("worker", "its channel is closed"),
            }
        }
        for output in &outputs {
            if let Ok(place) = touched.binary_search(&output.view) {
                // Workers are at it together.
                let time_us = &mut measured.views[place].0;
                *time_us = time_us.max(output.elapsed.as_micros() as f64);
            }
        }
        self.take_outputs(epoch, touched, outputs);
        measured.step_us = start.elapsed().as_micros() as f64;
        self.quotas.observe(&measured);
        if measure {
            self.account_memory();
        }
    }

    /// Where the rows of an epoch come from, for each view. Nothing is known yet of the time that they take.
    fn fed(&self, touched: &[RelationId], changes: &Changes, backfills: &HashMap<RelationId, Vec<Piece>>) -> Measured {
        let mut measured = Measured::default();
        for (relation, deltas) in changes {
            let row_count = deltas.iter().map(|change| change.delta.row_count()).sum();
            measured.row_counts.insert(Feed::Relation(*relation), row_count);
        }
        for (view, pieces) in backfills {
            let row_count = pieces.iter().map(|piece| piece.change.delta.row_count()).sum();
            measured.row_counts.insert(Feed::Backfill(*view), row_count);
        }
        for id in touched {
            let mut feeds = BTreeSet::new();
            for relation in self.views[id].relations() {
                match touched.binary_search(&relation) {
                    Ok(below) => feeds.extend(measured.views[below].1.iter().copied()),
                    Err(_) if changes.contains_key(&relation) => {
                        feeds.insert(Feed::Relation(relation));
                    }
                    Err(_) => {}
                }
            }
            if backfills.contains_key(id) {
                feeds.insert(Feed::Backfill(*id));
            }
            measured.views.push((0.0, feeds));
        }
        measured
    }
}
