//! SUBSCRIBE: as a statement, in COPY, and behind a cursor.
//!
//! A table or materialized view is followed as it is. Anything else is a query, which is maintained as long as the
//! subscription lives: as a view that is in no catalog and on no disk ([`RelationId::FIRST_TEMPORARY`]), and is dropped
//! with the stream of rows, however that ends. Such a view begins with now; AS OF an earlier epoch, the query is run once
//! over its inputs as they were, and what has changed between then and now is told as one change.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use chrono::DateTime;
use datafusion::execution::SendableRecordBatchStream;

use super::Session;
use super::as_of::Instant;
use super::ddl::{require_no_parameters, require_present, shape};
use crate::catalog::ObjectKind;
use crate::error::{Error, Result, SqlState};
use crate::plan::StreamNode;
use crate::runtime::{Followed, Runtime, ViewSpec};
use crate::serve::past::{self, Then};
use crate::serve::subscription::{self, End, Subscription, conform};
use crate::sql::bind::{Bound, bind_query_at};
use crate::sql::lower::lower;
use crate::sql::{Query, StatementKind, Subscribe, SubscribeSubject};
use crate::state::World;
use crate::state::history::Changes;
use crate::types::{Delta, Epoch, Moment, RelationId};

/// What is subscribed to.
enum Subject {
    Relation { id: RelationId, name: String, columns: Vec<FieldRef> },
    Query { query: Query, text: String, bound: Box<Bound> },
}

/// What is followed, and where that begins.
struct Followable {
    id: RelationId,
    name: String,
    columns: Vec<FieldRef>,
    /// It is there for this subscription.
    view: Option<Temporary>,
    /// Of a query with AS OF: what it gave then, and how that differs from what its view began with.
    past: Option<Past>,
}

struct Past {
    rows: Vec<RecordBatch>,
    gap: Option<Changes>,
}

/// The number of the next view of this kind; never used again while the process lives.
static NEXT_TEMPORARY: AtomicU32 = AtomicU32::new(RelationId::FIRST_TEMPORARY.0);

/// A view that lives as long as this.
struct Temporary {
    id: RelationId,
    runtime: Runtime,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.runtime.abandon(self.id);
    }
}

impl Session {
    /// The columns of the answer.
    pub(super) fn subscribe_fields(&self, subscribe: &Subscribe) -> Result<Vec<FieldRef>> {
        let columns = match self.subject(subscribe)? {
            Subject::Relation { columns, .. } => columns,
            Subject::Query { bound, .. } => bound_fields(&shape(*bound, &[])?.0),
        };
        Ok(subscription::fields(&columns, subscribe.progress))
    }

    /// Starts to follow. 72000 if AS OF is longer ago than is kept, 22023 if it is in the future.
    pub(super) async fn start_subscription(&mut self, subscribe: &Subscribe) -> Result<SendableRecordBatchStream> {
        self.refresh_state();
        let as_of = match &subscribe.as_of {
            Some(expression) => Some(self.resolve_instant(expression).await?),
            None => None,
        };
        let end = self.end_of(subscribe, as_of).await?;
        let last = match end {
            End::At(last) => Some(last),
            _ => None,
        };
        let (followable, followed) = match self.subject(subscribe)? {
            Subject::Relation { id, name, columns } => {
                self.wait_until_readable(&[id]).await?;
                let followed = self.shared.runtime.follow(id, as_of.map(|then| then.epoch)).await?;
                (Followable { id, name, columns, view: None, past: None }, followed)
            }
            Subject::Query { query, text, bound } => {
                let (view, columns) = self.maintain(*bound, as_of.is_some()).await?;
                let followed = self.shared.runtime.follow(view.id, None).await?;
                let past = match as_of {
                    Some(then) => Some(self.past_of(&query, then, last, view.id, &followed.world).await?),
                    None => None,
                };
                (Followable { id: view.id, name: text, columns, view: Some(view), past }, followed)
            }
        };
        let (Followable { id, name, columns, view, past }, Followed { world, hold, worlds }) = (followable, followed);
        let then = as_of.unwrap_or(Then { epoch: world.epoch, instant_us: None });
        if then.epoch > world.epoch {
            return Err(past::in_the_future(then, world.moment()));
        }
        let hold = hold.ok_or_else(|| past::out_of_reach(&world, id, &name, then))?;
        let (snapshot, gap) = match past {
            Some(Past { rows, gap }) => (subscribe.snapshot.then(|| Arc::new(rows)), gap),
            None if subscribe.snapshot => (Some(past::read(&world, id, &name, then)?.rows()?), None),
            None => (None, None),
        };
        let registered = self.shared.subscribers.register(self.context.entry.pid, name.clone(), then.epoch);
        let place = registered.place();
        let kept = Box::new((view, registered));
        let (from, progress) = (moment_of(&world, then.epoch), subscribe.progress);
        Ok(subscription::stream(Subscription {
            relation: id,
            name,
            columns,
            snapshot,
            from,
            gap,
            progress,
            hold,
            worlds,
            end,
            place,
            kept,
        }))
    }

