//! Statements of Postgres that we know and do not take, by their first words.

use super::reader::{Fault, Reader};
use crate::error::Error;

/// First words, and the way around.
const REFUSED: &[(&str, &str)] = &[
    ("ALTER SYSTEM", "set it in the server's configuration file"),
    ("ANALYZE", "there are no statistics to gather; leave it out"),
    ("CALL", "there are no procedures"),
    ("CHECKPOINT", "checkpoints happen on their own"),
    ("CLUSTER", "there is no physical order to keep; leave it out"),
    ("DO", "there are no procedural languages; run the statements one by one"),
    ("GRANT", "there are no privileges: every role may do all but manage roles, which superusers do"),
    ("REVOKE", "there are no privileges: every role may do all but manage roles, which superusers do"),
    ("IMPORT", "describe the outside data with CREATE SOURCE"),
    ("LOAD", "there are no loadable modules"),
    ("LOCK", "statements never wait for each other's locks; leave it out"),
    ("MERGE", "write INSERT … ON CONFLICT DO UPDATE, UPDATE or DELETE"),
    ("REASSIGN", "there are no privileges, so owners make no difference"),
    ("REINDEX", "there are no indexes to rebuild; leave it out"),
    ("REPLACE", "write INSERT … ON CONFLICT DO UPDATE"),
    ("SECURITY", "there are no security labels"),
    ("VACUUM", "space is reclaimed on its own; leave it out"),
];

/// 0A000 for a known statement, else a syntax error at its first word.
pub(super) fn refuse(reader: &Reader<'_>, first: &str) -> Fault {
    let second = reader.peek_second_word();
    let both = format!("{first} {second}");
    let matches = |words: &str| words == both || words == first;
    match REFUSED.iter().find(|(words, _)| matches(words)) {
        Some((words, hint)) => Error::unsupported(*words, *hint).into(),
        None => reader.unexpected(),
    }
}
