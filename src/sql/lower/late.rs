//! The relation of a view's late rows: what is taken out at each place, as one relation that clients read.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Literal, binary, cast};

use super::time::ARRIVAL_COLUMNS;
use super::{copy, project, union_all};
use crate::catalog::ViewOptions;
use crate::error::{Error, Result, SqlState};
use crate::plan::{Limit, Properties, StreamNode, StreamPlan, TimeLimit};
use crate::types::RelationId;

/// Tells of which input a row was, where there are several.
const RELATION: &str = "late_relation";

/// `found`: for each place, its late rows with the watermark and the time of their arrival.
pub(super) fn late_rows(found: Vec<StreamPlan>, options: &ViewOptions) -> Result<StreamPlan> {
    let mut shown: Vec<StreamPlan> = found.iter().map(|late| shown(late.clone())).collect::<Result<_>>()?;
    let plan = match shown.len() {
        0 => {
            return Err(Error::unsupported(
                "late_rows = 'keep' for a query that takes out late rows nowhere",
                "it takes groups, a top-n or a join by a window, or a session, of a column with a watermark",
            ));
        }
        1 => shown.remove(0),
        _ => side_by_side(&found, shown)?,
    };
    match options.late_rows_retention_us {
        Some(retention_us) => kept_for(plan, &found, retention_us),
        None => Ok(plan),
    }
}

/// What clients see of the arrival are timestamps, and no two columns of one name.
fn shown(late: StreamPlan) -> Result<StreamPlan> {
    let width = late.schema.fields().len() - ARRIVAL_COLUMNS.len();
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields: Vec<Arc<Field>> = vec![];
    let mut exprs = vec![];
    for (column, field) in late.schema.fields().iter().enumerate() {
        let mut name = field.name().clone();
        while fields.iter().any(|other| *other.name() == name) {
            name.push('_');
        }
        let expr = copy(&late.schema, column);
        if column < width {
            exprs.push(expr);
            fields.push(Arc::new(field.as_ref().clone().with_name(name)));
        } else {
            exprs.push(cast(expr, &late.schema, instant.clone())?);
            fields.push(Arc::new(Field::new(name, instant.clone(), true)));
        }
    }
    Ok(project(late, exprs, Arc::new(Schema::new(fields))))
}

/// The rows of all places: the name of the relation, the columns of any, NULL where a place has none of the name, and the
/// arrival. 42804 if columns of one name have different types.
fn side_by_side(found: &[StreamPlan], places: Vec<StreamPlan>) -> Result<StreamPlan> {
    let mut fields: Vec<Arc<Field>> = vec![Arc::new(Field::new(RELATION, DataType::Utf8, true))];
    let own = |place: &StreamPlan| place.schema.fields().len() - ARRIVAL_COLUMNS.len();
    let all = places.iter().flat_map(|place| place.schema.fields()[..own(place)].to_vec());
    let arrival = places[0].schema.fields()[own(&places[0])..].to_vec();
    for field in all.chain(arrival) {
        match fields.iter().find(|known| known.name() == field.name()) {
            Some(known) if known.data_type() == field.data_type() => {}
            Some(known) => {
                let message = format!("late rows have columns \"{}\" of different types", known.name());
                return Err(Error::new(SqlState::DATATYPE_MISMATCH, message)
                    .with_hint("rename one of them in a subquery, so that late rows of both are in one relation"));
            }
            None => fields.push(Arc::new(field.as_ref().clone().with_nullable(true))),
        }
    }
    let schema = Arc::new(Schema::new(fields));
    let widened = places.into_iter().zip(found).map(|(place, late)| {
        let name = relation_name(late).map_or(ScalarValue::Utf8(None), |name| ScalarValue::Utf8(Some(name)));
        let column = |field: &Arc<Field>| -> Result<Arc<dyn PhysicalExpr>> {
            if field.name() == RELATION {
                return Ok(Arc::new(Literal::new(name.clone())));
            }
            match place.schema.index_of(field.name()) {
                Ok(column) => Ok(copy(&place.schema, column)),
                Err(_) => Ok(Arc::new(Literal::new(ScalarValue::try_from(field.data_type())?))),
            }
        };
        let exprs = schema.fields().iter().map(column).collect::<Result<_>>()?;
        Ok(project(place.clone(), exprs, schema.clone()))
    });
    let inputs = widened.collect::<Result<Vec<StreamPlan>>>()?;
    Ok(StreamPlan { properties: Properties::default(), ..union_all(inputs, schema.clone()) })
}

/// Until `retention_us` after their arrival. 0A000 where that is not known.
fn kept_for(plan: StreamPlan, found: &[StreamPlan], retention_us: i64) -> Result<StreamPlan> {
    let is_known = |late: &StreamPlan| matches!(&late.node, StreamNode::Late { late, .. } if late.arrival.is_some());
    if !found.iter().all(is_known) {
        let hint =
            "rows made of several, as those of a join of streams are, have no arrival of their own; leave it out";
        return Err(Error::unsupported("late_rows_retention for rows whose arrival is not known", hint));
    }
    let schema = plan.schema.clone();
    let column = schema.index_of(ARRIVAL_COLUMNS[1]).map_err(|_| Error::internal("late rows have no arrival"))?;
    let nanoseconds = retention_us.checked_mul(1_000);
    let span = nanoseconds.map(|ns| ScalarValue::new_interval_mdn(0, 0, ns));
    let span =
        span.ok_or_else(|| Error::new(SqlState::INVALID_PARAMETER_VALUE, "late_rows_retention is out of range"))?;
    let expr = binary(copy(&schema, column), Operator::Plus, Arc::new(Literal::new(span)), &schema)?;
    let limits = vec![TimeLimit { expr, limit: Limit::Until, is_inclusive: false }];
    let node = StreamNode::Temporal { input: Box::new(plan), limits, marks: false };
    Ok(StreamPlan { node, schema, properties: Properties::default() })
}

/// The relation by whose watermark the rows are late.
fn relation_name(late: &StreamPlan) -> Option<String> {
    let StreamNode::Late { late: taken, .. } = &late.node else { return None };
    let relation = taken.time.watermark.relations().first().copied()?;
    scanned(late, relation)
}

/// The name under which it is read; of a view that follows it, that of the view.
fn scanned(plan: &StreamPlan, relation: RelationId) -> Option<String> {
    let own = |plan: &&StreamPlan| matches!(&plan.node, StreamNode::Scan { relation: read, .. } if *read == relation);
    let follows = |plan: &&StreamPlan| {
        let times = &plan.properties.times;
        matches!(plan.node, StreamNode::Scan { .. })
            && times.iter().any(|time| time.watermark.relations().contains(&relation))
    };
    let scans = plan.preorder();
    let found =
        scans.iter().copied().find(|scan| own(scan)).or_else(|| scans.iter().copied().find(|scan| follows(scan)))?;
    match &found.node {
        StreamNode::Scan { name, .. } => Some(name.clone()),
        _ => None,
    }
}
