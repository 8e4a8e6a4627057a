//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 5929, 7677), the server's side. Texts in, texts out.
//!
//! ```text
//! client-first   n,,n=,r=<nonce>                      ─▶ begin
//! server-first   r=<nonce><ours>,s=<salt>,i=<count>   ◀─
//! client-final   c=<binding>,r=<both>,p=<proof>       ─▶ finish: the proof fits StoredKey
//! server-final   v=<signature>                        ◀─ the client sees that we know ServerKey
//! ```
//!
//! PLUS binds the exchange to the certificate that the client saw, so that nobody in between can pass it on. A client
//! that could bind and believes that we cannot was lied to (`y`): its exchange ends.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::catalog::{KEY_BYTES, Verifier, hmac_sha256, random, sha256};
use crate::error::{Error, Result, SqlState};

const PLAIN: &str = "SCRAM-SHA-256";
const PLUS: &str = "SCRAM-SHA-256-PLUS";
const BINDING: &str = "tls-server-end-point";
const NONCE_BYTES: usize = 18;

pub(super) struct Scram<'a> {
    pub verifier: &'a Verifier,
    /// Nobody's verifier: the exchange goes to its end, and fails.
    pub is_mock: bool,
    /// The hash of our certificate, if the connection is encrypted and it has one.
    pub endpoint: Option<&'a [u8]>,
}

/// What has been said so far.
#[derive(Debug)]
pub(super) struct Begun {
    client_first_bare: String,
    pub server_first: String,
    nonce: String,
    /// What the client has to repeat in `c=`.
    binding: String,
}

fn malformed(detail: &str) -> Error {
    Error::new(SqlState::PROTOCOL_VIOLATION, "malformed SCRAM message").with_detail(detail)
}

/// The value of `name=value`.
fn attribute(part: Option<&str>, name: char) -> Result<&str> {
    part.and_then(|part| part.strip_prefix(name)?.strip_prefix('='))
        .ok_or_else(|| malformed(&format!("Expected attribute \"{name}\".")))
}

fn text(message: &[u8]) -> Result<&str> {
    match std::str::from_utf8(message) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(malformed("It is no text.")),
    }
}

