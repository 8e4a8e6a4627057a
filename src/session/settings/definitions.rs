//! The settings there are. Those that clients set on connecting although they mean nothing here are accepted with the
//! values that Postgres takes.

use super::values::{self, Kind, Unit};
use crate::error::{Error, Result, SqlState};

pub struct Definition {
    /// As Postgres spells it.
    pub name: &'static str,
    pub default: &'static str,
    pub(super) kind: Kind,
    /// Sent as ParameterStatus, at the start and after each change.
    pub reported: bool,
    pub description: &'static str,
}

impl Definition {
    /// 55P02 if only the server sets it.
    pub fn writable(&self) -> Result<()> {
        match self.kind {
            Kind::Internal => {
                Err(Error::new(SqlState("55P02"), format!("parameter \"{}\" cannot be changed", self.name)))
            }
            _ => Ok(()),
        }
    }

    /// The value as it is kept and shown. 22023 if it is none, 55P02 if it cannot be changed.
    pub fn read(&self, value: &str) -> Result<String> {
        self.writable()?;
        self.normalise(value).map_err(|hint| {
            let message = match self.kind {
                Kind::TimeZone => format!("invalid value for parameter \"{}\": \"{value}\"", self.name),
                Kind::Bool => format!("parameter \"{}\" requires a Boolean value", self.name),
                _ => format!("invalid value for parameter \"{}\": \"{value}\"", self.name),
            };
            let error = Error::new(SqlState::INVALID_PARAMETER_VALUE, message);
            if hint.is_empty() { error } else { error.with_hint(hint) }
        })
    }

    /// `Err`: what it takes.
    pub(super) fn normalise(&self, value: &str) -> Result<String, String> {
        values::normalise(self.kind, self.default, value)
    }
}

const fn setting(name: &'static str, default: &'static str, kind: Kind, description: &'static str) -> Definition {
    Definition { name, default, kind, reported: false, description }
}

const fn reported(name: &'static str, default: &'static str, kind: Kind, description: &'static str) -> Definition {
    Definition { name, default, kind, reported: true, description }
}

const ISOLATION: Kind = Kind::Enum(&["serializable", "repeatable read", "read committed", "read uncommitted"]);
const LEVELS: Kind = Kind::Enum(&[
    "debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "info", "notice", "warning", "error",
]);
const MS: Kind = Kind::Time(Unit::Milliseconds);

