//! Another value of one option in a stored CREATE statement: the rest of the text stays as its author wrote it.

use std::ops::Range;

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::text::Text;
use crate::error::{Error, Result, SqlState};

/// The statement's text with `key = value` in its first `WITH (…)`, in place of the value that is there; `None` takes
/// the option out. XX001 if there is no such clause.
pub fn with_option(text: &str, key: &str, value: Option<&str>) -> Result<String> {
    let unreadable = |e: String| Error::new(SqlState::DATA_CORRUPTED, format!("unreadable stored statement: {e}"));
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location();
    let mut tokens = tokens.map_err(|e| unreadable(e.to_string()))?;
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    let clause = clause(&tokens).ok_or_else(|| unreadable("it has no options".into()))?;
    let is_comma = |token: &TokenWithSpan| token.token == Token::Comma;
    let options: Vec<&[TokenWithSpan]> = tokens[clause.clone()].split(is_comma).filter(|o| !o.is_empty()).collect();
    let found = options.iter().position(|option| is_called(option, key));
    let lines = Text::new(text);
    let place =
        |token: &TokenWithSpan| Some(lines.bytes_before(token.span.start)?..lines.bytes_before(token.span.end)?);
    let around = |option: &[TokenWithSpan]| Some(place(option.first()?)?.start..place(option.last()?)?.end);
    let given = value.map(|value| format!("{key} = {}", literal(value)));
    let edit: Option<(Range<usize>, String)> = (|| match (found, given) {
        (Some(at), Some(given)) => Some((around(options[at])?, given)),
        (Some(0), None) => {
            let end = if options.len() > 1 { around(options[1])?.start } else { around(options[0])?.end };
            Some((around(options[0])?.start..end, String::new()))
        }
        (Some(at), None) => Some((around(options[at - 1])?.end..around(options[at])?.end, String::new())),
        (None, Some(given)) => match options.last() {
            Some(last) => around(last).map(|last| (last.end..last.end, format!(", {given}"))),
            None => place(&tokens[clause.end]).map(|close| (close.start..close.start, given)),
        },
        (None, None) => Some((0..0, String::new())),
    })();
    let (range, replacement) = edit.ok_or_else(|| unreadable("an option has no place in it".into()))?;
    let mut text = text.to_string();
    text.replace_range(range, &replacement);
    Ok(text)
}

/// What stands between the parentheses of the first WITH that has some, outside of any others.
fn clause(tokens: &[TokenWithSpan]) -> Option<Range<usize>> {
    let (mut depth, mut start) = (0, None);
    for (at, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::LParen => {
                let is_with = |token: &Token| matches!(token, Token::Word(word) if word.keyword == Keyword::WITH);
                if depth == 0 && at > 0 && is_with(&tokens[at - 1].token) {
                    start = Some(at + 1);
                }
                depth += 1;
            }
            Token::RParen => {
                depth -= 1;
                if let (0, Some(start)) = (depth, start) {
                    return Some(start..at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Keys are words, perhaps with points between them; case makes no difference.
fn is_called(option: &[TokenWithSpan], key: &str) -> bool {
    let name = option.iter().take_while(|token| token.token != Token::Eq);
    let name: String = name
        .map(|token| match &token.token {
            Token::Word(word) => word.value.clone(),
            other => other.to_string(),
        })
        .collect();
    name.eq_ignore_ascii_case(key)
}

fn literal(value: &str) -> String {
    match value.parse::<u64>() {
        Ok(number) => number.to_string(),
        Err(_) => format!("'{}'", value.replace('\'', "''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_option_changes_and_nothing_else() -> Result<()> {
        let text = "CREATE SOURCE s (a int, \"WITH\" int)\n  WITH (connector = 'files', /* ä, */ Rate = 5, path = 'rate = 1')\n  FORMAT PLAIN ENCODE CSV (rate = '7')";
        let with = |options: &str| text.replace("connector = 'files', /* ä, */ Rate = 5, path = 'rate = 1'", options);
        assert_eq!(
            with_option(text, "rate", Some("9"))?,
            with("connector = 'files', /* ä, */ rate = 9, path = 'rate = 1'")
        );
        assert_eq!(with_option(text, "rate", None)?, with("connector = 'files', path = 'rate = 1'"));
        assert_eq!(with_option(text, "connector", None)?, with("Rate = 5, path = 'rate = 1'"));
        assert_eq!(with_option(text, "path", None)?, with("connector = 'files', /* ä, */ Rate = 5"));
        assert_eq!(
            with_option(text, "a.b", Some("it's"))?,
            with("connector = 'files', /* ä, */ Rate = 5, path = 'rate = 1', a.b = 'it''s'")
        );
        assert_eq!(with_option(text, "stranger", None)?, text);
        assert_eq!(with_option("CREATE SOURCE s WITH ()", "a", Some("1"))?, "CREATE SOURCE s WITH (a = 1)");
        assert_eq!(with_option("CREATE SOURCE s WITH (a = 1)", "a", None)?, "CREATE SOURCE s WITH ()");
        assert_eq!(with_option("CREATE TABLE t (a int)", "a", None).err().map(|e| e.code.0), Some("XX001"));
        Ok(())
    }
}
