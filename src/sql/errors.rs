//! The planner's errors in Postgres' words, with a position where the planner knows one.

use datafusion::common::{DataFusionError, SchemaError};

use super::Statement;
use super::text::Text;
use crate::error::{Error, SqlState};

/// An error of planning `source`.
pub(super) fn explain(error: DataFusionError, source: &Text) -> Error {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let mut explained = reword(error);
    if let (None, Some(span)) = (explained.position, span) {
        let start = sqlparser::tokenizer::Location { line: span.start.line, column: span.start.column };
        explained.position = source.position(start);
    }
    point_to_constant(explained, source.whole(), 0, |_| true)
}

/// The position of the constant that could not be read, if an error of that kind has none: of the only one that is written like
/// it, of which `fits` says yes to what stands behind it. `offset`: characters before `text` in the client's message.
fn point_to_constant(error: Error, text: &str, offset: usize, fits: impl Fn(&str) -> bool) -> Error {
    let unreadable = [SqlState::INVALID_TEXT_REPRESENTATION.0, "22003", "22007", "22008"].contains(&error.code.0);
    let Some((_, value)) = error.message.split_once(": \"").filter(|_| unreadable && error.position.is_none()) else {
        return error;
    };
    let value = value.trim_end_matches('"');
    let literal = format!("'{}'", value.replace('\'', "''"));
    let mut found = text.match_indices(&literal).filter(|(at, _)| fits(&text[at + literal.len()..]));
    match (found.next(), found.next()) {
        (Some((at, _)), None) => error.with_position(offset + text[..at].chars().count() + 1),
        _ => error,
    }
}

/// An error of executing a statement: PostgreSQL reads `'x'::int` when it parses, and says where; here it is read when it is
/// computed, and the message tells what it was.
pub fn with_place_of_constant(error: Error, statement: &Statement) -> Error {
    point_to_constant(error, &statement.text, statement.offset, |rest| rest.trim_start().starts_with("::"))
}

fn reword(error: DataFusionError) -> Error {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => reword(*inner),
        DataFusionError::Collection(errors) => match errors.into_iter().next() {
            Some(first) => reword(first),
            None => Error::internal("an empty collection of errors"),
        },
        DataFusionError::SchemaError(schema_error, _) => schema(&schema_error),
        DataFusionError::Plan(message) => plan(&message),
        DataFusionError::NotImplemented(message) => not_implemented(&message),
        other => Error::from(other),
    }
}

fn schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let name = match &field.relation {
                Some(relation) => {
                    let relation = relation.table();
                    if !valid_fields.iter().any(|f| f.relation.as_ref().is_some_and(|r| r.table() == relation)) {
                        let message = format!("missing FROM-clause entry for table \"{relation}\"");
                        return Error::new(SqlState::UNDEFINED_TABLE, message);
                    }
                    format!("{relation}.{}", field.name)
                }
                None => format!("\"{}\"", field.name),
            };
            let error = Error::new(SqlState::UNDEFINED_COLUMN, format!("column {name} does not exist"));
            match nearest(&field.name, valid_fields.iter().map(|f| f.name.as_str())) {
                Some(near) => error.with_hint(format!("perhaps you meant to reference the column \"{near}\"")),
                None => error,
            }
        }
        SchemaError::AmbiguousReference { field } => {
            Error::new(SqlState::AMBIGUOUS_COLUMN, format!("column reference \"{}\" is ambiguous", field.name))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::new(SqlState::DUPLICATE_COLUMN, format!("column \"{name}\" specified more than once"))
        }
    }
}

/// The name that takes the fewest edits, if at most a third of its letters change.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| datafusion::common::utils::datafusion_strsim::levenshtein(name, other);
    candidates.map(|other| (distance(other), other)).min().filter(|(edits, _)| edits * 3 <= name.len()).map(|(_, n)| n)
}

