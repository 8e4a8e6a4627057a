//! The text of a path to its tree, by recursive descent.

use serde_json::Value as Json;

use crate::error::{Error, Result, SqlState};

pub(super) struct Path {
    pub strict: bool,
    pub expr: Expr,
}

#[derive(Clone, Debug)]
pub(super) enum Expr {
    Root,
    Current,
    Last,
    Variable(String),
    Literal(Json),
    Step(Box<Expr>, Step),
    Negative(Box<Expr>),
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    IsUnknown(Box<Expr>),
    Exists(Box<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    StartsWith(Box<Expr>, Box<Expr>),
    LikeRegex(Box<Expr>, String, String),
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Member(String),
    AnyMember,
    AnyItem,
    Items(Vec<(Expr, Option<Expr>)>),
    Filter(Box<Expr>),
    Method(Method),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Type,
    Size,
    Double,
    Ceiling,
    Floor,
    Abs,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Method::Type => "type",
            Method::Size => "size",
            Method::Double => "double",
            Method::Ceiling => "ceiling",
            Method::Floor => "floor",
            Method::Abs => "abs",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How deep brackets may be nested.
const DEPTH_MAX: usize = 100;

pub(super) fn path(text: &str) -> Result<Path> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    let strict = reader.word("strict");
    if !strict {
        reader.word("lax");
    }
    let expr = reader.or()?;
    reader.blanks();
    if reader.at < text.len() {
        return Err(reader.wrong());
    }
    Ok(Path { strict, expr })
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn wrong(&self) -> Error {
        let rest: String = self.text[self.at..].chars().take(12).collect();
        let message = match rest.is_empty() {
            true => "syntax error at end of jsonpath input".to_string(),
            false => format!("syntax error at or near \"{rest}\" of jsonpath input"),
        };
        Error::new(SqlState::SYNTAX_ERROR, message)
    }

    fn blanks(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes the symbol if it comes next.
    fn symbol(&mut self, symbol: &str) -> bool {
        self.blanks();
        let found = self.text[self.at..].starts_with(symbol);
        self.at += if found { symbol.len() } else { 0 };
        found
    }

    /// Takes the word if it comes next, and ends there.
    fn word(&mut self, word: &str) -> bool {
        self.blanks();
        let rest = &self.text[self.at..];
        let found = rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
            && !rest[word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<()> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.wrong()) }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "jsonpath is nested too deep"));
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn or(&mut self) -> Result<Expr> {
        let mut left = self.and()?;
        while self.symbol("||") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr> {
        let mut left = self.not()?;
        while self.symbol("&&") {
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr> {
        self.blanks();
        if self.text[self.at..].starts_with('!') && !self.text[self.at..].starts_with("!=") {
            self.at += 1;
            return Ok(Expr::Not(Box::new(self.deeper(Self::not)?)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expr> {
        let left = self.sum()?;
        const SYMBOLS: &[(&str, Comparison)] = &[
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<>", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        for (symbol, op) in SYMBOLS {
            if self.symbol(symbol) {
                return Ok(Expr::Compare(*op, Box::new(left), Box::new(self.sum()?)));
            }
        }
        if self.word("starts") {
            if !self.word("with") {
                return Err(self.wrong());
            }
            return Ok(Expr::StartsWith(Box::new(left), Box::new(self.sum()?)));
        }
        if self.word("like_regex") {
            let pattern = self.string()?;
            let flags = if self.word("flag") { self.string()? } else { String::new() };
            return Ok(Expr::LikeRegex(Box::new(left), pattern, flags));
        }
        if self.word("is") {
            if !self.word("unknown") {
                return Err(self.wrong());
            }
            return Ok(Expr::IsUnknown(Box::new(left)));
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Expr> {
        let mut left = self.product()?;
        loop {
            let op = if self.symbol("+") {
                Arithmetic::Add
            } else if self.symbol("-") {
                Arithmetic::Subtract
            } else {
                return Ok(left);
            };
            left = Expr::Arithmetic(op, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Result<Expr> {
        let mut left = self.unary()?;
        loop {
            let op = if self.symbol("*") {
                Arithmetic::Multiply
            } else if self.symbol("/") {
                Arithmetic::Divide
            } else if self.symbol("%") {
                Arithmetic::Modulo
            } else {
                return Ok(left);
            };
            left = Expr::Arithmetic(op, Box::new(left), Box::new(self.unary()?));
        }
    }

    fn unary(&mut self) -> Result<Expr> {
        if self.symbol("-") {
            return Ok(Expr::Negative(Box::new(self.deeper(Self::unary)?)));
        }
        if self.symbol("+") {
            return self.deeper(Self::unary);
        }
        self.steps()
    }

    fn steps(&mut self) -> Result<Expr> {
        let mut expr = self.primary()?;
        loop {
            let step = if self.symbol("?") {
                self.expect("(")?;
                let predicate = self.deeper(Self::or)?;
                self.expect(")")?;
                Step::Filter(Box::new(predicate))
            } else if self.symbol("[") {
                self.subscript()?
            } else if self.symbol(".") {
                self.member()?
            } else {
                return Ok(expr);
            };
            expr = Expr::Step(Box::new(expr), step);
        }
    }

    fn subscript(&mut self) -> Result<Step> {
        if self.symbol("*") {
            self.expect("]")?;
            return Ok(Step::AnyItem);
        }
        let mut ranges = vec![];
        loop {
            let from = self.deeper(Self::sum)?;
            let to = if self.word("to") { Some(self.deeper(Self::sum)?) } else { None };
            ranges.push((from, to));
            if !self.symbol(",") {
                break;
            }
        }
        self.expect("]")?;
        Ok(Step::Items(ranges))
    }

    fn member(&mut self) -> Result<Step> {
        if self.symbol("**") {
            return Err(Error::unsupported("the jsonpath accessor .**", "name the path, or unnest the value first"));
        }
        if self.symbol("*") {
            return Ok(Step::AnyMember);
        }
        self.blanks();
        if self.text[self.at..].starts_with('"') {
            return Ok(Step::Member(self.string()?));
        }
        let name = self.name()?;
        if !self.symbol("(") {
            return Ok(Step::Member(name));
        }
        self.expect(")")?;
        let methods =
            [Method::Type, Method::Size, Method::Double, Method::Ceiling, Method::Floor, Method::Abs].into_iter();
        match methods.into_iter().find(|method| method.name() == name) {
            Some(method) => Ok(Step::Method(method)),
            None => Err(Error::unsupported(format!("the jsonpath method .{name}()"), "do it outside the path")),
        }
    }

    fn primary(&mut self) -> Result<Expr> {
        if self.symbol("(") {
            let inner = self.deeper(Self::or)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.symbol("$") {
            let rest = &self.text[self.at..];
            return Ok(match rest.chars().next() {
                Some('"') => Expr::Variable(self.string()?),
                Some(c) if c.is_alphanumeric() || c == '_' => Expr::Variable(self.name()?),
                _ => Expr::Root,
            });
        }
        if self.symbol("@") {
            return Ok(Expr::Current);
        }
        for (word, value) in [("true", Json::Bool(true)), ("false", Json::Bool(false)), ("null", Json::Null)] {
            if self.word(word) {
                return Ok(Expr::Literal(value));
            }
        }
        if self.word("last") {
            return Ok(Expr::Last);
        }
        if self.word("exists") {
            self.expect("(")?;
            let inner = self.deeper(Self::or)?;
            self.expect(")")?;
            return Ok(Expr::Exists(Box::new(inner)));
        }
        self.blanks();
        match self.text[self.at..].chars().next() {
            Some('"') => Ok(Expr::Literal(Json::String(self.string()?))),
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            _ => Err(self.wrong()),
        }
    }

    fn number(&mut self) -> Result<Expr> {
        let rest = &self.text.as_bytes()[self.at..];
        let mut length = 0;
        while let Some(byte) = rest.get(length) {
            let sign = matches!(byte, b'+' | b'-') && length > 0 && matches!(rest[length - 1], b'e' | b'E');
            if !(byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E') || sign) {
                break;
            }
            length += 1;
        }
        let text = &self.text[self.at..self.at + length];
        let padded = if text.starts_with('.') { format!("0{text}") } else { text.trim_end_matches('.').to_string() };
        let value: Json = serde_json::from_str(&padded).map_err(|_| self.wrong())?;
        self.at += length;
        Ok(Expr::Literal(value))
    }

    fn name(&mut self) -> Result<String> {
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.wrong());
        }
        self.at += length;
        Ok(rest[..length].to_string())
    }

    /// A string in double quotes, with JSON's escapes.
    fn string(&mut self) -> Result<String> {
        self.blanks();
        let rest = &self.text.as_bytes()[self.at..];
        if rest.first() != Some(&b'"') {
            return Err(self.wrong());
        }
        let mut end = 1;
        loop {
            match rest.get(end) {
                Some(b'\\') => end += 2,
                Some(b'"') => break,
                Some(_) => end += 1,
                None => return Err(self.wrong()),
            }
        }
        let quoted = &self.text[self.at..self.at + end + 1];
        let value = crate::types::json_scan::string(quoted).ok_or_else(|| self.wrong())?;
        self.at += end + 1;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn broken_paths_are_refused() {
        for broken in ["", "$.", "$[", "$[1", "$.a ?", "$ ? (", "@ >", "$.a[*] ? (@ > )", "\"a", "$.é(", "$ x"] {
            assert!(path(broken).is_err(), "{broken}");
        }
        assert!(path(&"(".repeat(100_000)).is_err());
        for fine in ["$", "strict $.a.b[0, 2 to last]", "$.\"x y\".size() > 2 && !(@.z == null)", "-$.a + 1.5e-3"] {
            assert!(path(fine).is_ok(), "{fine}");
        }
    }
}
