//! The bounds of a row's session as window functions: `session_start(ts) OVER (PARTITION BY … ORDER BY ts)` looks at the
//! whole partition, in order and without NULLs.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Int64Array};
use datafusion::arrow::datatypes::{Field, FieldRef};
use datafusion::common::{Result as PlanResult, exec_err, plan_err};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{Expr, PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};

use super::adhoc::Bound;
use crate::dataflow::event_time::{times_of, times_us};
use crate::plan::session;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SessionBound {
    gap_us: i64,
    bound: Bound,
    signature: Signature,
}

impl SessionBound {
    pub fn new(gap_us: i64, bound: Bound) -> SessionBound {
        SessionBound { gap_us, bound, signature: Signature::any(1, Volatility::Immutable) }
    }

    pub fn call(self, time: Expr) -> Expr {
        WindowUDF::new_from_impl(self).call(vec![time])
    }
}

impl WindowUDFImpl for SessionBound {
    fn name(&self) -> &str {
        match self.bound {
            Bound::Start => "session_start",
            Bound::End => "session_end",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> PlanResult<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Partition { gap_us: self.gap_us, bound: self.bound }))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> PlanResult<FieldRef> {
        let Some(time) = args.get_input_field(0) else { return plan_err!("a session has a time column") };
        Ok(Arc::new(Field::new(args.name(), time.data_type().clone(), true)))
    }
}

#[derive(Debug)]
struct Partition {
    gap_us: i64,
    bound: Bound,
}

impl PartitionEvaluator for Partition {
    fn evaluate_all(&mut self, values: &[ArrayRef], _row_count: usize) -> PlanResult<ArrayRef> {
        let times = times_us(&values[0])?;
        if times.null_count() > 0 {
            return exec_err!("a row without a time is in no session");
        }
        let bounds = session::bounds(times.values(), self.gap_us);
        let bounds: Int64Array =
            bounds.map(|(start, end)| Some(if self.bound == Bound::Start { start } else { end })).collect();
        Ok(times_of(bounds, values[0].data_type())?)
    }
}
