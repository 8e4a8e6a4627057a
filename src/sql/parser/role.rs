//! CREATE, ALTER and DROP of ROLE, USER and GROUP.

use super::reader::{Reader, Sofar};
use crate::config::Password;
use crate::error::{Error, SqlState};
use crate::sql::{RoleChange, RoleName, RoleOptions, StatementKind};
use sqlparser::tokenizer::Token;

/// True if these words name the kind; a USER may log in unless it is told otherwise.
fn kind(reader: &mut Reader<'_>) -> Option<bool> {
    [("ROLE", false), ("USER", true), ("GROUP", false)]
        .into_iter()
        .find(|(word, _)| reader.words(&[word]))
        .map(|(_, can_login)| can_login)
}

pub(super) fn create_role(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    let Some(can_login) = kind(reader) else { return Err(reader.unexpected()) };
    let name = new_name(reader)?;
    let mut options = options(reader, true)?;
    options.can_login.get_or_insert(can_login);
    Ok(StatementKind::CreateRole { name, options })
}

pub(super) fn alter_role(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    if kind(reader).is_none() {
        return Err(reader.unexpected());
    }
    let settings =
        || Error::unsupported("a setting of a role", "clients set it when they connect: options=-cname=value");
    if reader.peek_word() == "ALL" {
        return Err(settings().into());
    }
    let name = role_name(reader)?;
    let change = match reader.peek_word().as_str() {
        "SET" | "RESET" | "IN" => return Err(settings().into()),
        "ADD" | "DROP" => return Err(membership().into()),
        "RENAME" => {
            reader.expect_words(&["RENAME"])?;
            reader.expect_words(&["TO"])?;
            RoleChange::Rename { to: new_name(reader)? }
        }
        _ => RoleChange::Options(options(reader, false)?),
    };
    Ok(StatementKind::AlterRole { name, change })
}

pub(super) fn drop_role(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    if kind(reader).is_none() {
        return Err(reader.unexpected());
    }
    let if_exists = reader.words(&["IF", "EXISTS"]);
    let mut names = vec![role_name(reader)?];
    while reader.parser.consume_token(&Token::Comma) {
        names.push(role_name(reader)?);
    }
    Ok(StatementKind::DropRole { names, if_exists })
}

fn role_name(reader: &mut Reader<'_>) -> Sofar<RoleName> {
    if reader.words(&["CURRENT_USER"]) || reader.words(&["CURRENT_ROLE"]) {
        return Ok(RoleName::Current);
    }
    if reader.words(&["SESSION_USER"]) {
        return Ok(RoleName::Session);
    }
    Ok(RoleName::Named(reader.ident()?))
}

/// 42939 for names that mean something else.
fn new_name(reader: &mut Reader<'_>) -> Sofar<String> {
    let reserved = |name: &str| Error::new(SqlState("42939"), format!("role name \"{name}\" is reserved"));
    if let word @ ("CURRENT_USER" | "CURRENT_ROLE" | "SESSION_USER" | "USER") = reader.peek_word().as_str() {
        return Err(reserved(&word.to_ascii_lowercase()).into());
    }
    let name = reader.ident()?;
    if matches!(name.as_str(), "public" | "none" | "all") || name.starts_with("pg_") {
        return Err(reserved(&name).into());
    }
    Ok(name)
}

fn membership() -> Error {
    Error::unsupported("membership in a role", "there are no grants: every role may do all but manage roles")
}

/// `[WITH] option …`. 42601 for one that is given twice, as Postgres says it.
fn options(reader: &mut Reader<'_>, is_new: bool) -> Sofar<RoleOptions> {
    reader.words(&["WITH"]);
    let mut options = RoleOptions::default();
    loop {
        let word = reader.peek_word();
        if word.is_empty() {
            return Ok(options);
        }
        let is_first = match word.as_str() {
            "SUPERUSER" | "NOSUPERUSER" => set(&mut options.is_superuser, word == "SUPERUSER"),
            "LOGIN" | "NOLOGIN" => set(&mut options.can_login, word == "LOGIN"),
            // What everybody has, or nobody.
            "INHERIT" | "NOCREATEDB" | "NOCREATEROLE" | "NOREPLICATION" | "NOBYPASSRLS" => true,
            "CREATEDB" | "REPLICATION" | "BYPASSRLS" | "CREATEROLE" | "NOINHERIT" => {
                let hint = match word.as_str() {
                    "CREATEDB" => "the only database is dev; leave it out",
                    "CREATEROLE" => "only superusers manage roles; take SUPERUSER",
                    "NOINHERIT" => "there is no membership in roles; leave it out",
                    _ => "there is nothing of this kind; leave it out",
                };
                return Err(Error::unsupported(format!("the role option {word}"), hint).into());
            }
            "ENCRYPTED" | "PASSWORD" => {
                reader.words(&["ENCRYPTED"]);
                reader.expect_words(&["PASSWORD"])?;
                let is_first = options.password.is_none();
                options.password = Some(if reader.words(&["NULL"]) { None } else { Some(Password(string(reader)?)) });
                if is_first { continue } else { false }
            }
            "UNENCRYPTED" => {
                let what = "UNENCRYPTED PASSWORD";
                return Err(Error::unsupported(what, "leave out UNENCRYPTED: a verifier is stored").into());
            }
            "CONNECTION" => {
                reader.expect_words(&["CONNECTION"])?;
                reader.expect_words(&["LIMIT"])?;
                let text = reader.literal()?;
                let limit = text.parse().ok().filter(|limit| *limit >= -1);
                let limit = limit.ok_or_else(|| {
                    Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("invalid connection limit: {text}"))
                })?;
                if set(&mut options.connection_limit, limit) { continue } else { false }
            }
            "VALID" => {
                reader.expect_words(&["VALID"])?;
                reader.expect_words(&["UNTIL"])?;
                let until = string(reader)?;
                if set(&mut options.valid_until, until) { continue } else { false }
            }
            "IN" | "ROLE" | "ADMIN" | "USER" if is_new => return Err(membership().into()),
            "SYSID" => return Err(Error::unsupported("SYSID", "OIDs are given out by the server").into()),
            _ => return Err(reader.unexpected()),
        };
        if !is_first {
            return Err(Error::new(SqlState::SYNTAX_ERROR, "conflicting or redundant options").into());
        }
        reader.any_word()?;
    }
}

/// False if it was set before.
fn set<T>(option: &mut Option<T>, value: T) -> bool {
    option.replace(value).is_none()
}

/// Quotes are needed: a bare word would be another option.
fn string(reader: &mut Reader<'_>) -> Sofar<String> {
    match reader.parser.peek_token_ref().token {
        Token::Word(_) | Token::Number(..) => Err(reader.unexpected()),
        _ => reader.literal(),
    }
}
