//! CREATE, DROP and TRUNCATE.

use std::collections::BTreeMap;

use sqlparser::ast;
use sqlparser::tokenizer::Token;

use super::columns::{Allowed, Columns, column_list};
use super::reader::{Fault, Reader, Sofar};
use crate::error::{Error, Result, SqlState};
use crate::sql::{CreateMaterializedView, CreateSource, CreateTable, DropKind, Name, Query, StatementKind};

pub(super) fn create(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    reader.expect_words(&["CREATE"])?;
    let or_replace = reader.words(&["OR", "REPLACE"]);
    let first = reader.peek_word();
    if or_replace && !matches!(first.as_str(), "VIEW" | "MATERIALIZED" | "FUNCTION") {
        let what = format!("CREATE OR REPLACE {first}");
        return Err(Error::unsupported(what, "drop the object and create it again").into());
    }
    match first.as_str() {
        "TABLE" => create_table(reader),
        "SOURCE" => create_source(reader),
        "VIEW" => create_view(reader, or_replace),
        "MATERIALIZED" => create_materialized_view(reader, or_replace),
        "SINK" => create_sink(reader),
        "SCHEMA" => create_schema(reader),
        "FUNCTION" => super::function::create_function(reader, or_replace),
        "INDEX" | "UNIQUE" => super::index::create_index(reader),
        "ROLE" | "USER" | "GROUP" if reader.peek_second_word() != "MAPPING" => super::role::create_role(reader),
        _ => Err(refuse(reader, "CREATE", &first)),
    }
}

/// What else Postgres and its kin can create and drop.
fn refuse(reader: &Reader<'_>, verb: &str, first: &str) -> Fault {
    let hint = match first {
        "TEMP" | "TEMPORARY" | "LOCAL" | "GLOBAL" => "there are no temporary relations; create a plain one and drop it",
        "UNLOGGED" => "tables are always durable; leave UNLOGGED out",
        "AGGREGATE" | "PROCEDURE" => "take CREATE FUNCTION … LANGUAGE SQL",
        "TYPE" | "DOMAIN" => "there are no user-defined types; take struct<…> or a built-in one",
        "SEQUENCE" => "there are no sequences; take a uuid or a key of your own",
        "DATABASE" => "the only database is dev; take CREATE SCHEMA",
        "USER" => "there are no foreign servers",
        "EXTENSION" => "there are no extensions",
        "TRIGGER" | "RULE" => "maintain a view instead",
        "RECURSIVE" => "recursive views are not maintained yet",
        "CONNECTION" | "SECRET" => "put the options into the WITH clause of the source",
        "SUBSCRIPTION" | "PUBLICATION" | "SERVER" | "FOREIGN" | "ACCESS" | "CAST" | "COLLATION" | "CONVERSION"
        | "EVENT" | "LANGUAGE" | "OPERATOR" | "OWNED" | "POLICY" | "STATISTICS" | "TABLESPACE" | "TEXT"
        | "TRANSFORM" => "known objects: TABLE, SOURCE, VIEW, MATERIALIZED VIEW, SINK, SCHEMA, INDEX, FUNCTION",
        _ => return reader.unexpected(),
    };
    Error::unsupported(format!("{verb} {first}"), hint).into()
}

fn if_not_exists(reader: &mut Reader<'_>) -> bool {
    reader.words(&["IF", "NOT", "EXISTS"])
}

/// What may follow the query of a materialized view or table.
const DATA_CLAUSES: &[&[&str]] = &[&["WITH", "NO", "DATA"], &["WITH", "DATA"]];

