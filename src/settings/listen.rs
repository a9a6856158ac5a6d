//! `listen`: the addresses that clients connect to, and what an address that other machines reach has to have.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{Clients, Listen, TcpDoor, Tls, clients::credential};
use crate::{
    model::access::Right,
    yaml::reader::{At, Fields},
};

/// The longest path of a Unix socket, as Linux has it.
const MAX_SOCKET_PATH: usize = 107;

/// Why an address cannot be listened on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ListenError {
    /// Neither of the two kinds.
    #[error(
        "`{0}` is not an address to listen on: `unix:///path/to/socket` or `tcp://127.0.0.1:port` is expected"
    )]
    Kind(String),
    /// The path does not begin at the root.
    #[error("`{0}` has no absolute path: `unix://` and a path that begins with `/` are expected")]
    Relative(String),
    /// The kernel takes no path of this length.
    #[error(
        "`{0}` has a path of more than {MAX_SOCKET_PATH} bytes, which Linux does not take for a socket; choose a shorter one"
    )]
    Long(String),
}

/// An address as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl FromStr for Address {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let shown = || crate::yaml::shorten(text);
        if let Some(path) = text.strip_prefix("unix://") {
            return match path {
                path if !path.starts_with('/') || path.ends_with('/') => {
                    Err(ListenError::Relative(shown()))
                }
                path if path.len() > MAX_SOCKET_PATH => Err(ListenError::Long(shown())),
                path => Ok(Address::Unix(PathBuf::from(path))),
            };
        }
        let address = text.strip_prefix("tcp://").and_then(socket_address);
        address
            .map(Address::Tcp)
            .ok_or_else(|| ListenError::Kind(shown()))
    }
}

/// Reads `address:port`; `localhost` is 127.0.0.1, without a look into any file.
fn socket_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::new(
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            port.parse().ok()?,
        )),
        None => text.parse().ok(),
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Listen::Unix(path) => write!(f, "unix://{}", path.display()),
            Listen::Tcp(door) => write!(f, "tcp://{}", door.address),
        }
    }
}

/// Reads `listen`. Who could come in at an address is looked at here too: a door that would be open to others is an error.
pub(super) fn listen(top: &mut Fields<'_>, folder: &Path, clients: &Clients) -> Vec<Listen> {
    let Some(at) = top.get("listen") else {
        return vec![Listen::Unix("/run/imagesetd/imagesetd.sock".into())];
    };
    let mut found: Vec<Listen> = Vec::new();
    let entries = at.list();
    for entry in &entries {
        let Some(listen) = door(entry, folder, clients) else {
            continue;
        };
        if found
            .iter()
            .any(|other| other.to_string() == listen.to_string())
        {
            entry.error(
                format!("`{listen}` is there twice"),
                "remove one of the two",
            );
        } else {
            found.push(listen);
        }
    }
    if entries.is_empty() && at.is_empty() {
        at.error(
            "the daemon listens nowhere",
            "name an address, or remove the key",
        );
    }
    let asks_for_certificates = |listen: &Listen| matches!(listen, Listen::Tcp(TcpDoor { tls: Some(tls), .. }) if tls.client_ca_file.is_some());
    let all_are_read = found.len() == entries.len();
    if all_are_read && !clients.certificates.is_empty() && !found.iter().any(asks_for_certificates)
    {
        at.warn(
            "`clients.certificates` gives rights, and no address here asks for certificates",
            "name the CA that issues them with `client_ca_file` below `tls`",
        );
    }
    found
}

/// Reads an entry: an address, or a mapping with one.
fn door(entry: &At<'_>, folder: &Path, clients: &Clients) -> Option<Listen> {
    if !entry.is_mapping() {
        return match entry.parsed()? {
            Address::Unix(path) => Some(Listen::Unix(path)),
            Address::Tcp(address) => tcp(entry, address, None, None, clients),
        };
    }
    let mut fields = entry.fields()?;
    let address = fields.required("address", "write it as in `tcp://0.0.0.0:7443`");
    let address = address.and_then(|at| at.parsed());
    let tls_at = fields.get("tls");
    let tls = tls_at.as_ref().map(|at| tls(at, folder));
    let unnamed_at = fields.get("unnamed");
    let unnamed = unnamed_at.as_ref().map(unnamed);
    fields.finish();
    match address? {
        Address::Unix(path) => {
            if let Some(at) = tls_at {
                at.error("a Unix socket has no TLS", "remove `tls`");
            }
            if let Some(at) = unnamed_at {
                at.error(
                    "at a Unix socket the kernel says who comes",
                    "write `clients.peers` instead",
                );
            }
            Some(Listen::Unix(path))
        }
        Address::Tcp(address) => {
            if let Some(at) = unnamed_at
                && !address.ip().is_loopback()
                && unnamed.flatten().is_some()
            {
                at.error(
                    "other machines reach this address, where everybody has to say who they are",
                    "remove `unnamed`",
                );
            }
            // Where `tls` is there and not whole, that was told; whether it would do is another matter.
            let tls = match tls {
                Some(tls) => Some(tls?),
                None => None,
            };
            tcp(entry, address, tls, unnamed, clients)
        }
    }
}

