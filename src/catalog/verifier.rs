//! What is kept of a password: a SCRAM-SHA-256 verifier (RFC 5802, RFC 7677), in Postgres' spelling
//! `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
//!
//! ```text
//! SaltedPassword = PBKDF2(SHA-256, SASLprep(password), salt, iterations)
//! StoredKey = SHA-256(HMAC(SaltedPassword, "Client Key"))      ServerKey = HMAC(SaltedPassword, "Server Key")
//! ```
//! Neither key lets anybody log in who reads it, but with ServerKey one can pose as the server: a verifier is a secret.

use std::fmt;
use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub const KEY_BYTES: usize = 32;
const PREFIX: &str = "SCRAM-SHA-256$";
/// As Postgres makes them.
const ITERATION_COUNT: NonZeroU32 = NonZeroU32::new(4096).expect("it is not zero");
const SALT_BYTES: usize = 16;

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Verifier {
    pub iteration_count: NonZeroU32,
    pub salt: Vec<u8>,
    pub stored_key: [u8; KEY_BYTES],
    pub server_key: [u8; KEY_BYTES],
}

impl Verifier {
    /// With a fresh salt. XX000 if the system gives no random bytes.
    pub fn derive(password: &str) -> Result<Verifier> {
        Ok(Verifier::with_salt(password, random::<SALT_BYTES>()?.to_vec(), ITERATION_COUNT))
    }

    fn with_salt(password: &str, salt: Vec<u8>, iteration_count: NonZeroU32) -> Verifier {
        // What SASLprep forbids is taken as it is, by libpq too.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let mut salted = [0; KEY_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iteration_count, &salt, prepared.as_bytes(), &mut salted);
        let stored_key = sha256(&hmac_sha256(&salted, &[b"Client Key"]));
        Verifier { iteration_count, salt, stored_key, server_key: hmac_sha256(&salted, &[b"Server Key"]) }
    }

    /// `None` if the text is no verifier; then it is a password.
    pub fn parse(text: &str) -> Option<Verifier> {
        let (head, keys) = text.strip_prefix(PREFIX)?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text: &str| BASE64.decode(text).ok()?.try_into().ok();
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        Some(Verifier {
            iteration_count: iterations.parse().ok()?,
            salt,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// For a role that does not exist or has no password: its salt is always the same, as that of a real one would be,
    /// and no password fits. `secret` is the server's.
    pub fn mock(secret: &[u8], role: &str) -> Verifier {
        let salt = hmac_sha256(secret, &[b"salt", role.as_bytes()])[..SALT_BYTES].to_vec();
        let stored_key = hmac_sha256(secret, &[b"key", role.as_bytes()]);
        Verifier { iteration_count: ITERATION_COUNT, salt, stored_key, server_key: stored_key }
    }

    /// True for the password that it was made from.
    pub fn accepts(&self, password: &str) -> bool {
        // Both are of the server's administrator: nothing is learned from how long it takes.
        Verifier::with_salt(password, self.salt.clone(), self.iteration_count) == *self
    }
}

/// As Postgres keeps it.
impl From<Verifier> for String {
    fn from(verifier: Verifier) -> String {
        let Verifier { iteration_count, salt, stored_key, server_key } = verifier;
        let [salt, stored, server] = [&salt[..], &stored_key, &server_key].map(|bytes| BASE64.encode(bytes));
        format!("{PREFIX}{iteration_count}:{salt}${stored}:{server}")
    }
}

impl TryFrom<String> for Verifier {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Verifier, &'static str> {
        Verifier::parse(&text).ok_or("no SCRAM-SHA-256 verifier")
    }
}

/// Nothing of it: it would end in a log.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

/// XX000 if the system gives none.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::internal("the system gives no random bytes"))?;
    Ok(bytes)
}

pub fn sha256(bytes: &[u8]) -> [u8; KEY_BYTES] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; KEY_BYTES] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_spelled_as_in_postgres_and_takes_one_password() -> Result<()> {
        let made = Verifier::derive("pencil")?;
        assert!(made.accepts("pencil") && !made.accepts("pencil ") && !made.accepts(""));
        let text = String::from(made.clone());
        assert_eq!(Verifier::parse(&text), Some(made.clone()));
        assert_ne!(Verifier::derive("pencil")?, made, "the salt is new each time");
        assert_eq!(format!("{made:?}"), "Verifier");
        for nonsense in ["", "md5abc", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:AAAA$AAAA:AAAA", "SCRAM-SHA-256$1:!$a:b"] {
            assert_eq!(Verifier::parse(nonsense), None, "{nonsense}");
        }
        Ok(())
    }

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn keys_are_those_of_the_standard() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let verifier = Verifier::with_salt("pencil", salt, ITERATION_COUNT);
        let message: &[u8] = b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = BASE64.encode(hmac_sha256(&verifier.server_key, &[message]));
        assert_eq!(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_mock_is_always_the_same_and_never_fits() {
        let mock = Verifier::mock(b"secret", "nobody");
        assert_eq!(mock, Verifier::mock(b"secret", "nobody"));
        assert_ne!(mock.salt, Verifier::mock(b"secret", "somebody").salt);
        assert_ne!(mock.salt, Verifier::mock(b"other", "nobody").salt);
        assert!(!mock.accepts("") && mock.salt.len() == SALT_BYTES);
    }
}
