//! CREATE INDEX and DROP INDEX.

use sqlparser::tokenizer::Token;

use super::reader::{Reader, Sofar};
use crate::error::Error;
use crate::sql::{CreateIndex, StatementKind};

/// From UNIQUE or INDEX on.
pub(super) fn create_index(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    let unique = reader.words(&["UNIQUE"]);
    reader.expect_words(&["INDEX"])?;
    // Nobody waits for the building of an index anyway.
    reader.words(&["CONCURRENTLY"]);
    let if_not_exists = reader.words(&["IF", "NOT", "EXISTS"]);
    let name = if reader.peek_word() == "ON" { None } else { Some(reader.ident()?) };
    reader.expect_words(&["ON"])?;
    reader.words(&["ONLY"]);
    let relation = reader.name()?;
    if reader.words(&["USING"]) {
        let method = reader.ident()?;
        if method != "btree" {
            let hint = "an index is ordered and finds equal values and ranges; leave USING out";
            return Err(Error::unsupported(format!("access method \"{method}\""), hint).into());
        }
    }
    let mut columns = vec![];
    reader.expect(&Token::LParen)?;
    loop {
        columns.push(key_column(reader)?);
        if !reader.parser.consume_token(&Token::Comma) {
            break;
        }
    }
    reader.expect(&Token::RParen)?;
    let refused = match reader.peek_word().as_str() {
        "INCLUDE" => ("INCLUDE", "an index leads to whole rows; leave it out"),
        "NULLS" => ("NULLS [NOT] DISTINCT", "NULL is unlike every other NULL; leave it out"),
        "WITH" => ("CREATE INDEX … WITH", "an index has no options; leave it out"),
        "TABLESPACE" => ("CREATE INDEX … TABLESPACE", "leave it out"),
        "WHERE" => ("a partial index", "index all rows, or index a materialized view over the rows that matter"),
        _ => return Ok(StatementKind::CreateIndex(CreateIndex { name, if_not_exists, unique, relation, columns })),
    };
    Err(Error::unsupported(refused.0, refused.1).into())
}

fn key_column(reader: &mut Reader<'_>) -> Sofar<String> {
    let is_column = matches!(reader.parser.peek_token_ref().token, Token::Word(_))
        && !matches!(reader.parser.peek_nth_token_ref(1).token, Token::LParen | Token::Period);
    if !is_column {
        let hint = "make the expression a column of a materialized view, and index that";
        return Err(Error::unsupported("an index over an expression", hint).into());
    }
    let column = reader.ident()?;
    let what = match reader.peek_word().as_str() {
        "," | ")" => return Ok(column),
        "ASC" => {
            reader.words(&["ASC"]);
            return match reader.peek_word().as_str() {
                "," | ")" => Ok(column),
                _ => Err(order()),
            };
        }
        "DESC" | "NULLS" => return Err(order()),
        "COLLATE" => "COLLATE in an index",
        "::" | "+" | "-" | "*" | "/" | "||" | "->" | "->>" => "an index over an expression",
        _ => "an operator class",
    };
    Err(Error::unsupported(what, "name the column alone").into())
}

fn order() -> super::reader::Fault {
    Error::unsupported("an order in an index", "an index is read in both directions; leave it out").into()
}
