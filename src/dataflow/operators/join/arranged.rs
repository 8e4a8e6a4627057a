//! A side whose rows the join does not keep: those under a delta's keys are looked up in the relation's arrangement, as it was
//! before the epoch.

use arrow::array::{Array, ArrayRef};

use crate::dataflow::operators::{FilterOperator, ProjectOperator};
use crate::dataflow::{EpochContext, Operator};
use crate::error::{Error, Result};
use crate::plan::{ArrangedInput, StreamNode};
use crate::types::{Delta, RelationId};

pub struct Arranged {
    /// Left or right.
    pub side: usize,
    relation: RelationId,
    /// The relation's columns that the join reads.
    columns: Vec<usize>,
    /// The relation's columns that the join's keys are.
    key: Vec<usize>,
    /// From what is read to the join's input. None of them can fail.
    steps: Vec<Box<dyn Operator>>,
}

impl Arranged {
    /// `keys` are the key columns of the input.
    pub fn new(side: usize, input: &ArrangedInput<'_>, keys: &[usize]) -> Result<Arranged> {
        let key = keys.iter().map(|&column| input.source(column)).collect::<Option<_>>();
        let key = key.ok_or_else(|| Error::internal("the key of an arranged side is computed"))?;
        let steps = input.steps.iter().map(|step| match &step.node {
            StreamNode::Filter { predicate, .. } => Box::new(FilterOperator::new(predicate.clone())) as _,
            StreamNode::Project { exprs, .. } => {
                Box::new(ProjectOperator::new(exprs.clone(), step.schema.clone())) as _
            }
            _ => unreachable!("an arranged input is filtered and projected alone"),
        });
        Ok(Arranged { side, relation: input.relation, columns: input.columns.to_vec(), key, steps: steps.collect() })
    }

    /// The rows of the input under these keys, and maybe others. Before the epoch they add up to what they were.
    pub fn look_up(&mut self, keys: &[ArrayRef], context: &mut EpochContext) -> Result<Vec<Delta>> {
        let row_count = keys.first().map_or(0, |key| key.len());
        let arranged = context.arranged.clone();
        let snapshot = arranged.get(&self.relation).ok_or_else(|| {
            Error::internal(format!("relation {} is not there for those that look into it", self.relation.0))
        })?;
        let mut found = snapshot.find(&self.key, keys, row_count, &self.columns)?;
        for step in &mut self.steps {
            found = step.step(vec![found], context)?;
        }
        Ok(found)
    }
}
