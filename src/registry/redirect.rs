//! Where a redirect leads, and whether it is followed.
//!
//! They are followed here rather than by the HTTP library, so that each host on the way is reached as it is to be, and neither a
//! password nor a certificate goes to another host than its own.
//!
//! **Invariant:** touches no socket, no clock, no environment.

use http::{HeaderMap, Method, StatusCode};
use url::Url;

use crate::registry::protocol;

/// How many redirects follow one another.
pub(super) const MAX_REDIRECTS: usize = 10;

/// What to do with an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is the answer.
    Stay,
    /// The request goes there as well.
    Follow(Url),
    /// It leads nowhere that the request may go.
    Refuse,
}

/// Reads the answer to a request to `asked`.
///
/// `verified` says that what comes is known by its digest: only then may the way lead out of TLS.
pub(super) fn next(
    method: &Method,
    asked: &Url,
    status: StatusCode,
    headers: &HeaderMap,
    verified: bool,
) -> Next {
    let reads = *method == Method::GET || *method == Method::HEAD;
    match status.as_u16() {
        307 | 308 => {}
        301..=303 if reads => {}
        _ => return Next::Stay,
    }
    let Some(url) = protocol::location(asked, headers) else {
        return Next::Refuse;
    };
    if asked.scheme() == "https" && url.scheme() == "http" && !verified {
        return Next::Refuse;
    }
    Next::Follow(url)
}

#[cfg(test)]
mod tests {
    use http::header::LOCATION;

    use super::*;

    #[test]
    fn redirects_are_followed_where_the_request_means_the_same_there() {
        let at = |method: &Method, status: u16, to: &str, verified| {
            let asked = "https://reg.lan/v2/a/blobs/x".parse().unwrap();
            let headers = HeaderMap::from_iter([(LOCATION, to.parse().unwrap())]);
            let status = StatusCode::from_u16(status).unwrap();
            match next(method, &asked, status, &headers, verified) {
                Next::Follow(url) => url.to_string(),
                other => format!("{other:?}"),
            }
        };
        let table = [
            (
                Method::GET,
                307,
                "https://cdn.lan/x?s=1",
                true,
                "https://cdn.lan/x?s=1",
            ),
            (Method::GET, 302, "/y", false, "https://reg.lan/y"),
            (Method::HEAD, 303, "/y", false, "https://reg.lan/y"),
            (Method::POST, 302, "/y", false, "Stay"),
            (Method::PUT, 308, "/y", false, "https://reg.lan/y"),
            (Method::GET, 304, "/y", false, "Stay"),
            (Method::GET, 200, "/y", false, "Stay"),
            (
                Method::GET,
                307,
                "http://cdn.lan/x",
                true,
                "http://cdn.lan/x",
            ),
            (Method::GET, 307, "http://cdn.lan/x", false, "Refuse"),
            // A registry that does not know of the TLS before it.
            (
                Method::GET,
                307,
                "http://reg.lan/y",
                false,
                "https://reg.lan/y",
            ),
            (Method::GET, 307, "file:///etc/passwd", true, "Refuse"),
        ];
        for (method, status, to, verified, expected) in table {
            assert_eq!(
                at(&method, status, to, verified),
                expected,
                "{method} {status} {to}"
            );
        }
    }
}
