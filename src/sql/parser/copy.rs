//! COPY: what, whence or whither, and the options in Postgres' new spelling and its old one.

use sqlparser::tokenizer::Token;

use super::reader::{Reader, Sofar};
use crate::error::{Error, Result, SqlState};
use crate::sql::{Copy, CopyDirection, CopyFormat, CopyOptions, CopySubject, StatementKind};

/// Options as they were given; defaults depend on the format.
#[derive(Default)]
struct Given {
    format: Option<CopyFormat>,
    delimiter: Option<String>,
    null: Option<String>,
    header: bool,
    quote: Option<String>,
    escape: Option<String>,
}

pub(super) fn copy(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    reader.expect_words(&["COPY"])?;
    let mut given = Given::default();
    if reader.words(&["BINARY"]) {
        given.format = Some(CopyFormat::Binary);
    }
    let subject = if reader.parser.consume_token(&Token::LParen) {
        let subject = match reader.peek_word().as_str() {
            "SUBSCRIBE" => CopySubject::Subscribe(super::subscribe::subscribe(reader)?),
            _ => CopySubject::Query(reader.query()?),
        };
        reader.expect(&Token::RParen)?;
        subject
    } else {
        CopySubject::Table { name: reader.name()?, columns: reader.ident_list()? }
    };
    let direction = match reader.peek_word().as_str() {
        "FROM" => CopyDirection::FromStdin,
        "TO" => CopyDirection::ToStdout,
        _ => return Err(reader.unexpected()),
    };
    reader.any_word()?;
    if direction == CopyDirection::FromStdin && !matches!(subject, CopySubject::Table { .. }) {
        return Err(Error::new(SqlState::SYNTAX_ERROR, "COPY FROM takes a table, not a query").into());
    }
    let end = if direction == CopyDirection::FromStdin { "STDIN" } else { "STDOUT" };
    if !reader.words(&[end]) {
        let hint = format!("copy through the client: COPY … {end}, or \\copy in psql");
        return Err(Error::unsupported("COPY with a file or program of the server", hint).into());
    }
    reader.words(&["WITH"]);
    if reader.peek_word() == "(" {
        new_options(reader, &mut given)?;
    } else {
        old_options(reader, &mut given)?;
    }
    if reader.peek_word() == "WHERE" {
        return Err(Error::unsupported("COPY … WHERE", "copy everything, then delete").into());
    }
    Ok(StatementKind::Copy(Copy { subject, direction, options: given.resolve()? }))
}

/// `(FORMAT csv, HEADER true, …)`.
fn new_options(reader: &mut Reader<'_>, given: &mut Given) -> Sofar<()> {
    reader.expect(&Token::LParen)?;
    loop {
        let option = reader.any_word()?.to_ascii_lowercase();
        let value = match reader.peek_word().as_str() {
            "," | ")" => None,
            "(" => return Err(unknown(&option).into()),
            _ => Some(reader.literal()?),
        };
        let text = || {
            value.clone().ok_or_else(|| Error::new(SqlState::SYNTAX_ERROR, format!("{option} requires a parameter")))
        };
        match option.as_str() {
            "format" => given.format = Some(format(&text()?)?),
            "delimiter" => given.delimiter = Some(text()?),
            "null" => given.null = Some(text()?),
            "quote" => given.quote = Some(text()?),
            "escape" => given.escape = Some(text()?),
            "header" => given.header = boolean(&option, value.as_deref())?,
            "encoding" => encoding(&text()?)?,
            "freeze" if !boolean(&option, value.as_deref())? => {}
            _ => return Err(unknown(&option).into()),
        }
        if !reader.parser.consume_token(&Token::Comma) {
            break;
        }
    }
    reader.expect(&Token::RParen)
}

