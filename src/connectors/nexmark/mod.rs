//! `connector = 'nexmark'`: persons, auctions and bids of an auction house (Tucker et al., *NEXMark – A Benchmark for
//! Queries over Data Streams*, 2002; proportions and hot keys as in Apache Beam's generator, columns as in RisingWave's).
//!
//! Every row is a pure function of the seed and its event number, so any span can be made again, by anyone, in any order.
//!
//! ```text
//! event number n:  0  1  2  3  4 … 49 │ 50 …         1 person, 3 auctions, 46 bids in each fifty
//!                  P  A  A  A  B …  B │ P  …         time of n = base + n × gap
//! partition:       fifty 0             │ fifty 1 …    fifty f belongs to partition f mod nexmark.split.num
//! offset:          event number; those of a partition below it are taken
//! ```
//!
//! Options: `nexmark.table.type` (Person, Auction, Bid), `nexmark.event.num` (0 or absent: no end), `nexmark.seed`,
//! `nexmark.split.num`, `nexmark.min.event.gap.in.ns` (event time between two events), `nexmark.event.rate` (events of
//! all three kinds a second; absent: as fast as they are taken), `nexmark.base.time` (RFC 3339).

mod columns;
mod model;
mod reader;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use chrono::{DateTime, NaiveDateTime};

use super::options::invalid;
use super::{Connector, Options, Reader};
use crate::error::{Error, Result, SqlState};
use crate::types::{PgType, Position};
use columns::Column;
use model::{Kind, Model};

/// RisingWave's base time, 2015-07-15 00:00:00 UTC.
const BASE_TIME_US_DEFAULT: i64 = 1_436_918_400_000_000;
/// RisingWave's gap between two events.
const EVENT_GAP_NS_DEFAULT: u64 = 100_000;
const SPLIT_COUNT_MAX: u64 = 1024;

#[derive(Debug, Clone)]
pub struct NexmarkConnector {
    kind: Kind,
    model: Model,
    /// Events of all three kinds; `None`: without end.
    event_count: Option<u64>,
    /// Events of all three kinds a second, on the wall clock.
    event_rate: Option<f64>,
    split_count: u64,
    /// The declared columns.
    fields: Vec<(FieldRef, Column)>,
}

impl NexmarkConnector {
    /// `schema` may hold any of the columns in any order; empty: all.
    pub fn new(options: &Options, schema: &SchemaRef) -> Result<NexmarkConnector> {
        let name = options.require("nexmark.table.type")?;
        let kind = match name.to_ascii_lowercase().as_str() {
            "person" => Kind::Person,
            "auction" => Kind::Auction,
            "bid" => Kind::Bid,
            _ => return Err(invalid("nexmark.table.type", name, "it takes Person, Auction or Bid")),
        };
        let whole = "a whole number, not negative";
        let event_count = options.parse::<u64>("nexmark.event.num", whole)?.filter(|&count| count > 0);
        let split_count = options.parse::<u64>("nexmark.split.num", whole)?.unwrap_or(1);
        if !(1..=SPLIT_COUNT_MAX).contains(&split_count) {
            let hint = format!("it takes a number from 1 to {SPLIT_COUNT_MAX}");
            return Err(invalid("nexmark.split.num", &split_count.to_string(), &hint));
        }
        let event_rate = options.parse::<f64>("nexmark.event.rate", "events a second")?;
        if let Some(rate) = event_rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
            return Err(invalid(
                "nexmark.event.rate",
                &rate.to_string(),
                "it takes a number above 0, in events a second",
            ));
        }
        let base_time_us = match options.get("nexmark.base.time") {
            None => BASE_TIME_US_DEFAULT,
            Some(text) => {
                base_time(text).ok_or_else(|| invalid("nexmark.base.time", text, "write it as 2015-07-15T00:00:00Z"))?
            }
        };
        let gap = "nexmark.min.event.gap.in.ns";
        let event_gap_ns = options.parse::<u64>(gap, whole)?.unwrap_or(EVENT_GAP_NS_DEFAULT);
        if event_gap_ns > EVENT_GAP_NS_MAX {
            return Err(invalid(gap, &event_gap_ns.to_string(), "an hour is the most, 3600000000000"));
        }
        let model = Model { seed: options.parse("nexmark.seed", whole)?.unwrap_or(0), base_time_us, event_gap_ns };
        let fields = match schema.fields().is_empty() {
            true => Column::of(kind).iter().map(|column| (column.field(), *column)).collect(),
            false => schema.fields().iter().map(|field| declared(kind, field)).collect::<Result<_>>()?,
        };
        Ok(NexmarkConnector { kind, model, event_count, event_rate, split_count, fields })
    }
}

/// An hour between two events: more is a slip of the pen, and event times stay far from the end of i64.
const EVENT_GAP_NS_MAX: u64 = 3_600_000_000_000;

/// Microseconds since 1970.
fn base_time(text: &str) -> Option<i64> {
    let with_zone = DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_micros());
    let plain = |layout| NaiveDateTime::parse_from_str(text, layout).map(|time| time.and_utc().timestamp_micros());
    with_zone.or_else(|_| plain("%Y-%m-%d %H:%M:%S%.f")).or_else(|_| plain("%Y-%m-%dT%H:%M:%S%.f")).ok()
}

/// 42703 for a column the table does not have, 42804 for one that it has in another type.
fn declared(kind: Kind, field: &FieldRef) -> Result<(FieldRef, Column)> {
    let known = Column::of(kind);
    let Some(column) = known.iter().find(|column| column.name() == field.name()) else {
        let list: Vec<String> =
            known.iter().map(|column| format!("{} {}", column.name(), PgType::of(&column.field()).name())).collect();
        let message = format!("column \"{}\" does not exist in the nexmark table {kind:?}", field.name());
        let hint = format!("its columns: {}", list.join(", "));
        return Err(Error::new(SqlState::UNDEFINED_COLUMN, message).with_hint(hint));
    };
    let native = column.field();
    let fits = match (native.data_type(), field.data_type()) {
        (DataType::Timestamp(native, _), DataType::Timestamp(declared, _)) => native == declared,
        (DataType::Utf8, DataType::Utf8) => {
            matches!(PgType::of(field), PgType::Text | PgType::Varchar(None))
        }
        (native, declared) => native == declared,
    };
    if fits {
        return Ok((field.clone(), *column));
    }
    let message = format!("column \"{}\" cannot have type {}", field.name(), PgType::of(field).name());
    Err(Error::new(SqlState::DATATYPE_MISMATCH, message)
        .with_hint(format!("nexmark makes it as {}", PgType::of(&native).name())))
}

impl Connector for NexmarkConnector {
    fn start(&self) -> Result<Position> {
        Ok(Position((0..self.split_count).map(|split| (split.to_string(), 0)).collect()))
    }

    fn end(&self) -> Result<Option<Position>> {
        let Some(count) = self.event_count else { return Ok(None) };
        Ok(Some(Position((0..self.split_count).map(|split| (split.to_string(), count)).collect())))
    }

    fn is_endless(&self) -> bool {
        self.event_count.is_none()
    }

    fn open(&self, from: &Position, until: Option<&Position>, projection: &[usize]) -> Result<Box<dyn Reader>> {
        Ok(Box::new(reader::NexmarkReader::new(self, from, until, projection)?))
    }

    fn native_schema(&self) -> Option<SchemaRef> {
        let fields: Vec<FieldRef> = Column::of(self.kind).iter().map(Column::field).collect();
        Some(std::sync::Arc::new(Schema::new(fields)))
    }
}
