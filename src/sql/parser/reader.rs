//! Reading one statement: the grammar of `sqlparser` for expressions, queries and types, words of our own around it.

use std::collections::BTreeMap;

use sqlparser::ast::{self, Ident, ObjectName, VisitMut};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use super::super::text::Text;
use super::super::{Name, Query, Statement};
use super::plain::PlainQueries;
use crate::error::{Error, Result, SqlState};

static DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

/// Why reading stopped: the grammar ended, or we know what it is and do not take it.
pub(super) enum Fault {
    Grammar(ParserError),
    Ours(Error),
}

impl From<ParserError> for Fault {
    fn from(error: ParserError) -> Fault {
        Fault::Grammar(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Ours(error)
    }
}

pub(super) type Sofar<T> = std::result::Result<T, Fault>;

pub(super) struct Reader<'a> {
    pub source: &'a Text,
    pub parser: Parser<'a>,
    tokens: &'a [TokenWithSpan],
    /// The first token of `EMIT ON WINDOW CLOSE`, until somebody takes it.
    pub emit: Option<TokenWithSpan>,
    /// The first half of a `>>` has closed a `struct<…>`.
    pub half_shift: bool,
    /// How many statements this one is inside of (EXPLAIN, PREPARE).
    depth: usize,
}

/// EXPLAIN of EXECUTE, PREPARE of EXPLAIN: no statement nests deeper than this.
const STATEMENT_DEPTH_MAX: usize = 2;