    /// A query's rows at an instant, and their difference to those that its view has in `world`; or, if the subscription
    /// ends before that, to those at its end. Inputs are read as they were, so all of them must reach so far back.
    async fn past_of(
        &self,
        query: &Query,
        then: Then,
        last: Option<Epoch>,
        view: RelationId,
        world: &World,
    ) -> Result<Past> {
        if then.epoch > world.epoch {
            return Err(past::in_the_future(then, world.moment()));
        }
        let rows = self.rows_at(query, then, world).await?;
        let (at, now) = match last {
            Some(last) if last < world.epoch => {
                let last = Then { epoch: last, instant_us: None };
                (moment_of(world, last.epoch), self.rows_at(query, last, world).await?)
            }
            _ => {
                let now = Then { epoch: world.epoch, instant_us: None };
                (world.moment(), past::read(world, view, "subscription", now)?.rows()?.as_ref().clone())
            }
        };
        let Some(schema) = rows.iter().chain(&now).map(RecordBatch::schema).next() else {
            return Ok(Past { rows, gap: None });
        };
        let nullable = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let schema: SchemaRef = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
        let of = |batch: &RecordBatch| conform(batch.columns().to_vec(), &schema).map(Delta::insert);
        let inserted = now.iter().map(of);
        let retracted = rows.iter().map(|batch| of(batch).map(|delta| delta.negate()));
        let all = inserted.chain(retracted).collect::<Result<Vec<Delta>>>()?;
        let gap = Delta::concat(&schema, &all)?.consolidate()?;
        Ok(Past { rows, gap: (!gap.is_empty() && at.epoch > then.epoch).then(|| Changes::of_epoch(at, gap)) })
    }

    async fn rows_at(&self, query: &Query, then: Then, world: &World) -> Result<Vec<RecordBatch>> {
        // Any text will do: it is only compared.
        let instant = then.epoch.to_string();
        let bound = bind_query_at(&self.state, &self.resolver(self.shared.catalog()), query, &instant)?;
        let (bound, _) = shape(bound, &[])?;
        let read = self.read_point_with(HashMap::from([(instant, then)]))?;
        let mut state = self.query_state(&read);
        // What `now()` was.
        let started = DateTime::from_timestamp_micros(moment_of(world, then.epoch).at_us);
        state.execution_props_mut().query_execution_start_time = started;
        self.shared.engine.collect(state, bound.plan).await
    }

