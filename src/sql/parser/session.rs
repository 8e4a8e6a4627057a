//! Statements about the session: settings, transactions, cursors, prepared statements.

use sqlparser::ast;
use sqlparser::tokenizer::Token;

use super::reader::{Fault, Reader, Sofar};
use crate::error::{Error, SqlState};
use crate::sql::{FetchCount, Show, StatementKind};

/// `None` if the first word begins no such statement.
pub(super) fn session_statement(reader: &mut Reader<'_>, first: &str) -> Sofar<Option<StatementKind>> {
    let read = match first {
        "SHOW" => show,
        "SET" => set,
        "RESET" => reset,
        "BEGIN" | "START" => begin,
        "COMMIT" | "END" => commit,
        "ROLLBACK" | "ABORT" => rollback,
        "SAVEPOINT" => savepoint,
        "RELEASE" => release,
        "DECLARE" => declare,
        "FETCH" | "MOVE" => fetch,
        "CLOSE" => close,
        "PREPARE" => prepare,
        "EXECUTE" => execute,
        "DEALLOCATE" => deallocate,
        "DISCARD" => discard,
        "LISTEN" | "UNLISTEN" | "NOTIFY" => listen,
        _ => return Ok(None),
    };
    let first = reader.any_word()?.to_ascii_uppercase();
    read(reader, &first).map(Some)
}

fn show(reader: &mut Reader<'_>, _: &str) -> Sofar<StatementKind> {
    const LISTS: &[(&[&str], Show)] = &[
        (&["ALL"], Show::All),
        (&["TABLES"], Show::Tables),
        (&["SOURCES"], Show::Sources),
        (&["VIEWS"], Show::Views),
        (&["MATERIALIZED", "VIEWS"], Show::MaterializedViews),
        (&["SINKS"], Show::Sinks),
        (&["FUNCTIONS"], Show::Functions),
        (&["SCHEMAS"], Show::Schemas),
        (&["DATABASES"], Show::Databases),
    ];
    if let Some((_, list)) = LISTS.iter().find(|(words, _)| reader.words(words)) {
        return Ok(StatementKind::Show(list.clone()));
    }
    if reader.words(&["INDEXES"]) {
        let relation = if reader.words(&["FROM"]) || reader.words(&["ON"]) { Some(reader.name()?) } else { None };
        return Ok(StatementKind::Show(Show::Indexes(relation)));
    }
    if reader.words(&["COLUMNS", "FROM"]) {
        return Ok(StatementKind::Show(Show::Columns(reader.name()?)));
    }
    if reader.words(&["CREATE"]) {
        let kinds: &[&[&str]] = &[&["TABLE"], &["SOURCE"], &["VIEW"], &["MATERIALIZED", "VIEW"], &["SINK"]];
        if !kinds.iter().any(|words| reader.words(words)) {
            return Err(reader.unexpected());
        }
        return Ok(StatementKind::Show(Show::Create(reader.name()?)));
    }
    if let word @ ("JOBS" | "CONNECTIONS" | "CLUSTER" | "SUBSCRIPTIONS" | "SECRETS" | "INTERNAL" | "PROCESSLIST") =
        reader.peek_word().as_str()
    {
        let hint = "known: TABLES, SOURCES, VIEWS, MATERIALIZED VIEWS, SINKS, INDEXES, FUNCTIONS, SCHEMAS, DATABASES, COLUMNS FROM, CREATE …";
        return Err(Error::unsupported(format!("SHOW {word}"), hint).into());
    }
    Ok(StatementKind::Show(Show::Setting(setting_name(reader)?)))
}

/// A setting's name, with Postgres' special spellings.
fn setting_name(reader: &mut Reader<'_>) -> Sofar<String> {
    const SPECIAL: &[(&[&str], &str)] = &[
        (&["TRANSACTION", "ISOLATION", "LEVEL"], "transaction_isolation"),
        (&["TIME", "ZONE"], "timezone"),
        (&["SESSION", "AUTHORIZATION"], "session_authorization"),
    ];
    if let Some((_, name)) = SPECIAL.iter().find(|(words, _)| reader.words(words)) {
        return Ok(name.to_string());
    }
    let mut name = reader.any_word()?.to_ascii_lowercase();
    while reader.parser.consume_token(&Token::Period) {
        name = format!("{name}.{}", reader.any_word()?.to_ascii_lowercase());
    }
    Ok(name)
}