impl<'a> Reader<'a> {
    pub fn new(source: &'a Text, tokens: &'a [TokenWithSpan]) -> Reader<'a> {
        let parser = Parser::new(&DIALECT)
            .with_recursion_limit(super::NESTING_DEPTH_MAX)
            .with_tokens_with_locations(tokens.to_vec());
        Reader { source, parser, tokens, emit: None, half_shift: false, depth: 0 }
    }

    /// The next word in upper case, or the next token as written; empty at the end.
    pub fn peek_word(&self) -> String {
        upper(&self.parser.peek_token_ref().token)
    }

    pub fn peek_second_word(&self) -> String {
        upper(&self.parser.peek_nth_token_ref(1).token)
    }

    /// Takes these words if they come next.
    pub fn words(&mut self, words: &[&str]) -> bool {
        if !words.iter().enumerate().all(|(n, word)| upper(&self.parser.peek_nth_token_ref(n).token) == *word) {
            return false;
        }
        words.iter().for_each(|_| drop(self.parser.next_token()));
        true
    }

    pub fn expect_words(&mut self, words: &[&str]) -> Sofar<()> {
        for word in words {
            if !self.words(&[word]) {
                return Err(self.unexpected());
            }
        }
        Ok(())
    }

    pub fn expect(&mut self, token: &Token) -> Sofar<()> {
        self.parser.expect_token(token)?;
        Ok(())
    }

    /// Nothing may be left of the statement.
    pub fn end(&self) -> Sofar<()> {
        match self.parser.peek_token_ref().token {
            Token::EOF => Ok(()),
            _ => Err(self.unexpected()),
        }
    }

    /// A syntax error at the next token.
    pub fn unexpected(&self) -> Fault {
        Fault::Ours(syntax_error(self.source, Some(self.parser.peek_token_ref())))
    }

    /// Any word, reserved or not, as written.
    pub fn any_word(&mut self) -> Sofar<String> {
        match self.parser.peek_token_ref().token.clone() {
            Token::Word(word) => {
                self.parser.next_token();
                Ok(word.value)
            }
            _ => Err(self.unexpected()),
        }
    }

    /// An identifier, folded.
    pub fn ident(&mut self) -> Sofar<String> {
        Ok(fold(&self.parser.parse_identifier()?))
    }

    /// `(a, b)`, folded; empty if there is no parenthesis.
    pub fn ident_list(&mut self) -> Sofar<Vec<String>> {
        if !self.parser.consume_token(&Token::LParen) {
            return Ok(vec![]);
        }
        let idents = self.parser.parse_comma_separated(Parser::parse_identifier)?;
        self.expect(&Token::RParen)?;
        Ok(idents.iter().map(fold).collect())
    }

    pub fn name(&mut self) -> Sofar<Name> {
        let name = self.parser.parse_object_name(false)?;
        Ok(fold_name(&name)?)
    }

    /// A constant: the content of a string, a number, or a bare word as written.
    pub fn literal(&mut self) -> Sofar<String> {
        let token = self.parser.peek_token_ref().token.clone();
        let text = match token {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text,
            Token::DollarQuotedString(text) => text.value,
            Token::Number(digits, _) => digits,
            Token::Word(word) => word.value,
            Token::Minus | Token::Plus => {
                self.parser.next_token();
                let Token::Number(digits, _) = self.parser.peek_token_ref().token.clone() else {
                    return Err(self.unexpected());
                };
                if token == Token::Minus { format!("-{digits}") } else { digits }
            }
            _ => return Err(self.unexpected()),
        };
        self.parser.next_token();
        Ok(text)
    }

    /// `(key[.key …] = value, …)`, keys in lower case.
    pub fn options(&mut self) -> Sofar<BTreeMap<String, String>> {
        let mut options = BTreeMap::new();
        self.expect(&Token::LParen)?;
        while !self.parser.consume_token(&Token::RParen) {
            let mut key = self.any_word()?.to_ascii_lowercase();
            while self.parser.consume_token(&Token::Period) {
                key = format!("{key}.{}", self.any_word()?.to_ascii_lowercase());
            }
            self.expect(&Token::Eq)?;
            let value = self.literal()?;
            if options.insert(key.clone(), value).is_some() {
                return Err(Error::new(
                    SqlState::SYNTAX_ERROR,
                    format!("option \"{key}\" is specified more than once"),
                )
                .into());
            }
            if self.peek_word() != ")" {
                self.expect(&Token::Comma)?;
            }
        }
        Ok(options)
    }

    /// Runs `read` and gives the text that it read.
    pub fn with_text<T>(&mut self, read: impl FnOnce(&mut Reader<'a>) -> Sofar<T>) -> Sofar<(T, String)> {
        let from = self.parser.index();
        let value = read(self)?;
        Ok((value, self.text_since(from)))
    }

    /// What was read since the token index `from`, without space around it.
    pub fn text_since(&self, from: usize) -> String {
        let read = &self.tokens[from.min(self.tokens.len())..self.parser.index().min(self.tokens.len())];
        let is_text = |t: &&TokenWithSpan| !matches!(t.token, Token::Whitespace(_));
        match (read.iter().find(is_text), read.iter().rfind(is_text)) {
            (Some(first), Some(last)) => self.source.slice(first.span.start, last.span.end).to_string(),
            _ => String::new(),
        }
    }

    pub fn query(&mut self) -> Sofar<Query> {
        let ast = self.parser.parse_query()?;
        self.wrap(ast)
    }

    /// A query that a clause of ours follows: it ends before the last of `ends` outside parentheses. (The grammar would
    /// take `WITH (` after a table for hints.) Gives its text too.
    pub fn query_until(&mut self, ends: &[&[&str]]) -> Sofar<(Query, String)> {
        let from = self.parser.index().min(self.tokens.len());
        let (mut depth, mut words) = (0usize, vec![]);
        for (index, token) in self.tokens.iter().enumerate().skip(from) {
            match token.token {
                Token::Whitespace(_) | Token::EOF => continue,
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                words.push((index, upper(&token.token)));
            }
            if token.token == Token::LParen {
                depth += 1;
            }
        }
        let begins = |at: &usize, end: &&[&str]| {
            words.len() >= at + end.len() && end.iter().zip(&words[*at..]).all(|(end, (_, word))| end == word)
        };
        let end = (0..words.len()).rev().find(|at| ends.iter().any(|end| begins(at, end)));
        let end = end.map_or(self.tokens.len(), |at| words[at].0);
        let mut inner = Reader::new(self.source, &self.tokens[from..end]);
        let query = inner.query().and_then(|query| inner.end().map(|()| query));
        let query = match query {
            // The end of the query is not the end of the input.
            Err(Fault::Grammar(ParserError::ParserError(message))) if message.ends_with("found: EOF") => {
                return Err(Fault::Ours(syntax_error(self.source, self.tokens.get(end))));
            }
            query => query?,
        };
        let text = inner.text_since(0);
        let taken = self.tokens[from..end].iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).count();
        (0..taken).for_each(|_| drop(self.parser.next_token()));
        Ok((query, text))
    }

    /// A query with the spellings that the planner takes.
    pub fn wrap(&self, ast: Box<ast::Query>) -> Sofar<Query> {
        let mut statement = ast::Statement::Query(ast);
        self.plain(&mut statement)?;
        match statement {
            ast::Statement::Query(ast) => Ok(Query { ast, source: self.source.clone() }),
            _ => Err(Error::internal("a rewritten query is no query any more").into()),
        }
    }

    /// Gives a statement the spellings that the planner takes.
    pub fn plain(&self, statement: &mut ast::Statement) -> Sofar<()> {
        let mut plain = PlainQueries::default();
        let _ = statement.visit(&mut plain);
        if let Some(ident) = plain.reserved {
            let at = self.tokens.iter().find(|token| token.span.start == ident.span.start);
            return Err(syntax_error(self.source, at).into());
        }
        if let Some(error) = plain.refused {
            return Err(error.into());
        }
        super::super::compat::rewrite(statement);
        Ok(())
    }

    /// The rest of the tokens as a statement of its own.
    pub fn nested_statement(&mut self) -> Sofar<Statement> {
        if self.depth == STATEMENT_DEPTH_MAX {
            return Err(self.unexpected());
        }
        let from = self.parser.index();
        let rest = &self.tokens[from.min(self.tokens.len())..];
        let mut inner = Reader::new(self.source, rest);
        inner.depth = self.depth + 1;
        inner.emit = self.emit.take();
        let start = inner.parser.peek_token_ref().span.start;
        let kind = super::read_kind(&mut inner).and_then(|kind| inner.end().map(|()| kind));
        let kind = kind.map_err(|fault| inner.explain(fault))?;
        self.emit = inner.emit.take();
        while self.parser.next_token().token != Token::EOF {}
        let offset = self.source.chars_before(start).unwrap_or(0);
        Ok(Statement { kind, text: self.text_since(from), offset })
    }

    /// A fault as the client is told it.
    pub fn explain(&self, fault: Fault) -> Error {
        let message = match fault {
            Fault::Ours(error) => return error,
            Fault::Grammar(ParserError::RecursionLimitExceeded) => return super::too_deep(),
            Fault::Grammar(ParserError::TokenizerError(message) | ParserError::ParserError(message)) => message,
        };
        let at = match location(&message) {
            Some(location) => {
                self.tokens.iter().find(|t| t.span.start <= location && location < t.span.end.max(t.span.start))
            }
            None if message.ends_with("found: EOF") => None,
            None => Some(self.parser.peek_token_ref()),
        };
        syntax_error(self.source, at)
    }
}

