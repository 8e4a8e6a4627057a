//! What a server has beside relations: schemas, databases, roles, settings, sessions, and the few access methods
//! and collations that clients look for.

use super::rows::Rows;
use super::{BTREE_OID, DATABASE_OID, HEAP_OID, SYSTEM_SCHEMAS, SystemContext, TABLESPACE_OID};

pub(super) fn pg_namespace(rows: &mut Rows, context: &SystemContext<'_>) {
    for (name, oid) in SYSTEM_SCHEMAS.iter().copied().chain(context.catalog.schemas()) {
        rows.push(&[("oid", oid.into()), ("nspname", name.into())]);
    }
}

pub(super) fn pg_database(rows: &mut Rows, context: &SystemContext<'_>) {
    rows.push(&[("oid", DATABASE_OID.into()), ("datname", context.database.into())]);
}

pub(super) fn pg_settings(rows: &mut Rows, context: &SystemContext<'_>) {
    for (name, setting, description) in context.settings {
        rows.push(&[
            ("name", name.as_str().into()),
            ("setting", setting.as_str().into()),
            ("short_desc", description.as_str().into()),
            ("boot_val", setting.as_str().into()),
            ("reset_val", setting.as_str().into()),
        ]);
    }
    // JDBC asks for it to know how many columns a key may have.
    if !context.settings.iter().any(|(name, ..)| name == "max_index_keys") {
        rows.push(&[
            ("name", "max_index_keys".into()),
            ("setting", "32".into()),
            ("short_desc", "Shows the maximum number of index keys.".into()),
            ("context", "internal".into()),
            ("vartype", "integer".into()),
            ("boot_val", "32".into()),
            ("reset_val", "32".into()),
        ]);
    }
}

pub(super) fn pg_stat_activity(rows: &mut Rows, context: &SystemContext<'_>) {
    for session in context.activity {
        rows.push(&[
            ("datname", session.database.as_str().into()),
            ("pid", session.pid.into()),
            ("usename", session.user.as_str().into()),
            ("application_name", session.application_name.as_str().into()),
            ("client_addr", session.client_address.clone().into()),
            ("client_port", session.client_port.into()),
            ("backend_start", session.backend_start_us.into()),
            ("xact_start", session.transaction_start_us.into()),
            ("query_start", session.query_start_us.into()),
            ("state_change", session.state_change_us.into()),
            ("wait_event_type", (session.state != "active").then_some("Client").into()),
            ("wait_event", (session.state != "active").then_some("ClientRead").into()),
            ("state", session.state.as_str().into()),
            ("query", session.query.as_str().into()),
        ]);
    }
}

pub(super) fn pg_stat_database(rows: &mut Rows, context: &SystemContext<'_>) {
    let sessions = context.activity.iter().filter(|s| s.database == context.database).count();
    rows.push(&[("datname", context.database.into()), ("numbackends", (sessions as i32).into())]);
}

pub(super) fn pg_am(rows: &mut Rows) {
    rows.push(&[("oid", HEAP_OID.into()), ("amname", "heap".into()), ("amtype", 't'.into())]);
    rows.push(&[("oid", BTREE_OID.into()), ("amname", "btree".into()), ("amtype", 'i'.into())]);
}

pub(super) fn pg_tablespace(rows: &mut Rows) {
    rows.push(&[("oid", TABLESPACE_OID.into()), ("spcname", "pg_default".into())]);
    rows.push(&[("oid", 1664u32.into()), ("spcname", "pg_global".into())]);
}

pub(super) fn pg_collation(rows: &mut Rows) {
    rows.push(&[("oid", 100u32.into()), ("collname", "default".into()), ("collprovider", 'd'.into())]);
    for (oid, name) in [(950u32, "C"), (951, "POSIX")] {
        rows.push(&[
            ("oid", oid.into()),
            ("collname", name.into()),
            ("collprovider", 'c'.into()),
            ("collcollate", name.into()),
            ("collctype", name.into()),
        ]);
    }
}

pub(super) fn pg_language(rows: &mut Rows) {
    for (oid, name, trusted) in [(12u32, "internal", false), (14, "sql", true)] {
        rows.push(&[("oid", oid.into()), ("lanname", name.into()), ("lanpltrusted", trusted.into())]);
    }
}

/// Names alone: what a zone's offset is depends on the instant, and this room knows no clock.
pub(super) fn pg_timezone_names(rows: &mut Rows) {
    for zone in chrono_tz::TZ_VARIANTS {
        rows.push(&[("name", zone.name().into())]);
    }
}
