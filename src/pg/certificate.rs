//! The hash of a certificate that SCRAM binds to: `tls-server-end-point` of RFC 5929. By the hash of the certificate's
//! own signature, or SHA-256 where that is MD5 or SHA-1; a signature without one hash (Ed25519, RSA-PSS) has none.

use ring::digest::{self, Algorithm, SHA256, SHA384, SHA512};

/// Object identifiers of signatures, in DER, with their hashes.
const SIGNATURES: &[(&[u8], &Algorithm)] = &[
    // RSA with MD5, SHA-1, SHA-256, SHA-384, SHA-512: 1.2.840.113549.1.1.{4, 5, 11, 12, 13}.
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 4], &SHA256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 5], &SHA256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 11], &SHA256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 12], &SHA384),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 13], &SHA512),
    // ECDSA with SHA-1: 1.2.840.10045.4.1; with SHA-256, SHA-384, SHA-512: 1.2.840.10045.4.3.{2, 3, 4}.
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1], &SHA256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], &SHA256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], &SHA384),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4], &SHA512),
];

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// `None` if none is defined, or the bytes are no certificate.
pub(super) fn endpoint_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { algorithm OID, … }, … }
    let (whole, _) = element(SEQUENCE, certificate)?;
    let (_, rest) = element(SEQUENCE, whole)?;
    let (signature, _) = element(SEQUENCE, rest)?;
    let (oid, _) = element(OBJECT_IDENTIFIER, signature)?;
    let (_, algorithm) = SIGNATURES.iter().find(|(known, _)| *known == oid)?;
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The content of the DER element in front, which has to be of this kind, and what follows it.
fn element(kind: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [tag, length, rest @ ..] = bytes else { return None };
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    (*tag == kind).then_some(())?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_signature() -> Result<(), rcgen::Error> {
        let own = |algorithm| -> Result<Vec<u8>, rcgen::Error> {
            let key = rcgen::KeyPair::generate_for(algorithm)?;
            let certificate = rcgen::CertificateParams::new(vec!["localhost".to_string()])?.self_signed(&key)?;
            Ok(certificate.der().to_vec())
        };
        let certificate = own(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let expected = digest::digest(&SHA256, &certificate).as_ref().to_vec();
        assert_eq!(endpoint_hash(&certificate), Some(expected));
        assert_eq!(endpoint_hash(&own(&rcgen::PKCS_ECDSA_P384_SHA384)?).map(|hash| hash.len()), Some(48));
        assert_eq!(endpoint_hash(&own(&rcgen::PKCS_ED25519)?), None);
        for end in 0..certificate.len() {
            assert_eq!(endpoint_hash(&certificate[..end]), None, "cut after {end} bytes");
        }
        Ok(())
    }
}