fn set(reader: &mut Reader<'_>, _: &str) -> Sofar<StatementKind> {
    if reader.words(&["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"]) {
        return set_transaction(reader, "default_transaction_", false);
    }
    if reader.words(&["TRANSACTION"])
        || reader.words(&["LOCAL", "TRANSACTION"])
        || reader.words(&["SESSION", "TRANSACTION"])
    {
        return set_transaction(reader, "transaction_", true);
    }
    if reader.peek_word() == "CONSTRAINTS" {
        return Err(Error::unsupported("SET CONSTRAINTS", "there are no deferrable constraints; leave it out").into());
    }
    if reader.words(&["SESSION", "AUTHORIZATION"]) {
        let user = if reader.words(&["DEFAULT"]) { None } else { Some(role(reader)?) };
        return Ok(set_to("session_authorization", user, false));
    }
    let local = reader.words(&["LOCAL"]);
    // `SET session = …` would be a setting of that name; there is none.
    if !local {
        reader.words(&["SESSION"]);
    }
    if reader.words(&["TIME", "ZONE"]) {
        return Ok(set_to("timezone", time_zone(reader)?, local));
    }
    if reader.words(&["NAMES"]) {
        let value = if reader.words(&["DEFAULT"]) { None } else { Some(reader.literal()?) };
        return Ok(set_to("client_encoding", value, local));
    }
    if reader.peek_word() == "ROLE" && !matches!(reader.peek_second_word().as_str(), "TO" | "=") {
        reader.any_word()?;
        let value = match reader.peek_word().as_str() {
            "DEFAULT" => None,
            "NONE" => Some("none".to_string()),
            _ => return Ok(set_to("role", Some(role(reader)?), local)),
        };
        reader.any_word()?;
        return Ok(set_to("role", value, local));
    }
    let name = setting_name(reader)?;
    if !reader.words(&["TO"]) {
        reader.expect(&Token::Eq)?;
    }
    if reader.words(&["DEFAULT"]) {
        return Ok(StatementKind::Set { name, value: None, local });
    }
    let mut values = vec![setting_value(reader)?];
    while reader.parser.consume_token(&Token::Comma) {
        values.push(setting_value(reader)?);
    }
    Ok(StatementKind::Set { name, value: Some(values.join(", ")), local })
}

fn set_to(name: &str, value: Option<String>, local: bool) -> StatementKind {
    StatementKind::Set { name: name.to_string(), value, local }
}

/// Strings lose their quotes; bare words are folded, quoted ones keep their quotes (`"$user", public`).
fn setting_value(reader: &mut Reader<'_>) -> Sofar<String> {
    match &reader.parser.peek_token_ref().token {
        Token::Word(word) if word.quote_style.is_some() => {
            let quoted = word.to_string();
            reader.parser.next_token();
            Ok(quoted)
        }
        Token::Word(_) => Ok(reader.literal()?.to_ascii_lowercase()),
        _ => reader.literal(),
    }
}

/// An identifier, or a string.
fn role(reader: &mut Reader<'_>) -> Sofar<String> {
    match reader.parser.peek_token_ref().token {
        Token::Word(_) => reader.ident(),
        _ => reader.literal(),
    }
}

fn time_zone(reader: &mut Reader<'_>) -> Sofar<Option<String>> {
    if reader.words(&["LOCAL"]) || reader.words(&["DEFAULT"]) {
        return Ok(None);
    }
    if reader.words(&["INTERVAL"]) {
        // INTERVAL '+02:00' HOUR TO MINUTE: only the text matters.
        let text = reader.literal()?;
        reader.words(&["HOUR", "TO", "MINUTE"]);
        return Ok(Some(text));
    }
    Ok(Some(reader.literal()?))
}

/// Modes of BEGIN and SET TRANSACTION: isolation level and READ ONLY / READ WRITE, if given.
fn transaction_modes(reader: &mut Reader<'_>) -> Sofar<(Option<&'static str>, Option<bool>)> {
    const LEVELS: &[(&[&str], &str)] = &[
        (&["SERIALIZABLE"], "serializable"),
        (&["REPEATABLE", "READ"], "repeatable read"),
        (&["READ", "COMMITTED"], "read committed"),
        (&["READ", "UNCOMMITTED"], "read uncommitted"),
    ];
    let (mut level, mut read_only) = (None, None);
    loop {
        if reader.words(&["ISOLATION", "LEVEL"]) {
            let Some((_, name)) = LEVELS.iter().find(|(words, _)| reader.words(words)) else {
                return Err(reader.unexpected());
            };
            level = Some(*name);
        } else if reader.words(&["READ", "ONLY"]) {
            read_only = Some(true);
        } else if reader.words(&["READ", "WRITE"]) {
            read_only = Some(false);
        } else if !reader.words(&["NOT", "DEFERRABLE"]) && !reader.words(&["DEFERRABLE"]) {
            return Ok((level, read_only));
        }
        let _ = reader.parser.consume_token(&Token::Comma);
    }
}

