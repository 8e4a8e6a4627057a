//! `COMMENT ON kind name IS text | NULL`.

use sqlparser::ast::ObjectName;
use sqlparser::tokenizer::Token;

use super::function::function_name;
use super::reader::{Reader, Sofar, fold_name};
use crate::error::Error;
use crate::sql::{CommentOn, CommentSubject, DropKind, StatementKind};

pub(super) fn comment(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    reader.expect_words(&["COMMENT", "ON"])?;
    let subject = subject(reader)?;
    reader.expect_words(&["IS"])?;
    let text = if reader.words(&["NULL"]) {
        None
    } else {
        match reader.parser.peek_token_ref().token {
            Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::DollarQuotedString(_) => Some(reader.literal()?),
            _ => return Err(reader.unexpected()),
        }
    };
    Ok(StatementKind::CommentOn(CommentOn { subject, text }))
}

fn subject(reader: &mut Reader<'_>) -> Sofar<CommentSubject> {
    const RELATIONS: &[(&[&str], DropKind)] = &[
        (&["TABLE"], DropKind::Table),
        (&["SOURCE"], DropKind::Source),
        // As clients see a source.
        (&["FOREIGN", "TABLE"], DropKind::Source),
        (&["VIEW"], DropKind::View),
        (&["MATERIALIZED", "VIEW"], DropKind::MaterializedView),
        (&["SINK"], DropKind::Sink),
        (&["INDEX"], DropKind::Index),
    ];
    if let Some((_, kind)) = RELATIONS.iter().find(|(words, _)| reader.words(words)) {
        return Ok(CommentSubject::Relation { kind: *kind, name: reader.name()? });
    }
    if reader.words(&["COLUMN"]) {
        return column(reader);
    }
    if reader.words(&["CONSTRAINT"]) {
        let name = reader.ident()?;
        reader.expect_words(&["ON"])?;
        return Ok(CommentSubject::Constraint { name, relation: reader.name()? });
    }
    if reader.words(&["FUNCTION"]) {
        return Ok(CommentSubject::Function(function_name(reader)?));
    }
    if reader.words(&["SCHEMA"]) {
        return Ok(CommentSubject::Schema(reader.ident()?));
    }
    if reader.words(&["DATABASE"]) {
        return Ok(CommentSubject::Database(reader.ident()?));
    }
    if !matches!(reader.parser.peek_token_ref().token, Token::Word(_)) {
        return Err(reader.unexpected());
    }
    let hint = "comments are kept on tables, sources, views, materialized views, sinks, their columns and keys, indexes, \
                functions, schemas and the database";
    Err(Error::unsupported(format!("COMMENT ON {}", reader.peek_word()), hint).into())
}

/// `relation.column`, the relation with its schema or without.
fn column(reader: &mut Reader<'_>) -> Sofar<CommentSubject> {
    let mut parts = reader.parser.parse_object_name(false)?.0;
    let column = match parts.pop() {
        Some(part) if !parts.is_empty() => fold_name(&ObjectName(vec![part]))?.name,
        _ => return Err(reader.unexpected()),
    };
    Ok(CommentSubject::Column { relation: fold_name(&ObjectName(parts))?, column })
}