fn create_table(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    reader.expect_words(&["TABLE"])?;
    let if_not_exists = if_not_exists(reader);
    let name = reader.name()?;
    let names_only = reader.peek_word() == "("
        && matches!(reader.parser.peek_nth_token_ref(2).token, Token::Comma | Token::RParen)
        && reader.peek_second_word() != ")";
    let (mut list, mut aliases) = (Columns { columns: vec![], primary_key: vec![], watermark: None }, vec![]);
    match reader.peek_word().as_str() {
        "(" if names_only => aliases = reader.ident_list()?,
        "(" => list = column_list(reader, Allowed::Table)?,
        "AS" => {}
        _ => return Err(reader.unexpected()),
    }
    match reader.peek_word().as_str() {
        "INHERITS" => return Err(Error::unsupported("INHERITS", "maintain a view over UNION ALL").into()),
        "PARTITION" => {
            return Err(Error::unsupported("PARTITION BY", "tables are not partitioned; leave it out").into());
        }
        "TABLESPACE" | "USING" | "ON" => {
            let what = format!("CREATE TABLE … {}", reader.peek_word());
            return Err(Error::unsupported(what, "leave it out").into());
        }
        _ => {}
    }
    let (mut append_only, mut options) = (false, BTreeMap::new());
    loop {
        if reader.words(&["APPEND", "ONLY"]) {
            append_only = true;
        } else if options.is_empty() && reader.words(&["WITH"]) {
            options = reader.options()?;
        } else {
            break;
        }
    }
    if list.watermark.is_some() && !append_only {
        let message = "a table with a watermark must be append-only";
        return Err(Error::new(SqlState::INVALID_TABLE_DEFINITION, message)
            .with_hint("write APPEND ONLY behind the columns: CREATE TABLE … (…, WATERMARK FOR …) APPEND ONLY")
            .into());
    }
    let mut query = None;
    if reader.words(&["AS"]) {
        if !list.columns.is_empty() {
            return Err(Error::unsupported("CREATE TABLE AS with column types", "cast in the query").into());
        }
        let (parsed, _) = reader.query_until(DATA_CLAUSES)?;
        query = Some(if aliases.is_empty() { parsed } else { renamed(reader, parsed, &aliases)? });
        if reader.words(&["WITH", "NO", "DATA"]) {
            return Err(Error::unsupported("WITH NO DATA", "add LIMIT 0 to the query").into());
        }
        reader.words(&["WITH", "DATA"]);
    } else if !aliases.is_empty() {
        return Err(Error::new(SqlState::SYNTAX_ERROR, format!("column \"{}\" has no type", aliases[0])).into());
    }
    Ok(StatementKind::CreateTable(CreateTable {
        name,
        if_not_exists,
        columns: list.columns,
        primary_key: list.primary_key,
        append_only,
        watermark: list.watermark,
        options,
        query,
    }))
}

/// `SELECT * FROM (query) AS q (aliases)`.
fn renamed(reader: &Reader<'_>, query: Query, aliases: &[String]) -> Sofar<Query> {
    let list: Vec<String> = aliases.iter().map(|a| ast::Ident::with_quote('"', a).to_string()).collect();
    let mut outer = super::parse_query(&format!("SELECT * FROM (SELECT 1) AS q ({})", list.join(", ")))?;
    if let ast::SetExpr::Select(select) = outer.ast.body.as_mut()
        && let Some(ast::TableFactor::Derived { subquery, .. }) = select.from.first_mut().map(|from| &mut from.relation)
    {
        *subquery = query.ast;
    }
    outer.source = reader.source.clone();
    Ok(outer)
}

fn create_source(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    reader.expect_words(&["SOURCE"])?;
    let if_not_exists = if_not_exists(reader);
    let name = reader.name()?;
    let list = match reader.peek_word().as_str() {
        "(" => column_list(reader, Allowed::Source)?,
        _ => Columns { columns: vec![], primary_key: vec![], watermark: None },
    };
    if !reader.words(&["WITH"]) {
        return Err(reader.unexpected());
    }
    let options = reader.options()?;
    let (mut format, mut encode, mut encode_options) = ("NATIVE".to_string(), "NATIVE".to_string(), BTreeMap::new());
    if reader.words(&["FORMAT"]) {
        format = known(reader.any_word()?, &["PLAIN"], "FORMAT")?;
        reader.expect_words(&["ENCODE"])?;
        encode = known(reader.any_word()?, &["JSON", "CSV", "PARQUET"], "ENCODE")?;
        if reader.peek_word() == "(" {
            encode_options = reader.options()?;
        }
    }
    Ok(StatementKind::CreateSource(CreateSource {
        name,
        if_not_exists,
        columns: list.columns,
        watermark: list.watermark,
        options,
        format,
        encode,
        encode_options,
    }))
}

