//! `FOR SYSTEM_TIME AS OF expression` behind a relation's name: it becomes a part of the name ([`crate::sql::as_of`]). An alias
//! may follow, as in SQL:2011.

use sqlparser::ast;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::reader::upper;
use crate::sql::as_of;

const CLAUSE: &[&str] = &["FOR", "SYSTEM_TIME", "AS", "OF"];

/// The tokens with such names. A clause that is no expression is left, and is a syntax error.
pub(super) fn name_instants(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut at = 0;
    while at < tokens.len() {
        if upper(&tokens[at].token) == "FOR"
            && let Some(begin) = clause(&tokens, at)
        {
            name_instant(&mut tokens, at, begin);
        }
        at += 1;
    }
    tokens
}

/// Where the expression begins, if the clause begins here.
fn clause(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    let mut words = tokens.iter().enumerate().skip(at).filter(|(_, token)| is_text(token));
    let begins = CLAUSE.iter().all(|word| words.next().is_some_and(|(_, token)| upper(&token.token) == *word));
    let (begin, first) = words.next().filter(|_| begins)?;
    // The processing time of a row, or its own time: a join with what a relation is then, which is another thing.
    let is_of_row = upper(&first.token) == "PROCTIME" || words.next().is_some_and(|(_, t)| t.token == Token::Period);
    (!is_of_row).then_some(begin)
}

fn is_text(token: &TokenWithSpan) -> bool {
    !matches!(token.token, Token::Whitespace(_))
}

fn name_instant(tokens: &mut Vec<TokenWithSpan>, clause: usize, begin: usize) {
    let Some(name) = (0..clause).rev().find(|&at| is_text(&tokens[at])) else { return };
    let Token::Word(word) = &tokens[name].token else { return };
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens[begin..].to_vec());
    if parser.parse_expr().is_err() {
        return;
    }
    let end = (begin + parser.index()).min(tokens.len());
    let text: String = tokens[begin..end].iter().map(|token| spelled(&token.token)).collect();
    let relation = match word.quote_style {
        None => word.value.to_ascii_lowercase(),
        Some(_) => word.value.clone(),
    };
    let named = as_of::name_at(&relation, Some(text.trim()));
    tokens[name].token = Token::make_word(&named, Some('"'));
    tokens.drain(name + 1..end);
}

fn spelled(token: &Token) -> String {
    match token {
        Token::SingleQuotedString(text) => format!("'{}'", text.replace('\'', "''")),
        // Line breaks and comments.
        Token::Whitespace(_) => " ".to_string(),
        other => other.to_string(),
    }
}

/// The alias that lets the rest of the query call the relation as it is called.
pub(super) fn keep_name(factor: &mut ast::TableFactor) {
    let ast::TableFactor::Table { name, alias: alias @ None, .. } = factor else { return };
    let last = name.0.last().and_then(|part| part.as_ident());
    if let Some((relation, Some(_))) = last.map(|ident| as_of::split(&ident.value)) {
        *alias = Some(ast::TableAlias {
            explicit: true,
            name: ast::Ident::with_quote('"', relation),
            columns: vec![],
            at: None,
        });
    }
}
