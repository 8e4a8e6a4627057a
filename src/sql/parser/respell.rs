//! Spellings that the grammar of `sqlparser` does not read rightly, put right among the tokens.

use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

use super::reader::upper;

/// Stands for the LEFT of `ASOF LEFT JOIN` in its condition.
pub(in crate::sql) const ASOF_LEFT: &str = "hw_asof_left";

/// The name of the argument that `PARTITION BY` inside of `SESSION(…)` is read as.
pub(in crate::sql) const PARTITION_BY: &str = "hw_partition_by";

/// Respells what the grammar does not read rightly. Flink writes relations as `TABLE rel` inside window functions; there
/// the word is dropped: `TUMBLE(TABLE bid, …)`, `HOP(DATA => TABLE bid, …)`. Where a query begins with it, `TABLE t` is
/// `SELECT * FROM t`. The LEFT of `ASOF LEFT JOIN` is put into its condition, as [`ASOF_LEFT`] AND …. `SESSION(t PARTITION BY
/// k, ts, gap)` gets a comma before the clause, and a name for its first column, [`PARTITION_BY`] => k.
pub(in crate::sql) fn respell(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
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
            && rest.peek().is_none_or(|next| next.token != Token::LParen)
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
