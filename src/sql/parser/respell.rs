//! Tokens respelled before they are parsed: what the grammar of `sqlparser` lacks or reads wrongly, said so that it
//! reads it, with the places that the tokens had.
//!
//! | as written | as read |
//! |---|---|
//! | `TUMBLE(TABLE bid, …)`, `HOP(DATA => TABLE bid, …)` | `TUMBLE(bid, …)` |
//! | `TABLE t` where a query begins | `SELECT * FROM t` |
//! | `a ASOF LEFT JOIN b MATCH_CONDITION (…)` | `a ASOF JOIN b MATCH_CONDITION (hw_asof_left AND …)` |
//! | `SESSION(t PARTITION BY k, ts, gap)` | `SESSION(t, hw_partition_by => k, ts, gap)` |
//! | `x BETWEEN SYMMETRIC a AND b` | `x BETWEEN hw_symmetric(a) AND b` |
//! | `trim(BOTH FROM x)` | `trim(BOTH x)` |
//! | `substring(x SIMILAR p ESCAPE e)`, `substring(x FOR n FROM m)` | `substring(x FROM p FOR e)`, `substring(x FROM m FOR n)` |
//! | `= ANY ((SELECT …) INTERSECT (SELECT …))` | `= ANY (SELECT * FROM ((SELECT …) INTERSECT (SELECT …)) AS hw_set)` |
//! | `OVER (… ROWS … EXCLUDE TIES)` | `OVER (PARTITION BY hw_exclude('ties'), … ROWS …)` |
//! | `rates FOR SYSTEM_TIME AS OF PROCTIME()` | `hw_as_of_arrival(rates, hw_now)` ([`lookup`]) |
//!
//! `FOR SYSTEM_TIME AS OF` goes first ([`super::system_time`]). [`crate::sql::compat`] and [`crate::sql::bind`] know the names that begin with `hw_`.

use sqlparser::tokenizer::{Span, Token, TokenWithSpan, Whitespace};

use super::lookup;
use super::reader::upper;

/// Stands for the LEFT of `ASOF LEFT JOIN` in its condition.
pub(in crate::sql) const ASOF_LEFT: &str = "hw_asof_left";

/// The name of the argument that `PARTITION BY` inside of `SESSION(…)` is read as.
pub(in crate::sql) const PARTITION_BY: &str = "hw_partition_by";

/// Stands around the lower bound of BETWEEN SYMMETRIC.
pub(in crate::sql) const SYMMETRIC: &str = "hw_symmetric";

/// Stands first in PARTITION BY, and says what a window's frame leaves out.
pub(in crate::sql) const EXCLUDE: &str = "hw_exclude";

/// All of the above.
pub(in crate::sql) fn respell(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut tokens = plain_relations(super::system_time::name_instants(tokens));
    let mut at = 0;
    while at < tokens.len() {
        let word = match &tokens[at].token {
            Token::Word(word) if word.quote_style.is_none() => word.value.to_ascii_uppercase(),
            _ => String::new(),
        };
        match word.as_str() {
            "SYMMETRIC" | "ASYMMETRIC" => between(&mut tokens, at),
            "TRIM" => trim(&mut tokens, at),
            "SUBSTRING" => substring(&mut tokens, at),
            "EXCLUDE" => exclude(&mut tokens, at),
            "SYSTEM_TIME" => lookup::respell(&mut tokens, at),
            "ANY" | "SOME" | "ALL" => quantified(&mut tokens, at),
            _ => {}
        }
        at += 1;
    }
    tokens
}

/// Where something that is not space comes next, from `at` on.
pub(super) fn next(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    (at..tokens.len()).find(|&at| !matches!(tokens[at].token, Token::Whitespace(_)))
}

pub(super) fn before(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    (0..at).rev().find(|&at| !matches!(tokens[at].token, Token::Whitespace(_)))
}

pub(super) fn is_word(tokens: &[TokenWithSpan], at: Option<usize>, word: &str) -> bool {
    at.is_some_and(|at| upper(&tokens[at].token) == word)
}

fn space() -> Token {
    Token::Whitespace(Whitespace::Space)
}

pub(super) fn insert(tokens: &mut Vec<TokenWithSpan>, at: usize, span: Span, new: impl IntoIterator<Item = Token>) {
    let new: Vec<TokenWithSpan> = new.into_iter().map(|token| TokenWithSpan { token, span }).collect();
    tokens.splice(at..at, new);
}

/// Where the words of `wanted` stand outside of parentheses and CASE, from `from` to the parenthesis that closes it.
fn top_level(tokens: &[TokenWithSpan], from: usize, wanted: &[&str]) -> Vec<(String, usize)> {
    let (mut depth, mut found) = (0usize, vec![]);
    for (at, token) in tokens.iter().enumerate().skip(from) {
        let word = upper(&token.token);
        match word.as_str() {
            "(" | "[" | "CASE" => depth += 1,
            ")" | "]" | "END" if depth == 0 => break,
            ")" | "]" | "END" => depth -= 1,
            ";" => break,
            word if depth == 0 && wanted.contains(&word) => found.push((word.to_string(), at)),
            _ => {}
        }
    }
    found
}

