//! Roles: who may connect, by which password, and who may manage the others.
//!
//! One is there from the start, [`USER`]: a superuser that cannot be dropped, so that there is always one. A data
//! directory without roles is of a time before them, and has that one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::system::OWNER_OID;
use super::{Catalog, USER, Verifier};
use crate::error::{Error, Result, SqlState};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    pub oid: u32,
    pub name: String,
    pub is_superuser: bool,
    pub can_login: bool,
    /// Sessions at a time; superusers have no limit.
    pub connection_limit: Option<u32>,
    /// Until when the password counts, in microseconds since 1970; `None`: for ever.
    pub valid_until_us: Option<i64>,
    /// `None`: no password fits.
    pub verifier: Option<Verifier>,
}

impl Role {
    pub fn new(oid: u32, name: &str) -> Role {
        let name = name.to_string();
        Role {
            oid,
            name,
            is_superuser: false,
            can_login: false,
            connection_limit: None,
            valid_until_us: None,
            verifier: None,
        }
    }

    /// What fits as a password now; `None`: nothing does.
    pub fn verifier_at(&self, now_us: i64) -> Option<&Verifier> {
        self.verifier.as_ref().filter(|_| self.valid_until_us.is_none_or(|end_us| now_us < end_us))
    }

    pub fn to_record(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a role has only string keys")
    }

    /// XX001 if the record cannot be read.
    pub fn from_record(record: &[u8]) -> Result<Role> {
        serde_json::from_slice(record)
            .map_err(|e| Error::new(SqlState::DATA_CORRUPTED, format!("unreadable catalog record: {e}")))
    }
}

/// The one that is there from the start.
pub(super) fn first() -> BTreeMap<u32, Arc<Role>> {
    let first = Role { is_superuser: true, can_login: true, ..Role::new(OWNER_OID, USER) };
    BTreeMap::from([(OWNER_OID, Arc::new(first))])
}

impl Catalog {
    /// With the roles that were saved, beside the one that is always there.
    pub fn with_roles(mut self, roles: Vec<Role>) -> Catalog {
        self.roles.extend(roles.into_iter().map(|role| (role.oid, Arc::new(role))));
        self
    }

    /// By OID.
    pub fn roles(&self) -> impl Iterator<Item = &Arc<Role>> {
        self.roles.values()
    }

    pub fn role(&self, oid: u32) -> Option<&Arc<Role>> {
        self.roles.get(&oid)
    }

    pub fn find_role(&self, name: &str) -> Option<&Arc<Role>> {
        self.roles.values().find(|role| role.name == name)
    }

    /// 42704 if there is none of this name.
    pub fn require_role(&self, name: &str) -> Result<&Arc<Role>> {
        self.find_role(name)
            .ok_or_else(|| Error::new(SqlState::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist")))
    }

    /// Who owns what is there: as long as there are no grants, the role that was there first.
    pub fn owner(&self) -> &str {
        &self.roles[&OWNER_OID].name
    }

    /// A new one, or another in the place of the one with its OID. 42710 if the name is taken by another.
    pub fn put_role(&mut self, role: Role) -> Result<()> {
        if self.find_role(&role.name).is_some_and(|other| other.oid != role.oid) {
            return Err(Error::new(SqlState::DUPLICATE_OBJECT, format!("role \"{}\" already exists", role.name)));
        }
        self.roles.insert(role.oid, Arc::new(role));
        self.version += 1;
        Ok(())
    }

    /// 2BP01 for the one that is always there.
    pub fn remove_role(&mut self, role: &Role) -> Result<()> {
        if role.oid == OWNER_OID {
            let message = format!("cannot drop role {} because it is required by the database system", role.name);
            return Err(Error::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message));
        }
        self.roles.remove(&role.oid);
        self.version += 1;
        Ok(())
    }
}
