//! Errors a client sees: SQLSTATE, message, detail, hint, position.
//!
//! Messages follow Postgres: lower case, no full stop, names in double quotes. Three kinds of trouble are kept
//! apart (docs/architecture.md): *user* errors are values of this type; *data* errors are rows that go to an error
//! relation ([`crate::types::RowError`]); a *bug* is a panic that names the broken invariant.

use std::fmt;

use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A five-character SQLSTATE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct SqlState(pub &'static str);

impl SqlState {
    pub const DUPLICATE_OBJECT: SqlState = SqlState("42710");
    pub const CONNECTION_FAILURE: SqlState = SqlState("08006");
    pub const PROTOCOL_VIOLATION: SqlState = SqlState("08P01");
    pub const FEATURE_NOT_SUPPORTED: SqlState = SqlState("0A000");
    pub const CARDINALITY_VIOLATION: SqlState = SqlState("21000");
    pub const STRING_DATA_RIGHT_TRUNCATION: SqlState = SqlState("22001");
    pub const NUMERIC_VALUE_OUT_OF_RANGE: SqlState = SqlState("22003");
    pub const INVALID_DATETIME_FORMAT: SqlState = SqlState("22007");
    pub const DATETIME_FIELD_OVERFLOW: SqlState = SqlState("22008");
    pub const DIVISION_BY_ZERO: SqlState = SqlState("22012");
    pub const INVALID_PARAMETER_VALUE: SqlState = SqlState("22023");
    pub const INVALID_TEXT_REPRESENTATION: SqlState = SqlState("22P02");
    pub const INVALID_BINARY_REPRESENTATION: SqlState = SqlState("22P03");
    pub const BAD_COPY_FILE_FORMAT: SqlState = SqlState("22P04");
    pub const DATA_EXCEPTION: SqlState = SqlState("22000");
    pub const NOT_NULL_VIOLATION: SqlState = SqlState("23502");
    pub const UNIQUE_VIOLATION: SqlState = SqlState("23505");
    pub const INVALID_CURSOR_STATE: SqlState = SqlState("24000");
    pub const ACTIVE_SQL_TRANSACTION: SqlState = SqlState("25001");
    pub const NO_ACTIVE_SQL_TRANSACTION: SqlState = SqlState("25P01");
    pub const IN_FAILED_SQL_TRANSACTION: SqlState = SqlState("25P02");
    pub const INVALID_SQL_STATEMENT_NAME: SqlState = SqlState("26000");
    pub const DEPENDENT_OBJECTS_STILL_EXIST: SqlState = SqlState("2BP01");
    pub const INVALID_AUTHORIZATION: SqlState = SqlState("28000");
    pub const INVALID_PASSWORD: SqlState = SqlState("28P01");
    pub const INVALID_CURSOR_NAME: SqlState = SqlState("34000");
    pub const INVALID_SAVEPOINT: SqlState = SqlState("3B001");
    pub const INVALID_CATALOG_NAME: SqlState = SqlState("3D000");
    pub const INVALID_SCHEMA_NAME: SqlState = SqlState("3F000");
    pub const SERIALIZATION_FAILURE: SqlState = SqlState("40001");
    pub const INSUFFICIENT_PRIVILEGE: SqlState = SqlState("42501");
    pub const SYNTAX_ERROR: SqlState = SqlState("42601");
    pub const DUPLICATE_COLUMN: SqlState = SqlState("42701");
    pub const AMBIGUOUS_COLUMN: SqlState = SqlState("42702");
    pub const UNDEFINED_COLUMN: SqlState = SqlState("42703");
    pub const UNDEFINED_OBJECT: SqlState = SqlState("42704");
    pub const GROUPING_ERROR: SqlState = SqlState("42803");
    pub const DATATYPE_MISMATCH: SqlState = SqlState("42804");
    pub const WRONG_OBJECT_TYPE: SqlState = SqlState("42809");
    pub const CANNOT_COERCE: SqlState = SqlState("42846");
    pub const UNDEFINED_FUNCTION: SqlState = SqlState("42883");
    pub const UNDEFINED_TABLE: SqlState = SqlState("42P01");
    pub const UNDEFINED_PARAMETER: SqlState = SqlState("42P02");
    pub const DUPLICATE_CURSOR: SqlState = SqlState("42P03");
    pub const DUPLICATE_PREPARED_STATEMENT: SqlState = SqlState("42P05");
    pub const DUPLICATE_SCHEMA: SqlState = SqlState("42P06");
    pub const DUPLICATE_TABLE: SqlState = SqlState("42P07");
    pub const INDETERMINATE_DATATYPE: SqlState = SqlState("42P18");
    pub const INVALID_TABLE_DEFINITION: SqlState = SqlState("42P16");
    pub const OUT_OF_MEMORY: SqlState = SqlState("53200");
    pub const DISK_FULL: SqlState = SqlState("53100");
    pub const CONFIGURATION_LIMIT_EXCEEDED: SqlState = SqlState("53400");
    pub const TOO_MANY_CONNECTIONS: SqlState = SqlState("53300");
    pub const PROGRAM_LIMIT_EXCEEDED: SqlState = SqlState("54000");
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: SqlState = SqlState("55000");
    pub const QUERY_CANCELED: SqlState = SqlState("57014");
    pub const ADMIN_SHUTDOWN: SqlState = SqlState("57P01");
    pub const CANNOT_CONNECT_NOW: SqlState = SqlState("57P03");
    pub const IO_ERROR: SqlState = SqlState("58030");
    pub const SNAPSHOT_TOO_OLD: SqlState = SqlState("72000");
    pub const CONFIG_FILE_ERROR: SqlState = SqlState("F0000");
    pub const INTERNAL_ERROR: SqlState = SqlState("XX000");
    pub const DATA_CORRUPTED: SqlState = SqlState("XX001");
}

/// What went wrong, as a Postgres client is told it. `position` counts characters of the statement from 1.
#[derive(Clone, Debug)]
pub struct Error {
    pub code: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub position: Option<usize>,
}

impl Error {
    pub fn new(code: SqlState, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), detail: None, hint: None, position: None }
    }

    /// 0A000: accepted by the parser, not by us. `what` names the construct; the hint names the way around it.
    pub fn unsupported(what: impl fmt::Display, hint: impl Into<String>) -> Error {
        Error::new(SqlState::FEATURE_NOT_SUPPORTED, format!("{what} is not supported")).with_hint(hint)
    }

    /// XX000: an invariant of ours did not hold, yet the process can go on.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(SqlState::INTERNAL_ERROR, message)
    }

    pub fn with_detail(mut self, detail: impl Into<String>) -> Error {
        self.detail = Some(detail.into());
        self
    }

    pub fn with_hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    pub fn with_position(mut self, position: usize) -> Error {
        self.position = Some(position);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> DataFusionError {
        DataFusionError::External(Box::new(error))
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Error {
        match error {
            ArrowError::DivideByZero => Error::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
            ArrowError::ArithmeticOverflow(_) => {
                // Integers are checked by arithmetic of our own.
                Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value overflows numeric format")
            }
            ArrowError::CastError(message)
                if message.contains("Overflowing on") || message.contains("overflows for output scale") =>
            {
                Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").with_detail(message)
            }
            ArrowError::CastError(message) | ArrowError::ParseError(message) => {
                let message = unreadable_text(&message).unwrap_or_else(|| lower_first(&message));
                Error::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
            }
            ArrowError::InvalidArgumentError(message)
                if message.contains("too large to store in a Decimal")
                    || message.contains("too small to store in a Decimal") =>
            {
                Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").with_detail(message)
            }
            ArrowError::InvalidArgumentError(message) | ArrowError::ComputeError(message) => {
                Error::new(SqlState::DATA_EXCEPTION, lower_first(&message))
            }
            ArrowError::ExternalError(inner) => match inner.downcast::<Error>() {
                Ok(own) => *own,
                Err(inner) => Error::internal(inner.to_string()),
            },
            other => Error::internal(other.to_string()),
        }
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Error {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<Error>() {
                Ok(own) => *own,
                Err(inner) => match inner.downcast::<ArrowError>() {
                    Ok(arrow) => Error::from(*arrow),
                    Err(inner) => Error::internal(inner.to_string()),
                },
            },
            DataFusionError::ArrowError(inner, _) => Error::from(*inner),
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => Error::from(*inner),
            DataFusionError::Collection(errors) => match errors.into_iter().next() {
                Some(first) => Error::from(first),
                None => Error::internal("an empty collection of errors"),
            },
            DataFusionError::Shared(inner) => shared(&inner),
            DataFusionError::SchemaError(inner, _) => schema_error(&inner),
            DataFusionError::SQL(inner, _) => Error::new(SqlState::SYNTAX_ERROR, lower_first(&inner.to_string())),
            DataFusionError::NotImplemented(message) => {
                Error::new(SqlState::FEATURE_NOT_SUPPORTED, lower_first(&message))
            }
            DataFusionError::ResourcesExhausted(message) => {
                Error::new(SqlState::OUT_OF_MEMORY, "out of memory").with_detail(message)
            }
            DataFusionError::Execution(message) => Error::new(SqlState::DATA_EXCEPTION, lower_first(&message)),
            DataFusionError::Plan(message) => plan_error(&message),
            other => Error::internal(other.to_string()),
        }
    }
}

/// An error that several consumers hold: keep what we can read from it without owning it.
fn shared(error: &DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(own) => own.clone(),
            None => Error::internal(inner.to_string()),
        },
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            ArrowError::DivideByZero => Error::from(ArrowError::DivideByZero),
            ArrowError::ArithmeticOverflow(m) => Error::from(ArrowError::ArithmeticOverflow(m.clone())),
            ArrowError::CastError(m) | ArrowError::ParseError(m) => Error::from(ArrowError::CastError(m.clone())),
            ArrowError::InvalidArgumentError(m) => Error::from(ArrowError::InvalidArgumentError(m.clone())),
            other => Error::internal(other.to_string()),
        },
        DataFusionError::ResourcesExhausted(m) => Error::from(DataFusionError::ResourcesExhausted(m.clone())),
        DataFusionError::Execution(m) => Error::from(DataFusionError::Execution(m.clone())),
        other => Error::internal(other.to_string()),
    }
}