/// Reads what somebody may do who does not say who they are; `none` is nothing.
fn unnamed(at: &At<'_>) -> Option<Right> {
    const WORDS: [(&str, Option<Right>); 5] = [
        ("none", None),
        ("read", Some(Right::Read)),
        ("plan", Some(Right::Plan)),
        ("apply", Some(Right::Apply)),
        ("admin", Some(Right::Admin)),
    ];
    at.choice("a right", &WORDS).flatten()
}

/// Reads `tls`; nothing where it is not whole.
fn tls(at: &At<'_>, folder: &Path) -> Option<Tls> {
    let mut fields = at.fields()?;
    let cert_file = credential(&mut fields, "cert_file", folder);
    let key_file = credential(&mut fields, "key_file", folder);
    for (key, is_there, what) in [
        ("cert_file", cert_file.is_some(), "certificate"),
        ("key_file", key_file.is_some(), "certificate's key"),
    ] {
        if !is_there && !fields.has(key) {
            fields.missing(key, &format!("name the PEM file with the daemon's {what}"));
        }
    }
    let client_ca_file = credential(&mut fields, "client_ca_file", folder);
    fields.finish();
    Some(Tls {
        cert_file: cert_file?,
        key_file: key_file?,
        client_ca_file,
    })
}

/// Makes a TCP door, if it is none that lets others in without a question.
fn tcp(
    entry: &At<'_>,
    address: SocketAddr,
    tls: Option<Tls>,
    unnamed: Option<Option<Right>>,
    clients: &Clients,
) -> Option<Listen> {
    let is_local = address.ip().is_loopback();
    if !is_local && tls.is_none() {
        entry.error(
            format!("`tcp://{address}` can be reached from other machines, and without TLS that is refused"),
            "write `address` and `tls` with `cert_file` and `key_file`, or listen on `127.0.0.1` or `[::1]`, or on a Unix socket",
        );
        return None;
    }
    let takes_certificates = tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    let knows_certificates = takes_certificates && !clients.certificates.is_empty();
    let knows_anybody = knows_certificates || clients.has_tokens();
    let is_said = unnamed.is_some();
    let unnamed = match unnamed {
        Some(unnamed) => unnamed.filter(|_| is_local),
        None if is_local && tls.is_none() && !clients.has_tokens() => Some(Right::Admin),
        None => None,
    };
    if !knows_anybody && unnamed.is_none() {
        let hint = match takes_certificates {
            true => {
                "say with `clients.certificates` whose certificates may do what, or make tokens: `clients.tokens_file`"
            }
            false => {
                "make tokens (`clients.tokens_file`, `imagesetd token new`), or ask for certificates (`client_ca_file` below `tls`, and `clients.certificates`)"
            }
        };
        entry.error(
            format!(
                "`tcp://{address}` has no way to tell who comes, so nobody could do anything there"
            ),
            hint,
        );
        return None;
    }
    if takes_certificates && !knows_certificates {
        entry.warn(
            "certificates are asked for, and give no rights to anybody",
            "say with `clients.certificates` whose certificates may do what",
        );
    }
    Some(Listen::Tcp(TcpDoor {
        address,
        tls,
        unnamed,
        unnamed_is_said: is_said,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_addresses_are_read() {
        let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
        for (text, address) in [
            (
                "unix:///run/imagesetd/imagesetd.sock",
                Address::Unix("/run/imagesetd/imagesetd.sock".into()),
            ),
            ("tcp://127.0.0.1:7443", tcp("127.0.0.1:7443")),
            ("tcp://0.0.0.0:1", tcp("0.0.0.0:1")),
            ("tcp://[::1]:7443", tcp("[::1]:7443")),
            ("tcp://localhost:7443", tcp("127.0.0.1:7443")),
        ] {
            assert_eq!(text.parse(), Ok(address));
        }
    }

    #[test]
    fn everything_else_is_refused_with_a_sentence() {
        let error = |text: &str| text.parse::<Address>().unwrap_err();
        for text in [
            "",
            "127.0.0.1:1",
            "tcp://127.0.0.1",
            "tcp://host:1",
            "http://127.0.0.1:1",
            "tcp://localhost:x",
        ] {
            assert_eq!(error(text), ListenError::Kind(text.to_owned()));
        }
        for text in ["unix://", "unix://run/x", "unix:///run/"] {
            assert_eq!(error(text), ListenError::Relative(text.to_owned()));
        }
        let long = format!("unix:///{}", "x".repeat(107));
        assert!(matches!(error(&long), ListenError::Long(_)));
    }

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    /// Reads settings; the doors, or what is told where it is an error, and the warnings.
    fn read(text: &str) -> Result<(Vec<Listen>, Vec<String>), Vec<String>> {
        let told = |problems: Vec<crate::yaml::Problem>| {
            let one = |p: crate::yaml::Problem| format!("{}: {}; {}", p.path, p.message, p.hint);
            problems.into_iter().map(one).collect()
        };
        let text = format!("target: a.b\n{}", text.replace("HASH", HASH));
        match crate::settings::parse("/etc/x.yaml", &text) {
            Ok((settings, problems)) => Ok((settings.listen, told(problems))),
            Err(problems) => Err(told(problems)),
        }
    }

    fn unnamed(text: &str) -> Option<Right> {
        match read(text) {
            Ok((listen, warnings)) => match listen.as_slice() {
                [Listen::Tcp(door)] if warnings.is_empty() => door.unnamed,
                other => panic!("{text}: {other:?} {warnings:?}"),
            },
            Err(problems) => panic!("{text}: {problems:?}"),
        }
    }

    #[test]
    fn beyond_this_machine_there_is_tls_and_a_way_to_tell_who_comes() {
        let clear = |address: &str| {
            format!(
                "listen[0]: `tcp://{address}` can be reached from other machines, and without TLS that is refused; write `address` and `tls` with `cert_file` and `key_file`, or listen on `127.0.0.1` or `[::1]`, or on a Unix socket"
            )
        };
        for address in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:127.0.0.1]:1"] {
            let tokens = "clients: {tokens_file: t}";
            for entry in [
                format!("'tcp://{address}'"),
                format!("{{address: 'tcp://{address}'}}"),
                format!("{{address: 'tcp://{address}', unnamed: none}}"),
            ] {
                let text = format!("listen: [{entry}]\n{tokens}");
                assert_eq!(read(&text), Err(vec![clear(address)]), "{text}");
            }
        }
        let nobody = |hint: &str| {
            Err(vec![format!(
                "listen[0]: `tcp://0.0.0.0:1` has no way to tell who comes, so nobody could do anything there; {hint}"
            )])
        };
        assert_eq!(
            read("listen: [{address: 'tcp://0.0.0.0:1', tls: {cert_file: c, key_file: k}}]"),
            nobody(
                "make tokens (`clients.tokens_file`, `imagesetd token new`), or ask for certificates (`client_ca_file` below `tls`, and `clients.certificates`)"
            )
        );
        assert_eq!(
            read(
                "listen: [{address: 'tcp://0.0.0.0:1', tls: {cert_file: c, key_file: k, client_ca_file: a}}]"
            ),
            nobody(
                "say with `clients.certificates` whose certificates may do what, or make tokens: `clients.tokens_file`"
            )
        );
        for (tls, clients) in [
            ("", "{tokens_file: t}"),
            ("", "{tokens: [{name: a, sha256: HASH, rights: read}]}"),
            (
                ", client_ca_file: a",
                "{certificates: [{subject: '*', rights: read}]}",
            ),
        ] {
            let text = format!(
                "listen: [{{address: 'tcp://0.0.0.0:1', tls: {{cert_file: c, key_file: k{tls}}}}}]\nclients: {clients}"
            );
            assert_eq!(super::tests::unnamed(&text), None, "{text}");
        }
        let open = "listen: [{address: 'tcp://0.0.0.0:1', unnamed: read, tls: {cert_file: c, key_file: k}}]\nclients: {tokens_file: t}";
        assert_eq!(
            read(open),
            Err(vec![
                "listen[0].unnamed: other machines reach this address, where everybody has to say who they are; remove `unnamed`"
                    .to_owned()
            ])
        );
    }

    #[test]
    fn on_this_machine_nobody_has_to_say_who_they_are_until_there_are_tokens() {
        let tokens = "\nclients: {tokens_file: t}";
        let plain = "listen: ['tcp://127.0.0.1:1']";
        assert_eq!(unnamed(plain), Some(Right::Admin));
        assert_eq!(unnamed(&format!("{plain}{tokens}")), None);
        let said = "listen: [{address: 'tcp://[::1]:1', unnamed: plan}]";
        assert_eq!(unnamed(said), Some(Right::Plan));
        assert_eq!(unnamed(&format!("{said}{tokens}")), Some(Right::Plan));
        let tls = "listen: [{address: 'tcp://127.0.0.1:1', tls: {cert_file: c, key_file: k}}]";
        assert!(read(tls).is_err());
        assert_eq!(unnamed(&format!("{tls}{tokens}")), None);
        assert!(read("listen: [{address: 'tcp://127.0.0.1:1', unnamed: none}]").is_err());
    }

    #[test]
    fn files_are_beside_the_settings_or_among_the_credentials() {
        let text = "listen: [{address: 'tcp://0.0.0.0:1', tls: {cert_file: c.pem, key_file: $CREDENTIALS_DIRECTORY/key, client_ca_file: /a.pem}}]\nclients: {tokens_file: t}";
        let Ok((listen, warnings)) = read(text) else {
            panic!("{text}")
        };
        assert_eq!(
            warnings,
            [
                "listen[0]: certificates are asked for, and give no rights to anybody; say with `clients.certificates` whose certificates may do what"
            ]
        );
        let [Listen::Tcp(TcpDoor { tls: Some(tls), .. })] = listen.as_slice() else {
            panic!("{listen:?}")
        };
        assert_eq!(
            *tls,
            Tls {
                cert_file: "/etc/c.pem".into(),
                key_file: "$CREDENTIALS_DIRECTORY/key".into(),
                client_ca_file: Some("/a.pem".into()),
            }
        );
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let text = "listen:
- {address: 'unix:///x', tls: {cert_file: c}, unnamed: admin}
- {tls: {cert_file: c, key_file: k, ca: a}}
- {address: 'tcp://127.0.0.1:1', unnamed: all}
clients:
  tokens:
  - {name: a b, sha256: canary, rights: write}
  - {name: a, sha256: HASH, rights: read}
  - {name: b, sha256: HASH, rights: read}
  certificates:
  - {rights: read}
  - {subject: a, rights: read}
  - {subject: a, rights: admin}
  peers:
  - {rights: read}
  - {user: a, group: b, rights: read}
  - {uid: 4294967296, rights: read}
";
        assert_eq!(
            read(text).unwrap_err(),
            [
                "listen[0].tls: a Unix socket has no TLS; remove `tls`",
                "listen[0].tls.key_file: `key_file` is missing; name the PEM file with the daemon's certificate's key",
                "listen[0].unnamed: at a Unix socket the kernel says who comes; write `clients.peers` instead",
                "listen[1].address: `address` is missing; write it as in `tcp://0.0.0.0:7443`",
                "listen[1].tls.ca: `ca` is not a key that is known here; known here are `cert_file`, `client_ca_file` and `key_file`",
                "listen[2].unnamed: `all` is not a right; known here are `admin`, `apply`, `none`, `plan` and `read`",
                "clients.tokens[0].name: `a b` is not the name of a token: 1 to 64 letters, digits, `.`, `_` and `-` are expected; ",
                "clients.tokens[0].sha256: this is not the SHA-256 of a token: 64 hexadecimal digits are expected, as `imagesetd token new` prints them; ",
                "clients.tokens[0].rights: `write` is not a right; known here are `admin`, `apply`, `plan` and `read`",
                "clients.tokens[2]: this token is there twice; remove one of the two",
                "clients.certificates[0].subject: `subject` is missing; write the certificate's common name, or a DNS name or URI of its alternative names; `*` is every certificate of the CA",
                "clients.certificates[2]: `a` is there twice; the first counts; remove one of the two",
                "clients.peers[0]: an entry is about a user or a group; write one of `user`, `group`, `uid` and `gid`",
                "clients.peers[1]: an entry is about a user or a group; write one of `user`, `group`, `uid` and `gid`",
                "clients.peers[2].uid: `uid` is more than Linux knows; ",
            ]
        );
    }
}
