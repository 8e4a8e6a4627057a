//! `SUBSCRIBE [TO] relation | (query) [WITH (SNAPSHOT [= bool], PROGRESS [= bool])] [AS OF e] [UP TO e]`, and what FETCH says of
//! such a cursor.

use sqlparser::tokenizer::Token;

use super::reader::{Reader, Sofar};
use crate::error::{Error, SqlState};
use crate::sql::{Subscribe, SubscribeSubject};

pub(super) fn subscribe(reader: &mut Reader<'_>) -> Sofar<Subscribe> {
    reader.expect_words(&["SUBSCRIBE"])?;
    reader.words(&["TO"]);
    let subject = if reader.parser.consume_token(&Token::LParen) {
        let (query, text) = reader.with_text(|reader| reader.query())?;
        reader.expect(&Token::RParen)?;
        SubscribeSubject::Query { query, text }
    } else {
        SubscribeSubject::Relation(reader.name()?)
    };
    let (mut snapshot, mut progress) = (true, false);
    if reader.words(&["WITH"]) {
        reader.expect(&Token::LParen)?;
        loop {
            let option = reader.any_word()?.to_ascii_lowercase();
            let on = switch(reader, &option)?;
            match option.as_str() {
                "snapshot" => snapshot = on,
                "progress" => progress = on,
                _ => return Err(unknown(&option, "known options: SNAPSHOT, PROGRESS").into()),
            }
            if !reader.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        reader.expect(&Token::RParen)?;
    }
    let as_of = if reader.words(&["AS", "OF"]) { Some(instant(reader)?) } else { None };
    let up_to = if reader.words(&["UP", "TO"]) { Some(instant(reader)?) } else { None };
    Ok(Subscribe { subject, snapshot, progress, as_of, up_to })
}

/// A Boolean after an option's name; none means true.
fn switch(reader: &mut Reader<'_>, option: &str) -> Sofar<bool> {
    let _ = reader.parser.consume_token(&Token::Eq);
    if matches!(reader.peek_word().as_str(), "," | ")") {
        return Ok(true);
    }
    let value = reader.literal()?;
    match value.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("{option} requires a Boolean value")).into()),
    }
}

/// An expression, which is evaluated when the statement is run.
fn instant(reader: &mut Reader<'_>) -> Sofar<String> {
    let (_, text) = reader.with_text(|reader| Ok(reader.parser.parse_expr()?))?;
    Ok(text)
}

/// `WITH (timeout = '1s')`.
pub(super) fn fetch_timeout(reader: &mut Reader<'_>) -> Sofar<Option<String>> {
    if !reader.words(&["WITH"]) {
        return Ok(None);
    }
    let mut options = reader.options()?;
    let timeout = options.remove("timeout");
    match options.into_keys().next() {
        Some(other) => Err(unknown(&other, "known options: timeout").into()),
        None => Ok(timeout),
    }
}

fn unknown(option: &str, hint: &str) -> Error {
    Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("unknown option \"{option}\"")).with_hint(hint)
}
