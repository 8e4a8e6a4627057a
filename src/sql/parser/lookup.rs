//! `rates FOR SYSTEM_TIME AS OF PROCTIME()` as `hw_as_of_arrival(rates, hw_now)`: a call whose last argument ends where the
//! clause ends. `… AS OF o.placed`, a time of the other side, keeps the column, to be refused.
//!
//! [`crate::sql::arrival`] knows the name.

use sqlparser::ast::{FunctionArg, FunctionArgExpr, Ident, ObjectName, TableFactor};
use sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use super::reader::upper;
use super::respell::{before, insert, is_word, next};

pub(in crate::sql) const AS_OF_ARRIVAL: &str = "hw_as_of_arrival";
const NOW: &str = "hw_now";

/// `at`: SYSTEM_TIME.
pub(super) fn respell(tokens: &mut Vec<TokenWithSpan>, at: usize) {
    let Some(clause) = clause(tokens, at) else { return };
    let Some(start) = relation_before(tokens, clause.start) else { return };
    let span = Span::new(tokens[clause.last].span.start, tokens[clause.last].span.end);
    let time = match clause.is_now {
        true => vec![TokenWithSpan { token: Token::make_word(NOW, None), span }],
        false => tokens[clause.time..=clause.last].to_vec(),
    };
    let comma = TokenWithSpan { token: Token::Comma, span: tokens[clause.start].span };
    let close = TokenWithSpan { token: Token::RParen, span };
    let clause = clause.start..=clause.last;
    tokens.splice(clause, [comma].into_iter().chain(time).chain([close]));
    let at = tokens[start].span;
    insert(tokens, start, at, [Token::make_word(AS_OF_ARRIVAL, None), Token::LParen]);
}

struct Clause {
    /// FOR.
    start: usize,
    time: usize,
    last: usize,
    is_now: bool,
}

/// `None` for other times: they are no matter of joins.
fn clause(tokens: &[TokenWithSpan], at: usize) -> Option<Clause> {
    let start = before(tokens, at)?;
    let as_ = next(tokens, at + 1)?;
    let of = next(tokens, as_ + 1)?;
    let time = next(tokens, of + 1)?;
    let second = next(tokens, time + 1)?;
    let last = next(tokens, second + 1)?;
    let is_clause = [(start, "FOR"), (as_, "AS"), (of, "OF")].iter().all(|(at, word)| is_word(tokens, Some(*at), word));
    let is_now =
        [(time, "PROCTIME"), (second, "("), (last, ")")].iter().all(|(at, word)| upper(&tokens[*at].token) == *word);
    let is_column = matches!(
        (&tokens[time].token, &tokens[second].token, &tokens[last].token),
        (Token::Word(_), Token::Period, Token::Word(_))
    );
    (is_clause && (is_now || is_column)).then_some(Clause { start, time, last, is_now })
}

/// The first token of the name that stands before `at`.
fn relation_before(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    let is_name = |at: usize| matches!(tokens[at].token, Token::Word(_));
    let mut start = before(tokens, at).filter(|&at| is_name(at))?;
    while let Some(period) = before(tokens, start).filter(|&at| tokens[at].token == Token::Period)
        && let Some(part) = before(tokens, period).filter(|&at| is_name(at))
    {
        start = part;
    }
    Some(start)
}

/// The relation of such a call, and its time: [`None`] for now, at the place where the clause ends.
pub(in crate::sql) struct AsOfArrival {
    pub relation: ObjectName,
    pub end: Span,
    pub time: Option<String>,
}

pub(in crate::sql) fn as_of_arrival(factor: &TableFactor) -> Option<AsOfArrival> {
    let TableFactor::Table { name, args: Some(args), .. } = factor else { return None };
    let [part] = name.0.as_slice() else { return None };
    if part.as_ident().is_none_or(|ident| ident.value != AS_OF_ARRIVAL) {
        return None;
    }
    let parts = |arg: &FunctionArg| -> Option<Vec<Ident>> {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg else { return None };
        match expr {
            sqlparser::ast::Expr::Identifier(ident) => Some(vec![ident.clone()]),
            sqlparser::ast::Expr::CompoundIdentifier(parts) => Some(parts.clone()),
            _ => None,
        }
    };
    let [relation, time] = args.args.as_slice() else { return None };
    let time = parts(time)?;
    let end = time.last()?.span;
    let time = match time.as_slice() {
        [now] if now.value == NOW => None,
        column => Some(column.iter().map(Ident::to_string).collect::<Vec<_>>().join(".")),
    };
    Some(AsOfArrival { relation: ObjectName::from(parts(relation)?), end, time })
}
