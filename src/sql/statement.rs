//! What a client can say, one variant for each kind of effect.
//!
//! Queries keep the parser's tree inside an opaque [`Query`], so that only `sql` knows the parser.

use std::collections::BTreeMap;

use sqlparser::ast;

use super::text::Text;
use crate::catalog::{Argument, Returns};
use crate::config::Password;
use crate::types::PgType;

/// One statement with its own text (no trailing semicolon).
#[derive(Clone, Debug)]
pub struct Statement {
    pub kind: StatementKind,
    pub text: String,
    /// Characters before this statement in the client's message. Positions of errors count from the start of the
    /// message already.
    pub offset: usize,
}

impl Statement {
    /// What others may be shown of its text: all of it, unless there is a password in it.
    pub fn public_text(&self) -> &str {
        match &self.kind {
            StatementKind::CreateRole { options, .. } if options.password.is_some() => "CREATE ROLE <hidden>",
            StatementKind::AlterRole { change: RoleChange::Options(options), .. } if options.password.is_some() => {
                "ALTER ROLE <hidden>"
            }
            StatementKind::Prepare { statement, .. } if statement.public_text() != statement.text => {
                statement.public_text()
            }
            _ => &self.text,
        }
    }
}

/// SELECT, VALUES, TABLE, WITH: bound by [`super::bind::bind_query`].
#[derive(Clone, Debug)]
pub struct Query {
    pub(super) ast: Box<ast::Query>,
    /// The whole message, which error positions refer to.
    pub(super) source: Text,
}

/// INSERT, UPDATE, DELETE: bound by [`super::bind::bind_dml`].
#[derive(Clone, Debug)]
pub struct Dml {
    pub(super) ast: Box<ast::Statement>,
    pub(super) source: Text,
}

/// A possibly qualified name, folded to its final case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub schema: Option<String>,
    pub name: String,
}

#[derive(Clone, Debug)]
pub enum StatementKind {
    Query(Query),
    Dml(Dml),
    CreateTable(CreateTable),
    CreateSource(CreateSource),
    CreateView {
        name: Name,
        columns: Vec<String>,
        query: Query,
        query_text: String,
        or_replace: bool,
    },
    CreateMaterializedView(CreateMaterializedView),
    /// `CREATE SINK name AS SELECT … | FROM relation WITH (connector = …)`.
    CreateSink {
        name: Name,
        if_not_exists: bool,
        query: Query,
        query_text: String,
        options: BTreeMap<String, String>,
    },
    CreateSchema {
        name: String,
        if_not_exists: bool,
    },
    Drop {
        kind: DropKind,
        names: Vec<Name>,
        if_exists: bool,
        cascade: bool,
    },
    CreateIndex(CreateIndex),
    CreateFunction(CreateFunction),
    DropFunction(DropFunction),
    Alter(Alter),
    CommentOn(CommentOn),
    CreateRole {
        name: String,
        options: RoleOptions,
    },
    AlterRole {
        name: RoleName,
        change: RoleChange,
    },
    DropRole {
        names: Vec<RoleName>,
        if_exists: bool,
    },
    Truncate {
        names: Vec<Name>,
    },
    /// EXPLAIN a query, or the query of CREATE MATERIALIZED VIEW (then with the stream plan).
    Explain {
        statement: Box<Statement>,
        analyze: bool,
        verbose: bool,
    },
    /// EXPLAIN [ANALYZE] of what is maintained already.
    ExplainView {
        name: Name,
        analyze: bool,
    },
    Copy(Copy),
    Show(Show),
    /// `SET [SESSION|LOCAL] name = value`; `None`: DEFAULT.
    Set {
        name: String,
        value: Option<String>,
        local: bool,
    },
    /// `None`: RESET ALL.
    Reset {
        name: Option<String>,
    },
    Begin {
        read_only: bool,
        /// As the setting `transaction_isolation` names it.
        isolation: Option<&'static str>,
    },
    Commit,
    Rollback,
    Savepoint {
        name: String,
    },
    ReleaseSavepoint {
        name: String,
    },
    RollbackToSavepoint {
        name: String,
    },
    Declare {
        name: String,
        query: Query,
        query_text: String,
        binary: bool,
        hold: bool,
    },
    Subscribe(Subscribe),
    DeclareSubscribe {
        name: String,
        subscribe: Subscribe,
        hold: bool,
    },
    Fetch {
        name: String,
        count: FetchCount,
        move_only: bool,
        /// FETCH … WITH (timeout = …), as given.
        timeout: Option<String>,
    },
    /// `None`: CLOSE ALL.
    Close {
        name: Option<String>,
    },
    Prepare {
        name: String,
        types: Vec<PgType>,
        statement: Box<Statement>,
    },
    /// EXECUTE with its arguments as SQL expressions without columns.
    Execute {
        name: String,
        arguments: Vec<Query>,
    },
    /// `None`: DEALLOCATE ALL.
    Deallocate {
        name: Option<String>,
    },
    /// DISCARD ALL and its kin.
    Discard,
    /// LISTEN, UNLISTEN, NOTIFY: accepted as clients send them on reset; the word is the command tag.
    Listen {
        tag: &'static str,
    },
    /// All that is durable at this moment, to a directory of the server's machine.
    Backup {
        directory: String,
    },
    /// REFRESH MATERIALIZED VIEW: a materialized view is fresh at all times, so it only checks that there is one.
    Refresh {
        name: Name,
    },
    /// Waits until all acknowledged writes are in every view. They are by design, so it returns at once.
    Flush,
    Empty,
}