impl Scram<'_> {
    /// The strongest first.
    pub fn mechanisms(&self) -> Vec<&'static str> {
        if self.endpoint.is_some() { vec![PLUS, PLAIN] } else { vec![PLAIN] }
    }

    /// 08P01 for a message that is none, 28000 for a downgrade, 0A000 for what we do not know.
    pub fn begin(&self, mechanism: &str, client_first: &[u8]) -> Result<Begun> {
        if !self.mechanisms().contains(&mechanism) {
            let message = "client selected an invalid SASL authentication mechanism";
            return Err(Error::new(SqlState::PROTOCOL_VIOLATION, message));
        }
        let client_first = text(client_first)?;
        let (flag, rest) = client_first.split_once(',').ok_or_else(|| malformed("It ends too early."))?;
        let (identity, bare) = rest.split_once(',').ok_or_else(|| malformed("It ends too early."))?;
        let bound = match (flag, mechanism) {
            ("n", PLAIN) => None,
            ("y", PLAIN) if self.endpoint.is_some() => {
                let message = "SCRAM channel binding negotiation error";
                return Err(Error::new(SqlState::INVALID_AUTHORIZATION, message).with_detail(
                    "The client supports SCRAM channel binding but thinks the server does not.  However, this server \
                     does support channel binding.",
                ));
            }
            ("y", PLAIN) => None,
            (flag, PLUS) if flag.starts_with("p=") => match flag.strip_prefix("p=") {
                Some(BINDING) => self.endpoint,
                _ => {
                    let message = "unsupported SCRAM channel-binding type";
                    return Err(Error::new(SqlState::PROTOCOL_VIOLATION, message));
                }
            },
            _ => return Err(malformed("The channel binding flag does not fit the mechanism.")),
        };
        if !identity.is_empty() {
            let message = "client uses authorization identity, but it is not supported";
            return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        }
        let mut parts = bare.split(',');
        let first = parts.next();
        if first.is_some_and(|part| part.starts_with("m=")) {
            let message = "client requires an unsupported SCRAM extension";
            return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        }
        // The name here is not used: the start-up packet's is.
        attribute(first, 'n')?;
        let client_nonce = attribute(parts.next(), 'r')?;
        if client_nonce.is_empty() || !client_nonce.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(malformed("The nonce is empty, or has characters that cannot be printed."));
        }
        let nonce = format!("{client_nonce}{}", BASE64.encode(random::<NONCE_BYTES>()?));
        let Verifier { salt, iteration_count, .. } = self.verifier;
        let server_first = format!("r={nonce},s={},i={iteration_count}", BASE64.encode(salt));
        let header = format!("{flag},{identity},");
        let binding = BASE64.encode([header.as_bytes(), bound.unwrap_or_default()].concat());
        Ok(Begun { client_first_bare: bare.to_string(), server_first, nonce, binding })
    }

    /// The server's last message; `None` if the proof does not fit. 08P01 for a message that is none, 28000 if it was
    /// bound to another certificate than ours.
    pub fn finish(&self, begun: &Begun, client_final: &[u8]) -> Result<Option<String>> {
        let client_final = text(client_final)?;
        let (said, proof) = client_final.rsplit_once(",p=").ok_or_else(|| malformed("There is no proof."))?;
        let mut parts = said.split(',');
        if attribute(parts.next(), 'c')? != begun.binding {
            return Err(Error::new(SqlState::INVALID_AUTHORIZATION, "SCRAM channel binding check failed"));
        }
        if attribute(parts.next(), 'r')? != begun.nonce {
            return Err(
                Error::new(SqlState::PROTOCOL_VIOLATION, "invalid SCRAM response").with_detail("Nonce does not match.")
            );
        }
        let proof: Option<[u8; KEY_BYTES]> = BASE64.decode(proof).ok().and_then(|proof| proof.try_into().ok());
        let mut client_key = proof.ok_or_else(|| malformed("The proof is not 32 bytes in base64."))?;
        let conversation: &[&[u8]] =
            &[begun.client_first_bare.as_bytes(), b",", begun.server_first.as_bytes(), b",", said.as_bytes()];
        let signature = hmac_sha256(&self.verifier.stored_key, conversation);
        client_key.iter_mut().zip(signature).for_each(|(byte, mask)| *byte ^= mask);
        let is_right = equal(&sha256(&client_key), &self.verifier.stored_key);
        let answer = BASE64.encode(hmac_sha256(&self.verifier.server_key, conversation));
        Ok((is_right & !self.is_mock).then(|| format!("v={answer}")))
    }
}

