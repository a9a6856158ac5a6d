//! Addresses that the daemon listens on.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use super::Listen;

/// The longest path of a Unix socket, as Linux has it.
const MAX_SOCKET_PATH: usize = 107;

/// Why an address cannot be listened on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
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
    /// The address is seen from outside.
    #[error(
        "`{0}` can be reached from other machines, and TLS and authentication are not there yet; listen on `127.0.0.1` or `[::1]`, or on a Unix socket"
    )]
    Open(String),
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let shown = || crate::yaml::shorten(text);
        if let Some(path) = text.strip_prefix("unix://") {
            return match path {
                path if !path.starts_with('/') || path.ends_with('/') => {
                    Err(ListenError::Relative(shown()))
                }
                path if path.len() > MAX_SOCKET_PATH => Err(ListenError::Long(shown())),
                path => Ok(Listen::Unix(PathBuf::from(path))),
            };
        }
        let address = text.strip_prefix("tcp://").and_then(socket_address);
        match address {
            None => Err(ListenError::Kind(shown())),
            Some(address) if !address.ip().is_loopback() => Err(ListenError::Open(shown())),
            Some(address) => Ok(Listen::Tcp(address)),
        }
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
            Listen::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_sockets_are_listened_on() {
        for (text, shown) in [
            (
                "unix:///run/imagesetd/imagesetd.sock",
                "unix:///run/imagesetd/imagesetd.sock",
            ),
            ("tcp://127.0.0.1:7443", "tcp://127.0.0.1:7443"),
            ("tcp://127.1.2.3:1", "tcp://127.1.2.3:1"),
            ("tcp://[::1]:7443", "tcp://[::1]:7443"),
            ("tcp://localhost:7443", "tcp://127.0.0.1:7443"),
        ] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn everything_else_is_refused_with_a_sentence() {
        let error = |text: &str| text.parse::<Listen>().unwrap_err();
        for text in [
            "tcp://0.0.0.0:1",
            "tcp://[::]:1",
            "tcp://10.0.0.1:1",
            "tcp://[::ffff:10.0.0.1]:1",
        ] {
            assert_eq!(error(text), ListenError::Open(text.to_owned()));
        }
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
}
