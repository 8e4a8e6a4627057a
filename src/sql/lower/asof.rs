//! The nearest row in time.

use datafusion::common::Column;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNodeCore};

use super::{Lowering, side_by_side};
use crate::error::Result;
use crate::plan::{JoinKeys, Nearest, Properties, SortColumn, StreamNode, StreamPlan, TimeColumn};
use crate::sql::asof::AsofNode;

impl Lowering<'_> {
    pub(super) fn asof(&self, node: &AsofNode) -> Result<StreamPlan> {
        let index = |plan: &LogicalPlan, column: &Column| plan.schema().index_of_column(column);
        let mut keys = JoinKeys::default();
        for (left, right) in &node.keys {
            keys.left.push(index(&node.left, left)?);
            keys.right.push(index(&node.right, right)?);
            keys.null_equals_null.push(false);
        }
        let order = node
            .order
            .iter()
            .map(|(column, options)| Ok(SortColumn { column: index(&node.right, column)?, options: *options }));
        let nearest = Nearest {
            keys,
            left_time: index(&node.left, &node.left_time)?,
            order: order.collect::<Result<_>>()?,
            is_strict: node.is_strict,
        };
        let (left, right) = (Box::new(self.node(&node.left)?), Box::new(self.node(&node.right)?));
        // A left row has one partner at most. It is shown anew when a nearer one comes, and is late then if its time is over.
        let key = left.properties.key.clone();
        let times = left.properties.times.iter().map(|time| TimeColumn { is_kept: false, ..time.clone() }).collect();
        let properties = Properties { append_only: false, key, times, arrival: None };
        let schema = side_by_side(UserDefinedLogicalNodeCore::schema(node));
        let node = StreamNode::Asof { left, right, nearest, keeps_unmatched: node.keeps_unmatched };
        Ok(StreamPlan { node, schema, properties })
    }
}
