//! Which proxy a request goes through: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` as Go's programs read them, so that
//! podman, skopeo and the agent go the same ways.
//!
//! Rules: golang.org/x/net/http/httpproxy. Beyond it: `ALL_PROXY` stands in for the other two, as for curl. Names are resolved by the
//! proxy, SOCKS ones included: a disconnected site often cannot resolve them.

use std::{fmt, net::IpAddr, sync::Arc};

use url::{Host, Url};

/// The proxies of an environment. Their passwords are never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies(Arc<Rules>);

#[derive(Default, PartialEq, Eq)]
struct Rules {
    http: Option<Url>,
    https: Option<Url>,
    exceptions: Vec<Exception>,
}

/// An entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exception {
    /// `*`
    All,
    /// `10.0.0.0/8`
    Network(IpAddr, u8),
    /// `10.0.0.1` or `10.0.0.1:5000`
    Address(IpAddr, Option<u16>),
    /// `lan`, `.lan`, `*.lan`, each with or without a port: the name below which hosts are, and whether it is meant itself.
    Domain {
        name: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |url: &Option<Url>| url.as_ref().map(public);
        f.debug_struct("Proxies")
            .field("http", &shown(&self.0.http))
            .field("https", &shown(&self.0.https))
            .field("exceptions", &self.0.exceptions)
            .finish()
    }
}

impl Proxies {
    /// Asks `variable` for the environment's proxies; of a variable's two spellings the upper case one counts first.
    ///
    /// A value that is no proxy's URL is passed over with a warning that does not quote it: it may hold a password.
    pub fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name: &str| {
            let values = [variable(name), variable(&name.to_lowercase())];
            values.into_iter().flatten().find(|v| !v.trim().is_empty())
        };
        let proxy = |name: &str| {
            let text = read(name)?;
            let url = proxy_url(text.trim());
            if url.is_none() {
                tracing::warn!(
                    "{name} is not the URL of a proxy (`http://`, `https://`, `socks5://` or `socks5h://`, host and port) and is passed over"
                );
            }
            url
        };
        let all = proxy("ALL_PROXY");
        // A web server's child gets the header `Proxy` of a request under this name.
        let is_cgi = variable("REQUEST_METHOD").is_some();
        let http = Some("HTTP_PROXY").filter(|_| !is_cgi).and_then(proxy);
        let exceptions = read("NO_PROXY").unwrap_or_default();
        Proxies(Arc::new(Rules {
            http: http.or_else(|| all.clone()),
            https: proxy("HTTPS_PROXY").or(all),
            exceptions: exceptions.split(',').filter_map(Exception::read).collect(),
        }))
    }

    /// The proxies of this process's environment.
    pub fn of_environment() -> Self {
        Proxies::new(|name| std::env::var(name).ok())
    }

    /// Returns the proxy that a request to `url` goes through; its URL may hold a password.
    fn proxy(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "https" => self.0.https.as_ref(),
            "http" => self.0.http.as_ref(),
            _ => None,
        }?;
        (!self.is_direct(url)).then_some(proxy)
    }

    /// Returns the proxy that a request to `url` goes through as it may be shown.
    pub(super) fn name(&self, url: &Url) -> Option<String> {
        self.proxy(url).map(public)
    }

    fn is_direct(&self, url: &Url) -> bool {
        let Some(host) = url.host() else {
            return true;
        };
        let (name, address) = match host {
            Host::Domain(name) => (name.to_ascii_lowercase(), name.parse().ok()),
            Host::Ipv4(address) => (address.to_string(), Some(IpAddr::from(address))),
            Host::Ipv6(address) => (address.to_string(), Some(IpAddr::from(address))),
        };
        if name == "localhost" || address.is_some_and(|a: IpAddr| a.is_loopback()) {
            return true;
        }
        let port = url.port_or_known_default();
        let exceptions = self.0.exceptions.iter();
        exceptions
            .into_iter()
            .any(|e| e.covers(&name, address, port))
    }

    /// Has `builder`'s clients go through these proxies, and through no others.
    pub(super) fn apply(&self, builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
        let proxies = self.clone();
        builder.no_proxy().proxy(reqwest::Proxy::custom(move |url| {
            proxies.proxy(url).cloned()
        }))
    }
}

/// Begins a client for what is no registry (update services, signature stores): it goes through the environment's proxies, decodes
/// nothing, and tells nobody where it came from.
pub fn web_client(proxies: &Proxies) -> reqwest::ClientBuilder {
    // The binary does this first of all; a library user or a test may not have. An `Err` says that it was done before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(concat!("imagesetd/", env!("CARGO_PKG_VERSION")))
        .tcp_nodelay(true)
        .referer(false)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate();
    proxies.apply(builder)
}

/// Reads a proxy's URL, which may lack the scheme.
fn proxy_url(text: &str) -> Option<Url> {
    let known = |url: &Url| matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h");
    let url = match Url::parse(text).ok().filter(known) {
        Some(url) => url,
        None if text.contains("://") => return None,
        None => Url::parse(&format!("http://{text}")).ok()?,
    };
    url.host_str().filter(|host| !host.is_empty())?;
    if !url.scheme().starts_with("socks5") {
        return Some(url);
    }
    // Go resolves names at the proxy under either name, and its port has a default.
    let rest = url.as_str().split_once("://")?.1;
    let mut url = Url::parse(&format!("socks5h://{rest}")).ok()?;
    if url.port().is_none() {
        url.set_port(Some(1080)).ok()?;
    }
    Some(url)
}