fn schema_error(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, .. } => {
            Error::new(SqlState::UNDEFINED_COLUMN, format!("column \"{}\" does not exist", field.flat_name()))
        }
        SchemaError::AmbiguousReference { field } => {
            Error::new(SqlState::AMBIGUOUS_COLUMN, format!("column reference \"{}\" is ambiguous", field.name))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::new(SqlState::DUPLICATE_COLUMN, format!("column \"{name}\" specified more than once"))
        }
    }
}

/// DataFusion's planner says everything as text; give the common sayings their SQLSTATE.
fn plan_error(message: &str) -> Error {
    let lower = message.to_ascii_lowercase();
    let code = if lower.contains("table") && lower.contains("not found") {
        SqlState::UNDEFINED_TABLE
    } else if lower.contains("invalid function") || lower.contains("no function matches") {
        SqlState::UNDEFINED_FUNCTION
    } else if lower.contains("group by") || lower.contains("must appear in the group by") {
        SqlState::GROUPING_ERROR
    } else if lower.contains("cannot coerce") || lower.contains("cannot infer common argument type") {
        SqlState::DATATYPE_MISMATCH
    } else {
        SqlState::SYNTAX_ERROR
    };
    Error::new(code, lower_first(message))
}

/// `Cannot cast string 'x' to value of Int32 type` as Postgres says it.
fn unreadable_text(message: &str) -> Option<String> {
    let rest = message.strip_prefix("Cannot cast string '").or_else(|| message.strip_prefix("Cannot cast value '"))?;
    let (value, type_name) = rest.strip_suffix(" type")?.rsplit_once("' to value of ")?;
    let type_name = match type_name {
        "Int16" => "smallint",
        "Int32" => "integer",
        "Int64" => "bigint",
        "UInt32" => "oid",
        "Float32" => "real",
        "Float64" => "double precision",
        "Boolean" => "boolean",
        "Date32" => "date",
        _ => return None,
    };
    Some(format!("invalid input syntax for type {type_name}: \"{value}\""))
}

fn lower_first(text: &str) -> String {
    let text = text.trim_end_matches('.');
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        // Keep acronyms ("SQL …") as they are.
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_string(),
    }
}
