//! CREATE FUNCTION … LANGUAGE SQL, and DROP FUNCTION.

use sqlparser::tokenizer::Token;

use super::columns::data_type;
use super::reader::{Reader, Sofar};
use crate::catalog::{Argument, Returns};
use crate::error::{Error, Result, SqlState};
use crate::sql::{CreateFunction, DropFunction, FunctionName, StatementKind};

/// From FUNCTION on.
pub(super) fn create_function(reader: &mut Reader<'_>, or_replace: bool) -> Sofar<StatementKind> {
    reader.expect_words(&["FUNCTION"])?;
    let name = reader.name()?;
    let arguments = arguments(reader)?;
    let mut returns = None;
    let (mut language, mut body, mut strict, mut volatility) = (None, None, false, 'v');
    loop {
        let word = reader.peek_word();
        let once = |taken: bool| match taken {
            true => Err(Error::new(SqlState::SYNTAX_ERROR, "conflicting or redundant options")),
            false => Ok(()),
        };
        match word.as_str() {
            "RETURNS" if reader.peek_second_word() == "NULL" => {
                reader.expect_words(&["RETURNS", "NULL", "ON", "NULL", "INPUT"])?;
                strict = true;
            }
            "RETURNS" => {
                once(returns.is_some())?;
                returns = Some(read_returns(reader)?);
            }
            "LANGUAGE" => {
                once(language.is_some())?;
                reader.expect_words(&["LANGUAGE"])?;
                language = Some(reader.literal()?.to_ascii_lowercase());
            }
            "AS" => {
                once(body.is_some())?;
                reader.expect_words(&["AS"])?;
                body = Some(reader.literal()?);
            }
            "RETURN" => {
                once(body.is_some())?;
                reader.expect_words(&["RETURN"])?;
                let (_, text) = reader.with_text(|reader| Ok(reader.parser.parse_expr()?))?;
                body = Some(format!("SELECT {text}"));
            }
            "CALLED" => {
                reader.expect_words(&["CALLED", "ON", "NULL", "INPUT"])?;
                strict = false;
            }
            "STRICT" => {
                reader.words(&["STRICT"]);
                strict = true;
            }
            "IMMUTABLE" | "STABLE" | "VOLATILE" => {
                reader.any_word()?;
                volatility = word.to_ascii_lowercase().chars().next().unwrap_or('v');
            }
            // Promises and estimates for a planner that calls functions; here they are expanded.
            "LEAKPROOF" | "WINDOW" if word == "LEAKPROOF" => {
                reader.any_word()?;
            }
            "NOT" => reader.expect_words(&["NOT", "LEAKPROOF"])?,
            "PARALLEL" | "COST" | "ROWS" => {
                reader.any_word()?;
                reader.literal()?;
            }
            "SECURITY" if reader.peek_second_word() == "INVOKER" => {
                reader.expect_words(&["SECURITY", "INVOKER"])?;
            }
            "BEGIN" => {
                let hint = "write AS $$ SELECT … $$ or RETURN expression";
                return Err(Error::unsupported("BEGIN ATOMIC", hint).into());
            }
            "SECURITY" | "EXTERNAL" | "SET" | "SUPPORT" | "TRANSFORM" | "WINDOW" => {
                return Err(Error::unsupported(format!("CREATE FUNCTION … {word}"), "leave it out").into());
            }
            "" => break,
            _ => return Err(reader.unexpected()),
        }
    }
    match language.as_deref() {
        Some("sql") | None => {}
        Some(other) => {
            let hint = "functions are written in SQL: LANGUAGE SQL";
            return Err(Error::unsupported(format!("LANGUAGE {other}"), hint).into());
        }
    }
    let invalid = |message: &str| Error::new(SqlState("42P13"), message);
    let body = body.ok_or_else(|| invalid("no function body specified"))?;
    let returns = returns.ok_or_else(|| invalid("function result type must be specified"))?;
    let body = body.trim().trim_end_matches(';').trim().to_string();
    Ok(StatementKind::CreateFunction(CreateFunction { name, or_replace, arguments, returns, strict, volatility, body }))
}