/// A role, by its name or by who it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleName {
    Named(String),
    Current,
    Session,
}

/// What is not said stays as it is.
#[derive(Clone, Debug, Default)]
pub struct RoleOptions {
    pub is_superuser: Option<bool>,
    pub can_login: Option<bool>,
    /// `Some(None)`: PASSWORD NULL.
    pub password: Option<Option<Password>>,
    /// −1: none.
    pub connection_limit: Option<i64>,
    /// A timestamp as text.
    pub valid_until: Option<String>,
}

impl RoleOptions {
    pub fn sets_only_password(&self) -> bool {
        let RoleOptions { is_superuser, can_login, password, connection_limit, valid_until } = self;
        password.is_some()
            && is_superuser.is_none()
            && can_login.is_none()
            && connection_limit.is_none()
            && valid_until.is_none()
    }
}

#[derive(Clone, Debug)]
pub enum RoleChange {
    Options(RoleOptions),
    Rename { to: String },
}

#[derive(Clone, Debug)]
pub struct ColumnDefinition {
    pub name: String,
    pub pg_type: PgType,
    pub nullable: bool,
    /// DEFAULT as SQL.
    pub default: Option<String>,
    /// GENERATED ALWAYS AS, as SQL.
    pub generated: Option<String>,
}

#[derive(Clone, Debug)]
pub struct CreateTable {
    pub name: Name,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDefinition>,
    /// Column indices.
    pub primary_key: Vec<usize>,
    pub append_only: bool,
    pub watermark: Option<Watermark>,
    /// WITH (…): lower-case keys; the session refuses those it does not know.
    pub options: BTreeMap<String, String>,
    /// CREATE TABLE … AS.
    pub query: Option<Query>,
}

#[derive(Clone, Debug)]
pub struct CreateSource {
    pub name: Name,
    pub if_not_exists: bool,
    /// May be empty for a connector that knows its own columns.
    pub columns: Vec<ColumnDefinition>,
    pub watermark: Option<Watermark>,
    /// WITH (…): lower-case keys.
    pub options: BTreeMap<String, String>,
    /// Upper case: PLAIN, or NATIVE where there is no FORMAT clause.
    pub format: String,
    /// Upper case: JSON, CSV, PARQUET, NATIVE.
    pub encode: String,
    /// Lower-case keys.
    pub encode_options: BTreeMap<String, String>,
}

