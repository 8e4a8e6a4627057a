//! Column lists of CREATE TABLE and CREATE SOURCE: names, types, constraints, the watermark.

use datafusion::arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use sqlparser::ast::{self, ColumnOption, Expr, TableConstraint};
use sqlparser::tokenizer::Token;

use super::reader::{Fault, Reader, Sofar, fold};
use crate::error::{Error, Result, SqlState};
use crate::sql::{ColumnDefinition, Watermark};
use crate::types::PgType;

pub(super) struct Columns {
    pub columns: Vec<ColumnDefinition>,
    /// Indices, ascending.
    pub primary_key: Vec<usize>,
    pub watermark: Option<Watermark>,
}

/// What a column list may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    Table,
    Source,
}

/// `( column type constraint … , constraint … )`.
pub(super) fn column_list(reader: &mut Reader<'_>, allowed: Allowed) -> Sofar<Columns> {
    let mut list = Columns { columns: vec![], primary_key: vec![], watermark: None };
    let mut key: Option<Vec<String>> = None;
    let mut watermark = None;
    reader.expect(&Token::LParen)?;
    while !reader.parser.consume_token(&Token::RParen) {
        let (first, second) = (reader.peek_word(), reader.peek_second_word());
        match first.as_str() {
            "WATERMARK" if second == "FOR" => {
                if watermark.replace(read_watermark(reader)?).is_some() {
                    return Err(Error::new(SqlState::INVALID_TABLE_DEFINITION, "only one watermark is allowed").into());
                }
            }
            "LIKE" => return Err(Error::unsupported("CREATE TABLE … (LIKE …)", "list the columns").into()),
            "CONSTRAINT" | "PRIMARY" | "UNIQUE" | "CHECK" | "FOREIGN" | "EXCLUDE"
                if second != "," && is_constraint(&first, &second) =>
            {
                let columns = table_constraint(reader)?;
                if key.replace(columns).is_some() {
                    return Err(multiple_keys());
                }
            }
            _ => {
                let (column, is_key) = column(reader)?;
                if list.columns.iter().any(|other| other.name == column.name) {
                    let message = format!("column \"{}\" specified more than once", column.name);
                    return Err(Error::new(SqlState::DUPLICATE_COLUMN, message).into());
                }
                if is_key && key.replace(vec![column.name.clone()]).is_some() {
                    return Err(multiple_keys());
                }
                list.columns.push(column);
            }
        }
        if reader.peek_word() != ")" {
            reader.expect(&Token::Comma)?;
            if reader.peek_word() == ")" {
                return Err(reader.unexpected());
            }
        }
    }
    if let Some(key) = key {
        if allowed == Allowed::Source {
            return Err(Error::unsupported(
                "PRIMARY KEY on a source",
                "a source is a log of events; keep the last row of each key with a view",
            )
            .into());
        }
        list.primary_key = primary_key(&mut list.columns, &key)?;
    }
    list.watermark = watermark.map(|w| resolve_watermark(&list.columns, w)).transpose()?;
    Ok(list)
}

fn is_constraint(first: &str, second: &str) -> bool {
    match first {
        "PRIMARY" | "FOREIGN" => second == "KEY",
        "UNIQUE" | "CHECK" => second == "(" || second == "NULLS",
        _ => true,
    }
}

fn multiple_keys() -> Fault {
    Error::new(SqlState::INVALID_TABLE_DEFINITION, "multiple primary keys for table are not allowed").into()
}

fn primary_key(columns: &mut [ColumnDefinition], key: &[String]) -> Result<Vec<usize>> {
    let mut indices = vec![];
    for name in key {
        let Some(index) = columns.iter().position(|column| column.name == *name) else {
            let message = format!("column \"{name}\" named in key does not exist");
            return Err(Error::new(SqlState::UNDEFINED_COLUMN, message));
        };
        if indices.contains(&index) {
            let message = format!("column \"{name}\" appears twice in primary key constraint");
            return Err(Error::new(SqlState::DUPLICATE_COLUMN, message));
        }
        columns[index].nullable = false;
        indices.push(index);
    }
    indices.sort_unstable();
    Ok(indices)
}

