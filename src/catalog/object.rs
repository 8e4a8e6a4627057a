//! A relation's definition, as it is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, SqlState};
use crate::types::{PgType, Position, RelationId};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QualifiedName {
    pub schema: String,
    pub name: String,
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.schema == super::SCHEMA { f.write_str(&self.name) } else { write!(f, "{}.{}", self.schema, self.name) }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub pg_type: PgType,
    pub nullable: bool,
    /// The DEFAULT expression as SQL.
    pub default: Option<String>,
}

impl Column {
    /// The DEFAULT as Postgres shows it: a quoted constant has the column's type behind it.
    pub fn shown_default(&self) -> Option<String> {
        let default = self.default.as_deref()?.trim();
        if let Some(content) = default.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''))
            && !content.replace("''", "").contains('\'')
        {
            return Some(format!("{default}::{}", unmodified_name(&self.pg_type)));
        }
        const WORDS: &[&str] = &["CURRENT_TIMESTAMP", "CURRENT_DATE", "CURRENT_TIME", "LOCALTIMESTAMP", "CURRENT_USER"];
        let upper = default.to_ascii_uppercase();
        Some(match upper.as_str() {
            "TRUE" | "FALSE" => default.to_ascii_lowercase(),
            word if WORDS.contains(&word) => upper,
            _ => default.to_string(),
        })
    }
}

/// A type's name without length, precision and scale.
fn unmodified_name(pg_type: &PgType) -> String {
    match pg_type {
        PgType::Array(item) => format!("{}[]", unmodified_name(item)),
        PgType::Varchar(_) => "character varying".to_string(),
        PgType::Bpchar(_) => "bpchar".to_string(),
        PgType::Numeric(_) => "numeric".to_string(),
        other => other.name(),
    }
}

/// What a relation is, with what only that kind has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ObjectKind {
    /// `primary_key` holds column indices, ascending; empty: none.
    Table {
        primary_key: Vec<usize>,
        /// Nothing is updated or deleted.
        #[serde(default)]
        append_only: bool,
        /// Only of an append-only table.
        #[serde(default)]
        watermark: Option<WatermarkDefinition>,
        /// For how long it is known what it was.
        #[serde(default)]
        retention_us: i64,
    },
    Source(SourceDefinition),
    /// A name for a query; nothing runs.
    View,
    /// A maintained view. `key`: columns that no two rows share, if the planner proved some.
    MaterializedView {
        key: Option<Vec<usize>>,
        #[serde(default)]
        options: ViewOptions,
        /// The view whose late rows these are.
        #[serde(default)]
        late_rows_of: Option<RelationId>,
    },
    /// A maintained query whose changes go out; for now only to nowhere (`connector = 'blackhole'`).
    Sink,
}

impl ObjectKind {
    /// A table whose rows change.
    pub fn table(primary_key: Vec<usize>) -> ObjectKind {
        ObjectKind::Table { primary_key, append_only: false, watermark: None, retention_us: 0 }
    }

    pub fn maintained(key: Option<Vec<usize>>, options: ViewOptions) -> ObjectKind {
        ObjectKind::MaterializedView { key, options, late_rows_of: None }
    }
}

/// How a maintained view treats event time: EMIT and WITH (…).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewOptions {
    /// A window is shown when it is over, not before.
    pub emit_on_window_close: bool,
    /// How long after that its rows still count.
    pub allowed_lateness_us: i64,
    /// Rows that are later are kept in a relation of their own.
    pub keeps_late_rows: bool,
    /// For how long after their arrival, on the wall clock. `None`: for good.
    #[serde(default)]
    pub late_rows_retention_us: Option<i64>,
    /// For how long it is known what the view was.
    #[serde(default)]
    pub retention_us: i64,
}

impl ViewOptions {
    /// `WITH (…) `, or nothing.
    pub fn with_clause(&self) -> String {
        let options: Vec<String> = self.listed().iter().map(|(name, value)| format!("{name} = '{value}'")).collect();
        if options.is_empty() { String::new() } else { format!("WITH ({}) ", options.join(", ")) }
    }

    /// Those of WITH that were given, by name.
    pub fn listed(&self) -> Vec<(&'static str, String)> {
        let mut options = vec![];
        options.extend(span(self.allowed_lateness_us).map(|span| ("allowed_lateness", span)));
        if self.keeps_late_rows {
            options.push(("late_rows", "keep".to_string()));
        }
        options.extend(self.late_rows_retention_us.and_then(span).map(|span| ("late_rows_retention", span)));
        options.extend(span(self.retention_us).map(|span| ("retention", span)));
        options
    }

    /// ` EMIT ON WINDOW CLOSE`, or nothing.
    pub fn emit_clause(&self) -> &'static str {
        if self.emit_on_window_close { " EMIT ON WINDOW CLOSE" } else { "" }
    }
}

/// An option that is a span of time, as WITH (…) says it; nothing if it is zero.
pub fn span_option(name: &str, us: i64) -> Option<String> {
    span(us).map(|span| format!("{name} = '{span}'"))
}

