//! Which operators of a view keep state that nothing bounds.
//!
//! A table is bounded by its own contents: what is deleted from it leaves the state too. A source that never ends is not:
//! a join over it keeps its rows, an aggregate a group for each key, a top-n its partitions, unless they let go of what is
//! over in event time, as sessions do of their rows. What comes out of them grows all the same: closed windows stay in the
//! view.
//!
//! ```text
//! grows(σ, π, window)(A) = grows(A)      grows(A ∪ B) = grows(A) ∨ grows(B)
//! grows(A ⋈ B) = grows(A) ∨ grows(B)     grows(γ keys A) = keys ≠ ∅ ∧ grows(A)
//! grows(A lookup B) = grows(A)           grows(A asof B) = grows(A)
//! grows(first n A) = false, unless n counts for each partition, or groups of peers
//! ```

use arrow::datatypes::DataType;

use super::explain::operator;
use super::{AggregateKind, Limit, StreamNode, StreamPlan, Ties, TopN};
use crate::types::RelationId;

/// True if the rows that come out can become ever more, if `grows` tells so of relations.
pub fn grows(plan: &StreamPlan, relation_grows: &dyn Fn(RelationId) -> bool) -> bool {
    match &plan.node {
        StreamNode::Scan { relation, .. } => relation_grows(*relation),
        StreamNode::Aggregate { keys, .. } if keys.is_empty() => false,
        StreamNode::Lookup { left, .. } | StreamNode::Asof { left, .. } => grows(left, relation_grows),
        StreamNode::TopN { partition, top, .. } if partition.is_empty() && is_counted(top) => false,
        // What has expired is gone.
        StreamNode::Temporal { limits, marks: false, .. } if limits.iter().any(|limit| limit.limit == Limit::Until) => {
            false
        }
        _ if plan.properties.key.as_ref().is_some_and(|key| key.is_empty()) => false,
        _ => plan.inputs().into_iter().any(|input| grows(input, relation_grows)),
    }
}

/// The operators whose state grows without bound, with what they keep; outer ones first.
pub fn unbounded(plan: &StreamPlan, relation_grows: &dyn Fn(RelationId) -> bool) -> Vec<String> {
    let mut found = vec![];
    collect(plan, relation_grows, &mut found);
    found
}

/// The operators whose state does not go when memory is short, though it is on disk; outer ones first. `can_be_key`: state
/// that is kept by such columns does go. One group alone is not worth a word.
pub fn kept_in_memory(plan: &StreamPlan, can_be_key: &dyn Fn(&DataType) -> bool) -> Vec<String> {
    let are_keys = |input: &StreamPlan, columns: &[usize]| {
        columns.iter().all(|&column| can_be_key(input.schema.field(column).data_type()))
    };
    let goes = |part: &StreamPlan| match &part.node {
        StreamNode::Aggregate { input, keys, .. } => are_keys(input, keys),
        StreamNode::Join { left, keys, .. } => !keys.left.is_empty() && are_keys(left, &keys.left),
        StreamNode::TopN { input, partition, top, .. } if partition.is_empty() => {
            is_counted(top) && input.properties.append_only
        }
        StreamNode::TopN { input, partition, .. } | StreamNode::OverWindow { input, partition, .. } => {
            !partition.is_empty() && are_keys(input, partition)
        }
        _ => !part.is_stateful(),
    };
    let kept = plan.preorder().into_iter().filter(|part| !goes(part));
    kept.map(|part| format!("the state of {} is kept in memory", operator(part))).collect()
}

fn collect(plan: &StreamPlan, relation_grows: &dyn Fn(RelationId) -> bool, found: &mut Vec<String>) {
    let mut growing: Vec<bool> = plan.inputs().into_iter().map(|input| grows(input, relation_grows)).collect();
    match &plan.node {
        // What is never taken back need not be remembered.
        StreamNode::Lookup { left, .. } => growing[0] &= !left.properties.append_only,
        StreamNode::Join { arranged: Some(side), .. } => growing[*side] = false,
        StreamNode::Join { closing: Some(closing), .. } => {
            growing.iter_mut().zip(closing.lets_go()).for_each(|(grows, lets_go)| *grows &= !lets_go);
        }
        _ => {}
    }
    if plan.is_stateful() && growing.contains(&true) && !is_bounded(plan) {
        found.push(format!("{} keeps {}", operator(plan), kept(plan, &growing)));
    }
    plan.inputs().into_iter().for_each(|input| collect(input, relation_grows, found));
}

