//! Over which connections bodies go.
//!
//! HTTP/1.1 gives a body a connection of its own, and is the rule: bodies over one HTTP/2 connection share its window, and its fate.
//! Where a server ends every such connection after one answer (Quay's nginx does), each body costs a handshake more; where it also
//! speaks HTTP/2, that is the better bargain. Both are seen in passing, nothing is asked for it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use http::{HeaderMap, Version, header};

/// After so many connections that were ended, without one that was kept, a server is taken to end all of them.
const ENOUGH: u32 = 4;

/// What a registry does with its connections.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    http2: AtomicBool,
    ended: AtomicU32,
    kept: AtomicBool,
}

impl Bulk {
    /// Takes in an answer.
    pub(super) fn note(&self, version: Version, headers: &HeaderMap) {
        if version == Version::HTTP_2 {
            self.http2.store(true, Relaxed);
        } else if ends(headers) {
            self.ended.fetch_add(1, Relaxed);
        } else {
            self.kept.store(true, Relaxed);
        }
    }

    /// Whether bodies go over the connection that everything else uses.
    pub(super) fn shares(&self) -> bool {
        let ends = !self.kept.load(Relaxed) && self.ended.load(Relaxed) >= ENOUGH;
        ends && self.http2.load(Relaxed)
    }
}

/// Whether a server ends the connection after this answer.
fn ends(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter();
    let mut options = values
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    options.any(|option| option.trim().eq_ignore_ascii_case("close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(http2: bool, connections: &[&'static str]) -> bool {
        let bulk = Bulk::default();
        if http2 {
            bulk.note(Version::HTTP_2, &HeaderMap::new());
        }
        for connection in connections {
            let value = http::HeaderValue::from_static(connection);
            let headers = HeaderMap::from_iter([(header::CONNECTION, value)]);
            bulk.note(Version::HTTP_11, &headers);
        }
        bulk.shares()
    }

    #[test]
    fn bodies_have_connections_of_their_own_unless_each_is_ended_and_http2_is_spoken() {
        let ended = ["close", "Close", "upgrade, close", "close"];
        assert!(noted(true, &ended));
        assert!(!noted(true, &ended[1..]), "a few may be chance");
        assert!(!noted(false, &ended), "there is nothing better");
        assert!(!noted(
            true,
            &["close", "close", "keep-alive", "close", "close", "close"]
        ));
    }
}
