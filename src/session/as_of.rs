//! Instants that a statement names: `FOR SYSTEM_TIME AS OF e`, `SUBSCRIBE … AS OF e`. A whole number is an epoch; anything that
//! is a time is a wall-clock instant, without a zone in that of the session.
//!
//! An instant means the last epoch that was committed at or before it, now and whenever it is asked again: where the last
//! committed one is older, the runtime first promises that no other will come before it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use super::Session;
use crate::error::{Error, Result, SqlState};
use crate::serve::past::{Then, in_the_future};
use crate::sql::StatementKind;
use crate::state::World;
use crate::types::text_input::parse_text;
use crate::types::{Epoch, PgType};

impl Session {
    /// The world that a statement reads: the newest, or that of the transaction's first statement if it holds its epoch.
    pub(super) fn world(&self) -> Arc<World> {
        let world = self.transaction.held(&self.context.settings.lock(), || self.shared.runtime.world());
        self.context.epoch.store(world.epoch.0, std::sync::atomic::Ordering::Relaxed);
        world
    }

    pub(super) async fn resolve_instants(&self, instants: &[String]) -> Result<HashMap<String, Then>> {
        let mut resolved = HashMap::new();
        for instant in instants {
            resolved.insert(instant.clone(), self.resolve_instant(instant).await?);
        }
        Ok(resolved)
    }

    /// 22023 if it is in the future, or no instant at all.
    pub(super) async fn resolve_instant(&self, expression: &str) -> Result<Then> {
        let instant_us = match self.evaluate_instant(expression).await? {
            Instant::Epoch(epoch) => return Ok(Then { epoch, instant_us: None }),
            Instant::Time(us) => us,
        };
        let then = |epoch: Epoch| Then { epoch, instant_us: Some(instant_us) };
        let world = self.shared.runtime.world();
        if instant_us > chrono::Utc::now().timestamp_micros().max(world.at_us) {
            return Err(in_the_future(then(world.epoch), world.moment()));
        }
        if world.timeline.last().is_some_and(|last| instant_us > last.at_us) {
            return Ok(then(self.shared.runtime.settle(instant_us).await?));
        }
        // Before all that is known: no relation reaches so far back.
        Ok(then(world.timeline.at(instant_us).map_or(Epoch(0), |moment| moment.epoch)))
    }

    pub(super) async fn evaluate_instant(&self, expression: &str) -> Result<Instant> {
        if let Ok(epoch) = expression.parse() {
            return Ok(Instant::Epoch(Epoch(epoch)));
        }
        let statements = crate::sql::parser::parse(&format!("SELECT ({expression})"))?;
        let Some(StatementKind::Query(query)) = statements.into_iter().map(|s| s.kind).next() else {
            return Err(Error::internal("an instant is no expression"));
        };
        let bound = match self.bind_query(&query, &[]) {
            Ok(bound) if bound.parameters.is_empty() && bound.relations.is_empty() => bound,
            Ok(_) => return Err(not_constant()),
            Err(error) if matches!(error.code, SqlState::UNDEFINED_COLUMN | SqlState::UNDEFINED_TABLE) => {
                return Err(not_constant());
            }
            Err(error) => return Err(Error { position: None, ..error }),
        };
        let batches = self.collect(&self.read_point()?, bound.plan).await?;
        let Some(row) = batches.iter().find(|batch| batch.num_rows() > 0) else {
            return Err(Error::internal("an instant has no value"));
        };
        read(ScalarValue::try_from_array(row.column(0), 0)?, &PgType::of(row.schema().field(0)), self.time_zone())
    }
}

/// What an expression says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Instant {
    Epoch(Epoch),
    /// Microseconds since 1970.
    Time(i64),
}

fn not_constant() -> Error {
    let hint = "AS OF takes one instant for the whole statement, without columns and parameters; to join each row with what \
                another relation was at its time, keep the versions as rows and write ASOF JOIN";
    Error::unsupported("AS OF with anything but a constant expression", hint)
}

fn read(value: ScalarValue, pg_type: &PgType, zone: chrono_tz::Tz) -> Result<Instant> {
    let wrong = |what: String| {
        Error::new(SqlState::INVALID_PARAMETER_VALUE, what)
            .with_hint("AS OF takes a timestamp, as in TIMESTAMP '2026-01-31 12:00' or now() - INTERVAL '10 seconds', or the number of an epoch")
    };
    if value.is_null() {
        return Err(wrong("AS OF cannot be NULL".to_string()));
    }
    if value.data_type().is_integer() {
        let ScalarValue::Int64(Some(epoch)) = value.cast_to(&DataType::Int64)? else {
            return Err(Error::internal("a whole number is none"));
        };
        let epoch = u64::try_from(epoch).map_err(|_| wrong(format!("{epoch} is no epoch")))?;
        return Ok(Instant::Epoch(Epoch(epoch)));
    }
    let text = match pg_type {
        PgType::Timestamptz => match value {
            ScalarValue::TimestampMicrosecond(Some(us), _) => return Ok(Instant::Time(us)),
            other => other.to_string(),
        },
        PgType::Timestamp | PgType::Date | PgType::Text | PgType::Unknown => match value.cast_to(&DataType::Utf8)? {
            ScalarValue::Utf8(Some(text)) => text.replacen('T', " ", 1),
            other => other.to_string(),
        },
        other => return Err(wrong(format!("AS OF cannot be of type {}", other.name()))),
    };
    match parse_text(&text, &PgType::Timestamptz, zone) {
        Ok(ScalarValue::TimestampMicrosecond(Some(us), _)) => Ok(Instant::Time(us)),
        Ok(_) => Err(wrong(format!("\"{text}\" is no instant"))),
        Err(error) => Err(error),
    }
}
