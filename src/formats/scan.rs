//! A validating JSON scanner (RFC 8259): cuts an object or an array into [`Raw`] cells in one pass, without a tree.
//!
//! Nesting is followed with a stack on the heap, so depth costs a byte a level and never the thread's stack.

use std::borrow::Cow;

use super::Raw;

pub type Scanned<T> = Result<T, SyntaxError>;

/// `column` counts bytes of the record from 1.
#[derive(Debug, PartialEq)]
pub struct SyntaxError {
    what: Cow<'static, str>,
    column: usize,
}

impl std::fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at column {}", self.what, self.column)
    }
}

/// Calls `member` with each key and value, in order. `wanted` is asked with the key first: what nobody wants is checked
/// but not made.
pub fn object<'a>(
    text: &'a str,
    mut wanted: impl FnMut(&str) -> Option<usize>,
    mut member: impl FnMut(usize, Raw<'a>),
) -> Scanned<()> {
    let mut scanner = Scanner::new(text);
    scanner.space();
    scanner.expect(b'{', "an object")?;
    scanner.space();
    if scanner.peek() == Some(b'}') {
        scanner.at += 1;
        return scanner.finish();
    }
    loop {
        scanner.space();
        let key = scanner.key()?;
        let slot = wanted(&key);
        scanner.space();
        let value = scanner.value(slot.is_some())?;
        if let Some(slot) = slot {
            member(slot, value);
        }
        scanner.space();
        match scanner.next() {
            Some(b',') => {}
            Some(b'}') => return scanner.finish(),
            _ => return Err(scanner.expected_before("\",\" or \"}\"")),
        }
    }
}

/// Calls `element` with each element, in order.
pub fn array<'a>(text: &'a str, mut element: impl FnMut(Raw<'a>)) -> Scanned<()> {
    let mut scanner = Scanner::new(text);
    scanner.space();
    scanner.expect(b'[', "an array")?;
    scanner.space();
    if scanner.peek() == Some(b']') {
        scanner.at += 1;
        return scanner.finish();
    }
    loop {
        scanner.space();
        element(scanner.value(true)?);
        scanner.space();
        match scanner.next() {
            Some(b',') => {}
            Some(b']') => return scanner.finish(),
            _ => return Err(scanner.expected_before("\",\" or \"]\"")),
        }
    }
}

/// Any single JSON value.
pub fn any(text: &str) -> Scanned<Raw<'_>> {
    let mut scanner = Scanner::new(text);
    scanner.space();
    let value = scanner.value(true)?;
    scanner.finish()?;
    Ok(value)
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Closing brackets that are due.
    stack: Vec<u8>,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, bytes: text.as_bytes(), at: 0, stack: vec![] }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn error(&self, what: impl Into<Cow<'static, str>>) -> SyntaxError {
        SyntaxError { what: what.into(), column: self.at + 1 }
    }

    fn expected(&self, what: &str) -> SyntaxError {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => self.error(format!("expected {what}, found the end")),
            Some(found) => self.error(format!("expected {what}, found {found:?}")),
        }
    }

    /// For a byte that [`Scanner::next`] has passed.
    fn expected_before(&mut self, what: &str) -> SyntaxError {
        self.at -= 1;
        self.expected(what)
    }

    fn expect(&mut self, byte: u8, what: &str) -> Scanned<()> {
        if self.peek() != Some(byte) {
            return Err(self.expected(what));
        }
        self.at += 1;
        Ok(())
    }

    fn finish(&mut self) -> Scanned<()> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.expected("the end")) }
    }

    /// A key and its colon.
    #[inline]
    fn key(&mut self) -> Scanned<Cow<'a, str>> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a key in double quotes"));
        }
        let key = self.string(true)?;
        self.space();
        self.expect(b':', "\":\"")?;
        Ok(key)
    }

    #[inline]
    fn value(&mut self, is_wanted: bool) -> Scanned<Raw<'a>> {
        match self.peek() {
            Some(b'"') => Ok(Raw::Text(self.string(is_wanted)?)),
            Some(b'{' | b'[') => {
                let start = self.at;
                self.skip_nested()?;
                Ok(Raw::Nested(Cow::Borrowed(&self.text[start..self.at])))
            }
            _ => self.scalar(),
        }
    }

    #[inline]
    fn scalar(&mut self) -> Scanned<Raw<'a>> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true", Raw::Bool(true)),
            Some(b'f') => self.literal("false", Raw::Bool(false)),
            Some(b'n') => self.literal("null", Raw::Null),
            _ => Err(self.expected("a value")),
        }
    }

    fn literal(&mut self, word: &'static str, raw: Raw<'a>) -> Scanned<Raw<'a>> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(raw)
    }

    #[inline]
    fn digits(&mut self) -> Scanned<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Scanned<Raw<'a>> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.error("a number may not start with 0"));
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Raw::Number(&self.text[start..self.at]))
    }

    /// From the opening quote past the closing one.
    #[inline]
    fn string(&mut self, is_wanted: bool) -> Scanned<Cow<'a, str>> {
        self.at += 1;
        let start = self.at;
        self.at = plain_end(self.bytes, start);
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                Ok(Cow::Borrowed(&self.text[start..self.at - 1]))
            }
            Some(b'\\') => self.escaped_string(start, is_wanted),
            Some(_) => Err(self.error("a control character must be escaped")),
            None => Err(self.error("a string does not end")),
        }
    }

    #[cold]
    fn escaped_string(&mut self, start: usize, is_wanted: bool) -> Scanned<Cow<'a, str>> {
        let mut plain = String::from(&self.text[start..self.at]);
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(plain));
                }
                Some(b'\\') => {
                    let char = self.escape(is_wanted)?;
                    plain.push(char);
                }
                Some(byte) if byte < 0x20 => return Err(self.error("a control character must be escaped")),
                Some(_) => {
                    let from = self.at;
                    self.at = plain_end(self.bytes, from);
                    plain.push_str(&self.text[from..self.at]);
                }
                None => return Err(self.error("a string does not end")),
            }
        }
    }

    /// What cannot be a text (lone surrogates, NUL) is an error only where the text is wanted.
    fn escape(&mut self, is_wanted: bool) -> Scanned<char> {
        let start = self.at;
        self.at += 1;
        Ok(match self.next() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex4()?;
                let code = match first {
                    0xD800..=0xDBFF if self.bytes[self.at..].starts_with(b"\\u") => {
                        let mark = self.at;
                        self.at += 2;
                        match self.hex4()? {
                            second @ 0xDC00..=0xDFFF => 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00),
                            _ => {
                                self.at = mark;
                                first
                            }
                        }
                    }
                    _ => first,
                };
                match char::from_u32(code) {
                    Some('\0') | None if is_wanted => {
                        self.at = start;
                        let what = if code == 0 { "text may not contain \\u0000" } else { "a lone surrogate" };
                        return Err(self.error(what));
                    }
                    char => char.unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            _ => {
                self.at = start;
                return Err(self.error("an unknown escape"));
            }
        })
    }

    fn hex4(&mut self) -> Scanned<u32> {
        let digits = self
            .bytes
            .get(self.at..self.at + 4)
            .and_then(|four| four.iter().try_fold(0, |code, &byte| Some(code * 16 + char::from(byte).to_digit(16)?)));
        match digits {
            Some(code) => {
                self.at += 4;
                Ok(code)
            }
            None => Err(self.error("expected four hexadecimal digits")),
        }
    }

    /// From an opening bracket past the one that closes it.
    fn skip_nested(&mut self) -> Scanned<()> {
        self.stack.clear();
        loop {
            // Here a value starts.
            self.space();
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    self.space();
                    if self.peek() == Some(b'}') {
                        self.at += 1;
                    } else {
                        self.stack.push(b'}');
                        self.skip_key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    self.space();
                    if self.peek() == Some(b']') {
                        self.at += 1;
                    } else {
                        self.stack.push(b']');
                        continue;
                    }
                }
                Some(b'"') => {
                    self.string(false)?;
                }
                _ => {
                    self.scalar()?;
                }
            }
            // Here a value has ended, and with it perhaps what it stands in.
            loop {
                let Some(&close) = self.stack.last() else { return Ok(()) };
                self.space();
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if close == b'}' {
                            self.space();
                            self.skip_key()?;
                        }
                        break;
                    }
                    Some(byte) if byte == close => {
                        self.at += 1;
                        self.stack.pop();
                    }
                    _ if close == b'}' => return Err(self.expected("\",\" or \"}\"")),
                    _ => return Err(self.expected("\",\" or \"]\"")),
                }
            }
        }
    }

    fn skip_key(&mut self) -> Scanned<()> {
        self.key().map(drop)
    }
}