fn read_returns(reader: &mut Reader<'_>) -> Sofar<Returns> {
    reader.expect_words(&["RETURNS"])?;
    if reader.words(&["SETOF"]) {
        return Ok(Returns::SetOf(data_type(reader, 0)?));
    }
    if !reader.words(&["TABLE"]) {
        if matches!(reader.peek_word().as_str(), "VOID" | "TRIGGER" | "RECORD") {
            let what = format!("RETURNS {}", reader.peek_word());
            return Err(Error::unsupported(what, "a function returns a value, or TABLE (name type, …)").into());
        }
        return Ok(Returns::Value(data_type(reader, 0)?));
    }
    let mut columns = vec![];
    reader.expect(&Token::LParen)?;
    loop {
        let name = reader.ident()?;
        columns.push((name, data_type(reader, 0)?));
        if !reader.parser.consume_token(&Token::Comma) {
            break;
        }
    }
    reader.expect(&Token::RParen)?;
    Ok(Returns::Table(columns))
}

fn arguments(reader: &mut Reader<'_>) -> Sofar<Vec<Argument>> {
    let mut arguments: Vec<Argument> = vec![];
    reader.expect(&Token::LParen)?;
    while !reader.parser.consume_token(&Token::RParen) {
        if !arguments.is_empty() {
            reader.expect(&Token::Comma)?;
        }
        if let word @ ("OUT" | "INOUT" | "VARIADIC") = reader.peek_word().as_str() {
            let hint = "take plain arguments, and RETURNS TABLE for several results";
            return Err(Error::unsupported(format!("{word} arguments"), hint).into());
        }
        reader.words(&["IN"]);
        let name = if is_named(reader) { Some(reader.ident()?) } else { None };
        let pg_type = data_type(reader, 0)?;
        let default = if reader.words(&["DEFAULT"]) || reader.parser.consume_token(&Token::Eq) {
            let (_, text) = reader.with_text(|reader| Ok(reader.parser.parse_expr()?))?;
            Some(text)
        } else {
            None
        };
        if default.is_none() && arguments.iter().any(|argument| argument.default.is_some()) {
            let message = "input parameters after one with a default value must also have defaults";
            return Err(Error::new(SqlState("42P13"), message).into());
        }
        if name.is_some() && arguments.iter().any(|argument| argument.name == name) {
            let message = format!("parameter name \"{}\" used more than once", name.unwrap_or_default());
            return Err(Error::new(SqlState("42P13"), message).into());
        }
        arguments.push(Argument { name, pg_type, default });
    }
    Ok(arguments)
}

/// True if a name stands before the type: two words that are no type together.
fn is_named(reader: &Reader<'_>) -> bool {
    let (first, second) = (reader.peek_word(), reader.peek_second_word());
    let is_word = |n: usize| matches!(reader.parser.peek_nth_token_ref(n).token, Token::Word(_));
    let of_two = matches!(
        (first.as_str(), second.as_str()),
        ("DOUBLE", "PRECISION")
            | ("CHARACTER" | "CHAR" | "BIT", "VARYING")
            | ("TIMESTAMP" | "TIME", "WITH" | "WITHOUT")
    );
    is_word(0) && is_word(1) && !of_two && second != "DEFAULT"
}

/// From FUNCTION on.
pub(super) fn drop_function(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    reader.expect_words(&["FUNCTION"])?;
    let if_exists = reader.words(&["IF", "EXISTS"]);
    let mut functions = vec![];
    loop {
        functions.push(function_name(reader)?);
        if !reader.parser.consume_token(&Token::Comma) {
            break;
        }
    }
    let cascade = reader.words(&["CASCADE"]);
    if !cascade {
        reader.words(&["RESTRICT"]);
    }
    Ok(StatementKind::DropFunction(DropFunction { functions, if_exists, cascade }))
}

/// `f`, `f(integer, text)`: a function that is there.
pub(super) fn function_name(reader: &mut Reader<'_>) -> Sofar<FunctionName> {
    let name = reader.name()?;
    let types = if reader.peek_word() == "(" {
        Some(arguments(reader)?.into_iter().map(|argument| argument.pg_type).collect())
    } else {
        None
    };
    Ok(FunctionName { name, types })
}

/// The one query of a body. 0A000 for several statements, or for one that is no query.
pub fn check_body(body: &str) -> Result<()> {
    let statements = super::parse(body).map_err(|error| Error { position: None, ..error })?;
    match statements.as_slice() {
        [crate::sql::Statement { kind: StatementKind::Query(_), .. }] => Ok(()),
        _ => Err(Error::unsupported("a function body that is not one query", "write a single SELECT")),
    }
}