/// Takes as long wherever they differ.
fn equal(a: &[u8; KEY_BYTES], b: &[u8; KEY_BYTES]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
        result.expect_err("it is refused").code.0
    }

    #[test]
    fn what_is_no_client_first_is_refused() -> Result<()> {
        let verifier = Verifier::derive("pencil")?;
        let open = Scram { verifier: &verifier, is_mock: false, endpoint: None };
        let hash = [7u8; 32];
        let bound = Scram { verifier: &verifier, is_mock: false, endpoint: Some(&hash) };
        assert_eq!(open.mechanisms(), [PLAIN]);
        assert_eq!(bound.mechanisms(), [PLUS, PLAIN]);
        for (scram, mechanism, message, expected) in [
            (&open, "PLAIN", "n,,n=,r=x", "08P01"),
            (&open, PLUS, "p=tls-server-end-point,,n=,r=x", "08P01"),
            (&bound, PLUS, "p=tls-unique,,n=,r=x", "08P01"),
            (&bound, PLUS, "n,,n=,r=x", "08P01"),
            (&bound, PLUS, "y,,n=,r=x", "08P01"),
            (&bound, PLAIN, "p=tls-server-end-point,,n=,r=x", "08P01"),
            (&bound, PLAIN, "y,,n=,r=x", "28000"),
            (&open, PLAIN, "n,a=root,n=,r=x", "0A000"),
            (&open, PLAIN, "n,,m=1,n=,r=x", "0A000"),
            (&open, PLAIN, "", "08P01"),
            (&open, PLAIN, "n", "08P01"),
            (&open, PLAIN, "n,,", "08P01"),
            (&open, PLAIN, "n,,n=", "08P01"),
            (&open, PLAIN, "n,,n=,r=", "08P01"),
            (&open, PLAIN, "n,,n=,r=a b", "08P01"),
            (&open, PLAIN, "n,,r=x,n=", "08P01"),
            (&open, PLAIN, "n,,n=,r=x\0", "08P01"),
        ] {
            assert_eq!(code(scram.begin(mechanism, message.as_bytes())), expected, "{mechanism} {message}");
        }
        assert_eq!(code(open.begin(PLAIN, b"n,,n=\xff,r=x")), "08P01");
        let begun = open.begin(PLAIN, b"y,,n=,r=x")?;
        assert!(begun.server_first.starts_with("r=x"));
        assert_ne!(begun.nonce, open.begin(PLAIN, b"y,,n=,r=x")?.nonce);
        Ok(())
    }

    /// A client that knows the password, and may say something else than it should.
    fn final_message(password: &str, begun: &Begun, binding: &str, nonce: &str) -> String {
        let salt = begun.server_first.split(",s=").nth(1).and_then(|rest| rest.split(',').next());
        let salt = BASE64.decode(salt.expect("a salt")).expect("base64");
        let count = std::num::NonZeroU32::new(4096).expect("not zero");
        let mut salted = [0; KEY_BYTES];
        ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, count, &salt, password.as_bytes(), &mut salted);
        let client_key = hmac_sha256(&salted, &[b"Client Key"]);
        let said = format!("c={binding},r={nonce}");
        let whole = format!("{},{},{said}", begun.client_first_bare, begun.server_first);
        let mut proof = hmac_sha256(&sha256(&client_key), &[whole.as_bytes()]);
        proof.iter_mut().zip(client_key).for_each(|(byte, key)| *byte ^= key);
        format!("{said},p={}", BASE64.encode(proof))
    }

    #[test]
    fn only_the_right_proof_fits_and_only_where_it_was_made() -> Result<()> {
        let verifier = Verifier::derive("pencil")?;
        let hash = [7u8; 32];
        let scram = Scram { verifier: &verifier, is_mock: false, endpoint: Some(&hash) };
        let begun = scram.begin(PLUS, b"p=tls-server-end-point,,n=root,r=abc")?;
        let right = final_message("pencil", &begun, &begun.binding, &begun.nonce);
        let answer = scram.finish(&begun, right.as_bytes())?.expect("the password is right");
        assert!(answer.starts_with("v="));
        let wrong = final_message("pencils", &begun, &begun.binding, &begun.nonce);
        assert_eq!(scram.finish(&begun, wrong.as_bytes())?, None);
        let mock = Scram { verifier: &verifier, is_mock: true, endpoint: Some(&hash) };
        assert_eq!(mock.finish(&begun, right.as_bytes())?, None, "a mock takes nothing, not even what fits");
        // As somebody in between would: with another certificate's hash, without a binding, with an old nonce.
        let elsewhere = BASE64.encode([b"p=tls-server-end-point,,".as_slice(), &[8; 32]].concat());
        for binding in [elsewhere.as_str(), "biws", ""] {
            let message = final_message("pencil", &begun, binding, &begun.nonce);
            assert_eq!(code(mock.finish(&begun, message.as_bytes())), "28000", "{binding}");
        }
        let replayed = scram.begin(PLUS, b"p=tls-server-end-point,,n=root,r=abc")?;
        assert_eq!(code(scram.finish(&replayed, right.as_bytes())), "08P01");
        for nonsense in ["", "c=biws", "p=", ",p=", "r=x,c=y,p=AAAA"] {
            assert_eq!(code(scram.finish(&begun, nonsense.as_bytes())), "08P01", "{nonsense}");
        }
        let cut = right.rsplit_once(",p=").expect("a proof").0;
        for proof in ["", "AAAA", "!", "=="] {
            assert_eq!(code(scram.finish(&begun, format!("{cut},p={proof}").as_bytes())), "08P01", "{proof}");
        }
        Ok(())
    }
}
