//! Rows that never change: all of them in the first step, nothing after.

use arrow::array::RecordBatch;

use crate::dataflow::{Durable, EpochContext, Operator};
use crate::error::Result;
use crate::types::Delta;

pub struct ValuesOperator {
    batch: RecordBatch,
}

impl ValuesOperator {
    pub fn new(batch: RecordBatch) -> ValuesOperator {
        ValuesOperator { batch }
    }
}

impl Operator for ValuesOperator {
    fn step(&mut self, _: Vec<Vec<Delta>>, context: &mut EpochContext) -> Result<Vec<Delta>> {
        // Every worker has this operator; the rows come from one of them.
        let shows = context.is_first && context.worker_index == 0 && self.batch.num_rows() > 0;
        Ok(if shows { vec![Delta::insert(self.batch.clone())] } else { vec![] })
    }

    fn durable(&mut self) -> Option<&mut dyn Durable> {
        None
    }
}
