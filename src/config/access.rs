//! Who may connect from where, and how: rules in the manner of Postgres' `pg_hba.conf`, and the settings of TLS.
//!
//! The first rule that matches an address, a role, a database and the connection's encryption decides; without one the
//! connection is refused. `trust` asks for nothing, so it is for clients of the same machine: where it would let others
//! in, the server does not start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::error::{Error, Result, SqlState};

/// How a client proves who it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// It is believed.
    Trust,
    /// By a password, which it does not send (SCRAM-SHA-256).
    Scram,
    Reject,
}

/// `[[auth]]` of the file: what is left out matches everything.
#[derive(serde::Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct RuleText {
    /// `all`, `loopback`, an address, or a network such as `10.0.0.0/8`.
    pub address: Option<String>,
    pub role: Option<Names>,
    pub database: Option<Names>,
    /// True: encrypted connections only; false: only those that are not.
    pub tls: Option<bool>,
    pub method: Method,
}

#[derive(serde::Deserialize, Clone, Debug)]
#[serde(untagged)]
pub enum Names {
    One(String),
    Some(Vec<String>),
}

#[derive(Clone, Debug)]
struct Rule {
    network: Network,
    role: Option<Names>,
    database: Option<Names>,
    tls: Option<bool>,
    method: Method,
}

/// The addresses that begin with the first `bit_count` bits of one of these.
#[derive(Clone, Debug)]
struct Network(Vec<(IpAddr, u8)>);

/// The rules in force.
#[derive(Clone, Debug)]
pub struct Access(Vec<Rule>);

impl Access {
    /// `flag`: a method for everybody, instead of the rules. Without either, clients of the same machine are trusted, and
    /// there are no others. F0000 if somebody else would be.
    pub fn resolve(flag: Option<Method>, rules: Vec<RuleText>, listen: SocketAddr) -> Result<Access> {
        let is_open = !listen.ip().is_loopback();
        let rules = match flag {
            Some(method) => vec![Rule::of_all(Network::all(), method)],
            None if !rules.is_empty() => rules.into_iter().map(Rule::read).collect::<Result<Vec<_>>>()?,
            None => vec![Rule::of_all(Network::loopback(), Method::Trust)],
        };
        let refused = || Error::new(SqlState::CONFIG_FILE_ERROR, format!("refusing to listen on {listen}"));
        let lets_in = |rule: &Rule| rule.method != Method::Reject && !rule.network.is_loopback();
        if is_open && !rules.iter().any(lets_in) {
            return Err(refused().with_hint(
                "clients of other machines have to prove who they are: give --auth scram and a \
                 --superuser-password-file, or rules [[auth]] in the configuration file",
            ));
        }
        if is_open && rules.iter().any(|rule| lets_in(rule) && rule.method == Method::Trust) {
            return Err(refused().with_hint(
                "trust would let in whoever reaches the port: take scram, or give it to address = \"loopback\" alone",
            ));
        }
        Ok(Access(rules))
    }

    /// How this client has to prove who it is; `None` if no rule is for it. `address`: none for a client inside of the
    /// process.
    pub fn method(&self, address: Option<IpAddr>, role: &str, database: &str, is_encrypted: bool) -> Option<Method> {
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_canonical();
        let matching = self.0.iter().find(|rule| {
            rule.network.contains(address)
                && rule.role.as_ref().is_none_or(|names| names.contains(role))
                && rule.database.as_ref().is_none_or(|names| names.contains(database))
                && rule.tls.is_none_or(|tls| tls == is_encrypted)
        });
        matching.map(|rule| rule.method)
    }

    /// True if some need a password.
    pub fn needs_passwords(&self) -> bool {
        self.0.iter().any(|rule| rule.method == Method::Scram)
    }
}

impl Rule {
    fn of_all(network: Network, method: Method) -> Rule {
        Rule { network, role: None, database: None, tls: None, method }
    }

    fn read(text: RuleText) -> Result<Rule> {
        let network = Network::read(text.address.as_deref().unwrap_or("all"))?;
        let but_all = |names: Option<Names>| names.filter(|names| !names.contains("all"));
        let (role, database) = (but_all(text.role), but_all(text.database));
        Ok(Rule { network, role, database, tls: text.tls, method: text.method })
    }
}

impl Names {
    fn contains(&self, name: &str) -> bool {
        match self {
            Names::One(one) => one == name,
            Names::Some(names) => names.iter().any(|one| one == name),
        }
    }
}

impl Network {
    fn all() -> Network {
        Network(vec![(Ipv4Addr::UNSPECIFIED.into(), 0), (Ipv6Addr::UNSPECIFIED.into(), 0)])
    }

    fn loopback() -> Network {
        Network(vec![(Ipv4Addr::LOCALHOST.into(), 8), (Ipv6Addr::LOCALHOST.into(), 128)])
    }