fn known(word: String, known: &[&str], clause: &str) -> Result<String> {
    let word = word.to_ascii_uppercase();
    if known.contains(&word.as_str()) {
        return Ok(word);
    }
    Err(Error::unsupported(format!("{clause} {word}"), format!("known: {}", known.join(", "))))
}

fn create_view(reader: &mut Reader<'_>, or_replace: bool) -> Sofar<StatementKind> {
    reader.expect_words(&["VIEW"])?;
    if reader.peek_word() == "IF" {
        return Err(Error::unsupported("CREATE VIEW IF NOT EXISTS", "write CREATE OR REPLACE VIEW").into());
    }
    let name = reader.name()?;
    let columns = reader.ident_list()?;
    if reader.peek_word() == "WITH" {
        return Err(Error::unsupported("CREATE VIEW … WITH", "a view has no options; leave it out").into());
    }
    reader.expect_words(&["AS"])?;
    let (query, query_text) =
        reader.query_until(&[&["WITH", "CHECK"], &["WITH", "LOCAL", "CHECK"], &["WITH", "CASCADED", "CHECK"]])?;
    if reader.peek_word() == "WITH" {
        return Err(Error::unsupported("WITH CHECK OPTION", "views take no writes; leave it out").into());
    }
    Ok(StatementKind::CreateView { name, columns, query, query_text, or_replace })
}

fn create_materialized_view(reader: &mut Reader<'_>, or_replace: bool) -> Sofar<StatementKind> {
    reader.expect_words(&["MATERIALIZED", "VIEW"])?;
    // The grammar of both together has no meaning.
    let if_not_exists = !or_replace && if_not_exists(reader);
    let name = reader.name()?;
    let columns = reader.ident_list()?;
    let options = if reader.words(&["WITH"]) { reader.options()? } else { BTreeMap::new() };
    reader.expect_words(&["AS"])?;
    let (query, query_text) = reader.query_until(DATA_CLAUSES)?;
    if reader.words(&["WITH", "NO", "DATA"]) {
        return Err(Error::unsupported("WITH NO DATA", "a materialized view is always filled; leave it out").into());
    }
    reader.words(&["WITH", "DATA"]);
    Ok(StatementKind::CreateMaterializedView(CreateMaterializedView {
        name,
        if_not_exists,
        or_replace,
        columns,
        query,
        query_text,
        options,
        emit_on_window_close: reader.emit.take().is_some(),
    }))
}

fn create_sink(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    reader.expect_words(&["SINK"])?;
    let if_not_exists = if_not_exists(reader);
    let name = reader.name()?;
    let (query, query_text) = if reader.words(&["FROM"]) {
        let (_, relation) = reader.with_text(|reader| reader.name())?;
        let query_text = format!("SELECT * FROM {relation}");
        (super::parse_query(&query_text)?, query_text)
    } else {
        reader.expect_words(&["AS"])?;
        reader.query_until(&[&["WITH", "("]])?
    };
    if !reader.words(&["WITH"]) {
        return Err(reader.unexpected());
    }
    let options = reader.options()?;
    if reader.peek_word() == "FORMAT" {
        return Err(
            Error::unsupported("FORMAT of a sink", "the connector blackhole writes nothing; leave it out").into()
        );
    }
    Ok(StatementKind::CreateSink { name, if_not_exists, query, query_text, options })
}