fn span(us: i64) -> Option<String> {
    match us {
        0 => None,
        us if us % 1_000_000 == 0 => Some(format!("{} seconds", us / 1_000_000)),
        us => Some(format!("{us} microseconds")),
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceDefinition {
    /// WITH (…): lower-case keys, `connector` among them.
    pub options: BTreeMap<String, String>,
    /// PLAIN.
    pub format: String,
    /// JSON, CSV, PARQUET or NATIVE (the connector makes rows itself).
    pub encode: String,
    /// ENCODE CSV (…): lower-case keys.
    pub encode_options: BTreeMap<String, String>,
    pub watermark: Option<WatermarkDefinition>,
    /// By column, ascending.
    #[serde(default)]
    pub generated: Vec<GeneratedColumn>,
    /// Where reading starts, made concrete when the source was created, so that every reader sees the same rows.
    pub start: Position,
    /// ALTER SOURCE … PAUSE.
    #[serde(default)]
    pub is_paused: bool,
}

/// `WATERMARK FOR column AS expression`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WatermarkDefinition {
    pub column: usize,
    /// The expression's SQL.
    pub expression: String,
    /// What it subtracts from the column, in microseconds; `None` where it does anything else.
    pub delay_us: Option<i64>,
    /// The expression over the time column alone, where it does anything else; planned when the object is read or made.
    #[serde(skip)]
    pub planned: Option<Arc<dyn PhysicalExpr>>,
}

/// `column type GENERATED ALWAYS AS (expression) STORED`: computed where a row arrives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GeneratedColumn {
    pub column: usize,
    /// The expression's SQL.
    pub expression: String,
    /// The expression over the object's columns; planned when the object is read or made.
    #[serde(skip)]
    pub planned: Option<Arc<dyn PhysicalExpr>>,
}

impl GeneratedColumn {
    /// The instant at which the row was read first.
    pub fn is_proctime(&self) -> bool {
        let expression: String = self.expression.chars().filter(|c| !c.is_whitespace()).collect();
        expression.eq_ignore_ascii_case("proctime()")
    }
}

impl SourceDefinition {
    /// Whether a row's first arrival is told.
    pub fn tells_arrival(&self) -> bool {
        self.generated.iter().any(GeneratedColumn::is_proctime)
    }

    /// Whether the column is computed rather than read.
    pub fn is_generated(&self, column: usize) -> bool {
        self.generated.iter().any(|generated| generated.column == column)
    }

    /// Of the source's `width` columns, those that every reader makes, whatever it wants: those that a record may not have as
    /// they should be. So whether a record is bad depends on nobody's query.
    pub fn telling_columns(&self, width: usize) -> impl Iterator<Item = usize> + '_ {
        (0..width).filter(move |&column| match self.generated.iter().find(|generated| generated.column == column) {
            Some(generated) => !generated.is_proctime(),
            None => self.is_decoded(),
        })
    }

    /// Records are decoded; otherwise the connector makes rows itself.
    pub fn is_decoded(&self) -> bool {
        !matches!(self.encode.as_str(), "NATIVE" | "PARQUET")
    }

    /// Of all columns, those that are read.
    pub fn read_schema(&self, schema: &SchemaRef) -> SchemaRef {
        if self.generated.is_empty() {
            return schema.clone();
        }
        let read = schema.fields().iter().enumerate().filter(|(column, _)| !self.is_generated(*column));
        Arc::new(Schema::new(read.map(|(_, field)| field.clone()).collect::<Vec<_>>()))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Object {
    pub id: RelationId,
    pub name: QualifiedName,
    pub kind: ObjectKind,
    pub columns: Vec<Column>,
    /// For views, the SELECT; for others, the whole CREATE statement.
    pub definition: String,
    /// What it reads directly.
    pub depends_on: Vec<RelationId>,
    /// Of a table or materialized view, in the order of their creation.
    #[serde(default)]
    pub indexes: Vec<Index>,
}

/// CREATE INDEX. An index lives and goes with its relation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Its OID; of the same kind as relations' ids.
    pub id: RelationId,
    /// In the relation's schema.
    pub name: String,
    /// Column indices, most significant first.
    pub columns: Vec<usize>,
    pub unique: bool,
}

impl Object {
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(|c| c.pg_type.field(&c.name, c.nullable)).collect::<Vec<_>>()))
    }

    /// For how long it is known what the relation was.
    pub fn retention_us(&self) -> i64 {
        match &self.kind {
            ObjectKind::Table { retention_us, .. } => *retention_us,
            ObjectKind::MaterializedView { options, .. } => options.retention_us,
            _ => 0,
        }
    }

    /// `pg_class.relkind`: sources read as foreign tables, as they do in RisingWave's clients.
    pub fn relkind(&self) -> char {
        match self.kind {
            ObjectKind::Table { .. } => 'r',
            ObjectKind::Source(_) => 'f',
            ObjectKind::View => 'v',
            ObjectKind::MaterializedView { .. } => 'm',
            ObjectKind::Sink => 'f',
        }
    }

    /// As error messages and command tags name the kind.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            ObjectKind::Table { .. } => "table",
            ObjectKind::Source(_) => "source",
            ObjectKind::View => "view",
            ObjectKind::MaterializedView { .. } => "materialized view",
            ObjectKind::Sink => "sink",
        }
    }

    pub fn to_record(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an object has only string keys")
    }

    /// XX001 if the record cannot be read.
    pub fn from_record(record: &[u8]) -> Result<Object> {
        serde_json::from_slice(record)
            .map_err(|e| Error::new(SqlState::DATA_CORRUPTED, format!("unreadable catalog record: {e}")))
    }
}