/// A column, and whether it says PRIMARY KEY.
fn column(reader: &mut Reader<'_>) -> Sofar<(ColumnDefinition, bool)> {
    let name = reader.ident()?;
    let pg_type = data_type(reader, 0)?;
    let mut column = ColumnDefinition { name, pg_type, nullable: true, default: None, generated: None };
    let (mut is_key, mut said_null) = (false, false);
    loop {
        if reader.words(&["CONSTRAINT"]) {
            reader.ident()?;
            continue;
        }
        if let Some(expression) = generated(reader)? {
            if column.generated.replace(expression).is_some() {
                let message = format!("multiple generation clauses specified for column \"{}\"", column.name);
                return Err(Error::new(SqlState::SYNTAX_ERROR, message).into());
            }
            continue;
        }
        let from = reader.parser.index();
        let Some(option) = reader.parser.parse_optional_column_option()? else { break };
        match option {
            ColumnOption::Null => said_null = true,
            ColumnOption::NotNull => column.nullable = false,
            ColumnOption::PrimaryKey(_) => is_key = true,
            ColumnOption::Default(expr) => {
                // Its text, without the word DEFAULT.
                let text = reader.text_since(from);
                column.default = Some(text.get("DEFAULT".len()..).map(str::trim).unwrap_or_default().to_string());
                if matches!(&expr, Expr::Value(value) if value.value == ast::Value::Null) {
                    column.default = None;
                }
            }
            ColumnOption::Unique(_) => return Err(unsupported_constraint("UNIQUE")),
            ColumnOption::Check(_) => return Err(unsupported_constraint("CHECK")),
            ColumnOption::ForeignKey(_) => return Err(unsupported_constraint("REFERENCES")),
            ColumnOption::Generated { .. } | ColumnOption::Identity(_) => {
                return Err(
                    Error::unsupported("a column GENERATED AS IDENTITY", "take a uuid or a key of your own").into()
                );
            }
            ColumnOption::Collation(_) => {
                return Err(Error::unsupported("COLLATE", "text is ordered by its bytes; leave it out").into());
            }
            other => {
                let what = format!("column option {other}");
                return Err(Error::unsupported(what, "known: NOT NULL, NULL, DEFAULT, PRIMARY KEY").into());
            }
        }
    }
    if said_null && (is_key || !column.nullable) {
        let message = format!("conflicting NULL/NOT NULL declarations for column \"{}\"", column.name);
        return Err(Error::new(SqlState::SYNTAX_ERROR, message).into());
    }
    if column.generated.is_some() && (column.default.is_some() || is_key) {
        let what =
            if is_key { "a generated column in PRIMARY KEY" } else { "both a default and a generation expression" };
        return Err(Error::unsupported(format!("{what} of column \"{}\"", column.name), "leave one out").into());
    }
    Ok((column, is_key))
}

/// `GENERATED ALWAYS AS (expression) STORED`; in short, as in Flink and RisingWave, `AS expression`.
fn generated(reader: &mut Reader<'_>) -> Sofar<Option<String>> {
    let is_short = reader.words(&["AS"]);
    let from = reader.parser.index();
    if !is_short && !reader.words(&["GENERATED", "ALWAYS", "AS", "("]) {
        return Ok(None);
    }
    let expression = |reader: &mut Reader<'_>| reader.with_text(|reader| Ok(reader.parser.parse_expr()?));
    let (_, text) = expression(reader)?;
    if is_short {
        return Ok(Some(text));
    }
    reader.expect(&Token::RParen)?;
    if !reader.words(&["STORED"]) {
        let hint = "write GENERATED ALWAYS AS (expression) STORED: it is computed when a row arrives";
        let what = reader.text_since(from);
        return Err(Error::unsupported(format!("{what} without STORED"), hint).into());
    }
    Ok(Some(text))
}

fn unsupported_constraint(kind: &str) -> Fault {
    Error::unsupported(format!("a {kind} constraint"), "known constraints: PRIMARY KEY, NOT NULL").into()
}

/// Column names of `PRIMARY KEY (…)`.
fn table_constraint(reader: &mut Reader<'_>) -> Sofar<Vec<String>> {
    if reader.peek_word() == "EXCLUDE" {
        return Err(unsupported_constraint("EXCLUDE"));
    }
    match reader.parser.parse_optional_table_constraint()? {
        Some(TableConstraint::PrimaryKey(key)) => key
            .columns
            .iter()
            .map(|column| match &column.column.expr {
                Expr::Identifier(ident) => Ok(fold(ident)),
                _ => Err(Fault::from(Error::new(SqlState::SYNTAX_ERROR, "a primary key takes column names"))),
            })
            .collect(),
        Some(TableConstraint::Unique(_)) => Err(unsupported_constraint("UNIQUE")),
        Some(TableConstraint::Check(_)) => Err(unsupported_constraint("CHECK")),
        Some(TableConstraint::ForeignKey(_)) => Err(unsupported_constraint("FOREIGN KEY")),
        Some(_) => Err(unsupported_constraint("table")),
        None => Err(reader.unexpected()),
    }
}

/// How deep `struct<…>` may nest.
const TYPE_DEPTH_MAX: usize = 16;

