//! The text of a client's message, and where its lines begin: what turns the parser's (line, column) spans into slices
//! and into the character positions that Postgres clients show.

use std::sync::Arc;

use sqlparser::tokenizer::{Location, Span};

/// A message with an index of its lines. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Text(Arc<Lines>);

#[derive(Debug)]
struct Lines {
    text: String,
    /// For each line, how many characters and how many bytes precede it.
    starts: Vec<(usize, usize)>,
    char_count: usize,
}

impl Text {
    pub fn new(text: &str) -> Text {
        let mut starts = vec![(0, 0)];
        let mut char_count = 0;
        for (byte, c) in text.char_indices() {
            char_count += 1;
            if c == '\n' {
                starts.push((char_count, byte + 1));
            }
        }
        Text(Arc::new(Lines { text: text.to_string(), starts, char_count }))
    }

    pub fn whole(&self) -> &str {
        &self.0.text
    }

    /// Characters in the text.
    pub fn char_count(&self) -> usize {
        self.0.char_count
    }

    /// Characters before `location`; `None` for the empty location that made-up tokens have.
    pub fn chars_before(&self, location: Location) -> Option<usize> {
        let (line, column) = (location.line.checked_sub(1)? as usize, location.column.checked_sub(1)? as usize);
        Some((self.0.starts.get(line)?.0 + column).min(self.0.char_count))
    }

    /// The 1-based character position that an error reports.
    pub fn position(&self, location: Location) -> Option<usize> {
        self.chars_before(location).map(|chars| chars + 1)
    }

    pub fn bytes_before(&self, location: Location) -> Option<usize> {
        let (line, column) = (location.line.checked_sub(1)? as usize, location.column.checked_sub(1)? as usize);
        let start = self.0.starts.get(line)?.1;
        let rest = &self.0.text[start..];
        Some(start + rest.char_indices().nth(column).map_or(rest.len(), |(byte, _)| byte))
    }

    /// What stands between two tokens, both included; empty for made-up tokens.
    pub fn slice(&self, from: Location, to: Location) -> &str {
        match (self.bytes_before(from), self.bytes_before(to)) {
            (Some(from), Some(to)) if from <= to => &self.0.text[from..to],
            _ => "",
        }
    }

    pub fn token(&self, span: Span) -> &str {
        self.slice(span.start, span.end)
    }

    /// Everything from `location` on.
    pub fn rest(&self, location: Location) -> &str {
        self.bytes_before(location).map_or("", |byte| &self.0.text[byte..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_and_slices_count_bytes() {
        let text = Text::new("séléct\nå 1");
        assert_eq!(text.position(Location { line: 2, column: 1 }), Some(8));
        assert_eq!(text.slice(Location { line: 1, column: 2 }, Location { line: 1, column: 4 }), "él");
        assert_eq!(text.rest(Location { line: 2, column: 3 }), "1");
        assert_eq!(text.position(Location { line: 0, column: 0 }), None);
    }
}
