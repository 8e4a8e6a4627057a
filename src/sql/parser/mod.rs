//! Text to [`Statement`]s.
//!
//! ```text
//! message ──tokens──▶ [`respell`] ──▶ split at `;` ──▶ [`Reader`] by first word ──▶ Statement
//!                                        ├ create, drop, alter: create.rs, columns.rs, alter.rs, role.rs; comment: comment.rs
//!                                        ├ show, set, begin, cursors, prepare: session.rs
//!                                        ├ copy: copy.rs; subscribe: subscribe.rs
//!                                        └ queries, insert, update, delete: the grammar of `sqlparser`
//! ```
//! What Postgres' grammar has and we do not is refused by name (0A000 with a hint); what no grammar has is a syntax
//! error in Postgres' words, with a position.

mod alter;
mod columns;
mod comment;
mod copy;
mod create;
mod function;
mod index;
mod lookup;
mod plain;
mod reader;
mod refused;
mod respell;
mod role;
mod session;
mod subscribe;
mod system_time;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

pub use function::check_body;
pub(super) use lookup::as_of_arrival;
pub(super) use plain::WITH_TIES;
use reader::{Fault, Reader, Sofar};
pub(super) use reader::{fold, fold_name};
pub(super) use respell::{ASOF_LEFT, EXCLUDE, PARTITION_BY, SYMMETRIC, respell};

use super::text::Text;
use super::{Dml, Query, Show, Statement, StatementKind};
use crate::error::{Error, Result, SqlState};

/// How deep parentheses, subqueries and operators may nest.
const NESTING_DEPTH_MAX: usize = 128;
/// How many operators may follow each other without parentheses or commas (`a + b + …`): their tree is that deep.
const OPERATOR_CHAIN_MAX: usize = 2000;