/// Where both modes are given the read mode is what counts: a transaction that only reads holds its epoch at any level.
fn set_transaction(reader: &mut Reader<'_>, prefix: &str, local: bool) -> Sofar<StatementKind> {
    if reader.words(&["SNAPSHOT"]) {
        return Err(Error::unsupported("SET TRANSACTION SNAPSHOT", "there are no exported snapshots").into());
    }
    match transaction_modes(reader)? {
        (_, Some(read_only)) => {
            let value = if read_only { "on" } else { "off" };
            Ok(set_to(&format!("{prefix}read_only"), Some(value.to_string()), local))
        }
        (Some(level), None) => Ok(set_to(&format!("{prefix}isolation"), Some(level.to_string()), local)),
        (None, None) => {
            // Only DEFERRABLE, if anything.
            reader.end()?;
            Ok(set_to(&format!("{prefix}deferrable"), Some("off".to_string()), local))
        }
    }
}

fn reset(reader: &mut Reader<'_>, _: &str) -> Sofar<StatementKind> {
    if reader.words(&["ALL"]) {
        return Ok(StatementKind::Reset { name: None });
    }
    Ok(StatementKind::Reset { name: Some(setting_name(reader)?) })
}

fn begin(reader: &mut Reader<'_>, first: &str) -> Sofar<StatementKind> {
    if first == "START" {
        reader.expect_words(&["TRANSACTION"])?;
    } else if !reader.words(&["TRANSACTION"]) {
        reader.words(&["WORK"]);
    }
    let (isolation, read_only) = transaction_modes(reader)?;
    Ok(StatementKind::Begin { read_only: read_only.unwrap_or(false), isolation })
}

fn work_or_transaction(reader: &mut Reader<'_>) -> Sofar<()> {
    if !reader.words(&["TRANSACTION"]) {
        reader.words(&["WORK"]);
    }
    if reader.words(&["AND", "NO", "CHAIN"]) {
        return Ok(());
    }
    match reader.peek_word().as_str() {
        "AND" => Err(Error::unsupported("AND CHAIN", "send BEGIN after it").into()),
        "PREPARED" => Err(Error::unsupported("two-phase commit", "commit each server on its own").into()),
        _ => Ok(()),
    }
}

fn commit(reader: &mut Reader<'_>, _: &str) -> Sofar<StatementKind> {
    work_or_transaction(reader)?;
    Ok(StatementKind::Commit)
}

fn rollback(reader: &mut Reader<'_>, _: &str) -> Sofar<StatementKind> {
    work_or_transaction(reader)?;
    if reader.words(&["TO"]) {
        reader.words(&["SAVEPOINT"]);
        return Ok(StatementKind::RollbackToSavepoint { name: reader.ident()? });
    }
    Ok(StatementKind::Rollback)
}

fn savepoint(reader: &mut Reader<'_>, _: &str) -> Sofar<StatementKind> {
    Ok(StatementKind::Savepoint { name: reader.ident()? })
}

fn release(reader: &mut Reader<'_>, _: &str) -> Sofar<StatementKind> {
    reader.words(&["SAVEPOINT"]);
    Ok(StatementKind::ReleaseSavepoint { name: reader.ident()? })
}

fn declare(reader: &mut Reader<'_>, _: &str) -> Sofar<StatementKind> {
    let name = reader.ident()?;
    let mut binary = false;
    loop {
        match reader.peek_word().as_str() {
            "BINARY" => binary = true,
            "INSENSITIVE" | "ASENSITIVE" => {}
            "NO" if reader.peek_second_word() == "SCROLL" => drop(reader.any_word()?),
            "SCROLL" => {
                return Err(Error::unsupported("a SCROLL cursor", "cursors move forward only; leave SCROLL out").into());
            }
            _ => break,
        }
        reader.any_word()?;
    }
    reader.expect_words(&["CURSOR"])?;
    let hold = reader.words(&["WITH", "HOLD"]);
    if !hold {
        reader.words(&["WITHOUT", "HOLD"]);
    }
    reader.expect_words(&["FOR"])?;
    if reader.peek_word() == "SUBSCRIBE" {
        if binary {
            let hint = "declare it without BINARY, and ask for binary results in the extended protocol";
            return Err(Error::unsupported("DECLARE BINARY CURSOR", hint).into());
        }
        return Ok(StatementKind::DeclareSubscribe { name, subscribe: super::subscribe::subscribe(reader)?, hold });
    }
    let (query, query_text) = reader.with_text(|reader| reader.query())?;
    Ok(StatementKind::Declare { name, query, query_text, binary, hold })
}

