//! Roles as Postgres shows them. What a role may without being a superuser, all may; verifiers are shown to superusers.

use super::rows::Rows;
use super::{SystemContext, Value};
use crate::catalog::Role;

/// `pg_roles` hides what `pg_authid` shows.
pub(super) fn pg_roles(relation: &str, rows: &mut Rows, context: &SystemContext<'_>) {
    for role in context.catalog.roles() {
        let mut row = vec![
            ("oid", role.oid.into()),
            ("rolname", role.name.as_str().into()),
            ("rolsuper", role.is_superuser.into()),
            ("rolcreaterole", role.is_superuser.into()),
            ("rolcreatedb", role.is_superuser.into()),
            ("rolbypassrls", role.is_superuser.into()),
            ("rolcanlogin", role.can_login.into()),
            ("rolconnlimit", role.connection_limit.map_or(-1, i64::from).into()),
            ("rolvaliduntil", role.valid_until_us.into()),
        ];
        if relation == "pg_authid" {
            row.push(("rolpassword", verifier(role, context)));
        }
        rows.push(&row);
    }
}

/// Those that may log in. `pg_user` hides what `pg_shadow` shows.
pub(super) fn pg_user(relation: &str, rows: &mut Rows, context: &SystemContext<'_>) {
    for role in context.catalog.roles().filter(|role| role.can_login) {
        let mut row = vec![
            ("usename", role.name.as_str().into()),
            ("usesysid", role.oid.into()),
            ("usecreatedb", role.is_superuser.into()),
            ("usesuper", role.is_superuser.into()),
            ("usebypassrls", role.is_superuser.into()),
            ("valuntil", role.valid_until_us.into()),
        ];
        if relation == "pg_shadow" {
            row.push(("passwd", verifier(role, context)));
        }
        rows.push(&row);
    }
}

/// NULL for those who may not see it.
fn verifier(role: &Role, context: &SystemContext<'_>) -> Value {
    role.verifier.clone().filter(|_| context.is_superuser).map(String::from).into()
}