/// So many rows at most.
fn is_counted(top: &TopN) -> bool {
    top.limit.is_some() && top.ties == Ties::Cut
}

/// One row for all of its input, and calls that need no more than a number each.
fn is_bounded(plan: &StreamPlan) -> bool {
    if let StreamNode::Hold { .. }
    | StreamNode::Temporal { .. }
    | StreamNode::Aggregate { closing: Some(_), .. }
    | StreamNode::Session { closing: Some(_), .. }
    | StreamNode::TopN { closing: Some(_), .. }
    | StreamNode::OverWindow { closing: Some(_), .. } = &plan.node
    {
        return true;
    }
    if let StreamNode::SlicedAggregate { slices, .. } = &plan.node {
        return slices.closing.is_some();
    }
    if let StreamNode::TopN { input, partition, top, .. } = &plan.node {
        return partition.is_empty() && is_counted(top) && input.properties.append_only;
    }
    let StreamNode::Aggregate { input, keys, calls, .. } = &plan.node else { return false };
    keys.is_empty()
        && calls.iter().all(|call| {
            match call.kind {
                AggregateKind::Min | AggregateKind::Max => input.properties.append_only,
                AggregateKind::General(_) => input.properties.append_only && call.kind.end().is_some(),
                // Running totals.
                _ => !call.distinct,
            }
        })
}

