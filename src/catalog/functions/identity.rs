//! Who and where: version, database, user, settings, the session's pid, other sessions.

use super::Argument::{Bool, Int, Text};
use super::{Call, Definition, Returns, define};
use crate::catalog::system::Value;
use crate::error::{Error, Result, SqlState};

pub(super) const DEFINITIONS: &[Definition] = &[
    define("version", &[], Returns::Text, |call| Ok(call.context.version().into())),
    define("current_database", &[], Returns::Name, |call| Ok(call.context.database().into())),
    define("current_catalog", &[], Returns::Name, |call| Ok(call.context.database().into())),
    define("current_user", &[], Returns::Name, |call| Ok(call.context.user().into())),
    define("current_role", &[], Returns::Name, |call| Ok(call.context.user().into())),
    define("session_user", &[], Returns::Name, |call| Ok(call.context.session_user().into())),
    define("user", &[], Returns::Name, |call| Ok(call.context.user().into())),
    define("current_schema", &[], Returns::Name, current_schema),
    define("current_schemas", &[Bool], Returns::TextArray, current_schemas),
    define("current_setting", &[Text, Bool], Returns::Text, current_setting).optional(1),
    define("set_config", &[Text, Text, Bool], Returns::Text, set_config).volatile().lenient(),
    define("current_query", &[], Returns::Text, |_| Ok(Value::Null)),
    define("pg_backend_pid", &[], Returns::Int4, |call| Ok(call.context.pid().into())),
    define("pg_is_in_recovery", &[], Returns::Bool, |_| Ok(false.into())),
    define("pg_is_in_backup", &[], Returns::Bool, |_| Ok(false.into())),
    define("pg_postmaster_start_time", &[], Returns::Timestamptz, |call| Ok(call.context.start_time_us().into())),
    define("pg_conf_load_time", &[], Returns::Timestamptz, |call| Ok(call.context.start_time_us().into())),
    define("txid_current", &[], Returns::Int8, epoch),
    define("txid_current_if_assigned", &[], Returns::Int8, epoch),
    define("pg_current_xact_id", &[], Returns::Int8, epoch),
    define("inet_client_addr", &[], Returns::Text, |call| Ok(call.context.client_address().into())),
    define("inet_client_port", &[], Returns::Int4, |_| Ok(Value::Null)),
    define("inet_server_addr", &[], Returns::Text, |_| Ok(Value::Null)),
    define("inet_server_port", &[], Returns::Int4, |_| Ok(Value::Null)),
    define("pg_cancel_backend", &[Int], Returns::Bool, cancel_backend).volatile(),
    define("pg_terminate_backend", &[Int, Int], Returns::Bool, terminate_backend).optional(1).volatile(),
    define("pg_reload_conf", &[], Returns::Bool, |_| Ok(false.into())).volatile(),
    define("pg_my_temp_schema", &[], Returns::Oid, |_| Ok(0u32.into())),
    define("pg_is_other_temp_schema", &[Int], Returns::Bool, |_| Ok(false.into())),
    define("pg_jit_available", &[], Returns::Bool, |_| Ok(false.into())),
    define("getdatabaseencoding", &[], Returns::Name, |_| Ok("UTF8".into())),
    define("pg_client_encoding", &[], Returns::Name, |_| Ok("UTF8".into())),
    define("pg_encoding_to_char", &[Int], Returns::Name, encoding_to_char),
    define("pg_char_to_encoding", &[Text], Returns::Int4, char_to_encoding),
    define("pg_encoding_max_length", &[Int], Returns::Int4, |call| {
        Ok(call.int(0).filter(|e| *e == UTF8).map(|_| 4).into())
    }),
];

/// Number of the one encoding there is.
const UTF8: i64 = 6;

fn epoch(call: &Call<'_>) -> Result<Value> {
    Ok(i64::try_from(call.context.epoch()).unwrap_or(i64::MAX).into())
}

fn current_schema(call: &Call<'_>) -> Result<Value> {
    Ok(call.context.search_path().into_iter().next().into())
}

/// `true` adds `pg_catalog`, which is always searched first.
fn current_schemas(call: &Call<'_>) -> Result<Value> {
    let mut path = call.context.search_path();
    if call.flag(0) == Some(true) && !path.iter().any(|s| s == "pg_catalog") {
        path.insert(0, "pg_catalog".to_string());
    }
    Ok(path.into())
}

fn current_setting(call: &Call<'_>) -> Result<Value> {
    let name = call.text(0).unwrap_or_default();
    match call.context.setting(&name.to_ascii_lowercase()) {
        Some(value) => Ok(value.into()),
        None if call.flag(1) == Some(true) => Ok(Value::Null),
        None => Err(Error::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))),
    }
}

/// A NULL value sets the empty string, as in Postgres.
fn set_config(call: &Call<'_>) -> Result<Value> {
    let Some(name) = call.text(0) else {
        return Err(Error::new(SqlState("22004"), "SET requires parameter name"));
    };
    let value = call.text(1).unwrap_or_default();
    let local = call.flag(2).unwrap_or(false);
    Ok(call.context.set_setting(&name.to_ascii_lowercase(), value, local)?.into())
}

fn cancel_backend(call: &Call<'_>) -> Result<Value> {
    let pid = call.int(0).and_then(|pid| i32::try_from(pid).ok());
    Ok(pid.map_or(Ok(false), |pid| call.context.cancel_backend(pid))?.into())
}

fn terminate_backend(call: &Call<'_>) -> Result<Value> {
    let pid = call.int(0).and_then(|pid| i32::try_from(pid).ok());
    Ok(pid.map_or(Ok(false), |pid| call.context.terminate_backend(pid))?.into())
}

fn encoding_to_char(call: &Call<'_>) -> Result<Value> {
    Ok(match call.int(0) {
        Some(0) => "SQL_ASCII",
        Some(UTF8) => "UTF8",
        Some(8) => "LATIN1",
        _ => "",
    }
    .into())
}

fn char_to_encoding(call: &Call<'_>) -> Result<Value> {
    let name = call.text(0).unwrap_or_default().to_ascii_lowercase().replace(['-', '_'], "");
    Ok(match name.as_str() {
        "utf8" | "unicode" => UTF8,
        "sqlascii" => 0,
        "latin1" | "iso88591" => 8,
        _ => -1,
    }
    .into())
}