/// By name, as SHOW ALL lists them.
#[rustfmt::skip]
pub const DEFINITIONS: &[Definition] = &[
    reported("application_name", "", Kind::Text, "Sets the application name to be reported in statistics and logs."),
    setting("array_nulls", "on", Kind::Only("on"), "Enable input of NULL elements in arrays."),
    setting("backslash_quote", "safe_encoding", Kind::Enum(&["safe_encoding", "on", "off"]), "Sets whether \"\\'\" is allowed in string literals."),
    setting("bytea_output", "hex", Kind::Enum(&["hex"]), "Sets the output format for bytea."),
    setting("check_function_bodies", "on", Kind::Bool, "Check routine bodies during CREATE FUNCTION."),
    reported("client_encoding", "UTF8", Kind::Encoding, "Sets the client's character set encoding."),
    setting("client_min_messages", "notice", LEVELS, "Sets the message levels that are sent to the client."),
    reported("DateStyle", "ISO, MDY", Kind::DateStyle, "Sets the display format for date and time values."),
    setting("default_table_access_method", "heap", Kind::Text, "Sets the default table access method for new tables."),
    setting("default_tablespace", "", Kind::Text, "Sets the default tablespace to create tables and indexes in."),
    setting("default_transaction_deferrable", "off", Kind::Bool, "Sets the default deferrable status of new transactions."),
    setting("default_transaction_isolation", "read committed", ISOLATION, "Sets the transaction isolation level of each new transaction."),
    reported("default_transaction_read_only", "off", Kind::Bool, "Sets the default read-only status of new transactions."),
    setting("enable_seqscan", "on", Kind::Bool, "Enables the planner's use of sequential-scan plans."),
    setting("escape_string_warning", "on", Kind::Bool, "Warn about backslash escapes in ordinary string literals."),
    setting("extra_float_digits", "1", Kind::Integer { min: -15, max: 3 }, "Sets the number of digits displayed for floating-point values."),
    setting("geqo", "on", Kind::Bool, "Enables genetic query optimization."),
    setting("idle_in_transaction_session_timeout", "0", MS, "Sets the maximum allowed idle time between queries, when in a transaction."),
    setting("idle_session_timeout", "0", MS, "Sets the maximum allowed idle time between queries, when not in a transaction."),
    reported("in_hot_standby", "off", Kind::Internal, "Shows whether hot standby is currently active."),
    reported("integer_datetimes", "on", Kind::Internal, "Shows whether datetimes are integer based."),
    reported("IntervalStyle", "postgres", Kind::Enum(&["postgres"]), "Sets the display format for interval values."),
    reported("is_superuser", "on", Kind::Internal, "Shows whether the current user is a superuser."),
    setting("jit", "off", Kind::Bool, "Allow JIT compilation."),
    setting("lc_collate", "C", Kind::Internal, "Shows the collation order locale."),
    setting("lc_ctype", "C.UTF-8", Kind::Internal, "Shows the character classification and case conversion locale."),
    setting("lc_messages", "C.UTF-8", Kind::Text, "Sets the language in which messages are displayed."),
    setting("lc_monetary", "C.UTF-8", Kind::Text, "Sets the locale for formatting monetary amounts."),
    setting("lc_numeric", "C.UTF-8", Kind::Text, "Sets the locale for formatting numbers."),
    setting("lc_time", "C.UTF-8", Kind::Text, "Sets the locale for formatting date and time values."),
    setting("lock_timeout", "0", MS, "Sets the maximum allowed duration of any wait for a lock."),
    setting("log_min_duration_statement", "-1", Kind::Integer { min: -1, max: i32::MAX as i64 }, "Sets the minimum execution time above which all statements will be logged."),
    setting("log_statement", "none", Kind::Enum(&["none", "ddl", "mod", "all"]), "Sets the type of statements logged."),
    setting("max_identifier_length", "63", Kind::Internal, "Shows the maximum identifier length."),
    setting("max_index_keys", "32", Kind::Internal, "Shows the maximum number of index keys."),
    setting("plan_cache_mode", "auto", Kind::Enum(&["auto", "force_generic_plan", "force_custom_plan"]), "Controls the planner's selection of custom or generic plan."),
    setting("quote_all_identifiers", "off", Kind::Bool, "When generating SQL fragments, quote all identifiers."),
    setting("role", "none", Kind::Text, "Sets the current role."),
    setting("row_security", "on", Kind::Bool, "Enable row security."),
    setting("search_path", "\"$user\", public", Kind::Text, "Sets the schema search order for names that are not schema-qualified."),
    reported("server_encoding", "UTF8", Kind::Internal, "Shows the server (database) character set encoding."),
    reported("server_version", concat!("15.10 (Highwater v", env!("CARGO_PKG_VERSION"), ")"), Kind::Internal, "Shows the server version."),
    setting("server_version_num", "150010", Kind::Internal, "Shows the server version as an integer."),
    reported("session_authorization", "root", Kind::Text, "Sets the session user name."),
    reported("standard_conforming_strings", "on", Kind::Only("on"), "Causes '...' strings to treat backslashes literally."),
    setting("statement_timeout", "0", MS, "Sets the maximum allowed duration of any statement."),
    setting("synchronize_seqscans", "on", Kind::Bool, "Enable synchronized sequential scans."),
    setting("synchronous_commit", "on", Kind::Enum(&["on", "off", "local", "remote_write", "remote_apply"]), "Sets the current transaction's synchronization level."),
    setting("tcp_keepalives_count", "0", Kind::Integer { min: 0, max: i32::MAX as i64 }, "Maximum number of TCP keepalive retransmits."),
    setting("tcp_keepalives_idle", "0", Kind::Integer { min: 0, max: i32::MAX as i64 }, "Time between issuing TCP keepalives."),
    setting("tcp_keepalives_interval", "0", Kind::Integer { min: 0, max: i32::MAX as i64 }, "Time between TCP keepalive retransmits."),
    reported("TimeZone", "UTC", Kind::TimeZone, "Sets the time zone for displaying and interpreting time stamps."),
    setting("transaction_deferrable", "off", Kind::Bool, "Whether to defer a read-only serializable transaction until it can be executed with no possible serialization failures."),
    setting("transaction_isolation", "read committed", ISOLATION, "Sets the current transaction's isolation level."),
    setting("transaction_read_only", "off", Kind::Bool, "Sets the current transaction's read-only status."),
    setting("work_mem", "4MB", Kind::Text, "Sets the maximum memory to be used for query workspaces."),
    setting("xmloption", "content", Kind::Enum(&["content", "document"]), "Sets whether XML data in implicit parsing and serialization operations is to be considered as documents or content fragments."),
];