fn create_schema(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    reader.expect_words(&["SCHEMA"])?;
    let if_not_exists = if_not_exists(reader);
    if reader.peek_word() == "AUTHORIZATION" {
        return Err(Error::unsupported(
            "CREATE SCHEMA AUTHORIZATION",
            "there are no grants, so owners make no difference; name the schema",
        )
        .into());
    }
    let name = schema_name(reader)?;
    if reader.words(&["AUTHORIZATION"]) {
        let owner = reader.any_word()?;
        if !owner.eq_ignore_ascii_case(crate::catalog::USER) && !owner.eq_ignore_ascii_case("current_user") {
            let message = format!("role \"{owner}\" does not exist");
            return Err(Error::new(SqlState::UNDEFINED_OBJECT, message).into());
        }
    }
    Ok(StatementKind::CreateSchema { name, if_not_exists })
}

/// `schema` or `database.schema`.
fn schema_name(reader: &mut Reader<'_>) -> Sofar<String> {
    let Name { schema, name } = reader.name()?;
    match schema.as_deref() {
        None | Some(crate::catalog::DATABASE) => Ok(name),
        Some(database) => Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("cross-database references are not implemented: \"{database}.{name}\""),
        )
        .into()),
    }
}

pub(super) fn drop(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    reader.expect_words(&["DROP"])?;
    if reader.peek_word() == "FUNCTION" {
        return super::function::drop_function(reader);
    }
    if matches!(reader.peek_word().as_str(), "ROLE" | "USER" | "GROUP") && reader.peek_second_word() != "MAPPING" {
        return super::role::drop_role(reader);
    }
    const KINDS: &[(&[&str], DropKind)] = &[
        (&["TABLE"], DropKind::Table),
        (&["SOURCE"], DropKind::Source),
        (&["VIEW"], DropKind::View),
        (&["MATERIALIZED", "VIEW"], DropKind::MaterializedView),
        (&["SINK"], DropKind::Sink),
        (&["SCHEMA"], DropKind::Schema),
        (&["INDEX", "CONCURRENTLY"], DropKind::Index),
        (&["INDEX"], DropKind::Index),
    ];
    let Some((_, kind)) = KINDS.iter().find(|(words, _)| reader.words(words)) else {
        return Err(refuse(reader, "DROP", &reader.peek_word()));
    };
    let if_exists = reader.words(&["IF", "EXISTS"]);
    let mut names = vec![];
    loop {
        names.push(match kind {
            DropKind::Schema => Name { schema: None, name: schema_name(reader)? },
            _ => reader.name()?,
        });
        if !reader.parser.consume_token(&Token::Comma) {
            break;
        }
    }
    let cascade = reader.words(&["CASCADE"]);
    if !cascade {
        reader.words(&["RESTRICT"]);
    }
    Ok(StatementKind::Drop { kind: *kind, names, if_exists, cascade })
}

/// `REFRESH MATERIALIZED VIEW [CONCURRENTLY] name [WITH DATA]`.
pub(super) fn refresh(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    reader.expect_words(&["REFRESH"])?;
    reader.expect_words(&["MATERIALIZED", "VIEW"])?;
    reader.words(&["CONCURRENTLY"]);
    let name = reader.name()?;
    if reader.words(&["WITH", "NO", "DATA"]) {
        let hint = "a materialized view always has its rows; drop it if they are not needed";
        return Err(Error::unsupported("REFRESH MATERIALIZED VIEW … WITH NO DATA", hint).into());
    }
    reader.words(&["WITH", "DATA"]);
    Ok(StatementKind::Refresh { name })
}

pub(super) fn truncate(reader: &mut Reader<'_>) -> Sofar<StatementKind> {
    reader.expect_words(&["TRUNCATE"])?;
    reader.words(&["TABLE"]);
    let mut names = vec![];
    loop {
        reader.words(&["ONLY"]);
        names.push(reader.name()?);
        if !reader.parser.consume_token(&Token::Comma) {
            break;
        }
    }
    // There are no sequences to restart, and no foreign keys to follow.
    if !reader.words(&["RESTART", "IDENTITY"]) {
        reader.words(&["CONTINUE", "IDENTITY"]);
    }
    if !reader.words(&["CASCADE"]) {
        reader.words(&["RESTRICT"]);
    }
    Ok(StatementKind::Truncate { names })
}
