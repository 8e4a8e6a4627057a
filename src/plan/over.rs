//! Calls of window functions, and how far a change of one row reaches.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::window::WindowExpr;

/// One window function over the partitions of its operator.
#[derive(Clone, Debug)]
pub struct WindowCall {
    /// Evaluates the function over rows in order, its frame included.
    pub expr: Arc<dyn WindowExpr>,
    /// Rows where it is not true do not count (`FILTER (WHERE …)`); part of `expr` too.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    pub reach: Reach,
    /// As printed by EXPLAIN, and the output column's name.
    pub name: String,
    /// The name without what the arguments are called.
    pub form: String,
}

/// The same function over the same arguments and frame; its name tells DISTINCT and IGNORE NULLS.
impl PartialEq for WindowCall {
    fn eq(&self, other: &WindowCall) -> bool {
        let order = |call: &WindowCall| -> Vec<_> {
            call.expr.order_by().iter().map(|sort| (sort.expr.clone(), sort.options)).collect()
        };
        self.name == other.name
            && self.reach == other.reach
            && self.filter == other.filter
            && self.expr.expressions() == other.expr.expressions()
            && self.expr.partition_by() == other.expr.partition_by()
            && self.expr.get_window_frame() == other.expr.get_window_frame()
            && order(self) == order(other)
    }
}

/// Which rows of its partition a row's result depends on: so a change touches only the rows that reach it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    /// So many rows before and after it.
    Rows { before: u64, after: u64 },
    /// So many groups of peers before and after its own.
    Groups { before: u64, after: u64 },
    /// Rows whose ORDER BY value is so much less or more, in the direction of the order. `None`: no less, no more.
    Range { before: Option<ScalarValue>, after: Option<ScalarValue> },
    /// All rows before it (and its peers): what has been seen so far is kept at some places, so that evaluation starts
    /// at the change, and ends where what was seen is the same again.
    Running(Running),
    /// The whole partition.
    Partition,
}

/// What is kept of the rows seen so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Running {
    RowNumber,
    Rank,
    DenseRank,
    /// The first row's value of the argument.
    FirstValue,
    /// The state of an aggregate, which must be of bounded size; over the peers, too, or not.
    Aggregate {
        peers: bool,
    },
}

impl Reach {
    /// Results are equal among peers, or depend on them: peers are evaluated together.
    pub fn sees_peers(&self) -> bool {
        matches!(self, Reach::Groups { .. } | Reach::Range { .. } | Reach::Running(Running::Aggregate { peers: true }))
    }
}