/// A type name; also `struct<a int, b text>` and `t[]` of either.
pub(super) fn data_type(reader: &mut Reader<'_>, depth: usize) -> Sofar<PgType> {
    let mut pg_type = if reader.peek_word() == "STRUCT" && reader.peek_second_word() == "<" {
        if depth == TYPE_DEPTH_MAX {
            return Err(Error::new(SqlState("54001"), "types nest too deeply").into());
        }
        reader.expect_words(&["STRUCT", "<"])?;
        let mut fields = vec![];
        loop {
            let name = reader.ident()?;
            fields.push((name, data_type(reader, depth + 1)?));
            if !reader.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        close_angle(reader)?;
        PgType::Record(fields)
    } else {
        if matches!(reader.peek_word().as_str(), "SERIAL" | "BIGSERIAL" | "SMALLSERIAL") {
            return Err(Error::unsupported("serial", "there are no sequences; take a uuid or a key of your own").into());
        }
        super::super::types::pg_type(&reader.parser.parse_data_type()?)?
    };
    while reader.parser.consume_token(&Token::LBracket) {
        if reader.peek_word() != "]" {
            reader.literal()?;
        }
        reader.expect(&Token::RBracket)?;
        if !matches!(pg_type, PgType::Array(_)) {
            pg_type = PgType::Array(Box::new(pg_type));
        }
    }
    Ok(pg_type)
}

/// `>`; of `>>`, which the scanner reads as one token, the first half.
fn close_angle(reader: &mut Reader<'_>) -> Sofar<()> {
    if reader.half_shift {
        reader.half_shift = false;
        return reader.expect(&Token::ShiftRight);
    }
    if reader.peek_word() == ">>" {
        reader.half_shift = true;
        return Ok(());
    }
    reader.expect(&Token::Gt)
}

/// `WATERMARK FOR column AS expression`, with the expression's text.
type WatermarkClause = (String, Expr, String);

fn read_watermark(reader: &mut Reader<'_>) -> Sofar<WatermarkClause> {
    reader.expect_words(&["WATERMARK", "FOR"])?;
    let column = reader.ident()?;
    reader.expect_words(&["AS"])?;
    let (expr, text) = reader.with_text(|reader| Ok(reader.parser.parse_expr()?))?;
    Ok((column, expr, text))
}

fn resolve_watermark(columns: &[ColumnDefinition], (name, expr, expression): WatermarkClause) -> Result<Watermark> {
    let Some(column) = columns.iter().position(|column| column.name == name) else {
        let message = format!("column \"{name}\" named in the watermark does not exist");
        return Err(Error::new(SqlState::UNDEFINED_COLUMN, message).with_hint("list it among the source's columns"));
    };
    let pg_type = &columns[column].pg_type;
    if !matches!(pg_type, PgType::Timestamp | PgType::Timestamptz | PgType::Int8) {
        let message = format!("watermark column \"{name}\" is of type {}", pg_type.name());
        let hint = "take a timestamp or timestamptz column, or a bigint one of milliseconds since 1970";
        return Err(Error::new(SqlState::DATATYPE_MISMATCH, message).with_hint(hint));
    }
    let is_instant = *pg_type != PgType::Int8;
    let is_column = |expr: &Expr| matches!(expr, Expr::Identifier(ident) if fold(ident) == name);
    let delay_us = match &expr {
        expr if is_column(expr) => Some(0),
        Expr::BinaryOp { left, op: ast::BinaryOperator::Minus, right }
            if is_instant && is_column(left) && is_interval(right) =>
        {
            Some(interval_us(right)?)
        }
        _ => None,
    };
    Ok(Watermark { column, expression, delay_us })
}

fn is_interval(expr: &Expr) -> bool {
    match expr {
        Expr::Interval(interval) => matches!(interval.value.as_ref(), Expr::Value(_)),
        Expr::Cast { expr, data_type: ast::DataType::Interval { .. }, .. } => matches!(expr.as_ref(), Expr::Value(_)),
        _ => false,
    }
}

/// A constant interval without months, in microseconds; not negative.
fn interval_us(expr: &Expr) -> Result<i64> {
    let bad = || Error::new(SqlState::INVALID_DATETIME_FORMAT, format!("invalid interval {expr}"));
    let text = match expr {
        Expr::Interval(interval) => {
            let Expr::Value(value) = interval.value.as_ref() else { return Err(bad()) };
            let value = value.clone().into_string().or_else(|| number_text(interval.value.as_ref())).ok_or_else(bad)?;
            match &interval.leading_field {
                Some(unit) => format!("{value} {unit}"),
                None => value,
            }
        }
        Expr::Cast { expr, data_type: ast::DataType::Interval { .. }, .. } => match expr.as_ref() {
            Expr::Value(value) => value.clone().into_string().ok_or_else(bad)?,
            _ => return Err(bad()),
        },
        _ => return Err(bad().with_hint("write INTERVAL '5 seconds'")),
    };
    let interval = parse_interval_month_day_nano(&text).map_err(|_| bad())?;
    if interval.months != 0 {
        return Err(Error::unsupported("a watermark delay in months", "a month has no fixed length; give days"));
    }
    let us = i64::from(interval.days) * 86_400_000_000 + interval.nanoseconds / 1000;
    if us < 0 {
        let message = "watermark delay must not be negative";
        return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    Ok(us)
}

fn number_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            ast::Value::Number(digits, _) => Some(digits.clone()),
            _ => None,
        },
        _ => None,
    }
}