/// The parenthesis that opens what holds the token at `at`.
fn opening(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    let mut depth = 0usize;
    for at in (0..at).rev() {
        match tokens[at].token {
            Token::RParen => depth += 1,
            Token::LParen if depth == 0 => return Some(at),
            Token::LParen => depth -= 1,
            Token::SemiColon => return None,
            _ => {}
        }
    }
    None
}

/// `at`: SYMMETRIC or ASYMMETRIC.
fn between(tokens: &mut Vec<TokenWithSpan>, at: usize) {
    let before = before(tokens, at);
    if !is_word(tokens, before, "BETWEEN") {
        return;
    }
    let span = tokens[at].span;
    if upper(&tokens[at].token) == "ASYMMETRIC" {
        tokens[at].token = space();
        return;
    }
    let Some((_, and)) = top_level(tokens, at + 1, &["AND"]).into_iter().next() else { return };
    let end = tokens[and].span;
    insert(tokens, and, end, [Token::RParen, space()]);
    tokens[at].token = Token::make_word(SYMMETRIC, None);
    insert(tokens, at + 1, span, [Token::LParen]);
}

/// `at`: TRIM. FROM without characters before it says nothing.
fn trim(tokens: &mut [TokenWithSpan], at: usize) {
    let open = next(tokens, at + 1);
    if !is_word(tokens, open, "(") {
        return;
    }
    let mut first = open.and_then(|open| next(tokens, open + 1));
    if ["BOTH", "LEADING", "TRAILING"].iter().any(|word| is_word(tokens, first, word)) {
        first = first.and_then(|first| next(tokens, first + 1));
    }
    if let Some(from) = first.filter(|_| is_word(tokens, first, "FROM")) {
        tokens[from].token = space();
    }
}

/// `at`: SUBSTRING.
fn substring(tokens: &mut Vec<TokenWithSpan>, at: usize) {
    let Some(open) = next(tokens, at + 1).filter(|&open| tokens[open].token == Token::LParen) else { return };
    let found = top_level(tokens, open + 1, &["SIMILAR", "ESCAPE", "FOR", "FROM"]);
    match found.as_slice() {
        [(similar, from), (escape, to)] if similar == "SIMILAR" && escape == "ESCAPE" => {
            tokens[*from].token = Token::make_keyword("FROM");
            tokens[*to].token = Token::make_keyword("FOR");
        }
        [(count, first), (start, second)] if count == "FOR" && start == "FROM" => {
            let (first, second) = (*first, *second);
            let mut depth = 0usize;
            let end = (second..tokens.len()).find(|&at| match tokens[at].token {
                Token::LParen => {
                    depth += 1;
                    false
                }
                Token::RParen if depth == 0 => true,
                Token::RParen => {
                    depth -= 1;
                    false
                }
                _ => false,
            });
            if let Some(end) = end {
                let span = tokens[end].span;
                insert(tokens, end, span, [space()]);
                insert(tokens, second, span, [space()]);
                tokens[first..=end + 1].rotate_left(second + 1 - first);
            }
        }
        _ => {}
    }
}

/// `at`: EXCLUDE. It must be the last of a window's definition, behind a frame; else it is left, and is an error.
fn exclude(tokens: &mut Vec<TokenWithSpan>, at: usize) {
    const WHAT: [(&[&str], &str); 4] = [
        (&["CURRENT", "ROW"], "current row"),
        (&["GROUP"], "group"),
        (&["TIES"], "ties"),
        (&["NO", "OTHERS"], "no others"),
    ];
    let words = |words: &[&str]| {
        let mut last = at;
        for word in words {
            last = next(tokens, last + 1).filter(|&at| upper(&tokens[at].token) == *word)?;
        }
        next(tokens, last + 1).filter(|&end| tokens[end].token == Token::RParen)
    };
    let Some((end, what)) = WHAT.iter().find_map(|(said, what)| Some((words(said)?, *what))) else { return };
    let Some(open) = opening(tokens, at) else { return };
    let frame = top_level(tokens, open + 1, &["ROWS", "RANGE", "GROUPS"]);
    if frame.last().is_none_or(|(_, frame)| *frame > at) {
        return;
    }
    let span = tokens[at].span;
    tokens[at..end].iter_mut().for_each(|token| token.token = space());
    let partition = top_level(tokens, open + 1, &["PARTITION"]).first().map(|(_, at)| *at);
    let by = partition.and_then(|at| next(tokens, at + 1)).filter(|&by| upper(&tokens[by].token) == "BY");
    let mark =
        [Token::make_word(EXCLUDE, None), Token::LParen, Token::SingleQuotedString(what.to_string()), Token::RParen];
    if let Some(by) = by {
        insert(tokens, by + 1, span, [space()].into_iter().chain(mark).chain([Token::Comma]));
        return;
    }
    // A window's name comes first.
    let first = next(tokens, open + 1).map_or(String::new(), |first| upper(&tokens[first].token));
    let at = match first.as_str() {
        "ORDER" | "ROWS" | "RANGE" | "GROUPS" => open + 1,
        _ => next(tokens, open + 1).map_or(open + 1, |name| name + 1),
    };
    let words = [space(), Token::make_keyword("PARTITION"), space(), Token::make_keyword("BY"), space()];
    insert(tokens, at, span, words.into_iter().chain(mark).chain([space()]));
}

