//! CREATE, ALTER and DROP ROLE. Superusers manage roles; everybody may change their own password.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::TimestampMicrosecondType;

use super::Session;
use crate::catalog::system::OWNER_OID;
use crate::catalog::{Catalog, Role, Verifier};
use crate::config::Password;
use crate::error::{Error, Result, SqlState};
use crate::sql::{RoleChange, RoleName, RoleOptions};

impl Session {
    pub(super) async fn create_role(&mut self, name: &str, options: &RoleOptions) -> Result<&'static str> {
        self.require_superuser("permission denied to create role")?;
        let (options, name) = (self.read_options(options).await?, name.to_string());
        self.change_roles(move |catalog| {
            let mut role = Role::new(catalog.allocate_id().0, &name);
            options.apply(&mut role);
            catalog.put_role(role)
        })
        .await?;
        Ok("CREATE ROLE")
    }

    pub(super) async fn alter_role(&mut self, name: &RoleName, change: &RoleChange) -> Result<&'static str> {
        let name = self.role_name(name);
        let role = self.shared.catalog().require_role(&name)?.clone();
        let is_own_password = match change {
            RoleChange::Options(options) => options.sets_only_password() && self.context.is_current(&role),
            RoleChange::Rename { .. } => false,
        };
        if !is_own_password {
            self.require_superuser("permission denied")?;
        }
        let (new_name, options) = match change {
            RoleChange::Rename { to } => {
                if [self.context.session_user(), self.context.current_user()].contains(&name) {
                    return Err(Error::unsupported("renaming one's own role", "let another superuser do it"));
                }
                (Some(to.clone()), None)
            }
            RoleChange::Options(options) => {
                let options = self.read_options(options).await?;
                if options.is_superuser == Some(false) && role.oid == OWNER_OID {
                    let message = format!("the role {name} has to stay a superuser");
                    return Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, message));
                }
                (None, Some(options))
            }
        };
        self.change_roles(move |catalog| {
            // Found by its OID: it may be called otherwise by now, or be gone.
            let mut role = catalog.role(role.oid).ok_or_else(|| gone(&name))?.as_ref().clone();
            role.name = new_name.unwrap_or(role.name);
            if let Some(options) = options {
                options.apply(&mut role);
            }
            catalog.put_role(role)
        })
        .await?;
        Ok("ALTER ROLE")
    }

    pub(super) async fn drop_roles(&mut self, names: &[RoleName], if_exists: bool) -> Result<&'static str> {
        self.require_superuser("permission denied to drop role")?;
        let mut roles: Vec<Arc<Role>> = vec![];
        for name in names {
            if *name == RoleName::Current || *name == RoleName::Session {
                let message = "cannot use special role specifier in DROP ROLE";
                return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
            let name = self.role_name(name);
            for (user, kind) in [(self.context.current_user(), "current"), (self.context.session_user(), "session")] {
                if user == name {
                    let message = format!("{kind} user cannot be dropped");
                    return Err(Error::new(SqlState("55006"), message));
                }
            }
            match self.shared.catalog().require_role(&name).cloned() {
                Ok(role) => roles.push(role),
                Err(error) if if_exists => self.notice(error.code, format!("{}, skipping", error.message)),
                Err(error) => return Err(error),
            }
        }
        self.change_roles(move |catalog| roles.iter().try_for_each(|role| catalog.remove_role(role))).await?;
        Ok("DROP ROLE")
    }

    async fn change_roles(&self, change: impl FnOnce(&mut Catalog) -> Result<()> + Send + 'static) -> Result<()> {
        let shared = self.shared.clone();
        let changed = self.shared.uninterrupted(async move {
            let _lock = shared.ddl.lock().await;
            let mut catalog = shared.catalog().as_ref().clone();
            change(&mut catalog)?;
            shared.publish(catalog).await
        });
        changed.await
    }

    fn role_name(&self, name: &RoleName) -> String {
        match name {
            RoleName::Named(name) => name.clone(),
            RoleName::Current => self.context.current_user(),
            RoleName::Session => self.context.session_user(),
        }
    }

    /// 22007 for a VALID UNTIL that is no instant, 0A000 for a verifier that we cannot check.
    async fn read_options(&mut self, options: &RoleOptions) -> Result<Changes> {
        let verifier = match &options.password {
            None => None,
            Some(None) => Some(None),
            Some(Some(Password(text))) => self.read_password(text)?,
        };
        let valid_until_us = match options.valid_until.as_deref() {
            None => None,
            Some(text) if text.trim().eq_ignore_ascii_case("infinity") => Some(None),
            Some(text) => Some(Some(self.instant_us(text).await?)),
        };
        Ok(Changes {
            is_superuser: options.is_superuser,
            can_login: options.can_login,
            connection_limit: options.connection_limit.map(|limit| u32::try_from(limit).ok()),
            valid_until_us,
            verifier,
        })
    }

    fn read_password(&mut self, text: &str) -> Result<Option<Option<Verifier>>> {
        if text.is_empty() {
            self.notice(SqlState("00000"), "empty string is not a valid password, clearing password");
            return Ok(Some(None));
        }
        if let Some(verifier) = Verifier::parse(text) {
            return Ok(Some(Some(verifier)));
        }
        let is_md5 = text
            .strip_prefix("md5")
            .is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        if is_md5 {
            return Err(Error::unsupported("an MD5 password", "give the password itself, or a SCRAM-SHA-256 verifier"));
        }
        Ok(Some(Some(Verifier::derive(text)?)))
    }

    async fn instant_us(&mut self, text: &str) -> Result<i64> {
        let query =
            crate::sql::parser::parse_query(&format!("SELECT CAST('{}' AS timestamptz)", text.replace('\'', "''")))?;
        let bound = self.bind_query(&query, &[])?;
        let batches =
            self.collect(&self.read_point()?, bound.plan).await.map_err(|error| Error { position: None, ..error })?;
        let value = batches.iter().find(|batch| batch.num_rows() > 0).and_then(|batch| {
            batch.column(0).as_primitive_opt::<TimestampMicrosecondType>().map(|column| column.value(0))
        });
        value.ok_or_else(|| Error::internal("an instant that is none"))
    }

    /// 42501 with this message.
    pub(in crate::session) fn require_superuser(&self, refusal: &str) -> Result<()> {
        match self.context.is_superuser() {
            true => Ok(()),
            false => Err(Error::new(SqlState::INSUFFICIENT_PRIVILEGE, refusal)),
        }
    }
}

fn gone(name: &str) -> Error {
    Error::new(SqlState::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist"))
}

/// Options as they are kept.
struct Changes {
    is_superuser: Option<bool>,
    can_login: Option<bool>,
    connection_limit: Option<Option<u32>>,
    valid_until_us: Option<Option<i64>>,
    verifier: Option<Option<Verifier>>,
}

impl Changes {
    fn apply(self, role: &mut Role) {
        fn set<T>(to: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *to = value;
            }
        }
        set(&mut role.is_superuser, self.is_superuser);
        set(&mut role.can_login, self.can_login);
        set(&mut role.connection_limit, self.connection_limit);
        set(&mut role.valid_until_us, self.valid_until_us);
        set(&mut role.verifier, self.verifier);
    }
}