    /// UP TO: 22023 if that is before the start.
    async fn end_of(&self, subscribe: &Subscribe, as_of: Option<Then>) -> Result<End> {
        let Some(expression) = &subscribe.up_to else { return Ok(End::Never) };
        let last = match self.evaluate_instant(expression).await? {
            Instant::Epoch(epoch) => epoch,
            Instant::Time(us) => {
                let wait_us = us - chrono::Utc::now().timestamp_micros();
                if wait_us > 0 {
                    let runtime = self.shared.runtime.clone();
                    return Ok(End::Later(Box::pin(async move {
                        tokio::time::sleep(Duration::from_micros(wait_us as u64)).await;
                        runtime.settle(us).await
                    })));
                }
                self.resolve_instant(expression).await?.epoch
            }
        };
        let from = as_of.map_or_else(|| self.shared.runtime.world().epoch, |then| then.epoch);
        if last < from {
            let message = format!("UP TO epoch {last} is before the start, epoch {from}");
            return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
        }
        Ok(End::At(last))
    }

    fn subject(&self, subscribe: &Subscribe) -> Result<Subject> {
        let name = match &subscribe.subject {
            SubscribeSubject::Query { query, text } => return self.queried(query, text),
            SubscribeSubject::Relation(name) => name,
        };
        let catalog = self.shared.catalog();
        let found = self.resolver(catalog).find(name.schema.as_deref(), &name.name).cloned();
        if let Some(object) = found
            && matches!(object.kind, ObjectKind::Table { .. } | ObjectKind::MaterializedView { .. })
        {
            let columns = object.schema().fields().iter().cloned().collect();
            return Ok(Subject::Relation { id: object.id, name: object.name.to_string(), columns });
        }
        let text = super::copy::select_text(name, &[]);
        match crate::sql::parser::parse(&text)?.into_iter().map(|statement| statement.kind).next() {
            Some(StatementKind::Query(query)) => self.queried(&query, &name.name),
            _ => Err(Error::internal("a relation as a query is no query")),
        }
    }

    fn queried(&self, query: &Query, text: &str) -> Result<Subject> {
        let bound = self.bind_query(query, &[]).map_err(|error| Error { position: None, ..error })?;
        require_no_parameters(&bound)?;
        Ok(Subject::Query { query: query.clone(), text: text.to_string(), bound: Box::new(bound) })
    }

    /// Lets a query run as a view of this session's. Dropping the future drops the view.
    async fn maintain(&self, bound: Bound, in_the_past: bool) -> Result<(Temporary, Vec<FieldRef>)> {
        self.wait_until_readable(&bound.relations).await?;
        let (bound, _) = shape(bound, &[])?;
        let catalog = self.shared.catalog();
        let plan = lower(&self.state, &self.resolver(catalog), &bound)?;
        if in_the_past && plan.preorder().iter().any(|part| matches!(part.node, StreamNode::Late { .. })) {
            return Err(Error::unsupported(
                "SUBSCRIBE … AS OF to a query that lets late rows go",
                "create a materialized view of the query WITH (retention = '1 hour') and subscribe to that",
            ));
        }
        let runtime = self.shared.runtime.clone();
        let view = Temporary { id: RelationId(NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed)), runtime };
        let name = format!("subscription of session {}", self.context.entry.pid);
        let spec = ViewSpec { id: view.id, name, plan, discard: false, indexes: vec![] };
        self.shared.runtime.create_view(spec).await?;
        // What was dropped while it was built would never change again.
        require_present(self.shared.catalog().as_ref(), &bound.relations)?;
        Ok((view, bound_fields(&bound)))
    }
}

fn moment_of(world: &World, epoch: Epoch) -> Moment {
    match world.timeline.of(epoch) {
        Some(moment) if epoch < world.epoch => Moment { epoch, at_us: moment.at_us },
        _ => Moment { epoch, at_us: world.at_us },
    }
}

fn bound_fields(bound: &Bound) -> Vec<FieldRef> {
    bound.plan.schema().fields().iter().cloned().collect()
}

/// FETCH's patience. 22023 if it is no span of time.
pub(super) fn timeout(text: &str) -> Result<Duration> {
    match super::ddl::fixed_us(text).and_then(|us| u64::try_from(us).ok()) {
        Some(us) => Ok(Duration::from_micros(us)),
        None => Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("invalid timeout \"{text}\""))
            .with_hint("write a span of time, as in timeout = '1s'")),
    }
}