/// `WATERMARK FOR column AS expression`.
#[derive(Clone, Debug)]
pub struct Watermark {
    pub column: usize,
    pub expression: String,
    /// Of `column` and `column - INTERVAL '…'` over timestamps; `None`: any other expression.
    pub delay_us: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct CreateMaterializedView {
    pub name: Name,
    pub if_not_exists: bool,
    pub or_replace: bool,
    pub columns: Vec<String>,
    pub query: Query,
    pub query_text: String,
    /// WITH (…): lower-case keys; the session refuses those it does not know.
    pub options: BTreeMap<String, String>,
    pub emit_on_window_close: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropKind {
    Table,
    Source,
    View,
    MaterializedView,
    Sink,
    Schema,
    Index,
}

/// CREATE FUNCTION … LANGUAGE SQL.
#[derive(Clone, Debug)]
pub struct CreateFunction {
    pub name: Name,
    pub or_replace: bool,
    pub arguments: Vec<Argument>,
    pub returns: Returns,
    pub strict: bool,
    /// `i`, `s` or `v`.
    pub volatility: char,
    /// A query as text.
    pub body: String,
}

#[derive(Clone, Debug)]
pub struct DropFunction {
    pub functions: Vec<FunctionName>,
    pub if_exists: bool,
    pub cascade: bool,
}

/// A function as DROP names it; `types` absent: by its name alone.
#[derive(Clone, Debug)]
pub struct FunctionName {
    pub name: Name,
    pub types: Option<Vec<PgType>>,
}

#[derive(Clone, Debug)]
pub struct CreateIndex {
    /// `None`: named after the relation and the columns.
    pub name: Option<String>,
    pub if_not_exists: bool,
    pub unique: bool,
    pub relation: Name,
    pub columns: Vec<String>,
}

/// ALTER of a relation: what it is called changes, its rows do not.
#[derive(Clone, Debug)]
pub struct Alter {
    /// ALTER TABLE is said of every kind of relation, as in Postgres.
    pub kind: DropKind,
    pub name: Name,
    pub if_exists: bool,
    pub action: AlterAction,
}

#[derive(Clone, Debug)]
pub enum AlterAction {
    /// Of a source: no more of its rows are taken, or they are again.
    Pause(bool),
    Rename {
        to: String,
    },
    RenameColumn {
        from: String,
        to: String,
    },
    SetSchema {
        to: String,
    },
    /// SET (…) and RESET (…): lower-case keys; `None` is the default.
    SetOptions {
        options: BTreeMap<String, Option<String>>,
    },
    /// The two change places: each gets the other's name.
    Swap {
        with: Name,
    },
}

/// COMMENT ON … IS text; `None` takes the comment away.
#[derive(Clone, Debug)]
pub struct CommentOn {
    pub subject: CommentSubject,
    pub text: Option<String>,
}

#[derive(Clone, Debug)]
pub enum CommentSubject {
    /// A relation or an index.
    Relation {
        kind: DropKind,
        name: Name,
    },
    Column {
        relation: Name,
        column: String,
    },
    /// Of a table: its primary key.
    Constraint {
        name: String,
        relation: Name,
    },
    Function(FunctionName),
    Schema(String),
    Database(String),
}

#[derive(Clone, Debug)]
pub struct Copy {
    pub subject: CopySubject,
    pub direction: CopyDirection,
    pub options: CopyOptions,
}

#[derive(Clone, Debug)]
pub enum CopySubject {
    /// `columns` empty: all.
    Table {
        name: Name,
        columns: Vec<String>,
    },
    Query(Query),
    Subscribe(Subscribe),
}

/// The changes of a relation or query, as they come.
#[derive(Clone, Debug)]
pub struct Subscribe {
    pub subject: SubscribeSubject,
    /// Begins with the rows that are there.
    pub snapshot: bool,
    /// Also tells up to where all changes have been told.
    pub progress: bool,
    /// Expressions.
    pub as_of: Option<String>,
    pub up_to: Option<String>,
}

#[derive(Clone, Debug)]
pub enum SubscribeSubject {
    Relation(Name),
    Query { query: Query, text: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyDirection {
    FromStdin,
    ToStdout,
}

#[derive(Clone, Debug)]
pub struct CopyOptions {
    pub format: CopyFormat,
    pub delimiter: u8,
    pub null: String,
    pub header: bool,
    pub quote: u8,
    pub escape: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    Text,
    Csv,
    Binary,
}

#[derive(Clone, Debug)]
pub enum Show {
    /// SHOW name: a setting.
    Setting(String),
    All,
    Tables,
    Sources,
    Views,
    MaterializedViews,
    Sinks,
    Schemas,
    Databases,
    /// `None`: those of all relations.
    Indexes(Option<Name>),
    Functions,
    /// SHOW COLUMNS FROM / DESCRIBE.
    Columns(Name),
    /// SHOW CREATE TABLE|SOURCE|VIEW|MATERIALIZED VIEW|SINK name.
    Create(Name),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchCount {
    Rows(u64),
    All,
}