fn fetch(reader: &mut Reader<'_>, first: &str) -> Sofar<StatementKind> {
    let count = match reader.peek_word().as_str() {
        "NEXT" | "FORWARD" | "ALL" => {
            let word = reader.any_word()?.to_ascii_uppercase();
            match word.as_str() {
                "NEXT" => FetchCount::Rows(1),
                "ALL" => FetchCount::All,
                _ if reader.words(&["ALL"]) => FetchCount::All,
                _ => fetch_count(reader)?,
            }
        }
        "PRIOR" | "FIRST" | "LAST" | "ABSOLUTE" | "RELATIVE" | "BACKWARD" => {
            return Err(backward(first));
        }
        _ => fetch_count(reader)?,
    };
    if !reader.words(&["FROM"]) {
        reader.words(&["IN"]);
    }
    let name = reader.ident()?;
    let timeout = if first == "FETCH" { super::subscribe::fetch_timeout(reader)? } else { None };
    Ok(StatementKind::Fetch { name, count, move_only: first == "MOVE", timeout })
}

/// A number of rows; one if there is none.
fn fetch_count(reader: &mut Reader<'_>) -> Sofar<FetchCount> {
    match &reader.parser.peek_token_ref().token {
        Token::Number(..) => {
            let digits = reader.literal()?;
            let rows = digits.parse().map_err(|_| {
                Error::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("row count {digits} is out of range"))
            })?;
            Ok(FetchCount::Rows(rows))
        }
        Token::Minus => Err(backward("FETCH")),
        _ => Ok(FetchCount::Rows(1)),
    }
}

fn backward(word: &str) -> Fault {
    Error::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "cursor can only scan forward")
        .with_hint(format!("write {word} NEXT, {word} n or {word} ALL"))
        .into()
}

fn close(reader: &mut Reader<'_>, _: &str) -> Sofar<StatementKind> {
    let name = if reader.words(&["ALL"]) { None } else { Some(reader.ident()?) };
    Ok(StatementKind::Close { name })
}

fn prepare(reader: &mut Reader<'_>, _: &str) -> Sofar<StatementKind> {
    if reader.words(&["TRANSACTION"]) {
        return Err(Error::unsupported("two-phase commit", "commit each server on its own").into());
    }
    let name = reader.ident()?;
    let mut types = vec![];
    if reader.parser.consume_token(&Token::LParen) {
        loop {
            types.push(super::columns::data_type(reader, 0)?);
            if !reader.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        reader.expect(&Token::RParen)?;
    }
    reader.expect_words(&["AS"])?;
    let statement = Box::new(reader.nested_statement()?);
    match statement.kind {
        StatementKind::Query(_) | StatementKind::Dml(_) => Ok(StatementKind::Prepare { name, types, statement }),
        _ => {
            Err(Error::unsupported("PREPARE of this statement", "a query, INSERT, UPDATE or DELETE can be prepared")
                .into())
        }
    }
}

fn execute(reader: &mut Reader<'_>, _: &str) -> Sofar<StatementKind> {
    let name = reader.ident()?;
    let mut arguments = vec![];
    if reader.parser.consume_token(&Token::LParen) && !reader.parser.consume_token(&Token::RParen) {
        loop {
            let expr = reader.parser.parse_expr()?;
            let mut query = super::parse_query("SELECT NULL")?;
            if let ast::SetExpr::Select(select) = query.ast.body.as_mut() {
                select.projection = vec![ast::SelectItem::UnnamedExpr(expr)];
            }
            query.source = reader.source.clone();
            arguments.push(reader.wrap(query.ast)?);
            if !reader.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        reader.expect(&Token::RParen)?;
    }
    Ok(StatementKind::Execute { name, arguments })
}

fn deallocate(reader: &mut Reader<'_>, _: &str) -> Sofar<StatementKind> {
    reader.words(&["PREPARE"]);
    let name = if reader.words(&["ALL"]) { None } else { Some(reader.ident()?) };
    Ok(StatementKind::Deallocate { name })
}

fn discard(reader: &mut Reader<'_>, _: &str) -> Sofar<StatementKind> {
    match reader.any_word()?.to_ascii_uppercase().as_str() {
        "ALL" | "PLANS" | "SEQUENCES" | "TEMP" | "TEMPORARY" => Ok(StatementKind::Discard),
        _ => Err(Error::new(SqlState::SYNTAX_ERROR, "DISCARD takes ALL, PLANS, SEQUENCES or TEMP").into()),
    }
}

fn listen(reader: &mut Reader<'_>, first: &str) -> Sofar<StatementKind> {
    let tag = match first {
        "LISTEN" => "LISTEN",
        "UNLISTEN" => "UNLISTEN",
        _ => "NOTIFY",
    };
    if tag == "UNLISTEN" && reader.parser.consume_token(&Token::Mul) {
        return Ok(StatementKind::Listen { tag });
    }
    reader.ident()?;
    if tag == "NOTIFY" && reader.parser.consume_token(&Token::Comma) {
        reader.literal()?;
    }
    Ok(StatementKind::Listen { tag })
}
