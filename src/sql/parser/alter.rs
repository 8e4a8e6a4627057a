//! ALTER: names, schemas and options change, contents do not.

use std::collections::BTreeMap;

use sqlparser::tokenizer::Token;

use super::reader::{Reader, Sofar};
use crate::error::Error;
use crate::sql::{Alter, AlterAction, DropKind, StatementKind};

pub(super) fn alter(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    reader.expect_words(&["ALTER"])?;
    if matches!(reader.peek_word().as_str(), "ROLE" | "USER" | "GROUP") && reader.peek_second_word() != "MAPPING" {
        return super::role::alter_role(reader);
    }
    const KINDS: &[(&[&str], DropKind)] = &[
        (&["TABLE"], DropKind::Table),
        (&["SOURCE"], DropKind::Source),
        (&["VIEW"], DropKind::View),
        (&["MATERIALIZED", "VIEW"], DropKind::MaterializedView),
        (&["SINK"], DropKind::Sink),
        (&["INDEX"], DropKind::Index),
    ];
    let Some((words, kind)) = KINDS.iter().find(|(words, _)| reader.words(words)) else {
        let what = format!("ALTER {}", reader.peek_word());
        return Err(Error::unsupported(what, "drop the object and create it again").into());
    };
    let if_exists = reader.words(&["IF", "EXISTS"]);
    reader.words(&["ONLY"]);
    let name = reader.name()?;
    let action = if reader.words(&["RENAME", "TO"]) {
        AlterAction::Rename { to: reader.ident()? }
    } else if reader.words(&["RENAME", "CONSTRAINT"]) {
        return Err(Error::unsupported("RENAME CONSTRAINT", "a primary key is called after its table").into());
    } else if reader.words(&["RENAME"]) {
        reader.words(&["COLUMN"]);
        let from = reader.ident()?;
        reader.expect_words(&["TO"])?;
        AlterAction::RenameColumn { from, to: reader.ident()? }
    } else if reader.words(&["SET", "SCHEMA"]) {
        AlterAction::SetSchema { to: reader.ident()? }
    } else if *kind == DropKind::Source && (reader.words(&["PAUSE"]) || reader.peek_word() == "RESUME") {
        AlterAction::Pause(!reader.words(&["RESUME"]))
    } else if reader.peek_second_word() == "(" && matches!(reader.peek_word().as_str(), "SET" | "RESET") {
        AlterAction::SetOptions { options: options(reader)? }
    } else if reader.words(&["SWAP", "WITH"]) {
        AlterAction::Swap { with: reader.name()? }
    } else {
        let words = words.join(" ");
        let hint = "known: RENAME TO, RENAME COLUMN, SET SCHEMA, SET (…), SWAP WITH; for another shape, create a second object, \
                    fill it and swap the two";
        return Err(match reader.peek_word().as_str() {
            first @ ("ADD" | "DROP" | "ALTER" | "SET" | "RESET" | "OWNER" | "ENABLE" | "DISABLE" | "INHERIT" | "NO"
            | "ATTACH" | "DETACH" | "CLUSTER" | "VALIDATE" | "REPLICA" | "FORCE" | "DEPENDS") => {
                Error::unsupported(format!("ALTER {words} … {first}"), hint).into()
            }
            _ => reader.unexpected(),
        });
    };
    Ok(StatementKind::Alter(Alter { kind: *kind, name, if_exists, action }))
}

/// `SET (name = value, …)`, `RESET (name, …)`.
fn options(reader: &mut Reader<'_>) -> Sofar<BTreeMap<String, Option<String>>> {
    if reader.words(&["SET"]) {
        return Ok(reader.options()?.into_iter().map(|(name, value)| (name, Some(value))).collect());
    }
    reader.expect_words(&["RESET"])?;
    reader.expect(&Token::LParen)?;
    let mut options = BTreeMap::new();
    loop {
        options.insert(reader.any_word()?.to_ascii_lowercase(), None);
        if !reader.parser.consume_token(&Token::Comma) {
            break;
        }
    }
    reader.expect(&Token::RParen)?;
    Ok(options)
}
