//! Release signatures against GnuPG: what gpg signs counts, what is forged does not, and nothing counts that gpgv refuses.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod made;

mod forged;

mod keys;

mod real;

mod store;

use imagesetd::model::openpgp::Keyring;
use jiff::Timestamp;
use support::gpg::Gpg;

/// What release signatures say, in the form that they have.
const TEXT: &[u8] = br#"{"critical": {"image": {"docker-manifest-digest": "sha256:0"}, "type": "atomic container signature", "identity": {"docker-reference": "q.io/r/x:1"}}}"#;

/// Says what we make of a message, and what gpgv does.
fn judged(gpg: &Gpg, keyring: &[u8], message: &[u8]) -> (Result<Vec<u8>, String>, bool) {
    let file = gpg.file("keyring", keyring);
    let ours = match Keyring::parse(keyring) {
        Ok(keys) => {
            let verified = keys.verify(message, Timestamp::now());
            verified.map(|v| v.text).map_err(|e| e.to_string())
        }
        Err(error) => Err(format!("the keyring {error}")),
    };
    (ours, gpg.witness(&file, message))
}