fn plan(message: &str) -> Error {
    let between = |start: &str, end: &str| {
        let (_, rest) = message.split_once(start)?;
        rest.split_once(end).map(|(inner, _)| inner)
    };
    if let Some(name) = between("Invalid function '", "'") {
        return Error::new(SqlState::UNDEFINED_FUNCTION, format!("function {name} does not exist")).with_hint(
            "no function matches the given name and argument types. You might need to add explicit type casts",
        );
    }
    if let Some(call) = between("No function matches the given name and argument types '", "'. ") {
        if let Some(error) = quantified(call) {
            return error;
        }
        return Error::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("function {} does not exist", in_postgres_types(call)),
        )
        .with_hint("no function matches the given name and argument types. You might need to add explicit type casts");
    }
    if message.contains("Column in SELECT must be in GROUP BY")
        || message.contains("must appear in the GROUP BY clause")
    {
        let column = message.rsplit_once("expression \"").and_then(|(_, rest)| rest.split('"').next());
        let column = column.or_else(|| between("While expanding wildcard, column \"", "\"")).unwrap_or("?");
        return Error::new(
            SqlState::GROUPING_ERROR,
            format!("column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function"),
        );
    }
    if message.contains("Projections require unique expression names") {
        return Error::new(SqlState::DUPLICATE_COLUMN, "two columns of the select list have the same name")
            .with_hint("name them with AS");
    }
    if message.contains("Invalid placeholder, zero is not a valid index") {
        return Error::new(SqlState::UNDEFINED_PARAMETER, "there is no parameter $0");
    }
    if message.contains("Union queries have different number of columns")
        || message.contains("UNION queries have different number of columns")
    {
        return Error::new(SqlState::SYNTAX_ERROR, "each UNION query must have the same number of columns");
    }
    if message.contains("Inconsistent data length across values list") {
        return Error::new(SqlState::SYNTAX_ERROR, "VALUES lists must all be the same length");
    }
    if let Some(types) = between("Cannot coerce arithmetic expression ", " to valid types") {
        return Error::new(
            SqlState::UNDEFINED_FUNCTION,
            format!("operator does not exist: {}", in_postgres_types(types)),
        )
        .with_hint("no operator matches the given name and argument types. You might need to add explicit type casts");
    }
    Error::from(DataFusionError::Plan(message.to_string()))
}

/// `hw_any_eq(Int64, List(Utf8))`: a quantified comparison of what cannot be compared.
fn quantified(call: &str) -> Option<Error> {
    let (function, arguments) = call.strip_suffix(')')?.split_once('(')?;
    let op = crate::catalog::functions::quantified_operator(function)?;
    let Some((left, item)) = arguments.split_once(", List(").and_then(|(l, r)| Some((l, r.strip_suffix(')')?))) else {
        let message = "op ANY/ALL (array) requires array on right side";
        return Some(Error::new(SqlState::WRONG_OBJECT_TYPE, message));
    };
    let message = format!("operator does not exist: {} {op} {}", in_postgres_types(left), in_postgres_types(item));
    let hint = "no operator matches the given name and argument types. You might need to add explicit type casts";
    Some(Error::new(SqlState::UNDEFINED_FUNCTION, message).with_hint(hint))
}

fn not_implemented(message: &str) -> Error {
    let what =
        message.trim_end_matches('.').trim_end_matches(" is not supported yet").trim_end_matches(" not supported");
    let mut what = what.lines().next().unwrap_or_default().to_string();
    if let Some(rest) = what.strip_prefix("Unsupported ") {
        what = rest.to_string();
    }
    // The planner prints whole trees at times.
    if what.len() > 200 {
        let cut = (0..=200).rev().find(|&at| what.is_char_boundary(at)).unwrap_or(0);
        what.truncate(cut);
        what.push('…');
    }
    Error::unsupported(what, "write it another way")
}

/// `abs(Utf8)` as `abs(text)`.
fn in_postgres_types(text: &str) -> String {
    const NAMES: &[(&str, &str)] = &[
        ("LargeUtf8", "text"),
        ("Utf8View", "text"),
        ("Utf8", "text"),
        ("Boolean", "boolean"),
        ("UInt64", "bigint"),
        ("UInt32", "oid"),
        ("Int16", "smallint"),
        ("Int32", "integer"),
        ("Int64", "bigint"),
        ("Float32", "real"),
        ("Float64", "double precision"),
        ("Date32", "date"),
        ("Timestamp(µs, \"UTC\")", "timestamp with time zone"),
        ("Timestamp(µs)", "timestamp without time zone"),
        ("Timestamp(ns)", "timestamp without time zone"),
        ("Interval(MonthDayNano)", "interval"),
        ("Time64(µs)", "time without time zone"),
        ("Decimal128", "numeric"),
        ("Binary", "bytea"),
        ("Null", "unknown"),
    ];
    NAMES.iter().fold(text.to_string(), |text, (arrow, postgres)| text.replace(arrow, postgres))
}
