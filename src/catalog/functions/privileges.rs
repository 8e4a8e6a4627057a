//! Privileges and sizes. There are no grants, every role may use everything: whatever exists may be done, so a privilege
//! function says true, after it has checked that the role, the thing and the privilege exist. Only to be another role is a
//! superuser's.

use std::sync::Arc;

use datafusion::common::ScalarValue;

use super::Argument::{Any, Int, Text};
use super::reg::regclass;
use super::{Call, Definition, Returns, define, invalid, text_of};
use crate::catalog::Role;
use crate::catalog::system::{DATABASE_OID, Value, schema_oid};
use crate::error::{Error, Result, SqlState};
use crate::types::RelationId;

pub(super) const DEFINITIONS: &[Definition] = &[
    define("has_table_privilege", &[Any, Any, Any], Returns::Bool, |call| table_privilege(call, 0)).optional(1),
    define("has_any_column_privilege", &[Any, Any, Any], Returns::Bool, |call| table_privilege(call, 0)).optional(1),
    define("has_column_privilege", &[Any, Any, Any, Any], Returns::Bool, |call| table_privilege(call, 1)).optional(1),
    define("has_sequence_privilege", &[Any, Any, Any], Returns::Bool, |call| table_privilege(call, 0)).optional(1),
    define("has_schema_privilege", &[Any, Any, Any], Returns::Bool, schema_privilege).optional(1),
    define("has_database_privilege", &[Any, Any, Any], Returns::Bool, database_privilege).optional(1),
    define("has_function_privilege", &[Any, Any, Any], Returns::Bool, granted).optional(1),
    define("has_type_privilege", &[Any, Any, Any], Returns::Bool, granted).optional(1),
    define("has_language_privilege", &[Any, Any, Any], Returns::Bool, granted).optional(1),
    define("has_tablespace_privilege", &[Any, Any, Any], Returns::Bool, granted).optional(1),
    define("has_foreign_data_wrapper_privilege", &[Any, Any, Any], Returns::Bool, granted).optional(1),
    define("has_server_privilege", &[Any, Any, Any], Returns::Bool, granted).optional(1),
    define("has_parameter_privilege", &[Any, Any, Any], Returns::Bool, granted).optional(1),
    define("pg_has_role", &[Any, Any, Any], Returns::Bool, has_role).optional(1),
    define("row_security_active", &[Any], Returns::Bool, |_| Ok(false.into())),
    define("pg_relation_size", &[Any, Text], Returns::Int8, relation_size).optional(1),
    define("pg_table_size", &[Any], Returns::Int8, relation_size),
    define("pg_total_relation_size", &[Any], Returns::Int8, relation_size),
    define("pg_indexes_size", &[Any], Returns::Int8, |_| Ok(0i64.into())),
    define("pg_database_size", &[Any], Returns::Int8, database_size),
    define("pg_tablespace_size", &[Any], Returns::Int8, database_size),
    define("pg_size_pretty", &[Int], Returns::Text, |call| Ok(call.int(0).map(size_pretty).into())).immutable(),
];

const PRIVILEGES: &[&str] = &[
    "select",
    "insert",
    "update",
    "delete",
    "truncate",
    "references",
    "trigger",
    "create",
    "usage",
    "connect",
    "temporary",
    "temp",
    "execute",
    "set",
    "alter system",
    "member",
    "maintain",
];

/// 22023 for a word that is no privilege; `SELECT, INSERT WITH GRANT OPTION` is a list of two.
fn check_privileges(call: &Call<'_>) -> Result<()> {
    let words = call.arguments.last().and_then(text_of).unwrap_or_default();
    for word in words.split(',') {
        let word = word.trim().to_ascii_lowercase();
        let bare = word.trim_end_matches("with grant option").trim_end_matches("with admin option").trim();
        if !PRIVILEGES.contains(&bare) {
            return Err(invalid(format!("unrecognized privilege type: \"{word}\"")));
        }
    }
    Ok(())
}

/// By name or OID; NULL for an OID that is no role's. 42704 for a name that is none.
fn role(call: &Call<'_>, value: Option<&ScalarValue>) -> Result<Option<Arc<Role>>> {
    let catalog = call.context.catalog();
    let Some(value) = value else { return Ok(None) };
    match text_of(value) {
        Some(name) => catalog.require_role(name).cloned().map(Some),
        None => match value.cast_to(&arrow::datatypes::DataType::UInt32) {
            Ok(ScalarValue::UInt32(Some(oid))) => Ok(catalog.role(oid).cloned()),
            _ => Ok(None),
        },
    }
}

/// The role that is asked about stands first, if it is said at all. 42704 if there is none of this name; `public` is
/// everybody.
fn check_role(call: &Call<'_>, columns: usize) -> Result<()> {
    let said = call.arguments.first().filter(|_| call.arguments.len() == 3 + columns);
    match said.and_then(text_of) {
        Some("public") => Ok(()),
        _ => role(call, said).map(drop),
    }
}

