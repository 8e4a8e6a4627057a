//! Looking into JSON text without building a tree: members of objects and items of arrays as pieces of the text.
//!
//! The text is well-formed where it comes from a json or jsonb value; anything else ends the iteration early and never
//! panics. A jsonb value's pieces are jsonb values again, because its text is in normal form throughout.

/// What kind of value a piece is: `jsonb_typeof`.
pub fn kind(text: &str) -> &'static str {
    match text.trim_start_matches(is_blank).as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// The content of a JSON string, its escapes resolved; `None` if the piece is no string.
pub fn string(piece: &str) -> Option<String> {
    let inner = piece.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(inner.to_string());
    }
    serde_json::from_str(piece).ok()
}

/// A piece as `->>` gives it: strings without quotes, null as nothing.
pub fn text(piece: &str) -> Option<String> {
    match kind(piece) {
        "null" => None,
        "string" => string(piece),
        _ => Some(piece.to_string()),
    }
}

/// Members of an object, keys still in quotes; nothing for another kind of value.
pub fn members(text: &str) -> Members<'_> {
    Members { text, at: open(text, b'{') }
}

/// Items of an array; nothing for another kind of value.
pub fn items(text: &str) -> Items<'_> {
    Items { text, at: open(text, b'[') }
}

/// The member's value; the last of equal keys counts.
pub fn member<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    members(text).filter(|(name, _)| is_key(name, key)).last().map(|(_, value)| value)
}

fn is_key(quoted: &str, key: &str) -> bool {
    let inner = &quoted[1..quoted.len() - 1];
    if inner.contains('\\') { string(quoted).as_deref() == Some(key) } else { inner == key }
}

/// The item; from the end if the index is negative.
pub fn item(text: &str, index: i64) -> Option<&str> {
    let index = if index < 0 { items(text).count() as i64 + index } else { index };
    items(text).nth(usize::try_from(index).ok()?)
}

/// Down a path of keys and indices.
pub fn walk<'a, 'p>(text: &'a str, mut path: impl Iterator<Item = &'p str>) -> Option<&'a str> {
    path.try_fold(text.trim_matches(is_blank), |piece, step| match kind(piece) {
        "object" => member(piece, step),
        "array" => item(piece, step.trim().parse().ok()?),
        _ => None,
    })
}

/// Where the contents begin, behind the bracket.
fn open(text: &str, bracket: u8) -> usize {
    let at = blank(text.as_bytes(), 0);
    if text.as_bytes().get(at) == Some(&bracket) { at + 1 } else { text.len() }
}

fn blank(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Behind the value that begins at `at`.
fn skip(bytes: &[u8], at: usize) -> Option<usize> {
    match *bytes.get(at)? {
        b'"' => skip_string(bytes, at),
        b'{' | b'[' => {
            let (mut at, mut depth) = (at, 0usize);
            loop {
                match *bytes.get(at)? {
                    b'"' => {
                        at = skip_string(bytes, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
            let length = bytes[at..].iter().position(ends).unwrap_or(bytes.len() - at);
            (length > 0).then_some(at + length)
        }
    }
}

fn skip_string(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match *bytes.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Behind the comma, if there is one; behind everything otherwise.
fn next(bytes: &[u8], at: usize) -> usize {
    let at = blank(bytes, at);
    if bytes.get(at) == Some(&b',') { at + 1 } else { bytes.len() }
}

pub struct Members<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let bytes = self.text.as_bytes();
        let key = blank(bytes, self.at);
        if bytes.get(key) != Some(&b'"') {
            return None;
        }
        let key_end = skip_string(bytes, key)?;
        let colon = blank(bytes, key_end);
        if bytes.get(colon) != Some(&b':') {
            return None;
        }
        let value = blank(bytes, colon + 1);
        let end = skip(bytes, value)?;
        self.at = next(bytes, end);
        Some((self.text.get(key..key_end)?, self.text.get(value..end)?))
    }
}

pub struct Items<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.text.as_bytes();
        let start = blank(bytes, self.at);
        if matches!(bytes.get(start), None | Some(b']')) {
            return None;
        }
        let end = skip(bytes, start)?;
        self.at = next(bytes, end);
        self.text.get(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_found() {
        let text = r#" {"a": [1, {"b": "x,]"}, "q\"}"], "c" : null, "a": 2} "#;
        let found: Vec<_> = members(text).collect();
        assert_eq!(found, [("\"a\"", r#"[1, {"b": "x,]"}, "q\"}"]"#), ("\"c\"", "null"), ("\"a\"", "2")]);
        assert_eq!(member(text, "a"), Some("2"));
        assert_eq!(items(found[0].1).collect::<Vec<_>>(), ["1", r#"{"b": "x,]"}"#, r#""q\"}""#]);
        assert_eq!(item(found[0].1, -1), Some(r#""q\"}""#));
        assert_eq!(item(found[0].1, 3), None);
        assert_eq!(walk(r#"{"x":[10,{"y":true}]}"#, ["x", "1", "y"].into_iter()), Some("true"));
        assert_eq!(string(r#""a\u00e9\n""#).as_deref(), Some("aé\n"));
        assert_eq!((items("[]").count(), members("{ }").count(), items("5").count()), (0, 0, 0));
    }

    #[test]
    fn broken_text_ends_and_does_not_panic() {
        for broken in ["", "{", "[", "{\"a", "{\"a\"", "{\"a\":", "[1,", "[\"\\", "{\"é\\", "[[[", "[}", "{]"] {
            assert!(members(broken).count() + items(broken).count() < 3, "{broken}");
        }
    }
}