    fn read(text: &str) -> Result<Network> {
        match text {
            "all" => return Ok(Network::all()),
            "loopback" => return Ok(Network::loopback()),
            _ => {}
        }
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let read = || {
            let address: IpAddr = address.parse().ok()?;
            let bits_max = if address.is_ipv4() { 32 } else { 128 };
            let bit_count = bits.map_or(Some(bits_max), |bits| bits.parse().ok())?;
            (bit_count <= bits_max).then_some(Network(vec![(address, bit_count)]))
        };
        read().ok_or_else(|| {
            Error::new(SqlState::CONFIG_FILE_ERROR, format!("invalid address of an [[auth]] rule: \"{text}\""))
                .with_hint("write all, loopback, an address, or a network such as 10.0.0.0/8")
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|&(network, bit_count)| match (network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bit_count)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bit_count)).unwrap_or(0);
                network.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        })
    }

    /// True if all of its addresses are this machine's.
    fn is_loopback(&self) -> bool {
        self.0
            .iter()
            .all(|&(network, bit_count)| network.is_loopback() && bit_count >= if network.is_ipv4() { 8 } else { 128 })
    }
}

/// Where the server's certificate is, and whether clients may do without encryption.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub is_required: bool,
}

impl TlsFiles {
    /// F0000 if only one of the two files is named, or encryption is required and neither is.
    pub fn resolve(certificate: Option<PathBuf>, key: Option<PathBuf>, is_required: bool) -> Result<Option<TlsFiles>> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key, is_required })),
            (None, None) if !is_required => Ok(None),
            _ => Err(Error::new(SqlState::CONFIG_FILE_ERROR, "TLS needs a certificate and its key")
                .with_hint("give both --tls-cert and --tls-key, PEM files")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(text: &str, listen: &str) -> Result<Access> {
        #[derive(serde::Deserialize)]
        struct File {
            auth: Vec<RuleText>,
        }
        let file: File = toml::from_str(text).expect("rules");
        Access::resolve(None, file.auth, listen.parse().expect("an address"))
    }

    #[test]
    fn the_first_rule_that_matches_decides() -> Result<()> {
        let access = access(
            r#"
            [[auth]]
            address = "loopback"
            role = "root"
            method = "trust"
            [[auth]]
            address = "10.1.0.0/16"
            role = ["ann", "bea"]
            tls = true
            method = "scram"
            [[auth]]
            address = "10.1.0.0/16"
            method = "reject"
            [[auth]]
            address = "fd00::/8"
            database = "dev"
            method = "scram"
            "#,
            "0.0.0.0:4566",
        )?;
        for (address, role, database, tls, expected) in [
            ("127.0.0.1", "root", "dev", false, Some(Method::Trust)),
            ("::ffff:127.9.9.9", "root", "dev", false, Some(Method::Trust)),
            ("::1", "root", "dev", true, Some(Method::Trust)),
            ("127.0.0.1", "ann", "dev", true, None),
            ("10.1.255.1", "ann", "dev", true, Some(Method::Scram)),
            ("10.1.255.1", "ann", "dev", false, Some(Method::Reject)),
            ("10.1.255.1", "root", "dev", true, Some(Method::Reject)),
            ("10.2.0.1", "ann", "dev", true, None),
            ("fd12::1", "ann", "dev", false, Some(Method::Scram)),
            ("fd12::1", "ann", "other", false, None),
            ("fe80::1", "ann", "dev", false, None),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(access.method(Some(address), role, database, tls), expected, "{address} {role} {database}");
        }
        Ok(())
    }

    #[test]
    fn nobody_from_outside_is_let_in_unasked() -> Result<()> {
        let (inside, outside) = ("127.0.0.1:0".parse().expect("one"), "0.0.0.0:0".parse().expect("another"));
        for flag in [None, Some(Method::Trust), Some(Method::Reject)] {
            let error = Access::resolve(flag, vec![], outside).expect_err("nobody is asked anything");
            assert_eq!(error.message, "refusing to listen on 0.0.0.0:0");
            assert!(error.hint.is_some());
            Access::resolve(flag, vec![], inside)?;
        }
        Access::resolve(Some(Method::Scram), vec![], outside)?;
        for trusting in ["", "address = \"10.0.0.0/8\"", "address = \"127.0.0.0/7\"", "role = \"root\""] {
            let text = format!("[[auth]]\nmethod = \"scram\"\n[[auth]]\n{trusting}\nmethod = \"trust\"");
            assert!(access(&text, "0.0.0.0:0").is_err(), "{trusting}");
            access(&text, "[::1]:0")?;
        }
        access("[[auth]]\naddress = \"::1\"\nmethod = \"trust\"\n[[auth]]\nmethod = \"scram\"", "0.0.0.0:0")?;
        let default = Access::resolve(None, vec![], inside)?;
        assert_eq!(default.method(Some("10.0.0.1".parse().expect("one")), "root", "dev", true), None);
        assert_eq!(default.method(None, "root", "dev", false), Some(Method::Trust));
        for nonsense in ["10.0.0.0/33", "10.0.0/8", "localhost", "::1/129", "1.2.3.4/"] {
            assert!(access(&format!("[[auth]]\naddress = \"{nonsense}\"\nmethod = \"scram\""), "127.0.0.1:0").is_err());
        }
        Ok(())
    }
}