/// All statements of a message, in order; a message without any is one [`StatementKind::Empty`]. 42601 with a position
/// where the grammar ends; 0A000 with a hint for what the grammar knows and we do not; 54001 if it nests too deeply.
pub fn parse(text: &str) -> Result<Vec<Statement>> {
    let source = Text::new(text);
    let tokens =
        Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location().map_err(|e| bad_token(&source, &e))?;
    let tokens = respell(tokens);
    let mut statements = vec![];
    let mut rest = tokens.as_slice();
    while !rest.is_empty() {
        let end = rest.iter().position(|t| t.token == Token::SemiColon).unwrap_or(rest.len());
        let read = read_statement(&source, &rest[..end]).map_err(|error| match rest.get(end) {
            // A statement that ends too early ends at its semicolon.
            Some(semicolon) if reader::is_at_end(&error) => reader::syntax_error(&source, Some(semicolon)),
            _ => error,
        });
        statements.extend(read?);
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    if statements.is_empty() {
        statements.push(Statement { kind: StatementKind::Empty, text: String::new(), offset: 0 });
    }
    Ok(statements)
}

/// A stored query (a view's definition) back to its tree. XX001 if it is not one query.
pub fn parse_query(text: &str) -> Result<Query> {
    match parse(text)?.into_iter().next().map(|s| s.kind) {
        Some(StatementKind::Query(query)) => Ok(query),
        _ => Err(Error::new(SqlState::DATA_CORRUPTED, "the stored definition of a view is not a query")),
    }
}

/// A stored DEFAULT expression as a query of one row and one column.
pub(super) fn parse_expression(text: &str) -> Result<ast::Expr> {
    let source = Text::new(text);
    let tokens =
        Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location().map_err(|e| bad_token(&source, &e))?;
    let tokens = respell(tokens);
    check_chains(&tokens)?;
    let mut reader = Reader::new(&source, &tokens);
    let parsed = reader.parser.parse_expr().map_err(Fault::from).and_then(|expr| reader.end().map(|()| expr));
    parsed.map_err(|fault| reader.explain(fault))
}

/// One statement's tokens; `None` if they are all space and comments.
fn read_statement(source: &Text, tokens: &[TokenWithSpan]) -> Result<Option<Statement>> {
    let is_text = |t: &&TokenWithSpan| !matches!(t.token, Token::Whitespace(_) | Token::EOF);
    let (Some(first), Some(last)) = (tokens.iter().find(is_text), tokens.iter().rfind(is_text)) else {
        return Ok(None);
    };
    check_chains(tokens)?;
    let text = source.slice(first.span.start, last.span.end).to_string();
    let offset = source.chars_before(first.span.start).unwrap_or(0);
    let (tokens, emit) = reader::without_emit(tokens);
    let mut reader = Reader::new(source, tokens);
    reader.emit = emit;
    let kind = read_kind(&mut reader).and_then(|kind| reader.end().map(|()| kind));
    let kind = kind.map_err(|fault| reader.explain(fault))?;
    if let Some(emit) = reader.emit {
        return Err(reader::syntax_error(source, Some(&emit)));
    }
    Ok(Some(Statement { kind, text, offset }))
}

/// Reads one statement from its first word on.
fn read_kind(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    let first = reader.peek_word();
    Ok(match first.as_str() {
        "SELECT" | "VALUES" | "WITH" | "TABLE" | "(" => StatementKind::Query(reader.query()?),
        "INSERT" | "UPDATE" | "DELETE" => {
            let mut statement = reader.parser.parse_statement()?;
            reader.plain(&mut statement)?;
            StatementKind::Dml(Dml { ast: Box::new(statement), source: reader.source.clone() })
        }
        "CREATE" => create::create(reader)?,
        "DROP" => create::drop(reader)?,
        "ALTER" if reader.peek_second_word() != "SYSTEM" => alter::alter(reader)?,
        "COMMENT" => comment::comment(reader)?,
        "TRUNCATE" => create::truncate(reader)?,
        "REFRESH" => create::refresh(reader)?,
        "EXPLAIN" => explain(reader)?,
        "DESCRIBE" | "DESC" => {
            reader.words(&["DESCRIBE"]);
            reader.words(&["DESC"]);
            StatementKind::Show(Show::Columns(reader.name()?))
        }
        "COPY" => copy::copy(reader)?,
        "BACKUP" => {
            reader.expect_words(&["BACKUP"])?;
            reader.expect_words(&["TO"])?;
            StatementKind::Backup { directory: reader.literal()? }
        }
        "SUBSCRIBE" => StatementKind::Subscribe(subscribe::subscribe(reader)?),
        "FLUSH" => {
            reader.words(&["FLUSH"]);
            StatementKind::Flush
        }
        _ => match session::session_statement(reader, &first)? {
            Some(kind) => kind,
            None => return Err(refused::refuse(reader, &first)),
        },
    })
}

/// `EXPLAIN [ANALYZE] MATERIALIZED VIEW v`, `EXPLAIN [ANALYZE] [VERBOSE] statement`, `EXPLAIN (option [value], …) statement`.
fn explain(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    reader.expect_words(&["EXPLAIN"])?;
    let (mut analyze, mut verbose) = (false, false);
    if reader.peek_word() == "(" && !matches!(reader.peek_second_word().as_str(), "SELECT" | "VALUES" | "WITH" | "(") {
        for (option, value) in explain_options(reader)? {
            let on = match value.as_deref() {
                None | Some("TRUE" | "ON" | "1") => true,
                Some("FALSE" | "OFF" | "0") => false,
                Some("TEXT") if option == "FORMAT" => true,
                Some(other) => {
                    let what = format!("EXPLAIN ({option} {other})");
                    return Err(Error::unsupported(what, "EXPLAIN prints text; leave the option out").into());
                }
            };
            match (option.as_str(), on) {
                ("ANALYZE", _) => analyze = on,
                ("VERBOSE", _) => verbose = on,
                // There is nothing of this kind to print, or it is what is printed anyway.
                ("COSTS" | "TIMING" | "SUMMARY" | "FORMAT", _) | ("BUFFERS" | "WAL" | "SETTINGS", false) => {}
                _ => {
                    let hint = "known options: ANALYZE, VERBOSE, COSTS, TIMING, SUMMARY, FORMAT TEXT";
                    return Err(Error::unsupported(format!("EXPLAIN option {option}"), hint).into());
                }
            }
        }
    } else {
        analyze = reader.words(&["ANALYZE"]) || reader.words(&["ANALYSE"]);
        verbose = reader.words(&["VERBOSE"]);
    }
    if reader.words(&["MATERIALIZED", "VIEW"]) || reader.words(&["SINK"]) {
        return Ok(StatementKind::ExplainView { name: reader.name()?, analyze });
    }
    let statement = Box::new(reader.nested_statement()?);
    match &statement.kind {
        StatementKind::Query(_)
        | StatementKind::Dml(_)
        | StatementKind::CreateMaterializedView(_)
        | StatementKind::CreateSink { .. }
        | StatementKind::Execute { .. } => Ok(StatementKind::Explain { statement, analyze, verbose }),
        _ => Err(Error::unsupported(
            "EXPLAIN of this statement",
            "explain a query, INSERT, UPDATE, DELETE or CREATE MATERIALIZED VIEW",
        )
        .into()),
    }
}

fn explain_options(reader: &mut Reader<'_>) -> Sofar<BTreeMap<String, Option<String>>> {
    let mut options = BTreeMap::new();
    reader.expect(&Token::LParen)?;
    loop {
        let option = reader.any_word()?.to_ascii_uppercase();
        let value = match reader.peek_word().as_str() {
            "," | ")" => None,
            _ => Some(reader.literal()?.to_ascii_uppercase()),
        };
        options.insert(option, value);
        if !reader.parser.consume_token(&Token::Comma) {
            break;
        }
    }
    reader.expect(&Token::RParen)?;
    Ok(options)
}

/// Long chains of operators make trees as deep as they are long, which would overflow the stack when they are walked.
fn check_chains(tokens: &[TokenWithSpan]) -> Result<()> {
    let mut lengths = vec![0usize];
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket => lengths.push(0),
            Token::RParen | Token::RBracket if lengths.len() > 1 => {
                lengths.pop();
            }
            Token::Comma | Token::SemiColon => lengths.iter_mut().last().into_iter().for_each(|length| *length = 0),
            Token::Whitespace(_) => {}
            Token::Word(word) => {
                let upper = word.value.to_ascii_uppercase();
                let chains = word.quote_style.is_none()
                    && matches!(
                        upper.as_str(),
                        "AND"
                            | "OR"
                            | "NOT"
                            | "IS"
                            | "UNION"
                            | "EXCEPT"
                            | "INTERSECT"
                            | "JOIN"
                            | "CASE"
                            | "WHEN"
                            | "LIKE"
                            | "BETWEEN"
                    );
                if chains && let Some(length) = lengths.last_mut() {
                    *length += 1;
                }
            }
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) | Token::Period => {}
            _ => {
                if let Some(length) = lengths.last_mut() {
                    *length += 1;
                }
            }
        }
        if lengths.last().is_some_and(|&length| length > OPERATOR_CHAIN_MAX) {
            return Err(too_deep());
        }
    }
    Ok(())
}

fn too_deep() -> Error {
    Error::new(SqlState("54001"), "stack depth limit exceeded").with_hint(format!(
        "a statement may nest {NESTING_DEPTH_MAX} deep and chain {OPERATOR_CHAIN_MAX} operators; take IN (…), or split it"
    ))
}

/// What Postgres' scanner says.
fn bad_token(source: &Text, error: &sqlparser::tokenizer::TokenizerError) -> Error {
    let message = error.message.to_ascii_lowercase();
    let rest = source.rest(error.location);
    let what = if message.contains("unterminated string") || message.contains("unterminated encoded") {
        "unterminated quoted string"
    } else if message.contains("dollar") {
        "unterminated dollar-quoted string"
    } else if message.contains("comment") {
        "unterminated /* comment"
    } else if message.contains("close delimiter") {
        "unterminated quoted identifier"
    } else {
        "syntax error"
    };
    let message = match rest.is_empty() {
        true => format!("{what} at end of input"),
        false => format!("{what} at or near \"{rest}\""),
    };
    Error::new(SqlState::SYNTAX_ERROR, message).with_position(source.position(error.location).unwrap_or(1))
}