/// `[BINARY] [DELIMITER [AS] 'c'] [NULL [AS] 's'] [CSV [HEADER] [QUOTE [AS] 'c'] [ESCAPE [AS] 'c']]`.
fn old_options(reader: &mut Reader<'_>, given: &mut Given) -> Sofar<()> {
    loop {
        let option = reader.peek_word();
        if option.is_empty() || option == "WHERE" {
            return Ok(());
        }
        reader.any_word()?;
        let value = |reader: &mut Reader<'_>| {
            reader.words(&["AS"]);
            reader.literal()
        };
        match option.as_str() {
            "BINARY" => given.format = Some(CopyFormat::Binary),
            "CSV" => given.format = Some(CopyFormat::Csv),
            "HEADER" => given.header = true,
            "DELIMITER" | "DELIMITERS" => given.delimiter = Some(value(reader)?),
            "NULL" => given.null = Some(value(reader)?),
            "QUOTE" => given.quote = Some(value(reader)?),
            "ESCAPE" => given.escape = Some(value(reader)?),
            "ENCODING" => encoding(&value(reader)?)?,
            _ => return Err(unknown(&option.to_ascii_lowercase()).into()),
        }
    }
}

impl Given {
    fn resolve(self) -> Result<CopyOptions> {
        let format = self.format.unwrap_or(CopyFormat::Text);
        let csv = format == CopyFormat::Csv;
        let bad = |message: String| Err(Error::new(SqlState::SYNTAX_ERROR, message));
        let spelled = self.delimiter.is_some() || self.null.is_some() || self.header;
        if format == CopyFormat::Binary && spelled {
            return bad("cannot specify DELIMITER, NULL or HEADER in BINARY mode".into());
        }
        if !csv && (self.quote.is_some() || self.escape.is_some()) {
            return bad("COPY quote and escape available only in CSV mode".into());
        }
        let delimiter = one_byte("delimiter", self.delimiter.as_deref().unwrap_or(if csv { "," } else { "\t" }))?;
        let quote = one_byte("quote", self.quote.as_deref().unwrap_or("\""))?;
        let escape = self.escape.as_deref().map_or(Ok(quote), |text| one_byte("escape", text))?;
        if csv && delimiter == quote {
            return bad("COPY delimiter and quote must be different".into());
        }
        let null = self.null.unwrap_or_else(|| if csv { String::new() } else { "\\N".to_string() });
        if null.contains(['\r', '\n']) {
            return bad("COPY null representation cannot use newline or carriage return".into());
        }
        if null.bytes().any(|byte| byte == delimiter) {
            return bad("COPY delimiter character must not appear in the NULL specification".into());
        }
        Ok(CopyOptions { format, delimiter, null, header: self.header, quote, escape })
    }
}

fn one_byte(option: &str, text: &str) -> Result<u8> {
    match text.as_bytes() {
        [byte] if !matches!(byte, b'\r' | b'\n') => Ok(*byte),
        _ => Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("COPY {option} must be a single one-byte character"),
        )),
    }
}

fn format(text: &str) -> Result<CopyFormat> {
    match text.to_ascii_lowercase().as_str() {
        "text" => Ok(CopyFormat::Text),
        "csv" => Ok(CopyFormat::Csv),
        "binary" => Ok(CopyFormat::Binary),
        other => Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, format!("COPY format \"{other}\" not recognized"))
            .with_hint("known formats: text, csv, binary")),
    }
}

fn boolean(option: &str, value: Option<&str>) -> Result<bool> {
    match value.map(str::to_ascii_lowercase).as_deref() {
        None | Some("true" | "on" | "1") => Ok(true),
        Some("false" | "off" | "0") => Ok(false),
        _ => Err(Error::new(SqlState::SYNTAX_ERROR, format!("{option} requires a Boolean value"))),
    }
}

fn encoding(text: &str) -> Result<()> {
    match text.to_ascii_lowercase().replace('-', "").as_str() {
        "utf8" | "unicode" => Ok(()),
        other => Err(Error::unsupported(format!("COPY in encoding {other}"), "the only encoding is UTF8")),
    }
}

fn unknown(option: &str) -> Error {
    let hint = "known options: FORMAT, DELIMITER, NULL, HEADER, QUOTE, ESCAPE, ENCODING";
    match option {
        "freeze" | "force_quote" | "force_not_null" | "force_null" | "force" | "oids" => {
            Error::unsupported(format!("COPY option {option}"), hint)
        }
        _ => Error::new(SqlState::SYNTAX_ERROR, format!("option \"{option}\" not recognized")).with_hint(hint),
    }
}
