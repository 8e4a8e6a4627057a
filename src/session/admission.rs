//! Who may come in: the configuration's rule for the client, the role's password, and what the role may.
//!
//! Before a client has proved who it is, it learns nothing of the roles there are: one that does not exist, or has no
//! password that counts, is asked for a password like any other, and none fits.

use std::net::IpAddr;

use super::shared::{Shared, registry};
use crate::catalog::{Catalog, Role, USER, Verifier};
use crate::config::{Method, Password};
use crate::error::{Error, Result, SqlState};

/// What a client has to do before it has a session.
pub enum Admission {
    Trust,
    /// To know the password of this verifier; it is nobody's if `is_mock`, and then even the right proof is refused.
    Scram {
        verifier: Verifier,
        is_mock: bool,
    },
}

impl Shared {
    /// 28000 if no rule lets the client in.
    pub fn admission(
        &self,
        role: &str,
        database: &str,
        address: Option<IpAddr>,
        is_encrypted: bool,
    ) -> Result<Admission> {
        let told = |rule: &str| {
            let host = address.map_or_else(|| "[local]".to_string(), |address| address.to_string());
            let encryption = if is_encrypted { "SSL encryption" } else { "no encryption" };
            let message = format!("{rule} for host \"{host}\", user \"{role}\", database \"{database}\", {encryption}");
            Error::new(SqlState::INVALID_AUTHORIZATION, message)
        };
        if !is_encrypted && self.config.tls.as_ref().is_some_and(|tls| tls.is_required) {
            return Err(told("no pg_hba.conf entry").with_hint("connect with sslmode=require or verify-full"));
        }
        match self.config.access.method(address, role, database, is_encrypted) {
            None => Err(told("no pg_hba.conf entry").with_hint("the rules are [[auth]] in the server's configuration")),
            Some(Method::Reject) => Err(told("pg_hba.conf rejects connection")),
            Some(Method::Trust) => Ok(Admission::Trust),
            Some(Method::Scram) => {
                let catalog = self.catalog();
                // Both are made, so that both cases take the same time.
                let mock = Verifier::mock(&self.secret, role);
                let known = catalog.find_role(role).and_then(|role| role.verifier_at(registry::now_us())).cloned();
                let is_mock = known.is_none();
                Ok(Admission::Scram { verifier: known.unwrap_or(mock), is_mock })
            }
        }
    }

    /// The role of a client that has proved who it is. 28000 if there is none of this name, or it may not log in.
    pub(super) fn require_login(&self, name: &str) -> Result<std::sync::Arc<Role>> {
        let refused = |message: String| Error::new(SqlState::INVALID_AUTHORIZATION, message);
        let catalog = self.catalog();
        let role = catalog.find_role(name).ok_or_else(|| refused(format!("role \"{name}\" does not exist")))?;
        if !role.can_login {
            return Err(refused(format!("role \"{name}\" is not permitted to log in")));
        }
        Ok(role.clone())
    }
}

/// With the configuration's password, if the first role has none yet. Warns where nobody could log in.
pub(super) fn with_first_password(catalog: &Catalog, config: &crate::config::Config) -> Result<Option<Catalog>> {
    let Some(first) = catalog.roles().find(|role| role.oid == crate::catalog::system::OWNER_OID) else {
        return Ok(None);
    };
    match (&config.superuser_password, &first.verifier) {
        (Some(Password(password)), None) => {
            let verifier = Some(Verifier::derive(password)?);
            let mut with_password = catalog.clone();
            with_password.put_role(Role { verifier, ..first.as_ref().clone() })?;
            Ok(Some(with_password))
        }
        (Some(Password(password)), Some(verifier)) => {
            if !verifier.accepts(password) {
                tracing::warn!("the role {USER} has a password already: the one of the configuration is not used");
            }
            Ok(None)
        }
        (None, _) => {
            if config.access.needs_passwords() && catalog.roles().all(|role| role.verifier.is_none()) {
                tracing::warn!(
                    "no role has a password: clients that need one cannot log in; start once with \
                     --superuser-password-file or HIGHWATER_PASSWORD"
                );
            }
            Ok(None)
        }
    }
}