/// `at`: a quantifier, or the ALL of a set operation.
fn quantified(tokens: &mut Vec<TokenWithSpan>, at: usize) {
    let is_set_operation = before(tokens, at)
        .is_some_and(|at| matches!(upper(&tokens[at].token).as_str(), "UNION" | "INTERSECT" | "EXCEPT" | "SELECT"));
    let Some(open) = next(tokens, at + 1).filter(|&at| tokens[at].token == Token::LParen) else { return };
    let is_nested = next(tokens, open + 1).is_some_and(|at| tokens[at].token == Token::LParen);
    if is_set_operation || !is_nested || top_level(tokens, open + 1, SET_OPERATIONS).is_empty() {
        return;
    }
    let mut depth = 0usize;
    let close = (open..tokens.len()).find(|&at| {
        match tokens[at].token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    let Some(close) = close else { return };
    let word = |text: &str| [space(), Token::make_keyword(text)];
    let span = tokens[at].span;
    let after = std::iter::once(Token::RParen).chain(word("AS")).chain([space(), Token::make_word("hw_set", None)]);
    insert(tokens, close, span, after);
    let front = word("SELECT").into_iter().chain([space(), Token::Mul]).chain(word("FROM")).chain([Token::LParen]);
    insert(tokens, open + 1, span, front);
}

const SET_OPERATIONS: &[&str] = &["UNION", "INTERSECT", "EXCEPT"];

/// Flink's TABLE, `TABLE t` as a query, ASOF LEFT JOIN, and the partitions of SESSION.
fn plain_relations(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    const QUERY_BEGINS_AFTER: &[&str] = &[
        "",
        ";",
        "(",
        "AS",
        "ALL",
        "UNION",
        "EXCEPT",
        "INTERSECT",
        "DISTINCT",
        "EXPLAIN",
        "ANALYZE",
        "VERBOSE",
        "FOR",
    ];
    let mut before: [String; 2] = Default::default();
    let mut in_asof_left = false;
    // How many parentheses are open, and where those of SESSION stand among them.
    let (mut depth, mut sessions) = (0usize, vec![]);
    let mut respelled: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        if matches!(token.token, Token::Whitespace(_)) {
            respelled.push(token);
            continue;
        }
        let word = upper(&token.token);
        let span = token.span;
        let opens_window = before[1] == "(" && matches!(before[0].as_str(), "TUMBLE" | "HOP" | "CUMULATE" | "SESSION");
        match token.token {
            Token::LParen => {
                depth += 1;
                if before[1] == "SESSION" {
                    sessions.push(depth);
                }
            }
            Token::RParen => {
                sessions.retain(|&session| session < depth);
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
        if word == "BY" && before[1] == "PARTITION" && sessions.last() == Some(&depth) {
            let partition = respelled.iter().rposition(|token| !matches!(token.token, Token::Whitespace(_)));
            respelled.truncate(partition.unwrap_or(0));
            let mark = [Token::Comma, Token::make_word(PARTITION_BY, None), Token::RArrow];
            respelled.extend(mark.map(|token| TokenWithSpan { token, span }));
            before = [std::mem::take(&mut before[1]), word];
            continue;
        }
        if word == "LEFT" && before[1] == "ASOF" {
            in_asof_left = true;
            continue;
        }
        if in_asof_left && word == "(" && before[1] == "MATCH_CONDITION" {
            in_asof_left = false;
            let mark = [token.token, Token::make_word(ASOF_LEFT, None), Token::make_keyword("AND")];
            respelled.extend(mark.map(|token| TokenWithSpan { token, span }));
        } else if word != "TABLE" {
            respelled.push(token);
        } else if opens_window || before[1] == "=>" {
            respelled.push(TokenWithSpan { token: Token::Whitespace(Whitespace::Space), span });
            continue;
        } else if QUERY_BEGINS_AFTER.contains(&before[1].as_str())
            // `SELECT a AS table, …` is a name.
            && rest.peek().is_none_or(|next| !matches!(next.token, Token::LParen | Token::RParen | Token::Comma))
        {
            let tokens = [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")];
            respelled.extend(tokens.map(|token| TokenWithSpan { token, span }));
        } else {
            respelled.push(token);
        }
        before = [std::mem::take(&mut before[1]), word];
    }
    respelled
}