/// The first byte from `at` on that is a quote, a backslash or a control character; the length if there is none.
/// Eight bytes at a time (Lamport's borrow trick: a byte is below n if subtracting n sets its top bit and it was clear).
#[inline]
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    while let Some(eight) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(eight.try_into().expect("eight bytes were asked for"));
        let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & TOPS;
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let hits = below(word, 0x20) | below(quote, 1) | below(backslash, 1);
        if hits != 0 {
            // The lowest hit is exact; only bytes above it can be false.
            return at + hits.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    while at < bytes.len() && bytes[at] >= 0x20 && bytes[at] != b'"' && bytes[at] != b'\\' {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        any(text).expect_err("this is no JSON").to_string()
    }

    #[test]
    fn what_is_wrong_is_said_with_its_column() {
        assert_eq!(why(r#"{"a":1,}"#), "expected a key in double quotes, found '}' at column 8");
        assert_eq!(why("[1 2]"), "expected \",\" or \"]\", found '2' at column 4");
        assert_eq!(why("{\"a\""), "expected \":\", found the end at column 5");
        assert_eq!(why("\"a\u{1}\""), "a control character must be escaped at column 3");
        assert_eq!(why("\"abc"), "a string does not end at column 5");
        assert_eq!(why("01"), "a number may not start with 0 at column 2");
        assert_eq!(why("1."), "expected a digit, found the end at column 3");
        assert_eq!(why("\"\\ud800\""), "a lone surrogate at column 2");
        assert_eq!(why("\"\\u0000\""), "text may not contain \\u0000 at column 2");
        assert_eq!(why("nul"), "expected a value, found 'n' at column 1");
        assert_eq!(why(""), "expected a value, found the end at column 1");
        assert_eq!(why("1 x"), "expected the end, found 'x' at column 3");
        assert_eq!(why("[1}"), "expected \",\" or \"]\", found '}' at column 3");
        assert_eq!(why("\u{e9}"), "expected a value, found 'é' at column 1");
    }

    #[test]
    fn escapes_are_resolved() {
        let text = r#""long enough \"x\" \u00e9\ud83d\ude00\n\/""#;
        assert_eq!(any(text), Ok(Raw::Text("long enough \"x\" é😀\n/".into())));
    }

    #[test]
    fn a_million_levels_need_no_stack() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert!(matches!(any(&deep), Ok(Raw::Nested(_))));
        let open = "{\"a\":".repeat(1_000_000);
        assert!(any(&open).is_err());
    }
}