/// Returns host and port: all of a proxy's URL that may be shown.
fn public(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

impl Exception {
    fn read(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Exception::All);
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits: u8 = bits.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            return (bits <= most).then_some(Exception::Network(address, bits));
        }
        if let Ok(address) = text.trim_matches(['[', ']']).parse() {
            return Some(Exception::Address(address, None));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text.as_str(), None),
        };
        if let Ok(address) = host.trim_matches(['[', ']']).parse() {
            return Some(Exception::Address(address, port));
        }
        let below = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
        let name = below.unwrap_or(host);
        (!name.is_empty()).then(|| Exception::Domain {
            name: name.to_owned(),
            itself: below.is_none(),
            port,
        })
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: Option<u16>) -> bool {
        let fits = |wanted: &Option<u16>| wanted.is_none() || *wanted == port;
        match self {
            Exception::All => true,
            Exception::Network(network, bits) => {
                address.is_some_and(|a| within(a, *network, *bits))
            }
            Exception::Address(one, wanted) => address == Some(*one) && fits(wanted),
            Exception::Domain { name, itself, port } => {
                let below = host
                    .strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.ends_with('.'));
                (below || (*itself && host == name)) && fits(port)
            }
        }
    }
}

/// Whether an address is in a network; addresses of the other kind are not.
fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same = |a: &[u8], b: &[u8]| {
        let (whole, rest) = (usize::from(bits / 8), bits % 8);
        let mask = !(0xff_u8.checked_shr(rest.into()).unwrap_or(0));
        a[..whole] == b[..whole] && (rest == 0 || a[whole] & mask == b[whole] & mask)
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(&a.octets(), &b.octets()),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(&a.octets(), &b.octets()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::new(|name| {
            let found = variables.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn through(proxies: &Proxies, url: &str) -> Option<String> {
        let url = url.parse().unwrap();
        proxies.proxy(&url).map(Url::to_string)
    }

    #[test]
    fn variables_are_read_in_either_spelling() {
        let some = |text: &str| Some(text.to_owned());
        for (variables, https, http) in [
            (
                &[
                    ("HTTPS_PROXY", "http://p.lan:3128"),
                    ("https_proxy", "x.lan"),
                ][..],
                some("http://p.lan:3128/"),
                None,
            ),
            (
                &[
                    ("HTTPS_PROXY", ""),
                    ("https_proxy", "p.lan:3128"),
                    ("http_proxy", "http://q.lan"),
                ],
                some("http://p.lan:3128/"),
                some("http://q.lan/"),
            ),
            (
                &[
                    ("all_proxy", "socks5://u:p@s.lan"),
                    ("HTTP_PROXY", "http://q.lan"),
                ],
                some("socks5h://u:p@s.lan:1080"),
                some("http://q.lan/"),
            ),
            // What a web server passes on is not the machine's own wish.
            (
                &[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil.lan")],
                None,
                None,
            ),
            (
                &[("HTTPS_PROXY", "ftp://p.lan"), ("ALL_PROXY", "http://")],
                None,
                None,
            ),
        ] {
            let found = proxies(variables);
            assert_eq!(
                through(&found, "https://quay.io/v2/"),
                https,
                "{variables:?}"
            );
            assert_eq!(through(&found, "http://quay.io/v2/"), http, "{variables:?}");
        }
    }

    #[test]
    fn exceptions_are_those_of_go() {
        let table = [
            ("quay.io", "https://quay.io/", true),
            ("quay.io", "https://cdn.quay.io/", true),
            ("quay.io", "https://xquay.io/", false),
            ("Quay.IO", "https://quay.io/", true),
            (".lan", "https://reg.lan/", true),
            (".lan", "https://lan/", false),
            ("*.lan", "https://a.reg.lan:5000/", true),
            ("*.lan", "https://lan/", false),
            ("reg.lan:5000", "https://reg.lan:5000/", true),
            ("reg.lan:5000", "https://reg.lan/", false),
            ("reg.lan:443", "https://reg.lan/", true),
            ("*", "https://anything/", true),
            ("a,*,b", "http://10.1.2.3/", true),
            ("10.0.0.0/8", "https://10.255.0.1:5000/", true),
            ("10.0.0.0/8", "https://11.0.0.1/", false),
            ("10.0.0.0/8", "https://ten.lan/", false),
            ("192.168.1.128/25", "https://192.168.1.200/", true),
            ("192.168.1.128/25", "https://192.168.1.100/", false),
            ("0.0.0.0/0", "https://8.8.8.8/", true),
            ("fd00::/8", "https://[fd12::1]:5000/", true),
            ("fd00::/8", "https://[fe80::1]/", false),
            ("10.1.2.3", "https://10.1.2.3/", true),
            ("10.1.2.3:5000", "https://10.1.2.3/", false),
            ("10.1.2.3:5000", "https://10.1.2.3:5000/", true),
            ("[fd00::1]:5000", "https://[fd00::1]:5000/", true),
            ("fd00::1", "https://[fd00::1]/", true),
            (" reg.lan , quay.io ", "https://quay.io/", true),
            ("10.0.0.0/99,/8,:,.,*.,a:b", "https://quay.io/", false),
            // This machine is never asked for through a proxy.
            ("", "https://localhost:5000/", true),
            ("", "https://127.0.0.9/", true),
            ("", "https://[::1]:5000/", true),
            ("", "https://quay.io/", false),
        ];
        for (exceptions, url, direct) in table {
            let found = proxies(&[
                ("HTTPS_PROXY", "p.lan"),
                ("HTTP_PROXY", "p.lan"),
                ("NO_PROXY", exceptions),
            ]);
            assert_eq!(through(&found, url).is_none(), direct, "{exceptions} {url}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let found = proxies(&[("HTTPS_PROXY", "http://u:hunter2@p.lan:3128")]);
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
        let url = "https://quay.io/".parse().unwrap();
        assert_eq!(found.name(&url).as_deref(), Some("p.lan:3128"));
    }
}