fn kept(plan: &StreamPlan, growing: &[bool]) -> String {
    match &plan.node {
        StreamNode::Aggregate { keys, calls, input, .. } if !keys.is_empty() => {
            let names: Vec<&str> = keys.iter().map(|&key| input.schema.field(key).name().as_str()).collect();
            let what = if calls.is_empty() { "every distinct" } else { "a group for every" };
            format!("{what} ({})", names.join(", "))
        }
        StreamNode::SlicedAggregate { .. } => "every slice of its windows".to_string(),
        StreamNode::Aggregate { .. } => "the values of its input".to_string(),
        StreamNode::Join { .. } | StreamNode::Lookup { .. } | StreamNode::Asof { .. } => match growing {
            [true, false] => "every row of its left input".to_string(),
            [false, true] => "every row of its right input".to_string(),
            _ => "every row of both inputs".to_string(),
        },
        _ => "rows of its input".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;
    use crate::plan::{AggregateCall, JoinClosing, JoinKeys, JoinType, Properties, TimeColumn, Watermark};

    const TABLE: RelationId = RelationId(1);
    const SOURCE: RelationId = RelationId(2);

    fn scan(relation: RelationId) -> StreamPlan {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let properties = Properties { append_only: relation == SOURCE, ..Properties::default() };
        StreamPlan { node: StreamNode::Scan { relation, name: "r".into(), columns: vec![0] }, schema, properties }
    }

    fn aggregate(input: StreamPlan, keys: Vec<usize>, kind: AggregateKind, distinct: bool) -> StreamPlan {
        let call = AggregateCall {
            kind,
            arguments: vec![0],
            order: vec![],
            filter: None,
            distinct,
            data_type: DataType::Int64,
            name: "call".into(),
        };
        let schema = input.schema.clone();
        let node =
            StreamNode::Aggregate { input: Box::new(input), keys, calls: vec![call], always: None, closing: None };
        StreamPlan { node, schema, properties: Properties::default() }
    }

    fn join(left: StreamPlan, right: StreamPlan) -> StreamPlan {
        let keys = JoinKeys { left: vec![0], right: vec![0], null_equals_null: vec![false] };
        let schema =
            Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Int64, true)]));
        let node = StreamNode::Join {
            left: Box::new(left),
            right: Box::new(right),
            join_type: JoinType::Inner,
            keys,
            residual: None,
            closing: None,
            arranged: None,
        };
        StreamPlan { node, schema, properties: Properties::default() }
    }

    #[test]
    fn what_is_kept_by_a_key_can_go() {
        let kept = |plan: &StreamPlan| kept_in_memory(plan, &|data_type| *data_type == DataType::Int64).len();
        let without_key = |mut joined: StreamPlan| {
            let StreamNode::Join { keys, .. } = &mut joined.node else { panic!("a join") };
            *keys = JoinKeys { left: vec![], right: vec![], null_equals_null: vec![] };
            joined
        };
        assert_eq!(kept(&join(scan(TABLE), scan(SOURCE))), 0);
        assert_eq!(kept(&without_key(join(scan(TABLE), scan(SOURCE)))), 1);
        assert_eq!(kept(&aggregate(join(scan(TABLE), scan(TABLE)), vec![0], AggregateKind::Max, false)), 0);
        let top = |relation, partition: &[usize], limit| {
            let (input, partition) = (Box::new(scan(relation)), partition.to_vec());
            let schema = input.schema.clone();
            let top = TopN { offset: 0, limit, ties: Ties::Cut };
            let node = StreamNode::TopN { input, partition, order: vec![], top, closing: None };
            StreamPlan { node, schema, properties: Properties::default() }
        };
        assert_eq!(kept(&top(TABLE, &[0], Some(3))), 0);
        // All of a table may yet come to the top; of what only grows, three rows are enough.
        assert_eq!([TABLE, SOURCE].map(|relation| kept(&top(relation, &[], Some(3)))), [1, 0]);
        assert_eq!(kept(&top(SOURCE, &[], None)), 1);
        let none = kept_in_memory(&join(scan(TABLE), scan(TABLE)), &|_| false);
        assert!(none[0].ends_with("is kept in memory"), "{none:?}");
    }

    fn told(plan: &StreamPlan) -> Vec<String> {
        unbounded(plan, &|relation| relation == SOURCE)
    }

    #[test]
    fn tables_bound_what_is_kept_of_them() {
        assert!(told(&join(scan(TABLE), scan(TABLE))).is_empty());
        assert!(told(&aggregate(scan(TABLE), vec![0], AggregateKind::Sum, false)).is_empty());
    }

    #[test]
    fn a_source_grows_in_joins_and_groups() {
        let sides = told(&join(scan(SOURCE), scan(TABLE)));
        assert_eq!(sides.len(), 1);
        assert!(sides[0].ends_with("keeps every row of its left input"), "{sides:?}");
        let both = told(&aggregate(join(scan(SOURCE), scan(SOURCE)), vec![0], AggregateKind::Count, false));
        assert_eq!(both.len(), 2);
        assert!(both[0].ends_with("keeps a group for every (a)"), "{both:?}");
        assert!(both[1].ends_with("keeps every row of both inputs"), "{both:?}");
    }

    #[test]
    fn one_number_for_all_rows_is_bounded() {
        let global = |kind, distinct| told(&aggregate(scan(SOURCE), vec![], kind, distinct)).len();
        assert_eq!(global(AggregateKind::Sum, false), 0);
        assert_eq!(global(AggregateKind::Max, false), 0);
        assert_eq!(global(AggregateKind::Count, true), 1);
        // What stands above one row is bounded too.
        let above = join(aggregate(scan(SOURCE), vec![], AggregateKind::Sum, false), scan(TABLE));
        assert!(told(&above).is_empty());
    }

    #[test]
    fn joins_are_bounded_where_they_let_go() {
        let watermark = Watermark::Relation(SOURCE);
        let time = TimeColumn { column: 0, watermark, lateness_us: 0, is_kept: true };
        let closings = [JoinClosing::Keys(time.clone()), JoinClosing::Rows([Some(time.clone()), Some(time)])];
        for lets_go in closings {
            let mut joined = join(scan(SOURCE), scan(SOURCE));
            if let StreamNode::Join { closing, .. } = &mut joined.node {
                *closing = Some(lets_go);
            }
            assert!(told(&joined).is_empty());
            // What comes out is there for good.
            assert!(grows(&joined, &|relation| relation == SOURCE));
        }
    }

    #[test]
    fn a_join_that_lets_go_of_one_side_keeps_the_other() {
        let time = TimeColumn { column: 0, watermark: Watermark::Relation(SOURCE), lateness_us: 0, is_kept: true };
        let mut joined = join(scan(SOURCE), scan(SOURCE));
        if let StreamNode::Join { closing, .. } = &mut joined.node {
            *closing = Some(JoinClosing::Rows([Some(time), None]));
        }
        let kept = told(&joined);
        assert!(kept[0].ends_with("keeps every row of its right input"), "{kept:?}");
    }

    #[test]
    fn sessions_are_bounded_where_they_end() {
        let session = |closing: Option<TimeColumn>| {
            let input = scan(SOURCE);
            let schema = input.schema.clone();
            let (input, partition) = (Box::new(input), vec![]);
            let node = StreamNode::Session { input, partition, time_column: 0, gap_us: 5, closing, arrival: None };
            StreamPlan { node, schema, properties: Properties::default() }
        };
        let watermark = Watermark::Relation(SOURCE);
        let closing = TimeColumn { column: 0, watermark, lateness_us: 0, is_kept: true };
        assert!(told(&session(Some(closing))).is_empty());
        let kept = told(&session(None));
        assert!(kept[0].ends_with("keeps rows of its input"), "{kept:?}");
    }
}
