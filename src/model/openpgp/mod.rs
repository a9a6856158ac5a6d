//! Verifies OpenPGP signed messages: who signed a text, or why nobody did who counts.
//!
//! A verifier and nothing else: RFC 4880's packets of versions 3 and 4, RSA with SHA-256, SHA-384 or SHA-512, keys with their
//! expiry, revocation and subkeys. It is stricter than GnuPG: what it accepts, gpgv accepts too, and not the other way round (see
//! `docs/signatures.md`).
//!
//! ```text
//! bytes --packet--> packets --message--> text and signature --keyring--> who signed, or a Refusal
//!                           keys and signatures of theirs ------^
//! ```
//!
//! **Invariant:** pure, also of the clock: the time is given. Nothing that bytes say panics or takes more than bounded memory.

mod armor;

mod keyring;

mod message;

mod packet;

mod public_key;

mod signature;

use std::fmt;

use jiff::Timestamp;

pub use keyring::{Keyring, KeyringError};

/// The largest message that is read. Release signatures have about a thousand bytes.
pub const MAX_MESSAGE: usize = 64 << 10;

/// The largest keyring that is read.
pub const MAX_KEYRING: usize = 4 << 20;

/// The largest text that a message may hold.
pub const MAX_TEXT: usize = 64 << 10;

/// A text that somebody signed whom the keyring knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What was signed, all of it.
    pub text: Vec<u8>,
    /// The fingerprint of the key that signed, in capital hexadecimal digits; of the primary key where a subkey did.
    pub signer: String,
    /// When it was signed, by what the signature says.
    pub signed: Timestamp,
}

/// Why a message counts for nothing: a clause that follows its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are no bytes.
    #[error("is empty")]
    Empty,
    /// There are too many bytes.
    #[error("has more than {MAX_MESSAGE} bytes, which no release signature has")]
    TooLarge,
    /// It is something else.
    #[error(
        "is no OpenPGP message; a proxy or a login page may have answered in the store's place"
    )]
    NotOpenPgp,
    /// It is text in armour.
    #[error(
        "is armoured text, which clusters do not read: the store has to hold the binary message (`gpg --dearmor`)"
    )]
    Armoured,
    /// It ends too early.
    #[error("is cut short")]
    Truncated,
    /// Bytes follow its end.
    #[error("has bytes after its end that nobody signed")]
    Trailing,
    /// A packet is not as RFC 4880 has it.
    #[error("is malformed: {0}")]
    Malformed(&'static str),
    /// Compressed data in compressed data.
    #[error("is compressed more than once, which no release signature is")]
    NestedTooDeep,
    /// The compressed data is damaged.
    #[error("holds compressed data that is damaged")]
    Compression,
    /// The compression is not known here.
    #[error("is compressed in a way that is not read here ({0}); ZIP and ZLIB are")]
    UnknownCompression(String),
    /// It holds more than a signature says.
    #[error("unpacks to more than {MAX_TEXT} bytes, which no release signature does")]
    Bomb,
    /// It is encrypted.
    #[error("is encrypted")]
    Encrypted,
    /// It is a text without a signature.
    #[error("is not signed: it holds a text alone")]
    Unsigned,
    /// It is a signature without a text.
    #[error("holds a signature without the text that was signed")]
    Detached,
    /// There are several signatures in one message.
    #[error("holds more than one signature; each signature has to be a message of its own")]
    Several,
    /// Something stands in it that does not belong there.
    #[error("holds a packet that has no place in a signed message (tag {0})")]
    Unexpected(u8),
    /// The text is marked as one whose line ends may change.
    #[error("holds a text that is not marked as binary")]
    NotBinary,
    /// What announces the signature says something else than the signature.
    #[error("announces another signature than it holds")]
    Announcement,
    /// The signature is not one over a document.
    #[error("holds a signature of type 0x{0:02x}, which is not one over a document")]
    Type(u8),
    /// The version of the signature is not known here.
    #[error("holds a signature of version {0}; versions 3 and 4 are read here")]
    Version(u8),
    /// The signature does not say whose it is.
    #[error("does not say which key signed it")]
    NoIssuer,
    /// The digest was broken.
    #[error("is signed over a digest of {0}, which can be forged")]
    WeakDigest(&'static str),
    /// The digest is not known here.
    #[error(
        "is signed over a digest that is not known here (algorithm {0}); SHA-256, SHA-384 and SHA-512 are"
    )]
    UnknownDigest(u8),
    /// The algorithm is not known here.
    #[error("is signed with {0}; RSA is what is verified here")]
    UnknownAlgorithm(String),
    /// A part of the signature that must be understood is not.
    #[error("holds a signature with a critical part that is not known here (subpacket {0})")]
    Critical(u8),
    /// It was made later than now.
    #[error("was signed in the future, on {}; check this host's clock", day(.0))]
    Future(Timestamp),
    /// It was made before its key.
    #[error("was signed before its key was made")]
    BeforeItsKey,
    /// It is over.
    #[error("expired on {}", day(.0))]
    Expired(Timestamp),
    /// Nobody of the keyring signed it.
    #[error("is signed by the key {0}, which is not in the keyring")]
    UnknownKey(KeyId),
    /// The text is not what was signed.
    #[error(
        "does not fit its text: one of the two was changed, or it was not made with the key {0}"
    )]
    Bad(KeyId),
    /// The key that signed counts for nothing.
    #[error("is signed by the key {0}, {1}")]
    Key(KeyId, KeyTrouble),
}

/// Why a key of the keyring counts for nothing: a clause that follows its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyTrouble {
    /// Its owner revoked it.
    #[error("which is revoked")]
    Revoked,
    /// It carries a revocation of which it cannot be told whether it counts.
    #[error("which carries a revocation that cannot be checked, so that it may be revoked")]
    MaybeRevoked,
    /// It is over.
    #[error("which expired on {}; if its owner prolonged it, take the new copy into the keyring", day(.0))]
    Expired(Timestamp),
    /// It was made later than now.
    #[error("which was made in the future; check this host's clock")]
    Future,
    /// It vouches for itself in no way that counts.
    #[error("which has no good signature of its own that says what it is for")]
    NoSelfSignature,
    /// It vouches for itself with a broken digest.
    #[error(
        "which vouches for itself over a digest of {0}, which can be forged; its owner has to sign it anew"
    )]
    WeakSelfSignature(&'static str),
    /// It is not for signing.
    #[error("which is not meant for signing documents")]
    NotForSigning,
    /// It is a subkey that its primary key or it itself does not vouch for.
    #[error("which is a subkey that is not bound to its primary key in both directions")]
    NotBound,
    /// It is too short or too long.
    #[error("which has {0} bits; 2048 to 8192 are taken")]
    Size(usize),
    /// It is of another kind than RSA.
    #[error("which is of the kind {0}; RSA is what is verified here")]
    UnknownAlgorithm(String),
}

/// The last eight bytes of a key's fingerprint, by which signatures name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_upper(self.0))
    }
}

/// The day of a time, for messages.
fn day(time: &Timestamp) -> impl fmt::Display {
    time.strftime("%Y-%m-%d")
}

/// Returns what a public key algorithm is called, by its number in RFC 4880 and RFC 9580.
fn algorithm_name(number: u8) -> String {
    let name = match number {
        1..=3 => "RSA",
        16 | 20 => "ElGamal",
        17 => "DSA",
        18 => "ECDH",
        19 => "ECDSA",
        22 | 27 => "EdDSA",
        28 => "Ed448",
        other => return format!("an algorithm that is not known here (number {other})"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests;