/// Whether one role may become another: a superuser may, and everybody may be who they are.
fn has_role(call: &Call<'_>) -> Result<Value> {
    check_privileges(call)?;
    let catalog = call.context.catalog();
    let (who, whom) = match call.arguments {
        [whom, _] => (catalog.find_role(&call.context.user()).cloned(), role(call, Some(whom))?),
        [who, whom, ..] => (role(call, Some(who))?, role(call, Some(whom))?),
        _ => return Ok(Value::Null),
    };
    Ok(who.zip(whom).map(|(who, whom)| who.is_superuser || who.oid == whom.oid).into())
}

fn granted(call: &Call<'_>) -> Result<Value> {
    check_privileges(call)?;
    check_role(call, 0)?;
    Ok(true.into())
}

/// The argument that names the thing: the first of two, the second of three (after the role). `columns`: how many
/// arguments stand between it and the privilege.
fn subject<'a>(call: &'a Call<'_>, columns: usize) -> Option<&'a ScalarValue> {
    call.arguments.len().checked_sub(2 + columns).and_then(|index| call.arguments.get(index))
}

fn relation(call: &Call<'_>, value: Option<&ScalarValue>) -> Result<Option<RelationId>> {
    let Some(value) = value else { return Ok(None) };
    match text_of(value) {
        Some(name) => match name.parse().ok().or_else(|| regclass(call.context, name)) {
            Some(oid) => Ok(Some(RelationId(oid))),
            None => Err(Error::new(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))),
        },
        None => match value.cast_to(&arrow::datatypes::DataType::UInt32) {
            Ok(ScalarValue::UInt32(Some(oid))) => Ok(Some(RelationId(oid))),
            _ => Ok(None),
        },
    }
}

fn table_privilege(call: &Call<'_>, columns: usize) -> Result<Value> {
    check_privileges(call)?;
    check_role(call, columns)?;
    let relation = relation(call, subject(call, columns))?;
    let name = relation.map(|id| super::reg::regclass_name(call.context, id.0));
    // NULL for an OID that names nothing, as in Postgres.
    let exists = relation.zip(name).is_some_and(|(id, name)| name != id.0.to_string());
    Ok(exists.then_some(true).into())
}

fn schema_privilege(call: &Call<'_>) -> Result<Value> {
    check_privileges(call)?;
    check_role(call, 0)?;
    if let Some(name) = subject(call, 0).and_then(text_of)
        && schema_oid(&call.context.catalog(), name).is_none()
        && name.parse::<u32>().is_err()
    {
        return Err(Error::new(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist")));
    }
    Ok(true.into())
}

fn database_privilege(call: &Call<'_>) -> Result<Value> {
    check_privileges(call)?;
    check_role(call, 0)?;
    check_database(call, subject(call, 0))?;
    Ok(true.into())
}

fn check_database(call: &Call<'_>, value: Option<&ScalarValue>) -> Result<()> {
    match value.and_then(text_of) {
        Some(name) if name != call.context.database() && name != DATABASE_OID.to_string() => {
            Err(Error::new(SqlState::INVALID_CATALOG_NAME, format!("database \"{name}\" does not exist")))
        }
        _ => Ok(()),
    }
}

fn relation_size(call: &Call<'_>) -> Result<Value> {
    let catalog = call.context.catalog();
    let object = relation(call, call.arguments.first())?.and_then(|id| catalog.get(id).cloned());
    Ok(object.map_or(0, |o| call.context.relation_bytes(&o)).into())
}

fn database_size(call: &Call<'_>) -> Result<Value> {
    check_database(call, call.arguments.first())?;
    let catalog = call.context.catalog();
    Ok(catalog.objects().map(|o| call.context.relation_bytes(o)).sum::<i64>().into())
}

/// As Postgres rounds: a unit is kept up to 10,240 of it, and halves go up.
fn size_pretty(bytes: i64) -> String {
    const UNITS: &[&str] = &["bytes", "kB", "MB", "GB", "TB", "PB"];
    let mut size = i128::from(bytes);
    if size.abs() < 10 * 1024 {
        return format!("{size} bytes");
    }
    // One bit more than the unit, to round by.
    size >>= 9;
    for (index, unit) in UNITS.iter().enumerate().skip(1) {
        let rounded = (size + size.signum()) / 2;
        if rounded.abs() < 20 * 1024 / 2 || index == UNITS.len() - 1 {
            return format!("{rounded} {unit}");
        }
        size >>= 10;
    }
    unreachable!("the last unit takes everything")
}

#[cfg(test)]
mod tests {
    use super::size_pretty;

    #[test]
    fn sizes_round_as_in_postgres() {
        assert_eq!(size_pretty(10239), "10239 bytes");
        assert_eq!(size_pretty(10240), "10 kB");
        assert_eq!(size_pretty(8192 * 3), "24 kB");
        assert_eq!(size_pretty(20 * 1024 * 1024), "20 MB");
    }
}