/// `… at Line: 3, Column: 7` of the parser's messages.
fn location(message: &str) -> Option<Location> {
    let (_, place) = message.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location { line: line.parse().ok()?, column: column.parse().ok()? })
}

/// As Postgres says it; `None` is the end of the statement.
pub(super) fn syntax_error(source: &Text, at: Option<&TokenWithSpan>) -> Error {
    match at {
        Some(token) if token.token != Token::EOF => {
            let text = source.token(token.span);
            let text = if text.is_empty() { token.token.to_string() } else { text.to_string() };
            let error = Error::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{text}\""));
            match source.position(token.span.start) {
                Some(position) => error.with_position(position),
                None => error,
            }
        }
        _ => Error::new(SqlState::SYNTAX_ERROR, AT_END).with_position(source.char_count() + 1),
    }
}

const AT_END: &str = "syntax error at end of input";

pub(super) fn is_at_end(error: &Error) -> bool {
    error.message == AT_END
}

pub(super) fn upper(token: &Token) -> String {
    match token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
        Token::EOF => String::new(),
        other => other.to_string(),
    }
}

/// Postgres folds what is not quoted to lower case.
pub(in crate::sql) fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        None => ident.value.to_ascii_lowercase(),
        Some(_) => ident.value.clone(),
    }
}

/// 0A000 for a name in another database, 42601 for more parts.
pub(in crate::sql) fn fold_name(name: &ObjectName) -> Result<Name> {
    let parts: Vec<String> = name
        .0
        .iter()
        .map(|part| {
            part.as_ident()
                .map(fold)
                .ok_or_else(|| Error::new(SqlState::SYNTAX_ERROR, format!("syntax error at or near \"{part}\"")))
        })
        .collect::<Result<_>>()?;
    match parts.as_slice() {
        [name] => Ok(Name { schema: None, name: name.clone() }),
        [schema, name] => Ok(Name { schema: Some(schema.clone()), name: name.clone() }),
        [database, schema, name] if database == crate::catalog::DATABASE => {
            Ok(Name { schema: Some(schema.clone()), name: name.clone() })
        }
        [_, _, _] => Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("cross-database references are not implemented: \"{}\"", parts.join(".")),
        )
        .with_hint(format!("the only database is {}", crate::catalog::DATABASE))),
        _ => {
            Err(Error::new(SqlState::SYNTAX_ERROR, format!("improper qualified name (too many dotted names): {name}")))
        }
    }
}

/// Cuts `EMIT ON WINDOW CLOSE` off the end, so that `EMIT` is no alias; gives its first token.
pub(super) fn without_emit(tokens: &[TokenWithSpan]) -> (&[TokenWithSpan], Option<TokenWithSpan>) {
    let mut end = tokens.len();
    for expected in ["CLOSE", "WINDOW", "ON", "EMIT"] {
        match tokens[..end].iter().rposition(|t| !matches!(t.token, Token::Whitespace(_) | Token::EOF)) {
            Some(last) if upper(&tokens[last].token) == expected => end = last,
            _ => return (tokens, None),
        }
    }
    (&tokens[..end], Some(tokens[end].clone()))
}
